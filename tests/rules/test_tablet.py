"""A real tablet with a real core: exactly these findings of the rules about Gm and ESP.

What each one rests on stands beside the capture, which is not part of the project; the numbers of the frames are in
`expected/tablet.txt`: rule, box, level, frames.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from imslab.rules.clauses import Finding
from imslab.rules.judge import judge
from imslab.trace.dissect import dissect
from imslab.trace.keys import KeyRing
from imslab.trace.pcap import read
from tests.require import require_shared
from tests.rules.build import our_rules

EXPECTED = Path(__file__).parent / "expected/tablet.txt"
CAPTURE = "captures/samsung-kamailio-ipsec-reg.pcapng"


def row(finding: Finding) -> str:
    """A finding as a line of the table."""
    return f"{finding.rule} {finding.role} {finding.level} {','.join(str(each) for each in finding.records)}"


def found(keys: KeyRing | None = None) -> list[str]:
    """What the rules say of the capture."""
    with require_shared(CAPTURE).open("rb") as stream:
        trace = dissect(read(stream), keys)
    return [row(finding) for finding in judge(trace, our_rules())]


def expected() -> list[str]:
    """The table."""
    return [line for line in EXPECTED.read_text().splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("with_key", [False, True])
def test_these_and_no_others(with_key: bool) -> None:
    keys = KeyRing()
    if with_key:
        keys.add_milenage(bytes.fromhex("8baf473f2f8fd09487cccbd7097c6862"), op=b"\x11" * 16)
    assert found(keys) == expected()


def test_the_first_fault_is_the_via_and_the_second_the_clear_answer() -> None:
    rows = [line.split() for line in found()]
    places = {rule: (role, frames.split(",")) for rule, role, _, frames in rows}
    assert places["PRT-08"] == ("P-CSCF", ["691", "692", "693", "694", "695"])
    assert places["PRT-05"] == ("UE", ["698", "699", "700", "691"])
    order = [rule for rule, *_ in rows]
    assert order.index("PRT-08") < order.index("PRT-05")
