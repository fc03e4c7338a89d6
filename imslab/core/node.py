"""The one contract: a node is pure, a carrier does the rest.

Octets, time and chance come in as arguments; what should happen comes out as a list. So a whole registration can be
played without a socket, a clock or a kernel, and the same node runs on all of them.
"""

from __future__ import annotations

from typing import Protocol

from imslab.core.effects import Effect
from imslab.core.events import Event


class Node(Protocol):
    """UE, P-CSCF, I-CSCF, S-CSCF, HSS: a sans-I/O state machine.

    now: seconds on a monotonic clock that the carrier owns; never decreasing from call to call.
    """

    name: str

    def handle(self, event: Event, now: float) -> None:
        """Take in one event. Never raises because of what a peer sent."""

    def next_timer(self) -> float | None:
        """When the node wants a Timer event, on the clock of `now`; None if it waits for nothing."""

    def take(self) -> list[Effect]:
        """The effects since the last call, in the order in which they must be performed."""
