"""Links between simulated hosts, and the faults that tests put on them.

A link treats every packet by chance, under a seed; a fault treats chosen packets on purpose.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from imslab.core.errors import LocalError

if TYPE_CHECKING:
    from imslab.net.host import Host

#: Seconds: fixed, or the limits between which every packet draws its own, so that packets may overtake one another.
Delay = float | tuple[float, float]


class Link:
    """A link, or many alike, under one name: the capture point of its packets.

    delay: seconds, one way. loss, duplicate, reorder: the share of packets, 0–1, to which it happens; a packet that is
    reordered waits one to five delays longer than others. mtu: octets of an IP packet.
    """

    __slots__ = ("_chance", "_seed", "delay", "duplicate", "loss", "mtu", "name", "reorder")

    def __init__(
        self,
        name: str,
        seed: str,
        *,
        delay: Delay = 0.0005,
        loss: float = 0.0,
        duplicate: float = 0.0,
        reorder: float = 0.0,
        mtu: int = 1500,
    ) -> None:
        """seed: of this link's chance. Raises LocalError: a share outside 0–1, a negative delay, an MTU below 576."""
        if not all(0 <= share <= 1 for share in (loss, duplicate, reorder)):
            raise LocalError(f"link {name}: loss, duplicate and reorder are shares from 0 to 1")
        if min(delay if isinstance(delay, tuple) else (delay,)) < 0:
            raise LocalError(f"link {name}: a negative delay")
        if mtu < 576:
            raise LocalError(f"link {name}: an MTU of {mtu}, less than the 576 octets that every host takes")
        self.name = name
        self.delay = delay
        self.loss = loss
        self.duplicate = duplicate
        self.reorder = reorder
        self.mtu = mtu
        self._seed = seed
        self._chance: random.Random | None = None

    def delays(self) -> tuple[float, ...]:
        """When the next packet arrives, in seconds from its sending: once as a rule, never, or twice."""
        fixed = self.delay
        if not self.loss and not self.duplicate and not self.reorder and not isinstance(fixed, tuple):
            return (fixed,)
        if self._chance is None:
            # Made at need: its state is 2.5 kB, and most links are good ones.
            self._chance = random.Random(self._seed)
        chance = self._chance
        if chance.random() < self.loss:
            return ()
        copies = 2 if chance.random() < self.duplicate else 1
        return tuple(self._delay(chance) for _ in range(copies))

    def _delay(self, chance: random.Random) -> float:
        delay = chance.uniform(*self.delay) if isinstance(self.delay, tuple) else self.delay
        if chance.random() < self.reorder:
            delay += chance.uniform(1, 5) * delay
        return delay


class Way(NamedTuple):
    """One direction between two hosts, written `ue >> pcscf`."""

    source: Host
    destination: Host


class Transit(NamedTuple):
    """A packet that is being sent.

    octets: the IP packet or fragment as it is on the wire. clear: the UDP datagram or TCP segment, whole and before
    ESP; empty for an injected packet.
    """

    time: float
    point: str
    way: Way
    octets: bytes
    clear: bytes


#: What becomes of a packet: (seconds later than usual, octets) for each that goes on.
Treatment = Callable[[Transit], list[tuple[float, bytes]]]
Match = Callable[[Transit], bool]


class Fault:
    """A treatment of chosen packets. In force until the nth has been treated, or the `with` block ends.

    hits: how many packets were treated.
    """

    __slots__ = ("_active", "_match", "_nth", "_treatment", "_way", "hits", "seen")

    def __init__(
        self, active: list[Fault], treatment: Treatment, way: Way | None, nth: int | None, match: Match | None
    ) -> None:
        """nth: the how-manieth packet that matches, from 1; None: every one. way None: on all links."""
        if nth is not None and nth < 1:
            raise LocalError("nth counts from 1")
        self._active = active
        self._treatment = treatment
        self._way = way
        self._nth = nth
        self._match = match
        self.seen = 0
        self.hits = 0
        active.append(self)

    def cancel(self) -> None:
        """No more of it. Cancelling twice is no error."""
        if self in self._active:
            self._active.remove(self)

    def __enter__(self) -> Fault:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def treat(self, transit: Transit) -> list[tuple[float, bytes]] | None:
        """What becomes of this packet; None when the fault does not concern it."""
        if self._way is not None and self._way != transit.way:
            return None
        if self._match is not None and not self._match(transit):
            return None
        self.seen += 1
        if self._nth is not None:
            if self.seen != self._nth:
                return None
            self.cancel()
        self.hits += 1
        return self._treatment(transit)


def spoil(octets: bytes) -> bytes:
    """The packet with the lowest bit of its last octet turned: the ICV of ESP, the end of the data in clear."""
    return octets[:-1] + bytes((octets[-1] ^ 1,))
