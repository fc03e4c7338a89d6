"""`imslab run`: a whole registration in a simulated network, shown as a ladder and judged."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from imslab.cli.output import exit_by, fail_on_option, new_file, print_json, print_judgement, print_ladder
from imslab.config import LabConfig, load
from imslab.core.errors import LocalError
from imslab.core.sa import SaSet
from imslab.ipsec.sa import COMBINATIONS, NULL, Combination
from imslab.lab import EPOCH, Lab, Result, main_job
from imslab.report.ladder import Ladder, build
from imslab.report.summary import summarise
from imslab.rules.judge import judge
from imslab.trace.decrypt import decrypt
from imslab.trace.keys import esp_sa_file
from imslab.trace.live import recorded_packets, write_capture
from imslab.trace.trace import Trace


@click.command(short_help="Register a simulated UE end to end, and judge it.")
@click.option("-c", "--config", "path", type=click.Path(path_type=Path), help="lab.yaml; without it, two UEs.")
@click.option("--ipsec", type=click.Choice(["auto", "user"]), default="auto", help="ESP: our own, in user space.")
@click.option("--alg", metavar="A", help="Integrity that the P-CSCF shall choose, as hmac-sha-1-96.")
@click.option("--ealg", metavar="E", help="Encryption that the P-CSCF shall choose, as aes-cbc.")
@click.option("--ip", "version", type=click.Choice(["4", "6"]), help="IP version of the whole lab.  [default: 4]")
@click.option("--transport", type=click.Choice(["auto", "udp", "tcp"]), help="Of the UEs.  [default: auto]")
@click.option("--seed", metavar="N", help="The same seed gives the same run, octet for octet.  [default: 1]")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("out"),
    show_default=True,
    help="Folder for captures and reports.",
)
@fail_on_option
@click.option("--show-keys", is_flag=True, help="Do not mask CK, IK and XRES in the HTML report.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON, and nothing else.")
def run(
    path: Path | None,
    ipsec: str,
    alg: str | None,
    ealg: str | None,
    version: str | None,
    transport: str | None,
    seed: str | None,
    out: Path,
    fail_on: str | None,
    show_keys: bool,
    as_json: bool,
) -> None:
    """Register simulated UEs through P-CSCF, I-CSCF, S-CSCF and HSS, with real AKA and ESP, and judge what happened.

    REGISTER, 401, SAs, protected REGISTER, 200, reg-event, a MESSAGE both ways, re-REGISTER with new SAs, de-REGISTER.
    Prints the ladder and the findings; writes captures, keys and reports to a folder.
    """
    overrides = {"ip": int(version) if version else None, "ue__transport": transport, "seed": seed}
    config = load(path, os.environ, **overrides)
    if alg or ealg:
        config = prefer(config, combination(alg, ealg))
    lab = Lab(config)
    results = list(main_job(lab))
    trace = lab.trace
    findings = judge(trace)
    document = summarise(trace, findings)
    document["job"] = [{"step": each.step, "ok": each.ok, "time": round(each.time, 3)} for each in results]
    failed = next((each for each in results if not each.ok), None)
    if failed is not None:
        document["verdict"] = "fail"
    ladder = build(trace)
    out.mkdir(parents=True, exist_ok=True)
    files = write_files(out, lab, trace, ladder, document, failed, show_keys)
    if as_json:
        print_json(document)
    else:
        print_ladder(ladder)
        click.echo()
        print_judgement(trace, findings, failed=failed is not None)
        if failed is not None:
            click.echo(reason(failed))
        click.echo()
        for name, what in files.items():
            click.echo(f"{out / name}  {what}")
    exit_by(document, findings, fail_on)


def reason(failed: Result) -> str:
    """What to say about the step at which the main job stopped."""
    return f"fail: the step “{failed.step}” did not come about within {failed.time:.0f} s of the lab's time"


def combination(alg: str | None, ealg: str | None) -> Combination:
    """The combination that these name; None leaves a half open, which is null then if it can be.

    Raises LocalError for one that 33.203 Annex H does not have.
    """
    fitting = [each for each in COMBINATIONS if alg in (None, each.alg) and ealg in (None, each.ealg)]
    if not fitting:
        asked = " ".join(f"--{name} {token}" for name, token in (("alg", alg), ("ealg", ealg)) if token is not None)
        known = ", ".join(f"{each.alg} with {each.ealg}" for each in COMBINATIONS)
        raise LocalError(f"{asked}: not in 33.203 Annex H; there are: {known}")
    return next((each for each in fitting if each == (alg or NULL, ealg or NULL)), fitting[0])


def prefer(config: LabConfig, pair: Combination) -> LabConfig:
    """The lab with one combination on top of the P-CSCF's list, and among the UEs' offers."""
    pcscf = config.pcscf.model_copy(update={"algorithms": _first(pair, config.pcscf.algorithms)})
    ue = config.ue.model_copy(update={"algorithms": _first(pair, config.ue.algorithms)})
    return config.model_copy(update={"pcscf": pcscf, "ue": ue})


def _first(pair: tuple[str, str], pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return (pair, *(each for each in pairs if each != pair))


def write_files(
    out: Path,
    lab: Lab,
    trace: Trace,
    ladder: Ladder,
    document: dict[str, Any],
    failed: Result | None,
    show_keys: bool,
) -> dict[str, str]:
    """Write all that a run leaves; what each file is, by name. Those that hold keys are for their owner alone."""
    from imslab.report.html import write_html  # Jinja2 is imported while nothing waits for it any more

    with new_file(out / "trace.pcapng", secret=True) as stream:
        write_capture(lab.recording, stream, epoch=EPOCH)
    with new_file(out / "decrypted.pcapng", secret=True) as stream:
        decrypt(recorded_packets(lab.recording, EPOCH), trace, stream)
    with new_file(out / "esp_sa", secret=True) as stream:
        stream.write(esp_sa_file(_sas(lab)).encode())
    with new_file(out / "report.json") as stream:
        stream.write((json.dumps(document, indent=2) + "\n").encode())
    html = write_html(
        document,
        ladder,
        title=f"imslab run, seed {lab.config.seed}",
        reason=reason(failed) if failed is not None else "",
        show_keys=show_keys,
    )
    with new_file(out / "report.html", secret=show_keys) as stream:
        stream.write(html.encode())
    return {
        "trace.pcapng": "the capture; Mw and Cx show keys: readable by you alone",
        "decrypted.pcapng": "the same with ESP opened; readable by you alone",
        "esp_sa": "Wireshark's key file for it (ESP preferences); readable by you alone",
        "report.html": "ladder, messages, SAs, findings in one page"
        + ("; shows keys: readable by you alone" if show_keys else ""),
        "report.json": "the same for programs",
    }


def _sas(lab: Lab) -> list[Any]:
    """All SAs that any node installed, once each, in order."""
    sets: list[SaSet] = [event.data["sas"] for event in lab.recording.events if event.kind == "install-sas"]
    return list({(sa.dst.host, sa.spi): sa for sas in sets for sa in sas.sas}.values())
