"""The connection to the HSS: waiting for it, losing it, what comes over it."""

from __future__ import annotations

from typing import Any

import pytest

from imslab.core import effects as fx
from imslab.core import events as ev
from imslab.core.entropy import SeededEntropy
from imslab.core.errors import PeerError
from imslab.core.flow import Endpoint, Flow
from imslab.diameter.codes import ReasonCode
from imslab.diameter.cx import (
    DeregistrationReason,
    LocationInfoAnswer,
    LocationInfoRequest,
    RegistrationTerminationAnswer,
    RegistrationTerminationRequest,
)
from imslab.diameter.message import DiameterMessage, answer
from imslab.roles.base import SipNode
from imslab.roles.cx_client import ALARM, RECONNECT, CxClient, Trouble
from tests.roles.core_bench import DOMAIN, HSS, IMPI, IMPU, SCSCF, TCP, ScriptedHss, cx_config
from tests.roles.wire import Wire


class Asker(SipNode):
    """The least that has a CxClient."""

    role = "S-CSCF"

    def __init__(self, on_request: Any = None) -> None:
        super().__init__("asker", SeededEntropy(1, "asker"))
        self.cx = CxClient(self, cx_config("scscf", SCSCF), on_request)
        self.answers: list[Any] = []

    def on_started(self) -> None:
        self.cx.connect()

    def on_stream_open(self, asked: Flow, flow: Flow) -> None:
        self.cx.opened(flow)

    def on_stream_closed(self, flow: Flow, key: object, reason: str) -> None:
        if self.cx.owns(flow):
            self.cx.closed(reason)

    def other_timer(self) -> float | None:
        return self.cx.next_timer()

    def on_time(self) -> None:
        self.cx.time()

    def on_alarm(self, key: object) -> None:
        assert key == ALARM
        self.cx.connect()

    def on_command(self, name: str, arguments: Any) -> None:
        query = LocationInfoRequest(**self.cx.header(), public_identity=IMPU)
        if name == "tell":
            self.cx.tell(query)
        else:
            self.cx.ask(query, LocationInfoAnswer, arguments.get("then", self.answers.append))


class Pair:
    """An asker and an HSS that says 2001, on a wire."""

    def __init__(self, on_request: Any = None, *, hss_first: bool = True) -> None:
        self.wire = Wire()
        self.hss = ScriptedHss()
        self.hss.script[LocationInfoRequest] = lambda request: LocationInfoAnswer(result_code=2001)
        self.asker = Asker(on_request)
        for node, host in ((self.hss, HSS.host), (self.asker, SCSCF.host))[:: 1 if hss_first else -1]:
            self.wire.add(node, host)

    def ask(self, **arguments: Any) -> None:
        self.wire.command(self.asker, "ask", **arguments)

    @property
    def results(self) -> list[Any]:
        return [each if isinstance(each, Trouble) else each.result_code for each in self.asker.answers]

    def kick(self) -> None:
        self.wire.give(self.hss, ev.Timer())

    @property
    def connects(self) -> int:
        return sum(isinstance(effect, fx.Connect) for _, _, effect in self.wire.log)


def test_a_question_gets_its_answer() -> None:
    pair = Pair()
    assert pair.asker.cx.is_open
    pair.ask()
    assert pair.results == [2001]


def test_what_every_question_says() -> None:
    pair = Pair()
    pair.ask()
    (lir,) = pair.hss.of(LocationInfoRequest)
    assert (lir.origin_host, lir.origin_realm, lir.destination_realm) == (f"scscf.{DOMAIN}", DOMAIN, DOMAIN)
    assert lir.session_id.startswith(f"scscf.{DOMAIN};")
    assert lir.destination_host is None


def test_session_ids_differ() -> None:
    pair = Pair()
    pair.ask()
    pair.ask()
    first, second = pair.hss.of(LocationInfoRequest)
    assert first.session_id != second.session_id


def test_telling_wants_no_answer() -> None:
    pair = Pair()
    pair.wire.command(pair.asker, "tell")
    assert len(pair.hss.got) == 1
    assert pair.asker.cx._taken == {}
    pair.hss.script[LocationInfoRequest] = lambda request: None
    pair.wire.command(pair.asker, "tell")
    pair.wire.run(20.0)
    assert pair.results == []


def test_silence_is_told_after_the_timeout() -> None:
    pair = Pair()
    pair.hss.script[LocationInfoRequest] = lambda request: None
    pair.ask()
    pair.wire.run(4.9)
    assert pair.results == []
    pair.wire.run(5.1)
    assert pair.results == [Trouble.SILENCE]


def test_a_question_waits_for_the_connection() -> None:
    """The HSS comes up after us; what was asked meanwhile is asked then."""
    pair = Pair(hss_first=False)
    assert not pair.asker.cx.is_open
    assert pair.wire.emitted("asker") == ["hss-lost"]
    pair.wire.run(RECONNECT - 0.5)
    pair.ask()
    pair.wire.run(RECONNECT + 1)
    assert pair.results == [2001]
    assert pair.connects == 2


def test_a_question_waits_no_longer_than_its_timeout() -> None:
    pair = Pair(hss_first=False)
    pair.wire.listening.clear()
    pair.ask()
    pair.wire.run(6.0)
    assert pair.results == [Trouble.SILENCE]


