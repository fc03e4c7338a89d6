"""The data types of AVPs (RFC 6733 4.2, 4.3): octets to values and back.

    type                                    value here
    OctetString                             bytes
    UTF8String, DiameterIdentity,           str
      DiameterURI, IPFilterRule
    Integer32/64, Unsigned32/64, Enumerated int
    Float32/64                              float
    Address                                 str: the IP address in canonical text; another family "family:hex digits"
    Time                                    int: seconds since 1970 (RFC 6733 4.3.1: since 1900, era by RFC 5905)
    Grouped                                 list[Avp]

`decode` raises DiameterError 5014 for a wrong length and 5004 for a wrong value; `encode` LocalError.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from imslab.core.errors import LocalError
from imslab.core.flow import canonical_host, pack_host, unpack_host
from imslab.diameter.avp import Avp, DiameterError, encode_avps, parse_avps

#: Seconds from 1900 to 1970.
_NTP_TO_UNIX = 2_208_988_800
_ERA = 1 << 32


class DataType(NamedTuple):
    """One type. minimum: the fewest octets that data of it has, for the example in a Failed-AVP (RFC 6733 7.5)."""

    name: str
    minimum: int
    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]

    def __repr__(self) -> str:
        return self.name


def _wrong_length(name: str, data: bytes) -> DiameterError:
    return DiameterError(f"{len(data)} octets are no {name}", 5014, clause="RFC 6733 4.2", octets=data)


def _fixed(name: str, form: str) -> DataType:
    coder = struct.Struct(form)
    size = coder.size

    def decode(data: bytes) -> Any:
        if len(data) != size:
            raise _wrong_length(name, data)
        return coder.unpack(data)[0]

    def encode(value: Any) -> bytes:
        try:
            return coder.pack(value)
        except (struct.error, TypeError, OverflowError) as error:
            raise LocalError(f"{value!r} is no {name}: {error}") from error

    return DataType(name, size, decode, encode)


def _decode_text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise DiameterError("text is not UTF-8", 5004, clause="RFC 6733 4.3.1", octets=data) from error


def _encode_text(value: Any) -> bytes:
    if not isinstance(value, str):
        raise LocalError(f"{value!r} is no text")
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise LocalError("text with lone surrogates cannot be written as UTF-8") from error


def _encode_octets(value: Any) -> bytes:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise LocalError(f"an OctetString takes octets, not {type(value).__name__}")
    return bytes(value)


def _decode_address(data: bytes) -> str:
    # The first two octets are IANA's address family: 1 IPv4, 2 IPv6, 8 E.164 …
    if len(data) < 2:
        raise _wrong_length("Address", data)
    family = int.from_bytes(data[:2], "big")
    if family in (1, 2):
        if len(data) != (6 if family == 1 else 18):
            raise _wrong_length("Address", data)
        return unpack_host(data[2:])
    return f"{family}:{data[2:].hex()}"


def _encode_address(value: Any) -> bytes:
    try:
        packed = pack_host(canonical_host(value))
        return (b"\0\1" if len(packed) == 4 else b"\0\2") + packed
    except (ValueError, TypeError, AttributeError):
        pass
    try:
        family, digits = value.split(":", 1)
        return int(family).to_bytes(2, "big") + bytes.fromhex(digits)
    except (ValueError, TypeError, AttributeError, OverflowError):
        raise LocalError(f"{value!r} is neither an IP address nor family:hex") from None


def _decode_time(data: bytes) -> int:
    if len(data) != 4:
        raise _wrong_length("Time", data)
    seconds = int.from_bytes(data, "big")
    # RFC 5905 6, RFC 6733 4.3.1: the high bit clear means the era that begins in 2036.
    return seconds - _NTP_TO_UNIX + (0 if seconds & 0x80000000 else _ERA)


def _encode_time(value: Any) -> bytes:
    try:
        seconds = int(value) + _NTP_TO_UNIX
    except (TypeError, ValueError, OverflowError):
        raise LocalError(f"{value!r} is no time") from None
    if not 0x80000000 <= seconds < 0x80000000 + _ERA:
        raise LocalError(f"{value!r} is outside of what a Time can say")
    return (seconds % _ERA).to_bytes(4, "big")


def _encode_grouped(value: Any) -> bytes:
    children: Iterable[Avp] = value
    return encode_avps(children)


OCTETS = DataType("OctetString", 0, bytes, _encode_octets)
UTF8 = DataType("UTF8String", 0, _decode_text, _encode_text)
IDENTITY = DataType("DiameterIdentity", 0, _decode_text, _encode_text)
URI = DataType("DiameterURI", 0, _decode_text, _encode_text)
FILTER = DataType("IPFilterRule", 0, _decode_text, _encode_text)
I32 = _fixed("Integer32", ">i")
I64 = _fixed("Integer64", ">q")
U32 = _fixed("Unsigned32", ">I")
U64 = _fixed("Unsigned64", ">Q")
F32 = _fixed("Float32", ">f")
F64 = _fixed("Float64", ">d")
ENUM = _fixed("Enumerated", ">i")
ADDRESS = DataType("Address", 6, _decode_address, _encode_address)
TIME = DataType("Time", 4, _decode_time, _encode_time)
GROUPED = DataType("Grouped", 0, parse_avps, _encode_grouped)
