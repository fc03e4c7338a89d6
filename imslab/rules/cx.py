"""Rules about Cx: what the HSS answers, and what it and the CSCFs put into their questions (29.228, 29.229).

What only Diameter itself demands is in diameter.py. Whether the HSS knows a user is nobody's to say here: judged is
what contradicts the question, the rest of the message, or what the HSS has said before. The vectors have their own
page (vectors.py).
"""

from __future__ import annotations

from collections.abc import Iterator

from imslab.diameter.avp import DiameterError
from imslab.diameter.codes import CxResult, ReasonCode, ResultCode, UserAuthorizationType, UserDataAlreadyAvailable
from imslab.diameter.codes import ServerAssignmentType as Sat
from imslab.diameter.cx import (
    MAR,
    PPR,
    RTR,
    SAR,
    SCHEME_AKA,
    CxAnswer,
    LocationInfoAnswer,
    RegistrationTerminationRequest,
)
from imslab.diameter.userdata import parse_userdata
from imslab.rules.attempts import attempts_of
from imslab.rules.clauses import Basis, Level, Wrong, on_diameter
from imslab.rules.exchanges import Exchange, aor_of_text, exchanges_of
from imslab.rules.reading import order, quiet, shown
from imslab.trace.model import DiameterRecord, Role
from imslab.trace.trace import Trace

#: How long an RTR may be awaited, seconds.
PATIENCE = 10.0
#: For how long what the HSS has just said still holds, as far as a capture can tell, seconds.
JUST_NOW = 60.0

_REGISTERED = (Sat.REGISTRATION, Sat.RE_REGISTRATION)
_STORED = (Sat.TIMEOUT_DEREGISTRATION_STORE_SERVER_NAME, Sat.USER_DEREGISTRATION_STORE_SERVER_NAME)
_FAILED = (Sat.AUTHENTICATION_FAILURE, Sat.AUTHENTICATION_TIMEOUT)


def answered(record: DiameterRecord, trace: Trace) -> Exchange | None:
    """The exchange that an answer ends, when both halves can be read."""
    exchange = exchanges_of(trace).of(record)
    if exchange is None or exchange.answer is not record or exchange.asked is None or exchange.answered is None:
        return None
    return exchange


def _told(answered: CxAnswer) -> str:
    """A result in words."""
    if answered.experimental is not None:
        return f"experimental {answered.experimental}"
    return f"result {answered.result_code}"


# --- UAA -------------------------------------------------------------------------------------------------------------


