"""Traffic once SAs are there: each rule broken by one knob."""

from __future__ import annotations

import pytest

from imslab.core.flow import Endpoint
from imslab.rules.clauses import Level
from tests.rules.build import (
    CLEAR_DOWN,
    CLEAR_UP,
    DOMAIN,
    EMPTY,
    FIRST,
    RANDS,
    SECOND,
    TCP,
    THIRD,
    UDP,
    UE,
    Script,
    answer,
    findings,
    register,
    request,
    sane,
    to_ue,
)
from tests.rules.cases import PCSCF as P
from tests.rules.cases import Case, Spoil, cases_lacking, check, edit, every, sound


def clear(step: str, src: int | None = None, dst: int | None = None, last: str | None = None) -> Spoil:
    """A step goes in clear."""

    def spoil(script: Script) -> None:
        script.until(last or step)
        script[step].go_clear(src, dst)

    return spoil


def options(status: str | None) -> Spoil:
    """A keep-alive in clear, and what the UE makes of it."""

    def spoil(script: Script) -> None:
        script.until("received")
        text = to_ue("OPTIONS", 9).replace("Via: SIP/2.0/UDP 198.51.100.2:5060;branch=z9hG4bK-s-OPTIONS-9\n", "")
        step = script.add("options", 30.0, CLEAR_DOWN, text)
        if status is not None:
            script.add("pong", 30.1, CLEAR_UP, answer(step.message, status))

    return spoil


def clear_request(method: str, status: str | None) -> Spoil:
    """The UE asks in clear, and the P-CSCF answers."""

    def spoil(script: Script) -> None:
        script.until("received")
        step = script.add("careless", 30.0, CLEAR_UP, request(method, 7, target=f"sip:bob@{DOMAIN}"))
        if status is not None:
            script.add("reply", 30.1, CLEAR_DOWN, answer(step.message, status))

    return spoil


def through(step: str, index: int) -> Spoil:
    """A step goes over UDP in another SA of the same set."""
    return lambda script: script[step].go_through(FIRST, index, UDP)


def too_early(script: Script) -> None:
    """SUBSCRIBE comes before the 200 to REGISTER; nobody answers it."""
    script.until("subscribe")
    script["subscribe"].time = 0.35


def taken_in_clear(script: Script) -> None:
    """The 200 to REGISTER comes in clear, and the UE goes on."""
    script.until("subscribe")
    script["welcome"].go_clear(5060, 5060)


def too_early_and_taken(script: Script) -> None:
    """SUBSCRIBE comes before the 200 to REGISTER, and is answered."""
    script.until("subscribed")
    script["subscribe"].time, script["subscribed"].time = 0.35, 0.36


def failure(status: str, *, renewed: bool, response: bool = False) -> Spoil:
    """A failure answer in clear to a protected REGISTER."""

    def spoil(script: Script) -> None:
        asked, answered = ("reanswer", "rewelcome") if renewed else ("answer", "welcome")
        script.until(answered)
        script.drop(answered)
        text = answer(script[asked].message, status)
        script.add("refusal", script[asked].time + 0.1, CLEAR_DOWN, text, TCP)
        if response:
            mw = answer(script[asked].message, status)
            inner = (None, Endpoint("198.51.100.2", 5060), CLEAR_UP[2])
            script.add("refusal-mw", script[asked].time + 0.05, inner, mw)
            script.keys.learn(RANDS[0], bytes(16), bytes(16), b"\1" * 8, "MAA")

    return spoil


def another_name(script: Script) -> None:
    """The UE names somebody else's IMPI in its refresh."""
    script.until("refreshed")
    script["refresh"].edit("Authorization", "0000001@", "0000009@")


def another_address(script: Script) -> None:
    """The Via of a protected REGISTER names another host."""
    script.until("refreshed")
    for step in ("refresh", "refreshed"):
        script[step].edit("Via", r"192\.0\.2\.10", "192.0.2.66")


def clear_to_protected_port(script: Script) -> None:
    """A UE that lost its SAs sends its clear REGISTER to the port that it remembers; the P-CSCF answers."""
    script.until("received")
    text = register(1, "UDP", THIRD, EMPTY, port=5060).replace("call-1", "call-2").replace("reg-1", "reg-x")
    way = (None, Endpoint(UE, 5060), FIRST.flows[0][2])
    step = script.add("restart", 30.0, way, text)
    reply = answer(step.message, "500 Server Internal Error").replace(";rport", ";rport=5060")
    script.add("reply", 30.1, (None, way[2], way[1]), reply)


def old_set_for_ever(script: Script) -> None:
    """After the switch the P-CSCF goes on with the old set."""
    script.until("later-sent")
    script.add("old-way", 1950.0, FIRST.flows[2], to_ue("MESSAGE", 5))


