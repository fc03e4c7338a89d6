"""Calls of the UE (RFC 3261 9, 12 to 15), as caller and as callee."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from imslab.core import effects as fx
from imslab.core import events as ev
from imslab.roles.faults import Faults
from imslab.roles.ue_calls import CALL_TABLE, CallAction, CallInput, CallState
from imslab.roles.ue_states import State
from imslab.sip.message import Request
from tests.roles.test_ue import registered, say, silence
from tests.roles.test_ue_subscription import ended
from tests.roles.ue_lab import PCSCF_HOST, PORT_PS, FakePcscf, UeLab

BOB = "sip:bob@example.org"
#: What a callee's 200 bears.
ANSWER = (("Contact", "<sip:bob@198.51.100.7>"), ("Record-Route", "<sip:scscf;lr>, <sip:192.0.2.2:6001;lr>"))


def calling(*reactions: Any, **config: Any) -> UeLab:
    lab = registered(**config)
    lab.pcscf.next["INVITE"] = list(reactions)
    lab.command("call", to=BOB)
    return lab


def hold(kept: list[tuple[Request, ev.Arrival]], *statuses: int) -> Callable[[FakePcscf, Request, ev.Arrival], None]:
    """A reaction: these provisional answers, and keep the request."""

    def reaction(fake: FakePcscf, request: Request, arrival: ev.Arrival) -> None:
        kept.append((request, arrival))
        for status in statuses:
            fake.reply(request, arrival, status)

    return reaction


def answer(lab: UeLab, kept: list[tuple[Request, ev.Arrival]], status: int) -> None:
    lab.pcscf.reply(*kept[0], status, ANSWER)
    lab.wire.give(lab.pcscf, ev.Timer())


def ringing(**config: Any) -> UeLab:
    """A call comes in and rings."""
    lab = registered(**config)
    lab.push_inside(invite(lab))
    return lab


def invite(lab: UeLab, **more: Any) -> Request:
    headers = [
        ("Contact", "<sip:bob@198.51.100.7:5070>"),
        ("Record-Route", f"<sip:{PCSCF_HOST}:{PORT_PS};lr>"),
        ("Record-Route", "<sip:scscf;lr>"),
    ]
    return lab.pcscf.make("INVITE", 1, headers, **{"call_id": "call-in", "branch": "z9hG4bKin", **more})


def within(lab: UeLab, method: str, **more: Any) -> Request:
    """A request of the caller within the dialog."""
    tag = next(a for a in lab.answers if a.method == "INVITE").to.tag
    return lab.pcscf.make(method, 1, to=f"<sip:ue>;tag={tag}", call_id="call-in", **more)


def finals(lab: UeLab, method: str = "INVITE") -> list[int]:
    return [each.status for each in lab.answers if each.method == method and each.status >= 200]


def test_table_uses_every_word() -> None:
    assert {action for action, _ in CALL_TABLE.values()} == set(CallAction)
    assert {input_ for _, input_ in CALL_TABLE} == set(CallInput)
    assert {state for state, _ in CALL_TABLE} == set(CallState) - {CallState.ENDED}


# ------------------------------------------------------------------------------------------------------- as caller


def test_call_from_invite_to_bye() -> None:
    kept: list[tuple[Request, ev.Arrival]] = []
    lab = calling(hold(kept, 100, 180))
    (request,) = lab.sent("INVITE")
    assert request.uri == BOB
    assert request.rows("Route") == [f"<sip:{PCSCF_HOST}:{PORT_PS};lr>", "<sip:orig@scscf.example.org;lr>"]
    assert request.contact[0].uri.port == lab.ue.sas.port_s
    assert request.content_type == "application/sdp"
    assert request.body.startswith(b"v=0\r\n")
    assert request.has("Security-Verify")
    assert [kind for kind in lab.emitted if kind.startswith("call")] == ["call-out", "call-ringing"]
    answer(lab, kept, 200)
    (ack,) = lab.sent("ACK")
    # RFC 3261 13.2.2.4, 12.1.2
    assert ack.uri == "sip:bob@198.51.100.7"
    assert ack.rows("Route") == [f"<sip:{PCSCF_HOST}:{PORT_PS};lr>", "<sip:scscf;lr>"]
    assert ack.cseq == (request.cseq.number, "ACK")
    assert ack.to.tag == "network"
    assert ack.via[0].branch != request.via[0].branch
    assert ack.via[0].port == lab.ue.sas.port_s
    assert not ack.has("P-Access-Network-Info")
    assert ack.has("Security-Verify")
    assert lab.sends("ACK")[0].flow.local.port == lab.sends("INVITE")[0].flow.local.port
    # A repeated 200 is acknowledged again.
    answer(lab, kept, 200)
    assert len(lab.sent("ACK")) == 2
    lab.command("hangup")
    (bye,) = lab.sent("BYE")
    assert bye.uri == "sip:bob@198.51.100.7"
    assert bye.rows("Route") == ack.rows("Route")
    assert bye.cseq.number == request.cseq.number + 1
    assert (bye.from_.tag, bye.to.tag) == (request.from_.tag, "network")
    assert len(lab.ue.calls) == 0
    assert lab.emitted[-1] == "call-ended"


def test_one_call_at_a_time() -> None:
    lab = calling(silence)
    lab.command("call", to=BOB)
    assert lab.emitted[-1] == "refused"
    lab.push_inside(invite(lab))
    assert lab.answers[-1].status == 486


@pytest.mark.parametrize("before", [(), (180,)])
@pytest.mark.parametrize("status", [486, 404, 603])
def test_refused_call(before: tuple[int, ...], status: int) -> None:
    kept: list[tuple[Request, ev.Arrival]] = []
    lab = calling(hold(kept, *before))
    answer(lab, kept, status)
    assert len(lab.ue.calls) == 0
    assert len(lab.sent("ACK")) == 1
    assert "call-failed" in lab.emitted


def test_call_that_nobody_answers() -> None:
    lab = calling(*[silence] * 20, transport="udp")
    lab.run(60)
    lab.push_inside(lab.pcscf.make("OPTIONS", 1))
    lab.run(68)
    assert len(lab.ue.calls) == 0
    assert lab.state() is State.REGISTERED


@pytest.mark.parametrize("verb", ["cancel", "hangup"])
def test_cancel(verb: str) -> None:
    kept: list[tuple[Request, ev.Arrival]] = []
    lab = calling(hold(kept, 180))
    lab.command(verb)
    (cancel,) = lab.sent("CANCEL")
    request = lab.sent("INVITE")[0]
    # RFC 3261 9.1
    assert cancel.uri == request.uri
    assert cancel.rows("Via") == request.rows("Via")
    assert cancel.rows("Route") == request.rows("Route")
    assert (cancel.call_id, cancel.cseq.number, cancel.from_.tag) == (request.call_id, 1, request.from_.tag)
    assert cancel.to.tag is None
    assert not cancel.has("Require")
    assert not cancel.has("Proxy-Require")
    answer(lab, kept, 487)
    assert len(lab.ue.calls) == 0
    assert len(lab.sent("ACK")) == 1
    assert lab.sent("BYE") == []


def test_cancel_waits_for_a_provisional_answer() -> None:
    kept: list[tuple[Request, ev.Arrival]] = []
    lab = calling(hold(kept))
    lab.command("cancel")
    assert lab.sent("CANCEL") == []
    answer(lab, kept, 180)
    assert len(lab.sent("CANCEL")) == 1
    answer(lab, kept, 487)
    assert len(lab.ue.calls) == 0


@pytest.mark.parametrize("before", [(), (180,)])
def test_answer_crosses_cancel(before: tuple[int, ...]) -> None:
    kept: list[tuple[Request, ev.Arrival]] = []
    lab = calling(hold(kept, *before))
    lab.command("cancel")
    answer(lab, kept, 200)
    assert [request.method for request in lab.requests if request.method in ("ACK", "BYE")] == ["ACK", "BYE"]
    assert len(lab.ue.calls) == 0


def test_refusal_crosses_cancel() -> None:
    kept: list[tuple[Request, ev.Arrival]] = []
    lab = calling(hold(kept))
    lab.command("cancel")
    answer(lab, kept, 486)
    assert len(lab.ue.calls) == 0


def test_cancel_that_changes_nothing() -> None:
    kept: list[tuple[Request, ev.Arrival]] = []
    lab = calling(hold(kept, 180))
    lab.command("cancel")
    lab.run(127)
    assert len(lab.ue.calls) == 1
    lab.run(1)
    assert len(lab.ue.calls) == 0


def test_nothing_to_cancel_or_to_end() -> None:
    lab = registered()
    lab.command("cancel")
    lab.command("hangup")
    assert lab.emitted[-2:] == ["refused", "refused"]
    kept: list[tuple[Request, ev.Arrival]] = []
    lab = calling(hold(kept))
    answer(lab, kept, 200)
    lab.command("cancel")  # too late
    assert lab.emitted[-1] == "refused"


def test_invite_falls_back_to_udp() -> None:
    kept: list[tuple[Request, ev.Arrival]] = []
    lab = registered()
    assert lab.ue.config.effective_transport == "auto"
    lab.ue.config.access_network += ";x=" + "y" * 400
    lab.wire.listening = {(t, e) for t, e in lab.wire.listening if e.port != PORT_PS or t == "udp"}
    for flow in list(lab.wire.connections):
        lab.wire.give(lab.ue, ev.Closed(flow))
    lab.pcscf.next["INVITE"] = [hold(kept)]
    lab.command("call", to=BOB)
    assert "fallback" in lab.emitted
    assert kept[0][0].via[0].transport == "UDP"
    lab.ue.config.access_network = "IEEE-802.11"
    answer(lab, kept, 200)
    assert lab.emitted[-1] == "call-active"


def test_strange_200() -> None:
    """Without a usable Contact and Record-Route the ACK goes to whom we called."""
    kept: list[tuple[Request, ev.Arrival]] = []
    lab = calling(hold(kept))
    lab.pcscf.reply(*kept[0], 200, [("Contact", "<"), ("Record-Route", "<")])
    lab.wire.give(lab.pcscf, ev.Timer())
    (ack,) = lab.sent("ACK")
    assert ack.uri == BOB
    assert ack.rows("Route") == []


def test_far_end_hangs_up() -> None:
    kept: list[tuple[Request, ev.Arrival]] = []
    lab = calling(hold(kept))
    answer(lab, kept, 200)
    request = lab.sent("INVITE")[0]
    bye = lab.pcscf.make("BYE", 1, to=f"<x:y>;tag={request.from_.tag}", call_id=request.call_id)
    bye.set("To", f"<sip:ue>;tag={request.from_.tag}")
    bye.set("From", f"<{BOB}>;tag=network")
    lab.push_inside(bye)
    assert lab.answers[-1].status == 200
    assert len(lab.ue.calls) == 0


# ------------------------------------------------------------------------------------------------------- as callee


def test_incoming_call() -> None:
    lab = ringing(ring_time=3)
    first = lab.answers[-1]
    assert first.status == 180
    assert first.to.tag
    assert first.rows("Record-Route") == [f"<sip:{PCSCF_HOST}:{PORT_PS};lr>", "<sip:scscf;lr>"]
    lab.run(3)
    second = lab.answers[-1]
    assert second.status == 200
    assert second.to.tag == first.to.tag
    assert second.contact[0].uri.port == lab.ue.sas.port_s
    assert second.rows("Record-Route") == first.rows("Record-Route")
    assert second.body.startswith(b"v=0\r\n")
    lab.push_inside(within(lab, "ACK", cseq=1))
    assert lab.emitted[-1] == "call-active"
    count = len(lab.answers)
    lab.run(200)
    assert len(lab.answers) == count  # the 200 is not repeated any more
    lab.command("hangup")
    (bye,) = lab.sent("BYE")
    # RFC 3261 12.1.1: remote target, route set in order, tags the other way round
    assert bye.uri == "sip:bob@198.51.100.7:5070"
    assert bye.rows("Route") == first.rows("Record-Route")
    assert (bye.from_.tag, bye.to.tag) == (first.to.tag, "bob")
    assert len(lab.ue.calls) == 0


def test_200_is_repeated_until_the_ack_then_bye() -> None:
    # RFC 3261 13.3.1.4 with T1 = 2 s, T2 = 16 s
    lab = ringing(ring_time=1)
    lab.run(128)
    times = [
        when - 1
        for when, who, e in lab.wire.log
        if who == "ue" and isinstance(e, fx.Send) and e.octets.startswith(b"SIP/2.0 200") and b"INVITE" in e.octets
    ]
    assert times == [0, 2, 6, 14, 30, 46, 62, 78, 94, 110, 126]
    assert lab.sent("BYE") == []
    lab.run(1)
    assert len(lab.sent("BYE")) == 1
    assert len(lab.ue.calls) == 0


def test_caller_cancels() -> None:
    lab = ringing(answer_calls=False)
    lab.push_inside(lab.pcscf.make("CANCEL", 1, call_id="call-in", branch="z9hG4bKin", cseq=1))
    assert finals(lab, "CANCEL") == [200]
    assert finals(lab) == [487]
    assert len(lab.ue.calls) == 0


def test_cancel_after_the_answer_changes_nothing() -> None:
    lab = ringing(ring_time=0)
    lab.run(0)
    lab.push_inside(lab.pcscf.make("CANCEL", 1, call_id="call-in", branch="z9hG4bKin", cseq=1))
    assert finals(lab, "CANCEL") == [200]
    assert finals(lab) == [200]


def test_cancel_of_a_call_that_was_refused() -> None:
    lab = ringing(answer_calls=False)
    lab.push_inside(invite(lab, call_id="second", branch="z9hG4bKsecond"))
    lab.push_inside(lab.pcscf.make("CANCEL", 1, call_id="second", branch="z9hG4bKsecond", cseq=lab.pcscf.cseq))
    assert finals(lab) == [486]
    assert len(lab.ue.calls) == 1


def test_nobody_picks_up() -> None:
    lab = ringing(answer_calls=False)
    lab.run(179)
    assert finals(lab) == []
    lab.run(1)
    assert finals(lab) == [480]
    assert len(lab.ue.calls) == 0


def test_declined_by_the_operator() -> None:
    lab = ringing(answer_calls=False)
    lab.command("hangup")
    assert finals(lab) == [480]


def test_bye_while_it_rings() -> None:
    lab = ringing(answer_calls=False)
    lab.push_inside(within(lab, "BYE"))
    assert finals(lab, "BYE") == [200]
    assert finals(lab) == [487]


@pytest.mark.parametrize("hung_up", [False, True])
def test_bye_before_the_ack(hung_up: bool) -> None:
    lab = ringing(ring_time=0)
    lab.run(0)
    if hung_up:
        lab.command("hangup")
        assert lab.sent("BYE") == []  # RFC 3261 15: not before the ACK
    lab.push_inside(within(lab, "BYE"))
    assert finals(lab, "BYE") == [200]
    assert len(lab.ue.calls) == 0
    lab.run(300)
    assert lab.sent("BYE") == []


def test_hang_up_before_the_ack() -> None:
    lab = ringing(ring_time=0)
    lab.run(0)
    lab.command("hangup")
    lab.run(3)
    assert finals(lab).count(200) == 2  # still repeated
    lab.push_inside(within(lab, "ACK", cseq=1))
    assert len(lab.sent("BYE")) == 1


def test_hang_up_and_no_ack_ever() -> None:
    lab = ringing(ring_time=0)
    lab.run(0)
    lab.command("hangup")
    lab.run(128)
    assert len(lab.sent("BYE")) == 1


def test_requests_of_other_dialogs() -> None:
    lab = ringing(ring_time=0)
    lab.run(0)
    for change in (("To", "<sip:ue>;tag=other"), ("From", "<sip:bob>;tag=other"), ("Call-ID", "other")):
        for method in ("BYE", "INVITE", "ACK"):
            request = within(lab, method)
            request.set(*change)
            before = len(lab.answers)
            lab.push_inside(request)
            if method != "ACK":
                assert lab.answers[-1].status == 481
            else:
                assert len(lab.answers) == before
    assert len(lab.ue.calls) == 1


def test_reinvite() -> None:
    lab = ringing(ring_time=0)
    lab.run(0)
    early = within(lab, "INVITE")
    lab.push_inside(early)
    assert lab.answers[-1].status == 491  # RFC 3261 14.2
    lab.push_inside(within(lab, "ACK", cseq=1))
    again = within(lab, "INVITE")
    again.add("Contact", "<sip:bob@198.51.100.8>")
    lab.push_inside(again)
    assert lab.answers[-1].status == 200
    lab.push_inside(within(lab, "ACK", cseq=again.cseq.number))
    assert lab.emitted[-1] == "call-active"
    lab.push_inside(within(lab, "INVITE", cseq=1))
    assert lab.answers[-1].status == 500
    lab.command("hangup")
    assert lab.sent("BYE")[0].uri == "sip:bob@198.51.100.8"


def test_alarm_of_a_call_that_is_over() -> None:
    lab = registered()
    lab.ue.set_alarm(("call", "gone", "ring"), 0)
    lab.run(1)
    assert lab.emitted[-1] == "subscribed"


# ------------------------------------------------------------------------------------------- calls and registration


def test_calls_are_released_before_deregistration() -> None:
    # DER-02
    kept: list[tuple[Request, ev.Arrival]] = []
    lab = calling(hold(kept))
    answer(lab, kept, 200)
    lab.pcscf.rechallenge = False
    byes: list[tuple[Request, ev.Arrival]] = []
    lab.pcscf.next["BYE"] = [hold(byes)]
    lab.command("deregister")
    assert lab.state() is State.HANGING_UP
    assert lab.requests[-1].method == "BYE"
    lab.command("message", to=BOB, text="last words")
    assert lab.requests[-1].method == "MESSAGE"
    lab.pcscf.reply(*byes[0], 200)
    lab.wire.give(lab.pcscf, ev.Timer())
    assert lab.state() is State.IDLE
    assert lab.requests[-1].get("Expires") == "0"


def test_unanswered_bye_does_not_hold_us() -> None:
    kept: list[tuple[Request, ev.Arrival]] = []
    lab = calling(hold(kept), transport="udp")
    answer(lab, kept, 200)
    lab.pcscf.next["BYE"] = [silence] * 20
    lab.pcscf.rechallenge = False
    lab.command("deregister")
    lab.run(60)
    lab.push_inside(lab.pcscf.make("OPTIONS", 1))
    lab.run(70)
    assert lab.state() is State.IDLE


def test_network_ends_it_while_we_hang_up() -> None:

    for event in ("rejected", "deactivated", "probation"):
        kept: list[tuple[Request, ev.Arrival]] = []
        lab = calling(hold(kept))
        answer(lab, kept, 200)
        lab.pcscf.next["BYE"] = [silence] * 20
        lab.command("deregister")
        assert ended(lab, event) == 200
        assert lab.state() is State.IDLE


def test_sas_lost_while_we_hang_up() -> None:
    for expire in (False, True):
        kept: list[tuple[Request, ev.Arrival]] = []
        lab = calling(hold(kept))
        answer(lab, kept, 200)
        lab.pcscf.next["BYE"] = [silence] * 20
        lab.pcscf.granted = 3600
        lab.command("deregister")
        if expire:
            lab.ue.set_alarm("expiry", 1)
            lab.run(1)
        else:
            lab.wire.give(lab.ue, ev.SaExpired(1))
        assert lab.state() is State.IDLE
        assert lab.ue.sets == {}


def test_ringing_call_is_answered_when_service_ends() -> None:
    lab = ringing(answer_calls=False)
    lab.wire.give(lab.ue, ev.SaExpired(1))
    assert len(lab.ue.calls) == 0
    assert "call-dropped" in lab.emitted


def test_answers_for_a_call_that_was_dropped() -> None:
    kept: list[tuple[Request, ev.Arrival]] = []
    lab = calling(hold(kept, 180))
    lab.ue.calls.drop_all()
    answer(lab, kept, 200)
    assert lab.sent("ACK") == []
    kept, byes = [], []
    lab = calling(hold(kept))
    answer(lab, kept, 200)
    lab.pcscf.next["BYE"] = [hold(byes, 100)]
    lab.command("hangup")
    assert len(lab.ue.calls) == 1
    lab.ue.calls.drop_all()
    lab.pcscf.reply(*byes[0], 200)
    lab.wire.give(lab.pcscf, ev.Timer())
    assert lab.emitted[-1] == "call-dropped"


def test_cancel_that_a_fault_swallows(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = calling(hold([], 180))
    monkeypatch.setattr(Faults, "alter", lambda self, message, hop: None)
    lab.command("cancel")
    assert lab.sent("CANCEL") == []
    lab.run(128)
    assert len(lab.ue.calls) == 0


def test_calls_need_a_registration() -> None:
    lab = UeLab()
    lab.pcscf.next["REGISTER"] = [say(403)]
    lab.register()
    lab.command("call", to=BOB)
    assert lab.emitted[-1] == "refused"
