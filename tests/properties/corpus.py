"""Octets that a whole lab wrote: what mutants are made of.

One run of the main job with two UEs: every message of SIP and Diameter, every packet, the capture and its SAs.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from imslab.config import LabConfig
from imslab.core.sa import Sa
from imslab.ipsec.packet import ESP, parse_ip
from imslab.lab import EPOCH, Lab, main_job
from imslab.trace.live import recorded_packets, write_capture
from imslab.trace.pcap import LINKTYPE_ETHERNET, Packet


@dataclass(frozen=True)
class Corpus:
    """What a run left. sip, diameter: whole messages; esp: whole ESP packets; packets: as a capture has them."""

    sip: tuple[bytes, ...]
    diameter: tuple[bytes, ...]
    esp: tuple[bytes, ...]
    sas: tuple[Sa, ...]
    packets: tuple[Packet, ...]
    pcapng: bytes
    reginfo: tuple[bytes, ...]
    userdata: tuple[bytes, ...]


@cache
def corpus() -> Corpus:
    """The same octets in every process: the lab has a seed."""
    lab = Lab(LabConfig(seed="mutants"))
    results = list(main_job(lab))
    assert all(result.ok for result in results), results
    packets = tuple(recorded_packets(lab.recording, EPOCH))
    trace = lab.trace
    stream = io.BytesIO()
    write_capture(lab.recording, stream, epoch=EPOCH, comment="seeds")
    sip = [record.message for record in trace.sip_records]
    diameter = [record.message for record in trace.diameter_records]
    return Corpus(
        sip=distinct([message.octets or b"" for message in sip]),
        diameter=distinct([message.octets or b"" for message in diameter]),
        esp=tuple(ip.payload for ip in (parse_ip(packet.octets) for packet in packets) if ip.protocol == ESP),
        sas=tuple(trace.keyed_sas),
        packets=packets,
        pcapng=stream.getvalue(),
        reginfo=distinct([message.body for message in sip if b"reginfo" in message.body]),
        userdata=distinct([avp.data for message in diameter for avp in message.avps if avp.data[:5] == b"<?xml"]),
    )


def distinct(octets: Sequence[bytes]) -> tuple[bytes, ...]:
    """Each once, in order."""
    return tuple(dict.fromkeys(octets))


def pcap(packets: Sequence[Packet], order: str = "<", nano: bool = False) -> bytes:
    """The packets as a classic pcap file, each behind an Ethernet header."""
    magic = 0xA1B23C4D if nano else 0xA1B2C3D4
    parts = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262144, LINKTYPE_ETHERNET)]
    for packet in packets:
        frame = bytes(12) + (b"\x08\x00" if packet.octets[0] >> 4 == 4 else b"\x86\xdd") + packet.octets
        seconds = int(packet.time)
        fraction = int((packet.time - seconds) * (1_000_000_000 if nano else 1_000_000))
        parts.append(struct.pack(order + "IIII", seconds, fraction, len(frame), len(frame)) + frame)
    return b"".join(parts)
