"""A registration as the wire shows it: what stands in each message on each hop, and in which order things are done."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hss.store import Change
from imslab.core import effects as fx
from imslab.core import events as ev
from imslab.diameter.cx import (
    MultimediaAuthAnswer,
    ServerAssignmentAnswer,
    ServerAssignmentRequest,
    UserAuthorizationRequest,
)
from imslab.diameter.userdata import PublicIdentity, ServiceProfile, parse_userdata
from imslab.net.host import Host
from imslab.sip.message import Message
from imslab.sip.reginfo import parse_reginfo
from imslab.trace.model import DiameterRecord, Hop, Icv, Role, SipRecord
from imslab.trace.registration import Autn, Outcome, Response
from imslab.trace.trace import Trace, status_of
from tests.flows.labs import DOMAIN, FIRST, Play, in_the_middle, job, play, says, subscriber

IMPI = f"001010000000001@{DOMAIN}"


def cx(trace: Trace, name: str) -> list[DiameterRecord]:
    """The Cx messages of this name, in order."""
    return [record for record in trace.diameter_records if record.message.name == name]


def registers(trace: Trace, hop: Hop, sender: Role) -> list[SipRecord]:
    """The REGISTERs of the first registration that a role sent on a hop."""
    call_id = trace.registrations[0].call_id
    return [
        record
        for record in trace.sip(call_id=call_id, method="REGISTER", request=True, hop=hop, sender=sender)
        if not trace.is_retransmission(record)
    ][:2]


def challenges(trace: Trace) -> list[SipRecord]:
    """The first 401 on its way: S-CSCF → I-CSCF → P-CSCF → UE."""
    call_id = trace.registrations[0].call_id
    return [record for record in trace.sip(call_id=call_id, status=401) if not trace.is_retransmission(record)][:3]


class TestFirstRegister:
    def test_as_the_ue_sends_it(self) -> None:
        """24.229 5.1.1.2.2: in clear, with empty credentials and an offer."""
        first = registers(job().trace, Hop.GM, Role.UE)[0]
        message = first.message
        assert first.spi is None
        assert message.uri == f"sip:{DOMAIN}"  # type: ignore[attr-defined]
        (credentials,) = message.authorization
        assert (credentials.username, credentials.realm) == (IMPI, DOMAIN)
        assert (credentials.nonce, credentials.response, credentials.uri) == ("", "", f"sip:{DOMAIN}")
        assert not credentials.has("integrity-protected")
        assert [(each.alg, each.ealg) for each in message.security_client] == [
            ("hmac-sha-1-96", "aes-cbc"),
            ("hmac-sha-1-96", "null"),
            ("null", "aes-gcm"),
            ("aes-gmac", "null"),
        ]
        assert "sec-agree" in message.require
        assert "sec-agree" in message.proxy_require
        assert "path" in message.supported
        assert message.contact[0].uri.port == 5060
        assert not message.has("P-Access-Network-Info")  # where the UE is, is for protected ears

    def test_as_the_home_network_gets_it(self) -> None:
        """24.229 5.2.2.1, 5.3.1.2: the agreement ends at the P-CSCF, which says how the message came."""
        trace = job().trace
        sent = registers(trace, Hop.GM, Role.UE)[0].message
        for record, vias in (
            (registers(trace, Hop.MW, Role.PCSCF)[0], 2),
            (registers(trace, Hop.MW, Role.ICSCF)[0], 3),
        ):
            message = record.message
            assert not any(message.has(f"Security-{name}") for name in ("Client", "Server", "Verify"))
            assert "sec-agree" not in message.require
            assert not message.has("Proxy-Require")
            assert message.authorization[0].integrity_protected == "no"
            assert len(message.authorization[0].params) == len(sent.authorization[0].params) + 1
            assert [each.uri.host for each in message.path] == ["198.51.100.1"]
            assert "path" in message.require
            assert message.p_charging_vector is not None
            assert message.p_visited_network_id == [DOMAIN]
            assert len(message.via) == vias
            assert message.max_forwards == 71 - vias
            assert (message.call_id, message.cseq) == (sent.call_id, sent.cseq)
        # 24.229 5.3.1.2: the I-CSCF puts the S-CSCF's name into the Request-URI
        assert registers(trace, Hop.MW, Role.PCSCF)[0].message.uri == f"sip:{DOMAIN}"  # type: ignore[attr-defined]
        assert registers(trace, Hop.MW, Role.ICSCF)[0].message.uri.startswith("sip:scscf.")  # type: ignore[attr-defined]

    def test_the_icscf_asks_who_serves_the_user(self) -> None:
        """29.228 6.1.1: identities and visited network; before anything is known 2001 with no name, then the name."""
        trace = job().trace
        question = UserAuthorizationRequest.from_message(cx(trace, "UAR")[0].message)
        assert (question.user_name, question.public_identity, question.visited_network) == (IMPI, FIRST, DOMAIN)
        first, second = [record.message for record in cx(trace, "UAA")[:2]]
        assert first.experimental_result == 2001  # DIAMETER_FIRST_REGISTRATION
        assert first.get("Server-Name") is None
        # the MAR has left a name (29.228 6.3.1), so the second REGISTER finds the same S-CSCF
        assert second.get("Server-Name") == f"sip:scscf.{DOMAIN}:5060"


class TestChallenge:
    def test_keys_go_as_far_as_the_pcscf(self) -> None:
        """33.203 6.1.1: MAA and 401 on Mw carry CK and IK; on Gm there is no trace of them."""
        trace = job().trace
        (item,) = MultimediaAuthAnswer.from_message(cx(trace, "MAA")[0].message).items
        assert item.ck is not None
        assert item.ik is not None
        inside, outside, gm = challenges(trace)
        assert (inside.hop, outside.hop, gm.hop) == (Hop.MW, Hop.MW, Hop.GM)
        for record in (inside, outside):
            (challenge,) = record.message.www_authenticate
            assert (challenge.ck, challenge.ik) == (item.ck.hex(), item.ik.hex())
        (challenge,) = gm.message.www_authenticate
        assert not challenge.has("ck")
        assert not challenge.has("ik")
        assert challenge.nonce == outside.message.www_authenticate[0].nonce
        octets = gm.message.octets or b""
        assert not any(key.hex().encode() in octets.lower() or key in octets for key in (item.ck, item.ik))

    def test_temporary_sas_stand_before_the_401_leaves(self) -> None:
        """33.203 7.2. The time of processing is made visible: the carrier takes a second for the SAs."""
        here = play()
        slow(here.lab.host(here.lab.pcscf), fx.InstallSas, 1.0)
        here.register(here.ue)
        trace = here.trace
        got, told = challenges(trace)[1:]
        installed = next(r for r in trace.node_records if r.kind == "install-sas" and r.role is Role.PCSCF)
        assert installed.time >= got.time + 1
        assert told.time >= installed.time
        assert trace.records.index(told) > trace.records.index(installed)

    def test_that_order_can_be_wrong(self) -> None:
        """The box that does it the other way round is seen by it."""
        here = play(pcscf__faults=("pcscf-late-sas",))
        slow(here.lab.host(here.lab.pcscf), fx.InstallSas, 1.0)
        here.ask(here.ue, "register", "registered")
        trace = here.trace
        told = challenges(trace)[2]
        installed = next(r for r in trace.node_records if r.kind == "install-sas" and r.role is Role.PCSCF)
        assert told.time < installed.time

    def test_sas_that_cannot_be_made_are_a_500_and_leave_nothing(self) -> None:
        here = play()
        host = here.lab.host(here.lab.pcscf)
        host.sa_install_fails = "no room"
        assert not here.ask(here.ue, "register", "registered", within=20)
        (registration, *_) = here.trace.registrations
        assert registration.outcome is Outcome.REJECTED
        assert registration.final is not None
        assert status_of(registration.final) == 500
        assert here.trace.sip(status=401, hop=Hop.GM) == []
        assert host.sets == {}
        host.sa_install_fails = ""
        assert here.heard("registered", here.ue)  # the UE tries again by itself

    def test_security_server_lists_all_that_is_supported(self) -> None:
        """33.203 7.2: by the P-CSCF's priority, one set of SPIs and ports."""
        message = challenges(job().trace)[2].message
        listed = message.security_server
        assert [(each.alg, each.ealg) for each in listed] == [
            ("hmac-sha-1-96", "aes-cbc"),
            ("null", "aes-gcm"),
            ("hmac-sha-1-96", "null"),
            ("aes-gmac", "null"),
        ]
        assert len({(each.spi_c, each.spi_s, each.port_c, each.port_s) for each in listed}) == 1
        wanted = [each.q or 0.0 for each in listed]
        assert wanted == sorted(wanted, reverse=True)


