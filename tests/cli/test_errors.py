"""Each kind of failure: one line, and its exit code."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from imslab.cli import errors
from imslab.core.errors import LocalError, PeerError

KEY = "465b5ce8b199b49faa5f0a2ee238a6bc"


def run(raised: BaseException | Callable[[], object]) -> int:
    @click.command()
    def command() -> None:
        if isinstance(raised, BaseException):
            raise raised
        raised()

    return errors.run(command, [], "imslab")


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (LocalError("lab.yaml, line 3: expected a port"), 2, "imslab: lab.yaml, line 3: expected a port"),
        (
            PeerError("block too long", clause="pcapng 3.1", offset=12),
            2,
            "imslab: block too long (at octet 12) [pcapng 3.1]",
        ),
        (errors.EnvironmentLack("no ESP in this kernel"), 3, "imslab: no ESP in this kernel"),
        (FileNotFoundError(errno.ENOENT, "No such file", "x.pcap"), 2, "imslab: x.pcap: No such file"),
        (PermissionError(errno.EACCES, "Permission denied", b"x.pcap"), 2, "imslab: x.pcap: Permission denied"),
        (PermissionError(errno.EPERM, "Not permitted"), 3, "imslab: this machine does not let us: Not permitted"),
        (OSError(errno.ENOSPC, "No space left"), 2, "imslab: No space left"),
        (OSError("odd"), 2, "imslab: odd"),
        (click.UsageError("what?"), 2, "imslab: what?"),
        (click.ClickException("no"), 2, "imslab: no"),
        (KeyboardInterrupt(), 130, "imslab: interrupted"),
        (click.Abort(), 130, "imslab: interrupted"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_one_line_and_a_code(capsys: pytest.CaptureFixture[str], raised: BaseException, code: int, line: str) -> None:
    assert run(raised) == code
    said = capsys.readouterr()
    assert said.err == line + "\n"
    assert said.out == ""


def test_all_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda: click.echo("fine")) == 0
    assert capsys.readouterr() == ("fine\n", "")


@pytest.mark.parametrize("code", [0, 1, 3])
def test_a_command_may_end_with_a_code(code: int) -> None:
    assert run(lambda: click.get_current_context().exit(code)) == code


def test_a_bug_is_a_line_too_with_its_place(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(errors.TRACEBACK, raising=False)
    assert run(lambda: {}[KEY]) == 70
    said = capsys.readouterr().err
    assert said.startswith("imslab: a bug of ours: KeyError: '<32 hex digits>' (test_errors.py:")
    assert said.count("\n") == 1
    monkeypatch.setenv(errors.TRACEBACK, "1")
    assert run(lambda: {}["x"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_what_a_peer_sent_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(PeerError("method \x1b[2J\x07\r\nimslab: all well \x9b\udcff is unknown")) == 2
    said = capsys.readouterr().err
    assert said == "imslab: method \\x1b[2J\\x07\\r\\nimslab: all well \\x9b\\udcff is unknown\n"


def test_text_that_can_be_printed_stays() -> None:
    assert errors.one_line("Jäsøn → 東京") == "Jäsøn → 東京"


def test_long_hex_that_was_typed_is_not_repeated() -> None:
    assert errors.mask(f"extra argument ({KEY}), {KEY[:23]}") == f"extra argument (<32 hex digits>), {KEY[:23]}"


def test_a_reader_that_went_away_is_no_error() -> None:
    script = "import sys; from imslab.cli.main import main; sys.exit(main(['--help']))"
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-c", script],
            stdout=write,
            stderr=subprocess.PIPE,
            timeout=60,
            cwd=Path(__file__).parents[2],
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("text", "encoding", "shown"),
    [
        ("│── REGISTER ─▶│ …", "ascii", "|-- REGISTER ->| ~"),
        ("│── REGISTER ─▶│ …", "utf-8", "│── REGISTER ─▶│ …"),
        ("“é” → ●", "latin-1", '"é" -> *'),
        ("“é” → ●", "cp1252", "“é” -> *"),
        ("é 漢", "ascii", "\\xe9 \\u6f22"),
        ("plain", "ascii", "plain"),
    ],
)
def test_what_an_encoding_does_not_have(text: str, encoding: str, shown: str) -> None:
    assert errors.in_encoding(text, encoding) == shown
    assert errors.in_encoding(text, encoding).encode(encoding)


@pytest.mark.parametrize(
    ("encoding", "octets"),
    [("ascii", b"|-- \\xe9\n"), ("ISO-8859-1", b"|-- \xe9\n"), ("utf-8", "│── é\n".encode())],
)
def test_a_stream_to_which_anything_can_be_written(encoding: str, octets: bytes) -> None:
    raw = io.BytesIO()
    stream = errors.showing(io.TextIOWrapper(raw, encoding=encoding, newline=""))
    click.echo("│── é", file=stream)
    stream.flush()
    assert raw.getvalue() == octets


def test_a_stream_of_text_alone_stays() -> None:
    text = io.StringIO()
    assert errors.showing(text) is text


def test_a_stream_that_the_caller_closed_swallows_all() -> None:
    command = [sys.executable, "-m", "imslab.cli", "pcap", "verify", "-"]
    for closed in ("0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"):
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {closed}', "sh", *command], capture_output=True, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 2, closed
        assert b"bug" not in done.stderr
