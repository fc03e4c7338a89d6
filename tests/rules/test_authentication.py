"""The S-CSCF as authenticator: each rule broken by one knob."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable

import pytest

from imslab.aka.milenage import Milenage
from imslab.aka.vector import Vector, generate, make_auts
from imslab.diameter.codes import ServerAssignmentType
from imslab.diameter.cx import AuthDataItem
from imslab.rules.clauses import Level
from imslab.trace.model import Role
from tests.rules.build_core import (
    DOWN,
    FIRST,
    GM,
    HSS,
    IMPI,
    OPC,
    S_CX,
    SECOND,
    THIRD,
    UP,
    Case,
    K,
    Spoil,
    Story,
    avp,
    challenge,
    check,
    credentials,
    edit,
    edit_up,
    empty,
    every,
    flagged,
    goes,
    header,
    item,
    maa,
    mar,
    register,
    rules_lacking,
    saa,
    sar,
    sound,
    until,
    user_data,
    welcome,
)

SC, PC = Role.SCSCF, Role.PCSCF
ALGORITHM = Milenage(K, OPC)


def vector(number: int, sqn: int) -> Vector:
    """One more vector of Alice's."""
    return generate(ALGORITHM, bytes([number]) * 16, sqn, b"\0\0")


V3, V4, V5 = vector(3, 0x63), vector(4, 0x84), vector(5, 0xA5)


def core_only(story: Story) -> None:
    """A capture in the core."""
    story.only(lambda step: GM.host not in (step.src.host, step.dst.host))


def sip_only(story: Story) -> None:
    """A capture without Cx."""
    story.only(lambda step: HSS.host not in (step.src.host, step.dst.host))


def challenged_with(which: Vector, name: str = "challenge") -> Spoil:
    """Another vector in a challenge."""
    value = challenge(which)[0][1]
    return every(*[header(f"{name}/{who}", "WWW-Authenticate", value) for who in "si"])


def changed(*edits: tuple[str, str], name: str = "challenge") -> Spoil:
    """Something else in a challenge on Mw, which the story ends with."""
    return every(
        until(f"{name}/i"), *[edit(f"{name}/{who}", "WWW-Authenticate", old, new) for who in "si" for old, new in edits]
    )


def nonce_of(octets: bytes) -> Spoil:
    """Other octets in the nonce."""
    return changed(('nonce="[^"]*"', f'nonce="{b64encode(octets).decode()}"'))


def clear(story: Story, name: str) -> None:
    """A REGISTER comes in clear after all, and says so upstream."""
    story[name].spi, story[name].src, story[name].dst = UP
    flagged(name, "no")(story)


def reaction(
    authorization: str,
    status: int = 200,
    headers: Iterable[tuple[str, str]] | None = None,
    *,
    flag: str = "yes",
    call: str = "call-1",
    asks: tuple[AuthDataItem, Vector] | None = None,
    told: bool = True,
) -> Spoil:
    """Alice reacts to the challenge otherwise, and the S-CSCF too. asks: the item of an MAR, and what it brings.

    told: the HSS gets an SAR.
    """

    def spoil(story: Story) -> None:
        story.until("challenge")
        way = (FIRST.flows[0], FIRST.flows[2]) if flag == "yes" else (UP, DOWN)
        sent = register(2 if call == "call-1" else 1, FIRST, authorization, verify=FIRST, call=call)
        went = goes(story, ("answer", "reply"), 0.2, sent, flag, way, 2, SECOND)
        if asks is not None:
            story.ask("ma3", 0.25, S_CX, mar(3, item=asks[0]), maa(item(asks[1])))
        elif told and status == 200:
            story.ask("sa1", 0.25, S_CX, sar(1, ServerAssignmentType.REGISTRATION), saa(user_data()))
        went.answer(status, welcome() if headers is None else headers)

    return spoil


