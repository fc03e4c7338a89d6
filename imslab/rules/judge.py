"""The judge: every rule over every subject of a trace, once, in one pass over the records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from imslab.core.errors import PeerError
from imslab.rules.clauses import RULES, Finding, Level, Rule, Subject, frames_of
from imslab.trace.model import DiameterRecord, Role, SipRecord
from imslab.trace.trace import Trace, method_of, status_of

#: The finding about a message that a rule could not read where it had to.
UNREADABLE = "UNREADABLE"


def judge(trace: Trace, rules: Iterable[Rule] | None = None) -> list[Finding]:
    """All findings about a trace, in the order of the frames that prove them.

    A rule that meets a header it cannot read cannot judge by it; that is then a finding itself (UNREADABLE).
    What is wrong with a message is wrong with its retransmissions: that is one finding, which names them all.
    """
    bench = Bench(RULES.values() if rules is None else rules)
    court = _Court(trace)
    for record in trace.records:
        if isinstance(record, SipRecord):
            court.hear(bench.for_sip(record), record)
        elif isinstance(record, DiameterRecord):
            court.hear(bench.for_diameter(record), record)
    for kind, subjects in (("sa", trace.sas), ("registration", trace.registrations), ("trace", (None,))):
        for rule in bench.others.get(kind, ()):
            for subject in subjects:
                court.hear((rule,), subject)
    order = {level: place for place, level in enumerate(Level)}
    return sorted(
        court.findings, key=lambda finding: (finding.records[0] if finding.records else 0, order[finding.level])
    )


class _Court:
    """The findings so far, each once."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._findings: dict[tuple[object, ...], Finding] = {}

    @property
    def findings(self) -> list[Finding]:
        """All of them, in the order in which they were found."""
        return list(self._findings.values())

    def hear(self, rules: Iterable[Rule], subject: Subject) -> None:
        """Apply rules to one subject."""
        trace = self._trace
        for rule in rules:
            try:
                # nearly always there is nothing wrong: whatever is done here is done a million times
                for wrong in rule.check(subject, trace):
                    self._keep(rule.finding(wrong), subject)
            except PeerError as error:
                self._keep(_unreadable(rule, subject, error), subject)

    def _keep(self, finding: Finding, subject: Subject) -> None:
        # two that say the same of one message, and of its retransmissions, are one
        about: object = self._trace.original(subject) if isinstance(subject, SipRecord) else finding.records
        key = (finding.rule, finding.clause, finding.level, finding.role, finding.text, about)
        known = self._findings.get(key)
        if known is not None:
            more = tuple(frame for frame in finding.records if frame not in known.records)
            finding = replace(known, records=known.records + more)
        self._findings[key] = finding


def _unreadable(rule: Rule, subject: Subject, error: PeerError) -> Finding:
    if isinstance(subject, SipRecord | DiameterRecord):
        return Finding(UNREADABLE, error.clause, Level.WARNING, subject.sender, frames_of(subject), error.reason)
    # which message it was is not known; that the rule has no verdict must not look like a good one
    return Finding(UNREADABLE, error.clause, Level.WARNING, Role.UNKNOWN, (), f"{rule.id} not judged: {error.reason}")


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
        status, method = status_of(record), method_of(record)
        is_request = status is None
        key = (record.hop, method, status)
        found = self._sip_by.get(key)
        if found is None:
            found = [
                rule
                for rule in self._sip
                if (rule.hops is None or record.hop in rule.hops)
                and (rule.methods is None or method in rule.methods)
                and (rule.statuses is None or status in rule.statuses)
                and (rule.request is None or rule.request is is_request)
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
