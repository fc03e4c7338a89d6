"""Capture files: pcap and pcapng, read as a stream in bounded memory, and pcapng written.

pcap (libpcap's classic file): a 24-octet header, then per packet 16 octets (seconds, fraction, captured length,
original length) and the octets. The magic number tells the byte order and whether the fraction is µs or ns.

pcapng (draft-ietf-opsawg-pcapng): blocks of type, total length, body, total length again. A Section Header Block
tells the byte order and starts a new list of interfaces; Interface Description Blocks name interfaces, with link
type and clock resolution; Enhanced, Simple and (obsolete) Packet Blocks hold packets. What else there is, is skipped.

Either may be gzipped. Length fields lie: no more than MAX_BLOCK octets are ever held for one, and what is read from
the stream is read in pieces of CHUNK octets.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import BinaryIO, NamedTuple

from imslab.core.errors import LocalError, PeerError

#: Octets asked of the stream at once.
CHUNK = 1 << 18
#: The longest packet that is believed. Wireshark's own limit for most link types is 262,144.
MAX_PACKET = 1 << 20
#: The longest pcapng block that is believed (name tables and secrets may be longer than packets).
MAX_BLOCK = 1 << 24
#: Interfaces in one section of a pcapng file.
MAX_INTERFACES = 1 << 16

#: Link types that the dissector knows (www.tcpdump.org/linktypes.html).
LINKTYPE_NULL = 0
LINKTYPE_ETHERNET = 1
LINKTYPE_RAW = 101
LINKTYPE_LOOP = 108
LINKTYPE_LINUX_SLL = 113
LINKTYPE_IPV4 = 228
LINKTYPE_IPV6 = 229
LINKTYPE_LINUX_SLL2 = 276

_SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE, _ENHANCED = 0x0A0D0D0A, 1, 2, 3, 6
_OPT_END, _OPT_COMMENT, _OPT_IF_NAME, _OPT_IF_TSRESOL, _OPT_IF_TSOFFSET = 0, 1, 2, 9, 14
_NANO = 1_000_000_000


class Packet(NamedTuple):
    """One captured packet.

    number: its frame number, from 1, as Wireshark counts. time: seconds since the epoch; nanoseconds: the same, exact
    (0 in a packet that was not read from a file).
    point: the name of the interface in a pcapng file ("#N" when it has none), "" in a pcap file.
    octets: what was captured, from the link layer on; original_length: how long it was on the wire.
    """

    number: int
    time: float
    point: str
    linktype: int
    octets: bytes
    original_length: int
    comment: str = ""
    nanoseconds: int = 0


def read(source: BinaryIO | str | os.PathLike[str]) -> Iterator[Packet]:
    """The packets of a capture, one by one.

    source: a path, or a binary stream (a pipe will do; it is not closed).
    Raises LocalError when the file cannot be opened, and PeerError, after the packets before that place, when it is
    no capture, is damaged or ends too early; its offset counts octets from the start of the (unpacked) file.
    """
    if isinstance(source, (str, os.PathLike)):
        try:
            with Path(source).open("rb") as stream:
                yield from _read(_Source(stream))
        except OSError as error:
            raise LocalError(f"cannot read {os.fspath(source)}: {error.strerror or error}") from error
    else:
        yield from _read(_Source(source))


class _Source:
    """A window over the unpacked octets of the stream: `buffer` from `position` on is what has not been used yet."""

    __slots__ = ("_gzip", "_packed", "_stream", "base", "buffer", "position")

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._gzip: zlib._Decompress | None = None
        self._packed = b""
        self.buffer = b""
        self.position = 0
        #: Offset of buffer[0] in the file.
        self.base = 0
        self.more(2)
        if self.buffer[:2] == b"\x1f\x8b":
            self._gzip, self._packed, self.buffer = zlib.decompressobj(31), self.buffer, b""

    @property
    def offset(self) -> int:
        """Where `position` is in the file."""
        return self.base + self.position

    def more(self, wanted: int) -> bool:
        """Drop what was used and read until `wanted` octets wait behind `position`; False when the file ends first."""
        parts = [self.buffer[self.position :]]
        self.base += self.position
        self.position = 0
        have = len(parts[0])
        while have < wanted:
            piece = self._piece()
            if not piece:
                break
            parts.append(piece)
            have += len(piece)
        self.buffer = b"".join(parts)
        return have >= wanted

    def _piece(self) -> bytes:
        """Up to CHUNK further octets; none at the end."""
        if self._gzip is None:
            return self._stream.read(CHUNK) or b""
        while True:
            packed = self._packed or self._stream.read(CHUNK)
            if not packed:
                if self._gzip.eof:
                    return b""
                raise PeerError("the gzip stream ends too early", offset=self.base + len(self.buffer))
            if self._gzip.eof:  # a gzip file may have several members
                self._gzip = zlib.decompressobj(31)
            try:
                piece = self._gzip.decompress(packed, CHUNK)
            except zlib.error as error:
                raise PeerError(f"the gzip stream is damaged: {error}", offset=self.base + len(self.buffer)) from None
            self._packed = self._gzip.unconsumed_tail or self._gzip.unused_data
            if piece:
                return piece


def _read(source: _Source) -> Iterator[Packet]:
    if not source.more(4):
        if not source.buffer:
            raise PeerError("the file is empty: expected a capture (pcap or pcapng)", offset=0)
        raise PeerError("no capture: expected pcap or pcapng", octets=source.buffer, offset=0)
    magic = source.buffer[:4]
    if magic == b"\x0a\x0d\x0d\x0a":
        return _read_pcapng(source)
    if magic in _PCAP_MAGIC:
        return _read_pcap(source, *_PCAP_MAGIC[magic])
    raise PeerError("no capture: expected the magic number of pcap or pcapng", octets=source.buffer, offset=0)


# --- pcap ---

#: Magic number as it stands in the file → byte order, nanoseconds per unit of the fraction.
_PCAP_MAGIC = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}


def _read_pcap(source: _Source, order: str, unit: int) -> Iterator[Packet]:
    if not source.more(24):
        raise PeerError("the pcap file ends inside its header", octets=source.buffer, offset=len(source.buffer))
    linktype = Struct(order + "I").unpack_from(source.buffer, 20)[0] & 0x03FFFFFF  # above: length of an FCS
    source.position = 24
    unpack = Struct(order + "IIII").unpack_from
    new = tuple.__new__
    number = 0
    needed = 16
    while source.more(needed):
        buffer, position = source.buffer, source.position
        last = len(buffer) - 16
        while position <= last:
            seconds, fraction, captured, original = unpack(buffer, position)
            end = position + 16 + captured
            if end > last + 16:
                break
            number += 1
            nanoseconds = seconds * _NANO + fraction * unit
            octets = buffer[position + 16 : end]
            position = end
            yield new(Packet, (number, nanoseconds / _NANO, "", linktype, octets, original, "", nanoseconds))
        source.position = position
        needed = 16
        if position <= last:
            captured = unpack(buffer, position)[2]
            if captured > MAX_PACKET:
                raise PeerError(
                    f"frame {number + 1} claims {captured} octets, more than a packet can have",
                    octets=buffer[position : position + 16],
                    offset=source.offset,
                )
            needed += captured
    if len(source.buffer) > source.position:
        raise PeerError(
            f"the capture ends inside frame {number + 1}", octets=source.buffer[source.position :], offset=source.offset
        )


# --- pcapng ---


class _Interface(NamedTuple):
    name: str
    linktype: int
    snap: int
    per_second: int
    shift: int  # nanoseconds to add


def _read_pcapng(source: _Source) -> Iterator[Packet]:
    interfaces: list[_Interface] = []
    names: set[str] = set()
    header, enhanced, order = Struct("<II").unpack_from, Struct("<IIIIIII").unpack_from, "<"
    new = tuple.__new__
    number = 0
    needed = 12
    while source.more(needed):
        buffer, position = source.buffer, source.position
        size = len(buffer)
        needed = 12
        while position + 12 <= size:
            kind, total = header(buffer, position)
            if kind == _SECTION:
                order = _byte_order(buffer, position, source.base)
                header, enhanced = Struct(order + "II").unpack_from, Struct(order + "IIIIIII").unpack_from
                total = header(buffer, position)[1]
            if total < 12 or total & 3 or total > MAX_BLOCK:
                raise _damaged(f"a block claims a length of {total} octets", buffer, position, source.base)
            end = position + total
            if end > size:
                needed = total
                break
            if header(buffer, end - 8)[1] != total:
                raise _damaged("the two lengths of a block differ", buffer, position, source.base)
            if kind == _ENHANCED:
                if total < 32:
                    raise _damaged("an Enhanced Packet Block is too short", buffer, position, source.base)
                _, _, index, high, low, captured, original = enhanced(buffer, position)
                start = position + 28
                stop = start + captured
                if stop > end - 4:
                    raise _damaged("a packet claims to be longer than its block", buffer, position, source.base)
                if index >= len(interfaces):
                    raise _damaged(f"a packet names interface {index}, unknown", buffer, position, source.base)
                interface = interfaces[index]
                nanoseconds = (high << 32 | low) * _NANO // interface.per_second + interface.shift
                number += 1
                comment = ""
                if end - stop >= 12:  # more than padding and the trailing length: options
                    comment = _comments(_options(order, buffer, stop + (-captured & 3), end - 4))
                octets = buffer[start:stop]
                position = end
                yield new(
                    Packet,
                    (
                        number,
                        nanoseconds / _NANO,
                        interface.name,
                        interface.linktype,
                        octets,
                        original,
                        comment,
                        nanoseconds,
                    ),
                )
                continue
            if kind == _SECTION:
                interfaces, names = [], set()
            elif kind == _INTERFACE:
                if len(interfaces) >= MAX_INTERFACES or total < 20:
                    raise _damaged("an Interface Description Block is not credible", buffer, position, source.base)
                interfaces.append(_interface(order, buffer, position, end, len(interfaces), names))
            elif kind in (_SIMPLE, _OLD_PACKET):
                packet = _rare_packet(order, kind, buffer, position, end, interfaces, number + 1)
                if packet is None:
                    raise _damaged("a packet block is damaged", buffer, position, source.base)
                number += 1
                yield packet
            position = end
        source.position = position
    if len(source.buffer) > source.position:
        raise PeerError(
            f"the capture ends inside a block (after frame {number})",
            octets=source.buffer[source.position :],
            offset=source.offset,
        )


def _damaged(reason: str, buffer: bytes, position: int, base: int) -> PeerError:
    return PeerError(f"damaged pcapng: {reason}", octets=buffer[position : position + 32], offset=base + position)


def _byte_order(buffer: bytes, position: int, base: int) -> str:
    magic = buffer[position + 8 : position + 12]
    if magic == b"\x4d\x3c\x2b\x1a":
        return "<"
    if magic == b"\x1a\x2b\x3c\x4d":
        return ">"
    raise _damaged("a Section Header Block without its byte-order magic", buffer, position, base)


def _options(order: str, buffer: bytes, position: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Code and value of each option up to `end`; what is cut off is left out."""
    unpack = Struct(order + "HH").unpack_from
    while position + 4 <= end:
        code, length = unpack(buffer, position)
        if code == _OPT_END or position + 4 + length > end:
            return
        yield code, buffer[position + 4 : position + 4 + length]
        position += 4 + length + (-length & 3)


