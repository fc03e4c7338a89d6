"""Whose message it is."""

from __future__ import annotations

import pytest

from imslab.sip.parser import parse
from imslab.trace.identity import impi_of, impu_of, is_third_party, via_count
from tests.trace.wire import IMPU, request, sip


def test_impi_and_impu() -> None:
    message = parse(request("REGISTER", 'Authorization: Digest username="me@home",realm="r"').encode())
    assert (impi_of(message), impu_of(message)) == ("me@home", IMPU)
    for text in ("Authorization: Digest ???", 'Authorization: Digest realm="r"', "X: y"):
        assert impi_of(parse(sip("REGISTER sip:a SIP/2.0", text).encode())) == ""
    assert impu_of(parse(sip("REGISTER sip:a SIP/2.0", "To: <").encode())) == ""


@pytest.mark.parametrize(
    ("rows", "count"),
    [([], 0), (["Via: a, b", "v: c"], 3), (['Via: "never closed, b', "Via: c"], 2)],
)
def test_vias_are_counted(rows: list[str], count: int) -> None:
    assert via_count(parse(sip("REGISTER sip:a SIP/2.0", *rows).encode())) == count


@pytest.mark.parametrize(
    ("sender", "target", "third"),
    [
        ("<sip:a@b>;tag=1", "<sip:a@b>", False),
        ("sip:a@b;tag=1", "<sip:a@B>", False),
        ("<sip:scscf>;tag=1", "<sip:a@b>", True),
        ("<", "<sip:a@b>", False),
    ],
)
def test_third_party_registers(sender: str, target: str, third: bool) -> None:
    text = sip("REGISTER sip:a SIP/2.0", f"From: {sender}", f"To: {target}")
    assert is_third_party(parse(text.encode())) is third
