"""What time does to registrations and SAs: refreshes, ends, and hours of life."""

from __future__ import annotations

import pytest

from imslab.core.flow import Transport
from imslab.diameter.codes import ServerAssignmentType
from imslab.diameter.cx import ServerAssignmentRequest
from imslab.lab import EPOCH
from imslab.roles.ue import Ue
from imslab.sip.reginfo import parse_reginfo
from imslab.trace.model import Hop, NodeRecord, Role, SipRecord
from imslab.trace.registration import Outcome
from imslab.trace.trace import Trace
from tests.flows.labs import FIRST, SECOND, Play, play


def node_events(trace: Trace, kind: str, node: str) -> list[NodeRecord]:
    """What a node told or had done, of one kind."""
    return [record for record in trace.node_records if record.kind == kind and record.node == node]


def assignments(trace: Trace) -> list[tuple[ServerAssignmentType, float]]:
    """The SARs: their type and their time."""
    return [
        (ServerAssignmentRequest.from_message(record.message).assignment_type, record.time)
        for record in trace.diameter_records
        if record.message.name == "SAR"
    ]


def messages_to(trace: Trace, ue: Ue) -> list[SipRecord]:
    """The MESSAGEs that a UE was sent."""
    return [
        record
        for record in trace.sip(method="MESSAGE", request=True, hop=Hop.GM, sender=Role.PCSCF)
        if record.dst.host == ue.config.host and not trace.is_retransmission(record)
    ]


def switch_off(here: Play, ue: Ue) -> None:
    """From now on nothing reaches a UE, and nothing comes from it."""
    host, pcscf = here.lab.host(ue), here.lab.host(here.lab.pcscf)
    here.net.drop(host >> pcscf, nth=None)
    here.net.drop(pcscf >> host, nth=None)


