"""The HTML report: one file with ladder, messages, SAs and findings, that loads nothing from anywhere.

Its Content-Security-Policy forbids every request, and every text that came from a peer is escaped by the template.
"""

from __future__ import annotations

from typing import Any

from imslab.report.ladder import Arrow, Ladder
from imslab.report.view import escape, record_text


def write_html(
    report: dict[str, Any], ladder: Ladder, *, title: str, reason: str = "", footer: str = "", show_keys: bool = False
) -> str:
    """The page. report: the JSON document of `summary`; keys are masked unless show_keys."""
    from jinja2 import Environment, PackageLoader  # half of what a run without a report would spend on imports

    environment = Environment(loader=PackageLoader("imslab.report", ""), autoescape=True, trim_blocks=True)
    environment.finalize = lambda value: escape(value) if isinstance(value, str) else value
    place = {each: index for index, each in enumerate(ladder.participants)}
    rows = [_row(arrow, place[arrow.source], place[arrow.target], ladder.start, show_keys) for arrow in ladder.arrows]
    return environment.get_template("template.html").render(
        title=title,
        reason=reason,
        footer=footer,
        report=report,
        sas=_sas(report),
        participants=[each.title for each in ladder.participants],
        columns=len(ladder.participants),
        rows=rows,
    )


def _sas(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Every SA once: a refresh or de-registration goes through those of an earlier registration."""
    every = (sa for registration in report["registrations"] for sa in registration["sa"])
    return list({(sa["spi"], sa["dst"], sa["sport"]): sa for sa in every}.values())


def _row(arrow: Arrow, source: int, target: int, start: float, show_keys: bool) -> dict[str, Any]:
    record = arrow.record
    frames = (*record.frames, *record.copies)
    label = arrow.label + (" (again)" if arrow.again else "")
    shown = ", ".join(str(frame) for frame in record.frames)
    copies = f" (also seen as {', '.join(str(frame) for frame in record.copies)})" if record.copies else ""
    where = f"frame {shown}{copies}: " if shown else ""
    return {
        "time": f"{record.time - start:.3f}",
        "frame": record.frames[-1] if record.frames else "",
        "frames": frames,
        "label": label,
        "detail": arrow.detail,
        "note": source == target,
        "low": min(source, target),
        "high": max(source, target),
        "left": target < source,
        "protected": arrow.protected,
        "failed": arrow.failed,
        "head": f"{where}{label}, {arrow.source.title} → {arrow.target.title}",
        "text": record_text(record, show_keys=show_keys),
    }
