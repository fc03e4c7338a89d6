"""Rules about what a registered UE does: its routes, identities, and reg-event subscription (24.229 5.1.2A, 5.1.1.3).

They hold for requests inside SAs that the trace shows from their agreement on.
"""

from __future__ import annotations

from collections.abc import Iterator

from imslab.rules.agreements import Accepted, Agreement, gm_of
from imslab.rules.clauses import Basis, Level, Wrong, on_registration, on_sip
from imslab.rules.reading import host_is, is_emergency, order, quiet, shown, uri_port, what
from imslab.sip.fields.address import NameAddr
from imslab.sip.message import Message
from imslab.sip.uri import Uri
from imslab.trace.model import Hop, Role, SipRecord
from imslab.trace.registration import Registration
from imslab.trace.trace import Trace, status_of

#: 24.229 5.1.1.3: how long a reg-event subscription is asked for, seconds.
SUBSCRIPTION = 600_000
#: Who has not subscribed after so many seconds, does not: timer F, and then some.
PROMPTLY = 60.0
#: For how long a request to the UE is repeated: 64*T1 of 24.229 7.7, seconds.
LATE = 128.0
#: How many registrations back an outdated Service-Route is recognised.
_REMEMBERED = 8


def _out_of_dialog(record: SipRecord, trace: Trace) -> tuple[Agreement, list[Accepted]] | None:
    """The agreement that carries a request of a UE outside any dialog, and the 2xx that the UE had by then."""
    message = record.message
    if record.sender is not Role.UE or message.method in ("REGISTER", "ACK", "CANCEL") or message.to.tag is not None:
        return None
    agreement = gm_of(trace).agreement_of(record)
    if agreement is None or is_emergency(message):
        return None
    # what is sent again says what was right when it was sent first
    return agreement, gm_of(trace).accepted_before(agreement, trace.original(record))


def _uris(addresses: list[NameAddr]) -> list[Uri]:
    return [each.uri for each in addresses]


def _service_route(accepted: Accepted) -> list[Uri] | None:
    """The Service-Route of a 200; None where it has none or cannot be read."""
    message = accepted.response.message
    return _uris(quiet(lambda: message.service_route) or []) or None


def _told(uris: list[Uri]) -> str:
    return shown(", ".join(f"<{each}>" for each in uris)) or "none"


# -------------------------------------------------------------------------------------------------------------- routes


