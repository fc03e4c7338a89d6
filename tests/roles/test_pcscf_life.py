"""The life of SAs at the P-CSCF: promotion, switch-over, expiry, failures, de-registration (catalogue H, K, N, O)."""

from __future__ import annotations

from typing import Any

import pytest

from imslab.core import effects as fx
from imslab.core import events as ev
from imslab.core.flow import Endpoint, Flow
from imslab.sip.message import Request, response_to
from tests.roles.pcscf_bench import GM, IMPI, IMPU, TCP, UDP, UE, Bench, Sas


def order(bench: Bench, *kinds: type) -> list[str]:
    """What was done since the log was cleared, SIP by its start line."""
    named = []
    for effect in bench.effects(*kinds, fx.Send):
        if isinstance(effect, fx.Send):
            named.append(effect.octets.split(b"\r\n")[0].decode())
        else:
            named.append(type(effect).__name__)
    return named


def mt_set(bench: Bench, sas: Sas) -> int:
    """The number of the set that a request to the UE uses now; the phone answers, so that nothing is left pending."""
    bench.from_core(bench.core_request(sas, "MESSAGE"))
    got = bench.ue.got[-1]
    record = bench.pcscf.table.covering(got.flow.reversed)
    assert record is not None
    assert isinstance(got.message, Request)
    inside = Flow(UDP, record.uc, record.ps)
    bench.from_ue(inside, response_to(got.message, 200))
    return record.number


# ---- the temporary set


def test_a_temporary_set_lives_240_seconds() -> None:
    bench = Bench()
    bench.challenged()
    bench.wire.run(230.0)
    assert bench.sets == {1: "temporary"}
    bench.wire.run(250.0)
    assert bench.sets == {}
    assert bench.pcscf.contacts == {}
    assert bench.pcscf.tokens == {}
    closed = {(e.transport, e.local.port) for e in bench.effects(fx.Unlisten) if isinstance(e, fx.Unlisten)}
    assert closed == {(t, port) for t in (UDP, TCP) for port in (5100, 6100)}


def test_a_200_promotes_it_to_registration_plus_30() -> None:
    bench = Bench()
    sas = bench.challenged()
    bench.wire.run(10.0)
    bench.wire.log.clear()
    bench.ok(bench.answer(sas), expires=60)
    assert bench.sets == {1: "established"}
    update = bench.effects(fx.UpdateSas)
    assert update == [fx.UpdateSas(1, 90.0)]
    bench.wire.run(10.0 + 89.0)
    assert bench.sets == {1: "established"}
    bench.wire.run(10.0 + 91.0)
    assert bench.sets == {}
    assert bench.pcscf.contacts == {}


def test_a_repeated_answer_gets_the_same_200_and_prolongs_nothing() -> None:
    bench = Bench()
    sas = bench.challenged()
    request = bench.register(sas, clear=False, nonce=sas.nonce, response="abc")
    bench.wire.passes = lambda name, send: not (name == "pcscf" and b"200 OK" in send.octets)
    bench.from_ue(bench.inside(sas), request)
    bench.ok(bench.core.requests("REGISTER")[-1], expires=100)
    bench.wire.passes = lambda name, send: True
    bench.wire.run(5.0)
    bench.from_ue(bench.inside(sas), request)
    assert bench.ue.responses()[-1].status == 200
    assert len(bench.core.requests("REGISTER")) == 2
    assert len(bench.effects(fx.UpdateSas)) == 1
    assert bench.sets == {1: "established"}


# ---- lifetime


def test_a_shorter_refresh_does_not_shorten_and_a_longer_one_prolongs() -> None:
    bench = Bench()
    sas = bench.registered(expires=600)
    for expires, until in ((60, 630.0), (1000, 1030.0)):
        request = bench.register(sas.next(), clear=False, nonce=sas.nonce, response="1", verify=sas.server)
        bench.from_ue(bench.inside(sas), request)
        bench.ok(bench.core.requests("REGISTER")[-1], expires=expires)
        assert bench.sets == {1: "established"}
        record = bench.pcscf.table.get(1)
        assert record is not None
        assert record.expires == until
        assert bench.effects(fx.UpdateSas)[-1] == fx.UpdateSas(1, until)
    bench.wire.run(1029.0)
    assert bench.sets == {1: "established"}
    bench.wire.run(1031.0)
    assert bench.sets == {}


def test_a_new_set_never_ends_before_the_old_one_would_have() -> None:
    bench = Bench()
    old = bench.registered(expires=1000)
    bench.registered(under=old, expires=60)
    record = bench.pcscf.table.get(2)
    assert record is not None
    assert record.expires == 1030.0


