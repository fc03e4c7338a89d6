"""Flows on protected ports, and what comes the wrong way (catalogue I, J, T)."""

from __future__ import annotations

import pytest

from imslab.core import effects as fx
from imslab.core import events as ev
from imslab.core.flow import Endpoint, Flow
from imslab.roles.pcscf_gm import ADMITTED, What
from imslab.roles.sa_table import Stage
from imslab.sip.message import Request, Response, response_to
from tests.roles.pcscf_bench import CORE, GM, IMPU, MW, TCP, UDP, UE, Bench, Sas


def silence(bench: Bench, flow: Flow, message: Request | Response | bytes) -> None:
    """Send this from the phone; nobody hears or says anything."""
    before = len(bench.core.got), len(bench.ue.got)
    bench.from_ue(flow, message)
    assert (len(bench.core.got), len(bench.ue.got)) == before


def big(bench: Bench, sas: Sas, method: str = "MESSAGE") -> Request:
    request = bench.core_request(sas, method)
    request.body = b"x" * 1400
    return request


# ---- the table


def test_the_table_is_that_of_33_203() -> None:
    yes = {pair for pair, flag in ADMITTED.items() if flag == "yes"}
    assert yes == {
        (Stage.TEMPORARY, What.ANSWER),
        (Stage.ESTABLISHED, What.FIRST),
        (Stage.ESTABLISHED, What.REPORT),
    }
    for stage in (None, Stage.TEMPORARY):
        assert (stage, What.REQUEST) not in ADMITTED
        assert (stage, What.RESPONSE) not in ADMITTED


# ---- in clear


@pytest.mark.parametrize("method", ["INVITE", "SUBSCRIBE", "MESSAGE", "OPTIONS", "BYE", "ACK", "NOTIFY", "FOO"])
@pytest.mark.parametrize("registered", [False, True])
def test_clear_requests_other_than_register_are_dropped(method: str, registered: bool) -> None:
    bench = Bench()
    sas = bench.registered() if registered else Sas()
    silence(bench, bench.clear(), bench.ue_request(sas, method))
    assert "discarded" in bench.wire.emitted("pcscf")


def test_a_clear_repetition_of_a_protected_request_is_dropped_too() -> None:
    bench = Bench()
    sas = bench.registered()
    request = bench.ue_request(sas, "MESSAGE")
    bench.from_ue(bench.inside(sas), request)
    silence(bench, bench.clear(), request)


def test_clear_answers_are_dropped() -> None:
    bench = Bench()
    sas = bench.registered()
    bench.from_core(bench.core_request(sas, "MESSAGE"))
    message = bench.ue.got[-1].message
    assert isinstance(message, Request)
    silence(bench, bench.clear(), response_to(message, 200))
    bench.from_ue(bench.inside(sas), response_to(message, 200))
    assert bench.core.responses()[-1].status == 200


def test_clear_datagrams_to_a_protected_port_are_dropped() -> None:
    bench = Bench()
    sas = bench.registered()
    for port in (sas.ps, sas.pc):
        flow = Flow(UDP, Endpoint(UE, 5060), Endpoint(GM.host, port))
        silence(bench, flow, bench.register(sas.next()))
        silence(bench, flow, b"garbage")


def test_clear_connections_to_a_protected_port_are_closed() -> None:
    bench = Bench()
    sas = bench.registered()
    flow = Flow(TCP, Endpoint(UE, 40041), Endpoint(GM.host, sas.ps))
    bench.connect(flow)
    assert flow in bench.ue.closed
    silence(bench, flow, bench.register(sas.next()))


def test_a_protected_message_on_the_clear_port_is_no_clear_one() -> None:
    bench = Bench()
    bench.registered()
    arrival = ev.Arrival(bench.clear().reversed, bench.register(Sas().next()).encode(), sas=1)
    before = len(bench.core.got)
    bench.wire.give(bench.pcscf, arrival)
    assert len(bench.core.got) == before


# ---- on the wrong SA


@pytest.mark.parametrize("method", ["SUBSCRIBE", "INVITE", "ACK"])
def test_other_requests_on_a_temporary_set_are_dropped(method: str) -> None:
    bench = Bench()
    sas = bench.challenged()
    silence(bench, bench.inside(sas), bench.ue_request(sas, method))


