"""How a UE goes on: each rule broken by one knob."""

from __future__ import annotations

import pytest

from imslab.rules.clauses import Level
from imslab.rules.renewal import latest_refresh
from imslab.sip.reginfo import CONTENT_TYPE, RegContact, RegInfo, Registration, write_reginfo
from tests.rules.build import (
    CALL,
    CLEAR_DOWN,
    CLEAR_UP,
    DOMAIN,
    EMPTY,
    FIRST,
    IMPU,
    SECOND,
    THIRD,
    UE,
    Script,
    answer,
    findings,
    register,
    request,
    sane,
    to_ue,
)
from tests.rules.cases import Case, Spoil, cases_lacking, check, edit, every, header, sound


def shift(name: str, seconds: float) -> Spoil:
    """A step and everything after it come later."""

    def spoil(script: Script) -> None:
        start = script[name].time
        for step in script.steps.values():
            if step.time >= start:
                step.time += seconds

    return spoil


def leaves_in_a_call(script: Script) -> None:
    """The UE has called somebody, who has picked up; it leaves without a BYE."""
    more = f"Security-Verify: {SECOND.server}\nContact: <sip:alice@{UE}:30000>\n"
    script.add("call", 2000.0, SECOND.flows[0], request("INVITE", 1, target=f"sip:bob@{DOMAIN}", more=more))
    script.add("picked-up", 2001.0, SECOND.flows[2], answer(script["call"].message, "200 OK", "Contact: <sip:bob@b>\n"))


def hung_up(script: Script) -> None:
    """The same, but the other side hangs up first."""
    leaves_in_a_call(script)
    text = to_ue("BYE", 1, call=script["call"].message.get("Call-ID") or "")
    script.add("bye", 2002.0, SECOND.flows[2], text)
    script.add("gone", 2002.1, SECOND.flows[0], answer(script["bye"].message, "200 OK"))


def rejected(event: str, wait: float) -> Spoil:
    """The network ends the registration; the UE is there again after so many seconds."""

    def spoil(script: Script) -> None:
        script.until("notified")
        contact = RegContact(f"sip:alice@{UE}:30000", "1", "terminated", event)
        body = write_reginfo(RegInfo(1, "full", [Registration(IMPU, "r", "terminated", [contact])]))
        notify = script.again("end", "notify", 30.0)
        notify.message.set("Via", (notify.message.get("Via") or "").replace("p-NOTIFY-1", "p-NOTIFY-2"))
        notify.message.set("CSeq", "2 NOTIFY")
        notify.message.set("Subscription-State", "terminated;reason=noresource")
        notify.message.set("Content-Type", CONTENT_TYPE)
        notify.message.body = body
        script.add("ended", 30.05, FIRST.flows[0], answer(notify.message, "200 OK"))
        again = register(2, "UDP", THIRD, EMPTY, port=5060).replace(CALL, "call-2").replace("reg-2", "reg-again")
        script.add("again", 30.0 + wait, CLEAR_UP, again)

    return spoil


def granted(step: str, seconds: int) -> Spoil:
    """A 200 grants another lifetime."""
    return edit(step, "Contact", "expires=[0-9]+", f"expires={seconds}")


def short(seconds: float) -> Spoil:
    """600 s are granted, and the UE refreshes so many seconds later."""
    return every(
        lambda script: script.until("rechallenge"), granted("welcome", 600), shift("reregister", seconds - 1799.6)
    )


def refused(status: str, wait: float, *, more: str = "", second: str = "") -> Spoil:
    """The first REGISTER is refused, and the UE tries again after so many seconds."""

    def spoil(script: Script) -> None:
        script.until("register")
        text = answer(script["register"].message, status, more).replace(";rport", ";rport=5060")
        script.add("refusal", 0.1, CLEAR_DOWN, text)
        again = register(2, "UDP", THIRD, EMPTY, port=5060)
        script.add("again", 0.1 + wait, CLEAR_UP, again.replace("gruu", f"gruu{second}"))

    return spoil


def subscribe_again(seconds: float) -> Spoil:
    """The subscription is refused for so long, the UE tries again after ten seconds."""

    def spoil(script: Script) -> None:
        script.until("subscribed")
        text = answer(script["subscribe"].message, "503 Service Unavailable", f"Retry-After: {seconds:.0f}\n", "n1")
        script.add("subscribed", 0.7, FIRST.flows[2], text)
        more = f"Security-Verify: {FIRST.server}\nEvent: reg\nExpires: 600000\n"
        script.add("resubscribe", 10.7, FIRST.flows[0], request("SUBSCRIBE", 2, more=more))

    return spoil


