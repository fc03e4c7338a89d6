"""TCP streams in a capture, put together again and cut into messages.

A connection's direction is followed from its SYN, or from the first segment that begins with a message where the
capture began later. Segments may come late, twice or overlapping. What the capture missed cannot be had back: when the
segments after a hole have waited for HOLE seconds, or are more than HELD octets, the stream goes on behind it, at the
next segment that begins with a message.

What a stream carries is told by its first octets: SIP by its start line, Diameter by version, length and command. All
others are left alone.
"""

from __future__ import annotations

import re
from typing import Generic, NamedTuple, TypeVar

from imslab.core.errors import PeerError
from imslab.diameter.message import StreamFramer as DiameterFramer
from imslab.ipsec.packet import RST, SYN
from imslab.sip.parser import StreamFramer as SipFramer
from imslab.trace.sightings import Sighting

#: How long segments behind a hole are held, in seconds.
HOLE = 1.0
#: How many octets and segments behind a hole are held.
HELD = 1 << 18
HELD_SEGMENTS = 256
#: How many directions are followed at a time; the oldest make room.
MAX_STREAMS = 1 << 16
#: How many packets of one message are remembered: all but those between the first ones and the last.
MAX_OPEN = 4096
#: How much of a stream's beginning is looked at to tell what it carries.
HEAD = 2048

SIP, DIAMETER = "SIP", "Diameter"

#: What names one direction of a connection.
K = TypeVar("K")

#: A SIP start line: status line, or request line with its version (RFC 3261 7.1, 7.2).
_SIP_START = re.compile(rb"(?:SIP/2\.0 [1-6]\d\d[ \r]|[A-Z][A-Z]{1,31} [^\s]{1,1024} SIP/2\.0\r?\n)")
_CAPITALS = frozenset(bytes((letter,)) for letter in range(ord("A"), ord("Z") + 1))
_FIRST_OCTETS = _CAPITALS | {b"\x01"}
#: What may still become one.
_SIP_PREFIX = re.compile(rb"(?:S(?:I(?:P(?:/(?:2(?:\.(?:0(?: .{0,3})?)?)?)?)?)?)?|[A-Z]{1,32}(?: [^\r\n]*\r?)?)\Z")

#: Diameter commands: base, credit control and AAA, Cx, Sh, S6a and its like.
_COMMANDS = frozenset((257, 258, 265, 268, 271, 272, 274, 275, 280, 282, *range(300, 310), *range(316, 325)))
#: Diameter applications: common, NASREQ, accounting, credit control, relay, and 3GPP's.
_APPLICATIONS = frozenset((0, 1, 3, 4, 5, 0xFFFFFFFF))
_FIRST_3GPP, _LAST_3GPP = 16777216, 16777400


def looks_like_sip(data: bytes) -> bool:
    """True for octets that begin with a SIP start line."""
    return data[:1] in _CAPITALS and _SIP_START.match(data) is not None


def looks_like_diameter(data: bytes) -> bool:
    """True for octets that begin with the header of a Diameter message (RFC 6733 3)."""
    if len(data) < 20 or data[0] != 1 or data[4] & 0x0F:
        return False
    length = int.from_bytes(data[1:4], "big")
    if length < 20 or length & 3:
        return False
    application = int.from_bytes(data[8:12], "big")
    return int.from_bytes(data[5:8], "big") in _COMMANDS and (
        application in _APPLICATIONS or _FIRST_3GPP <= application <= _LAST_3GPP
    )


def begins_a_message(data: bytes) -> bool:
    """True for octets that begin with a message of ours."""
    # most packets are none, which their first octet tells
    return data[:1] in _FIRST_OCTETS and (looks_like_sip(data) or looks_like_diameter(data))


class Cut(NamedTuple):
    """A message that a stream carried, or the reason why the stream broke; and the packets that it came in."""

    protocol: str
    octets: bytes
    error: PeerError | None
    sightings: tuple[Sighting, ...]


class _Stream:
    """One direction of one connection."""

    __slots__ = ("framer", "head", "next", "open", "protocol", "waiting", "waiting_octets", "waiting_since")

    def __init__(self, following: int | None) -> None:
        #: The sequence number that comes next; None while there is nothing to follow.
        self.next = following
        #: None: not known yet. "": nothing of ours, or lost: the next start of a message is waited for.
        self.protocol: str | None = None if following is not None else ""
        self.framer: SipFramer | DiameterFramer | None = None
        #: The beginning, while it is too short to be told.
        self.head = b""
        #: The packets that the unfinished message came in.
        self.open: list[Sighting] = []
        self.waiting: dict[int, tuple[bytes, Sighting]] = {}
        self.waiting_octets = 0
        self.waiting_since = 0.0


