"""Rules about how a UE goes on: refreshing in time and inside the SAs, taking a refusal, leaving in good order."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from imslab.core.errors import PeerError
from imslab.rules.agreements import Accepted, gm_of, granted
from imslab.rules.clauses import Basis, Level, Wrong, on_registration, on_sip
from imslab.rules.reading import (
    contacts,
    credentials,
    cseq_number,
    is_emergency,
    leaves,
    order,
    param,
    place,
    quiet,
    shown,
    sides_in,
    what,
)
from imslab.sip.fields.security import same_list
from imslab.sip.message import Message
from imslab.sip.reginfo import parse_reginfo
from imslab.trace.model import Hop, Role, SipRecord
from imslab.trace.registration import Registration
from imslab.trace.trace import Trace, status_of

#: 24.229 5.1.1.4.1: a lifetime up to this is refreshed at half time, a longer one so many seconds before its end.
HALF_TIME_UP_TO = 1200
BEFORE_THE_END = 600
#: What a refresh may be late by, seconds: it is sent in time, and seen a little later.
LATE = 5.0
#: Who tries again sooner than that after a refusal has not waited at all, seconds.
AT_ONCE = 5.0
#: Who tries again sooner than that has no hand that asked for it, seconds.
NO_PAUSE = 0.5
#: How much clocks and captures may differ, seconds.
TOLERANCE = 0.5
#: Answers that may say when to come back (RFC 3261 20.33).
_COME_BACK = (404, 413, 480, 486, 500, 503, 504, 600, 603)


def latest_refresh(lifetime: int) -> float:
    """When a registration or subscription is to be refreshed at the latest, seconds after it was granted."""
    return lifetime - BEFORE_THE_END if lifetime > HALF_TIME_UP_TO else lifetime / 2


def _refreshes(record: SipRecord, trace: Trace) -> tuple[Accepted, SipRecord] | None:
    """The last 2xx that the UE had when it began a re-registration inside its SAs, and the REGISTER itself.

    None for anything else: a first REGISTER, one in clear, a farewell, the reaction to a challenge.
    """
    gm = gm_of(trace)
    if record.sender is not Role.UE or leaves(record.message) or not gm.starts(record):
        return None
    agreement = gm.agreement_of(record)
    if agreement is None or not agreement.stands(record) or gm.answers(record) is not None:
        return None
    before = gm.accepted_before(agreement, record)
    return (before[-1], record) if before else None


# ------------------------------------------------------------------------------------------------------------ in time


@on_sip("RER-01", "24.229 5.1.1.4.1", role=Role.UE, hop=Hop.GM, method="REGISTER", request=True)
def long_registrations_are_refreshed_in_time(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A registration for more than 1200 s is refreshed 600 s before it ends."""
    yield from _late(record, trace, long=True)


