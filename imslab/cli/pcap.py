"""`imslab pcap`: a capture judged, drawn as a ladder, and written again with its ESP opened."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from imslab.cli.aka import hex_type
from imslab.cli.errors import FAILED, one_line
from imslab.cli.output import exit_by, fail_on_option, new_file, print_json, print_judgement, print_ladder
from imslab.core.errors import LocalError
from imslab.report.ladder import Arrow, Ladder, build, mermaid
from imslab.report.summary import summarise
from imslab.report.view import record_text
from imslab.rules.judge import judge
from imslab.trace.captures import Captures
from imslab.trace.decrypt import decrypt as write_decrypted
from imslab.trace.dissect import dissect
from imslab.trace.keys import KeyRing, esp_sa, esp_sa_file
from imslab.trace.registration import Autn
from imslab.trace.trace import Trace

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

#: The name that stands for the standard input.
STDIN = "-"
#: The largest key file that is read, octets: some 100,000 SAs.
LARGEST_KEY_FILE = 16 << 20


@dataclass(frozen=True, slots=True)
class Keys:
    """What the user knows."""

    k: bytes | None = field(repr=False)
    opc: bytes | None = field(repr=False)
    op: bytes | None = field(repr=False)
    files: tuple[Path, ...]

    def ring(self) -> KeyRing:
        """All of it. Raises LocalError."""
        ring = KeyRing()
        if self.k is not None:
            if (self.opc is None) is (self.op is None):
                raise LocalError("--k needs either --opc or --op beside it")
            ring.add_milenage(self.k, opc=self.opc, op=self.op)
        elif self.opc is not None or self.op is not None:
            raise LocalError("--opc and --op need --k beside them")
        for path in self.files:
            with path.open("rb") as stream:
                octets = stream.read(LARGEST_KEY_FILE + 1)
            if len(octets) > LARGEST_KEY_FILE:
                raise LocalError(f"{path}: expected a key file of up to {LARGEST_KEY_FILE} octets")
            ring.read(octets.decode(errors="replace"), str(path))
        return ring


def key_options(function: Decorated) -> Decorated:
    """The options that say what the user knows. Whatever a capture shows itself needs none of them."""
    for option in (
        click.option(
            "--keys",
            "key_files",
            type=click.Path(path_type=Path, dir_okay=False),
            multiple=True,
            metavar="FILE",
            help="Keys: Wireshark's esp_sa lines, SPI ALG EALG IK CK, ck=… ik=…, or k=… opc=… impi=…",
        ),
        click.option("--op", type=hex_type(16), metavar="HEX", help="The operator's OP, in place of OPc."),
        click.option("--opc", type=hex_type(16), metavar="HEX", help="OPc of the subscriber."),
        click.option("--k", type=hex_type(16), metavar="HEX", help="K of the subscriber."),
    ):
        function = option(function)
    return function


files_argument = click.argument("files", nargs=-1, required=True, metavar="FILE...")
show_keys_option = click.option("--show-keys", is_flag=True, help="Do not mask CK, IK and XRES.")
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


@click.group(short_help="Judge a capture, draw it, open its ESP.")
def pcap() -> None:
    """Captures (pcap, pcapng, gzipped or not) of IMS registrations. `-` reads the standard input.

    ESP is opened with CK and IK that the capture shows on Mw or Cx, or with --k and --opc (or --op), or with --keys.
    Several FILEs are read as one, merged by time.
    """


@pcap.command()
@files_argument
@key_options
@fail_on_option
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a report as one HTML file.")
@show_keys_option
@json_option
def verify(
    files: tuple[str, ...],
    k: bytes | None,
    opc: bytes | None,
    op: bytes | None,
    key_files: tuple[Path, ...],
    fail_on: str | None,
    html: Path | None,
    show_keys: bool,
    as_json: bool,
) -> None:
    """Judge the registrations of a capture: AUTN, response, SAs, ESP, and every rule that can be seen passively.

    Exit code 0: a registration succeeded and nothing that could be checked was wrong.
    """
    _never_over_input((*files, *key_files), html)
    with _without_collector():
        trace = _trace(files, Keys(k, opc, op, key_files))
        findings = judge(trace)
        document = summarise(trace, findings)
    document["problems"] = [str(problem) for problem in trace.problems]
    if show_keys:
        document["esp_sa"] = [esp_sa(sa) for sa in trace.keyed_sas]
    if html is not None:
        from imslab.report.html import write_html

        page = write_html(document, build(trace), title=", ".join(map(_name, files)), show_keys=show_keys)
        with new_file(html, secret=show_keys) as stream:
            stream.write(page.encode())
    if as_json:
        print_json(document)
    else:
        print_judgement(trace, findings)
        for line in document.get("esp_sa", ()):
            click.echo(line)
    for text in _remarks(trace, k):
        click.echo(one_line(text), err=True)
    exit_by(document, findings, fail_on)


@pcap.command()
@files_argument
@key_options
@click.option("--mermaid", "as_mermaid", is_flag=True, help="As a Mermaid sequence diagram.")
@click.option("--messages", is_flag=True, help="Each message in full below the ladder.")
@show_keys_option
@json_option
def ladder(
    files: tuple[str, ...],
    k: bytes | None,
    opc: bytes | None,
    op: bytes | None,
    key_files: tuple[Path, ...],
    as_mermaid: bool,
    messages: bool,
    show_keys: bool,
    as_json: bool,
) -> None:
    """Draw who sent what to whom. Double arrows went through ESP; the frame number stands at the left."""
    with _without_collector():
        trace = _trace(files, Keys(k, opc, op, key_files))
        drawn = build(trace)
    if as_json:
        print_json(_ladder_json(drawn, messages=messages, show_keys=show_keys))
    elif as_mermaid:
        for line in mermaid(drawn):
            click.echo(line)
    else:
        print_ladder(drawn)
        for arrow in drawn.arrows if messages else ():
            click.echo(f"\n--- {_place(arrow)}{arrow.label}, {arrow.source.title} → {arrow.target.title}")
            click.echo(record_text(arrow.record, show_keys=show_keys).rstrip())
    for text in _remarks(trace, k):
        click.echo(one_line(text), err=True)


@pcap.command()
@files_argument
@key_options
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to write.  [default: NAME.decrypted.pcapng, here]",
)
@click.option(
    "--esp-sa", "key_output", type=click.Path(path_type=Path, dir_okay=False), help="Write Wireshark's key file too."
)
@json_option
def decrypt(
    files: tuple[str, ...],
    k: bytes | None,
    opc: bytes | None,
    op: bytes | None,
    key_files: tuple[Path, ...],
    output: Path | None,
    key_output: Path | None,
    as_json: bool,
) -> None:
    """Write a capture again with its ESP packets replaced by what they held.

    Exit code 1: it has ESP packets, and none could be opened.
    """
    if any(file == STDIN or Path(file).is_fifo() for file in files):
        raise LocalError("decrypt reads its capture twice: give a file in place of the standard input or a pipe")
    output = output or Path(f"{Path(files[0]).name.split('.')[0]}.decrypted.pcapng")
    _never_over_input((*files, *key_files), output, key_output)
    if key_output is not None and key_output.resolve() == output.resolve():
        raise LocalError(f"--output and --esp-sa are both {output}: expected two files")
    with _without_collector():
        trace = _trace(files, Keys(k, opc, op, key_files))
        captures = _captures(files)
        with new_file(output, secret=True) as stream:
            done = write_decrypted(captures.packets(), trace, stream)
    written = {str(output): "may hold keys (Mw, Cx): readable by you alone"}
    if key_output is not None:
        with new_file(key_output, secret=True) as stream:
            stream.write(esp_sa_file(trace.keyed_sas).encode())
        written[str(key_output)] = "holds keys: readable by you alone"
    if as_json:
        print_json({"files": list(written), "packets": done.packets, "opened": done.opened, "closed": done.closed})
    else:
        click.echo(f"{done.packets} frames; {done.opened} ESP packets opened, {done.closed} left closed")
        for name, what in written.items():
            click.echo(f"{name}  {what}")
    for text in _remarks(trace, k):
        click.echo(one_line(text), err=True)
    if done.closed and not done.opened:
        raise click.exceptions.Exit(FAILED)


# --- what they share ---


def _never_over_input(inputs: Sequence[str | Path], *outputs: Path | None) -> None:
    """Raises LocalError when a file that is read would be written over."""
    for path in filter(None, outputs):
        for each in inputs:
            if each != STDIN and path.resolve() == Path(each).resolve():
                kind = "key file" if isinstance(each, Path) else "capture"
                raise LocalError(f"{path} would be written over the {kind} that is read")


def _captures(files: Sequence[str]) -> Captures:
    if STDIN in files and sys.stdin is None:  # Python's word for a stream that the caller closed
        raise LocalError("the standard input is closed: expected a capture there, or a file")
    return Captures([(_name(file), sys.stdin.buffer if file == STDIN else file) for file in files])


def _name(file: str) -> str:
    return "standard input" if file == STDIN else Path(file).name


def _trace(files: Sequence[str], keys: Keys) -> Trace:
    captures = _captures(files)
    trace = dissect(captures.packets(), keys.ring())
    trace.problems[:0] = captures.problems
    return trace


@contextmanager
def _without_collector() -> Iterator[None]:
    """Without Python's cycle collector: a trace is many objects that all stay, and it would look at them for ever.

    What was made here is kept from it for good, or else the end of the process would take as long as the judging did.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.freeze()
            gc.enable()


