"""What `run` and `pcap verify` say at the end: one JSON document, and the same as a few lines for people.

The document's fields are documented in docs/reference/json.md; fields are added, never renamed. It holds no keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from imslab.report.view import escape
from imslab.rules.clauses import Finding, Level
from imslab.trace.model import SaView
from imslab.trace.registration import Registration, verdict
from imslab.trace.trace import Trace

#: Colours a piece of text by what it is ("pass", "fail", "violation", …); the plain one leaves it as it is.
Style = Callable[[str, str], str]


def plain(text: str, kind: str) -> str:
    """No colours."""
    return text


def summarise(trace: Trace, findings: Sequence[Finding]) -> dict[str, Any]:
    """The JSON document."""
    return {
        "verdict": verdict(trace),
        "registrations": [each.as_json() for each in trace.registrations],
        "findings": [each.as_json() for each in findings],
    }


def lines(trace: Trace, findings: Sequence[Finding], style: Style = plain, *, failed: bool = False) -> Iterator[str]:
    """The document for people: registrations with their SAs, then findings, then the verdict.

    failed: what was to be done did not come about, whatever the trace shows.
    """
    shown: set[int] = set()
    for registration in trace.registrations:
        yield _registration(registration, style)
        for sa in registration.sas:
            if id(sa) not in shown:  # a registration inside an older one's set says nothing new of it
                shown.add(id(sa))
                yield _sa(sa)
    if findings:
        yield ""
    for finding in findings:
        frames = ",".join(str(frame) for frame in finding.records)
        head = f"{finding.level:9} {finding.role:6} {finding.rule:10}"
        place = f"frame {frames}: " if frames else ""
        yield f"{style(head, finding.level)} {place}{escape(finding.text, keep='')}  [{finding.clause}]"
    yield ""
    counts = [(level, sum(each.level is level for each in findings)) for level in Level]
    told = ", ".join(f"{count} {level}{'s' if count != 1 else ''}" for level, count in counts if count) or "no findings"
    result = "fail" if failed else verdict(trace)
    done = sum(each.succeeded for each in trace.registrations)
    yield f"{style(result, result)}: {done} of {len(trace.registrations)} registrations succeeded; {told}"


def _registration(registration: Registration, style: Style) -> str:
    outcome = style(f"{registration.outcome:20}", "pass" if registration.succeeded else "fail")
    parts = [f"{outcome} {escape(registration.impi, keep='')}"]
    if registration.challenges:
        parts.append(f"{escape(registration.algorithm, keep='')} AUTN {registration.autn},")
    qop = f" ({escape(registration.qop, keep='')})" if registration.qop else ""
    parts.append(f"response {registration.response}{qop}")
    return "  ".join(parts)


def _sa(sa: SaView) -> str:
    icv = f"{sa.icv_ok} ok" + (f", {sa.icv_bad} BAD" if sa.icv_bad else "")
    replayed = f", {sa.replayed} replayed" if sa.replayed else ""
    algorithms = escape(f"{sa.alg}/{sa.ealg}", keep="")
    return f"    {sa.spi:#010x}  {sa.src} → {sa.dst}  {algorithms}  {sa.packets} packets, ICV {icv}{replayed}"