def answered(more: str = "", **changes: str) -> str:
    """Alice's right answer, with some parameters changed."""
    value = credentials(vector(1, 0x21), more=more)
    for old, new in changes.items():
        value = value.replace(old, new)
    return value


def auts_of(which: Vector, sqn_ms: int = 0x21) -> bytes:
    """Alice's AUTS to a challenge."""
    return make_auts(ALGORITHM, which.rand, sqn_ms)


def resync(authorization: bytes | None, *, auts: str = "", brings: Vector = V3) -> Spoil:
    """Alice says that the SQN is out of range. authorization: what the MAR says of it."""
    first = vector(1, 0x21)
    said = auts or b64encode(auts_of(first)).decode()
    asks = AuthDataItem(scheme="Digest-AKAv1-MD5", authorization=authorization)
    return reaction(f'{empty(first.nonce)},auts="{said}"', 401, challenge(brings), flag="no", asks=(asks, brings))


GOOD_AUTS = vector(1, 0x21).rand + auts_of(vector(1, 0x21))


def old_after_resync(story: Story) -> None:
    """The first MAA had two vectors; the second one of them is used after a resynchronisation."""
    story["maa1"].message.avps = [each for each in story["maa1"].message.avps if each.code not in (607, 612)]
    first = maa(item(story.vectors[0], 1), item(story.vectors[1], 2))
    story["maa1"].message.avps += [each for each in first.to_avps() if each.code in (607, 612)]
    avp("mar1", "SIP-Number-Auth-Items", 2)(story)
    resync(GOOD_AUTS, brings=V3)(story)
    challenged_with(story.vectors[1], "reply")(story)
    story.drop("reply")


def failures(count: int) -> Spoil:
    """Alice reports a wrong MAC again and again, and gets another challenge each time."""

    def spoil(story: Story) -> None:
        story.until("challenge")
        last = story.vectors[0]
        for number in range(1, count + 1):
            sent = register(1 + number, FIRST, empty(last.nonce))
            went = goes(story, (f"report{number}", f"next{number}"), float(number), sent, "no", (UP, DOWN), number + 1)
            last = vector(10 + number, 0x21 * (number + 2))
            story.ask(f"ma{number + 4}", number + 0.05, S_CX, mar(number + 4), maa(item(last)))
            went.answer(401, challenge(last))

    return spoil


def three_vectors(story: Story) -> list[Vector]:
    """The first MAA has three of them."""
    three = [story.vectors[0], V3, V4]
    avp("mar1", "SIP-Number-Auth-Items", 3)(story)
    story["maa1"].message.avps = [each for each in story["maa1"].message.avps if each.code not in (607, 612)]
    answer = maa(*[item(each, place) for place, each in enumerate(three, 1)])
    story["maa1"].message.avps += [each for each in answer.to_avps() if each.code in (607, 612)]
    return three


def second_first(story: Story) -> None:
    """The second of three vectors is used first."""
    three = three_vectors(story)
    story.until("challenge/i")
    challenged_with(three[1])(story)


def third_before_second(story: Story) -> None:
    """The third is used before the second."""
    three = three_vectors(story)
    story.until("rechallenge/i").drop("mar2", "maa2")
    challenged_with(three[2], "rechallenge")(story)
    sent = register(1, THIRD, empty(), call="call-2", port=5060)
    goes(story, ("restart", "again"), 1900.0, sent, "no", (UP, DOWN), 7).answer(401, challenge(three[1]))


def in_order(story: Story) -> None:
    """All three in their order."""
    three = three_vectors(story)
    story.until("rechallenge/i").drop("mar2", "maa2")
    challenged_with(three[1], "rechallenge")(story)
    sent = register(1, THIRD, empty(), call="call-2", port=5060)
    goes(story, ("restart", "again"), 1900.0, sent, "no", (UP, DOWN), 7).answer(401, challenge(three[2]))


def sqn_falls(story: Story) -> None:
    """Two challenges whose MAAs nobody saw, the second with a lower SQN."""
    sip_only(story)
    story.until("rechallenge/i")
    challenged_with(vector(7, 0x11), "rechallenge")(story)


