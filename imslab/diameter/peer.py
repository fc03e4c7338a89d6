"""One transport connection to a Diameter peer as a state machine (RFC 6733 5, RFC 3539 3.4), for both ends.

The end that opened the connection says who it is and what it speaks (CER); the other one answers (CEA), and only
then does anything else pass. A watchdog (DWR/DWA) runs while nothing comes in; a farewell (DPR/DPA) ends it in order.
The state machine is `TABLE` below: state × input → action; an input that has no row there is what the peer should not
have sent now, and ends the connection before it is open, or is ignored after it.

    IDLE ─ connected ─► WAIT_CEA (we opened)  ─ CEA 2xxx, application in common ─► OPEN ◄─► SUSPECT ─► CLOSED
                   └──► WAIT_CER (they opened) ─ CER, application in common ─────► OPEN ─ DPR sent ─► CLOSING ─► CLOSED

Election between two simultaneous connections (RFC 6733 5.6.4) is not here: this is one connection. Requests are
matched to answers by hop-by-hop identifier; requests that come twice, by Origin-Host and end-to-end identifier, get
the answer that the first one got.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from imslab.core.entropy import Entropy, random_int
from imslab.core.errors import LocalError, PeerError
from imslab.diameter.avp import Avp, DiameterError
from imslab.diameter.codes import DisconnectCause, ResultCode
from imslab.diameter.dictionary import (
    APPLICATION_CX,
    APPLICATION_RELAY,
    VENDOR_3GPP,
    by_name,
    check,
    example,
    make,
    value_of,
)
from imslab.diameter.message import DiameterMessage, StreamFramer, answer, parse

CER, DWR, DPR = 257, 280, 282

#: Seconds: for the peer to introduce itself; for its farewell; RFC 3539 3.4.1's Tw, and how far it wobbles.
HANDSHAKE_TIMEOUT = 10.0
FAREWELL_TIMEOUT = 5.0
WATCHDOG = 30.0
WATCHDOG_JITTER = 2.0

#: How many requests of the peer may wait for our answer before more are told 3004 TOO_BUSY.
MAX_UNANSWERED = 4096

_MASK = 0xFFFFFFFF


class State(StrEnum):
    """Where the connection stands."""

    IDLE = "idle"
    WAIT_CER = "wait for CER"
    WAIT_CEA = "wait for CEA"
    OPEN = "open"
    SUSPECT = "suspect"
    CLOSING = "closing"
    CLOSED = "closed"


class Input(StrEnum):
    """What can happen to it."""

    CONNECTED = "connected"
    CER = "CER"
    CEA = "CEA"
    DWR = "DWR"
    DWA = "DWA"
    DPR = "DPR"
    DPA = "DPA"
    REQUEST = "request"
    ANSWER = "answer"
    TIMER = "timer"
    DISCONNECT = "disconnect"


_BASE_INPUTS = {
    (CER, True): Input.CER,
    (CER, False): Input.CEA,
    (DWR, True): Input.DWR,
    (DWR, False): Input.DWA,
    (DPR, True): Input.DPR,
    (DPR, False): Input.DPA,
}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we say we are in CER and CEA.

    applications: (vendor, application id) pairs. addresses: IP addresses in canonical text.
    """

    origin_host: str
    origin_realm: str
    addresses: tuple[str, ...] = ()
    product: str = "imslab"
    vendor: int = VENDOR_3GPP
    applications: tuple[tuple[int, int], ...] = ((VENDOR_3GPP, APPLICATION_CX),)
    origin_state: int | None = None


class _Pending(NamedTuple):
    command: int
    key: object


_RequestKey = tuple[bytes, int, int, bytes]


