"""What the HSS answers and what it is asked: each rule broken by one knob."""

from __future__ import annotations

from typing import Any

import pytest

from imslab.diameter.avp import Avp
from imslab.diameter.codes import ReasonCode, UserAuthorizationType
from imslab.diameter.codes import ServerAssignmentType as Sat
from imslab.diameter.cx import (
    DeregistrationReason,
    LocationInfoAnswer,
    LocationInfoRequest,
    MultimediaAuthAnswer,
    PushProfileAnswer,
    PushProfileRequest,
    RegistrationTerminationAnswer,
    RegistrationTerminationRequest,
    ServerAssignmentAnswer,
    ServerCapabilities,
    UserAuthorizationAnswer,
)
from imslab.diameter.dictionary import make
from imslab.diameter.userdata import IdentityType, PublicIdentity
from imslab.rules.clauses import Level
from imslab.trace.model import Role
from tests.rules.build_core import (
    ALICE,
    DOMAIN,
    HSS,
    I_CX,
    IMPI,
    NUMBER,
    S_CX,
    SCSCF,
    TEMPORARY,
    Case,
    Spoil,
    Story,
    asking,
    avp,
    check,
    every,
    item,
    maa,
    mar,
    rules_lacking,
    saa,
    sar,
    sound,
    uar,
    until,
    user_data,
)

H, SC, IC = Role.HSS, Role.SCSCF, Role.ICSCF
OTHER = f"sip:other.{DOMAIN}:5060"
S2_CX = S_CX._replace(host="198.51.100.5")
KINDS = UserAuthorizationType


def uaa(kind: UserAuthorizationType | None = KINDS.REGISTRATION, at: float = 500.0, **answer: Any) -> Spoil:
    """One more question of the I-CSCF, about nothing on Mw."""

    def spoil(story: Story) -> None:
        asked = uar(8)
        asked.authorization_type = kind
        story.ask("ua8", at, I_CX, asked, UserAuthorizationAnswer(**answer))

    return spoil


def assigned(kind: Sat, at: float = 500.0, number: int = 8, have: int = 1, **answer: Any) -> Spoil:
    """One more word of the S-CSCF."""

    def spoil(story: Story) -> None:
        given = answer or {"result_code": 2001}
        story.ask(f"sa{number}", at, S_CX, sar(number, kind, have), ServerAssignmentAnswer(**given))

    return spoil


def taken_over(*, told: bool = False) -> Spoil:
    """Another S-CSCF asks for a vector of Alice, and Cx goes on. told: her own S-CSCF hears of it."""

    def spoil(story: Story) -> None:
        story.until("heard/p")
        if told:
            terminated(ReasonCode.NEW_SERVER_ASSIGNED, ALICE)(story)
        asked = mar(7, server_name=OTHER)
        asked.origin_host, asked.session_id = f"other.{DOMAIN}", f"other.{DOMAIN};1;1"
        story.ask("ma7", 490.0, S2_CX, asked, maa(item(story.vectors[1])))
        story.ask(
            "li9",
            520.0,
            I_CX,
            LocationInfoRequest(**asking("icscf", 9), public_identity=ALICE),
            LocationInfoAnswer(result_code=2001, server_name=OTHER),
        )

    return spoil


def by_other(kind: Sat, *, vector: bool = False, **answer: Any) -> Spoil:
    """Another S-CSCF speaks for Alice. vector: it has asked for one before."""

    def spoil(story: Story) -> None:
        story.until("heard/p")
        host = {"origin_host": f"other.{DOMAIN}", "session_id": f"other.{DOMAIN};1;1"}
        if vector:
            asked = mar(7, server_name=OTHER)
            asked.origin_host, asked.session_id = host["origin_host"], host["session_id"]
            story.ask("ma7", 490.0, S2_CX, asked, maa(item(story.vectors[1])))
        said = sar(8, kind, 1, server_name=OTHER)
        said.origin_host, said.session_id = host["origin_host"], host["session_id"]
        given = answer or {"result_code": 2001}
        story.ask("sa8", 500.0, S2_CX, said, ServerAssignmentAnswer(**given))

    return spoil