class TestAnswer:
    def test_as_the_ue_sends_it(self) -> None:
        """24.229 5.1.1.5.1: inside the temporary set, same Call-ID, the offer as before, Security-Server mirrored."""
        trace = job().trace
        first, second = registers(trace, Hop.GM, Role.UE)
        told = challenges(trace)[2]
        agreed = trace.set_of(second)
        assert agreed is trace.registrations[0].agreed
        assert agreed is not None
        assert (second.src, second.dst) == (agreed.sas[0].src, agreed.sas[0].dst)
        message = second.message
        assert message.rows("Security-Verify") == told.message.rows("Security-Server")
        assert message.rows("Security-Client") == first.message.rows("Security-Client")
        assert message.call_id == first.message.call_id
        assert message.cseq.number == first.message.cseq.number + 1
        (credentials,) = message.authorization
        assert credentials.nonce == told.message.www_authenticate[0].nonce
        assert len(credentials.response or "") == 32
        # 33.203 7.1: Contact and Via lead to the protected server port
        assert message.contact[0].uri.port == message.via[0].port == agreed.sas[2].dst.port
        assert message.has("P-Access-Network-Info")

    def test_as_the_home_network_gets_it(self) -> None:
        trace = job().trace
        for record in (registers(trace, Hop.MW, Role.PCSCF)[1], registers(trace, Hop.MW, Role.ICSCF)[1]):
            assert record.message.authorization[0].integrity_protected == "yes"
            assert not record.message.has("Security-Verify")
            assert not record.message.has("Proxy-Require")
            assert "sec-agree" not in record.message.require

    @pytest.mark.parametrize("claim", ["yes", "tls-yes", "ip-assoc-yes"])
    def test_integrity_protected_is_the_pcscfs_word_alone(self, claim: str) -> None:
        """33.203 6.1.5: whatever comes in clear is "no", whatever it says of itself."""
        here = play()

        def lie(message: Message) -> None:
            message.set("Authorization", f'{message.get("Authorization")}, integrity-protected="{claim}"')

        host, pcscf = here.lab.host(here.ue), here.lab.host(here.lab.pcscf)
        with in_the_middle(here, host >> pcscf, lie, says("REGISTER")) as liar:
            here.register(here.ue)
        assert liar.hits == 1
        flags = [r.message.authorization[0].integrity_protected for r in registers(here.trace, Hop.MW, Role.PCSCF)]
        assert flags == ["no", "yes"]
        text = registers(here.trace, Hop.MW, Role.PCSCF)[0].message.get("Authorization") or ""
        assert text.count("integrity-protected") == 1

    def test_who_changes_the_offer_is_found_out(self) -> None:
        """33.203 7.2, 7.3.2.3: the offer that came in clear must be the one that is repeated inside."""
        here = play()

        def change(message: Message) -> None:
            message.set("Security-Client", ", ".join(message.values("Security-Client")[:-1]))

        host, pcscf = here.lab.host(here.ue), here.lab.host(here.lab.pcscf)
        with in_the_middle(here, host >> pcscf, change, says("REGISTER")) as attacker:
            assert here.ask(here.ue, "register", "gave-up", within=10)
        assert attacker.hits == 1
        assert here.ask(here.ue, "register", "registered", within=10)
        refused, accepted = here.trace.registrations
        assert (refused.outcome, accepted.outcome) == (Outcome.REJECTED, Outcome.REGISTERED)
        assert refused.final is not None
        assert status_of(refused.final) == 494
        assert refused.final.message.has("Security-Server")
        # the home network has not heard of the attempt beyond its first REGISTER
        assert len(here.trace.sip(call_id=refused.call_id, method="REGISTER", request=True, sender=Role.PCSCF)) == 1

    def test_who_weakens_the_offer_gains_nothing(self) -> None:
        """The UE takes the best that the P-CSCF lists, the P-CSCF what it was left: they do not meet."""
        here = play()

        def weaken(message: Message) -> None:
            offers = [each for each in message.values("Security-Client") if "ealg=null" in each and "hmac" in each]
            message.set("Security-Client", ", ".join(offers))

        host, pcscf = here.lab.host(here.ue), here.lab.host(here.lab.pcscf)
        with in_the_middle(here, host >> pcscf, weaken, says("REGISTER")) as attacker:
            assert not here.ask(here.ue, "register", "registered", within=30)
        assert attacker.hits == 1
        assert here.heard("registered", here.ue, within=600)
        refused, accepted = here.trace.registrations
        assert (refused.outcome, accepted.outcome) == (Outcome.CHALLENGE_UNANSWERED, Outcome.REGISTERED)
        assert {(sa.alg, sa.ealg) for sa in accepted.sas} == {("hmac-sha-1-96", "aes-cbc")}

    def test_who_weakens_the_answer_is_found_out(self) -> None:
        """The UE mirrors what it was told, which is not what the P-CSCF said."""
        here = play()

        def weaken(message: Message) -> None:
            listed = [each for each in message.values("Security-Server") if "ealg=null" in each and "hmac" in each]
            message.set("Security-Server", ", ".join(listed))

        host, pcscf = here.lab.host(here.ue), here.lab.host(here.lab.pcscf)
        with in_the_middle(here, pcscf >> host, weaken, says("REGISTER", 401)) as attacker:
            assert not here.ask(here.ue, "register", "registered", within=10)
        assert attacker.hits == 1
        assert here.heard("registered", here.ue)
        assert here.trace.registrations[0].outcome is not Outcome.REGISTERED
        assert {(sa.alg, sa.ealg) for sa in here.trace.registrations[-1].sas} == {("hmac-sha-1-96", "aes-cbc")}


