"""Documents that must agree with the code."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from imslab.config import load
from imslab.lab import Lab, main_job
from imslab.report.ladder import build, draw
from imslab.report.summary import lines
from imslab.roles.faults import FAULTS
from imslab.rules.judge import judge
from imslab.trace.dissect import dissect
from imslab.trace.keys import KeyRing
from imslab.trace.pcap import read
from tests import faults_page
from tests.require import require_shared

PROJECT = Path(__file__).resolve().parent.parent


def test_every_dependency_is_justified_and_nothing_else() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    declared = {(name_of(line), "–") for line in project["dependencies"]}
    for extra, wanted in project["optional-dependencies"].items():
        declared |= {(name_of(line), extra) for line in wanted}
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


def blocks_of_the_readme() -> list[list[str]]:
    """The fenced blocks: what `imslab run` prints, what `imslab pcap verify` says of the tablet's capture."""
    return [block.strip("\n").splitlines() for block in (PROJECT / "README.md").read_text().split("```")[1::2]]


def test_the_ladder_of_the_readme_is_what_a_run_prints() -> None:
    lab = Lab(load())
    list(main_job(lab))
    printed = list(draw(build(lab.trace)))
    shown = blocks_of_the_readme()[0]
    assert len(shown) > 20
    for line, real in zip(shown, printed, strict=False):
        assert real.startswith(line), "the README's ladder is an old one: run `imslab run` and put its beginning there"


def test_the_findings_of_the_readme_are_those_of_the_tablet() -> None:
    capture = require_shared("captures/samsung-kamailio-ipsec-reg.pcapng")
    keys = KeyRing()
    keys.add_milenage(bytes.fromhex("8baf473f2f8fd09487cccbd7097c6862"), op=b"\x11" * 16)
    trace = dissect(read(capture), keys)
    findings = judge(trace)
    told = list(lines(trace, findings))
    shown = blocks_of_the_readme()[1]
    assert [line for line in shown if line not in told] == []
    assert f"six of its {len(findings)} findings are shown" in " ".join((PROJECT / "README.md").read_text().split())
    assert sum(line.startswith(("violation", "warning", "note")) for line in shown) == 6
