"""AVPs: the attribute-value pairs of which a Diameter message is made (RFC 6733 4).

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    |                            AVP code                           |
    |V M P r r r r r|         AVP length, header and data           |
    |                  vendor, only where V is set                  |
    |  data, padded to a multiple of four octets (not in the length)|

An Avp is immutable and holds its data raw: what nobody here knows survives the round trip, and a grouped AVP is a
tree whose inner octets are written once, when it is made. Its children are read when asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from imslab.core.errors import LocalError, PeerError

if TYPE_CHECKING:
    from imslab.diameter.message import DiameterMessage

FLAG_VENDOR = 0x80
FLAG_MANDATORY = 0x40
FLAG_PROTECTED = 0x20

#: 24 bits.
MAX_LENGTH = 0xFFFFFF

_HEADER = Struct(">II")
_VENDOR_HEADER = Struct(">III")
_U32 = Struct(">I")

#: (code, vendor) of AVPs whose data a repr never shows: XRES or a password's digest, CK, IK, digests of passwords.
SECRET = frozenset({(610, 10415), (625, 10415), (626, 10415), (663, 10415), (121, 0)})
_SECRET_GROUPS = frozenset({(612, 10415), (635, 10415)})


class DiameterError(PeerError):
    """A Diameter rule was broken, with what an answer should say about it.

    result_code: the Result-Code of RFC 6733 7.1 (or the Experimental-Result-Code of `vendor`, where that is not 0).
    failed: the AVPs that belong into Failed-AVP (RFC 6733 7.5).
    header: the message so far as it could be read, when its header could; enough to answer it.
    """

    def __init__(
        self,
        reason: str,
        result_code: int,
        *,
        vendor: int = 0,
        failed: Iterable[Avp] = (),
        clause: str = "",
        octets: bytes = b"",
        offset: int | None = None,
    ) -> None:
        super().__init__(reason, clause=clause, octets=octets, offset=offset)
        self.result_code = result_code
        self.vendor = vendor
        self.failed = tuple(failed)
        self.header: DiameterMessage | None = None


class Avp(NamedTuple):
    """One AVP.

    code: 32 bits. vendor: 0 for the IETF's. flags: 8 bits, FLAG_VENDOR decides whether a vendor is written.
    data: the octets without padding; of a grouped AVP those of its children, padded.
    """

    code: int
    vendor: int
    flags: int
    data: bytes

    @classmethod
    def grouped(cls, code: int, children: Iterable[Avp], vendor: int = 0, flags: int = FLAG_MANDATORY) -> Avp:
        """A grouped AVP. The vendor flag follows `vendor`."""
        return cls(code, vendor, flags | FLAG_VENDOR if vendor else flags, encode_avps(children))

    @property
    def mandatory(self) -> bool:
        """The M bit: who does not know this AVP must reject the message (RFC 6733 4.1)."""
        return bool(self.flags & FLAG_MANDATORY)

    @property
    def children(self) -> list[Avp]:
        """The AVPs inside. Raises DiameterError 5014 where the data is no sequence of AVPs."""
        return parse_avps(self.data)

    def find(self, code: int, vendor: int = 0) -> Avp | None:
        """The first child of this code and vendor. Raises as `children` does."""
        return next((avp for avp in self.children if avp.code == code and avp.vendor == vendor), None)

    def encode(self) -> bytes:
        """The whole AVP, padded with zeros."""
        return encode_avps((self,))

    def __repr__(self) -> str:
        key = (self.code, self.vendor)
        shown = f"<{len(self.data)} octets>" if key in SECRET or key in _SECRET_GROUPS else repr(self.data)
        return f"Avp({self.code}, {self.vendor}, {self.flags:#04x}, {shown})"


_new_tuple = tuple.__new__


def parse_avps(octets: bytes, offset: int = 0) -> list[Avp]:
    """The AVPs from `offset` to the end. The last one may lack its padding, as some write it inside groups.

    Raises DiameterError 5014 with the offending header in `failed` where a length is less than its header or more
    than what is left.
    """
    avps: list[Avp] = []
    append = avps.append
    end = len(octets)
    while offset < end:
        if end - offset < 8:
            raise _invalid_length("octets left over that are too few for an AVP header", octets, offset)
        code, length = _HEADER.unpack_from(octets, offset)
        flags = length >> 24
        length &= MAX_LENGTH
        if flags & FLAG_VENDOR:
            header = 12
            if end - offset < 12:
                raise _invalid_length("AVP header cut off before its vendor", octets, offset, Avp(code, 0, 0, b""))
            vendor = _U32.unpack_from(octets, offset + 8)[0]
        else:
            header = 8
            vendor = 0
        if length < header or length > end - offset:
            where = "less than its header" if length < header else f"more than the {end - offset} octets left"
            # RFC 6733 7.1.5: the header is sufficient where the length is of no use.
            failed = Avp(code, vendor, flags, b"")
            raise _invalid_length(f"AVP {code}: length {length} is {where}", octets, offset, failed)
        append(_new_tuple(Avp, (code, vendor, flags, octets[offset + header : offset + length])))
        offset += length + 3 & ~3
    return avps


def _invalid_length(reason: str, octets: bytes, offset: int, *failed: Avp) -> DiameterError:
    return DiameterError(
        reason, 5014, failed=failed, clause="RFC 6733 7.1.5", octets=octets[offset : offset + 16], offset=offset
    )


_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")


def encode_avps(avps: Iterable[Avp]) -> bytes:
    """The octets of AVPs one after another, each padded with zeros. Raises LocalError where a field does not fit."""
    parts: list[bytes] = []
    for code, vendor, flags, data in avps:
        size = len(data)
        try:
            if flags & FLAG_VENDOR:
                parts.append(_VENDOR_HEADER.pack(code, flags << 24 | size + 12, vendor))
            else:
                parts.append(_HEADER.pack(code, flags << 24 | size + 8))
        except Exception as error:
            raise LocalError(f"AVP {code}: code, flags or vendor out of range") from error
        if size > MAX_LENGTH - 12:
            raise LocalError(f"AVP {code}: {size} octets do not fit into a length of 24 bits")
        parts.append(data)
        if size & 3:
            parts.append(_PADDING[size & 3])
    return b"".join(parts)
