"""One packet, several frames: what a capture at many points shows of each packet.

A capture on the "any" device, or merged from several machines, shows a packet once for each point that it passes:
inside each GTP-U tunnel, bare, before and after a router. To a replay window, or to whoever counts retransmissions,
these must be one packet; but a packet that is really sent twice must stay two.

A packet is recognised by its addresses, IP identification and payload, the transport checksum left out (a sender's
network card fills it in after the capture). Of packets that look alike, the n-th at one point is the n-th at any other
point within WINDOW seconds, counting from the newest: what a point sees for the second time is a second packet.

On Linux's cooked "any" captures, which do not say on which interface a frame was seen, a bridge shows a packet several
times at what looks like one point, microseconds apart: there an alike packet within COOKED seconds counts as a copy
too. Elsewhere it does not: it was sent twice.
"""

from __future__ import annotations

#: How long after its first sighting a packet may turn up at another point, seconds.
WINDOW = 1.0
#: Within how many seconds an alike packet at the same point of a cooked capture is a copy.
COOKED = 0.002
#: How many packets are remembered per generation; there are two.
GENERATION = 20_000
#: How many packets that look alike are kept apart.
ALIKE = 16

#: What makes packets look alike: addresses, identification, payload …
Key = tuple[object, ...]


class Sighting:
    """One packet.

    frames: where it was seen first (several for IP fragments), at `point`. time: of the last of them, seconds.
    copies: frames that show it elsewhere. spi: of an ESP packet.
    """

    __slots__ = ("copies", "frames", "point", "points", "spi", "time")

    def __init__(self, frames: tuple[int, ...], time: float, point: str) -> None:
        self.frames = frames
        self.time = time
        self.point = point
        self.spi: int | None = None
        #: One point as a text, several as a set: most packets are seen at one.
        self.points: str | set[str] = point
        self.copies: list[int] | None = None

    def seen_at(self, point: str) -> bool:
        """True when it was seen there."""
        points = self.points
        return points == point if isinstance(points, str) else point in points

    def add(self, frames: tuple[int, ...], point: str) -> None:
        """A copy."""
        if self.copies is None:
            self.copies = []
        self.copies.extend(frames)
        if isinstance(self.points, str):
            self.points = {self.points}
        self.points.add(point)

    @property
    def times_seen(self) -> int:
        """At how many points or times a whole packet was seen; fragments count as one."""
        return 1 + len(self.copies or ()) // len(self.frames)


class Sightings:
    """The packets of the last seconds, in bounded memory."""

    __slots__ = ("_new", "_old", "_since")

    def __init__(self) -> None:
        self._new: dict[Key, Sighting | list[Sighting]] = {}
        self._old: dict[Key, Sighting | list[Sighting]] = {}
        self._since = 0.0

    def see(self, key: Key, frames: tuple[int, ...], time: float, point: str, cooked: bool) -> Sighting | None:
        """The packet, if this is its first sighting; None for a copy of an earlier one. time: seconds."""
        new = self._new
        known = new.get(key)
        if known is None:
            if len(new) >= GENERATION or not 0 <= time - self._since <= WINDOW:
                self._old, self._new = new, {}
                self._since = time
                new = self._new
            known = self._old.get(key)
        if known is None:
            sighting = new[key] = Sighting(frames, time, point)
            return sighting
        alike = [known] if isinstance(known, Sighting) else known
        for sighting in reversed(alike):
            age = abs(time - sighting.time)
            if age > WINDOW:
                continue
            if not sighting.seen_at(point) or (cooked and age <= COOKED):
                sighting.add(frames, point)
                return None
        sighting = Sighting(frames, time, point)
        new[key] = [*alike[1 - ALIKE :], sighting]
        return sighting
