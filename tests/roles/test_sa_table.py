"""The SA_table by itself: lives, rule 3, ports and SPIs."""

from __future__ import annotations

import pytest

from imslab.core.effects import Listen, Unlisten
from imslab.core.entropy import SeededEntropy
from imslab.core.errors import LocalError, PeerError
from imslab.core.flow import Endpoint, Flow, Transport
from imslab.ipsec.sa import Offer, derive_set
from imslab.roles.sa_table import LIFE, Deed, Happening, SaRecord, SaTable, Stage
from imslab.sip.message import Request
from imslab.sip.transaction import Transactions

PCSCF = "192.0.2.1"
WAY = Flow(Transport.UDP, Endpoint(PCSCF, 5060), Endpoint("10.0.0.2", 5060))


def table(clients: range = range(5100, 5110), servers: range = range(6100, 6110)) -> SaTable:
    return SaTable(clients, servers)


def offer(step: int = 0, us: int = 40002) -> Offer:
    return Offer(1001 + 10 * step, 1002 + 10 * step, 40001 + 10 * step, us, "hmac-sha-1-96", "null")


def put(
    made: SaTable, number: int, ue: Offer, contact: object = "a", host: str = "10.0.0.2", stage: Stage = Stage.TEMPORARY
) -> SaRecord:
    own = made.allocate(contact, host, ue, SeededEntropy(number))
    assert own is not None
    sas = derive_set(number, PCSCF, host, ue, PCSCF, own, own.alg, own.ealg, bytes(16), bytes(range(16)), 240.0)
    record = SaRecord(sas, contact, "impi", host, ue, PCSCF, own, 240.0, [], [], "nonce", WAY, stage=stage)
    made.add(record)
    return record


# ---- lives


def test_every_life_ends_and_nothing_leaves_the_grave() -> None:
    assert not [pair for pair in LIFE if pair[0] is Stage.GONE]
    for stage in Stage:
        if stage is not Stage.GONE:
            assert LIFE[stage, Happening.LIFETIME] == ((Deed.REMOVE,), Stage.GONE)


@pytest.mark.parametrize(("pair", "row"), LIFE.items(), ids=lambda item: str(item))
def test_a_set_is_removed_exactly_when_it_is_gone(
    pair: tuple[Stage, Happening], row: tuple[tuple[Deed, ...], Stage]
) -> None:
    deeds, after = row
    assert bool({Deed.REMOVE, Deed.FORGET} & set(deeds)) == (after is Stage.GONE)
    assert (Deed.FORGET in deeds) == (pair[1] is Happening.LOST)


def test_what_the_table_does_not_list_changes_nothing() -> None:
    record = put(table(), 1, offer())
    assert record.step(Happening.SWITCHED) == ()
    assert record.stage is Stage.TEMPORARY
    assert record.step(Happening.SUCCESS) == (Deed.PROLONG,)
    assert record.stage is Stage.ESTABLISHED


# ---- rule 3


def test_a_client_port_in_use_is_refused_at_this_address_only() -> None:
    made = table()
    put(made, 1, offer(), stage=Stage.ESTABLISHED)
    same = Offer(5001, 5002, 40001, 40002)
    with pytest.raises(PeerError, match="port-c=40001 is in use") as caught:
        made.check("a", "10.0.0.2", same, None)
    assert caught.value.clause == "33.203 7.1 rule 3"
    made.check("a", "10.0.0.3", same, None)


@pytest.mark.parametrize("stage", [Stage.TEMPORARY, Stage.CLOSING])
def test_sets_that_the_challenge_will_remove_do_not_count(stage: Stage) -> None:
    made = table()
    record = put(made, 1, offer(), stage=stage)
    made.check("a", "10.0.0.2", offer(), None)
    with pytest.raises(PeerError):
        made.check("a", "10.0.0.2", offer(), record)  # but the one that it came through stays
    with pytest.raises(PeerError):
        made.check("another contact", "10.0.0.2", offer(), None)