def _comments(options: Iterator[tuple[int, bytes]]) -> str:
    return "\n".join(value.decode("utf-8", "replace") for code, value in options if code == _OPT_COMMENT)


def _interface(order: str, buffer: bytes, position: int, end: int, number: int, names: set[str]) -> _Interface:
    linktype, _, snap = Struct(order + "HHI").unpack_from(buffer, position + 8)
    name = f"#{number}"
    per_second = 1_000_000
    shift = 0
    for code, value in _options(order, buffer, position + 16, end - 4):
        if code == _OPT_IF_NAME:
            name = value.rstrip(b"\0").decode("utf-8", "replace")
        elif code == _OPT_IF_TSRESOL and value:
            per_second = 1 << (value[0] & 0x7F) if value[0] & 0x80 else 10 ** value[0]
        elif code == _OPT_IF_TSOFFSET and len(value) == 8:
            shift = Struct(order + "q").unpack(value)[0] * _NANO
    if name in names:
        name += f"#{number}"  # two interfaces of one name (merged files) are two capture points
    names.add(name)
    return _Interface(name, linktype, snap, per_second, shift)


def _rare_packet(
    order: str, kind: int, buffer: bytes, position: int, end: int, interfaces: list[_Interface], number: int
) -> Packet | None:
    """A Simple Packet Block (no time; interface 0) or an obsolete Packet Block; None when it is damaged."""
    index, nanoseconds, comment = 0, 0, ""
    if kind == _SIMPLE:
        start = position + 12
        if start > end - 4 or not interfaces:
            return None
        original = Struct(order + "I").unpack_from(buffer, position + 8)[0]
        captured = min(original, interfaces[0].snap or original, end - 4 - start)
    else:
        start = position + 28
        if start > end - 4:
            return None
        index, _, high, low, captured, original = Struct(order + "HHIIII").unpack_from(buffer, position + 8)
        if index >= len(interfaces) or start + captured > end - 4:
            return None
        nanoseconds = (high << 32 | low) * _NANO // interfaces[index].per_second + interfaces[index].shift
        comment = _comments(_options(order, buffer, start + captured + (-captured & 3), end - 4))
    name, linktype = interfaces[index][:2]
    octets = buffer[start : start + captured]
    return Packet(number, nanoseconds / _NANO, name, linktype, octets, original, comment, nanoseconds)


