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