class Streams(Generic[K]):
    """All TCP streams of a capture. K: what names one direction of a connection."""

    __slots__ = ("_streams",)

    def __init__(self) -> None:
        self._streams: dict[K, _Stream] = {}

    def wants(self, key: K, flags: int, data: bytes) -> bool:
        """True when a segment could matter: `segment` need not see any other."""
        stream = self._streams.get(key)
        if stream is not None and (stream.protocol != "" or stream.waiting):
            return True
        return flags & SYN != 0 or begins_a_message(data)

    def segment(self, key: K, sequence: int, flags: int, data: bytes, sighting: Sighting, time: float) -> list[Cut]:
        """What a segment completes."""
        stream = self._streams.get(key)
        if flags & SYN:
            sequence = sequence + 1 & 0xFFFFFFFF
            if stream is None or stream.next != sequence:
                stream = self._new(key, sequence)
        elif stream is None:
            stream = self._new(key, None)
        if flags & RST:
            self._streams.pop(key, None)
            return []
        if not data:
            return []
        cuts: list[Cut] = []
        if stream.protocol == "" and begins_a_message(data):
            ahead = 0 if stream.next is None else sequence - stream.next & 0xFFFFFFFF
            if ahead < 0x80000000:  # not a late copy of what has been read
                self._lose(stream)
                stream.protocol, stream.next = None, sequence
        if stream.next is None:
            return []
        ahead = sequence - stream.next & 0xFFFFFFFF
        if ahead >= 0x80000000:
            data = data[0x100000000 - ahead :]  # sent again, perhaps with something new behind
            ahead = 0
            if not data:
                return []
        if ahead:
            self._hold(stream, sequence, data, sighting, time)
            hole = time - stream.waiting_since > HOLE
            if hole or stream.waiting_octets > HELD or len(stream.waiting) > HELD_SEGMENTS:
                self._skip(stream, cuts)
            return cuts
        self._take(stream, data, sighting, cuts)
        if stream.waiting:
            self._drain(stream, cuts)
            stream.waiting_since = time
        return cuts

    def finish(self) -> list[tuple[K, Cut]]:
        """What can still be read behind holes at the end of the capture."""
        found: list[tuple[K, Cut]] = []
        for key, stream in self._streams.items():
            cuts: list[Cut] = []
            while stream.waiting:
                self._skip(stream, cuts)
            found.extend((key, cut) for cut in cuts)
        self._streams.clear()
        return found

    def _new(self, key: K, following: int | None) -> _Stream:
        self._streams.pop(key, None)
        if len(self._streams) >= MAX_STREAMS:
            del self._streams[next(iter(self._streams))]
        stream = self._streams[key] = _Stream(following)
        return stream

    @staticmethod
    def _hold(stream: _Stream, sequence: int, data: bytes, sighting: Sighting, time: float) -> None:
        if not stream.waiting:
            stream.waiting_since = time
        known = stream.waiting.get(sequence)
        if known is None or len(known[0]) < len(data):
            stream.waiting[sequence] = data, sighting
            stream.waiting_octets += len(data) - (len(known[0]) if known is not None else 0)

    def _drain(self, stream: _Stream, cuts: list[Cut]) -> None:
        """Take the segments that waited and whose turn has come."""
        assert stream.next is not None
        start = stream.next
        for sequence in sorted(stream.waiting, key=lambda each: each - start + 0x80000000 & 0xFFFFFFFF):
            back = stream.next - sequence & 0xFFFFFFFF
            if back >= 0x80000000:
                return  # another hole
            data, sighting = stream.waiting.pop(sequence)
            stream.waiting_octets -= len(data)
            if back < len(data):
                self._take(stream, data[back:], sighting, cuts)

    def _skip(self, stream: _Stream, cuts: list[Cut]) -> None:
        """Give up what is missing before the first segment that waits."""
        assert stream.next is not None
        start = stream.next
        self._lose(stream)
        stream.next = min(stream.waiting, key=lambda each: each - start & 0xFFFFFFFF)
        self._drain(stream, cuts)

    @staticmethod
    def _lose(stream: _Stream) -> None:
        stream.protocol, stream.framer, stream.head, stream.open = "", None, b"", []

    def _take(self, stream: _Stream, data: bytes, sighting: Sighting, cuts: list[Cut]) -> None:
        """The next octets of the stream."""
        assert stream.next is not None
        stream.next = stream.next + len(data) & 0xFFFFFFFF
        if len(stream.open) < MAX_OPEN:
            stream.open.append(sighting)
        else:
            stream.open[-1] = sighting
        if stream.framer is None:
            if stream.protocol == "":
                if not begins_a_message(data):
                    stream.open.clear()
                    return
                stream.protocol = None
            head = (stream.head + data).lstrip(b"\r\n")  # RFC 3261 7.5: line ends before a start line do not count
            if stream.protocol is None:
                stream.protocol = _tell(head)
            if stream.protocol is None:
                stream.head = head
                if not head:
                    stream.open.clear()
                return
            if stream.protocol == "":
                self._lose(stream)
                return
            stream.framer = SipFramer() if stream.protocol == SIP else DiameterFramer()
            stream.head = b""
            data = head
        protocol, framer = stream.protocol or "", stream.framer
        try:
            messages = framer.feed(data)
            error = framer.broken if isinstance(framer, SipFramer) else framer.error
        except PeerError as broken:
            messages, error = [], broken
        for message in messages:
            cuts.append(Cut(protocol, message, None, tuple(stream.open)))
            stream.open = [sighting]
        if error is not None:
            cuts.append(Cut(protocol, error.octets, error, tuple(stream.open)))
            self._lose(stream)
        elif not framer.pending:
            stream.open = []


def _tell(head: bytes) -> str | None:
    """What a stream that begins so carries: SIP, DIAMETER, "" for something else, None while it cannot be told."""
    if not head:
        return None
    if looks_like_sip(head):
        return SIP
    if head[0] == 1:
        if len(head) < 20:
            return None
        return DIAMETER if looks_like_diameter(head) else ""
    return None if len(head) < HEAD and _SIP_PREFIX.match(head) is not None else ""
