"""The Diameter side of I-CSCF and S-CSCF: one connection to the HSS, kept up, and questions asked over it.

A question that is asked before the connection stands waits for it, no longer than any question may take. A lost
connection is opened again after RECONNECT seconds (RFC 6733 2.1, timer Tc).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from imslab.core.flow import Endpoint, Flow, Transport
from imslab.diameter.cx import CxRequest
from imslab.diameter.message import DiameterMessage, new_session_id
from imslab.diameter.peer import Identity, Peer
from imslab.roles.base import SipNode

#: RFC 6733 2.1 recommends 30 s for peers in the field; in a lab the HSS comes back sooner.
RECONNECT = 5.0
#: The alarm of the node that opens the connection again.
ALARM = "cx-reconnect"

#: Called with the answer, or with None when none came in time.
Answered = Callable[[DiameterMessage | None], None]


@dataclass(slots=True, kw_only=True)
class CxConfig:
    """Who we are and where the HSS is.

    origin_host, origin_realm: Diameter identities. local: our address. timeout: seconds that a question may take.
    """

    origin_host: str
    origin_realm: str
    local: str
    hss: Endpoint
    timeout: float = 5.0


class CxClient:
    """Belongs to a SipNode, whose hooks on_stream_open, on_stream_closed, on_time, other_timer and on_alarm call it.

    on_request: what the HSS asks of us (RTR, PPR); it gives the answer.
    """

    def __init__(
        self, node: SipNode, config: CxConfig, on_request: Callable[[DiameterMessage], DiameterMessage] | None = None
    ) -> None:
        self.node = node
        self.config = config
        self._on_request = on_request
        self._wanted = Flow(Transport.TCP, Endpoint(config.local, 0), config.hss)
        self._flow = self._wanted
        self._peer = self._new_peer()
        self._asked = 0
        self._answered: dict[object, Answered] = {}

    @property
    def is_open(self) -> bool:
        """True while questions can be sent at once."""
        return self._peer.is_open

    def connect(self) -> None:
        """Open the connection, if it does not stand."""
        if not self.node.has_stream(self._flow):
            if self._peer.is_closed:
                self._fail()
                self._peer = self._new_peer()
            self._flow = self._wanted
            self.node.open_stream(self._flow, self._on_octets)

    def header(self) -> dict[str, Any]:
        """What every request of ours begins with, as arguments of the classes of diameter.cx."""
        return {
            "session_id": new_session_id(self.config.origin_host, self.node.entropy),
            "origin_host": self.config.origin_host,
            "origin_realm": self.config.origin_realm,
            "destination_realm": self.config.origin_realm,
        }

    def ask(self, request: CxRequest, then: Answered) -> None:
        """Send a request; then(answer) or then(None) is called later, once."""
        self._asked += 1
        self._answered[self._asked] = then
        self._peer.send_request(request.to_message(), self.node.now, self._asked, self.config.timeout)
        self._flush()

    # ---- what the node's hooks tell

    def owns(self, flow: Flow) -> bool:
        """True for the connection to the HSS."""
        return flow in (self._flow, self._wanted)

    def opened(self, flow: Flow) -> None:
        """The connection stands."""
        self._flow = flow
        self._peer.connected(self.node.now)
        self._flush()

    def closed(self, reason: str) -> None:
        """The connection is gone, or could not be opened."""
        self._peer.lost(self.node.now, reason or "connection closed")
        self._fail()
        self.node.emit("hss-lost", f"{self.config.hss}: {reason or 'connection closed'}")
        self.node.set_alarm(ALARM, RECONNECT)

    def next_timer(self) -> float | None:
        """When `time` wants to be called."""
        return self._peer.next_timer()

    def time(self) -> None:
        """Let time pass."""
        self._fail()
        self._flush()

    # ---- inside

    def _new_peer(self) -> Peer:
        config = self.config
        identity = Identity(config.origin_host, config.origin_realm, (config.local,))
        return Peer(identity, self.node.entropy, initiator=True)

    def _on_octets(self, octets: bytes) -> None:
        for message in self._peer.receive(octets, self.node.now):
            if not message.request:
                then = self._answered.pop(message.key, None)
                if then is not None:
                    then(message)
            elif self._on_request is not None:
                self._peer.send_answer(self._on_request(message), self.node.now)
            else:
                self._peer.ignore(message)
        self._flush()

    def _fail(self) -> None:
        for key in self._peer.timed_out(self.node.now):
            then = self._answered.pop(key, None)
            if then is not None:
                then(None)

    def _flush(self) -> None:
        octets = self._peer.take_output()
        if octets and self.node.has_stream(self._flow):
            self.node.transmit(self._flow, octets)
        if self._peer.is_closed and self.node.has_stream(self._flow):
            self.node.close_stream(self._flow)
            self.closed(self._peer.reason)
