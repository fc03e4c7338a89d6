"""What all proxies do, on a proxy that sends everything to one place (RFC 3261 16, RFC 4320)."""

from __future__ import annotations

from typing import Any

import pytest

from imslab.core import effects as fx
from imslab.core import events as ev
from imslab.core.entropy import SeededEntropy
from imslab.core.flow import Endpoint, Flow, Transport
from imslab.roles.proxy import Proxy
from imslab.sip.message import Request, Response, response_to
from imslab.sip.transaction import Transaction
from tests.roles.core_bench import PCSCF, Neighbour, sip_request
from tests.roles.wire import Wire

PROXY = Endpoint("198.51.100.9", 5060)
NEXT = Endpoint("198.51.100.10", 5060)
URI = "sip:bob@next.example"


class Through(Proxy):
    """Everything goes to NEXT. options: of `send_on`."""

    role = "S-CSCF"

    def __init__(self, **options: Any) -> None:
        super().__init__("proxy", PROXY, SeededEntropy(1, "proxy"))
        self.options = options
        self.silences = 0
        self.hold = False
        self.held: list[tuple[Transaction, Request]] = []

    def on_started(self) -> None:
        self.effect(fx.Listen(Transport.UDP, PROXY))
        self.effect(fx.Listen(Transport.TCP, PROXY))

    def on_request(self, txn: Transaction, request: Request, arrival: ev.Arrival) -> None:
        copy = self.next_hop_copy(txn)
        if copy is None or self.refuses_extensions(txn, frozenset({"known"})):
            return
        if self.hold:
            self.held.append((txn, copy))
        else:
            self.send_on(txn, copy, NEXT, **self.options)


class RoutesAcks(Through):
    def route_ack(self, request: Request, arrival: ev.Arrival) -> None:
        self.send_ack(request, Flow(Transport.UDP, PROXY, NEXT))


class Bench:
    def __init__(self, proxy: Through | None = None) -> None:
        self.wire = Wire()
        self.client, self.next = Neighbour("client", PCSCF), Neighbour("next", NEXT)
        self.proxy = proxy or Through()
        self.wire.add(self.client, PCSCF.host)
        self.wire.add(self.next, NEXT.host)
        self.wire.add(self.proxy, PROXY.host)

    def send(self, request: Request) -> list[int]:
        before = len(self.client.responses)
        self.client.send(PROXY, request)
        self.wire.give(self.client, ev.Timer())
        return [each.status for each in self.client.responses[before:]]

    def later(self, until: float) -> list[int]:
        """What comes until then, without repetitions: the client sends no ACK for a failure."""
        before = len(self.client.responses)
        self.wire.run(until)
        return [each.status for each in {each.encode(): each for each in self.client.responses[before:]}.values()]

    def say(self, *statuses: int, **more: Any) -> None:
        """What the next hop says from now on to anything but CANCEL, which gets 200."""

        def answer(request: Request) -> list[Response]:
            if request.method == "CANCEL":
                return [response_to(request, 200)]
            return [response_to(request, status, to_tag="x", **more) for status in statuses]

        self.next.answer = answer

    @property
    def methods(self) -> list[str]:
        return [each.method for each in self.next.requests]


def request(method: str, **more: Any) -> Request:
    return sip_request(method, URI, sender="sip:a@b", to=URI, **more)


def cancel_of(invite: Request) -> Request:
    made = request("CANCEL")
    made.replace("Via", invite.rows("Via"))
    return made


def test_a_request_goes_on_and_its_answer_comes_back() -> None:
    bench = Bench()
    bench.say(200)
    assert bench.send(request("MESSAGE")) == [200]
    (sent,) = bench.next.requests
    assert [via.host for via in sent.via] == [PROXY.host, PCSCF.host, "10.0.0.2"]
    assert sent.max_forwards == 68
    assert [via.host for via in bench.client.responses[0].via] == [PCSCF.host, "10.0.0.2"]