class PcapngWriter:
    """Writes one section of pcapng, little-endian, with times in nanoseconds."""

    __slots__ = ("_interfaces", "_write")

    _PACKET = Struct("<IIIIIII")

    def __init__(self, stream: BinaryIO, comment: str = "") -> None:
        self._write = stream.write
        self._interfaces = 0
        options = _option(_OPT_COMMENT, comment.encode()) if comment else b""
        options += _option(4, b"imslab")  # shb_userappl
        self._block(_SECTION, Struct("<IHHq").pack(0x1A2B3C4D, 1, 0, -1) + options + bytes(4))

    def interface(self, name: str, linktype: int) -> int:
        """Describe an interface; the number is for `packet`."""
        options = _option(_OPT_IF_NAME, name.encode()) + _option(_OPT_IF_TSRESOL, b"\x09") + bytes(4)
        self._block(_INTERFACE, Struct("<HHI").pack(linktype, 0, 0) + options)
        self._interfaces += 1
        return self._interfaces - 1

    def packet(
        self,
        interface: int,
        time: float,
        octets: bytes,
        comment: str = "",
        *,
        original_length: int | None = None,
        nanoseconds: int | None = None,
    ) -> None:
        """One packet. time: seconds since the epoch; nanoseconds, when given, is the exact one instead."""
        if not 0 <= interface < self._interfaces:
            raise LocalError(f"interface {interface} was not described before its first packet")
        if nanoseconds is None:
            whole = int(time)  # a float of today's date times 10^9 would lose its last digits
            nanoseconds = whole * _NANO + round((time - whole) * _NANO)
        length = len(octets)
        options = _option(_OPT_COMMENT, comment.encode()) + bytes(4) if comment else b""
        total = 32 + length + (-length & 3) + len(options)
        self._write(
            self._PACKET.pack(
                _ENHANCED,
                total,
                interface,
                nanoseconds >> 32 & 0xFFFFFFFF,
                nanoseconds & 0xFFFFFFFF,
                length,
                length if original_length is None else original_length,
            )
            + octets
            + bytes(-length & 3)
            + options
            + total.to_bytes(4, "little")
        )

    def _block(self, kind: int, body: bytes) -> None:
        total = (12 + len(body)).to_bytes(4, "little")
        self._write(kind.to_bytes(4, "little") + total + body + total)


def _option(code: int, value: bytes) -> bytes:
    value = value[:0xFFFF]
    return Struct("<HH").pack(code, len(value)) + value + bytes(-len(value) & 3)
