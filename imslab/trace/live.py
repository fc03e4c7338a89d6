"""A live run's recording as a Trace and as a capture file: nobody can tell the two apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import BinaryIO

from imslab.trace.dissect import Dissector
from imslab.trace.keys import KeyRing
from imslab.trace.model import NodeRecord, Role
from imslab.trace.pcap import LINKTYPE_RAW, Packet, PcapngWriter
from imslab.trace.record import ListRecorder
from imslab.trace.trace import Trace


def recorded_packets(recorder: ListRecorder, epoch: float = 0.0) -> Iterator[Packet]:
    """The packets of a recording as a capture would give them. epoch: what its clock's zero is, Unix seconds."""
    for number, (time, point, octets) in enumerate(recorder.packets, 1):
        yield Packet(number, epoch + time, point, LINKTYPE_RAW, octets, len(octets))


def trace_of(
    recorder: ListRecorder,
    roles: Mapping[str, Role],
    *,
    hosts: Mapping[str, str] | None = None,
    epoch: float = 0.0,
    keys: KeyRing | None = None,
) -> Trace:
    """The Trace of a recording: its packets dissected, and what its nodes did between them.

    roles: of each node by its name; those not named are UNKNOWN. hosts: the address of each node, for those that have
    one. keys: what is known besides what the packets show.
    """
    dissector = Dissector(keys)
    for packet in recorded_packets(recorder, epoch):
        dissector.feed(packet)
    for event in recorder.events:
        dissector.add(
            NodeRecord(
                time=epoch + event.time,
                node=event.node,
                host="" if hosts is None else hosts.get(event.node, ""),
                role=roles.get(event.node, Role.UNKNOWN),
                kind=event.kind,
                text=event.text,
                data=event.data,
                after=event.after,
            )
        )
    return dissector.finish()


def write_capture(recorder: ListRecorder, stream: BinaryIO, *, epoch: float = 0.0, comment: str = "") -> None:
    """The recording as a pcapng file, one interface for each capture point."""
    writer = PcapngWriter(stream, comment)
    interfaces: dict[str, int] = {}
    for packet in recorded_packets(recorder, epoch):
        interface = interfaces.get(packet.point)
        if interface is None:
            interface = interfaces[packet.point] = writer.interface(packet.point, LINKTYPE_RAW)
        writer.packet(interface, packet.time, packet.octets)
