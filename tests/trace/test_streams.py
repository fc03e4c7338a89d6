"""TCP streams with everything that happens to them."""

from __future__ import annotations

import itertools

import pytest

from imslab.ipsec.packet import ACK, RST, SYN
from imslab.trace import streams
from imslab.trace.sightings import Sighting
from imslab.trace.streams import DIAMETER, SIP, Cut, Streams, looks_like_diameter, looks_like_sip
from tests.trace.wire import cx, request, response

MESSAGES = [
    request("REGISTER", cseq=1).encode(),
    response(401, "Unauthorized", "REGISTER").encode(),
    request("MESSAGE", cseq=3, body="SIP/2.0 200 OK is what the body says").encode(),
]
STREAM = b"".join(MESSAGES)


class Player:
    """Plays segments of one direction; each is its own sighting, numbered from 1."""

    def __init__(self, start: int = 1000, *, syn: bool = True) -> None:
        self.streams: Streams[str] = Streams()
        self.start = start
        self.frame = 0
        self.time = 0.0
        self.cuts: list[Cut] = []
        if syn:
            self.raw(start - 1 & 0xFFFFFFFF, b"", SYN)

    def raw(self, sequence: int, data: bytes, flags: int = ACK) -> None:
        self.frame += 1
        if self.streams.wants("k", flags, data):
            sighting = Sighting((self.frame,), self.time, "")
            self.cuts += self.streams.segment("k", sequence & 0xFFFFFFFF, flags, data, sighting, self.time)

    def at(self, start: int, end: int, stream: bytes = STREAM) -> None:
        self.raw(self.start + start, stream[start:end])

    @property
    def octets(self) -> list[bytes]:
        return [cut.octets for cut in self.cuts if cut.error is None]

    @property
    def frames(self) -> list[list[int]]:
        return [[frame for sighting in cut.sightings for frame in sighting.frames] for cut in self.cuts]


@pytest.mark.parametrize("size", [1, 7, 100, len(STREAM)])
@pytest.mark.parametrize("start", [1000, 0xFFFFFFF0, 0])
def test_any_segmentation_and_any_start(size: int, start: int) -> None:
    player = Player(start)
    for at in range(0, len(STREAM), size):
        player.at(at, min(at + size, len(STREAM)))
    assert player.octets == MESSAGES
    assert all(cut.protocol == SIP for cut in player.cuts)


def test_which_frames_a_message_came_in() -> None:
    player = Player()
    ends = list(itertools.accumulate(map(len, MESSAGES)))
    player.at(0, 50)
    player.at(50, ends[0] + 10)
    player.at(ends[0] + 10, ends[2])
    assert player.frames == [[2, 3], [3, 4], [4]]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_any_order(order: tuple[int, ...]) -> None:
    player = Player()
    quarter = len(STREAM) // 4 + 1
    for place in order:
        player.at(place * quarter, min((place + 1) * quarter, len(STREAM)))
    assert player.octets == MESSAGES


def test_repeats_and_overlaps_bring_nothing_twice() -> None:
    player = Player()
    for start, end in ((0, 100), (0, 100), (50, 150), (300, 400), (300, 400), (280, 420), (120, 300), (400, 5000)):
        player.at(start, min(end, len(STREAM)))
    player.at(0, len(STREAM))
    assert player.octets == MESSAGES


def test_a_capture_that_begins_in_the_middle() -> None:
    player = Player(syn=False)
    first = len(MESSAGES[0])
    player.at(100, first)  # the end of a message
    player.at(first, len(STREAM))
    assert player.octets == MESSAGES[1:]


def test_a_hole_costs_its_message_and_no_more() -> None:
    player = Player()
    ends = [0, *itertools.accumulate(map(len, MESSAGES))]
    player.at(ends[0], ends[1])
    player.at(ends[1] + 50, ends[2])  # the 50 octets before are missing
    player.time = 2.0
    player.at(ends[2], ends[3])
    assert player.octets == [MESSAGES[0], MESSAGES[2]]


def test_a_hole_at_the_end_of_the_capture() -> None:
    player = Player()
    ends = [0, *itertools.accumulate(map(len, MESSAGES))]
    player.at(ends[1], ends[2])
    player.at(ends[2], ends[3])
    assert player.octets == []
    assert [cut.octets for key, cut in player.streams.finish() if key == "k"] == MESSAGES[1:]


