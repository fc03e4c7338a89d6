"""Milenage as one writes it down from TS 35.206, function by function: the yardstick of bench_aka.

Octet strings, a loop for each exclusive-or, OPc known, the cipher made where it is used; nothing made slow on purpose.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


def encrypt(k: bytes, block: bytes) -> bytes:
    return Cipher(algorithms.AES(k), modes.ECB()).encryptor().update(block)


def xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def rotate(block: bytes, bits: int) -> bytes:
    return block[bits // 8 :] + block[: bits // 8]


def out(k: bytes, opc: bytes, temp: bytes, rotation: int, constant: int) -> bytes:
    block = xor(rotate(xor(temp, opc), rotation), constant.to_bytes(16, "big"))
    return xor(encrypt(k, block), opc)


def vector(k: bytes, opc: bytes, rand: bytes, sqn: bytes, amf: bytes) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    """RAND, AUTN, XRES, CK, IK."""
    temp = encrypt(k, xor(rand, opc))
    in1 = sqn + amf + sqn + amf
    mac_a = xor(encrypt(k, xor(temp, rotate(xor(in1, opc), 64))), opc)[:8]
    out2 = out(k, opc, temp, 0, 1)
    xres, ak = out2[8:], out2[:6]
    ck = out(k, opc, temp, 32, 2)
    ik = out(k, opc, temp, 64, 4)
    return rand, xor(sqn, ak) + amf + mac_a, xres, ck, ik
