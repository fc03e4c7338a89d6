"""What can happen to a node. A carrier calls `node.handle(event, now)` with one of these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from imslab.core.flow import Endpoint, Flow


@dataclass(frozen=True, slots=True)
class Started:
    """The carrier holds the node now: the first event, once."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Octets came in: one datagram, or some piece of a stream.

    flow: as the receiver sees it (local is ours). sas: the number of the SA set they came through; None in clear.
    """

    flow: Flow
    octets: bytes
    sas: int | None = None


@dataclass(frozen=True, slots=True)
class Timer:
    """The time that `next_timer()` named has come (or has passed)."""


@dataclass(frozen=True, slots=True)
class Connected:
    """A stream stands. key: the one given to Connect, or None when the peer opened it."""

    flow: Flow
    key: object = None
    sas: int | None = None


@dataclass(frozen=True, slots=True)
class Closed:
    """A stream ended or could not be opened, or a datagram could not be sent. reason: "" for an orderly end."""

    flow: Flow
    reason: str = ""
    key: object = None


@dataclass(frozen=True, slots=True)
class SasInstalled:
    """The SAs of this set are in place."""

    number: int


@dataclass(frozen=True, slots=True)
class SasFailed:
    """The set could not be installed, and nothing of it was left behind. What followed in the list was not done."""

    number: int
    error: str


@dataclass(frozen=True, slots=True)
class SaExpired:
    """The carrier's own net removed a set, because its hard lifetime had passed."""

    number: int


@dataclass(frozen=True, slots=True)
class Resolved:
    """A name was resolved; endpoints in order of preference, none if there is no such name."""

    name: str
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was asked for with Load. value: None when there is none."""

    key: object
    value: Any


@dataclass(frozen=True, slots=True)
class Committed:
    """The changes up to and including this one are durable."""

    change: Any


@dataclass(frozen=True, slots=True)
class Command:
    """What an operator asks for: name is a verb of the node ("register", "deregister", "message", …)."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


Event = (
    Started
    | Arrival
    | Timer
    | Connected
    | Closed
    | SasInstalled
    | SasFailed
    | SaExpired
    | Resolved
    | Loaded
    | Committed
    | Command
)
