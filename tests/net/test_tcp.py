"""The TCP machine alone: two ends, a bad wire between them, and segments that no honest peer sends."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imslab.ipsec.packet import ACK, FIN, PSH, RST, SYN, TcpSegment, mss_option
from imslab.net.tcp import (
    CHALLENGE_INTERVAL,
    DATA_PATIENCE,
    FIN_WAIT,
    MOST_PIECES,
    SYN_PATIENCE,
    TIME_WAIT,
    WINDOW,
    Ended,
    Opened,
    Over,
    Received,
    TcpConnection,
    TcpOutput,
    TcpState,
    Transmit,
)

MSS = 100
DELAY = 0.01


def segment(step: Transmit) -> TcpSegment:
    """What the other end hears of a Transmit."""
    return TcpSegment(1, 2, step.seq, step.ack, step.flags, step.window, step.options, step.data)


@dataclass
class End:
    """One end with what came out of it."""

    tcp: TcpConnection | None = None
    isn: int = 0
    mss: int = MSS
    stream: bytes = b""
    events: list[TcpOutput] = field(default_factory=list)

    @property
    def over(self) -> list[str]:
        return [event.reason for event in self.events if isinstance(event, Over)]


class Wire:
    """Two ends and what is under way. The second end accepts the first SYN it hears and closes when the first did."""

    def __init__(self, seed: int = 0, *, loss: float = 0, duplicate: float = 0, reorder: float = 0) -> None:
        self.chance = random.Random(seed)
        self.loss, self.duplicate, self.reorder = loss, duplicate, reorder
        self.now = 0.0
        self.a, self.b = End(isn=0xFFFFFFF0), End(isn=0x7FFFFFFF)
        self.under_way: list[tuple[float, int, End, Transmit]] = []
        self.sent: list[tuple[End, Transmit]] = []
        self.order = 0
        self.deaf = False
        self.lost = 0

    def open(self) -> None:
        self.a.tcp = TcpConnection.connect(self.a.isn, self.a.mss, self.now)
        self.collect(self.a)

    def collect(self, end: End) -> None:
        assert end.tcp is not None
        other = self.b if end is self.a else self.a
        for step in end.tcp.take():
            if isinstance(step, Transmit):
                self.sent.append((end, step))
                self.carry(other, step)
                continue
            end.events.append(step)
            if isinstance(step, Received):
                end.stream += step.octets
            elif isinstance(step, Ended):
                end.tcp.close(self.now)
                self.collect(end)

    def carry(self, to: End, step: Transmit) -> None:
        # Never more than two in a row, or patience would end some run or other, and rightly.
        if self.deaf or (self.chance.random() < self.loss and self.lost < 2):
            self.lost += 1
            return
        self.lost = 0
        for _ in range(2 if self.chance.random() < self.duplicate else 1):
            delay = DELAY * (self.chance.uniform(1, 6) if self.chance.random() < self.reorder else 1)
            self.order += 1
            self.under_way.append((self.now + delay, self.order, to, step))

    def hear(self, end: End, step: Transmit) -> None:
        if end.tcp is None:
            if not step.flags & SYN:
                return
            end.tcp = TcpConnection.accept(end.isn, end.mss, segment(step), self.now)
        else:
            end.tcp.receive(segment(step), self.now)
        self.collect(end)

    def step(self) -> bool:
        """The next arrival or deadline. False: nothing will happen."""
        times: list[tuple[float, int, End, Transmit | None]] = list(self.under_way)
        for end in (self.a, self.b):
            if end.tcp is not None and end.tcp.deadline is not None:
                times.append((end.tcp.deadline, -1, end, None))
        if not times:
            return False
        when, order, end, step = min(times, key=lambda item: item[:2])
        self.now = max(self.now, when)
        if step is None:
            assert end.tcp is not None
            end.tcp.tick(self.now)
            self.collect(end)
        else:
            self.under_way = [item for item in self.under_way if item[1] != order]
            self.hear(end, step)
        return True

    def run(self, until: float = 10_000.0) -> None:
        for _ in range(200_000):
            if self.now > until or not self.step():
                return
        raise AssertionError("no end")

    def settle(self) -> None:
        """Only what is under way, no deadlines."""
        while self.under_way:
            self.under_way.sort(key=lambda item: item[:2])
            when, _, end, step = self.under_way.pop(0)
            self.now = max(self.now, when)
            self.hear(end, step)

    def established(self) -> tuple[TcpConnection, TcpConnection]:
        self.open()
        self.settle()
        assert self.a.tcp is not None
        assert self.b.tcp is not None
        assert self.a.tcp.state is self.b.tcp.state is TcpState.ESTABLISHED
        self.sent.clear()
        return self.a.tcp, self.b.tcp

    def send(self, end: End, octets: bytes) -> None:
        assert end.tcp is not None
        assert end.tcp.send(octets, self.now)
        self.collect(end)

    def close(self, end: End) -> None:
        assert end.tcp is not None
        end.tcp.close(self.now)
        self.collect(end)

    def flags(self, end: End) -> list[int]:
        return [step.flags for who, step in self.sent if who is end]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    loss=st.floats(0, 0.2),
    duplicate=st.floats(0, 0.5),
    reorder=st.floats(0, 0.5),
    there=st.lists(st.integers(0, 3000), max_size=6),
    back=st.lists(st.integers(0, 3000), max_size=6),
    both_close=st.booleans(),
)
def test_any_wire_delivers_exact_streams_and_closes_both_ends(
    seed: int, loss: float, duplicate: float, reorder: float, there: list[int], back: list[int], both_close: bool
) -> None:
    wire = Wire(seed, loss=loss, duplicate=duplicate, reorder=reorder)
    material = random.Random(seed).randbytes(20_000)
    wire.open()
    sent = {"a": b"", "b": b""}
    for size in there:
        sent["a"] += material[:size]
        wire.send(wire.a, material[:size])
    while not any(isinstance(event, Opened) for event in wire.b.events):
        assert wire.step()
    for size in back:
        sent["b"] += material[-size:] if size else b""
        wire.send(wire.b, material[-size:] if size else b"")
    # An end that closes still receives, but the other closes as soon as it hears of that: let it send all first.
    while wire.a.stream != sent["b"]:
        assert wire.step()
    wire.close(wire.a)
    if both_close:
        wire.close(wire.b)
    wire.run()
    assert wire.b.stream == sent["a"]
    assert wire.a.stream == sent["b"]
    assert wire.a.over == wire.b.over == [""]
    assert wire.a.tcp is not None
    assert wire.a.tcp.deadline is None


class TestHandshake:
    def test_three_segments_and_the_mss_of_the_smaller(self) -> None:
        wire = Wire()
        wire.b.mss = 60
        wire.open()
        wire.settle()
        assert [step.flags for _, step in wire.sent] == [SYN, SYN | ACK, ACK]
        assert [step.options for _, step in wire.sent] == [mss_option(100), mss_option(60), b""]
        wire.send(wire.a, bytes(150))
        assert [len(step.data) for _, step in wire.sent[3:]] == [60, 60, 30]
        assert [step.flags for _, step in wire.sent[3:]] == [ACK, ACK, ACK | PSH]

    @pytest.mark.parametrize("options", [b"", b"\x02\x04\x00\x00", b"\x02\x05\x00\x00\x00\x00\x00\x00", b"\x02"])
    def test_without_a_usable_mss_the_default_holds(self, options: bytes) -> None:
        syn = TcpSegment(1, 2, 7, 0, SYN, WINDOW, options)
        tcp = TcpConnection.accept(0, 1400, syn, 0.0)
        tcp.receive(TcpSegment(1, 2, 8, 1, ACK, WINDOW), 0.0)
        tcp.take()
        tcp.send(bytes(2000), 0.0)
        assert max(len(step.data) for step in tcp.take() if isinstance(step, Transmit)) == 536

    def test_both_open_at_once(self) -> None:
        wire = Wire()
        wire.a.tcp = TcpConnection.connect(wire.a.isn, MSS, 0.0)
        wire.b.tcp = TcpConnection.connect(wire.b.isn, MSS, 0.0)
        wire.collect(wire.a)
        wire.collect(wire.b)
        wire.settle()
        assert wire.a.tcp.state is wire.b.tcp.state is TcpState.ESTABLISHED
        assert wire.a.events == wire.b.events == [Opened()]

    def test_what_is_sent_and_closed_before_it_stands_is_delivered(self) -> None:
        wire = Wire()
        wire.open()
        wire.send(wire.a, b"early")
        wire.close(wire.a)
        wire.run()
        assert wire.b.stream == b"early"
        assert wire.a.over == wire.b.over == [""]

    def test_close_before_it_stands_ends_it(self) -> None:
        wire = Wire()
        wire.open()
        wire.close(wire.a)
        assert wire.a.over == [""]

    def test_nobody_answers(self) -> None:
        wire = Wire()
        wire.deaf = True
        wire.open()
        wire.run()
        assert wire.a.over == ["timed out"]
        assert SYN_PATIENCE <= wire.now < 2 * SYN_PATIENCE
        assert set(wire.flags(wire.a)) == {SYN}
        assert len(wire.sent) == 8  # at 0, 1, 3, 7, 15, 31, 63, 123 s; the one at 183 s gives up

    def test_refused(self) -> None:
        wire = Wire()
        wire.open()
        tcp = wire.a.tcp
        assert tcp is not None
        tcp.receive(TcpSegment(1, 2, 0, 5, RST | ACK, 0), 0.1)  # acknowledges what was not sent: not for us
        tcp.receive(TcpSegment(1, 2, 0, tcp.snd_nxt & 0xFFFFFFFF, RST, 0), 0.1)  # without ACK: nor this
        assert tcp.state is TcpState.SYN_SENT
        tcp.receive(TcpSegment(1, 2, 0, tcp.snd_nxt & 0xFFFFFFFF, RST | ACK, 0), 0.1)
        wire.collect(wire.a)
        assert wire.a.over == ["connection refused"]

    def test_an_old_connection_is_reset_by_who_opens_anew(self) -> None:
        tcp = TcpConnection.connect(1000, MSS, 0.0)
        tcp.take()
        tcp.receive(TcpSegment(1, 2, 77, 12345, ACK, 0), 0.1)
        assert tcp.take() == [Transmit(12345, 0, RST, 0, b"", b"")]
        tcp.receive(TcpSegment(1, 2, 77, 1001, ACK, 0), 0.1)  # acceptable, but no SYN: nothing
        assert tcp.take() == []

    def test_a_wrong_acknowledgment_of_our_syn_is_reset(self) -> None:
        tcp = TcpConnection.accept(500, MSS, TcpSegment(1, 2, 7, 0, SYN, WINDOW), 0.0)
        tcp.take()
        tcp.receive(TcpSegment(1, 2, 8, 400, ACK, WINDOW), 0.1)
        assert tcp.take() == [Transmit(400, 0, RST, 0, b"", b"")]
        assert tcp.state is TcpState.SYN_RECEIVED

    def test_the_syn_ack_is_repeated(self) -> None:
        tcp = TcpConnection.accept(500, MSS, TcpSegment(1, 2, 7, 0, SYN, WINDOW), 0.0)
        first = tcp.take()
        tcp.tick(0.9)
        assert tcp.take() == []
        tcp.tick(1.0)
        assert tcp.take() == first


class TestLoss:
    def test_a_lost_segment_is_repeated_after_the_measured_time(self) -> None:
        wire = Wire()
        a, _ = wire.established()
        wire.deaf = True
        wire.send(wire.a, b"x" * 10)
        wire.deaf = False
        before = wire.now
        assert a.deadline is not None
        assert 0.2 <= a.deadline - before < 1.0  # the round trip of 20 ms is known by now
        wire.run(until=wire.now + 1)
        assert wire.b.stream == b"x" * 10
        assert len([step for who, step in wire.sent if who is wire.a and step.data]) == 2

    def test_the_time_doubles_and_then_the_end(self) -> None:
        wire = Wire()
        a, _ = wire.established()
        wire.deaf = True
        start = wire.now
        wire.send(wire.a, b"x")
        times = [start]
        while a.deadline is not None:
            at = a.deadline
            wire.step()
            times.append(at)
        gaps = [round(b - a, 6) for a, b in itertools.pairwise(times)]
        for short, long in itertools.pairwise(gaps):
            assert long == pytest.approx(min(short * 2, 60.0))
        assert wire.a.over == ["timed out"]
        assert DATA_PATIENCE <= wire.now - start < DATA_PATIENCE + 60
        assert not a.send(b"late", wire.now)

    def test_three_duplicates_do_not_wait_for_the_timer(self) -> None:
        wire = Wire()
        wire.established()
        wire.deaf = True
        wire.send(wire.a, b"a" * MSS)
        wire.deaf = False
        wire.send(wire.a, b"b" * MSS * 4)
        started = wire.now
        wire.settle()
        assert wire.now - started < 0.1
        assert wire.b.stream == b"a" * MSS + b"b" * MSS * 4

    def test_two_holes_are_filled_one_after_the_other(self) -> None:
        wire = Wire()
        wire.established()
        for letter, lost in zip(b"abcdefgh", (1, 0, 1, 0, 0, 0, 0, 0), strict=True):
            wire.deaf = bool(lost)
            wire.send(wire.a, bytes([letter]) * MSS)
        wire.deaf = False
        started = wire.now
        wire.settle()
        assert wire.now - started < 0.1
        assert wire.b.stream == b"".join(bytes([letter]) * MSS for letter in b"abcdefgh")


class TestWindow:
    def test_no_more_than_the_peer_wants_and_a_probe_when_it_wants_nothing(self) -> None:
        tcp = TcpConnection.accept(0, MSS, TcpSegment(1, 2, 7, 0, SYN, 0, mss_option(MSS)), 0.0)
        tcp.receive(TcpSegment(1, 2, 8, 1, ACK, 150), 0.0)
        tcp.take()
        tcp.send(bytes(range(200)) + bytes(range(200)), 0.0)
        assert [len(step.data) for step in tcp.take() if isinstance(step, Transmit)] == [100, 50]
        tcp.receive(TcpSegment(1, 2, 8, 151, ACK, 0), 0.1)
        assert tcp.take() == []
        now = 0.1
        for _ in range(20):  # for longer than its patience: whoever answers probes lives
            assert tcp.deadline is not None
            now = tcp.deadline
            tcp.tick(now)
            (probe,) = tcp.take()
            assert isinstance(probe, Transmit)
            assert (probe.seq, probe.data) == (151, bytes((150,)))
            tcp.receive(TcpSegment(1, 2, 8, 151, ACK, 0), now)
            assert tcp.take() in ([], [probe])  # three answers look like three duplicates
        assert now > DATA_PATIENCE
        tcp.receive(TcpSegment(1, 2, 8, 151, ACK, 1000), now)
        octets = b"".join(step.data for step in tcp.take() if isinstance(step, Transmit))
        assert octets == bytes(range(151, 200)) + bytes(range(200))

    def test_an_older_segment_does_not_tell_the_window(self) -> None:
        wire = Wire()
        a, _ = wire.established()
        wire.send(wire.a, b"x" * 10)
        wire.settle()
        ack = a.snd_una & 0xFFFFFFFF
        a.receive(TcpSegment(1, 2, a.rcv_nxt & 0xFFFFFFFF, ack - 10, ACK, 3), wire.now)
        wire.sent.clear()
        wire.send(wire.a, b"y" * 50)
        assert len(wire.sent[0][1].data) == 50

    def test_early_data_is_kept_once_and_within_bounds(self) -> None:
        wire = Wire()
        _, b = wire.established()
        base = b.rcv_nxt
        ack = b.snd_nxt & 0xFFFFFFFF

        def hear(offset: int, data: bytes) -> None:
            b.receive(TcpSegment(1, 2, (base + offset) & 0xFFFFFFFF, ack, ACK, WINDOW, b"", data), wire.now)

        stream = bytes(index % 251 for index in range(WINDOW))
        for offset in range(2, 6000, 2):
            hear(offset, stream[offset : offset + 1])
        assert len(b._pieces) <= MOST_PIECES
        hear(WINDOW - 10, stream[WINDOW - 10 :] + b"beyond the window")
        hear(0, stream[:50])
        hear(40, stream[40:80])  # over some islands
        hear(80, stream[80:81])
        wire.collect(wire.b)
        assert wire.b.stream == stream[:81]
        hear(0, stream)
        wire.collect(wire.b)
        assert wire.b.stream == stream
        assert b._pieces == []

    def test_data_longer_than_the_window_is_cut(self) -> None:
        wire = Wire()
        _, b = wire.established()
        b.receive(
            TcpSegment(1, 2, b.rcv_nxt & 0xFFFFFFFF, b.snd_nxt & 0xFFFFFFFF, ACK, 9, b"", bytes(WINDOW + 5)), wire.now
        )
        wire.collect(wire.b)
        assert len(wire.b.stream) == WINDOW


class TestEnd:
    def test_four_states_on_each_side(self) -> None:
        wire = Wire()
        a, b = wire.established()
        wire.close(wire.a)
        assert a.state is TcpState.FIN_WAIT_1
        wire.settle()
        assert a.state is TcpState.TIME_WAIT
        assert b.state is TcpState.CLOSED
        assert wire.flags(wire.a) == [FIN | ACK, ACK]
        # Then it rests, and lets go.
        assert wire.a.events[-1] == Ended()
        wire.run()
        assert wire.a.over == [""]

    def test_both_close_at_once(self) -> None:
        wire = Wire()
        a, b = wire.established()
        wire.close(wire.a)
        wire.close(wire.b)
        wire.close(wire.b)
        wire.settle()
        assert a.state is b.state is TcpState.TIME_WAIT
        wire.run()
        assert wire.a.over == wire.b.over == [""]

    def test_one_side_closes_and_still_hears_the_other(self) -> None:
        wire = Wire()
        a, b = wire.established()
        a.close(wire.now)
        (fin,) = a.take()
        assert isinstance(fin, Transmit)
        b.receive(segment(fin), wire.now)
        assert b.state is TcpState.CLOSE_WAIT
        assert b.send(b"last words", wire.now)
        for step in b.take():
            if isinstance(step, Transmit):
                a.receive(segment(step), wire.now)
        wire.collect(wire.a)
        assert wire.a.stream == b"last words"
        assert a.state is TcpState.FIN_WAIT_2
        assert not a.send(b"no", wire.now)
        assert a.deadline == wire.now + FIN_WAIT

    def test_a_peer_that_never_closes_is_left(self) -> None:
        wire = Wire()
        a, b = wire.established()
        a.close(wire.now)
        (fin,) = a.take()
        assert isinstance(fin, Transmit)
        b.receive(segment(fin), wire.now)
        (ack, _) = b.take()
        assert isinstance(ack, Transmit)
        a.receive(segment(ack), wire.now)
        a.tick(wire.now + FIN_WAIT)
        assert a.take() == [Over("timed out")]

    def test_a_repeated_fin_is_answered_and_prolongs_the_rest(self) -> None:
        wire = Wire()
        a, _ = wire.established()
        wire.close(wire.a)
        wire.settle()
        fin = next(step for who, step in wire.sent if who is wire.b and step.flags & FIN)
        a.receive(segment(fin), wire.now + 30)
        assert a.deadline == wire.now + 30 + TIME_WAIT
        assert [step.flags for step in a.take() if isinstance(step, Transmit)] == [ACK]

    def test_the_fin_comes_before_the_data(self) -> None:
        wire = Wire()
        _, b = wire.established()
        base, ack = b.rcv_nxt, b.snd_nxt & 0xFFFFFFFF
        b.receive(TcpSegment(1, 2, (base + 4) & 0xFFFFFFFF, ack, FIN | ACK, WINDOW), wire.now)
        assert b.state is TcpState.ESTABLISHED
        b.receive(TcpSegment(1, 2, base & 0xFFFFFFFF, ack, ACK, WINDOW, b"", b"data"), wire.now)
        assert [step for step in b.take() if not isinstance(step, Transmit)] == [Received(b"data"), Ended()]

    def test_abort_resets_the_other(self) -> None:
        wire = Wire()
        a, _ = wire.established()
        a.abort(wire.now)
        a.abort(wire.now)
        wire.collect(wire.a)
        wire.settle()
        assert wire.a.over == ["connection aborted"]
        assert wire.b.over == ["connection reset by peer"]

    def test_abort_before_it_stands_says_nothing(self) -> None:
        tcp = TcpConnection.connect(0, MSS, 0.0)
        tcp.take()
        tcp.abort(0.1)
        assert tcp.take() == [Over("connection aborted")]


class TestForgery:
    """RFC 5961: what a blind attacker, or an old duplicate, can and cannot do."""

    def test_a_reset_must_hit_the_very_number(self) -> None:
        wire = Wire()
        a, _ = wire.established()
        here = a.rcv_nxt & 0xFFFFFFFF
        a.receive(TcpSegment(1, 2, here + 5, 0, RST, 0), wire.now)
        assert a.state is TcpState.ESTABLISHED
        (challenge,) = a.take()
        assert isinstance(challenge, Transmit)
        assert (challenge.flags, challenge.ack) == (ACK, here)
        a.receive(TcpSegment(1, 2, here - 1, 0, RST, 0), wire.now)  # outside: not even that
        assert a.take() == []
        a.receive(TcpSegment(1, 2, here, 0, RST, 0), wire.now)
        assert a.take() == [Over("connection reset by peer")]
        a.receive(TcpSegment(1, 2, here, 0, ACK, 0), wire.now)
        assert a.take() == []

    def test_a_reset_ends_the_rest(self) -> None:
        wire = Wire()
        a, _ = wire.established()
        wire.close(wire.a)
        wire.settle()
        a.receive(TcpSegment(1, 2, a.rcv_nxt & 0xFFFFFFFF, 0, RST, 0), wire.now)
        assert a.take() == [Over("")]

    def test_a_syn_is_challenged(self) -> None:
        wire = Wire()
        a, _ = wire.established()
        a.receive(TcpSegment(1, 2, a.rcv_nxt & 0xFFFFFFFF, 0, SYN, 0), wire.now)
        assert [step.flags for step in a.take() if isinstance(step, Transmit)] == [ACK]
        assert a.state is TcpState.ESTABLISHED

    def test_nothing_is_taken_without_ack(self) -> None:
        wire = Wire()
        a, _ = wire.established()
        a.receive(TcpSegment(1, 2, a.rcv_nxt & 0xFFFFFFFF, 0, PSH, 0, b"", b"data"), wire.now)
        assert a.take() == []

    def test_two_ends_that_are_led_astray_do_not_talk_for_ever(self) -> None:
        wire = Wire()
        a, b = wire.established()
        for end in (a, b):  # somebody has told each that the other had sent something
            end.receive(
                TcpSegment(1, 2, end.rcv_nxt & 0xFFFFFFFF, end.snd_nxt & 0xFFFFFFFF, ACK, 9, b"", b"lie"), wire.now
            )
        wire.collect(wire.a)
        wire.collect(wire.b)
        wire.settle()
        assert len(wire.sent) < 10
        wire.now += CHALLENGE_INTERVAL
        a.receive(TcpSegment(1, 2, a.rcv_nxt - 3 & 0xFFFFFFFF, a.snd_nxt & 0xFFFFFFFF, ACK, 9), wire.now)
        assert len(a.take()) == 1

    def test_an_acknowledgment_of_the_future_is_challenged(self) -> None:
        wire = Wire()
        a, _ = wire.established()
        future = (a.snd_nxt + 9) & 0xFFFFFFFF
        a.receive(TcpSegment(1, 2, a.rcv_nxt & 0xFFFFFFFF, future, ACK, 9, b"", b"data"), wire.now)
        assert [step.flags for step in a.take() if isinstance(step, Transmit)] == [ACK]

    @settings(max_examples=60, deadline=None)
    @given(
        segments=st.lists(
            st.tuples(
                st.one_of(st.integers(-3, 70_000), st.integers(0, 2**32 - 1)),
                st.one_of(st.integers(-3, 70_000), st.integers(0, 2**32 - 1)),
                st.integers(0, 0xFFF),
                st.integers(0, 65535),
                st.binary(max_size=40),
            ),
            max_size=40,
        ),
        opening=st.booleans(),
    )
    def test_no_segments_break_it(self, segments: list[tuple[int, int, int, int, bytes]], opening: bool) -> None:
        tcp = TcpConnection.connect(10, MSS, 0.0)
        if not opening:
            tcp.receive(TcpSegment(2, 1, 20, 11, SYN | ACK, 1000), 0.0)
            tcp.send(bytes(500), 0.0)
        over = 0
        for step, (seq, ack, flags, window, data) in enumerate(segments):
            tcp.receive(
                TcpSegment(
                    2, 1, tcp.rcv_nxt + seq & 0xFFFFFFFF, tcp.snd_una + ack & 0xFFFFFFFF, flags, window, b"", data
                ),
                float(step),
            )
            tcp.tick(float(step))
            over += sum(isinstance(output, Over) for output in tcp.take())
            assert tcp.snd_una <= tcp.snd_nxt
            assert sum(len(piece) for _, piece in tcp._pieces) <= WINDOW
        assert over == (tcp.state is TcpState.CLOSED)


def test_is_beyond() -> None:
    wire = Wire()
    a, _ = wire.established()
    assert a.is_beyond(TcpSegment(1, 2, a.rcv_nxt & 0xFFFFFFFF, 0, SYN, 0))
    assert not a.is_beyond(TcpSegment(1, 2, a.rcv_nxt - 1 & 0xFFFFFFFF, 0, SYN, 0))


def test_a_tick_before_its_time_does_nothing() -> None:
    tcp = TcpConnection.connect(0, MSS, 0.0)
    tcp.take()
    tcp.tick(0.5)
    assert tcp.take() == []