CASES = [
    Case("LIF-11", old_set_for_ever, "old-way", "on the old set", role=P, evidence=("later",)),
    Case("PRT-01", clear_request("SUBSCRIBE", None), "careless", "in clear over UDP from 5060 to 5060"),
    Case("PRT-01", through("message", 3), "message", "expected in ESP (SPI 21002) from 31001 to 6100"),
    Case("PRT-02", clear("sent"), "sent", "its request came in ESP", role=P, evidence=("message",)),
    Case("PRT-02", through("sent", 1), "sent", "from 6100 to 31001; expected in ESP (SPI 11002)", role=P),
    Case(
        "PRT-03",
        lambda s: (
            s.until("welcome")["welcome"].go_through(FIRST, 1) or setattr(s["welcome"], "dst", Endpoint(UE, 31777))
        ),
        "welcome",
        "its request came from 31001",
        role=P,
        evidence=("answer",),
        also=frozenset({"DRP-08"}),
    ),
    Case("PRT-04", through("incoming", 1), "incoming", "expected in ESP (SPI 11002) from 5101 to 30000", role=P),
    Case("PRT-05", clear("received"), "received", "in clear over UDP from 31001 to 6100", evidence=("incoming",)),
    Case("PRT-05", through("received", 3), "received", "from 30000 to 5101; expected"),
    Case("PRT-06", edit("message", "Via", ":30000", ":31001"), "message", "Via names port 31001"),
    Case("PRT-06", edit("subscribe", "Contact", ":30000", ":5060"), "subscribe", "Contact names port 5060"),
    Case(
        "PRT-08",
        lambda s: [s[step].edit("Via", ":6100", ":5101") for step in ("incoming", "received")],
        "incoming",
        "the P-CSCF's Via names port 5101, its client port",
        role=P,
    ),
    Case(
        "PRT-08", edit("incoming", "Record-Route", ":6100", ":5060"), "incoming", "Record-Route names port 5060", role=P
    ),
    Case("PRT-10", options(None), "options", "OPTIONS in clear", role=P),
    Case("PRT-10", options("405 Method Not Allowed"), "options", "OPTIONS in clear", role=P),
    Case(
        "DRP-18",
        options("200 OK"),
        "pong",
        "a request in clear is taken",
        evidence=("options",),
        also=frozenset({"PRT-10"}),
    ),
    Case(
        "DRP-18",
        every(options("405 Method Not Allowed"), lambda s: s["pong"].go_clear(31001, 5060)),
        "pong",
        "clear, from a protected port",
        also=frozenset({"PRT-10"}),
    ),
    Case(
        "DRP-01",
        clear_request("INVITE", "180 Ringing"),
        "reply",
        "is taken: 180 to INVITE",
        role=P,
        evidence=("careless",),
        also=frozenset({"PRT-01"}),
    ),
    Case("DRP-02", clear_request("SUBSCRIBE", "200 OK"), "reply", "is taken", role=P, also=frozenset({"PRT-01"})),
    Case(
        "GM-03", clear_to_protected_port, "restart", "from 5060 to 6100, a protected port", also=frozenset({"DRP-04"})
    ),
    Case(
        "DRP-04",
        clear_to_protected_port,
        "reply",
        "to a request in clear",
        role=P,
        evidence=("restart",),
        also=frozenset({"GM-03"}),
    ),
    Case("ADD-08", too_early, "subscribe", "before the 200", evidence=("welcome",)),
    Case(
        "DRP-03",
        too_early_and_taken,
        "subscribed",
        "is not discarded: 200 to SUBSCRIBE",
        role=P,
        evidence=("subscribe",),
        also=frozenset({"ADD-08"}),
    ),
    Case("DRP-13", another_name, "refreshed", "inside the SAs of", role=P, evidence=("refresh",)),
    Case(
        "ADD-07",
        another_address,
        "refreshed",
        "whose Via names 192.0.2.66",
        role=P,
        evidence=("refresh",),
        also=frozenset({"PRT-06"}),
    ),
    Case("DRP-19", taken_in_clear, "subscribe", "200 in clear only", evidence=("welcome",), also=frozenset({"OKR-16"})),
    Case("OKR-16", clear("welcome"), "welcome", "its REGISTER came in ESP", role=P, evidence=("answer",)),
    Case(
        "OKR-16",
        lambda s: s.until("rewelcome")["rewelcome"].go_through(FIRST, 1),
        "rewelcome",
        "another SA set",
        role=P,
        evidence=("reanswer",),
    ),
    Case("LIF-20", clear("farewell"), "farewell", "its de-REGISTER came in ESP", role=P, evidence=("goodbye",)),
    Case(
        "ADD-06",
        failure("500 Server Internal Error", renewed=True),
        "refusal",
        "the re-registration began in ESP",
        role=P,
        evidence=("reanswer",),
    ),
    Case(
        "ADD-06",
        every(failure("494 Security Agreement Required", renewed=False), lambda s: s["refusal"].go_through(FIRST, 1)),
        "refusal",
        "expected it in clear",
        role=P,
        evidence=("answer", "register"),
        level=Level.NOTE,
    ),
    Case(
        "ADD-06",
        failure("403 Forbidden", renewed=False, response=True),
        "refusal",
        "for a wrong response",
        role=P,
        also=frozenset({"AKA-01"}),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_fault_is_found_and_nothing_else(case: Case) -> None:
    check(case)


def test_every_rule_has_a_case() -> None:
    assert not cases_lacking(CASES, "protected")


def test_an_answer_that_follows_a_wrong_via_is_not_the_ues_fault() -> None:
    # as Kamailio has it: port-c in the Via, and the answer comes on the only SA that leads there
    script = sane()
    for step in ("incoming", "received"):
        script[step].edit("Via", ":6100", ":5101")
    script["received"].go_through(FIRST, 3, UDP)
    assert [(each.rule, str(each.role)) for each in findings(script)] == [("PRT-08", "P-CSCF")]


def test_clear_failures_of_a_first_registration_are_right() -> None:
    sound(failure("494 Security Agreement Required", renewed=False))
    sound(failure("403 Forbidden", renewed=False))  # not for the response, as far as anybody can tell


def test_a_refusal_of_the_pcscf_itself_has_other_reasons_than_the_response() -> None:
    script = sane()
    failure("403 Forbidden", renewed=False, response=True)(script)
    script.drop("refusal-mw")
    assert [each.rule for each in findings(script)] == ["AKA-01"]


def test_a_ue_that_rejects_what_is_clear_is_right() -> None:
    script = sane()
    options("403 Forbidden")(script)
    assert [each.rule for each in findings(script)] == ["PRT-10"]


def test_emergency_traffic_may_be_clear() -> None:
    def sos(script: Script) -> None:
        clear_request("INVITE", "180 Ringing")(script)
        script["careless"].message.uri = "urn:service:sos"  # type: ignore[attr-defined]

    sound(sos)


def test_after_the_farewell_clear_traffic_is_nobodys_fault() -> None:
    def later(script: Script) -> None:
        text = to_ue("OPTIONS", 9).replace("Via: SIP/2.0/UDP 198.51.100.2:5060;branch=z9hG4bK-s-OPTIONS-9\n", "")
        script.add("options", 3800.0, CLEAR_DOWN, text)

    sound(later)


def test_after_the_end_of_the_registration_too() -> None:
    def later(script: Script) -> None:
        script.until("received")
        script.add("options", 3700.0, CLEAR_DOWN, to_ue("OPTIONS", 9))

    sound(later)


def test_and_after_the_network_has_ended_it() -> None:
    def ended(script: Script) -> None:
        script.until("received")
        script["incoming"].message.set("Subscription-State", "terminated;reason=deactivated")
        for step in ("incoming", "received"):
            script[step].edit("CSeq", "MESSAGE", "NOTIFY")
        notify = script["incoming"].message
        text = notify.encode().decode().replace("\r\n", "\n").replace("MESSAGE sip:", "NOTIFY sip:", 1)
        script.add("incoming", script["incoming"].time, FIRST.flows[2], text)
        script.add("options", 40.0, CLEAR_DOWN, to_ue("OPTIONS", 9))

    sound(ended)


def test_without_the_agreement_nothing_is_said() -> None:
    def middle(script: Script) -> None:
        script.until("received")
        options("200 OK")(script)
        script.drop("register", "challenge", "answer", "welcome")

    sound(middle)


def test_over_tcp_the_ues_connection_may_be_used_both_ways() -> None:
    def reused(script: Script) -> None:
        script["incoming"].go_through(FIRST, 1, TCP)
        script["received"].go_through(FIRST, 0, TCP)

    sound(reused)


def test_a_new_connection_to_the_server_port_is_right_too() -> None:
    sound(lambda script: script["welcome"].go_through(FIRST, 2, TCP))


def test_a_decrypted_copy_says_nothing_about_protection() -> None:
    script = sane()
    for step in script.steps.values():
        step.spi = None
    script.with_esp = False
    found = findings(script)
    assert [each.rule for each in found] == ["ESP-06"]
    assert set(found[0].records) == {script.frame("challenge"), script.frame("rechallenge")}


def test_before_the_ue_has_used_the_new_set_the_old_one_is_right() -> None:
    def waiting(script: Script) -> None:
        script.until("rewelcome")
        script.add("old-way", 1850.0, FIRST.flows[2], to_ue("MESSAGE", 5))

    sound(waiting)


def test_a_clear_answer_may_leave_the_connection_of_its_request() -> None:
    # 33.203 7.4.2a sends it in clear, and in clear there is no connection
    def refused(script: Script) -> None:
        failure("494 Security Agreement Required", renewed=False)(script)
        script["refusal"].transport = UDP

    sound(refused)


def test_clear_ports_agreed_on_by_mistake_do_not_make_clear_traffic_wrong() -> None:
    script = sane()
    script.until("challenge")
    script["challenge"].edit("Security-Server", "port-s=6100", "port-s=5060")
    script.again("repeated", "register", 0.5)
    assert {each.rule for each in findings(script)} == {"SPI-06"}


def test_a_refresh_may_be_answered_on_the_newest_set() -> None:
    def old_set(script: Script) -> None:
        script["refresh"].go_through(FIRST, 0)

    script = sane()
    old_set(script)
    assert not [each for each in findings(script) if each.rule == "OKR-16"]
    assert SECOND.flows[1][0] == script["refreshed"].spi
