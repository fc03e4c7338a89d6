"""The S-CSCF as notifier of registration state: each rule broken by one knob."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from imslab.diameter.codes import ReasonCode
from imslab.diameter.cx import DeregistrationReason, RegistrationTerminationAnswer, RegistrationTerminationRequest
from imslab.rules.clauses import Level
from imslab.sip.message import response_to
from imslab.sip.reginfo import RegContact, RegInfo, parse_reginfo, write_reginfo
from imslab.trace.model import Role
from tests.rules.build_core import (
    ALICE,
    BOB,
    CONTACT,
    DOMAIN,
    FIRST,
    HSS,
    IMPI,
    NUMBER,
    S_CX,
    SCSCF,
    Case,
    P,
    S,
    Spoil,
    Story,
    asking,
    back,
    by_pcscf,
    check,
    document,
    every,
    header,
    notify,
    request,
    rules_lacking,
    sound,
    until,
)

SC = Role.SCSCF


def both(name: str, spoil: Callable[[str], Spoil]) -> Spoil:
    """The NOTIFY as it left the S-CSCF, and as it came to Alice."""
    return every(until(name), spoil(f"{name}/s"), spoil(name))


def told(name: str, header_name: str, value: str | None) -> Spoil:
    """Another header in a NOTIFY, which the story ends with."""
    return both(name, lambda step: header(step, header_name, value))


def body(name: str, octets: bytes | Callable[[RegInfo], object]) -> Spoil:
    """Another document in a NOTIFY, which the story ends with; or the same, changed."""

    def spoil(story: Story) -> None:
        story.until(name)
        new = octets
        if callable(new):
            info = parse_reginfo(story[name].message.body)
            new(info)
            new = write_reginfo(info)
        for step in (f"{name}/s", name):
            story[step].message.body = new

    return spoil


def uri(step: str, text: str) -> Spoil:
    """Another Request-URI."""
    return lambda story: setattr(story[step].message, "uri", text)


def one_identity(info: RegInfo) -> None:
    """The document tells of one identity only."""
    del info.registrations[1]


def other_contact(info: RegInfo) -> None:
    """Another contact."""
    info.registrations[0].contacts[0].uri = "sip:alice@192.0.2.99"


def no_more(info: RegInfo) -> None:
    """An identity is said to be gone."""
    info.registrations[1].state = "terminated"
    info.registrations[1].contacts[0].state = "terminated"


def all_registered(info: RegInfo) -> None:
    """All are said to be registered by themselves."""
    for each in info.registrations:
        each.contacts[0].event = "registered"


def still_there(info: RegInfo) -> None:
    """One identity of the set is still there."""
    info.registrations[0].state = "active"
    info.registrations[0].contacts[0].state = "active"


def ended(reason: ReasonCode, event: str, *identities: str) -> Spoil:
    """The HSS ends the registration, and the S-CSCF tells of it."""

    def spoil(story: Story) -> None:
        story.until("heard/p")
        asked = RegistrationTerminationRequest(
            **asking("hss", 90),
            destination_host=f"scscf.{DOMAIN}",
            user_name=IMPI,
            public_identities=list(identities),
            reason=DeregistrationReason(reason),
        )
        message = asked.to_message(90, 90)
        story.cx("rtr", 50.0, HSS, S_CX, message)
        reply = RegistrationTerminationAnswer(result_code=2001, origin_host=f"scscf.{DOMAIN}", origin_realm=DOMAIN)
        story.cx("rta", 50.01, S_CX, HSS, reply.to_message(message))
        last = document(1, "terminated", event, 0)
        sent = notify(2, story["subscribe/p"].message, last, "terminated;reason=noresource")
        story.sip("ended/s", 50.02, (None, S, P), sent)

    return spoil


def subscribes(story: Story, name: str, target: str, *, expires: int = 600, event: str = "reg") -> None:
    """One more subscription of Alice's."""
    time = 5.0
    asked = request("SUBSCRIBE", name, target=target)
    asked.add("Event", event)
    asked.add("Expires", str(expires))
    story.sip(name, time, FIRST.flows[0], asked)
    story.sip(f"{name}/p", time + 0.01, (None, P, S), by_pcscf(asked))


ONCE = (("Expires", "0"), ("Contact", f"<{SCSCF}>"))


def grants(story: Story, name: str, status: int = 200, headers: tuple[tuple[str, str], ...] = ONCE) -> None:
    """Its answer."""
    time = 5.02
    reply = response_to(story[f"{name}/p"].message, status, to_tag="s2", headers=headers)
    story.sip(f"{name}-granted/s", time, (None, S, P), reply)
    story.sip(f"{name}-granted", time + 0.01, FIRST.flows[2], back(reply))


