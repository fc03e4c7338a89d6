"""The Diameter side of I-CSCF and S-CSCF: one connection to the HSS, kept up, and questions asked over it.

    state of the connection   input                          action
    wanted                    stands                         CER; what was asked meanwhile goes out after the CEA
    wanted                    refused                        try again in RECONNECT seconds
    stands                    answer                         to the one who asked
    stands                    request of the HSS             to the owner, whose answer goes back
    stands                    lost, or ended by a farewell   questions under way have failed; try again in RECONNECT

A question that is asked while the connection is down waits for it, no longer than any question may take. Each question
is answered once: with an answer that could be read, or with the Trouble that there was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from imslab.core.errors import PeerError
from imslab.core.flow import Endpoint, Flow, Transport
from imslab.diameter.cx import CxAnswer, CxRequest
from imslab.diameter.message import DiameterMessage, new_session_id
from imslab.diameter.peer import Identity, Peer
from imslab.roles.base import SipNode

#: Seconds. RFC 6733 2.1 (timer Tc) recommends 30 in the field; here it is shorter than a
#: question may take, so that what is asked meanwhile is not lost.
RECONNECT = 2.0
#: The alarm of the node that opens the connection again.
ALARM = "cx-reconnect"


class Trouble(StrEnum):
    """Why there is no answer."""

    SILENCE = "no answer"
    MALFORMED = "an answer that cannot be read"

    @property
    def status(self) -> int:
        """What it means to the one whose request waited for the HSS (RFC 3261 21.5.5, 21.5.1)."""
        return 504 if self is Trouble.SILENCE else 500


A = TypeVar("A", bound=CxAnswer)
_Taken = Callable[[DiameterMessage | None], None]


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

    on_request: what the HSS asks of us (RTR, PPR); it gives the answer, or None to give none.
    """

    def __init__(
        self,
        node: SipNode,
        config: CxConfig,
        on_request: Callable[[DiameterMessage], DiameterMessage | None] | None = None,
    ) -> None:
        self.node = node
        self.config = config
        self._on_request = on_request
        self._wanted = Flow(Transport.TCP, Endpoint(config.local, 0), config.hss)
        self._flow = self._wanted
        self._peer = self._new_peer()
        self._asked = 0
        self._taken: dict[object, _Taken] = {}

    @property
    def is_open(self) -> bool:
        """True while questions can be sent at once."""
        return self._peer.is_open

    def connect(self) -> None:
        """Open the connection, if it does not stand."""
        if not self.node.has_stream(self._flow):
            self.node.open_stream(self._flow, self._on_octets)

    def header(self) -> dict[str, Any]:
        """What every request of ours begins with, as arguments of the classes of diameter.cx."""
        return {
            "session_id": new_session_id(self.config.origin_host, self.node.entropy),
            "origin_host": self.config.origin_host,
            "origin_realm": self.config.origin_realm,
            "destination_realm": self.config.origin_realm,
        }

    def ask(self, request: CxRequest, kind: type[A], then: Callable[[A | Trouble], None]) -> None:
        """Send a request; then(answer or trouble) is called later, once. kind: the class of the answer."""

        def taken(message: DiameterMessage | None) -> None:
            then(self._read(kind, message))

        self._asked += 1
        self._taken[self._asked] = taken
        self._peer.send_request(request.to_message(), self.node.now, self._asked, self.config.timeout)
        self._flush()

    def tell(self, request: CxRequest) -> None:
        """Send a request whose answer changes nothing."""
        self._asked += 1
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
        if self.node.has_stream(self._flow):
            return  # an older one
        peer = self._peer
        if self._flow != self._wanted:  # what was only waiting for a connection goes on waiting
            peer.lost(self.node.now, reason or "connection closed")
            self._flow = self._wanted
            self._peer = self._new_peer()
            self._fail(peer)
        self.node.emit("hss-lost", f"{self.config.hss}: {reason or 'connection closed'}")
        self.node.set_alarm(ALARM, RECONNECT)

    def next_timer(self) -> float | None:
        """When `time` wants to be called."""
        return self._peer.next_timer()

    def time(self) -> None:
        """Let time pass."""
        self._fail(self._peer)
        self._flush()

    # ---- inside

    def _new_peer(self) -> Peer:
        config = self.config
        identity = Identity(config.origin_host, config.origin_realm, (config.local,))
        return Peer(identity, self.node.entropy, initiator=True)

    def _read(self, kind: type[A], message: DiameterMessage | None) -> A | Trouble:
        if message is None:
            return Trouble.SILENCE
        try:
            answer = kind.from_message(message)
            if answer.result_code is None and answer.experimental is None:
                raise PeerError("an answer without a result", clause="29.229 6.2")
        except PeerError as error:
            self.node.emit("malformed", f"{message.name}: {error}")
            return Trouble.MALFORMED
        return answer

    def _on_octets(self, octets: bytes) -> None:
        peer = self._peer
        for message in peer.receive(octets, self.node.now):
            if not message.request:
                self._take(message.key, message)
                continue
            answer = self._on_request(message) if self._on_request is not None else None
            if answer is not None:
                peer.send_answer(answer, self.node.now)
            else:
                peer.ignore(message)
        self._flush()

    def _take(self, key: object, message: DiameterMessage | None) -> None:
        taken = self._taken.pop(key, None)
        if taken is None:
            return
        try:
            taken(message)
        except PeerError as error:  # others' answers may wait behind this one
            self.node.emit("peer-error", str(error))

    def _fail(self, peer: Peer) -> None:
        for key in peer.timed_out(self.node.now):
            self._take(key, None)

    def _flush(self) -> None:
        octets = self._peer.take_output()
        if octets and self.node.has_stream(self._flow):
            self.node.transmit(self._flow, octets)
        if self._peer.is_closed:
            self.node.close_stream(self._flow)
            self.closed(self._peer.reason)


def identity(text: str, what: str) -> str:
    """An identity out of a SIP message, if it is fit for a UTF8String (RFC 6733 4.3.1); else PeerError.

    what: the header that it came from.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        octets = text.encode("utf-8", "surrogateescape")
        raise PeerError(f"{what}: an identity that is no UTF-8", clause="RFC 6733 4.3.1", octets=octets) from None
    return text
