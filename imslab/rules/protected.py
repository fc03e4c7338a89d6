"""Rules about traffic once SAs are there: which ports, which set, and what must not go in clear (33.203 7.1, 7.4).

Over UDP each side sends requests and answers from its client port and receives on its server port:

    UE → P-CSCF    port_uc → port_ps        P-CSCF → UE    port_pc → port_us

Over TCP an answer goes back on the connection of its request. Nothing clear is sent from or received on these ports.
On the unprotected ports there is REGISTER with its answers, emergency traffic, and errors about clear messages.
"""

from __future__ import annotations

from collections.abc import Iterator

from imslab.core.flow import Transport
from imslab.rules.agreements import PC_US, PS_UC, UC_PS, US_PC, Agreement, gm_of
from imslab.rules.challenge import Reaction, reaction
from imslab.rules.clauses import Basis, Level, Wrong, on_sip
from imslab.rules.reading import (
    credentials,
    host_is,
    is_emergency,
    leaves,
    order,
    param,
    place,
    port_of,
    quiet,
    shown,
    top_via,
    uri_port,
    what,
)
from imslab.trace.model import Hop, Role, SipRecord
from imslab.trace.registration import Response
from imslab.trace.trace import Trace, method_of, status_of

_SUCCESS = range(200, 300)
#: How long a message may be under way between where it is captured and the P-CSCF, seconds.
UNDER_WAY = 0.5


def is_nated(agreement: Agreement) -> bool:
    """True where a NAT may stand between the two: UDP-enc-tun is listed (33.203 Annex M)."""
    return any((each.params.get("mod") or "").lower() == "udp-enc-tun" for each in agreement.listed)


def _covers(agreement: Agreement, index: int) -> str:
    """Where a message should have gone."""
    spi, src, dst = agreement.flows[index]
    return f"expected in ESP (SPI {spi}) from {src.port} to {dst.port}"


# --------------------------------------------------------------------------------------------------- from the UE


