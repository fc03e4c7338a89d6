"""Diameter itself: each rule broken by one knob."""

from __future__ import annotations

import pytest

from imslab.core.errors import PeerError
from imslab.core.flow import Endpoint
from imslab.diameter.avp import Avp
from imslab.diameter.codes import ReasonCode
from imslab.diameter.cx import DeregistrationReason, RegistrationTerminationRequest
from imslab.diameter.dictionary import make
from imslab.diameter.message import DiameterMessage, answer
from imslab.rules.clauses import Level
from imslab.rules.judge import judge
from imslab.trace.model import MalformedRecord, Role
from tests.rules.build_core import (
    DOMAIN,
    HSS,
    IMPI,
    S_CX,
    TEMPORARY,
    Case,
    Spoil,
    Story,
    asking,
    avp,
    capabilities,
    check,
    every,
    findings,
    our_rules,
    rules_lacking,
    sane,
    sound,
    until,
)

H, SC, IC, NOBODY = Role.HSS, Role.SCSCF, Role.ICSCF, Role.UNKNOWN


def sets(step: str, **values: object) -> Spoil:
    """Other fields in a Diameter header."""

    def spoil(story: Story) -> None:
        for name, value in values.items():
            setattr(story[step].message, name, value)

    return spoil


def also(step: str, name: str, value: object) -> Spoil:
    """One more AVP."""
    return lambda story: story[step].message.add(name, value)


def flags(step: str, code: int, **changes: int) -> Spoil:
    """Other flags, or another vendor, of an AVP."""

    def spoil(story: Story) -> None:
        avps = story[step].message.avps
        place = next(i for i, each in enumerate(avps) if each.code == code)
        avps[place] = avps[place]._replace(**changes)

    return spoil


def group(vendor: int, application: int) -> list[Avp]:
    """A Vendor-Specific-Application-Id."""
    return [make("Vendor-Id", vendor), make("Auth-Application-Id", application)]


def farewell(story: Story) -> None:
    """The S-CSCF leaves, and asks something more on the same connection."""
    story.until("heard/p")
    dpr = DiameterMessage(282, hop_by_hop=70, end_to_end=70, avps=capabilities(True)[:2])
    story.cx("dpr", 25.0, S_CX, HSS, dpr)
    story.cx("dpa", 25.01, HSS, S_CX, answer(dpr, result_code=2001))


def speaks_on(story: Story) -> None:
    """The same, and asks something more on the same connection."""
    farewell(story)
    dwr = DiameterMessage(280, hop_by_hop=71, end_to_end=71, avps=capabilities(True)[:2])
    story.cx("dwr", 30.0, S_CX, HSS, dwr)
    story.cx("dwa", 30.01, HSS, S_CX, answer(dwr, result_code=2001))


def comes_back(story: Story) -> None:
    """The same, but after a new introduction."""
    speaks_on(story)
    cer = DiameterMessage(257, hop_by_hop=72, end_to_end=72, avps=capabilities(True))
    story.cx("cer-2", 29.0, S_CX, HSS, cer)
    reply = answer(cer)
    reply.avps += capabilities(False)
    story.cx("cea-2", 29.01, HSS, S_CX, reply)


def early(answered: bool) -> Spoil:
    """The S-CSCF asks before it has introduced itself."""

    def spoil(story: Story) -> None:
        story.until("maa1")
        story["cer-s"].time, story["cea-s"].time = 0.07, 0.071
        if not answered:
            story["maa1"].time = 0.075

    return spoil


def strangers(story: Story) -> None:
    """The S-CSCF speaks another application."""
    story.until("cea-s")
    story["cer-s"].message.avps = capabilities(True, apps=(16777251,))
    answered = answer(story["cer-s"].message)
    answered.avps += capabilities(False)
    story["cea-s"].message = answered


def watchdogs(count: int, *, answered: tuple[int, ...] = ()) -> Spoil:
    """So many watchdogs of the S-CSCF, 30 s apart; those that are answered."""

    def spoil(story: Story) -> None:
        story.until("heard/p")
        for number in range(count):
            dwr = DiameterMessage(280, hop_by_hop=80 + number, end_to_end=80 + number, avps=capabilities(True)[:2])
            story.cx(f"dwr{number}", 30.0 * (number + 1), S_CX, HSS, dwr)
            if number in answered:
                story.cx(f"dwa{number}", 30.0 * (number + 1) + 0.01, HSS, S_CX, answer(dwr, result_code=2001))

    return spoil


