"""Cx as TS 29.228 has the HSS answer it: pure functions from a request and the records it names to an answer, the
record as it is afterwards, and what must be pushed to S-CSCFs.

Each command is a strict order of checks; the first that fails decides the answer. The order stands in the methods
below as it stands in the specification: UAR 6.1.1.1, SAR 6.1.2.1, LIR 6.1.4.1, MAR 6.3.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hss.auc import AuthenticationCentre
from hss.faults import Faults
from hss.push import Push, termination
from hss.subscriber import (
    AkaCredentials,
    Capabilities,
    DigestCredentials,
    PrivateIdentity,
    RegistrationSet,
    RegistrationState,
    Subscriber,
    canonical,
)
from imslab.core.errors import LocalError
from imslab.diameter.avp import DiameterError
from imslab.diameter.codes import (
    CxResult,
    ReasonCode,
    ResultCode,
    ServerAssignmentType,
    UarFlags,
    UserAuthorizationType,
    UserDataAlreadyAvailable,
)
from imslab.diameter.cx import (
    SCHEME_AKA,
    SCHEME_DIGEST,
    SCHEME_UNKNOWN,
    AuthDataItem,
    CxAnswer,
    CxRequest,
    DigestAuthenticate,
    LocationInfoAnswer,
    LocationInfoRequest,
    MultimediaAuthAnswer,
    MultimediaAuthRequest,
    ServerAssignmentAnswer,
    ServerAssignmentRequest,
    ServerCapabilities,
    UserAuthorizationAnswer,
    UserAuthorizationRequest,
)
from imslab.diameter.dictionary import by_name, example, make
from imslab.diameter.userdata import write_userdata

#: Canonical identity → the record that has it, None when nobody does.
Found = Mapping[str, Subscriber | None]

_REGISTER = (ServerAssignmentType.REGISTRATION, ServerAssignmentType.RE_REGISTRATION)
_DEREGISTER = (
    ServerAssignmentType.TIMEOUT_DEREGISTRATION,
    ServerAssignmentType.USER_DEREGISTRATION,
    ServerAssignmentType.ADMINISTRATIVE_DEREGISTRATION,
    ServerAssignmentType.DEREGISTRATION_TOO_MUCH_DATA,
)
_STORE_NAME = (
    ServerAssignmentType.TIMEOUT_DEREGISTRATION_STORE_SERVER_NAME,
    ServerAssignmentType.USER_DEREGISTRATION_STORE_SERVER_NAME,
)
_AUTHENTICATION_ENDED = (ServerAssignmentType.AUTHENTICATION_FAILURE, ServerAssignmentType.AUTHENTICATION_TIMEOUT)

_NOT_REGISTERED = RegistrationState.NOT_REGISTERED
_REGISTERED = RegistrationState.REGISTERED
_UNREGISTERED = RegistrationState.UNREGISTERED

#: RAND ‖ AUTS (29.229 6.3.11).
_RESYNC_LENGTH = 30


@dataclass(frozen=True, slots=True)
class Policy:
    """What 29.228 leaves to the operator.

    max_vectors: the most in one MAA. keep_server_name: SAR types 6 and 7 keep the S-CSCF's name. restoration: a UAR
    for capabilities lets another S-CSCF take over (29.228 6.1.1.1, reassignment pending).
    """

    max_vectors: int = 5
    keep_server_name: bool = False
    restoration: bool = False


@dataclass(slots=True)
class Outcome:
    """What a request leads to.

    answer: complete but for who we are. before, after: the change to make durable first; after None: none.
    pushes: to send when that is done. notes: (kind, text) for humans.
    """

    answer: CxAnswer
    before: Subscriber | None = None
    after: Subscriber | None = None
    pushes: list[Push] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _User:
    """Who a request is about: it exists, and its identities belong together."""

    subscriber: Subscriber
    private: PrivateIdentity
    set: RegistrationSet


class CxService:
    """Answers Cx requests. auc: makes the vectors."""

    __slots__ = ("_auc", "_faults", "_handlers", "policy")

    def __init__(self, auc: AuthenticationCentre, policy: Policy | None = None, faults: Faults | None = None) -> None:
        self._auc = auc
        self.policy = policy or Policy()
        self._faults = faults or Faults()
        self._handlers: dict[type[Any], Callable[[Any, Found], Outcome]] = {
            UserAuthorizationRequest: self.authorize,
            ServerAssignmentRequest: self.assign,
            LocationInfoRequest: self.locate,
            MultimediaAuthRequest: self.authenticate,
        }

    def identities(self, request: CxRequest) -> list[str]:
        """The identities whose records must be there to answer, canonical. LocalError: no request to an HSS."""
        if isinstance(request, ServerAssignmentRequest):
            named = [request.user_name, *request.public_identities]
        elif isinstance(request, LocationInfoRequest):
            named = [request.public_identity]
        elif isinstance(request, (UserAuthorizationRequest, MultimediaAuthRequest)):
            named = [request.user_name, request.public_identity]
        else:
            raise LocalError(f"{type(request).__name__} is nothing to ask an HSS")
        return list(dict.fromkeys(canonical(name) for name in named if name))

    def handle(self, request: CxRequest, found: Found) -> Outcome:
        """The outcome of a request. found: for each of `identities`.

        Raises DiameterError for what RFC 6733 7.1.5 answers with a Failed-AVP.
        """
        return self._handlers[type(request)](request, found)

    # --- UAR: 29.228 6.1.1.1 --------------------------------------------------------------------------------------

    def authorize(self, request: UserAuthorizationRequest, found: Found) -> Outcome:
        """May this user register from there, and which S-CSCF should the I-CSCF ask?"""
        kind = request.authorization_type or UserAuthorizationType.REGISTRATION
        user = self._identify(request.user_name, request.public_identity, found)
        if isinstance(user, CxResult):
            return _refused(UserAuthorizationAnswer, experimental=user)
        subscriber, each = user.subscriber, user.set
        emergency = bool((request.flags or 0) & UarFlags.EMERGENCY_REGISTRATION)
        identity = each.find(request.public_identity)
        if not emergency and identity is not None and identity.barred and each.default is None:
            return _refused(UserAuthorizationAnswer, result_code=ResultCode.AUTHORIZATION_REJECTED)
        if kind is UserAuthorizationType.DE_REGISTRATION:
            if each.is_served or each.pending:
                return Outcome(UserAuthorizationAnswer(result_code=2001, server_name=subscriber.server_name or None))
            return _refused(UserAuthorizationAnswer, experimental=CxResult.IDENTITY_NOT_REGISTERED)
        if not emergency:
            allowed = subscriber.visited_networks
            if allowed is not None and request.visited_network.strip('"').lower() not in allowed:
                return _refused(UserAuthorizationAnswer, experimental=CxResult.ROAMING_NOT_ALLOWED)
            if not subscriber.may_register:
                return _refused(UserAuthorizationAnswer, result_code=ResultCode.AUTHORIZATION_REJECTED)
        if kind is UserAuthorizationType.REGISTRATION_AND_CAPABILITIES:
            # Never a server name: the I-CSCF is to choose anew.
            outcome = Outcome(UserAuthorizationAnswer(result_code=2001, capabilities=_capabilities(subscriber)))
            if self.policy.restoration and subscriber.server_name and not subscriber.reassignment_pending:
                outcome.before, outcome.after = subscriber, _next(subscriber, reassignment_pending=True)
            return outcome
        if subscriber.server_name:
            return Outcome(
                UserAuthorizationAnswer(
                    experimental=CxResult.SUBSEQUENT_REGISTRATION, server_name=subscriber.server_name
                )
            )
        return Outcome(
            UserAuthorizationAnswer(experimental=CxResult.FIRST_REGISTRATION, capabilities=_capabilities(subscriber))
        )

    # --- LIR: 29.228 6.1.4.1 --------------------------------------------------------------------------------------

    def locate(self, request: LocationInfoRequest, found: Found) -> Outcome:
        """Who serves this public identity?"""
        subscriber = found.get(canonical(request.public_identity))
        each = None if subscriber is None else subscriber.set_of(request.public_identity)
        if subscriber is None or each is None:
            return _refused(LocationInfoAnswer, experimental=CxResult.USER_UNKNOWN)
        if request.authorization_type is UserAuthorizationType.REGISTRATION_AND_CAPABILITIES:
            return Outcome(LocationInfoAnswer(result_code=2001, capabilities=_capabilities(subscriber)))
        if each.is_served:
            return Outcome(LocationInfoAnswer(result_code=2001, server_name=subscriber.server_name))
        if not each.has_unregistered_services(request.originating_request is not None):
            return _refused(LocationInfoAnswer, experimental=CxResult.IDENTITY_NOT_REGISTERED)
        if subscriber.is_served:
            # Another identity of the subscription is served: one S-CSCF serves all of it.
            return Outcome(LocationInfoAnswer(result_code=2001, server_name=subscriber.server_name))
        return Outcome(
            LocationInfoAnswer(experimental=CxResult.UNREGISTERED_SERVICE, capabilities=_capabilities(subscriber))
        )

    # --- MAR: 29.228 6.3.1 ----------------------------------------------------------------------------------------

    def authenticate(self, request: MultimediaAuthRequest, found: Found) -> Outcome:
        """Vectors for a challenge; the S-CSCF that asks becomes the one that serves, unless it reports an AUTS."""
        user = self._identify(request.user_name, request.public_identity, found)
        if isinstance(user, CxResult):
            return _refused(MultimediaAuthAnswer, experimental=user)
        scheme = request.item.scheme or SCHEME_UNKNOWN
        credentials = user.private.credentials
        offered = (SCHEME_AKA,) if isinstance(credentials, AkaCredentials) else (SCHEME_DIGEST, SCHEME_UNKNOWN)
        if scheme not in offered and "scheme-ignored" not in self._faults:
            return _refused(MultimediaAuthAnswer, experimental=CxResult.AUTH_SCHEME_NOT_SUPPORTED)
        if request.number_items < 1:
            failed = make("SIP-Number-Auth-Items", request.number_items)
            raise DiameterError("no vector is asked for", 5004, failed=(failed,), clause="29.229 6.3.8")
        subscriber, private, notes = user.subscriber, user.private, []
        resync = isinstance(credentials, AkaCredentials) and request.item.authorization is not None
        if resync:
            report = request.item.authorization or b""
            if len(report) != _RESYNC_LENGTH:
                failed = make("SIP-Authorization", report)
                raise DiameterError(
                    f"RAND and AUTS are 30 octets, not {len(report)}", 5004, failed=(failed,), clause="29.229 6.3.11"
                )
            # 29.228 6.3.1: an AUTS counts only from the S-CSCF whose name is stored, which stays as it is.
            if not _is_same(subscriber.server_name, request.server_name) and "auts-from-anyone" not in self._faults:
                return _refused(MultimediaAuthAnswer, result_code=ResultCode.UNABLE_TO_COMPLY)
            moved = self._auc.resynchronise(private, report[:16], report[16:])
            notes.append(
                ("auts-rejected", f"{private.impi}: MAC-S is wrong, SQN stays")
                if moved is None
                else ("resync", f"{private.impi}: the card reported its SQN")
            )
            private = moved or private
        try:
            items, private = self._items(private, request.number_items, resync)
        except LocalError as error:  # SEQ does not wrap: such a key has no vector any more
            refused = _refused(MultimediaAuthAnswer, result_code=ResultCode.UNABLE_TO_COMPLY)
            refused.notes.append(("no-vectors", f"{private.impi}: {error}"))
            return refused
        after = subscriber.with_private(private)
        pushes: list[Push] = []
        if not resync:
            after, pushes = self._take_over(after, user.set, private.impi, request)
        if "keys-logged" in self._faults and isinstance(credentials, AkaCredentials):
            notes.append(("debug", f"K {credentials.k.hex()} OPc {credentials.opc.hex()}"))
        answer = MultimediaAuthAnswer(
            result_code=2001,
            user_name=request.user_name,
            public_identity=request.public_identity,
            number_items=len(items),
            items=items,
        )
        return Outcome(answer, subscriber, replace(after, version=subscriber.version + 1), pushes, notes)

    def _items(self, private: PrivateIdentity, count: int, resync: bool) -> tuple[list[AuthDataItem], PrivateIdentity]:
        credentials = private.credentials
        if isinstance(credentials, DigestCredentials):
            digest = DigestAuthenticate(
                realm=credentials.realm, algorithm=credentials.algorithm, qop=credentials.qop, ha1=credentials.ha1
            )
            return [AuthDataItem(1, SCHEME_DIGEST, digest=digest)], private
        count = 1 if "one-vector" in self._faults else min(count, self.policy.max_vectors)
        vectors, private = self._auc.vectors(private, count, after_resync=resync)
        # 29.229 6.3.10, 6.3.11: RAND ‖ AUTN, and XRES.
        items = [
            AuthDataItem(number, SCHEME_AKA, vector.rand + vector.autn, vector.xres, None, vector.ck, vector.ik)
            for number, vector in enumerate(vectors, 1)
        ]
        return items, private

    def _take_over(
        self, subscriber: Subscriber, each: RegistrationSet, impi: str, request: MultimediaAuthRequest
    ) -> tuple[Subscriber, list[Push]]:
        """29.228 6.3.1 step 5: the name is stored, over another one too, and authentication is pending."""
        after = subscriber.with_set(each, replace(each, pending=each.pending | {impi}))
        if _is_same(subscriber.server_name, request.server_name):
            return after, []
        pushes = []
        if subscriber.is_served and subscriber.server_host and "takeover-silent" not in self._faults:
            # 29.228 8.1.1: tell the one that lost the user.
            served = [each for each in subscriber.sets if each.is_served]
            pushes = termination(subscriber, served, ReasonCode.NEW_SERVER_ASSIGNED)
        after = replace(
            after,
            server_name=request.server_name,
            server_host=request.origin_host,
            server_realm=request.origin_realm,
        )
        return after, pushes

    # --- SAR: 29.228 6.1.2.1 --------------------------------------------------------------------------------------

    def assign(self, request: ServerAssignmentRequest, found: Found) -> Outcome:
        """An S-CSCF begins, goes on or ends to serve a user."""
        kind = request.assignment_type
        ends = kind in _DEREGISTER or kind in _STORE_NAME
        if not request.public_identities and (not ends or request.user_name is None):
            missing = example(by_name("Public-Identity"))
            raise DiameterError("Public-Identity is missing", 5005, failed=(missing,), clause="29.228 6.1.2")
        user = self._identify_assigned(request, found)
        if isinstance(user, CxResult):
            return _refused(ServerAssignmentAnswer, experimental=user)
        subscriber, private, sets = user
        if len(request.public_identities) > 1 and not ends:
            surplus = make("Public-Identity", request.public_identities[1])
            raise DiameterError("one Public-Identity is due", 5009, failed=(surplus,), clause="29.228 6.1.2.1")
        if kind in _REGISTER or kind is ServerAssignmentType.UNREGISTERED_USER:
            outcome = self._serve(request, subscriber, private, sets[0])
        elif not _is_same(subscriber.server_name, request.server_name) and (
            subscriber.server_name or kind is ServerAssignmentType.NO_ASSIGNMENT
        ):
            # 29.228 8.1.2: it is not this S-CSCF's user.
            if kind is ServerAssignmentType.NO_ASSIGNMENT and subscriber.reassignment_pending:
                outcome = self._profile(request, subscriber, private, sets[0])
            else:
                outcome = _refused(ServerAssignmentAnswer, result_code=ResultCode.UNABLE_TO_COMPLY)
        elif kind is ServerAssignmentType.NO_ASSIGNMENT:
            outcome = self._profile(request, subscriber, private, sets[0])
        elif kind in _AUTHENTICATION_ENDED:
            outcome = self._forget_authentication(subscriber, private, sets[0])
        else:
            outcome = self._release(request, subscriber, private, sets)
        if "any-sar-clears" in self._faults and kind not in _REGISTER:
            cleared = tuple(replace(each, state=_NOT_REGISTERED, registered_by=frozenset()) for each in subscriber.sets)
            outcome.before, outcome.after = subscriber, _next(_without_server(subscriber), sets=cleared)
        return outcome

    def _serve(
        self, request: ServerAssignmentRequest, subscriber: Subscriber, private: PrivateIdentity, each: RegistrationSet
    ) -> Outcome:
        kind = request.assignment_type
        taken = bool(subscriber.server_name) and not _is_same(subscriber.server_name, request.server_name)
        if taken and not subscriber.reassignment_pending and "takeover-unchecked" not in self._faults:
            return Outcome(
                ServerAssignmentAnswer(
                    experimental=CxResult.IDENTITY_ALREADY_REGISTERED, server_name=subscriber.server_name
                )
            )
        # 29.228 8.1.3: what does not fit the state.
        if kind is ServerAssignmentType.RE_REGISTRATION and each.state is not _REGISTERED:
            return _refused(ServerAssignmentAnswer, experimental=CxResult.IN_ASSIGNMENT_TYPE)
        if kind is ServerAssignmentType.UNREGISTERED_USER and each.state is _REGISTERED:
            return _refused(ServerAssignmentAnswer, experimental=CxResult.IN_ASSIGNMENT_TYPE)
        if kind in _REGISTER:
            served = replace(
                each,
                state=_REGISTERED,
                registered_by=each.registered_by | {private.impi},
                pending=each.pending - {private.impi},
            )
        else:
            served = replace(each, state=_UNREGISTERED)
        outcome = self._profile(request, subscriber, private, each)
        outcome.before = subscriber
        outcome.after = _next(
            subscriber.with_set(each, served),
            server_name=request.server_name,
            # 29.228 6.1.3: an RTR goes to the Origin-Host of the last SAR.
            server_host=request.origin_host,
            server_realm=request.origin_realm,
            reassignment_pending=False,
        )
        outcome.notes.append((served.state.value, f"{private.impi} at {request.server_name}"))
        return outcome

    def _profile(
        self, request: ServerAssignmentRequest, subscriber: Subscriber, private: PrivateIdentity, each: RegistrationSet
    ) -> Outcome:
        others = [other.impi for other in subscriber.privates if each.serves(other.impi)]
        answer = ServerAssignmentAnswer(result_code=2001, user_name=private.impi, charging=subscriber.charging)
        answer.associated_identities = others if len(others) > 1 else None
        # 29.228 6.6: "already available" is a hint that saves the octets.
        if request.already_available is UserDataAlreadyAvailable.NOT_AVAILABLE:
            answer.user_data = write_userdata(each.user_data(private.impi))
        return Outcome(answer)

    def _release(
        self,
        request: ServerAssignmentRequest,
        subscriber: Subscriber,
        private: PrivateIdentity,
        sets: list[RegistrationSet],
    ) -> Outcome:
        kind = request.assignment_type
        keeps = kind in _STORE_NAME and self.policy.keep_server_name
        after = subscriber
        for each in sets:
            if not each.is_served or (kind in _STORE_NAME and each.state is not _REGISTERED):
                return _refused(ServerAssignmentAnswer, experimental=CxResult.IN_ASSIGNMENT_TYPE)
            left = each.registered_by - {private.impi}
            # 29.228 6.1.2.1: while another private identity has it registered, it stays so.
            state = _REGISTERED if left else _UNREGISTERED if keeps else _NOT_REGISTERED
            after = after.with_set(
                each, replace(each, state=state, registered_by=left, pending=each.pending - {private.impi})
            )
        after = _released(after)
        dropped = kind in _STORE_NAME and not after.server_name
        answer = (
            ServerAssignmentAnswer(experimental=CxResult.SUCCESS_SERVER_NAME_NOT_STORED)
            if dropped
            else ServerAssignmentAnswer(result_code=2001)
        )
        answer.user_name = private.impi
        names = ", ".join(each.identities[0].uri for each in sets)
        return Outcome(
            answer, subscriber, _next(after), [], [("deregistered", f"{private.impi}: {names}, {kind.name}")]
        )

    def _forget_authentication(
        self, subscriber: Subscriber, private: PrivateIdentity, each: RegistrationSet
    ) -> Outcome:
        # 29.228 6.1.2.1, types 9 and 10: the state stays, the pending flag goes, the name only if nobody is served.
        after = subscriber.with_set(each, replace(each, pending=each.pending - {private.impi}))
        answer = ServerAssignmentAnswer(result_code=2001, user_name=private.impi)
        return Outcome(answer, subscriber, _next(_released(after)))

    # --- who is it ------------------------------------------------------------------------------------------------

    def _identify(self, impi: str, impu: str, found: Found) -> _User | CxResult:
        """The checks that begin UAR and MAR: both exist, the public one is distinct, and they belong together."""
        by_private, by_public = found.get(canonical(impi)), found.get(canonical(impu))
        private = None if by_private is None else by_private.private(impi)
        each = None if by_public is None else by_public.set_of(impu)
        if by_private is None or private is None or each is None:
            return CxResult.USER_UNKNOWN
        identity = each.find(impu)
        if identity is None or not identity.is_distinct:
            return CxResult.USER_UNKNOWN
        if "identities-unmatched" in self._faults and by_private is not by_public:
            return _User(by_private, private, by_private.sets[0])
        if by_private is not by_public or not each.serves(private.impi):
            return CxResult.IDENTITIES_DONT_MATCH
        return _User(by_private, private, each)

    def _identify_assigned(
        self, request: ServerAssignmentRequest, found: Found
    ) -> tuple[Subscriber, PrivateIdentity, list[RegistrationSet]] | CxResult:
        """The checks that begin SAR. Without public identities: all sets that the private one has registered."""
        sets: list[RegistrationSet] = []
        owner = None if request.user_name is None else found.get(canonical(request.user_name))
        private = None if owner is None or request.user_name is None else owner.private(request.user_name)
        if request.user_name is not None and private is None:
            return CxResult.USER_UNKNOWN
        mismatch = False
        for impu in request.public_identities:
            subscriber = found.get(canonical(impu))
            each = None if subscriber is None else subscriber.set_of(impu)
            if subscriber is None or each is None:
                return CxResult.USER_UNKNOWN
            owner = owner or subscriber
            mismatch = mismatch or owner is not subscriber or (private is not None and not each.serves(private.impi))
            if not any(each is known for known in sets):
                sets.append(each)
        if owner is None or (mismatch and "identities-unmatched" not in self._faults):
            return CxResult.IDENTITIES_DONT_MATCH
        if private is None:
            # 29.228 6.1.2: the private identity may be absent; then whoever has the set registered, or may.
            who = sets[0].registered_by or {each.impi for each in owner.privates if sets[0].serves(each.impi)}
            private = next(each for each in owner.privates if each.impi in who)
        if mismatch:
            sets = [owner.sets[0]]
        if not sets:
            sets = [each for each in owner.sets if private.impi in each.registered_by]
        return (owner, private, sets) if sets else CxResult.IN_ASSIGNMENT_TYPE


def _refused(
    answer: type[CxAnswer], *, result_code: ResultCode | None = None, experimental: CxResult | None = None
) -> Outcome:
    name = experimental.name if experimental is not None else result_code.name if result_code is not None else ""
    return Outcome(answer(result_code=result_code, experimental=experimental), notes=[("refused", name)])


def _is_same(stored: str, server_name: str) -> bool:
    """The same S-CSCF: the same SIP URI."""
    return canonical(stored) == canonical(server_name)


def _next(subscriber: Subscriber, **changes: Any) -> Subscriber:
    return replace(subscriber, version=subscriber.version + 1, **changes)


def _without_server(subscriber: Subscriber) -> Subscriber:
    return replace(subscriber, server_name="", server_host="", server_realm="", reassignment_pending=False)


def _released(subscriber: Subscriber) -> Subscriber:
    """Without the S-CSCF's name, if it serves nothing any more and no authentication is under way."""
    held = any(each.is_served or each.pending for each in subscriber.sets)
    return subscriber if held else _without_server(subscriber)


def _capabilities(subscriber: Subscriber) -> ServerCapabilities | None:
    found: Capabilities | None = subscriber.capabilities
    if found is None:
        return None
    return ServerCapabilities(
        mandatory=list(found.mandatory), optional=list(found.optional), server_names=list(found.server_names)
    )