class Duplicates:
    """Answers given lately, so that a request that comes twice is done once (RFC 6733 3, 5.5.4).

    One of these may be shared by all connections of a node: after a failover the repetition comes on another one.
    limit: how many; lifetime: seconds. An entry without octets is a request whose answer is still being made.
    """

    __slots__ = ("_answers", "lifetime", "limit")

    def __init__(self, limit: int = 1024, lifetime: float = 240.0) -> None:
        self._answers: OrderedDict[_RequestKey, tuple[float, bytes | None]] = OrderedDict()
        self.limit = limit
        self.lifetime = lifetime

    def find(self, key: _RequestKey, now: float) -> tuple[bool, bytes | None]:
        """Whether it was seen, and the answer it got."""
        entry = self._answers.get(key)
        if entry is None or entry[0] + self.lifetime < now:
            return False, None
        return True, entry[1]

    def store(self, key: _RequestKey, octets: bytes | None, now: float) -> None:
        """Remember a request (octets None) or its answer."""
        self._answers[key] = (now, octets)
        self._answers.move_to_end(key)
        while len(self._answers) > self.limit:
            self._answers.popitem(last=False)

    def forget(self, key: _RequestKey) -> None:
        """It will not be answered: a repetition is a request of its own again."""
        self._answers.pop(key, None)


