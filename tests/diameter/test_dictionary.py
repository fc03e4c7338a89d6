"""The dictionary, against Wireshark's and scapy's."""

from __future__ import annotations

import warnings
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from imslab.core.errors import LocalError
from imslab.diameter import codes, dictionary
from imslab.diameter.avp import Avp, DiameterError
from imslab.diameter.dictionary import DEFINITIONS, by_code, by_name, check, command_name, example, make, value_of
from tests.require import require_program

#: Wireshark's type → ours. AppId and VendorId are 32-bit numbers with names.
SAME_TYPES = {
    "OctetString": {"OctetString"},
    "OctetStringOrUTF8": {"OctetString"},
    "UTF8String": {"UTF8String"},
    "DiameterIdentity": {"DiameterIdentity"},
    "DiameterURI": {"DiameterURI"},
    "Unsigned32": {"Unsigned32"},
    "Unsigned64": {"Unsigned64"},
    "AppId": {"Unsigned32"},
    "VendorId": {"Unsigned32"},
    "Enumerated": {"Enumerated"},
    "IPAddress": {"Address"},
    "Time": {"Time"},
    "Grouped": {"Grouped"},
}
#: Where Wireshark's dictionary and the specifications give one AVP different names or types, and we follow the latter.
RENAMED = {
    "Wildcarded-Public-Identity": "Wildcarded-PSI",
    "Associated-Registered-Groups": "Associated-Registered-Identities",
    "Acct-Multi-Session-Id": "Accounting-Multi-Session-Id",
    "Digest-QoP": "Digest-Qop",
}
#: RFC 6733 has Unsigned32; Wireshark wants their values named, or follows RFC 3588.
RETYPED = {
    "Result-Code",
    "Experimental-Result-Code",
    "Session-Binding",
    "Authorization-Lifetime",
    "Inband-Security-Id",
}


def wireshark(name: str) -> dict[tuple[int, int], tuple[str, str, dict[int, str]]]:
    """(code, vendor) → (name, type, names of values) of one of Wireshark's dictionary files."""
    require_program("tshark")
    path = Path("/usr/share/wireshark/diameter") / name
    if not path.exists():
        pytest.skip(f"{path} is not installed (Debian package libwireshark-data)")
    # dictionary.xml names entities that its DTD declares; TGPP.xml is a fragment of several elements.
    text = path.read_text().replace("&", "&amp;")
    text = text[text.index("?>") + 2 :] if text.startswith("<?xml") else text
    text = text[: text.index("<!DOCTYPE")] + text[text.index("]>") + 2 :] if "<!DOCTYPE" in text else text
    text = f"<all>{text}</all>"
    found = {}
    for element in ElementTree.fromstring(text).iter("avp"):
        vendor = {None: 0, "None": 0, "TGPP": 10415}.get(element.get("vendor-id"), -1)
        kind = element.find("type")
        known = "Grouped" if kind is None else str(kind.get("type-name"))
        values = {int(item.get("code", "0")): str(item.get("name")) for item in element.findall("enum")}
        found[int(element.get("code", "0")), vendor] = (str(element.get("name")), known, values)
    return found


def test_names_codes_and_types_are_wiresharks() -> None:
    theirs = {**wireshark("dictionary.xml"), **wireshark("TGPP.xml")}
    compared = 0
    for definition in DEFINITIONS:
        row = theirs.get((definition.code, definition.vendor))
        if row is None:
            continue
        name = row[0].removeprefix("3GPP-").removeprefix("Cx-")
        assert name in (definition.name, RENAMED.get(definition.name)), definition
        if definition.name not in RETYPED:
            assert definition.type.name in SAME_TYPES.get(row[1], {row[1]}), (definition, row)
        compared += 1
    assert compared >= 100


