"""Several captures as one."""

from __future__ import annotations

import io

import pytest

from imslab.core.errors import LocalError, PeerError
from imslab.trace.captures import Captures
from imslab.trace.pcap import LINKTYPE_RAW, PcapngWriter


def _capture(*times: float, point: str = "eth0") -> io.BytesIO:
    stream = io.BytesIO()
    writer = PcapngWriter(stream)
    writer.interface(point, LINKTYPE_RAW)
    for time in times:
        writer.packet(0, time, str(time).encode())
    stream.seek(0)
    return stream


def test_one_file_is_as_it_is() -> None:
    (packet,) = Captures([("a", _capture(1.0))]).packets()
    assert (packet.number, packet.point, packet.octets) == (1, "eth0", b"1.0")


def test_several_come_in_order_of_time() -> None:
    captures = Captures([("a", _capture(1.0, 4.0)), ("b", _capture(2.0, 3.0, 5.0))])
    packets = list(captures.packets())
    assert [packet.octets for packet in packets] == [b"1.0", b"2.0", b"3.0", b"4.0", b"5.0"]
    assert [packet.number for packet in packets] == [1, 2, 3, 4, 5]
    assert {packet.point for packet in packets} == {"a eth0", "b eth0"}
    assert captures.problems == []


def test_one_that_breaks_off_does_not_stop_the_others() -> None:
    broken = io.BytesIO(_capture(1.0, 2.0).getvalue()[:-3])
    captures = Captures([("a", broken), ("b", _capture(3.0))])
    assert [packet.octets for packet in captures.packets()] == [b"1.0", b"3.0"]
    (problem,) = captures.problems
    assert problem.reason.startswith("a: the capture ends inside a block")
    assert problem.offset is not None


def test_one_without_any_packet_is_an_error() -> None:
    with pytest.raises(PeerError, match="b: the file is empty"):
        list(Captures([("a", _capture(1.0)), ("b", io.BytesIO())]).packets())
    with pytest.raises(LocalError, match="cannot read"):
        list(Captures([("a", "/nowhere/at/all")]).packets())
