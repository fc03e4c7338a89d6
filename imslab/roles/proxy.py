"""What P-CSCF, I-CSCF and S-CSCF share as stateful proxies (RFC 3261 16): pass a request on, bring its answers back.

    INVITE arrives  → 100 to the client → the INVITE goes on under our Via
    answers         → our Via comes off → to the client; 100 stays here
    CANCEL arrives  → 200 to it, and a CANCEL of our own once the next hop has said anything (RFC 3261 9.1)
    nobody answers  → what the role says, else 408 for an INVITE and 504 for anything else; an INVITE that rang is
                      cancelled first (RFC 3261 16.8)
    unreadable      → 502 for a final answer that the role cannot read

Where a request goes is the role's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from imslab.core import events as ev
from imslab.core.entropy import Entropy
from imslab.core.errors import PeerError
from imslab.core.flow import Endpoint, Flow, Transport
from imslab.roles.base import SipNode
from imslab.sip.message import Request, Response
from imslab.sip.transaction import State, Transaction

#: May change a response before it goes to the client, or withhold it by returning None.
OnResponse = Callable[[Response], Response | None]


@dataclass(slots=True)
class Forwarded:
    """What hangs on a server transaction whose request was passed on.

    client: its transaction; None before, and where a fault swallowed it. heard: the next hop has said something
    provisional. cancelled: the client has cancelled. told: so have we.
    """

    client: Transaction | None = None
    heard: bool = False
    cancelled: bool = False
    told: bool = False


class Proxy(SipNode):
    """A SipNode that passes requests on. core: its endpoint towards the other boxes of the core (Mw)."""

    def __init__(self, name: str, core: Endpoint, entropy: Entropy, faults: Iterable[str] = ()) -> None:
        super().__init__(name, entropy, faults)
        self.core = core

    # ---- what a request must be like

    def next_hop_copy(self, txn: Transaction) -> Request | None:
        """A copy of the request with Max-Forwards lowered; None when that was used up, and 483 has been sent.

        RFC 3261 16.3 item 3, 16.6 item 3.
        """
        request = txn.request.copy()
        left = request.max_forwards
        if left is not None and left <= 0:
            self.respond(txn, 483)
            return None
        request.set("Max-Forwards", str(70 if left is None else left - 1))
        return request

    def refuses_extensions(self, txn: Transaction, known: frozenset[str] = frozenset()) -> bool:
        """True when Proxy-Require wants what we do not know, and 420 has been sent (RFC 3261 16.3 item 5)."""
        unknown = [tag for tag in txn.request.proxy_require if tag.lower() not in known]
        if unknown:
            self.respond(txn, 420, headers=[("Unsupported", ", ".join(unknown))])
        return bool(unknown)

    # ---- passing on

    def forward(
        self,
        txn: Transaction,
        request: Request,
        flow: Flow,
        *,
        sent_by: Endpoint | None = None,
        on_response: OnResponse | None = None,
        on_silence: Callable[[], None] | None = None,
    ) -> None:
        """Pass on `request`, made by `next_hop_copy` from the request of `txn`.

        Nothing is sent for a transaction that has had its final answer: it was cancelled meanwhile.
        on_silence: called when nobody answers, in place of an answer to the client.
        """
        if txn.response is not None and txn.response.status >= 200:
            return
        forwarded = Forwarded()
        txn.context = forwarded

        def then(client: Transaction, response: Response | None, arrival: ev.Arrival | None) -> None:
            if response is not None:
                try:
                    self._relay(txn, forwarded, response, on_response)
                except PeerError as error:
                    self.emit("malformed", f"{response.status} to {request.method}: {error}")
                    if response.status >= 200:
                        self.respond(txn, 502)  # RFC 3261 21.5.3; its transaction would wait for ever
                return
            if forwarded.heard and request.method == "INVITE" and not forwarded.told:
                self._send_cancel(client)
            if forwarded.cancelled:
                self.respond(txn, 487)
            elif on_silence is not None:
                on_silence()
            else:
                # RFC 4320 4.1: a 408 to anything but INVITE helps nobody.
                self.respond(txn, 408 if request.method == "INVITE" else 504)

        if request.method == "INVITE" and txn.response is None:
            self.respond(txn, 100)
        forwarded.client = self.request(request, flow, then, sent_by=sent_by)

    def send_on(
        self,
        txn: Transaction,
        request: Request,
        remote: Endpoint,
        *,
        on_response: OnResponse | None = None,
        on_silence: Callable[[], None] | None = None,
    ) -> None:
        """`forward` to another box of the core, from `core`: by UDP if that is wide enough, else by TCP."""
        flow = self.core_flow(request, remote)
        self.forward(txn, request, flow, sent_by=self.core, on_response=on_response, on_silence=on_silence)

    def core_flow(self, request: Request, remote: Endpoint) -> Flow:
        """The flow for a request to another box of the core (RFC 3261 18.1.1)."""
        if self.suits_datagram(request, self.core):
            return Flow(Transport.UDP, self.core, remote)
        return Flow(Transport.TCP, Endpoint(self.core.host, 0), remote)

    def _relay(
        self,
        txn: Transaction,
        forwarded: Forwarded,
        response: Response,
        on_response: OnResponse | None,
    ) -> None:
        forwarded.heard = response.status < 200
        if forwarded.cancelled:
            self._cancel_if_due(forwarded)
        if response.status == 100:
            return
        copy = response.copy()
        rest = [str(via) for via in response.via[1:]]
        if not rest:  # RFC 3261 16.7 item 3: it was meant for us
            self.emit("stray-answer", f"{response.status} has no Via of the client")
            return
        copy.replace("Via", rest)
        changed = copy if on_response is None else on_response(copy)
        if changed is not None:
            self.forward_response(txn, changed)

    # ---- CANCEL

    def on_cancel(self, invite: Transaction, cancel: Request, arrival: ev.Arrival) -> None:
        """Cancel what was passed on, as soon as the next hop has answered provisionally (RFC 3261 9.1)."""
        forwarded = invite.context
        if isinstance(forwarded, Forwarded):
            forwarded.cancelled = True
            self._cancel_if_due(forwarded)
        else:
            self.respond(invite, 487)

    def _cancel_if_due(self, forwarded: Forwarded) -> None:
        client = forwarded.client
        if client is not None and client.state is State.PROCEEDING and not forwarded.told:
            forwarded.told = True
            self._send_cancel(client)

    def _send_cancel(self, client: Transaction) -> None:
        """RFC 3261 9.1: the request's own top Via, Request-URI, Call-ID, From, To, Route and CSeq number."""
        invite = client.request
        headers = [("Via", str(invite.via[0]))]
        headers += [("Route", row) for row in invite.rows("Route")]
        headers += [(name, invite.get(name) or "") for name in ("From", "To", "Call-ID")]
        headers += [("CSeq", f"{invite.cseq.number} CANCEL"), ("Max-Forwards", "70")]
        self.transactions.send_request(
            Request("CANCEL", invite.uri, headers), client.flow, self.now, timers=client.timers, context=_ignore
        )

    # ---- ACK of a 2xx

    def on_ack(self, request: Request, arrival: ev.Arrival) -> None:
        """The ACK of a 2xx goes its own way, without a transaction (RFC 3261 16.11)."""
        left = request.max_forwards
        if left == 0:
            return
        copy = request.copy()
        copy.set("Max-Forwards", str(70 if left is None else left - 1))
        self.route_ack(copy, arrival)

    def route_ack(self, request: Request, arrival: ev.Arrival) -> None:
        """Send on an ACK whose Max-Forwards has been lowered. A role that carries dialogs fills this in."""


def _ignore(txn: Transaction, response: Response | None, arrival: ev.Arrival | None) -> None:
    """The answer to a CANCEL says nothing that the INVITE's own answer does not say."""
