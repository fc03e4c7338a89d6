"""What a UE says first, and every message on Gm: each rule broken by one knob."""

from __future__ import annotations

import pytest

from imslab.core.flow import Transport
from imslab.rules.clauses import Level
from tests.rules.build import (
    DOMAIN,
    EMPTY,
    FIRST,
    IMPI,
    PCSCF,
    SECOND,
    THIRD,
    UE,
    Script,
    esp,
    findings,
    register,
    sane,
)
from tests.rules.cases import PCSCF as P
from tests.rules.cases import Case, Spoil, cases_lacking, check, edit, header, sound


def identity(impi: str, impu: str = "") -> Spoil:
    """A UE with other identities, which ends after the challenge."""

    def spoil(script: Script) -> None:
        script.until("challenge")
        if impi != IMPI:
            script["register"].edit("Authorization", "username=[^,]*", f'username="{impi}"')
        if impu:
            for name in ("From", "To"):
                script["register"].edit(name, "<[^>]*>", f"<{impu}>")

    return spoil


def pad(step: str, size: int, frames: int = 1, over: Transport = Transport.UDP) -> Spoil:
    """Make a request as large as this."""

    def spoil(script: Script) -> None:
        made = script[step]
        made.transport, made.frames = over, frames
        made.message.set("User-Agent", "x")
        made.message.set("User-Agent", "x" * (size - len(made.message.encode()) + 1))
        assert len(made.message.encode()) == size

    return spoil


def second_attempt(script: Script) -> None:
    """A new registration while the first waits."""
    script.until("challenge")
    text = register(1, "UDP", THIRD, EMPTY, port=5060).replace("call-1", "call-2").replace("reg-1", "reg-x")
    script.add("impatient", 0.05, (None, script["register"].src, script["register"].dst), text)


CASES = [
    Case("INI-01", lambda s: setattr(s["register"].message, "uri", f"sip:alice@{DOMAIN}"), "register", "user part"),
    Case("INI-01", edit("register", "From", "0000001@", "0000002@"), "register", "expected the same identity"),
    Case("INI-01", edit("register", "From", ";tag=.*", ""), "register", "From has no tag"),
    Case("INI-01", header("register", "To", f"<sip:{IMPI}>;tag=x"), "register", "To has a tag"),
    Case(
        "INI-02",
        identity("001010000000001@ims.mnc01.mcc001.3gppnetwork.org", "sip:a@example.org"),
        "register",
        "three digits",
        level=Level.WARNING,
    ),
    Case(
        "INI-02",
        identity(IMPI, f"sip:001010000000001@{DOMAIN.replace('mnc001', 'mnc002')}"),
        "register",
        "temporary",
        level=Level.WARNING,
    ),
    Case(
        "INI-03",
        identity("262010000000001@ims.mnc011.mcc262.3gppnetwork.org", "sip:a@example.org"),
        "register",
        "mcc262 and mnc011",
        level=Level.WARNING,
    ),
    Case("INI-05", header("register", "Authorization", None), "register", "without Authorization"),
    Case("INI-05", edit("register", "Authorization", ',response=""', ""), "register", "lacks response"),
    Case("INI-05", edit("register", "Authorization", 'response=""', 'response="1"'), "register", "empty nonce"),
    Case(
        "INI-05",
        lambda s: s.until("register")["register"].edit(
            "Authorization", 'nonce="",response=""', 'nonce="old",response="1"'
        ),
        "register",
        "of an earlier one",
    ),
    Case("INI-06", edit("register", "Contact", f"alice@{UE}", "alice@192.0.2.99"), "register", "the UE's address"),
    Case("INI-06", edit("register", "Contact", ";.sip.instance=[^;]*", ""), "register", "no +sip.instance"),
    Case("INI-06", edit("register", "Contact", 'icsi-ref="[^"]*"', "icsi-ref=urn%3Ax"), "register", "not quoted"),
    Case("INI-06", header("register", "Contact", None), "register", "without a Contact"),
    Case(
        "INI-07",
        lambda s: (s["register"].edit("Via", ";rport", ""), s["challenge"].edit("Via", ";rport=5060", "")),
        "register",
        "no rport",
    ),
    Case("INI-07", edit("register", "Via", ";rport", ";rport=1"), "register", "expected an empty one"),
    Case("INI-07", edit("register", "Via", ":5060", ":5070"), "register", "expected the same"),
    Case("INI-08", header("register", "Expires", "3600"), "register", "3600 s; expected 600000"),
    Case("INI-08", header("register", "Expires", None), "register", "none; expected"),
    Case("INI-08", lambda s: s["register"].edit("Contact", "$", ";expires=3600"), "register", "3600, 600000"),
    Case("INI-09", header("register", "Supported", "gruu"), "register", "path"),
    Case("INI-10", header("register", "Require", None), "register", "sec-agree in Require"),
    Case("INI-10", header("register", "Proxy-Require", "other"), "register", "sec-agree in Proxy-Require"),
    Case(
        "INI-10",
        lambda s: s.until("challenge")["register"].message.remove("Security-Client"),
        "register",
        "lacks Security-Client",
    ),
    Case("INI-11", header("register", "P-Access-Network-Info", "3GPP-E-UTRAN-FDD"), "register", "in clear"),
    Case(
        "INI-11",
        header("answer", "P-Access-Network-Info", None),
        "answer",
        "no P-Access-Network-Info",
        level=Level.WARNING,
    ),
    Case("INI-12", header("register", "Route", "<sip:192.0.2.77;lr>"), "register", "Route in", level=Level.WARNING),
    Case("INI-12", header("register", "Route", "<sip:pcscf.example.org;lr>"), "register", "Route in", level=Level.NOTE),
    Case("INI-13", second_attempt, "impatient", "a new registration", evidence=("register",)),
    Case("GM-01", header("message", "Max-Forwards", None), "message", "lacks Max-Forwards"),
    Case("GM-01", header("incoming", "Max-Forwards", None), "incoming", "lacks Max-Forwards", role=P),
    Case("GM-01", lambda s: s["message"].message.add("Max-Forwards", "9"), "message", "more than one Max-Forwards"),
    Case(
        "GM-01",
        lambda s: [s[step].edit("Via", "z9hG4bK", "x") for step in ("message", "sent")],
        "message",
        "does not begin",
    ),
    Case("GM-01", edit("message", "CSeq", "MESSAGE", "INFO"), "message", "has CSeq 1 INFO"),
    Case("GM-01", lambda s: (s.drop("sent"), s["message"].message.remove("Via")), "message", "lacks Via"),
    Case(
        "GM-02",
        edit("answer", "Authorization", "0000001@", "0000003@"),
        "answer",
        "answers the challenge of",
        evidence=("register",),
        also=frozenset({"DRP-13"}),
    ),
    Case("TRN-01", pad("register", 1301), "register", "1301 octets", level=Level.WARNING),
    Case("TRN-02", pad("message", 1301), "message", "1301 octets", level=Level.WARNING),
    Case("TRN-02", pad("message", 1600, 2), "message", "in 2 fragments"),
    Case("TRN-03", pad("incoming", 1600, 2), "incoming", "in 2 fragments", role=P),
    Case(
        "TRN-06",
        lambda s: s["challenge"].go_clear(5060, 5060, Transport.TCP),
        "challenge",
        "over TCP",
        role=P,
        evidence=("register",),
    ),
    Case(
        "TRN-15",
        edit("challenge", "Via", ";rport=5060", ";rport"),
        "challenge",
        "left empty",
        role=P,
        evidence=("register",),
    ),
    Case("TRN-15", edit("challenge", "Via", ";rport=5060", ";rport=5061"), "challenge", "rport 5061", role=P),
]


