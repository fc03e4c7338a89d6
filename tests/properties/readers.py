"""All that can be asked of some octets, protocol by protocol. Each returns or raises PeerError, or there is a bug."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from imslab.core.errors import PeerError
from imslab.diameter import cx
from imslab.diameter.dictionary import check, value_of
from imslab.diameter.message import parse as parse_diameter
from imslab.ipsec.packet import parse_ip, parse_tcp, parse_udp, tcp_options
from imslab.sip.fields.address import NameAddr
from imslab.sip.fields.digest import AuthenticationInfo, DigestChallenge, DigestCredentials
from imslab.sip.fields.event import Event
from imslab.sip.fields.security import SecurityMechanism
from imslab.sip.fields.via import Via
from imslab.sip.message import Message
from imslab.sip.parser import parse as parse_sip
from imslab.sip.uri import Uri

#: The typed values of a SIP message.
TYPED = [name for name, value in vars(Message).items() if isinstance(value, property)]
#: Values that are objects of their own: they are read in depth.
INNER = (Via, NameAddr, Uri, SecurityMechanism, DigestChallenge, DigestCredentials, AuthenticationInfo, Event)
#: Their properties.
_PROPERTIES: dict[type, list[str]] = {}


def read_deep(value: Any) -> None:
    """Ask a value for all its properties."""
    if isinstance(value, list):
        for element in value:
            read_deep(element)
        return
    kind = type(value)
    names = _PROPERTIES.get(kind)
    if names is None:
        names = _PROPERTIES[kind] = [name for name, each in vars(kind).items() if isinstance(each, property)]
    for name in names:
        try:
            inner = getattr(value, name)
        except PeerError:
            continue
        if isinstance(inner, INNER):
            read_deep(inner)
    str(value)


def read_sip(octets: bytes) -> Message:
    """A datagram: its message with every typed value read, and written as it came."""
    message = parse_sip(octets)
    for name in [*TYPED, "request_uri"] if message.is_request else TYPED:
        try:
            value = getattr(message, name)
        except PeerError:
            continue
        if not isinstance(value, bytes | str | int | None):
            read_deep(value)
    received = message.octets
    assert received is not None
    assert received in octets
    assert message.encode() == received
    return message


def change_sip(message: Message) -> None:
    """A change of one row gives a message that has all the others, unharmed."""
    message.set("X-Marked", "1")
    again = parse_sip(message.encode())
    assert again.get("X-Marked") == "1"
    assert again.body == message.body
    assert [row for row in again.headers if row[0].lower() not in ("content-length", "l")] == [
        row for row in message.headers if row[0].lower() not in ("content-length", "l")
    ]


def read_diameter(octets: bytes) -> None:
    """A whole message: its AVPs by the dictionary, its Cx dataclass, and what is written of it."""
    message = parse_diameter(octets)
    assert parse_diameter(message.encode()) == message
    for avp in message.avps:
        with contextlib.suppress(PeerError):
            value_of(avp)
    for ask in (
        lambda: check(message.avps),
        lambda: message.result_code,
        lambda: message.experimental_result,
        lambda: message.session_id,
    ):
        with contextlib.suppress(PeerError):
            ask()
    kind = cx.COMMANDS.get((message.command, message.request))
    if kind is not None:
        kind.from_message(message)


U4, P4 = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))
U6, P6 = b"\x20\x01\x0d\xb8" + bytes(11) + b"\1", b"\x20\x01\x0d\xb8" + bytes(11) + b"\2"

PACKET_READERS: list[Callable[[bytes], object]] = [
    parse_ip,
    lambda octets: parse_ip(octets, check=True),
    lambda octets: parse_udp(octets, U4, P4),
    lambda octets: parse_udp(octets, U6, P6, check=False),
    lambda octets: parse_tcp(octets, U4, P4),
    lambda octets: parse_tcp(octets, U6, P6, check=False).mss,
    tcp_options,
]


def read_packet(octets: bytes) -> None:
    """IP, UDP and TCP over the same octets, whatever they are."""
    for parse in PACKET_READERS:
        with contextlib.suppress(PeerError):
            parse(octets)