def test_a_lost_connection_fails_what_was_asked_and_is_opened_again() -> None:
    pair = Pair()
    pair.hss.script[LocationInfoRequest] = lambda request: None
    pair.ask()
    (flow,) = pair.hss._peers
    pair.wire.give(pair.hss, ev.Closed(flow))
    pair.wire.connections.clear()
    pair.wire.give(pair.asker, ev.Closed(flow.reversed, "reset"))
    assert pair.results == [Trouble.SILENCE]
    pair.hss.script[LocationInfoRequest] = lambda request: LocationInfoAnswer(result_code=2001)
    pair.ask()
    assert pair.results == [Trouble.SILENCE]
    pair.wire.run(RECONNECT + 0.1)
    assert pair.results == [Trouble.SILENCE, 2001]


def test_an_older_connections_end_is_none_of_ours() -> None:
    pair = Pair()
    old = Flow(TCP, Endpoint(SCSCF.host, 1), HSS)
    pair.wire.give(pair.asker, ev.Closed(old, "", Flow(TCP, Endpoint(SCSCF.host, 0), HSS)))
    assert pair.asker.cx.is_open
    assert pair.wire.emitted("asker") == []


def test_a_farewell_is_answered_and_the_connection_opened_again() -> None:
    pair = Pair()
    pair.hss.disconnect()
    pair.kick()
    assert not pair.asker.cx.is_open
    assert pair.wire.emitted("asker") == ["hss-lost"]
    pair.wire.run(RECONNECT + 1)
    assert pair.asker.cx.is_open
    pair.asker.cx.connect()
    assert pair.connects == 2


def test_a_stream_that_cannot_be_followed_is_closed() -> None:
    pair = Pair()
    pair.hss.script[LocationInfoRequest] = lambda request: b"\x07" * 40
    pair.ask()
    assert pair.results == [Trouble.SILENCE]
    assert not pair.asker.cx.is_open


@pytest.mark.parametrize("broken", [LocationInfoAnswer(), LocationInfoAnswer(server_name="sip:x")])
def test_an_answer_without_a_result_is_malformed(broken: LocationInfoAnswer) -> None:
    pair = Pair()
    pair.hss.script[LocationInfoRequest] = lambda request: broken
    pair.ask()
    assert pair.results == [Trouble.MALFORMED]
    assert pair.wire.emitted("asker") == ["malformed"]


def test_an_answer_whose_values_cannot_be_read_is_malformed() -> None:
    pair = Pair()

    def short(request: LocationInfoRequest) -> DiameterMessage:
        made = answer(pair.hss.messages[-1], origin_host="h", origin_realm=DOMAIN, result_code=2001)
        made.avps = [avp._replace(data=b"\x01") if avp.code == 268 else avp for avp in made.avps]
        return made

    pair.hss.script[LocationInfoRequest] = short
    pair.ask()
    assert pair.results == [Trouble.MALFORMED]


def test_one_bad_listener_does_not_rob_the_others() -> None:
    """Two answers in one segment; what the first one leads to fails."""
    pair = Pair()
    held: list[DiameterMessage] = []
    pair.hss.script[LocationInfoRequest] = lambda request: held.append(pair.hss.messages[-1])

    def fails(result: object) -> None:
        raise PeerError("a peer's fault")

    pair.ask(then=fails)
    pair.ask()
    (peer,) = pair.hss._peers.values()
    for message in held:
        peer.send_answer(LocationInfoAnswer(result_code=2001).to_message(message), 0.0)
    pair.kick()
    assert pair.results == [2001]
    assert pair.wire.emitted("asker") == ["peer-error"]


def test_a_trouble_has_its_status() -> None:
    assert (Trouble.SILENCE.status, Trouble.MALFORMED.status) == (504, 500)


RTR = RegistrationTerminationRequest(
    session_id="s",
    origin_host=f"hss.{DOMAIN}",
    origin_realm=DOMAIN,
    destination_realm=DOMAIN,
    destination_host="s",
    user_name=IMPI,
    reason=DeregistrationReason(code=ReasonCode.SERVER_CHANGE),
)


def test_the_hss_asks_too() -> None:
    pair = Pair(lambda message: RegistrationTerminationAnswer(result_code=2001).to_message(message))
    pair.hss.push(RTR)
    pair.kick()
    assert [each.result_code for each in pair.hss.pushed] == [2001]


@pytest.mark.parametrize("on_request", [None, lambda message: None])
def test_what_nobody_answers_stays_without_an_answer(on_request: Any) -> None:
    pair = Pair(on_request)
    pair.hss.push(RTR)
    pair.kick()
    assert pair.hss.pushed == []
    pair.ask()
    assert pair.results == [2001]


def test_the_watchdog_keeps_time() -> None:
    """RFC 3539: a DWR when the HSS has been silent for a while; two without an answer end the connection."""
    pair = Pair()
    pair.wire.run(40.0)
    assert pair.asker.cx.is_open
    pair.wire.passes = lambda name, send: name != "hss"
    pair.wire.run(140.0)
    assert "hss-lost" in pair.wire.emitted("asker")
