"""What the P-CSCF tells the home network, and what proxies do on the way: each rule broken by one knob."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imslab.core.flow import Endpoint
from imslab.diameter.codes import UserAuthorizationType
from imslab.diameter.cx import LocationInfoAnswer, LocationInfoRequest, PushProfileAnswer, PushProfileRequest
from imslab.rules.clauses import Level
from imslab.trace.model import Role
from tests.rules.build_core import (
    ALICE,
    BOB,
    DOMAIN,
    FIRST,
    HSS,
    I_CX,
    IC,
    IMPI,
    PATH,
    S_CX,
    SCSCF,
    SECOND,
    UP,
    Case,
    P,
    S,
    Story,
    asking,
    avp,
    by_pcscf,
    check,
    credentials,
    edit,
    edit_up,
    empty,
    every,
    findings,
    flagged,
    header,
    key_ring,
    register,
    request,
    rules_lacking,
    sane,
    sent_up,
    sound,
    until,
    upstream,
    user_data,
)

PC, ICSCF, SC = Role.PCSCF, Role.ICSCF, Role.SCSCF
FORGED = "<sip:evil@192.0.2.66;lr>"


def forged_path(story: Story) -> None:
    """Alice's own Path below the P-CSCF's."""
    story.until("register/i")
    story["register"].message.add("Path", FORGED)
    for step in ("register/p", "register/i"):
        story[step].message.replace("Path", [PATH, FORGED])


def only_forged_path(story: Story) -> None:
    """Alice's own Path, and none of the P-CSCF."""
    forged_path(story)
    for step in ("register/p", "register/i"):
        story[step].message.replace("Path", [FORGED])


def same_icid(story: Story) -> None:
    """A second registration, of another Call-ID, with the icid of the first."""
    story.until("welcome")
    sent = register(1, SECOND, empty(), call="call-2", port=5060)
    story.sip("other", 50.0, UP, sent)
    story.sip("other/p", 50.01, (None, P, IC), upstream(sent, "no"))
    vector = story["register/p"].message.get("P-Charging-Vector")
    story["other/p"].message.set("P-Charging-Vector", vector)


def own_network(story: Story) -> None:
    """In a later REGISTER Alice names a visited network, and the P-CSCF believes her."""
    story.until("reregister/i")
    header("reregister", "P-Visited-Network-ID", '"elsewhere.example"')(story)
    sent_up("reregister", "P-Visited-Network-ID", '"elsewhere.example"')(story)
    avp("uar3", "Visited-Network-Identifier", b"elsewhere.example")(story)


def answer_in_old_sas(story: Story) -> None:
    """The answer to the second challenge comes in the first set."""
    story.until("reanswer/i")
    step = story["reanswer"]
    step.spi, step.src, step.dst = FIRST.flows[0]


def report(story: Story) -> None:
    """Alice reports a wrong MAC, in the temporary set."""
    story.until("answer/i")
    said = empty(story.vectors[0].nonce)
    story["answer"].message.set("Authorization", said)
    for step in ("answer/p", "answer/i"):
        story[step].message.set("Authorization", f'{said},integrity-protected="no"')


def forged_flag(story: Story) -> None:
    """Alice writes integrity-protected herself, and it goes upstream beside the right one."""
    story.until("register/i")
    forged = f"{empty()},integrity-protected=YES"
    story["register"].message.set("Authorization", forged)
    for step in ("register/p", "register/i"):
        story[step].message.set("Authorization", f'{forged},integrity-protected="no"')


def believed_flag(story: Story) -> None:
    """The same, and the P-CSCF leaves it alone."""
    forged_flag(story)
    for step in ("register/p", "register/i"):
        story[step].message.set("Authorization", f"{empty()},integrity-protected=YES")


def leaked(story: Story) -> None:
    """Mw only: the P-CSCF says nothing of protection, but leaves the offer that shows that it runs IMS AKA."""
    story.only(lambda step: step.name in ("register/p", "register/i"))
    edit_up("register", "Authorization", ',integrity-protected="no"', "")(story)
    sent_up("register", "Security-Client", FIRST.client)(story)


