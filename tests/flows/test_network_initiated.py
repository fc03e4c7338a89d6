"""What the home network ends or changes by itself: RTR for each reason, PPR, and the operator of the S-CSCF."""

from __future__ import annotations

from dataclasses import replace

import pytest

from imslab.diameter.codes import ReasonCode
from imslab.diameter.cx import RegistrationTerminationRequest
from imslab.diameter.userdata import PublicIdentity, ServiceProfile
from imslab.sip.reginfo import RegInfo, parse_reginfo
from imslab.trace.model import Hop, Role
from imslab.trace.registration import Outcome
from imslab.trace.trace import Trace, status_of
from tests.flows.labs import DOMAIN, FIRST, SECOND, Play, lines, play, subscriber


def documents(trace: Trace, hop: Hop, host: str) -> list[RegInfo]:
    """What the NOTIFYs to a host said."""
    return [
        parse_reginfo(record.message.body)
        for record in trace.sip(method="NOTIFY", request=True, hop=hop)
        if record.dst.host == host and record.message.body and not trace.is_retransmission(record)
    ]


def served(here: Play, identity: str) -> bool:
    """Whether the HSS has an S-CSCF for this identity."""
    record = here.lab.store.load(identity)
    assert record is not None
    return record.is_served


def texts_of(here: Play, kind: str) -> list[int]:
    """The statuses that senders of messages were told."""
    return [event.data["status"] for event in here.lab.recording.events if event.kind == kind]


class TestRtr:
    """29.228 6.1.3; 24.229 5.4.1.5, 5.2.3, 5.1.1.7."""

    def terminated(self, reason: ReasonCode) -> Play:
        here = play()
        here.register()
        here.net.command(here.lab.hss, "rtr", identity=FIRST, reason=reason, info="enough")
        here.run(10)
        trace = here.trace
        (asked,) = [record for record in trace.diameter_records if record.message.name == "RTR"]
        request = RegistrationTerminationRequest.from_message(asked.message)
        assert (request.reason.code, request.reason.info) == (reason, "enough")
        assert request.public_identities == [FIRST]
        answer = trace.answer_to(asked)
        assert answer is not None
        assert answer.message.result_code == 2001
        return here

    def test_permanent_termination(self) -> None:
        """The UE is told "rejected", takes its SAs away, and does not come back."""
        here = self.terminated(ReasonCode.PERMANENT_TERMINATION)
        trace = here.trace
        for hop, host in ((Hop.GM, here.ue.config.host), (Hop.MW, "198.51.100.1")):
            (registration,) = documents(trace, hop, host)[-1].registrations
            assert (registration.aor, registration.state) == (FIRST, "terminated")
            assert [(each.state, each.event) for each in registration.contacts] == [("terminated", "rejected")]
        last = trace.sip(method="NOTIFY", request=True, hop=Hop.GM)[-1]
        assert last.spi is not None
        assert (last.message.get("Subscription-State") or "").startswith("terminated")
        final = trace.final_response(last)
        assert final is not None
        assert (status_of(final), final.spi is not None) == (200, True)
        here.run(4000)
        assert here.ue.registration is None
        assert not served(here, FIRST)
        assert here.lab.host(here.ue).sets == {}
        assert len(here.lab.host(here.lab.pcscf).sets) == 1  # the other UE's
        assert [each.impu for each in here.trace.registrations].count(FIRST) == 1
        # who is not registered cannot be reached, and the other one is not touched
        assert here.ask(here.other, "message", "message-sent", to=FIRST, text="anybody?")
        assert texts_of(here, "message-sent") == [480]
        assert here.findings == []

    @pytest.mark.parametrize("reason", [ReasonCode.SERVER_CHANGE, ReasonCode.REMOVE_S_CSCF])
    def test_change_of_server(self, reason: ReasonCode) -> None:
        """The UE is told "deactivated" and comes back at once, from the beginning, in clear (24.229 5.1.1.7)."""
        here = self.terminated(reason)
        trace = here.trace
        told = [each for each in documents(trace, Hop.GM, here.ue.config.host) if each.registrations[0].contacts]
        assert "deactivated" in [each.registrations[0].contacts[0].event for each in told]
        first, _, again = trace.registrations
        assert (again.impu, again.outcome) == (FIRST, Outcome.REGISTERED)
        assert again.call_id != first.call_id
        assert again.requests[0].spi is None
        asked = [line for line in lines(trace) if line.startswith("Cx") and not line.endswith("A")]
        assert asked[-6:] == ["Cx RTR", "Cx UAR", "Cx MAR", "Cx UAR", "Cx SAR", "Cx LIR"]
        assert served(here, FIRST)
        assert here.ask(here.other, "message", "message-received", where=here.ue, to=FIRST, text="welcome back")
        here.run(200)
        assert len(here.lab.host(here.ue).sets) == 1
        assert here.findings == []

    def test_another_server_has_the_user(self) -> None:
        """29.228 6.1.3.1: nobody is told. What the UE does next finds the S-CSCF without it, and begins again."""
        here = self.terminated(ReasonCode.NEW_SERVER_ASSIGNED)
        assert len(documents(here.trace, Hop.GM, here.ue.config.host)) == 1
        assert here.ue.registration is not None
        assert here.ask(here.ue, "reregister", "sas-switched")
        assert here.ask(here.other, "message", "message-received", where=here.ue, to=FIRST, text="still there?")
        assert [each.outcome for each in here.trace.registrations] == [Outcome.REGISTERED] * 3

    def test_the_whole_set_of_an_identity(self) -> None:
        """An RTR names an identity; its implicit registration set goes, other users stay."""
        tel = "tel:+12125550001"
        here = play(subscribers=[subscriber(1, impus=(FIRST, tel)), subscriber(2)])
        here.register()
        here.net.command(here.lab.hss, "rtr", identity=tel)
        here.run(10)
        assert here.ue.registration is None
        assert here.other.registration is not None
        assert not served(here, FIRST)
        assert served(here, SECOND)

    def test_a_subscriber_that_is_removed(self) -> None:
        """The HSS ends the registration first; after that nobody knows the user."""
        here = play()
        here.register(here.ue)
        here.net.command(here.lab.hss, "remove", identity=FIRST)
        here.run(10)
        assert here.ue.registration is None
        assert here.lab.store.load(FIRST) is None
        assert here.ask(here.ue, "register", "gave-up")
        final = here.trace.registrations[-1].final
        assert final is not None
        assert status_of(final) == 403

    def test_an_hss_that_only_says_so(self) -> None:
        """The fault of it shows: without an RTR on the wire nothing happens."""
        here = play(hss__faults=("rtr-nowhere",))
        here.register(here.ue)
        here.net.command(here.lab.hss, "rtr", identity=FIRST)
        here.run(10)
        assert here.ue.registration is not None
        assert [r for r in here.trace.diameter_records if r.message.name == "RTR"] == []


