"""Whole labs with one fault each: the rule about it fires, and blames the box that has it. Sane labs are found sane.

`tests/rules/faults.txt` is the expected result, a line for each story without a fault, and one for each fault in each
story that shows it. `python -m tests.rules.test_faults` writes it anew; look at every line that changed, with the
clause beside it, before you commit it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hss.faults import FAULTS as HSS_FAULTS
from imslab.roles.faults import FAULTS
from imslab.rules.clauses import RULES, Finding
from imslab.rules.judge import UNREADABLE
from imslab.trace.model import Role
from tests.flows.labs import CBC_AND_NULL, COMBINED, first, subscriber
from tests.rules.stories import STORIES

EXPECTED = Path(__file__).with_name("faults.txt")
HEAD = """\
# What the judge says of whole labs: box, its fault, the story that is played, faults of other boxes beside it, rules.
# A rule stands alone where it blames the box of the line, else with whom it blames ("?": nobody). Behind "#" stands why
# no rule sees a fault. See test_faults.py.
"""
#: Role → the box's name in a lab's configuration.
BOXES = {"UE": "ue", "P-CSCF": "pcscf", "I-CSCF": "icscf", "S-CSCF": "scscf", "HSS": "hss"}
#: Of a line without a fault, or a fault without companions.
NONE = "-"


@dataclass(frozen=True)
class Occasion:
    """When a fault shows: in this story, with these faults of other boxes beside it."""

    story: str = "job"
    beside: tuple[str, ...] = ()


def on(story: str, *beside: str) -> Occasion:
    """An occasion."""
    return Occasion(story, beside)


#: Faults that the main job alone does not show, or not in full.
OCCASIONS: dict[str, tuple[Occasion, ...]] = {
    # UE
    "ue-answers-clear-requests": (on("clear-options"),),
    "ue-auts-for-mac": (on("key-changes"),),
    "ue-claims-provided-access": (on("access-unaware"),),
    "ue-count-without-qop": (on("no-qop"),),
    "ue-drops-old-set": (on("silent-after-refresh"),),
    "ue-ignores-min-expires": (on("brief"),),
    "ue-keeps-call-id": (on("job", "pcscf-no-security-server"),),
    "ue-leaves-calls-standing": (on("leaving-a-call"),),
    "ue-never-subscribes": (on("rest"),),
    "ue-never-tires": (on("resync", "scscf-ignores-auts"),),
    "ue-never-waits": (on("network-is-down"),),
    "ue-refreshes-late": (on("short"), on("long")),
    "ue-reports-under-new-call-id": (on("resync"),),
    "ue-returns-when-rejected": (on("rtr-0"),),
    "ue-short-lifetime": (on("short"),),
    "ue-speaks-as-registered": (on("barred"),),
    "ue-stays-away": (on("rtr-2"),),
    "ue-takes-clear-answers": (on("renewal", "pcscf-answers-in-clear"),),
    "ue-wrong-auts": (on("resync"), on("resync-again")),
    # P-CSCF
    "pcscf-admits-all": (on("job", "ue-talks-in-clear"), on("call", "ue-talks-in-clear")),
    "pcscf-answers-in-clear": (on("job"), on("job", "ue-wrong-response"), on("renewal", "ue-takes-clear-answers")),
    "pcscf-answers-tcp-anew": (on("large"),),
    "pcscf-asserts-foreign": (on("job", "ue-prefers-foreign"),),
    "pcscf-believes-asserted": (on("job", "ue-asserts-foreign"),),
    "pcscf-believes-charging": (on("job", "ue-forges-charging"),),
    "pcscf-believes-integrity": (on("job", "ue-claims-protection"),),
    "pcscf-believes-path": (on("job", "ue-writes-path"),),
    "pcscf-drops-old-set": (on("talk"),),
    "pcscf-drops-on-failure": (on("key-changes"),),
    "pcscf-failures-inside": (on("assignment-fails"),),
    "pcscf-fickle-401": (on("lost-challenge"),),
    "pcscf-follows-any-route": (on("job", "ue-no-service-route"),),
    "pcscf-ignores-rport": (on("job", "ue-other-port-in-via"),),
    "pcscf-ignores-user": (on("job", "ue-names-another"),),
    "pcscf-ignores-verify": (
        on("job", "ue-changes-verify"),
        on("job", "ue-changes-offer"),
        on("job", "ue-no-verify"),
        on("job", "ue-no-second-offer"),
    ),
    "pcscf-ignores-via": (on("job", "ue-via-elsewhere"),),
    "pcscf-keeps-older-sets": (on("talk"),),
    "pcscf-keeps-refused-set": (on("job", "ue-wrong-response"),),
    "pcscf-keeps-reported-set": (on("resync"),),
    "pcscf-never-switches": (on("talk"),),
    "pcscf-no-reg-event": (on("rest"),),
    "pcscf-serves-temporary": (on("job", "ue-talks-early"),),
    "pcscf-udp-always": (on("large"),),
    # I-CSCF
    "icscf-ignores-refusal": (on("unknown"),),
    "icscf-other-server": (on("two-servers"),),
    # S-CSCF
    "scscf-403-with-challenge": (on("other-key"),),
    "scscf-420-bare": (on("job", "ue-requires-unknown"),),
    "scscf-423-bare": (on("brief"),),
    "scscf-any-call-id": (on("job", "ue-answers-under-new-call-id"),),
    "scscf-any-response": (on("job", "ue-wrong-response"),),
    "scscf-anyone-watches": (on("neighbours", "ue-watches-neighbour"),),
    "scscf-auts-alone": (on("resync"),),
    "scscf-barred-listed": (on("set-of-three"),),
    "scscf-failure-deregisters": (on("key-changes"),),
    "scscf-ignores-auts": (on("resync"),),
    "scscf-ignores-hss": (on("rtr-0"),),
    "scscf-no-notify": (on("rest"),),
    "scscf-no-sar-at-the-end": (on("job-and-rest"),),
    "scscf-notify-one-identity": (on("set-of-three"),),
    "scscf-silent-failure": (on("other-key"), on("job", "ue-wrong-response")),
    "scscf-trusts-clear": (
        on("job", "ue-answers-in-clear"),
        on("unchallenged", "ue-leaves-in-clear", "ue-clear-port-in-contact"),
        on("unchallenged", "ue-refreshes-in-clear", "ue-refreshes-without-proof", "ue-clear-port-in-contact"),
    ),
    "scscf-vectors-backwards": (on("three-vectors"),),
    # HSS
    "amf-zero-after-resync": (on("resync-amf"),),
    "any-sar-clears": (on("stranger-reports-a-failure"),),
    "auts-from-anyone": (on("stranger-resynchronises"),),
    "auts-unchecked": (on("resync", "ue-wrong-auts"),),
    "cer-unchecked": (on("stranger-without-cx"),),
    "identities-unmatched": (on("mismatch"),),
    "mar-before-cer": (on("stranger-without-cer"),),
    "missing-avp-ignored": (on("stranger-forgets-an-avp"),),
    "one-vector": (on("three-vectors"),),
    "open-after-dpr": (on("stranger-says-farewell"),),
    "ppr-missing": (on("profile-changes"),),
    "rtr-nowhere": (on("rtr-0"),),
    "scheme-ignored": (on("stranger-wants-a-scheme"),),
    "split-request-lost": (on("stranger-in-two-segments"),),
    "takeover-silent": (on("stranger-takes-over"),),
    "takeover-unchecked": (on("stranger-assigns-itself"),),
    "unknown-avp-accepted": (on("stranger-adds-an-avp"),),
}

_UNSEEN = "SAs and their lifetimes are not on the wire"
_NOT_HERE = "whoever is out of reach, or was switched off, looks the same"
_REPLACED = "it is the P-CSCF that must not believe it:"
#: Faults that no rule can see in a capture, or none should, and why.
SILENT: dict[str, str] = {
    "ue-asserts-foreign": f"{_REPLACED} pcscf-believes-asserted",
    "ue-claims-protection": f"{_REPLACED} pcscf-believes-integrity",
    "ue-claims-provided-access": "it is the P-CSCF that must not believe it, if it knows the header (33.203 P.3)",
    "ue-drops-old-set": _NOT_HERE,
    "ue-forges-charging": f"{_REPLACED} pcscf-believes-charging",
    "ue-requires-unknown": "a UE may require what it wants, and is told (RFC 3261 8.2.2.3): scscf-420-bare",
    "ue-short-lifetime": f"{_UNSEEN}; a REGISTER in clear is allowed at any time (33.203 7.4.0)",
    "ue-stays-away": _NOT_HERE,
    "ue-writes-path": f"{_REPLACED} pcscf-believes-path",
    "pcscf-answers-tcp-anew": "right where the connection was closed (RFC 3261 18.2.2), which no message shows",
    "pcscf-drops-old-set": f"{_UNSEEN}; the UE speaks in the new set already",
    "pcscf-drops-on-failure": _NOT_HERE,
    "pcscf-keeps-older-sets": f"{_UNSEEN}; nobody uses these any more",
    "pcscf-keeps-refused-set": f"{_UNSEEN}; nobody uses it any more",
    "pcscf-keeps-reported-set": f"{_UNSEEN}; nobody uses it any more",
    "pcscf-retired-algorithms": "it may be of a release that has them; to choose them would be ALG-20",
    "pcscf-short-lifetime": f"{_UNSEEN}; the UE refreshes before",
    "pcscf-shortens-lifetime": f"{_UNSEEN}; the UE refreshes before",
    "scscf-ignores-hss": "an RTA that is missing may be missing in the capture only",
    "keys-logged": "what is told to humans is not on the wire",
    "mnc-cut": "an HSS may say of anybody that it does not know him",
    "one-vector": "an HSS may give fewer vectors than were asked for (29.228 6.3.1)",
    "ppr-missing": "who is told nothing cannot know that there was something to tell",
    "rtr-nowhere": "who is told nothing cannot know that there was something to tell",
    "vector-before-commit": "only a crash between the two would show it",
}

#: Stories in which somebody does wrong by arrangement: these rules say so, whatever faults there are.
ARRANGED: dict[str, frozenset[str]] = {
    "access-unaware": frozenset({"PCI-13:P-CSCF"}),  # the P-CSCF lets what the UE claims pass
    "brief": frozenset({"INI-08:UE"}),  # to ask for 30 s is against 24.229 5.1.1.2.1 already
    "clear-options": frozenset({"PRT-10:P-CSCF"}),  # somebody sends OPTIONS from its address
    "retired": frozenset({"ALG-20:P-CSCF"}),
    "separated": frozenset({"CHL-18:HSS"}),
    "stranger-forgets-an-avp": frozenset({"HSS-33:S-CSCF"}),
    "stranger-says-farewell": frozenset({"DIA-07:S-CSCF"}),  # and speaks on, if it is let
    "stranger-without-cer": frozenset({"DIA-05:S-CSCF"}),
}

#: How many rules a fault in a lab must trip at least, over the whole table.
ENOUGH = 150


def box_of(fault: str) -> str:
    """The box that can have a fault."""
    return BOXES[FAULTS[fault].role] if fault in FAULTS else "hss"


def role_of(fault: str) -> str:
    """The same, as findings name it."""
    return FAULTS[fault].role if fault in FAULTS else "HSS"


def every_fault() -> list[str]:
    """All that are declared, by box, in the order of the page of faults."""
    roles = list(BOXES)
    return sorted(FAULTS, key=lambda name: (roles.index(FAULTS[name].role), name)) + sorted(HSS_FAULTS)


def occasions() -> Iterator[tuple[str, Occasion]]:
    """Every line: stories without a fault first."""
    yield from ((NONE, Occasion(name)) for name in STORIES)
    for fault in every_fault():
        yield from ((fault, each) for each in OCCASIONS.get(fault, (Occasion(),)))


@cache
def findings(fault: str, occasion: Occasion) -> list[Finding]:
    """What the judge says of a lab."""
    settings: dict[str, Any] = {}
    for name in (*((fault,) if fault != NONE else ()), *occasion.beside):
        key = f"{box_of(name)}__faults"
        settings[key] = (*settings.get(key, ()), name)
    return STORIES[occasion.story].play(**settings).findings


def line(fault: str, occasion: Occasion) -> str:
    """The line of faults.txt."""
    own = role_of(fault) if fault != NONE else ""
    found = findings(fault, occasion)
    rules = sorted({each.rule if each.role == own else f"{each.rule}:{each.role}" for each in found})
    box = box_of(fault) if fault != NONE else NONE
    why = ["#", SILENT[fault]] if fault in SILENT else []
    return " ".join([box, fault, occasion.story, "+".join(occasion.beside) or NONE, *rules, *why])


@cache
def expected() -> dict[tuple[str, Occasion], str]:
    """The lines of faults.txt."""
    found = {}
    for row in EXPECTED.read_text().splitlines():
        if row and not row.startswith("#"):
            _, fault, story, beside, *_ = row.split()
            found[fault, Occasion(story, tuple(beside.split("+")) if beside != NONE else ())] = row
    return found


def rules_in(row: str) -> list[str]:
    """What stands in a line: "AKA-01" for the box of the line, "AKS-02:S-CSCF" for another, "ESP-05:?" for nobody."""
    return row.partition("#")[0].split()[4:]


def names(value: object) -> str:
    """How a test is called."""
    return "+".join([value.story, *value.beside]) if isinstance(value, Occasion) else str(value)


@pytest.mark.parametrize(("fault", "occasion"), list(occasions()), ids=names)
def test_what_the_judge_says(fault: str, occasion: Occasion) -> None:
    assert line(fault, occasion) == expected()[fault, occasion]


def test_the_table_has_every_line_once() -> None:
    assert list(expected()) == list(occasions())


@pytest.mark.parametrize("fault", every_fault())
def test_every_fault_trips_a_rule_or_has_a_reason_not_to(fault: str) -> None:
    """The rule blames the box that has the fault, or nobody."""
    found = [rule for (name, _), row in expected().items() if name == fault for rule in rules_in(row)]
    assert any(":" not in rule or rule.endswith(":?") for rule in found) is (fault not in SILENT), found


def test_who_does_nothing_wrong_is_blamed_for_nothing() -> None:
    for (fault, occasion), row in expected().items():
        wrong = {role_of(each) for each in (*occasion.beside, *([fault] if fault != NONE else []))}
        arranged = ARRANGED.get(occasion.story, frozenset())
        for rule in rules_in(row):
            _, _, role = rule.partition(":")
            assert not role or role in wrong or role == Role.UNKNOWN or rule in arranged, row
        if fault == NONE:
            assert set(rules_in(row)) <= arranged, row


def test_the_table_trips_enough_rules() -> None:
    tripped = {rule.partition(":")[0] for row in expected().values() for rule in rules_in(row)}
    assert tripped <= {*RULES, UNREADABLE}
    assert len(tripped) >= ENOUGH


# ---- sane labs of every kind: all that is legal, and a network that is not kind


RETIRED_TOKENS = {"hmac-md5-96", "des-ede3-cbc"}


@pytest.mark.parametrize("pair", [*CBC_AND_NULL, *COMBINED], ids="+".join)
def test_a_sane_lab_with_every_algorithm(pair: tuple[str, str]) -> None:
    found = STORIES["job"].play(**first(*pair)).findings
    # both sides know better, and like this one best
    assert {each.rule for each in found} == ({"ALG-20"} if RETIRED_TOKENS & set(pair) else set())


@pytest.mark.parametrize("ip", [4, 6])
@pytest.mark.parametrize("transport", ["auto", "tcp", "udp"])
def test_a_sane_lab_over_every_transport(transport: str, ip: int) -> None:
    found = STORIES["job"].play(ue__transport=transport, ip=ip).findings
    # who is told to use UDP always does so
    assert {(each.rule, each.role) for each in found} == ({("TRN-02", Role.UE)} if transport == "udp" else set())


@pytest.mark.parametrize("algorithm", ["milenage", "tuak", "xor"])
def test_a_sane_lab_with_every_kind_of_card(algorithm: str) -> None:
    keys = {"milenage": {}, "tuak": {"op": "00" * 32}, "xor": {"op": None}}[algorithm]
    subscribers = (subscriber(1, algorithm=algorithm, **keys), subscriber(2))
    assert STORIES["job"].play(subscribers=subscribers).findings == []


UNKIND = {
    "loss": {"gm": {"loss": 0.2}, "mw": {"loss": 0.1}, "cx": {"loss": 0.1}},
    "duplicates": {"gm": {"duplicate": 0.3}, "mw": {"duplicate": 0.3}, "cx": {"duplicate": 0.3}},
    "disorder": {"gm": {"reorder": 0.4, "delay": 0.05}, "mw": {"reorder": 0.3}, "cx": {"reorder": 0.2}},
    "distance": {"gm": {"loss": 0.1, "delay": 0.6, "reorder": 0.2}},
}


STORM = {"gm": {"loss": 0.25}, "mw": {"loss": 0.15}, "cx": {"loss": 0.1}}
#: Story, seed, transport: runs in such a network in which somebody was blamed once, and wrongly.
ONCE_MISJUDGED = [
    ("expiry", 9, "auto"),  # a UE that never got its 200 does not subscribe
    ("set-of-three", 10, "udp"),  # a NOTIFY that had waited for its connection says what was true before
    ("talk", 10, "udp"),  # a NOTIFY that was overtaken is answered 500
    ("unchallenged", 14, "tcp"),
]


@pytest.mark.parametrize(("story", "seed", "transport"), ONCE_MISJUDGED)
def test_a_sane_lab_in_a_storm(story: str, seed: int, transport: str) -> None:
    here = STORIES[story].play(links=STORM, seed=seed, ue__transport=transport, ip=6 if seed % 2 else 4)
    told = {"TRN-02"} if transport == "udp" else set()
    assert {each.rule for each in here.findings} == told


@pytest.mark.parametrize("seed", [1, 2, 7])  # in 1 and 7 a REGISTER is repeated until it is challenged anew
@pytest.mark.parametrize("story", ["talk", "leaving-a-call"])
@pytest.mark.parametrize("links", UNKIND)
def test_a_sane_lab_in_an_unkind_network(links: str, story: str, seed: int) -> None:
    assert STORIES[story].play(links=UNKIND[links], seed=seed).findings == []


def main(arguments: Sequence[str]) -> None:
    """Write faults.txt; or show the findings of these faults (or stories) in full."""
    if arguments:
        for fault, occasion in occasions():
            if fault in arguments or (fault == NONE and occasion.story in arguments):
                print(line(fault, occasion))
                for each in findings(fault, occasion):
                    print(f"    {each.rule} {each.level} {each.role} {each.records[:4]} {each.text}")
        return
    lines = [line(fault, occasion) for fault, occasion in occasions()]
    EXPECTED.write_text(HEAD + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])


def test_a_sane_lab_whose_register_goes_twice_through_the_i_cscf() -> None:
    """The P-CSCF sends the REGISTER anew, with a new Path and branch; the I-CSCF passes on what it got (MW-08)."""
    worst = {"loss": 0.3}
    assert STORIES["job"].play(links={"gm": worst, "mw": worst, "cx": worst}, seed=8).findings == []
