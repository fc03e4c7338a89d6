"""What a live run leaves behind: the packets on its links and what its nodes did.

A carrier is given a Recorder and tells it everything as it happens. Times are seconds on the carrier's clock; whoever
writes a file adds the epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol


class Recorder(Protocol):
    """Told by a carrier what happens, in the order in which it happens."""

    def packet(self, time: float, point: str, octets: bytes) -> None:
        """A whole IP packet or fragment was put on a link. point: the capture point ("Gm", "Mw", "Cx", …).

        The simulated network captures where a packet enters the link: what the link then loses, duplicates, delays
        or damages is in the record once, at the time of sending and as it was sent.
        """

    def node(self, time: float, node: str, kind: str, text: str, data: Mapping[str, Any]) -> None:
        """A node told something (its Emit), or a carrier did something for it that is on no wire.

        kind: that of the Emit, or "install-sas", "update-sas", "remove-sas", "sas-failed", "sas-expired". These have
        data["number"]; "install-sas" also data["sas"], the SaSet, whose repr() keeps the keys to itself.
        """


class RecordedPacket(NamedTuple):
    """One call of Recorder.packet."""

    time: float
    point: str
    octets: bytes


class RecordedEvent(NamedTuple):
    """One call of Recorder.node. after: how many packets had been recorded before it."""

    time: float
    node: str
    kind: str
    text: str
    data: Mapping[str, Any]
    after: int = 0


@dataclass(slots=True)
class ListRecorder:
    """A Recorder that keeps everything in two lists."""

    packets: list[RecordedPacket] = field(default_factory=list)
    events: list[RecordedEvent] = field(default_factory=list)

    def packet(self, time: float, point: str, octets: bytes) -> None:
        self.packets.append(RecordedPacket(time, point, octets))

    def node(self, time: float, node: str, kind: str, text: str, data: Mapping[str, Any]) -> None:
        self.events.append(RecordedEvent(time, node, kind, text, data, len(self.packets)))
