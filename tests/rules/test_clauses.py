"""What a rule is, how it is declared, and the page that lists them all."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from imslab.core.errors import LocalError
from imslab.rules import clauses
from imslab.rules.clauses import RULES, Basis, Finding, Level, Rule, Wrong, frames_of, on_diameter, on_sip, on_trace
from imslab.trace.model import Hop, Record, Role
from imslab.trace.trace import Trace
from tests.generate_rules_page import PAGE, page

#: A clause as documents cite it: a 3GPP specification by its number, or an RFC.
CLAUSE = re.compile(r"(?:RFC \d{4}|\d{2}\.\d{3}(?:-1)?)(?: (?:[0-9A-Z][\w.]*|Annex [A-Z]))?(?:[,;] .+| \(.+\))?")


@pytest.fixture
def no_rules(monkeypatch: pytest.MonkeyPatch) -> dict[str, Rule]:
    """An empty table of rules."""
    table: dict[str, Rule] = {}
    monkeypatch.setattr(clauses, "RULES", table)
    return table


def test_a_rule_is_declared_with_its_title_and_selector(no_rules: dict[str, Rule]) -> None:
    @on_sip("X-1", "RFC 3261 1", role=Role.UE, hop=Hop.GM, method=("A", "B"), status=range(200, 202))
    def check(record: object, trace: Trace) -> Iterator[Wrong]:
        """What is right.

        And more of it.
        """
        yield Wrong("wrong")

    rule = no_rules["X-1"]
    assert rule.title == "What is right."
    assert rule.check is check
    assert (rule.hops, rule.methods, rule.statuses) == ({Hop.GM}, {"A", "B"}, {200, 201})
    assert rule.request is False
    assert rule.kind == "sip"


def test_an_id_is_declared_once_and_has_a_title(no_rules: dict[str, Rule]) -> None:
    def check(record: object, trace: Trace) -> Iterator[Wrong]:
        """What is right."""
        return iter(())

    on_diameter("X-1", "RFC 6733 1", role=Role.HSS, name="MAA")(check)
    assert no_rules["X-1"].methods == {"MAA"}
    with pytest.raises(LocalError, match="X-1 is declared twice"):
        on_trace("X-1", "RFC 6733 1", role=Role.HSS)(check)
    with pytest.raises(LocalError, match="X-2 needs a docstring"):
        on_trace("X-2", "RFC 6733 1", role=Role.HSS)(lambda _, trace: ())


def test_a_finding_has_the_rules_word_unless_the_check_says_otherwise() -> None:
    def check(_: object, trace: Trace) -> Iterator[Wrong]:
        yield Wrong("plain", Record(time=0, frames=(3, 4), copies=(5,)), Record(time=0, frames=(1, 2), copies=(7,)))
        yield Wrong("other", role=Role.HSS, level=Level.NOTE)

    rule = Rule("X-1", "29.228 1", Role.UE, Level.WARNING, Basis.UNREAD, "t", "trace", check)
    assert [rule.finding(wrong) for wrong in check(None, Trace([]))] == [
        Finding("X-1", "29.228 1 (unconfirmed)", Level.WARNING, Role.UE, (4, 5, 2), "plain"),
        Finding("X-1", "29.228 1 (unconfirmed)", Level.NOTE, Role.HSS, (), "other"),
    ]


def test_only_a_clause_that_was_read_is_printed_bare() -> None:
    for basis, printed in (
        (Basis.READ, "c"),
        (Basis.SECOND_HAND, "c (unconfirmed)"),
        (Basis.UNREAD, "c (unconfirmed)"),
    ):
        assert Rule("X", "c", Role.UE, Level.NOTE, basis, "t", "trace", lambda _, t: ()).printed_clause == printed


def test_frames_come_once_and_the_place_to_look_first() -> None:
    assert frames_of() == ()
    one, other = Record(time=0, frames=(8, 9), copies=(10, 11)), Record(time=0, frames=(9,), copies=(12,))
    assert frames_of(one, other, Record(time=0)) == (9, 10, 11)


def test_a_finding_as_json() -> None:
    finding = Finding("CHL-10", "33.203 6.1.1", Level.VIOLATION, Role.PCSCF, (406, 407), "401 still carries ck")
    assert finding.as_json() == {
        "rule": "CHL-10",
        "clause": "33.203 6.1.1",
        "level": "violation",
        "role": "P-CSCF",
        "records": [406, 407],
        "text": "401 still carries ck",
    }


def test_every_rule_cites_a_clause_and_says_what_is_right_in_one_line() -> None:
    for rule in RULES.values():
        assert CLAUSE.fullmatch(rule.clause), f"{rule.id}: {rule.clause}"
        assert rule.title.endswith("."), rule.id
        assert "|" not in rule.title, rule.id


def test_the_page_of_rules_lists_these_rules() -> None:
    assert PAGE.read_text() == page(), "python -m tests.generate_rules_page writes it anew"
