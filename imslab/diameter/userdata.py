"""User data: the XML that an SAA or a PPR carries from the HSS to the S-CSCF (29.228 Annexes B and E).

    IMSSubscription
      PrivateID
      ServiceProfile …                     one per service profile; all of them are one implicit registration set
        PublicIdentity …                   the first one that is distinct and not barred is the default (6.5.1.1)
          BarringIndication, Identity, Extension {IdentityType, …}
        InitialFilterCriteria …
          Priority, TriggerPoint {ConditionTypeCNF, SPT …}, ApplicationServer, ProfilePartIndicator
        CoreNetworkServicesAuthorization {SubscribedMediaProfileId}
        Extension {SharedIFCSetID …}

The order of elements is the schema's. Elements that nobody here knows are kept as `Extra`, with the place where they
stood, and written there again.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from defusedxml import ElementTree as DefusedTree
from defusedxml.common import DefusedXmlException

from imslab.core.errors import LocalError
from imslab.diameter.avp import DiameterError
from imslab.diameter.codes import CxResult
from imslab.diameter.dictionary import VENDOR_3GPP

#: The most octets that are read. Real profiles stay below a tenth of it.
MAX_OCTETS = 1 << 18
_MAX_DEPTH = 32


class IdentityType(IntEnum):
    """IdentityType (29.228 Annex E)."""

    PUBLIC_USER_IDENTITY = 0
    DISTINCT_PSI = 1
    WILDCARDED_PSI = 2
    WILDCARDED_PUBLIC_USER_IDENTITY = 3


class SessionCase(IntEnum):
    """SessionCase of a service point trigger."""

    ORIGINATING_REGISTERED = 0
    TERMINATING_REGISTERED = 1
    TERMINATING_UNREGISTERED = 2
    ORIGINATING_UNREGISTERED = 3
    ORIGINATING_CDIV = 4


class RegistrationType(IntEnum):
    """RegistrationType beside Method REGISTER."""

    INITIAL_REGISTRATION = 0
    RE_REGISTRATION = 1
    DE_REGISTRATION = 2


class DefaultHandling(IntEnum):
    """DefaultHandling: what to do when the application server cannot be reached."""

    SESSION_CONTINUED = 0
    SESSION_TERMINATED = 1


class Extra(NamedTuple):
    """An element unknown here: where it stood below its parent ("" or "Extension", "Extension/Extension"…), its XML."""

    path: str
    xml: str


@dataclass(slots=True)
class PublicIdentity:
    """One public identity of the set. uri: SIP or tel URI; for a wildcarded one the identity that was asked for."""

    uri: str
    barred: bool = False
    type: IdentityType | None = None
    wildcarded_psi: str | None = None
    display_name: str | None = None
    alias_group: str | None = None
    wildcarded_impu: str | None = None
    extra: list[Extra] = field(default_factory=list)

    @property
    def is_distinct(self) -> bool:
        """False for wildcarded ones."""
        return self.type not in (IdentityType.WILDCARDED_PSI, IdentityType.WILDCARDED_PUBLIC_USER_IDENTITY)


@dataclass(slots=True)
class Spt:
    """A service point trigger. kind: "RequestURI", "Method", "SIPHeader", "SessionCase" or "SessionDescription".

    value: the URI, the method, the header's name, the session case's number, the SDP line's letter.
    content: pattern of the header's or line's content, None for "is present".
    """

    kind: str
    value: str
    content: str | None = None
    groups: list[int] = field(default_factory=lambda: [0])
    negated: bool = False
    registration_types: list[RegistrationType] = field(default_factory=list)
    extra: list[Extra] = field(default_factory=list)


@dataclass(slots=True)
class TriggerPoint:
    """cnf True: groups are OR-ed inside and AND-ed together; False: the other way round."""

    cnf: bool
    spts: list[Spt]
    extra: list[Extra] = field(default_factory=list)


@dataclass(slots=True)
class ApplicationServer:
    """Where a matching request goes. The two flags ask for the REGISTER and its answer inside a third-party one."""

    server_name: str
    default_handling: DefaultHandling = DefaultHandling.SESSION_CONTINUED
    service_info: str | None = None
    include_register_request: bool = False
    include_register_response: bool = False
    extra: list[Extra] = field(default_factory=list)


@dataclass(slots=True)
class FilterCriteria:
    """An initial filter criterion. priority: the lower the earlier. trigger None: always.

    profile_part: 0 only while registered, 1 only while unregistered, None both.
    """

    priority: int
    server: ApplicationServer
    trigger: TriggerPoint | None = None
    profile_part: int | None = None
    extra: list[Extra] = field(default_factory=list)


@dataclass(slots=True)
class ServiceProfile:
    """What one group of public identities gets."""

    identities: list[PublicIdentity]
    ifcs: list[FilterCriteria] = field(default_factory=list)
    subscribed_media_profile: int | None = None
    shared_ifc_sets: list[int] = field(default_factory=list)
    extra: list[Extra] = field(default_factory=list)


@dataclass(slots=True)
class UserProfile:
    """The document. impi: PrivateID, as NAI without a scheme."""

    impi: str
    service_profiles: list[ServiceProfile]
    extra: list[Extra] = field(default_factory=list)

    @property
    def identities(self) -> list[PublicIdentity]:
        """All public identities in order: the implicit registration set."""
        return [identity for profile in self.service_profiles for identity in profile.identities]

    @property
    def default_identity(self) -> PublicIdentity | None:
        """29.228 6.5.1.1: the first distinct one that is not barred."""
        return next((identity for identity in self.identities if identity.is_distinct and not identity.barred), None)


# --- reading --------------------------------------------------------------------------------------------------------


def parse_userdata(octets: bytes) -> UserProfile:
    """Read a document.

    Raises DiameterError with the experimental result 5009 NOT_SUPPORTED_USER_DATA for whatever is no such document:
    broken XML, a DTD or entities, a missing element, a number that is none.
    """
    if len(octets) > MAX_OCTETS:
        raise _unsupported(f"user data of {len(octets)} octets")
    try:
        root = DefusedTree.fromstring(octets, forbid_dtd=True)
    except (ElementTree.ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise _unsupported(f"no XML: {type(error).__name__}", octets) from None
    level = [root]
    for _ in range(_MAX_DEPTH):
        level = [child for element in level for child in element]
    if level:
        raise _unsupported("elements nest too deep", octets)
    try:
        return _user_profile(root)
    except DiameterError as error:
        error.octets = octets[:80]
        raise


def _unsupported(reason: str, octets: bytes = b"") -> DiameterError:
    return DiameterError(
        f"user data: {reason}",
        CxResult.NOT_SUPPORTED_USER_DATA,
        vendor=VENDOR_3GPP,
        clause="29.228 Annex E",
        octets=octets,
    )


def _name(element: ElementTree.Element) -> str:
    # Some documents come with a default namespace that the schema does not have.
    return element.tag.rpartition("}")[2]


class _Reader:
    """The children of one element and of the Extensions nested in it: what is not asked for ends in `extra`."""

    def __init__(self, element: ElementTree.Element, known: Iterable[str], extensions: Iterable[Iterable[str]] = ()):
        self.name = _name(element)
        self.found: dict[str, list[ElementTree.Element]] = {}
        self.extra: list[Extra] = []
        path = ""
        levels = [frozenset(known), *(frozenset(names) for names in extensions)]
        elements = [element]
        for depth, names in enumerate(levels):
            inner: list[ElementTree.Element] = []
            for child in (child for parent in elements for child in parent):
                name = _name(child)
                if name in names:
                    self.found.setdefault(name, []).append(child)
                elif name == "Extension" and depth + 1 < len(levels):
                    inner.append(child)
                else:
                    child.tail = None
                    self.extra.append(Extra(path, ElementTree.tostring(child, encoding="unicode")))
            elements = inner
            path = f"{path}/Extension" if path else "Extension"

    def texts(self, name: str) -> list[str]:
        return [(element.text or "").strip() for element in self.found.get(name, ())]

    def text(self, name: str) -> str | None:
        return next(iter(self.texts(name)), None)

    def needed(self, name: str) -> str:
        value = self.text(name)
        if not value:
            raise _unsupported(f"{self.name} without {name}")
        return value

    def number(self, name: str, highest: int = 0x7FFFFFFF) -> int | None:
        value = self.text(name)
        return None if value is None else _number(name, value, highest)

    def truth(self, name: str) -> bool:
        value = self.text(name)
        if value not in (None, "", "0", "1", "true", "false"):
            raise _unsupported(f"{name} is neither true nor false")
        return value in ("1", "true")

    def child(self, name: str) -> ElementTree.Element | None:
        return next(iter(self.found.get(name, ())), None)


def _number(name: str, text: str, highest: int) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) > highest:
        raise _unsupported(f"{name} is no number from 0 to {highest}")
    return int(text)


def _user_profile(root: ElementTree.Element) -> UserProfile:
    if _name(root) != "IMSSubscription":
        raise _unsupported("the root is not IMSSubscription")
    reader = _Reader(root, ("PrivateID", "ServiceProfile"))
    impi = reader.needed("PrivateID")
    profiles = [_service_profile(element) for element in reader.found.get("ServiceProfile", ())]
    if not profiles:
        raise _unsupported("IMSSubscription without ServiceProfile")
    return UserProfile(impi, profiles, reader.extra)


def _service_profile(element: ElementTree.Element) -> ServiceProfile:
    reader = _Reader(
        element,
        ("PublicIdentity", "InitialFilterCriteria", "CoreNetworkServicesAuthorization"),
        (("SharedIFCSetID",),),
    )
    identities = [_public_identity(child) for child in reader.found.get("PublicIdentity", ())]
    if not identities:
        raise _unsupported("ServiceProfile without PublicIdentity")
    ifcs = [_filter_criteria(child) for child in reader.found.get("InitialFilterCriteria", ())]
    services = reader.child("CoreNetworkServicesAuthorization")
    media = None
    if services is not None:
        inner = _Reader(services, ("SubscribedMediaProfileId",))
        media = inner.number("SubscribedMediaProfileId")
        reader.extra += [Extra("CoreNetworkServicesAuthorization", extra.xml) for extra in inner.extra]
    shared = [_number("SharedIFCSetID", text, 0x7FFFFFFF) for text in reader.texts("SharedIFCSetID")]
    return ServiceProfile(identities, ifcs, media, shared, reader.extra)


def _public_identity(element: ElementTree.Element) -> PublicIdentity:
    reader = _Reader(
        element,
        ("BarringIndication", "Identity"),
        (("IdentityType", "WildcardedPSI"), ("DisplayName", "AliasIdentityGroupID"), ("WildcardedIMPU",)),
    )
    kind = reader.number("IdentityType", 3)
    return PublicIdentity(
        reader.needed("Identity"),
        reader.truth("BarringIndication"),
        None if kind is None else IdentityType(kind),
        reader.text("WildcardedPSI"),
        reader.text("DisplayName"),
        reader.text("AliasIdentityGroupID"),
        reader.text("WildcardedIMPU"),
        reader.extra,
    )


def _filter_criteria(element: ElementTree.Element) -> FilterCriteria:
    reader = _Reader(element, ("Priority", "TriggerPoint", "ApplicationServer", "ProfilePartIndicator"))
    server, trigger = reader.child("ApplicationServer"), reader.child("TriggerPoint")
    if server is None:
        raise _unsupported("InitialFilterCriteria without ApplicationServer")
    reader.needed("Priority")
    priority = reader.number("Priority") or 0
    return FilterCriteria(
        priority,
        _application_server(server),
        None if trigger is None else _trigger_point(trigger),
        reader.number("ProfilePartIndicator", 1),
        reader.extra,
    )


def _application_server(element: ElementTree.Element) -> ApplicationServer:
    flags = ("IncludeRegisterRequest", "IncludeRegisterResponse")
    reader = _Reader(element, ("ServerName", "DefaultHandling", "ServiceInfo"), (flags,))
    return ApplicationServer(
        reader.needed("ServerName"),
        DefaultHandling(reader.number("DefaultHandling", 1) or 0),
        reader.text("ServiceInfo"),
        "IncludeRegisterRequest" in reader.found,
        "IncludeRegisterResponse" in reader.found,
        reader.extra,
    )


def _trigger_point(element: ElementTree.Element) -> TriggerPoint:
    reader = _Reader(element, ("ConditionTypeCNF", "SPT"))
    reader.needed("ConditionTypeCNF")
    return TriggerPoint(
        reader.truth("ConditionTypeCNF"), [_spt(child) for child in reader.found.get("SPT", ())], reader.extra
    )


def _spt(element: ElementTree.Element) -> Spt:
    simple = ("RequestURI", "Method", "SessionCase")
    double = {"SIPHeader": "Header", "SessionDescription": "Line"}
    reader = _Reader(element, ("ConditionNegated", "Group", *simple, *double), (("RegistrationType",),))
    kinds = [kind for kind in (*simple, *double) if kind in reader.found]
    if len(kinds) != 1:
        raise _unsupported("SPT without exactly one condition")
    kind = kinds[0]
    content = None
    if kind in double:
        inner = _Reader(reader.found[kind][0], (double[kind], "Content"))
        value, content = inner.needed(double[kind]), inner.text("Content")
    else:
        value = reader.needed(kind)
    if kind == "SessionCase":
        value = str(_number(kind, value, 4))
    return Spt(
        kind,
        value,
        content,
        [_number("Group", text, 0x7FFFFFFF) for text in reader.texts("Group")],
        reader.truth("ConditionNegated"),
        [RegistrationType(_number("RegistrationType", text, 2)) for text in reader.texts("RegistrationType")],
        reader.extra,
    )


# --- writing --------------------------------------------------------------------------------------------------------

#: What XML 1.0 2.2 cannot carry, not even escaped.
_ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
#: Not the standard library's: importing that one takes longer than a run has time for.
_ESCAPED = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def write_userdata(profile: UserProfile) -> bytes:
    """The document in UTF-8. Raises LocalError for text that XML cannot carry and for a profile without identities."""
    if not profile.service_profiles or not all(service.identities for service in profile.service_profiles):
        raise LocalError("a user profile needs a service profile, and each of those a public identity")
    parts = [_text("PrivateID", profile.impi)]
    parts += [_write_service_profile(service) for service in profile.service_profiles]
    body = _tag("IMSSubscription", *parts, *_extra(profile.extra, ""))
    return ('<?xml version="1.0" encoding="UTF-8"?>' + body).encode()


def _tag(name: str, *parts: str) -> str:
    return f"<{name}>{''.join(parts)}</{name}>"


def _text(name: str, value: str | int | None) -> str:
    if value is None:
        return ""
    text = str(value)
    if _ILLEGAL.search(text):
        raise LocalError(f"{name}: XML cannot carry {text!r}")
    return _tag(name, text.translate(_ESCAPED))


def _extra(extras: list[Extra], path: str) -> list[str]:
    return [extra.xml for extra in extras if extra.path == path]


def _extensions(extras: list[Extra], *levels: str) -> str:
    """Extension elements, nested: levels[0] is the content of the outermost. Empty ones are left out."""
    inner = ""
    for depth in range(len(levels), 0, -1):
        content = levels[depth - 1] + "".join(_extra(extras, "/".join(["Extension"] * depth))) + inner
        inner = _tag("Extension", content) if content else ""
    return inner


def _write_service_profile(profile: ServiceProfile) -> str:
    core = _text("SubscribedMediaProfileId", profile.subscribed_media_profile) + "".join(
        _extra(profile.extra, "CoreNetworkServicesAuthorization")
    )
    return _tag(
        "ServiceProfile",
        *(_write_identity(identity) for identity in profile.identities),
        *(_write_criteria(criteria) for criteria in profile.ifcs),
        _tag("CoreNetworkServicesAuthorization", core) if core else "",
        _extensions(profile.extra, "".join(_text("SharedIFCSetID", number) for number in profile.shared_ifc_sets)),
        *_extra(profile.extra, ""),
    )


def _write_identity(identity: PublicIdentity) -> str:
    return _tag(
        "PublicIdentity",
        _text("BarringIndication", 1) if identity.barred else "",
        _text("Identity", identity.uri),
        _extensions(
            identity.extra,
            _text("IdentityType", None if identity.type is None else int(identity.type))
            + _text("WildcardedPSI", identity.wildcarded_psi),
            _text("DisplayName", identity.display_name) + _text("AliasIdentityGroupID", identity.alias_group),
            _text("WildcardedIMPU", identity.wildcarded_impu),
        ),
        *_extra(identity.extra, ""),
    )


def _write_criteria(criteria: FilterCriteria) -> str:
    trigger, server = criteria.trigger, criteria.server
    flags = ("<IncludeRegisterRequest/>" if server.include_register_request else "") + (
        "<IncludeRegisterResponse/>" if server.include_register_response else ""
    )
    return _tag(
        "InitialFilterCriteria",
        _text("Priority", criteria.priority),
        ""
        if trigger is None
        else _tag(
            "TriggerPoint",
            _text("ConditionTypeCNF", int(trigger.cnf)),
            *(_write_spt(spt) for spt in trigger.spts),
            *_extra(trigger.extra, ""),
        ),
        _tag(
            "ApplicationServer",
            _text("ServerName", server.server_name),
            _text("DefaultHandling", int(server.default_handling)),
            _text("ServiceInfo", server.service_info),
            _extensions(server.extra, flags),
            *_extra(server.extra, ""),
        ),
        _text("ProfilePartIndicator", criteria.profile_part),
        *_extra(criteria.extra, ""),
    )


def _write_spt(spt: Spt) -> str:
    double = {"SIPHeader": "Header", "SessionDescription": "Line"}
    if spt.kind in double:
        condition = _tag(spt.kind, _text(double[spt.kind], spt.value), _text("Content", spt.content))
    elif spt.kind in ("RequestURI", "Method", "SessionCase"):
        condition = _text(spt.kind, spt.value)
    else:
        raise LocalError(f"no service point trigger of kind {spt.kind!r}")
    return _tag(
        "SPT",
        _text("ConditionNegated", int(spt.negated)),
        *(_text("Group", group) for group in spt.groups),
        condition,
        _extensions(spt.extra, "".join(_text("RegistrationType", int(kind)) for kind in spt.registration_types)),
        *_extra(spt.extra, ""),
    )
