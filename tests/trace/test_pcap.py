"""Captures written by others, cut short, and lying; and ours in the eyes of others."""

from __future__ import annotations

import gzip
import io
import struct
import subprocess
from pathlib import Path

import pytest

from imslab.core.errors import LocalError, PeerError
from imslab.trace.pcap import LINKTYPE_ETHERNET, LINKTYPE_RAW, Packet, PcapngWriter, read
from tests.require import require_program

scapy = pytest.importorskip("scapy.utils")

OCTETS = [bytes([number]) * (60 + number) for number in range(5)]


class Drip(io.BytesIO):
    """A stream that gives single octets, as a slow pipe may."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(1 if size else 0)


def _pcap(order: str = "<", magic: int = 0xA1B2C3D4, linktype: int = 1) -> bytes:
    out = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, linktype)
    for number, octets in enumerate(OCTETS):
        out += struct.pack(order + "IIII", 1_600_000_000 + number, 123_456, len(octets), len(octets) + 7) + octets
    return out


def _block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", 12 + len(body))
    return struct.pack(order + "I", kind) + length + body + length


def _section(order: str) -> bytes:
    return _block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))


def _option(order: str, code: int, value: bytes) -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def _interface(order: str, linktype: int, *options: tuple[int, bytes], snap: int = 0) -> bytes:
    body = struct.pack(order + "HHI", linktype, 0, snap) + b"".join(_option(order, *each) for each in options)
    return _block(order, 1, body + (bytes(4) if options else b""))


def _enhanced(order: str, interface: int, ticks: int, octets: bytes, *options: tuple[int, bytes]) -> bytes:
    head = struct.pack(order + "IIIII", interface, ticks >> 32, ticks & 0xFFFFFFFF, len(octets), len(octets))
    tail = b"".join(_option(order, *each) for each in options) + (bytes(4) if options else b"")
    return _block(order, 6, head + octets + bytes(-len(octets) % 4) + tail)


def _packets(octets: bytes) -> list[Packet]:
    return list(read(io.BytesIO(octets)))


def _until_error(octets: bytes) -> tuple[list[Packet], PeerError | None]:
    found: list[Packet] = []
    try:
        for packet in read(io.BytesIO(octets)):
            found.append(packet)
    except PeerError as error:
        return found, error
    return found, None


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("magic", "unit"), [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1)])
def test_pcap_in_both_orders_and_resolutions(order: str, magic: int, unit: int) -> None:
    packets = _packets(_pcap(order, magic))
    assert [packet.octets for packet in packets] == OCTETS
    assert [packet.number for packet in packets] == [1, 2, 3, 4, 5]
    assert packets[2].nanoseconds == 1_600_000_002_000_000_000 + 123_456 * unit
    assert packets[2].time == pytest.approx(1_600_000_002 + 123_456 * unit / 1e9)
    assert packets[2].original_length == len(OCTETS[2]) + 7
    assert packets[2].linktype == LINKTYPE_ETHERNET
    assert packets[2].point == ""


def test_the_length_of_a_frame_check_sequence_is_no_link_type() -> None:
    assert _packets(_pcap(linktype=0x2400_0001))[0].linktype == LINKTYPE_ETHERNET


def test_what_scapy_writes(tmp_path: Path) -> None:
    for name, options in (("us", {}), ("ns", {"nano": True}), ("big", {"endianness": ">"})):
        path = tmp_path / f"{name}.pcap"
        with scapy.PcapWriter(str(path), linktype=101, **options) as writer:
            writer.write_header(None)
            for number, octets in enumerate(OCTETS):
                writer.write_packet(octets, sec=100 + number, usec=7)
        packets = list(read(path))
        assert [packet.octets for packet in packets] == OCTETS, name
        assert packets[1].nanoseconds == 101_000_000_007 if name == "ns" else 101_000_007_000


def test_what_tshark_writes(tmp_path: Path) -> None:
    tshark = require_program("tshark")
    source = tmp_path / "in.pcap"
    source.write_bytes(_pcap(linktype=101))
    for kind in ("pcap", "nsecpcap", "pcapng"):
        path = tmp_path / kind
        subprocess.run([tshark, "-r", source, "-w", path, "-F", kind], check=True, capture_output=True)
        assert [packet.octets for packet in read(path)] == OCTETS, kind
        assert [packet.original_length for packet in read(str(path))] == [len(octets) + 7 for octets in OCTETS], kind


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng_interfaces_sections_times_and_comments(order: str) -> None:
    other = ">" if order == "<" else "<"
    octets = (
        _section(order)
        + _interface(order, 1, (2, b"eth0"), (9, b"\x09"))
        + _interface(order, 101, (2, b"lo\0"), (9, b"\x94"), (14, struct.pack(order + "q", 10)))
        + _interface(order, 101)
        + _enhanced(order, 0, 1_600_000_000_000_000_001, b"one", (1, b"first"), (1, b"and more"))
        + _block(order, 4, b"a name table")
        + _enhanced(order, 1, 3 << 20, b"four")
        + _enhanced(order, 2, 1_500_000, b"microseconds")
        + _section(other)
        + _interface(other, 113, (2, b"any"))
        + _enhanced(other, 0, 2_000_000, b"five!")
    )
    packets = _packets(octets)
    assert [(each.octets, each.point, each.linktype) for each in packets] == [
        (b"one", "eth0", 1),
        (b"four", "lo", 101),
        (b"microseconds", "#2", 101),
        (b"five!", "any", 113),
    ]
    assert [each.nanoseconds for each in packets] == [
        1_600_000_000_000_000_001,
        13_000_000_000,
        1_500_000_000,
        2_000_000_000,
    ]
    assert packets[0].comment == "first\nand more"
    assert packets[1].comment == ""
    assert [each.number for each in packets] == [1, 2, 3, 4]


def test_two_interfaces_of_one_name_are_two_points() -> None:
    octets = (
        _section("<")
        + _interface("<", 1, (2, b"any"))
        + _interface("<", 1, (2, b"any"))
        + _enhanced("<", 0, 0, b"a")
        + _enhanced("<", 1, 0, b"b")
    )
    assert [each.point for each in _packets(octets)] == ["any", "any#1"]


@pytest.mark.parametrize("order", ["<", ">"])
def test_simple_and_obsolete_packet_blocks(order: str) -> None:
    simple = _block(order, 3, struct.pack(order + "I", 9) + b"nine long")
    cut = _block(order, 3, struct.pack(order + "I", 100) + b"sixteen of them!")
    old_head = struct.pack(order + "HHIIII", 0, 0, 0, 5_000_000, 3, 30)
    old = _block(order, 2, old_head + b"old\0" + _option(order, 1, b"remark") + bytes(4))
    packets = _packets(_section(order) + _interface(order, 1, snap=16) + simple + cut + old)
    assert [each.octets for each in packets] == [b"nine long", b"sixteen of them!", b"old"]
    assert [each.original_length for each in packets] == [9, 100, 30]
    assert packets[2].nanoseconds == 5_000_000_000
    assert packets[2].comment == "remark"


def test_gzip_and_several_members() -> None:
    whole = _pcap()
    assert [each.octets for each in _packets(gzip.compress(whole))] == OCTETS
    assert [each.octets for each in _packets(gzip.compress(whole[:100]) + gzip.compress(whole[100:]))] == OCTETS


@pytest.mark.parametrize("octets", [_pcap(), _section("<") + _interface("<", 1) + _enhanced("<", 0, 5, b"abc")])
def test_a_stream_in_single_octets(octets: bytes) -> None:
    assert list(read(Drip(octets))) == _packets(octets)
    packed = gzip.compress(octets)
    assert list(read(Drip(packed))) == _packets(octets)


def test_a_capture_larger_than_any_chunk() -> None:
    octets = bytes(1400)
    big = _pcap()[:24] + (struct.pack("<IIII", 1, 2, 1400, 1400) + octets) * 2000
    assert sum(len(packet.octets) for packet in _packets(big)) == 2000 * 1400
    block = _enhanced("<", 0, 1, bytes(300_000))
    assert [len(each.octets) for each in _packets(_section("<") + _interface("<", 1) + block * 3)] == [300_000] * 3


@pytest.mark.parametrize("whole", [_pcap(), _section("<") + _interface("<", 1) + _enhanced("<", 0, 5, b"abc") * 3])
def test_cut_short_anywhere(whole: bytes) -> None:
    complete = _packets(whole)
    for length in range(len(whole)):
        found, error = _until_error(whole[:length])
        assert found == complete[: len(found)]
        if error is not None:
            assert error.offset is not None
            assert error.offset <= length
        else:  # cut between two packets: nobody can tell
            assert length >= 24
    assert len(complete) > 2


def test_errors_say_what_and_where() -> None:
    for octets, text in (
        (b"", "the file is empty"),
        (b"\xd4\xc3", "no capture"),
        (b"hello, world, this is no capture", "no capture"),
        (_pcap()[:20], "inside its header"),
        (_pcap()[:-1], "inside frame 5"),
        (gzip.compress(_pcap())[:-30], "gzip stream ends too early"),
        (gzip.compress(_pcap())[:20] + b"garbage" * 20, "gzip stream is damaged"),
        (_section("<")[:-4], "inside a block"),
    ):
        error = _until_error(octets)[1]
        assert error is not None, text
        assert text in str(error)


def test_lengths_that_lie() -> None:
    head = _pcap()[:24]
    section = _section("<")
    interface = _interface("<", 1)
    packet = _enhanced("<", 0, 5, b"abc")
    for octets, text in (
        (head + struct.pack("<IIII", 0, 0, 0xFFFFFFFF, 1) + b"x" * 100, "claims 4294967295 octets"),
        (section + struct.pack("<II", 6, 0xFFFFFFFC) + b"x" * 100, "a length of 4294967292"),
        (section + struct.pack("<II", 6, 13) + b"x" * 100, "a length of 13"),
        (section + struct.pack("<II", 6, 4) + b"x" * 100, "a length of 4"),
        (section + interface[:-4] + bytes(4), "two lengths"),
        (section + packet, "names interface 0"),
        (section + interface + _block("<", 6, bytes(8)), "too short"),
        (section + interface + packet.replace(b"\3\0\0\0", b"\xff\0\0\0", 1), "longer than its block"),
        (section + _block("<", 1, b"abcd"), "Interface Description Block"),
        (section + _block("<", 3, struct.pack("<I", 4) + b"abcd"), "packet block is damaged"),
        (section + interface + _block("<", 3, b""), "packet block is damaged"),
        (section + interface + _block("<", 2, b"short"), "packet block is damaged"),
        (section + interface + _block("<", 2, struct.pack("<HHIIII", 9, 0, 0, 0, 0, 0)), "packet block is damaged"),
        (b"\x0a\x0d\x0d\x0a" + bytes(24), "byte-order magic"),
    ):
        error = _until_error(octets)[1]
        assert error is not None, text
        assert text in str(error)
        assert error.offset is not None


def test_options_that_lie_are_left_out() -> None:
    block = _enhanced("<", 0, 5, b"abcd", (1, b"fine"))
    lying = block.replace(b"\1\0\4\0fine", b"\1\0\xff\0fine")
    packet = _packets(_section("<") + _interface("<", 1) + lying)[0]
    assert packet.comment == ""
    assert packet.octets == b"abcd"


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"cannot read .*missing"):
        list(read(tmp_path / "missing"))
    with pytest.raises(LocalError, match="directory"):
        list(read(tmp_path))


def test_what_we_write_is_what_tshark_reads(tmp_path: Path) -> None:
    tshark = require_program("tshark")
    path = tmp_path / "ours.pcapng"
    with path.open("wb") as stream:
        writer = PcapngWriter(stream, "made for a test")
        first, second = writer.interface("Gm", LINKTYPE_RAW), writer.interface("Mw", LINKTYPE_ETHERNET)
        writer.packet(first, 1_600_000_000.5, OCTETS[0], "a remark of odd length")
        writer.packet(second, 0, OCTETS[1], nanoseconds=1_600_000_001_123_456_789)
        writer.packet(first, 1_600_000_002.25, OCTETS[2], original_length=999)
        writer.packet(second, 3.0, b"")
    fields = ["frame.interface_name", "frame.time_epoch", "frame.cap_len", "frame.len", "frame.comment"]
    arguments = [argument for field in fields for argument in ("-e", field)]
    done = subprocess.run(
        [tshark, "-r", path, "-T", "fields", "-E", "separator=|", *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == [
        "Gm|1600000000.500000000|60|60|a remark of odd length",
        "Mw|1600000001.123456789|61|61|",
        "Gm|1600000002.250000000|62|999|",
        "Mw|3.000000000|0|0|",
    ]
    back = list(read(path))
    assert [each.octets for each in back] == [*OCTETS[:3], b""]
    assert back[0].comment == "a remark of odd length"


def test_a_packet_needs_its_interface() -> None:
    writer = PcapngWriter(io.BytesIO())
    with pytest.raises(LocalError, match="interface 0"):
        writer.packet(0, 0.0, b"")
