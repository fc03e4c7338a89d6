"""Whole labs in which a fault shows only when something else happens: time passes, a card refuses, a peer is lax.

`test_faults.py` plays every fault in the main job; here are those that the main job does not bring to light. Exactly
these rules about Gm and ESP fire.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from imslab.rules.judge import judge
from imslab.trace.model import Role
from tests.flows.labs import OP, K, Play, play
from tests.rules.build import our_rules

UE, PCSCF = Role.UE, Role.PCSCF
#: A card that has counted further than the network: its first challenge is out of range.
AHEAD: dict[str, Any] = {"subscribers": [{"imsi": "001010000000001", "k": K, "op": OP, "sqn_ms": 1 << 30}]}
#: Registrations of two minutes: half time comes soon.
SHORT: dict[str, Any] = {"scscf__expires_max": 120}


def nothing(played: Play) -> None:
    """Let time pass, and no more."""


def message_after_switch(played: Play) -> None:
    """Re-register, use the new set, and only then be called."""
    played.ask(played.ue, "reregister", "sas-switched")
    played.net.command(played.ue, "message", to=played.other.config.impu, text="new")
    played.run(2)
    played.net.command(played.other, "message", to=played.ue.config.impu, text="old")


@dataclass(frozen=True)
class Scenario:
    """What is wrong in a lab, how long it runs (seconds), and which rules blame whom."""

    name: str
    found: dict[str, Role]
    settings: dict[str, Any] = field(default_factory=dict)
    seconds: float = 200
    then: Callable[[Play], None] = nothing
    both: bool = False

    def __str__(self) -> str:
        return self.name


def ue(*faults: str, **more: Any) -> dict[str, Any]:
    """Settings of a lab with a wrong UE."""
    return {"ue__faults": faults, **more}


def pcscf(*faults: str, **more: Any) -> dict[str, Any]:
    """Settings of a lab with a wrong P-CSCF."""
    return {"pcscf__faults": faults, **more}


SCENARIOS = [
    Scenario("refreshed twice", {}, SHORT, 400),
    Scenario("refreshed without challenge", {}, {**SHORT, "scscf__reauthenticate": False}, 400),
    Scenario("a card out of step", {}, AHEAD),
    Scenario("messages after the switch", {}, {}, 5, message_after_switch, both=True),
    Scenario("late at half time", {"RER-02": UE}, ue("ue-refreshes-late", **SHORT), 400),
    Scenario("late before the end", {"RER-01": UE}, ue("ue-refreshes-late", scscf__expires_max=3600), 4000),
    Scenario("refresh without proof", {"RER-05": UE}, ue("ue-refreshes-without-proof", **SHORT), 150),
    Scenario("refresh in clear", {"INI-05": UE}, ue("ue-refreshes-in-clear", **SHORT), 100),
    Scenario("423 ignored", {"ERR-02": UE, "INI-08": UE}, ue("ue-ignores-min-expires", ue__expires=30), 100),
    Scenario("report under another Call-ID", {"AKA-26": UE}, ue("ue-reports-under-new-call-id", **AHEAD)),
    Scenario("reports without end", {"AKA-11": UE, "AKA-14": UE}, ue("ue-never-tires", "ue-wrong-auts", **AHEAD)),
    Scenario(
        "a lax P-CSCF and a wrong Security-Verify",
        {"AKA-08": UE, "SEC-12": PCSCF},
        {**ue("ue-changes-verify"), **pcscf("pcscf-ignores-verify")},
        20,
    ),
    Scenario(
        "a lax P-CSCF and a changed offer",
        {"AKA-08": UE, "SEC-13": PCSCF},
        {**ue("ue-changes-offer"), **pcscf("pcscf-ignores-verify")},
        20,
    ),
    Scenario(
        "the old set for ever", {"LIF-11": PCSCF}, pcscf("pcscf-never-switches"), 5, message_after_switch, both=True
    ),
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_exactly_these_rules_fire(scenario: Scenario) -> None:
    played = play(**scenario.settings)
    for each in played.lab.ues if scenario.both else [played.ue]:
        played.net.command(each, "register")
    played.run(scenario.seconds)
    scenario.then(played)
    played.run(5)
    findings = judge(played.trace, our_rules())
    told = "\n".join(f"{each.rule} {each.role} {each.records}: {each.text}" for each in findings)
    assert {each.rule: each.role for each in findings} == scenario.found, told