class TestRefresh:
    @pytest.mark.parametrize(("granted", "due"), [(3600, 3000), (1300, 700), (1000, 500), (600, 300)])
    def test_when(self, granted: int, due: int) -> None:
        """24.229 5.1.1.4.1: 600 s before the end if there are more than 1200, else at half time."""
        here = play(scscf__expires_max=granted)
        here.register()
        here.run(due + 10)
        first, _, again, _ = here.trace.registrations
        assert first.final is not None
        assert first.final.message.contact[0].expires == granted
        assert again.requests[0].time - first.final.time == pytest.approx(due, abs=0.1)
        assert again.outcome is Outcome.REGISTERED
        assert here.findings == []

    def test_a_registrar_that_does_not_ask_again(self) -> None:
        """A protected refresh answered 200 at once makes no SAs; those that stand live on (33.203 7.4.1a, 7.4.2a)."""
        here = play(scscf__expires_max=600, scscf__reauthenticate=False)
        here.register(here.ue)
        here.run(1000)
        trace = here.trace
        assert [each.outcome for each in trace.registrations] == [Outcome.REGISTERED] * 4
        assert trace.sip(status=401, hop=Hop.GM) == trace.registrations[0].challenges
        assert {trace.set_of(each.requests[0]) for each in trace.registrations[1:]} == {trace.registrations[0].agreed}
        assert len(here.lab.host(here.ue).sets) == 1
        for node in ("ue1", "pcscf"):
            lifetimes = [record.data["lifetime"] for record in node_events(trace, "update-sas", node)]
            assert lifetimes == [pytest.approx(630, abs=1)] * 4
        assert here.findings == []

    @pytest.mark.parametrize("transport", ["udp", "tcp", "auto"])
    def test_messages_to_the_ue_during_the_switch(self, transport: str) -> None:
        """33.203 7.4.2a: until the UE has used the new set, what goes to it takes the old one; nothing is lost."""
        here = play(ue__transport=transport)
        here.register()
        here.net.command(here.ue, "reregister")
        for number in range(60):
            here.net.command(here.other, "message", to=FIRST, text=str(number))
            if number == 40:
                here.net.command(here.ue, "message", to=SECOND, text="on the new one")
            here.run(0.001)
        here.run(40)
        trace = here.trace
        old, new = trace.registrations[0].agreed, trace.registrations[2].agreed
        got = messages_to(trace, here.ue)
        assert [int(record.message.body) for record in got] == list(range(60))
        (used,) = [
            record
            for record in trace.sip(method="MESSAGE", request=True, hop=Hop.GM, sender=Role.UE)
            if record.message.body == b"on the new one"
        ]
        assert trace.set_of(used) is new
        assert trace.registrations[2].final is not None
        assert trace.registrations[2].final.time < used.time
        passed = trace.relayed(used)  # when the P-CSCF has had it
        assert passed is not None
        for record in got:
            if record.time != passed.time:
                assert trace.set_of(record) is (old if record.time < passed.time else new)
        assert {id(trace.set_of(record)) for record in got} == {id(old), id(new)}
        sent = [event for event in here.lab.recording.events if event.kind == "message-sent"]
        assert [event.data["status"] for event in sent] == [200] * 61
        assert [finding for finding in here.findings if finding.rule != "TRN-02"] == []

    def test_the_old_set_goes_when_the_ue_has_used_the_new_one(self) -> None:
        """24.229 5.2.2.2: at latest after 64·T1 (128 s on radio accesses)."""
        here = play()
        here.register()
        assert here.ask(here.ue, "reregister", "sas-switched")
        assert here.ask(here.ue, "message", "message-sent", to=SECOND, text="on the new one")
        assert here.ask(here.other, "message", "message-sent", to=FIRST, text="and back")
        here.run(128)
        assert len(here.lab.host(here.ue).sets) == 1
        assert len(here.lab.host(here.lab.pcscf).sets) == 2  # one for each UE
        (switched,) = node_events(here.trace, "sas-switched", "ue1")
        assert (switched.data["old"], switched.data["new"]) == (1, 2)
        assert here.findings == []

    def test_the_old_set_of_a_ue_that_says_nothing(self) -> None:
        """33.203 7.4.2a: it serves until its end is near, then the new one is used all the same."""
        here = play(scscf__expires_max=1800)
        here.register()
        here.run(1200)
        for text in ("old", "new"):
            assert here.ask(here.other, "message", "message-received", where=here.ue, to=FIRST, text=text)
            if text == "old":
                assert len(here.lab.host(here.ue).sets) == 2
                here.run(1825 - here.net.now)
        here.run(128)
        trace = here.trace
        assert [trace.set_of(record) for record in messages_to(trace, here.ue)] == [
            trace.registrations[0].agreed,
            trace.registrations[2].agreed,
        ]
        assert len(here.lab.host(here.ue).sets) == 1
        assert here.findings == []


