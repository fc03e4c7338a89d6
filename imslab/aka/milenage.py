"""Milenage, the algorithm set of most cards (TS 35.206), on AES-128.

    TEMP = E(RAND ⊕ OPc)
    OUT1 = E(TEMP ⊕ rot(SQN‖AMF‖SQN‖AMF ⊕ OPc, 64)) ⊕ OPc         f1 = first half, f1* = second half
    OUTn = E(rot(TEMP ⊕ OPc, rn) ⊕ cn) ⊕ OPc                       n = 2: f2 = second half, f5 = first 6 octets
                                                                    n = 3: f3    n = 4: f4    n = 5: f5* = 6 octets
    rotations r2…r5 = 0, 32, 64, 96 bits; constants c2…c5 = 1, 2, 4, 8

The way here: one AES context per key that lives as long as the object, TEMP in a first call of it and every output
that is wanted in a second one, and 128-bit numbers for the exclusive-ors. In place of rotating, octets are sliced out
of TEMP ⊕ OPc written twice.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from imslab.aka.algorithm import AMF_RESYNC, check_inputs, check_key, check_rand

_TWICE_64 = (1 << 64) | 1  # n times this: n written twice, 64 bits apart
_C2_C3_C4 = (1 << 256) | (2 << 128) | 4
_C5 = 8


def derive_opc(k: bytes, op: bytes) -> bytes:
    """OPc = OP ⊕ E(OP), 16 octets (TS 35.206 4.1). k, op: 16 octets each; LocalError otherwise."""
    encrypt = Cipher(algorithms.AES(check_key("K", k, 16)), modes.ECB()).encryptor()
    mixed = int.from_bytes(check_key("OP", op, 16), "big") ^ int.from_bytes(encrypt.update(op), "big")
    return mixed.to_bytes(16, "big")


class Milenage:
    """f1 to f5* of one subscriber.

    k, opc: 16 octets each; LocalError otherwise. `from_op` takes OP in place of OPc.
    """

    __slots__ = ("_encrypt", "_opc", "_opc_swapped", "_opc_times_3", "_opc_times_4")

    name = "Milenage"

    def __init__(self, k: bytes, opc: bytes) -> None:
        self._encrypt = Cipher(algorithms.AES(check_key("K", k, 16)), modes.ECB()).encryptor().update
        number = int.from_bytes(check_key("OPc", opc, 16), "big")
        self._opc = number
        self._opc_swapped = int.from_bytes(opc[8:] + opc[:8], "big")
        self._opc_times_3 = int.from_bytes(opc * 3, "big")
        self._opc_times_4 = int.from_bytes(opc * 4, "big")

    @classmethod
    def from_op(cls, k: bytes, op: bytes) -> Milenage:
        """The same from OP, the operator's constant, 16 octets."""
        return cls(k, derive_opc(k, op))

    def __repr__(self) -> str:
        return "Milenage(<keys not shown>)"

    def f1(self, rand: bytes, sqn: int, amf: bytes) -> bytes:
        return self._out1(rand, sqn, amf)[:8]

    def f1_star(self, rand: bytes, sqn: int, amf: bytes = AMF_RESYNC) -> bytes:
        return self._out1(rand, sqn, amf)[8:]

    def f2345(self, rand: bytes) -> tuple[bytes, bytes, bytes, bytes]:
        check_rand(rand)
        mixed = (self._temp(rand) ^ self._opc).to_bytes(16, "big")
        twice = mixed + mixed
        blocks = int.from_bytes(mixed + twice[4:20] + twice[8:24], "big") ^ _C2_C3_C4
        out = int.from_bytes(self._encrypt(blocks.to_bytes(48, "big")), "big") ^ self._opc_times_3
        octets = out.to_bytes(48, "big")
        return octets[8:16], octets[16:32], octets[32:], octets[:6]

    def f5_star(self, rand: bytes) -> bytes:
        check_rand(rand)
        mixed = (self._temp(rand) ^ self._opc).to_bytes(16, "big")
        block = int.from_bytes(mixed[12:] + mixed[:12], "big") ^ _C5
        out = int.from_bytes(self._encrypt(block.to_bytes(16, "big")), "big") ^ self._opc
        return out.to_bytes(16, "big")[:6]

    def f12345(self, rand: bytes, sqn: int, amf: bytes) -> tuple[bytes, bytes, bytes, bytes, bytes]:
        # The hot path of an authentication centre: the checks are written out, and so is TEMP.
        if len(rand) != 16 or len(amf) != 2 or sqn >> 48:
            check_inputs(rand, sqn, amf)
        opc = self._opc
        encrypt = self._encrypt
        temp = int.from_bytes(encrypt((int.from_bytes(rand, "big") ^ opc).to_bytes(16, "big")), "big")
        mixed = (temp ^ opc).to_bytes(16, "big")
        twice = mixed + mixed
        block1 = temp ^ self._opc_swapped ^ ((sqn << 16 | int.from_bytes(amf, "big")) * _TWICE_64)
        blocks = int.from_bytes(block1.to_bytes(16, "big") + mixed + twice[4:20] + twice[8:24], "big") ^ _C2_C3_C4
        out = int.from_bytes(encrypt(blocks.to_bytes(64, "big")), "big") ^ self._opc_times_4
        octets = out.to_bytes(64, "big")
        return octets[:8], octets[24:32], octets[32:48], octets[48:], octets[16:22]

    def _temp(self, rand: bytes) -> int:
        return int.from_bytes(self._encrypt((int.from_bytes(rand, "big") ^ self._opc).to_bytes(16, "big")), "big")

    def _out1(self, rand: bytes, sqn: int, amf: bytes) -> bytes:
        check_inputs(rand, sqn, amf)
        # SQN‖AMF twice is its own rotation by 64 bits, so only OPc needs to be swapped, once and for all.
        block = self._temp(rand) ^ self._opc_swapped ^ ((sqn << 16 | int.from_bytes(amf, "big")) * _TWICE_64)
        out = int.from_bytes(self._encrypt(block.to_bytes(16, "big")), "big") ^ self._opc
        return out.to_bytes(16, "big")
