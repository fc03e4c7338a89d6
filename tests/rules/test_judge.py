"""The judge: which rule meets which record, what is one finding, and that no octets upset it."""

from __future__ import annotations

import random
from collections.abc import Iterator

from imslab.core.errors import PeerError
from imslab.core.flow import Endpoint, Transport
from imslab.diameter.message import DiameterMessage
from imslab.rules.clauses import RULES, Basis, Finding, Level, Rule, Wrong
from imslab.rules.judge import UNREADABLE, judge
from imslab.sip.parser import parse
from imslab.trace.model import DiameterRecord, Hop, Record, Role, SaView, SipRecord
from imslab.trace.trace import Trace
from tests.rules.build import Script, sane


def rule(id_: str, kind: str, check: object, **selector: object) -> Rule:
    """A rule that is in no table."""
    return Rule(id_, "c", Role.UE, Level.WARNING, Basis.READ, "t", kind, check, **selector)  # type: ignore[arg-type]


def seen(met: list[object]) -> object:
    """A check that only notes what it met."""

    def check(subject: object, trace: Trace) -> Iterator[Wrong]:
        met.append(subject)
        return iter(())

    return check


def met_by(script: Script, **selector: object) -> list[str]:
    """The steps that a selector lets through."""
    met: list[SipRecord] = []
    judge(script.trace(), [rule("X", "sip", seen(met), **selector)])  # type: ignore[arg-type]
    return [script.name_of(record.frames[-1]) for record in met]


def test_a_rule_meets_what_its_selector_names() -> None:
    script = sane().until("received")
    registers = ["register", "challenge", "answer", "welcome"]
    assert met_by(script) == list(script.steps)
    assert met_by(script, methods=frozenset({"REGISTER"})) == registers
    assert met_by(script, methods=frozenset({"REGISTER"}), request=True) == ["register", "answer"]
    assert met_by(script, statuses=frozenset({401})) == ["challenge"]
    assert met_by(script, methods=frozenset({"NOTIFY"}), request=False) == ["notified"]
    assert met_by(script, hops=frozenset({Hop.MW})) == []
    assert met_by(script, hops=frozenset({Hop.GM}), statuses=frozenset({202})) == ["sent"]


def test_an_answer_whose_cseq_cannot_be_read_meets_rules_without_a_method() -> None:
    script = sane().until("challenge")
    script["challenge"].message.set("CSeq", "nonsense")
    assert met_by(script) == ["register", "challenge"]
    assert met_by(script, methods=frozenset({"REGISTER"})) == ["register"]


def test_diameter_sas_registrations_and_the_trace() -> None:
    ends = Endpoint("192.0.2.1", 3868), Endpoint("192.0.2.2", 3868)
    messages = [DiameterMessage(command, 16777216, True, True, False, False, 1, 1, []) for command in (303, 300)]
    records = [
        DiameterRecord(time=0, frames=(place,), src=ends[0], dst=ends[1], transport=Transport.TCP, message=message)
        for place, message in enumerate(messages)
    ]
    sa = SaView(spi=1, src=ends[0], dst=ends[1], alg="", ealg="")
    trace = Trace([*sane().trace().records, *records], [sa])
    met: dict[str, list[object]] = {kind: [] for kind in ("diameter", "named", "sa", "registration", "trace")}
    judge(
        trace,
        [
            rule("A", "diameter", seen(met["diameter"])),
            rule("B", "diameter", seen(met["named"]), methods=frozenset({"MAR"})),
            rule("C", "sa", seen(met["sa"])),
            rule("D", "registration", seen(met["registration"])),
            rule("E", "trace", seen(met["trace"])),
        ],
    )
    assert met["diameter"] == records
    assert met["named"] == records[:1]
    assert met["sa"] == [sa]
    assert met["registration"] == trace.registrations
    assert met["trace"] == [None]


def test_findings_come_in_the_order_of_frames_and_the_worst_first() -> None:
    def check(_: object, trace: Trace) -> Iterator[Wrong]:
        yield Wrong("late", Record(time=0, frames=(9,)))
        yield Wrong("minor", Record(time=0, frames=(2,)), level=Level.NOTE)
        yield Wrong("major", Record(time=0, frames=(2,)), level=Level.VIOLATION)
        yield Wrong("without a frame", Record(time=0))

    found = judge(Trace([]), [rule("X", "trace", check)])
    assert [each.text for each in found] == ["without a frame", "major", "minor", "late"]


