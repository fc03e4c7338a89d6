"""What a registered UE does: each rule broken by one knob."""

from __future__ import annotations

import pytest

from imslab.rules.clauses import Level
from tests.rules.build import DOMAIN, FIRST, IMPU, PCSCF, TEMPORARY, Script, answer
from tests.rules.cases import PCSCF as P
from tests.rules.cases import Case, Spoil, cases_lacking, check, edit, every, header, sound

ORIG = f"<sip:orig@scscf.{DOMAIN}:5060;lr>"


def refused_notify(script: Script) -> None:
    """The UE does not know its own subscription."""
    text = answer(script["notify"].message, "481 Call/Transaction Does Not Exist")
    script.add("notified", 0.9, FIRST.flows[0], text)


def other_service_route(*, used: bool) -> Spoil:
    """The re-registration brings another Service-Route."""

    def spoil(script: Script) -> None:
        new = f"<sip:orig@scscf2.{DOMAIN}:5060;lr>"
        script["rewelcome"].message.set("Service-Route", new)
        if used:
            script["later"].message.set("Route", f"<sip:{PCSCF}:6100;lr>, {new}")

    return spoil


def subscribe(name: str) -> Spoil:
    """SUBSCRIBE names another identity."""

    def spoil(script: Script) -> None:
        script.until("subscribe")
        step = script["subscribe"]
        step.message.uri = name  # type: ignore[attr-defined]
        for row in ("From", "To", "P-Preferred-Identity"):
            step.edit(row, "<[^>]*>", f"<{name}>")

    return spoil


def never_subscribed(script: Script) -> None:
    """There is no SUBSCRIBE."""
    script.drop("subscribe", "subscribed", "notify", "notified")


CASES = [
    Case("GM-04", never_subscribed, "welcome", "no SUBSCRIBE for reg", level=Level.WARNING),
    Case("PRT-07", header("message", "Route", None), "message", "has no Route", also=frozenset({"OKR-09"})),
    Case(
        "PRT-07",
        edit("message", "Route", ":6100", ":5060"),
        "message",
        "expected the P-CSCF 192.0.2.1 with port_ps 6100",
    ),
    Case("PRT-07", edit("message", "Route", r"192\.0\.2\.1:", "192.0.2.3:"), "message", "the first Route is"),
    Case(
        "OKR-09",
        header("message", "Route", f"<sip:{PCSCF}:6100;lr>"),
        "message",
        "behind the P-CSCF is none",
        evidence=("welcome",),
    ),
    Case("OKR-09", edit("message", "Route", "orig@", "term@"), "message", "Service-Route was <sip:orig@"),
    Case(
        "OKR-10",
        other_service_route(used=False),
        "later",
        "Service-Route was <sip:orig@scscf2",
        evidence=("rewelcome",),
    ),
    Case(
        "OKR-13",
        header("message", "P-Preferred-Identity", f"<{TEMPORARY}>"),
        "message",
        "not in P-Associated-URI",
        evidence=("welcome",),
    ),
    Case("OKR-17", header("welcome", "P-Charging-Vector", "icid-value=x"), "welcome", "has P-Charging-Vector", role=P),
    Case("EVT-01", header("subscribe", "Expires", "3600"), "subscribe", "Expires 3600: expected 600000"),
    Case("EVT-01", header("subscribe", "Expires", None), "subscribe", "no Expires"),
    Case("EVT-01", edit("subscribe", "From", "alice", "bob"), "subscribe", "differ"),
    Case(
        "EVT-03",
        every(subscribe(TEMPORARY), header("subscribe", "P-Preferred-Identity", f"<{IMPU}>")),
        "subscribe",
        "which is not in P-Associated-URI",
        evidence=("welcome",),
    ),
    Case("EVT-04", refused_notify, "notified", "though the UE subscribed", evidence=("notify", "subscribed")),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_fault_is_found_and_nothing_else(case: Case) -> None:
    check(case)


def test_every_rule_has_a_case() -> None:
    assert not cases_lacking(CASES, "registered")


def test_the_pcscf_may_be_named() -> None:
    sound(edit("message", "Route", r"192\.0\.2\.1:6100", f"pcscf.{DOMAIN}:6100"))


def test_the_new_service_route_is_followed() -> None:
    sound(other_service_route(used=True))


def test_a_telephone_number_is_an_identity_too() -> None:
    sound(subscribe("tel:+1-555-1234"))


def test_wildcards_are_not_guessed_at() -> None:
    sound(
        header("welcome", "P-Associated-URI", f"<{IMPU}>, <sip:list!.*!@{DOMAIN}>"),
        header("message", "P-Preferred-Identity", f"<sip:list1@{DOMAIN}>"),
    )


def test_without_a_service_route_there_is_none_to_follow() -> None:
    sound(header("welcome", "Service-Route", None), header("message", "Route", f"<sip:{PCSCF}:6100;lr>"))


def test_a_request_in_a_dialog_follows_the_dialog() -> None:
    sound(header("message", "Route", f"<{ORIG[1:-1]}>"), edit("message", "To", "$", ";tag=x"))


def test_a_short_capture_and_a_closed_one_may_lack_the_subscription() -> None:
    def short(script: Script) -> None:
        never_subscribed(script)
        script.until("received")

    def closed(script: Script) -> None:
        never_subscribed(script)
        script.edit_esp["message"] = {"next_header": None}

    sound(short)
    sound(closed)
