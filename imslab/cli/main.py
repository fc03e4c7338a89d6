"""`imslab`: the table of commands. A command's module is imported when the command is called, and not for --help."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import click

from imslab import __version__
from imslab.cli import errors

#: Command → (where it is, as "module:attribute"; the line that `imslab --help` shows).
COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("imslab.cli.run:run", "Register simulated UEs through a simulated core, and judge what happened."),
    "aka": ("imslab.cli.aka:aka", "Calculate with a card's key: what is in a nonce, the response, the AUTS."),
    "pcap": ("imslab.cli.pcap:pcap", "Judge a capture, draw it, open its ESP."),
}


class LazyGroup(click.Group):
    """A group that knows the names and help lines of its commands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="imslab", message="%(prog)s %(version)s")
def imslab() -> None:
    """IMS registration from end to end, simulated box by box, and judged clause by clause.

    Exit codes: 0 all well, 1 the thing tested failed, 2 usage or bad input, 3 the environment lacks something,
    130 interrupted.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point: run what the arguments say (sys.argv when left out) and give the exit code."""
    return errors.run(imslab, sys.argv[1:] if arguments is None else arguments, "imslab")