@on_sip("PRT-01", "33.203 7.1", role=Role.UE, hop=Hop.GM, request=True)
def ue_requests_go_uc_to_ps(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A UE with SAs sends every request but REGISTER inside them, over UDP from port_uc to port_ps."""
    gm = gm_of(trace)
    if record.sender is not Role.UE or is_emergency(record.message):
        return
    if gm.is_clear(record):
        # REGISTER: AKA-09, GM-03, DER-01; ACK and CANCEL go the way of their INVITE, which has been told of
        if method_of(record) in ("REGISTER", "ACK", "CANCEL"):
            return
        standing = gm.standing(record.src.host, record)
        if standing is not None:
            yield Wrong(f"{what(record)} {place(record)}; {_covers(standing, UC_PS)}", record)
        return
    carried = gm.sa_of(record)
    if carried is not None and record.transport is Transport.UDP and carried[1] == US_PC:
        yield Wrong(f"{what(record)} {place(record)}; {_covers(carried[0], UC_PS)}", record)


@on_sip("PRT-05", "33.203 7.1", role=Role.UE, hop=Hop.GM, request=False)
def ue_answers_go_uc_to_ps(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A UE answers a protected request inside the SAs, over UDP from port_uc to port_ps."""
    gm = gm_of(trace)
    request = trace.request_of(record)
    if record.sender is not Role.UE or request is None:
        return
    asked = gm.sa_of(request)
    if asked is None:
        return
    if gm.is_clear(record):
        text = f"{what(record)} {place(record)}; its request came in ESP, {_covers(asked[0], UC_PS)}"
        yield Wrong(text, record, request)
        return
    carried = gm.sa_of(record)
    if carried is None or record.transport is not Transport.UDP or carried[1] != US_PC:
        return
    # where the P-CSCF's Via leads to its client port, this is the only SA that goes there: PRT-08
    via = quiet(lambda: top_via(request.message))
    if via is not None and via.port != record.dst.port:
        yield Wrong(f"{what(record)} {place(record)}; {_covers(carried[0], UC_PS)}", record, request)


@on_sip("PRT-06", "24.229 5.1.2A.1.1", role=Role.UE, hop=Hop.GM, request=True)
def ue_is_reached_at_its_server_port(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """In a protected request, Contact and, over UDP, the Via name port_us, and the Via the UE's address."""
    carried = gm_of(trace).sa_of(record)
    if record.sender is not Role.UE or carried is None:
        return
    agreement, message = carried[0], record.message
    port = agreement.client.port_s
    via = top_via(message)
    if via is not None and host_is(via.host, record.src.host) is False and not is_nated(agreement):
        yield Wrong(f"{what(record)}: Via names {shown(via.host)}, expected the UE's {record.src.host}", record)
    if via is not None and record.transport is Transport.UDP and port_of(via) != port:
        yield Wrong(f"{what(record)}: Via names port {port_of(via)}, expected port_us {port}", record)
    for contact in message.contact:
        if contact.is_star or not host_is(contact.uri.host, record.src.host):
            continue
        if uri_port(contact.uri) != port:
            text = f"{what(record)}: Contact names port {uri_port(contact.uri)}, expected port_us {port}"
            yield Wrong(text, record)


@on_sip("GM-03", "33.203 7.1", role=Role.UE, hop=Hop.GM, method="REGISTER", request=True)
def clear_register_avoids_protected_ports(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A REGISTER in clear does not go to a protected port of the P-CSCF."""
    gm = gm_of(trace)
    if record.sender is not Role.UE or not gm.is_clear(record) or reaction(record) is Reaction.ANSWER:
        return
    agreement = gm.on_port(record.dst, record)
    if agreement is not None:
        yield Wrong(f"REGISTER {place(record)}, a protected port", record, agreement.challenge.response)


@on_sip("ADD-08", "33.203 7.4.1a", role=Role.UE, hop=Hop.GM, request=True)
def ue_waits_for_the_200(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """After a REGISTER in clear the UE sends nothing else before the 200."""
    early = _before_the_200(record, trace)
    if early is not None:
        yield Wrong(f"{what(record)} before the 200 to REGISTER", record, early)


@on_sip("DRP-03", "33.203 7.4.2a", role=Role.PCSCF, hop=Hop.GM, request=True)
def temporary_set_is_for_register_only(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The P-CSCF discards what else comes on a temporary set, without an answer."""
    early = _before_the_200(record, trace)
    if early is None:
        return
    taken = _taken(record, trace) or trace.final_response(record)
    if taken is not None and order(taken) < order(early):
        yield Wrong(f"{what(record)} on a temporary set is not discarded: {what(taken)}", taken, record)


def _before_the_200(record: SipRecord, trace: Trace) -> SipRecord | None:
    """The final answer to the REGISTER, where a UE speaks in its first SAs before it has it."""
    gm = gm_of(trace)
    if record.sender is not Role.UE or method_of(record) == "REGISTER":
        return None
    agreement = gm.agreement_of(record)
    if agreement is None or not gm.is_clear(agreement.challenge.request) or agreement.challenge.answer is None:
        return None
    final = trace.final_response(agreement.challenge.answer)
    return final if final is not None and order(record) < order(final) else None


def _taken(record: SipRecord, trace: Trace) -> SipRecord | None:
    """What shows that a request was taken: passed on, or answered as if all was well."""
    passed = trace.relayed(record)
    if passed is not None:
        return passed
    return next((each for each in trace.responses_to(record) if 100 < (status_of(each) or 0) < 300), None)


# ------------------------------------------------------------------------------------------------ from the P-CSCF


@on_sip("PRT-02", "33.203 7.1", role=Role.PCSCF, hop=Hop.GM, request=False)
def answers_to_the_ue_go_pc_to_us(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A protected request over UDP is answered inside the SAs, from port_pc to port_us."""
    gm = gm_of(trace)
    request = trace.request_of(record)
    if record.receiver is not Role.UE or request is None:
        return
    asked = gm.sa_of(request)
    if asked is None:
        return
    if gm.is_clear(record):
        if method_of(record) != "REGISTER":  # OKR-16, LIF-20, CHL-15, ADD-06
            yield Wrong(f"{what(record)} {place(record)}; its request came in ESP", record, request)
        return
    carried = gm.sa_of(record)
    if carried is not None and record.transport is Transport.UDP and carried[1] == PS_UC:
        yield Wrong(f"{what(record)} {place(record)}; {_covers(carried[0], PC_US)}", record, request)


@on_sip("PRT-03", "33.203 7.1", role=Role.PCSCF, hop=Hop.GM, request=False)
def answers_over_tcp_stay_on_the_connection(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A request over TCP is answered on its connection, or on a new one to the server port of who asked."""
    request = trace.request_of(record)
    if request is None or record.transport is not Transport.TCP or request.transport is not Transport.TCP:
        return
    carried, asked = gm_of(trace).sa_of(record), gm_of(trace).sa_of(request)
    if carried is None or asked is None or carried[0] is not asked[0] or record.dst == request.src:
        return
    agreement = carried[0]
    if record.dst.port not in (agreement.client.port_s, agreement.server.port_s):
        text = f"{what(record)} {place(record)}; its request came from {request.src.port}"
        yield Wrong(text, record, request, role=record.sender)


@on_sip("PRT-04", "33.203 7.1", role=Role.PCSCF, hop=Hop.GM, request=True)
def requests_to_the_ue_go_pc_to_us(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """Over UDP a request to the UE goes from port_pc to port_us."""
    carried = gm_of(trace).sa_of(record)
    if record.receiver is not Role.UE or carried is None or record.transport is not Transport.UDP:
        return
    if carried[1] == PS_UC:
        yield Wrong(f"{what(record)} {place(record)}; {_covers(carried[0], PC_US)}", record)


@on_sip("PRT-08", "24.229 5.2.6", role=Role.PCSCF, basis=Basis.UNREAD, hop=Hop.GM, request=True)
def pcscf_is_reached_at_its_server_port(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """In a request to the UE, the P-CSCF's Via and Record-Route name port_ps."""
    carried = gm_of(trace).sa_of(record)
    if record.receiver is not Role.UE or carried is None:
        return
    port, message = carried[0].server.port_s, record.message
    via = top_via(message)
    told = port if via is None else port_of(via)
    if told != port:
        client = ", its client port" if told == carried[0].server.port_c else ""
        text = f"{what(record)}: the P-CSCF's Via names port {told}{client}; expected port_ps {port}"
        yield Wrong(text, record)
    for route in message.record_route[:1]:
        if host_is(route.uri.host, carried[0].pcscf) and uri_port(route.uri) != port:
            text = f"{what(record)}: Record-Route names port {uri_port(route.uri)}, expected port_ps {port}"
            yield Wrong(text, record)


@on_sip("PRT-10", "33.203 7.1", role=Role.PCSCF, hop=Hop.GM, request=True)
def nothing_clear_to_a_protected_ue(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """Whatever the P-CSCF sends to a UE with SAs is inside them, OPTIONS and keep-alives too."""
    gm = gm_of(trace)
    if record.receiver is not Role.UE or not gm.is_clear(record) or is_emergency(record.message):
        return
    standing = gm.standing(record.dst.host, record)
    if standing is None or standing.pcscf != record.src.host:
        return
    protected = gm.on_port(record.dst, record) is not None
    port = ", a protected port" if protected else ""
    yield Wrong(f"{what(record)} {place(record)}{port}; {_covers(standing, PC_US)}", record)


@on_sip("LIF-11", "33.203 7.4.2a", role=Role.PCSCF, hop=Hop.GM, request=True)
def pcscf_switches_to_the_new_set(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """Once the UE has used the new set, new requests to the UE go there too."""
    gm = gm_of(trace)
    if record.receiver is not Role.UE or method_of(record) in ("ACK", "CANCEL") or trace.is_retransmission(record):
        return
    carried, newest = gm.agreement_of(record), gm.standing(record.dst.host, record)
    if carried is None or newest is None or newest is carried or newest.key != carried.key:
        return
    used = trace.derived(_first_heard).get(id(newest))
    if used is not None and carried.made < newest.made and record.time - used[1].time > UNDER_WAY:
        text = f"{what(record)} {place(record)}: on the old set, though the UE has used the new one"
        yield Wrong(text, record, used[0])


def _first_uses(trace: Trace) -> dict[int, SipRecord]:
    """The first message of the UE in each established set, after the 200."""
    found: dict[int, SipRecord] = {}
    for agreement, record in _uses(trace):
        found.setdefault(id(agreement), record)
    return found


def _first_heard(trace: Trace) -> dict[int, tuple[SipRecord, SipRecord]]:
    """The same, of those that the P-CSCF has shown to have heard, and by what: it passed it on, or answered."""
    found: dict[int, tuple[SipRecord, SipRecord]] = {}
    for agreement, record in _uses(trace):
        if id(agreement) not in found:
            heard = trace.relayed(record) or next(iter(trace.responses_to(record)), None)
            if heard is not None:
                found[id(agreement)] = record, heard
    return found


def _uses(trace: Trace) -> Iterator[tuple[Agreement, SipRecord]]:
    """What UEs sent in established sets, after the 200. Who repeats the REGISTER has not heard that 200 yet."""
    gm = gm_of(trace)
    for record in trace.sip_records:
        agreement = gm.agreement_of(record) if record.sender is Role.UE else None
        if agreement is None or agreement.accepted is None or trace.is_retransmission(record):
            continue
        if order(agreement.accepted) < order(record):
            yield agreement, record


@on_sip("DRP-19", "33.203 7.4.1a", role=Role.UE, hop=Hop.GM, request=True)
def clear_success_is_none(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A 200 in clear to a protected REGISTER is discarded: the UE does not go on as if it were registered."""
    gm = gm_of(trace)
    agreement = gm.agreement_of(record)
    accepted = None if agreement is None else agreement.accepted
    if agreement is None or accepted is None or method_of(record) == "REGISTER":
        return
    answer = trace.request_of(accepted)
    if answer is None or gm.is_clear(answer) or not gm.is_clear(accepted):
        return
    told = (each for each in trace.responses_to(answer) if order(each) < order(record))
    if trace.derived(_first_uses).get(id(agreement)) is record and all(gm.is_clear(each) for each in told):
        yield Wrong(f"{what(record)} in SAs whose REGISTER got its 200 in clear only", record, accepted)


@on_sip("DRP-18", "33.203 7.1", role=Role.UE, hop=Hop.GM, request=False)
def ue_refuses_clear_requests(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A UE with SAs rejects or ignores a request in clear, and answers nothing from a protected port."""
    gm = gm_of(trace)
    request = trace.request_of(record)
    if record.sender is not Role.UE or request is None or not gm.is_clear(record) or not gm.is_clear(request):
        return
    if gm.standing(record.src.host, record) is None or is_emergency(request.message):
        return
    if (status_of(record) or 0) < 300:
        port = ", a protected port" if gm.on_port(record.src, record) is not None else ""
        text = f"{what(record)} {place(record)}{port}: a request in clear is taken"
        yield Wrong(text, record, request)
    elif gm.on_port(record.src, record) is not None:
        yield Wrong(f"{what(record)} {place(record)}: clear, from a protected port", record, request)


@on_sip("DRP-01", "33.203 7.1", role=Role.PCSCF, hop=Hop.GM, method="INVITE", request=True)
def clear_invite_is_refused(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The P-CSCF discards or rejects an INVITE in clear from a UE with SAs."""
    yield from _clear_request_taken(record, trace)


@on_sip("DRP-02", "33.203 7.1", role=Role.PCSCF, hop=Hop.GM, request=True)
def clear_request_is_refused(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The P-CSCF discards or rejects any other request in clear from a UE with SAs, REGISTER excepted."""
    if method_of(record) not in ("INVITE", "REGISTER", "ACK", "CANCEL"):
        yield from _clear_request_taken(record, trace)


def _clear_request_taken(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    gm = gm_of(trace)
    if record.sender is not Role.UE or not gm.is_clear(record) or is_emergency(record.message):
        return
    if gm.standing(record.src.host, record) is None:
        return
    taken = _taken(record, trace)
    if taken is not None:
        yield Wrong(f"{what(record)} in clear from a UE with SAs is taken: {what(taken)}", taken, record)


@on_sip("DRP-04", "33.203 7.1", role=Role.PCSCF, hop=Hop.GM, request=False)
def clear_message_on_a_protected_port_is_ignored(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The P-CSCF does not answer what comes in clear to a protected port."""
    gm = gm_of(trace)
    request = trace.request_of(record)
    if record.receiver is not Role.UE or request is None or not gm.is_clear(request):
        return
    if gm.on_port(request.dst, request) is not None:
        yield Wrong(f"{what(record)} to a request {place(request)}, a protected port", record, request)


@on_sip("DRP-13", "33.203 7.1", role=Role.PCSCF, hop=Hop.GM, method="REGISTER", request=True)
def sas_belong_to_one_user(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A REGISTER inside the SAs of one user that names another is not taken."""
    agreement = gm_of(trace).agreement_of(record)
    given = credentials(record.message)
    impi = None if given is None else param(given, "username")
    if record.sender is not Role.UE or agreement is None or not impi:
        return
    owner = agreement.challenge.registration.impi
    taken = _taken(record, trace) if owner and owner != impi else None
    if taken is not None:
        text = f"REGISTER of {shown(impi)} inside the SAs of {shown(owner)} is taken: {what(taken)}"
        yield Wrong(text, taken, record)


@on_sip("ADD-07", "33.203 7.1", role=Role.PCSCF, hop=Hop.GM, method="REGISTER", request=True)
def source_address_is_that_of_the_via(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A protected REGISTER whose Via names another address than it came from is not taken."""
    agreement = gm_of(trace).agreement_of(record)
    if record.sender is not Role.UE or agreement is None:
        return
    if is_nated(agreement):
        return
    via = top_via(record.message)
    if via is None or host_is(via.host, record.src.host) is not False:
        return
    taken = _taken(record, trace)
    if taken is not None:
        text = f"REGISTER from {record.src.host} whose Via names {shown(via.host)} is taken: {what(taken)}"
        yield Wrong(text, taken, record)


# ------------------------------------------------------------------------------ answers to a protected REGISTER


@on_sip("OKR-16", "33.203 7.4.2a", role=Role.PCSCF, hop=Hop.GM, method="REGISTER", status=_SUCCESS)
def success_travels_in_the_set_of_its_request(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The 200 to a protected REGISTER goes inside the SAs: in the new set after a challenge."""
    gm = gm_of(trace)
    request = trace.request_of(record)
    if record.receiver is not Role.UE or request is None or leaves(request.message):
        return
    asked = gm.agreement_of(request)
    if asked is None:
        return
    if gm.is_clear(record):
        yield Wrong(f"{what(record)} {place(record)}; its REGISTER came in ESP", record, request)
        return
    carried = gm.agreement_of(record)
    if carried is None or carried is asked:
        return
    # a refresh may be answered on whichever set is the newest
    if gm.answers(request) is not None or carried is not gm.standing(request.src.host, record):
        yield Wrong(f"{what(record)} {place(record)}: another SA set than that of its REGISTER", record, request)


@on_sip("LIF-20", "24.229 5.2.5.1", role=Role.PCSCF, basis=Basis.UNREAD, hop=Hop.GM, method="REGISTER", status=_SUCCESS)
def farewell_is_answered_in_the_sas(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The 200 to a protected de-REGISTER leaves inside the SAs, which are removed after it."""
    gm = gm_of(trace)
    request = trace.request_of(record)
    if record.receiver is not Role.UE or request is None or not leaves(request.message):
        return
    if gm.agreement_of(request) is not None and gm.is_clear(record):
        yield Wrong(f"{what(record)} {place(record)}; its de-REGISTER came in ESP", record, request)


def _is_for_the_response(record: SipRecord, agreement: Agreement, trace: Trace) -> bool:
    """True for a 403 that the core gave to a response which is wrong; one of the P-CSCF's own has other reasons."""
    if status_of(record) != 403 or agreement.challenge.registration.response is not Response.MISMATCH:
        return False
    return trace.relayed_from(record) is not None


@on_sip("ADD-06", "33.203 7.4.2a", role=Role.PCSCF, hop=Hop.GM, method="REGISTER", status=range(300, 700))
def failure_travels_where_it_should(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A failure of a re-registration goes inside the SAs, and so does a 403 for a wrong response; others in clear."""
    gm = gm_of(trace)
    request = trace.request_of(record)
    if record.receiver is not Role.UE or request is None or status_of(record) == 401:
        return
    asked = gm.agreement_of(request)
    if asked is None:
        return
    if not gm.is_clear(record):
        if gm.agreement_of(record) is asked and not asked.stands(request):
            yield from _in_the_new_set(record, request, asked, trace)
        return
    if asked.stands(request) or asked.challenge.protected_by is not None:
        text = f"{what(record)} {place(record)}; the re-registration began in ESP"
        yield Wrong(text, record, request)
    elif _is_for_the_response(record, asked, trace):
        text = f"{what(record)} for a wrong response {place(record)}: expected it in the new SAs"
        yield Wrong(text, record, request)


def _in_the_new_set(record: SipRecord, request: SipRecord, asked: Agreement, trace: Trace) -> Iterator[Wrong]:
    """What 33.203 has to say of a failure inside the SAs that have failed. It proves no less than it should."""
    first, old = asked.challenge.request, asked.challenge.protected_by
    expected = ""
    if old is not None and old.stands(record):
        expected = "on the set that the re-registration began in"
    elif gm_of(trace).is_clear(first) and status_of(record) != 403:  # that may be the one for a wrong response
        expected = "in clear, as the first REGISTER was"
    if expected:
        yield Wrong(f"{what(record)} {place(record)}: expected it {expected}", record, request, first, level=Level.NOTE)
