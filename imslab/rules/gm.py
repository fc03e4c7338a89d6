"""Rules about what a UE says first, and about every message on Gm: identities, headers, size.

The security agreement has its own page (secagree.py), and so have the challenge (challenge.py), traffic on the
protected ports (protected.py), renewal and failure (renewal.py) and what a registered UE does (registered.py).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator

from imslab.core.flow import Transport
from imslab.ipsec.packet import TCP
from imslab.rules.agreements import gm_of
from imslab.rules.clauses import Basis, Level, Wrong, on_registration, on_sip
from imslab.rules.reading import (
    SIP_PORT,
    credentials,
    host_is,
    is_emergency,
    leaves,
    order,
    param,
    quiet,
    shown,
    top_via,
    what,
)
from imslab.sip.grammar import unquote
from imslab.trace.identity import is_third_party
from imslab.trace.model import Hop, Role, SipRecord
from imslab.trace.registration import Registration
from imslab.trace.trace import Trace

#: 24.229 5.1.1.2.1 e): the lifetime that a UE asks for, seconds.
LIFETIME = 600_000
#: RFC 3261 18.1.1: a request larger than this goes over a stream while the path MTU is unknown, octets.
LARGEST = 1300
#: RFC 3261 17.1.2.2: timer F with the shorter T1; who waits so long may try again, seconds.
TIMER_F = 32.0

#: 23.003 13.3: a private identity made of an IMSI.
_IMPI = re.compile(r"(\d{6,15})@ims\.mnc(\d+)\.mcc(\d+)\.3gppnetwork\.org", re.IGNORECASE)
#: The headers that every request has (RFC 3261 8.1.1), and may have once only.
_ONCE = ("To", "From", "CSeq", "Call-ID", "Max-Forwards")
#: RFC 3261 8.1.1.7.
_COOKIE = "z9hG4bK"


def _is_initial(record: SipRecord, trace: Trace) -> bool:
    return not is_third_party(record.message) and gm_of(trace).is_initial(record)


@on_sip("INI-01", "24.229 5.1.1.2.1", role=Role.UE, hop=Hop.GM, method="REGISTER", request=True)
def register_names_domain_and_identity(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """REGISTER goes to the home domain, From and To are the same identity, and only From has a tag."""
    message = record.message
    if record.sender is not Role.UE:
        return
    uri = message.request_uri  # type: ignore[attr-defined]
    if uri.scheme not in ("sip", "sips") or uri.user:
        yield Wrong(f"Request-URI {shown(str(uri))}: expected the home domain as a SIP URI without a user part", record)
    if message.from_.uri != message.to.uri:
        one, other = shown(str(message.from_.uri)), shown(str(message.to.uri))
        yield Wrong(f"From is {one} and To is {other}: expected the same identity", record)
    if message.from_.tag is None:
        yield Wrong("From has no tag", record)
    if message.to.tag is not None:
        yield Wrong(f"To has a tag ({shown(message.to.tag)}), though no dialog exists", record)


@on_sip("INI-02", "23.003 13.3", role=Role.UE, level=Level.WARNING, hop=Hop.GM, method="REGISTER", request=True)
def network_codes_have_three_digits(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """Identities made of an IMSI: mnc and mcc have three digits, and the temporary IMPU is sip: and the IMPI."""
    found = _imsi_identity(record, trace)
    if found is None:
        return
    imsi, mnc, mcc, impi = found
    if len(mnc) != 3 or len(mcc) != 3:
        yield Wrong(
            f"IMPI {shown(impi)}: expected mnc and mcc with three digits, a short MNC padded on the left", record
        )
    uri = record.message.to.uri
    if uri.user == imsi and uri.host.lower() != impi.partition("@")[2].lower():
        yield Wrong(f"temporary IMPU {shown(str(uri))} is not sip:{shown(impi)}", record)


@on_sip("INI-03", "23.003 13.3", role=Role.UE, level=Level.WARNING, hop=Hop.GM, method="REGISTER", request=True)
def network_codes_are_those_of_the_imsi(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """Identities made of an IMSI: mcc and mnc are its first digits, split in the right place."""
    found = _imsi_identity(record, trace)
    if found is None:
        return
    imsi, mnc, mcc, impi = found
    if len(mnc) != 3 or len(mcc) != 3:
        return  # INI-02
    if imsi[:3] != mcc or mnc not in (imsi[3:6], f"0{imsi[3:5]}"):
        yield Wrong(f"IMPI {shown(impi)}: mcc{mcc} and mnc{mnc} are not the first digits of the IMSI", record)


def _imsi_identity(record: SipRecord, trace: Trace) -> tuple[str, str, str, str] | None:
    """IMSI, mnc, mcc and the IMPI itself, where a registration begins with an identity of that form."""
    if record.sender is not Role.UE or not gm_of(trace).starts(record):
        return None
    given = credentials(record.message)
    impi = "" if given is None else param(given, "username") or ""
    found = _IMPI.fullmatch(impi)
    return None if found is None else (found[1], found[2], found[3], impi)


@on_sip("INI-05", "24.229 5.1.1.2.2", role=Role.UE, hop=Hop.GM, method="REGISTER", request=True)
def first_authorization_is_empty(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The first REGISTER names the IMPI in an Authorization whose nonce and response are there and empty."""
    gm = gm_of(trace)
    if is_third_party(record.message) or not gm.starts(record) or not gm.is_clear(record) or not gm.wants_aka(record):
        return
    if not record.message.authorization:
        yield Wrong("REGISTER without Authorization: expected one with the IMPI, and nonce and response empty", record)
        return
    given = credentials(record.message)
    if given is None:
        return
    missing = [name for name in ("username", "realm", "uri", "nonce", "response") if param(given, name) is None]
    if missing:
        yield Wrong(f"Authorization lacks {', '.join(missing)}", record)
        return
    if not param(given, "response"):
        return
    if not param(given, "nonce"):
        yield Wrong("Authorization has a response to an empty nonce", record)
    elif param(given, "auts") is None and gm.answers(record) is None and not leaves(record.message):
        yield Wrong("REGISTER in clear begins a registration with nonce and response of an earlier one", record)