def test_udp_from_the_server_port_to_our_client_port_is_the_wrong_sa() -> None:
    bench = Bench()
    sas = bench.registered()
    flow = Flow(UDP, Endpoint(UE, sas.us), Endpoint(GM.host, sas.pc))
    silence(bench, flow, bench.ue_request(sas, "MESSAGE"))


def test_ports_of_two_sets_do_not_mix() -> None:
    bench = Bench()
    old = bench.registered()
    new = bench.challenged(under=old)
    arrival = ev.Arrival(bench.inside(old).reversed, bench.ue_request(old, "MESSAGE").encode(), sas=2)
    before = len(bench.core.got)
    bench.wire.give(bench.pcscf, arrival)  # a carrier that names another set than the ports do
    assert len(bench.core.got) == before
    assert new.ps == old.ps


# ---- whose SA


def test_a_foreign_private_identity_on_own_sas_is_403() -> None:
    bench = Bench()
    sas = bench.registered()
    request = bench.register(
        sas.next(), clear=False, nonce="n", response="1", verify=sas.server, impi="victim@ims.example"
    )
    before = len(bench.core.got)
    bench.from_ue(bench.inside(sas), request)
    assert bench.ue.responses()[-1].status == 403
    assert len(bench.core.got) == before
    assert bench.sets == {1: "established"}


def test_the_source_must_be_the_address_in_via() -> None:
    bench = Bench()
    sas = bench.registered()

    def refresh(host: str) -> None:
        request = bench.register(sas.next(), clear=False, nonce=sas.nonce, response="1", verify=sas.server)
        request.set("Via", bench.via(sas.us, host=host))
        bench.from_ue(bench.inside(sas), request)

    before = len(bench.core.got)
    refresh("10.0.0.99")
    assert bench.ue.responses()[-1].status == 403
    refresh("unknown.example")
    assert bench.ue.responses()[-1].status == 403
    assert len(bench.core.got) == before
    refresh("phone.example")  # a name that resolves to the source
    assert len(bench.core.got) == before + 1


def test_a_via_that_lies_ends_the_authentication() -> None:
    bench = Bench()
    sas = bench.challenged()
    request = bench.register(sas, clear=False, nonce=sas.nonce, response="abc")
    request.set("Via", bench.via(sas.us, host="10.0.0.99"))
    bench.from_ue(bench.inside(sas), request)
    assert bench.ue.responses()[-1].status == 403
    assert bench.sets == {}


def test_sas_are_bound_to_the_source_not_to_the_contact() -> None:
    bench = Bench()
    sas = bench.challenged(contact="<sip:ue@10.0.0.99:40002>;expires=600")
    assert {sa.src.host for sa in bench.wire.sets["pcscf"][1].sas} == {UE, GM.host}
    assert sas.ps


# ---- UDP


def test_answers_over_udp_go_from_pc_to_us_even_with_rport() -> None:
    bench = Bench()
    sas = bench.registered()
    request = bench.ue_request(sas, "MESSAGE", Via=bench.via(sas.us) + ";rport")
    bench.from_ue(bench.inside(sas), request)
    bench.from_core(response_to(bench.core.requests("MESSAGE")[-1], 200, to_tag="b"))
    got = bench.ue.got[-1]
    assert got.flow == Flow(UDP, Endpoint(UE, sas.us), Endpoint(GM.host, sas.pc))
    assert len(got.message.via) == 1


def test_requests_to_the_ue_leave_from_pc_and_carry_ps() -> None:
    bench = Bench()
    sas = bench.registered()
    bench.from_core(bench.core_request(sas, "INVITE"))
    got = bench.ue.got[-1]
    assert got.flow == Flow(UDP, Endpoint(UE, sas.us), Endpoint(GM.host, sas.pc))
    assert got.message.via[0].port == sas.ps
    assert got.message.via[0].host == GM.host
    assert got.message.record_route[0].uri.port == sas.ps


# ---- TCP


def test_answers_over_tcp_go_by_the_connection() -> None:
    bench = Bench()
    sas = bench.registered()
    flow = bench.inside(sas, TCP)
    bench.connect(flow)
    bench.from_ue(flow, bench.ue_request(sas, "MESSAGE", Via=bench.via(sas.us, "TCP")))
    bench.from_core(response_to(bench.core.requests("MESSAGE")[-1], 200, to_tag="b"))
    assert bench.ue.got[-1].flow == flow


