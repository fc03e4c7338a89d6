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
from imslab.rules.clauses import Finding
from tests.rules.stories import STORIES

EXPECTED = Path(__file__).with_name("faults.txt")
HEAD = """\
# What the judge says of whole labs: box, its fault, the story that is played, faults of other boxes beside it, rules.
# A rule stands alone where it blames the box of the line, else with whom it blames. See test_faults.py.
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
    "ue-asserts-foreign": (on("job"),),
    "ue-auts-for-mac": (on("other-key"), on("key-changes")),
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
    "ue-takes-clear-answers": (on("job", "pcscf-answers-in-clear"),),
    "ue-wrong-auts": (on("resync"), on("resync-again")),
    # P-CSCF
    "pcscf-admits-all": (on("job", "ue-talks-in-clear"), on("job", "ue-talks-early")),
    "pcscf-answers-in-clear": (on("job"), on("job", "ue-wrong-response"), on("job", "ue-takes-clear-answers")),
    "pcscf-answers-tcp-anew": (on("job"), on("large")),
    "pcscf-asserts-foreign": (on("job", "ue-prefers-foreign"),),
    "pcscf-believes-asserted": (on("job", "ue-asserts-foreign"),),
    "pcscf-believes-charging": (on("job", "ue-forges-charging"),),
    "pcscf-believes-integrity": (on("job", "ue-claims-protection"),),
    "pcscf-believes-path": (on("job", "ue-writes-path"),),
    "pcscf-drops-old-set": (on("talk"),),
    "pcscf-drops-on-failure": (on("key-changes"),),
    "pcscf-failures-inside": (on("key-changes"), on("other-key"), on("job", "ue-changes-verify")),
    "pcscf-follows-any-route": (on("job", "ue-no-service-route"),),
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
    "pcscf-keeps-reported-set": (on("resync"), on("other-key")),
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
    "scscf-anyone-watches": (on("job", "ue-watches-neighbour"),),
    "scscf-auts-alone": (on("resync"),),
    "scscf-barred-listed": (on("set-of-three"),),
    "scscf-failure-deregisters": (on("key-changes"),),
    "scscf-ignores-auts": (on("resync"),),
    "scscf-ignores-hss": (on("rtr-0"),),
    "scscf-no-notify": (on("rest"),),
    "scscf-no-sar-at-the-end": (on("job-and-rest"), on("expiry")),
    "scscf-notify-one-identity": (on("set-of-three"),),
    "scscf-silent-failure": (on("other-key"), on("job", "ue-wrong-response")),
    "scscf-trusts-clear": (
        on("job", "ue-answers-in-clear"),
        on("unchallenged", "ue-leaves-in-clear"),
        on("unchallenged", "ue-refreshes-in-clear", "ue-refreshes-without-proof"),
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

#: Faults that no capture shows, and why.
INVISIBLE: dict[str, str] = {}

#: Stories in which somebody does wrong by arrangement, and who: no fault of a box is needed for these findings.
ARRANGED: dict[str, str] = {}

#: (fault, rule): a finding that blames a box without a fault, and why that is right all the same.
BLAMES_ANOTHER: dict[tuple[str, str], str] = {}


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
    rules = sorted(
        {each.rule if each.role == own else f"{each.rule}:{each.role}" for each in findings(fault, occasion)}
    )
    box = box_of(fault) if fault != NONE else NONE
    return " ".join([box, fault, occasion.story, "+".join(occasion.beside) or NONE, *rules])


@cache
def expected() -> dict[tuple[str, Occasion], str]:
    """The lines of faults.txt."""
    found = {}
    for row in EXPECTED.read_text().splitlines():
        if row and not row.startswith("#"):
            _, fault, story, beside, *_ = row.split()
            found[fault, Occasion(story, tuple(beside.split("+")) if beside != NONE else ())] = row
    return found


def names(value: object) -> str:
    """How a test is called."""
    return "+".join([value.story, *value.beside]) if isinstance(value, Occasion) else str(value)


@pytest.mark.parametrize(("fault", "occasion"), list(occasions()), ids=names)
def test_what_the_judge_says(fault: str, occasion: Occasion) -> None:
    assert line(fault, occasion) == expected()[fault, occasion]


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