class TestKeys:
    """Every kind of card that the HSS knows registers, in any home network."""

    @pytest.mark.parametrize(
        "card",
        [
            {"op": None, "opc": "cd63cb71954a9f4e48a5994e37a02baf"},
            {"algorithm": "xor", "op": None},
            {"algorithm": "tuak", "op": "5555555555555555555555555555555555555555555555555555555555555555"},
            {
                "algorithm": "tuak",
                "k": "ab" * 32,
                "op": None,
                "opc": "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
            },
            {"sqn": (1 << 48) - 2000, "sqn_ms": (1 << 48) - 4000},
        ],
        ids=["OPc", "XOR", "TUAK with TOP", "TUAK with 256 bits", "an old card"],
    )
    def test_of_many_kinds(self, card: dict[str, object]) -> None:
        settings = {name: value for name, value in subscriber(1, **card).items() if value is not None}
        here = play(subscribers=[settings])
        here.register()
        (registration,) = here.trace.registrations
        assert (registration.autn, registration.response) == (Autn.OK, Response.OK)
        assert {record.icv for record in here.trace.esp_records} == {Icv.OK}
        assert here.findings == []

    @pytest.mark.parametrize(("mcc", "mnc"), [("001", "01"), ("310", "410"), ("234", "015")])
    def test_in_any_network(self, mcc: str, mnc: str) -> None:
        """23.003 13.2: the MNC in the domain has three digits always."""
        here = play(mcc=mcc, mnc=mnc, subscribers=[subscriber(1, imsi=f"{mcc}{mnc}0000000001"[:15])])
        here.register()
        assert here.trace.registrations[0].impi.endswith(f"@ims.mnc{mnc.zfill(3)}.mcc{mcc}.3gppnetwork.org")
        assert here.findings == []

    def test_in_a_network_with_a_name_of_its_own(self) -> None:
        here = play(domain="ims.example.org")
        here.register()
        assert here.trace.registrations[0].impu == "sip:001010000000001@ims.example.org"
        assert here.findings == []


