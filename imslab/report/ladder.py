"""The ladder: who sent what to whom, in order. One model, drawn as text here and as HTML by `html`.

A column is a participant, an arrow a message. Double arrows went through ESP. The frame number at the left is the
place to look in the capture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from imslab.core.errors import PeerError
from imslab.core.flow import Endpoint
from imslab.diameter.dictionary import APPLICATION_CX
from imslab.diameter.message import DiameterMessage
from imslab.report.view import escape
from imslab.trace.model import (
    DiameterRecord,
    MalformedRecord,
    NodeRecord,
    Record,
    Role,
    SipRecord,
)
from imslab.trace.trace import Trace, method_of, status_of

#: Columns from left to right.
ORDER = (Role.UE, Role.PCSCF, Role.ICSCF, Role.SCSCF, Role.HSS, Role.UNKNOWN)
#: What a box of the network told that is worth a line beside the messages; a UE's notes all are.
SHOWN_NOTES = frozenset(
    {"install-sas", "update-sas", "remove-sas", "sas-failed", "sas-expired", "discarded", "malformed"}
)

#: Beyond this many, nobody can read it: all of one role share a column then.
MOST_COLUMNS = 40


@dataclass(frozen=True, slots=True)
class Participant:
    """One column. host: of a UE or an unknown box; "" where the role alone says who it is."""

    role: Role
    host: str = ""

    @property
    def title(self) -> str:
        """The head of the column."""
        if self.role is Role.UNKNOWN:
            return self.host or "others"
        return f"{self.role} {self.host}".rstrip()


@dataclass(slots=True)
class Arrow:
    """One line of the ladder. A note of a single node has source and target alike.

    label: what stands on the arrow. detail: a few words beside it. again: a retransmission. protected: inside ESP.
    """

    record: Record
    source: Participant
    target: Participant
    label: str
    detail: str = ""
    protected: bool = False
    again: bool = False
    failed: bool = False


@dataclass(slots=True)
class Ladder:
    """Columns and lines."""

    participants: list[Participant] = field(default_factory=list)
    arrows: list[Arrow] = field(default_factory=list)
    start: float = 0.0


def build(trace: Trace, *, only: Callable[[Record], bool] | None = None) -> Ladder:
    """The ladder of a trace: SIP, Cx, what could not be read, and what simulated nodes did. only: a filter."""
    ladder = Ladder()
    for record in trace.records:
        if only is not None and not only(record):
            continue
        arrow = _arrow(record, trace)
        if arrow is not None:
            ladder.arrows.append(arrow)
    seen = _seen(ladder)
    if len(seen) > MOST_COLUMNS:
        for arrow in ladder.arrows:
            _share_columns(arrow)
        seen = _seen(ladder)
    ladder.participants = sorted(seen, key=lambda each: ORDER.index(each.role))
    if ladder.arrows:
        ladder.start = ladder.arrows[0].record.time
    return ladder


def _seen(ladder: Ladder) -> dict[Participant, None]:
    return dict.fromkeys(each for arrow in ladder.arrows for each in (arrow.source, arrow.target))


def _share_columns(arrow: Arrow) -> None:
    """One column for each role; the hosts stand beside the arrow."""
    hosts = [each.host for each in dict.fromkeys((arrow.source, arrow.target)) if each.host]
    arrow.source, arrow.target = Participant(arrow.source.role), Participant(arrow.target.role)
    arrow.detail = " ".join(filter(None, (*hosts, arrow.detail)))


def _participant(role: Role, endpoint: Endpoint) -> Participant:
    return Participant(role, endpoint.host if role in (Role.UE, Role.UNKNOWN) else "")


def _arrow(record: Record, trace: Trace) -> Arrow | None:
    match record:
        case SipRecord():
            status = status_of(record)
            return Arrow(
                record,
                _participant(record.sender, record.src),
                _participant(record.receiver, record.dst),
                method_of(record) if status is None else f"{status} {method_of(record)}",
                _sip_detail(record),
                protected=record.spi is not None,
                again=trace.is_retransmission(record),
                failed=status is not None and status >= 300 and status not in (401, 407),
            )
        case DiameterRecord():
            message = record.message
            if message.application != APPLICATION_CX:  # capabilities, watchdogs, and what a core asks elsewhere
                return None
            result = "" if message.request else _result(message)
            return Arrow(
                record,
                _participant(record.sender, record.src),
                _participant(record.receiver, record.dst),
                message.name + result,
                failed=bool(result) and not result.startswith((" 2", " exp 2")),
            )
        case MalformedRecord():
            role = trace.topology.role
            return Arrow(
                record,
                _participant(role(record.src), record.src),
                _participant(role(record.dst), record.dst),
                f"{record.protocol}?",
                str(record.error),
                protected=record.spi is not None,
                failed=True,
            )
        case NodeRecord() if record.kind in SHOWN_NOTES or record.role is Role.UE:
            who = Participant(record.role, record.host if record.role is Role.UE else "")
            return Arrow(record, who, who, record.kind, record.text)
    return None


def _result(message: DiameterMessage) -> str:
    """The result of an answer, "?" where it has none that can be read."""
    try:
        experimental = message.experimental_result
        return f" exp {experimental}" if experimental is not None else f" {message.result_code or '?'}"
    except PeerError:
        return " ?"


def _sip_detail(record: SipRecord) -> str:
    parts = []
    if record.spi is not None:
        parts.append(f"ESP {record.spi:#010x}")
    parts.append(record.transport.upper())
    return " ".join(parts)


def draw(ladder: Ladder, *, width: int = 0, style: Callable[[str, Arrow], str] | None = None) -> Iterable[str]:
    """The ladder as lines of text.

    width: columns of the terminal; 0: as wide as it needs to be. style: puts colours around a finished line.
    """
    if not ladder.arrows:
        yield "(nothing that a ladder could show)"
        return
    count = len(ladder.participants)
    gap = _gap(ladder, count, width)
    place = {each: index for index, each in enumerate(ladder.participants)}
    left = " " * _MARGIN
    yield _cut(left + "".join(_fit(each.title, gap) for each in ladder.participants).rstrip(), width)
    for arrow in ladder.arrows:
        frame = arrow.record.frames[-1] if arrow.record.frames else ""
        head = f"{arrow.record.time - ladder.start:9.3f} {frame!s:>6}  "
        line = escape(head + _line(arrow, place[arrow.source], place[arrow.target], count, gap).rstrip(), keep="")
        line = _cut(line, width)
        yield line if style is None else style(line, arrow)


def _cut(line: str, width: int) -> str:
    """A wrapped line would break the ladder."""
    return line[: width - 1] + "…" if width and len(line) > width else line


#: Time, frame number and their blanks.
_MARGIN = 18
_NARROWEST, _WIDEST = 13, 19


def _gap(ladder: Ladder, count: int, width: int) -> int:
    titles = (len(each.title) + 1 for each in ladder.participants)
    labels = (len(arrow.label) + 4 for arrow in ladder.arrows if arrow.source != arrow.target)
    gap = min(max(_NARROWEST, *titles, *labels), _WIDEST)
    if width:
        gap = max(_NARROWEST, min(gap, (width - _MARGIN) // max(count, 1)))
    return gap


def _fit(text: str, gap: int) -> str:
    return (text if len(text) < gap else text[: gap - 2] + "…").ljust(gap)


def _line(arrow: Arrow, source: int, target: int, count: int, gap: int) -> str:
    cells = [("│" + " " * (gap - 1)) for _ in range(count)]
    label = arrow.label
    if source == target:
        cells[source] = "●" + cells[source][1:]
        return "".join(cells).rstrip() + f"  {label}: {arrow.detail}"
    low, high = sorted((source, target))
    length = (high - low) * gap - 1
    dash = "═" if arrow.protected else "─"
    if len(label) > length - 3:
        label = label[: length - 4] + "…"
    body = f" {label} ".center(length - 1, dash)
    body = body + "▶" if target > source else "◀" + body
    line = "".join(cells[:low]) + "│" + body + "".join(cells[high:])
    beside = [arrow.detail, "again" if arrow.again else ""]
    return f"{line.rstrip()}  {' '.join(filter(None, beside))}"


def mermaid(ladder: Ladder) -> Iterable[str]:
    """The ladder as a Mermaid sequence diagram, for issue trackers and wikis."""
    yield "sequenceDiagram"
    names = {each: f"p{index}" for index, each in enumerate(ladder.participants)}
    for each, name in names.items():
        yield f"    participant {name} as {each.title}"
    for arrow in ladder.arrows:
        source, target = names[arrow.source], names[arrow.target]
        text = _mermaid_text(f"{arrow.label}{' (again)' if arrow.again else ''}")
        if source == target:
            yield f"    Note over {source}: {text} {_mermaid_text(arrow.detail)}".rstrip()
        else:
            yield f"    {source}{'->>' if not arrow.protected else '-)'}{target}: {text}{' [ESP]' * arrow.protected}"


def _mermaid_text(text: str) -> str:
    return "".join(c if c.isalnum() or c in " .,:-_/()" else " " for c in text)
