"""Diameter messages (RFC 6733 3) and their framing on a stream.

 0                   1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
|  version (1)  |          message length, header included      |
|R P E T r r r r|                  command code                 |
|                         application id                        |
|                      hop-by-hop identifier                    |
|                      end-to-end identifier                    |
|  AVPs …
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from struct import Struct
from typing import Any

from imslab.core.entropy import Entropy
from imslab.core.errors import LocalError
from imslab.diameter.avp import MAX_LENGTH, Avp, DiameterError, encode_avps, parse_avps
from imslab.diameter.dictionary import VENDOR_3GPP, by_code, by_name, command_name, example, make, value_of

HEADER_LENGTH = 20
VERSION = 1

FLAG_REQUEST = 0x80
FLAG_PROXIABLE = 0x40
FLAG_ERROR = 0x20
FLAG_RETRANSMITTED = 0x10

#: The longest message a framer accepts unless told otherwise, in octets. User data stays far below it.
MAX_MESSAGE = 1 << 20

_HEADER = Struct(">IIIII")

_SESSION_ID = by_name("Session-Id")
_EXPERIMENTAL_RESULT = by_name("Experimental-Result")
_PROXY_INFO = by_name("Proxy-Info")


@dataclass(slots=True)
class DiameterMessage:
    """One message: the fields of its header, and its AVPs in order.

    command: 24 bits. application, hop_by_hop, end_to_end: 32 bits. reserved: the four flags without a meaning.
    key: on an answer that a Peer hands up, what the request was sent with. octets: as received, None if built here.
    """

    command: int
    application: int = 0
    request: bool = True
    proxiable: bool = False
    error: bool = False
    retransmitted: bool = False
    hop_by_hop: int = 0
    end_to_end: int = 0
    avps: list[Avp] = field(default_factory=list)
    reserved: int = 0
    key: object = field(default=None, compare=False, repr=False)
    octets: bytes | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        """ "MAR", "MAA", …"""
        return command_name(self.command, self.request)

    def find(self, code: int, vendor: int = 0) -> Avp | None:
        """The first AVP of this code and vendor."""
        for avp in self.avps:
            if avp[0] == code and avp[1] == vendor:
                return avp
        return None

    def find_all(self, code: int, vendor: int = 0) -> list[Avp]:
        """All AVPs of this code and vendor, in order."""
        return [avp for avp in self.avps if avp.code == code and avp.vendor == vendor]

    def get(self, name: str) -> Any:
        """The value of the first AVP of that name, None if there is none. Raises DiameterError as `value_of` does."""
        definition = by_name(name)
        avp = self.find(definition.code, definition.vendor)
        return None if avp is None else value_of(avp)

    def get_all(self, name: str) -> list[Any]:
        """The values of all AVPs of that name."""
        definition = by_name(name)
        return [value_of(avp) for avp in self.find_all(definition.code, definition.vendor)]

    def add(self, name: str, value: Any) -> None:
        """Append an AVP by its name."""
        self.avps.append(make(name, value))

    @property
    def session_id(self) -> str | None:
        """Session-Id, None if there is none."""
        value: str | None = self.get("Session-Id")
        return value

    @property
    def result_code(self) -> int | None:
        """Result-Code, None if there is none (then there should be an Experimental-Result)."""
        value: int | None = self.get("Result-Code")
        return value

    @property
    def experimental_result(self) -> int | None:
        """Experimental-Result-Code inside Experimental-Result, None if there is none."""
        group = self.find(_EXPERIMENTAL_RESULT.code)
        inner = None if group is None else group.find(298)
        return None if inner is None else int(value_of(inner))

    def encode(self) -> bytes:
        """The octets. Raises LocalError where a field does not fit."""
        body = encode_avps(self.avps)
        length = HEADER_LENGTH + len(body)
        if length > MAX_LENGTH:
            raise LocalError(f"a message of {length} octets does not fit into a length of 24 bits")
        flags = (
            (FLAG_REQUEST if self.request else 0)
            | (FLAG_PROXIABLE if self.proxiable else 0)
            | (FLAG_ERROR if self.error else 0)
            | (FLAG_RETRANSMITTED if self.retransmitted else 0)
            | self.reserved & 0x0F
        )
        if not 0 <= self.command <= 0xFFFFFF:
            raise LocalError(f"command {self.command} does not fit into 24 bits")
        try:
            header = _HEADER.pack(
                VERSION << 24 | length, flags << 24 | self.command, self.application, self.hop_by_hop, self.end_to_end
            )
        except Exception as error:
            raise LocalError("application or identifier out of range") from error
        return header + body


def parse(octets: bytes) -> DiameterMessage:
    """One whole message. Groups are not looked into; `dictionary.check` does that.

    Raises DiameterError 5011 (version), 5015 (message length), 5014 (AVP length); where the header could be read, the
    error's `header` holds it with the AVPs before the fault, so that it can be answered.
    """
    size = len(octets)
    if size < HEADER_LENGTH:
        raise _invalid_length(f"{size} octets are less than a header", octets)
    first, second, application, hop_by_hop, end_to_end = _HEADER.unpack_from(octets)
    flags = second >> 24
    message = DiameterMessage(
        second & 0xFFFFFF,
        application,
        bool(flags & FLAG_REQUEST),
        bool(flags & FLAG_PROXIABLE),
        bool(flags & FLAG_ERROR),
        bool(flags & FLAG_RETRANSMITTED),
        hop_by_hop,
        end_to_end,
        [],
        flags & 0x0F,
        None,
        octets,
    )
    try:
        if first >> 24 != VERSION:
            raise _unsupported_version(octets)
        length = first & MAX_LENGTH
        # RFC 6733 3: the length covers padded AVPs, so it is a multiple of four.
        if length != size or length & 3:
            raise _invalid_length(f"length field {length}, octets {size}", octets)
        message.avps = parse_avps(octets, HEADER_LENGTH)
    except DiameterError as error:
        error.header = message
        if error.result_code == 5014:
            error.failed = tuple(_filled(avp) for avp in error.failed)
        raise
    return message


def _filled(avp: Avp) -> Avp:
    # RFC 6733 7.1.5: header and a zero-filled payload of the least length that the type has.
    definition = by_code(avp.code, avp.vendor)
    return avp if definition is None else avp._replace(data=example(definition).data)


def _invalid_length(reason: str, octets: bytes) -> DiameterError:
    return DiameterError(reason, 5015, clause="RFC 6733 7.1.5", octets=octets)


def _unsupported_version(octets: bytes) -> DiameterError:
    return DiameterError(f"version {octets[0]}, not 1", 5011, clause="RFC 6733 3", octets=octets)


class StreamFramer:
    """Cuts a stream into whole messages.

    Holds at most one message short of complete, so at most `limit` octets and what one feed brings. A header that
    cannot be believed ends it: messages before that one are still given, `error` says why, and feeding on raises.
    """

    __slots__ = ("_buffer", "error", "limit")

    def __init__(self, limit: int = MAX_MESSAGE) -> None:
        self._buffer = bytearray()
        self.limit = limit
        self.error: DiameterError | None = None

    def feed(self, octets: bytes) -> list[bytes]:
        """The messages that are complete now, header included.

        Raises DiameterError when the stream cannot be followed and no whole message comes before the fault.
        """
        if self.error is not None:
            raise self.error
        buffer = self._buffer
        buffer += octets
        messages: list[bytes] = []
        offset = 0
        while len(buffer) - offset >= 4:
            length = int.from_bytes(buffer[offset + 1 : offset + 4], "big")
            if buffer[offset] != VERSION:
                self.error = _unsupported_version(bytes(buffer[offset : offset + 20]))
            elif length < HEADER_LENGTH or length > self.limit:
                reason = f"message length {length} is not within {HEADER_LENGTH} and {self.limit}"
                self.error = _invalid_length(reason, bytes(buffer[offset : offset + 20]))
            if self.error is not None:
                self._buffer = bytearray()
                if not messages:
                    raise self.error
                return messages
            if len(buffer) - offset < length:
                break
            messages.append(bytes(buffer[offset : offset + length]))
            offset += length
        del buffer[:offset]
        return messages

    @property
    def pending(self) -> int:
        """Octets held of a message that is not complete."""
        return len(self._buffer)

    def reset(self) -> None:
        """Forget what is held and what went wrong: a new connection."""
        self._buffer.clear()
        self.error = None


def answer(
    request: DiameterMessage,
    *,
    origin_host: str = "",
    origin_realm: str = "",
    result_code: int | None = None,
    experimental: int | None = None,
    vendor: int = VENDOR_3GPP,
    failed: Iterable[Avp] = (),
    error_message: str = "",
    avps: Iterable[Avp] = (),
) -> DiameterMessage:
    """The answer to a request: its identifiers, P bit, Session-Id and Proxy-Info (RFC 6733 6.2).

    The E bit is set for a result of the 3xxx class (RFC 6733 7.1.3). avps come after the results.
    """
    reply = DiameterMessage(
        request.command,
        request.application,
        request=False,
        proxiable=request.proxiable,
        error=result_code is not None and 3000 <= result_code < 4000,
        hop_by_hop=request.hop_by_hop,
        end_to_end=request.end_to_end,
    )
    session = request.find(_SESSION_ID.code)
    if session is not None:
        reply.avps.append(session)
    if result_code is not None:
        reply.add("Result-Code", result_code)
    if experimental is not None:
        inner = (make("Vendor-Id", vendor), make("Experimental-Result-Code", experimental))
        reply.add("Experimental-Result", inner)
    if origin_host:
        reply.add("Origin-Host", origin_host)
    if origin_realm:
        reply.add("Origin-Realm", origin_realm)
    if error_message:
        reply.add("Error-Message", error_message)
    reply.avps.extend(avps)
    failed = list(failed)
    if failed:
        reply.add("Failed-AVP", failed)
    reply.avps.extend(request.find_all(_PROXY_INFO.code))
    return reply


def new_session_id(origin_host: str, entropy: Entropy, suffix: str = "") -> str:
    """A Session-Id of RFC 6733 8.8: host;high 32 bits;low 32 bits, and what the caller wants to see at its end."""
    high, low = entropy.octets(4), entropy.octets(4)
    text = f"{origin_host};{int.from_bytes(high, 'big')};{int.from_bytes(low, 'big')}"
    return f"{text};{suffix}" if suffix else text
