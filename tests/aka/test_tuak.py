"""TUAK against the six published sets of TS 35.233."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from imslab.aka.keccak import keccak_f1600
from imslab.aka.tuak import Tuak, derive_topc
from imslab.core.errors import LocalError
from tests.known_answers import each

h = bytes.fromhex
every_set = each("tuak", 6)


@pytest.fixture(params=["TOP", "TOPc"])
def tuak(request: pytest.FixtureRequest, entry: dict[str, Any]) -> Tuak:
    make, constant = (Tuak.from_top, entry["top"]) if request.param == "TOP" else (Tuak, entry["topc"])
    return make(
        h(entry["k"]),
        h(constant),
        mac_bits=entry["maclength"],
        res_bits=entry["reslength"],
        ck_bits=entry["cklength"],
        ik_bits=entry["iklength"],
        iterations=entry["keccak_iterations"],
    )


@every_set
def test_topc(entry: dict[str, Any]) -> None:
    made = derive_topc(h(entry["k"]), h(entry["top"]), iterations=entry["keccak_iterations"])
    assert made == h(entry["topc"])


@every_set
def test_each_function(entry: dict[str, Any], tuak: Tuak) -> None:
    rand, sqn, amf = h(entry["rand"]), int(entry["sqn"], 16), h(entry["amf"])
    assert tuak.f1(rand, sqn, amf) == h(entry["f1"])
    assert tuak.f1_star(rand, sqn, amf) == h(entry["f1star"])
    assert tuak.f2345(rand) == (h(entry["f2"]), h(entry["f3"]), h(entry["f4"]), h(entry["f5"]))
    assert tuak.f5_star(rand) == h(entry["f5star"])
    assert tuak.f12345(rand, sqn, amf) == tuple(h(entry[name]) for name in ("f1", "f2", "f3", "f4", "f5"))


def test_one_iteration_of_the_permutation_itself_is_the_short_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    tuak = Tuak(bytes(range(32)), bytes(range(32)))
    quick = tuak.f12345(bytes(16), 1, b"ab")

    class Shake:
        def __init__(self, block: bytes) -> None:
            self.block = block

        def digest(self, length: int) -> bytes:
            return keccak_f1600(self.block + b"\x1f" + bytes(38) + b"\x80" + bytes(64))[:length]

    monkeypatch.setattr(hashlib, "shake_256", Shake)
    assert tuak.f12345(bytes(16), 1, b"ab") == quick


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ({"mac_bits": 32}, "TUAK MAC: expected a length of 64, 128, 256 bits, got 32"),
        ({"res_bits": 16}, "TUAK RES: expected a length of 32, 64, 128, 256 bits, got 16"),
        ({"ck_bits": 64}, "TUAK CK: expected a length of 128, 256 bits, got 64"),
        ({"ik_bits": 192}, "TUAK IK: expected a length of 128, 256 bits, got 192"),
        ({"iterations": 0}, "TUAK iterations: expected 1 or more, got 0"),
    ],
)
def test_lengths_that_do_not_exist(setting: dict[str, int], text: str) -> None:
    with pytest.raises(LocalError, match=text):
        Tuak(bytes(16), bytes(32), **setting)