def replaced(story: Story) -> None:
    """Another challenge comes between the first and its answer, which is accepted."""
    sent = register(1, THIRD, empty(), call="call-2", port=5060)
    story.until("welcome").later("answer", 5.0)
    went = goes(story, ("restart", "again"), 1.0, sent, "no", (UP, DOWN), 7)
    story.ask("ma7", 1.05, S_CX, mar(7), maa(item(V3)))
    went.answer(401, challenge(V3))


def accepted_at_once(story: Story) -> None:
    """The first REGISTER is accepted as it is."""
    story.until("register/i")
    went = goes(story, ("register", "welcome"), 0.0, story["register"].message, "no", (UP, DOWN), 1)
    went.answer(200, welcome())


def clear_answer(story: Story) -> None:
    """Alice's answer comes in clear."""
    clear(story.until("welcome"), "answer")


def clear_farewell(story: Story) -> None:
    """Alice leaves in clear."""
    clear(story, "goodbye")


def told_late(story: Story) -> None:
    """The SAR follows the 200."""
    story.until("welcome")
    story["sar1"].time, story["saa1"].time = 0.282, 0.286


def asked_of(name: str, **more: str) -> Spoil:
    """Another private identity answers."""
    other = f"bob@{IMPI.partition('@')[2]}"
    rows = [edit(step, "Authorization", IMPI, other) for step in (name, f"{name}/p", f"{name}/i")]
    return every(until("welcome"), *rows, avp("uar2", "User-Name", other))


NO_CK = f'ck="{"0" * 32}"'
#: The answer, and the challenge that it answers.
PAIR = ("answer/i", "challenge/s")

