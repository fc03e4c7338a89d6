"""The S-CSCF as registrar: each rule broken by one knob."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from imslab.diameter.codes import ReasonCode, ServerAssignmentType, UserAuthorizationType
from imslab.diameter.cx import (
    DeregistrationReason,
    MultimediaAuthAnswer,
    RegistrationTerminationAnswer,
    RegistrationTerminationRequest,
    ServerAssignmentAnswer,
    UserAuthorizationAnswer,
)
from imslab.diameter.userdata import IdentityType, PublicIdentity
from imslab.rules.clauses import Level
from imslab.sip.message import response_to
from imslab.trace.model import Role
from tests.rules.build_core import (
    ALICE,
    CONTACT,
    DOMAIN,
    DOWN,
    FIRST,
    HSS,
    IC,
    IMPI,
    NUMBER,
    S_CX,
    SECOND,
    TEMPORARY,
    THIRD,
    UP,
    Case,
    P,
    S,
    Spoil,
    Story,
    asking,
    avp,
    back,
    check,
    credentials,
    empty,
    every,
    goes,
    header,
    mar,
    register,
    rules_lacking,
    saa,
    sar,
    sent_down,
    sound,
    uar,
    until,
    user_data,
    welcome,
)

SC, ICSCF, H = Role.SCSCF, Role.ICSCF, Role.HSS


def said(*headers: tuple[str, str | None], name: str = "welcome") -> Spoil:
    """Other headers in a 200, which the story ends with."""
    return every(until(name), *[sent_down(name, header_name, value) for header_name, value in headers])


def profile(*identities: PublicIdentity) -> Spoil:
    """Another profile."""
    return every(until("welcome"), avp("saa1", "User-Data", user_data(*identities)))


def refused(status: int, headers: Iterable[tuple[str, str]] = (), *, expires: int = 600000, require: str = "") -> Spoil:
    """The S-CSCF refuses the answer."""

    def spoil(story: Story) -> None:
        story.until("answer/i")
        for step in ("answer", "answer/p", "answer/i"):
            story[step].message.set("Expires", str(expires))
            if require:
                story[step].message.add("Require", require)
        response = response_to(story["answer/i"].message, status, to_tag="s", headers=headers)
        story.sip("refusal/s", 0.28, (None, S, IC), response)
        story.sip("refusal/i", 0.29, (None, IC, P), back(response))

    return spoil


def hss_says(status: int, result: int | None = None, experimental: int | None = None, *, at: str = "mar") -> Spoil:
    """What the HSS refuses, and what the UE is told."""

    def spoil(story: Story) -> None:
        story.until("register/i")
        last = story["register/i"].message
        if at == "uar":
            story.drop("uar1", "uaa1", "register/i")
            answer = UserAuthorizationAnswer(result_code=result, experimental=experimental)
            story.ask("ua1", 0.02, story.steps["cer-i"].src, uar(1), answer)
            story.sip("refusal", 0.05, (None, IC, P), response_to(story["register/p"].message, status, to_tag="i"))
            return
        if at == "mar":
            story.ask("ma1", 0.05, S_CX, mar(1), MultimediaAuthAnswer(result_code=result, experimental=experimental))
        else:
            kind = ServerAssignmentType.REGISTRATION
            answered = ServerAssignmentAnswer(
                result_code=result, experimental=experimental, server_name="sip:x.example"
            )
            story.ask("sa1", 0.05, S_CX, sar(1, kind), answered)
        response = response_to(last, status, to_tag="s")
        story.sip("refusal", 0.08, (None, S, IC), response)
        story.sip("refusal/i", 0.09, (None, IC, P), back(response))

    return spoil


def told(kind: ServerAssignmentType, step: str) -> Spoil:
    """Another type in an SAR."""
    return avp(step, "Server-Assignment-Type", int(kind))


def silent_end(story: Story) -> None:
    """The last SAR is missing, and the trace goes on."""
    story.drop("sar4", "saa4")
    story.later("last-notify/s", 10.0)


def wrong_answer(story: Story) -> None:
    """Alice's answer is wrong, and refused."""
    story.until("answer/i")
    for step in ("answer", "answer/p", "answer/i"):
        flag = "" if step == "answer" else ',integrity-protected="yes"'
        story[step].message.set("Authorization", credentials(story.vectors[0], res=b"wrong678", more=flag))
    response = response_to(story["answer/i"].message, 403, to_tag="s")
    story.sip("refusal/s", 0.28, (None, S, IC), response)
    story.sip("refusal/i", 0.29, (None, IC, P), back(response))