def second_transaction(story: Story) -> None:
    """Alice sends her REGISTER again, and the P-CSCF makes a new one of it."""
    story.until("register/i")
    story.again("retransmission", "register", 0.5)
    step = story.again("again/p", "register/p", 0.51)
    step.edit("Via", "branch=z9hG4bK-call-1-1-1", "branch=z9hG4bK-another")


def second_entry(story: Story) -> None:
    """The same, but the second goes to another entry point, since the first is silent."""
    second_transaction(story)
    story["again/p"].dst = Endpoint("198.51.100.9", 5060)


def forged_access(story: Story) -> None:
    """Alice speaks for the network."""
    value = "3GPP-E-UTRAN-FDD;network-provided"
    story.until("answer/i")
    for step in ("answer", "answer/p", "answer/i"):
        story[step].message.set("P-Access-Network-Info", value)


def keyless(*edits: tuple[str, str]) -> object:
    """The challenge has lost keys on its way to the P-CSCF, who passes it on all the same."""
    return until(
        "challenge", *[edit(f"challenge/{who}", "WWW-Authenticate", old, new) for who in "si" for old, new in edits]
    )


def asserts(identity: str, *, claimed: bool = False) -> object:
    """The P-CSCF asserts an identity for Alice's message. claimed: as she did."""

    def spoil(story: Story) -> None:
        story.until("message/p")
        story["message/p"].message.set("P-Asserted-Identity", f"<{identity}>")
        if claimed:
            story["message"].message.set("P-Asserted-Identity", f"<{identity}>")

    return spoil


def via_kept(story: Story) -> None:
    """The I-CSCF leaves its own Via on the 200."""
    story.until("welcome")
    story["welcome/i"].message.replace("Via", story["welcome/s"].message.rows("Via"))
    story.drop("welcome")


def vias_lost(story: Story) -> None:
    """The P-CSCF passes the NOTIFY's answer on without any of the Vias below its own but one that is known."""
    story.until("welcome/i")
    story["welcome/i"].message.replace("Via", story["welcome/s"].message.rows("Via")[2:])


def refused(story: Story) -> None:
    """The HSS refuses, and the I-CSCF goes on."""
    story.until("register/i")
    story["uaa1"].put("Experimental-Result", None)
    story["uaa1"].put("Result-Code", 5003)


def never_asked(story: Story) -> None:
    """The I-CSCF asks about addressees, but never about a REGISTER."""
    story.until("answer/i").drop("uar1", "uaa1", "uar2", "uaa2")
    asked = LocationInfoRequest(**asking("icscf", 9), public_identity=ALICE)
    story.ask("li1", 0.15, I_CX, asked, LocationInfoAnswer(result_code=2001, server_name=SCSCF))


def goes_elsewhere(story: Story) -> None:
    """The REGISTER goes to another S-CSCF than the HSS named."""
    story.until("answer/i")
    story["answer/i"].message.uri = f"sip:other.{DOMAIN}:5060"


