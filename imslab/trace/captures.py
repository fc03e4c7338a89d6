"""Several captures as one: what was captured at several places, or in several pieces, in order of time."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import BinaryIO

from imslab.core.errors import PeerError
from imslab.trace.pcap import Packet, read


class Captures:
    """One or more capture files, read as one.

    Of several, the packets come in order of their time and are numbered anew, as mergecap would, and their capture
    points bear the names of the files. problems: why a file could not be read to its end.
    """

    def __init__(self, sources: Sequence[tuple[str, str | BinaryIO]]) -> None:
        """sources: a name to show and a path or binary stream, for each."""
        self._sources = sources
        self.problems: list[PeerError] = []

    def packets(self) -> Iterator[Packet]:
        """All packets. Raises LocalError for a file that cannot be opened, PeerError for one without any packet."""
        files = [self._file(name, source) for name, source in self._sources]
        if len(files) == 1:
            yield from files[0]
            return
        for number, packet in enumerate(heapq.merge(*files, key=attrgetter("time")), 1):
            yield packet._replace(number=number)

    def _file(self, name: str, source: str | BinaryIO) -> Iterator[Packet]:
        several = len(self._sources) > 1
        count = 0
        try:
            for packet in read(source):
                count += 1
                yield packet._replace(point=f"{name} {packet.point}".rstrip()) if several else packet
        except PeerError as error:
            told = PeerError(f"{name}: {error.reason}", clause=error.clause, octets=error.octets, offset=error.offset)
            if not count:
                raise told from None
            self.problems.append(told)
