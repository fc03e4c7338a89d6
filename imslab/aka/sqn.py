"""Sequence numbers as 33.102 Annex C handles them: SQN = SEQ ‖ IND, 43 + 5 bits.

The authentication centre raises SEQ by one for each vector and lets IND go round, so that neighbouring vectors land in
different slots of the card's array. The card remembers the highest SEQ per slot: a vector that was overtaken by others
is still good, one that was used before is not (C.2.2). The reference profile C.3.1 has 32 slots and Δ = 2^28.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from imslab.aka.algorithm import SQN_BITS
from imslab.core.errors import LocalError

IND_BITS = 5
SLOTS = 1 << IND_BITS
SEQ_MAX = (1 << (SQN_BITS - IND_BITS)) - 1
SQN_MAX = (1 << SQN_BITS) - 1
#: Δ: how far SEQ may jump ahead of the highest that was accepted (C.3.1).
DELTA = 1 << 28


def split_sqn(sqn: int) -> tuple[int, int]:
    """SEQ and IND of an SQN. Raises LocalError unless it fits in 48 bits."""
    if not 0 <= sqn <= SQN_MAX:
        raise LocalError(f"SQN: expected 0 to 2^{SQN_BITS} - 1")
    return sqn >> IND_BITS, sqn & (SLOTS - 1)


def join_sqn(seq: int, ind: int) -> int:
    """SEQ ‖ IND. Raises LocalError unless they fit in 43 and 5 bits."""
    if not 0 <= seq <= SEQ_MAX:
        raise LocalError(f"SEQ: expected 0 to {SEQ_MAX}")
    if not 0 <= ind < SLOTS:
        raise LocalError(f"IND: expected 0 to {SLOTS - 1}")
    return seq << IND_BITS | ind


def sqn_text(sqn: int) -> str:
    """Twelve lower-case hex digits."""
    return f"{sqn:012x}"


class SqnGenerator:
    """SQN_HE: the authentication centre's side, for one subscriber and one domain.

    sqn: the last SQN that was handed out; make `.sqn` durable before the vector leaves.
    inds: the slots that this domain may use (C.3.4: domains that share a subscriber get slots of their own).
    """

    __slots__ = ("_inds", "sqn")

    def __init__(self, sqn: int = 0, inds: range = range(SLOTS)) -> None:
        split_sqn(sqn)
        if not inds or not 0 <= min(inds) <= max(inds) < SLOTS:
            raise LocalError(f"IND: expected one or more of 0 to {SLOTS - 1}, got {inds}")
        self.sqn = sqn
        self._inds = inds

    def __repr__(self) -> str:
        return f"SqnGenerator({sqn_text(self.sqn)}, {self._inds})"

    def peek(self) -> int:
        """The SQN that `next` will hand out. Raises LocalError when the 43 bits of SEQ are used up."""
        seq, ind = split_sqn(self.sqn)
        if seq == SEQ_MAX:
            raise LocalError("SEQ: its 43 bits are used up; this key needs a new card")
        return join_sqn(seq + 1, self._inds[(self._position(ind) + 1) % len(self._inds)])

    def next(self) -> int:
        """The next SQN: SEQ one higher, IND the next slot round. Never the same twice, whatever happens between."""
        self.sqn = self.peek()
        return self.sqn

    def resynchronise(self, sqn_ms: int, delta: int = DELTA) -> bool:
        """Take the card's SQN_MS, whose MAC-S was verified, as ours: if our next one would be refused (6.3.5).

        True when SQN_HE was set to SQN_MS; False when our next one is good anyway, and nothing was changed.
        """
        seq_ms, _ = split_sqn(sqn_ms)
        seq_next = (self.sqn >> IND_BITS) + 1
        if seq_ms < seq_next <= seq_ms + delta:
            return False
        self.sqn = sqn_ms
        return True

    def _position(self, ind: int) -> int:
        # After a resynchronisation, or for a SQN of another domain, IND may be none of ours: begin at our first.
        return self._inds.index(ind) if ind in self._inds else -1


class Freshness(StrEnum):
    """What the card thinks of an SQN (C.2.2)."""

    FRESH = "fresh"
    #: SEQ is not higher than the one in its slot: used before, or too late.
    REPLAYED = "replayed"
    #: SEQ is more than Δ above the highest accepted: protection against wrapping around.
    TOO_FAR_AHEAD = "too far ahead"
    #: SEQ is more than L below the highest accepted: the optional age limit.
    TOO_OLD = "too old"


class SqnWindow:
    """SQN_MS: the card's side, an array of the highest SEQ accepted per IND.

    seqs: 32 of them, to go on with a stored array (`.seqs` is what to store). delta: Δ. age_limit: L, None for none.
    """

    __slots__ = ("_highest", "age_limit", "delta", "seqs")

    def __init__(self, seqs: Iterable[int] = (), *, delta: int = DELTA, age_limit: int | None = None) -> None:
        self.seqs = list(seqs) or [0] * SLOTS
        if len(self.seqs) != SLOTS:
            raise LocalError(f"SEQ array: expected {SLOTS} entries, got {len(self.seqs)}")
        self.delta = delta
        self.age_limit = age_limit
        self._highest = max(join_sqn(seq, ind) for ind, seq in enumerate(self.seqs))

    @classmethod
    def at(cls, sqn_ms: int, *, delta: int = DELTA, age_limit: int | None = None) -> SqnWindow:
        """A card of which only SQN_MS is known: every slot is taken to stand at its SEQ."""
        seq, ind = split_sqn(sqn_ms)
        window = cls([seq] * SLOTS, delta=delta, age_limit=age_limit)
        window._highest = join_sqn(seq, ind)
        return window

    def __repr__(self) -> str:
        return f"SqnWindow(SQN_MS {sqn_text(self.sqn_ms)})"

    @property
    def sqn_ms(self) -> int:
        """The highest SQN that was accepted: what an AUTS reports (C.2.1)."""
        return self._highest

    def check(self, sqn: int) -> Freshness:
        """Whether the card would accept this SQN. Changes nothing. Raises LocalError unless it fits in 48 bits."""
        seq, ind = split_sqn(sqn)
        seq_ms = self._highest >> IND_BITS
        if seq - seq_ms > self.delta:
            return Freshness.TOO_FAR_AHEAD
        if self.age_limit is not None and seq_ms - seq > self.age_limit:
            return Freshness.TOO_OLD
        return Freshness.FRESH if seq > self.seqs[ind] else Freshness.REPLAYED

    def accept(self, sqn: int) -> Freshness:
        """Check, and remember the SQN when it is fresh."""
        freshness = self.check(sqn)
        if freshness is Freshness.FRESH:
            seq, ind = split_sqn(sqn)
            self.seqs[ind] = seq
            if sqn > self._highest:
                self._highest = sqn
        return freshness
