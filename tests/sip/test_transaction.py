"""The four machines of RFC 3261 17 (and RFC 6026), played row by row against times worked out by hand."""

from __future__ import annotations

import pytest

from imslab.core.errors import LocalError, PeerError
from imslab.core.flow import Endpoint, Flow, Transport
from imslab.sip import transaction as tx
from imslab.sip.message import Request, Response, response_to
from imslab.sip.parser import parse
from imslab.sip.transaction import (
    CLIENT,
    GM_TIMERS,
    INVITE_CLIENT,
    INVITE_SERVER,
    SERVER,
    TIMER_C,
    Input,
    State,
    Timers,
    Transaction,
    Transactions,
)

UDP = Flow(Transport.UDP, Endpoint("192.0.2.1", 5060), Endpoint("192.0.2.2", 5060))
TCP = Flow(Transport.TCP, Endpoint("192.0.2.1", 40000), Endpoint("192.0.2.2", 5060))
BRANCH = "z9hG4bKa1"


class Layer:
    """A transaction layer on a virtual clock; what it sends is kept with its time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sent: list[tuple[float, bytes]] = []
        self.flows: list[Flow] = []
        self.failed: list[Transaction] = []
        self.layer = Transactions(self.transmit)

    def transmit(self, flow: Flow, octets: bytes) -> None:
        self.sent.append((self.now, octets))
        self.flows.append(flow)

    def run(self, until: float) -> None:
        while (when := self.layer.next_timer()) is not None and when <= until:
            self.now = max(self.now, when)
            self.failed += self.layer.expire(self.now)
        self.now = until

    def times(self, start: bytes = b"") -> list[float]:
        return [when for when, octets in self.sent if octets.startswith(start)]

    def send(self, method: str = "MESSAGE", flow: Flow = UDP, **more: Timers) -> Transaction:
        return self.layer.send_request(make(method), flow, self.now, **more)

    def get(self, status: int, request: Request | None = None) -> Transaction | None:
        request = request or make("MESSAGE")
        return self.layer.receive_response(answer(request, status), self.now)

    def receive(self, request: Request, flow: Flow = UDP) -> Transaction | None:
        return self.layer.receive_request(request, flow, self.now)

    def answer(self, txn: Transaction, status: int, **more: Flow) -> bool:
        return self.layer.send_response(txn, response_to(txn.request, status, to_tag="us"), self.now, **more)


def make(method: str = "MESSAGE", branch: str = BRANCH, to_tag: str = "", uri: str = "sip:b@example.org") -> Request:
    return Request(
        method,
        uri,
        [
            ("Via", f"SIP/2.0/UDP 192.0.2.1:5060{';branch=' + branch if branch else ''}"),
            ("Route", "<sip:p.example.org;lr>"),
            ("From", "<sip:a@example.org>;tag=a"),
            ("To", f"<sip:b@example.org>{';tag=' + to_tag if to_tag else ''}"),
            ("Call-ID", "c1"),
            ("CSeq", f"7 {method}"),
        ],
    )


def answer(request: Request, status: int) -> Response:
    return response_to(request, status, to_tag="them")


# ------------------------------------------------------------------------------------------------- the tables


@pytest.mark.parametrize("table", [INVITE_CLIENT, CLIENT, INVITE_SERVER, SERVER])
def test_table_is_closed(table: tx.Table) -> None:
    """Whatever state a row leads to is left again by some row, except the last one."""
    reached = {after for _, after in table.values()}
    left = {state for state, _ in table}
    assert State.TERMINATED in reached
    assert reached - {State.TERMINATED} <= left
    assert State.TERMINATED not in left


# ------------------------------------------------------------------------------------------------- client, non-INVITE


def test_request_repeats_until_timer_f_over_udp() -> None:
    # RFC 3261 17.1.2.2: T1, doubling to T2 = 4 s, given up after 64·T1 = 32 s.
    link = Layer()
    txn = link.send()
    link.run(100)
    assert link.times() == [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert link.failed == [txn]
    assert txn.response is None
    assert len(link.layer) == 0
    assert link.layer.next_timer() is None


def test_request_repeats_slower_on_gm() -> None:
    # 24.229 Table 7.7.1: T1 = 2 s, T2 = 16 s, so after 2, 4, 8, 16, 16, … s; timer F 128 s.
    link = Layer()
    link.send(timers=GM_TIMERS)
    link.run(127)
    assert link.times() == [0, 2, 6, 14, 30, 46, 62, 78, 94, 110, 126]
    assert not link.failed
    link.run(128)
    assert len(link.failed) == 1


def test_request_goes_once_over_a_stream() -> None:
    link = Layer()
    txn = link.send(flow=TCP)
    link.run(31.9)
    assert link.times() == [0]
    link.run(32)
    assert link.failed == [txn]


def test_provisional_answer_slows_repetition_down_to_t2() -> None:
    link = Layer()
    txn = link.send()
    link.run(0.6)
    assert link.get(100) is txn
    assert txn.state is State.PROCEEDING
    assert txn.response is not None
    assert txn.response.status == 100
    link.run(40)
    # Timer E goes on as it was set (at 1.5 s), from then on it is T2; timer F still ends it at 32 s.
    assert link.times() == [0, 0.5, 1.5, 5.5, 9.5, 13.5, 17.5, 21.5, 25.5, 29.5]
    assert link.failed == [txn]


@pytest.mark.parametrize("status", [200, 404])
@pytest.mark.parametrize("provisional", [False, True])
@pytest.mark.parametrize("flow", [UDP, TCP])
def test_final_answer_is_told_once(status: int, provisional: bool, flow: Flow) -> None:
    link = Layer()
    txn = link.send(flow=flow)
    if provisional:
        assert link.get(100) is txn
        assert link.get(180) is txn  # a second one is told too
    assert link.get(status) is txn
    assert txn.state is State.COMPLETED
    assert link.get(status) is None  # repetition
    assert link.layer.knows_response(answer(make(), status)) is True
    # Timer K: T4 = 5 s over UDP, nothing over a stream.
    link.run(4.9 if flow is UDP else 0)
    assert len(link.layer) == (1 if flow is UDP else 0)
    link.run(60)
    assert len(link.layer) == 0
    assert not link.failed
    assert link.times() == [0]
    assert link.layer.knows_response(answer(make(), status)) is False


@pytest.mark.parametrize("provisional", [False, True])
def test_broken_transport_fails_requests_on_it(provisional: bool) -> None:
    link = Layer()
    txn = link.send(flow=TCP)
    other = link.layer.send_request(make("OPTIONS", "z9hG4bKother"), UDP, 0.0)
    if provisional:
        link.get(100)
    assert link.layer.transport_failed(TCP, 0.0) == [txn]
    assert txn.state is State.TERMINATED
    assert txn.response is None
    assert other.state is State.TRYING
    assert link.layer.transport_failed(TCP, 0.0) == []


def test_broken_transport_after_the_answer_is_no_failure() -> None:
    link = Layer()
    link.send(flow=TCP)
    link.get(200)
    assert link.layer.transport_failed(TCP, 0.0) == []


def test_answer_to_nothing_of_ours() -> None:
    link = Layer()
    link.send()
    stranger = make(branch="z9hG4bKstranger")
    assert link.get(200, stranger) is None
    assert link.layer.knows_response(answer(stranger, 200)) is False
    # RFC 3261 17.1.3: the branch alone is not enough, CSeq's method counts (a CANCEL has its INVITE's branch).
    assert link.get(200, make("CANCEL")) is None


def test_answer_without_via_is_the_peers_fault() -> None:
    response = answer(make(), 200)
    response.remove("Via")
    with pytest.raises(PeerError):
        Layer().layer.receive_response(response, 0.0)


def test_branch_is_used_once() -> None:
    link = Layer()
    link.send()
    with pytest.raises(LocalError, match="new branch"):
        link.send()
    assert len(link.sent) == 1


def test_context_stays_with_its_transaction() -> None:
    link = Layer()
    txn = link.layer.send_request(make(), UDP, 0.0, context="mine")
    assert link.get(200) is txn
    assert txn.context == "mine"
    assert "MESSAGE" in repr(txn)
    assert txn.is_invite is False


# ----------------------------------------------------------------------------------------------------- client, INVITE


def test_invite_repeats_until_timer_b() -> None:
    # RFC 3261 17.1.1.2: doubles without bound, given up after 64·T1.
    link = Layer()
    txn = link.send("INVITE")
    assert txn.is_invite
    link.run(100)
    assert link.times() == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert link.failed == [txn]


def test_invite_over_a_stream_goes_once() -> None:
    link = Layer()
    txn = link.send("INVITE", TCP)
    link.run(100)
    assert link.times() == [0]
    assert link.failed == [txn]


def test_ringing_stops_repetition_and_starts_timer_c() -> None:
    link = Layer()
    txn = link.send("INVITE")
    assert link.get(180, make("INVITE")) is txn
    link.run(170)
    assert link.times() == [0]
    assert link.get(180, make("INVITE")) is txn  # RFC 3261 16.7 item 2: each provisional answer resets timer C
    link.run(170 + TIMER_C - 0.1)
    assert not link.failed
    link.run(170 + TIMER_C)
    assert link.failed == [txn]


@pytest.mark.parametrize("ringing", [False, True])
def test_failure_is_acknowledged_by_the_transaction(ringing: bool) -> None:
    link = Layer()
    invite = make("INVITE")
    txn = link.send("INVITE")
    if ringing:
        link.get(180, invite)
    assert link.get(486, invite) is txn
    link.now = 3.0
    assert link.get(486, invite) is None  # repetition: acknowledged again, not told again
    assert link.times(b"ACK") == [0, 3]
    ack = parse(link.sent[-1][1])
    assert isinstance(ack, Request)
    # RFC 3261 17.1.1.3: Request-URI, From, Call-ID, CSeq number, Route of the INVITE; To of the answer; one Via.
    assert ack.uri == "sip:b@example.org"
    assert [str(via) for via in ack.via] == [f"SIP/2.0/UDP 192.0.2.1:5060;branch={BRANCH}"]
    assert ack.to.tag == "them"
    assert ack.from_.tag == "a"
    assert (ack.call_id, ack.cseq.number) == ("c1", 7)
    assert ack.rows("Route") == ["<sip:p.example.org;lr>"]
    # Timer D: at least 32 s over UDP.
    link.run(31.9)
    assert len(link.layer) == 1
    link.run(32)
    assert len(link.layer) == 0


def test_timer_d_is_zero_over_a_stream_and_long_on_gm() -> None:
    link = Layer()
    link.send("INVITE", TCP)
    link.get(486, make("INVITE"))
    link.run(0)
    assert len(link.layer) == 0
    link.send("INVITE", timers=GM_TIMERS)
    link.get(486, make("INVITE"))
    link.run(127.9)
    assert len(link.layer) == 1
    link.run(128)
    assert len(link.layer) == 0


@pytest.mark.parametrize("ringing", [False, True])
@pytest.mark.parametrize("flow", [UDP, TCP])
def test_each_2xx_is_told_for_64_t1(ringing: bool, flow: Flow) -> None:
    # RFC 6026 7.2: a 2xx keeps the transaction in Accepted, so that its repetitions reach the one who sends the ACK.
    link = Layer()
    invite = make("INVITE")
    txn = link.send("INVITE", flow)
    if ringing:
        link.get(180, invite)
    assert link.get(200, invite) is txn
    assert txn.state is State.ACCEPTED
    link.run(31.9)
    assert link.get(200, invite) is txn
    assert link.get(486, invite) is None
    link.run(32)
    assert len(link.layer) == 0
    assert link.times(b"ACK") == []  # the ACK of a 2xx is not the transaction's
    assert not link.failed


@pytest.mark.parametrize("ringing", [False, True])
def test_invite_on_a_broken_stream(ringing: bool) -> None:
    link = Layer()
    txn = link.send("INVITE", TCP)
    if ringing:
        link.get(180, make("INVITE"))
    assert link.layer.transport_failed(TCP, 0.0) == [txn]


# --------------------------------------------------------------------------------------------------- server, other


@pytest.mark.parametrize("flow", [UDP, TCP])
def test_repeated_request_gets_the_same_answer(flow: Flow) -> None:
    link = Layer()
    txn = link.receive(make(), flow)
    assert txn is not None
    assert txn.state is State.TRYING
    assert link.receive(make(), flow) is None
    assert link.sent == []  # nothing said yet, nothing to repeat
    assert link.answer(txn, 183)
    assert link.receive(make(), flow) is None
    assert link.answer(txn, 180)
    assert link.receive(make(), flow) is None
    assert link.answer(txn, 200)
    assert txn.response is not None
    assert txn.response.status == 200
    if flow is UDP:
        assert link.receive(make(), flow) is None
    else:
        link.run(0)
    assert [octets.split(b" ", 2)[1] for _, octets in link.sent] == [b"183", b"183", b"180", b"180", b"200"] + (
        [b"200"] if flow is UDP else []
    )
    # It has said its last.
    assert link.answer(txn, 500) is False
    # Timer J: 64·T1 over UDP, nothing over a stream.
    link.run(31.9)
    assert len(link.layer) == (1 if flow is UDP else 0)
    link.run(32)
    assert len(link.layer) == 0
    assert isinstance(link.receive(make(), flow), Transaction)  # known no more: a new one


def test_failure_at_once_and_after_a_provisional() -> None:
    link = Layer()
    for branch in ("z9hG4bK1", "z9hG4bK2"):
        txn = link.receive(make(branch=branch))
        assert txn is not None
        if branch.endswith("2"):
            link.answer(txn, 100)
        assert link.answer(txn, 404)
        assert txn.state is State.COMPLETED


def test_success_straight_from_trying() -> None:
    link = Layer()
    txn = link.receive(make())
    assert txn is not None
    assert link.answer(txn, 200)


def test_answer_can_be_given_another_way() -> None:
    link = Layer()
    txn = link.receive(make(), TCP)
    assert txn is not None
    other = TCP._replace(local=Endpoint("192.0.2.1", 41000))
    link.answer(txn, 180, flow=other)
    link.receive(make(), TCP)
    assert link.flows == [other, other]


def test_request_without_via_is_the_peers_fault() -> None:
    request = make()
    request.remove("Via")
    with pytest.raises(PeerError):
        Layer().receive(request)


def test_other_sent_by_with_the_same_branch_is_another_transaction() -> None:
    # RFC 3261 17.2.3: the sent-by counts, because a peer may choose somebody else's branch.
    link = Layer()
    assert link.receive(make()) is not None
    other = make()
    other.replace("Via", [f"SIP/2.0/UDP 192.0.2.9:5060;branch={BRANCH}"])
    assert link.receive(other) is not None
    assert len(link.layer) == 2


# --------------------------------------------------------------------------------------------------- server, INVITE


def test_failure_is_repeated_until_acknowledged() -> None:
    # RFC 3261 17.2.1: timer G from T1, doubling to T2; timer H 64·T1.
    link = Layer()
    txn = link.receive(make("INVITE"))
    assert txn is not None
    assert txn.is_invite
    assert link.answer(txn, 486)
    link.run(8)
    assert link.times() == [0, 0.5, 1.5, 3.5, 7.5]
    assert link.receive(make("INVITE")) is None  # a repeated INVITE asks for it once more
    assert link.times() == [0, 0.5, 1.5, 3.5, 7.5, 8]
    assert link.receive(make("ACK", to_tag="us")) is None
    assert txn.state is State.CONFIRMED
    assert link.receive(make("INVITE")) is None
    assert link.receive(make("ACK", to_tag="us")) is None
    link.run(12.9)
    assert len(link.layer) == 1  # timer I, T4
    link.run(13)
    assert len(link.layer) == 0
    assert len(link.sent) == 6


def test_failure_that_nobody_acknowledges_ends_with_timer_h() -> None:
    link = Layer()
    txn = link.receive(make("INVITE"))
    assert txn is not None
    link.answer(txn, 486)
    link.run(31.9)
    assert link.times() == [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    link.run(32)
    assert len(link.layer) == 0
    assert not link.failed


def test_failure_over_a_stream_goes_once() -> None:
    link = Layer()
    txn = link.receive(make("INVITE"), TCP)
    assert txn is not None
    link.answer(txn, 486)
    link.run(31)
    assert link.times() == [0]
    link.receive(make("ACK", to_tag="us"), TCP)
    link.run(31)  # timer I is zero
    assert len(link.layer) == 0


@pytest.mark.parametrize("flow", [UDP, TCP])
def test_2xx_stays_with_its_user(flow: Flow) -> None:
    # RFC 6026 7.1: repeated INVITEs are absorbed; the user repeats the 2xx, and sees the ACK.
    link = Layer()
    txn = link.receive(make("INVITE"), flow)
    assert txn is not None
    assert link.answer(txn, 180)
    assert link.receive(make("INVITE"), flow) is None
    assert link.answer(txn, 200)
    assert txn.state is State.ACCEPTED
    assert link.receive(make("INVITE"), flow) is None
    assert link.times(b"SIP/2.0 200") == [0]
    assert link.answer(txn, 200)
    assert link.times(b"SIP/2.0 200") == [0, 0]
    assert link.answer(txn, 486) is False
    assert link.receive(make("ACK", to_tag="us"), flow) is txn
    link.run(31.9)
    assert len(link.layer) == 1
    link.run(32)
    assert len(link.layer) == 0


def test_ack_makes_no_transaction() -> None:
    link = Layer()
    assert link.receive(make("ACK", "z9hG4bKnew", to_tag="us")) is None
    assert link.layer.find_server(make("ACK", "z9hG4bKnew")) is None
    assert len(link.layer) == 0
    txn = link.receive(make("INVITE"))
    assert link.layer.find_server(make("ACK", to_tag="us")) is txn
    assert link.receive(make("ACK", to_tag="us")) is None  # too early: nothing was answered


def test_cancel_finds_its_invite() -> None:
    link = Layer()
    txn = link.receive(make("INVITE"))
    assert link.layer.find_cancelled(make("CANCEL")) is txn
    assert link.layer.find_cancelled(make("CANCEL", "z9hG4bKnone")) is None
    assert link.receive(make("CANCEL")) is not txn  # a transaction of its own


# ------------------------------------------------------------------------------------------------- RFC 2543 branches


@pytest.mark.parametrize("branch", ["", "1", "z9hg4bk-almost"])
def test_old_style_requests_are_told_apart_by_more_than_the_branch(branch: str) -> None:
    link = Layer()
    txn = link.receive(make("INVITE", branch))
    assert txn is not None
    assert link.receive(make("INVITE", branch)) is None
    assert link.layer.find_cancelled(make("CANCEL", branch)) is txn
    link.answer(txn, 486)
    assert link.receive(make("ACK", branch, to_tag="us")) is None
    assert txn.state is State.CONFIRMED
    assert link.receive(make("INVITE", branch, uri="sip:c@example.org")) is not None
    assert len(link.layer) == 2
    other = make("INVITE", branch)
    other.set("CSeq", "8 INVITE")
    assert link.receive(other) is not None


def test_cookie_of_the_branch_is_compared_without_case() -> None:
    # RFC 3261 7.3.1: parameter values are case-insensitive tokens; we keep to the cookie as everybody writes it, so a
    # branch in another case is treated by the older, stricter rule, and is still one transaction.
    link = Layer()
    assert link.receive(make(branch="Z9HG4BKA")) is not None
    assert link.receive(make(branch="Z9HG4BKA")) is None


# ------------------------------------------------------------------------------------------------- where answers go


def via(text: str) -> Request:
    request = make()
    request.replace("Via", [text])
    return request


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("SIP/2.0/UDP 192.0.2.2:6000;branch=z9hG4bK1", 6000),  # RFC 3261 18.2.2: the port of the Via
        ("SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK1", 5060),
        ("SIP/2.0/UDP 192.0.2.2:6000;rport;branch=z9hG4bK1", 7777),  # RFC 3581 4: the port it came from
        ("SIP/2.0/UDP 192.0.2.2:6000;rport=1;branch=z9hG4bK1", 7777),
        ("SIP/2.0/UDP 203.0.113.9:6000;maddr=203.0.113.8;branch=z9hG4bK1", 6000),  # the address it came from, always
    ],
)
def test_answers_go_back_where_requests_came_from(text: str, port: int) -> None:
    flow = Flow(Transport.UDP, Endpoint("192.0.2.1", 5060), Endpoint("192.0.2.2", 7777))
    assert tx.reply_flow(via(text), flow) == flow._replace(remote=Endpoint("192.0.2.2", port))


def test_answers_go_back_on_their_stream() -> None:
    assert tx.reply_flow(via("SIP/2.0/TCP 192.0.2.2:6000;branch=z9hG4bK1"), TCP) == TCP


# ------------------------------------------------------------------------------------------------- time


def test_next_timer_forgets_what_is_void() -> None:
    link = Layer()
    link.send()
    assert link.layer.next_timer() == 0.5
    link.get(200)
    assert link.layer.next_timer() == 5.0  # timers E and F are void, timer K is not
    assert link.layer.expire(4.9) == []


def test_moved_timer_runs_once() -> None:
    """Timer C, set again by each 1xx: only the last one counts, even when both would be due."""
    link = Layer()
    link.send("INVITE")
    link.get(180, make("INVITE"))
    link.now = 1.0
    link.get(180, make("INVITE"))
    link.now = 500.0
    assert len(link.layer.expire(500.0)) == 1
    assert len(link.layer) == 0


def test_response_input_by_class() -> None:
    assert [tx.response_input(status) for status in (100, 199, 200, 299, 300, 699)] == [
        Input.PROVISIONAL,
        Input.PROVISIONAL,
        Input.SUCCESS,
        Input.SUCCESS,
        Input.FAILURE,
        Input.FAILURE,
    ]


# ------------------------------------------------------------------------------------------------- for the node around


def test_find_client_looks_without_touching() -> None:
    link = Layer()
    txn = link.send()
    found = answer(make(), 200)
    assert link.layer.find_client(found) is txn
    assert txn.state is State.TRYING
    found.remove("Via")
    assert link.layer.find_client(found) is None


def test_stream_gets_its_real_port() -> None:
    link = Layer()
    asked = TCP._replace(local=Endpoint("192.0.2.1", 0))
    txn = link.send(flow=asked)
    other = link.layer.send_request(make("OPTIONS", "z9hG4bKother"), UDP, 0.0)
    link.layer.move(asked, TCP)
    assert (txn.flow, other.flow) == (TCP, UDP)
    assert link.layer.transport_failed(TCP, 0.0) == [txn]


def test_pending_means_that_somebody_must_still_speak() -> None:
    link = Layer()

    def pending(flow: Flow = UDP) -> bool:
        return link.layer.pending(lambda each: each == flow)

    assert not pending()
    for method in ("MESSAGE", "INVITE"):
        for statuses in ((200,), (180, 200), (404,)):
            link.send(method)
            for status in statuses:
                assert pending()
                assert not pending(TCP)
                link.get(status, make(method))
            assert not pending()  # lingers, but nobody waits
            link.run(link.now + 60)
    for method in ("MESSAGE", "INVITE"):
        txn = link.receive(make(method))
        assert txn is not None
        assert pending()
        link.answer(txn, 180)
        assert pending()
        link.answer(txn, 404)
        assert pending() is (method == "INVITE")  # the ACK is still due
    link.receive(make("ACK", to_tag="us"))
    assert not pending()
