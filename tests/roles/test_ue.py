"""The UE's registration, from the first REGISTER to the last (24.229 5.1.1), against a P-CSCF of canned answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from imslab.core import effects as fx
from imslab.core import events as ev
from imslab.core.flow import Endpoint, Flow, Transport
from imslab.roles.ue import ACTIONS, TABLE
from imslab.roles.ue_sas import Standing
from imslab.roles.ue_states import Action, Input, State
from imslab.sip.message import Request
from tests.roles.ue_lab import (
    DOMAIN,
    IMPI,
    IMPU,
    PCSCF_HOST,
    PORT_PS,
    UE_HOST,
    FakePcscf,
    UeLab,
    in_set,
    offer_of,
)


def say(status: int, *headers: tuple[str, str]) -> Callable[[FakePcscf, Request, ev.Arrival], None]:
    """A reaction: this answer."""

    def reaction(fake: FakePcscf, request: Request, arrival: ev.Arrival) -> None:
        fake.reply(request, arrival, status, headers)

    return reaction


def silence(fake: FakePcscf, request: Request, arrival: ev.Arrival) -> None:
    """A reaction: none."""


def challenge(**changes: str | None) -> Callable[[FakePcscf, Request, ev.Arrival], None]:
    """A reaction: a challenge with other parameters."""

    def reaction(fake: FakePcscf, request: Request, arrival: ev.Arrival) -> None:
        fake.challenge(request, arrival, **changes)

    return reaction


def bad_mac(fake: FakePcscf, request: Request, arrival: ev.Arrival) -> None:
    """A reaction: a challenge whose MAC has one bit turned over."""
    vector = fake.new_vector()
    fake.vector = type(vector)(
        vector.rand, vector.autn[:-1] + bytes((vector.autn[-1] ^ 1,)), vector.xres, vector.ck, vector.ik
    )
    fake.reply(request, arrival, 401, fake.challenge_headers())


def stale_sqn(fake: FakePcscf, request: Request, arrival: ev.Arrival) -> None:
    """A reaction: a challenge with a sequence number that the card has seen."""
    sqn, fake.sqn = fake.sqn, -32
    fake.new_vector()
    fake.sqn = sqn
    fake.reply(request, arrival, 401, fake.challenge_headers())


def without_server(fake: FakePcscf, request: Request, arrival: ev.Arrival) -> None:
    """A reaction: a challenge without Security-Server."""
    fake.new_vector()
    fake.reply(request, arrival, 401, fake.challenge_headers()[:1])


def registered(**config: Any) -> UeLab:
    lab = UeLab(**config)
    lab.register()
    assert lab.state() is State.REGISTERED
    return lab


# ------------------------------------------------------------------------------------------------------- the table


def test_table_uses_every_word_and_leaves_every_state() -> None:
    assert {action for action, _ in TABLE.values()} == set(Action) == set(ACTIONS)
    assert {state for state, _ in TABLE} == set(State)
    assert {input_ for _, input_ in TABLE} == set(Input)
    reached = {State.IDLE} | {after for _, after in TABLE.values()}
    assert reached == set(State)


@pytest.mark.parametrize(
    "state",
    [State.INITIAL, State.ANSWERING, State.REFRESHING, State.REFRESH_ANSWERING, State.LEAVING, State.LEAVE_ANSWERING],
)
def test_every_answer_is_foreseen_wherever_one_is_awaited(state: State) -> None:
    answers = {
        Input.OK,
        Input.CHALLENGED,
        Input.CHALLENGED_PLAIN,
        Input.MAC_WRONG,
        Input.SQN_WRONG,
        Input.UNUSABLE,
        Input.TOO_MANY,
        Input.TOO_BRIEF,
        Input.LATER,
        Input.TROUBLE,
        Input.ELSEWHERE,
        Input.REJECTED,
        Input.NO_ANSWER,
    }
    assert {input_ for known, input_ in TABLE if known is state} >= answers


# ---------------------------------------------------------------------------------------------------- A. initial


def test_initial_register() -> None:
    lab = UeLab()
    lab.pcscf.next["REGISTER"] = [silence]
    lab.register()
    (request,) = lab.sent("REGISTER")
    # INI-01
    assert request.uri == f"sip:{DOMAIN}"
    assert str(request.from_.uri) == str(request.to.uri) == IMPU
    assert request.from_.tag
    assert request.to.tag is None
    # INI-05
    assert len(request.rows("Authorization")) == 1
    credentials = request.authorization[0]
    assert credentials.username == IMPI
    assert credentials.realm == DOMAIN
    assert credentials.uri == f"sip:{DOMAIN}"
    assert 'nonce=""' in (request.get("Authorization") or "")
    assert 'response=""' in (request.get("Authorization") or "")
    # INI-06
    (contact,) = request.contact
    assert (contact.uri.host, contact.uri.port) == (UE_HOST, 5060)
    assert contact.instance == "urn:gsma:imei:35622410-483840-0"
    assert '+g.3gpp.icsi-ref="urn%3A' in (request.get("Contact") or "")
    # INI-07
    (send,) = lab.sends("REGISTER")
    via = request.via[0]
    assert send.flow.transport is Transport.UDP
    assert (via.transport, via.host, via.port) == ("UDP", UE_HOST, 5060)
    assert "rport" in via.params
    assert via.params["rport"] is None
    assert (send.flow.local, send.flow.remote) == (Endpoint(UE_HOST, 5060), Endpoint(PCSCF_HOST, 5060))
    # INI-08 to INI-12
    assert request.get("Expires") == "600000"
    assert "expires" not in contact.params
    assert request.supported == ["path"]
    assert request.require == request.proxy_require == ["sec-agree"]
    assert not request.has("P-Access-Network-Info")
    assert not request.has("Route")
    assert not request.has("Security-Verify")
    # SEC-01, SEC-03, ADD-09: one entry for each combination; SPIs of ten digits; a cipher among them
    entries = request.security_client
    assert [(each.alg, each.ealg) for each in entries] == [
        ("null", "aes-gcm"),
        ("aes-gmac", "null"),
        ("hmac-sha-1-96", "aes-cbc"),
        ("hmac-sha-1-96", "null"),
    ]
    assert all(re.fullmatch(r"\d{10}", each.params["spi-c"] or "") for each in entries)
    assert len({(each.spi_c, each.spi_s, each.port_c, each.port_s) for each in entries}) == 1
    # SPI-07
    assert not {entries[0].port_c, entries[0].port_s} & {5060, 5061}
    # INI-15
    assert lab.ue.sets == {}
    assert not lab.effects(fx.InstallSas)


def test_only_one_attempt_at_a_time() -> None:
    # INI-13
    lab = UeLab()
    lab.pcscf.next["REGISTER"] = [silence]
    lab.register()
    lab.register()
    assert len(lab.sent("REGISTER")) == 1
    assert lab.emitted == ["refused"]


def test_pcscf_without_a_port_is_asked_at_5060() -> None:
    # INI-14
    lab = UeLab(pcscf=(Endpoint(PCSCF_HOST, 0),))
    lab.register()
    assert lab.sends("REGISTER")[0].flow.remote.port == 5060


def test_unknown_command() -> None:
    lab = UeLab()
    lab.command("levitate")
    assert lab.emitted == ["unknown-command"]


# ------------------------------------------------------------------------------------------------- the whole way


def test_registration() -> None:
    lab = registered()
    first, second = lab.sent("REGISTER")
    # AKA-06, AKA-07, AKA-08
    assert second.call_id == first.call_id
    assert second.cseq.number == first.cseq.number + 1
    assert second.from_.tag == first.from_.tag
    assert second.rows("Security-Client") == first.rows("Security-Client")
    assert second.rows("Security-Verify") == [lab.pcscf.security_server()]
    credentials = second.authorization[0]
    assert credentials.realm == DOMAIN
    assert credentials.nonce == lab.pcscf.nonce()
    assert credentials.algorithm == "AKAv1-MD5"
    assert credentials.get("auts") is None
    # AKA-04
    assert credentials.qop is None
    assert credentials.cnonce is None
    assert credentials.nc is None
    # AKA-09, INI-11, PRT-06
    offer = offer_of(first)
    flow = lab.sends("REGISTER")[1].flow
    assert (flow.local, flow.remote) == (Endpoint(UE_HOST, offer["port-c"]), Endpoint(PCSCF_HOST, PORT_PS))
    assert second.has("P-Access-Network-Info")
    assert second.via[0].port == offer["port-s"]
    assert "rport" not in second.via[0].params
    assert second.contact[0].uri.port == offer["port-s"]
    # OKR-12, OKR-09
    registration = lab.ue.registration
    assert registration is not None
    assert registration.default_identity == IMPU
    assert registration.barred is False
    assert registration.service_route == ["<sip:orig@scscf.example.org;lr>"]
    assert (registration.granted, registration.expires_at) == (3600, 3600)
    assert "registered" in lab.emitted


def test_order_of_effects_around_the_set() -> None:
    """Ports open, SAs in place, then the REGISTER; nothing else before the 200 (SPI-19, PRT-12, ADD-08)."""
    lab = UeLab()
    lab.pcscf.next["REGISTER"] = [challenge(), silence]
    lab.register()
    offer = offer_of(lab.sent("REGISTER")[0])
    after = [
        type(effect).__name__ for _, who, effect in lab.wire.log if who == "ue" and not isinstance(effect, fx.Emit)
    ]
    assert after == ["Listen", "Send", "Listen", "Listen", "InstallSas", "Connect", "Send"]
    assert {(each.transport, each.local.port) for each in lab.effects(fx.Listen)} == {
        (Transport.UDP, 5060),
        (Transport.UDP, offer["port-s"]),
        (Transport.TCP, offer["port-s"]),
    }
    lab.command("message", to="sip:bob@example.org", text="hi")
    lab.command("call", to="sip:bob@example.org")
    lab.command("subscribe")
    assert [request.method for request in lab.requests] == ["REGISTER", "REGISTER"]
    assert lab.emitted.count("refused") == 3


def test_the_set_is_made_of_both_offers() -> None:
    lab = registered()
    offer = offer_of(lab.sent("REGISTER")[0])
    (install,) = lab.effects(fx.InstallSas)
    sas = install.sas
    uc, us = Endpoint(UE_HOST, offer["port-c"]), Endpoint(UE_HOST, offer["port-s"])
    pc, ps = Endpoint(PCSCF_HOST, lab.pcscf.port_pc), Endpoint(PCSCF_HOST, PORT_PS)
    spi = lab.pcscf.spi
    assert [(sa.spi, sa.src, sa.dst) for sa in sas.sas] == [
        (spi + 1, uc, ps),
        (offer["spi-c"], ps, uc),
        (offer["spi-s"], pc, us),
        (spi, us, pc),
    ]
    vector = lab.pcscf.vector
    assert vector is not None
    # The highest q that was offered: hmac-sha-1-96 with aes-cbc.
    assert {(sa.alg, sa.ealg, sa.ik, sa.ck) for sa in sas.sas} == {("hmac-sha-1-96", "aes-cbc", vector.ik, vector.ck)}
    assert sas.lifetime == 240
    # LIF-04: registration and 30 s
    assert lab.effects(fx.UpdateSas) == [fx.UpdateSas(sas.number, 3630.0)]
    (made,) = lab.ue.sets.values()
    assert made.standing is Standing.ESTABLISHED


@pytest.mark.parametrize(
    ("offered", "used"),
    [("auth", "auth"), ("auth-int", "auth-int"), ("auth-int,auth", "auth"), ("auth, auth-int", "auth")],
)
def test_qop(offered: str, used: str) -> None:
    # AKA-05
    lab = UeLab()
    lab.pcscf.qop = offered
    lab.register()
    assert lab.state() is State.REGISTERED
    credentials = lab.sent("REGISTER")[1].authorization[0]
    text = str(credentials)
    assert credentials.qop == used
    assert re.search(rf"qop={used}(,|$)", text)
    assert "nc=00000001" in text
    assert credentials.cnonce


@pytest.mark.parametrize("transport", ["auto", "udp", "tcp"])
@pytest.mark.parametrize("qop", [None, "auth"])
def test_registration_over_each_transport(transport: str, qop: str | None) -> None:
    lab = UeLab(transport=transport)
    lab.pcscf.qop = qop
    lab.register()
    assert lab.state() is State.REGISTERED
    used = [request.via[0].transport for request in lab.sent("REGISTER")]
    assert used == {"auto": ["UDP", "TCP"], "udp": ["UDP", "UDP"], "tcp": ["TCP", "TCP"]}[transport]
    # Everything after the first left from port_uc; over TCP on a connection to port_ps.
    flows = [send.flow for send in lab.sends("REGISTER")]
    assert flows[1].local.port == offer_of(lab.sent("REGISTER")[0])["port-c"]
    assert flows[1].remote.port == PORT_PS


def test_ipv6() -> None:
    # TRN-10: literals in brackets, selectors without
    lab = UeLab()
    wire = lab.wire
    fake = FakePcscf("p6", "2001:db8::2")
    lab.ue.config.host, lab.ue.config.pcscf = "2001:db8::1", (Endpoint("2001:db8::2", 5060),)
    wire.add(fake, "2001:db8::2")
    wire.add(lab.ue, "2001:db8::1")
    lab.register()
    assert lab.state() is State.REGISTERED
    request = lab.sent("REGISTER")[1]
    assert "[2001:db8::1]:" in (request.get("Via") or "")
    assert "@[2001:db8::1]:" in (request.get("Contact") or "")
    assert lab.effects(fx.InstallSas)[0].sas.sas[0].src.host == "2001:db8::1"
    assert "<sip:[2001:db8::2]:6001;lr>" in lab.sent("SUBSCRIBE")[0].rows("Route")


def test_same_seed_same_octets() -> None:
    assert [m.encode() for m in registered(seed=3).requests] == [m.encode() for m in registered(seed=3).requests]
    assert [m.encode() for m in registered(seed=3).requests] != [m.encode() for m in registered(seed=4).requests]


# ------------------------------------------------------------------------------------------------ D. the challenge


def test_mac_failure_then_recovery() -> None:
    # AKA-10, AKA-12
    lab = UeLab()
    lab.pcscf.next["REGISTER"] = [bad_mac]
    lab.register()
    first, report, answer = lab.sent("REGISTER")
    assert report.call_id == first.call_id
    assert [each.cseq.number for each in (first, report, answer)] == [1, 2, 3]
    credentials = report.authorization[0]
    assert credentials.response == ""
    assert credentials.auts is None
    assert credentials.nonce
    before, after = offer_of(first), offer_of(report)
    assert after["port-s"] == before["port-s"]
    assert all(before[name] != after[name] for name in ("spi-c", "spi-s", "port-c"))
    # In clear, and no set was made of it.
    assert lab.sends("REGISTER")[1].flow.remote.port == 5060
    assert not report.has("Security-Verify")
    assert len(lab.effects(fx.InstallSas)) == 1
    assert offer_of(answer) == after
    assert lab.state() is State.REGISTERED
    assert "mac-failure" in lab.emitted


def test_third_bad_challenge_in_a_row_is_not_reacted_to() -> None:
    # AKA-11
    lab = UeLab()
    lab.pcscf.next["REGISTER"] = [bad_mac, bad_mac, bad_mac]
    lab.register()
    assert len(lab.sent("REGISTER")) == 3
    assert lab.state() is State.IDLE
    lab.run(7200)
    assert len(lab.sent("REGISTER")) == 3
    lab.register()  # the operator may try again
    assert lab.state() is State.REGISTERED


def test_good_challenge_after_two_bad_ones_is_answered() -> None:
    lab = UeLab()
    lab.pcscf.next["REGISTER"] = [bad_mac, bad_mac]
    lab.register()
    assert lab.state() is State.REGISTERED


def test_sqn_failure_is_reported_with_auts() -> None:
    # AKA-13, AKA-26; AKA-14 is the card's and tested there
    lab = UeLab()
    lab.pcscf.next["REGISTER"] = [stale_sqn]
    lab.register()
    first, report, _ = lab.sent("REGISTER")
    credentials = report.authorization[0]
    assert len(credentials.auts or "") == 20  # base64 of 14 octets
    stale = lab.wire.sent("pcscf0")[0].www_authenticate[0]
    assert credentials.nonce == stale.nonce
    assert report.call_id == first.call_id
    assert offer_of(report)["port-c"] != offer_of(first)["port-c"]
    assert lab.state() is State.REGISTERED
    assert "sqn-failure" in lab.emitted


def test_replayed_challenge_is_a_synchronisation_failure() -> None:
    # AKA-16
    lab = UeLab()

    def again(fake: FakePcscf, request: Request, arrival: ev.Arrival) -> None:
        fake.reply(request, arrival, 401, fake.challenge_headers())

    lab.pcscf.next["REGISTER"] = [challenge(), again]
    lab.register()
    requests = lab.sent("REGISTER")
    assert requests[1].authorization[0].auts is None
    assert requests[2].authorization[0].auts
    # The temporary set went with the report (7.3.1.2), which goes in clear.
    assert isinstance(lab.effects(fx.RemoveSas)[0], fx.RemoveSas)
    assert lab.sends("REGISTER")[2].flow.remote.port == 5060


@pytest.mark.parametrize(
    "reaction",
    [
        without_server,  # AKA-27
        challenge(nonce='"AAAA"'),  # AKA-19
        challenge(nonce='"?!"'),  # AKA-21
        challenge(nonce=None),
        challenge(realm=None),
        challenge(algorithm="MD5"),  # AKA-22
        challenge(algorithm=None),
        challenge(algorithm="AKAv9-MD5"),
        challenge(qop='"auth-conf"'),
        say(401),
    ],
)
def test_unusable_challenge_begins_again_under_a_new_call_id(reaction: Any) -> None:
    lab = UeLab()
    lab.pcscf.next["REGISTER"] = [reaction]
    lab.register()
    first, second, _ = lab.sent("REGISTER")
    assert second.call_id != first.call_id
    assert second.authorization[0].response == ""
    assert 'nonce=""' in str(second.authorization[0])
    assert lab.state() is State.REGISTERED


def test_unusable_challenges_are_not_followed_for_ever() -> None:
    lab = UeLab()
    lab.pcscf.next["REGISTER"] = [without_server] * 10
    lab.register()
    assert len(lab.sent("REGISTER")) == 3
    assert lab.state() is State.IDLE


@pytest.mark.parametrize("missing", ["spi-c", "spi-s", "port-c", "port-s", "alg"])
def test_incomplete_security_server(missing: str) -> None:
    # AKA-28
    lab = UeLab()

    def reaction(fake: FakePcscf, request: Request, arrival: ev.Arrival) -> None:
        fake.new_vector()
        rows = fake.challenge_headers()
        rows[1] = (rows[1][0], re.sub(rf";{missing}=[^;,]*", "", rows[1][1]))
        fake.reply(request, arrival, 401, rows)

    lab.pcscf.next["REGISTER"] = [reaction]
    lab.register()
    assert lab.sent("REGISTER")[1].call_id != lab.sent("REGISTER")[0].call_id
    assert lab.state() is State.REGISTERED
    assert len(lab.effects(fx.InstallSas)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "ipsec-3gpp;alg=hmac-md5-96;spi-c=5000;spi-s=5001;port-c=6100;port-s=6101",  # SEC-09: not offered
        "ipsec-3gpp;alg=aes-gmac;ealg=aes-cbc;spi-c=5000;spi-s=5001;port-c=6100;port-s=6101",  # SEC-06: a mixture
        "tls;q=0.9",
        "ipsec-3gpp;prot=ah;alg=hmac-sha-1-96;spi-c=5000;spi-s=5001;port-c=6100;port-s=6101",
        "ipsec-3gpp;mod=UDP-enc-tun;alg=hmac-sha-1-96;spi-c=5000;spi-s=5001;port-c=6100;port-s=6101",
        "ipsec-3gpp;alg=hmac-sha-1-96;spi-c=5000;spi-s=5000;port-c=6100;port-s=6101",
        "ipsec-3gpp;alg=hmac-sha-1-96;spi-c=0;spi-s=5000;port-c=6100;port-s=6101",
        "ipsec-3gpp;alg=hmac-sha-1-96;spi-c=5000;spi-s=5001;port-c=5060;port-s=6101",
        "ipsec-3gpp;alg=hmac-sha-1-96;spi-c=99999999999;spi-s=5001;port-c=6100;port-s=6101",  # MAL-13
        "ipsec-3gpp;;;",
        '"',
    ],
)
def test_security_server_that_cannot_be_taken(text: str) -> None:
    lab = UeLab()

    def reaction(fake: FakePcscf, request: Request, arrival: ev.Arrival) -> None:
        fake.new_vector()
        fake.reply(request, arrival, 401, [fake.challenge_headers()[0], ("Security-Server", text)])

    lab.pcscf.next["REGISTER"] = [reaction] * 3
    lab.register()
    assert not lab.effects(fx.InstallSas)
    assert lab.state() is State.IDLE
    assert {send.flow.remote.port for send in lab.sends("REGISTER")} == {5060}
    assert all(request.has("Security-Client") for request in lab.sent("REGISTER"))  # no fallback to less


def test_spi_of_the_pcscf_must_differ_from_ours() -> None:
    lab = UeLab()

    def reaction(fake: FakePcscf, request: Request, arrival: ev.Arrival) -> None:
        fake.new_vector()
        ours = offer_of(request)["spi-c"]
        text = f"ipsec-3gpp;alg=hmac-sha-1-96;spi-c={ours};spi-s=5001;port-c=6100;port-s=6101"
        fake.reply(request, arrival, 401, [fake.challenge_headers()[0], ("Security-Server", text)])

    lab.pcscf.next["REGISTER"] = [reaction]
    lab.register()
    assert len(lab.effects(fx.InstallSas)) == 1
    assert lab.sent("REGISTER")[1].authorization[0].response == ""


def test_second_challenge_replaces_the_first_set() -> None:
    # LIF-27
    lab = UeLab()
    lab.pcscf.next["REGISTER"] = [challenge(), challenge()]
    lab.register()
    requests = lab.sent("REGISTER")
    assert len(requests) == 3
    assert len({request.call_id for request in requests}) == 1
    first, second = (request.get("Security-Verify") for request in requests[1:])
    assert first != second == lab.pcscf.security_server()
    installed = [effect.sas.number for effect in lab.effects(fx.InstallSas)]
    assert installed == [1, 2]
    assert fx.RemoveSas(1) in lab.effects(fx.RemoveSas)
    assert list(lab.ue.sets) == [2]
    assert lab.state() is State.REGISTERED


def test_challenges_without_end_are_left_alone() -> None:
    lab = UeLab()
    lab.pcscf.next["REGISTER"] = [challenge()] * 50
    lab.register()
    assert len(lab.sent("REGISTER")) == 6
    assert lab.state() is State.IDLE
    assert lab.ue.sets == {}


def test_strongest_of_several_challenges() -> None:
    # AKA-24
    lab = UeLab()

    def reaction(fake: FakePcscf, request: Request, arrival: ev.Arrival) -> None:
        fake.new_vector()
        weak, server = fake.challenge_headers()
        fake.reply(request, arrival, 401, [weak, fake.challenge_headers(algorithm="AKAv2-MD5")[0], server])

    lab.pcscf.next["REGISTER"] = [reaction, silence]
    lab.register()
    answer = lab.sent("REGISTER")[1]
    assert len(answer.rows("Authorization")) == 1
    assert answer.authorization[0].algorithm == "AKAv2-MD5"


def test_wrong_proof_of_the_network() -> None:
    # AKA-25
    lab = UeLab()
    lab.pcscf.qop = "auth"
    lab.pcscf.headers.append(("Authentication-Info", f'qop=auth, rspauth="{"0" * 32}", cnonce="x", nc=00000001'))
    lab.register()
    assert lab.state() is State.IDLE
    assert lab.ue.registration is None
    assert lab.ue.sets == {}
    assert "unproven" in lab.emitted


def test_200_without_a_challenge_is_no_registration() -> None:
    lab = UeLab()
    lab.pcscf.next["REGISTER"] = [say(200, ("Contact", f"<sip:{UE_HOST}>;expires=60"))]
    lab.register()
    assert lab.state() is State.IDLE
    assert lab.ue.registration is None


def test_set_that_cannot_be_installed() -> None:
    lab = UeLab()
    lab.wire.sa_error = lambda name, sas: "no ESP here" if name == "ue" else None
    lab.register()
    assert lab.state() is State.IDLE
    assert lab.ue.sets == {}
    assert len(lab.sent("REGISTER")) == 1
    assert "sa-failure" in lab.emitted


def test_temporary_set_lives_four_minutes() -> None:
    # LIF-02; over TCP, so that nothing else ends the wait (timer F is 128 s, then the UE waits and begins again)
    lab = UeLab(transport="tcp")
    lab.pcscf.next["REGISTER"] = [challenge(), silence]
    lab.ue.config.profile = lab.ue.config.profile.__class__(
        "slow", timers=lab.ue.config.profile.timers._replace(t1=10.0)
    )
    lab.register()
    lab.run(239.9)
    assert len(lab.ue.sets) == 1
    lab.run(0.2)
    assert lab.ue.sets == {}
    assert lab.state() is State.WAITING


# ------------------------------------------------------------------------------------------- what the 200 grants


def test_barred_identity() -> None:
    # OKR-13, EVT-03
    lab = UeLab()
    lab.pcscf.headers[-1] = ("P-Associated-URI", "<sip:alice@example.org>")
    lab.register()
    assert lab.ue.registration is not None
    assert lab.ue.registration.barred
    subscribe = lab.sent("SUBSCRIBE")[0]
    assert subscribe.uri == "sip:alice@example.org"
    assert str(subscribe.from_.uri) == str(subscribe.to.uri) == "sip:alice@example.org"


@pytest.mark.parametrize("hostile", [("P-Associated-URI", "<"), ("Contact", "<sip:x"), ("Authentication-Info", "=")])
def test_malformed_200_does_not_hang(hostile: tuple[str, str]) -> None:
    # MAL-04
    lab = UeLab()
    lab.pcscf.headers = [hostile]
    lab.register()
    assert lab.state() is State.WAITING
    lab.pcscf.headers = []
    lab.run(60)
    assert lab.state() is State.REGISTERED


# ------------------------------------------------------------------------------------------------- N. failures


def test_403_is_not_tried_again() -> None:
    # ERR-01
    lab = UeLab()
    lab.pcscf.next["REGISTER"] = [say(403)]
    lab.register()
    assert lab.state() is State.IDLE
    lab.run(100000)
    assert len(lab.sent("REGISTER")) == 1
    assert lab.emitted == ["rejected", "gave-up"]


def test_403_for_a_wrong_response_comes_in_the_new_set() -> None:
    lab = UeLab()
    lab.pcscf.next["REGISTER"] = [challenge(), say(403)]
    lab.register()
    assert lab.state() is State.IDLE
    assert lab.ue.sets == {}


def test_423_asks_for_longer() -> None:
    # ERR-02
    lab = UeLab()
    lab.pcscf.next["REGISTER"] = [say(423, ("Min-Expires", "700000"))]
    lab.register()
    first, second, third = lab.sent("REGISTER")
    assert [each.get("Expires") for each in (first, second, third)] == ["600000", "700000", "700000"]
    assert second.call_id == first.call_id
    assert lab.state() is State.REGISTERED


def test_423_inside_the_new_set_goes_back_to_clear() -> None:
    lab = UeLab()
    lab.pcscf.next["REGISTER"] = [challenge(), say(423, ("Min-Expires", "700000"))]
    lab.register()
    assert [send.flow.remote.port == 5060 for send in lab.sends("REGISTER")] == [True, False, True, False]
    assert lab.state() is State.REGISTERED
    assert list(lab.ue.sets) == [2]


@pytest.mark.parametrize("headers", [[], [("Min-Expires", "60")], [("Min-Expires", "600000")]])
def test_423_that_asks_for_nothing_longer(headers: list[tuple[str, str]]) -> None:
    # ERR-03
    lab = UeLab()
    lab.pcscf.next["REGISTER"] = [say(423, *headers)]
    lab.register()
    assert lab.state() is State.IDLE
    assert len(lab.sent("REGISTER")) == 1


def test_423_that_always_wants_more() -> None:
    lab = UeLab()
    lab.pcscf.next["REGISTER"] = [say(423, ("Min-Expires", str(600000 + i))) for i in range(1, 50)]
    lab.register()
    assert lab.state() is State.IDLE
    assert len(lab.sent("REGISTER")) == 4


def test_malformed_423_does_not_hang() -> None:
    lab = UeLab()
    lab.pcscf.next["REGISTER"] = [say(423, ("Min-Expires", "soon"))]
    lab.register()
    assert lab.state() is State.WAITING


@pytest.mark.parametrize("status", [420, 421, 494, 404, 600, 302])
def test_other_refusals_stop(status: int) -> None:
    # ERR-07, ERR-08
    lab = UeLab()
    lab.pcscf.next["REGISTER"] = [say(status, ("Unsupported", "path"))]
    lab.register()
    assert lab.state() is State.IDLE
    lab.run(10000)
    assert len(lab.sent("REGISTER")) == 1


@pytest.mark.parametrize("status", [500, 503, 504, 480])
def test_retry_after_is_kept(status: int) -> None:
    # ERR-09
    lab = UeLab()
    lab.pcscf.next["REGISTER"] = [say(status, ("Retry-After", "900 (busy)"))]
    lab.register()
    assert lab.state() is State.WAITING
    lab.register()  # not even the operator
    lab.run(899)
    assert len(lab.sent("REGISTER")) == 1
    lab.run(1)
    assert lab.state() is State.REGISTERED


@pytest.mark.parametrize(
    "reaction", [say(500), say(503), say(504), say(408), say(503, ("Retry-After", "soon")), silence]
)
def test_waiting_grows_with_failures(reaction: Any) -> None:
    # ERR-13, ERR-12
    lab = UeLab()
    lab.pcscf.next["REGISTER"] = [reaction] * 1000
    lab.register()
    lab.run(20000)
    times = [when for when, who, e in lab.wire.log if who == "ue" and isinstance(e, fx.Emit) and e.kind == "waiting"]
    starts = [when for when, who, e in lab.wire.log if who == "ue" and isinstance(e, fx.Send)]
    waits = [min(start for start in starts if start > when) - when for when in times[:-1]]
    for attempt, wait in enumerate(waits):
        bound = min(1800, 30 * 2**attempt)
        assert bound / 2 <= wait <= bound
    assert len(waits) > 8
    assert len({round(wait, 3) for wait in waits}) == len(waits)  # by chance


def test_retransmissions_of_gm() -> None:
    # ERR-14
    lab = UeLab()
    lab.pcscf.next["REGISTER"] = [silence] * 20
    lab.register()
    lab.run(127)
    times = [when for when, who, e in lab.wire.log if who == "ue" and isinstance(e, fx.Send)]
    assert times[:6] == [0, 2, 6, 14, 30, 46]
    assert lab.state() is State.INITIAL
    lab.run(1)
    assert lab.state() is State.WAITING
    assert "timeout" in lab.emitted


def test_next_pcscf_is_asked_at_once() -> None:
    # ERR-12
    lab = UeLab(pcscfs=2)
    lab.fakes[0].next["REGISTER"] = [silence] * 20
    lab.register()
    lab.run(128)
    assert lab.state() is State.REGISTERED
    assert lab.ue.pcscf.host == "192.0.2.3"


def test_305_leads_to_another_pcscf_of_ours_not_to_its_contact() -> None:
    # ERR-11
    lab = UeLab(pcscfs=2)
    lab.fakes[0].next["REGISTER"] = [say(305, ("Contact", "<sip:203.0.113.66>"))]
    lab.register()
    lab.run(0)
    assert lab.state() is State.REGISTERED
    assert {send.flow.remote.host for send in lab.sends("REGISTER")} == {"192.0.2.2", "192.0.2.3"}


def test_all_pcscfs_failing_leads_to_the_one_that_is_free_first() -> None:
    lab = UeLab(pcscfs=2)
    lab.fakes[0].next["REGISTER"] = [say(503, ("Retry-After", "500"))]
    lab.fakes[1].next["REGISTER"] = [say(503, ("Retry-After", "100"))]
    lab.register()
    lab.run(99)
    assert len(lab.sent("REGISTER")) == 2
    lab.run(1)
    assert lab.ue.pcscf.host == "192.0.2.3"
    assert lab.state() is State.REGISTERED


def test_waiting_can_be_given_up() -> None:
    lab = UeLab()
    lab.pcscf.next["REGISTER"] = [say(503)]
    lab.register()
    lab.command("deregister")
    assert lab.state() is State.IDLE
    lab.run(10000)
    assert len(lab.sent("REGISTER")) == 1


# ------------------------------------------------------------------------------------------ M. refreshing


@pytest.mark.parametrize(("granted", "due"), [(1800, 1200), (1201, 601), (1200, 600), (120, 60), (30, 15)])
def test_time_of_the_refresh(granted: int, due: float) -> None:
    # RER-01 to RER-03
    lab = UeLab()
    lab.pcscf.granted = granted
    lab.register()
    lab.run(due - 0.01)
    assert len(lab.sent("REGISTER")) == 2
    lab.run(0.02)
    assert len(lab.sent("REGISTER")) >= 3


def test_tiny_lifetimes_make_no_storm() -> None:
    # RER-18
    lab = UeLab()
    lab.pcscf.granted = 1
    lab.register()
    lab.run(600)
    assert len(lab.sent("REGISTER")) <= 2 * (600 // 15) + 2


def test_refresh_with_a_challenge_switches_sets() -> None:
    lab = registered()
    lab.command("reregister")
    first, second, refresh, answer = lab.sent("REGISTER")
    old_offer, new_offer = offer_of(second), offer_of(refresh)
    # RER-04 / SPI-08
    assert new_offer["port-s"] == old_offer["port-s"]
    assert all(new_offer[name] != old_offer[name] for name in ("spi-c", "spi-s", "port-c"))
    flows = [send.flow for send in lab.sends("REGISTER")]
    assert flows[2].local.port == old_offer["port-c"]
    # RER-05, RER-06
    assert refresh.rows("Authorization") == second.rows("Authorization")
    assert refresh.rows("Security-Verify") == second.rows("Security-Verify")
    assert refresh.call_id == first.call_id
    assert refresh.cseq.number == 3
    assert refresh.has("P-Access-Network-Info")
    # The answer is in the new set, mirrors the new Security-Server.
    assert flows[3].local.port == new_offer["port-c"]
    assert answer.rows("Security-Verify") == [lab.pcscf.security_server()]
    assert offer_of(answer) == new_offer
    assert answer.authorization[0].nonce == lab.pcscf.nonce()
    # Both sets stand until the P-CSCF has used the new one.
    assert lab.ue.sas.old is not None
    assert lab.ue.sas.established is not None
    assert (lab.ue.sas.old.number, lab.ue.sas.established.number) == (1, 2)
    assert "sas-switched" in lab.emitted
    assert lab.state() is State.REGISTERED


def test_old_set_goes_when_the_new_one_is_heard() -> None:
    # LIF-13
    lab = registered()
    lab.command("reregister")
    old = lab.ue.sas.old
    assert old is not None
    # A message on the old set does not end it.
    lab.push(in_set(old), lab.pcscf.make("MESSAGE", old.offer.port_s))
    assert lab.ue.sas.old is old
    lab.push_inside(lab.pcscf.make("MESSAGE", old.offer.port_s))
    assert lab.ue.sas.old is None
    assert lab.effects(fx.RemoveSas)[-1] == fx.RemoveSas(old.number)


def test_old_set_waits_for_what_is_under_way_on_it() -> None:
    lab = registered(transport="udp")
    lab.pcscf.next["MESSAGE"] = [silence]
    lab.command("message", to="sip:bob@example.org", text="hi")
    lab.command("reregister")
    old = lab.ue.sas.old
    assert old is not None
    lab.push_inside(lab.pcscf.make("OPTIONS", old.offer.port_s))
    assert lab.ue.sas.old is old
    message = lab.sent("MESSAGE")[-1]
    arrival = next(arrival for heard, arrival in lab.pcscf.heard if heard.method == "MESSAGE")
    lab.pcscf.reply(message, arrival, 200)
    lab.wire.give(lab.pcscf, ev.Timer())
    assert lab.ue.sas.old is None


def test_old_set_goes_at_its_expiry_in_any_case() -> None:
    lab = registered(subscribe=False)
    lab.command("reregister")
    lab.pcscf.next["REGISTER"] = [silence] * 100
    lab.run(2999)
    assert lab.ue.sas.old is not None
    lab.wire.run(3630)
    assert lab.ue.sas.old is None


def test_third_set_drops_the_oldest() -> None:
    """Never more than three sets: six SAs per direction (33.203 7.1 rule 3)."""
    lab = registered(subscribe=False)
    for _ in range(4):
        lab.command("reregister")
        assert len(lab.ue.sets) == 2
    numbers = {sa.spi for effect in lab.effects(fx.InstallSas) for sa in effect.sas.inbound}
    assert len(numbers) == 10  # never an SPI twice


def test_old_set_that_is_still_needed_goes_for_a_newer_one() -> None:
    lab = registered(transport="udp")
    lab.pcscf.next["MESSAGE"] = [silence] * 50
    lab.command("message", to="sip:bob@example.org", text="hi")
    lab.command("reregister")
    assert sorted(lab.ue.sets) == [1, 2]
    lab.command("reregister")
    assert sorted(lab.ue.sets) == [2, 3]


def test_refresh_that_is_refused_after_the_end() -> None:
    lab = registered(transport="udp", subscribe=False)
    kept: list[tuple[Request, ev.Arrival]] = []
    lab.pcscf.granted = 30
    lab.command("reregister")
    lab.pcscf.next["REGISTER"] = [lambda fake, request, arrival: kept.append((request, arrival)), *[silence] * 50]
    lab.run(31)
    assert lab.state() is State.REFRESHING  # the answer will tell
    lab.pcscf.reply(*kept[0], 403)
    lab.wire.give(lab.pcscf, ev.Timer())
    assert lab.state() is State.WAITING
    assert lab.ue.registration is None
    assert "expired" in lab.emitted


def test_events_that_are_none_of_ours() -> None:
    lab = registered()
    before = lab.wire.log[:]
    lab.wire.give(lab.ue, ev.SasInstalled(99))
    lab.wire.give(lab.ue, ev.Loaded("key", None))
    lab.ue.set_alarm("somebody's", 0)
    lab.run(0)
    assert lab.wire.log == before


def test_refresh_answered_at_once_keeps_the_set() -> None:
    # LIF-16, LIF-15
    lab = registered()
    lab.pcscf.rechallenge = False
    lab.run(1000)
    lab.pcscf.next["REGISTER"] = [
        lambda fake, request, arrival: fake.reply(request, arrival, 200, fake.ok_headers(request))
    ]
    lab.command("reregister")
    assert len(lab.sent("REGISTER")) == 3
    assert list(lab.ue.sets) == [1]
    assert lab.effects(fx.UpdateSas)[-1] == fx.UpdateSas(1, 3630.0)
    registration = lab.ue.registration
    assert registration is not None
    assert registration.expires_at == 4600
    assert "refreshed" in lab.emitted
    # OKR-10: the routes of the latest 200 count.
    lab.pcscf.headers = [("Service-Route", "<sip:other@example.org;lr>")]
    lab.pcscf.next["REGISTER"] = [
        lambda fake, request, arrival: fake.reply(request, arrival, 200, fake.ok_headers(request))
    ]
    lab.command("reregister")
    lab.command("message", to="sip:b@example.org", text="x")
    assert lab.sent("MESSAGE")[0].rows("Route")[1:] == ["<sip:other@example.org;lr>"]


def test_lifetime_of_a_set_is_never_shortened() -> None:
    # LIF-06
    lab = registered()
    for granted in (60, 120):
        lab.pcscf.granted = granted
        lab.command("reregister")
        established = lab.ue.sas.established
        assert established is not None
        assert established.expires_at == 3630
    assert [update.lifetime for update in lab.effects(fx.UpdateSas)] == [3630.0] * 3


@pytest.mark.parametrize("reaction", [bad_mac, stale_sqn])
def test_failure_is_reported_inside_the_established_set(reaction: Any) -> None:
    lab = registered()
    lab.pcscf.next["REGISTER"] = [reaction]
    lab.command("reregister")
    refresh, report = lab.sent("REGISTER")[2:4]
    flow = lab.sends("REGISTER")[3].flow
    established = lab.effects(fx.InstallSas)[0].sas
    assert (flow.local, flow.remote) == (established.sas[0].src, established.sas[0].dst)
    assert report.call_id == refresh.call_id
    assert offer_of(report)["port-c"] != offer_of(refresh)["port-c"]
    assert report.has("Security-Verify")
    assert lab.state() is State.REGISTERED
    assert lab.ue.sas.established is not None
    assert lab.ue.sas.established.number == 2


@pytest.mark.parametrize("before", [[], [challenge()]])
@pytest.mark.parametrize("status", [403, 404, 494])
def test_refused_refresh_leaves_the_registration(before: list[Any], status: int) -> None:
    # LIF-18 seen from the UE; 33.203 6.1.1
    lab = registered()
    lab.pcscf.next["REGISTER"] = [*before, say(status)]
    lab.command("reregister")
    assert lab.state() is State.REGISTERED
    assert list(lab.ue.sets) == [1]
    lab.command("message", to="sip:bob@example.org", text="still here")
    assert lab.emitted[-1] == "message-sent"


@pytest.mark.parametrize("before", [[], [challenge()]])
@pytest.mark.parametrize("status", [408, 500, 504])
def test_refresh_in_trouble_begins_anew(before: list[Any], status: int) -> None:
    # RER-15
    lab = registered()
    lab.pcscf.next["REGISTER"] = [*before, say(status)]
    lab.command("reregister")
    assert lab.state() is State.REGISTERED
    clear = [send for send in lab.sends("REGISTER") if send.flow.remote.port == 5060]
    assert len(clear) == 2
    assert len(lab.ue.sets) == 1


@pytest.mark.parametrize("before", [[], [challenge()]])
def test_unanswered_refresh_begins_anew_in_clear(before: list[Any]) -> None:
    # RER-16, LIF-23
    lab = registered()
    lab.pcscf.next["REGISTER"] = [*before, *[silence] * 20]
    lab.command("reregister")
    lab.run(127)
    lab.pcscf.next["REGISTER"] = []
    lab.run(1.5)
    assert lab.state() is State.REGISTERED
    assert len([send for send in lab.sends("REGISTER") if send.flow.remote.port == 5060]) == 2


def test_unanswered_refresh_goes_to_the_next_pcscf() -> None:
    lab = registered(pcscfs=2)
    lab.pcscf.next["REGISTER"] = [silence] * 20
    lab.command("reregister")
    lab.run(129)
    assert lab.ue.pcscf.host == "192.0.2.3"
    assert lab.state() is State.REGISTERED


@pytest.mark.parametrize("before", [[], [challenge()]])
def test_refresh_is_retried_when_asked_to(before: list[Any]) -> None:
    lab = registered()
    lab.pcscf.next["REGISTER"] = [*before, say(503, ("Retry-After", "200"))]
    lab.command("reregister")
    assert lab.state() is State.REGISTERED
    count = len(lab.sent("REGISTER"))
    lab.run(199)
    assert len(lab.sent("REGISTER")) == count
    lab.run(2)
    assert len(lab.sent("REGISTER")) == count + 2
    assert lab.state() is State.REGISTERED


def test_refresh_that_may_come_too_late() -> None:
    lab = registered()
    lab.pcscf.next["REGISTER"] = [say(503, ("Retry-After", "20000"))]
    lab.command("reregister")
    lab.run(3599)
    assert lab.ue.registration is not None
    lab.run(1)
    assert lab.ue.registration is None
    assert lab.state() is State.WAITING
    assert "expired" in lab.emitted
    lab.run(60)
    assert lab.state() is State.REGISTERED


@pytest.mark.parametrize("before", [[], [challenge()]])
def test_423_to_a_refresh(before: list[Any]) -> None:
    # RER-17
    lab = registered()
    lab.pcscf.next["REGISTER"] = [*before, say(423, ("Min-Expires", "700000"))]
    lab.command("reregister")
    assert lab.state() is State.REGISTERED
    assert lab.sent("REGISTER")[-1].get("Expires") == "700000"
    assert len([send for send in lab.sends("REGISTER") if send.flow.remote.port == 5060]) == 1


def test_305_to_a_refresh() -> None:
    lab = registered(pcscfs=2)
    lab.pcscf.next["REGISTER"] = [say(305)]
    lab.command("reregister")
    assert lab.ue.pcscf.host == "192.0.2.3"
    assert lab.state() is State.REGISTERED


@pytest.mark.parametrize("before", [[], [challenge()]])
def test_unusable_challenge_to_a_refresh(before: list[Any]) -> None:
    lab = registered()
    lab.pcscf.next["REGISTER"] = [*before, without_server]
    lab.command("reregister")
    requests = lab.sent("REGISTER")
    again = requests[3 + len(before)]
    assert again.call_id != requests[0].call_id
    assert again.rows("Authorization") == requests[2].rows("Authorization")
    assert lab.state() is State.REGISTERED


def test_refresh_gives_up_after_three_bad_challenges() -> None:
    lab = registered()
    lab.pcscf.next["REGISTER"] = [bad_mac] * 3
    lab.command("reregister")
    assert lab.state() is State.REGISTERED
    assert len(lab.sent("REGISTER")) == 5
    assert list(lab.ue.sets) == [1]


def test_refresh_whose_set_cannot_be_installed() -> None:
    lab = registered()
    lab.wire.sa_error = lambda name, sas: "full" if name == "ue" else None
    lab.command("reregister")
    assert lab.state() is State.REGISTERED
    assert list(lab.ue.sets) == [1]


def test_wrong_proof_in_a_refresh() -> None:
    lab = registered()
    lab.pcscf.qop = "auth"
    lab.pcscf.headers.append(("Authentication-Info", f'qop=auth, rspauth="{"0" * 32}", cnonce="x", nc=00000001'))
    lab.command("reregister")
    assert lab.state() is State.REGISTERED
    assert list(lab.ue.sets) == [1]


def test_other_traffic_during_a_refresh_uses_the_old_set() -> None:
    # 33.203 7.4.1a table, last row
    lab = registered()
    lab.pcscf.next["REGISTER"] = [challenge(), silence]
    lab.command("reregister")
    assert lab.state() is State.REFRESH_ANSWERING
    lab.command("message", to="sip:bob@example.org", text="hi")
    old = lab.effects(fx.InstallSas)[0].sas
    assert lab.sends("MESSAGE")[0].flow.local == old.sas[0].src


# ------------------------------------------------------------------------------------------ the end of SAs


def test_registration_and_sets_expire() -> None:
    # LIF-07 seen from the UE
    lab = registered(subscribe=False)
    lab.pcscf.next["REGISTER"] = [say(403), *[silence] * 100]
    lab.run(3599)
    assert lab.ue.registration is not None
    lab.run(1)
    assert lab.ue.registration is None
    assert lab.ue.sets == {}
    assert lab.state() is State.WAITING


def test_carrier_says_that_the_set_is_gone() -> None:
    lab = registered()
    lab.wire.give(lab.ue, ev.SaExpired(1))
    assert lab.state() is State.REGISTERED
    assert list(lab.ue.sets) == [2]
    assert "sas-expired" in lab.emitted
    lab.wire.give(lab.ue, ev.SaExpired(99))  # nobody's


def test_silence_inside_the_sas_means_that_they_are_dead() -> None:
    # LIF-23
    lab = registered(transport="udp")
    lab.pcscf.next["MESSAGE"] = [silence] * 20
    lab.command("message", to="sip:bob@example.org", text="hi")
    lab.run(127)
    assert lab.state() is State.REGISTERED
    assert len(lab.sent("REGISTER")) == 2
    lab.run(1)
    assert len(lab.sent("REGISTER")) == 4
    assert lab.sends("REGISTER")[2].flow.remote.port == 5060
    assert lab.state() is State.REGISTERED


def test_silence_about_one_message_is_not_the_end() -> None:
    lab = registered(transport="udp")
    lab.pcscf.next["MESSAGE"] = [silence] * 20
    lab.command("message", to="sip:bob@example.org", text="hi")
    lab.run(60)
    lab.push_inside(lab.pcscf.make("OPTIONS", lab.ue.sas.port_s))
    lab.run(80)
    assert len(lab.sent("REGISTER")) == 2
    assert "message-sent" in lab.emitted


def test_new_address() -> None:
    # LIF-22
    lab = registered()
    lab.wire.nodes["192.0.2.99"] = lab.ue
    lab.command("move", host="192.0.2.99")
    assert lab.state() is State.REGISTERED
    assert fx.RemoveSas(1) in lab.effects(fx.RemoveSas)
    assert lab.sends("REGISTER")[2].flow.local == Endpoint("192.0.2.99", 5060)
    assert (Transport.UDP, Endpoint(UE_HOST, 5060)) not in lab.wire.listening
    (made,) = lab.ue.sets.values()
    assert made.sas.local == "192.0.2.99"


def test_no_new_address_while_leaving() -> None:
    lab = registered()
    lab.pcscf.next["REGISTER"] = [silence]
    lab.command("deregister")
    lab.command("move", host="192.0.2.99")
    assert lab.state() is State.LEAVING
    assert lab.emitted[-1] == "refused"


def test_new_address_while_nothing_is_registered() -> None:
    lab = UeLab()
    lab.wire.nodes["192.0.2.99"] = lab.ue
    lab.command("move", host="192.0.2.99")
    assert lab.state() is State.IDLE
    lab.pcscf.next["REGISTER"] = [say(503)]
    lab.register()
    assert lab.state() is State.WAITING
    lab.wire.nodes["192.0.2.98"] = lab.ue
    lab.command("move", host="192.0.2.98")
    lab.run(0)
    assert lab.state() is State.REGISTERED


# ------------------------------------------------------------------------------------------------- O. leaving


@pytest.mark.parametrize("challenged", [False, True])
def test_deregistration(challenged: bool) -> None:
    # DER-01, DER-03, LIF-21
    lab = registered()
    port_us = lab.ue.sas.port_s
    lab.pcscf.rechallenge = challenged
    lab.command("deregister")
    leaving = lab.sent("REGISTER")[2:]
    assert len(leaving) == (2 if challenged else 1)
    for request in leaving:
        assert request.get("Expires") == "0"
        assert request.contact[0].uri.port == port_us
        assert request.has("Security-Client")
        assert request.has("Security-Verify")
    assert lab.sends("REGISTER")[2].flow.remote.port == PORT_PS
    assert lab.state() is State.IDLE
    assert lab.ue.registration is None
    assert lab.emitted[-1] == "deregistered"
    # The sets go when the transaction is over, and port_us with them.
    removed = len(lab.effects(fx.RemoveSas))
    assert {each.standing for each in lab.ue.sets.values()} <= {Standing.ENDING}
    lab.run(17)
    assert lab.ue.sets == {}
    assert len(lab.effects(fx.RemoveSas)) > removed
    assert {(each.transport, each.local.port) for each in lab.effects(fx.Unlisten)} == {
        (Transport.UDP, port_us),
        (Transport.TCP, port_us),
    }
    assert (lab.ue.next_timer() or 1e9) > lab.wire.now
    lab.register()
    assert lab.state() is State.REGISTERED
    assert lab.ue.sas.port_s != port_us  # 33.203 7.1: fixed only until all is de-registered


@pytest.mark.parametrize("before", [[], [challenge()]])
@pytest.mark.parametrize(
    "reaction",
    [
        say(403),
        say(500),
        say(423, ("Min-Expires", "900000")),
        say(503, ("Retry-After", "9")),
        say(305),
        say(200, ("P-Associated-URI", "<")),
    ],
)
def test_deregistration_that_is_refused_is_one_all_the_same(before: list[Any], reaction: Any) -> None:
    lab = registered()
    lab.pcscf.next["REGISTER"] = [*before, reaction]
    lab.command("deregister")
    assert lab.state() is State.IDLE
    assert lab.ue.sets == {}
    assert lab.emitted[-1] == "deregistered"


def test_deregistration_that_nobody_answers() -> None:
    lab = registered()
    lab.pcscf.next["REGISTER"] = [silence] * 20
    lab.command("deregister")
    lab.run(128)
    assert lab.state() is State.IDLE
    assert lab.ue.sets == {}


@pytest.mark.parametrize("reaction", [bad_mac, stale_sqn, without_server])
def test_bad_challenge_to_a_deregistration(reaction: Any) -> None:
    lab = registered()
    lab.pcscf.next["REGISTER"] = [reaction]
    lab.command("deregister")
    assert lab.state() is State.IDLE
    assert [request.get("Expires") for request in lab.sent("REGISTER")[2:]] == ["0"] * 3


def test_deregistration_waits_for_the_procedure_under_way() -> None:
    lab = UeLab()
    held: list[tuple[Request, ev.Arrival]] = []
    lab.pcscf.next["REGISTER"] = [lambda fake, request, arrival: held.append((request, arrival))]
    lab.register()
    lab.command("deregister")
    assert lab.state() is State.INITIAL
    lab.pcscf.challenge(*held[0])
    lab.wire.give(lab.pcscf, ev.Timer())
    assert lab.state() is State.IDLE
    assert lab.sent("REGISTER")[-1].get("Expires") == "0"


def test_deregistration_wished_for_while_attempts_fail() -> None:
    lab = UeLab()
    held: list[tuple[Request, ev.Arrival]] = []
    lab.pcscf.next["REGISTER"] = [lambda fake, request, arrival: held.append((request, arrival))]
    lab.register()
    lab.command("deregister")
    lab.pcscf.reply(*held[0], 503)
    lab.wire.give(lab.pcscf, ev.Timer())
    assert lab.state() is State.IDLE


def test_deregistration_without_a_registration() -> None:
    lab = UeLab()
    lab.command("deregister")
    assert lab.emitted == ["refused"]


def test_late_answers_of_a_procedure_that_is_over() -> None:
    lab = UeLab()
    held: list[tuple[Request, ev.Arrival]] = []
    lab.pcscf.next["REGISTER"] = [lambda fake, request, arrival: held.append((request, arrival))]
    lab.register()
    lab.wire.nodes["192.0.2.99"] = lab.ue
    lab.command("move", host="192.0.2.99")
    assert lab.state() is State.REGISTERED
    before = len(lab.requests)
    lab.wire.listening.add((Transport.UDP, Endpoint(UE_HOST, 5060)))
    lab.pcscf.reply(*held[0], 403)
    lab.wire.give(lab.pcscf, ev.Timer())
    assert lab.state() is State.REGISTERED
    assert len(lab.requests) == before


# ---------------------------------------------------------------------------------------- without SAs


def test_plain_aka() -> None:
    lab = UeLab(ipsec=False)
    lab.pcscf.on_register = lambda request, arrival: (  # type: ignore[method-assign]
        lab.pcscf.reply(request, arrival, 200, lab.pcscf.ok_headers(request))
        if request.authorization[0].response and lab.pcscf.is_right(request)
        else lab.pcscf.challenge(request, arrival)
    )
    lab.register()
    assert lab.state() is State.REGISTERED
    for request in lab.requests:
        assert not request.has("Security-Client")
        assert not request.has("Require")
        assert not request.has("Security-Verify")
    assert {send.flow.remote.port for send in lab.sends("REGISTER")} == {5060}
    assert not lab.effects(fx.InstallSas)
    assert lab.sent("SUBSCRIBE")[0].rows("Route")[0] == f"<sip:{PCSCF_HOST}:5060;lr>"
    lab.command("reregister")
    assert lab.state() is State.REGISTERED
    lab.command("deregister")
    assert lab.state() is State.IDLE
    assert lab.sent("REGISTER")[-1].get("Expires") == "0"


def test_plain_refresh_with_a_challenge() -> None:
    lab = UeLab(ipsec=False)
    lab.pcscf.next["REGISTER"] = [challenge(), lambda fake, request, arrival: fake.on_register(request, arrival)]
    lab.register()
    assert lab.state() is State.REGISTERED
    before = lab.sent("REGISTER")[-1]
    lab.pcscf.next["REGISTER"] = [challenge()]
    lab.command("reregister")
    assert lab.state() is State.REGISTERED
    assert lab.sent("REGISTER")[-1].authorization[0].nonce != before.authorization[0].nonce
    lab.push(Flow(Transport.UDP, Endpoint(PCSCF_HOST, 5060), Endpoint(UE_HOST, 5060)), lab.pcscf.make("MESSAGE", 5060))
    assert lab.emitted[-1] == "message-received"


def test_plain_registration_without_any_challenge() -> None:
    lab = UeLab(ipsec=False)
    lab.pcscf.next["REGISTER"] = [
        lambda fake, request, arrival: fake.reply(request, arrival, 200, fake.ok_headers(request))
    ]
    lab.register()
    assert lab.state() is State.REGISTERED