def test_the_registration_ends_at_expiry_and_the_sas_30_s_later() -> None:
    bench = Bench()
    sas = bench.registered(expires=100)
    bench.wire.run(101.0)
    assert "deregistered" in bench.wire.emitted("pcscf")
    assert bench.sets == {1: "established"}
    bench.from_core(bench.core_request(sas, "MESSAGE"))
    assert bench.core.responses()[-1].status == 480
    bench.from_ue(bench.inside(sas), bench.ue_request(sas, "MESSAGE"))
    assert bench.ue.responses()[-1].status == 403
    bench.wire.run(120.0)
    bench.registered(under=sas, expires=600)  # 20 s too late, and still in time
    assert bench.sets[2] == "established"


def test_esp_after_the_end_finds_nothing() -> None:
    bench = Bench()
    sas = bench.registered(expires=100)
    bench.wire.run(135.0)
    before = len(bench.core.got), len(bench.ue.got)
    bench.from_ue(bench.inside(sas), bench.ue_request(sas, "MESSAGE"))
    assert (len(bench.core.got), len(bench.ue.got)) == before
    assert bench.sets == {}


def test_a_carriers_own_end_of_a_set_is_believed() -> None:
    bench = Bench()
    bench.registered()
    bench.wire.sets["pcscf"].clear()
    bench.wire.give(bench.pcscf, ev.SaExpired(1))
    assert bench.sets == {}
    bench.wire.give(bench.pcscf, ev.SaExpired(1))
    assert bench.wire.emitted("pcscf").count("sas-expired") == 1


# ---- switch-over


def test_after_a_clear_start_all_older_sets_go_once_the_200_has_left() -> None:
    bench = Bench()
    old = bench.registered()
    new = bench.challenged(old.next())
    request = bench.answer(new)
    assert bench.sets == {1: "established", 2: "temporary"}
    bench.wire.log.clear()
    bench.ok(request)
    assert order(bench, fx.UpdateSas, fx.RemoveSas) == ["UpdateSas", "SIP/2.0 200 OK", "RemoveSas"]
    assert bench.sets == {2: "established"}


def test_after_a_protected_start_the_old_set_is_kept_until_the_ue_uses_the_new_one() -> None:
    bench = Bench()
    old = bench.registered()
    new = bench.challenged(under=old)
    assert new.ps == old.ps
    assert new.pc != old.pc
    assert mt_set(bench, old) == 1  # while the challenge is pending
    bench.ok(bench.answer(new))
    assert bench.sets == {1: "kept", 2: "established"}
    assert bench.ue.got[-1].flow.remote.port == new.pc  # the 200 itself goes by the new set
    assert mt_set(bench, old) == 1
    bench.from_ue(bench.inside(new), bench.ue_request(new, "OPTIONS"))
    assert bench.sets == {1: "old", 2: "established"}
    assert mt_set(bench, new) == 2
    assert "sas-switched" in bench.wire.emitted("pcscf")


def test_an_answer_of_the_ue_on_the_new_set_switches_too() -> None:
    bench = Bench()
    old = bench.registered()
    new = bench.registered(under=old)
    bench.from_core(bench.core_request(old, "MESSAGE"))
    message = bench.ue.got[-1].message
    assert isinstance(message, Request)
    bench.from_ue(bench.inside(new), response_to(message, 200))
    assert bench.sets[1] == "old"


def test_a_repeated_register_on_the_new_set_is_no_switch() -> None:
    bench = Bench()
    old = bench.registered()
    new = bench.challenged(under=old)
    request = bench.register(new, clear=False, nonce=new.nonce, response="abc")
    bench.from_ue(bench.inside(new), request)
    bench.ok(bench.core.requests("REGISTER")[-1])
    bench.from_ue(bench.inside(new), request)  # the UE has not heard the 200
    assert bench.sets[1] == "kept"


def test_traffic_moves_before_the_old_set_ends() -> None:
    bench = Bench()
    old = bench.registered(expires=100)
    bench.wire.run(50.0)
    new = bench.registered(under=old, expires=1000)
    bench.wire.run(119.0)
    assert bench.sets[1] == "kept"
    bench.wire.run(121.0)
    assert mt_set(bench, new) == 2


def test_the_old_set_goes_when_nothing_is_pending() -> None:
    bench = Bench()
    old = bench.registered()
    new = bench.registered(under=old)
    bench.from_ue(bench.inside(new), bench.ue_request(new, "MESSAGE"))
    assert bench.sets[1] == "old"
    bench.wire.run(4.9)  # what is still in the air may arrive
    assert bench.sets[1] == "old"
    bench.wire.run(5.1)
    assert 1 not in bench.sets


