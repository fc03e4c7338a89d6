"""Ways in and out: ports, transports, and what is discarded (33.203 7.1, 7.4.1a; RFC 3261 18.1.1)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from imslab.core import effects as fx
from imslab.core import events as ev
from imslab.core.flow import Endpoint, Flow, Transport
from imslab.roles.base import LARGEST_DATAGRAM
from imslab.roles.profiles import CONFORMANT
from imslab.roles.ue_states import State
from imslab.roles.ue_traffic import Asked, Outcome, Way, legal_ways, outcome
from imslab.sip.message import Request, Response, response_to
from tests.roles.test_ue import challenge, registered, say, silence
from tests.roles.ue_lab import PCSCF_HOST, PORT_PS, UE_HOST, FakePcscf, UeLab, in_set, offer_of

CLEAR_IN = Flow(Transport.UDP, Endpoint(PCSCF_HOST, 5060), Endpoint(UE_HOST, 5060))


# ----------------------------------------------------------------------------------------------- the table of ways


def test_table_of_ways() -> None:
    """33.203 7.4.1a, row by row."""
    own, clear, live = Way.OWN, Way.CLEAR, Way.LIVE
    assert legal_ways(Asked.CLEAR, 401) == legal_ways(Asked.CLEAR, 200) == {clear}
    assert legal_ways(Asked.INSIDE, 401) == {own, live}
    assert legal_ways(Asked.FIRST_ANSWER, 200) == legal_ways(Asked.FIRST_ANSWER, 403) == {own}
    assert legal_ways(Asked.FIRST_ANSWER, 500) == legal_ways(Asked.FIRST_ANSWER, 401) == {own, clear}
    assert legal_ways(Asked.NEXT_ANSWER, 200) == {own}
    assert legal_ways(Asked.NEXT_ANSWER, 403) == {own, live}
    assert legal_ways(Asked.OTHER, 200) == {own, live}
    for asked in Asked:
        for status in (100, 200, 401, 403, 500):
            assert not legal_ways(asked, status) & {Way.FORBIDDEN, Way.TEMPORARY}
    assert [outcome(status) for status in (202, 401, 403, 404)] == [
        Outcome.SUCCESS,
        Outcome.CHALLENGE,
        Outcome.REFUSED,
        Outcome.ANY,
    ]


# -------------------------------------------------------------------------------------------------------- answers in


def held(lab: UeLab, before: list[Any], act: str = "register") -> tuple[Request, ev.Arrival]:
    """Let the UE send the REGISTER after `before`, and keep it unanswered."""
    kept: list[tuple[Request, ev.Arrival]] = []
    lab.pcscf.next["REGISTER"] = [*before, lambda fake, request, arrival: kept.append((request, arrival))]
    lab.command(act)
    lab.pcscf.next["REGISTER"] = [silence] * 100
    return kept[0]


@pytest.mark.parametrize("status", [200, 403])
def test_clear_answer_to_the_protected_register_is_ignored(status: int) -> None:
    # DRP-19, DRP-20
    lab = UeLab(transport="udp")
    request, arrival = held(lab, [challenge()])
    count = len(lab.sent("REGISTER"))
    lab.pcscf.reply(request, arrival, status, lab.pcscf.ok_headers(request), flow=CLEAR_IN)
    lab.wire.give(lab.pcscf, ev.Timer())
    assert lab.state() is State.ANSWERING
    assert lab.emitted[-1] == "discarded"
    lab.run(3)
    assert len(lab.sent("REGISTER")) == count + 1  # it goes on being repeated
    lab.pcscf.reply(request, arrival, 200, lab.pcscf.ok_headers(request))
    lab.wire.give(lab.pcscf, ev.Timer())
    assert lab.state() is State.REGISTERED


def test_clear_failure_of_another_kind_ends_a_first_registration() -> None:
    # ADD-06: the P-CSCF's own refusal (Security-Verify differs) comes in clear
    lab = UeLab(transport="udp")
    request, arrival = held(lab, [challenge()])
    lab.pcscf.reply(request, arrival, 494, flow=CLEAR_IN)
    lab.wire.give(lab.pcscf, ev.Timer())
    assert lab.state() is State.IDLE


@pytest.mark.parametrize("status", [200, 403, 401, 500])
def test_clear_answer_to_a_refresh_is_ignored(status: int) -> None:
    lab = registered(transport="udp")
    request, arrival = held(lab, [], "reregister")
    lab.pcscf.new_vector()
    lab.pcscf.reply(request, arrival, status, lab.pcscf.challenge_headers(), flow=CLEAR_IN)
    lab.wire.give(lab.pcscf, ev.Timer())
    assert lab.state() is State.REFRESHING
    assert lab.emitted[-1] == "discarded"


def test_200_to_a_reauthentication_must_come_by_the_new_set() -> None:
    lab = registered(transport="udp")
    old = lab.ue.sas.established
    assert old is not None
    request, arrival = held(lab, [challenge()], "reregister")
    wrong = in_set(old)
    lab.pcscf.reply(request, arrival, 200, lab.pcscf.ok_headers(request), flow=wrong)
    lab.wire.give(lab.pcscf, ev.Timer())
    assert lab.state() is State.REFRESH_ANSWERING
    # while a 403 for a wrong response comes by the old one
    lab.pcscf.reply(request, arrival, 403, flow=wrong)
    lab.wire.give(lab.pcscf, ev.Timer())
    assert lab.state() is State.REGISTERED
    assert list(lab.ue.sets) == [1]


def test_answer_to_a_message_in_clear_is_ignored() -> None:
    lab = registered(transport="udp")
    kept: list[tuple[Request, ev.Arrival]] = []
    lab.pcscf.next["MESSAGE"] = [lambda fake, request, arrival: kept.append((request, arrival))]
    lab.command("message", to="sip:bob@example.org", text="hi")
    lab.pcscf.reply(*kept[0], 200, flow=CLEAR_IN)
    lab.wire.give(lab.pcscf, ev.Timer())
    assert "message-sent" not in lab.emitted
    lab.pcscf.reply(*kept[0], 200)
    lab.wire.give(lab.pcscf, ev.Timer())
    assert lab.emitted[-1] == "message-sent"


def test_answer_to_nothing_is_told_and_dropped() -> None:
    lab = registered()
    request = lab.pcscf.make("OPTIONS", 1)
    lab.push(CLEAR_IN, response_to(request, 200))
    assert lab.emitted[-1] == "stray-answer"


# ------------------------------------------------------------------------------------------------------- requests in


@pytest.mark.parametrize("method", ["INVITE", "NOTIFY", "MESSAGE", "OPTIONS", "REGISTER"])
def test_clear_request_is_ignored(method: str) -> None:
    # DRP-18
    for lab in (UeLab(), registered()):
        before = len(lab.answers)
        lab.push(CLEAR_IN, lab.pcscf.make(method, 5060))
        assert len(lab.answers) == before
        assert lab.emitted[-1] == "discarded"


def test_clear_request_to_a_protected_port_is_ignored() -> None:
    """A carrier that lets one through (no policy in the kernel) must not help an attacker."""
    lab = registered()
    to = Endpoint(UE_HOST, lab.ue.sas.port_s)
    for flow in (
        Flow(Transport.UDP, Endpoint("203.0.113.66", 5060), to),
        Flow(Transport.UDP, Endpoint(PCSCF_HOST, 9999), to),
    ):
        request = lab.pcscf.make("MESSAGE", to.port)
        lab.wire.give(lab.ue, ev.Arrival(flow.reversed, request.encode()))
    assert lab.emitted[-2:] == ["discarded", "discarded"]
    assert lab.answers == []


def test_arrival_by_an_unknown_set_is_ignored() -> None:
    lab = registered()
    flow = in_set(next(iter(lab.ue.sets.values())))
    lab.wire.give(lab.ue, ev.Arrival(flow.reversed, lab.pcscf.make("MESSAGE", 1).encode(), 99))
    assert lab.emitted[-1] == "discarded"


def test_request_on_the_temporary_set_is_ignored() -> None:
    # DRP-03 seen from the UE; ADD-08
    lab = UeLab(transport="udp")
    held(lab, [challenge()])
    made = lab.ue.sas.temporary
    assert made is not None
    lab.push(in_set(made), lab.pcscf.make("OPTIONS", made.offer.port_s))
    assert lab.answers == []
    assert lab.emitted[-1] == "discarded"


def test_clear_request_is_answered_where_no_sas_are_wanted() -> None:
    lab = UeLab(ipsec=False)
    lab.push(CLEAR_IN, lab.pcscf.make("OPTIONS", 5060))
    assert [answer.status for answer in lab.answers] == [200]


# -------------------------------------------------------------------------------------------------------- answers out


def test_udp_answer_leaves_from_port_uc() -> None:
    # PRT-05
    lab = registered()
    sas = lab.ue.sas.established
    assert sas is not None
    lab.push_inside(lab.pcscf.make("OPTIONS", sas.offer.port_s))
    send = lab.effects(fx.Send)[-1]
    assert send.octets.startswith(b"SIP/2.0 200")
    assert send.flow == Flow(Transport.UDP, Endpoint(UE_HOST, sas.offer.port_c), Endpoint(PCSCF_HOST, PORT_PS))


def test_answer_travels_on_the_set_of_its_request() -> None:
    lab = registered()
    lab.command("reregister")
    old = lab.ue.sas.old
    assert old is not None
    lab.push(in_set(old), lab.pcscf.make("OPTIONS", old.offer.port_s))
    assert lab.effects(fx.Send)[-1].flow.local.port == old.offer.port_c


def test_udp_answers_for_a_pcscf_that_names_its_client_port() -> None:
    lab = registered(profile=replace(CONFORMANT, udp_answers="server"))
    sas = lab.ue.sas.established
    assert sas is not None
    request = lab.pcscf.make("OPTIONS", sas.offer.port_s)
    request.replace("Via", [f"SIP/2.0/UDP {PCSCF_HOST}:{lab.pcscf.port_pc};branch=z9hG4bKx"])
    lab.push_inside(request)
    flow = lab.effects(fx.Send)[-1].flow
    assert (flow.local.port, flow.remote.port) == (sas.offer.port_s, lab.pcscf.port_pc)


def connect(lab: UeLab) -> Flow:
    """The P-CSCF's own connection, port_pc → port_us."""
    sas = lab.ue.sas.established
    assert sas is not None
    flow = in_set(sas, Transport.TCP)
    lab.pcscf.effects.append(fx.Connect(flow, "mine"))
    lab.wire.give(lab.pcscf, ev.Timer())
    return flow


