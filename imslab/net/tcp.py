"""One TCP connection as a state machine (RFC 9293): segments and times in, segments and events out.

The states and the order of the checks are those of RFC 9293 3.10.7:

    SYN-SENT ──► ESTABLISHED ──close──► FIN-WAIT-1 ──► FIN-WAIT-2 ──► TIME-WAIT ──► gone
                   ▲      │                  └─────► CLOSING ─────────▲
    SYN-RECEIVED ──┘      └─peer's FIN──► CLOSE-WAIT ──close──► LAST-ACK ──► gone

What is here: handshake (also simultaneous open), MSS, segmentation, the peer's window with probes of a closed one,
retransmission by RFC 6298 timers and after three duplicate ACKs, out-of-order, duplicate and overlapping segments,
orderly close, reset, the guards of RFC 5961 against forged RST and SYN, TIME-WAIT.
What is not, because a lab has no bandwidth to share: congestion control, window scaling, SACK, timestamps, urgent data,
delayed ACKs and Nagle's algorithm. A peer that offers options for them is told nothing and does without.

Inside, sequence numbers are whole numbers that do not wrap: what comes from the wire is unwrapped next to a number
that we know, what goes out is cut to 32 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from imslab.core.errors import PeerError
from imslab.ipsec.packet import ACK, FIN, PSH, RST, SYN, TcpSegment, mss_option

#: Octets that we are ready to receive: a node takes everything at once, so the window never closes.
WINDOW = 65535
#: The MSS of a peer that names none (RFC 9293 3.7.1), for IPv4 and, by RFC 8200 8.3, what IPv6 allows at least.
DEFAULT_MSS = 536

#: Seconds. RFC 6298 2: 1 s before the first measurement; its floor of 1 s is lowered to what Linux does.
FIRST_RTO, LEAST_RTO, GREATEST_RTO = 1.0, 0.2, 60.0
#: RFC 6298 5.7: after a first timer that ran out, as long as nothing could be measured.
UNMEASURED_RTO = 3.0
#: RFC 9293 3.8.3: give up not before 100 s without an answer to data, 180 s to a SYN.
DATA_PATIENCE, SYN_PATIENCE = 100.0, 180.0
#: How long a side that has closed waits for the other's FIN (longer than the other tries to deliver it), and how long
#: the pair of ports rests after both have closed.
FIN_WAIT, TIME_WAIT = 120.0, 60.0
#: Islands of early data that are kept; more are dropped, as the network might have dropped them.
MOST_PIECES = 256
#: RFC 5961 7: answers to segments outside the window are limited, or two confused ends would talk for ever.
CHALLENGE_INTERVAL = 0.5


class TcpState(Enum):
    """RFC 9293 3.3.2, without LISTEN, which is the host's matter."""

    SYN_SENT = "SYN-SENT"
    SYN_RECEIVED = "SYN-RECEIVED"
    ESTABLISHED = "ESTABLISHED"
    FIN_WAIT_1 = "FIN-WAIT-1"
    FIN_WAIT_2 = "FIN-WAIT-2"
    CLOSE_WAIT = "CLOSE-WAIT"
    CLOSING = "CLOSING"
    LAST_ACK = "LAST-ACK"
    TIME_WAIT = "TIME-WAIT"
    CLOSED = "CLOSED"


#: The states in which the peer may still send data.
_RECEIVING = frozenset({TcpState.ESTABLISHED, TcpState.FIN_WAIT_1, TcpState.FIN_WAIT_2})


class Transmit(NamedTuple):
    """A segment for the peer. seq and ack: 32 bits. options: octets, a multiple of 4."""

    seq: int
    ack: int
    flags: int
    window: int
    options: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class Opened:
    """The handshake is complete."""


@dataclass(frozen=True, slots=True)
class Received:
    """The next octets of the peer's stream."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """The peer's stream has ended in order; we may still send until we close."""


@dataclass(frozen=True, slots=True)
class Over:
    """Nothing remains of the connection. reason: "" when both sides closed in order."""

    reason: str


TcpOutput = Transmit | Opened | Received | Ended | Over


