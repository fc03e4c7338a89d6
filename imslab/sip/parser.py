"""From octets to messages: one datagram, or a stream cut by Content-Length (RFC 3261 7, 18.3)."""

from __future__ import annotations

import re

from imslab.core.errors import PeerError
from imslab.sip.grammar import LWS, decode, number
from imslab.sip.headers import split_rows
from imslab.sip.message import Message, message_from_parts

_CRLF2 = b"\r\n\r\n"
_LENGTH_ROW = re.compile(rb"\r\n(?:content-length|l)[ \t]*:([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)", re.IGNORECASE)
_FOLD = re.compile(rb"\r\n[ \t]")


def parse(octets: bytes) -> Message:
    """The message in one datagram (or in one piece that `StreamFramer` cut).

    The start line and the rows are looked at; values are read when asked for. Raises PeerError.
    """
    start = 0
    if octets[:2] == b"\r\n":
        # RFC 3261 7.5: CRLFs before the start line are ignored.
        start = len(octets) - len(octets.lstrip(b"\r\n"))
    end = octets.find(_CRLF2, start)
    if end < 0:
        raise PeerError("no empty line after the headers", clause="RFC 3261 7", octets=octets)
    head = octets[start:end]
    first, *lines = decode(head).split("\r\n")
    if head.count(b"\r") != len(lines) or head.count(b"\n") != len(lines):
        # A lone CR or LF inside a value would become a line of its own at the next, laxer box.
        raise PeerError("a line end that is not CRLF", clause="RFC 3261 7", octets=head)
    keys, lines = split_rows(lines)
    message = message_from_parts(first, keys, lines)
    body = octets[end + 4 :]
    if "content-length" in keys:
        length = _content_length(message.rows("Content-Length"), head)
        if length > len(body):
            # RFC 3261 18.3: a datagram that ends before its body does is an error.
            raise PeerError("the body is shorter than Content-Length", clause="RFC 3261 18.3", octets=head)
        if length < len(body):
            # RFC 3261 18.3: octets after the body of a datagram are discarded.
            body = body[:length]
    total = end + 4 + len(body)
    message.keep_received(body, octets if start == 0 and total == len(octets) else octets[start:total])
    return message


def _content_length(values: list[str], head: bytes) -> int:
    length = number(values[0], "Content-Length", clause="RFC 3261 20.14")
    for other in values[1:]:
        # RFC 3261 7.3.1: a header that is no list appears once. Two that agree hide nothing, two that do not may.
        if number(other, "Content-Length", clause="RFC 3261 20.14") != length:
            raise PeerError("Content-Length appears more than once", clause="RFC 3261 7.3.1", octets=head)
    return length


class StreamFramer:
    """Cuts a stream into messages by Content-Length (RFC 3261 18.3), whatever the pieces in which it arrives.

    limit: the most octets that one message may have; what is announced larger breaks the stream.
    pings: double CRLFs seen between messages (RFC 5626 4.4.1) since the last `take_pings`.
    """

    __slots__ = ("_broken", "_buffer", "_crlfs", "_needed", "_seen", "limit", "pings")

    def __init__(self, limit: int = 1 << 20) -> None:
        self.limit = limit
        self.reset()

    def reset(self) -> None:
        """Forget everything: a new stream begins."""
        self.pings = 0
        self._buffer = bytearray()
        #: Up to where the buffer holds no empty line.
        self._seen = 0
        #: Length of the message at the start of the buffer; 0 while its head is not complete.
        self._needed = 0
        self._crlfs = 0
        self._broken: PeerError | None = None

    @property
    def broken(self) -> PeerError | None:
        """Why the stream cannot be followed any more; None if it can."""
        return self._broken

    @property
    def pending(self) -> int:
        """Octets that wait for the rest of their message."""
        return len(self._buffer)

    def take_pings(self) -> int:
        """The number of double CRLFs since the last call."""
        pings, self.pings = self.pings, 0
        return pings

    def feed(self, octets: bytes) -> list[bytes]:
        """The messages that are complete now, whole, in order.

        Raises PeerError when the stream cannot be followed any more; if messages stand before the bad place, they are
        returned and the next call raises. Only `reset` helps then.
        """
        if self._broken is not None:
            raise self._broken
        messages: list[bytes] = []
        buffer = self._buffer
        buffer += octets
        try:
            while buffer:
                if not self._needed:
                    self._skip_line_ends()
                    if not self._measure():
                        break
                if len(buffer) < self._needed:
                    break
                messages.append(bytes(buffer[: self._needed]))
                del buffer[: self._needed]
                self._needed = self._seen = 0
        except PeerError as error:
            self._broken = error
            self._buffer = bytearray()
            if not messages:
                raise
        return messages

    def _skip_line_ends(self) -> None:
        if self._seen:
            return
        buffer = self._buffer
        count = 0
        while buffer.startswith(b"\r\n", count):
            count += 2
            self._crlfs += 1
            # RFC 5626 3.5.1: a double CRLF is a ping, to be answered with one CRLF.
            if self._crlfs == 2:
                self.pings += 1
                self._crlfs = 0
        if count:
            del buffer[:count]
        if buffer and buffer != b"\r":
            self._crlfs = 0

    def _measure(self) -> bool:
        """True when the head at the start of the buffer is complete; `_needed` tells the message's length then."""
        buffer = self._buffer
        end = buffer.find(_CRLF2, self._seen)
        if end < 0:
            if len(buffer) > self.limit:
                raise PeerError("the headers do not end", clause="RFC 3261 18.3", octets=bytes(buffer[:80]))
            self._seen = max(len(buffer) - 3, 0)
            return False
        head = bytes(buffer[:end])
        values = [decode(_FOLD.sub(b" ", value)).strip(LWS) for value in _LENGTH_ROW.findall(head)]
        if not values:
            # RFC 3261 18.3: over a stream Content-Length says where the message ends; without it nothing does.
            raise PeerError("a stream message without Content-Length", clause="RFC 3261 18.3", octets=head)
        length = _content_length(values, head)
        if end + 4 + length > self.limit:
            raise PeerError(f"a message of more than {self.limit} octets", clause="RFC 3261 18.3", octets=head)
        self._needed = end + 4 + length
        return True