def test_request_on_the_pcscfs_own_connection_is_answered_on_it() -> None:
    # PRT-03, PRT-12
    lab = registered()
    flow = connect(lab)
    lab.push(flow, lab.pcscf.make("OPTIONS", flow.remote.port, transport="TCP"))
    send = lab.effects(fx.Send)[-1]
    assert send.flow == flow.reversed
    assert send.octets.startswith(b"SIP/2.0 200")


def test_request_in_pieces_on_a_connection() -> None:
    lab = registered()
    flow = connect(lab)
    octets = lab.pcscf.make("MESSAGE", flow.remote.port, body=b"hello", transport="TCP").encode()
    for i in range(0, len(octets), 50):
        lab.push(flow, octets[i : i + 50])
    assert lab.emitted[-1] == "message-received"


def test_answer_whose_connection_is_gone_takes_a_new_one() -> None:
    lab = registered(ring_time=5)
    sas = lab.ue.sas.established
    assert sas is not None
    flow = connect(lab)
    lab.push(flow, lab.pcscf.make("INVITE", flow.remote.port, transport="TCP"))
    lab.pcscf.effects.append(fx.Close(flow))
    lab.wire.give(lab.pcscf, ev.Timer())
    lab.run(5)
    send = lab.effects(fx.Send)[-1]
    assert send.octets.startswith(b"SIP/2.0 200")
    assert send.flow == Flow(Transport.TCP, Endpoint(UE_HOST, sas.offer.port_c), Endpoint(PCSCF_HOST, PORT_PS))


