"""What every SIP box has in common, on a box that only keeps what it is told."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pytest

from imslab.core import effects as fx
from imslab.core import events as ev
from imslab.core.entropy import SeededEntropy
from imslab.core.errors import LocalError, PeerError
from imslab.core.flow import Endpoint, Flow, Transport
from imslab.roles.base import LARGEST_DATAGRAM, SipNode, argument, mark_source, request_fault, warning
from imslab.roles.faults import FAULTS, Alter, Faults, declare
from imslab.sip.message import Message, Request, Response, response_to
from imslab.sip.parser import parse
from imslab.sip.transaction import Transaction

HERE, THERE = Endpoint("192.0.2.1", 5060), Endpoint("192.0.2.9", 5060)
UDP = Flow(Transport.UDP, HERE, THERE)
#: As the peer sees it, who opened it; and as we see it.
TCP = Flow(Transport.TCP, Endpoint("192.0.2.1", 5060), Endpoint("192.0.2.9", 40000))
OUT = Flow(Transport.TCP, Endpoint("192.0.2.1", 0), THERE)
STANDS = OUT._replace(local=Endpoint("192.0.2.1", 41000))


class Box(SipNode):
    """Keeps everything; does what `does` says."""

    role = "BOX"

    def __init__(self, faults: tuple[str, ...] = ()) -> None:
        super().__init__("box", SeededEntropy(1), faults)
        self.log: list[Any] = []
        self.answered: list[tuple[Transaction, Response | None]] = []
        self.alarms: list[Hashable] = []
        self.admits = True
        self.status = 200
        self.detours_to: Flow | None = None

    def then(self, txn: Transaction, response: Response | None, arrival: ev.Arrival | None) -> None:
        self.answered.append((txn, response))

    def admit(self, message: Message, arrival: ev.Arrival) -> bool:
        return self.admits

    def on_started(self) -> None:
        self.log.append(("started",))

    def on_request(self, txn: Transaction, request: Request, arrival: ev.Arrival) -> None:
        self.log.append(("request", request.method, txn))
        if request.method == "BREAK":
            _ = request.contact
        if self.status:
            self.respond(txn, self.status)

    def on_ack(self, request: Request, arrival: ev.Arrival) -> None:
        self.log.append(("ack", request.call_id))

    def on_cancel(self, invite: Transaction, cancel: Request, arrival: ev.Arrival) -> None:
        self.log.append(("cancel", invite))

    def on_alarm(self, key: Hashable) -> None:
        self.alarms.append(key)

    def on_event(self, event: ev.Event) -> None:
        self.log.append(("event", event))

    def on_stream_closed(self, flow: Flow, key: object, reason: str) -> None:
        self.log.append(("closed", flow, reason))

    def on_stream_open(self, asked: Flow, flow: Flow) -> None:
        self.log.append(("open", asked, flow))

    def on_time(self) -> None:
        self.log.append(("time",))

    def detour(self, flow: Flow) -> Flow | None:
        return self.detours_to


class Plain(SipNode):
    """Fills in nothing."""

    role = "PLAIN"


def make(
    method: str = "MESSAGE", *, via: str = "SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKa", body: bytes = b""
) -> Request:
    return Request(
        method,
        "sip:box@192.0.2.1",
        [
            ("Via", via),
            ("From", "<sip:a@example.org>;tag=a"),
            ("To", "<sip:b@example.org>"),
            ("Call-ID", "c1"),
            ("CSeq", f"1 {method}"),
        ],
        body,
    )


def give(box: SipNode, message: Message | bytes, flow: Flow = UDP, now: float = 0.0) -> list[fx.Effect]:
    octets = message if isinstance(message, bytes) else message.encode()
    box.handle(ev.Arrival(flow, octets), now)
    return box.take()


def sent(effects: list[fx.Effect]) -> list[Message]:
    return [parse(effect.octets) for effect in effects if isinstance(effect, fx.Send)]


def requests(effects: list[fx.Effect]) -> list[Request]:
    return [each for each in sent(effects) if isinstance(each, Request)]


def kinds(effects: list[fx.Effect]) -> list[str]:
    return [effect.kind for effect in effects if isinstance(effect, fx.Emit)]


def statuses(effects: list[fx.Effect]) -> list[int]:
    return [each.status for each in sent(effects) if isinstance(each, Response)]


# ------------------------------------------------------------------------------------------------------ what is given


def test_a_box_that_fills_in_nothing() -> None:
    box = Plain("plain", SeededEntropy(1))
    for event in (ev.Started(), ev.Timer(), ev.Committed(1), ev.Connected(TCP), ev.Closed(TCP)):
        box.handle(event, 0.0)
        assert box.take() == []
    box.handle(ev.Command("fly"), 0.0)
    assert kinds(box.take()) == ["unknown-command"]
    effects = give(box, make())
    assert statuses(effects) == [501]
    assert isinstance(effects[0], fx.Send)
    assert effects[0].flow == UDP
    assert give(box, make("ACK")) == []
    invite = make("INVITE", via="SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKi")
    assert statuses(give(box, invite)) == [501]
    box.set_alarm("x", 1)
    box.handle(ev.Timer(), 1.0)
    assert box.hop_of(UDP) == "Mw"


def test_events_and_commands_reach_the_role() -> None:
    box = Box()
    box.handle(ev.Started(), 0.0)
    box.handle(ev.SasInstalled(1), 0.0)
    assert box.log == [("started",), ("event", ev.SasInstalled(1))]

    class Commanded(Box):
        def on_command(self, name: str, arguments: Mapping[str, Any]) -> None:
            raise PeerError("even so", clause="x")

    other = Commanded()
    other.handle(ev.Command("x"), 0.0)
    assert kinds(other.take()) == ["peer-error"]


# -------------------------------------------------------------------------------------------------------- requests in


def test_request_is_answered_once_and_repeated_for_repetitions() -> None:
    box = Box()
    first = give(box, make())
    second = give(box, make())
    assert statuses(first) == statuses(second) == [200]
    assert first[0] == second[0]
    assert [entry[0] for entry in box.log] == ["request"]
    (answer,) = sent(first)
    assert answer.to.tag
    assert answer.via[0].branch == "z9hG4bKa"


def test_tags_of_answers() -> None:
    box = Box()
    box.status = 0
    give(box, make())
    txn = box.log[0][2]
    box.respond(txn, 100)
    box.respond(txn, 180, to_tag="mine", body=b"x")
    box.respond(txn, 200, "Fine", to_tag="mine", headers=[("X", "1")])
    trying, ringing, final = sent(box.take())
    assert trying.to.tag is None
    assert ringing.to.tag == final.to.tag == "mine"
    assert ringing.body == b"x"
    assert isinstance(final, Response)
    assert (final.reason, final.get("X")) == ("Fine", "1")


def test_role_may_refuse_to_see_a_message() -> None:
    box = Box()
    box.admits = False
    assert give(box, make()) == []
    assert give(box, response_to(make(), 200)) == []
    assert box.log == []


@pytest.mark.parametrize(
    "change",
    [
        ("From", None),
        ("To", None),
        ("Call-ID", None),
        ("CSeq", None),
        ("CSeq", "1 INVITE"),
        ("CSeq", "x MESSAGE"),
        ("From", "<"),
        ("Max-Forwards", "x"),
    ],
)
def test_unsound_request_is_answered_400(change: tuple[str, str | None]) -> None:
    box = Box()
    request = make()
    name, value = change
    if value is None:
        request.remove(name)
    else:
        request.set(name, value)
    assert request_fault(parse(request.encode())) is not None  # type: ignore[arg-type]
    effects = give(box, request)
    assert kinds(effects) == ["malformed"]
    assert statuses(effects) == [400]
    assert (sent(effects)[0].get("Warning") or "").startswith("399 box ")
    assert box.log == []


def test_unsound_request_that_cannot_be_answered() -> None:
    box = Box()
    for value in (None, "nonsense", ","):
        request = make()
        if value is None:
            request.remove("Via")
        else:
            request.set("Via", value)
        effects = give(box, request)
        assert kinds(effects) == ["malformed"]
        assert statuses(effects) == []
    ack = make("ACK")
    ack.remove("From")
    assert statuses(give(box, ack)) == []
    box.admits = False
    broken = make()
    broken.remove("From")
    assert statuses(give(box, broken)) == []


def test_octets_that_are_no_message() -> None:
    box = Box()
    assert kinds(give(box, b"nonsense\r\n\r\n")) == ["malformed"]
    for keep_alive in (b"\r\n\r\n", b"\0", b"", b"\r\n"):
        assert give(box, keep_alive) == []


def test_role_that_finds_a_fault_later() -> None:
    box = Box()
    request = make("BREAK")
    request.add("Contact", "<")
    effects = give(box, request)
    assert kinds(effects) == ["malformed"]
    assert statuses(effects) == [400]


def test_ack() -> None:
    box = Box()
    box.status = 486
    invite = make("INVITE")
    assert statuses(give(box, invite)) == [486]
    ack = make("ACK")
    assert give(box, ack) == []  # it acknowledges a failure: the transaction's affair
    assert box.log[1:] == []
    other = make("ACK", via="SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKnew")
    give(box, other)
    assert box.log[1:] == [("ack", "c1")]
    box.status = 200
    give(box, make("INVITE", via="SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK2"))
    give(box, make("ACK", via="SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK2"))
    assert box.log[-1] == ("ack", "c1")


def test_cancel() -> None:
    box = Box()
    box.status = 0
    give(box, make("INVITE"))
    invite = box.log[0][2]
    assert statuses(give(box, make("CANCEL"))) == [200]
    assert box.log[-1] == ("cancel", invite)
    assert statuses(give(box, make("CANCEL", via="SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKnone"))) == [481]


# ------------------------------------------------------------------------------------------------------------ sources


@pytest.mark.parametrize(
    ("via", "marked"),
    [
        ("SIP/2.0/UDP 192.0.2.9:7;branch=b", "SIP/2.0/UDP 192.0.2.9:7;branch=b"),
        ("SIP/2.0/UDP 10.0.0.1:7;branch=b", "SIP/2.0/UDP 10.0.0.1:7;branch=b;received=192.0.2.9"),
        ("SIP/2.0/UDP ue.example.org;branch=b", "SIP/2.0/UDP ue.example.org;branch=b;received=192.0.2.9"),
        ("SIP/2.0/UDP 192.0.2.9:7;rport;branch=b", "SIP/2.0/UDP 192.0.2.9:7;rport=5060;branch=b;received=192.0.2.9"),
    ],
)
def test_source_is_marked(via: str, marked: str) -> None:
    request = make(via=via)
    request.add("Via", "SIP/2.0/UDP first.example.org;branch=x")
    mark_source(request, UDP)
    assert [str(each) for each in request.via] == [marked, "SIP/2.0/UDP first.example.org;branch=x"]


def test_source_of_ipv6_in_another_spelling() -> None:
    flow = Flow(Transport.UDP, Endpoint("2001:db8::1", 5060), Endpoint("2001:db8::2", 5060))
    request = make(via="SIP/2.0/UDP [2001:DB8:0::2]:5060;branch=b")
    mark_source(request, flow)
    assert "received" not in request.via[0].params


def test_warning_is_safe_to_send() -> None:
    name, value = warning("box", PeerError('a "quoted" \\ \r\n ü text'))
    assert name == "Warning"
    assert value == "399 box \"a 'quoted'   ?? ? text\""


# ------------------------------------------------------------------------------------------------------- requests out


def test_request_and_its_answers() -> None:
    box = Box()
    txn = box.request(make("OPTIONS", via="SIP/2.0/UDP old;branch=b"), UDP, box.then, via_params=";x=1")
    assert txn is not None
    (message,) = sent(box.take())
    via = message.via[0]
    assert (via.sent_by, via.transport, via.params["x"]) == ("192.0.2.1:5060", "UDP", "1")
    assert (via.branch or "").startswith("z9hG4bK")
    assert len(message.via) == 2
    assert isinstance(message, Request)
    for status in (100, 200):
        give(box, response_to(message, status))
    assert [response.status for _, response in box.answered if response] == [100, 200]
    assert give(box, response_to(message, 200)) == []  # a repetition
    stray = make("OPTIONS", via="SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKstray")
    assert kinds(give(box, response_to(stray, 200))) == ["stray-answer"]


def test_request_that_nobody_answers() -> None:
    box = Box()
    box.request(make(), UDP, box.then, sent_by=Endpoint("198.51.100.1", 1))
    assert sent(box.take())[0].via[0].sent_by == "198.51.100.1:1"
    while (when := box.next_timer()) is not None:
        box.handle(ev.Timer(), when)
    assert [response for _, response in box.answered] == [None]
    assert box.now == 32.0


def test_answer_without_via() -> None:
    box = Box()
    response = response_to(make(), 200)
    response.remove("Via")
    assert kinds(give(box, response)) == ["peer-error"]


def test_ack_is_sent_without_a_transaction() -> None:
    box = Box()
    box.send_ack(make("ACK"), UDP, sent_by=THERE)
    (message,) = sent(box.take())
    assert message.via[0].sent_by == str(THERE)
    assert len(box.transactions) == 0


@pytest.mark.parametrize("params", ["", ";rport"])
def test_size_of_a_datagram_counts_our_via(params: str) -> None:
    box = Box()
    for body in range(1000, 1300):
        request = make(body=b"x" * body)
        fits = box.suits_datagram(request, HERE, params)
        box.request(request, UDP._replace(local=HERE), box.then, via_params=params)
        (send,) = [effect for effect in box.take() if isinstance(effect, fx.Send)]
        assert fits == (len(send.octets) <= LARGEST_DATAGRAM)


# ------------------------------------------------------------------------------------------------------------ faults


def with_fault(monkeypatch: pytest.MonkeyPatch, alter: Alter) -> Box:
    monkeypatch.setattr("imslab.roles.faults.FAULTS", dict(FAULTS))
    declare("box-fault", "BOX", "for this test", alter)
    return Box(("box-fault",))


def test_fault_alters_everything_that_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    hops: list[str] = []

    def alter(message: Message, hop: str) -> Message:
        hops.append(hop)
        message.set("X-Wrong", "1")
        return message

    box = with_fault(monkeypatch, alter)
    box.request(make(), UDP, box.then)
    box.send_ack(make("ACK"), UDP)
    effects = box.take() + give(box, make())
    broken = make(via="SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKq")
    broken.remove("From")
    effects += give(box, broken)
    assert [message.get("X-Wrong") for message in sent(effects)] == ["1"] * 4
    assert hops == ["Mw"] * 4


def test_fault_swallows(monkeypatch: pytest.MonkeyPatch) -> None:
    box = with_fault(monkeypatch, lambda message, hop: None)
    assert box.request(make(), UDP, box.then) is None
    box.send_ack(make("ACK"), UDP)
    assert sent(box.take()) == []
    assert sent(give(box, make())) == []
    assert Faults(("box-fault",)).alter(make(), "Mw") is None


def test_later_faults_see_nothing_of_what_was_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imslab.roles.faults.FAULTS", dict(FAULTS))
    seen: list[Message] = []

    def look(message: Message, hop: str) -> Message:
        seen.append(message)
        return message

    declare("box-a", "BOX", "swallows", lambda message, hop: None)
    declare("box-b", "BOX", "looks", look)
    assert Faults(("box-b", "box-a"), "BOX").alter(make(), "Mw") is None
    assert seen == []


# ------------------------------------------------------------------------------------------------------------ streams


def opened(box: Box, flow: Flow = TCP) -> None:
    box.handle(ev.Connected(flow), 0.0)
    box.take()


def test_stream_of_the_peer() -> None:
    box = Box()
    opened(box)
    octets = make(via="SIP/2.0/TCP 192.0.2.9;branch=z9hG4bKa").encode()
    effects: list[fx.Effect] = []
    for i in range(len(octets)):
        effects += give(box, octets[i : i + 1], TCP)
    assert [effect.flow for effect in effects if isinstance(effect, fx.Send)] == [TCP]
    assert statuses(effects) == [200]
    two = (
        make(via="SIP/2.0/TCP 192.0.2.9;branch=z9hG4bKb").encode() + make(via="SIP/2.0/TCP h;branch=z9hG4bKc").encode()
    )
    assert statuses(give(box, two, TCP)) == [200, 200]
    assert box.streams() == [TCP]


def test_what_one_message_of_a_stream_spoils_is_not_spoilt_for_the_next() -> None:
    class Reader(Box):
        def then(self, txn: Transaction, response: Response | None, arrival: ev.Arrival | None) -> None:
            super().then(txn, response, arrival)
            assert response is None or response.p_associated_uri

        def on_ack(self, request: Request, arrival: ev.Arrival) -> None:
            assert request.route

    box = Reader()
    opened(box)
    for _ in range(2):
        box.request(make("OPTIONS"), TCP, box.then)
    first, second = (response_to(each, 200, headers=[("P-Associated-URI", "<")]) for each in requests(box.take()))
    ack = make("ACK", via="SIP/2.0/TCP 192.0.2.9;branch=z9hG4bKack")
    ack.add("Route", "<")
    last = make(via="SIP/2.0/TCP 192.0.2.9;branch=z9hG4bKlast")
    effects = give(box, b"".join(each.encode() for each in (first, ack, second, last)), TCP)
    assert kinds(effects) == ["peer-error"] * 3
    assert len(box.answered) == 2
    assert statuses(effects) == [200]


def test_all_who_wait_for_a_connection_hear_of_its_end() -> None:
    class Reader(Box):
        def then(self, txn: Transaction, response: Response | None, arrival: ev.Arrival | None) -> None:
            super().then(txn, response, arrival)
            raise PeerError("cannot be read")

    box = Reader()
    for _ in range(2):
        box.request(make(), OUT, box.then)
    box.handle(ev.Closed(STANDS, "refused", OUT), 0.0)
    assert len(box.answered) == 2
    assert kinds(box.take()) == ["peer-error"] * 2


def test_ping_is_answered_with_pong() -> None:
    box = Box()
    opened(box)
    assert give(box, b"\r\n\r\n", TCP) == [fx.Send(TCP, b"\r\n")]


def test_stream_that_cannot_be_followed_is_closed() -> None:
    box = Box()
    opened(box)
    effects = give(box, make().encode() + b"nonsense\r\nContent-Length: x\r\n\r\n", TCP)
    assert "malformed" in kinds(effects)
    assert fx.Close(TCP) in effects
    assert box.streams() == []
    assert give(box, make().encode(), TCP) == []  # what was under way
    opened(box)
    effects = give(box, b"MESSAGE sip:x SIP/2.0\r\nContent-Length: x\r\n\r\n", TCP)
    assert fx.Close(TCP) in effects


def test_octets_of_a_stream_that_is_not_sip() -> None:
    box = Box()
    got: list[bytes] = []
    box.open_stream(OUT, got.append)
    box.handle(ev.Connected(STANDS, OUT), 0.0)
    give(box, b"\x01\x02", STANDS)
    assert got == [b"\x01\x02"]


def test_stream_of_ours_is_opened_once_and_found_by_both_names() -> None:
    box = Box()
    for branch in "ab":
        box.request(make(via=f"SIP/2.0/UDP x;branch={branch}"), OUT, box.then)
    effects = box.take()
    assert [type(effect).__name__ for effect in effects] == ["Connect"]
    box.handle(ev.Connected(STANDS, OUT), 0.0)
    effects = box.take()
    assert [effect.flow for effect in effects if isinstance(effect, fx.Send)] == [STANDS, STANDS]
    assert box.log[-1] == ("open", OUT, STANDS)
    assert box.has_stream(OUT)
    assert box.has_stream(STANDS)
    box.request(make(), OUT, box.then)
    assert [effect.flow for effect in box.take() if isinstance(effect, fx.Send)] == [STANDS]
    # The end of it is the end of all requests on it, by whichever name they were sent.
    box.handle(ev.Closed(STANDS, "reset"), 0.0)
    assert [response for _, response in box.answered] == [None, None, None]
    assert box.log[-1] == ("closed", STANDS, "reset")
    assert not box.has_stream(OUT)


def test_refused_connection_fails_what_waited_for_it() -> None:
    box = Box()
    box.request(make(), OUT, box.then)
    box.handle(ev.Closed(STANDS, "refused", OUT), 0.0)
    assert [response for _, response in box.answered] == [None]
    assert box.log[-1] == ("closed", OUT, "refused")
    assert box.streams() == []


def test_stream_is_closed_by_either_name() -> None:
    for name in (OUT, STANDS):
        box = Box()
        box.open_stream(OUT)
        box.handle(ev.Connected(STANDS, OUT), 0.0)
        box.take()
        box.close_stream(name)
        box.close_stream(name)
        assert box.take() == [fx.Close(STANDS)]
        assert not box.has_stream(OUT)


def test_answer_whose_stream_is_gone() -> None:
    for detour in (None, UDP):
        box = Box()
        box.status = 0
        box.detours_to = detour
        opened(box)
        give(box, make(via="SIP/2.0/TCP 192.0.2.9;branch=z9hG4bKa"), TCP)
        txn = box.log[-1][2]
        box.handle(ev.Closed(TCP), 0.0)
        box.respond(txn, 200)
        effects = box.take()
        if detour is None:
            assert kinds(effects) == ["answer-lost"]
        else:
            assert [effect.flow for effect in effects if isinstance(effect, fx.Send)] == [UDP]
    assert Plain("plain", SeededEntropy(1)).detour(TCP) is None


# ---------------------------------------------------------------------------------------------------- time and names


def test_alarms_that_are_moved_again_and_again_take_no_room() -> None:
    box = Box()
    box.set_alarm("late", 900)
    for number in range(10_000):
        box.set_alarm("moved", 1000 + number)
        box.set_alarm(("once", number), 5000)
        box.clear_alarm(("once", number))
    assert len(box._alarm_heap) < 100
    assert box.next_timer() == 900
    for time in (900.0, 10_998.0, 10_999.0):
        box.handle(ev.Timer(), time)
    assert box.alarms == ["late", "moved"]
    assert box.next_timer() is None


def test_alarms() -> None:
    box = Box()
    box.set_alarm("b", 2)
    box.set_alarm("a", 1)
    box.set_alarm(("c", 3), 2)
    box.set_alarm("gone", 1)
    box.clear_alarm("gone")
    box.clear_alarm("never set")
    assert (box.alarm("a"), box.alarm("gone")) == (1, None)
    assert box.next_timer() == 1
    box.handle(ev.Timer(), 1.5)
    assert box.alarms == ["a"]
    box.set_alarm("b", 5)  # moved
    box.handle(ev.Timer(), 6.0)
    assert box.alarms == ["a", ("c", 3)]
    box.handle(ev.Timer(), 6.5)
    assert box.alarms == ["a", ("c", 3), "b"]
    assert box.next_timer() is None
    assert box.log.count(("time",)) == 3


def test_names() -> None:
    box = Box()
    found: list[Endpoint | None] = []
    box.resolve("[2001:DB8::1]", 7, Transport.UDP, found.append)
    assert found == [Endpoint("2001:db8::1", 7)]
    assert box.take() == []
    for port in (5060, 0, 7):
        box.resolve("scscf.example.org", port, Transport.UDP, found.append)
    assert box.take() == [fx.Resolve("scscf.example.org", 5060, Transport.UDP)]  # asked once
    box.handle(ev.Resolved("scscf.example.org", (Endpoint("192.0.2.7", 6060), Endpoint("192.0.2.8", 1))), 0.0)
    assert found[1:] == [Endpoint("192.0.2.7", 5060), Endpoint("192.0.2.7", 6060), Endpoint("192.0.2.7", 7)]
    box.resolve("nobody.example.org", 5060, Transport.UDP, found.append)
    box.handle(ev.Resolved("nobody.example.org", ()), 0.0)
    assert found[-1] is None
    box.handle(ev.Resolved("unasked.example.org", ()), 0.0)


def test_a_command_without_its_argument_is_our_caller_s_mistake() -> None:
    assert argument({"to": "sip:a@b"}, "to") == "sip:a@b"
    with pytest.raises(LocalError, match="needs an argument 'to'"):
        argument({}, "to")
