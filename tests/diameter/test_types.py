"""The data types, against struct, ipaddress and known dates."""

from __future__ import annotations

import struct

import pytest

from imslab.core.errors import LocalError
from imslab.diameter import types
from imslab.diameter.avp import Avp, DiameterError


@pytest.mark.parametrize(
    ("kind", "form", "value"),
    [
        (types.I32, ">i", -2),
        (types.I64, ">q", -(1 << 40)),
        (types.U32, ">I", 0xFFFFFFFF),
        (types.U64, ">Q", 1 << 63),
        (types.F32, ">f", 1.5),
        (types.F64, ">d", 0.1),
        (types.ENUM, ">i", 11),
    ],
)
def test_numbers(kind: types.DataType, form: str, value: float) -> None:
    octets = struct.pack(form, value)
    assert kind.encode(value) == octets
    assert kind.decode(octets) == value
    assert kind.minimum == len(octets)
    for wrong in (octets[1:], octets + b"\0", b""):
        with pytest.raises(DiameterError) as caught:
            kind.decode(wrong)
        assert caught.value.result_code == 5014
    for bad in ("1", None, 1 << 70 if form[1] in "iqIQ" else "x"):
        with pytest.raises(LocalError):
            kind.encode(bad)
    assert repr(kind) == kind.name


def test_text() -> None:
    for kind in (types.UTF8, types.IDENTITY, types.URI, types.FILTER):
        assert kind.decode("Grüße".encode()) == "Grüße"
        assert kind.encode("Grüße") == "Grüße".encode()
        with pytest.raises(DiameterError) as caught:
            kind.decode(b"\xff\xfe")
        assert caught.value.result_code == 5004
        for bad in (b"octets", None, "\ud800"):
            with pytest.raises(LocalError):
                kind.encode(bad)


def test_octets() -> None:
    assert types.OCTETS.decode(b"\0\1") == b"\0\1"
    assert types.OCTETS.encode(bytearray(b"\0\1")) == b"\0\1"
    with pytest.raises(LocalError):
        types.OCTETS.encode("text")
    with pytest.raises(LocalError):
        types.OCTETS.encode(5)


@pytest.mark.parametrize(
    ("octets", "value"),
    [
        ("0001c0000201", "192.0.2.1"),
        ("000220010db8000000000000000000000001", "2001:db8::1"),
        ("000831353535", "8:31353535"),
        ("ffff", "65535:"),
    ],
)
def test_addresses(octets: str, value: str) -> None:
    assert types.ADDRESS.decode(bytes.fromhex(octets)) == value
    assert types.ADDRESS.encode(value) == bytes.fromhex(octets)


def test_wrong_addresses() -> None:
    for octets in ("", "00", "0001c00002", "0001c000020102", "000220010db8"):
        with pytest.raises(DiameterError) as caught:
            types.ADDRESS.decode(bytes.fromhex(octets))
        assert caught.value.result_code == 5014
    for value in ("", "host.example", "8:xyz", "70000:00", None, 4):
        with pytest.raises(LocalError):
            types.ADDRESS.encode(value)


@pytest.mark.parametrize(
    ("octets", "value"),
    [
        ("83aa7e80", 0),  # RFC 5905 A: 2208988800 is 1970-01-01
        ("ffffffff", 2085978495),  # 2036-02-07 06:28:15
        ("00000000", 2085978496),  # one second later, the next era
        ("80000000", -61505152),  # 1968-01-20 03:14:08
    ],
)
def test_times(octets: str, value: int) -> None:
    assert types.TIME.decode(bytes.fromhex(octets)) == value
    assert types.TIME.encode(value) == bytes.fromhex(octets)


def test_wrong_times() -> None:
    with pytest.raises(DiameterError):
        types.TIME.decode(b"\0" * 5)
    for value in (-61505153, 1 << 40, None, float("inf")):
        with pytest.raises(LocalError):
            types.TIME.encode(value)


def test_groups() -> None:
    inner = [Avp(1, 0, 0x40, b"a"), Avp(2, 3, 0x80, b"")]
    assert types.GROUPED.decode(types.GROUPED.encode(inner)) == inner
