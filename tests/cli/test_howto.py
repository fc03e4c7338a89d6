"""The how-to pages show commands with their output; the output is what the commands say."""

from __future__ import annotations

import re
import shlex

import pytest

from imslab.cli.main import main
from tests.require import PROJECT

PAGES = ["check-a-nonce.md"]


def commands(text: str) -> list[tuple[str, str]]:
    """The commands of a page's console blocks, each with the output shown; `echo $?` shows an exit code."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for piece in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = piece.splitlines()
            length = next(at for at, line in enumerate(lines) if not line.endswith("\\")) + 1
            found.append(("\n".join(lines[:length]), "\n".join(lines[length:])))
    return found


@pytest.mark.parametrize("page", PAGES)
def test_the_page_tells_the_truth(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = commands((PROJECT / "docs/howto" / page).read_text())
    assert len(shown) > 5
    code = 0
    for command, output in shown:
        if command == "echo $?":
            assert output == str(code)
            code = 0
            continue
        assert code == 0, f"a command failed and the page does not say so, before {command}"
        program, *arguments = shlex.split(command.replace("\\\n", " "))
        assert program == "imslab"
        code = main(arguments)
        said = capsys.readouterr()
        assert (said.out + said.err).rstrip("\n") == output
    assert code == 0