def asked_again(story: Story) -> None:
    """A termination that the S-CSCF does not answer is asked again."""
    story.until("heard/p")
    request = RegistrationTerminationRequest(
        **asking("hss", 90),
        destination_host=f"scscf.{DOMAIN}",
        user_name=IMPI,
        public_identities=[TEMPORARY],
        reason=DeregistrationReason(ReasonCode.PERMANENT_TERMINATION),
    )
    story.cx("rtr", 100.0, HSS, S_CX, request.to_message(90, 90))
    again = request.to_message(91, 90)
    again.retransmitted = True
    story.cx("rtr-2", 105.0, HSS, S_CX, again)


def unanswered(*spoils: Spoil) -> Spoil:
    """The MAR gets no answer; the HSS speaks 30 s later."""

    def spoil(story: Story) -> None:
        story.only(lambda step: step.time <= 0.05 or step.name in ("dwr", "dwa"))

    return every(spoil, *spoils)


def broken(src: Endpoint) -> Spoil:
    """Octets that are no Diameter."""

    def spoil(story: Story) -> None:
        story.extra.append(
            MalformedRecord(
                time=4000.0,
                frames=(900,),
                src=src,
                dst=S_CX,
                protocol="Diameter",
                error=PeerError("AVP 601: length 3 is less than its header"),
            )
        )

    return spoil


