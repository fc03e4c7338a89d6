"""The S-CSCF: registrar, authenticator, and the hub of the home network (24.229 5.4, 33.203 6.1).

A REGISTER arrives from the I-CSCF with the mark that the P-CSCF set: integrity-protected "yes" says that it came
through SAs of an authentication that counts, "no" that it did not. Whoever is not protected is challenged: a vector is
fetched from the HSS (MAR), and the 401 carries RAND and AUTN to the UE and, for the P-CSCF alone, CK and IK. The answer
must come protected, under the same Call-ID, within four minutes. If it is right, the HSS is told (SAR), hands over the
profile, and the 200 lists routes and identities. A challenge never touches a registration that stands; only its
success replaces it.

Authentication of one private identity. Inputs are what a REGISTER is (see `classify`), and the timer:

    state        input            action                                                    next        clause
    IDLE         unprotected      fetch vectors, challenge                                  CHALLENGED  24.229 5.4.1.2.1
    CHALLENGED   unprotected      drop the old challenge; fetch, challenge                  CHALLENGED  33.203 6.1.2.3
    CHALLENGED   answer           check; right: assign, 200; wrong: 403, tell the HSS       IDLE        24.229 5.4.1.2.2
    CHALLENGED   resync           fetch with RAND ‖ AUTS, old vectors go, challenge         CHALLENGED  33.203 6.1.3
    CHALLENGED   failure report   403 without security parameters, tell the HSS             IDLE        33.203 6.1.2.2
    CHALLENGED   reg-await-auth   tell the HSS                                              IDLE        33.203 6.1.2.3
    IDLE         refresh          challenge, or extend at once, as the policy says          –           24.229 5.4.1.2.2
    CHALLENGED   refresh          the same: its nonce is not the challenged one             –           24.229 5.4.1.2.2

An answer, AUTS or failure report to a nonce that is not the challenged one is none: it is an unprotected REGISTER, or
a refresh, like any other.

The text of 24.229 5.4 is known here second-hand; 33.203 6.1 has been read.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hmac import compare_digest
from typing import Any, ClassVar

from imslab.aka.digest import aka_password, digest_response, join_nonce, parse_auts, rspauth, split_nonce
from imslab.core import effects as fx
from imslab.core import events as ev
from imslab.core.entropy import Entropy
from imslab.core.errors import PeerError
from imslab.core.flow import Endpoint, Flow, Transport
from imslab.diameter.avp import DiameterError
from imslab.diameter.codes import CxResult, ReasonCode, ResultCode, ServerAssignmentType, UserDataAlreadyAvailable
from imslab.diameter.cx import (
    PPR,
    RTR,
    SCHEME_AKA,
    SCHEME_UNKNOWN,
    AuthDataItem,
    MultimediaAuthAnswer,
    MultimediaAuthRequest,
    PushProfileAnswer,
    PushProfileRequest,
    RegistrationTerminationAnswer,
    RegistrationTerminationRequest,
    ServerAssignmentAnswer,
    ServerAssignmentRequest,
)
from imslab.diameter.message import DiameterMessage
from imslab.diameter.message import answer as answer_to
from imslab.diameter.userdata import parse_userdata
from imslab.roles.cx_client import ALARM, CxClient, CxConfig
from imslab.roles.registrar import Binding, Registrar, Registration, same_contact
from imslab.roles.scscf_sessions import Sessions
from imslab.sip.fields.address import Contact
from imslab.sip.fields.digest import DigestChallenge, DigestCredentials
from imslab.sip.message import Request
from imslab.sip.transaction import Transaction
from imslab.sip.uri import Uri

#: 24.229 Table 7.8.1, seconds.
REG_AWAIT_AUTH = 240.0
#: Option tags that a REGISTER may require of us.
SUPPORTED = frozenset({"path"})
#: How often in a row a UE may ask for resynchronisation before it is refused (24.229 5.4.1.2.3A).
RESYNCS = 2
#: RFC 3261 10.3 item 7: only an interval below an hour may be too brief.
HOUR = 3600


@dataclass(slots=True, kw_only=True)
class ScscfConfig:
    """The S-CSCF.

    name: its SIP URI, as the HSS stores it. icscf: where requests for users of ours are looked up; None: only here.
    expires_min, expires_max: seconds. reauthenticate: challenge a protected REGISTER too. vectors: asked per MAR.
    qop: what the challenge offers, "" for none.
    """

    local: Endpoint
    name: str
    domain: str
    cx: CxConfig
    icscf: Endpoint | None = None
    expires_min: int = 60
    expires_max: int = 3600
    reauthenticate: bool = True
    vectors: int = 1
    qop: str = "auth,auth-int"
    algorithm: str = "AKAv1-MD5"


class State(StrEnum):
    """Of the authentication of one private identity."""

    IDLE = "idle"
    CHALLENGED = "challenged"


class Input(StrEnum):
    """What a REGISTER is to the authentication, and its timer."""

    UNPROTECTED = "unprotected"
    ANSWER = "answer"
    RESYNC = "resync"
    FAILURE_REPORT = "failure report"
    REFRESH = "refresh"
    TIMER = "reg-await-auth"


@dataclass(slots=True)
class Authentication:
    """Where the authentication of a private identity stands.

    item: the vector of the running challenge. call_id: of the REGISTER that was challenged. spare: vectors not yet
    used, in order (33.203 6.1.1: first in, first out, each once).
    """

    impi: str
    impu: str = ""
    state: State = State.IDLE
    item: AuthDataItem | None = None
    nonce: str = ""
    call_id: str = ""
    resyncs: int = 0
    spare: list[AuthDataItem] = field(default_factory=list)


@dataclass(slots=True)
class Attempt:
    """One REGISTER on its way through."""

    txn: Transaction
    request: Request
    impi: str
    impu: str
    credentials: DigestCredentials | None


class Scscf(Sessions):
    """See the module's page. Everything but REGISTER is in `Sessions`."""

    role: ClassVar[str] = "S-CSCF"

    def __init__(self, name: str, config: ScscfConfig, entropy: Entropy, faults: Iterable[str] = ()) -> None:
        super().__init__(name, config.local, entropy, faults, domain=config.domain, icscf=config.icscf, own=config.name)
        self.config = config
        self.cx = CxClient(self, config.cx, self._on_hss)
        self.registrar = Registrar()
        self._authentications: dict[str, Authentication] = {}

    # ---- hooks of the node

    def on_started(self) -> None:
        for transport in (Transport.UDP, Transport.TCP):
            self.effect(fx.Listen(transport, self.config.local))
        self.cx.connect()

    def on_stream_open(self, asked: Flow, flow: Flow) -> None:
        if self.cx.owns(asked):
            self.cx.opened(flow)

    def on_stream_closed(self, flow: Flow, key: object, reason: str) -> None:
        if self.cx.owns(flow):
            self.cx.closed(reason)

    def other_timer(self) -> float | None:
        return self.cx.next_timer()

    def on_time(self) -> None:
        self.cx.time()

    def on_alarm(self, key: Hashable) -> None:
        match key:
            case str() if key == ALARM:
                self.cx.connect()
            case ("reg-await-auth", str(impi)):
                self._step(Input.TIMER, self._authentications[impi], None)
            case ("binding", str(impu)):
                self._expire(impu)
            case _:
                super().on_alarm(key)

    def on_command(self, name: str, arguments: Mapping[str, Any]) -> None:
        """reauthenticate(impu): shorten the registration, so that the UE comes to be challenged (24.229 5.4.1.6)."""
        if name != "reauthenticate":
            super().on_command(name, arguments)
            return
        registration = self.registrar.find(arguments["impu"])
        if registration is None:
            self.emit("unknown-user", f"{arguments['impu']} is not registered")
            return
        for binding in registration.bindings.values():
            binding.expires_at = min(binding.expires_at, self.now + self.config.expires_min)
            binding.event = "shortened"
        self._watch(registration)
        self.notify(registration)

    def on_request(self, txn: Transaction, request: Request, arrival: ev.Arrival) -> None:
        if request.method == "REGISTER":
            self._register(txn, request)
        else:
            super().on_request(txn, request, arrival)

    # ---- REGISTER: what it is

    def _register(self, txn: Transaction, request: Request) -> None:
        unknown = [tag for tag in request.require if tag.lower() not in SUPPORTED]
        if unknown:  # RFC 3261 8.2.2.3
            self.respond(txn, 420, headers=[("Unsupported", ", ".join(unknown))])
            return
        contacts = request.contact
        if contacts and contacts[0].is_star and request.expires != 0:  # RFC 3261 10.3 item 6
            self.respond(txn, 400)
            return
        _ = request.expires, request.path, request.p_charging_vector  # malformed: 400 now, not after the MAR
        credentials = next(iter(request.authorization), None)
        impu = request.to.uri.aor
        username = credentials.username if credentials else None
        attempt = Attempt(txn, request, username or impu.partition(":")[2], impu, credentials)
        authentication = self._authentications.setdefault(attempt.impi, Authentication(attempt.impi))
        if authentication.state is State.IDLE:
            authentication.impu = impu
        self._step(classify(attempt, authentication), authentication, attempt)

    def _step(self, input_: Input, authentication: Authentication, attempt: Attempt | None) -> None:
        TABLE[authentication.state, input_](self, authentication, attempt)

    # ---- challenge

    def _challenge(self, authentication: Authentication, attempt: Attempt) -> None:
        """Unprotected, or policy: fetch a vector if none is left, and challenge."""
        self._drop_challenge(authentication)
        authentication.impu = attempt.impu
        if authentication.spare:
            self._send_challenge(authentication, attempt)
        else:
            self._fetch(authentication, attempt, None)

    def _fetch(self, authentication: Authentication, attempt: Attempt, resync: bytes | None) -> None:
        """29.228 6.3: MAR. resync: RAND ‖ AUTS (30 octets), None for an ordinary one."""
        # 33.203 P.4.2: yes and no mean IMS AKA; a REGISTER without the flag is another scheme's, if any.
        aka = attempt.credentials is not None and attempt.credentials.has("integrity-protected")
        query = MultimediaAuthRequest(
            **self.cx.header(),
            user_name=attempt.impi,
            public_identity=attempt.impu,
            item=AuthDataItem(scheme=SCHEME_AKA if aka else SCHEME_UNKNOWN, authorization=resync),
            number_items=self.config.vectors,
            server_name=self.config.name,
        )
        self.cx.ask(query, lambda answer: self._fetched(authentication, attempt, answer))

    def _fetched(self, authentication: Authentication, attempt: Attempt, message: DiameterMessage | None) -> None:
        if message is None:
            self.emit("timeout", "HSS: no answer to MAR")
            self.respond(attempt.txn, 504)
            return
        try:
            answer = MultimediaAuthAnswer.from_message(message)
            if not answer.is_success:
                status = _refusal(answer.experimental, answer.result_code)
                self.emit("refused", f"{attempt.impi}: HSS result {_result(answer)}, answered {status}")
                self.respond(attempt.txn, status)
                return
            items = sorted(answer.items, key=lambda item: item.number or 0)
            for item in items:
                _check_item(item)
        except PeerError as error:
            self.emit("malformed", f"MAA: {error}")
            self.respond(attempt.txn, 500)
            return
        if not items:
            self.respond(attempt.txn, 500)
            return
        self._drop_challenge(authentication)  # another REGISTER may have been faster
        authentication.spare = items  # 33.203 6.1.3: what was left of older vectors goes
        self._send_challenge(authentication, attempt)

    def _send_challenge(self, authentication: Authentication, attempt: Attempt) -> None:
        """24.229 5.4.1.2.1A: 401 with RAND, AUTN, IK, CK; start reg-await-auth."""
        item = authentication.spare.pop(0)
        assert item.authenticate is not None
        assert item.ck is not None
        assert item.ik is not None
        authentication.item = item
        authentication.nonce = join_nonce(item.authenticate[:16], item.authenticate[16:])
        authentication.call_id = attempt.request.call_id
        authentication.state = State.CHALLENGED
        self.set_alarm(("reg-await-auth", authentication.impi), REG_AWAIT_AUTH)
        challenge = DigestChallenge.build(
            realm=self.config.domain,
            nonce=authentication.nonce,
            algorithm=self.config.algorithm,
            qop=self.config.qop or None,
            ik=item.ik.hex(),
            ck=item.ck.hex(),
        )
        self.respond(attempt.txn, 401, headers=[("WWW-Authenticate", str(challenge))])

    def _drop_challenge(self, authentication: Authentication) -> None:
        """33.203 6.1.2.3: the earlier authentication counts as failed, its data is deleted."""
        self.clear_alarm(("reg-await-auth", authentication.impi))
        authentication.state = State.IDLE
        authentication.item = None
        authentication.nonce = ""

    # ---- answers

    def _answer(self, authentication: Authentication, attempt: Attempt) -> None:
        """24.229 5.4.1.2.2: Call-ID, username, algorithm and response."""
        item, credentials, request = authentication.item, attempt.credentials, attempt.request
        assert item is not None
        assert credentials is not None
        if request.call_id != authentication.call_id:
            self.emit("rejected", f"{attempt.impi}: the answer came under another Call-ID")
            self.respond(attempt.txn, 403)
            return
        if not self._response_is_right(item, credentials, request, authentication.nonce):
            self.emit("rejected", f"{attempt.impi}: wrong response")
            self._fail(authentication, attempt)
            return
        password = aka_password(self.config.algorithm, item.authorization or b"", item.ck or b"", item.ik or b"")
        info = _server_proof(credentials, password, self.config.algorithm)
        self._drop_challenge(authentication)
        authentication.resyncs = 0
        self._accept(attempt, info)

    def _response_is_right(
        self, item: AuthDataItem, credentials: DigestCredentials, request: Request, nonce: str
    ) -> bool:
        if credentials.nonce != nonce or (credentials.algorithm or "").lower() != self.config.algorithm.lower():
            return False
        if credentials.realm != self.config.domain:
            return False
        expected = digest_response(
            algorithm=self.config.algorithm,
            username=credentials.username or "",
            realm=credentials.realm,
            password=aka_password(self.config.algorithm, item.authorization or b"", item.ck or b"", item.ik or b""),
            nonce=nonce,
            method="REGISTER",
            uri=credentials.uri or "",
            qop=credentials.qop or "",
            nc=f"{credentials.nc:08x}" if credentials.nc is not None else "",
            cnonce=credentials.cnonce or "",
            body=request.body,
        )
        return compare_digest(expected.encode(), (credentials.response or "").lower().encode("utf-8", "replace"))

    def _fail(self, authentication: Authentication, attempt: Attempt) -> None:
        """A final failure: 403, nothing of an earlier registration touched (24.229 5.4.1.2.3A, 33.203 6.1.2)."""
        self._drop_challenge(authentication)
        self.respond(attempt.txn, 403)
        self._tell_hss_of_failure(authentication, ServerAssignmentType.AUTHENTICATION_FAILURE)

    def _timed_out(self, authentication: Authentication, attempt: Attempt | None) -> None:
        """reg-await-auth has run out."""
        self.emit("timeout", f"{authentication.impi}: no answer to the challenge")
        self._drop_challenge(authentication)
        self._tell_hss_of_failure(authentication, ServerAssignmentType.AUTHENTICATION_TIMEOUT)

    def _tell_hss_of_failure(self, authentication: Authentication, kind: ServerAssignmentType) -> None:
        """33.203 6.1.2.2: the HSS forgets our name only for a user who is not registered."""
        if self.registrar.find(authentication.impu) is None:
            self.cx.ask(self._assignment(authentication.impi, authentication.impu, kind), _ignore)

    def _failure_report(self, authentication: Authentication, attempt: Attempt) -> None:
        """33.203 6.1.2.2: the UE found a wrong MAC."""
        self.emit("mac-failure", f"{attempt.impi}: the UE could not authenticate the network")
        self._fail(authentication, attempt)

    def _resync(self, authentication: Authentication, attempt: Attempt) -> None:
        """33.203 6.1.3: ask for new vectors with the RAND that we keep and the AUTS that came."""
        credentials = attempt.credentials
        assert credentials is not None
        auts = parse_auts(credentials.auts or "")
        rand, _, _ = split_nonce(authentication.nonce)
        authentication.resyncs += 1
        if authentication.resyncs > RESYNCS:
            self.emit("rejected", f"{attempt.impi}: resynchronised {RESYNCS} times, and still out of step")
            authentication.resyncs = 0
            self._fail(authentication, attempt)
            return
        self.emit("resync", f"{attempt.impi}: the UE sent AUTS")
        self._fetch(authentication, attempt, rand + auts)

    def _refresh(self, authentication: Authentication, attempt: Attempt) -> None:
        """Protected by the SAs of the latest authentication, and not the answer to a running one."""
        registration = self.registrar.find(attempt.impu)
        if registration is None or registration.impi != attempt.impi:
            # 24.229 5.4.1.2.3A: a protected REGISTER of a user whom we do not know, without restoration.
            self.respond(attempt.txn, 500)
            return
        contacts = attempt.request.contact
        for contact in contacts:
            known = contact.is_star or same_contact(registration.bindings.values(), contact)
            if not known and contact.reg_id is None:
                leaving = requested(attempt.request, contact) == 0
                # 24.229 5.4.1.2.2: a contact that nobody authenticated; 5.4.1.4: nothing there to de-register.
                self.respond(attempt.txn, 481 if leaving else 403)
                return
        leaving = bool(contacts) and all(requested(attempt.request, contact) == 0 for contact in contacts)
        if self.config.reauthenticate and contacts and not leaving:
            self._challenge(authentication, attempt)
        else:
            self._accept(attempt, None)

    # ---- what an accepted REGISTER does

    def _accept(self, attempt: Attempt, info: str | None) -> None:
        """RFC 3261 10.3 items 5 to 8, with the HSS told in between (29.228 6.1.2). info: Authentication-Info."""
        request = attempt.request
        registration = self.registrar.find(attempt.impu)
        contacts = request.contact
        if not contacts:
            self._welcome(attempt, registration, info)  # fetches the bindings, changes nothing
            return
        wanted = [(contact, requested(request, contact)) for contact in contacts]
        brief = [
            seconds
            for contact, seconds in wanted
            if seconds is not None and 0 < seconds < min(HOUR, self.config.expires_min)
        ]
        if brief:
            self.respond(attempt.txn, 423, headers=[("Min-Expires", str(self.config.expires_min))])
            return
        if registration is not None:
            for contact, _ in wanted:
                known = None if contact.is_star else same_contact(registration.bindings.values(), contact)
                if known and known.call_id == request.call_id and known.cseq >= request.cseq.number:
                    self.respond(attempt.txn, 500)  # RFC 3261 10.3 item 7: out of order
                    return
        leaving = [contact for contact, seconds in wanted if seconds == 0]
        if len(leaving) == len(wanted):
            self._leave(attempt, registration, leaving, info)
            return
        known_here = registration is not None
        kind = ServerAssignmentType.RE_REGISTRATION if known_here else ServerAssignmentType.REGISTRATION
        query = self._assignment(attempt.impi, attempt.impu, kind)
        self.cx.ask(query, lambda answer: self._assigned(attempt, info, answer))

    def _assignment(self, impi: str, impu: str, kind: ServerAssignmentType) -> ServerAssignmentRequest:
        have = self.registrar.find(impu) is not None
        return ServerAssignmentRequest(
            **self.cx.header(),
            user_name=impi,
            public_identities=[impu],
            server_name=self.config.name,
            assignment_type=kind,
            already_available=UserDataAlreadyAvailable.ALREADY_AVAILABLE
            if have
            else UserDataAlreadyAvailable.NOT_AVAILABLE,
        )

    def _assigned(self, attempt: Attempt, info: str | None, message: DiameterMessage | None) -> None:
        if message is None:
            self.emit("timeout", "HSS: no answer to SAR")
            self.respond(attempt.txn, 504)
            return
        try:
            answer = ServerAssignmentAnswer.from_message(message)
            if not answer.is_success:
                status = _refusal(answer.experimental, answer.result_code)
                self.emit("refused", f"{attempt.impi}: HSS result {_result(answer)}, answered {status}")
                self.respond(attempt.txn, status)
                return
            profile = parse_userdata(answer.user_data) if answer.user_data else None
        except PeerError as error:
            self.emit("malformed", f"SAA: {error}")
            self.respond(attempt.txn, 500)
            return
        registration = self.registrar.find(attempt.impu)
        if profile is None and registration is None:
            self.respond(attempt.txn, 500)  # 29.228 6.1.2.1: a first registration comes with the profile
            return
        if registration is None:
            assert profile is not None
            registration = Registration(attempt.impi, attempt.impu, profile, profile.identities)
        elif profile is not None:
            registration.profile, registration.associated = profile, profile.identities
        registration.impi = attempt.impi
        self._bind(attempt, registration)
        self.registrar.store(registration)
        self._watch(registration)
        self.emit(
            "registered", f"{attempt.impu} of {attempt.impi}", impi=attempt.impi, impus=tuple(registration.allowed)
        )
        self._welcome(attempt, registration, info)
        self.notify(registration)

    def _bind(self, attempt: Attempt, registration: Registration) -> None:
        """Create or refresh the bindings of a REGISTER; one with expires 0 goes."""
        request = attempt.request
        for contact in request.contact:
            seconds = requested(request, contact)
            known = same_contact(registration.bindings.values(), contact)
            if known is not None:
                del registration.bindings[str(known.uri)]
            if seconds == 0:
                continue
            granted = min(self.config.expires_max if seconds is None else seconds, self.config.expires_max)
            registration.bindings[str(contact.uri)] = Binding(
                known.number if known else self.registrar.new_number(),
                contact,
                self.now + granted,
                known.registered_at if known else self.now,
                [str(path) for path in request.path],
                request.call_id,
                request.cseq.number,
                "refreshed" if known else "registered",
            )

    def _leave(
        self, attempt: Attempt, registration: Registration | None, contacts: list[Contact], info: str | None
    ) -> None:
        """24.229 5.4.1.4: de-registration by the user."""
        if registration is None:
            self.respond(attempt.txn, 481)
            return
        gone: list[Binding] = []
        for contact in contacts:
            if contact.is_star:
                gone = list(registration.bindings.values())
            elif (known := same_contact(registration.bindings.values(), contact)) is not None:
                gone.append(known)
        if not gone:
            self.respond(attempt.txn, 481)
            return
        for binding in gone:
            del registration.bindings[str(binding.uri)]
        self._welcome(attempt, registration, info, gone)
        self._ended(registration, [(binding, "unregistered") for binding in gone], _LEFT)

    def _welcome(
        self, attempt: Attempt, registration: Registration | None, info: str | None, gone: Iterable[Binding] = ()
    ) -> None:
        """24.229 5.4.1.2.2F: the 200."""
        headers: list[tuple[str, str]] = []
        if registration is not None:
            for binding in registration.bindings.values():
                left = max(0, round(binding.expires_at - self.now))
                headers.append(("Contact", str(binding.contact.with_params({"expires": str(left)}))))
        headers += [("Contact", str(binding.contact.with_params({"expires": "0"}))) for binding in gone]
        headers += [("Path", row) for row in attempt.request.rows("Path")]
        if registration is not None and registration.bindings:
            headers.append(("Service-Route", f"<{self.originating_uri}>"))
            identities = registration.allowed
            if identities:
                headers.append(("P-Associated-URI", ", ".join(f"<{uri}>" for uri in identities)))
        if info:
            headers.append(("Authentication-Info", info))
        self.respond(attempt.txn, 200, headers=headers)

    # ---- the end of registrations

    def _watch(self, registration: Registration) -> None:
        """Wake up when the first binding of the set runs out."""
        if registration.bindings:
            first = min(binding.expires_at for binding in registration.bindings.values())
            self.set_alarm(("binding", registration.asked), max(0.0, first - self.now))
        else:
            self.clear_alarm(("binding", registration.asked))

    def _expire(self, impu: str) -> None:
        registration = self.registrar.find(impu)
        if registration is None:
            return
        gone = [binding for binding in registration.bindings.values() if binding.expires_at <= self.now]
        for binding in gone:
            del registration.bindings[str(binding.uri)]
        if gone:
            self._ended(registration, [(binding, "expired") for binding in gone], _EXPIRED)

    def _ended(
        self, registration: Registration, gone: list[tuple[Binding, str]], kind: ServerAssignmentType | None
    ) -> None:
        """Bindings are gone. If they were the last, so is the set: tell the HSS (kind), and who has subscribed."""
        self._watch(registration)
        if not registration.bindings:
            if kind is not None:
                self.cx.ask(self._assignment(registration.impi, registration.asked, kind), _ignore)
            self.emit("deregistered", f"{registration.asked}: {gone[0][1]}", impi=registration.impi)
        self.notify(registration, gone)
        if not registration.bindings:
            self.registrar.forget(registration)

    # ---- what the HSS asks

    def _on_hss(self, message: DiameterMessage) -> DiameterMessage:
        ours: dict[str, Any] = {"origin_host": self.cx.config.origin_host, "origin_realm": self.cx.config.origin_realm}
        try:
            if message.command == RTR:
                ours |= self._terminate(RegistrationTerminationRequest.from_message(message))
                return RegistrationTerminationAnswer(**ours).to_message(message)
            if message.command == PPR:
                ours |= self._update_profile(PushProfileRequest.from_message(message))
                return PushProfileAnswer(**ours).to_message(message)
        except DiameterError as error:
            return answer_to(message, **ours, result_code=error.result_code, failed=error.failed)
        return answer_to(message, **ours, result_code=int(ResultCode.COMMAND_UNSUPPORTED))

    def _terminate(self, request: RegistrationTerminationRequest) -> dict[str, int]:
        """29.228 6.1.3, 24.229 5.4.1.5: the HSS ends registrations."""
        found = self.registrar.of_private(request.user_name)
        if request.public_identities:
            named = {Uri.parse(uri).aor for uri in request.public_identities}
            found = [each for each in found if any(self.registrar.find(aor) is each for aor in named)]
        if not found:
            return {"experimental": int(CxResult.USER_UNKNOWN)}
        authentication = self._authentications.get(request.user_name)
        if authentication is not None:
            self._drop_challenge(authentication)
        event = TERMINATION_EVENTS[request.reason.code]
        for registration in found:
            gone = [(binding, event or "") for binding in registration.bindings.values()]
            registration.bindings.clear()
            if event is None:  # 29.228 6.1.3.1: another S-CSCF serves the user now; drop the data, tell nobody
                self._watch(registration)
                self.drop_subscriptions(registration)
                self.registrar.forget(registration)
            else:
                self._ended(registration, gone, None)
        return {"result_code": int(ResultCode.SUCCESS)}

    def _update_profile(self, request: PushProfileRequest) -> dict[str, int]:
        """29.228 6.2.2: the profile is overwritten; an unfit one leaves the old one in place."""
        found = self.registrar.of_private(request.user_name)
        if not found:
            return {"experimental": int(CxResult.USER_UNKNOWN)}
        if request.user_data is None:
            return {"result_code": int(ResultCode.SUCCESS)}  # charging information alone: we keep none
        try:
            profile = parse_userdata(request.user_data)
        except PeerError as error:
            self.emit("malformed", f"PPR: {error}")
            return {"experimental": int(CxResult.NOT_SUPPORTED_USER_DATA)}
        identities = profile.identities
        mine = {each.uri for each in identities}
        registration = next((each for each in found if mine & {one.uri for one in each.associated}), found[0])
        before = registration.allowed
        default = next((each.uri for each in identities if each.is_distinct and not each.barred), None)
        if before and default != before[0]:
            # 29.228 6.2.2: the default identity of a registered set is not changed by PPR.
            return {"result_code": int(ResultCode.UNABLE_TO_COMPLY)}
        registration.profile, registration.associated = profile, identities
        self.registrar.store(registration)
        self.notify(registration, dropped=[uri for uri in before if uri not in registration.allowed])
        return {"result_code": int(ResultCode.SUCCESS)}

    def lookup(self, aor: str) -> Registration | None:
        return self.registrar.find(aor)


