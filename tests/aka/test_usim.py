"""The card: RES, MAC failure or AUTS, in this order of questions."""

from __future__ import annotations

import pytest

from imslab.aka.algorithm import AkaAlgorithm
from imslab.aka.milenage import Milenage
from imslab.aka.sqn import DELTA, Freshness, SqnGenerator, SqnWindow, join_sqn
from imslab.aka.usim import Authenticated, MacFailure, SyncFailure, Usim
from imslab.aka.vector import check_auts, generate
from imslab.core.errors import LocalError, PeerError
from tests.aka.samples import AMF, OPC, RAND, K, every_algorithm

MILENAGE = Milenage(K, OPC)


@every_algorithm
def test_a_good_challenge(algorithm: AkaAlgorithm) -> None:
    vector = generate(algorithm, RAND, join_sqn(1, 1), AMF)
    answer = Usim(algorithm).authenticate(RAND, vector.autn)
    assert answer == Authenticated(join_sqn(1, 1), AMF, vector.xres, vector.ck, vector.ik)


@every_algorithm
def test_the_same_challenge_again_is_a_synchronisation_failure(algorithm: AkaAlgorithm) -> None:
    # 33.203 6.1.1: this is what keeps an authentication vector from being used twice.
    usim = Usim(algorithm)
    vector = generate(algorithm, RAND, join_sqn(9, 4), AMF)
    assert isinstance(usim.authenticate(RAND, vector.autn), Authenticated)
    answer = usim.authenticate(RAND, vector.autn)
    assert isinstance(answer, SyncFailure)
    assert (answer.sqn, answer.freshness) == (join_sqn(9, 4), Freshness.REPLAYED)
    assert check_auts(algorithm, RAND, answer.auts) == join_sqn(9, 4)


def test_mac_before_sqn() -> None:
    usim = Usim(MILENAGE, SqnWindow.at(join_sqn(100, 0)))
    old = generate(MILENAGE, RAND, join_sqn(5, 0), AMF)
    assert isinstance(usim.authenticate(RAND, old.autn), SyncFailure)
    for position in range(16):
        broken = bytearray(old.autn)
        broken[position] ^= 1
        assert usim.authenticate(RAND, bytes(broken)) == MacFailure()


def test_a_refused_challenge_does_not_move_the_card() -> None:
    usim = Usim(MILENAGE)
    fresh = generate(MILENAGE, RAND, join_sqn(77, 0), AMF)
    broken = bytes([*fresh.autn[:-1], fresh.autn[-1] ^ 1])
    too_far = generate(MILENAGE, RAND, join_sqn(DELTA + 1, 0), AMF)
    before = list(usim.window.seqs)
    assert usim.authenticate(RAND, broken) == MacFailure()
    refused = usim.authenticate(RAND, too_far.autn)
    assert isinstance(refused, SyncFailure)
    assert refused.freshness is Freshness.TOO_FAR_AHEAD
    assert usim.window.seqs == before
    assert isinstance(usim.authenticate(RAND, fresh.autn), Authenticated)


def test_a_resynchronisation_from_end_to_end() -> None:
    usim = Usim(MILENAGE, SqnWindow.at(join_sqn(5000, 9)))
    centre = SqnGenerator(0)
    refused = usim.authenticate(RAND, generate(MILENAGE, RAND, centre.next(), AMF).autn)
    assert isinstance(refused, SyncFailure)
    sqn_ms = check_auts(MILENAGE, RAND, refused.auts)
    assert sqn_ms == join_sqn(5000, 9)
    assert centre.resynchronise(sqn_ms)
    rand = bytes(range(16))
    assert isinstance(usim.authenticate(rand, generate(MILENAGE, rand, centre.next(), AMF).autn), Authenticated)


def test_vectors_fetched_ahead_may_be_used_out_of_order() -> None:
    centre = SqnGenerator()
    vectors = [generate(MILENAGE, bytes([i] * 16), centre.next(), AMF) for i in range(5)]
    usim = Usim(MILENAGE)
    for vector in (vectors[4], vectors[0], vectors[2], vectors[1], vectors[3]):
        assert isinstance(usim.authenticate(vector.rand, vector.autn), Authenticated)


@pytest.mark.parametrize("length", [0, 15, 17])
def test_lengths(length: int) -> None:
    with pytest.raises(PeerError, match="AUTN"):
        Usim(MILENAGE).authenticate(RAND, bytes(length))
    with pytest.raises(LocalError, match="RAND"):
        Usim(MILENAGE).authenticate(bytes(length), bytes(16))


def test_no_key_shows() -> None:
    usim = Usim(MILENAGE)
    vector = generate(MILENAGE, RAND, join_sqn(1, 0), AMF)
    shown = f"{usim!r} {usim.authenticate(RAND, vector.autn)!r}"
    assert "Usim(Milenage, SqnWindow(SQN_MS 00000000001f))" in shown
    for secret in (K, OPC, vector.xres, vector.ck, vector.ik):
        assert secret.hex() not in shown
        assert repr(secret) not in shown