def _remarks(trace: Trace, k: bytes | None) -> Iterator[str]:
    """One sentence for each thing that a user should know before believing the rest."""
    for problem in trace.problems:
        yield f"note: {problem}"
    if not trace.records:
        yield f"note: no SIP, no Diameter and no ESP in {trace.packets} frames: this capture shows no IMS"
    elif not trace.registrations:
        yield "note: no REGISTER in this capture"
    if k is not None and any(each.autn is Autn.MAC_FAILURE for each in trace.registrations):
        yield "note: the MAC of AUTN is wrong under this key: K, OPc or OP is another one than the network's"
    closed = [sa for sa in trace.sas if sa.packets and not sa.icv_ok and not sa.icv_bad]
    if closed:
        count = sum(sa.packets for sa in closed)
        yield f"note: {count} ESP packets were not verified: no CK and IK for them (--k with --opc or --op, or --keys)"


def _place(arrow: Arrow) -> str:
    frames = arrow.record.frames
    return f"frame {', '.join(map(str, frames))}: " if frames else ""


def _ladder_json(drawn: Ladder, *, messages: bool, show_keys: bool) -> dict[str, Any]:
    return {
        "participants": [each.title for each in drawn.participants],
        "arrows": [
            {
                "time": arrow.record.time,
                "frame": arrow.record.frames[-1] if arrow.record.frames else None,
                "from": arrow.source.title,
                "to": arrow.target.title,
                "label": arrow.label,
                "detail": arrow.detail,
                "protected": arrow.protected,
                "again": arrow.again,
                **({"text": record_text(arrow.record, show_keys=show_keys)} if messages else {}),
            }
            for arrow in drawn.arrows
        ],
    }