def pushed(
    data: bytes, *, to: str = f"scscf.{DOMAIN}", result: int | None = 2001, experimental: int | None = None
) -> Spoil:
    """The HSS pushes a profile."""

    def spoil(story: Story) -> None:
        story.until("heard/p")
        request = PushProfileRequest(**asking("hss", 90), destination_host=to, user_name=IMPI, user_data=data)
        message = request.to_message(90, 90)
        story.cx("ppr", 500.0, HSS, S_CX, message)
        reply = PushProfileAnswer(result_code=result, experimental=experimental)
        reply.origin_host, reply.origin_realm = f"scscf.{DOMAIN}", DOMAIN
        story.cx("ppa", 500.01, S_CX, HSS, reply.to_message(message))

    return spoil


def terminated(reason: ReasonCode, *identities: str, to: str = f"scscf.{DOMAIN}") -> Spoil:
    """The HSS ends the registration."""

    def spoil(story: Story) -> None:
        story.until("heard/p")
        request = RegistrationTerminationRequest(
            **asking("hss", 90),
            destination_host=to,
            user_name=IMPI,
            public_identities=list(identities),
            reason=DeregistrationReason(reason),
        )
        message = request.to_message(90, 90)
        story.cx("rtr", 500.0, HSS, S_CX, message)
        reply = RegistrationTerminationAnswer(result_code=2001, origin_host=f"scscf.{DOMAIN}", origin_realm=DOMAIN)
        story.cx("rta", 500.01, S_CX, HSS, reply.to_message(message))

    return spoil


def located(**answer: Any) -> Spoil:
    """The I-CSCF looks for Alice."""

    def spoil(story: Story) -> None:
        asked = LocationInfoRequest(**asking("icscf", 9), public_identity=ALICE)
        story.ask("li9", 500.0, I_CX, asked, LocationInfoAnswer(**answer))

    return spoil


def result(step: str, code: int | None, experimental: int | None = None) -> Spoil:
    """Another result in an answer, which the story ends with."""
    group = None if experimental is None else [make("Vendor-Id", 10415), make("Experimental-Result-Code", experimental)]

    def spoil(story: Story) -> None:
        story.until(step)
        message = story[step].message
        message.avps = [each for each in message.avps if each.code not in (268, 297)]
        if code is not None:
            message.add("Result-Code", code)
        if group is not None:
            message.add("Experimental-Result", group)

    return spoil


def strange(step: str) -> Spoil:
    """A question with an AVP that nobody knows, with the M bit."""
    return lambda story: story[step].message.avps.append(Avp(999999, 10415, 0xC0, b"?"))


def lacking(step: str, name: str) -> Spoil:
    """A question that lacks an AVP."""
    return avp(step, name, None)


def forgotten(at: float = 40.0) -> Spoil:
    """An authentication fails, and the HSS forgets who is registered."""
    return every(
        until("heard/p"),
        assigned(Sat.AUTHENTICATION_FAILURE, at=30.0),
        uaa(at=at, experimental=2001),
    )


NO_IMPU = lacking("sar1", "Public-Identity")