@pytest.mark.parametrize(
    ("method", "statuses", "said"), [("MESSAGE", [200], [502]), ("INVITE", [180, 486], [100, 502])]
)
def test_an_answer_that_the_role_cannot_read(method: str, statuses: list[int], said: list[int]) -> None:
    """RFC 3261 21.5.3: the client hears of it, since nobody else will ever answer."""

    def read(response: Response) -> Response:
        assert response.p_associated_uri
        return response

    bench = Bench(Through(on_response=read))
    bench.say(*statuses, headers=[("P-Associated-URI", "<")])
    assert bench.send(request(method)) == said
    assert bench.wire.emitted("proxy")[-1] == "malformed"


def test_max_forwards_is_put_in_where_it_lacks() -> None:
    """RFC 3261 16.6 item 3."""
    bench = Bench()
    without = request("MESSAGE")
    without.remove("Max-Forwards")
    bench.send(without)
    assert bench.next.requests[0].max_forwards == 70


def test_the_last_hop_is_not_passed() -> None:
    bench = Bench()
    last = request("MESSAGE")
    last.set("Max-Forwards", "0")
    assert bench.send(last) == [483]
    assert bench.next.requests == []


def test_extensions_that_are_known_pass() -> None:
    """RFC 3261 16.3 item 5."""
    bench = Bench()
    assert bench.send(request("MESSAGE", headers=[("Proxy-Require", "Known")])) == [200]
    assert bench.send(request("MESSAGE", headers=[("Proxy-Require", "known, foo, bar")])) == [420]
    assert bench.client.responses[-1].unsupported == ["foo", "bar"]


def test_an_invite_gets_100_and_100_stays_here() -> None:
    bench = Bench()
    bench.say(100, 180)
    assert bench.send(request("INVITE")) == [100, 180]


def test_a_large_request_goes_by_tcp() -> None:
    """RFC 3261 18.1.1: and the answer comes back by UDP."""
    bench = Bench()
    assert bench.send(request("MESSAGE", body=b"x" * 1200)) == [200]
    assert bench.next.requests[0].via[0].transport == "TCP"
    flows = [effect.flow for _, _, effect in bench.wire.log if isinstance(effect, fx.Connect)]
    assert len(flows) == 1
    bench.send(request("MESSAGE", body=b"x" * 1200))
    assert sum(isinstance(effect, fx.Connect) for _, _, effect in bench.wire.log) == 1


@pytest.mark.parametrize(("method", "status"), [("INVITE", 408), ("MESSAGE", 504)])
def test_nobody_answers(method: str, status: int) -> None:
    """RFC 3261 16.8; RFC 4320 4.1: no 408 to anything but an INVITE."""
    bench = Bench()
    bench.say()
    bench.send(request(method))
    assert bench.later(33.0) == [status]


def test_a_role_may_have_its_own_way_with_silence() -> None:
    seen: list[str] = []
    bench = Bench(Through(on_silence=lambda: seen.append("silence")))
    bench.say()
    bench.send(request("MESSAGE"))
    assert bench.later(33.0) == []
    assert seen == ["silence"]


def test_a_role_may_change_and_withhold_answers() -> None:
    def edit(response: Response) -> Response | None:
        response.add("X-Seen", "yes")
        return response if response.status != 183 else None

    bench = Bench(Through(on_response=edit))
    bench.say(183, 200)
    assert bench.send(request("INVITE")) == [100, 200]
    assert bench.client.responses[-1].get("X-Seen") == "yes"


def test_an_answer_with_our_via_alone_is_for_us() -> None:
    """RFC 3261 16.7 item 3."""
    bench = Bench()

    def stripped(asked: Request) -> Response:
        response = response_to(asked, 200)
        response.replace("Via", asked.rows("Via")[:1])
        return response

    bench.next.answer = stripped
    assert bench.send(request("MESSAGE")) == []
    assert "stray-answer" in bench.wire.emitted("proxy")


# ---- CANCEL


