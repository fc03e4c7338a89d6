"""What P-CSCF, I-CSCF and S-CSCF share as stateful proxies (RFC 3261 16): pass a request on, bring its answers back.

    INVITE arrives  → 100 to the client → the INVITE goes on under our Via
    answers         → our Via comes off → to the client; 100 stays here
    CANCEL arrives  → 200 to it, and a CANCEL of our own once the next hop has said anything (RFC 3261 9.1)
    nobody answers  → 408, or what the role says

Where a request goes is the role's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from imslab.core import events as ev
from imslab.core.entropy import Entropy
from imslab.core.flow import Endpoint, Flow, Transport
from imslab.roles.base import SipNode
from imslab.sip.message import Request, Response
from imslab.sip.transaction import State, Transaction

#: May change a response before it goes to the client, or withhold it by returning None.
OnResponse = Callable[[Response], Response | None]


@dataclass(slots=True)
class Forwarded:
    """What hangs on a server transaction whose request was passed on."""

    client: Transaction | None
    sent_by: Endpoint
    cancelled: bool = False


class Proxy(SipNode):
    """A SipNode that passes requests on. core: its endpoint towards the other boxes of the core (Mw)."""

    def __init__(self, name: str, core: Endpoint, entropy: Entropy, faults: Iterable[str] = ()) -> None:
        super().__init__(name, entropy, faults)
        self.core = core

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

        on_silence: called when nobody answers, in place of a 408 to the client (RFC 3261 16.8).
        """

        def then(client: Transaction, response: Response | None, arrival: ev.Arrival | None) -> None:
            if response is not None:
                self._relay(txn, client, response, on_response)
            elif on_silence is not None:
                on_silence()
            else:
                self.respond(txn, 408)

        if request.method == "INVITE" and txn.response is None:
            self.respond(txn, 100)
        forwarded = Forwarded(None, sent_by or flow.local)
        txn.context = forwarded
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

    def on_cancel(self, invite: Transaction, cancel: Request, arrival: ev.Arrival) -> None:
        """Cancel what was passed on, as soon as the next hop has answered provisionally (RFC 3261 9.1)."""
        forwarded = invite.context
        if isinstance(forwarded, Forwarded):
            forwarded.cancelled = True
            self._cancel_if_due(forwarded)
        else:
            self.respond(invite, 487)

    def on_ack(self, request: Request, arrival: ev.Arrival) -> None:
        """The ACK of a 2xx goes its own way, without a transaction (RFC 3261 16.11)."""
        if not request.max_forwards:
            return
        copy = request.copy()
        copy.set("Max-Forwards", str(request.max_forwards - 1))
        self.route_ack(copy, arrival)

    def route_ack(self, request: Request, arrival: ev.Arrival) -> None:
        """Send on an ACK whose Max-Forwards has been lowered. A role that carries dialogs fills this in."""

    def _cancel_if_due(self, forwarded: Forwarded) -> None:
        client = forwarded.client
        if client is None or client.state is not State.PROCEEDING:
            return
        invite = client.request
        headers = [("Via", str(invite.via[0]))]
        headers += [("Route", row) for row in invite.rows("Route")]
        headers += [(name, invite.get(name) or "") for name in ("From", "To", "Call-ID")]
        headers += [("CSeq", f"{invite.cseq.number} CANCEL"), ("Max-Forwards", "70")]
        self.transactions.send_request(
            Request("CANCEL", invite.uri, headers),
            client.flow,
            self.now,
            timers=client.timers,
            context=_ignore,
        )
        forwarded.cancelled = False

    def _relay(self, txn: Transaction, client: Transaction, response: Response, on_response: OnResponse | None) -> None:
        forwarded = txn.context
        if isinstance(forwarded, Forwarded):
            forwarded.client = client
            if forwarded.cancelled:
                self._cancel_if_due(forwarded)
        if response.status == 100:
            return
        copy = response.copy()
        copy.replace("Via", [str(via) for via in response.via[1:]])  # RFC 3261 16.7 item 3
        changed = copy if on_response is None else on_response(copy)
        if changed is not None:
            self.forward_response(txn, changed)


def _ignore(txn: Transaction, response: Response | None, arrival: ev.Arrival | None) -> None:
    """The answer to a CANCEL says nothing that the INVITE's own answer does not say."""
