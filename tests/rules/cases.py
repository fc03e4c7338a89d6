"""A broken registration and the one thing that shall be found: the form of the tables in the tests of the rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from imslab.rules.clauses import RULES, Level
from imslab.trace.model import Role
from tests.rules.build import Script, findings, our_rules, sane

#: What breaks a script.
Spoil = Callable[[Script], object]

UE, PCSCF, NOBODY = Role.UE, Role.PCSCF, Role.UNKNOWN


@dataclass(frozen=True)
class Case:
    """What is broken in the sane story, and what is found.

    rule: the only finding's, but for those of `also`, which follow of necessity. spoil: breaks the script. at: the
    step whose frame comes first; evidence: those after it. text: what the finding's text has in it.
    """

    rule: str
    spoil: Spoil
    at: str
    text: str
    role: Role = UE
    evidence: tuple[str, ...] = ()
    level: Level = Level.VIOLATION
    also: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.rule}: {self.text}"


def check(case: Case) -> None:
    """Play a case."""
    script = sane()
    case.spoil(script)
    found = findings(script)
    told = "\n".join(f"{each.rule} {each.role} {each.level} {each.records}: {each.text}" for each in found)
    mine = [each for each in found if each.rule == case.rule and case.text in each.text]
    assert len(mine) == 1, told or "nothing was found"
    assert {each.rule for each in found} == {case.rule, *case.also}, told
    only = mine[0]
    assert (only.role, only.level) == (case.role, case.level), told
    assert only.clause == RULES[case.rule].printed_clause
    assert "\n" not in only.text
    assert [script.name_of(frame) for frame in only.records][: 1 + len(case.evidence)] == [case.at, *case.evidence], (
        told
    )


def cases_lacking(cases: list[Case], module: str) -> set[str]:
    """The rules of a module that no case breaks."""
    rules = {rule.id for rule in our_rules() if rule.check.__module__.endswith(f".{module}")}
    assert rules, f"no rules in {module}"
    return rules - {case.rule for case in cases}


def header(step: str, name: str, value: str | None) -> Spoil:
    """Set a header of a step, or take it away."""

    def spoil(script: Script) -> None:
        if value is None:
            assert script[step].message.remove(name)
        else:
            script[step].message.set(name, value)

    return spoil


def edit(step: str, name: str, pattern: str, replacement: str) -> Spoil:
    """Replace something in a header of a step."""
    return lambda script: script[step].edit(name, pattern, replacement)


def every(*spoils: Spoil) -> Spoil:
    """Several of them."""

    def spoil(script: Script) -> None:
        for each in spoils:
            each(script)

    return spoil


def sound(*spoils: Spoil) -> None:
    """Nothing is found although something is unusual."""
    script = sane()
    every(*spoils)(script)
    found = findings(script)
    assert not found, "\n".join(f"{each.rule} {each.role} {each.records}: {each.text}" for each in found)