def test_a_registration_over_tcp() -> None:
    bench = Bench()
    clear = Flow(TCP, Endpoint(UE, 40041), GM)
    bench.connect(clear)
    sas = Sas()
    bench.from_ue(clear, bench.register(sas, transport="TCP"))
    sas.nonce = bench.challenge(bench.core.requests("REGISTER")[-1])
    assert bench.ue.got[-1].flow == clear
    bench.read(sas, bench.ue.responses()[-1])
    flow = bench.inside(sas, TCP)
    bench.connect(flow)
    bench.from_ue(flow, bench.register(sas, clear=False, nonce=sas.nonce, response="a", transport="TCP"))
    bench.ok(bench.core.requests("REGISTER")[-1])
    assert bench.ue.got[-1].flow == flow
    assert bench.sets == {1: "established"}
    bench.from_ue(bench.inside(sas), bench.ue_request(sas, "MESSAGE"))  # the same SAs carry UDP
    assert len(bench.core.requests("MESSAGE")) == 1
    assert len(bench.effects(fx.InstallSas)) == 1


def test_an_answer_whose_connection_is_gone_gets_a_new_one_from_pc() -> None:
    bench = Bench()
    sas = bench.registered()
    flow = bench.inside(sas, TCP)
    bench.connect(flow)
    bench.from_ue(flow, bench.ue_request(sas, "MESSAGE", Via=bench.via(sas.us, "TCP")))
    bench.ue.wants.append(fx.Close(flow))
    bench.flush(bench.ue)
    bench.from_core(response_to(bench.core.requests("MESSAGE")[-1], 200, to_tag="b"))
    got = bench.ue.got[-1]
    assert getattr(got.message, "status", 0) == 200
    assert got.flow == Flow(TCP, Endpoint(UE, sas.us), Endpoint(GM.host, sas.pc))


def test_an_answer_on_a_closed_clear_connection_is_lost_not_leaked() -> None:
    bench = Bench()
    clear = Flow(TCP, Endpoint(UE, 40041), GM)
    bench.connect(clear)
    bench.from_ue(clear, bench.register(Sas(), transport="TCP"))
    bench.ue.wants.append(fx.Close(clear))
    bench.flush(bench.ue)
    connects = len(bench.effects(fx.Connect))
    bench.challenge(bench.core.requests("REGISTER")[-1])
    assert bench.ue.got == []
    assert len(bench.effects(fx.Connect)) == connects


def test_large_requests_to_the_ue_go_over_tcp_from_pc_to_us() -> None:
    bench = Bench()
    sas = bench.registered()
    bench.from_core(bench.core_request(sas, "MESSAGE"))
    assert bench.ue.got[-1].flow.transport is UDP
    bench.from_core(big(bench, sas))
    got = bench.ue.got[-1]
    assert got.flow == Flow(TCP, Endpoint(UE, sas.us), Endpoint(GM.host, sas.pc))
    assert got.message.via[0].transport == "TCP"
    assert got.message.via[0].port == sas.ps
    assert isinstance(got.message, Request)
    bench.from_ue(got.flow, response_to(got.message, 200))
    assert bench.core.responses()[-1].status == 200
    bench.from_core(big(bench, sas))
    assert len([e for e in bench.effects(fx.Connect) if e.flow.remote.host == UE]) == 1  # type: ignore[attr-defined]


def test_the_threshold_is_1300_with_our_via() -> None:
    bench = Bench()
    sas = bench.registered()
    for octets, transport in ((1300, UDP), (1301, TCP)):
        request = bench.core_request(sas, "MESSAGE")
        bench.from_core(request)
        spare = octets - len(bench.ue.got[-1].message.encode())
        request = bench.core_request(sas, "MESSAGE")
        request.body = b"x" * (spare - 3)  # Content-Length: 0 becomes four digits
        bench.from_core(request)
        got = bench.ue.got[-1]
        assert abs(len(got.message.encode()) - octets) <= 1
        if len(got.message.encode()) == octets:
            assert got.flow.transport is transport


def test_a_contact_that_says_tcp_gets_tcp() -> None:
    bench = Bench()
    contact = "<sip:ue@10.0.0.2:40002;transport=TCP>;expires=600"
    sas = bench.registered(contact=contact)
    bench.from_core(bench.core_request(sas, "MESSAGE"))
    assert bench.ue.got[-1].flow.transport is TCP


