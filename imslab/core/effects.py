"""What a node wants done. `node.take()` gives a list of these; a carrier performs it in order.

A carrier stops at the effect that fails; the failure comes back as an event and the rest of that list is dropped.
What follows a Persist waits for its commit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from imslab.core.flow import Endpoint, Flow, Transport
from imslab.core.sa import SaSet


@dataclass(frozen=True, slots=True)
class Listen:
    """Accept datagrams or connections at a local endpoint."""

    transport: Transport
    local: Endpoint


@dataclass(frozen=True, slots=True)
class Unlisten:
    """Stop accepting there. Connections that stand go on."""

    transport: Transport
    local: Endpoint


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a stream. local.port 0: the carrier chooses; Connected tells the real flow, with the same key."""

    flow: Flow
    key: object = None


@dataclass(frozen=True, slots=True)
class Close:
    """Close a stream in order: what was sent before is delivered first."""

    flow: Flow


@dataclass(frozen=True, slots=True)
class Send:
    """Send one datagram, or some octets of a stream, from flow.local to flow.remote.

    An outbound SA whose selectors cover the flow protects it; a protected port without such an SA sends nothing.
    """

    flow: Flow
    octets: bytes


@dataclass(frozen=True, slots=True)
class InstallSas:
    """Put the four SAs in place: whole or not at all. Answered by SasInstalled or SasFailed."""

    sas: SaSet


@dataclass(frozen=True, slots=True)
class UpdateSas:
    """A new lifetime, in seconds from now, for the set of this number."""

    number: int
    lifetime: float


@dataclass(frozen=True, slots=True)
class RemoveSas:
    """Take the set of this number away. A set that is already gone is no error."""

    number: int


@dataclass(frozen=True, slots=True)
class Resolve:
    """Look up a host name. Answered by Resolved."""

    name: str
    port: int
    transport: Transport = Transport.UDP


@dataclass(frozen=True, slots=True)
class Load:
    """Fetch a record from the node's store. Answered by Loaded."""

    key: object


@dataclass(frozen=True, slots=True)
class Persist:
    """Make a change durable. Answered by Committed; the effects after it wait for that."""

    change: Any


@dataclass(frozen=True, slots=True)
class Emit:
    """Tell humans and the Trace. kind: a short word ("registered", "mac-failure", …); data: never a key."""

    kind: str
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)


Effect = (
    Listen | Unlisten | Connect | Close | Send | InstallSas | UpdateSas | RemoveSas | Resolve | Load | Persist | Emit
)