def test_the_old_set_waits_for_its_transactions_but_not_longer_than_64_t1() -> None:
    bench = Bench()
    old = bench.registered()
    bench.from_ue(bench.inside(old), bench.ue_request(old, "INVITE"))
    invite = bench.core.requests("INVITE")[-1]
    bench.from_core(response_to(invite, 100))
    new = bench.registered(under=old)
    bench.from_ue(bench.inside(new), bench.ue_request(new, "OPTIONS", uri=f"sip:{GM.host}", Route=""))
    bench.wire.run(31.0)
    assert bench.sets[1] == "old"
    bench.wire.run(33.0)
    assert 1 not in bench.sets
    bench.from_core(response_to(invite, 180, to_tag="b"))
    got = bench.ue.got[-1]
    assert getattr(got.message, "status", 0) == 180
    assert got.flow.remote.port == new.pc  # the set of the request is gone: the newest carries the answer


def test_a_transaction_that_ends_lets_the_old_set_go() -> None:
    bench = Bench()
    old = bench.registered()
    bench.from_ue(bench.inside(old), bench.ue_request(old, "MESSAGE"))
    message = bench.core.requests("MESSAGE")[-1]
    new = bench.registered(under=old)
    bench.from_ue(bench.inside(new), bench.ue_request(new, "OPTIONS", uri=f"sip:{GM.host}", Route=""))
    bench.wire.run(6.0)
    assert bench.sets[1] == "old"
    bench.from_core(response_to(message, 200, to_tag="b"))
    assert bench.ue.got[-1].flow.remote.port == old.pc  # on its own set
    bench.wire.run(11.0)
    assert 1 not in bench.sets


def test_64_t1_is_128_s_where_the_access_says_so() -> None:
    bench = Bench()
    sas = bench.challenged()
    access = [("P-Access-Network-Info", "3GPP-E-UTRAN-FDD;utran-cell-id-3gpp=1")]

    def protected(sas: Sas, inside: Sas, **changes: Any) -> None:
        request = bench.register(sas, clear=False, **changes)
        request.extend(access)
        bench.from_ue(bench.inside(inside), request)

    protected(sas, sas, nonce=sas.nonce, response="abc")
    bench.ok(bench.core.requests("REGISTER")[-1])
    bench.from_ue(bench.inside(sas), bench.ue_request(sas, "INVITE"))
    new = sas.next()
    protected(new, sas, nonce=sas.nonce, response="abc", verify=sas.server)
    new.nonce = bench.challenge(bench.core.requests("REGISTER")[-1])
    bench.read(new, bench.ue.responses()[-1])
    protected(new, new, nonce=new.nonce, response="abc")
    bench.ok(bench.core.requests("REGISTER")[-1])
    bench.from_ue(bench.inside(new), bench.ue_request(new, "OPTIONS", uri=f"sip:{GM.host}", Route=""))
    bench.wire.run(127.0)
    assert bench.sets[1] == "old"
    bench.wire.run(129.0)
    assert 1 not in bench.sets


def test_three_sets_are_the_most() -> None:
    bench = Bench()
    one = bench.registered()
    two = bench.registered(under=one)
    bench.challenged(two.next(), under=one)
    assert bench.sets == {1: "kept", 2: "established", 3: "temporary"}
    before = len(bench.core.got)
    bench.from_ue(bench.clear(), bench.register(two.next(2)))
    assert bench.ue.responses()[-1].status == 400
    assert len(bench.core.got) == before
    assert bench.sets == {1: "kept", 2: "established", 3: "temporary"}


def test_of_three_only_the_one_it_began_in_is_kept() -> None:
    bench = Bench()
    one = bench.registered()
    two = bench.registered(under=one)
    bench.registered(two.next(), under=two)
    assert bench.sets == {2: "kept", 3: "established"}


def test_beginning_again_in_an_old_set_keeps_that_one() -> None:
    bench = Bench()
    one = bench.registered()
    two = bench.registered(under=one)
    bench.from_ue(bench.inside(two), bench.ue_request(two, "MESSAGE"))
    assert bench.sets[1] == "old"
    three = bench.challenged(two.next(), under=one)
    assert bench.core.requests("REGISTER")[-1].authorization[0].integrity_protected == "no"
    bench.ok(bench.answer(three))
    assert bench.sets == {1: "kept", 3: "established"}
    bench.wire.run(60.0)
    assert bench.sets == {1: "kept", 3: "established"}  # its timers as an old set are gone


def test_contacts_of_one_impi_have_their_own_sets() -> None:
    bench = Bench()
    flow = '<sip:ue@10.0.0.2:40002>;expires=600;+sip.instance="<urn:uuid:1>";reg-id={}'
    one = bench.registered(Sas(), contact=flow.format(1))
    two = bench.challenged(Sas(40011, 40012, 71, 72), contact=flow.format(2))
    bench.ok(bench.answer(two, contact=flow.format(2)))
    assert bench.sets == {1: "established", 2: "established"}
    assert len(bench.pcscf.contacts) == 2
    request = bench.register(one.next(2), clear=False, nonce=one.nonce, response="1", verify=one.server, expires=0)
    bench.from_ue(bench.inside(one), request)
    bench.ok(bench.core.requests("REGISTER")[-1], expires=0)
    bench.wire.run(40.0)
    assert bench.sets == {2: "established"}