# ------------------------------------------------------------------------------------------------------- requests out


def test_request_leaves_from_port_uc_with_routes_and_agreement() -> None:
    # PRT-01, PRT-06, PRT-07, SEC-25, INI-11
    lab = registered(transport="udp")
    sas = lab.ue.sas.established
    assert sas is not None
    lab.command("message", to="sip:bob@example.org", text="grüß dich")
    (send,) = lab.sends("MESSAGE")
    (message,) = lab.sent("MESSAGE")
    assert send.flow == Flow(Transport.UDP, Endpoint(UE_HOST, sas.offer.port_c), Endpoint(PCSCF_HOST, PORT_PS))
    assert (message.via[0].host, message.via[0].port) == (UE_HOST, sas.offer.port_s)
    assert "rport" not in message.via[0].params
    assert message.rows("Route") == [f"<sip:{PCSCF_HOST}:{PORT_PS};lr>", "<sip:orig@scscf.example.org;lr>"]
    assert message.require == message.proxy_require == ["sec-agree"]
    assert message.rows("Security-Verify") == lab.sent("REGISTER")[1].rows("Security-Verify")
    assert message.has("P-Access-Network-Info")
    assert message.body == "grüß dich".encode()
    assert message.uri == "sip:bob@example.org"


@pytest.mark.parametrize(("octets", "transport"), [(1299, "UDP"), (1300, "UDP"), (1301, "TCP")])
def test_size_decides_the_transport(octets: int, transport: str) -> None:
    # TRN-01, TRN-02, TRN-05
    lab = registered()
    lab.command("message", to="sip:bob@example.org", text="")
    empty = len(lab.sends("MESSAGE")[0].octets)
    fill = octets - empty - len("000") + len("0")  # Content-Length grows from one digit to three
    lab.command("message", to="sip:bob@example.org", text="x" * fill)
    send = lab.sends("MESSAGE")[1]
    assert len(send.octets) == octets
    assert send.octets.split(b"\r\n")[1].startswith(f"Via: SIP/2.0/{transport} ".encode())
    assert (send.flow.transport is Transport.TCP) == (transport == "TCP") == (octets > LARGEST_DATAGRAM)