CASES = [
    Case("CHL-01", changed((",ck=", ",xk=")), "challenge/s", "challenge lacks ck", SC),
    Case("CHL-01", changed(("nonce=", "opaque=")), "challenge/s", "challenge lacks nonce", SC),
    Case("CHL-01", changed(("AKAv1-MD5", "MD5")), "challenge/s", "algorithm MD5", SC, ("register/i",)),
    Case("CHL-01", changed(("algorithm=AKAv1-MD5,", "")), "challenge/s", "algorithm MD5", SC, ("register/i",)),
    Case(
        "CHL-01",
        until("challenge/s", header("challenge/s", "WWW-Authenticate", None)),
        "challenge/s",
        "401 without a Digest challenge",
        SC,
    ),
    Case(
        "CHL-01",
        every(until("challenge/i"), core_only, flagged("register", "tls-connected")),
        "challenge/s",
        "over TLS carries",
        SC,
        ("register/i",),
    ),
    Case("CHL-02", nonce_of(bytes(31)), "challenge/s", "got 31", SC),
    Case("CHL-02", nonce_of(b"\1" * 32), "challenge/s", "another AUTN", SC, ("maa1",)),
    Case("CHL-02", nonce_of(b"\7" * 32), "challenge/s", "not in the MAA just received", SC, ("maa1",)),
    Case("CHL-03", changed(('ck="[0-9a-f]', 'ck="')), "challenge/s", "ck of 31 characters", SC),
    Case("CHL-03", changed(('ik="[0-9a-f]', 'ik="x')), "challenge/s", "ik that is no hex", SC),
    Case(
        "CHL-03", changed(('ck="[0-9a-f]*"', f'ck="{"0" * 32}"')), "challenge/s", "not the CK of the MAA", SC, ("maa1",)
    ),
    Case(
        "CHL-03",
        changed(('ik="[0-9a-f]*"', f'ik="{vector(1, 0x21).ck.hex()}"')),
        "challenge/s",
        "not the IK of the MAA: it is the CK",
        SC,
        ("maa1",),
    ),
    Case(
        "CHL-04",
        until("rechallenge/i", challenged_with(vector(1, 0x21), "rechallenge")),
        "rechallenge/s",
        "the RAND of an earlier one",
        SC,
        ("challenge/s",),
    ),
    Case("CHL-04", sqn_falls, "rechallenge/s", "SQN 000000000011", Role.UNKNOWN, ("challenge/s",), keyed=True),
    Case("CHL-05", second_first, "challenge/s", "item 2 of the MAA just received", SC, ("maa1",)),
    Case("CHL-05", third_before_second, "again/s", "item 2 of an MAA after a later one", SC, ("rechallenge/s", "maa1")),
    Case("AKS-10", old_after_resync, "reply/s", "from before the resynchronisation", SC, ("maa1", "maa3")),
    Case("AKS-18", failures(3), "next3/s", "challenge number 4 in a row", SC, level=Level.WARNING),
    Case(
        "AKS-02",
        reaction(credentials(vector(1, 0x21), res=b"wrong678")),
        "reply/s",
        "200 to a REGISTER with a wrong response",
        SC,
        PAIR,
    ),
    Case(
        "AKS-02",
        reaction(
            credentials(vector(1, 0x21), res=b"wrong678"),
            401,
            challenge(V3),
            asks=(AuthDataItem(scheme="Digest-AKAv1-MD5"), V3),
        ),
        "reply/s",
        "401 to a REGISTER with a wrong response",
        SC,
        ("answer/i",),
        Level.NOTE,
    ),
    Case(
        "AKS-01",
        reaction(answered(), 403, []),
        "reply/s",
        "403 to a REGISTER whose response",
        SC,
        PAIR,
    ),
    Case(
        "AKS-01",
        reaction(answered(), 401, challenge(V3), asks=(AuthDataItem(scheme="Digest-AKAv1-MD5"), V3)),
        "reply/s",
        "401 to a REGISTER whose response",
        SC,
        PAIR,
    ),
    Case(
        "AKS-01",
        every(until("welcome"), lambda story: setattr(story["saa1"], "time", 0.285)),
        "welcome/s",
        "before the SAA",
        SC,
        ("sar1",),
    ),
    Case("AKS-01", told_late, "welcome/s", "before the SAR", SC, ("sar1",)),
    Case(
        "AKS-01",
        every(until("welcome"), lambda story: story.drop("sar1", "saa1")),
        "welcome/s",
        "without an SAR",
        SC,
        ("uaa1",),
        Level.WARNING,
    ),
    Case(
        "AKS-03",
        reaction(answered(), call="call-2"),
        "reply/s",
        "under Call-ID call-2",
        SC,
        PAIR,
    ),
    Case("AKS-04", asked_of("answer"), "welcome/s", "an answer of bob@", SC, PAIR, also=frozenset({"AKS-02"})),
    Case(
        "AKS-05",
        reaction(answered(**{"AKAv1-MD5": "MD5"})),
        "reply/s",
        "an answer with algorithm MD5",
        SC,
        PAIR,
    ),
    Case(
        "AKS-05",
        reaction(answered(**{"algorithm=AKAv1-MD5,": ""})),
        "reply/s",
        "an answer with no algorithm",
        SC,
        PAIR,
    ),
    Case("AKS-06", replaced, "welcome/s", "a newer one had replaced", SC, ("answer/i", "challenge/s", "again/s")),
    Case(
        "AKS-13",
        until("welcome", lambda story: story.later("answer", 300.0)),
        "welcome/s",
        "300 s after its challenge",
        SC,
        PAIR,
    ),
    Case(
        "AKS-17",
        until("welcome", lambda story: clear(story, "answer")),
        "welcome/s",
        "a response and integrity",
        SC,
        ("answer/i",),
    ),
    Case("CHL-06", accepted_at_once, "welcome/s", "200 to a REGISTER with", SC, ("register/i",)),
    Case("DER-05", clear_farewell, "farewell/s", "200 to a de-registration", SC, ("goodbye/i",)),
    Case(
        "CHL-07",
        every(until("welcome"), core_only, edit_up("answer", "Authorization", ',integrity-protected="yes"', "")),
        "welcome/s",
        "is not marked",
        SC,
        ("answer/i",),
    ),
    Case(
        "AKS-12",
        reaction(empty(vector(1, 0x21).nonce), flag="no"),
        "reply/s",
        "200 to a report of a wrong MAC",
        SC,
        PAIR,
        also=frozenset({"CHL-06"}),
    ),
    Case(
        "AKS-12",
        reaction(empty(vector(1, 0x21).nonce), 403, challenge(V3), flag="no"),
        "reply/s",
        "carries WWW-Authenticate",
        SC,
        ("answer/i",),
    ),
    Case("AKS-08", resync(None), "mar3", "without SIP-Authorization", SC, ("answer/i",)),
    Case("AKS-08", resync(GOOD_AUTS[16:]), "mar3", "of 14 octets", SC),
    Case("AKS-08", resync(bytes(16) + GOOD_AUTS[16:]), "mar3", "does not begin with", SC, ("answer/i",)),
    Case("AKS-08", resync(GOOD_AUTS[:16] + bytes(14)), "mar3", "does not end with", SC, ("answer/i",)),
    Case("AKS-11", resync(bytes(30), auts="AAAA"), "mar3", 'for auts="AAAA"', SC, ("answer/i",), Level.WARNING),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_wrong_is_found(case: Case) -> None:
    check(case)


def test_every_rule_has_its_case() -> None:
    assert rules_lacking(CASES, "authentication") == set()


@pytest.mark.parametrize(
    "spoil",
    [
        resync(GOOD_AUTS),
        failures(2),
        in_order,
        reaction(empty(vector(1, 0x21).nonce), 403, [], flag="no"),
        reaction(credentials(vector(1, 0x21), res=b"wrong678"), 403, []),
        reaction(answered(), 500, []),
    ],
    ids=["resync", "two failures", "in order", "report", "wrong response", "trouble"],
)
def test_a_failure_that_is_handled_well_is_nobodys_fault(spoil: Spoil) -> None:
    sound(spoil)
    sound(spoil, keyed=True)


def test_a_challenge_that_comes_by_two_ways_is_one() -> None:
    """The P-CSCF tries two entry points; the S-CSCF answers both with the same challenge."""

    def spoil(story: Story) -> None:
        story.until("challenge/i")
        for step in ("register/p", "register/i", "challenge/s", "challenge/i"):
            other = story.again(f"{step}-2", step, story[step].time + 0.2)
            other.edit("Via", "branch=z9hG4bK-call-1-1-1", "branch=z9hG4bK-call-1-1-other")
        story["register/i-2"].time += 0.0001

    sound(spoil)


def test_a_wrong_response_is_only_told_by_who_knows() -> None:
    """Without Cx and without the key nobody knows what the response should be; a wrong K says nothing either."""

    def spoil(story: Story) -> None:
        reaction(credentials(vector(1, 0x21), res=b"wrong678"))(story)
        sip_only(story)
        story.keys.add_milenage(bytes(16), opc=bytes(16), impi=IMPI)

    sound(spoil)


def test_a_digest_of_another_scheme_is_not_judged_as_aka() -> None:
    def spoil(story: Story) -> None:
        story.until("challenge/i")
        core_only(story)
        sip_only(story)
        edit_up("register", "Authorization", ',integrity-protected="no"', "")(story)
        value = 'Digest realm="home",nonce="abc",algorithm=MD5,qop="auth"'
        for step in ("challenge/s", "challenge/i"):
            story[step].message.set("WWW-Authenticate", value)

    sound(spoil)


def test_an_emergency_registration_goes_on_beside() -> None:
    def spoil(story: Story) -> None:
        replaced(story)
        for step in ("restart", "restart/p", "restart/i"):
            story[step].edit("Contact", ":30000", ":30000;sos")

    sound(spoil)