def renewed(stage: str) -> tuple[Bench, Sas, Sas]:
    """Two sets of one contact, the older one in this stage; where it is old, an INVITE keeps it."""
    bench = Bench()
    one = bench.registered(expires=100)
    if stage == "old":
        bench.from_ue(bench.inside(one), bench.ue_request(one, "INVITE"))
        bench.from_core(response_to(bench.core.requests("INVITE")[-1], 100))
    two = bench.registered(under=one, expires=1000)
    if stage == "old":
        bench.from_ue(bench.inside(two), bench.ue_request(two, "OPTIONS", uri=f"sip:{GM.host}", Route=""))
    if stage == "closing":
        deregister(bench, two)
    assert bench.sets[1] == stage
    return bench, one, two


def test_a_kept_set_goes_when_yet_another_begins_elsewhere() -> None:
    bench, _, two = renewed("kept")
    bench.registered(two.next())
    assert bench.sets == {3: "established"}


def test_a_kept_set_in_which_the_next_begins_is_kept_on() -> None:
    bench, one, two = renewed("kept")
    bench.registered(two.next(), under=one)
    assert bench.sets == {1: "kept", 3: "established"}
    bench.wire.run(121.0)  # and still leaves in time
    assert bench.sets[1] == "old"


def test_an_old_set_goes_when_yet_another_begins_elsewhere() -> None:
    bench, _, two = renewed("old")
    bench.registered(two.next(), under=two)
    assert bench.sets == {2: "kept", 3: "established"}


@pytest.mark.parametrize("stage", ["kept", "old"])
def test_a_deregistration_closes_older_sets_too(stage: str) -> None:
    bench, _, two = renewed(stage)
    deregister(bench, two)
    assert bench.sets == {1: "closing", 2: "closing"}


@pytest.mark.parametrize("stage", ["kept", "old", "closing"])
def test_a_set_that_the_carrier_lost_is_gone_in_any_stage(stage: str) -> None:
    bench, _, _ = renewed(stage)
    del bench.wire.sets["pcscf"][1]
    bench.wire.give(bench.pcscf, ev.SaExpired(1))
    assert 1 not in bench.sets
    assert not [each for each in bench.effects(fx.RemoveSas) if each == fx.RemoveSas(1)]


def test_a_kept_set_ends_with_its_lifetime() -> None:
    bench = Bench(switch_margin=0.0)
    one = bench.registered(expires=100)
    bench.wire.run(50.0)
    two = bench.registered(under=one, expires=1000)
    bench.wire.run(130.0)
    assert bench.sets == {2: "established"}
    assert mt_set(bench, two) == 2


def test_an_old_set_ends_with_its_lifetime() -> None:
    bench = Bench()
    one = bench.registered(expires=100)
    bench.wire.run(115.0)
    bench.from_core(bench.core_request(one, "BYE", To=f"<{IMPU}>;tag=x"))
    two = bench.registered(under=one, expires=1000)
    bench.from_ue(bench.inside(two), bench.ue_request(two, "OPTIONS", uri=f"sip:{GM.host}", Route=""))
    bench.wire.run(129.0)
    assert bench.sets[1] == "old"
    bench.wire.run(131.0)
    assert bench.sets == {2: "established"}


def test_a_closing_set_ends_with_its_lifetime() -> None:
    bench = Bench()
    sas = bench.registered(expires=100)
    bench.wire.run(120.0)
    deregister(bench, sas)
    assert bench.sets == {1: "closing"}
    bench.wire.run(131.0)
    assert bench.sets == {}


def test_a_set_that_closed_while_the_next_was_made_goes_with_its_200() -> None:
    bench = Bench()
    old = bench.registered()
    new = bench.challenged(old.next())
    deregister(bench, old)
    assert bench.sets == {1: "closing", 2: "temporary"}
    bench.ok(bench.answer(new))
    assert bench.sets == {2: "established"}


# ---- what is sent under which protection


def situation(stage: str) -> tuple[Bench, Sas | None, Sas]:
    """A challenge is waiting. The set to send in (None: in clear), and the one that the challenge made."""
    bench = Bench()
    if stage == "clear":
        return bench, None, bench.challenged()
    if stage == "temporary":
        waiting = bench.challenged()
        return bench, waiting, waiting
    one = bench.registered()
    if stage == "established":
        return bench, one, bench.challenged(under=one)
    if stage == "closing":
        deregister(bench, one)
        return bench, one, bench.challenged(under=one)
    two = bench.registered(under=one)
    if stage == "old":
        bench.from_ue(bench.inside(two), bench.ue_request(two, "INVITE"))
        bench.from_core(response_to(bench.core.requests("INVITE")[-1], 100))
        return bench, one, bench.challenged(two.next(), under=two)
    return bench, one, bench.challenged(two.next(), under=one)