class TestOperator:
    """24.229 5.4.1.5, 5.4.1.6: what the S-CSCF begins."""

    def test_deregisters(self) -> None:
        here = play()
        here.register(here.ue)
        here.net.command(here.lab.scscf, "deregister", impu=FIRST, event="rejected")
        here.run(10)
        assert here.ue.registration is None
        assert not served(here, FIRST)
        assert here.findings == []

    def test_wants_the_user_authenticated(self) -> None:
        """The registration is shortened, and the UE comes before that is over."""
        here = play(scscf__reauthenticate=False)
        here.register(here.ue)
        here.net.command(here.lab.scscf, "reauthenticate", impu=FIRST)
        here.run(60)
        trace = here.trace
        told = documents(trace, Hop.GM, here.ue.config.host)[1].registrations[0].contacts[0]
        assert (told.state, told.event) == ("active", "shortened")
        first, again = trace.registrations
        assert first.final is not None
        assert again.outcome is Outcome.REGISTERED
        assert again.requests[0].time < first.final.time + 62
        assert len(again.challenges) == 1
        assert here.ue.registration is not None
        assert here.ue.registration.granted == 3600
        assert here.findings == []


class TestPpr:
    """29.228 6.2.2, 24.229 5.4.2.1.2: a changed set is pushed, and who watches is told."""

    def test_an_identity_more_and_one_less(self) -> None:
        old, new = "tel:+12125550001", f"sip:new@{DOMAIN}"
        here = play(subscribers=[subscriber(1, impus=(FIRST, old)), subscriber(2)])
        here.register()
        profiles = [ServiceProfile([PublicIdentity(FIRST), PublicIdentity(new)])]
        here.net.command(here.lab.hss, "ppr", identity=FIRST, profiles=profiles)
        here.run(10)
        trace = here.trace
        (asked,) = [record for record in trace.diameter_records if record.message.name == "PPR"]
        answer = trace.answer_to(asked)
        assert answer is not None
        assert answer.message.result_code == 2001
        for hop, host in ((Hop.GM, here.ue.config.host), (Hop.MW, "198.51.100.1")):
            told = {each.aor: each.state for each in documents(trace, hop, host)[-1].registrations}
            assert told == {FIRST: "active", new: "active", old: "terminated"}
        assert here.ask(here.other, "message", "message-received", where=here.ue, to=new, text="to the new one")
        here.run(1)
        assert here.ask(here.other, "message", "message-sent", to=old, text="to the old one")
        assert texts_of(here, "message-sent") == [200, 404]
        assert here.ue.registration is not None
        assert here.findings == []

    def test_what_the_hss_has_is_what_the_next_registration_gets(self) -> None:
        """A profile that was changed and not pushed (a fault of the HSS) comes with the next SAA."""
        new = f"sip:new@{DOMAIN}"
        here = play(hss__faults=("ppr-missing",))
        here.register()
        profiles = [ServiceProfile([PublicIdentity(FIRST), PublicIdentity(new)])]
        here.net.command(here.lab.hss, "ppr", identity=FIRST, profiles=profiles)
        here.run(1)
        assert [r for r in here.trace.diameter_records if r.message.name == "PPR"] == []
        assert len(documents(here.trace, Hop.GM, here.ue.config.host)) == 1
        assert here.ask(here.ue, "deregister", "deregistered")
        here.register(here.ue)
        final = here.trace.registrations[-1].final
        assert final is not None
        assert [str(each.uri) for each in final.message.p_associated_uri] == [FIRST, new]

    def test_a_barred_identity(self) -> None:
        tel = "tel:+12125550001"
        here = play(subscribers=[subscriber(1, impus=(FIRST, tel)), subscriber(2)])
        here.register()
        before = here.lab.store.load(FIRST)
        assert before is not None
        identities = [replace(each, barred=each.uri == tel) for each in before.sets[0].identities]
        here.net.command(here.lab.hss, "ppr", identity=FIRST, profiles=[ServiceProfile(identities)])
        here.run(10)
        told = {each.aor: each.state for each in documents(here.trace, Hop.GM, here.ue.config.host)[-1].registrations}
        assert told == {FIRST: "active", tel: "terminated"}
        asserted = here.trace.sip(method="NOTIFY", request=True, hop=Hop.GM, sender=Role.PCSCF)
        assert all(b"barred" not in record.message.body for record in asserted)
        assert here.findings == []
