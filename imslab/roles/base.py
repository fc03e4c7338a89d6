"""What every SIP box has in common: streams, transactions, alarms, names — and the order of its effects.

A role derives from SipNode and fills in what a message means to it:

    on_started()                         open ports, connect to peers
    admit(message, arrival) -> bool      may this message come in at all, this way? False discards it silently
    on_request(txn, request, arrival)    a new request, to be answered by `respond(txn, …)` now or later
    on_ack(request, arrival)             an ACK of a 2xx
    on_cancel(invite, cancel, arrival)   a CANCEL (already answered 200) for the INVITE transaction `invite`
    on_alarm(key)                        an alarm set by `set_alarm`
    on_command(name, arguments)          what an operator asks for

Requests are sent by `request(…, then=…)`; `then(txn, response, arrival)` is called for each answer, and once with
None, None when nobody answers.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from imslab.core import effects as fx
from imslab.core import events as ev
from imslab.core.entropy import Entropy, token
from imslab.core.errors import LocalError, PeerError
from imslab.core.flow import Endpoint, Flow, Transport, canonical_host
from imslab.roles.faults import Faults
from imslab.sip.fields.via import Via
from imslab.sip.message import Message, Request, Response, response_to
from imslab.sip.parser import StreamFramer, parse
from imslab.sip.transaction import MAGIC_COOKIE, RFC_TIMERS, Timers, Transaction, Transactions, reply_flow

#: RFC 3261 18.1.1: a request larger than this goes over a congestion-controlled transport.
LARGEST_DATAGRAM = 1300

#: Called with an answer and how it came, or with None, None when nobody answered.
Then = Callable[[Transaction, Response | None, ev.Arrival | None], None]

#: What must stand in every message (RFC 3261 8.1.1); Max-Forwards is the proxies' affair.
MANDATORY = ("Via", "From", "To", "Call-ID", "CSeq")


@dataclass(slots=True)
class Stream:
    """One connection: its framer, what waits until it stands, and who reads it if that is not SIP."""

    framer: StreamFramer = field(default_factory=StreamFramer)
    open: bool = False
    waiting: list[bytes] = field(default_factory=list)
    reader: Callable[[bytes], None] | None = None


class SipNode:
    """A Node that speaks SIP. See the module's page for what a role adds."""

    role: ClassVar[str] = "?"

    def __init__(self, name: str, entropy: Entropy, faults: Iterable[str] = ()) -> None:
        self.name = name
        self.entropy = entropy
        self.faults = Faults(faults, self.role)
        self.now = 0.0
        self.transactions = Transactions(self.transmit)
        self._effects: list[fx.Effect] = []
        self._streams: dict[Flow, Stream] = {}
        self._standing: dict[Flow, Flow] = {}  # a flow asked for with local port 0 → the one that stands
        self._alarms: dict[Hashable, float] = {}
        self._alarm_heap: list[tuple[float, int, Hashable]] = []
        self._alarm_count = 0
        self._unresolved: dict[str, list[tuple[int, Callable[[Endpoint | None], None]]]] = {}

    # ---- the contract

    def handle(self, event: ev.Event, now: float) -> None:
        """Take in one event. What a peer did wrong ends as an Emit, never as an exception."""
        self.now = now
        try:
            match event:
                case ev.Arrival():
                    self._on_arrival(event)
                case ev.Timer():
                    self._on_timer()
                case ev.Connected():
                    self._on_connected(event)
                case ev.Closed():
                    self._on_closed(event)
                case ev.Resolved():
                    for port, then in self._unresolved.pop(event.name, []):
                        found = event.endpoints[0] if event.endpoints else None
                        then(Endpoint(found.host, port or found.port) if found else None)
                case ev.Started():
                    self.on_started()
                case ev.Command():
                    self.on_command(event.name, event.arguments)
                case _:
                    self.on_event(event)
        except PeerError as error:
            self.emit("peer-error", str(error))

    def next_timer(self) -> float | None:
        """The earliest of transactions, alarms and what the role adds by `other_timer`."""
        times = (self.transactions.next_timer(), self._next_alarm(), self.other_timer())
        return min((when for when in times if when is not None), default=None)

    def take(self) -> list[fx.Effect]:
        """The effects since the last call, in order."""
        taken, self._effects = self._effects, []
        return taken

    # ---- what a role fills in

    def on_started(self) -> None:
        """The carrier holds us: open ports, connect to peers."""

    def admit(self, message: Message, arrival: ev.Arrival) -> bool:
        """May this message come in this way at all? False discards it, without an answer."""
        return True

    def on_request(self, txn: Transaction, request: Request, arrival: ev.Arrival) -> None:
        """A new request. The default has no use for any."""
        self.respond(txn, 501)

    def on_ack(self, request: Request, arrival: ev.Arrival) -> None:
        """An ACK of a 2xx."""

    def on_cancel(self, invite: Transaction, cancel: Request, arrival: ev.Arrival) -> None:
        """A CANCEL that found its INVITE; the CANCEL itself has been answered."""

    def on_alarm(self, key: Hashable) -> None:
        """An alarm that was set has gone off."""

    def on_command(self, name: str, arguments: Mapping[str, Any]) -> None:
        """What an operator asks for."""
        self.emit("unknown-command", f"{self.role} has no command {name!r}")

    def on_event(self, event: ev.Event) -> None:
        """Any other event: SAs, the store."""

    def on_stream_closed(self, flow: Flow, key: object, reason: str) -> None:
        """A connection has ended; the transactions on it have been told."""

    def other_timer(self) -> float | None:
        """When the role wants `on_time` for a reason of its own (a Diameter peer's, say)."""
        return None

    def on_time(self) -> None:
        """A Timer event came; the role looks after what `other_timer` announced."""

    def reply_flow(self, request: Request, arrival: ev.Arrival) -> Flow:
        """Where answers to this request go (RFC 3261 18.2.2)."""
        return reply_flow(request, arrival.flow)

    def timers_for(self, flow: Flow) -> Timers:
        """The T1, T2, T4 of this flow."""
        return RFC_TIMERS

    def hop_of(self, flow: Flow) -> str:
        """The reference point of a flow: "Gm" or "Mw"."""
        return "Mw"

    def detour(self, flow: Flow) -> Flow | None:
        """A stream to open for an answer whose own stream is gone; None drops the answer."""
        return None

    # ---- what a role uses

    def emit(self, kind: str, text: str, **data: Any) -> None:
        """Tell humans and the Trace."""
        self._effects.append(fx.Emit(kind, text, data))

    def effect(self, effect: fx.Effect) -> None:
        """Want something done, after all that was wanted before."""
        self._effects.append(effect)

    def token(self, octets: int = 8) -> str:
        """A random token of 2 × octets hex digits."""
        return token(self.entropy, octets)

    def via(self, transport: Transport, sent_by: Endpoint, params: str = "") -> str:
        """The value of a new top Via, with a new branch."""
        return f"SIP/2.0/{transport.upper()} {sent_by};branch={MAGIC_COOKIE}{self.token()}{params}"

    def request(
        self,
        request: Request,
        flow: Flow,
        then: Then,
        *,
        sent_by: Endpoint | None = None,
        via_params: str = "",
    ) -> Transaction | None:
        """Send a request on a flow, under a new top Via (sent_by: our end of the flow unless told otherwise).

        None when a fault swallowed it.
        """
        request.prepend("Via", self.via(flow.transport, sent_by or flow.local, via_params))
        altered = self.faults.alter(request, self.hop_of(flow))
        if altered is None:
            return None
        assert isinstance(altered, Request)
        return self.transactions.send_request(altered, flow, self.now, timers=self.timers_for(flow), context=then)

    def send_ack(self, request: Request, flow: Flow, *, sent_by: Endpoint | None = None) -> None:
        """Send the ACK of a 2xx: a request without a transaction (RFC 3261 13.2.2.4)."""
        request.prepend("Via", self.via(flow.transport, sent_by or flow.local))
        self._send_altered(request, flow)

    def respond(
        self,
        txn: Transaction,
        status: int,
        reason: str = "",
        *,
        headers: Iterable[tuple[str, str]] = (),
        to_tag: str = "",
        body: bytes = b"",
        flow: Flow | None = None,
    ) -> None:
        """Answer with a response of our own. A final or reliable answer gets a To tag if the request has none."""
        if not to_tag and status > 100 and not txn.request.to.tag:
            to_tag = self.token(4)
        response = response_to(txn.request, status, reason, to_tag=to_tag, headers=headers)
        if body:
            response.body = body
        self.forward_response(txn, response, flow=flow)

    def forward_response(self, txn: Transaction, response: Response, *, flow: Flow | None = None) -> None:
        """Answer with a response that is complete, its top Via being the client's."""
        chosen = flow or txn.flow
        if chosen.transport.is_stream and not self.has_stream(chosen):
            # RFC 3261 18.2.2: the connection is gone, so the answer wants another one.
            flow = self.detour(chosen)
            if flow is None:
                self.emit("answer-lost", f"{response.status} for {txn.request.method}: {chosen} is closed")
                return
        altered = self.faults.alter(response, self.hop_of(flow or txn.flow))
        if altered is not None:
            assert isinstance(altered, Response)
            self.transactions.send_response(txn, altered, self.now, flow)

    def suits_datagram(self, request: Request, sent_by: Endpoint, via_params: str = "") -> bool:
        """True when the request, with our Via, is small enough for UDP (RFC 3261 18.1.1)."""
        trial = request.copy()
        trial.prepend("Via", self.via_for_size(sent_by) + via_params)
        return len(trial.encode()) <= LARGEST_DATAGRAM

    @staticmethod
    def via_for_size(sent_by: Endpoint) -> str:
        """A Via as long as the one that `request` will put on top."""
        return f"SIP/2.0/UDP {sent_by};branch={MAGIC_COOKIE}{'0' * 16}"

    def set_alarm(self, key: Hashable, delay: float) -> None:
        """Call on_alarm(key) in `delay` seconds. An alarm of the same key is moved."""
        when = self.now + delay
        self._alarms[key] = when
        self._alarm_count += 1
        heap = self._alarm_heap
        if len(heap) > 2 * len(self._alarms) + 64:
            # Moved and forgotten ones stay in the heap until their time; not if they become the majority.
            heap[:] = [entry for entry in heap if self._alarms.get(entry[2]) == entry[0]]
            heapq.heapify(heap)
        heapq.heappush(heap, (when, self._alarm_count, key))

    def clear_alarm(self, key: Hashable) -> None:
        """Forget an alarm; one that is not set is no error."""
        self._alarms.pop(key, None)

    def alarm(self, key: Hashable) -> float | None:
        """When this alarm goes off; None if it is not set."""
        return self._alarms.get(key)

    def resolve(self, name: str, port: int, transport: Transport, then: Callable[[Endpoint | None], None]) -> None:
        """Call then(endpoint) as soon as the name is known; at once for an address. None: there is no such name.

        port: 0 takes the one that the name service gives.
        """
        try:
            host = canonical_host(name)
        except ValueError:
            asked = self._unresolved.setdefault(name, [])
            asked.append((port, then))
            if len(asked) == 1:
                self.effect(fx.Resolve(name, port, transport))
            return
        then(Endpoint(host, port))

    def open_stream(self, flow: Flow, reader: Callable[[bytes], None] | None = None) -> None:
        """Connect. What is transmitted before it stands is kept. reader: who gets the octets, if that is not SIP."""
        self._streams[flow] = Stream(reader=reader)
        self.effect(fx.Connect(flow, key=flow))

    def close_stream(self, flow: Flow) -> None:
        """Close a connection in order."""
        flow = self._standing.get(flow, flow)
        self._forget_standing(flow)
        if self._streams.pop(flow, None) is not None:
            self.effect(fx.Close(flow))

    def _forget_standing(self, flow: Flow) -> list[Flow]:
        """The names, other than its own, under which a connection was asked for; they name nothing any more."""
        names = [asked for asked, real in self._standing.items() if real == flow]
        for asked in names:
            del self._standing[asked]
        return names

    def streams(self) -> list[Flow]:
        """The connections that stand or are being opened."""
        return list(self._streams)

    def has_stream(self, flow: Flow) -> bool:
        """True when the connection stands or is being opened."""
        return self._standing.get(flow, flow) in self._streams

    def transmit(self, flow: Flow, octets: bytes) -> None:
        """Send octets on a flow; a stream is opened first if there is none."""
        if not flow.transport.is_stream:
            self.effect(fx.Send(flow, octets))
            return
        flow = self._standing.get(flow, flow)
        stream = self._streams.get(flow)
        if stream is None:
            self.open_stream(flow)
            stream = self._streams[flow]
        if stream.open:
            self.effect(fx.Send(flow, octets))
        else:
            stream.waiting.append(octets)

    # ---- events

    def _on_timer(self) -> None:
        for txn in self.transactions.expire(self.now):
            self._answered(txn, None, None)
        while (when := self._next_alarm()) is not None and when <= self.now:
            _, _, key = heapq.heappop(self._alarm_heap)
            del self._alarms[key]
            self.on_alarm(key)
        self.on_time()

    def _next_alarm(self) -> float | None:
        heap = self._alarm_heap
        while heap and self._alarms.get(heap[0][2]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def _on_connected(self, event: ev.Connected) -> None:
        asked = event.key if isinstance(event.key, Flow) else event.flow
        stream = self._streams.pop(asked, None) or Stream()
        stream.open = True
        self._streams[event.flow] = stream
        if asked != event.flow:
            self._standing[asked] = event.flow
            self.transactions.move(asked, event.flow)
        for octets in stream.waiting:
            self.effect(fx.Send(event.flow, octets))
        stream.waiting.clear()
        self.on_stream_open(asked, event.flow)

    def on_stream_open(self, asked: Flow, flow: Flow) -> None:
        """A connection stands; `asked` is the flow as it was given to Connect (its local port may have been 0)."""

    def _on_closed(self, event: ev.Closed) -> None:
        asked = event.key if isinstance(event.key, Flow) else event.flow
        names = [*dict.fromkeys((asked, event.flow)), *self._forget_standing(event.flow)]
        for flow in names:
            self._streams.pop(flow, None)
        for flow in names:
            for txn in self.transactions.transport_failed(flow, self.now):
                self._answered(txn, None, None)
        self.on_stream_closed(asked, event.key, event.reason)

    def _on_arrival(self, event: ev.Arrival) -> None:
        if not event.flow.transport.is_stream:
            if event.octets.strip(b"\r\n\0"):  # RFC 5626 3.5.1, and phones that send a NUL: keep-alives
                self._on_octets(event, event.octets)
            return
        stream = self._streams.get(event.flow)
        if stream is None:
            return  # what was under way when we closed
        if stream.reader is not None:
            stream.reader(event.octets)
            return
        try:
            messages = stream.framer.feed(event.octets)
        except PeerError as error:
            self._lost_track(event.flow, error)
            return
        for _ in range(stream.framer.take_pings()):
            self.effect(fx.Send(event.flow, b"\r\n"))  # RFC 5626 3.5.1: the pong
        for octets in messages:
            self._on_octets(event, octets)
        if stream.framer.broken is not None:
            self._lost_track(event.flow, stream.framer.broken)

    def _lost_track(self, flow: Flow, error: PeerError) -> None:
        """The stream cannot be followed any more (RFC 3261 18.3)."""
        self.emit("malformed", f"{flow}: {error}; connection closed")
        self.close_stream(flow)

    def _on_octets(self, arrival: ev.Arrival, octets: bytes) -> None:
        try:
            message = parse(octets)
        except PeerError as error:
            self.emit("malformed", f"{arrival.flow}: {error}")
            return
        try:
            if isinstance(message, Request):
                self._on_request(message, arrival)
            else:
                assert isinstance(message, Response)
                self._on_response(message, arrival)
        except PeerError as error:  # others of the same stream may wait behind this one
            self.emit("peer-error", str(error))

    def _on_request(self, request: Request, arrival: ev.Arrival) -> None:
        fault = request_fault(request)
        if fault is not None:
            self._refuse(request, arrival, fault)
            return
        mark_source(request, arrival.flow)
        if not self.admit(request, arrival):
            return
        if request.method == "ACK":
            known = self.transactions.find_server(request) is not None
            passed = self.transactions.receive_request(request, arrival.flow, self.now)
            if passed is not None or not known:
                self.on_ack(request, arrival)
            return
        txn = self.transactions.receive_request(
            request, self.reply_flow(request, arrival), self.now, timers=self.timers_for(arrival.flow)
        )
        if txn is None:
            return
        try:
            if request.method == "CANCEL":
                invite = self.transactions.find_cancelled(request)
                # RFC 3261 9.2: 481 when there is nothing to cancel; the INVITE is answered 487 by its own transaction.
                self.respond(txn, 200 if invite else 481)
                if invite:
                    self.on_cancel(invite, request, arrival)
            else:
                self.on_request(txn, request, arrival)
        except PeerError as error:
            self.emit("malformed", f"{request.method} from {arrival.flow.remote}: {error}")
            self.respond(txn, 400, headers=[warning(self.name, error)])

    def _refuse(self, request: Request, arrival: ev.Arrival, fault: PeerError) -> None:
        """400 if the message says where to send it, else nothing (RFC 3261 8.2, 21.4.1)."""
        self.emit("malformed", f"{request.method} from {arrival.flow.remote}: {fault}")
        if request.method == "ACK":
            return
        try:
            mark_source(request, arrival.flow)
            if not self.admit(request, arrival):
                return
            flow = self.reply_flow(request, arrival)
            response = response_to(request, 400, headers=[warning(self.name, fault)])
        except PeerError:
            return
        self._send_altered(response, flow)

    def _send_altered(self, message: Message, flow: Flow) -> None:
        altered = self.faults.alter(message, self.hop_of(flow))
        if altered is not None:
            self.transmit(flow, altered.encode())

    def _on_response(self, response: Response, arrival: ev.Arrival) -> None:
        if not self.admit(response, arrival):
            return
        txn = self.transactions.receive_response(response, self.now)
        if txn is not None:
            self._answered(txn, response, arrival)
        elif not self.transactions.knows_response(response):
            self.emit("stray-answer", f"{response.status} from {arrival.flow.remote} answers nothing of ours")

    def _answered(self, txn: Transaction, response: Response | None, arrival: ev.Arrival | None) -> None:
        then: Then = txn.context  # type: ignore[assignment]  # only `request` fills it
        try:
            then(txn, response, arrival)
        except PeerError as error:  # other transactions may have ended at the same moment
            self.emit("peer-error", str(error))


def argument(arguments: Mapping[str, Any], name: str) -> str:
    """An argument that a command cannot do without. Raises LocalError where it is missing."""
    if name not in arguments:
        raise LocalError(f"the command needs an argument {name!r}")
    return str(arguments[name])


def request_fault(request: Request) -> PeerError | None:
    """What makes a request unfit for anyone (RFC 3261 8.1.1, 8.2.2, 16.3 item 1); None if it is sound."""
    try:
        for name in MANDATORY:
            if not request.has(name):
                return PeerError(f"{name} is missing", clause="RFC 3261 8.1.1")
        # Reading them is the check: each raises PeerError when it is malformed or repeated.
        _ = top_via(request), request.from_, request.to, request.call_id, request.cseq, request.max_forwards
    except PeerError as error:
        return error
    return None


def top_via(request: Request) -> Via:
    """The Via of the last hop. Raises PeerError when there is none: a row of nothing counts as none."""
    via = request.via
    if not via:
        raise PeerError("Via is missing", clause="RFC 3261 8.1.1", octets=request.octets or b"")
    return via[0]


def mark_source(request: Request, flow: Flow) -> None:
    """Note in the top Via where a request really came from (RFC 3261 18.2.1, RFC 3581 4). Raises PeerError."""
    via = top_via(request)
    wants_port = "rport" in via.params
    try:
        same = canonical_host(via.host) == flow.remote.host
    except ValueError:
        same = False
    if same and not wants_port:
        return
    marked = via.with_params({"received": flow.remote.host, **({"rport": str(flow.remote.port)} if wants_port else {})})
    request.replace("Via", [str(marked), *[str(other) for other in request.via[1:]]])


def warning(agent: str, error: PeerError) -> tuple[str, str]:
    """A Warning header with what was wrong, for the human at the other end (RFC 3261 20.43)."""
    text = error.reason.replace("\\", " ").replace('"', "'")
    printable = "".join(c if " " <= c <= "~" else "?" for c in text)
    return "Warning", f'399 {agent} "{printable}"'