@pytest.mark.parametrize(
    ("stage", "first", "answer", "report", "request_status"),
    [
        ("clear", "no", "no", "no", None),
        ("temporary", "no", "yes", "no", None),
        ("established", "yes", "no", "yes", 200),
        ("kept", "no", "no", "no", 200),
        ("old", "no", "no", "no", 200),
        ("closing", "no", "no", "no", 200),
    ],
)
def test_the_table_of_protection(stage: str, first: str, answer: str, report: str, request_status: int | None) -> None:
    for flag, changes in (
        (first, {}),
        (answer, {"nonce": "waiting", "response": "abc"}),
        (report, {"nonce": "waiting", "response": ""}),
    ):
        bench, sas, waiting = situation(stage)
        if len(bench.sets) == 3:  # rule 3 of 33.203 7.1 would refuse any offer; what is judged here is only the flag
            del bench.wire.sets["pcscf"][2]
            bench.wire.give(bench.pcscf, ev.SaExpired(2))
        values = {"nonce": waiting.nonce if changes.get("nonce") else "", "response": changes.get("response", "")}
        offered = waiting if changes.get("response") == "abc" else Sas(49001, waiting.us, 8001, 8002)
        request = bench.register(
            offered,
            clear=sas is None,
            verify=waiting.server if stage == "temporary" else (sas or waiting).server,
            **values,
        )
        bench.from_ue(bench.inside(sas) if sas else bench.clear(), request)
        up = bench.core.requests("REGISTER")[-1]
        assert up.cseq.number == request.cseq.number
        assert up.authorization[0].get_all("integrity-protected") == [flag]
    bench, sas, waiting = situation(stage)
    before = len(bench.ue.got)
    way = bench.inside(sas) if sas else bench.clear()
    bench.from_ue(way, bench.ue_request(sas or waiting, "OPTIONS", uri=f"sip:{GM.host}", Route=""))
    statuses = [getattr(got.message, "status", 0) for got in bench.ue.got[before:]]
    assert statuses == ([] if request_status is None else [request_status])


@pytest.mark.parametrize("stage", ["established", "kept", "old", "closing"])
def test_the_ue_may_answer_on_any_set_that_served_it(stage: str) -> None:
    bench, sas, _ = situation(stage)
    assert sas is not None
    bench.from_core(bench.core_request(sas, "BYE", To=f"<{IMPU}>;tag=x"))
    message = bench.ue.requests("BYE")[-1]
    bench.from_ue(bench.inside(sas), response_to(message, 200))
    assert bench.core.responses()[-1].status == 200


# ---- failures


@pytest.mark.parametrize("status", [403, 404, 500])
@pytest.mark.parametrize("protected", [False, True])
def test_a_failure_of_the_first_register_goes_as_it_came(status: int, protected: bool) -> None:
    bench = Bench()
    old = bench.registered() if protected else None
    sas = old.next() if old else Sas()
    request = bench.register(sas, clear=old is None, verify=old.server if old else None)
    bench.from_ue(bench.inside(old) if old else bench.clear(), request)
    bench.from_core(response_to(bench.core.requests("REGISTER")[-1], status, to_tag="c"))
    got = bench.ue.got[-1]
    assert getattr(got.message, "status", 0) == status
    assert got.flow.remote.port == (old.pc if old else 5060)
    assert bench.sets == ({1: "established"} if old else {})


@pytest.mark.parametrize("protected", [False, True])
@pytest.mark.parametrize(("status", "wrong_answer"), [(403, True), (500, False), (404, False)])
def test_which_set_carries_a_failure_answer(protected: bool, status: int, wrong_answer: bool) -> None:
    bench = Bench()
    old = bench.registered() if protected else None
    sas = bench.challenged(under=old)
    bench.from_core(response_to(bench.answer(sas), status, to_tag="core"))
    got = bench.ue.got[-1]
    assert getattr(got.message, "status", 0) == status
    if old is not None:
        assert got.flow == Flow(UDP, Endpoint(UE, old.us), Endpoint(GM.host, old.pc))
        assert bench.sets == {1: "established"}
        assert mt_set(bench, old) == 1
    elif wrong_answer:
        assert got.flow == Flow(UDP, Endpoint(UE, sas.us), Endpoint(GM.host, sas.pc))
        assert bench.sets == {1: "closing"}
        bench.wire.run(33.0)
        assert bench.sets == {}
    else:
        assert got.flow == Flow(UDP, Endpoint(UE, 5060), GM)
        assert bench.sets == {}