def test_a_hole_with_too_much_behind_it() -> None:
    for size, count in ((1000, streams.HELD // 1000 + 2), (1, streams.HELD_SEGMENTS + 2)):
        player = Player()
        for place in range(count):
            player.raw(player.start + 10 + place * size, b"x" * size)
        player.raw(player.start + 10 + count * size, MESSAGES[0])
        assert player.octets == [MESSAGES[0]]


def test_reset_and_a_new_connection_on_the_same_ports() -> None:
    player = Player()
    player.at(0, 100)
    player.raw(player.start + 100, b"", RST)
    player.raw(76999, b"", SYN)
    player.raw(77000, MESSAGES[1])
    player.raw(99, b"", SYN)
    player.raw(100, MESSAGES[2])
    assert player.octets == [MESSAGES[1], MESSAGES[2]]


def test_a_repeated_syn_does_not_start_anew() -> None:
    player = Player()
    player.raw(player.start - 1, b"", SYN)
    player.at(0, len(STREAM))
    assert player.octets == MESSAGES


def test_keep_alives_around_messages() -> None:
    player = Player()
    stream = b"\r\n\r\n" + MESSAGES[0] + b"\r\n\r\n" + MESSAGES[1]
    for at in range(0, len(stream), 3):
        player.at(at, at + 3, stream)
    assert player.octets == MESSAGES[:2]


def test_a_stream_that_cannot_be_followed_says_why_and_goes_on_later() -> None:
    player = Player()
    broken = MESSAGES[0].replace(b"Content-Length: 0", b"Content-Length: many")
    stream = MESSAGES[1] + broken
    player.at(0, len(stream), stream)
    player.raw(player.start + len(stream), MESSAGES[2])
    assert [cut.error is None for cut in player.cuts] == [True, False, True]
    assert player.octets == [MESSAGES[1], MESSAGES[2]]


def test_diameter() -> None:
    messages = [cx(300), cx(303, hop_by_hop=2), cx(303, request=False)]
    stream = b"".join(messages)
    for size in (1, 13, len(stream)):
        player = Player()
        for at in range(0, len(stream), size):
            player.at(at, at + size, stream)
        assert player.octets == messages
        assert {cut.protocol for cut in player.cuts} == {DIAMETER}
    player = Player()
    player.at(0, 100, messages[0] + b"\2" + bytes(30))
    assert [cut.error is None for cut in player.cuts] == [True, False]


def test_what_is_neither_is_left_alone() -> None:
    for start in (b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00", b"\x01\x00\x00\x03junkjunkjunkjunkjunk", b"A" * 3000):
        player = Player()
        player.raw(player.start, start)
        player.raw(player.start + len(start), b"whatever")
        assert player.cuts == []
        assert not player.streams.wants("k", ACK, b"more")
        player.raw(player.start + 5000, MESSAGES[0])  # and yet, should SIP come
        assert player.octets == [MESSAGES[0]]


def test_no_more_streams_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_STREAMS", 10)
    many: Streams[int] = Streams()
    for number in range(100):
        many.segment(number, 1, SYN, b"", Sighting((1,), 0.0, ""), 0.0)
    assert len(many._streams) == 10


def test_a_message_in_countless_segments_remembers_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_OPEN", 5)
    player = Player()
    for at in range(len(MESSAGES[0])):
        player.at(at, at + 1)
    assert player.octets == MESSAGES[:1]
    assert player.frames == [[2, 3, 4, 5, len(MESSAGES[0]) + 1]]


@pytest.mark.parametrize(
    "data", [b"SIP/2.0 200 OK\r\n", b"REGISTER sip:a SIP/2.0\r\n", b"MESSAGE tel:+1 SIP/2.0\nx", b"SIP/2.0 100 \r\n"]
)
def test_start_lines(data: bytes) -> None:
    assert looks_like_sip(data)


@pytest.mark.parametrize(
    "data", [b"", b"SIP/2.0 999 No", b"register sip:a SIP/2.0\r\n", b"GET / HTTP/1.1\r\n", b"A B SIP/2.0", bytes(20)]
)
def test_no_start_lines(data: bytes) -> None:
    assert not looks_like_sip(data)


def test_headers_of_diameter() -> None:
    good = cx(303)
    assert looks_like_diameter(good)
    assert not looks_like_diameter(good[:19])
    assert not looks_like_diameter(b"\2" + good[1:])
    assert not looks_like_diameter(good[:4] + b"\xcf" + good[5:])
    assert not looks_like_diameter(b"\1\0\0\x15" + good[4:])
    assert not looks_like_diameter(b"\1\0\0\x04" + good[4:])
    assert not looks_like_diameter(good[:5] + b"\xff\xff\xff" + good[8:])
    assert not looks_like_diameter(good[:8] + b"\x11\x11\x11\x11" + good[12:])