def untold_failure(story: Story) -> None:
    """Nobody tells the HSS."""
    wrong_answer(story)
    beat(story, 10.0)


def beat(story: Story, time: float) -> None:
    """A sign of life of the S-CSCF on Cx."""
    story.again("beat", "cer-s", time)
    story.again("beat-back", "cea-s", time + 0.01)


def told_failure(story: Story) -> None:
    """The HSS is told."""
    wrong_answer(story)
    story.ask("sa1", 0.3, S_CX, sar(1, ServerAssignmentType.AUTHENTICATION_FAILURE), saa())
    beat(story, 10.0)


def failure_ends_all(story: Story) -> None:
    """A wrong answer at the re-registration ends the registration."""
    story.until("reanswer/i")
    for step in ("reanswer", "reanswer/p", "reanswer/i"):
        flag = "" if step == "reanswer" else ',integrity-protected="yes"'
        story[step].message.set("Authorization", credentials(story.vectors[1], res=b"wrong678", more=flag))
    response = response_to(story["reanswer/i"].message, 403, to_tag="s")
    story.sip("refusal/s", 1800.28, (None, S, IC), response)
    story.sip("refusal/i", 1800.29, (None, IC, P), back(response))
    story.ask("sa2", 1800.3, S_CX, sar(2, ServerAssignmentType.ADMINISTRATIVE_DEREGISTRATION, 1), saa())


def expired(after: float) -> Spoil:
    """The registration is said to have run out so long after the first 200."""

    def spoil(story: Story) -> None:
        story.until("heard/p")
        story.ask("sa2", 0.28 + after, S_CX, sar(2, ServerAssignmentType.TIMEOUT_DEREGISTRATION, 1), saa())

    return spoil


def shortened(story: Story) -> None:
    """The registration was shortened by a NOTIFY before."""
    expired(600.0)(story)
    story["notify/s"].message.body = story["notify/s"].message.body.replace(b"created", b"shortened")
    story["notify"].message.body = story["notify/s"].message.body


def lower_cseq(story: Story) -> None:
    """An older REGISTER comes after all, and is accepted."""
    story.until("heard/p")
    sent = register(1, THIRD, credentials(story.vectors[0]), verify=FIRST)
    sent.set("Via", "SIP/2.0/UDP 192.0.2.10:30000;branch=z9hG4bK-stray;rport")
    went = goes(story, ("stray", "accepted"), 100.0, sent, "yes", (FIRST.flows[0], FIRST.flows[2]), 7)
    story.ask("sa7", 100.05, S_CX, sar(7, ServerAssignmentType.RE_REGISTRATION, 1), saa())
    went.answer(200, welcome())


def rtr(time: float, reason: ReasonCode = ReasonCode.PERMANENT_TERMINATION, *identities: str) -> Spoil:
    """The HSS ends the registration."""

    def spoil(story: Story) -> None:
        request = RegistrationTerminationRequest(
            **asking("hss", 90),
            destination_host=f"scscf.{DOMAIN}",
            user_name=IMPI,
            public_identities=list(identities),
            reason=DeregistrationReason(reason),
        )
        message = request.to_message(90, 90)
        story.cx("rtr", time, HSS, S_CX, message)
        reply = RegistrationTerminationAnswer(result_code=2001, origin_host=f"scscf.{DOMAIN}", origin_realm=DOMAIN)
        story.cx("rta", time + 0.01, S_CX, HSS, reply.to_message(message))

    return spoil


def off_the_path(story: Story) -> None:
    """A request to Alice does not follow her Path."""
    story.until("incoming/s")
    story["incoming/s"].message.replace("Route", ["<sip:elsewhere.example;lr>"])


def missing_number(story: Story) -> None:
    """One identity of the set is missing in the 200, and the reg-event document is as told."""
    story.until("welcome")
    sent_down("welcome", "P-Associated-URI", f"<{ALICE}>")(story)


