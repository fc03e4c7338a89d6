"""Whatever a file holds: a capture is read or refused with PeerError, and no packet stops a dissector."""

from __future__ import annotations

import contextlib
import gzip
import io
import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from imslab.core.errors import LocalError, PeerError
from imslab.trace.dissect import Dissector, dissect
from imslab.trace.keys import KeyRing, parse_esp_sa
from imslab.trace.layers import gtp, link
from imslab.trace.pcap import Packet, PcapngWriter, read
from imslab.trace.registration import verdict
from imslab.trace.sightings import Sighting
from imslab.trace.streams import Streams
from tests.trace.wire import HSS, SCSCF, Registration, Wire, maa, request

LINKTYPES = [0, 1, 101, 108, 113, 228, 229, 276]
HEADS = [
    b"",
    struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1),
    struct.pack(">IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 101),
    struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28),
    struct.pack(">IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28) + struct.pack(">IIHHII", 1, 20, 1, 0, 0, 20),
]


def _registration() -> Wire:
    wire = Wire()
    flow = Registration(wire)
    flow.first()
    flow.core_challenge()
    wire.tcp(HSS, SCSCF, maa(flow.vector))
    flow.unauthorized()
    flow.second()
    wire.tcp(flow.uc, flow.ps, request("SUBSCRIBE", cseq=9), sa=flow.sas[0])
    flow.final()
    return wire


PACKETS = _registration().packets


def _capture() -> bytes:
    stream = io.BytesIO()
    writer = PcapngWriter(stream)
    writer.interface("x", 101)
    for packet in PACKETS:
        writer.packet(0, packet.time, packet.octets, "remark")
    return stream.getvalue()


CAPTURE = _capture()


def _read(octets: bytes) -> list[Packet]:
    found = []
    try:
        for packet in read(io.BytesIO(octets)):
            found.append(packet)
    except PeerError:
        pass
    return found


@given(st.sampled_from(HEADS), st.binary(max_size=400), st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_octets_are_a_capture_or_a_peer_error(head: bytes, octets: bytes, packed: bool) -> None:
    whole = head + octets
    found = _read(gzip.compress(whole, 1) if packed else whole)
    assert sum(len(packet.octets) for packet in found) <= len(whole)


@given(
    st.lists(st.tuples(st.integers(0, len(CAPTURE) - 1), st.integers(0, 255)), min_size=1, max_size=6),
    st.integers(0, 40),
)
@settings(max_examples=200, deadline=None)
def test_a_damaged_capture(changes: list[tuple[int, int]], cut: int) -> None:
    octets = bytearray(CAPTURE)
    for place, value in changes:
        octets[place] = value
    found = _read(bytes(octets[: len(octets) - cut]))
    assert sum(len(packet.octets) for packet in found) <= len(octets)


@given(st.sampled_from(LINKTYPES), st.lists(st.binary(max_size=200), max_size=5))
@settings(max_examples=200, deadline=None)
def test_no_frame_stops_a_dissector(linktype: int, frames: list[bytes]) -> None:
    trace = dissect(
        Packet(number, float(number), "", linktype, octets, len(octets)) for number, octets in enumerate(frames, 1)
    )
    assert trace.packets == len(frames)
    verdict(trace)


@given(
    st.integers(0, len(PACKETS) - 1),
    st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 255)), max_size=8),
    st.integers(0, 60),
    st.sampled_from(["replace", "insert", "twice", "drop", "swap"]),
    st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_no_damage_to_a_registration_stops_a_dissector(
    which: int, changes: list[tuple[int, int]], cut: int, how: str, keyed: bool
) -> None:
    packets = list(PACKETS)
    octets = bytearray(packets[which].octets)
    for place, value in changes:
        octets[place % len(octets)] = value
    changed = packets[which]._replace(octets=bytes(octets[: len(octets) - cut]))
    if how == "replace":
        packets[which] = changed
    elif how == "insert":
        packets.insert(which, changed)
    elif how == "twice":
        packets.insert(which, packets[which])
    elif how == "drop":
        del packets[which]
    else:
        packets[which - 1], packets[which] = packets[which], packets[which - 1]
    trace = dissect(packets, Registration(Wire()).key_ring() if keyed else None)
    verdict(trace)
    for record in trace.sip_records:
        trace.responses_to(record)
        trace.relayed(record)
        trace.request_of(record)
        trace.sa(record)
    for registration in trace.registrations:
        registration.as_json()


@given(st.binary(max_size=80), st.sampled_from([*LINKTYPES, 7, 999]))
@settings(max_examples=200, deadline=None)
def test_layers(octets: bytes, linktype: int) -> None:
    found = link(linktype, octets)
    assert found is None or 0 <= found[0] <= len(octets)
    tunnel = gtp(b"\x34" + octets)
    assert tunnel is None or tunnel[1] < len(octets) + 1


@given(
    st.lists(
        st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 255), st.binary(max_size=60), st.floats(0, 9)), max_size=12
    )
)
@settings(max_examples=200, deadline=None)
def test_streams_take_any_segments(segments: list[tuple[int, int, bytes, float]]) -> None:
    streams: Streams[str] = Streams()
    octets = 0
    for sequence, flags, data, time in segments:
        octets += len(data)
        streams.wants("k", flags, data)
        streams.segment("k", sequence, flags, data, Sighting((1,), time, ""), time)
    streams.finish()


@given(st.text(max_size=120))
@settings(max_examples=200, deadline=None)
def test_any_key_file_is_read_or_refused(text: str) -> None:
    for read_keys in (KeyRing().read, parse_esp_sa):
        with contextlib.suppress(LocalError):
            read_keys(text)


def test_a_dissector_needs_no_packets() -> None:
    assert Dissector().finish().records == []