def test_spis_of_the_ue_are_not_used_twice() -> None:
    made = table()
    put(made, 1, offer(), stage=Stage.ESTABLISHED)
    with pytest.raises(PeerError, match="spi-s=1002 is in use"):
        made.check("a", "10.0.0.2", Offer(7000, 1002, 40011, 40002), None)


def test_six_sas_per_direction_at_most() -> None:
    made = table()
    stages = (Stage.OLD, Stage.ESTABLISHED, Stage.TEMPORARY)
    for number, stage in enumerate(stages):
        made.check("a", "10.0.0.2", offer(number), None)
        put(made, number + 1, offer(number), stage=stage)
    with pytest.raises(PeerError, match="3 sets"):
        made.check("a", "10.0.0.2", offer(5), None)
    made.check("b", "10.0.0.2", offer(6, 50000), None)
    made.at("a", Stage.OLD).stage = Stage.CLOSING  # type: ignore[union-attr]
    made.check("a", "10.0.0.2", offer(5), None)


@pytest.mark.parametrize(
    "bad",
    [Offer(0, 1002, 1, 2), Offer(1001, 1001, 1, 2), Offer(1001, 1002, 5060, 2), Offer(1001, 1002, 1, 5061)],
)
def test_what_cannot_be_an_offer_is_refused(bad: Offer) -> None:
    with pytest.raises(PeerError):
        table().check("a", "10.0.0.2", bad, None)


# ---- ports and SPIs


def test_the_server_port_stays_and_the_client_port_moves() -> None:
    made = table()
    first = put(made, 1, offer())
    second = put(made, 2, offer(1))
    assert first.own.port_s == second.own.port_s
    assert first.own.port_c != second.own.port_c
    other = put(made, 3, offer(2), contact="b")
    assert other.own.port_s != first.own.port_s


def test_client_ports_go_round_also_when_nothing_is_left() -> None:
    made = table()
    first = put(made, 1, offer())
    made.remove(first)
    assert put(made, 2, offer()).own.port_c != first.own.port_c


def test_spis_differ_from_all_of_ours_and_from_the_ues() -> None:
    class Stuck:
        """Draws 300, 300, 301, 302, 303 …"""

        def __init__(self) -> None:
            self.draws = iter([300, *range(300, 400)])

        def octets(self, count: int) -> bytes:
            return next(self.draws).to_bytes(count, "big")

    made = table()
    ue = Offer(301, 302, 40001, 40002, "hmac-sha-1-96", "null")
    own = made.allocate("a", "10.0.0.2", ue, Stuck())
    assert own is not None
    assert (own.spi_c, own.spi_s) == (300, 303)
    sas = derive_set(1, PCSCF, "10.0.0.2", ue, PCSCF, own, own.alg, own.ealg, bytes(16), bytes(16), 1.0)
    made.add(SaRecord(sas, "a", "impi", "10.0.0.2", ue, PCSCF, own, 1.0, [], [], "", WAY))
    again = made.allocate("b", "10.0.0.9", offer(), Stuck())
    assert again is not None
    assert not {again.spi_c, again.spi_s} & {300, 303}


def test_ports_run_out_for_one_address_and_come_back() -> None:
    made = table(range(5100, 5102))
    first = put(made, 1, offer())
    put(made, 2, offer(1))
    assert made.allocate("a", "10.0.0.2", offer(2), SeededEntropy(1)) is None
    assert made.allocate("b", "10.0.0.2", offer(2, 50000), SeededEntropy(1)) is not None
    made.remove(first)
    assert made.allocate("a", "10.0.0.2", offer(2), SeededEntropy(1)) is not None


@pytest.mark.parametrize(
    ("clients", "servers"),
    [(range(0), range(6100, 6101)), (range(5060, 5070), range(6100, 6101)), (range(5100, 5101), range(5061, 5062))],
)
def test_pools_hold_no_clear_port_and_are_not_empty(clients: range, servers: range) -> None:
    with pytest.raises(LocalError):
        SaTable(clients, servers)


