"""Documents that must agree with the code."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from imslab.roles.faults import FAULTS
from tests import faults_page

PROJECT = Path(__file__).resolve().parent.parent


def test_every_dependency_is_justified_and_nothing_else() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    declared = {(name_of(line), "–") for line in project["dependencies"]}
    for extra, lines in project["optional-dependencies"].items():
        declared |= {(name_of(line), extra) for line in lines}
    page = (PROJECT / "docs/reference/dependencies.md").read_text()
    rows = re.findall(r"^\| ([\w.-]+) \| ([\w–]+) \| (.+) \|$", page, re.MULTILINE)
    justified = {(name, extra) for name, extra, why in rows if name not in ("package", "---") and len(why) > 10}
    assert justified == declared


def name_of(requirement: str) -> str:
    """The package that a requirement names."""
    return re.split(r"[<>=!~\[; ]", requirement)[0]


def test_the_page_of_faults_agrees_with_the_tables() -> None:
    assert faults_page.PAGE.read_text() == faults_page.page()
    assert all(fault.role in ("UE", "P-CSCF", "I-CSCF", "S-CSCF") for fault in FAULTS.values())


def test_links_between_documents_lead_somewhere() -> None:
    pages = [PROJECT / "README.md", PROJECT / "CHANGELOG.md", *(PROJECT / "docs").rglob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(PROJECT)}: {target}"