CASES = [
    # UAA
    Case("HSS-01", uaa(experimental=2001, server_name=SCSCF), "uaa8", "FIRST_REGISTRATION with Server-Name", H),
    Case("HSS-01", uaa(result_code=2001, server_name=SCSCF), "uaa8", "with Result-Code 2001", H),
    Case("HSS-01", uaa(None, result_code=2001, server_name=SCSCF), "uaa8", "with Result-Code 2001", H),
    Case("HSS-02", uaa(experimental=2002), "uaa8", "without Server-Name", H),
    Case("HSS-02", uaa(result_code=2002, server_name=SCSCF), "uaa8", "expected experimental 2002", H),
    Case(
        "HSS-02",
        uaa(experimental=2002, server_name=SCSCF, capabilities=ServerCapabilities(mandatory=[1])),
        "uaa8",
        "with Server-Capabilities",
        H,
        level=Level.WARNING,
    ),
    Case("HSS-06", uaa(KINDS.DE_REGISTRATION, experimental=2001), "uaa8", "with FIRST_REGISTRATION", H),
    Case("HSS-06", uaa(KINDS.DE_REGISTRATION, result_code=2001), "uaa8", "with result 2001 and no Server-Name", H),
    Case("HSS-07", uaa(experimental=5003), "uaa8", "expected Result-Code 5003", H),
    Case("HSS-08", uaa(KINDS.REGISTRATION_AND_CAPABILITIES, experimental=2001), "uaa8", "with experimental 2001", H),
    Case(
        "HSS-08",
        uaa(KINDS.REGISTRATION_AND_CAPABILITIES, result_code=2001, server_name=SCSCF),
        "uaa8",
        "with Server",
        H,
    ),
    Case("HSS-24", forgotten(), "uaa8", "only AUTHENTICATION_FAILURE came since", H, ("sar1", "sar8")),
    # numbers that mean two things
    Case("HSS-03", uaa(result_code=5001), "uaa8", "USER_UNKNOWN is Experimental-Result 5001", H),
    Case("HSS-04", uaa(result_code=5002), "uaa8", "IDENTITIES_DONT_MATCH is Experimental-Result 5002", H),
    Case("HSS-05", uaa(result_code=5004), "uaa8", "ROAMING_NOT_ALLOWED is Experimental-Result 5004", H),
    Case("HSS-13", result("maa1", 5001), "maa1", "Result-Code 5001 is AVP_UNSUPPORTED", H),
    Case("HSS-13", result("maa1", 5002), "maa1", "Result-Code 5002 is UNKNOWN_SESSION_ID", H),
    Case("HSS-27", result("saa1", 5007), "saa1", "IN_ASSIGNMENT_TYPE is Experimental-Result 5007", H),
    # SAA
    Case("HSS-20", until("welcome", avp("saa1", "User-Data", None)), "saa1", "without User-Data", H),
    Case("HSS-20", until("welcome", avp("saa1", "User-Data", b"<IMSSub")), "saa1", "user data: no XML", H),
    Case(
        "HSS-20",
        until("welcome", avp("saa1", "User-Data", user_data(PublicIdentity(ALICE), PublicIdentity(NUMBER)))),
        "saa1",
        f"User-Data lacks {TEMPORARY}",
        H,
        ("sar1",),
    ),
    Case("HSS-21", assigned(Sat.RE_REGISTRATION, have=0), "saa8", "without User-Data", H, ("sar8",)),
    Case(
        "HSS-23",
        assigned(Sat.USER_DEREGISTRATION, 4000.0, experimental=2004),
        "saa8",
        "with experimental 2004",
        H,
    ),
    Case("HSS-25", by_other(Sat.NO_ASSIGNMENT), "saa8", f"{SCSCF} serves the user", H, ("sar8", "saa1")),
    Case(
        "HSS-26",
        by_other(Sat.RE_REGISTRATION),
        "saa8",
        "expected experimental 5005",
        H,
        ("sar8", "saa1"),
    ),
    Case("ADD-12", taken_over(), "maa7", f"from {SCSCF}, and no RTR follows", H, ("mar7", "saa1"), level=Level.WARNING),
    Case("ADD-11", assigned(Sat.RE_REGISTRATION, experimental=5005), "saa8", "without Server-Name", H),
    Case("CX-02", located(result_code=2001), "lia9", "neither Server-Name nor", H),
    # RTR, PPR
    Case("HSS-28", terminated(ReasonCode.NEW_SERVER_ASSIGNED), "rtr", "without Public-Identity", H),
    Case(
        "HSS-28",
        terminated(ReasonCode.PERMANENT_TERMINATION, to=f"old.{DOMAIN}"),
        "rtr",
        f"RTR goes to old.{DOMAIN}: the last SAR came from scscf.{DOMAIN}",
        H,
        ("sar1",),
    ),
    Case("HSS-29", pushed(user_data(), to=f"old.{DOMAIN}"), "ppr", "PPR goes to old.", H, ("sar1",)),
    Case("HSS-29", pushed(b"<x/>", result=None, experimental=5009), "ppr", "user data:", H),
    Case(
        "ADD-15",
        pushed(user_data(PublicIdentity(TEMPORARY, barred=True), PublicIdentity(NUMBER), PublicIdentity(ALICE))),
        "ppr",
        f"becomes {NUMBER}: it was {ALICE}",
        H,
        ("saa1",),
    ),
    Case(
        "ADD-15",
        pushed(user_data(PublicIdentity(TEMPORARY, barred=True), PublicIdentity(ALICE, barred=True))),
        "ppr",
        f"becomes none: it was {ALICE}",
        H,
        ("saa1",),
    ),
    Case("IRS-08", pushed(b"<x/>"), "ppa", "PPA with success", SC, ("ppr",), also=frozenset({"HSS-29"})),
    # questions
    Case("HSS-33", until("mar1", lacking("mar1", "Server-Name")), "mar1", "MAR: Server-Name is missing", SC),
    Case("HSS-33", until("mar1", avp("mar1", "SIP-Number-Auth-Items", 0)), "mar1", "asks for 0 vectors", SC),
    Case("HSS-33", until("mar1", avp("mar1", "SIP-Auth-Data-Item", [])), "mar1", "without SIP-Auth", SC),
    Case(
        "HSS-33",
        until("mar1", avp("mar1", "SIP-Auth-Data-Item", [make("SIP-Authentication-Scheme", "SIP Digest")])),
        "mar1",
        "scheme SIP Digest: expected Digest-AKAv1-MD5",
        SC,
        ("register/i",),
    ),
    Case("HSS-34", until("sar1", lacking("sar1", "User-Data-Already-Available")), "sar1", "is missing", SC),
    Case("HSS-34", until("sar1", lacking("sar1", "Public-Identity")), "sar1", "about 0 public identities", SC),
    Case(
        "HSS-34",
        until("sar1", lambda story: story["sar1"].message.add("Public-Identity", ALICE)),
        "sar1",
        "about 2 public identities",
        SC,
    ),
    Case(
        "HSS-34",
        until(
            "sar1",
            avp("sar1", "Server-Assignment-Type", 3),
            lacking("sar1", "Public-Identity"),
            lacking("sar1", "User-Name"),
        ),
        "sar1",
        "neither User-Name nor Public-Identity",
        SC,
    ),
    Case("HSS-34", until("sar1", avp("sar1", "Server-Name", OTHER)), "sar1", f"Server-Name {OTHER}", SC, ("mar1",)),
    Case("CX-03", until("uar1", lacking("uar1", "Visited-Network-Identifier")), "uar1", "UAR: Visited", IC),
    Case(
        "CX-03",
        every(terminated(ReasonCode.PERMANENT_TERMINATION), lacking("rtr", "Deregistration-Reason")),
        "rtr",
        "RTR: Deregistration-Reason is missing",
        H,
    ),
    Case(
        "HSS-31",
        until("challenge", lacking("mar1", "Server-Name")),
        "maa1",
        "result 2001 where Server-Name is missing",
        H,
        ("mar1",),
        also=frozenset({"HSS-33"}),
    ),
    Case(
        "HSS-31",
        every(result("maa1", 5005), lacking("mar1", "Server-Name")),
        "maa1",
        "MISSING_AVP without Failed-AVP",
        H,
        level=Level.WARNING,
        also=frozenset({"HSS-33"}),
    ),
    Case("HSS-32", until("challenge", strange("mar1")), "maa1", "success where AVP 9", H, ("mar1",), Level.WARNING),
    Case(
        "HSS-32",
        every(result("maa1", 5001), strange("mar1")),
        "maa1",
        "AVP_UNSUPPORTED without",
        H,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_wrong_is_found(case: Case) -> None:
    check(case)


def test_every_rule_has_its_case() -> None:
    assert rules_lacking(CASES, "cx") == set()


FAILED = [make("Server-Name", "sip:x")]


def failed(step: str, *avps: Avp) -> Spoil:
    """An answer says which AVPs it is about."""
    return lambda story: story[step].message.add("Failed-AVP", list(avps))


@pytest.mark.parametrize(
    "spoil",
    [
        uaa(experimental=2001),
        uaa(experimental=5001),
        uaa(result_code=5003),
        uaa(result_code=5012),
        uaa(KINDS.DE_REGISTRATION, experimental=5003),
        uaa(KINDS.REGISTRATION_AND_CAPABILITIES, result_code=2001, capabilities=ServerCapabilities(mandatory=[1])),
        every(result("maa1", 5001), strange("mar1"), failed("maa1", Avp(999999, 10415, 0xC0, b"?"))),
        forgotten(500.0),
        every(until("heard/p"), assigned(Sat.USER_DEREGISTRATION), uaa(at=510.0, experimental=2001)),
        assigned(Sat.USER_DEREGISTRATION_STORE_SERVER_NAME, 4000.0, experimental=2004),
        by_other(Sat.RE_REGISTRATION, experimental=5005, server_name=SCSCF),
        by_other(Sat.NO_ASSIGNMENT, result_code=5012),
        by_other(Sat.REGISTRATION, vector=True, result_code=2001, user_data=user_data()),
        located(result_code=2001, server_name=SCSCF),
        located(experimental=2003),
        located(experimental=5001),
        terminated(ReasonCode.NEW_SERVER_ASSIGNED, TEMPORARY),
        terminated(ReasonCode.PERMANENT_TERMINATION),
        pushed(user_data()),
        pushed(user_data(PublicIdentity("sip:another@home.example"))),
        pushed(b"", result=2001),
        until(
            "welcome",
            avp(
                "saa1",
                "User-Data",
                user_data(
                    PublicIdentity(ALICE),
                    PublicIdentity(NUMBER),
                    PublicIdentity("sip:x@h", type=IdentityType.WILDCARDED_PUBLIC_USER_IDENTITY),
                ),
            ),
        ),
        until("maa1", result("maa1", None, 5001)),
        every(until("maa1"), lambda story: story.drop("maa1")),
    ],
)
def test_what_is_right_is_nobodys_fault(spoil: Spoil) -> None:
    sound(spoil)


def test_a_server_that_only_had_a_vector_is_told_too() -> None:
    """A stranger asks for a vector and becomes the server; when another one does, it hears of it."""

    def spoil(story: Story) -> None:
        terminated(ReasonCode.NEW_SERVER_ASSIGNED, TEMPORARY, to=f"other.{DOMAIN}")(story)
        asked = mar(7, server_name=OTHER)
        asked.origin_host, asked.session_id = f"other.{DOMAIN}", f"other.{DOMAIN};1;1"
        story.ask("ma7", 490.0, S2_CX, asked, maa(item(story.vectors[1])))

    sound(spoil)


def test_a_takeover_by_reassignment_is_none_of_these() -> None:
    """After REGISTRATION_AND_CAPABILITIES another S-CSCF may come."""

    def spoil(story: Story) -> None:
        by_other(Sat.RE_REGISTRATION)(story)
        uaa(KINDS.REGISTRATION_AND_CAPABILITIES, at=480.0, result_code=2001)(story)

    sound(spoil)


def test_a_missing_avp_that_is_named_leaves_the_asker_to_blame() -> None:
    check(
        Case(
            "HSS-33",
            every(result("maa1", 5005), lacking("mar1", "Server-Name"), failed("maa1", *FAILED)),
            "mar1",
            "Server-Name is missing",
            SC,
        )
    )


def test_what_cannot_be_decoded_is_only_unreadable() -> None:
    """A number of three octets: the message as a whole says nothing any more, and nobody guesses."""

    def spoil(story: Story) -> None:
        story.until("maa1")
        place = next(i for i, each in enumerate(story["maa1"].message.avps) if each.code == 607)
        story["maa1"].message.avps[place] = Avp(607, 10415, 0xC0, b"abc")

    sound(spoil)


def test_other_applications_are_nobodys_business() -> None:
    def spoil(story: Story) -> None:
        story.until("maa1")
        for step in ("mar1", "maa1"):
            story[step].message.command = 316  # Update-Location of S6a
            story[step].message.application = 16777251

    sound(spoil)


def test_an_answer_alone_says_little() -> None:
    sound(until("maa1", lambda story: story.drop("mar1")))


def test_maa_and_saa_of_the_story_are_read_back() -> None:
    story = Story()
    story.ask("ma1", 1.0, S_CX, mar(1), MultimediaAuthAnswer(result_code=5012))
    assert story["maa1"].message.result_code == 5012
    assert saa().user_data is None


def test_who_is_told_of_his_loss_has_nothing_to_complain_of() -> None:
    sound(taken_over(told=True))
