"""Names of AVPs and commands: RFC 6733, the Cx AVPs of TS 29.229, and the few others that travel with them.

A row says: name, code, type, whether the specification has the M bit set. The V bit follows the vendor.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from imslab.core.errors import LocalError
from imslab.diameter.avp import FLAG_MANDATORY, FLAG_VENDOR, Avp, DiameterError
from imslab.diameter.types import ADDRESS, ENUM, GROUPED, IDENTITY, OCTETS, TIME, U32, U64, URI, UTF8, DataType

VENDOR_3GPP = 10415
VENDOR_ETSI = 13019

APPLICATION_BASE = 0
APPLICATION_CX = 16777216
APPLICATION_RELAY = 0xFFFFFFFF


class Definition(NamedTuple):
    """What the dictionary knows of one AVP."""

    name: str
    code: int
    vendor: int
    type: DataType
    mandatory: bool

    @property
    def flags(self) -> int:
        """The flags octet that the specification asks for."""
        return (FLAG_VENDOR if self.vendor else 0) | (FLAG_MANDATORY if self.mandatory else 0)


_Row = tuple[str, int, DataType, bool]

_BASE: tuple[_Row, ...] = (  # RFC 6733 4.5
    ("User-Name", 1, UTF8, True),
    ("Class", 25, OCTETS, True),
    ("Session-Timeout", 27, U32, True),
    ("Proxy-State", 33, OCTETS, True),
    ("Acct-Session-Id", 44, OCTETS, True),
    ("Acct-Multi-Session-Id", 50, UTF8, True),
    ("Event-Timestamp", 55, TIME, True),
    ("Acct-Interim-Interval", 85, U32, True),
    ("Host-IP-Address", 257, ADDRESS, True),
    ("Auth-Application-Id", 258, U32, True),
    ("Acct-Application-Id", 259, U32, True),
    ("Vendor-Specific-Application-Id", 260, GROUPED, True),
    ("Redirect-Host-Usage", 261, ENUM, True),
    ("Redirect-Max-Cache-Time", 262, U32, True),
    ("Session-Id", 263, UTF8, True),
    ("Origin-Host", 264, IDENTITY, True),
    ("Supported-Vendor-Id", 265, U32, True),
    ("Vendor-Id", 266, U32, True),
    ("Firmware-Revision", 267, U32, False),
    ("Result-Code", 268, U32, True),
    ("Product-Name", 269, UTF8, False),
    ("Session-Binding", 270, U32, True),
    ("Session-Server-Failover", 271, ENUM, True),
    ("Multi-Round-Time-Out", 272, U32, True),
    ("Disconnect-Cause", 273, ENUM, True),
    ("Auth-Request-Type", 274, ENUM, True),
    ("Auth-Grace-Period", 276, U32, True),
    ("Auth-Session-State", 277, ENUM, True),
    ("Origin-State-Id", 278, U32, True),
    ("Failed-AVP", 279, GROUPED, True),
    ("Proxy-Host", 280, IDENTITY, True),
    ("Error-Message", 281, UTF8, False),
    ("Route-Record", 282, IDENTITY, True),
    ("Destination-Realm", 283, IDENTITY, True),
    ("Proxy-Info", 284, GROUPED, True),
    ("Re-Auth-Request-Type", 285, ENUM, True),
    ("Accounting-Sub-Session-Id", 287, U64, True),
    ("Authorization-Lifetime", 291, U32, True),
    ("Redirect-Host", 292, URI, True),
    ("Destination-Host", 293, IDENTITY, True),
    ("Error-Reporting-Host", 294, IDENTITY, False),
    ("Termination-Cause", 295, ENUM, True),
    ("Origin-Realm", 296, IDENTITY, True),
    ("Experimental-Result", 297, GROUPED, True),
    ("Experimental-Result-Code", 298, U32, True),
    ("Inband-Security-Id", 299, U32, True),
    ("Accounting-Record-Type", 480, ENUM, True),
    ("Accounting-Realtime-Required", 483, ENUM, True),
    ("Accounting-Record-Number", 485, U32, True),
)

_OTHERS: tuple[_Row, ...] = (  # what 29.229 takes from RFC 4740, RFC 7944, RFC 7683, RFC 8583
    ("Digest-Realm", 104, UTF8, True),
    ("Digest-QoP", 110, UTF8, True),
    ("Digest-Algorithm", 111, UTF8, True),
    ("Digest-HA1", 121, UTF8, True),
    ("DRMP", 301, ENUM, False),
    ("OC-Supported-Features", 621, GROUPED, False),
    ("OC-Feature-Vector", 622, U64, False),
    ("OC-OLR", 623, GROUPED, False),
    ("OC-Sequence-Number", 624, U64, False),
    ("OC-Validity-Duration", 625, U32, False),
    ("OC-Report-Type", 626, ENUM, False),
    ("OC-Reduction-Percentage", 627, U32, False),
    ("Load", 650, GROUPED, False),
    ("Load-Type", 651, ENUM, False),
    ("Load-Value", 652, U64, False),
    ("SourceID", 649, IDENTITY, False),
)

_CX: tuple[_Row, ...] = (  # 29.229 6.3
    ("Visited-Network-Identifier", 600, OCTETS, True),
    ("Public-Identity", 601, UTF8, True),
    ("Server-Name", 602, UTF8, True),
    ("Server-Capabilities", 603, GROUPED, True),
    ("Mandatory-Capability", 604, U32, True),
    ("Optional-Capability", 605, U32, True),
    ("User-Data", 606, OCTETS, True),
    ("SIP-Number-Auth-Items", 607, U32, True),
    ("SIP-Authentication-Scheme", 608, UTF8, True),
    ("SIP-Authenticate", 609, OCTETS, True),
    ("SIP-Authorization", 610, OCTETS, True),
    ("SIP-Authentication-Context", 611, OCTETS, True),
    ("SIP-Auth-Data-Item", 612, GROUPED, True),
    ("SIP-Item-Number", 613, U32, True),
    ("Server-Assignment-Type", 614, ENUM, True),
    ("Deregistration-Reason", 615, GROUPED, True),
    ("Reason-Code", 616, ENUM, True),
    ("Reason-Info", 617, UTF8, True),
    ("Charging-Information", 618, GROUPED, True),
    ("Primary-Event-Charging-Function-Name", 619, URI, True),
    ("Secondary-Event-Charging-Function-Name", 620, URI, True),
    ("Primary-Charging-Collection-Function-Name", 621, URI, True),
    ("Secondary-Charging-Collection-Function-Name", 622, URI, True),
    ("User-Authorization-Type", 623, ENUM, True),
    ("User-Data-Already-Available", 624, ENUM, True),
    ("Confidentiality-Key", 625, OCTETS, True),
    ("Integrity-Key", 626, OCTETS, True),
    ("Supported-Features", 628, GROUPED, False),
    ("Feature-List-ID", 629, U32, False),
    ("Feature-List", 630, U32, False),
    ("Supported-Applications", 631, GROUPED, False),
    ("Associated-Identities", 632, GROUPED, False),
    ("Originating-Request", 633, ENUM, True),
    ("Wildcarded-Public-Identity", 634, UTF8, False),
    ("SIP-Digest-Authenticate", 635, GROUPED, False),
    ("Wildcarded-IMPU", 636, UTF8, False),
    ("UAR-Flags", 637, U32, False),
    ("Loose-Route-Indication", 638, ENUM, False),
    ("SCSCF-Restoration-Info", 639, GROUPED, False),
    ("Path", 640, OCTETS, False),
    ("Contact", 641, OCTETS, False),
    ("Subscription-Info", 642, GROUPED, False),
    ("Call-ID-SIP-Header", 643, OCTETS, False),
    ("From-SIP-Header", 644, OCTETS, False),
    ("To-SIP-Header", 645, OCTETS, False),
    ("Record-Route", 646, OCTETS, False),
    ("Associated-Registered-Groups", 647, GROUPED, False),
    ("Multiple-Registration-Indication", 648, ENUM, False),
    ("Restoration-Info", 649, GROUPED, False),
    ("Session-Priority", 650, ENUM, False),
    ("Identity-with-Emergency-Registration", 651, GROUPED, False),
    ("Priviledged-Sender-Indication", 652, ENUM, False),  # spelt so in 29.229 6.3.58
    ("LIA-Flags", 653, U32, False),
    ("Initial-CSeq-Sequence-Number", 654, U32, False),
    ("SAR-Flags", 655, U32, False),
    ("Allowed-WAF-WWSF-Identities", 656, GROUPED, False),
    ("WebRTC-Authentication-Function-Name", 657, UTF8, False),
    ("WebRTC-Web-Server-Function-Name", 658, UTF8, False),
    ("RTR-Flags", 659, U32, False),
    ("P-CSCF-Subscription-Info", 660, GROUPED, False),
    ("Registration-Time-Out", 661, TIME, False),
    ("Alternate-Digest-Algorithm", 662, UTF8, False),
    ("Alternate-Digest-HA1", 663, UTF8, False),
    ("Failed-PCSCF", 664, GROUPED, False),
    ("PCSCF-FQDN", 665, UTF8, False),
    ("PCSCF-IP-Address", 666, ADDRESS, False),
)

_ETSI: tuple[_Row, ...] = (("Line-Identifier", 500, OCTETS, True),)  # ES 283 034, inside SIP-Auth-Data-Item

DEFINITIONS: tuple[Definition, ...] = tuple(
    Definition(name, code, vendor, kind, mandatory)
    for vendor, rows in ((0, _BASE), (0, _OTHERS), (VENDOR_3GPP, _CX), (VENDOR_ETSI, _ETSI))
    for name, code, kind, mandatory in rows
)

_BY_NAME = {definition.name: definition for definition in DEFINITIONS}
_BY_CODE = {(definition.code, definition.vendor): definition for definition in DEFINITIONS}

#: Command code → the first letters of its names: R is added for the request, A for the answer.
COMMANDS: dict[int, str] = {
    257: "CE",
    258: "RA",
    265: "AA",
    271: "AC",
    272: "CC",
    274: "AS",
    275: "ST",
    280: "DW",
    282: "DP",
    300: "UA",
    301: "SA",
    302: "LI",
    303: "MA",
    304: "RT",
    305: "PP",
    306: "UD",
    307: "PU",
    308: "SN",
    309: "PN",
    316: "UL",
    317: "CL",
    318: "AI",
    319: "ID",
    320: "DS",
    321: "PU",
    322: "RS",
    323: "NO",
}


def command_name(command: int, request: bool) -> str:
    """ "MAR", "MAA", …; "999R" for a code without a name here."""
    return COMMANDS.get(command, str(command)) + ("R" if request else "A")


def by_name(name: str) -> Definition:
    """The definition of a name as the specifications spell it. Raises LocalError when there is none."""
    definition = _BY_NAME.get(name)
    if definition is None:
        raise LocalError(f"no AVP named {name!r} in the dictionary")
    return definition


def by_code(code: int, vendor: int = 0) -> Definition | None:
    """The definition of a code, None when it is unknown here."""
    return _BY_CODE.get((code, vendor))


def make(name: str, value: Any) -> Avp:
    """An AVP by its name, from a value as `types` lists them, with the flags the specification asks for."""
    definition = by_name(name)
    return Avp(definition.code, definition.vendor, definition.flags, definition.type.encode(value))


def value_of(avp: Avp) -> Any:
    """The value of an AVP by the type its definition gives; its octets when it is unknown here.

    Raises DiameterError 5014 or 5004, with the AVP in `failed`, where the data is not of that type.
    """
    definition = _BY_CODE.get((avp.code, avp.vendor))
    if definition is None:
        return avp.data
    try:
        return definition.type.decode(avp.data)
    except DiameterError as error:
        # RFC 6733 7.1.5: of a wrong length the header and a zero-filled payload of the least length is enough.
        bad = avp if error.result_code == 5004 else example(definition)
        raise DiameterError(
            f"{definition.name}: {error.reason}",
            error.result_code,
            failed=(bad,),
            clause=error.clause,
            octets=avp.data,
            offset=error.offset,
        ) from None


def example(definition: Definition) -> Avp:
    """The least AVP of that definition, zero-filled: what Failed-AVP shows of one that was missing (RFC 6733 7.5)."""
    return Avp(definition.code, definition.vendor, definition.flags, bytes(definition.type.minimum))


#: How deep grouped AVPs may nest before we stop following them. Cx needs three.
MAX_DEPTH = 8


def check(avps: Iterable[Avp], depth: int = 0) -> None:
    """Follow every grouped AVP known here to its leaves.

    Raises DiameterError 5001 for an AVP that has the M bit and is unknown here (RFC 6733 4.1), 5014 for a group that
    is no sequence of AVPs, 5004 for groups inside groups without end.
    """
    for avp in avps:
        definition = _BY_CODE.get((avp.code, avp.vendor))
        if definition is None:
            if avp.flags & FLAG_MANDATORY:
                raise DiameterError(
                    f"AVP {avp.code} of vendor {avp.vendor} has the M bit and is not known",
                    5001,
                    failed=(avp,),
                    clause="RFC 6733 4.1",
                    octets=avp.data,
                )
        elif definition.type is GROUPED and definition.code != 279:
            # Failed-AVP (279) holds what somebody else could not read: it is not ours to judge.
            if depth >= MAX_DEPTH:
                raise DiameterError("grouped AVPs nest too deep", 5004, failed=(example(definition),), octets=avp.data)
            check(value_of(avp), depth + 1)