def complain(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A check that dislikes every record."""
    yield Wrong(f"bad {'ESP' if record.spi else 'clear'}", record)


def test_a_message_and_its_retransmissions_are_one_finding() -> None:
    script = sane().until("challenge")
    script.again("twice", "register", 0.02)
    script.again("thrice", "register", 0.04)
    found = judge(script.trace(), [rule("X", "sip", complain)])
    assert [each.records for each in found] == [(1, 2, 3), (4,)]


def test_a_retransmission_that_goes_another_way_is_told_of_apart() -> None:
    script = sane().until("challenge")
    script.again("twice", "register", 0.02).spi = 77
    found = judge(script.trace(), [rule("X", "sip", complain)])
    assert [(each.text, each.records) for each in found] == [
        ("bad clear", (1,)),
        ("bad ESP", (2,)),
        ("bad clear", (3,)),
    ]


def test_what_says_the_same_twice_is_one_finding() -> None:
    def check(_: object, trace: Trace) -> Iterator[Wrong]:
        yield Wrong("same", Record(time=0, frames=(1,)))
        yield Wrong("same", Record(time=0, frames=(1,)))
        yield Wrong("same", Record(time=0, frames=(2,)))

    assert [each.records for each in judge(Trace([]), [rule("X", "trace", check)])] == [(1,), (2,)]


def test_a_header_that_cannot_be_read_is_a_finding_about_its_sender() -> None:
    def check(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
        assert record.message.expires is not None
        return iter(())

    script = sane().until("register")
    script["register"].message.set("Expires", "soon")
    found = judge(script.trace(), [rule("X", "sip", check), rule("Y", "sip", check)])
    assert found == [
        Finding(UNREADABLE, "RFC 3261 20.19", Level.WARNING, Role.UE, (1,), found[0].text),
    ]
    assert "Expires" in found[0].text


def test_what_cannot_be_read_elsewhere_ends_that_rule_only_and_is_told() -> None:
    def check(_: object, trace: Trace) -> Iterator[Wrong]:
        raise PeerError("nothing to be seen")

    def other(_: object, trace: Trace) -> Iterator[Wrong]:
        yield Wrong("wrong")

    found = judge(Trace([]), [rule("X", "trace", check), rule("Y", "trace", other)])
    assert [(each.rule, each.text) for each in found] == [
        (UNREADABLE, "X not judged: nothing to be seen"),
        ("Y", "wrong"),
    ]


def test_without_a_choice_all_rules_judge() -> None:
    script = sane()
    script["challenge"].edit("Security-Server", "port-s=6100", "port-s=5060")
    assert "SPI-06" in {each.rule for each in judge(script.trace())}
    assert len(RULES) >= 40


def test_no_octets_upset_a_rule() -> None:
    """Headers cut, repeated, emptied and exchanged: the judge says what it says, and never raises."""
    dice = random.Random(2)
    names = {name for step in sane().steps.values() for name, _ in step.message.headers}
    judged = 0
    for _ in range(150):
        script = sane()
        for step in dice.sample(list(script.steps.values()), 4):
            message, name = step.message, dice.choice(sorted(names))
            rows = message.rows(name)
            kind = dice.randrange(6)
            if kind == 0 or not rows:
                message.remove(name)
            elif kind == 1:
                message.replace(name, [*rows, *rows])
            elif kind == 2:
                message.replace(name, [rows[0][: dice.randrange(len(rows[0]) + 1)]])
            elif kind == 3:
                message.replace(name, [""])
            elif kind == 4:
                other = dice.choice(list(script.steps.values())).message.rows(name)
                message.replace(name, other)
            else:
                place = dice.randrange(len(rows[0]) + 1)
                message.replace(name, [rows[0][:place] + dice.choice('";,<>=@:0%') + rows[0][place:]])
        judged += len(judge(script.trace()))
    assert judged > 50


def test_no_octets_upset_a_rule_about_one_message() -> None:
    # each header of a message alone, empty or absent
    for name in ("Via", "From", "To", "CSeq", "Call-ID", "Contact", "Authorization", "Security-Client", "Route"):
        for value in (None, "", "\x7f", "<", '"', ";"):
            script = sane()
            for step in script.steps.values():
                if value is None:
                    step.message.remove(name)
                elif step.message.has(name):
                    step.message.set(name, value)
            judge(script.trace())


def test_parse_is_what_the_script_uses() -> None:
    assert parse(sane()["register"].message.encode()).is_request
