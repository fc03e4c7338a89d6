"""Vectors and AUTS, as the authentication centre sees them. Their octets: test_milenage, test_osmo."""

from __future__ import annotations

import pytest

from imslab.aka.algorithm import AMF_RESYNC
from imslab.aka.milenage import Milenage
from imslab.aka.tuak import Tuak
from imslab.aka.vector import check_auts, generate, make_auts, open_autn, open_auts
from imslab.core.errors import LocalError, PeerError
from tests.aka.samples import AMF, OPC, RAND, K

MILENAGE = Milenage(K, OPC)
SQN = 0x0000000067DD


def test_a_vector_unpacks_as_the_quintet_it_is() -> None:
    rand, autn, xres, ck, ik = generate(MILENAGE, RAND, SQN, AMF)
    assert (rand, len(autn)) == (RAND, 16)
    assert (xres, ck, ik) == MILENAGE.f2345(RAND)[:3]


def test_repr_of_a_vector_shows_what_the_air_shows() -> None:
    vector = generate(MILENAGE, RAND, SQN, AMF)
    shown = f"{vector} {vector!r} {[vector]}"
    assert vector.autn.hex() in shown
    for secret in (vector.xres, vector.ck, vector.ik):
        assert secret.hex() not in shown
        assert repr(secret) not in shown


def test_a_mac_that_does_not_fit_into_an_autn() -> None:
    with pytest.raises(LocalError, match="an AUTN holds 8 octets, the algorithm is set to 16"):
        generate(Tuak(K, OPC + OPC, mac_bits=128), RAND, SQN, AMF)


def test_an_autn_opens_with_its_key_alone() -> None:
    vector = generate(MILENAGE, RAND, SQN, AMF)
    opened = open_autn(MILENAGE, RAND, vector.autn, MILENAGE.f2345(RAND)[3])
    assert opened == (SQN, AMF, True)
    stranger = Milenage(OPC, K)
    assert open_autn(stranger, RAND, vector.autn, stranger.f2345(RAND)[3]).mac_ok is False


@pytest.mark.parametrize("bit", range(128))
def test_any_bit_of_an_autn_matters(bit: int) -> None:
    autn = (int.from_bytes(generate(MILENAGE, RAND, SQN, AMF).autn, "big") ^ 1 << bit).to_bytes(16, "big")
    assert open_autn(MILENAGE, RAND, autn, MILENAGE.f2345(RAND)[3]).mac_ok is False


@pytest.mark.parametrize("bit", range(112))
def test_any_bit_of_an_auts_matters(bit: int) -> None:
    auts = (int.from_bytes(make_auts(MILENAGE, RAND, SQN), "big") ^ 1 << bit).to_bytes(14, "big")
    assert check_auts(MILENAGE, RAND, auts) is None


def test_an_auts_belongs_to_one_rand() -> None:
    auts = make_auts(MILENAGE, RAND, SQN)
    assert check_auts(MILENAGE, RAND, auts) == SQN
    assert check_auts(MILENAGE, bytes(16), auts) is None


def test_sqn_0_is_an_answer_and_not_a_failure() -> None:
    assert check_auts(MILENAGE, RAND, make_auts(MILENAGE, RAND, 0)) == 0


def test_mac_s_is_over_amf_0000() -> None:
    # A card that took the AMF of the challenge: SQN_MS can still be read, and must not be believed.
    hidden = (SQN ^ int.from_bytes(MILENAGE.f5_star(RAND), "big")).to_bytes(6, "big")
    wrong = hidden + MILENAGE.f1_star(RAND, SQN, AMF)
    assert check_auts(MILENAGE, RAND, wrong) is None
    assert open_auts(MILENAGE, RAND, wrong) == (SQN, False)
    assert open_auts(MILENAGE, RAND, hidden + MILENAGE.f1_star(RAND, SQN, AMF_RESYNC)) == (SQN, True)


@pytest.mark.parametrize("length", [0, 13, 15, 30])
def test_an_auts_of_another_length_is_the_peers_fault(length: int) -> None:
    with pytest.raises(PeerError, match=f"AUTS: expected 14 octets, got {length}") as caught:
        check_auts(MILENAGE, RAND, bytes(length))
    assert caught.value.clause == "33.102 6.3.3"


@pytest.mark.parametrize("length", [0, 15, 17])
def test_an_autn_of_another_length_is_the_peers_fault(length: int) -> None:
    with pytest.raises(PeerError, match=f"AUTN: expected 16 octets, got {length}"):
        open_autn(MILENAGE, RAND, bytes(length), bytes(6))
