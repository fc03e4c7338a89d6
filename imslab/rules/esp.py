"""Rules about ESP itself: integrity, numbers, padding, what is inside, whether anything comes back (RFC 4303, 33.203).

A packet that does not verify says nothing about who is to blame: it may have been damaged or forged on the way, or the
keys that we were given are wrong. Such findings name no box. The packets of one SA make one finding of a kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from imslab.ipsec.esp import PaddingError
from imslab.ipsec.packet import TCP, UDP
from imslab.rules.agreements import PC_US, PS_UC, UC_PS, US_PC, Agreement, gm_of
from imslab.rules.challenge import Reaction, reaction
from imslab.rules.clauses import Level, Wrong, on_registration, on_sa, on_trace
from imslab.rules.reading import order, spi_text
from imslab.trace.associations import sides
from imslab.trace.model import EspRecord, Hop, Icv, Role, SaView
from imslab.trace.registration import Registration
from imslab.trace.trace import Trace

#: How many packets a finding names.
NAMED = 16
#: Who has waited so long for an answer has waited long enough, seconds: four transmissions with the shorter T1.
PATIENCE = 4.0
#: Next headers: what transport mode carries; a dummy packet; a tunnelled one.
_TRANSPORT = frozenset((TCP, UDP))
_DUMMY = 59
_TUNNELLED = frozenset((4, 41))


@dataclass(slots=True, eq=False)
class Packets:
    """What is odd about the packets that one host sent with one SPI to another.

    count: all of them. lowest: the one with the smallest sequence number. agreement, index: the SA, None if nobody
    agreed on it in the trace.
    """

    src: str
    dst: str
    spi: int
    lowest: EspRecord
    agreement: Agreement | None
    index: int
    count: int = 0
    bad: list[EspRecord] = field(default_factory=list)
    good: int = 0
    replayed: list[EspRecord] = field(default_factory=list)
    zero: list[EspRecord] = field(default_factory=list)
    odd: list[EspRecord] = field(default_factory=list)
    misfit: list[EspRecord] = field(default_factory=list)

    @property
    def sender(self) -> Role:
        """Who sent them; UNKNOWN where no agreement tells."""
        if self.agreement is None:
            return Role.UNKNOWN
        return Role.UE if self.index in (UC_PS, US_PC) else Role.PCSCF

    def __str__(self) -> str:
        return f"SPI {spi_text(self.spi)} from {self.src} to {self.dst}"


def _streams(trace: Trace) -> list[Packets]:
    """All ESP packets, by SA; the same SPI after a new agreement is a new SA."""
    gm = gm_of(trace)
    found: dict[tuple[str, str, int, int], Packets] = {}
    for record in trace.esp_records:
        carried = gm.sa_of_packet(record)
        agreement, index = carried if carried is not None else (None, 0)
        key = (record.src, record.dst, record.spi, id(agreement))
        packets = found.get(key)
        if packets is None:
            packets = found[key] = Packets(record.src, record.dst, record.spi, record, agreement, index)
        _note(packets, record)
    return list(found.values())


def _note(packets: Packets, record: EspRecord) -> None:
    packets.count += 1
    if record.sequence == 0:
        packets.zero.append(record)
    elif record.sequence < packets.lowest.sequence or packets.lowest.sequence == 0:
        packets.lowest = record
    if record.icv is Icv.BAD:
        packets.bad.append(record)
        return
    packets.good += record.icv is Icv.OK
    if record.replayed and record.sequence:
        packets.replayed.append(record)
    if record.next_header is not None and record.next_header not in _TRANSPORT:
        packets.odd.append(record)
    if packets.agreement is not None and record.inner_src_port is not None:
        _, src, dst = packets.agreement.flows[packets.index]
        if (record.inner_src_port, record.inner_dst_port) != (src.port, dst.port):
            packets.misfit.append(record)


@on_trace("ESP-01", "RFC 4303 3.4.4", role=Role.UNKNOWN, level=Level.WARNING)
def packets_verify(_: None, trace: Trace) -> Iterator[Wrong]:
    """The ICV of every ESP packet is right."""
    for packets in trace.derived(_streams):
        if not packets.bad:
            continue
        if packets.good:
            told = f"{len(packets.bad)} of {packets.count} packets do not verify: damaged or forged on the way"
        else:
            told = "no packet verifies: its two ends have other keys or algorithms, or these keys are not theirs"
        yield Wrong(f"{packets}: {told}", *packets.bad[:NAMED])


@on_trace("ESP-02", "RFC 4303 3.4.3", role=Role.UNKNOWN, level=Level.NOTE)
def packets_come_once(_: None, trace: Trace) -> Iterator[Wrong]:
    """No sequence number is used twice in one SA."""
    for packets in trace.derived(_streams):
        if packets.replayed:
            numbers = ", ".join(str(each.sequence) for each in packets.replayed[:NAMED])
            told = f"{len(packets.replayed)} replayed packets, which their receiver drops (sequence numbers {numbers})"
            yield Wrong(f"{packets}: {told}", *packets.replayed[:NAMED])


@on_sa("ESP-03", "RFC 4303 3.4.2", role=Role.UNKNOWN, level=Level.NOTE)
def packets_have_an_agreement(sa: SaView, trace: Trace) -> Iterator[Wrong]:
    """ESP packets belong to SAs that somebody agreed on."""
    if sa.alg or not sa.packets:
        return
    record = trace.derived(_first_packets).get((sa.src.host, sa.dst.host, sa.spi))
    if record is not None:
        place = f"SPI {spi_text(sa.spi)} from {sa.src.host} to {sa.dst.host}"
        yield Wrong(f"{place}: no agreement on this SA in the trace; if there is none, its receiver drops it", record)


def _first_packets(trace: Trace) -> dict[tuple[str, str, int], EspRecord]:
    found: dict[tuple[str, str, int], EspRecord] = {}
    for record in trace.esp_records:
        found.setdefault((record.src, record.dst, record.spi), record)
    return found


@on_trace("ESP-04", "RFC 4303 3.3.3", role=Role.UNKNOWN, level=Level.NOTE)
def packets_are_numbered_from_one(_: None, trace: Trace) -> Iterator[Wrong]:
    """The first packet of an SA has sequence number 1."""
    for packets in trace.derived(_streams):
        first = packets.lowest
        if packets.agreement is not None and first.sequence > 1:
            told = f"the lowest sequence number is {first.sequence}: those before were not captured, or never sent"
            yield Wrong(f"{packets}: {told}", first)


@on_trace("DRP-12", "RFC 4303 3.3.3", role=Role.UNKNOWN)
def no_packet_is_number_zero(_: None, trace: Trace) -> Iterator[Wrong]:
    """No packet has sequence number 0."""
    for packets in trace.derived(_streams):
        if packets.zero:
            yield Wrong(f"{packets}: sequence number 0", *packets.zero[:NAMED], role=packets.sender)


@on_trace("ALG-18", "RFC 4303 2.4", role=Role.UNKNOWN)
def trailers_are_sound(_: None, trace: Trace) -> Iterator[Wrong]:
    """The padding of an ESP packet is 1, 2, 3 …, and no dummy packets are sent (33.203 6.2)."""
    for packets in trace.derived(_streams):
        dummies = [each for each in packets.odd if each.next_header == _DUMMY]
        if dummies:
            yield Wrong(f"{packets}: dummy packets (next header {_DUMMY})", *dummies[:NAMED], role=packets.sender)
    for record in trace.malformed_records:
        if record.protocol == "ESP" and isinstance(record.error, PaddingError):
            role = trace.topology.role(record.src)
            yield Wrong(f"ESP packet from {record.src.host}: {record.error.reason}", record, role=role)


@on_trace("SPI-05", "33.203 6.3", role=Role.UNKNOWN)
def packets_are_in_transport_mode(_: None, trace: Trace) -> Iterator[Wrong]:
    """ESP is used in transport mode: what is inside is UDP or TCP, not IP."""
    for packets in trace.derived(_streams):
        tunnelled = [each for each in packets.odd if each.next_header in _TUNNELLED]
        if tunnelled and packets.agreement is not None:
            told = f"an IP packet inside (next header {tunnelled[0].next_header}): tunnel mode"
            yield Wrong(f"{packets}: {told}", *tunnelled[:NAMED], role=packets.sender)


@on_trace("DRP-08", "33.203 7.1", role=Role.UNKNOWN)
def packets_fit_their_sa(_: None, trace: Trace) -> Iterator[Wrong]:
    """What an ESP packet holds has the ports that its SA is for."""
    for packets in trace.derived(_streams):
        if not packets.misfit or packets.agreement is None:
            continue
        flow = packets.agreement.flows[packets.index]
        first = packets.misfit[0]
        inside, agreed = f"{first.inner_src_port} to {first.inner_dst_port}", f"{flow[1].port} to {flow[2].port}"
        told = f"ports {inside} inside, agreed were {agreed}"
        yield Wrong(f"{packets}: {told}", *packets.misfit[:NAMED], role=packets.sender)


@on_trace("SEC-06", "33.203 7.2", role=Role.UE)
def ue_takes_a_whole_entry(_: None, trace: Trace) -> Iterator[Wrong]:
    """The UE takes the first combination of Security-Server that it offered itself."""
    proved = {(each.rand, each.ue): each.keyed[UC_PS] for each in trace.sets if each.keyed}
    if not proved:
        return
    by_spi = {(sa.spi, sa.dst.host): sa for sa in proved.values()}
    for packets in trace.derived(_streams):
        agreement = packets.agreement
        sa = by_spi.get((packets.spi, packets.dst))
        if agreement is None or packets.index != UC_PS or sa is None or not packets.good:
            continue
        offered = {(each.alg, each.ealg) for each in sides(agreement.offered)}
        listed = [(each.alg, each.ealg) for each in sides(agreement.listed)]
        expected = next((each for each in listed if each in offered), None)
        if expected is not None and (sa.alg, sa.ealg) != expected:
            told = f"{sa.alg} with {sa.ealg} is used; the first combination listed that was offered is"
            yield Wrong(
                f"{packets}: {told} {expected[0]} with {expected[1]}", packets.lowest, agreement.challenge.response
            )


@on_registration("ESP-05", "33.203 7.1", role=Role.UNKNOWN, level=Level.WARNING)
def something_comes_back(registration: Registration, trace: Trace) -> Iterator[Wrong]:
    """The protected REGISTER is answered by something."""
    if registration.requests[0].hop is not Hop.GM:
        return
    for final in registration.challenges:
        challenge = gm_of(trace).challenge_in(final)
        if challenge is None or challenge.agreement is None or challenge.agreement.bare:
            continue
        yield from _one_way(challenge.agreement, trace)


def _one_way(agreement: Agreement, trace: Trace) -> Iterator[Wrong]:
    streams = trace.derived(_by_agreement).get(id(agreement), {})
    sent = [streams[index] for index in (UC_PS, US_PC) if index in streams]
    back = [streams[index] for index in (PS_UC, PC_US) if index in streams]
    answer = agreement.challenge.answer
    if not sent or back or agreement.accepted is not None:
        return
    if answer is not None and (reaction(answer) is not Reaction.ANSWER or trace.responses_to(answer)):
        return
    first = min((each.lowest for each in sent), key=order)
    silence = trace.records[-1].time - first.time
    if silence < PATIENCE:
        return
    count = sum(each.count for each in sent)
    told = f"{count} packets of the UE, {sent[0]}, and nothing comes back within {silence:.0f} s"
    causes = "the P-CSCF drops them (no such SA, other keys), or its packets are lost or not captured"
    yield Wrong(f"{told}: {causes}", first, agreement.challenge.response)


def _by_agreement(trace: Trace) -> dict[int, dict[int, Packets]]:
    found: dict[int, dict[int, Packets]] = {}
    for packets in trace.derived(_streams):
        if packets.agreement is not None:
            found.setdefault(id(packets.agreement), {})[packets.index] = packets
    return found


@on_trace("ESP-06", "33.203 7.1", role=Role.UNKNOWN, level=Level.NOTE)
def protected_ports_are_protected(_: None, trace: Trace) -> Iterator[Wrong]:
    """Where SIP uses the protected ports, there is ESP."""
    bare = [each.challenge.response for each in gm_of(trace).agreements if each.bare]
    if bare:
        yield Wrong(
            "the protected ports are used and there is no ESP at all: either a decrypted copy, or SAs that nobody "
            "installed; nothing is said of what should have been protected",
            *bare[:NAMED],
        )