class TcpConnection:
    """One end of a connection, made by `connect` or `accept`.

    Call `receive`, `send`, `close`, `abort` and, when `deadline` has come, `tick`; after each, `take` gives what is to
    be done, in order. All times are seconds on one clock.
    """

    __slots__ = (
        "_base",
        "_buffer",
        "_challenged",
        "_closing",
        "_duplicates",
        "_fin_heard",
        "_iss",
        "_mss",
        "_offered_mss",
        "_output",
        "_pieces",
        "_recover",
        "_rto",
        "_rttvar",
        "_since",
        "_srtt",
        "_timed",
        "_window",
        "_window_ack",
        "_window_seq",
        "deadline",
        "rcv_nxt",
        "snd_nxt",
        "snd_una",
        "state",
    )

    def __init__(self, isn: int, mss: int) -> None:
        """isn: our initial sequence number, 32 bits. mss: octets of data that a segment may hold, either way."""
        self.state = TcpState.CLOSED
        self.deadline: float | None = None
        self.snd_una = isn
        self.snd_nxt = isn
        self.rcv_nxt = 0
        self._iss = isn
        self._offered_mss = mss
        self._mss = min(mss, DEFAULT_MSS)
        # What was given to send and is not acknowledged; its first octet has the number _base.
        self._buffer = bytearray()
        self._base = isn + 1
        self._closing = False
        # The peer's window, and the segment that told it last (RFC 9293 3.10.7.4, SND.WL1 and SND.WL2).
        self._window = 0
        self._window_seq = 0
        self._window_ack = 0
        # What came before its turn: (number of the first octet, octets), in order and without overlaps.
        self._pieces: list[tuple[int, bytes]] = []
        self._fin_heard: int | None = None
        self._rto = FIRST_RTO
        self._srtt: float | None = None
        self._rttvar = 0.0
        self._timed: tuple[int, float] | None = None
        self._since = 0.0
        self._recover = isn
        self._duplicates = 0
        self._challenged = float("-inf")
        self._output: list[TcpOutput] = []

    @classmethod
    def connect(cls, isn: int, mss: int, now: float) -> TcpConnection:
        """The end that opens: a SYN goes out."""
        self = cls(isn, mss)
        self.state = TcpState.SYN_SENT
        self.snd_nxt = isn + 1
        self._transmit_syn(SYN)
        self._since = now
        self._timed = (self.snd_nxt, now)
        self._arm(now)
        return self

    @classmethod
    def accept(cls, isn: int, mss: int, segment: TcpSegment, now: float) -> TcpConnection:
        """The end that a SYN has reached: a SYN with ACK goes out."""
        self = cls(isn, mss)
        self.state = TcpState.SYN_RECEIVED
        self.snd_nxt = isn + 1
        self._hear_syn(segment)
        self._transmit_syn(SYN | ACK)
        self._since = now
        self._timed = (self.snd_nxt, now)
        self._arm(now)
        return self

    # -- what the owner asks for -------------------------------------------------------------------------------------

    def send(self, octets: bytes, now: float) -> bool:
        """Queue octets for the peer; False when our side of the stream is closed already."""
        if self._closing or self.state in (TcpState.CLOSED, TcpState.TIME_WAIT):
            return False
        self._buffer += octets
        self._flush(now)
        return True

    def close(self, now: float) -> None:
        """End our stream once all of it is delivered. Closing twice is no error."""
        if self._closing or self.state is TcpState.CLOSED:
            return
        self._closing = True
        if self.state is TcpState.SYN_SENT and not self._buffer:
            self._finish("")
            return
        self._flush(now)

    def abort(self, now: float) -> None:
        """Reset the connection at once: what is not delivered is lost."""
        if self.state in (TcpState.CLOSED, TcpState.TIME_WAIT):
            return
        if self.state is not TcpState.SYN_SENT:
            self._transmit(self.snd_nxt, RST | ACK)
        self._finish("connection aborted")

    def is_beyond(self, segment: TcpSegment) -> bool:
        """True when the segment's number lies beyond all that was heard of the peer (RFC 9293 3.6.1)."""
        return _near(segment.seq, self.rcv_nxt) >= self.rcv_nxt

    def take(self) -> list[TcpOutput]:
        """What is to be done since the last call, in order."""
        output, self._output = self._output, []
        return output

    def tick(self, now: float) -> None:
        """The deadline has come: retransmit, give up, or let go."""
        if self.deadline is None or now < self.deadline:
            return
        self.deadline = None
        if self.state in (TcpState.TIME_WAIT, TcpState.FIN_WAIT_2):
            self._finish("" if self.state is TcpState.TIME_WAIT else "timed out")
            return
        opening = self.state in (TcpState.SYN_SENT, TcpState.SYN_RECEIVED)
        if now - self._since >= (SYN_PATIENCE if opening else DATA_PATIENCE):
            self._finish("timed out")
            return
        # RFC 6298 5.4-5.6: the first segment again, and twice the time. 3: no measurement by what was sent twice.
        self._timed = None
        self._rto = min(self._rto * 2, GREATEST_RTO)
        self._recover = self.snd_nxt
        self._duplicates = 0
        self._transmit_first()
        self.deadline = now + self._rto

    # -- what the peer sends -----------------------------------------------------------------------------------------

    def receive(self, segment: TcpSegment, now: float) -> None:
        """Take in one segment of this connection (RFC 9293 3.10.7)."""
        if self.state is TcpState.CLOSED:
            return
        if self.state is TcpState.SYN_SENT:
            self._receive_in_syn_sent(segment, now)
            return
        flags = segment.flags
        seq = _near(segment.seq, self.rcv_nxt)
        end = seq + len(segment.data) + bool(flags & SYN) + bool(flags & FIN)
        # 3.10.7.4, first: is any of it inside the window?
        if end == seq:
            inside = self.rcv_nxt <= seq < self.rcv_nxt + WINDOW
        else:
            inside = seq < self.rcv_nxt + WINDOW and end > self.rcv_nxt
        if not inside:
            if not flags & RST:
                if self.state is TcpState.TIME_WAIT and flags & FIN:
                    self.deadline = now + TIME_WAIT
                self._challenge(now, always=end != seq)
            return
        # Second: RST. RFC 5961 3.2: only the very next number resets; others are asked to prove it.
        if flags & RST:
            if seq == self.rcv_nxt:
                self._finish("" if self.state is TcpState.TIME_WAIT else "connection reset by peer")
            else:
                self._challenge(now)
            return
        # Fourth: SYN. RFC 5961 4.2: never a reason to reset.
        if flags & SYN:
            self._challenge(now)
            return
        # Fifth: ACK.
        if not flags & ACK:
            return
        ack = _near(segment.ack, self.snd_una)
        if self.state is TcpState.SYN_RECEIVED:
            if not self.snd_una < ack <= self.snd_nxt:
                self._output.append(Transmit(segment.ack, 0, RST, 0, b"", b""))
                return
            self._establish(segment, seq, ack, now)
        if ack > self.snd_nxt:
            self._challenge(now)
            return
        self._receive_ack(segment, seq, ack, now)
        # Seventh and eighth: the data and the FIN, which count as heard only when all before them is.
        if self.state in _RECEIVING and end > seq:
            self._receive_data(seq, segment.data, bool(flags & FIN), now)
        self._flush(now)

    def _receive_in_syn_sent(self, segment: TcpSegment, now: float) -> None:
        flags = segment.flags
        ack = _near(segment.ack, self.snd_una)
        if flags & ACK and not self._iss < ack <= self.snd_nxt:
            if not flags & RST:
                self._output.append(Transmit(segment.ack, 0, RST, 0, b"", b""))
            return
        if flags & RST:
            if flags & ACK:
                self._finish("connection refused")
            return
        if not flags & SYN:
            return
        self._hear_syn(segment)
        if flags & ACK:
            self._establish(segment, self.rcv_nxt - 1, ack, now)
            self._transmit(self.snd_nxt, ACK)
            self._flush(now)
        else:
            # Both have opened at the same time (RFC 9293 3.5, figure 7).
            self.state = TcpState.SYN_RECEIVED
            self._transmit_syn(SYN | ACK)

    def _hear_syn(self, segment: TcpSegment) -> None:
        self.rcv_nxt = segment.seq + 1
        self._mss = min(self._offered_mss, _mss_of(segment))
        self._window = segment.window

    def _establish(self, segment: TcpSegment, seq: int, ack: int, now: float) -> None:
        self.state = TcpState.ESTABLISHED
        self._window, self._window_seq, self._window_ack = segment.window, seq, ack
        self._acknowledge(ack, now)
        self._output.append(Opened())

    def _receive_ack(self, segment: TcpSegment, seq: int, ack: int, now: float) -> None:
        window = self._window
        newer = (seq, ack) >= (self._window_seq, self._window_ack)
        if newer and ack >= self.snd_una:
            self._window, self._window_seq, self._window_ack = segment.window, seq, ack
        if self._window == 0:
            self._since = now  # a peer that answers probes lives
        if ack > self.snd_una:
            self._acknowledge(ack, now)
        elif (
            ack == self.snd_una < self.snd_nxt
            and not segment.data
            and not segment.flags & FIN
            and segment.window == window
        ):
            # RFC 5681 3.2: three duplicates say that a segment is lost and later ones are not.
            self._duplicates += 1
            if self._duplicates == 3 and self.snd_una >= self._recover:
                self._recover = self.snd_nxt
                self._timed = None
                self._transmit_first()
        fin_acknowledged = self._fin_sent and self.snd_una == self.snd_nxt
        if fin_acknowledged:
            if self.state is TcpState.FIN_WAIT_1:
                self.state = TcpState.FIN_WAIT_2
                self.deadline = now + FIN_WAIT
            elif self.state is TcpState.CLOSING:
                self._rest(now)
            elif self.state is TcpState.LAST_ACK:
                self._finish("")

    def _acknowledge(self, ack: int, now: float) -> None:
        """The peer has everything before `ack`, which is news."""
        if self._timed is not None and ack >= self._timed[0]:
            self._measure(now - self._timed[1])
            self._timed = None
        # A peer that answers ends the doubling; RFC 6298 waits for a measurement, which a bad link may long deny.
        self._rto = self._estimate()
        self.snd_una = ack
        octets = min(ack - self._base, len(self._buffer))
        if octets > 0:
            del self._buffer[:octets]
            self._base += octets
        self._duplicates = 0
        self._since = now
        self.deadline = None
        if self.snd_una < self._recover and self.snd_una < self.snd_nxt:
            self._transmit_first()  # RFC 6582 3.2: a partial acknowledgment names the next hole
        self._arm(now)

    def _receive_data(self, seq: int, data: bytes, fin: bool, now: float) -> None:
        if fin:
            self._fin_heard = seq + len(data)
        in_order = seq <= self.rcv_nxt
        if in_order and not self._pieces:
            fresh = data[self.rcv_nxt - seq : self.rcv_nxt - seq + WINDOW]
        else:
            self._keep(seq, data)
            fresh = self._join()
        if fresh:
            self.rcv_nxt += len(fresh)
            self._output.append(Received(bytes(fresh)))
        if self._fin_heard is None or self.rcv_nxt != self._fin_heard:
            self._transmit(self.snd_nxt, ACK)
            return
        self.rcv_nxt += 1
        self._transmit(self.snd_nxt, ACK)
        self._output.append(Ended())
        if self.state is TcpState.ESTABLISHED:
            self.state = TcpState.CLOSE_WAIT
        elif self.state is TcpState.FIN_WAIT_1:
            self.state = TcpState.CLOSING
        else:
            self._rest(now)

    def _keep(self, seq: int, data: bytes) -> None:
        """Put data that may be early among the pieces, each octet once, so that they never exceed the window."""
        low, high = max(seq, self.rcv_nxt), min(seq + len(data), self.rcv_nxt + WINDOW)
        if low != self.rcv_nxt and len(self._pieces) >= MOST_PIECES:
            return
        fresh: list[tuple[int, bytes]] = []
        for start, piece in self._pieces:
            if low < high and low < start:
                until = min(high, start)
                fresh.append((low, data[low - seq : until - seq]))
            fresh.append((start, piece))
            low = max(low, start + len(piece))
        if low < high:
            fresh.append((low, data[low - seq : high - seq]))
        self._pieces = fresh

    def _join(self) -> bytes:
        """The pieces that have come to their turn."""
        turn, octets = self.rcv_nxt, bytearray()
        while self._pieces and self._pieces[0][0] == turn:
            piece = self._pieces.pop(0)[1]
            octets += piece
            turn += len(piece)
        return bytes(octets)

    # -- sending -----------------------------------------------------------------------------------------------------

    @property
    def _fin_sent(self) -> bool:
        return self._closing and self.snd_nxt > self._base + len(self._buffer)

    def _flush(self, now: float) -> None:
        """Send what the window allows, and the FIN after the last octet."""
        if self.state not in (TcpState.ESTABLISHED, TcpState.CLOSE_WAIT):
            return
        end = self._base + len(self._buffer)
        while (size := min(self._mss, end - self.snd_nxt, self.snd_una + self._window - self.snd_nxt)) > 0:
            self._transmit_data(self.snd_nxt, size)
            self.snd_nxt += size
            if self._timed is None:
                self._timed = (self.snd_nxt, now)
        if self._closing and self.snd_nxt == end:
            self._transmit(end, FIN | ACK)
            self.snd_nxt += 1
            self.state = TcpState.FIN_WAIT_1 if self.state is TcpState.ESTABLISHED else TcpState.LAST_ACK
        if self.deadline is None:
            self._since = now
            self._arm(now)

    def _arm(self, now: float) -> None:
        """RFC 6298 5.1: the timer runs while something is unacknowledged, or the peer's window is closed."""
        waiting = self.snd_una < self.snd_nxt or self._base + len(self._buffer) > self.snd_nxt
        self.deadline = now + self._rto if waiting else None

    def _measure(self, rtt: float) -> None:
        # RFC 6298 2.2, 2.3.
        if self._srtt is None:
            self._srtt, self._rttvar = rtt, rtt / 2
        else:
            self._rttvar = 0.75 * self._rttvar + 0.25 * abs(self._srtt - rtt)
            self._srtt = 0.875 * self._srtt + 0.125 * rtt

    def _estimate(self) -> float:
        """The time for an answer, without what timers that ran out have doubled."""
        if self._srtt is None:
            return UNMEASURED_RTO
        return min(max(self._srtt + 4 * self._rttvar, LEAST_RTO), GREATEST_RTO)

    def _transmit_first(self) -> None:
        """The first thing that is not acknowledged once more, or one octet to probe a closed window."""
        if self.state is TcpState.SYN_SENT:
            self._transmit_syn(SYN)
            return
        if self.state is TcpState.SYN_RECEIVED:
            self._transmit_syn(SYN | ACK)
            return
        size = min(self._mss, self._base + len(self._buffer) - self.snd_una)
        if self.snd_una < self.snd_nxt:
            size = min(size, self.snd_nxt - self.snd_una)
        elif size > 0:
            size = 1  # RFC 9293 3.8.6.1: zero-window probing
            self.snd_nxt += 1
        if size > 0:
            self._transmit_data(self.snd_una, size)
        elif self._fin_sent:
            self._transmit(self.snd_una, FIN | ACK)

    def _transmit_data(self, seq: int, size: int) -> None:
        offset = seq - self._base
        data = bytes(self._buffer[offset : offset + size])
        last = offset + size == len(self._buffer)
        self._transmit(seq, ACK | PSH if last else ACK, data)

    def _transmit(self, seq: int, flags: int, data: bytes = b"") -> None:
        self._output.append(Transmit(seq & 0xFFFFFFFF, self.rcv_nxt & 0xFFFFFFFF, flags, WINDOW, b"", data))

    def _transmit_syn(self, flags: int) -> None:
        ack = self.rcv_nxt & 0xFFFFFFFF if flags & ACK else 0
        self._output.append(Transmit(self._iss & 0xFFFFFFFF, ack, flags, WINDOW, mss_option(self._offered_mss), b""))

    def _challenge(self, now: float, *, always: bool = False) -> None:
        """Tell a peer that seems lost where we are."""
        if always or now - self._challenged >= CHALLENGE_INTERVAL:
            self._challenged = now
            self._transmit(self.snd_nxt, ACK)

    # -- ends --------------------------------------------------------------------------------------------------------

    def _rest(self, now: float) -> None:
        self.state = TcpState.TIME_WAIT
        self.deadline = now + TIME_WAIT

    def _finish(self, reason: str) -> None:
        self.state = TcpState.CLOSED
        self.deadline = None
        self._buffer.clear()
        self._pieces.clear()
        self._output.append(Over(reason))


def _mss_of(segment: TcpSegment) -> int:
    """What the SYN says of the size of segments; the default when that cannot be read, or used."""
    try:
        return segment.mss or DEFAULT_MSS
    except PeerError:
        return DEFAULT_MSS


def _near(number: int, known: int) -> int:
    """The whole number next to `known` whose last 32 bits are `number`."""
    return known + ((number - known + 0x80000000) & 0xFFFFFFFF) - 0x80000000