CASES = [
    Case(
        "RER-08",
        told(ServerAssignmentType.REGISTRATION, "sar3"),
        "sar3",
        "expected RE_REGISTRATION",
        SC,
        ("sar2",),
    ),
    Case(
        "DER-04",
        told(ServerAssignmentType.RE_REGISTRATION, "sar4"),
        "sar4",
        "SAR with RE_REGISTRATION",
        SC,
        ("goodbye/i",),
    ),
    Case("DER-04", silent_end, "farewell/s", "no SAR follows", SC, ("goodbye/i",), Level.WARNING),
    Case("AKS-15", untold_failure, "refusal/s", "no SAR follows", SC, ("answer/i",), Level.WARNING),
    Case("AKS-16", failure_ends_all, "sar2", "ADMINISTRATIVE_DEREGISTRATION", SC, ("refusal/s",)),
    Case("DER-09", expired(600.0), "sar2", "3000 s before", SC, ("welcome/s",), Level.WARNING),
    Case("OKR-01", said(("Contact", None)), "welcome/s", "200 has no Contact", SC, ("answer/i",)),
    Case(
        "OKR-01",
        said(("Contact", "<sip:alice@192.0.2.99>;expires=60")),
        "welcome/s",
        "200 lists sip:alice@192.0.2.99",
        SC,
        ("answer/i",),
    ),
    Case("OKR-01", said(("Contact", f"<{CONTACT}>")), "welcome/s", "does not say for how long", SC),
    Case(
        "ERR-05",
        said(("Contact", f"<{CONTACT}>;expires=700000")),
        "welcome/s",
        "700000 s granted: 600000 s",
        SC,
        ("answer/i",),
        Level.WARNING,
    ),
    Case("OKR-02", said(("Path", None)), "welcome/s", "200 has no Path", SC, ("answer/i",)),
    Case("OKR-02", said(("Path", "<sip:x;lr>")), "welcome/s", "200 has Path sip:x;lr", SC, ("answer/i",)),
    Case("OKR-03", said(("Service-Route", None)), "welcome/s", "no Service-Route", SC),
    Case("OKR-03", said(("Service-Route", "<sip:orig@s.example>")), "welcome/s", "has no lr", SC),
    Case(
        "OKR-04",
        said(("P-Associated-URI", f"<{ALICE}>, <{NUMBER}>, <{TEMPORARY}>")),
        "welcome/s",
        "which is barred",
        SC,
        ("saa1",),
    ),
    Case(
        "OKR-04",
        every(
            profile(
                PublicIdentity(TEMPORARY, barred=True),
                PublicIdentity(ALICE),
                PublicIdentity(NUMBER, type=IdentityType.WILDCARDED_PSI, wildcarded_psi="tel:!x!"),
            )
        ),
        "welcome/s",
        "which is a wildcard",
        SC,
        ("saa1",),
    ),
    Case("OKR-04", missing_number, "welcome/s", f"lacks {NUMBER}", SC, ("saa1",)),
    Case(
        "OKR-04",
        said(("P-Associated-URI", f"<{NUMBER}>, <{ALICE}>")),
        "welcome/s",
        f"begins with {NUMBER}",
        SC,
        ("saa1",),
    ),
    Case(
        "OKR-05",
        said(("P-Associated-URI", f"{ALICE}, <{NUMBER}>")),
        "welcome/s",
        "without angle brackets",
        SC,
        level=Level.WARNING,
    ),
    Case(
        "OKR-05",
        said(("P-Associated-URI", f"<{ALICE}>, <{NUMBER}>, <tel:5551234>")),
        "welcome/s",
        "tel:5551234 is a local number",
        SC,
        level=Level.WARNING,
    ),
    Case(
        "OKR-05",
        every(
            profile(PublicIdentity(TEMPORARY, barred=True), PublicIdentity(ALICE), PublicIdentity("tel:5551234")),
            sent_down("welcome", "P-Associated-URI", f"<{ALICE}>, <tel:5551234>"),
        ),
        "saa1",
        "so it stands in the user data",
        H,
        ("welcome/s",),
        Level.WARNING,
    ),
    Case("OKR-07", off_the_path, "incoming/s", "sip:elsewhere.example;lr", SC, ("answer/i",)),
    Case(
        "OKR-07",
        until("incoming/s", header("incoming/s", "Route", None)),
        "incoming/s",
        "without Route",
        SC,
        ("answer/i",),
    ),
    Case("ERR-04", refused(423, expires=30), "refusal/s", "423 without Min-Expires", SC),
    Case("ERR-04", refused(423, [("Min-Expires", "7200")], expires=3600), "refusal/s", "423 to 3600 s", SC),
    Case(
        "ERR-04",
        refused(423, [("Min-Expires", "60")], expires=90),
        "refusal/s",
        "423 with Min-Expires 60: 90 s",
        SC,
        ("answer/i",),
    ),
    Case("ERR-06", refused(420), "refusal/s", "420 without Unsupported", SC),
    Case(
        "ERR-06",
        refused(420, [("Unsupported", "bar")], require="foo"),
        "refusal/s",
        "Unsupported: bar",
        SC,
        ("answer/i",),
    ),
    Case("ERR-16", hss_says(500, experimental=5001), "refusal", "expected 403 or 404", SC, ("maa1",)),
    Case("ERR-16", hss_says(500, experimental=5001, at="uar"), "refusal", "experimental 5001", ICSCF, ("uaa1",)),
    Case("ERR-17", hss_says(404, experimental=5002), "refusal", "said experimental 5002, expected 403", SC, ("maa1",)),
    Case("ERR-19", hss_says(403, 5012), "refusal", "said 5012, expected 5xx", SC, ("maa1",)),
    Case("ERR-19", hss_says(403, 3004), "refusal", "said 3004, expected 5xx", SC, ("maa1",)),
    Case("ERR-19", hss_says(403, 5012, at="uar"), "refusal", "said 5012, expected 5xx", ICSCF, ("uaa1",)),
    Case("RER-14", lower_cseq, "accepted/s", "200 to CSeq 1: the binding had 2", SC, ("stray/i", "answer/i")),
    Case(
        "DER-15",
        every(until("refreshed"), rtr(2900.0)),
        "refreshed/s",
        "from before the RTR",
        SC,
        ("refresh/i", "rtr"),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_wrong_is_found(case: Case) -> None:
    check(case)


def test_every_rule_has_its_case() -> None:
    assert rules_lacking(CASES, "registrar") == set()


@pytest.mark.parametrize(
    "spoil",
    [
        told_failure,
        expired(3600.0),
        shortened,
        refused(423, [("Min-Expires", "600")], expires=90),
        refused(420, [("Unsupported", "foo")], require="foo"),
        hss_says(403, experimental=5001),
        hss_says(404, experimental=5001, at="uar"),
        hss_says(403, experimental=5002),
        hss_says(504, 5012),
        hss_says(500, 3004, at="uar"),
        hss_says(403, experimental=5005, at="sar"),
        every(until("refreshed"), rtr(2900.0, ReasonCode.NEW_SERVER_ASSIGNED, TEMPORARY)),
        every(until("refreshed"), rtr(2900.0, ReasonCode.SERVER_CHANGE, "sip:other@home.example")),
        every(until("welcome"), lambda story: story.drop("saa1")),
        said(("Contact", f"<{CONTACT}>;expires=300, <sip:alice@192.0.2.11>;expires=100")),
        said(("Contact", f"<{CONTACT}>"), ("Expires", "300")),
        lambda story: story.drop("sar4", "saa4"),
    ],
)
def test_what_is_right_is_nobodys_fault(spoil: Spoil) -> None:
    sound(spoil)


def test_another_contact_keeps_the_user_registered() -> None:
    """Who leaves with one of two contacts is re-registered, or the HSS is told nothing."""

    def spoil(story: Story) -> None:
        two = f"<{CONTACT}>;expires=0, <sip:alice@192.0.2.11>;expires=600"
        story.until("farewell")
        sent_down("farewell", "Contact", two)(story)
        told(ServerAssignmentType.RE_REGISTRATION, "sar4")(story)

    sound(spoil)


def test_a_fetch_of_bindings_is_no_registration() -> None:
    def spoil(story: Story) -> None:
        story.until("refreshed").drop("sar3", "saa3")
        for step in ("refresh", "refresh/p", "refresh/i"):
            story[step].message.remove("Contact")
        for step in ("refreshed/s", "refreshed/i", "refreshed"):
            for name in ("Path", "Service-Route"):
                story[step].message.remove(name)

    sound(spoil)


def test_a_clear_reregistration_of_a_server_that_lost_its_state() -> None:
    """Who comes in clear is told as REGISTRATION by a server that has forgotten him; that is not judged."""

    def spoil(story: Story) -> None:
        story.until("incoming")
        sent = register(1, THIRD, empty(), call="call-2", port=5060)
        goes(story, ("restart", "again"), 100.0, sent, "no", (UP, DOWN), 7, SECOND)
        told(ServerAssignmentType.REGISTRATION, "sar1")(story)

    sound(spoil)


def test_the_uar_may_say_more() -> None:
    sound(
        until("challenge"),
        avp("uar1", "User-Authorization-Type", int(UserAuthorizationType.REGISTRATION_AND_CAPABILITIES)),
        avp("uaa1", "Experimental-Result", None),
        avp("uaa1", "Result-Code", 2001),
    )
