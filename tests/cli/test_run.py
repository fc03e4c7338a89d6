"""`imslab run` as a process: what it prints, what it writes, how it ends."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from imslab.cli import run as run_module
from imslab.cli.main import main
from imslab.core.flow import Transport
from imslab.trace.dissect import dissect
from imslab.trace.keys import KeyRing
from imslab.trace.model import Hop, Icv
from imslab.trace.pcap import read
from imslab.trace.trace import Trace

PROJECT = Path(__file__).resolve().parents[2]
FILES = {"trace.pcapng", "decrypted.pcapng", "esp_sa", "report.html", "report.json"}
SECRET = {"trace.pcapng", "decrypted.pcapng", "esp_sa"}
#: OPc and K of the two subscribers, and what a key looks like in a header.
KEYS = ("465b5ce8b199b49faa5f0a2ee238a6bc", "fec86ba6eb707ed08905757b1bb44b8f", "cdc202d5123e20f62b6d676ac72cb318")


def environment(**more: str) -> dict[str, str]:
    """The variables of a process of ours: those of this one without what would change its output."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("IMSLAB_", "LC_", "LANG"))}
    return kept | {"PYTHONPATH": str(PROJECT), "LANG": "C.UTF-8"} | more


def imslab(*arguments: str | Path, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [sys.executable, "-m", "imslab.cli", "run", *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=environment(**more), capture_output=True, text=True, encoding="utf-8", timeout=120
    )


def names(folder: Path) -> set[str]:
    """Everything in a folder, hidden or not."""
    return {each.name for each in folder.iterdir()}


def trace_of(path: Path) -> Trace:
    """The trace of a capture file."""
    with path.open("rb") as stream:
        return dissect(read(io.BytesIO(stream.read())), KeyRing())


def mode(path: Path) -> int:
    """The permission bits of a file."""
    return path.stat().st_mode & 0o777


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the plain run was made."""
    return tmp_path_factory.mktemp("plain")


@pytest.fixture(scope="module")
def plain(folder: Path) -> subprocess.CompletedProcess[str]:
    """`imslab run` without any option."""
    return imslab(cwd=folder)


class TestWhatItSays:
    def test_to_people(self, plain: subprocess.CompletedProcess[str], folder: Path) -> None:
        done = plain
        assert done.returncode == 0
        assert done.stderr == ""
        lines = done.stdout.splitlines()
        assert re.search(r"UE 10\.0\.0\.1 +UE 10\.0\.0\.2 +P-CSCF +I-CSCF +S-CSCF +HSS", lines[0])
        for word in ("REGISTER", "401 REGISTER", "MAA 2001", "install-sas", "SUBSCRIBE", "MESSAGE", "sas-switched"):
            assert any(word in line for line in lines), word
        assert any("══ REGISTER ═" in line or "═ REGISTER ═" in line for line in lines)
        assert "pass: 5 of 5 registrations succeeded; no findings" in lines
        assert names(folder / "out") == FILES
        assert {line.split()[0] for line in lines[-5:]} == {f"out/{name}" for name in FILES}
        assert not [key for key in KEYS if key in done.stdout]
        assert not re.search(r"\b(ck|ik)=", done.stdout, re.IGNORECASE)

    def test_to_programs(self, tmp_path: Path) -> None:
        """docs/reference/json.md; the same document stands in report.json."""
        done = imslab("--json", cwd=tmp_path)
        assert done.returncode == 0
        assert done.stderr == ""
        document = json.loads(done.stdout)
        assert set(document) == {"verdict", "registrations", "findings", "job"}
        assert (document["verdict"], document["findings"]) == ("pass", [])
        assert [(each["step"], each["ok"]) for each in document["job"]] == [
            ("register", True),
            ("register the others", True),
            ("message to", True),
            ("message from", True),
            ("re-register", True),
            ("de-register", True),
            ("de-register the others", True),
        ]
        assert all(set(each) == {"step", "ok", "time"} for each in document["job"])
        assert len(document["registrations"]) == 5
        for registration in document["registrations"]:
            assert {
                "impi", "impu", "call_id", "outcome", "algorithm", "qop", "autn", "response", "sa", "steps",
            } <= set(registration)  # fmt: skip
            assert len(registration["sa"]) == 4
            for sa in registration["sa"]:
                assert set(sa) == {
                    "spi", "src", "sport", "dst", "dport", "alg", "ealg", "packets", "icv_ok", "icv_bad", "replayed",
                }  # fmt: skip
                assert sa["packets"] == sa["icv_ok"]
            for step in registration["steps"]:
                assert set(step) == {"time", "frame", "from", "to", "summary"}
        first = document["registrations"][0]
        assert (first["outcome"], first["autn"], first["response"]) == ("registered", "ok", "ok")
        assert first["algorithm"] == "AKAv1-MD5"
        assert json.loads((tmp_path / "out" / "report.json").read_text()) == document
        assert not [key for key in KEYS if key in done.stdout]

    def test_no_colours_where_there_is_no_terminal(self, plain: subprocess.CompletedProcess[str]) -> None:
        assert "\x1b" not in plain.stdout

    @pytest.mark.parametrize("no_color", [False, True])
    def test_colours_on_a_terminal(self, no_color: bool, tmp_path: Path) -> None:
        pty = pytest.importorskip("pty")
        ours, theirs = pty.openpty()
        more = {"NO_COLOR": "1"} if no_color else {}
        command = [sys.executable, "-m", "imslab.cli", "run"]
        env = {name: value for name, value in environment(TERM="xterm", **more).items() if name != "COLUMNS"}
        if not no_color:
            env.pop("NO_COLOR", None)
        with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=theirs, stderr=subprocess.PIPE) as process:
            os.close(theirs)
            shown = b""
            while True:
                try:
                    piece = os.read(ours, 65536)
                except OSError:  # Linux says that the other end is gone
                    break
                if not piece:
                    break
                shown += piece
            assert process.wait(60) == 0
        os.close(ours)
        assert (b"\x1b[" in shown) is not no_color
        assert b"pass" in shown

    @pytest.mark.parametrize(
        "more",
        [
            {"PYTHONIOENCODING": "ascii"},
            {"PYTHONIOENCODING": "latin-1"},
            {"LANG": "C", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        ],
        ids=["ascii", "latin-1", "LANG=C"],
    )
    def test_a_terminal_without_unicode(
        self, more: dict[str, str], plain: subprocess.CompletedProcess[str], tmp_path: Path
    ) -> None:
        """The ladder is drawn with what there is."""
        done = imslab(cwd=tmp_path, **more)
        assert done.returncode == 0
        assert done.stderr == ""
        assert done.stdout.isascii()
        lines = done.stdout.splitlines()
        unicode = plain.stdout.splitlines()
        drawing = [index for index, line in enumerate(unicode) if "REGISTER" in line and "│" in line]
        assert len(drawing) > 20
        swapped = str.maketrans("│─═▶◀", "|-=><")
        assert [lines[index] for index in drawing] == [unicode[index].translate(swapped) for index in drawing]

    def test_a_reader_that_goes_away(self, tmp_path: Path) -> None:
        """`imslab run | head -1`: no complaint, and the files are whole."""
        command = [sys.executable, "-m", "imslab.cli", "run"]
        with subprocess.Popen(
            command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert process.wait(60) == 141
            assert process.stderr.read() == b""
        assert names(tmp_path / "out") == FILES
        assert trace_of(tmp_path / "out" / "trace.pcapng").registrations


class TestWhatItWrites:
    def test_modes(self, tmp_path: Path) -> None:
        """What holds keys is for its owner alone, whatever the umask; the rest is as everything else."""
        before = os.umask(0o022)
        try:
            assert main(["run", "--out", str(tmp_path / "o"), "--json"]) == 0
        finally:
            os.umask(before)
        assert {name for name in FILES if mode(tmp_path / "o" / name) == 0o600} == SECRET
        assert {name for name in FILES if mode(tmp_path / "o" / name) == 0o644} == FILES - SECRET

    def test_keys_in_the_report_only_when_asked_for(self, tmp_path: Path) -> None:
        masked, shown = tmp_path / "masked", tmp_path / "shown"
        assert main(["run", "--out", str(masked), "--json"]) == 0
        assert main(["run", "--out", str(shown), "--json", "--show-keys"]) == 0
        (ck, *_) = {
            str(record.message.www_authenticate[0].ck)
            for record in trace_of(masked / "trace.pcapng").sip(status=401, hop=Hop.MW)
        }
        assert len(ck) == 32
        assert ck not in (masked / "report.html").read_text()
        assert ck in (shown / "report.html").read_text()
        assert mode(shown / "report.html") == 0o600
        for folder in (masked, shown):
            assert ck not in (folder / "report.json").read_text()
            for key in KEYS:
                assert not [name for name in FILES if key.encode() in (folder / name).read_bytes()]

    def test_the_files_fit_each_other(self, tmp_path: Path) -> None:
        assert main(["run", "--out", str(tmp_path), "--json"]) == 0
        trace, opened = (trace_of(tmp_path / name) for name in ("trace.pcapng", "decrypted.pcapng"))
        assert {record.icv for record in trace.esp_records} == {Icv.OK}
        assert opened.esp_records == []
        assert [r.message.octets for r in opened.sip_records] == [r.message.octets for r in trace.sip_records]
        lines = [line for line in (tmp_path / "esp_sa").read_text().splitlines() if not line.startswith("#")]
        assert len(lines) == len(trace.sas) == 12
        assert all(any(f"0x{sa.spi:08x}" in line for line in lines) for sa in trace.sas)
        page = (tmp_path / "report.html").read_text()
        assert page.lower().startswith("<!doctype html>")
        assert not re.search(r"""(src|href)\s*=\s*["']https?:""", page)

    def test_what_stands_there_is_replaced(self, tmp_path: Path) -> None:
        """A file of a former run, one that all may read, a link to something else: none of it shines through."""
        elsewhere = tmp_path / "elsewhere"
        elsewhere.write_text("precious")
        out = tmp_path / "out"
        out.mkdir()
        (out / "trace.pcapng").write_bytes(b"old" * 100_000)
        (out / "trace.pcapng").chmod(0o666)
        (out / "esp_sa").symlink_to(elsewhere)
        (out / "report.json").symlink_to(elsewhere)
        (out / "mine.txt").write_text("mine")
        assert main(["run", "--out", str(out), "--json"]) == 0
        assert elsewhere.read_text() == "precious"
        assert not (out / "esp_sa").is_symlink()
        assert not (out / "report.json").is_symlink()
        assert mode(out / "trace.pcapng") == 0o600
        assert trace_of(out / "trace.pcapng").registrations
        assert names(out) == FILES | {"mine.txt"}

    def test_one_seed_one_run(self, tmp_path: Path) -> None:
        """The same octets from two processes, whose hashes differ; other octets from another seed."""
        for name, seed, hashes in (("a", "7", "1"), ("b", "7", "2"), ("c", "8", "1")):
            done = imslab("--seed", seed, "--out", name, cwd=tmp_path, PYTHONHASHSEED=hashes)
            assert done.returncode == 0
        octets = [(tmp_path / name / "trace.pcapng").read_bytes() for name in "abc"]
        assert octets[0] == octets[1]
        assert octets[0] != octets[2]
        for name in FILES:
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


class TestOptions:
    def played(self, folder: Path, *arguments: str) -> Trace:
        assert main(["run", "--out", str(folder), "--json", *arguments]) == 0
        return trace_of(folder / "trace.pcapng")

    def test_ip_6(self, tmp_path: Path) -> None:
        trace = self.played(tmp_path, "--ip", "6")
        assert all(":" in record.src.host for record in trace.sip_records)

    @pytest.mark.parametrize("transport", ["udp", "tcp"])
    def test_transport(self, transport: str, tmp_path: Path) -> None:
        trace = self.played(tmp_path, "--transport", transport)
        sent = {record.transport for record in trace.sip(hop=Hop.GM, method="REGISTER")}
        assert sent == {Transport(transport)}

    @pytest.mark.parametrize(
        ("arguments", "pair"),
        [
            (["--alg", "hmac-md5-96", "--ealg", "des-ede3-cbc"], ("hmac-md5-96", "des-ede3-cbc")),
            (["--alg", "aes-gmac"], ("aes-gmac", "null")),
            (["--ealg", "aes-gcm"], ("null", "aes-gcm")),
            (["--ealg", "aes-cbc"], ("hmac-sha-1-96", "aes-cbc")),
            (["--alg", "null"], ("null", "aes-gcm")),
        ],
    )
    def test_algorithms(self, arguments: list[str], pair: tuple[str, str], tmp_path: Path) -> None:
        trace = self.played(tmp_path, *arguments)
        assert {(sa.alg, sa.ealg) for sa in trace.sas} == {pair}

    def test_a_lab_of_ones_own(self, tmp_path: Path) -> None:
        lab = tmp_path / "lab.yaml"
        lab.write_text("seed: 3\nmcc: '234'\nmnc: '15'\nscscf: {expires_max: 700}\nue: {transport: tcp}\n")
        trace = self.played(tmp_path / "o", "-c", str(lab))
        assert {each.impi.partition("@")[2] for each in trace.registrations} == {"ims.mnc015.mcc234.3gppnetwork.org"}
        final = trace.registrations[0].final
        assert final is not None
        assert final.message.contact[0].expires == 700

    def test_environment_goes_before_the_file_and_options_before_both(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lab = tmp_path / "lab.yaml"
        lab.write_text("ip: 4\nue: {transport: udp}\n")
        monkeypatch.setenv("IMSLAB_IP", "6")
        monkeypatch.setenv("IMSLAB_UE__TRANSPORT", "udp")
        trace = self.played(tmp_path / "o", "-c", str(lab), "--transport", "tcp")
        assert ":" in trace.sip_records[0].src.host
        assert trace.sip_records[0].transport is Transport.TCP


class TestFailure:
    def lab(self, folder: Path, text: str) -> str:
        path = folder / "lab.yaml"
        path.write_text(text)
        return str(path)

    def test_a_fault_is_a_finding(self, tmp_path: Path) -> None:
        """It does not change the verdict; --fail-on makes it count."""
        lab = self.lab(tmp_path, "pcscf: {faults: [pcscf-keys-on-gm]}\n")
        done = imslab("-c", lab, cwd=tmp_path)
        assert done.returncode == 0
        (line,) = [line for line in done.stdout.splitlines() if "CHL-10" in line and "frame 28" in line]
        assert line.startswith("violation P-CSCF")
        assert "33.203 6.1.1" in line
        assert not re.search(r"[0-9a-f]{32}", "\n".join(x for x in done.stdout.splitlines() if "CHL-10" in x))
        document = json.loads((tmp_path / "out" / "report.json").read_text())
        assert document["verdict"] == "pass"
        assert {finding["rule"] for finding in document["findings"]} >= {"CHL-10"}
        for level in ("violation", "warning"):
            assert main(["run", "-c", lab, "--fail-on", level, "--out", str(tmp_path), "--json"]) == 1
        assert main(["run", "--fail-on", "warning", "--out", str(tmp_path), "--json"]) == 0

    def test_a_registration_that_fails(self, tmp_path: Path) -> None:
        lab = self.lab(tmp_path, "ue: {faults: [ue-wrong-response]}\n")
        done = imslab("-c", lab, cwd=tmp_path)
        assert done.returncode == 1
        assert done.stderr == ""
        assert "fail: the step “register” did not come about" in done.stdout
        assert "rejected " in done.stdout
        assert names(tmp_path / "out") == FILES
        document = json.loads((tmp_path / "out" / "report.json").read_text())
        assert document["verdict"] == "fail"
        assert document["registrations"][0]["outcome"] == "rejected"
        assert document["job"][-1]["ok"] is False

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("seed: [", "lab.yaml: line 1"),
            ("- a list", "lab.yaml: expected a mapping"),
            ("pcscf: {colour: blue}", "lab.yaml: pcscf.colour: no such key"),
            ("subscribers: [{imsi: '1', k: '00', op: '00'}]", "lab.yaml: subscribers.0"),
            ("links: {gm: {loss: 2}}", "lab.yaml: links.gm.loss"),
            ("ip: 5", "lab.yaml: ip"),
            ("ue: {algorithms: [[rot13, 'null']]}", "not a combination of 33.203 Annex H"),
            ("pcscf: {faults: [no-such-fault]}", "no-such-fault"),
            ("hss: {faults: [pcscf-late-sas]}", "pcscf-late-sas"),
            ("ue: {faults: [pcscf-late-sas]}", "not of a UE"),
        ],
    )
    def test_a_wrong_line(self, text: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """What, where, what was expected: one line, exit 2, and nothing written."""
        assert main(["run", "-c", self.lab(tmp_path, text), "--out", str(tmp_path / "o")]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1
        assert told in said.err
        assert not (tmp_path / "o").exists()

    @pytest.mark.parametrize(
        "arguments",
        [
            ["-c", "/nowhere/lab.yaml"],
            ["--alg", "rot13"],
            ["--alg", "null", "--ealg", "null"],
            ["--ip", "5"],
            ["--transport", "sctp"],
            ["--fail-on", "note"],
            ["--ipsec", "kernel-of-truth"],
            ["surplus"],
        ],
    )
    def test_wrong_usage(self, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["run", "--out", str(tmp_path / "o"), *arguments]) == 2
        said = capsys.readouterr()
        assert (said.out, said.err.count("\n")) == ("", 1)
        assert not (tmp_path / "o").exists()

    def test_keys_in_a_wrong_file_are_not_repeated(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        key = "465b5ce8b199b49faa5f0a2ee238a6"
        lab = self.lab(tmp_path, f"subscribers: [{{imsi: '001010000000001', k: '{key}', op: '{key}zz'}}]\n")
        assert main(["run", "-c", lab, "--out", str(tmp_path / "o")]) == 2
        assert key not in capsys.readouterr().err

    @pytest.mark.parametrize("place", ["a file", "below a file"])
    def test_a_folder_that_cannot_be(self, place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        taken = tmp_path / "taken"
        taken.write_text("")
        out = taken if place == "a file" else taken / "below"
        assert main(["run", "--out", str(out), "--json"]) == 2
        said = capsys.readouterr()
        assert said.err.count("\n") == 1
        assert "taken" in said.err
        assert taken.read_text() == ""

    @pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc, the folder in which nobody can make a file")
    def test_a_folder_in_which_nothing_can_be_made(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["run", "--out", "/proc/self", "--json"]) == 2
        assert capsys.readouterr().err == "imslab: /proc/self/trace.pcapng: No such file or directory\n"

    def test_a_name_that_is_a_folder(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "esp_sa").mkdir()
        assert main(["run", "--out", str(tmp_path), "--json"]) == 2
        assert capsys.readouterr().err == f"imslab: {tmp_path / 'esp_sa'}: Is a directory\n"
        assert not [name for name in names(tmp_path) if name.startswith(".")]

    def test_a_full_disk(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What was there before stays, whole."""
        assert main(["run", "--out", str(tmp_path), "--json"]) == 0
        before = (tmp_path / "decrypted.pcapng").read_bytes()
        capsys.readouterr()

        def full(packets: Any, trace: Any, stream: Any) -> None:
            stream.write(b"half of it")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(run_module, "decrypt", full)
        assert main(["run", "--seed", "2", "--out", str(tmp_path), "--json"]) == 2
        assert capsys.readouterr().err == "imslab: No space left on device\n"
        assert (tmp_path / "decrypted.pcapng").read_bytes() == before
        assert names(tmp_path) == FILES


class TestInterruption:
    def test_while_a_file_is_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def interrupted(packets: Any, trace: Any, stream: Any) -> None:
            stream.write(b"half of it")
            raise KeyboardInterrupt

        monkeypatch.setattr(run_module, "decrypt", interrupted)
        assert main(["run", "--out", str(tmp_path), "--json"]) == 130
        assert capsys.readouterr().err == "imslab: interrupted\n"
        assert names(tmp_path) == {"trace.pcapng"}
        assert trace_of(tmp_path / "trace.pcapng").registrations

    def test_from_outside(self, tmp_path: Path) -> None:
        """Ctrl-C: exit 130, and no file under a result's name that is not whole."""
        subscribers = ", ".join(f"{{imsi: '0010100000{n:05d}', k: '{n:032x}', op: '{n:032x}'}}" for n in range(12))
        (tmp_path / "lab.yaml").write_text(f"subscribers: [{subscribers}]\n")
        command = [sys.executable, "-m", "imslab.cli", "run", "-c", "lab.yaml", "--json"]
        with subprocess.Popen(
            command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            out = tmp_path / "out"
            limit = time.monotonic() + 60
            while not out.exists() and process.poll() is None and time.monotonic() < limit:
                time.sleep(0.001)  # the folder is made when the lab has played: the files come next
            process.send_signal(signal.SIGINT)
            said, complaint = process.communicate(timeout=60)
        assert process.returncode == 130
        assert (said, complaint) == (b"", b"imslab: interrupted\n")
        assert names(out) <= FILES
        for name in names(out) & {"trace.pcapng", "decrypted.pcapng"}:
            assert trace_of(out / name).problems == []
