"""The one place where failures become a line on stderr and an exit code.

    0    all well                         2    usage, configuration or a bad input file
    1    the thing tested failed          3    the environment lacks something
    130  interrupted                      70   a bug of ours
    141  whoever read our output went away, as `imslab … | head` does

Commands just let LocalError, PeerError, OSError and click's own errors rise; nobody sees a traceback. What a peer sent
and what a user typed is escaped before it is shown, and long hex in what a user typed is not shown: it may be a key.
"""

from __future__ import annotations

import errno
import io
import os
import re
import sys
import traceback
from collections.abc import Sequence
from typing import TextIO

import click

from imslab.core.errors import LocalError, PeerError

OK = 0
FAILED = 1
USAGE = 2
ENVIRONMENT = 3
BUG = 70
INTERRUPTED = 130
READER_GONE = 141

#: Set to show the traceback of a bug.
TRACEBACK = "IMSLAB_TRACEBACK"

_LONG_HEX = re.compile(r"[0-9A-Fa-f]{24,}")
_LACKS = {errno.EPERM, errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.ENOSYS, errno.EOPNOTSUPP}


class EnvironmentLack(LocalError):
    """Something is missing here: a program, a permission, a kernel's ability. The text says which and how to get it."""


def run(command: click.Command, arguments: Sequence[str], name: str) -> int:
    """Run a command to its end and give the exit code; whatever went wrong stands on stderr in one line."""
    sys.stdout, sys.stderr = showing(sys.stdout), showing(sys.stderr)
    try:
        try:
            with command.make_context(name, list(arguments)) as context:
                command.invoke(context)
        except click.exceptions.Exit as end:
            code = end.exit_code
        else:
            code = OK
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Python would flush again at its end, and complain: give it a place where nothing breaks.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    except (KeyboardInterrupt, click.Abort):
        click.echo(f"{name}: interrupted", err=True)
        return INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return USAGE
    except Exception as error:
        if os.environ.get(TRACEBACK):
            traceback.print_exc()
        text, code = explain(error)
        click.echo(f"{name}: {text}", err=True)
        return code


def explain(error: Exception) -> tuple[str, int]:
    """What to say about a failure, in one line, and the exit code it means."""
    match error:
        case click.ClickException():
            return one_line(mask(_usage(error))), USAGE
        case EnvironmentLack():
            return one_line(str(error)), ENVIRONMENT
        case LocalError() | PeerError():
            return one_line(str(error)), USAGE
        case OSError(filename=str() | bytes() as name, strerror=str() as reason):
            return one_line(f"{os.fsdecode(name)}: {reason}"), USAGE
        case OSError(errno=number, strerror=str() as reason) if number in _LACKS:
            return one_line(f"this machine does not let us: {reason}"), ENVIRONMENT
        case OSError():
            return one_line(error.strerror or str(error)), USAGE
        case _:
            return one_line(mask(_bug(error))), BUG


def one_line(text: str) -> str:
    """The text on one line and harmless on a terminal: control characters and whatever cannot be printed escaped."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def mask(text: str) -> str:
    """The text with runs of 24 hex digits or more replaced by their length."""
    return _LONG_HEX.sub(lambda found: f"<{len(found[0])} hex digits>", text)


#: What we draw and write with, for terminals that have no Unicode: as wide, where it stands in a drawing.
_PLAIN = {"│": "|", "─": "-", "═": "=", "▶": ">", "◀": "<", "●": "*", "×": "x", "…": "~", "–": "-", "—": "-", "·": "."}
_PLAIN |= {"“": '"', "”": '"', "’": "'", "→": "->", "≥": ">=", "≤": "<="}


def in_encoding(text: str, encoding: str) -> str:
    """The text with what this encoding does not have in other words: ASCII for what we draw with, else escaped."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return "".join(_in_encoding(character, encoding) for character in text)
    return text


def _in_encoding(character: str, encoding: str) -> str:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return _PLAIN.get(character) or character.encode("unicode_escape").decode("ascii")
    return character


class _Showing(io.TextIOWrapper):
    """A stream for a terminal without Unicode."""

    def __init__(self, stream: TextIO) -> None:
        stream.flush()
        # click would write UTF-8 to a stream that says it is ASCII, for it takes that to be a mistake
        super().__init__(stream.buffer, encoding="latin-1", newline=None, line_buffering=stream.isatty())
        self.shows = stream.encoding
        self.instead_of = stream  # which would close what both write to, were it forgotten

    def write(self, text: str) -> int:
        super().write(in_encoding(text, self.shows).encode(self.shows).decode("latin-1"))
        return len(text)


def showing(stream: TextIO | None) -> TextIO:
    """The stream, or one in its place to which anything can be written; what was closed by the caller swallows it."""
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    encoding = (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "").replace("_", "")
    return stream if encoding.startswith(("utf8", "utf16", "utf32")) else _Showing(stream)


def _usage(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    _, _, where = (context.command_path if context else "").partition(" ")
    if type(error) is click.BadParameter and error.param is not None:
        text = f"{error.param_hint or error.param.opts[-1]}: {error.message}"
    else:
        text = error.format_message()
    return f"{where}: {text}" if where else text


def _bug(error: Exception) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    text = f"a bug of ours: {type(error).__name__}: {error} ({os.path.basename(place.filename)}:{place.lineno})"
    return f"{text}; please report it with the output of {TRACEBACK}=1"