@on_sip("INI-06", "24.229 5.1.1.2.1", role=Role.UE, hop=Hop.GM, method="REGISTER", request=True)
def contact_says_where_and_what(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """Contact of the first REGISTER: the UE's address, +sip.instance, and a quoted icsi-ref."""
    message = record.message
    if not _is_initial(record, trace) or leaves(message) or not gm_of(trace).wants_aka(record):
        return
    found = message.contact
    if not found or found[0].is_star:
        yield Wrong("REGISTER without a Contact to register", record)
        return
    contact, via = found[0], top_via(message)
    # behind a NAT, Contact and Via have the inner address, and both are right
    if via and host_is(via.host, record.src.host) and host_is(contact.uri.host, record.src.host) is False:
        yield Wrong(f"Contact {shown(contact.uri.hostport)}: expected the UE's address {record.src.host}", record)
    if "+sip.instance" not in contact.params:
        yield Wrong("Contact has no +sip.instance", record)
    service = contact.params.get("+g.3gpp.icsi-ref")
    if "+g.3gpp.icsi-ref" in contact.params and (service is None or unquote(service) == service):
        yield Wrong(f"Contact: +g.3gpp.icsi-ref={shown(service or '')} is not quoted", record)


@on_sip("INI-07", "24.229 5.1.1.2.1", role=Role.UE, hop=Hop.GM, method="REGISTER", request=True)
def via_asks_for_the_way_back(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """Over UDP in clear, the Via has an empty rport, and its port is the one that REGISTER was sent from."""
    if record.transport is not Transport.UDP or not _is_initial(record, trace) or not gm_of(trace).wants_aka(record):
        return
    via = top_via(record.message)
    if via is None:
        return
    if "rport" not in via.params:
        yield Wrong("Via has no rport", record)
    elif via.params["rport"]:
        yield Wrong(f"Via has rport={shown(via.params['rport'])}: expected an empty one", record)
    port = SIP_PORT if via.port is None else via.port
    if host_is(via.host, record.src.host) and port != record.src.port:
        told = f"Via says port {port}, the datagram came from port {record.src.port}"
        yield Wrong(f"{told}: expected the same", record)


@on_sip("INI-08", "24.229 5.1.1.2.1", role=Role.UE, hop=Hop.GM, method="REGISTER", request=True)
def lifetime_asked_for(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The first REGISTER asks for 600000 s, in Expires or in Contact."""
    message = record.message
    if not _is_initial(record, trace) or not gm_of(trace).wants_aka(record) or leaves(message) or is_emergency(message):
        return
    told_in = [each.expires for each in message.contact if not each.is_star] + [message.expires]
    asked = sorted({each for each in told_in if each is not None})
    if len(asked) > 1:
        yield Wrong(f"several lifetimes asked for: {', '.join(str(each) for each in asked)} s", record)
    elif asked != [LIFETIME]:
        told = f"{asked[0]} s" if asked else "none"
        yield Wrong(f"lifetime asked for: {told}; expected {LIFETIME} s", record)


@on_sip("INI-09", "24.229 5.1.1.2.1", role=Role.UE, hop=Hop.GM, method="REGISTER", request=True)
def path_is_supported(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The first REGISTER says Supported: path."""
    if not _is_initial(record, trace) or not gm_of(trace).wants_aka(record):
        return
    if "path" not in (each.lower() for each in record.message.supported):
        yield Wrong("Supported does not list path", record)


@on_sip("INI-10", "24.229 5.1.1.2.2", role=Role.UE, hop=Hop.GM, method="REGISTER", request=True)
def agreement_is_asked_for(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The first REGISTER has Security-Client, and sec-agree in both Require and Proxy-Require."""
    if not _is_initial(record, trace) or not gm_of(trace).wants_aka(record):
        return
    message = record.message
    missing = [name for name in ("Security-Client",) if not message.has(name)]
    for name, tags in (("Require", message.require), ("Proxy-Require", message.proxy_require)):
        if "sec-agree" not in (each.lower() for each in tags):
            missing.append(f"sec-agree in {name}")
    if missing:
        yield Wrong(f"REGISTER lacks {', '.join(missing)}", record)


@on_sip("INI-11", "24.229 5.1.1.2.1", role=Role.UE, hop=Hop.GM, method="REGISTER", request=True)
def access_network_is_told_under_protection_only(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """P-Access-Network-Info is absent from a REGISTER in clear, and present in a protected one."""
    gm = gm_of(trace)
    if record.sender is not Role.UE or not gm.wants_aka(record):
        return
    told = record.message.has("P-Access-Network-Info")
    if told and gm.is_clear(record):
        yield Wrong("P-Access-Network-Info in a REGISTER in clear", record)
    elif not told and record.spi is not None:
        yield Wrong("no P-Access-Network-Info in a protected REGISTER", record, level=Level.WARNING)


@on_sip("INI-12", "34.229-1 A.1.1", role=Role.UE, level=Level.WARNING, hop=Hop.GM, method="REGISTER", request=True)
def register_has_no_route(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """REGISTER has no Route, or one that names the P-CSCF only."""
    if not _is_initial(record, trace):
        return
    routes = record.message.route
    if not routes:
        return
    told = f"Route in REGISTER: {shown(', '.join(str(each.uri) for each in routes))}"
    if len(routes) > 1 or host_is(routes[0].uri.host, record.dst.host) is False:
        yield Wrong(told, record)
    elif host_is(routes[0].uri.host, record.dst.host) is None:
        yield Wrong(f"{told}: only the P-CSCF may be named there", record, level=Level.NOTE)


@on_registration("INI-13", "24.229 5.1.1.2.1", role=Role.UE)
def one_attempt_at_a_time(registration: Registration, trace: Trace) -> Iterator[Wrong]:
    """No second registration of the same identity begins before the first has its final answer or timed out."""
    first = registration.requests[0]
    if first.hop is not Hop.GM or not registration.impu:
        return
    for other in trace.derived(_by_identity).get((first.src.host, registration.impu), ()):
        last, final = other.requests[-1], other.final
        if other is registration or final is None or not order(last) < order(first) < order(final):
            continue
        if first.time - last.time < TIMER_F and is_emergency(first.message) is is_emergency(last.message):
            yield Wrong(
                f"a new registration {first.time - last.time:.3f} s after the last REGISTER of another one, "
                f"{final.time - first.time:.3f} s before that one's final answer",
                first,
                last,
            )


def _by_identity(trace: Trace) -> dict[tuple[str, str], list[Registration]]:
    """Registrations by the UE's address and the identity; the last few only of those that repeat without end."""
    found: dict[tuple[str, str], list[Registration]] = {}
    for each in trace.registrations:
        found.setdefault((each.requests[0].src.host, each.impu), []).append(each)
    return {key: each for key, each in found.items() if 1 < len(each) <= 64}


@on_sip("GM-01", "RFC 3261 8.1.1", role=Role.UE, hop=Hop.GM, request=True)
def every_request_is_complete(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A request has To, From, CSeq, Call-ID, Max-Forwards once each, a Via with a branch, and the CSeq's method."""
    message = record.message
    missing = [name for name in _ONCE if not message.has(name)]
    if missing:
        yield Wrong(f"{what(record)} lacks {', '.join(missing)}", record, role=record.sender)
    twice = [name for name in _ONCE if len(message.rows(name)) > 1]
    if twice:
        yield Wrong(f"{what(record)} has more than one {', '.join(twice)}", record, role=record.sender)
    words = (message.get("CSeq") or "").split()
    if len(words) == 2 and words[1] != message.method:
        yield Wrong(f"{what(record)} has CSeq {shown(' '.join(words))}", record, role=record.sender)
    via = top_via(message)
    if via is None:
        yield Wrong(f"{what(record)} lacks Via", record, role=record.sender)
    elif not (via.branch or "").startswith(_COOKIE):
        yield Wrong(f"{what(record)}: the branch of its Via does not begin with {_COOKIE}", record, role=record.sender)


@on_sip("TRN-01", "RFC 3261 18.1.1", role=Role.UE, level=Level.WARNING, hop=Hop.GM, method="REGISTER", request=True)
def large_clear_register_goes_over_tcp(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A REGISTER in clear of more than 1300 octets goes over TCP, unless TCP was refused."""
    size = _too_large(record, trace)
    if size and record.sender is Role.UE and record.spi is None:
        yield Wrong(f"{size}: expected TCP above {LARGEST}, unless it was refused", record)


@on_sip("TRN-02", "RFC 3261 18.1.1", role=Role.UE, hop=Hop.GM, request=True)
def large_protected_request_goes_over_tcp(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A protected request of the UE of more than 1300 octets goes over TCP."""
    if record.sender is Role.UE and record.spi is not None:
        yield from _should_be_tcp(record, trace)


@on_sip("TRN-03", "RFC 3261 18.1.1", role=Role.PCSCF, hop=Hop.GM, request=True)
def large_request_to_the_ue_goes_over_tcp(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A request to the UE of more than 1300 octets goes over TCP."""
    if record.receiver is Role.UE:
        yield from _should_be_tcp(record, trace)


def _should_be_tcp(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    size = _too_large(record, trace)
    if not size or _tcp_failed(record, trace):
        return
    if len(record.frames) > 1:
        # the path MTU is no excuse where the request did not fit it
        yield Wrong(f"{size}, in {len(record.frames)} fragments: expected TCP above {LARGEST}", record)
    else:
        yield Wrong(f"{size}: expected TCP above {LARGEST} unless the MTU is known", record, level=Level.WARNING)


def _too_large(record: SipRecord, trace: Trace) -> str:
    """The size of a request that is too large for UDP, in words; "" for all others."""
    octets = record.message.octets
    if record.transport is not Transport.UDP or octets is None or len(octets) <= LARGEST:
        return ""
    same = trace.derived(_over_tcp).get((record.message.get("Call-ID"), record.message.get("CSeq"), record.src.host))
    if same is not None and order(same) < order(record):
        return ""  # RFC 3261 18.1.1: it was tried over TCP first
    return f"{what(record)} of {len(octets)} octets over UDP"


def _over_tcp(trace: Trace) -> dict[tuple[str | None, str | None, str], SipRecord]:
    """The requests that went over TCP on Gm, the first of each."""
    found: dict[tuple[str | None, str | None, str], SipRecord] = {}
    for record in trace.sip(request=True, hop=Hop.GM):
        if record.transport is Transport.TCP:
            key = (record.message.get("Call-ID"), record.message.get("CSeq"), record.src.host)
            found.setdefault(key, record)
    return found


def _tcp_failed(record: SipRecord, trace: Trace) -> bool:
    """True when the sender has knocked by TCP inside the SAs shortly before, and said nothing there."""
    knocks = trace.derived(_knocks).get((record.src.host, record.dst.host), [])
    if bisect_left(knocks, record.time) == bisect_left(knocks, record.time - TIMER_F):
        return False
    said = trace.derived(_said_over_tcp).get((record.src.host, record.dst.host), [])
    return bisect_left(said, record.time) == bisect_left(said, record.time - TIMER_F)


def _knocks(trace: Trace) -> dict[tuple[str, str], list[float]]:
    """When each host sent TCP inside ESP to another."""
    found: dict[tuple[str, str], list[float]] = {}
    for packet in trace.esp_records:
        if packet.next_header == TCP:
            found.setdefault((packet.src, packet.dst), []).append(packet.time)
    return found


def _said_over_tcp(trace: Trace) -> dict[tuple[str, str], list[float]]:
    """When each host said something over TCP to another."""
    found: dict[tuple[str, str], list[float]] = {}
    for record in trace.sip(hop=Hop.GM):
        if record.transport is Transport.TCP:
            found.setdefault((record.src.host, record.dst.host), []).append(record.time)
    return found


@on_sip("TRN-06", "RFC 3261 18.2.2", role=Role.PCSCF, hop=Hop.GM, request=False)
def answers_keep_the_transport(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """An answer travels over the transport of its request, however large it is."""
    request = trace.request_of(record)
    if request is None or request.transport is record.transport:
        return
    if gm_of(trace).is_clear(record) and not gm_of(trace).is_clear(request):
        return  # the connection of the request is inside the SAs; whether the answer may leave them is another rule's
    asked = {each.transport for each in trace.transaction(record) if each.message.is_request}
    if record.transport not in asked:
        yield Wrong(
            f"{what(record)} over {record.transport.upper()}, its request came over {request.transport.upper()}",
            record,
            request,
            role=record.sender,
        )


@on_sip("TRN-15", "RFC 3581 4", role=Role.PCSCF, basis=Basis.UNREAD, hop=Hop.GM, method="REGISTER", request=False)
def rport_is_filled_in(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The answer to a REGISTER in clear says in rport which port it came from."""
    request = trace.request_of(record)
    if request is None or request.spi is not None or request.transport is not Transport.UDP:
        return
    sent, via = quiet(lambda: top_via(request.message)), top_via(record.message)
    if sent is None or via is None or "rport" not in sent.params or sent.params["rport"]:
        return
    told = via.params.get("rport")
    if told != str(request.src.port):
        yield Wrong(
            f"{what(record)}: rport {shown(told) if told else 'left empty'}, REGISTER came from {request.src.port}",
            record,
            request,
        )


@on_sip("GM-02", "24.229 5.1.1.5.1", role=Role.UE, hop=Hop.GM, method="REGISTER", request=True)
def one_user_in_one_procedure(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The REGISTERs of one procedure name the same IMPI."""
    registration = gm_of(trace).registration(record)
    if registration is None or gm_of(trace).starts(record) or record.sender is not Role.UE:
        return
    first = registration.requests[0]
    asked, given = credentials(first.message), credentials(record.message)
    if asked is None or given is None:
        return
    before, now = param(asked, "username"), param(given, "username")
    if before and now and before != now:
        yield Wrong(f"IMPI {shown(now)} answers the challenge of {shown(before)}", record, first)