class TestEnd:
    def test_of_a_ue_that_was_switched_off(self) -> None:
        """The registrar ends it in time and tells the HSS; the SAs outlive it by 30 s (24.229 5.2.2.2)."""
        here = play(scscf__expires_max=600)
        here.register()
        switch_off(here, here.ue)
        here.run(1000)
        trace = here.trace
        start = trace.registrations[0].final
        assert start is not None
        (end,) = [time for kind, time in assignments(trace) if kind is ServerAssignmentType.TIMEOUT_DEREGISTRATION]
        assert end - start.time == pytest.approx(600, abs=0.1)
        record = here.lab.store.load(FIRST)
        assert record is not None
        assert not record.is_served
        # the P-CSCF, which watches the registration, hears of it
        told = [
            parse_reginfo(record.message.body)
            for record in trace.sip(method="NOTIFY", request=True, hop=Hop.MW)
            if record.message.body and FIRST.encode() in record.message.body
        ]
        last = told[-1].registrations[0]
        assert (last.state, last.contacts[0].event) == ("terminated", "expired")
        # its SAs: the lifetime is 30 s more than the registration's
        (update,) = [each for each in node_events(trace, "update-sas", "pcscf") if each.data["number"] == 1]
        assert update.data["lifetime"] == pytest.approx(630, abs=0.1)
        (gone,) = [each for each in node_events(trace, "remove-sas", "pcscf") if each.data["number"] == 1]
        assert 600 < gone.time - start.time <= 730

    def test_sas_by_their_own_clock(self) -> None:
        """With nobody to tell the P-CSCF (it does not watch), the SAs end 30 s after the registration."""
        here = play(scscf__expires_max=600, pcscf__faults=("pcscf-no-reg-event",))
        here.register(here.ue)
        switch_off(here, here.ue)
        here.run(1000)
        trace = here.trace
        start = trace.registrations[0].final
        assert start is not None
        (gone,) = [each for each in node_events(trace, "remove-sas", "pcscf") if each.data["number"] == 1]
        assert gone.time - start.time == pytest.approx(630, abs=0.1)
        assert "sas-expired" in here.told(here.lab.pcscf)

    def test_the_caller_of_a_ue_that_is_gone(self) -> None:
        here = play(scscf__expires_max=600)
        here.register()
        here.ue.config.subscribe = False
        assert here.ask(here.ue, "deregister", "deregistered")
        assert here.ask(here.other, "message", "message-sent", to=FIRST, text="anybody?")
        status = next(e.data["status"] for e in here.lab.recording.events[::-1] if e.kind == "message-sent")
        assert status in (404, 480)
        assert here.findings == []

    def test_temporary_sas(self) -> None:
        """24.229 Table 7.8.1: reg-await-auth, 4 minutes, at P-CSCF and S-CSCF, for a challenge that nobody answers."""
        here = play()
        switched = here.lab.host(here.ue), here.lab.host(here.lab.pcscf)
        here.net.drop(switched[1] >> switched[0], nth=None)
        here.net.command(here.ue, "register")
        here.run(20)
        trace = here.trace
        told = trace.sip(status=401, hop=Hop.GM)[0]
        here.net.drop(switched[0] >> switched[1], nth=None)
        here.run(400)
        trace = here.trace
        (gone,) = node_events(trace, "remove-sas", "pcscf")
        assert gone.time - told.time == pytest.approx(240, abs=0.1)
        assert here.lab.host(here.lab.pcscf).sets == {}
        (end,) = [time for kind, time in assignments(trace) if kind is ServerAssignmentType.AUTHENTICATION_TIMEOUT]
        assert end - told.time == pytest.approx(240, abs=0.1)
        assert trace.registrations[0].outcome is Outcome.CHALLENGE_UNANSWERED


def test_two_hours_of_life() -> None:
    """Messages to the UE every few minutes, at every point of the SAs' life: each arrives, each inside an SA."""
    here = play(scscf__expires_max=1800)
    here.register()
    until = here.net.now + 7200
    number = 0
    while here.net.now < until:
        here.net.command(here.other, "message", to=FIRST, text=str(number))
        number += 1
        here.run(97)
    here.run(10)
    trace = here.trace
    got = messages_to(trace, here.ue)
    mine = [each for each in trace.registrations if each.impu == FIRST]
    assert [each.outcome for each in mine] == [Outcome.REGISTERED] * 7  # every 1200 s
    finals = [each.final.time for each in mine if each.final is not None]
    assert [int(record.message.body) for record in got] == list(range(number))
    for record in got:
        agreed = trace.set_of(record)
        assert agreed is not None
        assert record.transport is Transport.UDP
        assert (record.src, record.dst) == (agreed.sas[2].src, agreed.sas[2].dst)
        # the newest set, or the one before, which has not ended yet
        place = [each.agreed for each in mine].index(agreed)
        latest = max(index for index, time in enumerate(finals) if time < record.time)
        assert place in (latest, latest - 1)
        assert record.time < finals[place] + 1830
    assert len({id(trace.set_of(record)) for record in got}) == 6
    for node in (here.ue, here.other):
        assert len(here.lab.host(node).sets) in (1, 2)
    assert here.findings == []
    assert trace.records[-1].time > EPOCH + 7200