def test_the_sane_story_has_no_findings() -> None:
    sound()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_fault_is_found_and_nothing_else(case: Case) -> None:
    check(case)


def test_every_rule_has_a_case() -> None:
    assert not cases_lacking(CASES, "gm")


@pytest.mark.parametrize(("size", "level"), [(1300, None), (1301, Level.WARNING)])
def test_the_threshold_of_tcp(size: int, level: Level | None) -> None:
    # TRN-05
    script = sane()
    pad("message", size)(script)
    assert [each.level for each in findings(script)] == ([] if level is None else [level])


def test_a_request_that_tcp_refused_may_go_over_udp() -> None:
    def refused(script: Script) -> None:
        pad("later", 1600, 2)(script)
        for number in range(3):
            packet = esp(UE, PCSCF, SECOND.spi_ps, 50 + number, 1890.0 + number, (90 + number,))
            packet.next_header = 6
            script.extra.append(packet)

    sound(refused)


def test_the_same_request_may_go_over_udp_when_its_connection_broke() -> None:
    def broken(script: Script) -> None:
        pad("message", 1600, 2)(script)
        step = script.again("first-try", "message", 9.0)
        step.transport, step.frames = Transport.TCP, 1

    sound(broken)


def test_behind_a_nat_contact_and_via_have_the_inner_address() -> None:
    inner = [edit("register", name, UE.replace(".", r"\."), "10.0.0.5") for name in ("Via", "Contact")]
    sound(lambda script: script.until("challenge"), *inner, edit("challenge", "Via", UE, "10.0.0.5"))


def test_a_phone_without_aka_is_not_asked_for_what_aka_asks() -> None:
    def plain(script: Script) -> None:
        script.until("challenge")
        for name in ("Security-Client", "Authorization", "Require", "Proxy-Require", "Supported"):
            script["register"].message.remove(name)
        script["register"].message.set("Expires", "60")
        script["challenge"].message.remove("Security-Server")
        script["challenge"].edit("WWW-Authenticate", "AKAv1-MD5", "MD5")

    sound(plain)


def test_a_capture_that_begins_later_does_not_blame_the_ue_for_a_report() -> None:
    # the first REGISTER and its challenge were missed; this one reports that the MAC is wrong
    def middle(script: Script) -> None:
        script.until("register")["register"].edit("Authorization", 'nonce=""', 'nonce="AAAA"')
        script["register"].message.set("Expires", "3600")
        script["register"].message.remove("Require")

    sound(middle)


def test_a_route_to_the_pcscf_is_let_pass() -> None:
    sound(header("register", "Route", f"<sip:{PCSCF}:5060;lr>"))


def test_an_emergency_registration_may_run_beside() -> None:
    script = sane()
    second_attempt(script)
    script["impatient"].edit("Contact", r"192\.0\.2\.10:5060", f"{UE}:5060;sos")
    assert not [each for each in findings(script) if each.rule == "INI-13"]


def test_the_same_request_over_another_transport_is_no_other_transport_of_the_answer() -> None:
    # RFC 3261 18.1.1: TCP was refused, the same request goes over UDP
    def fall_back(script: Script) -> None:
        step = script.again("tcp", "register", -0.5)
        step.transport = Transport.TCP

    sound(fall_back)


def test_imsi_of_a_network_with_three_digits() -> None:
    sound(identity("310150000000001@ims.mnc150.mcc310.3gppnetwork.org", "sip:a@example.org"))
    sound(identity("262010000000001@ims.mnc001.mcc262.3gppnetwork.org", "sip:a@example.org"))


def test_first_set_is_first() -> None:
    assert FIRST.flows[0][0] == FIRST.spi_ps
