"""Several UEs at once: nobody gets what is another's."""

from __future__ import annotations

from imslab.trace.model import Hop, Icv, Role
from imslab.trace.registration import Autn, Outcome, Response
from imslab.trace.trace import method_of
from tests.flows.labs import DOMAIN, Play, on_gm, play, subscriber

COUNT = 20


def impu(number: int) -> str:
    """Of the UE of this number, from 1."""
    return f"sip:0010100000{number:05d}@{DOMAIN}"


def crowd(**settings: object) -> Play:
    """Twenty UEs that begin at the same instant."""
    here = play(subscribers=[subscriber(number) for number in range(1, COUNT + 1)], **settings)
    here.register()
    return here


def test_twenty_register_at_the_same_instant() -> None:
    here = crowd()
    trace = here.trace
    assert len(trace.registrations) == COUNT
    for each in trace.registrations:
        assert (each.outcome, each.autn, each.response) == (Outcome.REGISTERED, Autn.OK, Response.OK)
    assert {each.impu for each in trace.registrations} == {impu(number) for number in range(1, COUNT + 1)}
    # 33.203 7.1: SPIs are unique at who receives, ports at the P-CSCF differ as far as selectors need
    assert len({(sa.dst.host, sa.spi) for sa in trace.sas}) == 4 * COUNT
    assert len({(sa.src, sa.dst) for sa in trace.sas}) == 4 * COUNT
    assert len(here.lab.host(here.lab.pcscf).sets) == COUNT
    assert {record.icv for record in trace.esp_records} == {Icv.OK}
    assert here.findings == []


def test_a_ring_of_messages() -> None:
    """Each sends to the next, all at once; each gets one, from the one before it, by its own SAs."""
    here = crowd()
    for number, ue in enumerate(here.lab.ues):
        here.net.command(ue, "message", to=impu((number + 1) % COUNT + 1), text=f"from {number + 1}")
    here.run(10)
    trace = here.trace
    for number, ue in enumerate(here.lab.ues):
        got = [
            record
            for record in on_gm(trace, ue)
            if method_of(record) == "MESSAGE" and record.message.is_request and record.sender is Role.PCSCF
        ]
        before = (number - 1) % COUNT + 1
        assert [record.message.body for record in got] == [f"from {before}".encode()]
        assert [str(each.uri) for each in got[0].message.p_asserted_identity] == [impu(before)]
        agreed = trace.set_of(got[0])
        assert agreed is not None
        assert agreed.impi == ue.config.impi
    assert here.findings == []


def test_half_of_them_leave() -> None:
    here = crowd(ip=6)
    for ue in here.lab.ues[::2]:
        here.net.command(ue, "deregister")
    here.run(200)
    assert [ue.registration is None for ue in here.lab.ues] == [True, False] * (COUNT // 2)
    assert len(here.lab.host(here.lab.pcscf).sets) == COUNT // 2
    for number, ue in enumerate(here.lab.ues):
        record = here.lab.store.load(ue.config.impu)
        assert record is not None
        assert record.is_served is (number % 2 == 1)
        assert len(here.lab.host(ue).sets) == number % 2
    assert here.findings == []


def test_all_change_their_sas_at_the_same_instant() -> None:
    here = crowd(scscf__expires_max=600)
    here.run(320)  # the refresh is at half time, for all of them
    trace = here.trace
    assert [each.outcome for each in trace.registrations] == [Outcome.REGISTERED] * (2 * COUNT)
    first = trace.sip(method="REGISTER", request=True, hop=Hop.GM, sender=Role.UE)[-COUNT:]
    assert first[-1].time - first[0].time < 1
    assert here.findings == []