class Peer:
    """One connection. Octets and time come in; octets and messages come out.

    The owner tells `connected`, then feeds `receive`; after each call it sends `take_output()`, and when `is_closed`
    it closes the transport (after that output). At `next_timer()` it calls `timed_out`. When the transport ends by
    itself it calls `lost`.

    initiator: True at the end that opened the connection. allowed: Origin-Hosts that may talk to us, None for all.
    watchdog: seconds of silence before a DWR (RFC 3539 wants at least 6), 0 for none. table: in place of `TABLE`, for
    a peer that is wrong on purpose.
    """

    __slots__ = (
        "_duplicates",
        "_end_to_end",
        "_entropy",
        "_failed",
        "_framer",
        "_heap",
        "_hop_by_hop",
        "_now",
        "_output",
        "_pending",
        "_queued",
        "_received",
        "_table",
        "_timer",
        "_unanswered",
        "_watchdog_pending",
        "allowed",
        "identity",
        "initiator",
        "malformed",
        "peer_host",
        "peer_realm",
        "reason",
        "state",
        "watchdog",
    )

    def __init__(
        self,
        identity: Identity,
        entropy: Entropy,
        *,
        initiator: bool,
        allowed: Container[str] | None = None,
        watchdog: float = WATCHDOG,
        duplicates: Duplicates | None = None,
        table: Table | None = None,
    ) -> None:
        self.identity = identity
        self.initiator = initiator
        self.allowed = allowed
        self.watchdog = watchdog
        self.state = State.IDLE
        #: Why it is closed: "" before, and after an orderly farewell.
        self.reason = ""
        self.peer_host = ""
        self.peer_realm = ""
        #: How many messages could not be read.
        self.malformed = 0
        self._entropy = entropy
        self._framer = StreamFramer()
        self._duplicates = Duplicates() if duplicates is None else duplicates
        self._hop_by_hop = int.from_bytes(entropy.octets(4), "big")
        self._end_to_end = int.from_bytes(entropy.octets(4), "big")
        self._output: list[bytes] = []
        self._received: list[DiameterMessage] = []
        self._queued: list[tuple[int, bytes]] = []
        self._now = 0.0
        self._pending: dict[int, _Pending] = {}
        self._heap: list[tuple[float, int]] = []
        self._failed: list[object] = []
        self._unanswered: dict[tuple[int, int], _RequestKey] = {}
        self._timer: float | None = None
        self._watchdog_pending = False
        self._table = TABLE if table is None else table

    # --- what the owner asks --------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """True while requests and answers may pass."""
        return self.state in (State.OPEN, State.SUSPECT)

    @property
    def is_closed(self) -> bool:
        """True when the transport is to be closed, or is gone."""
        return self.state is State.CLOSED

    def connected(self, now: float) -> None:
        """The transport stands."""
        self._step(Input.CONNECTED, None, now)

    def lost(self, now: float, reason: str = "connection lost") -> None:
        """The transport ended. What was asked fails: `timed_out` gives the keys."""
        self._now = now
        self._close(reason)

    def disconnect(self, now: float, cause: DisconnectCause = DisconnectCause.REBOOTING) -> None:
        """Say farewell (DPR) if there is somebody to say it to."""
        if self.is_open:
            message = DiameterMessage(DPR, avps=self._origin())
            message.add("Disconnect-Cause", int(cause))
            self._send_own(message)
        self._step(Input.DISCONNECT, None, now)

    def take_output(self) -> bytes:
        """The octets to send since the last call."""
        octets = b"".join(self._output)
        self._output.clear()
        return octets

    def next_timer(self) -> float | None:
        """When `timed_out` wants to be called; None if nothing is waited for."""
        while self._heap and self._heap[0][1] not in self._pending:
            heapq.heappop(self._heap)
        times = [self._heap[0][0]] if self._heap else []
        if self._failed:
            times.append(self._now)
        if self._timer is not None:
            times.append(self._timer)
        return min(times, default=None)

    def timed_out(self, now: float) -> list[object]:
        """Let time pass: the watchdog runs, and the keys of requests that got no answer in time are given, once."""
        if self._timer is not None and self._timer <= now:
            self._step(Input.TIMER, None, now)
        while self._heap and self._heap[0][0] <= now:
            pending = self._pending.pop(heapq.heappop(self._heap)[1], None)
            if pending is not None:
                self._failed.append(pending.key)
        failed, self._failed = self._failed, []
        return failed

    # --- sending --------------------------------------------------------------------------------------------------

    def send_request(self, message: DiameterMessage, now: float, key: object, timeout: float = 10.0) -> None:
        """Send a request of the application; its answer comes out of `receive` with `key`, or `timed_out` gives it.

        The hop-by-hop identifier is set here, the end-to-end identifier unless it is there already (a repetition
        after a failover keeps it, RFC 6733 5.5.4). Before the connection is open the request waits for that.
        """
        if not message.request:
            raise LocalError(f"{message.name} is no request")
        if self.state in (State.CLOSING, State.CLOSED):
            self._now = now
            self._failed.append(key)
            return
        self._identify(message)
        octets = message.encode()
        self._pending[message.hop_by_hop] = _Pending(message.command, key)
        heapq.heappush(self._heap, (now + timeout, message.hop_by_hop))
        if self.is_open:
            self._output.append(octets)
        else:
            self._queued.append((message.hop_by_hop, octets))

    def send_answer(self, message: DiameterMessage, now: float) -> None:
        """Send the answer to a request that `receive` gave. On a connection that is gone it is remembered only."""
        key = self._unanswered.pop((message.hop_by_hop, message.end_to_end), None)
        if key is None or message.request:
            raise LocalError(f"{message.name}: no request waits for it")
        octets = message.encode()
        self._duplicates.store(key, octets, now)
        if not self.is_closed:
            self._output.append(octets)

    def ignore(self, request: DiameterMessage) -> None:
        """Leave a request that `receive` gave without an answer: when it is repeated it comes up again."""
        key = self._unanswered.pop((request.hop_by_hop, request.end_to_end), None)
        if key is not None:
            self._duplicates.forget(key)

    def _identify(self, message: DiameterMessage) -> None:
        self._hop_by_hop = self._hop_by_hop + 1 & _MASK
        message.hop_by_hop = self._hop_by_hop
        if not message.end_to_end:
            # RFC 6733 3: unique for four minutes at least; it starts anywhere and counts.
            self._end_to_end = self._end_to_end + 1 & _MASK or 1
            message.end_to_end = self._end_to_end

    def _send_own(self, message: DiameterMessage) -> None:
        self._identify(message)
        self._output.append(message.encode())

    def _origin(self) -> list[Avp]:
        return [make("Origin-Host", self.identity.origin_host), make("Origin-Realm", self.identity.origin_realm)]

    def reply(
        self,
        request: DiameterMessage,
        code: ResultCode | int,
        failed: Iterable[Avp] = (),
        avps: Iterable[Avp] = (),
        text: str = "",
    ) -> None:
        """Answer a request without the application: base messages, and what it never sees."""
        message = answer(
            request,
            origin_host=self.identity.origin_host,
            origin_realm=self.identity.origin_realm,
            result_code=int(code),
            failed=failed,
            avps=avps,
            error_message=text,
        )
        self._output.append(message.encode())

    # --- receiving ------------------------------------------------------------------------------------------------

    def receive(self, octets: bytes, now: float) -> list[DiameterMessage]:
        """Some piece of the stream came. Gives the requests and answers that are for the application, in order.

        Never raises because of what came: what cannot be read is answered as RFC 6733 7.1.5 says where it is a
        request; a stream that cannot be followed closes the connection.
        """
        self._now = now
        try:
            whole = self._framer.feed(octets)
        except PeerError as error:
            self._close(str(error))
            return []
        for single in whole:
            if self.state is State.CLOSED:
                break
            try:
                message = parse(single)
            except DiameterError as error:
                self._unreadable(error)
            else:
                self._dispatch(message, now)
        if self._framer.error is not None:
            self._close(str(self._framer.error))
        received, self._received = self._received, []
        return received

    def _unreadable(self, error: DiameterError) -> None:
        self.malformed += 1
        header = error.header
        if header is not None and header.request and (self.is_open or header.command == CER):
            self.reply(header, error.result_code, error.failed, text=error.reason)
        if not self.is_open:
            self._close(str(error))

    def _dispatch(self, message: DiameterMessage, now: float) -> None:
        if message.application == 0 and (message.command, message.request) in _BASE_INPUTS:
            kind = _BASE_INPUTS[message.command, message.request]
        else:
            kind = Input.REQUEST if message.request else Input.ANSWER
        if self.is_open:
            # RFC 3539 3.4.1: whatever comes in shows that the peer lives.
            self._alive(now)
        try:
            self._step(kind, message, now)
        except DiameterError as error:
            # A base message with a wrong AVP.
            self.malformed += 1
            if message.request:
                self.reply(message, error.result_code, error.failed, text=error.reason)
            if not self.is_open:
                self._close(str(error))

    # --- the machine ----------------------------------------------------------------------------------------------

    def _step(self, kind: Input, message: DiameterMessage | None, now: float) -> None:
        action = self._table.get((self.state, kind))
        if action is not None:
            action(self, message or _NOTHING, now)
        elif self.state in (State.WAIT_CER, State.WAIT_CEA) and message is not None:
            # RFC 6733 5.3: nothing passes before the capabilities are exchanged.
            self._close(f"{message.name} before the capabilities were exchanged")

    def _close(self, reason: str) -> None:
        if self.state is State.CLOSED:
            return
        self.state = State.CLOSED
        self.reason = reason
        self._timer = None
        self._failed += [pending.key for pending in self._pending.values()]
        self._pending.clear()
        self._heap.clear()
        self._queued.clear()

    def _introduce(self, message: DiameterMessage, now: float) -> None:
        self._timer = now + HANDSHAKE_TIMEOUT
        if not self.initiator:
            self.state = State.WAIT_CER
            return
        self.state = State.WAIT_CEA
        self._send_own(DiameterMessage(CER, avps=self._origin() + self.capabilities()))

    def capabilities(self) -> list[Avp]:
        """What CER and CEA say beyond Origin-Host and Origin-Realm."""
        # RFC 6733 5.3.1. Vendor-specific applications are named inside Vendor-Specific-Application-Id (6.11).
        identity = self.identity
        avps = [make("Host-IP-Address", address) for address in identity.addresses]
        avps += [make("Vendor-Id", identity.vendor), make("Product-Name", identity.product)]
        if identity.origin_state is not None:
            avps.append(make("Origin-State-Id", identity.origin_state))
        vendors = dict.fromkeys(vendor for vendor, _ in identity.applications if vendor)
        avps += [make("Supported-Vendor-Id", vendor) for vendor in vendors]
        for vendor, application in identity.applications:
            inner = make("Auth-Application-Id", application)
            avps.append(make("Vendor-Specific-Application-Id", [make("Vendor-Id", vendor), inner]) if vendor else inner)
        return avps

    def _has_common_application(self, message: DiameterMessage) -> bool:
        ours = set(self.identity.applications)
        plain = [*message.get_all("Auth-Application-Id"), *message.get_all("Acct-Application-Id")]
        if APPLICATION_RELAY in plain or any(application in plain for _, application in ours):
            return True
        for group in message.get_all("Vendor-Specific-Application-Id"):
            vendors = {value_of(avp) for avp in group if (avp.code, avp.vendor) == (266, 0)}
            named = {value_of(avp) for avp in group if (avp.code, avp.vendor) in ((258, 0), (259, 0))}
            if any(vendor in vendors and application in named for vendor, application in ours):
                return True
        return False

    def _meet(self, message: DiameterMessage, now: float) -> None:
        """CER: who is it, may it talk to us, and do we have anything to talk about?"""
        check(message.avps)
        host, realm = message.get("Origin-Host"), message.get("Origin-Realm")
        for name, value in (("Origin-Host", host), ("Origin-Realm", realm)):
            if not value:
                raise DiameterError(f"CER without {name}", 5005, failed=(example(by_name(name)),))
        if self.allowed is not None and host not in self.allowed:
            self.reply(message, ResultCode.UNKNOWN_PEER)
            self._close(f"{host} is no peer of ours")
        elif not self._has_common_application(message):
            # RFC 6733 5.3: with no application in common the connection should be closed after this answer.
            self.reply(message, ResultCode.NO_COMMON_APPLICATION, avps=self.capabilities())
            self._close(f"no application in common with {host}")
        else:
            self.reply(message, ResultCode.SUCCESS, avps=self.capabilities())
            self.open(host, realm, now)

    def _met(self, message: DiameterMessage, now: float) -> None:
        code = message.result_code
        host = message.get("Origin-Host") or ""
        if code is None or not 2000 <= code < 3000:
            self._close(f"{host or 'the peer'} refused: CEA with result {code}")
        elif self.allowed is not None and host not in self.allowed:
            self._close(f"{host} is no peer of ours")
        elif not self._has_common_application(message):
            self._close(f"no application in common with {host}")
        else:
            self.open(host, message.get("Origin-Realm") or "", now)

    def open(self, host: str, realm: str, now: float) -> None:
        """Requests and answers may pass from now on."""
        self.peer_host, self.peer_realm = host, realm
        self.state = State.OPEN
        self._alive(now)
        self._output += [octets for hop_by_hop, octets in self._queued if hop_by_hop in self._pending]
        self._queued.clear()

    def _alive(self, now: float) -> None:
        # RFC 3539 3.4.1: the timer starts anew with whatever comes in, except that a DWA still due stays due.
        self.state = State.OPEN
        self._set_watchdog(now)

    def _set_watchdog(self, now: float) -> None:
        if not self.watchdog:
            self._timer = None
            return
        wobble = random_int(self._entropy, -1000, 1001) / 1000 * min(WATCHDOG_JITTER, self.watchdog / 3)
        self._timer = now + self.watchdog + wobble

    def _watch(self, message: DiameterMessage, now: float) -> None:
        self._set_watchdog(now)
        if self._watchdog_pending:
            self.state = State.SUSPECT
            return
        self._watchdog_pending = True
        self._send_own(DiameterMessage(DWR, avps=self._origin() + self._state_id()))

    def _state_id(self) -> list[Avp]:
        state = self.identity.origin_state
        return [] if state is None else [make("Origin-State-Id", state)]

    def _watched(self, message: DiameterMessage, now: float) -> None:
        self._watchdog_pending = False

    def _answer_watchdog(self, message: DiameterMessage, now: float) -> None:
        self.reply(message, ResultCode.SUCCESS, avps=self._state_id())

    def _answer_farewell(self, message: DiameterMessage, now: float) -> None:
        self.reply(message, ResultCode.SUCCESS)
        self._close("")

    def _bid_farewell(self, message: DiameterMessage, now: float) -> None:
        self.state = State.CLOSING
        self._timer = now + FAREWELL_TIMEOUT

    def _part(self, message: DiameterMessage, now: float) -> None:
        self._close("")

    def _give_up(self, message: DiameterMessage, now: float) -> None:
        self._close(f"the peer was silent: {self.state}")

    def _take_request(self, message: DiameterMessage, now: float) -> None:
        if message.error:
            # RFC 6733 7.1.3: a request never has the E bit.
            self.reply(message, ResultCode.INVALID_HDR_BITS)
            return
        if message.application not in {application for _, application in self.identity.applications}:
            self.reply(message, ResultCode.APPLICATION_UNSUPPORTED)
            return
        origin, session = message.find(264), message.find(263)
        key = (
            b"" if origin is None else origin.data,
            message.end_to_end,
            message.command,
            b"" if session is None else session.data,
        )
        seen, octets = self._duplicates.find(key, now)
        if octets is not None:
            # The same answer, under the hop-by-hop identifier of this repetition.
            self._output.append(octets[:12] + message.hop_by_hop.to_bytes(4, "big") + octets[16:])
        elif not seen:
            if len(self._unanswered) >= MAX_UNANSWERED:
                self.reply(message, ResultCode.TOO_BUSY)
                return
            if (message.hop_by_hop, message.end_to_end) in self._unanswered:
                # RFC 6733 3: identifiers of requests under way differ; two with the same could not be told apart.
                self.reply(message, ResultCode.UNABLE_TO_COMPLY)
                return
            self._duplicates.store(key, None, now)
            self._unanswered[message.hop_by_hop, message.end_to_end] = key
            self._received.append(message)

    def _take_answer(self, message: DiameterMessage, now: float) -> None:
        # RFC 6733 6.2.1: an answer nobody waits for is dropped; so is one to another question.
        pending = self._pending.get(message.hop_by_hop)
        if pending is not None and pending.command == message.command:
            del self._pending[message.hop_by_hop]
            message.key = pending.key
            self._received.append(message)


