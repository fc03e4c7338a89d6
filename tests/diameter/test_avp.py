"""AVPs: against known octets, whole and cut everywhere."""

from __future__ import annotations

import json

import pytest

from imslab.core.errors import LocalError, PeerError
from imslab.diameter.avp import Avp, DiameterError, encode_avps, parse_avps
from tests.require import require_shared

USER_NAME = bytes.fromhex("00000001 4000000b 616263 00".replace(" ", ""))


def test_a_known_avp_both_ways() -> None:
    assert parse_avps(USER_NAME) == [Avp(1, 0, 0x40, b"abc")]
    assert Avp(1, 0, 0x40, b"abc").encode() == USER_NAME
    vendor = bytes.fromhex("00000259c0000010000028af616263 64".replace(" ", ""))
    assert parse_avps(vendor) == [Avp(601, 10415, 0xC0, b"abcd")]
    assert Avp(601, 10415, 0xC0, b"abcd").encode() == vendor


def check_tree(avp: Avp, expected: dict) -> None:
    assert avp.code == expected["code"]
    assert avp.flags == int(expected["flags"], 16)
    assert avp.vendor == expected.get("vendor", 0)
    if "text" in expected:
        assert avp.data.decode() == expected["text"]
    if "u32" in expected:
        assert avp.data == expected["u32"].to_bytes(4, "big")
    if "hex" in expected:
        assert avp.data.hex() == expected["hex"]
    if "avps" in expected:
        assert len(avp.children) == len(expected["avps"])
        for child, inner in zip(avp.children, expected["avps"], strict=True):
            check_tree(child, inner)


def test_cx_avps_of_others() -> None:
    vectors = json.loads(require_shared("vectors/diameter_cx_avps.json").read_text())["vectors"]
    assert vectors
    for vector in vectors:
        octets = bytes.fromhex(vector["hex"])
        avps = parse_avps(octets)
        assert encode_avps(avps) == octets
        assert len(avps) == len(vector["decoded"])
        for avp, expected in zip(avps, vector["decoded"], strict=True):
            check_tree(avp, expected)


def test_flags_survive_even_where_they_make_no_sense() -> None:
    for flags in (0x00, 0x1F, 0x20, 0x80, 0xFF):
        avp = Avp(7, 0, flags, b"x")
        assert parse_avps(avp.encode()) == [avp]


def test_groups_are_trees() -> None:
    inner = Avp(298, 0, 0x40, (5001).to_bytes(4, "big"))
    group = Avp.grouped(297, [Avp(266, 0, 0x40, (10415).to_bytes(4, "big")), inner])
    assert group.flags == 0x40
    assert group.find(298) == inner
    assert group.find(298, 10415) is None
    assert Avp.grouped(603, [], 10415).flags == 0xC0
    assert Avp.grouped(603, [], 10415).children == []
    assert group.mandatory
    assert not Avp(1, 0, 0, b"").mandatory


def test_the_last_avp_of_a_group_may_lack_its_padding() -> None:
    assert parse_avps(USER_NAME[:-1]) == [Avp(1, 0, 0x40, b"abc")]


@pytest.mark.parametrize(
    ("octets", "failed"),
    [
        ("00000001400000", ()),  # less than a header
        ("0000000140000007", (Avp(1, 0, 0x40, b""),)),  # length below the header
        ("0000000140000000", (Avp(1, 0, 0x40, b""),)),
        ("000000014000000c", (Avp(1, 0, 0x40, b""),)),  # beyond the end
        ("0000000140ffffff", (Avp(1, 0, 0x40, b""),)),
        ("00000259c0000010", (Avp(601, 0, 0, b""),)),  # cut before the vendor
        ("00000259c000000b000028af", (Avp(601, 10415, 0xC0, b""),)),  # with a vendor, 11 is below the header
    ],
)
def test_wrong_lengths(octets: str, failed: tuple[Avp, ...]) -> None:
    with pytest.raises(DiameterError) as caught:
        parse_avps(USER_NAME + bytes.fromhex(octets))
    assert caught.value.result_code == 5014
    assert caught.value.failed == failed
    assert caught.value.offset == len(USER_NAME)
    assert isinstance(caught.value, PeerError)


def test_cut_anywhere() -> None:
    octets = encode_avps([Avp(1, 0, 0x40, b"abcd"), Avp(601, 10415, 0xC0, b"sip:a@b.")])
    for length in range(len(octets)):
        if length in (0, 12):
            assert len(parse_avps(octets[:length])) == length // 12
        else:
            with pytest.raises(DiameterError):
                parse_avps(octets[:length])


def test_what_does_not_fit_is_a_local_error() -> None:
    for avp in (Avp(1 << 32, 0, 0, b""), Avp(-1, 0, 0, b""), Avp(1, 1 << 32, 0x80, b""), Avp(1, 0, 256, b"")):
        with pytest.raises(LocalError):
            avp.encode()
    with pytest.raises(LocalError):
        Avp(1, 0, 0, bytes(0xFFFFF8)).encode()


def test_keys_do_not_show() -> None:
    key = bytes.fromhex("c0ffee00" * 4)
    for code in (610, 625, 626):
        shown = repr(Avp(code, 10415, 0xC0, key))
        assert "xc0" not in shown.split("0xc0", 1)[1]
        assert "16 octets" in shown
        assert "\\xc0" not in repr(Avp.grouped(612, [Avp(code, 10415, 0xC0, key)], 10415))
    assert "abc" in repr(Avp(1, 0, 0x40, b"abc"))
