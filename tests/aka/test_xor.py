"""The XOR test algorithm: five sets, two of which also stand behind published digest responses."""

from __future__ import annotations

from typing import Any

import pytest

from imslab.aka.vector import check_auts, generate, make_auts
from imslab.aka.xor import XorTest
from imslab.core.errors import LocalError
from tests.known_answers import each

h = bytes.fromhex


@each("xor_ts34108", 5)
def test_known_answers(entry: dict[str, Any]) -> None:
    xor = XorTest(h(entry["k"]))
    rand, sqn, amf = h(entry["rand"]), int(entry["sqn"], 16), h(entry["amf"])
    assert xor.f1(rand, sqn, amf) == h(entry["mac"])
    assert xor.f2345(rand) == (h(entry["res"]), h(entry["ck"]), h(entry["ik"]), h(entry["ak"]))
    assert xor.f5_star(rand) == h(entry["ak"])
    vector = generate(xor, rand, sqn, amf)
    assert (vector.autn.hex(), vector.nonce) == (entry["autn"], entry["nonce_b64"])
    assert make_auts(xor, rand, sqn).hex() == entry["auts_amf_star_0000"]
    assert check_auts(xor, rand, h(entry["auts_amf_star_0000"])) == sqn


@pytest.mark.parametrize("length", [4, 8, 16])
def test_res_may_be_shorter(length: int) -> None:
    whole = XorTest(bytes(16)).f2345(bytes(range(16)))
    short = XorTest(bytes(16), res_length=length).f2345(bytes(range(16)))
    assert short == (whole[0][:length], *whole[1:])


@pytest.mark.parametrize("length", [3, 17])
def test_but_not_that_short_and_no_longer(length: int) -> None:
    with pytest.raises(LocalError, match=f"RES: expected a length of 4 to 16 octets, got {length}"):
        XorTest(bytes(16), res_length=length)
