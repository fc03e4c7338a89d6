"""The card: it checks who asks, then whether the question is fresh, and only then answers (33.102 6.3.3)."""

from __future__ import annotations

from dataclasses import dataclass, field

from imslab.aka.algorithm import AkaAlgorithm
from imslab.aka.sqn import Freshness, SqnWindow
from imslab.aka.vector import make_auts, open_autn


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The challenge is good. res: 4 to 16 octets; ck, ik: 16 each (kept out of repr). sqn: 48 bits; amf: 2 octets."""

    sqn: int
    amf: bytes
    res: bytes = field(repr=False)
    ck: bytes = field(repr=False)
    ik: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class MacFailure:
    """MAC-A is wrong: whoever made the AUTN does not know this card's key. Nothing is said about SQN."""


@dataclass(frozen=True, slots=True)
class SyncFailure:
    """MAC-A is right and SQN is not acceptable. auts: 14 octets for the network. sqn: the one refused, 48 bits."""

    auts: bytes
    sqn: int
    freshness: Freshness


class Usim:
    """A card with a memory.

    algorithm: the card's functions, key inside. window: its SQN array; a new card's when left out.
    """

    __slots__ = ("_algorithm", "window")

    def __init__(self, algorithm: AkaAlgorithm, window: SqnWindow | None = None) -> None:
        self._algorithm = algorithm
        self.window = window if window is not None else SqnWindow()

    def __repr__(self) -> str:
        return f"Usim({self._algorithm.name}, {self.window!r})"

    def authenticate(self, rand: bytes, autn: bytes) -> Authenticated | MacFailure | SyncFailure:
        """Answer a challenge. rand, autn: 16 octets each.

        Raises PeerError when AUTN has another length, LocalError when RAND has (`split_nonce` gives both right).
        """
        res, ck, ik, ak = self._algorithm.f2345(rand)
        opened = open_autn(self._algorithm, rand, autn, ak)
        # 33.102 6.3.3: MAC before SQN; a challenge with both wrong is a MAC failure and bears no AUTS.
        if not opened.mac_ok:
            return MacFailure()
        freshness = self.window.accept(opened.sqn)
        if freshness is not Freshness.FRESH:
            return SyncFailure(make_auts(self._algorithm, rand, self.window.sqn_ms), opened.sqn, freshness)
        return Authenticated(opened.sqn, opened.amf, res, ck, ik)