@on_sip("RER-02", "24.229 5.1.1.4.1", role=Role.UE, hop=Hop.GM, method="REGISTER", request=True)
def short_registrations_are_refreshed_in_time(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A registration for up to 1200 s is refreshed before half its time is over."""
    yield from _late(record, trace, long=False)


def _late(record: SipRecord, trace: Trace, *, long: bool) -> Iterator[Wrong]:
    found = _refreshes(record, trace)
    if found is None or trace.is_retransmission(record):
        return
    before = found[0]
    lifetime = granted(before.request.message, before.response.message)
    # a refresh that the capture has missed would have taken a number, or another Call-ID
    same_call = record.message.get("Call-ID") == before.request.message.get("Call-ID")
    last, number = cseq_number(before.request.message), cseq_number(record.message)
    if not lifetime or not same_call or last is None or number != last + 1 or (lifetime > HALF_TIME_UP_TO) is not long:
        return
    age, due = record.time - _last_told(before.response, record, trace).time, latest_refresh(lifetime)
    if age > due + LATE:
        text = f"refresh {age:.0f} s after {lifetime} s were granted: expected after {due:.0f} s at the latest"
        yield Wrong(text, record, before.response)


def _last_told(response: SipRecord, before: SipRecord, trace: Trace) -> SipRecord:
    """The last sending of a response before a record: a UE counts from the one that reached it."""
    told = (each for each in trace.transaction(response) if trace.original(each) is trace.original(response))
    return max((each for each in told if order(each) < order(before)), key=order, default=response)


@on_sip("EVT-05", "24.229 5.1.1.3", role=Role.UE, basis=Basis.SECOND_HAND, hop=Hop.GM, method="SUBSCRIBE", request=True)
def subscriptions_are_refreshed_in_time(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A reg-event subscription is refreshed 600 s before its end, or at half time up to 1200 s."""
    message = record.message
    if (
        record.sender is not Role.UE
        or message.to.tag is None
        or message.expires == 0
        or trace.is_retransmission(record)
    ):
        return
    event = message.event
    if event is None or event.package != "reg":
        return
    key = message.call_id, message.cseq.number - 1
    found = trace.derived(_subscriptions).get(key)
    if found is None:
        return
    response, lifetime = found
    age, due = record.time - _last_told(response, record, trace).time, latest_refresh(lifetime)
    if age > due + LATE:
        text = f"refresh {age:.0f} s after {lifetime} s were granted: expected after {due:.0f} s at the latest"
        yield Wrong(text, record, response)


def _subscriptions(trace: Trace) -> dict[tuple[str, int], tuple[SipRecord, int]]:
    """Answers that granted a subscription, with the seconds granted, by Call-ID and CSeq number."""
    found: dict[tuple[str, int], tuple[SipRecord, int]] = {}
    for record in trace.sip(method="SUBSCRIBE", request=False, hop=Hop.GM, receiver=Role.UE):
        message = record.message
        number, lifetime = cseq_number(message), _expires(message)
        if 200 <= (status_of(record) or 0) < 300 and number is not None and lifetime:
            found.setdefault((message.get("Call-ID") or "", number), (record, lifetime))
    return found


def _expires(message: Message) -> int | None:
    return quiet(lambda: message.expires)


# -------------------------------------------------------------------------------------------------- what a refresh has


@on_sip("RER-04", "24.229 5.1.1.4.2", role=Role.UE, hop=Hop.GM, method="REGISTER", request=True)
def refresh_offers_new_sas(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A refresh inside the SAs has a Security-Client with new SPIs."""
    found = _refreshes(record, trace)
    if found is None:
        return
    if not record.message.has("Security-Client"):
        yield Wrong("refresh without Security-Client", record)
        return
    before = found[0].agreement
    for side in sides_in(record.message, "Security-Client")[:1]:
        again = sorted({side.spi_c, side.spi_s} & {before.client.spi_c, before.client.spi_s} - {0})
        if again:
            used = ", ".join(str(each) for each in again)
            yield Wrong(f"Security-Client of a refresh uses SPI {used} again", record, before.challenge.request)


@on_sip("RER-05", "24.229 5.1.1.4.2", role=Role.UE, hop=Hop.GM, method="REGISTER", request=True)
def refresh_repeats_the_last_response(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A refresh has an Authorization with the nonce, response and realm of the last authentication."""
    found = _refreshes(record, trace)
    if found is None:
        return
    challenge = found[0].agreement.challenge
    if challenge.answer is None or _names_next_nonce(found[0].response):
        return
    last = credentials(challenge.answer.message)
    if not record.message.authorization:
        yield Wrong("refresh without Authorization", record, challenge.answer)
        return
    given = credentials(record.message)
    if given is None or last is None:
        return
    for name in ("realm", "nonce"):
        before, now = param(last, name), param(given, name)
        if before != now:
            text = f"{name} of a refresh is {shown(now or '')!r}, of the last authentication {shown(before or '')!r}"
            yield Wrong(text, record, challenge.answer)
            return
    if param(last, "response") != param(given, "response"):
        text = "response of a refresh is not that of the last authentication"
        yield Wrong(text, record, challenge.answer, level=Level.WARNING)


def _names_next_nonce(record: SipRecord) -> bool:
    """True when a 200 tells which nonce to use from now on, or when nobody can read what it tells."""
    if not record.message.has("Authentication-Info"):
        return False
    found = quiet(lambda: record.message.authentication_info)
    return found is None or found.has("nextnonce")


@on_sip("RER-06", "24.229 5.1.1.4.2", role=Role.UE, hop=Hop.GM, method="REGISTER", request=True)
def refresh_mirrors_the_last_agreement(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A refresh mirrors in Security-Verify the Security-Server of the last successful authentication."""
    found = _refreshes(record, trace)
    if found is None:
        return
    agreement = found[0].agreement
    if not record.message.has("Security-Verify"):
        yield Wrong("refresh without Security-Verify", record, agreement.challenge.response)
        return
    verify = [each for each in record.message.security_verify if each.is_ipsec_3gpp]
    if not same_list(verify, agreement.listed):
        text = "Security-Verify of a refresh differs from the last Security-Server"
        yield Wrong(text, record, agreement.challenge.response)


# ------------------------------------------------------------------------------------------------------------- leaving


@on_sip(
    "DER-01", "24.229 5.1.1.6.2", role=Role.UE, basis=Basis.SECOND_HAND, hop=Hop.GM, method="REGISTER", request=True
)
def farewell_is_protected(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A UE with SAs de-registers inside them, with the same Contact, Security-Client and Security-Verify."""
    gm = gm_of(trace)
    message = record.message
    registration = gm.registration(record)
    if record.sender is not Role.UE or not leaves(message) or registration is None or gm.answers(record) is not None:
        return
    if gm.is_clear(record):
        standing = gm.standing(record.src.host, record)
        if standing is not None and standing.challenge.registration.impu == registration.impu:
            yield Wrong(f"de-REGISTER {place(record)}, though SAs stand", record, standing.accepted or record)
        return
    agreement = gm.agreement_of(record)
    if agreement is None:
        return
    missing = [name for name in ("Security-Client", "Security-Verify") if not message.has(name)]
    if missing:
        yield Wrong(f"de-REGISTER lacks {', '.join(missing)}", record)
    before = gm.accepted_before(agreement, record)
    if not before or message.contact[0].is_star:
        return
    old = [each.uri.hostport for each in contacts(before[-1].request.message) if not each.is_star]
    now = message.contact[0].uri.hostport
    if old and now not in old:
        yield Wrong(f"de-REGISTER of Contact {shown(now)}, registered was {shown(old[0])}", record, before[-1].request)


@on_sip(
    "DER-02", "24.229 5.1.1.6.1", role=Role.UE, basis=Basis.SECOND_HAND, hop=Hop.GM, method="REGISTER", request=True
)
def calls_end_before_the_farewell(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A UE that de-registers has ended its calls: BYE comes before REGISTER."""
    gm = gm_of(trace)
    agreement = gm.agreement_of(record)
    if record.sender is not Role.UE or agreement is None or not leaves(record.message) or not gm.starts(record):
        return
    for call in trace.derived(_calls).get(record.src.host, ()):
        within = gm.agreement_of(call.answered)
        if within is None or within.key != agreement.key or not order(call.answered) < order(record):
            continue
        if call.ended is None or order(call.ended) > order(record):
            yield Wrong(f"de-REGISTER in a call that stands ({shown(call.name)})", record, call.answered)


@dataclass(slots=True, eq=False)
class _Call:
    """An INVITE of or to a UE that was answered 2xx. name: its Call-ID. ended: the first BYE."""

    name: str
    answered: SipRecord
    ended: SipRecord | None = None


def _calls(trace: Trace) -> dict[str, list[_Call]]:
    """Calls on Gm by the UE's address."""
    found: dict[tuple[str, str], _Call] = {}
    for record in trace.sip(method="INVITE", request=False, hop=Hop.GM):
        if 200 <= (status_of(record) or 0) < 300:
            host = record.dst.host if record.receiver is Role.UE else record.src.host
            call_id = record.message.get("Call-ID") or ""
            found.setdefault((host, call_id), _Call(call_id, record))
    for record in trace.sip(method="BYE", request=True, hop=Hop.GM):
        host = record.dst.host if record.receiver is Role.UE else record.src.host
        call = found.get((host, record.message.get("Call-ID") or ""))
        if call is not None and call.ended is None:
            call.ended = record
    calls: dict[str, list[_Call]] = {}
    for (host, _), call in found.items():
        calls.setdefault(host, []).append(call)
    return calls


@on_sip(
    "DER-17",
    "24.229 5.1.1.7",
    role=Role.UE,
    level=Level.WARNING,
    basis=Basis.SECOND_HAND,
    hop=Hop.GM,
    method="NOTIFY",
    request=True,
)
def rejection_is_final(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A UE whose registrations were all ended as "rejected" does not register again by itself."""
    if record.receiver is not Role.UE or not record.message.body or trace.is_retransmission(record):
        return
    info = quiet(lambda: parse_reginfo(record.message.body))
    ends = [each for one in info.registrations for each in one.contacts] if info is not None else []
    if not ends or any(each.state != "terminated" or each.event != "rejected" for each in ends):
        return
    row = trace.derived(_first_registers).get(record.dst.host, [])
    place_ = bisect_right(row, order(record), key=order)
    again = row[place_] if place_ < len(row) else None
    if again is not None and again.time - record.time < AT_ONCE and not is_emergency(again.message):
        yield Wrong(f"REGISTER {again.time - record.time:.3f} s after a NOTIFY with rejected", again, record)


def _first_registers(trace: Trace) -> dict[str, list[SipRecord]]:
    """The REGISTERs in clear with which UEs began, by address."""
    found: dict[str, list[SipRecord]] = {}
    for each in trace.registrations:
        first = each.requests[0]
        if first.hop is Hop.GM and gm_of(trace).is_clear(first):
            found.setdefault(first.src.host, []).append(first)
    for row in found.values():
        row.sort(key=order)
    return found


# ------------------------------------------------------------------------------------------------- taking a refusal


def _next(registration: Registration, trace: Trace) -> SipRecord | None:
    """The first REGISTER of the same identity from the same UE after a registration had ended."""
    first, final = registration.requests[0], registration.final
    if final is None or first.hop is not Hop.GM or final.hop is not Hop.GM or not registration.impu:
        return None
    row = trace.derived(_rows).get((first.src.host, registration.impu), [])
    place_ = bisect_right(row, order(final), key=order)
    found = row[place_] if place_ < len(row) else None
    if found is None or leaves(found.message) or is_emergency(found.message) is not is_emergency(first.message):
        return None
    return found


def _rows(trace: Trace) -> dict[tuple[str, str], list[SipRecord]]:
    """The first REGISTERs of all procedures by the UE's address and identity."""
    found: dict[tuple[str, str], list[SipRecord]] = {}
    for each in trace.registrations:
        for request in each.requests:
            found.setdefault((request.src.host, each.impu), []).append(request)
    for row in found.values():
        row.sort(key=order)
    return found


@on_registration("ERR-01", "24.229 5.1.1.2.1", role=Role.UE, level=Level.WARNING, basis=Basis.SECOND_HAND)
def refusal_is_taken(registration: Registration, trace: Trace) -> Iterator[Wrong]:
    """After a 403 the UE does not try again at once."""
    final = registration.final
    again = _next(registration, trace)
    if final is None or again is None or status_of(final) != 403 or again.dst.host != final.src.host:
        return
    if again.time - final.time < AT_ONCE and not _is_wanted_back(again, trace):
        yield Wrong(f"REGISTER again {again.time - final.time:.3f} s after a 403", again, final)


def _is_wanted_back(again: SipRecord, trace: Trace) -> bool:
    """True when a NOTIFY has just asked the UE to register anew (24.229 5.1.1.7)."""
    asked = trace.derived(_invitations).get(again.src.host, [])
    return any(order(each) < order(again) and again.time - each.time < AT_ONCE for each in asked)


def _invitations(trace: Trace) -> dict[str, list[SipRecord]]:
    """NOTIFYs that end a registration so that the UE comes back, by its address."""
    found: dict[str, list[SipRecord]] = {}
    for record in trace.sip(method="NOTIFY", request=True, hop=Hop.GM, receiver=Role.UE):
        if b'"deactivated"' in record.message.body or b'"probation"' in record.message.body:
            found.setdefault(record.dst.host, []).append(record)
    return found


@on_registration("ERR-13", "24.229 5.1.1.2.1; RFC 5626 4.5", role=Role.UE, level=Level.WARNING, basis=Basis.UNREAD)
def failure_is_waited_after(registration: Registration, trace: Trace) -> Iterator[Wrong]:
    """After a 408 or 5xx to a first registration the UE waits before it asks the same P-CSCF again."""
    gm = gm_of(trace)
    final, again = registration.final, _next(registration, trace)
    if final is None or again is None or again.dst.host != final.src.host or not gm.is_clear(again):
        return
    status = status_of(final) or 0
    if not (status == 408 or 500 <= status < 600) or not gm.is_clear(registration.requests[0]):
        return
    if again.time - final.time < NO_PAUSE and not final.message.has("Retry-After"):  # else ERR-09
        yield Wrong(f"REGISTER again {again.time - final.time:.3f} s after a {status}", again, final)


@on_registration("ERR-02", "RFC 3261 10.2.8", role=Role.UE)
def longer_interval_is_asked_for(registration: Registration, trace: Trace) -> Iterator[Wrong]:
    """After a 423 the UE asks for at least Min-Expires."""
    for final, again in zip(registration.finals, registration.requests[1:], strict=False):
        if final is None or status_of(final) != 423 or again.hop is not Hop.GM or leaves(again.message):
            continue
        least, asked = _min_expires(final), _asked_for(again)
        if least is not None and asked is not None and asked < least:
            yield Wrong(f"REGISTER asks for {asked} s after a 423 with Min-Expires {least}", again, final)


def _min_expires(record: SipRecord) -> int | None:
    return quiet(lambda: record.message.min_expires)


def _asked_for(record: SipRecord) -> int | None:
    """The lifetime that a REGISTER asks for, seconds."""
    found = contacts(record.message)
    own = quiet(lambda: found[0].expires) if found else None
    return own if own is not None else quiet(lambda: record.message.expires)


@on_registration("ERR-07", "RFC 3261 8.1.3.5", role=Role.UE)
def unsupported_options_are_dropped(registration: Registration, trace: Trace) -> Iterator[Wrong]:
    """After a 420 the UE does not require again what the network does not support."""
    final = registration.final
    again = _next(registration, trace)
    if final is None or again is None or status_of(final) != 420 or again.time - final.time > 60:
        return
    refused = {each.lower() for each in quiet(lambda: final.message.unsupported) or ()}
    required = [*(quiet(lambda: again.message.require) or ()), *(quiet(lambda: again.message.proxy_require) or ())]
    still = sorted({each for each in required if each.lower() in refused})
    if still:
        yield Wrong(f"REGISTER again requires {shown(', '.join(still))}, which a 420 refused", again, final)


@on_registration("ERR-09", "24.229 5.1.1.2.1", role=Role.UE, basis=Basis.UNREAD)
def retry_after_is_respected(registration: Registration, trace: Trace) -> Iterator[Wrong]:
    """A UE that was told when to come back does not ask the same P-CSCF sooner."""
    final = registration.final
    again = _next(registration, trace)
    if final is None or again is None or status_of(final) not in _COME_BACK or again.dst.host != final.src.host:
        return
    yield from _too_soon(again, final)


def _too_soon(again: SipRecord, final: SipRecord) -> Iterator[Wrong]:
    wait = quiet(lambda: final.message.retry_after)
    waited = again.time - final.time
    if wait is not None and waited < wait - TOLERANCE:
        yield Wrong(f"{what(again)} {waited:.1f} s after a {status_of(final)} with Retry-After {wait}", again, final)


@on_sip("ERR-10", "24.229 5.1.2.2", role=Role.UE, hop=Hop.GM, method="SUBSCRIBE", request=True)
def subscribers_respect_retry_after(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A UE that was told when to subscribe again does not do so sooner."""
    if record.sender is not Role.UE or trace.is_retransmission(record):
        return
    event = record.message.event
    key = record.src.host, record.message.from_.uri.aor, "" if event is None else event.package
    refusals = trace.derived(_refused_subscriptions).get(key, [])
    place_ = bisect_right(refusals, order(record), key=order)
    if place_:
        yield from _too_soon(record, refusals[place_ - 1])


def _refused_subscriptions(trace: Trace) -> dict[tuple[str, str, str], list[SipRecord]]:
    """Answers to SUBSCRIBE that say when to come back, by the UE's address, identity and event package."""
    found: dict[tuple[str, str, str], list[SipRecord]] = {}
    for record in trace.sip(method="SUBSCRIBE", request=False, hop=Hop.GM, receiver=Role.UE):
        request = trace.request_of(record)
        if status_of(record) not in _COME_BACK or request is None or not record.message.has("Retry-After"):
            continue
        try:
            event, uri = request.message.event, request.message.from_.uri
        except PeerError:
            continue
        found.setdefault((record.dst.host, uri.aor, "" if event is None else event.package), []).append(record)
    return found