CASES = [
    Case("PCI-01", until("register/i", sent_up("register", "Path", None)), "register/p", "without a Path", PC),
    Case("PCI-01", only_forged_path, "register/p", "without a Path", PC, also=frozenset({"PCI-12"})),
    Case("PCI-01", until("register/i", sent_up("register", "Path", "<sip:p.example>")), "register/p", "has no lr", PC),
    Case("PCI-12", forged_path, "register/p", "192.0.2.66", PC, ("register",), Level.WARNING),
    Case("PCI-02", until("register/i", sent_up("register", "Require", None)), "register/p", "Require is missing", PC),
    Case("PCI-02", until("register/i", sent_up("register", "Require", "foo")), "register/p", "Require is foo", PC),
    Case(
        "PCI-03",
        until("register/i", sent_up("register", "P-Charging-Vector", None)),
        "register/p",
        "without P-Charging-Vector",
        PC,
    ),
    Case(
        "PCI-03",
        until(
            "register/i",
            header("register", "P-Charging-Vector", "icid-value=mine"),
            sent_up("register", "P-Charging-Vector", 'icid-value=mine;orig-ioi="Type 1x"'),
        ),
        "register/p",
        "icid-value mine is the UE's own",
        PC,
        ("register",),
    ),
    Case(
        "PCI-03",
        until(
            "register/i",
            header("register", "P-Charging-Function-Addresses", "ccf=192.0.2.66"),
            sent_up("register", "P-Charging-Function-Addresses", "ccf=192.0.2.66"),
        ),
        "register/p",
        "P-Charging-Function-Addresses ccf=192.0.2.66 is the UE's own",
        PC,
        ("register",),
    ),
    Case("PCI-03", same_icid, "other/p", "was used before", PC, ("register/p",)),
    Case(
        "PCI-03",
        until("register/i", sent_up("register", "P-Charging-Vector", "icid-value=a")),
        "register/p",
        "without orig-ioi",
        PC,
        level=Level.NOTE,
    ),
    Case(
        "PCI-03",
        until("register/i", sent_up("register", "P-Charging-Vector", "icid-value=a;orig-ioi=home.example")),
        "register/p",
        'orig-ioi "home.example"',
        PC,
        level=Level.NOTE,
    ),
    Case(
        "PCI-04",
        until("register/i", sent_up("register", "P-Visited-Network-ID", None)),
        "register/p",
        "without P-Visited-Network-ID",
        PC,
    ),
    Case("PCI-04", own_network, "reregister/p", '"elsewhere.example" is the UE\'s', PC, ("reregister",)),
    Case("PCI-05", until("register/i", flagged("register", "yes")), "register/p", "expected no", PC, ("register",)),
    Case(
        "PCI-05",
        until("register/i", edit_up("register", "Authorization", ',integrity-protected="no"', "")),
        "register/p",
        "without integrity-protected: expected no",
        PC,
        ("register",),
    ),
    Case(
        "PCI-05",
        until("register/i", edit_up("register", "Authorization", '"no"', '"no",Integrity-Protected=yes')),
        "register/p",
        "stands 2 times: no, yes",
        PC,
    ),
    Case("PCI-05", leaked, "register/p", "without integrity-protected", PC, also=frozenset({"PCI-07"})),
    Case("PCI-05", until("answer/i", flagged("answer", "no")), "answer/p", "expected yes", PC, ("answer",)),
    Case("RER-07", until("refresh/i", flagged("refresh", "no")), "refresh/p", "expected yes", PC, ("refresh",)),
    Case("ADD-04", answer_in_old_sas, "reanswer/p", "expected no", PC, ("reanswer",)),
    Case("ADD-05", every(report, flagged("answer", "yes")), "answer/p", "expected no", PC, ("answer",)),
    Case("PCI-06", forged_flag, "register/p", "upstream it is YES, no", PC, ("register",)),
    Case("PCI-06", believed_flag, "register/p", "expected no once", PC, ("register",)),
    Case(
        "PCI-07",
        until("register/i", sent_up("register", "Security-Client", FIRST.client)),
        "register/p",
        "Security-Client",
        PC,
    ),
    Case(
        "PCI-07",
        until("register/i", sent_up("register", "Proxy-Require", "foo, Sec-Agree")),
        "register/p",
        "Proxy-Require: sec-agree",
        PC,
    ),
    Case(
        "PCI-07",
        until("register/i", sent_up("register", "Proxy-Require", "")),
        "register/p",
        "an emptied Proxy-Require",
        PC,
    ),
    Case(
        "SEC-26",
        until("message/p", header("message/p", "Security-Verify", FIRST.server)),
        "message/p",
        "MESSAGE goes upstream with Security-Verify",
        PC,
        ("message",),
    ),
    Case(
        "PCI-11",
        until("register/i", sent_up("register", "Record-Route", "<sip:p.example;lr>")),
        "register/p",
        "p.example",
        PC,
        level=Level.WARNING,
    ),
    Case(
        "PCI-11",
        until("register/i", header("register/i", "Record-Route", "<sip:i.example;lr>")),
        "register/i",
        "i.example",
        ICSCF,
        level=Level.WARNING,
    ),
    Case("PCI-13", forged_access, "answer/p", "network-provided", PC, ("answer",), Level.NOTE),
    Case("PCI-15", second_transaction, "again/p", "beside", PC, ("register/p", "retransmission")),
    Case(
        "CHL-11",
        keyless((',ck="[0-9a-f]*"', ""), (',ik="[0-9a-f]*"', "")),
        "challenge",
        "without ck and ik",
        PC,
        ("challenge/i",),
        also=frozenset({"CHL-01"}),
    ),
    Case(
        "CHL-12",
        keyless(('ck="[0-9a-f]', 'ck="')),
        "challenge",
        "ck of 31 characters",
        PC,
        ("challenge/i",),
        Level.WARNING,
        frozenset({"CHL-03"}),
    ),
    Case(
        "CHL-12",
        keyless(('ik="[0-9a-f]', 'ik="x')),
        "challenge",
        "ik that is no hex",
        PC,
        ("challenge/i",),
        Level.WARNING,
        frozenset({"CHL-03"}),
    ),
    Case("DRP-14", asserts(BOB), "message/p", BOB, PC, ("message",)),
    Case("DRP-15", asserts(BOB, claimed=True), "message/p", BOB, PC, ("message",)),
    Case(
        "MW-09",
        until("message/p", header("message/p", "Route", f"<sip:other.{DOMAIN};lr>")),
        "message/p",
        f"with Route sip:other.{DOMAIN};lr: Service-Route was",
        PC,
        ("message", "welcome"),
    ),
    Case(
        "EVT-20",
        lambda story: story.drop("watch", "watched", "seen", "seen-ok"),
        "welcome",
        "no SUBSCRIBE of the P-CSCF",
        PC,
        level=Level.WARNING,
    ),
    # proxies
    Case(
        "MW-01",
        until("register/i", header("register/i", "Max-Forwards", "69")),
        "register/i",
        "Max-Forwards 69: expected 68",
        ICSCF,
        ("register/p",),
    ),
    Case(
        "MW-01",
        until("notify", header("notify", "Max-Forwards", None)),
        "notify",
        "without Max-Forwards: it had 70",
        PC,
        ("notify/s",),
    ),
    Case("MW-02", via_kept, "welcome/i", "own Via on top", ICSCF, ("welcome/s",)),
    Case("MW-02", vias_lost, "welcome/i", "with 1 Vias: expected the 2", ICSCF, ("welcome/s",)),
    Case(
        "MW-03",
        until("register/i", edit("register/i", "From", "tag=ue", "tag=other")),
        "register/i",
        "tag other in From: it had ue",
        ICSCF,
        ("register/p",),
    ),
    Case(
        "MW-03",
        until("sent", edit("sent", "To", "tag=b", "tag=c")),
        "sent",
        "tag c in To: it had b",
        PC,
        ("sent/s",),
    ),
    Case(
        "MW-04",
        until("welcome", header("welcome", "Service-Route", None)),
        "welcome",
        "of the 200 is lost",
        PC,
        ("welcome/i",),
    ),
    Case(
        "MW-04",
        until("welcome", header("welcome", "P-Associated-URI", f"<tel:+15551234>, <{ALICE}>")),
        "welcome",
        "is out of its order",
        PC,
        ("welcome/i",),
    ),
    Case("MW-05", goes_elsewhere, "answer/i", "other.", ICSCF, ("uaa2",)),
    Case("MW-05", refused, "register/i", "though the UAA said no", ICSCF, ("uaa1",)),
    Case(
        "MW-06",
        until("register/i", avp("uar1", "User-Name", "bob@home.example")),
        "uar1",
        "UAR about bob@home.example",
        ICSCF,
        ("register/p",),
    ),
    Case(
        "MW-06",
        until("register/i", avp("uar1", "Visited-Network-Identifier", b"elsewhere")),
        "uar1",
        "visited network elsewhere",
        ICSCF,
        ("register/p",),
    ),
    Case(
        "MW-06",
        avp("uar6", "User-Authorization-Type", int(UserAuthorizationType.REGISTRATION)),
        "uar6",
        "removes its contacts",
        ICSCF,
        ("goodbye/p",),
        Level.WARNING,
        frozenset({"HSS-01"}),
    ),
    Case(
        "MW-07",
        never_asked,
        "register/i",
        "2 REGISTERs go on",
        ICSCF,
        ("register/p",),
        Level.WARNING,
    ),
    Case(
        "MW-08",
        until("register/i", header("register/i", "Path", None)),
        "register/i",
        "without Path",
        ICSCF,
        ("register/p",),
    ),
    Case(
        "MW-08",
        until("register/i", edit("register/i", "Authorization", '"no"', '"yes"')),
        "register/i",
        "integrity-protected=yes: it had no",
        ICSCF,
        ("register/p",),
    ),
    Case(
        "MW-08",
        until("register/i", edit("register/i", "Authorization", "username=", "opaque=x,username=")),
        "register/i",
        "another Authorization",
        ICSCF,
        ("register/p",),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_wrong_is_found(case: Case) -> None:
    check(case)


def test_every_rule_has_its_case() -> None:
    assert rules_lacking(CASES, "mw", "proxies") == set()


def test_the_story_is_sound() -> None:
    sound()
    sound(keyed=True)


def without_gm(story: Story) -> None:
    """A capture in the core."""
    story.only(lambda step: step.spi is None and GM_HOST not in (step.src.host, step.dst.host))


def without_cx(story: Story) -> None:
    """A capture that shows SIP only."""
    story.only(lambda step: HSS.host not in (step.src.host, step.dst.host))


def first_hop_only(story: Story) -> None:
    """A capture at the P-CSCF."""
    hosts = {P.host, GM_HOST}
    story.only(lambda step: step.src.host in hosts or step.dst.host in hosts)


def from_the_middle(story: Story) -> None:
    """A capture that begins with the second registration."""
    start = story["reregister"].time
    story.only(lambda step: step.time >= start)


def with_holes(story: Story) -> None:
    """A capture that has lost every third frame."""
    lost = [name for place, name in enumerate(story.steps) if place % 3 == 2]
    story.drop(*lost)


GM_HOST = "192.0.2.1"


@pytest.mark.parametrize("cut", [without_gm, without_cx, first_hop_only, from_the_middle])
def test_what_is_not_seen_is_not_judged(cut: object) -> None:
    sound(cut)  # type: ignore[arg-type]
    sound(cut, keyed=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("start", range(7))
@pytest.mark.parametrize("every_nth", [2, 3, 5, 7])
def test_holes_in_a_capture_are_nobodys_fault(start: int, every_nth: int) -> None:
    def lose(story: Story) -> None:
        story.drop(*[name for place, name in enumerate(story.steps) if place % every_nth == start % every_nth])

    story = sane()
    lose(story)
    sound(lose)


@settings(max_examples=60, deadline=None)
@given(st.sets(st.sampled_from(sorted(sane().steps))))
def test_whatever_is_lost_nobody_has_broken_a_must(lost: set[str]) -> None:
    story = sane()
    story.keys = key_ring()
    story.drop(*lost)
    silence = {"AKS-01", "AKS-15", "DER-04", "DIA-04", "EVT-10", "MW-07"}  # what they miss may have been lost
    for each in findings(story):
        assert each.rule in silence, each
        assert each.level is Level.WARNING, each


@pytest.mark.parametrize("step", sorted(sane().steps))
def test_a_retransmission_is_no_second_message(step: str) -> None:
    def twice(story: Story) -> None:
        story.again(f"{step}-again", step, story[step].time + 0.004)

    sound(twice)


@pytest.mark.parametrize("step", sorted(sane().steps))
def test_a_capture_may_end_anywhere(step: str) -> None:
    sound(lambda story: story.until(step))


def test_another_entry_point_is_no_second_transaction() -> None:
    sound(second_entry)


def test_a_report_in_the_established_sas_is_protected() -> None:
    def spoil(story: Story) -> None:
        story.until("reanswer/i")
        step = story["reanswer"]
        step.spi, step.src, step.dst = FIRST.flows[0]
        nonce = story.vectors[1].nonce
        step.message.set("Authorization", empty(nonce))
        for name in ("reanswer/p", "reanswer/i"):
            story[name].message.set("Authorization", f'{empty(nonce)},integrity-protected="yes"')

    sound(spoil)


def test_a_refresh_in_older_sas_is_not_protected() -> None:
    def spoil(story: Story) -> None:
        story.until("refresh/i")
        step = story["refresh"]
        step.spi, step.src, step.dst = FIRST.flows[0]
        value = credentials(story.vectors[0])
        step.message.set("Authorization", value)
        for name in ("refresh/p", "refresh/i"):
            story[name].message.set("Authorization", f'{value},integrity-protected="no"')

    sound(spoil)


def test_sas_that_are_older_than_the_capture_say_nothing_of_protection() -> None:
    def spoil(story: Story) -> None:
        from_the_middle(story)
        story.until("reregister/i")
        flagged("reregister", "no")(story)

    sound(spoil)


def test_a_digest_without_ipsec_has_no_flag() -> None:
    def spoil(story: Story) -> None:
        story.until("register/i")
        story["register"].message.remove("Security-Client")
        edit_up("register", "Authorization", ',integrity-protected="no"', "")(story)
        edit_up("register", "Authorization", "AKAv1-MD5", "MD5")(story)
        edit("register", "Authorization", "AKAv1-MD5", "MD5")(story)

    sound(spoil)


def test_a_pushed_profile_may_bring_identities() -> None:
    def spoil(story: Story) -> None:
        asserts(BOB)(story)  # type: ignore[operator]
        push = PushProfileRequest(
            **asking("hss", 9), destination_host=f"scscf.{DOMAIN}", user_name=IMPI, user_data=user_data()
        )
        message = push.to_message(9, 9)
        story.cx("ppr", 9.0, HSS, S_CX, message)
        story.cx("ppa", 9.1, S_CX, HSS, PushProfileAnswer(result_code=2001).to_message(message))

    sound(spoil)


def test_a_box_that_makes_messages_anew_is_no_proxy() -> None:
    def spoil(story: Story) -> None:
        story.until("message/p")
        step = story["message/p"]
        step.message.replace("Via", [f"SIP/2.0/UDP {P.host}:5060;branch=z9hG4bK-new"])
        step.message.set("Max-Forwards", "70")
        step.edit("From", "tag=hello", "tag=new")

    sound(spoil)


def test_a_server_may_be_named_and_reached_by_address() -> None:
    def spoil(story: Story) -> None:
        story.until("answer/i")
        story["answer/i"].message.uri = f"sip:{S.host}:5060"

    sound(spoil)


def test_identities_are_judged_where_the_sas_are_known() -> None:
    def spoil(story: Story) -> None:
        story.until("message/p")
        sent = request("MESSAGE", "clear", port=5060)
        story.sip("clear", 11.0, UP, sent)
        story.sip("clear/p", 11.01, (None, P, S), by_pcscf(sent))
        story["clear/p"].message.set("P-Asserted-Identity", f"<{BOB}>")

    sound(spoil)