class TestSuccess:
    def test_profile_and_routes(self) -> None:
        """29.228 6.1.2, 24.229 5.4.1.2.2F."""
        trace = job().trace
        asked = ServerAssignmentRequest.from_message(cx(trace, "SAR")[0].message)
        told = ServerAssignmentAnswer.from_message(cx(trace, "SAA")[0].message)
        assert (asked.user_name, asked.public_identities, asked.assignment_type) == (IMPI, [FIRST], 1)
        assert asked.server_name == f"sip:scscf.{DOMAIN}:5060"
        assert told.user_data is not None
        profile = parse_userdata(told.user_data)
        assert (profile.impi, [each.uri for each in profile.identities]) == (IMPI, [FIRST])
        final = trace.registrations[0].final
        assert final is not None
        message = final.message
        assert [str(each.uri) for each in message.p_associated_uri] == [FIRST]
        assert [each.uri.host for each in message.service_route] == [f"scscf.{DOMAIN}"] or message.service_route
        assert [str(each) for each in message.path] == [
            str(each) for each in registers(trace, Hop.MW, Role.PCSCF)[1].message.path
        ]
        assert message.contact[0].expires == 3600
        assert not message.has("Security-Server")
        assert trace.set_of(final) is trace.registrations[0].agreed
        # what the UE begins afterwards goes by the P-CSCF's protected port and the Service-Route
        subscribe = trace.sip(method="SUBSCRIBE", request=True, sender=Role.UE)[0].message
        routes = [each.uri for each in subscribe.route]
        assert (routes[0].host, routes[0].port) == (final.src.host, trace.registrations[0].sas[0].dst.port)
        assert routes[1:] == [each.uri for each in message.service_route]

    def test_implicit_registration_set(self) -> None:
        """29.228 6.5.1.2: one REGISTER registers the whole set; the barred identity is nobody's to hear of."""
        others = (f"sip:+12125550001@{DOMAIN};user=phone", "tel:+12125550001", f"sip:barred@{DOMAIN}")
        here = play(subscribers=[subscriber(1, impus=(FIRST, *others)), subscriber(2)])
        bar(here, FIRST, f"sip:barred@{DOMAIN}")
        here.register()
        trace = here.trace
        final = trace.registrations[0].final
        assert final is not None
        usable = [FIRST, *others[:2]]
        assert [str(each.uri) for each in final.message.p_associated_uri] == usable
        notified = [
            record
            for record in trace.sip(method="NOTIFY", request=True, hop=Hop.GM)
            if record.dst.host == here.ue.config.host
        ]
        info = parse_reginfo(notified[-1].message.body)
        assert [(each.aor, each.state) for each in info.registrations] == [(uri, "active") for uri in usable]
        assert here.ue.registration is not None
        # each of them reaches the UE, the barred one does not
        for uri in usable:
            assert here.ask(here.other, "message", "message-received", where=here.ue, to=uri, text=uri)
            here.run(1)
        assert here.ask(here.other, "message", "message-sent", to=others[2], text="barred")
        sent = [event for event in here.lab.recording.events if event.kind == "message-sent"]
        assert [event.data["status"] for event in sent] == [200, 200, 200, 404]
        assert [r for r in trace.sip(hop=Hop.GM) if b"barred@" in (r.message.octets or b"")] == []
        # the whole set goes at once
        assert here.ask(here.ue, "deregister", "deregistered")
        record = here.lab.store.load(others[1])
        assert record is not None
        assert not record.is_served
        assert here.findings == []

    def test_the_ue_may_prefer_any_of_its_identities_and_no_other(self) -> None:
        """24.229 5.2.6.3: what is asserted is one that is registered, the default unless the UE says otherwise."""
        tel = "tel:+12125550001"
        here = play(subscribers=[subscriber(1, impus=(FIRST, tel)), subscriber(2)])
        here.register()
        assert here.ask(here.ue, "message", "message-sent", to=here.other.config.impu, text="hello")
        (sent,) = here.trace.sip(method="MESSAGE", request=True, sender=Role.PCSCF, receiver=Role.SCSCF)
        assert [str(each.uri) for each in sent.message.p_asserted_identity] == [FIRST]
        assert not sent.message.has("P-Preferred-Identity")


def slow(host: Host, kind: type, seconds: float) -> None:
    """Let a host take this long for each event or effect of a kind."""

    def cost(step: ev.Event | fx.Effect) -> float:
        return seconds if isinstance(step, kind) else 0.0

    host.set_cost(cost)


def bar(here: Play, identity: str, barred: str) -> None:
    """Bar one identity of a subscriber in the HSS."""
    before = here.lab.store.load(identity)
    assert before is not None
    identities = [PublicIdentity(each.uri, barred=each.uri == barred) for each in before.sets[0].identities]
    profiles = (ServiceProfile(identities),)
    after = replace(before, sets=(replace(before.sets[0], profiles=profiles),), version=before.version + 1)
    here.lab.store.commit(Change(before, after))
