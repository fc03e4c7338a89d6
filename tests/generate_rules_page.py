"""Writes docs/reference/rules.md from the rules themselves: `python -m tests.generate_rules_page`."""

from __future__ import annotations

from pathlib import Path

import imslab.rules  # noqa: F401  (declares the rules)
from imslab.rules.clauses import RULES, Rule

PAGE = Path(__file__).resolve().parent.parent / "docs/reference/rules.md"

HEAD = """# Rules

Every clause that imslab judges a trace by, live or captured. A finding names the rule, its clause, the box that broke
it, and the frames that prove it.

- **Rule**: where it is made of letters and a number like `CHL-10`, that of the project's catalogue of cases; `GM-…` and
  `ESP-…` are rules that the catalogue has no case for.
- **Box**: who is blamed; a finding may name another box where the text says so, and `?` where nobody can tell.
- **Level**: violation (a must is broken), warning (a should, or robustness), note (worth knowing). Some rules have
  findings of a lower level too.
- **Basis**: how well the clause is known here: read; second-hand, through an implementation or a summary; unread. A
  finding on a clause that nobody here has read says "(unconfirmed)".

`UNREADABLE` is no rule of this list: a message had a header that could not be read where a rule had to read it.

This page is written by `python -m tests.generate_rules_page`; a test compares it with the rules.

| Rule | Box | Level | Clause | Basis | What is right |
| --- | --- | --- | --- | --- | --- |
"""


def order(rule: Rule) -> tuple[str, int]:
    """By area, then by number."""
    area, _, number = rule.id.rpartition("-")
    return (area, int(number)) if number.isdigit() else (rule.id, 0)


def page() -> str:
    """The page as it should be."""
    rows = [
        f"| {rule.id} | {rule.role} | {rule.level} | {rule.clause} | {rule.basis} | {rule.title} |\n"
        for rule in sorted(RULES.values(), key=order)
    ]
    return HEAD + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page())
