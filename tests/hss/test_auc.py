"""The authentication centre, against a card, osmo-auc-gen and the published vectors."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace

import pytest

from hss.auc import AuthenticationCentre
from hss.faults import Faults
from hss.subscriber import TUAK, XOR, AkaCredentials, DigestCredentials, PrivateIdentity
from imslab.aka.milenage import Milenage
from imslab.aka.sqn import SqnWindow, join_sqn, split_sqn
from imslab.aka.usim import Authenticated, SyncFailure, Usim
from imslab.aka.vector import make_auts
from imslab.core.entropy import SeededEntropy
from imslab.core.errors import LocalError, PeerError
from tests.hss.carrier import OPC, K
from tests.require import require_program, require_shared

AMF = b"\x12\x34"


def private(sqn: int = 0, **options: object) -> PrivateIdentity:
    return PrivateIdentity("a@b", AkaCredentials(K, OPC, amf=AMF, **options), sqn)  # type: ignore[arg-type]


def centre(*faults: str) -> AuthenticationCentre:
    return AuthenticationCentre(SeededEntropy(1), Faults(faults))


def test_a_card_accepts_every_vector() -> None:
    auc, one, card = centre(), private(), Usim(Milenage(K, OPC))
    seen = []
    for count in (1, 3, 5, 1):
        vectors, one = auc.vectors(one, count)
        assert len(vectors) == count
        for vector in vectors:
            result = card.authenticate(vector.rand, vector.autn)
            assert isinstance(result, Authenticated)
            assert (result.res, result.ck, result.ik) == (vector.xres, vector.ck, vector.ik)
            assert vector.autn[6:8] == AMF
            seen.append(card.window.sqn_ms)
    # 33.102 C.1: SEQ one step per vector, IND one slot further, and nothing twice.
    assert [split_sqn(sqn)[0] for sqn in seen] == list(range(1, 11))
    assert [split_sqn(sqn)[1] for sqn in seen] == list(range(1, 11))
    assert one.sqn == seen[-1]


def test_osmo_auc_gen_makes_the_same_vector() -> None:
    program = require_program("osmo-auc-gen")
    vectors, after = centre().vectors(private(join_sqn(1000, 7)), 1)
    vector = vectors[0]
    command = [program, "-3", "-a", "milenage", "-r", vector.rand.hex(), "-k", K.hex(), "-o", OPC.hex()]
    output = subprocess.run(
        [*command, "-f", AMF.hex(), "-s", str(after.sqn)], capture_output=True, text=True, check=True
    ).stdout
    theirs = dict(re.findall(r"^(AUTN|RES|CK|IK):\s*([0-9a-f]+)", output, re.MULTILINE))
    assert theirs["AUTN"] == vector.autn.hex()
    assert (theirs["RES"], theirs["CK"], theirs["IK"]) == (vector.xres.hex(), vector.ck.hex(), vector.ik.hex())


def test_published_vectors() -> None:
    """35.208: K and OPc give RES, CK, IK and AUTN for a RAND, SQN and AMF that are not ours to choose."""

    class Chosen:
        def octets(self, count: int) -> bytes:
            assert len(rand) == count
            return rand

    found = json.loads(require_shared("vectors/milenage.json").read_text())["vectors"]
    done = 0
    for row in found:
        k, opc, rand, sqn, amf = (bytes.fromhex(row[name]) for name in ("k", "opc", "rand", "sqn", "amf"))
        number = int.from_bytes(sqn, "big")
        seq, ind = split_sqn(number)
        if seq == 0:
            continue
        credentials = AkaCredentials(k, opc, amf=amf, inds=range(ind, ind + 1))
        one = PrivateIdentity("a@b", credentials, join_sqn(seq - 1, ind))
        vectors, after = AuthenticationCentre(Chosen()).vectors(one, 1)
        assert after.sqn == number
        f2, f3, f4 = (bytes.fromhex(row[name]) for name in ("f2", "f3", "f4"))
        assert (vectors[0].xres, vectors[0].ck, vectors[0].ik) == (f2, f3, f4)
        assert vectors[0].autn.hex() == row["derived"]["autn"]
        done += 1
    assert done >= 20


@pytest.mark.parametrize(("algorithm", "key"), [(TUAK, bytes(range(32))), (XOR, b"")])
def test_other_algorithms(algorithm: str, key: bytes) -> None:
    credentials = AkaCredentials(K, key, algorithm)
    vectors, _ = centre().vectors(PrivateIdentity("a@b", credentials), 2)
    card = Usim(credentials.make_algorithm())
    for vector in vectors:
        assert isinstance(card.authenticate(vector.rand, vector.autn), Authenticated)


def test_a_domain_keeps_to_its_slots() -> None:
    one = private(inds=range(4, 7))
    auc, slots = centre(), []
    for _ in range(5):
        _, one = auc.vectors(one, 1)
        slots.append(split_sqn(one.sqn)[1])
    assert slots == [4, 5, 6, 4, 5]


def test_resynchronisation() -> None:
    auc = centre()
    far = join_sqn(1 << 20, 9)
    card = Usim(Milenage(K, OPC), SqnWindow.at(far))
    vectors, one = auc.vectors(private(), 1)
    failure = card.authenticate(vectors[0].rand, vectors[0].autn)
    assert isinstance(failure, SyncFailure)
    moved = auc.resynchronise(one, vectors[0].rand, failure.auts)
    assert moved is not None
    assert moved.sqn == far
    again, after = auc.vectors(moved, 1, after_resync=True)
    # The very next vector is accepted, and it has the subscriber's AMF.
    assert isinstance(card.authenticate(again[0].rand, again[0].autn), Authenticated)
    assert again[0].autn[6:8] == AMF
    assert again[0].rand != vectors[0].rand
    assert after.sqn > far


def test_osmo_auc_gen_reads_the_same_sqn() -> None:
    """AUTS made by us for a card far ahead: osmo-auc-gen finds the same SQN_MS in it."""
    program = require_program("osmo-auc-gen")
    rand, sqn_ms = bytes(range(16)), join_sqn(77777, 5)
    auts = make_auts(Milenage(K, OPC), rand, sqn_ms)
    command = [program, "-3", "-a", "milenage", "-k", K.hex(), "-o", OPC.hex(), "-r", rand.hex(), "-A", auts.hex()]
    output = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    assert re.search(rf"SQN\.MS:\s*{sqn_ms}\b", output), output
    moved = centre().resynchronise(private(), rand, auts)
    assert moved is not None
    assert moved.sqn == sqn_ms


def test_a_forged_auts_changes_nothing() -> None:
    rand = bytes(16)
    auts = bytearray(make_auts(Milenage(K, OPC), rand, join_sqn(1 << 20, 1)))
    for place in range(14):
        forged = bytearray(auts)
        forged[place] ^= 1
        assert centre().resynchronise(private(), rand, bytes(forged)) is None
    assert centre().resynchronise(private(), bytes(15) + b"\1", bytes(auts)) is None
    with pytest.raises(PeerError):
        centre().resynchronise(private(), rand, bytes(auts[:13]))


def test_an_auts_that_is_not_needed_moves_nothing() -> None:
    """33.102 6.3.5: when the next SQN would be accepted anyway, SQN_HE stays."""
    rand = bytes(16)
    one = private(join_sqn(100, 3))
    moved = centre().resynchronise(one, rand, make_auts(Milenage(K, OPC), rand, join_sqn(50, 3)))
    assert moved is not None
    assert moved.sqn == one.sqn


def test_no_key_for_aka() -> None:
    one = PrivateIdentity("a@b", DigestCredentials("b", "0" * 32))
    with pytest.raises(LocalError):
        centre().vectors(one, 1)
    with pytest.raises(LocalError):
        centre().resynchronise(one, bytes(16), bytes(14))


def test_the_end_of_the_sequence() -> None:
    with pytest.raises(LocalError):
        centre().vectors(private((1 << 48) - 1), 1)


def test_algorithms_are_kept_ready_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hss.auc.READY", 2)
    auc = centre()
    for number in range(4):
        one = replace(private(), credentials=AkaCredentials(bytes([number]) * 16, OPC))
        auc.vectors(one, 1)
        auc.vectors(one, 1)
    assert len(auc._ready) == 2


# --- the faults, each seen -------------------------------------------------------------------------------------------


def sqns(vectors: list, algorithm: Milenage) -> list[int]:
    return [
        int.from_bytes(vector.autn[:6], "big") ^ int.from_bytes(algorithm.f2345(vector.rand)[3], "big")
        for vector in vectors
    ]


def test_fault_auts_unchecked() -> None:
    moved = centre("auts-unchecked").resynchronise(private(), bytes(16), bytes(14))
    assert moved is not None
    assert moved.sqn != 0


def test_fault_sqn_repeated() -> None:
    auc, one, seen = centre("sqn-repeated"), private(), []
    for _ in range(4):
        vectors, one = auc.vectors(one, 1)
        seen += sqns(vectors, Milenage(K, OPC))
    assert seen[0] == seen[1] != seen[2] == seen[3]


def test_fault_ind_blind() -> None:
    vectors, one = centre("ind-blind").vectors(private(join_sqn(10, 0)), 3)
    assert [split_sqn(sqn)[0] for sqn in sqns(vectors, Milenage(K, OPC))] == [10, 10, 10]
    assert one.sqn == join_sqn(10, 3)


def test_fault_rand_reused() -> None:
    auc = centre("rand-reused")
    first, one = auc.vectors(private(), 2)
    second, one = auc.vectors(one, 1)
    assert first[0].rand == first[1].rand == second[0].rand
    auc.resynchronise(one, bytes(16), make_auts(Milenage(K, OPC), bytes(16), 1 << 40))
    assert auc.vectors(one, 1)[0][0].rand != first[0].rand
    plain, _ = centre().vectors(private(), 2)
    assert plain[0].rand != plain[1].rand


def test_fault_amf_zero_after_resync() -> None:
    auc = centre("amf-zero-after-resync")
    assert auc.vectors(private(), 1)[0][0].autn[6:8] == AMF
    assert auc.vectors(private(), 1, after_resync=True)[0][0].autn[6:8] == b"\0\0"
