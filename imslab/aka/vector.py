"""Authentication vectors, and what the authentication centre reads out of an AUTS.

AUTN = SQN ⊕ AK ‖ AMF ‖ MAC-A         6 + 2 + 8 octets   (33.102 6.3.2)
AUTS = SQN_MS ⊕ AK* ‖ MAC-S           6 + 8 octets       (33.102 6.3.3)
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from typing import NamedTuple

from imslab.aka.algorithm import AkaAlgorithm
from imslab.core.errors import LocalError, PeerError

AUTN_LENGTH = 16
AUTS_LENGTH = 14


class Vector(NamedTuple):
    """One authentication vector, good for one challenge.

    rand, autn: 16 octets each. xres: 4 to 16 octets. ck, ik: 16 octets each. repr() shows rand and autn only.
    """

    rand: bytes
    autn: bytes
    xres: bytes
    ck: bytes
    ik: bytes

    @property
    def nonce(self) -> str:
        """base64(RAND ‖ AUTN), as a Digest AKA challenge carries it (RFC 3310 3.2)."""
        return b64encode(self.rand + self.autn).decode("ascii")

    def __repr__(self) -> str:
        return f"Vector(rand={self.rand.hex()}, autn={self.autn.hex()}, <keys not shown>)"


class OpenedAutn(NamedTuple):
    """What an AUTN says, in the eyes of one key. mac_ok False: it was not made with this key, and sqn means nothing."""

    sqn: int
    amf: bytes
    mac_ok: bool


class OpenedAuts(NamedTuple):
    """What an AUTS says. mac_ok False: sqn_ms must not be believed."""

    sqn_ms: int
    mac_ok: bool


def generate(algorithm: AkaAlgorithm, rand: bytes, sqn: int, amf: bytes) -> Vector:
    """A fresh vector. rand: 16 octets, never used before. sqn: 48 bits, from SqnGenerator. amf: 2 octets.

    Raises LocalError for other shapes, and for an algorithm whose MAC is not the 8 octets that fit into an AUTN.
    """
    mac, xres, ck, ik, ak = algorithm.f12345(rand, sqn, amf)
    if len(mac) != 8:
        raise LocalError(f"MAC-A: an AUTN holds 8 octets, the algorithm is set to {len(mac)}")
    return Vector(rand, (sqn ^ int.from_bytes(ak, "big")).to_bytes(6, "big") + amf + mac, xres, ck, ik)


def open_autn(algorithm: AkaAlgorithm, rand: bytes, autn: bytes, ak: bytes) -> OpenedAutn:
    """Take an AUTN apart. ak: the AK that f2345 gave for this RAND. Raises PeerError unless AUTN has 16 octets."""
    if len(autn) != AUTN_LENGTH:
        raise PeerError(f"AUTN: expected {AUTN_LENGTH} octets, got {len(autn)}", clause="33.102 6.3.2", octets=autn)
    sqn = int.from_bytes(autn[:6], "big") ^ int.from_bytes(ak, "big")
    amf = autn[6:8]
    return OpenedAutn(sqn, amf, hmac.compare_digest(algorithm.f1(rand, sqn, amf), autn[8:]))


def make_auts(algorithm: AkaAlgorithm, rand: bytes, sqn_ms: int) -> bytes:
    """The 14 octets by which a card reports its SQN_MS (33.102 6.3.3)."""
    ak_star = int.from_bytes(algorithm.f5_star(rand), "big")
    return (sqn_ms ^ ak_star).to_bytes(6, "big") + algorithm.f1_star(rand, sqn_ms)


def open_auts(algorithm: AkaAlgorithm, rand: bytes, auts: bytes) -> OpenedAuts:
    """Take an AUTS apart and verify its MAC-S. Raises PeerError unless AUTS has 14 octets."""
    if len(auts) != AUTS_LENGTH:
        raise PeerError(f"AUTS: expected {AUTS_LENGTH} octets, got {len(auts)}", clause="33.102 6.3.3", octets=auts)
    sqn_ms = int.from_bytes(auts[:6], "big") ^ int.from_bytes(algorithm.f5_star(rand), "big")
    # 33.102 6.3.3: MAC-S is computed over AMF* = 0000, whatever AMF the challenge had.
    return OpenedAuts(sqn_ms, hmac.compare_digest(algorithm.f1_star(rand, sqn_ms), auts[6:]))


def check_auts(algorithm: AkaAlgorithm, rand: bytes, auts: bytes) -> int | None:
    """SQN_MS if the AUTS is the card's, else None: then nothing may be reset (33.102 6.3.5).

    rand: of the challenge that the card refused. Raises PeerError unless AUTS has 14 octets.
    """
    opened = open_auts(algorithm, rand, auts)
    return opened.sqn_ms if opened.mac_ok else None
