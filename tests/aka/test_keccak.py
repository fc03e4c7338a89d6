"""The permutation against TS 35.232, and against the SHA-3 of the standard library, which is built on it."""

from __future__ import annotations

import hashlib
import random
from typing import Any

from imslab.aka.keccak import keccak_f1600
from tests.known_answers import each


@each("keccak_f1600_ts35232", 6)
def test_published(entry: dict[str, Any]) -> None:
    assert keccak_f1600(bytes.fromhex(entry["in"])).hex() == entry["out"]


def test_it_makes_sha3_256() -> None:
    rate = 136
    chance = random.Random(35232)
    for length in (0, 1, 64, 134):
        message = chance.randbytes(length)
        block = bytearray(200)
        block[:length] = message
        block[length] ^= 0x06
        block[rate - 1] ^= 0x80
        assert keccak_f1600(bytes(block))[:32] == hashlib.sha3_256(message).digest()
