"""Transactions: one request, its retransmissions, and its answers (RFC 3261 17, RFC 6026).

Four machines, each a table state × input → (actions, next state). A client transaction sends a request until somebody
answers; a server transaction answers a repeated request with what it said before. Over a stream nothing is repeated,
and the timers that only absorb repetitions are zero.

The layer owns no clock and no socket: `now` comes in, octets go out through the `transmit` given to it, and the timers
are one heap that `next_timer` looks at and `expire` runs.

T1 is the estimate of a round trip, T2 the longest interval between repetitions, T4 how long a message can live in the
network. Between UE and P-CSCF, 24.229 7.7 recommends longer ones for radio accesses.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from imslab.core.errors import LocalError, PeerError
from imslab.core.flow import Endpoint, Flow
from imslab.sip.message import Message, Request, Response

#: What a branch of an RFC 3261 element begins with (RFC 3261 8.1.1.7).
MAGIC_COOKIE = "z9hG4bK"


class Timers(NamedTuple):
    """T1, T2, T4 in seconds (RFC 3261 17.1.1.1)."""

    t1: float = 0.5
    t2: float = 4.0
    t4: float = 5.0

    @property
    def timeout(self) -> float:
        """Timers B, F, H, J, L, M: how long a transaction lasts at most, 64·T1."""
        return 64 * self.t1


#: RFC 3261 Table 4.
RFC_TIMERS = Timers()
#: 24.229 7.7 Table 7.7.1: UE ↔ P-CSCF over GERAN, UTRAN, E-UTRAN, WLAN, …
GM_TIMERS = Timers(2.0, 16.0, 17.0)

#: RFC 3261 16.6 step 11: a proxied INVITE that only rings is given up after more than three minutes.
TIMER_C = 181.0


class State(StrEnum):
    """The states of RFC 3261 17, and Accepted of RFC 6026."""

    CALLING = "Calling"
    TRYING = "Trying"
    PROCEEDING = "Proceeding"
    COMPLETED = "Completed"
    CONFIRMED = "Confirmed"
    ACCEPTED = "Accepted"
    TERMINATED = "Terminated"


class Input(StrEnum):
    """What can come to a transaction: a timer by its letter, a message, a broken transport."""

    A = "timer A"
    B = "timer B"
    C = "timer C"
    D = "timer D"
    E = "timer E"
    F = "timer F"
    G = "timer G"
    H = "timer H"
    I = "timer I"  # noqa: E741 — the letter is RFC 3261's
    J = "timer J"
    K = "timer K"
    L = "timer L"
    M = "timer M"
    PROVISIONAL = "1xx"
    SUCCESS = "2xx"
    FAILURE = "300-699"
    REQUEST = "request repeated"
    ACK = "ACK"
    TRANSPORT = "transport error"


class Action(StrEnum):
    """What a machine does on a transition, in the order in which the table lists it."""

    UP = "tell the user"
    SEND = "send what the user gave"
    AGAIN = "send the last message again"
    ACK = "acknowledge the failure"
    FAIL = "tell the user that nobody answers"
    START_C = "start timer C"
    START_D = "start timer D"
    START_GH = "start timers G and H"
    START_I = "start timer I"
    START_J = "start timer J"
    START_K = "start timer K"
    START_L = "start timer L"
    START_M = "start timer M"
    DOUBLE_A = "repeat later, at twice the interval"
    DOUBLE_E = "repeat later, at twice the interval, at most T2"
    SLOW_E = "repeat after T2"
    DOUBLE_G = "repeat the answer later, at most T2"


Table = dict[tuple[State, Input], tuple[tuple[Action, ...], State]]
_S, _I, _A = State, Input, Action

#: RFC 3261 17.1.1.2 figure 5, with RFC 6026 7.2.
INVITE_CLIENT: Table = {
    (_S.CALLING, _I.A): ((_A.AGAIN, _A.DOUBLE_A), _S.CALLING),
    (_S.CALLING, _I.B): ((_A.FAIL,), _S.TERMINATED),
    (_S.CALLING, _I.TRANSPORT): ((_A.FAIL,), _S.TERMINATED),
    (_S.CALLING, _I.PROVISIONAL): ((_A.START_C, _A.UP), _S.PROCEEDING),
    (_S.CALLING, _I.SUCCESS): ((_A.START_M, _A.UP), _S.ACCEPTED),
    (_S.CALLING, _I.FAILURE): ((_A.ACK, _A.START_D, _A.UP), _S.COMPLETED),
    (_S.PROCEEDING, _I.C): ((_A.FAIL,), _S.TERMINATED),
    (_S.PROCEEDING, _I.TRANSPORT): ((_A.FAIL,), _S.TERMINATED),
    (_S.PROCEEDING, _I.PROVISIONAL): ((_A.START_C, _A.UP), _S.PROCEEDING),
    (_S.PROCEEDING, _I.SUCCESS): ((_A.START_M, _A.UP), _S.ACCEPTED),
    (_S.PROCEEDING, _I.FAILURE): ((_A.ACK, _A.START_D, _A.UP), _S.COMPLETED),
    (_S.COMPLETED, _I.FAILURE): ((_A.ACK,), _S.COMPLETED),
    (_S.COMPLETED, _I.D): ((), _S.TERMINATED),
    (_S.ACCEPTED, _I.SUCCESS): ((_A.UP,), _S.ACCEPTED),
    (_S.ACCEPTED, _I.M): ((), _S.TERMINATED),
}

#: RFC 3261 17.1.2.2 figure 6.
CLIENT: Table = {
    (_S.TRYING, _I.E): ((_A.AGAIN, _A.DOUBLE_E), _S.TRYING),
    (_S.TRYING, _I.F): ((_A.FAIL,), _S.TERMINATED),
    (_S.TRYING, _I.TRANSPORT): ((_A.FAIL,), _S.TERMINATED),
    (_S.TRYING, _I.PROVISIONAL): ((_A.UP,), _S.PROCEEDING),
    (_S.TRYING, _I.SUCCESS): ((_A.START_K, _A.UP), _S.COMPLETED),
    (_S.TRYING, _I.FAILURE): ((_A.START_K, _A.UP), _S.COMPLETED),
    (_S.PROCEEDING, _I.E): ((_A.AGAIN, _A.SLOW_E), _S.PROCEEDING),
    (_S.PROCEEDING, _I.F): ((_A.FAIL,), _S.TERMINATED),
    (_S.PROCEEDING, _I.TRANSPORT): ((_A.FAIL,), _S.TERMINATED),
    (_S.PROCEEDING, _I.PROVISIONAL): ((_A.UP,), _S.PROCEEDING),
    (_S.PROCEEDING, _I.SUCCESS): ((_A.START_K, _A.UP), _S.COMPLETED),
    (_S.PROCEEDING, _I.FAILURE): ((_A.START_K, _A.UP), _S.COMPLETED),
    (_S.COMPLETED, _I.K): ((), _S.TERMINATED),
}

#: RFC 3261 17.2.1 figure 7, with RFC 6026 7.1. The user's answers are inputs too.
INVITE_SERVER: Table = {
    (_S.PROCEEDING, _I.REQUEST): ((_A.AGAIN,), _S.PROCEEDING),
    (_S.PROCEEDING, _I.PROVISIONAL): ((_A.SEND,), _S.PROCEEDING),
    (_S.PROCEEDING, _I.SUCCESS): ((_A.SEND, _A.START_L), _S.ACCEPTED),
    (_S.PROCEEDING, _I.FAILURE): ((_A.SEND, _A.START_GH), _S.COMPLETED),
    (_S.COMPLETED, _I.REQUEST): ((_A.AGAIN,), _S.COMPLETED),
    (_S.COMPLETED, _I.G): ((_A.AGAIN, _A.DOUBLE_G), _S.COMPLETED),
    (_S.COMPLETED, _I.H): ((), _S.TERMINATED),
    (_S.COMPLETED, _I.ACK): ((_A.START_I,), _S.CONFIRMED),
    (_S.CONFIRMED, _I.I): ((), _S.TERMINATED),
    (_S.ACCEPTED, _I.SUCCESS): ((_A.SEND,), _S.ACCEPTED),
    (_S.ACCEPTED, _I.ACK): ((_A.UP,), _S.ACCEPTED),
    (_S.ACCEPTED, _I.L): ((), _S.TERMINATED),
}

#: RFC 3261 17.2.2 figure 8.
SERVER: Table = {
    (_S.TRYING, _I.PROVISIONAL): ((_A.SEND,), _S.PROCEEDING),
    (_S.TRYING, _I.SUCCESS): ((_A.SEND, _A.START_J), _S.COMPLETED),
    (_S.TRYING, _I.FAILURE): ((_A.SEND, _A.START_J), _S.COMPLETED),
    (_S.PROCEEDING, _I.REQUEST): ((_A.AGAIN,), _S.PROCEEDING),
    (_S.PROCEEDING, _I.PROVISIONAL): ((_A.SEND,), _S.PROCEEDING),
    (_S.PROCEEDING, _I.SUCCESS): ((_A.SEND, _A.START_J), _S.COMPLETED),
    (_S.PROCEEDING, _I.FAILURE): ((_A.SEND, _A.START_J), _S.COMPLETED),
    (_S.COMPLETED, _I.REQUEST): ((_A.AGAIN,), _S.COMPLETED),
    (_S.COMPLETED, _I.J): ((), _S.TERMINATED),
}

_STARTS = {
    _A.START_D: _I.D,
    _A.START_I: _I.I,
    _A.START_J: _I.J,
    _A.START_K: _I.K,
    _A.START_L: _I.L,
    _A.START_M: _I.M,
}

#: States in which somebody still has to answer.
_OPEN = frozenset({_S.CALLING, _S.TRYING, _S.PROCEEDING})


def response_input(status: int) -> Input:
    """Which input a status code is."""
    if status < 200:
        return Input.PROVISIONAL
    return Input.SUCCESS if status < 300 else Input.FAILURE


class Transaction:
    """One transaction. Users read `request`, `response` and `flow`, and hang what they like on `context`.

    request: as sent or received. response: the last one received (client) or sent (server), None before, and None
    again when nobody answered. flow: where the request is sent, or where answers go.
    """

    __slots__ = (
        "context",
        "deadlines",
        "flow",
        "interval",
        "key",
        "last",
        "request",
        "response",
        "state",
        "table",
        "timers",
    )

    def __init__(self, key: tuple[str, ...], table: Table, state: State, request: Request, flow: Flow, timers: Timers):
        self.key = key
        self.table = table
        self.state = state
        self.request = request
        self.response: Response | None = None
        self.flow = flow
        self.timers = timers
        self.last = b""  # what is sent again
        self.interval = timers.t1  # until the next repetition
        self.deadlines: dict[Input, float] = {}
        self.context: object = None

    @property
    def is_invite(self) -> bool:
        """True for the two machines of INVITE."""
        return self.table is INVITE_CLIENT or self.table is INVITE_SERVER

    def __repr__(self) -> str:
        return f"<{self.request.method} {self.state} {self.flow}>"


def client_key(message: Message) -> tuple[str, ...]:
    """How an answer finds its request: branch of the top Via and method of CSeq (RFC 3261 17.1.3)."""
    return message.via[0].branch or "", message.cseq.method


def server_key(request: Request) -> tuple[str, ...]:
    """How a repetition, an ACK or a CANCEL finds its transaction (RFC 3261 17.2.3)."""
    via = request.via[0]
    method = "INVITE" if request.method == "ACK" else request.method
    if (via.branch or "").startswith(MAGIC_COOKIE):
        return via.branch or "", f"{via.host}:{via.port or ''}".lower(), method
    # An RFC 2543 element: Request-URI, Call-ID, CSeq number, From tag and top Via tell requests apart. The To tag and
    # the method of an ACK may differ from the INVITE's.
    return request.uri, request.call_id, str(request.cseq.number), request.from_.tag or "", str(via), method


def reply_flow(request: Request, flow: Flow) -> Flow:
    """Where answers to a request go (RFC 3261 18.2.2, RFC 3581 4): the stream it came by, or its source and port.

    Over UDP that is the source address, with the source port if the client asked for it by rport, else the port of
    the top Via (5060 if none). maddr is not followed: it would let a request aim our answers at a third party.
    """
    if flow.transport.is_stream:
        return flow
    via = request.via[0]
    port = flow.remote.port if "rport" in via.params else via.port or 5060
    return Flow(flow.transport, flow.local, Endpoint(flow.remote.host, port))


class Transactions:
    """All transactions of one node.

    transmit(flow, octets) is called for everything that must leave, in order.
    """

    __slots__ = ("_clients", "_heap", "_order", "_servers", "_transmit")

    def __init__(self, transmit: Callable[[Flow, bytes], None]) -> None:
        self._transmit = transmit
        self._clients: dict[tuple[str, ...], Transaction] = {}
        self._servers: dict[tuple[str, ...], Transaction] = {}
        self._heap: list[tuple[float, int, Transaction, Input]] = []
        self._order = 0  # ties of the heap: first set, first run

    def __len__(self) -> int:
        return len(self._clients) + len(self._servers)

    # ---- client side

    def send_request(
        self, request: Request, flow: Flow, now: float, *, timers: Timers = RFC_TIMERS, context: object = None
    ) -> Transaction:
        """Send a request whose top Via bears a new branch. ACK is sent without a transaction: use `transmit`."""
        key = client_key(request)
        if key in self._clients:
            raise LocalError(
                f"a {key[1]} with branch {key[0]!r} is already under way: every request needs a new branch"
            )
        invite = request.method == "INVITE"
        txn = Transaction(
            key, INVITE_CLIENT if invite else CLIENT, _S.CALLING if invite else _S.TRYING, request, flow, timers
        )
        txn.context = context
        txn.last = request.encode()
        self._clients[key] = txn
        if not flow.transport.is_stream:
            self._start(txn, _I.A if invite else _I.E, now + timers.t1)
        self._start(txn, _I.B if invite else _I.F, now + timers.timeout)
        self._transmit(flow, txn.last)
        return txn

    def receive_response(self, response: Response, now: float) -> Transaction | None:
        """The transaction whose user must see this answer; None for a repetition or an answer to nothing of ours.

        Raises PeerError when Via or CSeq cannot be read.
        """
        if not response.via:
            raise PeerError("answer without Via", clause="RFC 3261 8.1.1", octets=response.octets or b"")
        txn = self._clients.get(client_key(response))
        if txn is None:
            return None
        up = self._step(txn, response_input(response.status), now, response)
        return txn if up else None

    def find_client(self, response: Response) -> Transaction | None:
        """The transaction that this answer would match. Raises PeerError when Via or CSeq cannot be read."""
        return self._clients.get(client_key(response)) if response.via else None

    def knows_response(self, response: Response) -> bool:
        """True when the answer belongs to a request of ours, be it a repetition."""
        return client_key(response) in self._clients

    # ---- server side

    def receive_request(
        self, request: Request, flow: Flow, now: float, *, timers: Timers = RFC_TIMERS
    ) -> Transaction | None:
        """A new server transaction, to be answered by `send_response`; None when the request was a repetition.

        An ACK never makes a transaction: it gives None when it ends one of ours (a failure was acknowledged), and the
        INVITE's transaction when it belongs to a 2xx; an ACK that matches nothing must be asked for by `find_server`.
        flow: where answers go (see `reply_flow`). Raises PeerError when Via or CSeq cannot be read.
        """
        if not request.via:
            raise PeerError("request without Via", clause="RFC 3261 8.1.1", octets=request.octets or b"")
        key = server_key(request)
        txn = self._servers.get(key)
        if request.method == "ACK":
            return txn if txn is not None and self._step(txn, _I.ACK, now) else None
        if txn is not None:
            self._step(txn, _I.REQUEST, now)
            return None
        invite = request.method == "INVITE"
        txn = Transaction(
            key,
            INVITE_SERVER if invite else SERVER,
            _S.PROCEEDING if invite else _S.TRYING,
            request,
            flow,
            timers,
        )
        self._servers[key] = txn
        return txn

    def send_response(self, txn: Transaction, response: Response, now: float, flow: Flow | None = None) -> bool:
        """Answer. flow: another way for this and all later answers. False when the transaction has said its last."""
        if flow is not None:
            txn.flow = flow
        input_ = response_input(response.status)
        if (txn.state, input_) not in txn.table:
            return False
        self._step(txn, input_, now, response)
        return True

    def find_server(self, request: Request) -> Transaction | None:
        """The transaction that this request (repetition or ACK) would match."""
        return self._servers.get(server_key(request))

    def find_cancelled(self, cancel: Request) -> Transaction | None:
        """The INVITE that a CANCEL is about (RFC 3261 9.2); None when there is none."""
        key = server_key(cancel)
        return self._servers.get((*key[:-1], "INVITE"))

    # ---- time and trouble

    def next_timer(self) -> float | None:
        """When `expire` has something to do."""
        heap = self._heap
        while heap:
            when, _, txn, input_ = heap[0]
            if txn.deadlines.get(input_) == when:
                return when
            heapq.heappop(heap)
        return None

    def expire(self, now: float) -> list[Transaction]:
        """Run all timers that are due. Gives the client transactions that nobody answered."""
        failed: list[Transaction] = []
        while (when := self.next_timer()) is not None and when <= now:
            _, _, txn, input_ = heapq.heappop(self._heap)
            del txn.deadlines[input_]
            if self._step(txn, input_, now):
                failed.append(txn)
        return failed

    def transport_failed(self, flow: Flow, now: float) -> list[Transaction]:
        """The stream is gone. Gives the client transactions that waited for an answer on it (RFC 3261 17.1.4)."""
        waiting = [txn for txn in self._clients.values() if txn.flow == flow]
        return [txn for txn in waiting if self._step(txn, _I.TRANSPORT, now)]

    def move(self, old: Flow, new: Flow) -> None:
        """A stream turned out to be `new`: a connection asked for with local port 0 has got its port."""
        for txn in (*self._clients.values(), *self._servers.values()):
            if txn.flow == old:
                txn.flow = new

    def pending(self, concerns: Callable[[Flow], bool]) -> bool:
        """True while a transaction on such a flow still waits for an answer, ours or the peer's, or for an ACK.

        What only lingers to absorb repetitions is not pending any more.
        """
        return any(
            (txn.state in _OPEN or (txn.state is _S.COMPLETED and txn.table is INVITE_SERVER)) and concerns(txn.flow)
            for txns in (self._clients, self._servers)
            for txn in txns.values()
        )

    def _start(self, txn: Transaction, timer: Input, when: float) -> None:
        txn.deadlines[timer] = when
        self._order += 1
        heapq.heappush(self._heap, (when, self._order, txn, timer))

    def _step(self, txn: Transaction, input_: Input, now: float, response: Response | None = None) -> bool:
        """Make one transition. True when the user must be told. What the table does not list is absorbed."""
        row = txn.table.get((txn.state, input_))
        if row is None:
            return False
        actions, after = row
        if after is not txn.state:
            _void_timers(txn, after)
            txn.state = after
        tell = False
        timers, stream = txn.timers, txn.flow.transport.is_stream
        for action in actions:
            match action:
                case Action.UP:
                    txn.response = response or txn.response
                    tell = True
                case Action.FAIL:
                    txn.response = None
                    tell = True
                case Action.SEND:
                    assert response is not None
                    txn.response = response
                    txn.last = response.encode()
                    self._transmit(txn.flow, txn.last)
                case Action.AGAIN:
                    if txn.last:
                        self._transmit(txn.flow, txn.last)
                case Action.ACK:
                    assert response is not None
                    self._transmit(txn.flow, failure_ack(txn.request, response).encode())
                case Action.DOUBLE_A:
                    txn.interval *= 2
                    self._start(txn, _I.A, now + txn.interval)
                case Action.DOUBLE_E:
                    txn.interval = min(2 * txn.interval, timers.t2)
                    self._start(txn, _I.E, now + txn.interval)
                case Action.SLOW_E:
                    self._start(txn, _I.E, now + timers.t2)
                case Action.DOUBLE_G:
                    txn.interval = min(2 * txn.interval, timers.t2)
                    self._start(txn, _I.G, now + txn.interval)
                case Action.START_C:
                    self._start(txn, _I.C, now + TIMER_C)
                case Action.START_GH:
                    if not stream:
                        self._start(txn, _I.G, now + timers.t1)
                    self._start(txn, _I.H, now + timers.timeout)
                case _:
                    self._start(txn, _STARTS[action], now + _linger(action, timers, stream))
        if after is _S.TERMINATED:
            mine = self._clients if txn.table is CLIENT or txn.table is INVITE_CLIENT else self._servers
            mine.pop(txn.key, None)
        return tell


def _void_timers(txn: Transaction, after: State) -> None:
    """A new state has its own timers. Only a non-INVITE request that entered Proceeding goes on being repeated and
    timed (RFC 3261 17.1.2.2).
    """
    keep = (_I.E, _I.F) if after is _S.PROCEEDING else ()
    txn.deadlines = {timer: when for timer, when in txn.deadlines.items() if timer in keep}


def _linger(action: Action, timers: Timers, stream: bool) -> float:
    """How long a finished transaction stays to absorb repetitions (RFC 3261 Table 4, RFC 6026 8.7)."""
    if action in (Action.START_L, Action.START_M):
        return timers.timeout  # also over a stream: proxies pass on 2xx that were repeated elsewhere
    if stream:
        return 0.0
    return {
        Action.START_D: max(32.0, timers.timeout),
        Action.START_I: timers.t4,
        Action.START_J: timers.timeout,
        Action.START_K: timers.t4,
    }[action]


def failure_ack(invite: Request, response: Response) -> Request:
    """The ACK of a failure: it belongs to the INVITE's own transaction (RFC 3261 17.1.1.3)."""
    headers = [
        ("Via", str(invite.via[0])),
        ("From", invite.get("From") or ""),
        ("To", response.get("To") or ""),
        ("Call-ID", invite.call_id),
        ("CSeq", f"{invite.cseq.number} ACK"),
        ("Max-Forwards", "70"),
    ]
    headers += [("Route", row) for row in invite.rows("Route")]
    return Request("ACK", invite.uri, headers)
