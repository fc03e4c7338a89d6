"""Registrations that go wrong, each in its own way, and what they leave behind: nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hss.store import Change
from hss.subscriber import AkaCredentials
from imslab.aka.digest import parse_auts, split_nonce
from imslab.aka.milenage import Milenage, derive_opc
from imslab.aka.vector import check_auts
from imslab.diameter.codes import ServerAssignmentType
from imslab.diameter.cx import MultimediaAuthRequest, ServerAssignmentRequest
from imslab.net.link import Transit
from imslab.trace.model import Hop, Icv, Role
from imslab.trace.registration import Autn, Outcome, Response, verdict
from imslab.trace.trace import status_of
from tests.flows.labs import FIRST, OP, Play, lines, play, says, subscriber


def silence(here: Play, source: Any, target: Any) -> Any:
    """From now on nothing gets from one box to another, until it is cancelled."""
    return here.net.drop(here.lab.host(source) >> here.lab.host(target), nth=None)


def nobody_is_left(here: Play) -> bool:
    """No SA set anywhere, nothing registered, nothing in the HSS."""
    record = here.lab.store.load(FIRST)
    return (
        not any(host.sets for host in here.net.hosts.values())
        and here.ue.registration is None
        and not here.lab.pcscf.contacts
        and (record is None or (not record.is_served and record.server_name == ""))
    )


class TestSqn:
    def test_resynchronisation(self) -> None:
        """24.229 5.1.1.5.3, 33.203 6.1.3, 29.228 6.3.1: AUTS in clear, MAR with RAND ‖ AUTS, a vector that fits."""
        ahead = 1 << 40
        here = play(subscribers=[subscriber(1, sqn_ms=ahead)])
        assert here.ask(here.ue, "register", "registered", within=10)
        trace = here.trace
        (registration,) = trace.registrations
        first, report, answer = registration.requests
        challenge = registration.challenges[0].message.www_authenticate[0]
        assert [request.spi is not None for request in (first, report, answer)] == [False, False, True]
        (credentials,) = report.message.authorization
        assert credentials.nonce == challenge.nonce
        # what the card says, opened with its key: where its memory stands
        algorithm = Milenage(bytes.fromhex(f"{1:032x}"), derive_opc(bytes.fromhex(f"{1:032x}"), bytes.fromhex(OP)))
        auts = parse_auts(credentials.auts or "")
        mars = [
            MultimediaAuthRequest.from_message(each.message)
            for each in trace.diameter_records
            if each.message.name == "MAR"
        ]
        assert [mar.item.authorization is not None for mar in mars] == [False, True]
        told = mars[1].item.authorization or b""
        assert told[16:] == auts
        assert check_auts(algorithm, told[:16], auts) == ahead
        assert split_nonce(challenge.nonce or "")[0] == told[:16]
        # the REGISTER with auts offers new SPIs, and the set of the first challenge has gone
        assert report.message.security_client[0].spi_c != first.message.security_client[0].spi_c
        assert len(here.lab.host(here.lab.pcscf).sets) == 1
        assert registration.autn is Autn.OK
        told_by_ue = [event.text for event in here.lab.recording.events if event.kind == "sqn-failure"]
        assert told_by_ue == ["the card finds SQN 000000000021 out of range: replayed"]
        assert here.findings == []

    @pytest.mark.parametrize("ip", [4, 6])
    def test_the_hss_is_right_from_then_on(self, ip: int) -> None:
        here = play(ip=ip, subscribers=[subscriber(1, sqn_ms=1 << 40)])
        here.register(here.ue)
        for _ in range(3):
            assert here.ask(here.ue, "reregister", "sas-switched")
        assert here.told(here.ue).count("sqn-failure") == 1

    def test_a_wrong_auts_leads_nowhere(self) -> None:
        """An AUTS that the HSS cannot verify moves no SQN; the network says no, and nothing is left of it."""
        here = play(subscribers=[subscriber(1, sqn_ms=1 << 40)], ue__faults=("ue-wrong-auts",))
        assert here.ask(here.ue, "register", "gave-up", within=60)
        assert verdict(here.trace) == "fail"
        here.run(300)
        assert nobody_is_left(here)

    def test_resynchronisation_of_a_registered_ue(self) -> None:
        """24.229 5.1.1.5.3: the report of a refresh goes inside the established set, and nothing is lost."""
        here = play(subscribers=[subscriber(1)])
        here.register(here.ue)
        before = here.lab.store.load(FIRST)
        assert before is not None
        back = replace(before.with_private(replace(before.privates[0], sqn=0)), version=before.version + 1)
        here.lab.store.commit(Change(before, back))
        assert here.ask(here.ue, "reregister", "sas-switched")
        assert "sqn-failure" in here.told(here.ue)
        renewed = here.trace.registrations[-1]
        assert [request.spi is not None for request in renewed.requests] == [True, True, True]
        assert {finding.rule for finding in here.findings} == {"HSS-18"}  # an SQN twice, as we arranged it


class TestMac:
    def test_another_key_in_the_hss(self) -> None:
        """24.229 5.1.1.5.3, 33.203 6.1.2.2: the card does not believe it; the UE says so with an empty response."""
        here = play(subscribers=[subscriber(1)])
        give_other_key(here)
        assert here.ask(here.ue, "register", "gave-up", within=10)
        trace = here.trace
        (registration,) = trace.registrations
        assert (registration.outcome, registration.autn) == (Outcome.REJECTED, Autn.MAC_FAILURE)
        assert verdict(trace) == "fail"
        report = registration.requests[1]
        (credentials,) = report.message.authorization
        assert (credentials.response, credentials.auts) == ("", None)
        assert report.spi is None
        final = registration.final
        assert final is not None
        assert (status_of(final), final.spi) == (403, None)
        assert not final.message.has("WWW-Authenticate")
        (sar,) = [each for each in trace.diameter_records if each.message.name == "SAR"]
        told = ServerAssignmentRequest.from_message(sar.message)
        assert told.assignment_type is ServerAssignmentType.AUTHENTICATION_FAILURE
        here.run(300)
        assert nobody_is_left(here)
        assert here.findings == []

    def test_a_registered_ue_stays_registered(self) -> None:
        """33.203 6.1.1: a failed re-authentication takes nothing away."""
        here = play(subscribers=[subscriber(1), subscriber(2)])
        here.register()
        give_other_key(here)
        assert here.ask(here.ue, "reregister", "mac-failure")
        here.run(10)
        assert here.ue.registration is not None
        assert here.ask(here.other, "message", "message-received", where=here.ue, to=FIRST, text="still there?")
        assert here.trace.registrations[-1].outcome is Outcome.REJECTED
        assert len(here.lab.host(here.ue).sets) == 1


class TestResponse:
    @pytest.mark.parametrize("transport", ["udp", "tcp"])
    def test_a_wrong_one(self, transport: str) -> None:
        """33.203 6.1.2.1, 7.4: 403, inside the new set, which then goes; the HSS hears of it."""
        here = play(ue__transport=transport, ue__faults=("ue-wrong-response",))
        assert here.ask(here.ue, "register", "gave-up", within=10)
        trace = here.trace
        registration = trace.registrations[0]
        assert (registration.outcome, registration.response) == (Outcome.REJECTED, Response.MISMATCH)
        final = registration.final
        assert final is not None
        assert status_of(final) == 403
        assert trace.set_of(final) is registration.agreed is not None
        assert "AKA-01" in {finding.rule for finding in here.findings}
        assert "Cx SAR" in lines(trace)
        here.run(300)
        assert nobody_is_left(here)

    def test_a_network_that_takes_it_all_the_same(self) -> None:
        """Then the UE is in, and the trace says that it should not be."""
        here = play(ue__faults=("ue-wrong-response",), scscf__faults=("scscf-any-response",))
        here.ask(here.ue, "register", "registered", within=10)
        assert verdict(here.trace) == "fail"
        assert {"AKA-01", "AKS-02"} <= {finding.rule for finding in here.findings}


class TestUnknown:
    def test_user(self) -> None:
        """29.228 6.1.1.1: 5001 is 403 (24.229 5.3.1.3), and there is no challenge."""
        here = play(subscribers=[subscriber(1)])
        before = here.lab.store.load(FIRST)
        here.lab.store.commit(Change(before, None))
        assert here.ask(here.ue, "register", "gave-up", within=10)
        trace = here.trace
        (registration,) = trace.registrations
        assert registration.outcome is Outcome.REJECTED
        assert lines(trace) == [
            "Gm UE>P-CSCF REGISTER",
            "Mw P-CSCF>I-CSCF REGISTER",
            "Cx UAR",
            "Cx UAA",
            "Mw I-CSCF>P-CSCF 403 REGISTER",
            "Gm P-CSCF>UE 403 REGISTER",
        ]
        (uaa,) = [each.message for each in trace.diameter_records if each.message.name == "UAA"]
        assert uaa.experimental_result == 5001
        assert verdict(trace) == "fail"
        assert nobody_is_left(here)
        assert here.findings == []

    def test_addressee(self) -> None:
        here = play()
        here.register()
        assert here.ask(here.ue, "message", "message-sent", to="sip:nobody@" + FIRST.partition("@")[2], text="?")
        assert [event.data["status"] for event in here.lab.recording.events if event.kind == "message-sent"] == [404]
        assert here.findings == []

    def test_identity_of_somebody_else(self) -> None:
        """29.228 6.1.1.1: 5002, the IMPI and the IMPU do not belong together."""
        here = play()
        here.ue.config.impu = here.other.config.impu
        assert here.ask(here.ue, "register", "gave-up", within=10)
        (uaa,) = [each.message for each in here.trace.diameter_records if each.message.name == "UAA"]
        assert uaa.experimental_result == 5002
        final = here.trace.registrations[0].final
        assert final is not None
        assert status_of(final) == 403


class TestSilence:
    """Every point at which somebody can fall silent: who waits says so in time, and all is well when it is over."""

    @pytest.mark.parametrize("asker", ["icscf", "scscf"])
    def test_of_the_hss(self, asker: str) -> None:
        here = play(subscribers=[subscriber(1)])
        here.run(1)
        mute = silence(here, here.lab.hss, getattr(here.lab, asker))
        assert here.ask(here.ue, "register", "waiting", within=10)
        final = here.trace.registrations[0].final
        assert final is not None
        assert status_of(final) == 504
        assert here.trace.sip(status=401) == []
        assert not here.lab.host(here.lab.pcscf).sets
        mute.cancel()
        assert here.heard("registered", here.ue, within=300)  # by itself
        assert here.findings == []

    def test_of_the_hss_at_the_end(self) -> None:
        """The answer was right, but nobody can say so: 504 inside (or clear), no set left, and again later."""
        here = play(subscribers=[subscriber(1)])
        here.run(1)
        hss, scscf = here.lab.host(here.lab.hss), here.lab.host(here.lab.scscf)

        def answers_sar(transit: Transit) -> bool:
            return b"\x00\x01\x2d" in transit.octets  # command 301

        with here.net.drop(hss >> scscf, nth=None, match=answers_sar):
            assert here.ask(here.ue, "register", "waiting", within=30)
            final = here.trace.registrations[0].final
            assert final is not None
            assert status_of(final) == 504
            assert here.ue.registration is None
        assert here.heard("registered", here.ue, within=600)
        assert here.ask(here.ue, "message", "message-received", to=FIRST, text="to myself")

    @pytest.mark.parametrize(("mute", "deaf"), [("icscf", "pcscf"), ("pcscf", "icscf"), ("scscf", "icscf")])
    def test_of_the_core(self, mute: str, deaf: str) -> None:
        """RFC 3261 17.1.2.2: 32 s, then 504 to the UE, which comes again."""
        here = play(subscribers=[subscriber(1)])
        here.run(1)
        start = here.net.now
        held = silence(here, getattr(here.lab, mute), getattr(here.lab, deaf))
        assert here.ask(here.ue, "register", "waiting", within=60)
        assert here.net.now - start == pytest.approx(32, abs=1)
        final = here.trace.registrations[0].final
        assert final is not None
        assert (status_of(final), final.hop) == (504, Hop.GM)
        held.cancel()
        assert here.heard("registered", here.ue, within=300)
        assert here.findings == []

    def test_of_the_pcscf(self) -> None:
        """24.229 7.7: timer F is 128 s on radio accesses; then the UE waits, and tries again."""
        here = play(subscribers=[subscriber(1)])
        here.run(1)
        held = silence(here, here.lab.pcscf, here.ue)
        start = here.net.now
        assert here.ask(here.ue, "register", "timeout", within=150)
        assert here.net.now - start == pytest.approx(128, abs=1)
        held.cancel()
        assert here.heard("registered", here.ue, within=600)

    @pytest.mark.parametrize("lost", range(1, 5))
    def test_of_one_packet(self, lost: int) -> None:
        """Whichever packet of a registration over UDP is lost, its sender repeats it (RFC 3261 17.1.2)."""
        here = play(ue__transport="udp", subscribers=[subscriber(1)])
        host, pcscf = here.lab.host(here.ue), here.lab.host(here.lab.pcscf)
        ways = {1: host >> pcscf, 2: pcscf >> host, 3: host >> pcscf, 4: pcscf >> host}
        matches = {
            1: says("REGISTER"),
            2: says("REGISTER", 401),
            3: lambda transit: transit.octets[9] == 50 and says("REGISTER")(transit),
            4: says("REGISTER", 200),
        }
        with here.net.drop(ways[lost], match=matches[lost]) as loss:
            assert here.ask(here.ue, "register", "registered", within=30)
        assert loss.hits == 1
        trace = here.trace
        (registration,) = trace.registrations
        assert registration.outcome is Outcome.REGISTERED
        repeated = [record for record in trace.sip(method="REGISTER", hop=Hop.GM) if trace.is_retransmission(record)]
        assert [record.message.is_request for record in repeated] == ([True] if lost in (1, 3) else [True, False])
        assert {record.icv for record in trace.esp_records} == {Icv.OK}
        assert [finding for finding in here.findings if finding.rule != "TRN-02"] == []

    def test_of_the_pcscf_after_a_restart(self) -> None:
        """33.203 7.4.0: SAs that nobody answers in are dead; the UE begins again in clear, and is back."""
        here = play(scscf__expires_max=600)
        here.register()
        host = here.lab.host(here.lab.pcscf)
        for number in list(host.sets):  # the box has forgotten all
            here.lab.pcscf.remove_set(here.lab.pcscf.table.get(number))  # type: ignore[arg-type]
        here.lab.pcscf.contacts.clear()
        assert here.ask(here.ue, "reregister", "registered", within=300)
        again = here.trace.registrations[-1]
        assert (again.requests[0].spi, again.outcome) == (None, Outcome.REGISTERED)
        assert again.requests[0].sender is Role.UE


def give_other_key(here: Play) -> None:
    """Another K in the HSS than in the card."""
    before = here.lab.store.load(FIRST)
    assert before is not None
    private = before.privates[0]
    assert isinstance(private.credentials, AkaCredentials)
    other = replace(private, credentials=replace(private.credentials, k=bytes(16)))
    here.lab.store.commit(Change(before, replace(before.with_private(other), version=before.version + 1)))