def test_connection_is_used_again() -> None:
    # TRN-16
    lab = registered(transport="tcp")
    for _ in range(3):
        lab.command("message", to="sip:bob@example.org", text="x")
    connects = [connect.flow for connect in lab.effects(fx.Connect)]
    assert len(connects) == 2  # one in clear, one inside
    assert connects[1].local.port == offer_of(lab.sent("REGISTER")[0])["port-c"]
    assert [answer for answer in lab.emitted if answer == "message-sent"] == ["message-sent"] * 3


def test_clear_connection_is_used_again() -> None:
    lab = UeLab(transport="tcp")
    lab.pcscf.next["REGISTER"] = [say(423, ("Min-Expires", "700000"))]
    lab.register()
    assert lab.state() is State.REGISTERED
    assert len([each for each in lab.effects(fx.Connect) if each.flow.remote.port == 5060]) == 1


def test_udp_where_tcp_is_refused() -> None:
    # TRN-04
    lab = UeLab()
    lab.wire.listening -= {(Transport.TCP, Endpoint(PCSCF_HOST, port)) for port in (5060, PORT_PS)}
    lab.register()
    assert lab.state() is State.REGISTERED
    assert [request.via[0].transport for request in lab.sent("REGISTER")] == ["UDP", "UDP"]
    assert lab.sent("REGISTER")[1].cseq.number == 2
    assert "fallback" in lab.emitted
    assert lab.effects(fx.Connect)


def test_tcp_only_does_not_fall_back() -> None:
    lab = UeLab(transport="tcp")
    lab.wire.listening.discard((Transport.TCP, Endpoint(PCSCF_HOST, 5060)))
    lab.register()
    assert lab.state() is State.WAITING
    assert lab.sent("REGISTER") == []