def test_a_cancel_goes_on_when_the_next_hop_has_spoken() -> None:
    """RFC 3261 9.1: with the Request-URI, Route, From, To, Call-ID and branch of the INVITE."""
    bench = Bench()
    bench.say(180)
    invite = request("INVITE", headers=[("Route", "<sip:somewhere.example;lr>")])
    bench.send(invite)
    assert bench.send(cancel_of(invite)) == [200]
    there, cancel = bench.next.requests
    assert (cancel.method, cancel.uri, cancel.cseq.number) == ("CANCEL", there.uri, there.cseq.number)
    for name in ("Route", "From", "To", "Call-ID"):
        assert cancel.rows(name) == there.rows(name)
    assert [str(via) for via in cancel.via] == [str(there.via[0])]


def test_a_cancel_waits_until_the_next_hop_has_spoken() -> None:
    """RFC 3261 9.1."""
    bench = Bench()
    bench.say()
    invite = request("INVITE")
    bench.send(invite)
    assert bench.send(cancel_of(invite)) == [200]
    assert bench.methods == ["INVITE"]
    bench.say(180)
    bench.wire.run(0.6)  # the INVITE is repeated
    assert bench.methods == ["INVITE", "CANCEL"]
    assert bench.later(10.0) == []


def test_a_cancelled_invite_that_nobody_answers() -> None:
    bench = Bench()
    bench.say()
    invite = request("INVITE")
    bench.send(invite)
    bench.send(cancel_of(invite))
    assert bench.later(33.0) == [487]


def test_a_cancel_before_the_request_has_gone_on() -> None:
    """RFC 3261 9.2: 487 at once; what would go on later does not."""
    bench = Bench()
    bench.proxy.hold = True
    invite = request("INVITE")
    bench.send(invite)
    assert bench.send(cancel_of(invite)) == [200, 487]
    ((txn, copy),) = bench.proxy.held
    bench.proxy.send_on(txn, copy, NEXT)
    bench.wire.settle()
    assert bench.next.requests == []


def test_an_invite_that_rings_for_too_long_is_cancelled() -> None:
    """RFC 3261 16.8: timer C."""
    bench = Bench()
    bench.say(180)
    bench.send(request("INVITE"))
    assert bench.later(180.0) == []
    assert bench.later(182.0) == [408]
    assert bench.methods == ["INVITE", "CANCEL"]


def test_a_cancelled_invite_that_rings_on_is_not_cancelled_twice() -> None:
    bench = Bench()
    bench.say(180)
    invite = request("INVITE")
    bench.send(invite)
    bench.send(cancel_of(invite))
    assert bench.later(182.0) == [487]
    assert bench.methods == ["INVITE", "CANCEL"]


def test_a_cancel_that_comes_twice_goes_on_once() -> None:
    bench = Bench()
    bench.say(180)
    invite = request("INVITE")
    bench.send(invite)
    bench.send(cancel_of(invite))
    bench.say(180, 180)
    bench.send(cancel_of(invite))
    assert bench.methods.count("CANCEL") == 1


# ---- ACK


@pytest.mark.parametrize(("left", "passed"), [("5", 4), ("1", 0), (None, 70)])
def test_the_ack_of_a_2xx_goes_its_own_way(left: str | None, passed: int) -> None:
    """RFC 3261 16.11."""
    bench = Bench(RoutesAcks())
    ack = request("ACK")
    ack.remove("Max-Forwards")
    if left is not None:
        ack.set("Max-Forwards", left)
    assert bench.send(ack) == []
    (sent,) = bench.next.requests
    assert (sent.method, sent.max_forwards, len(sent.via)) == ("ACK", passed, 3)


def test_an_ack_with_no_hops_left_ends_here() -> None:
    bench = Bench(RoutesAcks())
    ack = request("ACK")
    ack.set("Max-Forwards", "0")
    bench.send(ack)
    assert bench.next.requests == []


def test_a_proxy_that_carries_no_dialogs_drops_acks() -> None:
    bench = Bench()
    assert bench.send(request("ACK")) == []
    assert bench.next.requests == []