CASES = [
    Case("HSS-30", until("maa1", sets("maa1", application=16777217)), "maa1", "MAA with application 16777217", H),
    Case("HSS-30", until("mar1", avp("mar1", "Auth-Session-State", 0)), "mar1", "MAR with Auth-Session-State 0", SC),
    Case("HSS-30", until("uaa1", avp("uaa1", "Auth-Session-State", None)), "uaa1", "UAA without Auth-Session", H),
    Case(
        "HSS-30",
        until("saa1", avp("saa1", "Vendor-Specific-Application-Id", None)),
        "saa1",
        "SAA without Vendor-Specific",
        H,
    ),
    Case(
        "HSS-30",
        until("uar1", avp("uar1", "Vendor-Specific-Application-Id", group(13019, 16777216))),
        "uar1",
        "13019, 16777216: expected 10415",
        IC,
    ),
    Case("HSS-30", until("maa1", avp("maa1", "Result-Code", None)), "maa1", "without Result-Code or Exp", H),
    Case(
        "HSS-30",
        until("uaa1", also("uaa1", "Result-Code", 2001)),
        "uaa1",
        "with both Result-Code and",
        H,
        also=frozenset({"HSS-01"}),
    ),
    Case(
        "HSS-30",
        until(
            "uaa1",
            avp("uaa1", "Experimental-Result", [make("Vendor-Id", 9), make("Experimental-Result-Code", 2001)]),
        ),
        "uaa1",
        "Experimental-Result of vendor 9",
        H,
    ),
    Case("DIA-01", until("maa1", avp("maa1", "Session-Id", "x;1;2")), "maa1", "with Session-Id x;1;2", H, ("mar1",)),
    Case("DIA-01", until("maa1", avp("maa1", "Session-Id", None)), "maa1", "with no Session-Id", H, ("mar1",)),
    Case("DIA-01", until("maa1", sets("maa1", end_to_end=7)), "maa1", "End-to-End Identifier 0x00000007", H, ("mar1",)),
    Case(
        "DIA-02",
        until("uar1", flags("uar1", 601, flags=0x80)),
        "uar1",
        "UAR: Public-Identity without the M bit",
        IC,
        level=Level.WARNING,
    ),
    Case(
        "DIA-02",
        until("maa1", flags("maa1", 607, vendor=0, flags=0x40)),
        "maa1",
        "SIP-Number-Auth-Items without vendor 10415",
        H,
        level=Level.WARNING,
        also=frozenset({"HSS-10"}),
    ),
    Case("DIA-03", until("mar1", sets("mar1", error=True)), "mar1", "MAR with the E bit", SC, level=Level.WARNING),
    Case("DIA-03", until("maa1", sets("maa1", error=True)), "maa1", "MAA 2001 with the E bit", H, level=Level.WARNING),
    Case(
        "DIA-03",
        until("maa1", avp("maa1", "Result-Code", 3004)),
        "maa1",
        "MAA 3004 without the E bit",
        H,
        level=Level.WARNING,
    ),
    Case("DIA-04", watchdogs(2), "dwr0", "nor anything else for 30 s", H, ("dwr1",), Level.WARNING),
    Case("DIA-04", asked_again, "rtr", "asked again 5 s later", SC, ("rtr-2",), Level.WARNING),
    Case(
        "DIA-04",
        unanswered(avp("mar1", "Server-Name", None)),
        "mar1",
        "30 s later; Server-Name is missing",
        H,
        level=Level.WARNING,
        also=frozenset({"HSS-33"}),
    ),
    Case("DIA-05", early(False), "mar1", "MAR before the CER", SC, ("cer-s",)),
    Case("DIA-06", strangers, "cea-s", "applications 16777216 to a CER with 16777251", NOBODY, ("cer-s",)),
    Case("DIA-07", speaks_on, "dwr", "DWR 4.990 s after the DPA", SC, ("dpa",)),
    Case("DIA-08", broken(HSS), "extra", "Diameter: AVP 601: length 3", H, level=Level.WARNING),
    Case("DIA-08", broken(Endpoint("203.0.113.9", 1)), "extra", "AVP 601", NOBODY, level=Level.WARNING),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_wrong_is_found(case: Case) -> None:
    check(case)


def test_every_rule_has_its_case() -> None:
    assert rules_lacking(CASES, "diameter") == set()


def test_whoever_answers_before_the_introduction_is_wrong_too() -> None:
    story = sane()
    early(True)(story)
    found = [each for each in findings(story) if each.rule == "DIA-05"]
    assert [(each.role, story.name_of(each.records[0])) for each in found] == [(SC, "mar1"), (H, "maa1")]


def test_a_question_that_came_in_pieces_and_was_lost() -> None:
    story = sane()
    unanswered()(story)
    trace = story.trace()
    question = next(each for each in trace.diameter_records if each.message.name == "MAR")
    question.frames = (*question.frames, 901)
    (found,) = judge(trace, our_rules())
    assert (found.rule, found.role, found.level) == ("DIA-04", H, Level.WARNING)
    assert "it came in 2 segments" in found.text


BARE = avp("maa1", "Auth-Session-State", None)


@pytest.mark.parametrize(
    "spoil",
    [
        farewell,
        comes_back,
        watchdogs(3, answered=(0, 1, 2)),
        watchdogs(1),
        unanswered(),
        until("maa1", avp("maa1", "Result-Code", 3004), sets("maa1", error=True), BARE),
        until("mar1", also("mar1", "Route-Record", "x")),
        until("mar1", lambda story: story["mar1"].message.avps.append(Avp(494, 50, 0x80, b"call"))),
    ],
)
def test_what_is_right_is_nobodys_fault(spoil: Spoil) -> None:
    sound(spoil)


def test_a_watchdog_that_was_lost_in_the_capture_is_none() -> None:
    """The peer has spoken in between: it lives."""

    def spoil(story: Story) -> None:
        watchdogs(2)(story)
        story.again("word", "cea-s", 45.0)

    sound(spoil)


def test_a_capture_of_one_direction_says_nothing() -> None:
    def spoil(story: Story) -> None:
        watchdogs(3)(story)
        story.only(lambda step: step.src != HSS)

    sound(spoil)


def test_other_applications_are_left_alone() -> None:
    def spoil(story: Story) -> None:
        story.until("maa1")
        for step in ("mar1", "maa1"):
            story[step].message.command, story[step].message.application = 265, 16777236  # AA of Rx
        sets("maa1", end_to_end=9, error=True)(story)

    sound(spoil)


def test_a_relay_speaks_everything() -> None:
    def spoil(story: Story) -> None:
        strangers(story)
        story["cer-s"].message.avps = capabilities(True, apps=(0xFFFFFFFF,))

    sound(spoil)