@on_diameter("HSS-01", "29.228 6.1.1.1; 29.229 6.2.1.1", role=Role.HSS, name="UAA")
def first_registration_is_said_so(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """A first registration is experimental 2001, not base 2001, and has no Server-Name."""
    exchange = answered(record, trace)
    if exchange is None or exchange.uar is None or exchange.uaa is None:
        return
    uaa = exchange.uaa
    if uaa.experimental == CxResult.FIRST_REGISTRATION and uaa.server_name:
        yield Wrong(f"FIRST_REGISTRATION with Server-Name {shown(uaa.server_name)}: expected none", record)
    registering = exchange.uar.authorization_type in (None, UserAuthorizationType.REGISTRATION)
    if registering and uaa.result_code == ResultCode.SUCCESS:
        yield Wrong("UAA to REGISTRATION with Result-Code 2001: expected experimental 2001 or 2002", record)


@on_diameter("HSS-02", "29.228 6.1.1.1; 29.229 6.2.1.2", role=Role.HSS, name="UAA")
def subsequent_registration_names_the_server(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """A subsequent registration is experimental 2002 with the Server-Name, without capabilities."""
    exchange = answered(record, trace)
    if exchange is None or exchange.uaa is None:
        return
    uaa = exchange.uaa
    if uaa.result_code == ResultCode.LIMITED_SUCCESS:
        yield Wrong("UAA with Result-Code 2002: expected experimental 2002", record)
    elif uaa.experimental == CxResult.SUBSEQUENT_REGISTRATION:
        if not uaa.server_name:
            yield Wrong("SUBSEQUENT_REGISTRATION without Server-Name", record)
        elif uaa.capabilities is not None:
            yield Wrong("SUBSEQUENT_REGISTRATION with Server-Capabilities", record, level=Level.WARNING)


@on_diameter("HSS-06", "29.228 6.1.1.1; 29.229 6.2.2.3", role=Role.HSS, name="UAA")
def deregistration_is_let_through(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """For DE_REGISTRATION: success with the Server-Name, or experimental 5003."""
    exchange = answered(record, trace)
    if exchange is None or exchange.uar is None or exchange.uaa is None:
        return
    if exchange.uar.authorization_type is not UserAuthorizationType.DE_REGISTRATION:
        return
    if exchange.uaa.experimental == CxResult.FIRST_REGISTRATION:
        yield Wrong("UAA to DE_REGISTRATION with FIRST_REGISTRATION: expected success or experimental 5003", record)
    elif exchange.succeeded and not exchange.uaa.server_name:
        yield Wrong(f"UAA to DE_REGISTRATION with {_told(exchange.uaa)} and no Server-Name", record)


@on_diameter("HSS-07", "29.228 6.1.1.1", role=Role.HSS, name="UAA")
def barred_user_is_rejected_by_the_base(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """Experimental 5003 is for de-registrations; who may not register gets base 5003."""
    exchange = answered(record, trace)
    if exchange is None or exchange.uar is None or exchange.uaa is None:
        return
    leaving = exchange.uar.authorization_type is UserAuthorizationType.DE_REGISTRATION
    if not leaving and exchange.uaa.experimental == CxResult.IDENTITY_NOT_REGISTERED:
        yield Wrong("UAA to a registration with experimental 5003: expected Result-Code 5003", record)


@on_diameter("HSS-08", "29.228 6.1.1.1", role=Role.HSS, name="UAA")
def capabilities_come_without_a_name(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """For REGISTRATION_AND_CAPABILITIES: base 2001, and no Server-Name."""
    exchange = answered(record, trace)
    if exchange is None or exchange.uar is None or exchange.uaa is None or not exchange.succeeded:
        return
    if exchange.uar.authorization_type is not UserAuthorizationType.REGISTRATION_AND_CAPABILITIES:
        return
    if exchange.uaa.result_code != ResultCode.SUCCESS:
        told = _told(exchange.uaa)
        yield Wrong(f"UAA to REGISTRATION_AND_CAPABILITIES with {told}: expected Result-Code 2001", record)
    if exchange.uaa.server_name:
        yield Wrong("UAA to REGISTRATION_AND_CAPABILITIES with Server-Name", record)


@on_diameter("HSS-24", "29.228 6.1.2.1", role=Role.HSS, name="UAA")
def failed_authentication_leaves_the_registration(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """An SAR about a failed authentication leaves a registered user where he is."""
    exchange = answered(record, trace)
    if exchange is None or exchange.uaa is None or exchange.uaa.experimental != CxResult.FIRST_REGISTRATION:
        return
    for impu in exchange.impus:
        past = [each for each in exchanges_of(trace).past(exchange, impu) if each.command in (SAR, RTR, PPR)]
        if len(past) < 2 or past[0].sar is None or past[1].sar is None:
            continue
        failed, registered = past[0], past[1]
        asked = registered.sar
        assert asked is not None
        kept = past[0].sar.assignment_type in (*_FAILED, Sat.NO_ASSIGNMENT)
        recent = record.time - registered.request.time < JUST_NOW
        if kept and registered.succeeded and asked.assignment_type in _REGISTERED and recent:
            yield Wrong(
                f"FIRST_REGISTRATION though {shown(impu)} was registered, and only "
                f"{past[0].sar.assignment_type.name} came since",
                record,
                registered.request,
                failed.request,
            )


# --- numbers that mean two things ------------------------------------------------------------------------------------

#: Result-Code → the rule, the name it has in the base, and what the HSS may have meant.
_TWICE: dict[str, dict[int, tuple[str, str, str]]] = {
    "UAA": {
        5001: ("HSS-03", "AVP_UNSUPPORTED", "USER_UNKNOWN"),
        5002: ("HSS-04", "UNKNOWN_SESSION_ID", "IDENTITIES_DONT_MATCH"),
        5004: ("HSS-05", "INVALID_AVP_VALUE", "ROAMING_NOT_ALLOWED"),
    },
    "MAA": {
        5001: ("HSS-13", "AVP_UNSUPPORTED", "USER_UNKNOWN"),
        5002: ("HSS-13", "UNKNOWN_SESSION_ID", "IDENTITIES_DONT_MATCH"),
    },
    "SAA": {
        5001: ("HSS-27", "AVP_UNSUPPORTED", "USER_UNKNOWN"),
        5002: ("HSS-27", "UNKNOWN_SESSION_ID", "IDENTITIES_DONT_MATCH"),
        5007: ("HSS-27", "CONTRADICTING_AVPS", "IN_ASSIGNMENT_TYPE"),
    },
}


def _mistaken(record: DiameterRecord, trace: Trace, rule: str) -> Iterator[Wrong]:
    """A base result where the experimental one of the same number is meant: without the AVP that the base one names."""
    exchange = answered(record, trace)
    if exchange is None or exchange.answered is None or exchange.answered.experimental is not None:
        return
    code = exchange.answered.result_code or 0
    found = _TWICE.get(record.message.name, {}).get(code)
    if found is None or found[0] != rule or exchange.answered.failed:
        return
    if code == ResultCode.AVP_UNSUPPORTED and _strange(exchange.request, trace) is not None:
        return  # it is about that AVP (HSS-32)
    yield Wrong(
        f"Result-Code {code} is {found[1]}, and no Failed-AVP: {found[2]} is Experimental-Result {code}", record
    )


@on_diameter("HSS-03", "29.228 6.1.1.1; 29.229 6.2.2.1", role=Role.HSS, name="UAA")
def unknown_user_is_experimental(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """An unknown user is Experimental-Result 5001; the base's 5001 is about an AVP."""
    yield from _mistaken(record, trace, "HSS-03")


@on_diameter("HSS-04", "29.228 6.1.1.1; 29.229 6.2.2.2", role=Role.HSS, name="UAA")
def mismatch_is_experimental(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """Identities that do not match are Experimental-Result 5002; the base's 5002 is about a session."""
    yield from _mistaken(record, trace, "HSS-04")


@on_diameter("HSS-05", "29.228 6.1.1.1; 29.229 6.2.2.4", role=Role.HSS, name="UAA")
def roaming_is_experimental(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """Roaming not allowed is Experimental-Result 5004; the base's 5004 is about an AVP."""
    yield from _mistaken(record, trace, "HSS-05")


@on_diameter("HSS-13", "29.228 6.3.1", role=Role.HSS, name="MAA")
def refusals_of_vectors_are_experimental(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """In an MAA too, 5001 and 5002 about the user are Experimental-Results."""
    yield from _mistaken(record, trace, "HSS-13")


@on_diameter("HSS-27", "29.228 8.1.3; 29.229 6.2.2.7", role=Role.HSS, name="SAA")
def refusals_of_assignments_are_experimental(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """In an SAA too, 5001, 5002 and 5007 about the user are Experimental-Results."""
    yield from _mistaken(record, trace, "HSS-27")


def resync_of(exchange: Exchange) -> bytes | None:
    """RAND ‖ AUTS of an MAR that asks for a resynchronisation; None for any other, and for one of a wrong length."""
    item = None if exchange.mar is None else exchange.mar.item
    given = None if item is None else item.authorization
    return given if given is not None and len(given) == 30 else None


def stored_server(exchange: Exchange, trace: Trace) -> tuple[str, DiameterRecord] | None:
    """The S-CSCF that the HSS surely has for a user at the time of a question, and the record that made it so.

    29.228 6.3.1: an MAR without AUTS stores its name, even over another one; an SAR of a registration does. None after
    whatever may have cleared it.
    """
    for each in exchanges_of(trace).past(exchange, exchange.impus[0]):
        if each.request.time < exchange.request.time - 3600:
            return None
        if not each.succeeded or each.answer is None:
            continue
        if each.mar is not None and resync_of(each) is None and each.mar.server_name:
            return each.mar.server_name, each.answer
        if each.sar is not None:
            kind = each.sar.assignment_type
            return (each.sar.server_name, each.answer) if kind in _REGISTERED and each.sar.server_name else None
        if each.command == RTR or _reassigns(each):
            return None
    return None


def _reassigns(exchange: Exchange) -> bool:
    """True for the UAR after which another S-CSCF may take over (29.228 6.1.1.1)."""
    uar = exchange.uar
    return uar is not None and uar.authorization_type is UserAuthorizationType.REGISTRATION_AND_CAPABILITIES


# --- SAA -------------------------------------------------------------------------------------------------------------


@on_diameter("HSS-20", "29.228 6.1.2.1", role=Role.HSS, name="SAA")
def registration_brings_the_profile(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """The SAA to REGISTRATION has User-Data that can be read, and in it the identity that was registered."""
    exchange = answered(record, trace)
    if exchange is None or exchange.sar is None or exchange.saa is None or not exchange.succeeded:
        return
    kind = exchange.sar.assignment_type
    have = exchange.sar.already_available is UserDataAlreadyAvailable.ALREADY_AVAILABLE
    if kind is Sat.REGISTRATION and not have and not exchange.saa.user_data:
        yield Wrong("SAA to REGISTRATION without User-Data", record)
    yield from _user_data(record, exchange.saa.user_data)
    profile = exchanges_of(trace).profile(exchange)
    if profile is None or kind not in _REGISTERED:
        return
    wild = any(not each.is_distinct for each in profile.identities)
    listed = {aor_of_text(each.uri) for each in profile.identities}
    missing = [each for each in exchange.impus if each not in listed]
    if missing and not wild:
        yield Wrong(f"User-Data lacks {shown(', '.join(missing))}", record, exchange.request)


def _user_data(record: DiameterRecord, data: bytes | None) -> Iterator[Wrong]:
    if data:
        try:
            parse_userdata(data)
        except DiameterError as error:
            yield Wrong(shown(error.reason), record)


@on_diameter("HSS-21", "29.228 6.1.2.1, 6.6", role=Role.HSS, name="SAA")
def refresh_brings_the_profile_if_asked(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """The SAA to RE_REGISTRATION has User-Data, unless the S-CSCF said that it has it already."""
    exchange = answered(record, trace)
    if exchange is None or exchange.sar is None or exchange.saa is None or not exchange.succeeded:
        return
    sar = exchange.sar
    have = sar.already_available is UserDataAlreadyAvailable.ALREADY_AVAILABLE
    if sar.assignment_type is Sat.RE_REGISTRATION and not have and not exchange.saa.user_data:
        yield Wrong("SAA to RE_REGISTRATION without User-Data: the S-CSCF has none", record, exchange.request)


@on_diameter("HSS-23", "29.228 6.1.2.1; 29.229 6.2.1.4", role=Role.HSS, name="SAA")
def name_not_stored_is_said_where_it_was_asked(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """SUCCESS_SERVER_NAME_NOT_STORED answers the types that ask to store the name, and no others."""
    exchange = answered(record, trace)
    if exchange is None or exchange.sar is None or exchange.saa is None:
        return
    kind = exchange.sar.assignment_type
    unstored = exchange.saa.experimental == CxResult.SUCCESS_SERVER_NAME_NOT_STORED
    if unstored and kind is not None and kind not in _STORED:
        yield Wrong(f"SAA to {kind.name} with experimental 2004: expected Result-Code 2001", record)


def _assigned(exchange: Exchange, trace: Trace) -> tuple[str, DiameterRecord] | None:
    """The S-CSCF that the last SAR assigned; None unless nothing since can have changed it."""
    found = stored_server(exchange, trace)
    if found is None:
        return None
    made = exchanges_of(trace).of(found[1])
    return found if made is not None and made.command == SAR else None


@on_diameter("HSS-25", "29.228 6.1.2.1, 8.1.2", role=Role.HSS, name="SAA")
def no_assignment_from_a_stranger_is_refused(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """NO_ASSIGNMENT from an S-CSCF that does not serve the user gets base 5012."""
    exchange = answered(record, trace)
    if exchange is None or exchange.sar is None or not exchange.impus or not exchange.succeeded:
        return
    if exchange.sar.assignment_type is Sat.NO_ASSIGNMENT:
        assigned = _assigned(exchange, trace)
        name = exchange.sar.server_name
        if assigned is not None and name and name != assigned[0]:
            yield Wrong(
                f"success for NO_ASSIGNMENT from {shown(name)}: {shown(assigned[0])} serves the user",
                record,
                exchange.request,
                assigned[1],
            )


@on_diameter("HSS-26", "29.228 6.1.2.1, 8.1.2; 29.229 6.2.2.5", role=Role.HSS, name="SAA")
def second_server_is_refused(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """A registration at a second S-CSCF gets experimental 5005, as long as that one has asked for no vector."""
    exchange = answered(record, trace)
    if exchange is None or exchange.sar is None or not exchange.impus or not exchange.succeeded:
        return
    if exchange.sar.assignment_type in _REGISTERED:
        assigned = _assigned(exchange, trace)
        name = exchange.sar.server_name
        if assigned is not None and name and name != assigned[0]:
            yield Wrong(
                f"success for {exchange.sar.assignment_type.name} from {shown(name)}: {shown(assigned[0])} serves "
                "the user, expected experimental 5005",
                record,
                exchange.request,
                assigned[1],
            )


@on_diameter("ADD-11", "29.228 6.1.2.1", role=Role.HSS, name="SAA")
def other_server_is_named(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """Experimental 5005 comes with the Server-Name of the S-CSCF that has the user."""
    exchange = answered(record, trace)
    if exchange is None or exchange.saa is None:
        return
    if exchange.saa.experimental == CxResult.IDENTITY_ALREADY_REGISTERED and not exchange.saa.server_name:
        yield Wrong("IDENTITY_ALREADY_REGISTERED without Server-Name", record)


@on_diameter("CX-02", "29.228 6.1.4.1", role=Role.HSS, basis=Basis.SECOND_HAND, name="LIA")
def location_names_a_server(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """The LIA with success has the Server-Name, or capabilities to choose by."""
    exchange = answered(record, trace)
    lia = None if exchange is None else exchange.answered
    if not isinstance(lia, LocationInfoAnswer) or lia.result_code != ResultCode.SUCCESS:
        return
    if not lia.server_name and lia.capabilities is None:
        yield Wrong("LIA with Result-Code 2001 has neither Server-Name nor Server-Capabilities", record)


@on_diameter("ADD-12", "29.228 6.3.1, 8.1.1", role=Role.HSS, level=Level.WARNING, name="MAA")
def loser_of_a_user_is_told(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """When another S-CSCF asks for vectors of a user, the one that had him is told: RTR with NEW_SERVER_ASSIGNED."""
    exchange = answered(record, trace)
    if exchange is None or exchange.mar is None or not exchange.succeeded or not exchange.impus:
        return
    assigned, name = _assigned(exchange, trace), exchange.mar.server_name
    if assigned is None or not name or name == assigned[0] or resync_of(exchange) is not None:
        return
    exchanges = exchanges_of(trace)
    told = any(exchanges.following(RTR, user, record, PATIENCE) for user in (exchange.impi, *exchange.impus))
    if not told and trace.records[-1].time - record.time > PATIENCE:
        text = f"{shown(name)} takes the user over from {shown(assigned[0])}, and no RTR follows"
        yield Wrong(text, record, exchange.request, assigned[1])


# --- RTR, PPR --------------------------------------------------------------------------------------------------------


@on_diameter("HSS-28", "29.228 6.1.3, 6.1.3.1; 29.229 6.3.17", role=Role.HSS, name="RTR")
def termination_goes_to_the_server(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """The RTR goes to the host that sent the last SAR; with NEW_SERVER_ASSIGNED it names the public identities."""
    exchange = exchanges_of(trace).of(record)
    rtr = None if exchange is None else exchange.asked
    if exchange is None or not isinstance(rtr, RegistrationTerminationRequest):
        return
    reason = None if rtr.reason is None else rtr.reason.code
    if reason is ReasonCode.NEW_SERVER_ASSIGNED and not rtr.public_identities:
        yield Wrong("RTR with NEW_SERVER_ASSIGNED and without Public-Identity", record)
    yield from _destination(exchange, trace, rtr.destination_host, reason is ReasonCode.NEW_SERVER_ASSIGNED)


def _destination(exchange: Exchange, trace: Trace, host: str | None, any_: bool) -> Iterator[Wrong]:
    """A request of the HSS whose Destination-Host is not that of the S-CSCF. any_: an earlier one will do."""
    if not host:
        return
    exchanges = exchanges_of(trace)
    users = exchange.impus or ([exchange.impi] if exchange.impi else [])
    served = [each for user in users for each in exchanges.before(SAR, user, exchange.request) if _registers(each)]
    if any_:  # 29.228 6.3.1: a vector is enough to be the server, for who is told that another one is now
        served += [each for user in users for each in exchanges.before(MAR, user, exchange.request) if each.succeeded]
    served.sort(key=lambda each: order(each.request), reverse=True)
    hosts = [each.asked.origin_host.lower() for each in served if each.asked is not None and each.asked.origin_host]
    if not hosts or host.lower() in (hosts if any_ else hosts[:1]):
        return
    yield Wrong(
        f"{exchange.request.message.name} goes to {shown(host)}: the last SAR came from {shown(hosts[0])}",
        exchange.request,
        served[0].request,
    )


def _registers(exchange: Exchange) -> bool:
    return exchange.succeeded and exchange.sar is not None and exchange.sar.assignment_type in _REGISTERED


@on_diameter("HSS-29", "29.228 6.2.2, 6.6.1", role=Role.HSS, name="PPR")
def profile_goes_to_the_server(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """The PPR goes to the S-CSCF that serves the user, and what it brings can be read."""
    exchange = exchanges_of(trace).of(record)
    if exchange is None or exchange.asked is None:
        return
    yield from _user_data(record, getattr(exchange.asked, "user_data", None))
    yield from _destination(exchange, trace, exchange.asked.destination_host, False)


@on_diameter("ADD-15", "29.228 6.2.2", role=Role.HSS, name="PPR")
def default_identity_survives(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """A PPR does not change the default identity of a set that is registered."""
    exchanges = exchanges_of(trace)
    exchange = exchanges.of(record)
    pushed = None if exchange is None else exchanges.profile(exchange)
    if exchange is None or pushed is None:
        return
    mine = {aor_of_text(each.uri) for each in pushed.identities}
    for each in exchanges.before(SAR, exchange.impi, record):
        had = exchanges.profile(each)
        if not _registers(each) or had is None or not mine & {aor_of_text(one.uri) for one in had.identities}:
            continue
        old, new = had.default_identity, pushed.default_identity
        if old is not None and (new is None or aor_of_text(new.uri) != aor_of_text(old.uri)):
            told = "none" if new is None else shown(new.uri)
            yield Wrong(f"the default identity becomes {told}: it was {shown(old.uri)}", record, each.done)
        return


@on_diameter("IRS-08", "29.228 6.2.2.1", role=Role.SCSCF, name="PPA")
def broken_profile_is_refused(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """A PPR whose user data cannot be read gets experimental 5009 or 5008, or base 5012, and changes nothing."""
    exchange = answered(record, trace)
    if exchange is None or not exchange.succeeded:
        return
    data = getattr(exchange.asked, "user_data", None)
    if data and quiet(lambda: parse_userdata(data)) is None:
        yield Wrong("PPA with success for user data that cannot be read", record, exchange.request)


# --- questions -------------------------------------------------------------------------------------------------------


def fault_of(record: DiameterRecord, trace: Trace) -> DiameterError | None:
    """What a Cx request lacks, or has wrong, by its grammar; None when nothing. Strange AVPs are HSS-32's affair."""
    found = _grammar_fault(record, trace)
    return None if found is None or found.result_code == ResultCode.AVP_UNSUPPORTED else found


def _strange(record: DiameterRecord, trace: Trace) -> DiameterError | None:
    """What says that a question has an AVP with the M bit that nobody knows; None when it has none."""
    found = _grammar_fault(record, trace)
    return found if found is not None and found.result_code == ResultCode.AVP_UNSUPPORTED else None


def _grammar_fault(record: DiameterRecord, trace: Trace) -> DiameterError | None:
    exchange = exchanges_of(trace).of(record)
    return None if exchange is None or exchange.request is not record else exchange.fault


@on_diameter("HSS-33", "29.228 6.3; 29.229 6.1.7, 6.3.9", role=Role.SCSCF, name="MAR")
def question_for_vectors_is_whole(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """An MAR has IMPI, IMPU, Server-Name, the number of vectors, and scheme Digest-AKAv1-MD5 for IMS AKA."""
    fault = fault_of(record, trace)
    if fault is not None:
        yield Wrong(f"MAR: {shown(fault.reason)}", record)
        return
    exchange = exchanges_of(trace).of(record)
    mar = None if exchange is None else exchange.mar
    if exchange is None or mar is None:
        return
    if mar.number_items == 0:
        yield Wrong("MAR asks for 0 vectors", record)
    scheme = None if mar.item is None else mar.item.scheme
    if scheme is None:
        yield Wrong("MAR without SIP-Authentication-Scheme", record)
        return
    pending = attempts_of(trace).pending(exchange.impi, record)
    marked = pending[0].flags if len(pending) == 1 else []
    if scheme != SCHEME_AKA and (marked in (["yes"], ["no"])):
        yield Wrong(
            f"MAR with scheme {shown(scheme)}: expected {SCHEME_AKA}, since the REGISTER is marked "
            f"integrity-protected={marked[0]}",
            record,
            pending[0].request,
        )


@on_diameter("HSS-34", "29.228 6.1.2", role=Role.SCSCF, name="SAR")
def assignment_is_whole(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """An SAR has its type, User-Data-Already-Available, the Server-Name of the MAR, one IMPU for a registration."""
    fault = fault_of(record, trace)
    if fault is not None:
        yield Wrong(f"SAR: {shown(fault.reason)}", record)
        return
    exchange = exchanges_of(trace).of(record)
    sar = None if exchange is None else exchange.sar
    if exchange is None or sar is None:
        return
    count = len(sar.public_identities)
    if sar.assignment_type in _REGISTERED and count != 1:
        yield Wrong(f"SAR with {sar.assignment_type.name} about {count} public identities: expected one", record)
    if not sar.user_name and not count:
        yield Wrong("SAR with neither User-Name nor Public-Identity", record)
    asked = exchanges_of(trace).last_asked(MAR, exchange.impi, record)
    same = asked is not None and (asked.request.src.host, asked.request.dst) == (record.src.host, record.dst)
    mar = None if asked is None or not same else asked.mar
    if asked is None or mar is None or mar.origin_host != sar.origin_host:
        return
    if mar.server_name and sar.server_name and mar.server_name != sar.server_name:
        yield Wrong(
            f"SAR with Server-Name {shown(sar.server_name)}: the MAR had {shown(mar.server_name)}",
            record,
            asked.request,
        )


@on_diameter("CX-03", "29.229 6.1", role=Role.UNKNOWN, name=("UAR", "LIR", "RTR", "PPR"))
def question_is_whole(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """UAR, LIR, RTR and PPR have the AVPs that their grammar demands."""
    fault = fault_of(record, trace)
    if fault is not None:
        yield Wrong(f"{record.message.name}: {shown(fault.reason)}", record, role=record.sender)


@on_diameter("HSS-31", "RFC 6733 7.1.5", role=Role.HSS, name=("UAA", "LIA", "MAA", "SAA"))
def missing_avp_is_named(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """A question that lacks a mandatory AVP gets Result-Code 5005 MISSING_AVP, with an example in Failed-AVP."""
    exchange = exchanges_of(trace).of(record)
    fault = None if exchange is None else fault_of(exchange.request, trace)
    if exchange is None or exchange.answered is None or fault is None or fault.result_code != ResultCode.MISSING_AVP:
        return
    answered = exchange.answered
    if answered.experimental is not None or answered.result_code != ResultCode.MISSING_AVP:
        yield Wrong(f"{_told(answered)} where {shown(fault.reason)}: expected result 5005", record, exchange.request)
    elif not answered.failed:
        yield Wrong("MISSING_AVP without Failed-AVP", record, level=Level.WARNING)


@on_diameter("HSS-32", "RFC 6733 7.1.5", role=Role.HSS, name=("UAA", "LIA", "MAA", "SAA"))
def unknown_avp_is_refused(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """A question with an AVP that nobody knows and that has the M bit gets Result-Code 5001, with it in Failed-AVP."""
    exchange = exchanges_of(trace).of(record)
    if exchange is None or exchange.answered is None:
        return
    fault = _strange(exchange.request, trace)
    if fault is None:
        return
    if exchange.succeeded:
        yield Wrong(
            f"success where {shown(fault.reason)}: expected result 5001",
            record,
            exchange.request,
            level=Level.WARNING,  # the two may have agreed on it
        )
    elif exchange.answered.result_code == ResultCode.AVP_UNSUPPORTED and not exchange.answered.failed:
        yield Wrong("AVP_UNSUPPORTED without Failed-AVP", record)
