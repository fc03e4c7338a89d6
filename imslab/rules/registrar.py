"""Rules about the S-CSCF as registrar: what it tells the HSS, what a 200 says, and which refusal is the right one.

Where a rule needs Cx beside Mw, it speaks only when the trace has the exchange that belongs to the REGISTER.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from imslab.diameter.codes import CxResult, ReasonCode, ResultCode, ServerAssignmentType
from imslab.diameter.cx import LIR, MAR, RTR, SAR, UAR, RegistrationTerminationRequest
from imslab.rules.attempts import UNDER_WAY, Attempt, attempts_of, lifetime, tag_of
from imslab.rules.clauses import Basis, Level, Wrong, on_diameter, on_sip
from imslab.rules.exchanges import Exchange, aor_of_text, exchanges_of
from imslab.rules.reading import contacts, order, quiet, shown, what
from imslab.sip.fields.address import Contact
from imslab.sip.message import Message
from imslab.sip.uri import Uri
from imslab.trace.model import DiameterRecord, Hop, Role, SipRecord
from imslab.trace.trace import Trace, status_of

#: RFC 3261 10.3 item 7: only an interval below an hour may be too brief, seconds.
HOUR = 3600
#: Within how many seconds an SAR surely belongs to the 200 that it follows.
AT_ONCE = 2.0
#: How long an SAR may be awaited, seconds.
PATIENCE = 5.0

_SUCCESS = range(200, 300)
_REGISTERING = (ServerAssignmentType.REGISTRATION, ServerAssignmentType.RE_REGISTRATION)
_LEAVING = (ServerAssignmentType.USER_DEREGISTRATION, ServerAssignmentType.USER_DEREGISTRATION_STORE_SERVER_NAME)
_EXPIRED = (
    ServerAssignmentType.TIMEOUT_DEREGISTRATION,
    ServerAssignmentType.TIMEOUT_DEREGISTRATION_STORE_SERVER_NAME,
)
_BY_OPERATOR = ServerAssignmentType.ADMINISTRATIVE_DEREGISTRATION


def _accepted(record: SipRecord, trace: Trace) -> Attempt | None:
    """The attempt that a 2xx has registered."""
    attempt = attempts_of(trace).concluded(record)
    if attempt is None or not attempt.accepted or attempt.leaving or not contacts(attempt.request.message):
        return None
    return attempt


def requested(message: Message, contact: Contact) -> int | None:
    """The seconds that a REGISTER asks for a contact (RFC 3261 10.2.1.1); None where it leaves that open."""
    own = None if contact.is_star else quiet(lambda: contact.expires)
    return own if own is not None else quiet(lambda: message.expires)


# --- towards the HSS -------------------------------------------------------------------------------------------------


def told_before(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """What is wrong where a 200 leaves before the HSS was told of a first registration (29.228 6.1.2)."""
    attempt = _accepted(record, trace)
    if attempt is None:
        return
    exchanges = exchanges_of(trace)
    user = attempt.impi or attempt.impu
    told = exchanges.during(SAR, user, attempt.request, record)
    for each in told:
        if each.answer is None or order(each.answer) < order(record):
            return
        yield Wrong(f"{status_of(record)} leaves before the SAA", record, each.request)
        return
    late = exchanges.following(SAR, user, record, AT_ONCE)
    other = late is not None and attempts_of(trace).pending(user, late.request)
    if late is not None and late.sar is not None and late.sar.assignment_type in _REGISTERING and not other:
        yield Wrong(f"{status_of(record)} leaves before the SAR", record, late.request)
        return
    # the HSS has said that nobody serves this user, and the S-CSCF has asked it for the vector since
    first = next((each for each in exchanges.before(UAR, attempt.impu, record) if _is_first(each)), None)
    vector = exchanges.last(MAR, user, record)
    if first is None or first.answer is None or vector is None or order(vector.request) < order(first.request):
        return
    if record.time - first.request.time > UNDER_WAY or exchanges.during(SAR, user, first.answer, record):
        return
    if not exchanges.lost(SAR, first.answer, record):
        text = f"{status_of(record)} to a first registration without an SAR"
        yield Wrong(text, record, first.answer, level=Level.WARNING)


def _is_first(exchange: Exchange) -> bool:
    return exchange.uaa is not None and exchange.uaa.experimental == CxResult.FIRST_REGISTRATION


@on_diameter("RER-08", "29.228 6.1.2; 29.229 6.3.15", role=Role.SCSCF, name="SAR")
def reregistration_is_told_as_one(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """The SAR for a user who is registered here, and comes protected, is RE_REGISTRATION."""
    exchanges = exchanges_of(trace)
    exchange = exchanges.of(record)
    sar = None if exchange is None else exchange.sar
    if exchange is None or sar is None or sar.assignment_type is not ServerAssignmentType.REGISTRATION:
        return
    attempts = attempts_of(trace)
    pending = attempts.pending(exchange.impi, record)
    if len(pending) != 1 or pending[0].flags != ["yes"] or pending[0].impu not in exchange.impus:
        return
    before = next((each for each in exchanges.past(exchange, pending[0].impu) if each.command in (SAR, RTR)), None)
    if before is None or before.sar is None or not before.succeeded:
        return
    if before.sar.assignment_type not in _REGISTERING or before.sar.server_name != sar.server_name:
        return
    last = next((each for each in attempts.before(pending[0].impu, pending[0].request) if each.accepted), None)
    if last is None or last.leaving or last.final is None:
        return
    if record.time < last.final.time + (lifetime(last.final.message) or 0):
        yield Wrong(
            "SAR with REGISTRATION for a user who is registered: expected RE_REGISTRATION", record, before.request
        )


@on_sip(
    "DER-04",
    "29.228 6.1.2.1; 29.229 6.3.15; 24.229 5.4.1.4 (unconfirmed)",
    role=Role.SCSCF,
    hop=Hop.MW,
    method="REGISTER",
    status=_SUCCESS,
)
def deregistration_is_told(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A de-registration by the user is told as USER_DEREGISTRATION, with or without STORE_SERVER_NAME."""
    attempt = attempts_of(trace).concluded(record)
    if attempt is None or not attempt.leaving or not attempt.accepted:
        return
    stays = bool(lifetime(record.message))  # another contact
    exchanges = exchanges_of(trace)
    user = attempt.impi or attempt.impu
    told = exchanges.during(SAR, user, attempt.request, record)
    late = exchanges.following(SAR, user, record, AT_ONCE)
    if late is not None and not attempts_of(trace).pending(user, late.request):
        told = [*told, late]
    for each in told:
        kind = None if each.sar is None or attempt.impu not in each.impus else each.sar.assignment_type
        if kind is None or kind in _LEAVING or (stays and kind in _REGISTERING):
            continue
        yield Wrong(
            f"SAR with {kind.name} for a de-registration by the user: expected USER_DEREGISTRATION",
            each.request,
            attempt.request,
        )
    if not told and not stays and _is_unsaid(attempt, record, trace):
        text = f"{status_of(record)} to a de-registration, and no SAR follows"
        yield Wrong(text, record, attempt.request, level=Level.WARNING)