def requested(request: Request, contact: Contact) -> int | None:
    """The seconds that a REGISTER asks for this contact: its own expires, else Expires (RFC 3261 10.2.1.1)."""
    if contact.is_star:
        return request.expires
    return contact.expires if contact.expires is not None else request.expires


def classify(attempt: Attempt, authentication: Authentication) -> Input:
    """What a REGISTER is, seen from the running authentication of its private identity."""
    credentials = attempt.credentials
    if credentials is None:
        return Input.UNPROTECTED
    protected = (credentials.integrity_protected or "").lower() == "yes"
    if authentication.state is State.CHALLENGED and credentials.nonce == authentication.nonce:
        if credentials.has("auts"):
            return Input.RESYNC
        if not credentials.response:
            return Input.FAILURE_REPORT
        if protected:
            return Input.ANSWER
    # A right answer that came unprotected does not count (33.203 6.1.5): it is challenged again.
    return Input.REFRESH if protected else Input.UNPROTECTED


Step = Callable[[Scscf, Authentication, Any], None]

#: The table of the module's page.
TABLE: dict[tuple[State, Input], Step] = {
    (State.IDLE, Input.UNPROTECTED): Scscf._challenge,
    (State.IDLE, Input.REFRESH): Scscf._refresh,
    (State.CHALLENGED, Input.UNPROTECTED): Scscf._challenge,
    (State.CHALLENGED, Input.ANSWER): Scscf._answer,
    (State.CHALLENGED, Input.RESYNC): Scscf._resync,
    (State.CHALLENGED, Input.FAILURE_REPORT): Scscf._failure_report,
    (State.CHALLENGED, Input.REFRESH): Scscf._refresh,
    (State.CHALLENGED, Input.TIMER): Scscf._timed_out,
}