@pytest.mark.parametrize(
    ("name", "enum"),
    [
        ("Server-Assignment-Type", codes.ServerAssignmentType),
        ("User-Authorization-Type", codes.UserAuthorizationType),
        ("Reason-Code", codes.ReasonCode),
    ],
)
def test_values_are_wiresharks(name: str, enum: type) -> None:
    definition = by_name(name)
    theirs = wireshark("TGPP.xml")[definition.code, definition.vendor][2]
    for member in enum:
        plain = theirs[int(member)].upper().replace("-", "_").replace(" ", "_")
        assert plain == member.name


def test_result_codes_are_wiresharks() -> None:
    theirs = wireshark("dictionary.xml")[268, 0][2]
    for member in codes.ResultCode:
        assert theirs[int(member)].replace("DIAMETER_", "") == member.name


def test_codes_and_flags_are_scapys() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from scapy.contrib.diameter import AvpDefDict
    compared = 0
    for vendor in (0, 10415):
        for definition in DEFINITIONS:
            row = AvpDefDict.get(vendor, {}).get(definition.code)
            if definition.vendor == vendor and row is not None:
                assert row[0].removeprefix("3GPP-") in (definition.name, RENAMED.get(definition.name)), definition
                assert row[2] == definition.flags, definition
                compared += 1
    assert compared >= 90


def test_names_and_codes_are_unique() -> None:
    assert len({definition.name for definition in DEFINITIONS}) == len(DEFINITIONS)
    assert len({(definition.code, definition.vendor) for definition in DEFINITIONS}) == len(DEFINITIONS)


def test_make_and_value() -> None:
    assert make("Public-Identity", "sip:a@b") == Avp(601, 10415, 0xC0, b"sip:a@b")
    assert make("Product-Name", "x").flags == 0
    assert make("UAR-Flags", 1).flags == 0x80
    assert value_of(make("SIP-Item-Number", 7)) == 7
    assert value_of(Avp(9999, 7, 0, b"raw")) == b"raw"
    with pytest.raises(LocalError):
        by_name("No-Such-AVP")
    assert by_code(601) is None
    assert by_code(601, 10415) == by_name("Public-Identity")


def test_command_names() -> None:
    assert command_name(303, True) == "MAR"
    assert command_name(303, False) == "MAA"
    assert command_name(9999, True) == "9999R"


def test_a_wrong_value_names_its_avp() -> None:
    with pytest.raises(DiameterError) as caught:
        value_of(Avp(613, 10415, 0xC0, b"\1"))
    assert (caught.value.result_code, caught.value.failed) == (5014, (Avp(613, 10415, 0xC0, b"\0\0\0\0"),))
    with pytest.raises(DiameterError) as caught:
        value_of(Avp(1, 0, 0x40, b"\xff"))
    assert (caught.value.result_code, caught.value.failed) == (5004, (Avp(1, 0, 0x40, b"\xff"),))
    assert example(by_name("Host-IP-Address")).data == bytes(6)


def test_check_follows_groups() -> None:
    fine = [make("User-Name", "a"), Avp(494, 50, 0x80, b"call-id"), make("SIP-Auth-Data-Item", [])]
    check(fine)
    unknown = Avp(4711, 12345, 0xC0, b"x")
    for tree in ([unknown], [make("Supported-Features", [unknown])]):
        with pytest.raises(DiameterError) as caught:
            check([*fine, *tree])
        assert (caught.value.result_code, caught.value.failed) == (5001, (unknown,))
    check([make("Failed-AVP", [unknown])])
    with pytest.raises(DiameterError) as caught:
        check([Avp(612, 10415, 0xC0, b"\0\0\0\1")])
    assert caught.value.result_code == 5014


def test_check_has_a_bottom() -> None:
    avp = make("User-Name", "a")
    for _ in range(dictionary.MAX_DEPTH):
        avp = make("Supported-Features", [avp])
    check([avp])
    with pytest.raises(DiameterError) as caught:
        check([make("Supported-Features", [avp])])
    assert caught.value.result_code == 5004