def test_sets_take_their_connections_along() -> None:
    lab = registered(transport="tcp")
    lab.command("reregister")
    old = lab.ue.sas.old
    assert old is not None
    lab.command("message", to="sip:bob@example.org", text="x")  # the answer comes by the new set
    assert lab.ue.sas.old is None
    order = [type(effect).__name__ for effect in lab.effects(fx.Close, fx.RemoveSas)]
    assert order[-2:] == ["Close", "RemoveSas"]
    assert lab.effects(fx.Close)[-1].flow.local.port == old.offer.port_c


# ---------------------------------------------------------------------------------------------- what the UE answers


@pytest.mark.parametrize(
    ("method", "status"),
    [
        ("OPTIONS", 200),
        ("MESSAGE", 200),
        ("INFO", 405),
        ("SUBSCRIBE", 405),
        ("REGISTER", 405),
        ("UPDATE", 405),
        ("LEVITATE", 501),
        ("BYE", 481),
        ("CANCEL", 481),
        ("NOTIFY", 489),
    ],
)
def test_methods(method: str, status: int) -> None:
    lab = registered()
    lab.push_inside(lab.pcscf.make(method, lab.ue.sas.port_s))
    answer = lab.answers[-1]
    assert answer.status == status
    assert answer.to.tag
    if status in (405, 501):
        assert "MESSAGE" in answer.allow


def test_required_extension_that_we_lack() -> None:
    lab = registered()
    lab.push_inside(lab.pcscf.make("INVITE", 1, [("Require", "100rel, sec-agree")]))
    assert lab.answers[-1].status == 420
    assert lab.answers[-1].unsupported == ["100rel"]


def test_message_is_shown() -> None:
    lab = registered()
    lab.push_inside(lab.pcscf.make("MESSAGE", 1, body="grüß".encode() + b"\xff"))
    shown = lab.effects(fx.Emit)[-1]
    assert shown.kind == "message-received"
    assert shown.data == {"sender": "sip:bob@example.org", "body": "grüß\ufffd"}


def test_repeated_message_is_shown_once() -> None:
    lab = registered()
    request = lab.pcscf.make("MESSAGE", 1)
    lab.push_inside(request)
    lab.push_inside(request)
    assert lab.emitted.count("message-received") == 1
    assert [answer.status for answer in lab.answers] == [200, 200]


def test_nobody_is_there_after_deregistration() -> None:
    lab = registered()
    sas = lab.ue.sas.established
    assert sas is not None
    lab.pcscf.rechallenge = False
    lab.command("deregister")
    for method in ("MESSAGE", "INVITE"):
        lab.push(in_set(sas), lab.pcscf.make(method, sas.offer.port_s))
        assert lab.answers[-1].status == 480


def test_malformed_traffic_leaves_the_ue_alive() -> None:
    # MAL-04
    lab = registered()
    sas = lab.ue.sas.established
    assert sas is not None
    for octets in (
        b"\x00",
        b"\r\n\r\n",
        b"SIP/2.0 200\r\n\r\n",
        b"INVITE sip:x SIP/2.0\r\nVia: x\r\n\r\n",
        b"\xff" * 100,
    ):
        lab.push(in_set(sas), octets)
    request = lab.pcscf.make("MESSAGE", 1)
    request.set("CSeq", "1 INVITE")
    lab.push(in_set(sas), request)
    assert lab.answers[-1].status == 400
    lab.push_inside(lab.pcscf.make("OPTIONS", 1))
    assert lab.answers[-1].status == 200


def test_pcscf_may_answer_with_a_provisional_first() -> None:
    lab = UeLab(transport="udp")

    def slow(fake: FakePcscf, request: Request, arrival: ev.Arrival) -> None:
        fake.reply(request, arrival, 100, to_tag="")
        fake.on_register(request, arrival)

    lab.pcscf.next["REGISTER"] = [slow, slow]
    lab.register()
    assert lab.state() is State.REGISTERED
    assert isinstance(lab.wire.sent("pcscf0")[0], Response)