_LEFT = ServerAssignmentType.USER_DEREGISTRATION
_EXPIRED = ServerAssignmentType.TIMEOUT_DEREGISTRATION

#: What a reg-event contact says after an RTR (24.229 5.4.1.5); None: nothing is said (29.228 6.1.3.1).
TERMINATION_EVENTS: dict[ReasonCode, str | None] = {
    ReasonCode.PERMANENT_TERMINATION: "rejected",
    ReasonCode.NEW_SERVER_ASSIGNED: None,
    ReasonCode.SERVER_CHANGE: "deactivated",
    ReasonCode.REMOVE_S_CSCF: "deactivated",
}

#: 29.228 8.1: an HSS that cannot is no UE that may not; only what is about the user is 403.
_FORBIDDEN = frozenset(
    {
        CxResult.USER_UNKNOWN,
        CxResult.IDENTITIES_DONT_MATCH,
        CxResult.IDENTITY_NOT_REGISTERED,
        CxResult.ROAMING_NOT_ALLOWED,
        CxResult.AUTH_SCHEME_NOT_SUPPORTED,
    }
)


def _refusal(experimental: int | None, result: int | None) -> int:
    if experimental is not None:
        return 403 if experimental in _FORBIDDEN else 500
    return 403 if result == ResultCode.AUTHORIZATION_REJECTED else 500