def stranger(story: Story) -> None:
    """Bob registers too; Alice subscribes to his state, and is let."""
    story.until("heard/p")
    for name in ("register/p", "register/i", "answer/p", "answer/i", "welcome/s", "welcome/i"):
        step = story.again(f"bob-{name}", name, story[name].time + 2.0)
        for row in dict.fromkeys(row for row, _ in step.message.headers):
            rows = [each.replace("0000001@", "0000002@").replace("call-1", "call-b") for each in step.message.rows(row)]
            rows = [each.replace("alice", "bob").replace("+1555", "+1666") for each in rows]
            step.message.replace(row, [each.replace(story.vectors[0].nonce, "9" * 43) for each in rows])
    subscribes(story, "peek", BOB, expires=0)
    grants(story, "peek")
    last = notify(1, story["peek/p"].message, document(0), "terminated;reason=timeout")
    last.set("From", f"<{BOB}>;tag=s2")
    last.body = write_reginfo(RegInfo(0, "full", []))
    story.sip("peeked/s", 5.04, (None, S, P), last)


def fetched(state: str) -> Spoil:
    """Alice fetches the state once."""

    def spoil(story: Story) -> None:
        story.until("heard/p")
        subscribes(story, "fetch", ALICE, expires=0)
        grants(story, "fetch")
        sent = notify(1, story["fetch/p"].message, document(0), state)
        sent.set("From", f"<{ALICE}>;tag=s2")
        story.sip("fetched/s", 5.04, (None, S, P), sent)

    return spoil


def unknown_event(*headers: tuple[str, str]) -> Spoil:
    """Alice subscribes to what there is not."""

    def spoil(story: Story) -> None:
        story.until("heard/p")
        subscribes(story, "foo", ALICE, event="foo")
        grants(story, "foo", 489, headers=headers)

    return spoil


def silent(story: Story) -> None:
    """No NOTIFY follows, and the S-CSCF speaks on."""
    story.until("dwa").drop("notify/s", "notify", "notify-ok", "notify-ok/p").later("dwr", 10.0)


