"""What all three algorithms have in common: the shapes they take, and that they keep their keys to themselves."""

from __future__ import annotations

import pytest

from imslab.aka.algorithm import AkaAlgorithm
from imslab.aka.milenage import Milenage, derive_opc
from imslab.aka.tuak import Tuak, derive_topc
from imslab.aka.xor import XorTest
from imslab.core.errors import LocalError
from tests.aka.samples import AMF, OPC, RAND, K, every_algorithm


@every_algorithm
def test_the_shapes_that_come_out(algorithm: AkaAlgorithm) -> None:
    mac, res, ck, ik, ak = algorithm.f12345(RAND, 0x1234, AMF)
    assert (len(mac), len(ck), len(ik), len(ak)) == (8, 16, 16, 6)
    assert 4 <= len(res) <= 16
    assert len(algorithm.f5_star(RAND)) == 6
    assert len(algorithm.f1_star(RAND, 0x1234)) == 8


@every_algorithm
def test_all_in_one_go_is_the_same_as_one_by_one(algorithm: AkaAlgorithm) -> None:
    for sqn in (0, 1, 0x1234, (1 << 48) - 1):
        assert algorithm.f12345(RAND, sqn, AMF) == (algorithm.f1(RAND, sqn, AMF), *algorithm.f2345(RAND))


@every_algorithm
def test_amf_star_is_zero_unless_said_otherwise(algorithm: AkaAlgorithm) -> None:
    assert algorithm.f1_star(RAND, 7) == algorithm.f1_star(RAND, 7, b"\0\0")
    assert algorithm.f1_star(RAND, 7) != algorithm.f1_star(RAND, 7, AMF)


@every_algorithm
@pytest.mark.parametrize("rand", [b"", RAND[:15], RAND + b"\0"])
def test_a_rand_of_another_length_is_refused(algorithm: AkaAlgorithm, rand: bytes) -> None:
    for call in (
        lambda: algorithm.f1(rand, 0, AMF),
        lambda: algorithm.f1_star(rand, 0),
        lambda: algorithm.f2345(rand),
        lambda: algorithm.f5_star(rand),
        lambda: algorithm.f12345(rand, 0, AMF),
    ):
        with pytest.raises(LocalError, match=f"RAND: expected 16 octets, got {len(rand)}"):
            call()


@every_algorithm
@pytest.mark.parametrize("sqn", [-1, 1 << 48])
def test_an_sqn_beyond_48_bits_is_refused(algorithm: AkaAlgorithm, sqn: int) -> None:
    for call in (algorithm.f1, algorithm.f1_star, algorithm.f12345):
        with pytest.raises(LocalError, match="SQN: expected 0 to 2\\^48 - 1"):
            call(RAND, sqn, AMF)


@every_algorithm
@pytest.mark.parametrize("amf", [b"", b"\x80", b"\x80\0\0"])
def test_an_amf_of_another_length_is_refused(algorithm: AkaAlgorithm, amf: bytes) -> None:
    for call in (algorithm.f1, algorithm.f1_star, algorithm.f12345):
        with pytest.raises(LocalError, match=f"AMF: expected 2 octets, got {len(amf)}"):
            call(RAND, 0, amf)


@every_algorithm
def test_no_key_shows(algorithm: AkaAlgorithm) -> None:
    shown = (repr(algorithm) + str(algorithm) + f"{algorithm}").lower()
    for key in (K, OPC):
        for form in (key.hex(), str(int.from_bytes(key, "big")), repr(key)):
            assert form.lower() not in shown


@pytest.mark.parametrize("length", [0, 15, 17, 24, 32])
def test_a_key_of_a_wrong_length_is_refused_without_showing_it(length: int) -> None:
    key = (K * 2)[:length]
    for call in (
        lambda: Milenage(key, OPC),
        lambda: Milenage(K, key),
        lambda: Milenage.from_op(key, OPC),
        lambda: Milenage.from_op(K, key),
        lambda: derive_opc(key, OPC),
        lambda: XorTest(key),
    ):
        with pytest.raises(LocalError, match=f"expected 16 octets, got {length}") as caught:
            call()
        assert not key or key.hex() not in str(caught.value)


@pytest.mark.parametrize("length", [0, 15, 17, 24, 33])
def test_tuak_takes_keys_of_16_or_32_octets_and_a_topc_of_32(length: int) -> None:
    key = (K * 3)[:length]
    for call in (lambda: Tuak(key, OPC + OPC), lambda: derive_topc(key, OPC + OPC)):
        with pytest.raises(LocalError, match=f"K: expected 16 or 32 octets, got {length}"):
            call()
    for call in (lambda: Tuak(K, key), lambda: derive_topc(K, key)):
        with pytest.raises(LocalError, match=f"expected 32 octets, got {length}"):
            call()