def _result(answer: MultimediaAuthAnswer | ServerAssignmentAnswer) -> str:
    if answer.experimental is not None:
        return f"{answer.experimental} (experimental)"
    return str(answer.result_code)


def _check_item(item: AuthDataItem) -> None:
    """29.229 6.3.10, 6.3.11, 6.3.27, 6.3.28: what a vector must have."""
    if (
        len(item.authenticate or b"") != 32
        or not 4 <= len(item.authorization or b"") <= 16
        or len(item.ck or b"") != 16
        or len(item.ik or b"") != 16
    ):
        raise PeerError("a vector without RAND ‖ AUTN, XRES, CK or IK of the right length", clause="29.229 6.3.13")


def _server_proof(credentials: DigestCredentials, password: bytes, algorithm: str) -> str | None:
    """Authentication-Info for the 200: the proof that the server knows RES too (RFC 2617 3.2.3). None without qop."""
    if not credentials.qop or credentials.nc is None:
        return None
    proof = rspauth(
        algorithm=algorithm,
        username=credentials.username or "",
        realm=credentials.realm or "",
        password=password,
        nonce=credentials.nonce or "",
        uri=credentials.uri or "",
        qop=credentials.qop,
        nc=f"{credentials.nc:08x}",
        cnonce=credentials.cnonce or "",
    )
    return f'qop={credentials.qop}, rspauth="{proof}", cnonce="{credentials.cnonce}", nc={credentials.nc:08x}'


def _ignore(answer: DiameterMessage | None) -> None:
    """The HSS was told; there is nothing to do about its answer."""
