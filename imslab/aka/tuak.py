"""TUAK, the second algorithm set, on Keccak-f[1600] (TS 35.231). Keys of 128 or 256 bits.

All functions fill one 1,600-bit block and permute it; they differ in the INSTANCE octet and in what is left zero. The
specification numbers bits from the far end, which for octet strings means: every field is written octet-reversed.

    octets  0       32        33         40    56   58   64      96            136         200
            TOP(c)  INSTANCE  "TUAK1.0"  RAND  AMF  SQN  K ‖ 0…  0x1f … 0x80   capacity: 0
"""

from __future__ import annotations

import hashlib

from imslab.aka.algorithm import AMF_RESYNC, check_inputs, check_key, check_rand
from imslab.aka.keccak import keccak_f1600
from imslab.core.errors import LocalError

_ALGONAME = b"TUAK1.0"
_RATE = 136
_PADDING = b"\x1f" + bytes(38) + b"\x80"
_CAPACITY = bytes(64)

# INSTANCE, most significant bit first: two bits for the function, three for the length of MAC or RES, then one each
# for a CK, an IK and a K of 256 bits.
_F1, _F1_STAR, _F2345, _F5_STAR = 0x00, 0x80, 0x40, 0xC0
_LENGTH_BITS = {32: 0x00, 64: 0x08, 128: 0x10, 256: 0x20}
_CK_256, _IK_256, _K_256 = 0x04, 0x02, 0x01


def derive_topc(k: bytes, top: bytes, *, iterations: int = 1) -> bytes:
    """TOPc, 32 octets. k: 16 or 32 octets; top: 32 octets; LocalError otherwise."""
    k = check_key("K", k, 16, 32)
    top = check_key("TOP", top, 32)
    instance = _K_256 if len(k) == 32 else 0
    return _permute(top, instance, bytes(24), k, iterations)[31::-1]


class Tuak:
    """f1 to f5* of one subscriber.

    k: 16 or 32 octets. topc: 32 octets. `from_top` takes TOP in place of TOPc.
    mac_bits: 64, 128 or 256 (an AUTN has room for 64). res_bits: 32, 64, 128 or 256. ck_bits, ik_bits: 128 or 256.
    iterations: of the permutation, 1 unless the operator chose more. LocalError for anything else.
    """

    __slots__ = ("_ck_length", "_ik_length", "_instance", "_iterations", "_k", "_mac_bits", "_res_bits", "_topc")

    name = "TUAK"

    def __init__(
        self,
        k: bytes,
        topc: bytes,
        *,
        mac_bits: int = 64,
        res_bits: int = 64,
        ck_bits: int = 128,
        ik_bits: int = 128,
        iterations: int = 1,
    ) -> None:
        self._k = check_key("K", k, 16, 32)
        self._topc = check_key("TOPc", topc, 32)
        for name, bits, allowed in (
            ("MAC", mac_bits, (64, 128, 256)),
            ("RES", res_bits, (32, 64, 128, 256)),
            ("CK", ck_bits, (128, 256)),
            ("IK", ik_bits, (128, 256)),
        ):
            if bits not in allowed:
                raise LocalError(f"TUAK {name}: expected a length of {', '.join(map(str, allowed))} bits, got {bits}")
        if iterations < 1:
            raise LocalError(f"TUAK iterations: expected 1 or more, got {iterations}")
        self._mac_bits = mac_bits
        self._res_bits = res_bits
        self._ck_length = ck_bits // 8
        self._ik_length = ik_bits // 8
        self._iterations = iterations
        self._instance = _K_256 if len(k) == 32 else 0

    @classmethod
    def from_top(
        cls,
        k: bytes,
        top: bytes,
        *,
        mac_bits: int = 64,
        res_bits: int = 64,
        ck_bits: int = 128,
        ik_bits: int = 128,
        iterations: int = 1,
    ) -> Tuak:
        """The same from TOP, the operator's constant, 32 octets."""
        return cls(
            k,
            derive_topc(k, top, iterations=iterations),
            mac_bits=mac_bits,
            res_bits=res_bits,
            ck_bits=ck_bits,
            ik_bits=ik_bits,
            iterations=iterations,
        )

    def __repr__(self) -> str:
        return "Tuak(<keys not shown>)"

    def f1(self, rand: bytes, sqn: int, amf: bytes) -> bytes:
        return self._mac(_F1, rand, sqn, amf)

    def f1_star(self, rand: bytes, sqn: int, amf: bytes = AMF_RESYNC) -> bytes:
        return self._mac(_F1_STAR, rand, sqn, amf)

    def f2345(self, rand: bytes) -> tuple[bytes, bytes, bytes, bytes]:
        check_rand(rand)
        instance = _F2345 | _LENGTH_BITS[self._res_bits] | self._instance
        instance |= _CK_256 if self._ck_length == 32 else 0
        instance |= _IK_256 if self._ik_length == 32 else 0
        out = self._block(instance, rand[::-1] + bytes(8))
        return (
            out[: self._res_bits // 8][::-1],
            out[32 : 32 + self._ck_length][::-1],
            out[64 : 64 + self._ik_length][::-1],
            out[96:102][::-1],
        )

    def f5_star(self, rand: bytes) -> bytes:
        check_rand(rand)
        return self._block(_F5_STAR | self._instance, rand[::-1] + bytes(8))[96:102][::-1]

    def f12345(self, rand: bytes, sqn: int, amf: bytes) -> tuple[bytes, bytes, bytes, bytes, bytes]:
        return (self.f1(rand, sqn, amf), *self.f2345(rand))

    def _mac(self, function: int, rand: bytes, sqn: int, amf: bytes) -> bytes:
        check_inputs(rand, sqn, amf)
        instance = function | _LENGTH_BITS[self._mac_bits] | self._instance
        return self._block(instance, rand[::-1] + amf[::-1] + sqn.to_bytes(6, "little"))[: self._mac_bits // 8][::-1]

    def _block(self, instance: int, variable: bytes) -> bytes:
        return _permute(self._topc, instance, variable, self._k, self._iterations)


def _permute(top: bytes, instance: int, variable: bytes, k: bytes, iterations: int) -> bytes:
    """The first 136 octets of the permuted block. variable: RAND, AMF and SQN, reversed already, 24 octets."""
    block = top[::-1] + bytes((instance,)) + _ALGONAME[::-1] + variable + k[::-1].ljust(32, b"\0")
    if iterations == 1:
        # These 96 octets with TUAK's padding and capacity are what SHAKE256 makes of them too (FIPS 202 6.2).
        return hashlib.shake_256(block).digest(_RATE)
    state = block + _PADDING + _CAPACITY
    for _ in range(iterations):
        state = keccak_f1600(state)
    return state[:_RATE]
