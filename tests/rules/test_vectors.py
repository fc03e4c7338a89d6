"""The HSS as authentication centre: each rule broken by one knob."""

from __future__ import annotations

from dataclasses import replace

import pytest

from imslab.aka.milenage import Milenage
from imslab.aka.vector import Vector, generate, make_auts
from imslab.diameter.avp import Avp
from imslab.diameter.cx import AuthDataItem, MultimediaAuthAnswer
from imslab.diameter.dictionary import make
from imslab.rules.clauses import Level
from imslab.rules.exchanges import exchanges_of
from imslab.trace.model import Role
from tests.rules.build_core import (
    DOMAIN,
    IMPI,
    OPC,
    S_CX,
    SCSCF,
    TEMPORARY,
    Case,
    K,
    Spoil,
    Story,
    avp,
    check,
    every,
    item,
    maa,
    mar,
    rules_lacking,
    sane,
    sound,
    until,
)

H = Role.HSS
ALGORITHM = Milenage(K, OPC)
AKA = "Digest-AKAv1-MD5"
OTHER = f"sip:other.{DOMAIN}:5060"


def vector(number: int, sqn: int, amf: bytes = b"\0\0") -> Vector:
    """A vector of Alice's."""
    return generate(ALGORITHM, bytes([number]) * 16, sqn, amf)


FIRST = vector(1, 0x21)


def brings(*items: AuthDataItem, step: str = "maa1", wanted: int = 0) -> Spoil:
    """Other items in an MAA, which the story ends with. wanted: how many were asked for, 0: so many."""

    def spoil(story: Story) -> None:
        story.until(step)
        message = story[step].message
        message.avps = [each for each in message.avps if each.code not in (607, 612)]
        message.avps += [each for each in maa(*items).to_avps() if each.code in (607, 612)]
        avp(step.replace("maa", "mar"), "SIP-Number-Auth-Items", wanted or max(1, len(items)))(story)

    return spoil


def broken(**changes: object) -> Spoil:
    """The first vector with something else in it."""
    return brings(replace(item(FIRST), **changes))  # type: ignore[arg-type]


def asks(scheme: str, *items: AuthDataItem) -> Spoil:
    """The first MAR asks for another scheme."""
    return every(brings(*items), avp("mar1", "SIP-Auth-Data-Item", [make("SIP-Authentication-Scheme", scheme)]))


def next_one(
    which: Vector, *, auts: bytes | None = None, name: str = SCSCF, at: float = 300.0, number: int = 8
) -> Spoil:
    """One more MAR, and what it brings. auts: RAND ‖ AUTS."""

    def spoil(story: Story) -> None:
        story.until("heard/p")
        asked = mar(number, item=AuthDataItem(scheme=AKA, authorization=auts), server_name=name)
        story.ask(f"ma{number}", at, S_CX, asked, maa(item(which)))

    return spoil


def auts(sqn_ms: int, forged: bool = False) -> bytes:
    """RAND ‖ AUTS to the first vector."""
    given = make_auts(ALGORITHM, FIRST.rand, sqn_ms)
    return FIRST.rand + (given[:-1] + bytes([given[-1] ^ 1]) if forged else given)


#: Who asks for another scheme is blamed too.
ASKER = frozenset({"HSS-33"})

