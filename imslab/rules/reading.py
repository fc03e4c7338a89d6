"""Reading messages as evidence: what cannot be read is not there, and nothing raises.

A rule reads the message that it judges with the message's own properties: what is unreadable there is a finding. All
other messages it reads with these, since nobody is to be blamed here for what another message looks like.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from imslab.core.errors import PeerError
from imslab.core.flow import canonical_host
from imslab.sip.fields.address import Contact
from imslab.sip.fields.digest import DigestChallenge, DigestCredentials
from imslab.sip.fields.security import SecurityMechanism
from imslab.sip.fields.via import Via
from imslab.sip.message import Message
from imslab.sip.uri import Uri
from imslab.trace.associations import Side, read_side
from imslab.trace.model import Record, SipRecord
from imslab.trace.trace import method_of, status_of

T = TypeVar("T")
P = TypeVar("P", DigestChallenge, DigestCredentials)

#: Where SIP is spoken when no port is written (RFC 3261 19.1.2).
SIP_PORT = 5060
#: How much of a peer's text a finding quotes.
QUOTED = 80


def quiet(read: Callable[[], T]) -> T | None:
    """What `read` gives; None where the octets cannot be read."""
    try:
        return read()
    except PeerError:
        return None


def mechanisms(message: Message, header: str) -> list[SecurityMechanism]:
    """The ipsec-3gpp entries of Security-Client, -Server or -Verify; none where the header cannot be read."""
    return message.derived(_MECHANISMS[header]) if message.has(header) else []


def _read_mechanisms(header: str, message: Message) -> list[SecurityMechanism]:
    found = quiet(lambda: [SecurityMechanism.parse(each) for each in message.values(header)])
    return [each for each in found or () if each.is_ipsec_3gpp]


_MECHANISMS = {
    header: partial(_read_mechanisms, header) for header in ("Security-Client", "Security-Server", "Security-Verify")
}


def sides_in(message: Message, header: str) -> list[Side]:
    """The values of those entries; 0 or "" for what is missing or malformed."""
    return message.derived(_SIDES[header]) if message.has(header) else []


def _read_sides(header: str, message: Message) -> list[Side]:
    return [read_side(each) for each in mechanisms(message, header)]


_SIDES = {header: partial(_read_sides, header) for header in _MECHANISMS}


def credentials(message: Message) -> DigestCredentials | None:
    """The Authorization of a request: one for AKA if there is one."""
    return message.derived(_read_credentials)


def _read_credentials(message: Message) -> DigestCredentials | None:
    return _for_aka(quiet(lambda: message.authorization)) if message.has("Authorization") else None


def challenge(message: Message) -> DigestChallenge | None:
    """The challenge of a 401: one for AKA if there is one."""
    return message.derived(_read_challenge)


def _read_challenge(message: Message) -> DigestChallenge | None:
    return _for_aka(quiet(lambda: message.www_authenticate)) if message.has("WWW-Authenticate") else None


def _for_aka(found: list[P] | None) -> P | None:
    return next((each for each in found or () if is_aka(each)), found[0] if found else None)


def is_aka(params: DigestChallenge | DigestCredentials) -> bool:
    """True for an AKA algorithm of any version (RFC 3310 3.1)."""
    return (param(params, "algorithm") or "").lower().startswith("aka")


def param(params: DigestChallenge | DigestCredentials, name: str) -> str | None:
    """A digest parameter without its quotes; None where it is missing or there twice."""
    try:
        return params.get(name)
    except PeerError:
        return None


def contacts(message: Message) -> list[Contact]:
    """The contacts; none where they cannot be read."""
    return message.derived(_read_contacts)


def _read_contacts(message: Message) -> list[Contact]:
    return quiet(lambda: message.contact) or []


def leaves(message: Message) -> bool:
    """True for a REGISTER that removes bindings (RFC 3261 10.2.2): every contact has an expiry of zero."""
    return message.derived(_leaves)


def _leaves(message: Message) -> bool:
    found = contacts(message)
    default = quiet(lambda: message.expires)

    def asks(each: Contact) -> int | None:
        return default if each.is_star or each.expires is None else each.expires

    return bool(found) and all(quiet(partial(asks, each)) == 0 for each in found)


def cseq_number(message: Message) -> int | None:
    """The number of the CSeq."""
    return message.derived(_read_cseq_number)


def _read_cseq_number(message: Message) -> int | None:
    found = quiet(lambda: message.cseq)
    return None if found is None else found.number


def is_emergency(message: Message) -> bool:
    """True for a registration for emergency calls, or a request to an emergency service (24.229 7.2A.13, RFC 5031)."""
    return message.derived(_is_emergency)


def _is_emergency(message: Message) -> bool:
    if message.is_request and getattr(message, "uri", "").lower().startswith("urn:service:sos"):
        return True
    return any("sos" in each.uri.params for each in contacts(message))


def top_via(message: Message) -> Via | None:
    """The Via of whoever sent the request, None if there is none. Raises PeerError when it cannot be read."""
    found = message.via
    return found[0] if found else None


def host_is(text: str, host: str) -> bool | None:
    """Whether a written host is this address; None for a name, which may be anybody's."""
    try:
        return canonical_host(text) == host
    except ValueError:
        return None


def port_of(via: Via) -> int:
    """The port that a Via names, 5060 where none is written."""
    return SIP_PORT if via.port is None else via.port


def uri_port(uri: Uri) -> int:
    """The port of a SIP URI, 5060 where none is written."""
    return SIP_PORT if uri.port is None else uri.port


def shown(text: str) -> str:
    """A peer's text as a finding quotes it: one line, not too long."""
    cut = text if len(text) <= QUOTED else f"{text[:QUOTED]}…"
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in cut)


def what(record: SipRecord) -> str:
    """A message in two words: "REGISTER", "200 to NOTIFY"."""
    status = status_of(record)
    method = method_of(record)
    return shown(method if status is None else f"{status} to {method}" if method else str(status))


def place(record: SipRecord) -> str:
    """How a message travelled: "in clear over UDP from 5060 to 6100"."""
    way = "in clear" if record.spi is None else f"in ESP (SPI {spi_text(record.spi)})"
    return f"{way} over {record.transport.upper()} from {record.src.port} to {record.dst.port}"


def spi_text(spi: int) -> str:
    """An SPI as Wireshark and headers show it."""
    return f"{spi} = 0x{spi:08x}"


def order(record: Record) -> tuple[float, int]:
    """What comes first in a trace."""
    return record.time, record.frames[-1] if record.frames else 0
