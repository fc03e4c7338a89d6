"""CSeq and RAck."""

from __future__ import annotations

import pytest

from imslab.core.errors import PeerError
from imslab.sip.fields.cseq import CSeq, RAck


def test_cseq() -> None:
    assert CSeq.parse("0009  \t INVITE ") == CSeq(9, "INVITE") == (9, "INVITE")
    assert CSeq.parse("2147483647 x").number == 2147483647
    assert str(CSeq(2, "REGISTER")) == "2 REGISTER"


@pytest.mark.parametrize(
    "text",
    ["", "1", "INVITE", "1 INVITE x", "-1 INVITE", "2147483648 A", "36893488147419103232 A", "1 A,B", "1\xa0A", "x A"],
)
def test_malformed_cseq(text: str) -> None:
    with pytest.raises(PeerError):
        CSeq.parse(text)


def test_rack() -> None:
    rack = RAck.parse("776656 1 INVITE")
    assert rack == RAck(776656, CSeq(1, "INVITE"))
    assert str(rack) == "776656 1 INVITE"
    for text in ("", "1", "1 2", "4294967296 1 A", "1 INVITE", "1 2 3 A"):
        with pytest.raises(PeerError):
            RAck.parse(text)
