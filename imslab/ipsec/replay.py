"""The anti-replay window of an inbound SA (RFC 4303 3.4.3), with 32-bit sequence numbers."""

from __future__ import annotations

from imslab.core.errors import LocalError

#: RFC 4303 3.4.3: 32 must be supported, 64 is preferred and should be the default.
MIN_SIZE = 32
DEFAULT_SIZE = 64

#: The last sequence number of an SA without extended sequence numbers.
LAST_SEQUENCE = 0xFFFFFFFF


class ReplayWindow:
    """Which sequence numbers have been received: the highest one and a bit for each of the `size` up to it.

    `check` comes before the ICV is verified and changes nothing, `update` after it: a forged packet must not move the
    window. highest: 0 before the first packet.
    """

    __slots__ = ("_bits", "_mask", "highest", "size")

    def __init__(self, size: int = DEFAULT_SIZE) -> None:
        """Raises LocalError: a size below MIN_SIZE."""
        if size < MIN_SIZE:
            raise LocalError(f"an anti-replay window of {size}: at least {MIN_SIZE} (RFC 4303 3.4.3)")
        self.size = size
        self.highest = 0
        self._mask = (1 << size) - 1
        self._bits = 0

    def check(self, sequence: int) -> bool:
        """True for a number that may be new: right of the window, or in it and not seen. 0 is never sent (3.3.3)."""
        back = self.highest - sequence
        if back < 0:
            return True
        return back < self.size and sequence > 0 and not self._bits >> back & 1

    def too_old(self, sequence: int) -> bool:
        """True left of the window, where a repeat and a latecomer cannot be told apart."""
        return self.highest - sequence >= self.size

    def update(self, sequence: int) -> None:
        """Marks a number that `check` accepted as received; the window moves when it is a new highest."""
        back = self.highest - sequence
        if back >= 0:
            self._bits |= 1 << back
            return
        # a jump beyond the window leaves nothing of it; shifting by up to 2^32 bits would not be free
        self._bits = (self._bits << -back & self._mask if -back < self.size else 0) | 1
        self.highest = sequence