def test_a_closed_connection_to_the_ue_is_opened_again_from_pc() -> None:
    bench = Bench()
    sas = bench.registered()
    bench.from_core(big(bench, sas))
    flow = bench.ue.got[-1].flow
    bench.ue.wants.append(fx.Close(flow))
    bench.flush(bench.ue)
    bench.from_core(big(bench, sas))
    assert bench.ue.got[-1].flow == flow
    opened = [e.flow for e in bench.effects(fx.Connect) if isinstance(e, fx.Connect) and e.flow.remote.host == UE]
    assert opened == [flow.reversed] * 2


def test_a_refused_connection_is_480_upstream() -> None:
    bench = Bench()
    sas = bench.registered()
    bench.wire.listening.discard((TCP, Endpoint(UE, sas.us)))
    bench.from_core(big(bench, sas))
    assert bench.core.responses()[-1].status == 480


def test_connections_go_with_their_set() -> None:
    bench = Bench()
    sas = bench.registered(expires=100)
    flow = bench.inside(sas, TCP)
    bench.connect(flow)
    bench.from_core(big(bench, sas))
    bench.wire.log.clear()
    bench.wire.run(140.0)
    kinds = [type(e) for e in bench.effects(fx.Close, fx.RemoveSas)]
    assert kinds == [fx.Close, fx.Close, fx.RemoveSas]
    assert flow in bench.ue.closed


def test_pings_on_a_protected_connection_are_answered_there() -> None:
    bench = Bench()
    sas = bench.registered()
    flow = bench.inside(sas, TCP)
    bench.connect(flow)
    bench.wire.log.clear()
    bench.from_ue(flow, b"\r\n\r\n")
    sends = bench.effects(fx.Send)
    assert sends == [fx.Send(flow.reversed, b"\r\n")]
    bench.from_ue(bench.inside(sas), b"\r\n\r\n")  # and over UDP nothing comes of them
    assert bench.effects(fx.Send) == sends
    bench.from_ue(flow, bench.ue_request(sas, "MESSAGE", Via=bench.via(sas.us, "TCP")))
    assert len(bench.core.requests("MESSAGE")) == 1


def test_two_requests_in_one_piece_and_one_in_many() -> None:
    bench = Bench()
    sas = bench.registered()
    flow = bench.inside(sas, TCP)
    bench.connect(flow)
    octets = b"".join(bench.ue_request(sas, "MESSAGE", Via=bench.via(sas.us, "TCP")).encode() for _ in range(2))
    bench.from_ue(flow, octets)
    assert len(bench.core.requests("MESSAGE")) == 2
    one = bench.ue_request(sas, "MESSAGE", Via=bench.via(sas.us, "TCP")).encode()
    for start in range(0, len(one), 7):
        bench.from_ue(flow, one[start : start + 7])
    assert len(bench.core.requests("MESSAGE")) == 3


# ---- no SA, nothing in clear


def test_without_sas_nothing_goes_to_the_ue() -> None:
    bench = Bench()
    sas = bench.registered()
    bench.wire.sets["pcscf"].clear()
    token = bench.token
    bench.wire.give(bench.pcscf, ev.SaExpired(1))
    before = len(bench.ue.got)
    bench.wire.log.clear()
    bench.from_core(bench.core_request(sas, "MESSAGE", route=f"<sip:{token}@{MW};lr>"))
    assert bench.core.responses()[-1].status == 480
    assert len(bench.ue.got) == before
    assert not [e for e in bench.effects(fx.Send) if isinstance(e, fx.Send) and e.flow.remote.host == UE]


def test_an_answer_after_the_sas_have_gone_is_withheld() -> None:
    bench = Bench()
    sas = bench.registered()
    bench.from_ue(bench.inside(sas), bench.ue_request(sas, "MESSAGE"))
    bench.wire.sets["pcscf"].clear()
    bench.wire.give(bench.pcscf, ev.SaExpired(1))
    before = len(bench.ue.got)
    bench.from_core(response_to(bench.core.requests("MESSAGE")[-1], 200, to_tag="b"))
    assert len(bench.ue.got) == before


def test_repetitions_of_a_request_stop_with_the_sas() -> None:
    bench = Bench()
    sas = bench.registered(expires=100)
    bench.wire.run(129.0)
    contact = next(iter(bench.pcscf.contacts.values()))
    assert not contact.bindings
    bench.from_core(bench.core_request(sas, "BYE", To=f"<{IMPU}>;tag=x"))  # in a dialog, in the last second
    bench.wire.run(130.1)
    count = len(bench.ue.got)
    bench.wire.run(162.0)
    assert len(bench.ue.got) == count
    assert "withheld" in bench.wire.emitted("pcscf")
    assert bench.core.responses()[-1].status == 480


