"""Makes docs/reference/faults.md from the two tables: `python -m tests.faults_page`. A test compares them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hss.faults import FAULTS as HSS_FAULTS
from imslab.roles.faults import FAULTS

PAGE = Path(__file__).resolve().parent.parent / "docs/reference/faults.md"

HEAD = """# Faults

Boxes can be made wrong on purpose, one named deviation each, in [lab.yaml](lab-yaml.md):

    pcscf:
      faults: [pcscf-keys-on-gm]
    hss:
      faults: [auts-unchecked]

`ue.faults` are those of the first UE; the others stay sane.

A fault shows where its box does what is wrong with it, and `imslab run` plays one story only: registrations, a MESSAGE
each way, a re-registration, de-registrations. Many need another one (a card that refuses, a subscriber whom the HSS
removes, SAs that run out) and end `imslab run` with no findings; the tests play those, fault by fault.

| box | fault | what goes wrong |
| --- | --- | --- |
"""


def rows() -> Iterator[str]:
    """One row per fault."""
    for role in ("UE", "P-CSCF", "I-CSCF", "S-CSCF"):
        for name, fault in sorted(FAULTS.items()):
            if fault.role == role:
                yield f"| {role} | {name} | {fault.text} |"
    for name, text in sorted((each.name, each.text) for each in HSS_FAULTS.values()):
        yield f"| HSS | {name} | {text} |"


def page() -> str:
    """The whole page."""
    return HEAD + "\n".join(rows()) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