def subscription_refresh(after: float) -> Spoil:
    """120 s are granted, and the UE refreshes in the dialog."""

    def spoil(script: Script) -> None:
        script["subscribed"].message.set("Expires", "120")
        more = f"Security-Verify: {FIRST.server}\nEvent: reg\nExpires: 600000\n"
        step = script.add("resubscribe", 0.7 + after, FIRST.flows[0], request("SUBSCRIBE", 1, more=more))
        step.edit("Via", "SUBSCRIBE-1", "SUBSCRIBE-2")
        step.edit("To", "$", ";tag=n1")
        step.edit("CSeq", "1", "2")

    return spoil


def goodbye(spoil: Spoil) -> Spoil:
    """The farewell is spoilt, and not answered."""
    return every(lambda script: script.until("goodbye"), spoil)


def refresh(spoil: Spoil) -> Spoil:
    """The refresh is spoilt, and not answered."""
    return every(lambda script: script.until("refresh"), spoil)


CASES = [
    Case(
        "RER-01",
        every(lambda s: s.until("rechallenge"), shift("reregister", 1300)),
        "reregister",
        "refresh 3100 s after 3600 s were granted: expected after 3000 s",
        evidence=("welcome",),
    ),
    Case(
        "RER-02",
        short(310),
        "reregister",
        "refresh 310 s after 600 s were granted: expected after 300 s",
        evidence=("welcome",),
    ),
    Case(
        "EVT-05",
        subscription_refresh(70),
        "resubscribe",
        "refresh 70 s after 120 s were granted",
        evidence=("subscribed",),
    ),
    Case("RER-04", refresh(header("refresh", "Security-Client", None)), "refresh", "without Security-Client"),
    Case(
        "RER-04",
        refresh(edit("refresh", "Security-Client", "0000013001", "0000012001")),
        "refresh",
        "SPI 12001 again",
        evidence=("reregister",),
    ),
    Case("RER-05", refresh(header("refresh", "Authorization", None)), "refresh", "without Authorization"),
    Case(
        "RER-05",
        refresh(edit("refresh", "Authorization", 'nonce="[^"]*"', 'nonce=""')),
        "refresh",
        "nonce of a refresh",
        evidence=("reanswer",),
    ),
    Case(
        "RER-05",
        refresh(edit("refresh", "Authorization", 'realm="[^"]*"', 'realm="x"')),
        "refresh",
        "realm of a refresh",
    ),
    Case(
        "RER-05",
        refresh(edit("refresh", "Authorization", '00002"', '00003"')),
        "refresh",
        "response of a refresh",
        level=Level.WARNING,
    ),
    Case("RER-06", refresh(header("refresh", "Security-Verify", None)), "refresh", "without Security-Verify"),
    Case(
        "RER-06",
        refresh(header("refresh", "Security-Verify", FIRST.server)),
        "refresh",
        "differs from the last",
        evidence=("rechallenge",),
    ),
    Case("DER-02", goodbye(leaves_in_a_call), "goodbye", "in a call that stands", evidence=("picked-up",)),
    Case(
        "DER-17",
        rejected("rejected", 0.1),
        "again",
        "after a NOTIFY with rejected",
        evidence=("end",),
        level=Level.WARNING,
    ),
    Case(
        "ERR-13",
        refused("504 Server Time-out", 0.2),
        "again",
        "0.200 s after a 504",
        evidence=("refusal",),
        level=Level.WARNING,
    ),
    Case("DER-01", goodbye(header("goodbye", "Security-Client", None)), "goodbye", "lacks Security-Client"),
    Case("DER-01", goodbye(header("goodbye", "Security-Verify", None)), "goodbye", "lacks Security-Verify"),
    Case(
        "DER-01",
        goodbye(edit("goodbye", "Contact", "30000", "30001")),
        "goodbye",
        "registered was 192.0.2.10:30000",
        also=frozenset({"PRT-06"}),
    ),
    Case(
        "DER-01",
        goodbye(lambda s: s["goodbye"].go_clear(5060, 5060) or s["goodbye"].message.remove("P-Access-Network-Info")),
        "goodbye",
        "though SAs stand",
    ),
    Case(
        "ERR-01",
        refused("403 Forbidden", 1.0),
        "again",
        "REGISTER again 1.000 s after a 403",
        level=Level.WARNING,
        evidence=("refusal",),
    ),
    Case(
        "ERR-02",
        refused("423 Interval Too Brief", 1.0, more="Min-Expires: 700000\n"),
        "again",
        "asks for 600000 s after a 423 with Min-Expires 700000",
        evidence=("refusal",),
    ),
    Case(
        "ERR-07",
        refused("420 Bad Extension", 1.0, more="Unsupported: sec-agree\n"),
        "again",
        "again requires sec-agree",
        evidence=("refusal",),
    ),
    Case(
        "ERR-09",
        refused("503 Service Unavailable", 10.0, more="Retry-After: 30\n"),
        "again",
        "10.0 s after a 503 with Retry-After 30",
        evidence=("refusal",),
    ),
    Case(
        "ERR-10", subscribe_again(30), "resubscribe", "10.0 s after a 503 with Retry-After 30", evidence=("subscribed",)
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_fault_is_found_and_nothing_else(case: Case) -> None:
    check(case)


def test_every_rule_has_a_case() -> None:
    assert not cases_lacking(CASES, "renewal")


@pytest.mark.parametrize(("lifetime", "due"), [(120, 60), (1199, 599.5), (1200, 600), (1201, 601), (3600, 3000)])
def test_half_time_up_to_1200_seconds(lifetime: int, due: float) -> None:
    # RER-03
    assert latest_refresh(lifetime) == due


def test_in_time_is_in_time() -> None:
    sound(short(299))
    sound(subscription_refresh(59))


def test_a_refresh_that_the_capture_missed_is_not_held_against_the_ue() -> None:
    sound(every(short(500), edit("reregister", "CSeq", "3", "4"), edit("rechallenge", "CSeq", "3", "4")))


def test_a_ue_may_wait_and_come_back() -> None:
    sound(refused("403 Forbidden", 60.0))
    sound(refused("503 Service Unavailable", 31.0, more="Retry-After: 30\n"))
    sound(refused("503 Service Unavailable", 1.0))
    sound(subscribe_again(5))
    sound(refused("420 Bad Extension", 1.0, more="Unsupported: gruu\n"))


def test_a_longer_lifetime_after_a_423() -> None:
    script = sane()
    refused("423 Interval Too Brief", 1.0, more="Min-Expires: 700000\n")(script)
    script["again"].message.set("Expires", "700000")
    assert not [each for each in findings(script) if each.rule.startswith("ERR")]


def test_another_pcscf_may_be_asked_at_once() -> None:
    script = sane()
    refused("503 Service Unavailable", 1.0, more="Retry-After: 30\n")(script)
    script["again"].dst = script["again"].dst._replace(host="192.0.2.2")
    assert findings(script) == []


def test_a_nonce_that_the_network_named_may_be_used() -> None:
    def next_nonce(script: Script) -> None:
        script.until("refresh")
        script["rewelcome"].message.set("Authentication-Info", 'nextnonce="AAAA"')
        script["refresh"].edit("Authorization", 'nonce="[^"]*"', 'nonce="AAAA"')

    sound(next_nonce)


def test_a_proof_of_the_network_names_no_nonce() -> None:
    script = sane().until("refresh")
    script["rewelcome"].message.set("Authentication-Info", 'qop=auth,rspattr="x",cnonce="c1",nc=00000001')
    script["refresh"].edit("Authorization", 'nonce="[^"]*"', 'nonce=""')
    assert [each.rule for each in findings(script)] == ["RER-05"]


def test_all_contacts_may_leave() -> None:
    sound(goodbye(header("goodbye", "Contact", "*")))


def test_the_second_set_is_the_last() -> None:
    assert SECOND.server in sane()["refresh"].message.encode().decode()


def test_a_call_that_was_hung_up_is_over() -> None:
    sound(hung_up)


@pytest.mark.parametrize(("event", "wait"), [("rejected", 60.0), ("deactivated", 0.1), ("probation", 0.1)])
def test_who_was_asked_to_return_or_waits_may_return(event: str, wait: float) -> None:
    sound(rejected(event, wait))