@pytest.mark.parametrize("protected", [False, True])
def test_our_own_refusal_of_an_answer_takes_the_same_way(protected: bool) -> None:
    bench = Bench()
    old = bench.registered() if protected else None
    sas = bench.challenged(under=old)
    bench.answer(sas, verify="tls")
    got = bench.ue.got[-1]
    assert getattr(got.message, "status", 0) == 494
    expected = Flow(UDP, Endpoint(UE, old.us), Endpoint(GM.host, old.pc)) if old else Flow(UDP, Endpoint(UE, 5060), GM)
    assert got.flow == expected
    assert bench.sets == ({1: "established"} if old else {})


def test_silence_after_the_answer_ends_the_attempt() -> None:
    bench = Bench()
    sas = bench.challenged()
    bench.answer(sas)
    bench.wire.run(40.0)
    assert bench.ue.responses()[-1].status == 504
    assert bench.ue.got[-1].flow.remote == GM
    assert bench.sets == {}


def test_a_second_challenge_in_one_procedure() -> None:
    bench = Bench()
    sas = bench.challenged()
    request = bench.answer(sas)
    sas.nonce = bench.challenge(request)
    got = bench.ue.got[-1]
    assert got.flow.remote == GM  # the procedure began in clear
    assert bench.sets == {2: "temporary"}
    bench.read(sas, bench.ue.responses()[-1])
    bench.ok(bench.answer(sas))
    assert bench.sets == {2: "established"}


def test_an_answer_challenged_without_keys_ends_it() -> None:
    bench = Bench()
    sas = bench.challenged()
    bench.challenge(bench.answer(sas), www='Digest realm="r", nonce="n"')
    assert bench.ue.responses()[-1].status == 500
    assert bench.sets == {}


def test_a_200_for_an_answer_whose_set_was_replaced_meanwhile() -> None:
    bench = Bench()
    sas = bench.challenged()
    request = bench.answer(sas)
    bench.challenged(sas.next())  # the UE has begun again
    bench.ok(request)
    assert bench.sets == {2: "temporary"}
    assert not next(iter(bench.pcscf.contacts.values())).bindings
    bench.wire.run(250.0)
    assert bench.sets == {}
    assert bench.pcscf.contacts == {}


@pytest.mark.parametrize("report", [{"more": ', auts="QUJD"', "response": "abc"}, {"response": ""}])
@pytest.mark.parametrize("where", ["clear", "temporary", "established"])
def test_a_failure_report_drops_the_temporary_set_first(report: dict[str, str], where: str) -> None:
    bench = Bench()
    old = bench.registered() if where == "established" else None
    sas = bench.challenged(under=old)
    after = sas.next(2)
    inside = sas if where == "temporary" else old
    request = bench.register(
        after, clear=inside is None, nonce=sas.nonce, verify=inside.server if inside else None, **report
    )
    bench.from_ue(bench.inside(inside) if inside else bench.clear(), request)
    assert "temporary" not in bench.sets.values()
    up = bench.core.requests("REGISTER")[-1]
    assert up.authorization[0].integrity_protected == ("yes" if where == "established" else "no")
    after.nonce = bench.challenge(up)
    got = bench.ue.got[-1]
    # From a temporary set that is gone, the answer takes the way on which the procedure began.
    assert got.flow.remote == (Endpoint(GM.host, old.pc) if old else GM)
    bench.read(after, bench.ue.responses()[-1])
    bench.ok(bench.answer(after))
    assert "established" in bench.sets.values()


def test_answers_on_the_old_set_are_not_protected() -> None:
    bench = Bench()
    old = bench.registered()
    sas = bench.challenged(under=old)
    request = bench.register(sas, clear=False, nonce=sas.nonce, response="abc")
    bench.from_ue(bench.inside(old), request)
    assert bench.core.requests("REGISTER")[-1].authorization[0].integrity_protected == "no"


def test_a_refresh_with_the_last_credentials_is_protected() -> None:
    bench = Bench()
    old = bench.registered()
    bench.challenged(under=old)
    assert bench.core.requests("REGISTER")[-1].authorization[0].integrity_protected == "yes"


def test_a_clear_register_while_sas_exist_is_marked_and_changes_nothing_yet() -> None:
    bench = Bench()
    old = bench.registered()
    bench.challenged(old.next())
    assert bench.core.requests("REGISTER")[-1].authorization[0].integrity_protected == "no"
    assert bench.sets == {1: "established", 2: "temporary"}
    assert mt_set(bench, old) == 1


# ---- refresh


def test_a_refresh_without_challenge_makes_nothing_of_the_offer() -> None:
    bench = Bench()
    sas = bench.registered()
    request = bench.register(sas.next(), clear=False, nonce=sas.nonce, response="1", verify=sas.server)
    bench.from_ue(bench.inside(sas), request)
    up = bench.core.requests("REGISTER")[-1]
    assert up.authorization[0].get_all("integrity-protected") == ["yes"]
    bench.ok(up)
    assert len(bench.effects(fx.InstallSas)) == 1
    assert bench.ue.got[-1].flow == Flow(UDP, Endpoint(UE, sas.us), Endpoint(GM.host, sas.pc))
    bench.registered(sas.next(), under=sas)  # the ports that were offered then are free
    assert bench.sets == {1: "kept", 2: "established"}


