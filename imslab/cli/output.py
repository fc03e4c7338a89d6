"""What commands that judge a trace share: printing it, writing files, and the exit code that follows."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import click

from imslab.cli.errors import FAILED
from imslab.report.ladder import Arrow, Ladder, draw
from imslab.report.summary import Style, lines, plain
from imslab.rules.clauses import Finding, Level
from imslab.trace.trace import Trace

#: For files that hold keys.
OWNER_ONLY = 0o600

_COLOURS = {"pass": "green", "fail": "red", "inconclusive": "yellow", "violation": "red", "warning": "yellow"}


def terminal_style() -> Style:
    """Colours on a terminal, none elsewhere or where NO_COLOR asks for none."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return plain
    return lambda text, kind: click.style(text, fg=_COLOURS.get(kind), bold=kind in ("pass", "fail"))


def print_ladder(ladder: Ladder) -> None:
    """Draw it as wide as the terminal; as wide as it needs to be where there is none."""
    on_terminal = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0

    def colour(line: str, arrow: Arrow) -> str:
        if arrow.failed:
            return click.style(line, fg="red")
        return click.style(line, fg="blue") if arrow.protected else line

    for line in draw(ladder, width=width, style=colour if on_terminal else None):
        click.echo(line)


def print_judgement(trace: Trace, findings: Sequence[Finding], *, failed: bool = False) -> None:
    """Registrations, findings and verdict, for people. failed: the main job stopped, whatever the trace shows."""
    for line in lines(trace, findings, terminal_style(), failed=failed):
        click.echo(line)


def print_json(document: dict[str, Any]) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(document, indent=2))


@contextmanager
def new_file(path: Path, *, secret: bool = False) -> Iterator[BinaryIO]:
    """A file that stands under its name once it is complete; when something comes between, nothing of it is left.

    One that stands there is replaced, not followed: it may be a link. secret: for its owner alone. What is no file, as
    /dev/null, is written to. Raises OSError with the path.
    """
    if (path.exists() and not path.is_file()) or path.is_relative_to("/dev"):
        with path.open("wb") as stream:
            yield stream
        return
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.unlink(missing_ok=True)
        number = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY if secret else 0o666)
        try:
            with os.fdopen(number, "wb") as stream:
                yield stream
            unfinished.replace(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
    except OSError as error:
        if error.filename == str(unfinished):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def exit_by(document: dict[str, Any], findings: Sequence[Finding], fail_on: str | None) -> None:
    """Exit 1 when the verdict is not "pass", or when --fail-on makes the findings count."""
    order = [str(level) for level in Level]
    counted = fail_on is not None and any(order.index(each.level) <= order.index(fail_on) for each in findings)
    if document["verdict"] != "pass" or counted:
        raise click.exceptions.Exit(FAILED)


#: The option of every command that judges.
fail_on_option = click.option(
    "--fail-on",
    type=click.Choice([str(Level.VIOLATION), str(Level.WARNING)]),
    help="Findings of this level or worse make the exit code 1.",
)
