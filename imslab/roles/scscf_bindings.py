"""The S-CSCF as registrar: what an accepted REGISTER does, how registrations end, what the HSS pushes.

(24.229 5.4.1.2.2F, 5.4.1.4, 5.4.1.5, 5.4.1.8; RFC 3261 10.3; 29.228 6.1.2, 6.1.3, 6.2.2)

    an accepted REGISTER                what is done, in order
    names no contact                    200 with what there is
    asks for too short a time           423 with Min-Expires
    is older than the binding           500
    takes away what is not there        481
    leaves too many contacts            403
    takes contacts away                 the last of a user's: SAR USER_DEREGISTRATION; then 200, NOTIFY
    anything else                       SAR REGISTRATION or RE_REGISTRATION; then 200, NOTIFY

    a registration ends by              SAR                               contact event
    the user                            USER_DEREGISTRATION               unregistered
    its time                            TIMEOUT_DEREGISTRATION            expired
    an operator here                    ADMINISTRATIVE_DEREGISTRATION     deactivated or rejected
    RTR, permanent termination          –                                 rejected
    RTR, server change or removal       –                                 deactivated
    RTR, new server assigned            –                                 nobody is told: another S-CSCF has the user

A SAR for the end of a registration is sent when the last contact of one private identity in the set has gone, and
names one identity of the set (29.228 6.5.1.2).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

from imslab.core.errors import LocalError, PeerError
from imslab.diameter.avp import DiameterError
from imslab.diameter.codes import CxResult, ReasonCode, ResultCode, ServerAssignmentType, UserDataAlreadyAvailable
from imslab.diameter.cx import (
    PPR,
    RTR,
    CxAnswer,
    PushProfileAnswer,
    PushProfileRequest,
    RegistrationTerminationAnswer,
    RegistrationTerminationRequest,
    ServerAssignmentAnswer,
    ServerAssignmentRequest,
)
from imslab.diameter.dictionary import make
from imslab.diameter.message import DiameterMessage
from imslab.diameter.message import answer as answer_to
from imslab.diameter.userdata import parse_userdata
from imslab.roles.base import argument
from imslab.roles.cx_client import Trouble
from imslab.roles.regevent import Gone
from imslab.roles.registrar import Binding, Identity, Registration, identities_of, same_contact, same_device
from imslab.roles.scscf_attempt import Attempt
from imslab.roles.scscf_sessions import Sessions
from imslab.sip.fields.address import Contact
from imslab.sip.uri import Uri

#: RFC 3261 10.3 item 7: only an interval below an hour may be too brief.
HOUR = 3600

#: What a reg-event contact says after an RTR (24.229 5.4.1.5); None: nothing is said (29.228 6.1.3.1).
TERMINATION_EVENTS: dict[ReasonCode, str | None] = {
    ReasonCode.PERMANENT_TERMINATION: "rejected",
    ReasonCode.NEW_SERVER_ASSIGNED: None,
    ReasonCode.SERVER_CHANGE: "deactivated",
    ReasonCode.REMOVE_S_CSCF: "deactivated",
}

#: An HSS that cannot is no UE that may not: only what is about the user is 403, the rest is 500 (29.228 8).
FORBIDDEN = frozenset(
    {
        (True, CxResult.USER_UNKNOWN),
        (True, CxResult.IDENTITIES_DONT_MATCH),
        (True, CxResult.IDENTITY_NOT_REGISTERED),
        (True, CxResult.ROAMING_NOT_ALLOWED),
        (True, CxResult.AUTH_SCHEME_NOT_SUPPORTED),
        (False, ResultCode.AUTHORIZATION_REJECTED),
    }
)

Done = Callable[[], None]
_Headers = tuple[tuple[str, str], ...]
_OK = {"result_code": int(ResultCode.SUCCESS)}


class Bindings(Sessions):
    """See the module's page."""

    def on_alarm(self, key: Hashable) -> None:
        match key:
            case ("expiry", Registration() as registration):
                self._expire(registration)
            case _:
                super().on_alarm(key)

    def on_command(self, name: str, arguments: Mapping[str, Any]) -> None:
        """What an operator may ask for.

        reauthenticate(impu): shorten the registration, so that the UE comes and is challenged (24.229 5.4.1.6).
        deregister(impu, event="deactivated" or "rejected"): end it, the UE may come back or not (24.229 5.4.1.5).
        """
        if name not in ("reauthenticate", "deregister"):
            super().on_command(name, arguments)
            return
        event = arguments.get("event", "deactivated")
        if event not in ("deactivated", "rejected"):
            raise LocalError(f"deregister: event {event!r}, expected deactivated or rejected")
        impu = argument(arguments, "impu")
        registration = self.registrar.find(Uri.parse(impu).aor)
        if registration is None:
            self.emit("unknown-user", f"{impu} is not registered")
        elif name == "deregister":
            gone = [Gone(binding, event) for binding in registration.bindings]
            self._remove(registration, gone, ServerAssignmentType.ADMINISTRATIVE_DEREGISTRATION)
        else:
            registration.must_authenticate = True
            for binding in registration.bindings:
                binding.expires_at = min(binding.expires_at, self.now + self.config.expires_min)
                binding.event = "shortened"
            self._watch(registration)
            self.notify(registration)

    # ---- an accepted REGISTER

    def accept(self, attempt: Attempt, done: Done) -> None:
        """Do what a REGISTER asks whose user is known to be the one. done: called once it has been answered."""
        registration = self.registrar.find(attempt.impu)
        refusal = self._refusal(attempt, registration)
        if refusal is not None:
            status, headers = refusal
            self.emit("rejected", f"{attempt.impu}: {status}")
            self.respond(attempt.txn, status, headers=headers)
            done()
        elif not attempt.wishes:
            self._welcome(attempt, registration)  # it fetches the bindings, and changes nothing
            done()
        elif attempt.leaving and registration is not None:
            self._leave(attempt, registration, done)
        else:
            self._assign(attempt, registration, done)

    def _refusal(self, attempt: Attempt, registration: Registration | None) -> tuple[int, _Headers] | None:
        """Why a REGISTER cannot be obeyed: the status and what goes with it (RFC 3261 10.3 items 6 and 7)."""
        shortest = min(HOUR, self.config.expires_min)
        if any(wish.seconds is not None and 0 < wish.seconds < shortest for wish in attempt.wishes):
            if "scscf-423-bare" in self.faults:
                return 423, ()
            return 423, (("Min-Expires", str(self.config.expires_min)),)
        if self.is_out_of_order(attempt, registration):
            return 500, ()
        meant = [self._meant(wish.contact, registration, attempt.impi) for wish in attempt.wishes]
        if attempt.leaving and not any(meant):
            return 481, ()  # 24.229 5.4.1.4
        # 24.229 5.4.1.2.2: more flows than one user may have.
        mine = registration.of_private(attempt.impi) if registration is not None else []
        staying = set(mine)
        new = 0
        for wish, known in zip(attempt.wishes, meant, strict=True):
            if wish.seconds == 0:
                staying.difference_update(known)
            elif not known:
                new += 1
                staying.difference_update(same_device(mine, wish.contact, attempt.impi))
        return (403, ()) if len(staying) + new > self.config.contacts_max else None

    def is_out_of_order(self, attempt: Attempt, registration: Registration | None) -> bool:
        """True when a later REGISTER of the same Call-ID has been obeyed for one of its contacts."""
        return any(
            binding.call_id == attempt.call_id and binding.cseq >= attempt.cseq
            for wish in attempt.wishes
            for binding in self._meant(wish.contact, registration, attempt.impi)
        )

    @staticmethod
    def _meant(contact: Contact, registration: Registration | None, impi: str) -> list[Binding]:
        """The bindings that a Contact of this private identity means."""
        if registration is None:
            return []
        if contact.is_star:
            return registration.of_private(impi)
        known = same_contact(registration.bindings, contact)
        return [] if known is None else [known]

    def _assign(self, attempt: Attempt, registration: Registration | None, done: Done) -> None:
        """29.228 6.1.2: tell the HSS that we serve this user."""
        known = registration is not None and bool(registration.of_private(attempt.impi))
        kind = ServerAssignmentType.RE_REGISTRATION if known else ServerAssignmentType.REGISTRATION
        if "scscf-sar-always-first" in self.faults:
            kind = ServerAssignmentType.REGISTRATION
        if "scscf-no-sar" in self.faults:
            self._bind(attempt, registration, registration.identities if registration else _alone(attempt.impu))
            done()
            return

        def assigned(answer: ServerAssignmentAnswer | Trouble) -> None:
            self._assigned(attempt, answer)
            done()

        self.cx.ask(self.assignment(attempt.impi, attempt.impu, kind), ServerAssignmentAnswer, assigned)

    def assignment(self, impi: str, impu: str, kind: ServerAssignmentType) -> ServerAssignmentRequest:
        """A SAR about one identity of a set (29.228 6.1.2)."""
        have = self.registrar.find(impu) is not None
        query = ServerAssignmentRequest(
            **self.cx.header(),
            user_name=impi,
            public_identities=[impu],
            server_name=self.config.name,
            assignment_type=kind,
            already_available=UserDataAlreadyAvailable.ALREADY_AVAILABLE
            if have
            else UserDataAlreadyAvailable.NOT_AVAILABLE,
        )
        if "scscf-sar-other-name" in self.faults:
            query.server_name = f"sip:other.{self.config.domain}"
        if "scscf-sar-two-identities" in self.faults:
            query.public_identities.append(f"sip:another@{self.config.domain}")
        return query

    def _assigned(self, attempt: Attempt, answer: ServerAssignmentAnswer | Trouble) -> None:
        registration = self.registrar.find(attempt.impu)
        if isinstance(answer, Trouble):
            self.emit("timeout", f"HSS: {answer} to SAR")
            self.respond(attempt.txn, answer.status)
            return
        if not answer.is_success:
            self.refuse_by(attempt, answer)
            return
        try:
            identities = self._identities(answer, registration)
        except PeerError as error:
            self.emit("malformed", f"SAA: {error}")
            self.respond(attempt.txn, 500)
            if registration is None:  # the HSS believes that we serve the user now
                kind = ServerAssignmentType.ADMINISTRATIVE_DEREGISTRATION
                self.cx.tell(self.assignment(attempt.impi, attempt.impu, kind))
            return
        self._bind(attempt, registration, identities)

    @staticmethod
    def _identities(answer: ServerAssignmentAnswer, registration: Registration | None) -> tuple[Identity, ...]:
        """The set: of the profile that came, else as it was. Raises PeerError when there is none, or it is broken."""
        if answer.user_data:
            return identities_of(parse_userdata(answer.user_data))
        if registration is None:
            raise PeerError("a first registration comes with the profile", clause="29.228 6.1.2.1")
        return registration.identities

    def _bind(self, attempt: Attempt, registration: Registration | None, identities: tuple[Identity, ...]) -> None:
        """Create or refresh the bindings of a REGISTER, take away those that are to go; 200; tell who watches."""
        dropped: list[str] = []
        if registration is None:
            registration = Registration(attempt.impu, identities)
        else:
            registration.added = frozenset()
            dropped = _exchange(registration, identities)
        registration.must_authenticate = registration.must_authenticate and not attempt.authenticated
        gone: list[Gone] = []
        before = list(registration.bindings)
        for wish in attempt.wishes:
            known = same_contact(registration.bindings, wish.contact)
            if known is not None:
                registration.bindings.remove(known)
            if wish.seconds == 0:
                gone += [Gone(known, "unregistered")] if known else []
                continue
            for other in same_device(before, wish.contact, attempt.impi) if known is None else ():
                if other in registration.bindings:
                    registration.bindings.remove(other)
                    gone.append(Gone(other, "deactivated"))
            registration.bindings.append(self._new_binding(attempt, wish.contact, wish.seconds, known))
        self.registrar.update(registration)
        self._watch(registration)
        impus = tuple(registration.allowed)
        self.emit("registered", f"{attempt.impu} of {attempt.impi}", impi=attempt.impi, impus=impus)
        self._welcome(attempt, registration)
        self.notify(registration, gone, dropped)

    def _new_binding(self, attempt: Attempt, contact: Contact, seconds: int | None, known: Binding | None) -> Binding:
        longest = self.config.expires_max
        granted = longest if seconds is None else min(seconds, longest)
        if "scscf-grants-more" in self.faults:
            granted = 2 * (seconds or longest)
        return Binding(
            known.number if known else self.registrar.new_number(),
            attempt.impi,
            contact,
            self.now + granted,
            known.registered_at if known else self.now,
            attempt.path,
            attempt.call_id,
            attempt.cseq,
            "refreshed" if known else "registered",
        )

    def _leave(self, attempt: Attempt, registration: Registration, done: Done) -> None:
        """24.229 5.4.1.4: de-registration by the user."""
        gone: list[Gone] = []
        for wish in attempt.wishes:
            for binding in self._meant(wish.contact, registration, attempt.impi):
                registration.bindings.remove(binding)
                gone.append(Gone(binding, "unregistered"))
        have = self.assignment(attempt.impi, attempt.impu, ServerAssignmentType.USER_DEREGISTRATION)
        self.registrar.update(registration)
        self._watch(registration)

        def finish(answer: CxAnswer | Trouble | None = None) -> None:
            self._welcome(attempt, registration, gone)
            self.notify(registration, gone)
            done()

        if registration.of_private(attempt.impi):
            finish()
            return
        self.emit("deregistered", f"{attempt.impu} of {attempt.impi}: unregistered", impi=attempt.impi)
        if "scscf-no-sar-at-the-end" in self.faults:
            finish()
            return
        if "scscf-sar-wrong-end" in self.faults:
            have.assignment_type = ServerAssignmentType.RE_REGISTRATION
        self.cx.ask(have, ServerAssignmentAnswer, finish)

    def _welcome(self, attempt: Attempt, registration: Registration | None, gone: Iterable[Gone] = ()) -> None:
        """24.229 5.4.1.2.2F: the 200."""
        bindings = registration.bindings if registration is not None else []
        headers: list[tuple[str, str]] = []
        for binding in bindings:
            left = max(0, round(binding.expires_at - self.now))
            headers.append(("Contact", str(binding.contact.with_params({"expires": str(left)}))))
        headers += [("Contact", str(each.binding.contact.with_params({"expires": "0"}))) for each in gone]
        headers += [("Path", row) for row in attempt.request.rows("Path")]
        mine = registration.of_private(attempt.impi) if registration is not None else []
        if registration is not None and mine and not attempt.leaving:
            flow = next((same_contact(mine, wish.contact) for wish in attempt.wishes), None) or mine[0]
            headers.append(("Service-Route", f"<{self.service_route(flow)}>"))
            listed = registration.allowed
            if "scscf-barred-listed" in self.faults:
                listed = [each.uri for each in registration.identities]
            if listed:
                headers.append(("P-Associated-URI", ", ".join(f"<{uri}>" for uri in listed)))
        if attempt.proof:
            headers.append(("Authentication-Info", attempt.proof))
        self.respond(attempt.txn, 200, headers=headers)

    def refuse_by(self, attempt: Attempt, answer: CxAnswer) -> None:
        """What an HSS's no means for a REGISTER."""
        experimental = answer.experimental is not None
        code = answer.experimental if answer.experimental is not None else answer.result_code
        status = 403 if (experimental, code) in FORBIDDEN else 500
        result = f"{'experimental ' if experimental else ''}result {code}"
        self.emit("rejected", f"{attempt.impi}: HSS {result}, answered {status}", impi=attempt.impi)
        self.respond(attempt.txn, status)

    # ---- the end of registrations

    def _watch(self, registration: Registration) -> None:
        """Wake up when the first binding of the set runs out."""
        if registration.bindings:
            first = min(binding.expires_at for binding in registration.bindings)
            self.set_alarm(("expiry", registration), max(0.0, first - self.now))
        else:
            self.clear_alarm(("expiry", registration))

    def _expire(self, registration: Registration) -> None:
        gone = [Gone(binding, "expired") for binding in registration.bindings if binding.expires_at <= self.now]
        kind = ServerAssignmentType.TIMEOUT_DEREGISTRATION
        self._remove(registration, gone, None if "scscf-no-sar-at-the-end" in self.faults else kind)

    def _remove(self, registration: Registration, gone: list[Gone], kind: ServerAssignmentType | None) -> None:
        """Take bindings away. Who has lost the last one is told to the HSS (kind), and to those who watch."""
        queries: list[ServerAssignmentRequest] = []
        for binding, _ in gone:
            registration.bindings.remove(binding)
        for impi, event in {binding.impi: event for binding, event in gone}.items():
            if not registration.of_private(impi):
                self.emit("deregistered", f"{registration.asked} of {impi}: {event}", impi=impi)
                if kind is not None:
                    queries.append(self.assignment(impi, registration.representative, kind))
        self.registrar.update(registration)
        self._watch(registration)
        for query in queries:
            self.cx.tell(query)
        self.notify(registration, gone)

    # ---- what the HSS asks

    def on_hss(self, message: DiameterMessage) -> DiameterMessage | None:
        ours: dict[str, Any] = {"origin_host": self.cx.config.origin_host, "origin_realm": self.cx.config.origin_realm}
        if "scscf-ignores-hss" in self.faults:
            return None
        try:
            if message.command == RTR:
                ours |= self._terminate(RegistrationTerminationRequest.from_message(message))
                return RegistrationTerminationAnswer(**ours).to_message(message)
            if message.command == PPR:
                ours |= self._update_profile(PushProfileRequest.from_message(message))
                return PushProfileAnswer(**ours).to_message(message)
        except DiameterError as error:
            self.emit("malformed", f"{message.name}: {error}")
            return answer_to(message, **ours, result_code=error.result_code, failed=error.failed)
        return answer_to(message, **ours, result_code=int(ResultCode.COMMAND_UNSUPPORTED))

    def _terminate(self, request: RegistrationTerminationRequest) -> dict[str, int]:
        """29.228 6.1.3, 24.229 5.4.1.5: the HSS ends registrations of one private identity, or of several."""
        named = {_aor(uri) for uri in request.public_identities}
        event = TERMINATION_EVENTS[request.reason.code]
        ended = 0
        for impi in dict.fromkeys((request.user_name, *(request.associated_identities or ()))):
            for registration in self.registrar.of_private(impi):
                if named and named.isdisjoint(registration.names):
                    continue
                ended += 1
                gone = [Gone(binding, event or "deactivated") for binding in registration.of_private(impi)]
                if event is None and len(gone) == len(registration.bindings):
                    self.drop_subscriptions(registration)
                self._remove(registration, gone, None)
            self.on_terminated(impi)
        # 29.228 6.1.3 names no such error; 5001 says what is the case, and an HSS lives with it.
        return _OK if ended else {"experimental": int(CxResult.USER_UNKNOWN)}

    def on_terminated(self, impi: str) -> None:
        """The HSS has ended what this private identity had: an authentication that runs has no object any more."""

    def _update_profile(self, request: PushProfileRequest) -> dict[str, int]:
        """29.228 6.2.2: the profile is overwritten; an unfit one leaves the old one in place."""
        found = self.registrar.of_private(request.user_name)
        if not found:
            return {"experimental": int(CxResult.USER_UNKNOWN)}
        if request.user_data is None:
            return _OK  # charging information alone: we keep none
        try:
            identities = identities_of(parse_userdata(request.user_data))
        except PeerError as error:
            self.emit("malformed", f"PPR: {error}")
            return {"experimental": int(CxResult.NOT_SUPPORTED_USER_DATA)}
        pushed = {each.aor for each in identities}
        registration = next((each for each in found if not pushed.isdisjoint(each.names)), found[0])
        before = registration.allowed
        first = next((each.aor for each in identities if each.usable), None)
        if before and first != Uri.parse(before[0]).aor:
            # 29.228 6.2.2: the default identity of a registered set is not changed by PPR.
            return {"result_code": int(ResultCode.UNABLE_TO_COMPLY)}
        dropped = _exchange(registration, identities)
        self.registrar.update(registration)
        if registration.allowed != before:
            self.notify(registration, dropped=dropped)
        return _OK


def _exchange(registration: Registration, identities: tuple[Identity, ...]) -> list[str]:
    """Give a registration another set; the URIs that were usable and are no more."""
    before = {each.aor: each.uri for each in registration.identities if each.usable}
    after = {each.aor for each in identities if each.usable}
    registration.identities = identities
    registration.added = frozenset((registration.added & after) | (after - before.keys()))
    return [uri for aor, uri in before.items() if aor not in after]


def _alone(impu: str) -> tuple[Identity, ...]:
    return (Identity(impu, impu),)


def _aor(uri: str) -> str:
    try:
        return Uri.parse(uri).aor
    except PeerError as error:
        raise DiameterError(
            error.reason, ResultCode.INVALID_AVP_VALUE, failed=(make("Public-Identity", uri),)
        ) from None