def test_a_401_to_a_protected_register_goes_by_its_set() -> None:
    bench = Bench()
    sas = bench.registered()
    bench.challenged(under=sas)
    assert bench.ue.got[-1].flow == Flow(UDP, Endpoint(UE, sas.us), Endpoint(GM.host, sas.pc))


@pytest.mark.parametrize("missing", ["all", "spi-c=1011;", "port-s=40002"])
def test_a_refresh_needs_a_whole_offer(missing: str) -> None:
    bench = Bench()
    sas = bench.registered()
    request = bench.register(sas.next(), clear=False, nonce=sas.nonce, response="1", verify=sas.server)
    if missing == "all":
        request.remove("Security-Client")
    else:
        request.set("Security-Client", (request.get("Security-Client") or "").replace(missing, ""))
    before = len(bench.core.got)
    bench.from_ue(bench.inside(sas), request)
    assert 400 <= bench.ue.responses()[-1].status < 500
    assert len(bench.core.got) == before
    assert bench.sets == {1: "established"}


def test_failure_of_a_refresh_leaves_everything() -> None:
    bench = Bench()
    sas = bench.registered()
    request = bench.register(sas.next(), clear=False, nonce=sas.nonce, response="1", verify=sas.server)
    bench.from_ue(bench.inside(sas), request)
    bench.from_core(response_to(bench.core.requests("REGISTER")[-1], 500, to_tag="c"))
    assert bench.ue.got[-1].flow.remote.port == sas.pc
    assert bench.sets == {1: "established"}
    assert mt_set(bench, sas) == 1


# ---- de-registration


def deregister(bench: Bench, sas: Sas, *, impu: str = IMPU, contact: str = "", transport: Any = UDP) -> None:
    request = bench.register(
        sas.next(4),
        clear=False,
        nonce=sas.nonce,
        response="1",
        verify=sas.server,
        expires=0,
        impu=impu,
        contact=contact,
    )
    bench.from_ue(bench.inside(sas, transport), request)
    bench.ok(bench.core.requests("REGISTER")[-1], expires=0)


@pytest.mark.parametrize("contact", ["", "*"])
def test_the_sas_go_only_after_the_200_has_left_inside_them(contact: str) -> None:
    bench = Bench()
    sas = bench.registered()
    bench.wire.log.clear()
    deregister(bench, sas, contact=contact)
    got = bench.ue.got[-1]
    assert getattr(got.message, "status", 0) == 200
    assert got.flow == Flow(UDP, Endpoint(UE, sas.us), Endpoint(GM.host, sas.pc))
    assert bench.sets == {1: "closing"}
    assert order(bench, fx.RemoveSas)[-1] == "SIP/2.0 200 OK"
    bench.wire.run(31.0)
    assert bench.sets == {1: "closing"}
    bench.wire.run(33.0)
    assert bench.sets == {}
    assert bench.pcscf.contacts == {}
    assert "deregistered" in bench.wire.emitted("pcscf")


def test_the_network_may_say_it_before_the_200_does() -> None:
    bench = Bench()
    sas = bench.registered()
    request = bench.register(sas.next(), clear=False, nonce=sas.nonce, response="1", verify=sas.server, expires=0)
    bench.from_ue(bench.inside(sas), request)
    contact = next(iter(bench.pcscf.contacts.values()))
    contact.bindings.clear()
    bench.pcscf.settle(contact, "a NOTIFY said so")
    assert bench.sets == {1: "closing"}
    bench.ok(bench.core.requests("REGISTER")[-1], expires=0)
    assert bench.ue.got[-1].flow.remote.port == sas.pc
    assert "unprotected" not in bench.wire.emitted("pcscf")
    assert bench.sets == {1: "closing"}


def test_a_200_inside_closing_sas_registers_nobody() -> None:
    bench = Bench()
    sas = bench.registered()
    deregister(bench, sas)
    request = bench.register(sas.next(), clear=False, nonce=sas.nonce, response="1", verify=sas.server)
    bench.from_ue(bench.inside(sas), request)
    bench.ok(bench.core.requests("REGISTER")[-1])
    assert not next(iter(bench.pcscf.contacts.values())).bindings
    assert "unprotected" in bench.wire.emitted("pcscf")


def test_a_challenged_deregistration_closes_both_sets() -> None:
    bench = Bench()
    old = bench.registered()
    sas = bench.challenged(under=old, expires=0)
    bench.ok(bench.answer(sas, expires=0), expires=0)
    assert bench.ue.got[-1].flow.remote.port == sas.pc
    assert bench.sets == {1: "closing", 2: "closing"}
    bench.wire.run(40.0)
    assert bench.sets == {}


