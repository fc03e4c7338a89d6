"""The judge: every rule over every subject of a trace, once, in one pass over the records."""

from __future__ import annotations

from collections.abc import Iterable

from imslab.core.errors import PeerError
from imslab.rules.clauses import RULES, Finding, Level, Rule, Subject
from imslab.trace.model import DiameterRecord, SipRecord
from imslab.trace.trace import Trace

#: The finding about a message that a rule could not read where it had to.
UNREADABLE = "UNREADABLE"


def judge(trace: Trace, rules: Iterable[Rule] | None = None) -> list[Finding]:
    """All findings about a trace, in the order of the frames that prove them.

    A rule that meets a header it cannot read cannot judge by it; that header is then a finding itself (UNREADABLE).
    """
    bench = Bench(RULES.values() if rules is None else rules)
    findings: list[Finding] = []
    for record in trace.records:
        if isinstance(record, SipRecord):
            for rule in bench.for_sip(record):
                _try(rule, record, trace, findings)
        elif isinstance(record, DiameterRecord):
            for rule in bench.for_diameter(record):
                _try(rule, record, trace, findings)
    for kind, subjects in (("sa", trace.sas), ("registration", trace.registrations), ("trace", (None,))):
        for rule in bench.others.get(kind, ()):
            for subject in subjects:
                _try(rule, subject, trace, findings)
    order = {level: place for place, level in enumerate(Level)}
    findings.sort(key=lambda finding: (finding.records[0] if finding.records else 0, order[finding.level]))
    return list(dict.fromkeys(findings))


def _try(rule: Rule, subject: Subject, trace: Trace, findings: list[Finding]) -> None:
    try:
        findings.extend(rule.judge(subject, trace))
    except PeerError as error:
        if isinstance(subject, SipRecord | DiameterRecord):
            findings.append(
                Finding(UNREADABLE, error.clause, Level.WARNING, subject.sender, subject.frames[-1:], error.reason)
            )


class Bench:
    """The rules sorted by what they speak about, so that a record meets only those that can concern it."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.others: dict[str, list[Rule]] = {}
        self._sip: list[Rule] = []
        self._diameter: list[Rule] = []
        for rule in rules:
            if rule.kind == "sip":
                self._sip.append(rule)
            elif rule.kind == "diameter":
                self._diameter.append(rule)
            else:
                self.others.setdefault(rule.kind, []).append(rule)
        self._sip_by: dict[tuple[object, ...], list[Rule]] = {}
        self._diameter_by: dict[str, list[Rule]] = {}

    def for_sip(self, record: SipRecord) -> list[Rule]:
        """The rules that concern this message."""
        message = record.message
        status = None if message.is_request else message.status
        try:
            method = message.method
        except PeerError:
            method = ""
        key = (record.hop, method, status)
        found = self._sip_by.get(key)
        if found is None:
            found = [
                rule
                for rule in self._sip
                if (rule.hops is None or record.hop in rule.hops)
                and (rule.methods is None or method in rule.methods)
                and (rule.statuses is None or status in rule.statuses)
                and (rule.request is None or rule.request is message.is_request)
            ]
            self._sip_by[key] = found
        return found

    def for_diameter(self, record: DiameterRecord) -> list[Rule]:
        """The rules that concern this message."""
        name = record.message.name
        found = self._diameter_by.get(name)
        if found is None:
            found = [rule for rule in self._diameter if rule.methods is None or name in rule.methods]
            self._diameter_by[name] = found
        return found
