"""The table of commands, and what it costs to ask for help."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from imslab import __version__
from imslab.cli.main import COMMANDS, main

PROJECT = Path(__file__).resolve().parents[2]


def python(script: str, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *flags, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd=PROJECT)


def test_help_imports_click_and_nothing_heavier() -> None:
    script = """
import json, sys
before = set(sys.modules)
import click
with_click = set(sys.modules)
from imslab.cli.main import main
code = main(["--help"])
print(json.dumps([code, sorted(set(sys.modules) - with_click)]), file=sys.stderr)
"""
    done = python(script)
    code, modules = json.loads(done.stderr)
    assert code == 0
    assert "Commands:" in done.stdout
    ours = {name for name in modules if name.partition(".")[0] == "imslab"}
    assert ours == {
        "imslab",
        "imslab.cli",
        "imslab.cli.errors",
        "imslab.cli.main",
        "imslab.core",
        "imslab.core.errors",
    }
    tops = {name.partition(".")[0] for name in modules} - {"imslab", "click"}
    assert tops <= set(sys.stdlib_module_names), f"not the standard library's: {tops - set(sys.stdlib_module_names)}"
    assert not tops & {"asyncio", "ssl", "xml", "sqlite3", "multiprocessing", "unittest", "ipaddress"}


def test_help_shows_each_command_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--help", "-h"):
        assert main([flag]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        for name, (_, line) in COMMANDS.items():
            assert f"{name} {line}" in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_where_the_table_says_and_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module, _, attribute = COMMANDS[name][0].partition(":")
    assert isinstance(getattr(importlib.import_module(module), attribute), click.Command)
    assert main([name, "--help"]) == 0
    assert f"Usage: imslab {name}" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"imslab {__version__}\n"


def test_no_arguments_show_the_help_as_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("Usage: imslab [OPTIONS] COMMAND")


@pytest.mark.parametrize("arguments", [["fly"], ["--fly"], ["aka", "fly"], ["aka", "check", "--fly"]])
def test_what_does_not_exist(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("imslab: ")
    assert "fly" in said.err
    assert said.err.count("\n") == 1


def test_as_a_module() -> None:
    command = [sys.executable, "-m", "imslab.cli", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=PROJECT)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"imslab {__version__}\n", "")


def test_arguments_come_from_the_command_line_when_none_are_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["imslab", "--version"])
    assert main() == 0
    assert capsys.readouterr().out == f"imslab {__version__}\n"