@on_sip("PRT-07", "24.229 5.1.2A.1.1", role=Role.UE, hop=Hop.GM, request=True)
def first_route_is_the_pcscf(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The first Route of a request outside a dialog is the P-CSCF with port_ps."""
    found = _out_of_dialog(record, trace)
    if found is None:
        return
    agreement, routes = found[0], _uris(record.message.route)
    port = agreement.server.port_s
    expected = f"expected the P-CSCF {agreement.pcscf} with port_ps {port}"
    if not routes:
        yield Wrong(f"{what(record)} has no Route; {expected}", record)
    elif host_is(routes[0].host, agreement.pcscf) is False or uri_port(routes[0]) != port:
        yield Wrong(f"{what(record)}: the first Route is {_told(routes[:1])}; {expected}", record)


@on_sip("OKR-09", "24.229 5.1.2A.1.1", role=Role.UE, hop=Hop.GM, request=True)
def service_route_is_followed(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """After the P-CSCF, the Routes of a request outside a dialog are those of Service-Route, in their order."""
    yield from _service_route_missed(record, trace, outdated=False)


@on_sip("OKR-10", "24.229 5.1.1.4.1", role=Role.UE, hop=Hop.GM, request=True)
def newest_service_route_counts(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The Service-Route of a refresh replaces the one before."""
    yield from _service_route_missed(record, trace, outdated=True)


def _service_route_missed(record: SipRecord, trace: Trace, *, outdated: bool) -> Iterator[Wrong]:
    found = _out_of_dialog(record, trace)
    if found is None or not found[1]:
        return
    newest = found[1][-1]
    expected, written = _service_route(newest), _uris(record.message.route)
    routes = written[1:]
    if expected is None or expected in (routes, written):  # the P-CSCF that is missing is PRT-07's affair
        return
    old = next((each for each in reversed(found[1][-_REMEMBERED:-1]) if _service_route(each) == routes), None)
    if (old is not None) is not outdated:
        return
    text = f"{what(record)}: Route behind the P-CSCF is {_told(routes)}; Service-Route was {_told(expected)}"
    yield Wrong(text, record, newest.response)


# ---------------------------------------------------------------------------------------------------------- identities


@on_sip("OKR-13", "24.229 5.1.2A.1.1", role=Role.UE, hop=Hop.GM, request=True)
def preferred_identity_is_registered(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """P-Preferred-Identity is one of the identities that P-Associated-URI listed: others are barred."""
    if not record.message.has("P-Preferred-Identity"):
        return
    found = _out_of_dialog(record, trace)
    known = _identities(found[1]) if found is not None else None
    if found is None or known is None:
        return
    strange = [each.uri for each in record.message.p_preferred_identity if each.uri.aor not in known]
    if strange:
        text = f"{what(record)}: P-Preferred-Identity {_told(strange)} is not in P-Associated-URI"
        yield Wrong(text, record, found[1][-1].response)


def _identities(accepted: list[Accepted]) -> set[str] | None:
    """The addresses-of-record that the last 200 listed; None where it lists none, or wildcards."""
    message = accepted[-1].response.message if accepted else None
    listed = _listed(message) if message is not None else []
    if not listed or any("!" in str(each) for each in listed):
        return None
    return {each.aor for each in listed}


def _listed(message: Message) -> list[Uri]:
    return _uris(quiet(lambda: message.p_associated_uri) or [])


@on_sip("OKR-17", "24.229 5.2.2.2, 5.2.6", role=Role.PCSCF, basis=Basis.UNREAD, hop=Hop.GM)
def charging_stays_in_the_core(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The P-CSCF takes the charging headers out of what it sends to the UE."""
    names = ("P-Charging-Vector", "P-Charging-Function-Addresses")
    left = [name for name in names if record.message.has(name)]
    if record.receiver is Role.UE and left:
        yield Wrong(f"{what(record)} to the UE has {' and '.join(left)}", record)


# ----------------------------------------------------------------------------------------------------------- reg event


def _subscribes(record: SipRecord, trace: Trace) -> tuple[Agreement, list[Accepted]] | None:
    """As `_out_of_dialog`, for the first SUBSCRIBE to one's own registration state."""
    if record.message.method != "SUBSCRIBE" or record.message.expires == 0:
        return None
    event = record.message.event
    return _out_of_dialog(record, trace) if event is not None and event.package == "reg" else None


@on_sip("EVT-01", "24.229 5.1.1.3", role=Role.UE, hop=Hop.GM, method="SUBSCRIBE", request=True)
def subscription_is_for_oneself(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """SUBSCRIBE for reg names one's own identity in Request-URI, From and To, and asks for 600000 s."""
    if _subscribes(record, trace) is None:
        return
    message = record.message
    target = message.request_uri  # type: ignore[attr-defined]
    if not target.aor == message.from_.uri.aor == message.to.uri.aor:
        uris = [target, message.from_.uri, message.to.uri]
        yield Wrong(f"SUBSCRIBE: Request-URI, From and To differ: {_told(uris)}", record)
    if message.expires != SUBSCRIPTION:
        told = "no Expires" if message.expires is None else f"Expires {message.expires}"
        yield Wrong(f"SUBSCRIBE has {told}: expected {SUBSCRIPTION}", record)


@on_registration("GM-04", "24.229 5.1.1.3", role=Role.UE, level=Level.WARNING)
def registration_is_followed_by_subscription(registration: Registration, trace: Trace) -> Iterator[Wrong]:
    """A UE that has registered subscribes to its reg-event package."""
    gm = gm_of(trace)
    final, last = registration.final, registration.requests[-1]
    found = gm.answers(last)
    agreement = None if found is None else found.agreement
    if final is None or agreement is None or agreement.accepted is not final or is_emergency(last.message):
        return
    # who re-registers has subscribed before; and what cannot be opened may be the SUBSCRIBE
    if gm.is_clear(final) or not gm.is_initial(registration.requests[0]):
        return
    # nor is there any telling whether a UE that says no more has got its 200
    if agreement.ue in trace.derived(_closed_hosts) or trace.derived(_last_words).get(agreement.ue, (0.0, 0)) < order(
        final
    ):
        return
    if min(agreement.ends, trace.records[-1].time) - final.time < PROMPTLY:
        return
    if order(final) > trace.derived(_last_subscriptions).get(agreement.ue, (0.0, 0)):
        yield Wrong(f"no SUBSCRIBE for reg within {PROMPTLY:.0f} s of the 200", final)


def _last_words(trace: Trace) -> dict[str, tuple[float, int]]:
    """When each UE said something new on Gm last."""
    said = trace.sip(hop=Hop.GM, sender=Role.UE)
    return {record.src.host: order(record) for record in said if not trace.is_retransmission(record)}


def _closed_hosts(trace: Trace) -> set[str]:
    """Hosts that sent ESP packets which nobody could open."""
    return {record.src for record in trace.esp_records if record.next_header is None}


def _last_subscriptions(trace: Trace) -> dict[str, tuple[float, int]]:
    """When each host last sent a SUBSCRIBE for reg on Gm."""
    return {
        record.src.host: order(record)
        for record in trace.sip(method="SUBSCRIBE", request=True, hop=Hop.GM, sender=Role.UE)
        if (record.message.get("Event") or "").partition(";")[0].strip() == "reg"
    }


@on_sip("EVT-03", "24.229 5.1.1.3", role=Role.UE, hop=Hop.GM, method="SUBSCRIBE", request=True)
def barred_identity_does_not_subscribe(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """SUBSCRIBE for reg names an identity that P-Associated-URI listed: any other is barred."""
    found = _subscribes(record, trace)
    known = _identities(found[1]) if found is not None else None
    if found is None or known is None:
        return
    target = record.message.request_uri  # type: ignore[attr-defined]
    if target.aor not in known:
        text = f"SUBSCRIBE to {_told([target])}, which is not in P-Associated-URI"
        yield Wrong(text, record, found[1][-1].response)


@on_sip("EVT-04", "24.229 5.1.2.1", role=Role.UE, hop=Hop.GM, method="NOTIFY", status=range(300, 700))
def notifications_are_taken(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The UE answers 200 to a NOTIFY of its own subscription."""
    request = trace.request_of(record)
    # a UE that has left may have forgotten its subscription too
    if record.sender is not Role.UE or request is None or gm_of(trace).standing(record.src.host, record) is None:
        return
    event = quiet(lambda: request.message.event)
    granted = trace.derived(_dialogs).get((request.message.get("Call-ID") or "", _tag(request.message)))
    if granted is None or _from_tag(request.message) != _tag(granted.message):
        return  # a notifier that the UE does not know: 481 is right (RFC 6665 4.1.3)
    if status_of(record) == 500 and _is_overtaken(request, trace):
        return  # RFC 3261 12.2.2
    if event is not None and event.package == "reg":
        yield Wrong(f"{what(record)}, though the UE subscribed", record, request, granted)


def _is_overtaken(request: SipRecord, trace: Trace) -> bool:
    """True when a later request of the same dialog may have come first."""
    number = quiet(lambda: request.message.cseq.number)
    call_id = request.message.get("Call-ID") or ""
    for each in trace.sip(method="NOTIFY", request=True, hop=Hop.GM, receiver=Role.UE):
        if each.message.get("Call-ID") == call_id and each.time < request.time + LATE:
            other = quiet(lambda e=each: e.message.cseq.number)  # type: ignore[misc]
            if number is not None and other is not None and other > number:
                return True
    return False


def _dialogs(trace: Trace) -> dict[tuple[str, str | None], SipRecord]:
    """Subscriptions of UEs that were granted, by Call-ID and the UE's tag."""
    found: dict[tuple[str, str | None], SipRecord] = {}
    for record in trace.sip(method="SUBSCRIBE", request=False, hop=Hop.GM, receiver=Role.UE):
        if 200 <= (status_of(record) or 0) < 300:
            found.setdefault((record.message.get("Call-ID") or "", _from_tag(record.message)), record)
    return found


def _from_tag(message: Message) -> str | None:
    found = quiet(lambda: message.from_)
    return None if found is None else found.tag


def _tag(message: Message) -> str | None:
    found = quiet(lambda: message.to)
    return None if found is None else found.tag
