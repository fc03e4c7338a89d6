"""The HSS as a node: order of effects, overlapping requests, what is refused, pushes, commands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hss.node import HssConfig, HssNode
from hss.store import Change, MemoryStore
from hss.subscriber import RegistrationSet, RegistrationState, Subscriber
from imslab.aka.sqn import split_sqn
from imslab.core import effects as fx
from imslab.core import events as ev
from imslab.core.entropy import SeededEntropy
from imslab.core.errors import LocalError
from imslab.core.flow import Endpoint, Flow, Transport
from imslab.core.node import Node
from imslab.diameter import cx
from imslab.diameter.avp import Avp
from imslab.diameter.dictionary import make
from imslab.diameter.message import DiameterMessage
from imslab.diameter.userdata import PublicIdentity, ServiceProfile, parse_userdata
from imslab.net.simulated import SimulatedNetwork
from tests.diameter.shark import dissect
from tests.hss.carrier import HSS_HOST, IMPI, IMPU, LISTEN, OPC, REALM, Bench, Client, K, subscriber

OTHER = Subscriber.from_imsi("001010000000002", K, OPC)


def bench(one: Subscriber | None = None, **options: Any) -> tuple[Bench, Client]:
    made = Bench([one or subscriber()], **options)
    return made, made.connect()


def stored(made: Bench, key: str = IMPI) -> Subscriber:
    found = made.store.load(key)
    assert found is not None
    return found


def test_it_is_a_node() -> None:
    node: Node = HssNode("hss", HssConfig("h", "r", (LISTEN,)), SeededEntropy(1))
    node.handle(ev.Started(), 0.0)
    assert node.take() == [fx.Listen(Transport.TCP, LISTEN)]
    assert node.take() == []
    assert node.next_timer() is None


def test_a_key_whose_sequence_numbers_are_used_up_has_no_vector() -> None:
    made, one = bench(subscriber(sqn=(1 << 48) - 1))
    answer = one.mar()
    assert (answer.result_code, answer.items) == (5012, [])
    assert "43 bits are used up" in made.emitted("no-vectors")[0]
    assert stored(made).version == subscriber().version
    assert one.mar().result_code == 5012


def test_a_vector_is_durable_before_it_leaves() -> None:
    made, one = bench()
    made.log.clear()
    one.mar()
    kinds = [type(effect).__name__ for effect in made.log]
    assert kinds == ["Load", "Load", "Persist", "Send"]
    persist = made.log[2]
    assert isinstance(persist, fx.Persist)
    assert isinstance(persist.change, Change)
    assert persist.change.after is stored(made)


def test_nothing_leaves_while_the_commit_is_awaited() -> None:
    made, one = bench()
    made.slow = True
    one.send(one.mar_request().to_message())
    assert one.answers == []
    assert stored(made).privates[0].sqn == 0
    made.commit()
    assert one.answers[0].result_code == 2001
    assert stored(made).privates[0].sqn != 0


def test_hss_18_overlapping_requests_get_different_sqns() -> None:
    """Fifty at once, none committed before the last has been asked, over two connections."""
    made, one = bench(subscriber(amf=b"\0\0"))
    two = made.connect("scscf2")
    made.slow = True
    for number in range(50):
        client = (one, two)[number % 2]
        client.send(client.mar_request(1 + number % 3).to_message())
    while made.waiting:
        made.commit()
    items = []
    for client in (one, two):
        for message in client.answers:
            items += cx.MultimediaAuthAnswer.from_message(message).items
    assert len(items) == sum(1 + number % 3 for number in range(50))
    assert len({item.authenticate for item in items}) == len(items)
    algorithm = subscriber().privates[0].credentials.make_algorithm()  # type: ignore[union-attr]
    sqns = set()
    for item in items:
        ak = algorithm.f2345(item.authenticate[:16])[3]
        sqns.add(int.from_bytes(item.authenticate[16:22], "big") ^ int.from_bytes(ak, "big"))
    assert sorted(split_sqn(sqn)[0] for sqn in sqns) == list(range(1, len(items) + 1))
    assert made.node._latest == {}
    assert made.node._uncommitted == {}


def test_a_record_loaded_before_our_own_change_is_not_used() -> None:
    """The store answers late with what it had before the commit: the newer record that we made counts."""
    store = MemoryStore([subscriber()])
    made, one = bench()
    made.store = store
    node = made.node
    flow = one.flow
    loads: list[fx.Load] = []
    sends = 0
    one.silent = True

    def run(event: ev.Event) -> None:
        nonlocal sends
        node.handle(event, 0.0)
        for effect in node.take():
            if isinstance(effect, fx.Load):
                loads.append(effect)
            elif isinstance(effect, fx.Persist):
                store.commit(effect.change)
                run(ev.Committed(effect.change))
            elif isinstance(effect, fx.Send):
                sends += 1

    for number in (1, 2):
        request = one.mar_request().to_message(number, number)
        run(ev.Arrival(flow, request.encode()))
    old = store.load(IMPI)
    for load in loads:
        run(ev.Loaded(load.key, old))
    assert sends == 2
    after = store.load(IMPI)
    assert after is not None
    assert (after.version, split_sqn(after.privates[0].sqn)[0]) == (2, 2)
    assert node._latest == {}


def test_what_we_changed_is_forgotten_when_nobody_holds_an_older_record() -> None:
    """An LIR is still waiting for its record while an MAR is answered and committed; its connection goes meanwhile."""
    made, one = bench()
    store = MemoryStore([subscriber(msisdn="15550001")])
    node = made.node
    loads: list[fx.Load] = []
    sent: list[bytes] = []

    def run(event: ev.Event) -> None:
        node.handle(event, 0.0)
        for effect in node.take():
            match effect:
                case fx.Load():
                    loads.append(effect)
                case fx.Persist(change=change):
                    store.commit(change)
                    run(ev.Committed(change))
                case fx.Send(octets=octets):
                    sent.append(octets)

    question = cx.LocationInfoRequest(**one.head(), public_identity="tel:+15550001")
    run(ev.Arrival(one.flow, question.to_message(1, 1).encode()))
    run(ev.Arrival(one.flow, one.mar_request().to_message(2, 2).encode()))
    late, *rest = loads
    old = store.load(IMPI)
    for load in rest:
        run(ev.Loaded(load.key, old))
    assert list(node._latest) == [IMPI]
    run(ev.Closed(one.flow))
    run(ev.Loaded(late.key, old))
    assert len(sent) == 1
    assert node._latest == {}
    assert node.next_timer() is None


def test_requests_in_single_octets() -> None:
    made, one = bench()
    octets = one.mar_request().to_message(1, 1).encode() + one.mar_request(3).to_message(2, 2).encode()
    for octet in octets:
        made.tell(ev.Arrival(one.flow, bytes([octet])))
    assert [message.result_code for message in one.raw()[1:]] == [2001, 2001]


def test_a_repeated_request_costs_no_vector() -> None:
    made, one = bench()
    message = one.mar_request().to_message(5, 6)
    made.tell(ev.Arrival(one.flow, message.encode()))
    message.hop_by_hop, message.retransmitted = 7, True
    made.tell(ev.Arrival(one.flow, message.encode()))
    first, second = one.raw()[1:]
    assert (first.hop_by_hop, second.hop_by_hop) == (5, 7)
    assert first.avps == second.avps
    assert split_sqn(stored(made).privates[0].sqn)[0] == 1


def test_hss_31_missing_avp() -> None:
    made, one = bench()
    for code, vendor in ((601, 10415), (602, 10415), (1, 0), (612, 10415), (607, 10415), (260, 0), (277, 0)):
        message = one.mar_request().to_message()
        message.avps = [avp for avp in message.avps if (avp.code, avp.vendor) != (code, vendor)]
        one.send(message)
        reply = one.answers.pop()
        assert (reply.result_code, reply.experimental_result, reply.error) == (5005, None, False)
        failed = reply.get("Failed-AVP")
        assert [(avp.code, avp.vendor) for avp in failed] == [(code, vendor)]
        assert reply.get("Auth-Session-State") == 1
    assert stored(made).version == 0


def test_hss_32_unknown_mandatory_avp() -> None:
    made, one = bench()
    unknown = Avp(4242, 10415, 0xC0, b"what is this")
    for place in ("top", "group"):
        message = one.mar_request().to_message()
        message.avps += [unknown] if place == "top" else [make("Supported-Features", [unknown])]
        one.send(message)
        reply = one.answers.pop()
        assert (reply.result_code, reply.get("Failed-AVP")) == (5001, [unknown])
    # Without the M bit it does no harm: a well-known S-CSCF sends AVP 494 of vendor 50.
    message = one.mar_request().to_message()
    message.avps.append(Avp(494, 50, 0x80, b"call-id"))
    one.send(message)
    assert one.answers.pop().result_code == 2001
    assert stored(made).version == 1


def test_length_errors_are_answered() -> None:
    """MAL-19: a nested group that overflows, an AVP beyond the message."""
    made, one = bench()
    message = one.mar_request().to_message()
    message.avps.append(Avp(628, 10415, 0x80, b"\0\0\1\x0a\x40\0\xff\xff"))
    one.send(message)
    assert one.answers.pop().result_code == 5014
    octets = bytearray(one.mar_request().to_message(77, 78).encode())
    octets[20 + 5 : 20 + 8] = b"\xff\xff\xff"
    made.tell(ev.Arrival(one.flow, bytes(octets)))
    assert one.raw()[-1].result_code == 5014
    assert one.mar().is_success


def test_what_is_not_for_us() -> None:
    _, one = bench()
    cases: list[tuple[DiameterMessage, int]] = []
    elsewhere = one.mar_request()
    elsewhere.destination_realm = "other.example"
    cases.append((elsewhere.to_message(), 3003))
    host = one.mar_request()
    host.destination_host = "other.example"
    cases.append((host.to_message(), 3002))
    right = one.mar_request()
    right.destination_host = HSS_HOST.upper()
    right.destination_realm = REALM.upper()
    cases.append((right.to_message(), 2001))
    push = cx.PushProfileRequest(**one.head(), destination_host=HSS_HOST, user_name=IMPI)
    cases.append((push.to_message(), 3001))
    cases.append((DiameterMessage(999, 16777216, proxiable=True), 3001))
    for message, code in cases:
        one.send(message)
        reply = one.answers.pop()
        assert (reply.result_code, reply.error) == (code, 3000 <= code < 4000)


def test_a_wrong_realm_that_is_no_text() -> None:
    _, one = bench()
    message = one.mar_request().to_message()
    message.avps = [avp if avp.code != 283 else avp._replace(data=b"\xff") for avp in message.avps]
    one.send(message)
    assert one.answers.pop().result_code == 5004


def test_mar_before_cer() -> None:
    made = Bench([subscriber()])
    one = made.connect(silent=True)
    made.tell(ev.Arrival(one.flow, one.mar_request().to_message(1, 1).encode()))
    assert one.octets == []
    assert one.closed
    assert "MAR" in made.emitted("peer-closed")[0]
    assert stored(made).version == 0


def test_a_stranger_is_sent_away() -> None:
    made = Bench([subscriber()], allowed=frozenset({f"scscf.{REALM}"}))
    assert made.connect("icscf").closed
    assert not made.connect().closed
    assert made.node.peers == [f"scscf.{REALM}"]


def test_connections_come_and_go() -> None:
    made, one = bench()
    assert made.emitted("peer-open") == [f"scscf.{REALM} at 192.0.2.11:40000"]
    one.peer.disconnect(0.0)
    one.flush()
    assert one.closed
    assert made.node.peers == []
    one.hang_up()
    made.tell(ev.Arrival(one.flow, b"late"))
    two = made.connect("scscf2")
    two.hang_up()
    assert made.node.peers == []
    assert len(made.emitted("peer-closed")) == 2
    made.tell(ev.Closed(Flow(Transport.TCP, LISTEN, Endpoint("192.0.2.99", 1)), "cannot listen"))
    made.tell(ev.Resolved("x", ()))
    made.tell(ev.Loaded("nobody asked", None))


def test_an_answer_to_a_connection_that_is_gone() -> None:
    made, one = bench()
    made.slow = True
    one.send(one.mar_request().to_message())
    one.hang_up()
    made.commit()
    assert split_sqn(stored(made).privates[0].sqn)[0] == 1


def test_the_watchdog_runs() -> None:
    made, one = bench()
    due = made.node.next_timer()
    assert due is not None
    made.later(due)
    assert one.raw()[-1].name == "DWR"
    one.silent = True
    for _ in range(2):
        due = made.node.next_timer()
        assert due is not None
        made.later(due - made.now)
    assert not one.closed  # the DWR was answered; this is the next one, unanswered
    due = made.node.next_timer()
    assert due is not None
    made.later(due - made.now)
    assert one.closed
    assert made.node.next_timer() is None


# --- pushes ----------------------------------------------------------------------------------------------------------


def test_hss_28_rtr() -> None:
    made, one = bench(subscriber(msisdn="15550001"))
    other = made.connect("scscf2")
    one.register()
    made.command("rtr", identity="tel:+15550001", reason=0, info="contract ended")
    assert other.requests == []
    told = cx.RegistrationTerminationRequest.from_message(one.requests[0])
    assert (told.user_name, int(told.reason.code), told.reason.info) == (IMPI, 0, "contract ended")
    assert told.public_identities == [IMPU, f"sip:+15550001@{REALM}", "tel:+15550001"]
    assert (told.destination_host, told.origin_host) == (one.host, HSS_HOST)
    # The state changes after the RTA, not before.
    assert stored(made).is_served
    one.answer(result_code=2001)
    assert not stored(made).is_served
    assert stored(made).server_name == ""
    assert made.emitted("deregistered")


@pytest.mark.parametrize("reason", [0, 2, 3])
def test_emergency_registrations_survive(reason: int) -> None:
    base = subscriber()
    work = RegistrationSet((ServiceProfile([PublicIdentity("sip:work@x")]),))
    made, one = bench(replace(base, sets=(*base.sets, work)))
    one.register()
    one.register("sip:work@x")
    made.command("rtr", identity=IMPI, reason=reason)
    one.answer(result_code=2002, emergency=[cx.EmergencyIdentity(IMPI, IMPU)])
    states = [each.state for each in stored(made).sets]
    assert states == [RegistrationState.REGISTERED, RegistrationState.NOT_REGISTERED]
    assert stored(made).server_name == one.name
    before = stored(made)
    made.command("rtr", identity=IMPI, reason=reason)
    one.answer(result_code=5012, emergency=[cx.EmergencyIdentity(IMPI, IMPU)])
    assert stored(made) is before
    made.command("rtr", identity=IMPI, reason=reason)
    one.answer(result_code=2002, emergency=[cx.EmergencyIdentity(IMPI, IMPU)])
    assert stored(made) is before


def test_an_rtr_that_is_not_answered_changes_nothing() -> None:
    made, one = bench()
    one.register()
    before = stored(made)
    made.command("rtr", identity=IMPU)
    made.later(10.0)
    assert "no answer" in made.emitted("push-failed")[0]
    one.requests.clear()
    made.command("rtr", identity=IMPU)
    one.hang_up()
    assert len(made.emitted("push-failed")) == 2
    made.command("rtr", identity=IMPU)
    assert "not connected" in made.emitted("push-failed")[2]
    assert stored(made) is before


def test_an_s_cscf_that_does_not_know_the_user() -> None:
    made, one = bench()
    one.register()
    made.command("rtr", identity=IMPU)
    one.answer(experimental=5001)
    assert not stored(made).is_served


def test_one_rtr_per_private_identity() -> None:
    base = subscriber()
    second = replace(base.privates[0], impi="second@x")
    work = RegistrationSet((ServiceProfile([PublicIdentity("sip:work@x")]),), impis=("second@x",))
    made, one = bench(replace(base, privates=(*base.privates, second), sets=(*base.sets, work)))
    one.register()
    one.register(impi="second@x")
    one.register("sip:work@x", "second@x")
    made.command("rtr", identity=IMPI)
    shared = cx.RegistrationTerminationRequest.from_message(one.requests[0])
    assert (shared.user_name, shared.associated_identities) == (IMPI, [IMPI, "second@x"])
    assert shared.public_identities == [IMPU]
    one.answer(result_code=2001)
    assert [each.is_served for each in stored(made).sets] == [False, True]
    made.command("rtr", identity="second@x")
    own = cx.RegistrationTerminationRequest.from_message(one.requests[0])
    assert (own.user_name, own.associated_identities, own.public_identities) == ("second@x", None, ["sip:work@x"])


def test_a_push_finds_its_server_among_many() -> None:
    made, _ = bench()
    two = made.connect("scscf2")
    two.register()
    made.command("rtr", identity=IMPU)
    assert [message.name for message in two.requests] == ["RTR"]


def test_an_unregistered_set_can_be_ended() -> None:
    made, one = bench()
    one.sar(3, IMPU)
    made.command("rtr", identity=IMPU)
    assert cx.RegistrationTerminationRequest.from_message(one.requests[0]).user_name == IMPI
    one.answer(result_code=2001)
    assert not stored(made).is_served


def profiles(*uris: str) -> tuple[ServiceProfile, ...]:
    return (ServiceProfile([PublicIdentity(uri) for uri in uris]),)


def test_hss_29_ppr() -> None:
    made, one = bench()
    other = made.connect("scscf2")
    charging = cx.ChargingInformation(primary_event="aaa://ecf.example")
    made.command("ppr", identity=IMPU, profiles=profiles(IMPU, "tel:+15550009"))
    assert (one.requests, other.requests) == ([], [])  # nobody serves it yet
    one.register()
    made.log.clear()
    made.command("ppr", identity=IMPI, profiles=profiles(IMPU, "tel:+15550002"), charging=charging)
    kinds = [type(effect) for effect in made.log if isinstance(effect, (fx.Persist, fx.Send))]
    assert kinds == [fx.Persist, fx.Send]
    told = cx.PushProfileRequest.from_message(one.requests[0])
    assert (told.user_name, told.destination_host, told.charging) == (IMPI, one.host, charging)
    assert told.user_data is not None
    assert [each.uri for each in parse_userdata(told.user_data).identities] == [IMPU, "tel:+15550002"]
    one.answer(result_code=2001)
    assert made.emitted("ppa")
    assert other.requests == []
    assert one.lir("tel:+15550002").server_name == one.name
    assert one.lir("tel:+15550009").experimental == 5001


def test_one_ppr_even_with_two_private_identities() -> None:
    base = subscriber()
    made, one = bench(replace(base, privates=(*base.privates, replace(base.privates[0], impi="second@x"))))
    one.register()
    one.register(impi="second@x")
    made.command("resend", identity=IMPU)
    assert [message.name for message in one.requests] == ["PPR"]
    made.command("resend", identity="nobody@x")
    assert made.emitted("failed")


def test_a_ppr_for_an_unregistered_set() -> None:
    made, one = bench()
    one.sar(3, IMPU)
    made.command("resend", identity=IMPU)
    assert cx.PushProfileRequest.from_message(one.requests[0]).user_name == IMPI


def test_add_15_the_default_identity_survives() -> None:
    made, one = bench()
    one.register()
    before = stored(made)
    for wrong in (profiles("sip:new@x", IMPU), (ServiceProfile([PublicIdentity(IMPU, True)]),)):
        made.command("ppr", identity=IMPU, profiles=wrong)
        assert stored(made) is before
    assert one.requests == []
    assert len(made.emitted("failed")) == 2
    made.command("rtr", identity=IMPU)
    one.answer(result_code=2001)
    made.command("ppr", identity=IMPU, profiles=profiles("sip:new@x", IMPU))
    default = stored(made).sets[0].default
    assert default is not None
    assert default.uri == "sip:new@x"


@pytest.mark.parametrize("code", [5008, 5009])
def test_a_refused_profile_leads_to_another_server(code: int) -> None:
    made, one = bench()
    one.register()
    made.command("resend", identity=IMPU)
    one.answer(experimental=code)
    told = cx.RegistrationTerminationRequest.from_message(one.requests[0])
    assert int(told.reason.code) == 2
    one.answer(result_code=2001)
    assert stored(made).server_name == ""


def test_a_profile_refused_for_another_reason() -> None:
    made, one = bench()
    one.register()
    before = stored(made)
    for result in ({"result_code": 5012}, {"experimental": 5001}):
        made.command("resend", identity=IMPU)
        one.answer(**result)
        assert one.requests == []
    assert stored(made) is before
    assert len(made.emitted("push-failed")) == 2


def test_answers_that_cannot_be_read_and_records_that_are_gone() -> None:
    made, one = bench()
    one.register()
    made.command("rtr", identity=IMPU)
    one.answer(result_code=2001, extra=[Avp(632, 10415, 0x80, b"\0\0\0")])
    assert stored(made).is_served
    assert made.emitted("push-failed")
    for verb, result in (("rtr", {"result_code": 2001}), ("resend", {"experimental": 5008})):
        made.command(verb, identity=IMPU)
        record = stored(made)
        made.store.remove(IMPI)
        one.answer(**result)
        assert one.requests == []
        made.store.add(record)


# --- commands --------------------------------------------------------------------------------------------------------


def test_add_and_remove() -> None:
    made, one = bench()
    made.command("add", subscriber=OTHER)
    impi, impu = OTHER.privates[0].impi, OTHER.sets[0].identities[0].uri
    assert one.mar(impi=impi, impu=impu).is_success
    made.command("add", subscriber=OTHER)
    assert "there already" in made.emitted("failed")[0]
    made.command("remove", identity=impu)
    assert one.mar(impi=impi, impu=impu).experimental == 5001
    made.command("remove", identity=impu)
    assert "no subscriber" in made.emitted("failed")[1]
    one.register()
    made.command("remove", identity=IMPI)
    told = cx.RegistrationTerminationRequest.from_message(one.requests[0])
    assert int(told.reason.code) == 0
    assert made.store.load(IMPI) is not None
    one.answer(result_code=2001)
    assert made.store.load(IMPI) is None
    assert made.emitted("removed") == [OTHER.id, IMPI]
    made.command("rtr", identity=IMPI)
    assert "no subscriber" in made.emitted("failed")[2]


def test_nobody_to_tell() -> None:
    made, _ = bench()
    made.command("rtr", identity=IMPU)
    assert "no S-CSCF" in made.emitted("failed")[0]


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [("dance", {}), ("rtr", {}), ("rtr", {"identity": IMPU, "colour": "red"}), ("add", {"identity": IMPU})],
)
def test_commands_that_are_none(verb: str, arguments: dict) -> None:
    made, _ = bench()
    with pytest.raises(LocalError):
        made.command(verb, **arguments)


# --- what others see -------------------------------------------------------------------------------------------------


def test_tshark_has_nothing_to_object(tmp_path: Path) -> None:
    made, one = bench(subscriber(msisdn="15550001"))
    one.uar(2)
    one.mar(5)
    one.sar(1, IMPU)
    one.lir()
    one.mar(0)
    one.uar(impi="nobody@x")
    made.command("rtr", identity=IMPU)
    made.command("resend", identity=IMPU)
    octets = [message.encode() for message in one.raw()]
    fields = ("_ws.malformed", "_ws.expert", "diameter.cmd.code", "diameter.Result-Code", "diameter.avp.unknown")
    rows = dissect(octets, fields, tmp_path)
    assert [row["diameter.cmd.code"] for row in rows] == [
        [code] for code in ("257", "300", "303", "301", "302", "303", "300", "304", "305")
    ]
    for row in rows:
        assert (row["_ws.malformed"], row["_ws.expert"], row["diameter.avp.unknown"]) == ([], [], [])


def test_no_key_is_told_or_shown() -> None:
    """K and OPc stand in no effect but the vectors made of them, and not even there in a repr."""
    made, one = bench()
    one.register()
    one.mar(auts=bytes(30))
    made.command("resend", identity=IMPU)
    shown = repr([effect for effect in made.log if not isinstance(effect, fx.Send)]) + repr(stored(made))
    for key in (K, OPC):
        assert key.hex() not in shown
        assert repr(key)[2:-1] not in shown
        assert not any(key in effect.octets for effect in made.log if isinstance(effect, fx.Send))


def test_the_same_seed_says_the_same() -> None:
    def run(seed: int) -> list[bytes]:
        made, one = bench(seed=seed)
        one.register()
        made.command("rtr", identity=IMPU)
        return one.octets

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_on_the_simulated_network() -> None:
    """The same node on a true carrier: TCP, a store, commits that take time."""

    class Asker:
        name = "scscf"

        def __init__(self) -> None:
            self.client = Client(Bench(), "scscf", 1)
            self.flow: Flow | None = None
            self.effects: list[fx.Effect] = []
            self.asked = False
            self.answers: list[DiameterMessage] = []

        def handle(self, event: ev.Event, now: float) -> None:
            peer = self.client.peer
            match event:
                case ev.Started():
                    self.effects.append(fx.Connect(Flow(Transport.TCP, Endpoint("192.0.2.2", 0), LISTEN)))
                case ev.Connected(flow=flow):
                    self.flow = flow
                    peer.connected(now)
                case ev.Arrival(octets=octets):
                    self.answers += peer.receive(octets, now)
            if peer.is_open and not self.asked:
                self.asked = True
                for number in range(40):
                    peer.send_request(self.client.mar_request(2).to_message(), now, number)
            octets = peer.take_output()
            if octets and self.flow is not None:
                self.effects.append(fx.Send(self.flow, octets))

        def next_timer(self) -> float | None:
            return None

        def take(self) -> list[fx.Effect]:
            effects, self.effects = self.effects, []
            return effects

    store = MemoryStore([subscriber()])
    net = SimulatedNetwork(seed=3)
    hss = HssNode("hss", HssConfig(HSS_HOST, REALM, (LISTEN,), watchdog=0), SeededEntropy(3))
    asker = Asker()
    one = net.host(hss, [LISTEN.host], store=store, cost=lambda step: 0.005 if isinstance(step, fx.Persist) else 0.0)
    net.link(one, net.host(asker, ["192.0.2.2"]), "Cx", loss=0.1)
    assert net.run_until(lambda: len(asker.answers) == 40, 30.0)
    items = [item for each in asker.answers for item in cx.MultimediaAuthAnswer.from_message(each).items]
    assert len({item.authenticate for item in items}) == 80
    record = store.load(IMPI)
    assert record is not None
    assert split_sqn(record.privates[0].sqn)[0] == 80