CASES = [
    Case("HSS-10", broken(authenticate=b"x" * 31), "maa1", "SIP-Authenticate of 31 octets: expected 32", H),
    Case("HSS-10", broken(authorization=b"x" * 17), "maa1", "SIP-Authorization of 17 octets: expected 4 to 16", H),
    Case("HSS-10", broken(ck=None), "maa1", "Confidentiality-Key is missing", H),
    Case("HSS-10", broken(ik=b"x"), "maa1", "Integrity-Key of 1 octets", H),
    Case("HSS-10", broken(scheme="SIP Digest"), "maa1", "scheme SIP Digest: expected Digest-AKAv1-MD5", H),
    Case("HSS-10", brings(), "maa1", "no SIP-Auth-Data-Item", H),
    Case("HSS-10", until("maa1", avp("maa1", "Public-Identity", None)), "maa1", "MAA lacks Public-Identity", H),
    Case("HSS-11", brings(item(FIRST, 1), item(vector(2, 0x42), 2), wanted=1), "maa1", "2 vectors: 1", H, ("mar1",)),
    Case("HSS-11", until("maa1", avp("maa1", "SIP-Number-Auth-Items", 2)), "maa1", "is 2, there are 1 items", H),
    Case("HSS-11", brings(item(FIRST), item(vector(2, 0x42))), "maa1", "without SIP-Item-Numbers", H),
    Case(
        "HSS-11",
        brings(item(vector(2, 0x42), 1), item(FIRST, 2)),
        "maa1",
        "SQN 000000000021 after 000000000042 in one MAA",
        H,
        keyed=True,
    ),
    Case(
        "HSS-12", asks("foo", item(FIRST)), "maa1", "success for scheme foo", H, ("mar1",), also=frozenset({"HSS-33"})
    ),
    Case(
        "HSS-12",
        asks("Unknown", item(FIRST)),
        "maa1",
        "AKA vectors for scheme",
        H,
        ("mar1",),
        also=frozenset({"HSS-33"}),
    ),
    Case(
        "ALG-21", broken(authorization=b"x" * 8, ik=bytes(16)), "maa1", "item 1: XRES, IK not of the key", H, keyed=True
    ),
    Case("CHL-18", brings(item(vector(1, 0x21, b"\x80\0"))), "maa1", "AMF 8000", H, level=Level.NOTE),
    Case("CX-01", next_one(vector(1, 0x42)), "maa8", "was in an earlier vector", H, ("maa1",)),
    Case(
        "CX-04",
        next_one(vector(9, 0x9021, b"\x12\x34"), auts=auts(0x9000)),
        "maa8",
        "AMF 1234 after a resynchronisation: it was 0000",
        H,
        ("maa1",),
        Level.NOTE,
    ),
    Case("HSS-18", next_one(FIRST), "maa8", "this vector was given before", H, ("maa1",)),
    Case("HSS-18", next_one(vector(9, 0x21)), "maa8", "SQN 000000000021 was given before", H, ("maa1",), keyed=True),
    Case("HSS-18", next_one(vector(9, 0x11)), "maa8", "SQN 000000000011 after 000000000021", H, ("maa1",), keyed=True),
    Case("HSS-19", next_one(vector(9, 0x22)), "maa8", "SEQ stays 1", H, ("maa1",), Level.NOTE, keyed=True),
    Case(
        "HSS-14",
        next_one(vector(9, 0x42), auts=auts(0x5000)),
        "maa8",
        "SQN 000000000042 after an AUTS with SQN_MS 000000005000",
        H,
        ("mar8",),
        keyed=True,
    ),
    Case(
        "HSS-15",
        next_one(vector(9, 0x9000021), auts=auts(0x9000000, forged=True)),
        "maa8",
        "follows an AUTS whose MAC-S is wrong",
        H,
        ("mar8", "maa1"),
        keyed=True,
    ),
    Case(
        "HSS-16",
        next_one(vector(9, 0x42), auts=auts(0x21), name=OTHER),
        "maa8",
        f"vectors for an AUTS from {OTHER}",
        H,
        ("mar8", "saa1"),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_wrong_is_found(case: Case) -> None:
    check(case)


def test_every_rule_has_its_case() -> None:
    assert rules_lacking(CASES, "vectors") == set()


def parallel(story: Story) -> None:
    """Two MARs under way at once, answered out of order."""
    story.until("heard/p")
    story.ask("ma8", 300.0, S_CX, mar(8), maa(item(vector(9, 0x63))))
    story.ask("ma9", 300.001, S_CX, mar(9), maa(item(vector(8, 0x42))))


def reset(story: Story) -> None:
    """After a resynchronisation the SQN may be lower."""
    next_one(vector(9, 0x9000021))(story)
    next_one(vector(8, 0x63), auts=auts(0x42), number=9)(story)


def refused(story: Story) -> None:
    """An AUTS that a stranger sent is refused."""
    story.until("heard/p")
    asked = mar(8, item=AuthDataItem(scheme=AKA, authorization=auts(0x21)), server_name=OTHER)
    story.ask("ma8", 300.0, S_CX, asked, MultimediaAuthAnswer(result_code=5012))


@pytest.mark.parametrize(
    "spoil",
    [
        brings(item(FIRST, 1), item(vector(2, 0x42), 2), wanted=3),
        next_one(vector(9, 0x42)),
        next_one(vector(9, 0x5021), auts=auts(0x5000)),
        next_one(vector(9, 0x42), auts=auts(0x9000000, forged=True)),
        parallel,
        reset,
        refused,
        asks("SIP Digest", AuthDataItem(number=1, scheme="SIP Digest")),
    ],
    ids=["three asked", "next", "resync", "forged", "parallel", "reset", "refused", "digest"],
)
def test_what_is_right_is_nobodys_fault(spoil: Spoil) -> None:
    def free(story: Story) -> None:
        # the MARs here are none of a REGISTER's
        spoil(story)
        story.only(lambda step: step.name.startswith(("ma", "ce", "ua", "sa")))

    sound(free)
    sound(free, keyed=True)


def test_a_wrong_key_says_nothing_about_vectors() -> None:
    def spoil(story: Story) -> None:
        story.keys.add_milenage(bytes(16), opc=bytes(16), impi=IMPI)

    sound(spoil)


def test_the_separation_bit_is_told_once() -> None:
    def spoil(story: Story) -> None:
        brings(item(vector(1, 0x21, b"\x80\0")))(story)
        story.ask("ma8", 300.0, S_CX, mar(8), maa(item(vector(9, 0x42, b"\x80\0"))))

    check(Case("CHL-18", spoil, "maa1", "AMF 8000", H, level=Level.NOTE))


def test_vectors_are_known_by_their_exchange_and_keep_their_keys_to_themselves() -> None:
    story = sane()
    exchanges = exchanges_of(story.trace())
    (known,) = exchanges.vectors[FIRST.rand]
    assert known.exchange.impi == IMPI
    assert known.exchange.impus == [TEMPORARY]
    assert known.sqn is None
    assert FIRST.ck.hex() not in repr(known)
    assert exchanges.sequence_numbers(known.exchange) == [known]


def test_an_item_that_is_no_group_is_left_to_others() -> None:
    def spoil(story: Story) -> None:
        story.until("maa1")
        place = next(i for i, each in enumerate(story["maa1"].message.avps) if each.code == 612)
        story["maa1"].message.avps[place] = Avp(612, 10415, 0xC0, b"abcd")

    story = sane()
    spoil(story)
    story._learn = lambda _: None  # type: ignore[method-assign]
    assert exchanges_of(story.trace()).vectors == {}
