"""The XOR test algorithm of test cards and test equipment (TS 34.108 8.1.2). It protects nothing.

XDOUT = K ⊕ RAND        RES = XDOUT        CK = XDOUT turned left by 1 octet        IK = … by 2 octets
AK = AK* = octets 3 to 8 of XDOUT          MAC = first 8 octets of XDOUT ⊕ SQN‖AMF
"""

from __future__ import annotations

from imslab.aka.algorithm import AMF_RESYNC, check_inputs, check_key, check_rand
from imslab.core.errors import LocalError


class XorTest:
    """f1 to f5* of a test card. k: 16 octets. res_length: octets of RES, 4 to 16."""

    __slots__ = ("_k", "_res_length")

    name = "XOR"

    def __init__(self, k: bytes, *, res_length: int = 16) -> None:
        self._k = int.from_bytes(check_key("K", k, 16), "big")
        if not 4 <= res_length <= 16:
            raise LocalError(f"RES: expected a length of 4 to 16 octets, got {res_length}")
        self._res_length = res_length

    def __repr__(self) -> str:
        return "XorTest(<key not shown>)"

    def f1(self, rand: bytes, sqn: int, amf: bytes) -> bytes:
        check_inputs(rand, sqn, amf)
        cdout = sqn << 16 | int.from_bytes(amf, "big")
        return (int.from_bytes(self._xdout(rand)[:8], "big") ^ cdout).to_bytes(8, "big")

    def f1_star(self, rand: bytes, sqn: int, amf: bytes = AMF_RESYNC) -> bytes:
        return self.f1(rand, sqn, amf)

    def f2345(self, rand: bytes) -> tuple[bytes, bytes, bytes, bytes]:
        check_rand(rand)
        xdout = self._xdout(rand)
        return xdout[: self._res_length], xdout[1:] + xdout[:1], xdout[2:] + xdout[:2], xdout[3:9]

    def f5_star(self, rand: bytes) -> bytes:
        check_rand(rand)
        return self._xdout(rand)[3:9]

    def f12345(self, rand: bytes, sqn: int, amf: bytes) -> tuple[bytes, bytes, bytes, bytes, bytes]:
        return (self.f1(rand, sqn, amf), *self.f2345(rand))

    def _xdout(self, rand: bytes) -> bytes:
        return (self._k ^ int.from_bytes(rand, "big")).to_bytes(16, "big")
