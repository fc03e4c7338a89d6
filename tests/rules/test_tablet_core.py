"""A real tablet with a real core: exactly these findings of the rules about Mw and Cx.

The numbers of the frames are in `expected/tablet-core.txt`: rule, box, level, frames. What each one rests on:

- PCI-03, PCI-05, PCI-07: both REGISTERs leave the P-CSCF without P-Charging-Vector and integrity-protected, and with
  the security agreement of Gm.
- CHL-07: the S-CSCF takes the unmarked answer for a protected one all the same.
- CHL-18, OKR-05: the HSS's AMF is 8000; its user data has a tel URI that is neither global nor has a phone-context.
- EVT-12, EVT-14: the first document has version 2; both identities came with the barred one that was registered, and
  are "registered" themselves.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from imslab.rules.judge import judge
from imslab.trace.dissect import dissect
from imslab.trace.keys import KeyRing
from imslab.trace.pcap import read
from tests.require import require_shared
from tests.rules.build_core import our_rules

EXPECTED = Path(__file__).parent / "expected/tablet-core.txt"
CAPTURE = "captures/samsung-kamailio-ipsec-reg.pcapng"


@pytest.mark.parametrize("with_key", [False, True])
def test_these_and_no_others(with_key: bool) -> None:
    keys = KeyRing()
    if with_key:
        keys.add_milenage(bytes.fromhex("8baf473f2f8fd09487cccbd7097c6862"), op=b"\x11" * 16)
    with require_shared(CAPTURE).open("rb") as stream:
        trace = dissect(read(stream), keys)
    found = [
        f"{each.rule} {each.role} {each.level} {','.join(str(frame) for frame in each.records)}"
        for each in judge(trace, our_rules())
    ]
    assert found == [line for line in EXPECTED.read_text().splitlines() if not line.startswith("#")]