_NOTHING = DiameterMessage(0)

Action = Callable[[Peer, DiameterMessage, float], None]
Table = Mapping[tuple[State, Input], Action]

#: What happens when. Not here: ignored, or the end of a connection that is not open yet.
TABLE: Table = {
    (State.IDLE, Input.CONNECTED): Peer._introduce,
    (State.IDLE, Input.DISCONNECT): Peer._part,
    (State.WAIT_CER, Input.CER): Peer._meet,
    (State.WAIT_CER, Input.TIMER): Peer._give_up,
    (State.WAIT_CER, Input.DISCONNECT): Peer._part,
    (State.WAIT_CEA, Input.CEA): Peer._met,
    (State.WAIT_CEA, Input.TIMER): Peer._give_up,
    (State.WAIT_CEA, Input.DISCONNECT): Peer._part,
    (State.OPEN, Input.CER): Peer._meet,
    (State.OPEN, Input.DWR): Peer._answer_watchdog,
    (State.OPEN, Input.DWA): Peer._watched,
    (State.OPEN, Input.DPR): Peer._answer_farewell,
    (State.OPEN, Input.REQUEST): Peer._take_request,
    (State.OPEN, Input.ANSWER): Peer._take_answer,
    (State.OPEN, Input.TIMER): Peer._watch,
    (State.OPEN, Input.DISCONNECT): Peer._bid_farewell,
    (State.SUSPECT, Input.TIMER): Peer._give_up,  # RFC 3539 3.4.1: two Tw without a word
    (State.SUSPECT, Input.DISCONNECT): Peer._bid_farewell,
    (State.CLOSING, Input.ANSWER): Peer._take_answer,
    (State.CLOSING, Input.DPA): Peer._part,
    (State.CLOSING, Input.DPR): Peer._answer_farewell,  # both said farewell at once
    (State.CLOSING, Input.TIMER): Peer._part,
}
