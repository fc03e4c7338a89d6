"""The peer machine: two of them on a pair, and one against messages made by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from imslab.core.entropy import SeededEntropy
from imslab.core.errors import LocalError
from imslab.diameter import peer as peer_module
from imslab.diameter.avp import Avp
from imslab.diameter.codes import DisconnectCause
from imslab.diameter.dictionary import make
from imslab.diameter.message import DiameterMessage, StreamFramer, answer, parse
from imslab.diameter.peer import Duplicates, Identity, Input, Peer, State
from tests.diameter import samples
from tests.diameter.shark import dissect
from tests.require import require_shared

CSCF = Identity("scscf.example", "example", ("192.0.2.1",), origin_state=5)
HSS = Identity("hss.example", "example", ("192.0.2.2", "2001:db8::2"))


def client(**options: object) -> Peer:
    return Peer(CSCF, SeededEntropy(1, "client"), initiator=True, **options)  # type: ignore[arg-type]


def server(**options: object) -> Peer:
    return Peer(HSS, SeededEntropy(1, "server"), initiator=False, **options)  # type: ignore[arg-type]


def messages(octets: bytes) -> list[DiameterMessage]:
    return [parse(single) for single in StreamFramer().feed(octets)]


def shuttle(one: Peer, other: Peer, now: float) -> list[DiameterMessage]:
    """Carry what both have to say until both are silent; what came out for the applications."""
    received: list[DiameterMessage] = []
    while True:
        there, back = one.take_output(), other.take_output()
        if not there and not back:
            return received
        received += other.receive(there, now) + one.receive(back, now)


def opened(**options: object) -> tuple[Peer, Peer]:
    one, other = client(), server(**options)
    one.connected(0.0)
    other.connected(0.0)
    assert shuttle(one, other, 0.0) == []
    assert one.is_open
    assert other.is_open
    return one, other


def cer(avps: Iterable[Avp] | None = None) -> DiameterMessage:
    message = DiameterMessage(257, hop_by_hop=1, end_to_end=2)
    for name, value in (("Origin-Host", "scscf.example"), ("Origin-Realm", "example")):
        message.add(name, value)
    message.add("Host-IP-Address", "192.0.2.1")
    message.add("Vendor-Id", 10415)
    message.add("Product-Name", "by hand")
    group = [make("Vendor-Id", 10415), make("Auth-Application-Id", 16777216)]
    message.avps += [make("Vendor-Specific-Application-Id", group)] if avps is None else avps
    return message


def waiting(**options: object) -> Peer:
    one = server(**options)
    one.connected(0.0)
    return one


def test_capabilities_are_exchanged() -> None:
    one = client()
    one.connected(0.0)
    request = messages(one.take_output())[0]
    assert (request.name, request.application, request.proxiable) == ("CER", 0, False)
    assert request.get_all("Host-IP-Address") == ["192.0.2.1"]
    assert request.get("Origin-State-Id") == 5
    assert request.get_all("Supported-Vendor-Id") == [10415]
    assert request.get("Vendor-Specific-Application-Id") == [
        make("Vendor-Id", 10415),
        make("Auth-Application-Id", 16777216),
    ]
    other = waiting()
    other.receive(request.encode(), 0.0)
    reply = messages(other.take_output())[0]
    assert (reply.name, reply.result_code) == ("CEA", 2001)
    assert (reply.hop_by_hop, reply.end_to_end) == (request.hop_by_hop, request.end_to_end)
    assert reply.get_all("Host-IP-Address") == ["192.0.2.2", "2001:db8::2"]
    one.receive(reply.encode(), 0.0)
    assert (one.state, one.peer_host, one.peer_realm) == (State.OPEN, "hss.example", "example")
    assert (other.state, other.peer_host) == (State.OPEN, "scscf.example")


def test_base_messages_in_tshark(tmp_path: Path) -> None:
    one, other = client(), server()
    seen: list[bytes] = []
    one.connected(0.0)
    other.connected(0.0)
    for now in (0.0, 40.0):
        one.timed_out(now)
        for _ in range(2):
            for source, target in ((one, other), (other, one)):
                octets = source.take_output()
                seen += StreamFramer().feed(octets)
                target.receive(octets, now)
    one.disconnect(41.0)
    farewell = one.take_output()
    other.receive(farewell, 41.0)
    seen += [farewell, other.take_output()]
    fields = ("_ws.malformed", "_ws.expert", "diameter.cmd.code", "diameter.Result-Code", "diameter.Disconnect-Cause")
    rows = dissect(seen, fields, tmp_path)
    assert [row["diameter.cmd.code"][0] for row in rows] == ["257", "257", "280", "280", "282", "282"]
    assert [row["diameter.Result-Code"] for row in rows] == [[], ["2001"]] * 3
    assert rows[4]["diameter.Disconnect-Cause"] == ["0"]
    for row in rows:
        assert row["_ws.malformed"] == row["_ws.expert"] == []


def test_others_capabilities_are_understood() -> None:
    """CERs of other implementations: those that name Cx are accepted, those that do not get 5010."""
    vectors = json.loads(require_shared("vectors/diameter_messages.json").read_text())["vectors"]
    results = {}
    for vector in vectors:
        octets = bytes.fromhex(vector["hex"])
        if parse(octets).name != "CER":
            continue
        other = waiting()
        other.receive(octets, 0.0)
        results[vector["id"]] = messages(other.take_output())[0].result_code
        assert other.is_open is (results[vector["id"]] == 2001)
    assert results["pyhss-Diameter_CER"] == 2001
    assert set(results.values()) == {2001, 5010}


@pytest.mark.parametrize(
    ("avps", "code"),
    [
        ([], 5010),
        ([make("Auth-Application-Id", 16777251)], 5010),
        ([make("Auth-Application-Id", 16777216)], 2001),
        ([make("Acct-Application-Id", 16777216)], 2001),
        ([make("Auth-Application-Id", 0xFFFFFFFF)], 2001),  # a relay
        ([make("Vendor-Specific-Application-Id", [make("Auth-Application-Id", 16777216)])], 5010),
        (
            [make("Vendor-Specific-Application-Id", [make("Vendor-Id", 13019), make("Auth-Application-Id", 16777216)])],
            5010,
        ),
        (
            [make("Vendor-Specific-Application-Id", [make("Auth-Application-Id", 16777216), make("Vendor-Id", 10415)])],
            2001,
        ),
        ([Avp(9999, 0, 0x40, b""), make("Auth-Application-Id", 16777216)], 5001),
        ([Avp(258, 0, 0x40, b"\0")], 5014),
    ],
)
def test_the_application_must_be_common(avps: list[Avp], code: int) -> None:
    other = waiting()
    assert other.receive(cer(avps).encode(), 0.0) == []
    reply = messages(other.take_output())[0]
    assert (reply.name, reply.result_code) == ("CEA", code)
    assert not reply.error
    assert other.is_open is (code == 2001)
    assert other.is_closed is (code != 2001)


@pytest.mark.parametrize("name", ["Origin-Host", "Origin-Realm"])
def test_a_nameless_cer_is_told_so(name: str) -> None:
    message = cer()
    message.avps = [avp for avp in message.avps if avp.code != make(name, "").code]
    other = waiting()
    other.receive(message.encode(), 0.0)
    reply = messages(other.take_output())[0]
    assert reply.result_code == 5005
    assert reply.get("Failed-AVP") == [make(name, "")]
    assert other.is_closed


def test_a_cer_with_a_broken_avp_is_told_so() -> None:
    octets = bytearray(cer().encode())
    octets[20 + 7] = 5
    other = waiting()
    other.receive(bytes(octets), 0.0)
    reply = messages(other.take_output())[0]
    assert (reply.name, reply.result_code) == ("CEA", 5014)
    assert other.is_closed
    assert other.malformed == 1


def test_strangers_are_sent_away() -> None:
    other = waiting(allowed={"icscf.example"})
    other.receive(cer().encode(), 0.0)
    reply = messages(other.take_output())[0]
    assert (reply.result_code, reply.error) == (3010, True)
    assert other.is_closed
    assert "scscf.example" in other.reason
    one = client(allowed={"hss.example"})
    one.connected(0.0)
    asked = messages(one.take_output())[0]
    reply = answer(asked, origin_host="evil.example", result_code=2001, avps=[make("Auth-Application-Id", 16777216)])
    one.receive(reply.encode(), 0.0)
    assert one.is_closed


def test_a_refusal_closes() -> None:
    for avps, code in (([], 5010), ([], 2001), ([make("Auth-Application-Id", 16777216)], 2001)):
        one = client()
        one.connected(0.0)
        asked = messages(one.take_output())[0]
        one.receive(answer(asked, origin_host="hss.example", result_code=code, avps=avps).encode(), 0.0)
        assert one.is_open is bool(avps)
    one = client()
    one.connected(0.0)
    one.receive(answer(messages(one.take_output())[0]).encode(), 0.0)
    assert one.is_closed
    assert "None" in one.reason


def test_a_cea_that_cannot_be_read_closes() -> None:
    one = client()
    one.connected(0.0)
    asked = messages(one.take_output())[0]
    one.receive(answer(asked, avps=[Avp(268, 0, 0x40, b"\0")]).encode(), 0.0)
    assert one.is_closed
    assert one.malformed == 1
    assert one.take_output() == b""


def test_nothing_passes_before_the_capabilities() -> None:
    """MAR before CER: no answer, the connection ends."""
    other = waiting()
    assert other.receive(samples.mar().to_message(1, 2).encode(), 0.0) == []
    assert other.take_output() == b""
    assert other.is_closed
    assert "MAR" in other.reason
    one = client()
    one.connected(0.0)
    one.take_output()
    assert one.receive(samples.rtr().to_message(1, 2).encode(), 0.0) == []
    assert one.is_closed
    # What comes in the same segment behind a refused CER is not looked at.
    other = waiting()
    assert other.receive(cer([]).encode() + samples.mar().to_message(1, 2).encode(), 0.0) == []
    assert len(messages(other.take_output())) == 1
    assert other.receive(cer().encode(), 1.0) == []
    assert other.take_output() == b""


def test_a_broken_message_before_the_capabilities_closes() -> None:
    octets = bytearray(samples.mar().to_message(1, 2).encode())
    octets[20 + 7] = 5
    other = waiting()
    other.receive(bytes(octets), 0.0)
    assert other.is_closed
    assert other.take_output() == b""


def test_silence_before_the_capabilities() -> None:
    for one in (client(), server()):
        one.connected(5.0)
        one.take_output()
        assert one.next_timer() == 5.0 + peer_module.HANDSHAKE_TIMEOUT
        assert one.timed_out(14.9) == []
        assert not one.is_closed
        one.timed_out(15.0)
        assert one.is_closed
        assert "silent" in one.reason
        assert one.next_timer() is None


def test_requests_and_answers() -> None:
    one, other = opened()
    one.send_request(samples.mar().to_message(), 1.0, "first", 5.0)
    one.send_request(samples.uar().to_message(), 1.0, "second", 5.0)
    asked = other.receive(one.take_output(), 1.0)
    assert [message.name for message in asked] == ["MAR", "UAR"]
    assert asked[0].hop_by_hop != asked[1].hop_by_hop
    assert asked[0].end_to_end != asked[1].end_to_end
    for message in reversed(asked):
        other.send_answer(answer(message, result_code=2001), 1.5)
    answers = one.receive(other.take_output(), 2.0)
    assert [(message.name, message.key) for message in answers] == [("UAA", "second"), ("MAA", "first")]
    assert one.timed_out(20.0) == []


def test_a_stream_in_single_octets() -> None:
    one, other = opened()
    for number in range(3):
        one.send_request(samples.mar().to_message(), 1.0, number)
    received: list[DiameterMessage] = []
    for octet in one.take_output():
        received += other.receive(bytes([octet]), 1.0)
    assert [message.name for message in received] == ["MAR"] * 3


def test_both_ends_may_ask() -> None:
    one, other = opened()
    other.send_request(samples.rtr().to_message(), 1.0, "rtr")
    asked = one.receive(other.take_output(), 1.0)[0]
    one.send_answer(samples.rta().to_message(asked), 1.0)
    assert other.receive(one.take_output(), 1.0)[0].key == "rtr"


def test_answers_that_do_not_come() -> None:
    one, _ = opened()
    one.send_request(samples.mar().to_message(), 1.0, "slow", 8.0)
    one.send_request(samples.mar().to_message(), 1.0, "fast", 2.0)
    asked = messages(one.take_output())
    assert one.next_timer() == 3.0
    assert one.timed_out(2.9) == []
    assert one.timed_out(3.0) == ["fast"]
    assert one.timed_out(3.0) == []
    # Too late: nobody waits any more.
    assert one.receive(answer(asked[1], result_code=2001).encode(), 3.5) == []
    assert one.receive(answer(asked[0], result_code=2001).encode(), 3.6)[0].key == "slow"
    assert one.receive(answer(asked[0], result_code=2001).encode(), 3.7) == []
    assert one.timed_out(10.0) == []


def test_requests_wait_for_the_opening() -> None:
    one, other = client(), server()
    one.send_request(samples.mar().to_message(), 0.0, "early", 5.0)
    one.send_request(samples.uar().to_message(), 0.0, "impatient", 0.5)
    assert one.take_output() == b""
    one.connected(0.1)
    other.connected(0.1)
    assert one.timed_out(0.6) == ["impatient"]
    assert [message.name for message in shuttle(one, other, 0.7)] == ["MAR"]


def test_a_lost_connection_fails_what_was_asked() -> None:
    one, _ = opened()
    one.send_request(samples.mar().to_message(), 1.0, "asked")
    one.lost(2.0, "reset by peer")
    assert one.is_closed
    assert one.reason == "reset by peer"
    one.send_request(samples.mar().to_message(), 3.0, "after")
    assert one.next_timer() == 3.0
    assert one.timed_out(3.0) == ["asked", "after"]
    assert one.next_timer() is None
    one.lost(4.0, "again")
    assert one.reason == "reset by peer"
    one.connected(5.0)
    assert one.is_closed


def test_the_watchdog() -> None:
    """RFC 3539 3.4.1: Tw of silence a DWR, another one suspicion, another one the end."""
    one, _ = opened()
    first = one.next_timer()
    assert first is not None
    assert 28.0 <= first <= 32.0
    one.timed_out(first)
    asked = messages(one.take_output())
    assert [message.name for message in asked] == ["DWR"]
    assert asked[0].get("Origin-State-Id") == 5
    second = one.next_timer()
    assert second is not None
    one.timed_out(second)
    assert one.state is State.SUSPECT
    assert one.is_open
    assert one.take_output() == b""
    third = one.next_timer()
    assert third is not None
    one.timed_out(third)
    assert one.is_closed


def test_the_watchdog_is_calmed() -> None:
    one, other = opened()
    for _ in range(3):
        due = one.next_timer()
        assert due is not None
        one.timed_out(due)
        shuttle(one, other, due + 1)
        assert one.state is State.OPEN
        after = one.next_timer()
        assert after is not None
        assert after > due + 27
    # Anything lifts a suspicion.
    for _ in range(2):
        due = one.next_timer()
        assert due is not None
        one.timed_out(due)
    assert one.state is State.SUSPECT
    one.receive(samples.rtr().to_message(1, 2).encode(), due + 1)
    assert one.state is State.OPEN


def test_no_watchdog() -> None:
    one = client(watchdog=0)
    other = waiting(watchdog=0)
    one.connected(0.0)
    shuttle(one, other, 0.0)
    assert one.is_open
    assert one.next_timer() is None
    one.send_request(samples.mar().to_message(), 1.0, "a", 5.0)
    assert one.next_timer() == 6.0
    other.send_answer(answer(other.receive(one.take_output(), 1.0)[0], result_code=2001), 1.0)
    one.receive(other.take_output(), 1.0)
    assert one.next_timer() is None


def test_farewell() -> None:
    one, other = opened()
    one.send_request(samples.mar().to_message(), 1.0, "last")
    one.disconnect(1.0, DisconnectCause.BUSY)
    assert one.state is State.CLOSING
    asked = other.receive(one.take_output(), 1.0)
    reply = messages(other.take_output())
    assert [message.name for message in asked] == ["MAR"]
    assert [(message.name, message.result_code) for message in reply] == [("DPA", 2001)]
    # After the DPR nothing is left open.
    assert other.is_closed
    assert other.reason == ""
    one.receive(reply[0].encode(), 1.1)
    assert one.is_closed
    assert one.reason == ""
    assert one.timed_out(1.1) == ["last"]
    one.send_request(samples.mar().to_message(), 2.0, "later")
    assert one.timed_out(2.0) == ["later"]


def test_answers_still_come_while_parting() -> None:
    one, other = opened()
    one.send_request(samples.mar().to_message(), 1.0, "last")
    asked = other.receive(one.take_output(), 1.0)[0]
    one.disconnect(1.0)
    other.send_answer(answer(asked, result_code=2001), 1.0)
    assert one.receive(other.take_output(), 1.0)[0].key == "last"


def test_farewell_of_both_and_to_the_silent() -> None:
    one, other = opened()
    one.disconnect(1.0)
    other.disconnect(1.0)
    shuttle(one, other, 1.0)
    assert one.is_closed
    assert other.is_closed
    one, _ = opened()
    one.disconnect(1.0)
    assert one.next_timer() == 1.0 + peer_module.FAREWELL_TIMEOUT
    one.timed_out(6.0)
    assert one.is_closed
    for early in (client(), server()):
        early.disconnect(0.0)
        assert early.is_closed
        late = type(early)(CSCF, SeededEntropy(2), initiator=early.initiator)
        late.connected(0.0)
        late.take_output()
        late.disconnect(0.0)
        assert late.is_closed
        assert late.take_output() == b""


def test_suspects_are_said_farewell_too() -> None:
    one, _ = opened()
    for _ in range(2):
        one.timed_out(one.next_timer() or 0.0)
    one.take_output()
    one.disconnect(100.0)
    assert messages(one.take_output())[0].name == "DPR"
    assert one.state is State.CLOSING


def test_another_cer_is_answered() -> None:
    _, other = opened()
    other.receive(cer().encode(), 1.0)
    assert messages(other.take_output())[0].result_code == 2001
    assert other.is_open
    # One that cannot be read is told so, and what stands goes on.
    nameless = cer()
    nameless.avps = nameless.avps[1:]
    other.receive(nameless.encode(), 1.0)
    assert messages(other.take_output())[0].result_code == 5005
    assert other.is_open


def test_repetitions_get_the_same_answer() -> None:
    _, other = opened()
    request = samples.mar().to_message(0x111, 0x222)
    first = other.receive(request.encode(), 1.0)[0]
    assert other.receive(request.encode(), 1.1) == []  # still at work: one answer will do
    assert other.take_output() == b""
    other.send_answer(samples.maa().to_message(first), 1.2)
    original = messages(other.take_output())[0]
    request.hop_by_hop = 0x333
    request.retransmitted = True
    assert other.receive(request.encode(), 2.0) == []
    again = messages(other.take_output())[0]
    assert again.hop_by_hop == 0x333
    again.hop_by_hop = 0x111
    assert again == original
    # Another session, command or host with the same identifier is no repetition.
    for number, change in enumerate(("session", "command", "host"), 0x444):
        different = samples.mar()
        if change == "session":
            different.session_id = "scscf;9;9"
        elif change == "host":
            different.origin_host = "other.example"
        message = (samples.uar() if change == "command" else different).to_message(number, 0x222)
        assert len(other.receive(message.encode(), 2.0)) == 1
    assert len(other.receive(request.encode(), 300.0)) == 1  # four minutes later it is a new one


def test_repetitions_on_another_connection() -> None:
    shared = Duplicates()
    _, other = opened(duplicates=shared)
    request = samples.mar().to_message(1, 2)
    asked = other.receive(request.encode(), 1.0)[0]
    other.lost(1.1)
    other.send_answer(samples.maa().to_message(asked), 1.2)
    assert other.take_output() == b""
    _, fresh = opened(duplicates=shared)
    assert fresh.receive(request.encode(), 2.0) == []
    assert messages(fresh.take_output())[0].name == "MAA"


def test_duplicates_forget() -> None:
    duplicates = Duplicates(limit=2)
    for number in range(4):
        duplicates.store((b"h", number, 1, b"s"), b"x", 0.0)
    assert [duplicates.find((b"h", number, 1, b"s"), 0.0)[0] for number in range(4)] == [False, False, True, True]


def test_an_ignored_request_may_come_again() -> None:
    _, other = opened()
    request = samples.mar().to_message(1, 2)
    asked = other.receive(request.encode(), 1.0)[0]
    other.ignore(asked)
    other.ignore(asked)
    assert len(other.receive(request.encode(), 2.0)) == 1


def test_requests_that_cannot_be_taken() -> None:
    _, other = opened()

    def result(message: DiameterMessage | bytes) -> tuple[int | None, bool]:
        octets = message if isinstance(message, bytes) else message.encode()
        assert other.receive(octets, 1.0) == []
        reply = messages(other.take_output())[0]
        return reply.result_code, reply.error

    wrong = samples.mar().to_message(1, 2)
    wrong.application = 16777251
    assert result(wrong) == (3007, True)
    marked = samples.mar().to_message(1, 2)
    marked.error = True
    assert result(marked) == (3008, True)
    broken = bytearray(samples.mar().to_message(1, 2).encode())
    broken[-14:-12] = b"\xff\xff"
    last = samples.mar().to_message(1, 2)
    last.avps.append(make("Origin-State-Id", 1))
    broken = bytearray(last.encode())
    broken[-5] = 200
    assert result(bytes(broken)) == (5014, False)
    assert other.malformed == 1
    assert other.is_open


def test_broken_answers_are_dropped() -> None:
    one, _ = opened()
    one.send_request(samples.mar().to_message(), 1.0, "asked", 5.0)
    asked = messages(one.take_output())[0]
    octets = bytearray(answer(asked, result_code=2001).encode())
    octets[-5] = 200
    # A base answer that cannot be read is dropped as well.
    one.receive(answer(DiameterMessage(280), avps=[Avp(268, 0, 0x40, b"\0")]).encode(), 1.0)
    assert one.receive(bytes(octets), 1.0) == []
    assert one.take_output() == b""
    assert one.timed_out(6.0) == ["asked"]


def test_a_flood_is_told_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_module, "MAX_UNANSWERED", 3)
    _, other = opened()
    for number in range(1, 5):
        other.receive(samples.mar().to_message(number, number).encode(), 1.0)
    assert [message.result_code for message in messages(other.take_output())] == [3004]


def test_a_stream_that_is_no_diameter_closes() -> None:
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", bytes.fromhex("01000008")):
        _, other = opened()
        assert other.receive(garbage, 1.0) == []
        assert other.is_closed
        _, other = opened()
        # What came whole before it still counts.
        assert len(other.receive(samples.mar().to_message(1, 2).encode() + garbage, 1.0)) == 1
        assert other.is_closed
        assert other.receive(garbage, 2.0) == []


def test_two_requests_with_the_same_identifiers() -> None:
    """They could not be told apart: the second is refused, the first one gets its answer."""
    _, other = opened()
    first = other.receive(samples.mar().to_message(1, 2).encode(), 1.0)[0]
    assert other.receive(samples.uar().to_message(1, 2).encode(), 1.0) == []
    assert [message.result_code for message in messages(other.take_output())] == [5012]
    other.send_answer(samples.maa().to_message(first), 1.0)
    assert len(other.receive(samples.uar().to_message(1, 2).encode(), 1.0)) == 1


def test_an_answer_to_another_question_is_dropped() -> None:
    one, _ = opened()
    one.send_request(samples.mar().to_message(), 1.0, "asked", 5.0)
    asked = messages(one.take_output())[0]
    wrong = answer(asked, result_code=2001)
    wrong.command = 300
    assert one.receive(wrong.encode(), 1.0) == []
    assert one.receive(answer(asked, result_code=2001).encode(), 1.0)[0].key == "asked"


def test_misuse() -> None:
    one, other = opened()
    with pytest.raises(LocalError):
        one.send_request(answer(samples.mar().to_message(), result_code=2001), 1.0, None)
    with pytest.raises(LocalError):
        other.send_answer(answer(samples.mar().to_message(1, 2), result_code=2001), 1.0)


def test_a_repetition_by_us_keeps_its_end_to_end_identifier() -> None:
    one, _ = opened()
    message = samples.mar().to_message()
    one.send_request(message, 1.0, "a")
    kept = message.end_to_end
    fresh, _ = opened()
    message.retransmitted = True
    fresh.send_request(message, 2.0, "a")
    sent = messages(fresh.take_output())[0]
    assert (sent.end_to_end, sent.retransmitted) == (kept, True)


def test_identifiers_wrap() -> None:
    one, _ = opened()
    one._hop_by_hop = one._end_to_end = 0xFFFFFFFF
    message = samples.mar().to_message()
    one.send_request(message, 1.0, "a")
    assert (message.hop_by_hop, message.end_to_end) == (0, 1)


def test_the_same_seed_says_the_same() -> None:
    first, second = client(), client()
    for one in (first, second):
        one.connected(0.0)
    assert first.take_output() == second.take_output()


def test_other_applications_may_be_spoken() -> None:
    identity = Identity("a", "b", applications=((0, 4), (10415, 16777251)))
    one = Peer(identity, SeededEntropy(1), initiator=True)
    one.connected(0.0)
    asked = messages(one.take_output())[0]
    assert asked.get_all("Auth-Application-Id") == [4]
    assert asked.get_all("Supported-Vendor-Id") == [10415]
    other = Peer(identity, SeededEntropy(1), initiator=False)
    other.connected(0.0)
    other.receive(asked.encode(), 0.0)
    assert other.is_open


def test_the_table_is_whole() -> None:
    """Every state has its rows; a closed connection does nothing."""
    assert {state for state, _ in peer_module.TABLE} == set(State) - {State.CLOSED}
    assert {kind for _, kind in peer_module.TABLE} == set(Input)
