"""Milenage against the 26 published sets of TS 35.207 and TS 35.208."""

from __future__ import annotations

import hmac
from typing import Any

import pytest

from imslab.aka.milenage import Milenage, derive_opc
from imslab.aka.vector import check_auts, generate, make_auts
from tests.known_answers import each, load

h = bytes.fromhex
every_set = each("milenage", 26)


@pytest.fixture(params=["OP", "OPc"])
def milenage(request: pytest.FixtureRequest, entry: dict[str, Any]) -> Milenage:
    if request.param == "OP":
        return Milenage.from_op(h(entry["k"]), h(entry["op"]))
    return Milenage(h(entry["k"]), h(entry["opc"]))


@every_set
def test_opc(entry: dict[str, Any]) -> None:
    assert derive_opc(h(entry["k"]), h(entry["op"])) == h(entry["opc"])


@every_set
def test_each_function(entry: dict[str, Any], milenage: Milenage) -> None:
    rand, sqn, amf = h(entry["rand"]), int(entry["sqn"], 16), h(entry["amf"])
    assert milenage.f1(rand, sqn, amf) == h(entry["f1"])
    # The published f1* is over the same AMF as f1.
    assert milenage.f1_star(rand, sqn, amf) == h(entry["f1star"])
    assert milenage.f2345(rand) == (h(entry["f2"]), h(entry["f3"]), h(entry["f4"]), h(entry["f5"]))
    assert milenage.f5_star(rand) == h(entry["f5star"])
    assert milenage.f12345(rand, sqn, amf) == tuple(h(entry[name]) for name in ("f1", "f2", "f3", "f4", "f5"))


@every_set
def test_autn_and_auts(entry: dict[str, Any], milenage: Milenage) -> None:
    rand, sqn = h(entry["rand"]), int(entry["sqn"], 16)
    assert generate(milenage, rand, sqn, h(entry["amf"])).autn == h(entry["derived"]["autn"])
    auts = h(entry["derived"]["auts_with_amf_star_0000"])
    assert make_auts(milenage, rand, sqn) == auts
    assert check_auts(milenage, rand, auts) == sqn


def test_a_third_party_derived_the_same_keys() -> None:
    """K_ASME of the published sets: KDF over our CK, IK and SQN ⊕ AK gives the value that another HSS's tests state."""
    sets = {entry["id"]: entry for entry in load("milenage")}
    derived = [entry for entry in load("kdf_ts33220") if entry["id"].startswith("KASME-")]
    assert len(derived) == 6
    for entry in derived:
        known = sets[entry["id"].replace("KASME-", "TS")]
        milenage = Milenage(h(known["k"]), h(known["opc"]))
        vector = generate(milenage, h(known["rand"]), int(known["sqn"], 16), h(known["amf"]))
        text = b"\x10" + h(entry["p"][0]) + b"\0\3" + vector.autn[:6] + b"\0\6"
        assert hmac.digest(vector.ck + vector.ik, text, "sha256").hex() == entry["output"]
