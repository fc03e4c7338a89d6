"""The document and the lines at the end of a run."""

from __future__ import annotations

import json

from imslab.report.summary import lines, summarise
from imslab.rules.clauses import Finding, Level
from imslab.trace.model import Role, SaSetView, SaView
from imslab.trace.registration import Outcome
from tests.report.build import CK, IK, PCSCF, UE, trace

FINDINGS = [
    Finding("CHL-10", "33.203 6.1.1", Level.VIOLATION, Role.PCSCF, (6,), "the 401 still carries ck\x1b[2J"),
    Finding("SEC-01", "33.203 Annex H", Level.NOTE, Role.UE, (), "spi-c is not padded"),
]


def test_the_document_has_what_programs_were_promised() -> None:
    document = json.loads(json.dumps(summarise(trace(), FINDINGS)))
    assert document["verdict"] == "inconclusive"
    (registration,) = document["registrations"]
    assert registration["impu"] == "sip:a@ims.example"
    assert registration["outcome"] == "challenge-unanswered"
    assert set(registration) >= {"impi", "impu", "outcome", "algorithm", "autn", "response", "sa", "steps"}
    assert document["findings"][0] == {
        "rule": "CHL-10",
        "clause": "33.203 6.1.1",
        "level": "violation",
        "role": "P-CSCF",
        "records": [6],
        "text": "the 401 still carries ck\x1b[2J",
    }


def test_what_did_not_come_about_is_no_pass() -> None:
    passed = trace()
    passed.registrations[0].outcome = Outcome.REGISTERED
    assert [*lines(passed, [])][-1] == "pass: 1 of 1 registrations succeeded; no findings"
    assert [*lines(passed, [], failed=True)][-1] == "fail: 1 of 1 registrations succeeded; no findings"


def test_the_lines_say_the_same_and_obey_nobody() -> None:
    text = "\n".join(lines(trace(), FINDINGS))
    assert "violation P-CSCF CHL-10     frame 6: the 401 still carries ck\\x1b[2J  [33.203 6.1.1]" in text
    assert "note      UE     SEC-01     spi-c is not padded  [33.203 Annex H]" in text
    assert text.endswith("inconclusive: 0 of 1 registrations succeeded; 1 violation, 1 note")
    assert "\x1b" not in text


def test_a_peers_words_are_escaped_wherever_they_stand() -> None:
    spoilt = trace()
    (registration,) = spoilt.registrations
    registration.impi = registration.algorithm = registration.qop = "\udcb1\x1b"
    sas = [SaView(spi=1, src=UE, dst=PCSCF, alg="\u202e", ealg="\udcff")] * 4
    registration.agreed = SaSetView(ue="a", pcscf="b", rand=b"", impi="", sas=sas)
    assert all(line.isprintable() for line in lines(spoilt, FINDINGS))


def test_neither_holds_a_key() -> None:
    text = json.dumps(summarise(trace(), FINDINGS)) + "\n".join(lines(trace(), FINDINGS))
    assert CK not in text
    assert IK not in text