def test_pools_do_not_overlap() -> None:
    with pytest.raises(LocalError):
        SaTable(range(5100, 5110), range(5109, 5120))


# ---- finding


def test_a_set_is_found_by_its_two_port_pairs() -> None:
    made = table()
    record = put(made, 1, offer())
    for flow in (record.flow(Transport.UDP), Flow(Transport.TCP, record.ps, record.uc)):
        assert made.covering(flow) is record
        assert record.covers(flow)
    crossed = Flow(Transport.UDP, record.pc, record.uc)
    assert made.covering(crossed) is None
    assert not record.covers(crossed)
    assert made.is_protected(record.pc)
    assert made.is_protected(record.ps)
    assert not made.is_protected(Endpoint(PCSCF, 5060))


def test_two_ues_with_the_same_ports_and_spis_do_not_meet() -> None:
    made = table(range(5100, 5101), range(6100, 6101))
    one = put(made, 1, offer(), contact="a", host="10.0.0.2")
    two = put(made, 2, offer(), contact="b", host="10.0.0.3")
    assert (one.pc, one.ps) == (two.pc, two.ps)
    assert {one.own.spi_c, one.own.spi_s}.isdisjoint({two.own.spi_c, two.own.spi_s})
    assert made.covering(one.flow(Transport.UDP)) is one
    assert made.covering(two.flow(Transport.UDP)) is two


def test_listening_is_counted_over_sets() -> None:
    made = table(range(5100, 5101), range(6100, 6101))
    one = put(made, 1, offer(), contact="a", host="10.0.0.2")
    ue = offer()
    own = made.allocate("b", "10.0.0.3", ue, SeededEntropy(5))
    assert own is not None
    sas = derive_set(2, PCSCF, "10.0.0.3", ue, PCSCF, own, own.alg, own.ealg, bytes(16), bytes(16), 1.0)
    two = SaRecord(sas, "b", "impi", "10.0.0.3", ue, PCSCF, own, 1.0, [], [], "", WAY)
    assert made.add(two) == []  # both ports are open already
    assert made.remove(one) == []
    closed = made.remove(two)
    assert {(type(each), each.transport, each.local) for each in closed} == {
        (Unlisten, transport, Endpoint(PCSCF, port))
        for transport in (Transport.UDP, Transport.TCP)
        for port in (5100, 6100)
    }
    assert made.remove(two) == []
    assert len(made) == 0
    assert made.get(2) is None
    assert made.of("b") == []


def test_both_ports_are_opened_for_both_transports() -> None:
    made = table()
    ue = offer()
    own = made.allocate("a", "10.0.0.2", ue, SeededEntropy(5))
    assert own is not None
    sas = derive_set(2, PCSCF, "10.0.0.2", ue, PCSCF, own, own.alg, own.ealg, bytes(16), bytes(16), 1.0)
    opened = made.add(SaRecord(sas, "a", "impi", "10.0.0.2", ue, PCSCF, own, 1.0, [], [], "", WAY))
    assert {(type(each), each.transport, each.local.port) for each in opened} == {
        (Listen, transport, port) for transport in (Transport.UDP, Transport.TCP) for port in (own.port_c, own.port_s)
    }


# ---- transactions on a set


def test_a_set_is_busy_while_somebody_must_still_speak() -> None:
    record = put(table(), 1, offer())
    transactions = Transactions(lambda flow, octets: None)
    headers = [
        ("Via", "SIP/2.0/UDP 10.0.0.2:40002;branch=z9hG4bK1"),
        ("From", "<sip:a@b>;tag=1"),
        ("To", "<sip:c@d>"),
        ("Call-ID", "1"),
    ]
    message = Request("MESSAGE", "sip:c@d", [*headers, ("CSeq", "1 MESSAGE")])
    txn = transactions.send_request(message, record.flow(Transport.UDP), 0.0)
    record.note(txn)
    assert record.busy
    transactions.expire(40.0)
    assert not record.busy
    assert record.transactions == []
    for number in range(40):
        record.note(txn)
        assert len(record.transactions) <= 16, number