def test_a_lost_200_to_a_deregistration_is_repeated_inside() -> None:
    bench = Bench()
    sas = bench.registered()
    request = bench.register(sas.next(4), clear=False, nonce=sas.nonce, response="1", verify=sas.server, expires=0)
    bench.from_ue(bench.inside(sas), request)
    bench.ok(bench.core.requests("REGISTER")[-1], expires=0)
    bench.wire.run(8.0)
    before = len(bench.ue.got)
    bench.from_ue(bench.inside(sas), request)
    assert len(bench.ue.got) == before + 1
    assert bench.ue.got[-1].flow.remote.port == sas.pc


def test_the_terminated_notify_still_reaches_the_ue() -> None:
    bench = Bench()
    sas = bench.registered()
    deregister(bench, sas)
    bench.from_core(bench.core_request(sas, "NOTIFY", To=f"<{IMPU}>;tag=ue", Subscription_State="terminated"))
    got = bench.ue.got[-1]
    assert isinstance(got.message, Request)
    bench.from_ue(bench.inside(sas), response_to(got.message, 200))
    assert bench.core.responses()[-1].status == 200
    bench.from_core(bench.core_request(sas, "MESSAGE"))
    assert bench.core.responses()[-1].status == 480  # but nothing new begins


def test_only_the_last_identity_takes_the_sas() -> None:
    bench = Bench()
    sas = bench.registered()
    second = "sip:second@ims.example"
    request = bench.register(sas.next(), clear=False, nonce=sas.nonce, response="1", verify=sas.server, impu=second)
    bench.from_ue(bench.inside(sas), request)
    bench.ok(bench.core.requests("REGISTER")[-1], identities=f"<{second}>")
    contact = next(iter(bench.pcscf.contacts.values()))
    assert len(contact.bindings) == 2
    deregister(bench, sas)
    assert bench.sets == {1: "established"}
    assert [str(uri) for uri in contact.identities] == [second]
    deregister(bench, sas, impu=second)
    assert bench.sets == {1: "closing"}


def test_any_member_takes_its_implicit_set_away() -> None:
    bench = Bench()
    sas = bench.registered()
    deregister(bench, sas, impu="tel:+15550001")
    assert bench.sets == {1: "closing"}


def test_registering_again_at_once_removes_what_is_closing() -> None:
    bench = Bench()
    sas = bench.registered()
    deregister(bench, sas)
    bench.registered(Sas())  # the very same ports and SPIs: they belong to a set that ends
    assert bench.sets == {2: "established"}
    bench.wire.run(40.0)
    assert bench.sets == {2: "established"}


def test_a_register_inside_a_closing_set_is_challenged_there() -> None:
    bench = Bench()
    sas = bench.registered()
    deregister(bench, sas)
    new = bench.challenged(under=sas)
    assert bench.core.requests("REGISTER")[-1].authorization[0].integrity_protected == "no"
    assert bench.sets == {1: "closing", 2: "temporary"}
    bench.ok(bench.answer(new))
    assert bench.sets == {1: "closing", 2: "established"}
    assert mt_set(bench, new) == 2


def test_nothing_is_left_after_many_rounds() -> None:
    bench = Bench(client_ports=range(5100, 5104))
    for number in range(30):
        sas = Sas(40001, 40002, 1000 + 2 * number, 1001 + 2 * number)
        bench.registered(sas)
        deregister(bench, sas)
        bench.wire.run(bench.wire.now + 300.0)
    assert bench.sets == {}
    pcscf = bench.pcscf
    assert not pcscf.contacts
    assert not pcscf.tokens
    assert len(pcscf.transactions) == 0
    assert pcscf.next_timer() is None
    assert bench.wire.listening >= {(UDP, GM), (TCP, GM)}
    assert not [local for _, local in bench.wire.listening if local.host == GM.host and local.port != 5060]


def test_two_ues_do_not_disturb_each_other() -> None:
    bench = Bench()
    bench.registered()
    other = Bench()  # only to build another phone's messages
    assert other.host == UE
    bench.host = "10.0.0.3"
    bench.wire.add(bench.ue, "10.0.0.3")
    bench.ue.wants += [fx.Listen(UDP, Endpoint("10.0.0.3", port)) for port in (5060, 40002)]
    bench.flush(bench.ue)
    bench.registered(impi="two@ims.example")
    assert bench.sets == {1: "established", 2: "established"}
    assert {each.key.impi for each in bench.pcscf.contacts.values()} == {IMPI, "two@ims.example"}
    bench.wire.give(bench.pcscf, ev.SaExpired(1))
    assert [record.number for record in bench.pcscf.table] == [2]
