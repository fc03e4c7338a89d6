"""Records as text that is safe to show and to paste.

CK, IK and XRES are masked unless asked for, wherever they stand: the ck and ik of a challenge, the keys of an MAA.
Octets that a terminal or a browser could take for a command are escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from imslab.core.errors import PeerError
from imslab.diameter.avp import SECRET, Avp
from imslab.diameter.dictionary import by_code, value_of
from imslab.diameter.message import DiameterMessage
from imslab.sip.message import Message
from imslab.trace.model import DiameterRecord, MalformedRecord, NodeRecord, Record, SipRecord

#: What stands in place of a key.
MASK = "<masked>"
#: ck and ik of 24.229 7.2A.1, quoted or not, in any case. A lone quote must not let a key through.
_KEYS = re.compile(r'\b([ci]k)(\s*=\s*)("[^"\r\n]*"?|[^\s,;"]+)', re.IGNORECASE)
#: Where a message begins in the middle, a key may stand there without its name.
_NAMELESS = re.compile(r"[0-9A-Fa-f]{8,}")
#: Nested groups deeper than this are not shown.
_DEEPEST = 8


def mask(text: str) -> str:
    """SIP text with the values of ck and ik replaced."""
    return _KEYS.sub(lambda found: f"{found[1]}{found[2]}{MASK}", text)


def escape(text: str, *, keep: str = "\n\t") -> str:
    """Text in which every control character, and every one that changes the direction of writing, is spelled out."""
    if text.isprintable():
        return text
    return "".join(line if line.isprintable() else _spell_out(line, keep) for line in text.splitlines(keepends=True))


def _spell_out(text: str, keep: str) -> str:
    body = text.rstrip(keep)
    if body.isprintable():
        return text
    return "".join(c if c in keep or c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def sip_text(message: Message, *, show_keys: bool = False) -> str:
    """The message as it was on the wire, lines ended by a newline alone."""
    octets = message.octets if message.octets is not None else message.encode()
    text = octets.decode("utf-8", "backslashreplace").replace("\r\n", "\n")
    return escape(text if show_keys else mask(text))


def diameter_text(message: DiameterMessage, *, show_keys: bool = False) -> str:
    """The message as a tree of AVPs, one a line."""
    flags = "".join(
        letter
        for letter, on in zip(
            "RPET", (message.request, message.proxiable, message.error, message.retransmitted), strict=True
        )
        if on
    )
    head = (
        f"{message.name} command {message.command} application {message.application} flags {flags or '-'} "
        f"hop-by-hop {message.hop_by_hop:#010x} end-to-end {message.end_to_end:#010x}"
    )
    return "\n".join([head, *_avp_lines(message.avps, 1, show_keys)])


def _avp_lines(avps: list[Avp], depth: int, show_keys: bool) -> Iterator[str]:
    indent = "  " * depth
    for avp in avps:
        definition = by_code(avp.code, avp.vendor)
        name = definition.name if definition else f"AVP {avp.code}" + (f" of vendor {avp.vendor}" if avp.vendor else "")
        if (avp.code, avp.vendor) in SECRET and not show_keys:
            yield f"{indent}{name}: {MASK}"
            continue
        try:
            value = value_of(avp)
        except PeerError:
            yield f"{indent}{name}: unreadable, {len(avp.data)} octets"
            continue
        if isinstance(value, list):
            yield f"{indent}{name}:"
            if depth < _DEEPEST:
                yield from _avp_lines(value, depth + 1, show_keys)
        elif isinstance(value, bytes):
            yield f"{indent}{name}: {_octets(value)}"
        else:
            yield f"{indent}{name}: {escape(str(value))}"


def _octets(value: bytes) -> str:
    if value.startswith(b"<"):  # user data is XML in an OctetString
        return escape(value.decode("utf-8", "backslashreplace"))
    return value.hex()


def record_text(record: Record, *, show_keys: bool = False) -> str:
    """What a record is, in full."""
    match record:
        case SipRecord():
            return sip_text(record.message, show_keys=show_keys)
        case DiameterRecord():
            return diameter_text(record.message, show_keys=show_keys)
        case MalformedRecord():
            text = f"{record.protocol}: {record.error}"
            if show_keys or record.protocol == "SIP":  # in other protocols' octets, keys have no name to mask them by
                octets = record.error.octets.decode("latin-1")
                text += f"\n{octets if show_keys else _NAMELESS.sub(MASK, mask(octets))}"
            return escape(text)
        case NodeRecord():
            return escape(f"{record.node} {record.kind}: {record.text}")
    return ""
