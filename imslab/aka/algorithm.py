"""What an authentication algorithm must offer: the functions f1 to f5* of 33.102 6.3.

The card and the authentication centre share K; everything else here follows from K, RAND, SQN and AMF:

    f1   MAC-A   proves the network to the card        f1*  MAC-S   proves the card's SQN to the network
    f2   RES     proves the card to the network        f5   AK      hides SQN in AUTN
    f3   CK      f4   IK      the session keys         f5*  AK*     hides SQN_MS in AUTS

Milenage, TUAK and the XOR test algorithm are three implementations of this one interface.
"""

from __future__ import annotations

from typing import Protocol

from imslab.core.errors import LocalError

#: Octets of RAND.
RAND_LENGTH = 16
#: SQN has 48 bits (33.102 6.3.7).
SQN_BITS = 48
#: AMF as a resynchronisation uses it: all zero, so that it need not be sent (33.102 6.3.3).
AMF_RESYNC = b"\0\0"


class AkaAlgorithm(Protocol):
    """One subscriber's algorithm, with the key inside. Neither repr() nor an error text ever shows the key.

    rand: 16 octets. sqn: a whole number of 48 bits. amf: 2 octets. Other shapes raise LocalError.
    """

    name: str

    def f1(self, rand: bytes, sqn: int, amf: bytes) -> bytes:
        """MAC-A, 8 octets (TUAK may be set to more)."""

    def f1_star(self, rand: bytes, sqn: int, amf: bytes = AMF_RESYNC) -> bytes:
        """MAC-S, as long as MAC-A. amf: all zero in a resynchronisation."""

    def f2345(self, rand: bytes) -> tuple[bytes, bytes, bytes, bytes]:
        """RES (4 to 16 octets; TUAK may be set to 32), CK, IK (16 each), AK (6): what does not depend on SQN."""

    def f5_star(self, rand: bytes) -> bytes:
        """AK*, 6 octets."""

    def f12345(self, rand: bytes, sqn: int, amf: bytes) -> tuple[bytes, bytes, bytes, bytes, bytes]:
        """MAC-A, XRES, CK, IK, AK in one go: an authentication centre needs them all."""


def check_rand(rand: bytes) -> None:
    """Raises LocalError unless it has 16 octets."""
    if len(rand) != RAND_LENGTH:
        raise LocalError(f"RAND: expected {RAND_LENGTH} octets, got {len(rand)}")


def check_inputs(rand: bytes, sqn: int, amf: bytes) -> None:
    """Raises LocalError unless RAND has 16 octets, SQN fits in 48 bits and AMF has 2 octets."""
    check_rand(rand)
    if sqn >> SQN_BITS:
        raise LocalError(f"SQN: expected 0 to 2^{SQN_BITS} - 1")
    if len(amf) != 2:
        raise LocalError(f"AMF: expected 2 octets, got {len(amf)}")


def check_key(name: str, octets: bytes, *lengths: int) -> bytes:
    """The octets, if they have one of these lengths. Raises LocalError that tells the lengths and never the octets."""
    if len(octets) not in lengths:
        wanted = " or ".join(str(length) for length in lengths)
        raise LocalError(f"{name}: expected {wanted} octets, got {len(octets)}")
    return bytes(octets)