def test_a_repeated_answer_on_a_dead_connection_opens_none() -> None:
    bench = Bench()
    sas = bench.registered()
    flow = bench.inside(sas, TCP)
    bench.connect(flow)
    bench.from_ue(flow, bench.ue_request(sas, "INVITE", Via=bench.via(sas.us, "TCP")))
    bench.from_core(response_to(bench.core.requests("INVITE")[-1], 200, to_tag="b"))
    connects = len(bench.effects(fx.Connect))
    bench.ue.wants.append(fx.Close(flow))
    bench.flush(bench.ue)
    bench.pcscf.transmit(flow.reversed, b"again")
    assert not [e for e in bench.pcscf.take() if isinstance(e, fx.Connect | fx.Send)]
    assert len(bench.effects(fx.Connect)) == connects


# ---- timers


@pytest.mark.parametrize(
    ("access", "aware", "slow"),
    [
        ("3GPP-E-UTRAN-FDD;utran-cell-id-3gpp=1", True, True),
        ("IEEE-802.11a;i-wlan-node-id=1", True, True),
        ("3GPP-NR-FDD;utran-cell-id-3gpp=1", True, False),
        ("", True, False),
        ("3GPP-UTRAN-TDD", False, False),
    ],
)
def test_t1_on_gm_follows_the_access(access: str, aware: bool, slow: bool) -> None:
    bench = Bench(access_timers=aware)
    sas = bench.challenged()
    request = bench.register(sas, clear=False, nonce=sas.nonce, response="abc")
    if access:
        request.add("P-Access-Network-Info", access)
    bench.from_ue(bench.inside(sas), request)
    bench.ok(bench.core.requests("REGISTER")[-1], expires=6000)
    bench.from_core(bench.core_request(sas, "NOTIFY"))
    bench.wire.run(60.0)
    times = [got.time for got in bench.ue.got if isinstance(got.message, Request)]
    expected = (
        [0.0, 2.0, 6.0, 14.0, 30.0, 46.0] if slow else [0.0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    )
    assert times == expected


def test_towards_the_core_the_timers_are_rfc_3261s() -> None:
    bench = Bench()
    sas = bench.challenged()
    request = bench.register(sas, clear=False, nonce=sas.nonce, response="abc")
    request.add("P-Access-Network-Info", "3GPP-E-UTRAN-FDD")
    bench.from_ue(bench.inside(sas), request)
    bench.wire.run(4.0)
    times = [got.time for got in bench.core.got if got.message.cseq.number == request.cseq.number]
    assert times == [0.0, 0.5, 1.5, 3.5]


# ---- IPv6


def test_ipv6_with_texts_in_any_form() -> None:
    bench = Bench(ue="2001:db8:10::2", gm=Endpoint("2001:db8:1::1", 5060))
    sas = bench.registered(contact="<sip:ue@[2001:DB8:10:0:0::2]:40002>;expires=600")
    assert bench.sets == {1: "established"}
    request = bench.register(sas.next(), clear=False, nonce=sas.nonce, response="1", verify=sas.server)
    request.set("Via", "SIP/2.0/UDP [2001:0DB8:0010::0002]:40002;branch=z9hG4bKlong")
    before = len(bench.core.got)
    bench.from_ue(bench.inside(sas), request)
    assert len(bench.core.got) == before + 1
    bench.from_core(bench.core_request(sas, "INVITE"))
    message = bench.ue.got[-1].message
    assert message.via[0].sent_by == f"[2001:db8:1::1]:{sas.ps}"
    assert message.record_route[0].uri.host == "2001:db8:1::1"
    assert {sa.src.host for sa in bench.wire.sets["pcscf"][1].sas} == {"2001:db8:10::2", "2001:db8:1::1"}


def test_one_address_for_both_sides() -> None:
    bench = Bench(gm=Endpoint(MW.host, 5070))
    bench.registered()
    up = bench.core.requests("REGISTER")[-1]
    assert up.via[0].port == MW.port
    sas = bench.sets
    assert sas == {1: "established"}
    assert bench.core.got[-1].flow.remote == MW
    assert CORE.host != MW.host
