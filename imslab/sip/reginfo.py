"""Registration information: the body of a NOTIFY of the reg event package (RFC 3680, GRUUs of RFC 5628).

    reginfo version state
      registration aor id state …
        contact id state event …
          uri, display-name, unknown-param …, pub-gruu, temp-gruu

Elements that nobody here knows are kept as their XML and written again, after the known ones.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field

from defusedxml import ElementTree as DefusedTree
from defusedxml.common import DefusedXmlException

from imslab.core.errors import LocalError, PeerError
from imslab.sip.grammar import MAX_32

CONTENT_TYPE = "application/reginfo+xml"
NAMESPACE = "urn:ietf:params:xml:ns:reginfo"
GRUU_NAMESPACE = "urn:ietf:params:xml:ns:gruuinfo"

#: The most octets that are read. Real documents stay below a hundredth of it.
MAX_OCTETS = 1 << 20
_MAX_DEPTH = 32

#: RFC 3680 5.1–5.3: the values that the schema knows.
DOCUMENT_STATES = ("full", "partial")
REGISTRATION_STATES = ("init", "active", "terminated")
CONTACT_STATES = ("active", "terminated")
EVENTS = (
    "registered",
    "created",
    "refreshed",
    "shortened",
    "expired",
    "deactivated",
    "probation",
    "unregistered",
    "rejected",
)

_QVALUE = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


@dataclass(slots=True)
class RegContact:
    """One contact of a registration.

    event: why it is in this state. expires: seconds left; duration_registered: seconds so far; retry_after: seconds to
    wait after "probation". unknown_params: Contact parameters without a meaning here, (name, value).
    """

    uri: str
    id: str
    state: str
    event: str
    expires: int | None = None
    retry_after: int | None = None
    duration_registered: int | None = None
    q: str | None = None
    callid: str | None = None
    cseq: int | None = None
    display_name: str | None = None
    unknown_params: list[tuple[str, str]] = field(default_factory=list)
    pub_gruu: str | None = None
    temp_gruu: str | None = None
    extra: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Registration:
    """What became of one address-of-record. id: the same in all documents of one subscription."""

    aor: str
    id: str
    state: str
    contacts: list[RegContact] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)


@dataclass(slots=True)
class RegInfo:
    """The document. version: from 0, one more in each NOTIFY of a subscription. state: "full" or "partial"."""

    version: int
    state: str
    registrations: list[Registration] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)

    def find(self, aor: str) -> Registration | None:
        """The registration of this address-of-record, as written; None if there is none."""
        return next((registration for registration in self.registrations if registration.aor == aor), None)


# --- reading --------------------------------------------------------------------------------------------------------


def parse_reginfo(octets: bytes) -> RegInfo:
    """Read a document.

    Raises PeerError for whatever is none: broken XML, a DTD or entities, a missing or unknown value.
    """
    if len(octets) > MAX_OCTETS:
        raise _error(f"a document of {len(octets)} octets", octets)
    try:
        root = DefusedTree.fromstring(octets, forbid_dtd=True)
    except (ElementTree.ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise _error(f"no XML: {type(error).__name__}", octets) from None
    level = [root]
    for _ in range(_MAX_DEPTH):
        level = [child for element in level for child in element]
    if level:
        raise _error("elements nest too deep", octets)
    try:
        return _reginfo(root)
    except PeerError as error:
        error.octets = octets[:80]
        raise


def _error(reason: str, octets: bytes = b"") -> PeerError:
    return PeerError(f"reginfo: {reason}", clause="RFC 3680 5.4", octets=octets)


def _name(element: ElementTree.Element) -> str:
    # Documents come with and without a namespace.
    return element.tag.rpartition("}")[2]


def _reginfo(root: ElementTree.Element) -> RegInfo:
    if _name(root) != "reginfo":
        raise _error("the root is not reginfo")
    info = RegInfo(_needed_number(root, "version"), _choice(root, "state", DOCUMENT_STATES))
    for child in root:
        if _name(child) == "registration":
            info.registrations.append(_registration(child))
        else:
            _keep(child, info.extra)
    return info


def _registration(element: ElementTree.Element) -> Registration:
    registration = Registration(
        _needed(element, "aor"), _needed(element, "id"), _choice(element, "state", REGISTRATION_STATES)
    )
    for child in element:
        if _name(child) == "contact":
            registration.contacts.append(_contact(child))
        else:
            _keep(child, registration.extra)
    return registration


def _contact(element: ElementTree.Element) -> RegContact:
    contact = RegContact(
        uri="",
        id=_needed(element, "id"),
        state=_choice(element, "state", CONTACT_STATES),
        event=_choice(element, "event", EVENTS),
        expires=_number(element, "expires"),
        retry_after=_number(element, "retry-after"),
        duration_registered=_number(element, "duration-registered"),
        q=element.get("q"),
        callid=element.get("callid"),
        cseq=_number(element, "cseq"),
    )
    if contact.q is not None and _QVALUE.fullmatch(contact.q) is None:
        raise _error("q is no number from 0 to 1")
    for child in element:
        name = _name(child)
        if name == "uri":
            contact.uri = _text(child)
        elif name == "display-name":
            contact.display_name = _text(child)
        elif name == "unknown-param":
            contact.unknown_params.append((_needed(child, "name"), _text(child)))
        elif name == "pub-gruu":
            contact.pub_gruu = _needed(child, "uri")
        elif name == "temp-gruu":
            contact.temp_gruu = _needed(child, "uri")
        else:
            _keep(child, contact.extra)
    if not contact.uri:
        raise _error("contact without uri")
    return contact


def _keep(element: ElementTree.Element, extra: list[str]) -> None:
    element.tail = None
    extra.append(ElementTree.tostring(element, encoding="unicode"))


def _text(element: ElementTree.Element) -> str:
    return (element.text or "").strip()


def _needed(element: ElementTree.Element, attribute: str) -> str:
    value = element.get(attribute)
    if not value:
        raise _error(f"{_name(element)} without {attribute}")
    return value


def _choice(element: ElementTree.Element, attribute: str, values: tuple[str, ...]) -> str:
    value = _needed(element, attribute)
    if value not in values:
        raise _error(f"{_name(element)}: unknown {attribute}")
    return value


def _number(element: ElementTree.Element, attribute: str) -> int | None:
    value = element.get(attribute)
    if value is None:
        return None
    if not re.fullmatch(r"[0-9]{1,10}", value) or int(value) > MAX_32:
        raise _error(f"{_name(element)}: {attribute} is no number of 32 bits")
    return int(value)


def _needed_number(element: ElementTree.Element, attribute: str) -> int:
    _needed(element, attribute)
    return _number(element, attribute) or 0


# --- writing --------------------------------------------------------------------------------------------------------

#: What XML 1.0 2.2 cannot carry, not even escaped.
_ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
#: Not the standard library's: importing that one takes longer than a run has time for.
_ESCAPED = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}
)


def write_reginfo(info: RegInfo) -> bytes:
    """The document in UTF-8. Raises LocalError for a value that the schema does not have."""
    _check(info.state, DOCUMENT_STATES)
    lines = ['<?xml version="1.0" encoding="UTF-8"?>']
    lines.append(f'<reginfo xmlns="{NAMESPACE}"{_attributes(version=info.version, state=info.state)}>')
    for registration in info.registrations:
        _check(registration.state, REGISTRATION_STATES)
        told = _attributes(aor=registration.aor, id=registration.id, state=registration.state)
        lines.append(f"  <registration{told}>")
        for contact in registration.contacts:
            lines += _contact_lines(contact)
        lines += registration.extra
        lines.append("  </registration>")
    lines += info.extra
    lines.append("</reginfo>\n")
    return "\n".join(lines).encode()


def _contact_lines(contact: RegContact) -> list[str]:
    _check(contact.state, CONTACT_STATES)
    _check(contact.event, EVENTS)
    told = _attributes(
        id=contact.id,
        state=contact.state,
        event=contact.event,
        duration_registered=contact.duration_registered,
        expires=contact.expires,
        retry_after=contact.retry_after,
        q=contact.q,
        callid=contact.callid,
        cseq=contact.cseq,
    )
    lines = [f"    <contact{told}>", f"      <uri>{_escaped(contact.uri)}</uri>"]
    if contact.display_name is not None:
        lines.append(f"      <display-name>{_escaped(contact.display_name)}</display-name>")
    for name, value in contact.unknown_params:
        lines.append(f"      <unknown-param{_attributes(name=name)}>{_escaped(value)}</unknown-param>")
    for gruu, uri in (("pub-gruu", contact.pub_gruu), ("temp-gruu", contact.temp_gruu)):
        if uri is not None:
            lines.append(f'      <{gruu} xmlns="{GRUU_NAMESPACE}"{_attributes(uri=uri)}/>')
    return [*lines, *contact.extra, "    </contact>"]


def _attributes(**values: str | int | None) -> str:
    return "".join(
        f' {name.replace("_", "-")}="{_escaped(str(value))}"' for name, value in values.items() if value is not None
    )


def _escaped(text: str) -> str:
    if _ILLEGAL.search(text):
        raise LocalError(f"XML cannot carry {text[:80]!a}")
    return text.translate(_ESCAPED)


def _check(value: str, values: tuple[str, ...]) -> None:
    if value not in values:
        raise LocalError(f"{value!a} is none of {', '.join(values)}")
