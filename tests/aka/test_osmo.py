"""A thousand random keys, judged by osmo-auc-gen: vectors and resynchronisations.

Its peculiarities: -s is decimal and means the SQN of the vector for Milenage, but one SEQ step more for XOR; after an
AUTS it goes on with the SEQ after SQN_MS and the IND that -i says.
"""

from __future__ import annotations

import random
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from imslab.aka.algorithm import AkaAlgorithm
from imslab.aka.milenage import Milenage
from imslab.aka.sqn import SEQ_MAX, SLOTS, SqnGenerator, join_sqn, split_sqn
from imslab.aka.vector import Vector, generate, make_auts
from imslab.aka.xor import XorTest
from tests.require import require_program

KEYS = 1000
XOR_KEYS = 50
ONE_SEQ = 1 << 5


@dataclass
class Case:
    algorithm: AkaAlgorithm
    flags: list[str]
    rand: bytes
    amf: bytes
    sqn: int
    extra: int = 0  # what osmo-auc-gen wants on top of SQN


def cases() -> list[Case]:
    chance = random.Random(33102)
    made = []
    for number in range(KEYS + XOR_KEYS):
        k, op = chance.randbytes(16), chance.randbytes(16)
        rand, amf = chance.randbytes(16), chance.randbytes(2)
        # Every magnitude of SEQ, with room above for the step after a resynchronisation.
        sqn = join_sqn(max(1, chance.getrandbits(chance.randrange(1, 43)) % SEQ_MAX), chance.randrange(SLOTS))
        flags = ["-3", "-r", rand.hex(), "-k", k.hex(), "-f", amf.hex()]
        if number >= KEYS:
            made.append(Case(XorTest(k), [*flags, "-a", "xor"], rand, amf, sqn, ONE_SEQ))
        elif number % 2:
            made.append(Case(Milenage(k, op), [*flags, "-a", "milenage", "-o", op.hex()], rand, amf, sqn))
        else:
            made.append(Case(Milenage.from_op(k, op), [*flags, "-a", "milenage", "-O", op.hex()], rand, amf, sqn))
    return made


def run(*arguments: str) -> dict[str, str]:
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=30, check=True)
    lines = (line.partition(":") for line in done.stdout.splitlines() if ":\t" in line)
    return {name: value.strip() for name, _, value in lines}


def differences(program: str, case: Case) -> list[str]:
    found = []

    def compare(said: dict[str, str], vector: Vector, sqn: int) -> None:
        ours = {
            "AUTN": vector.autn.hex(),
            "RES": vector.xres.hex(),
            "CK": vector.ck.hex(),
            "IK": vector.ik.hex(),
            "IMS nonce": vector.nonce,
            "SQN": str(sqn),
        }
        found.extend(
            f"{name}: {said.get(name)}, ours {value}" for name, value in ours.items() if said.get(name) != value
        )

    compare(
        run(program, *case.flags, "-s", str(case.sqn + case.extra)),
        generate(case.algorithm, case.rand, case.sqn, case.amf),
        case.sqn,
    )
    ind = split_sqn(case.sqn)[0] % SLOTS
    said = run(program, *case.flags, "-A", make_auts(case.algorithm, case.rand, case.sqn).hex(), "-i", str(ind))
    if said.get("SQN.MS") != str(case.sqn):
        found.append(f"SQN.MS: {said.get('SQN.MS')}, ours {case.sqn}")
    if not case.extra:  # after an AUTS its XOR does not step on
        generator = SqnGenerator(0, range(ind, ind + 1))
        generator.resynchronise(case.sqn)
        sqn = generator.next()
        compare(said, generate(case.algorithm, case.rand, sqn, case.amf), sqn)
    return found


def test_agreement_on_a_thousand_keys() -> None:
    program = require_program("osmo-auc-gen")
    every = cases()
    with ThreadPoolExecutor(max_workers=4) as pool:
        found = list(pool.map(lambda case: differences(program, case), every))
    assert len(found) == KEYS + XOR_KEYS
    assert [(case.flags, wrong) for case, wrong in zip(every, found, strict=True) if wrong] == []


def test_a_wrong_mac_s_is_refused_by_both() -> None:
    # The check above must be able to fail: a flipped bit makes the other side refuse as well.
    program = require_program("osmo-auc-gen")
    case = cases()[1]
    auts = bytearray(make_auts(case.algorithm, case.rand, case.sqn))
    auts[13] ^= 1
    done = subprocess.run([program, *case.flags, "-A", auts.hex()], capture_output=True, text=True, timeout=30)
    assert done.returncode != 0
    assert "AUTN" not in done.stdout