CASES = [
    Case(
        "EVT-11",
        told("notify", "From", f"<{ALICE}>;tag=sub"),
        "notify/s",
        "tag sub in From: expected s1",
        SC,
        ("subscribed/s",),
    ),
    Case(
        "EVT-11",
        every(told("notify", "From", f"<{ALICE}>;tag=sub"), told("notify", "To", f"<{ALICE}>;tag=s1")),
        "notify/s",
        "are not turned round",
        SC,
    ),
    Case(
        "EVT-11",
        told("notify", "To", f"<{ALICE}>;tag=x"),
        "notify/s",
        "tag x in To: expected sub",
        SC,
        ("subscribe/p",),
    ),
    Case("EVT-11", told("notify", "From", f"<{SCSCF}>;tag=s1"), "notify/s", f"From is {SCSCF}", SC, ("subscribe/p",)),
    Case("EVT-11", told("notify", "To", f"<{CONTACT}>;tag=sub"), "notify/s", f"To is {CONTACT}", SC, ("subscribe/p",)),
    Case(
        "EVT-11",
        both("notify", lambda step: uri(step, ALICE)),
        "notify/s",
        f"expected the subscriber's Contact {CONTACT}",
        SC,
        ("subscribe/p",),
    ),
    Case("EVT-11", until("notify/s", header("notify/s", "Route", None)), "notify/s", "no Route", SC, ("subscribe/p",)),
    Case(
        "EVT-11",
        until("notify/s", header("notify/s", "Route", "<sip:x.example;lr>")),
        "notify/s",
        "Route is sip:x.example;lr",
        SC,
        ("subscribe/p",),
    ),
    Case("EVT-11", told("renotify", "CSeq", "1 NOTIFY"), "renotify/s", "CSeq 1 after 1", SC, ("notify/s",)),
    Case("EVT-10", told("notify", "Subscription-State", None), "notify/s", "without Subscription-State", SC),
    Case("EVT-10", body("notify", lambda info: setattr(info, "state", "partial")), "notify/s", 'state="partial"', SC),
    Case(
        "EVT-10",
        every(*[header(step, "Expires", None) for step in ("subscribed/s", "subscribed")]),
        "subscribed/s",
        "without Expires",
        SC,
    ),
    Case(
        "EVT-10",
        every(*[header(step, "Expires", "700000") for step in ("subscribed/s", "subscribed")]),
        "subscribed/s",
        "700000 s granted",
        SC,
        ("subscribe/p",),
    ),
    Case("EVT-10", silent, "subscribed/s", "no NOTIFY follows", SC, ("subscribe/p",), Level.WARNING),
    Case("EVT-12", told("notify", "Content-Type", "text/plain"), "notify/s", "Content-Type is text/plain", SC),
    Case("EVT-12", told("notify", "Content-Type", None), "notify/s", "Content-Type is missing", SC),
    Case("EVT-12", body("notify", b"<reginfo"), "notify/s", "no XML", SC),
    Case("EVT-12", body("notify", lambda info: setattr(info, "version", 2)), "notify/s", "has version 2", SC),
    Case(
        "EVT-12",
        body("renotify", lambda info: setattr(info, "version", 0)),
        "renotify/s",
        "version 0 after 0: expected 1",
        SC,
        ("notify/s",),
    ),
    Case(
        "EVT-12",
        every(told("renotify", "CSeq", "7 NOTIFY"), body("renotify", lambda info: setattr(info, "version", 0))),
        "renotify/s",
        "version 0 after 0: expected a higher one",
        SC,
        ("notify/s",),
    ),
    Case(
        "EVT-12",
        body("renotify", lambda info: setattr(info.registrations[0], "id", "new")),
        "renotify/s",
        "has id new",
        SC,
        ("notify/s",),
    ),
    Case("EVT-13", body("notify", one_identity), "notify/s", f"lacks {NUMBER}", SC, ("welcome/s",)),
    Case("EVT-13", body("notify", no_more), "notify/s", f"{NUMBER} is terminated", SC, ("welcome/s",)),
    Case(
        "EVT-13",
        body("notify", other_contact),
        "notify/s",
        f"{ALICE} is listed without its contact",
        SC,
        ("welcome/s",),
    ),
    Case("EVT-14", body("notify", all_registered), "notify/s", f"{ALICE}, {NUMBER}", SC, level=Level.NOTE),
    Case("EVT-17", stranger, "peek-granted/s", f"of {ALICE} to {BOB}", SC, ("peek/p", "bob-welcome/s")),
    Case("EVT-18", unknown_event(), "foo-granted/s", "489 without Allow-Events", SC),
    Case("EVT-19", fetched("active;expires=0"), "fetched/s", "Subscription-State active", SC, ("fetch/p",)),
    Case("DER-14", told("last-notify", "Subscription-State", "active;expires=60"), "last-notify/s", "is active", SC),
    Case("DER-06", body("last-notify", still_there), "last-notify/s", f"{ALICE} still active", SC, ("farewell/s",)),
    Case(
        "DER-10",
        ended(ReasonCode.PERMANENT_TERMINATION, "deactivated"),
        "ended/s",
        "expected rejected",
        SC,
        ("rtr",),
    ),
    Case(
        "DER-11",
        ended(ReasonCode.SERVER_CHANGE, "rejected", ALICE),
        "ended/s",
        "expected deactivated",
        SC,
        ("rtr",),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_wrong_is_found(case: Case) -> None:
    check(case)


def test_every_rule_has_its_case() -> None:
    assert rules_lacking(CASES, "regevent") == set()


@pytest.mark.parametrize(
    "spoil",
    [
        fetched("terminated;reason=timeout"),
        unknown_event(("Allow-Events", "reg")),
        ended(ReasonCode.PERMANENT_TERMINATION, "rejected"),
        ended(ReasonCode.SERVER_CHANGE, "deactivated", ALICE),
        every(told("renotify", "CSeq", "7 NOTIFY"), body("renotify", lambda info: setattr(info, "version", 5))),
    ],
)
def test_what_is_right_is_nobodys_fault(spoil: Spoil) -> None:
    sound(spoil)


def test_a_document_that_somebody_else_subscribed_to_is_compared_with_the_one_before_only() -> None:
    """Without the SUBSCRIBE nothing is known of the dialog."""
    sound(lambda story: story.drop("subscribe", "subscribe/p", "subscribed/s", "subscribed"))


def test_a_late_first_notify_may_be_the_second() -> None:
    """What comes long after the SUBSCRIBE may have been preceded by what the capture has lost."""

    def spoil(story: Story) -> None:
        body("notify", lambda info: setattr(info, "version", 3))(story)
        story.later("notify/s", 2.0)

    sound(spoil)


def test_documents_may_overtake_one_another() -> None:
    def spoil(story: Story) -> None:
        story.until("notify")
        other = story.again("early", "notify/s", story["notify/s"].time + 0.05)
        other.message.set("CSeq", "0 NOTIFY")
        other.edit("Via", "notify-sub-1", "notify-sub-0")

    sound(spoil)


def test_a_contact_of_another_phone_stands_beside() -> None:
    def more(info: RegInfo) -> None:
        for each in info.registrations:
            each.contacts.append(RegContact("sip:alice@192.0.2.11", f"{each.id}x", "active", "created", expires=60))

    sound(body("notify", more))