def _is_unsaid(attempt: Attempt, record: SipRecord, trace: Trace) -> bool:
    """True when there is no SAR about an attempt, though the trace shows the Cx of its S-CSCF, then and later."""
    exchanges = exchanges_of(trace)
    user = attempt.impi or attempt.impu
    if not exchanges.touched(MAR, user) and not exchanges.touched(SAR, user):
        return False
    if exchanges.during(SAR, user, attempt.request, record) or exchanges.following(SAR, user, record, PATIENCE):
        return False
    last = trace.records[-1]
    return last.time - record.time > PATIENCE and not exchanges.lost(SAR, attempt.request, last)


@on_sip(
    "AKS-15",
    "29.228 6.1.2.1; 33.203 6.1.2.2",
    role=Role.SCSCF,
    level=Level.WARNING,
    hop=Hop.MW,
    method="REGISTER",
    status=403,
)
def failure_is_told(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """When the authentication of a user who is not registered has failed, the HSS is told (AUTHENTICATION_FAILURE)."""
    attempt = attempts_of(trace).concluded(record)
    first = None if attempt is None else attempts_of(trace).answered_by(attempt)
    if attempt is None or first is None:
        return
    exchanges = exchanges_of(trace)
    free = next((each for each in exchanges.before(UAR, attempt.impu, first.request)[:1] if _is_first(each)), None)
    free = free or next((each for each in exchanges.during(UAR, attempt.impu, first.request, record)), None)
    if exchanges.last_asked(MAR, attempt.impi, record) is None or free is None or not _is_first(free):
        return
    if _is_unsaid(attempt, record, trace):
        yield Wrong("403 to a failed authentication, and no SAR follows", record, attempt.request)


@on_diameter("AKS-16", "33.203 6.1.1; 24.229 5.4.1.2.3A (unconfirmed)", role=Role.SCSCF, name="SAR")
def failure_ends_no_registration(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """A failed authentication does not de-register a user who is registered."""
    exchange = exchanges_of(trace).of(record)
    sar = None if exchange is None else exchange.sar
    if exchange is None or sar is None or sar.assignment_type not in (*_LEAVING, *_EXPIRED, _BY_OPERATOR):
        return
    recent = attempts_of(trace).before(exchange.impi, record)
    attempt = recent[0] if recent else None
    if attempt is None or attempt.leaving or attempt.status != 403 or attempt.final is None or not attempt.nonce:
        return
    if record.time - attempt.final.time < AT_ONCE and attempts_of(trace).answered_by(attempt) is not None:
        yield Wrong(
            f"SAR with {sar.assignment_type.name} after a failed authentication: the registration stays",
            record,
            attempt.final,
        )


@on_diameter("DER-09", "29.229 6.3.15; 29.228 6.1.2.1", role=Role.SCSCF, level=Level.WARNING, name="SAR")
def expiry_is_told_when_it_comes(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """TIMEOUT_DEREGISTRATION is told when the registration has run out, not before."""
    exchange = exchanges_of(trace).of(record)
    sar = None if exchange is None else exchange.sar
    if exchange is None or sar is None or sar.assignment_type not in _EXPIRED or not exchange.impus:
        return
    attempts = attempts_of(trace).before(exchange.impus[0], record)
    last = next((each for each in attempts if each.accepted), None)
    if last is None or last.leaving or last.final is None:
        return
    granted = lifetime(last.final.message)
    left = None if granted is None else last.final.time + granted - record.time
    if left is None or left <= AT_ONCE or _shortened(trace, last.final, record):
        return
    yield Wrong(
        f"SAR with {sar.assignment_type.name} {left:.0f} s before the registration runs out", record, last.final
    )


def _shortened(trace: Trace, start: SipRecord, end: DiameterRecord) -> bool:
    """True when a reg-event document said "shortened" in between."""
    times = trace.derived(_shortenings)
    place = bisect_left(times, start.time)
    return place < len(times) and times[place] <= end.time


def _shortenings(trace: Trace) -> list[float]:
    """When reg-event documents said "shortened"."""
    return [
        record.time
        for record in trace.sip(method="NOTIFY", request=True, sender=Role.SCSCF)
        if b"shortened" in record.message.body
    ]


# --- the 200 ---------------------------------------------------------------------------------------------------------


@on_sip(
    "OKR-01",
    "RFC 3261 10.3; 24.229 5.4.1.2.2F (unconfirmed)",
    role=Role.SCSCF,
    hop=Hop.MW,
    method="REGISTER",
    status=_SUCCESS,
)
def bindings_are_listed(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The 200 lists the contact that was registered, and for how long."""
    attempt = _accepted(record, trace)
    if attempt is None:
        return
    asked = attempt.request.message
    listed = record.message.contact
    for each in contacts(asked):
        if each.is_star or requested(asked, each) == 0:
            continue
        found = next((one for one in listed if one.uri == each.uri), None)
        if found is None:
            told = f"lists {shown(str(listed[0].uri))}" if listed else "has no Contact"
            yield Wrong(f"200 {told}: expected {shown(str(each.uri))}", record, attempt.request)
        elif found.expires is None and record.message.expires is None:
            yield Wrong(f"200 does not say for how long {shown(str(each.uri))} is registered", record)


@on_sip("ERR-05", "RFC 3261 10.3", role=Role.SCSCF, level=Level.WARNING, hop=Hop.MW, method="REGISTER", status=_SUCCESS)
def lifetime_is_not_raised(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The registrar may shorten the time that was asked for, not raise it."""
    attempt = _accepted(record, trace)
    if attempt is None:
        return
    asked = attempt.request.message
    for each in contacts(asked):
        wanted = None if each.is_star else requested(asked, each)
        found = next((one for one in record.message.contact if one.uri == each.uri), None)
        granted = None if found is None else found.expires
        if wanted and granted is not None and granted > wanted:
            yield Wrong(f"{granted} s granted: {wanted} s were asked for", record, attempt.request)


@on_sip(
    "OKR-02",
    "24.229 5.4.1.2.2F; RFC 3327 5.3",
    role=Role.SCSCF,
    basis=Basis.SECOND_HAND,
    hop=Hop.MW,
    method="REGISTER",
    status=_SUCCESS,
)
def path_is_returned(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The 200 has the Path of the REGISTER."""
    attempt = _accepted(record, trace)
    had = [] if attempt is None else [str(each.uri) for each in quiet(lambda: attempt.request.message.path) or ()]
    if attempt is None or not had:
        return
    has = [str(each.uri) for each in record.message.path]
    if has != had:
        told = f"has Path {shown(', '.join(has))}" if has else "has no Path"
        yield Wrong(f"200 {told}: expected {shown(', '.join(had))}", record, attempt.request)


@on_sip(
    "OKR-03",
    "24.229 5.4.1.2.2F; RFC 3608",
    role=Role.SCSCF,
    basis=Basis.SECOND_HAND,
    hop=Hop.MW,
    method="REGISTER",
    status=_SUCCESS,
)
def service_route_is_given(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The 200 has a Service-Route, with lr in each of its URIs."""
    attempt = _accepted(record, trace)
    if attempt is None:
        return
    routes = record.message.service_route
    if not routes:
        yield Wrong("200 has no Service-Route", record)
    for each in routes:
        if "lr" not in each.uri.params:
            yield Wrong(f"Service-Route <{shown(str(each.uri))}> has no lr", record)


def _profile(record: SipRecord, attempt: Attempt, trace: Trace) -> Exchange | None:
    """The exchange that brought the user data that a 200 was made from."""
    exchange = exchanges_of(trace).profile_before(attempt.impu, record)
    if exchange is None or (exchange.impi and attempt.impi and exchange.impi != attempt.impi):
        return None
    return exchange


@on_sip(
    "OKR-04",
    "29.228 6.5.1.1; 24.229 5.4.1.2.2F (unconfirmed)",
    role=Role.SCSCF,
    hop=Hop.MW,
    method="REGISTER",
    status=_SUCCESS,
)
def identities_are_those_of_the_profile(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """P-Associated-URI lists the identities of the user data that are distinct and not barred, the default first."""
    attempt = _accepted(record, trace)
    exchange = None if attempt is None else _profile(record, attempt, trace)
    if exchange is None or exchange.answer is None:
        return
    profile = exchanges_of(trace).profile(exchange)
    assert profile is not None
    allowed = [aor_of_text(each.uri) for each in profile.identities if each.is_distinct and not each.barred]
    others = {aor_of_text(each.uri): each for each in profile.identities}
    listed = [each.uri.aor for each in record.message.p_associated_uri]
    for each in listed:
        if each not in allowed and each in others:
            why = "barred" if others[each].barred else "a wildcard"
            yield Wrong(f"P-Associated-URI lists {shown(each)}, which is {why}", record, exchange.answer)
    missing = [each for each in allowed if each not in listed]
    if missing:
        yield Wrong(f"P-Associated-URI lacks {shown(', '.join(missing))}", record, exchange.answer)
    elif allowed and listed[0] != allowed[0]:
        yield Wrong(
            f"P-Associated-URI begins with {shown(listed[0])}: expected the default identity {shown(allowed[0])}",
            record,
            exchange.answer,
        )


@on_sip(
    "OKR-05",
    "RFC 7315 5.1; RFC 3966 3",
    role=Role.SCSCF,
    level=Level.WARNING,
    basis=Basis.UNREAD,
    hop=Hop.MW,
    method="REGISTER",
    status=_SUCCESS,
)
def identities_are_well_formed(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """P-Associated-URI has its URIs in angle brackets; a tel URI is a global number, or has a phone-context."""
    attempt = _accepted(record, trace)
    if attempt is None:
        return
    for text in record.message.values("P-Associated-URI"):
        if "<" not in text:
            yield Wrong(f"P-Associated-URI {shown(text)} without angle brackets", record)
    for each in record.message.p_associated_uri:
        if _is_bare_local_number(each.uri):
            exchange = _profile(record, attempt, trace)
            named = exchange is not None and str(each.uri) in _identities(exchange, trace)
            text = f"{shown(str(each.uri))} is a local number without phone-context"
            if named and exchange is not None and exchange.answer is not None:
                yield Wrong(f"{text}: so it stands in the user data", exchange.answer, record, role=Role.HSS)
            else:
                yield Wrong(text, record)


def _is_bare_local_number(uri: Uri) -> bool:
    return uri.scheme == "tel" and not uri.user.startswith("+") and "phone-context" not in uri.params


def _identities(exchange: Exchange, trace: Trace) -> list[str]:
    profile = exchanges_of(trace).profile(exchange)
    return [] if profile is None else [each.uri for each in profile.identities]


@on_sip("OKR-07", "24.229 5.4.3.3; RFC 3327 5.3", role=Role.SCSCF, basis=Basis.SECOND_HAND, request=True)
def requests_follow_the_path(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A request to the contact of a user goes along the Path of its REGISTER."""
    message = record.message
    if record.sender is not Role.SCSCF or trace.is_retransmission(record) or tag_of(message, "To"):
        return
    bound = trace.derived(_bound).get(str(message.request_uri), [])  # type: ignore[attr-defined]
    last = next((each for each in reversed(bound[-16:]) if order(_final(each)) < order(record)), None)
    if last is None or record.time > _final(last).time + (lifetime(_final(last).message) or 0):
        return
    path = [str(each.uri) for each in quiet(lambda: last.request.message.path) or ()]
    routes = [str(each.uri) for each in message.route]
    if path and routes[: len(path)] != path:
        told = f"with Route {shown(', '.join(routes))}" if routes else "without Route"
        yield Wrong(
            f"{what(record)} goes to the contact {told}: expected {shown(', '.join(path))}", record, last.request
        )


def _final(attempt: Attempt) -> SipRecord:
    assert attempt.final is not None
    return attempt.final


def _bound(trace: Trace) -> dict[str, list[Attempt]]:
    """The accepted attempts by the contacts that they registered."""
    found: dict[str, list[Attempt]] = {}
    for attempt in attempts_of(trace).all:
        if attempt.accepted and not attempt.leaving:
            for each in contacts(attempt.request.message):
                found.setdefault(str(each.uri), []).append(attempt)
    return found


# --- refusals --------------------------------------------------------------------------------------------------------


@on_sip("ERR-04", "RFC 3261 10.3, 21.4.17", role=Role.SCSCF, hop=Hop.MW, method="REGISTER", status=423)
def too_brief_is_explained(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """423 is for an interval above zero, below an hour and below the minimum that Min-Expires tells."""
    attempt = attempts_of(trace).concluded(record)
    if attempt is None:
        return
    least = record.message.min_expires
    if least is None:
        yield Wrong("423 without Min-Expires", record)
    asked = attempt.request.message
    wanted = [seconds for each in contacts(asked) if (seconds := requested(asked, each)) is not None]
    if wanted and all(seconds == 0 or seconds >= HOUR for seconds in wanted):
        yield Wrong(f"423 to {wanted[0]} s: only less than {HOUR} s and more than 0 can be too brief", record)
    elif wanted and least is not None and min(wanted) >= least:
        yield Wrong(f"423 with Min-Expires {least}: {min(wanted)} s were asked for", record, attempt.request)


@on_sip("ERR-06", "RFC 3261 8.2.2.3", role=Role.SCSCF, hop=Hop.MW, method="REGISTER", status=420)
def unsupported_is_named(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """420 names in Unsupported the option tags that it is about, and these were required."""
    attempt = attempts_of(trace).concluded(record)
    if attempt is None:
        return
    named = [each.lower() for each in record.message.unsupported]
    if not named:
        yield Wrong("420 without Unsupported", record)
    required = [each.lower() for name in ("Require", "Proxy-Require") for each in attempt.request.message.values(name)]
    stray = [each for each in named if each not in required]
    if stray:
        yield Wrong(f"420 with Unsupported: {shown(', '.join(stray))}, which nobody required", record, attempt.request)


#: What an HSS says (experimental?, code) → the rule, and which statuses tell the UE so. Base 3xxx is below.
_REFUSALS: dict[tuple[bool, int], tuple[str, tuple[int, ...]]] = {
    (True, CxResult.USER_UNKNOWN): ("ERR-16", (403, 404)),
    (True, CxResult.IDENTITIES_DONT_MATCH): ("ERR-17", (403,)),
    (False, ResultCode.UNABLE_TO_COMPLY): ("ERR-19", tuple(range(500, 600))),
}
_TROUBLE = ("ERR-19", tuple(range(500, 600)))
#: Who asks which question.
_ASKERS = {UAR: Role.ICSCF, LIR: Role.ICSCF, MAR: Role.SCSCF, SAR: Role.SCSCF}


def _refused(record: SipRecord, trace: Trace, rule: str) -> Iterator[Wrong]:
    status = status_of(record)
    attempt = attempts_of(trace).concluded(record)
    if attempt is None or status is None or status < 200 or not attempt.impu:
        return
    exchanges = exchanges_of(trace)
    for command in (UAR, MAR, SAR):
        asked = exchanges.during(command, attempt.impu, attempt.request, record)
        if command == UAR and not asked:
            asked = exchanges.during(command, attempt.impu, trace.relayed_from(attempt.request) or record, record)
        if len(asked) != 1 or asked[0].answered is None or asked[0].answer is None or asked[0].succeeded:
            continue
        if len(attempts_of(trace).pending(attempt.impu, asked[0].answer)) != 1:
            continue  # it may be about another one
        answered = asked[0].answered
        code = answered.result_code if answered.experimental is None else answered.experimental
        known = _REFUSALS.get((answered.experimental is not None, code or 0))
        if known is None and answered.experimental is None and code is not None and 3000 <= code < 4000:
            known = _TROUBLE
        if known is not None and known[0] == rule and status not in known[1]:
            kind = "experimental " if answered.experimental is not None else ""
            expected = " or ".join(map(str, known[1])) if len(known[1]) < 9 else "5xx"
            yield Wrong(
                f"{status} to REGISTER: the HSS said {kind}{code}, expected {expected}",
                record,
                asked[0].answer,
                role=_ASKERS[command],
            )
            return


@on_sip(
    "ERR-16",
    "24.229 5.4.1.2.1",
    role=Role.SCSCF,
    basis=Basis.UNREAD,
    hop=Hop.MW,
    method="REGISTER",
    request=False,
)
def unknown_user_is_forbidden(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """Where the HSS says USER_UNKNOWN, the REGISTER gets 403 (or 404)."""
    yield from _refused(record, trace, "ERR-16")


@on_sip(
    "ERR-17",
    "24.229 5.4.1.2.1",
    role=Role.SCSCF,
    basis=Basis.UNREAD,
    hop=Hop.MW,
    method="REGISTER",
    request=False,
)
def foreign_identity_is_forbidden(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """Where the HSS says IDENTITIES_DONT_MATCH, the REGISTER gets 403."""
    yield from _refused(record, trace, "ERR-17")


@on_sip(
    "ERR-19",
    "29.228 8; 24.229 5.4.1.2.1",
    role=Role.SCSCF,
    basis=Basis.UNREAD,
    hop=Hop.MW,
    method="REGISTER",
    request=False,
)
def trouble_of_the_hss_is_not_the_users(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """Where the HSS cannot answer, the REGISTER gets 5xx, and not a refusal."""
    yield from _refused(record, trace, "ERR-19")


@on_sip("RER-14", "RFC 3261 10.3", role=Role.SCSCF, hop=Hop.MW, method="REGISTER", status=_SUCCESS)
def old_register_changes_nothing(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """Under one Call-ID, a REGISTER with a lower CSeq than the binding's is refused."""
    attempt = _accepted(record, trace)
    if attempt is None or attempt.cseq is None:
        return
    for each in attempts_of(trace).before(attempt.impu, attempt.request):
        if not each.accepted or each.final is None or order(each.final) > order(attempt.request):
            continue
        if each.leaving:
            return
        lives = attempt.request.time < each.final.time + (lifetime(each.final.message) or 0)
        if each.call_id == attempt.call_id and each.cseq is not None and each.cseq > attempt.cseq and lives:
            yield Wrong(
                f"{status_of(record)} to CSeq {attempt.cseq}: the binding had {each.cseq} already",
                record,
                attempt.request,
                each.request,
            )
            return


@on_sip(
    "DER-15",
    "24.229 5.4.1.2.3A",
    role=Role.SCSCF,
    basis=Basis.SECOND_HAND,
    hop=Hop.MW,
    method="REGISTER",
    status=_SUCCESS,
)
def terminated_user_is_challenged(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """After an RTR, what was authenticated before it is worth nothing: the next REGISTER gets 401, 403 or 500."""
    attempt = _accepted(record, trace)
    if attempt is None or not attempt.nonce:
        return
    rtr = exchanges_of(trace).last(RTR, attempt.impi, attempt.request)
    asked = None if rtr is None else rtr.asked
    if rtr is None or not isinstance(asked, RegistrationTerminationRequest) or asked.reason is None:
        return
    if asked.reason.code is ReasonCode.NEW_SERVER_ASSIGNED or (rtr.impus and attempt.impu not in rtr.impus):
        return
    if attempts_of(trace).accepted_before(attempt.nonce, rtr.request) is not None:
        yield Wrong(
            f"{status_of(record)} to a REGISTER with the credentials from before the RTR: expected a challenge",
            record,
            attempt.request,
            rtr.request,
        )
