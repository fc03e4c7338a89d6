"""Inputs that many tests share: TS 35.207 set 1."""

from __future__ import annotations

import pytest

from imslab.aka.algorithm import AkaAlgorithm
from imslab.aka.milenage import Milenage
from imslab.aka.tuak import Tuak
from imslab.aka.xor import XorTest

K = bytes.fromhex("465b5ce8b199b49faa5f0a2ee238a6bc")
OPC = bytes.fromhex("cd63cb71954a9f4e48a5994e37a02baf")
RAND = bytes.fromhex("23553cbe9637a89d218ae64dae47bf35")
AMF = b"\x80\x00"

ALGORITHMS: list[AkaAlgorithm] = [Milenage(K, OPC), Tuak(K, OPC + OPC), XorTest(K)]
every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda algorithm: algorithm.name)
