"""`imslab pcap`: spellings, outputs, exit codes, and what it says about captures that are none."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from imslab.cli.main import main
from imslab.cli.pcap import Keys
from imslab.trace.keys import esp_sa_file
from imslab.trace.pcap import LINKTYPE_RAW, PcapngWriter, read
from tests.require import require_shared
from tests.trace.wire import HSS, OPC, PCSCF, SCSCF, UE, K, Registration, Wire, maa

KEYS = ["--k", K.hex(), "--opc", OPC.hex()]


def test_what_the_user_knows_is_not_in_a_traceback() -> None:
    assert repr(Keys(K, OPC, None, ())) == "Keys(files=())"


class Said:
    """What a command said and how it ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.out)
        return answer


@pytest.fixture
def pcap(capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: str | Path) -> Said:
        code = main(["pcap", *map(str, arguments)])
        return Said(code, *capsys.readouterr())

    return call


def _write(wire: Wire, path: Path) -> Path:
    with path.open("wb") as stream:
        writer = PcapngWriter(stream)
        writer.interface("Gm", LINKTYPE_RAW)
        for packet in wire.packets:
            writer.packet(0, packet.time, packet.octets)
    return path


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return _write(Registration(Wire()).whole().wire, tmp_path / "good.pcapng")


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A capture on Gm alone: nothing in it shows a key."""
    flow = Registration(Wire())
    flow.first()
    flow.unauthorized()
    flow.second()
    flow.final()
    return _write(flow.wire, tmp_path / "closed.pcapng")


def test_the_tablet(pcap: Any) -> None:
    capture = require_shared("captures/samsung-kamailio-ipsec-reg.pcapng")
    said = pcap("verify", capture, "--k", "8baf473f2f8fd09487cccbd7097c6862", "--op", "11" * 16, "--json")
    assert said.code == 0
    (registration,) = said.json["registrations"]
    assert registration["outcome"] == "registered"
    assert (registration["autn"], registration["response"], registration["qop"]) == ("ok", "ok", "auth-int")
    assert [(sa["spi"], sa["sport"], sa["dport"]) for sa in registration["sa"]] == [
        (101, 6301, 6100),
        (25656, 6100, 6301),
        (25657, 5100, 6300),
        (100, 6300, 5100),
    ]
    assert sum(sa["icv_ok"] for sa in registration["sa"]) == 42
    assert sum(sa["icv_bad"] + sa["replayed"] for sa in registration["sa"]) == 0


def test_verify(pcap: Any, good: Path) -> None:
    said = pcap("verify", good, *KEYS, "--json")
    assert said.code == 0
    assert {"verdict", "registrations", "findings"} <= said.json.keys()
    assert said.json["verdict"] == "pass"
    assert said.json["registrations"][0]["autn"] == "ok"
    assert said.err == ""
    said = pcap("verify", good)
    assert said.code == 0
    assert "registered" in said.out
    assert "AUTN unknown-key" in said.out


def test_the_exit_code_follows_the_verdict_and_fail_on(pcap: Any, good: Path, closed: Path, tmp_path: Path) -> None:
    assert pcap("verify", closed, *KEYS).code == 0
    said = pcap("verify", closed)
    assert said.code == 1
    assert "2 ESP packets were not verified: no CK and IK" in said.err
    assert pcap("verify", closed, "--json").json["verdict"] == "inconclusive"
    said = pcap("verify", good, "--json", "--fail-on", "warning")
    assert said.code == (1 if any(each["level"] != "note" for each in said.json["findings"]) else 0)
    flow = Registration(Wire())
    flow.first()
    assert pcap("verify", _write(flow.wire, tmp_path / "silent.pcapng")).code == 1


def test_a_wrong_key_is_one_clear_sentence(pcap: Any, good: Path) -> None:
    said = pcap("verify", good, "--k", "00" * 16, "--opc", OPC.hex(), "--json")
    assert said.code == 1
    assert said.json["verdict"] == "fail"
    assert said.json["registrations"][0]["autn"] == "mac-failure"
    assert len(said.err.splitlines()) == 1
    assert "the MAC of AUTN is wrong under this key" in said.err


def test_keys_from_a_file(pcap: Any, closed: Path, tmp_path: Path) -> None:
    flow = Registration(Wire())
    for text in (
        f"k={K.hex()} opc={OPC.hex()}",
        f"ck={flow.vector.ck.hex()} ik={flow.vector.ik.hex()}",
        esp_sa_file(flow.sas),
    ):
        path = tmp_path / "keys"
        path.write_text(text)
        said = pcap("verify", closed, "--keys", path, "--json")
        assert said.json["registrations"][0]["outcome"] == "registered", text
    path.write_text("nonsense\n")
    said = pcap("verify", closed, "--keys", path)
    assert said.code == 2
    assert "keys, line 1: expected" in said.err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--k", K.hex()], "--k needs either --opc or --op"),
        (["--opc", OPC.hex()], "need --k beside them"),
        ([*KEYS, "--op", OPC.hex()], "--k needs either"),
        (["--k", "0011"], "expected 16 octets"),
        (["--keys", "/nowhere/keys"], "/nowhere/keys: No such file"),
        (["--fail-on", "note"], "--fail-on"),
    ],
)
def test_usage_errors(pcap: Any, good: Path, arguments: list[str], text: str) -> None:
    said = pcap("verify", good, *arguments)
    assert said.code == 2
    assert text in said.err
    assert len(said.err.splitlines()) == 1
    assert K.hex() not in said.err


@pytest.mark.parametrize("command", ["verify", "ladder", "decrypt"])
@pytest.mark.parametrize(
    ("name", "octets", "text"),
    [
        ("empty", b"", "empty: the file is empty"),
        ("text", b"this is a text file, longer than any magic number", "text: no capture"),
        ("cut", bytes.fromhex("d4c3b2a1020004"), "cut: the pcap file ends inside its header"),
        ("gone", None, "cannot read"),
    ],
)
def test_what_is_no_capture(
    pcap: Any, tmp_path: Path, command: str, name: str, octets: bytes | None, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    if octets is not None:
        path.write_bytes(octets)
    said = pcap(command, path)
    assert said.code == 2
    assert said.out == ""
    assert text in said.err
    assert len(said.err.splitlines()) == 1


def test_a_capture_without_ims(pcap: Any, tmp_path: Path) -> None:
    wire = Wire()
    wire.udp(UE, PCSCF, b"something else altogether")
    said = pcap("verify", _write(wire, tmp_path / "other.pcapng"))
    assert said.code == 1
    assert "no SIP, no Diameter and no ESP in 1 frames" in said.err
    assert len(said.err.splitlines()) == 1
    wire.tcp(HSS, SCSCF, maa(Registration(wire).vector))
    said = pcap("verify", _write(wire, tmp_path / "cx.pcapng"))
    assert said.code == 1
    assert "no REGISTER" in said.err


def test_a_truncated_capture_is_judged_as_far_as_it_goes(pcap: Any, good: Path) -> None:
    good.write_bytes(good.read_bytes()[:-20])
    said = pcap("verify", good, *KEYS, "--json")
    assert said.code == 1
    assert said.json["registrations"][0]["outcome"] == "no-answer"
    assert "good.pcapng: the capture ends inside a block" in said.json["problems"][0]
    assert "good.pcapng: the capture ends inside a block" in said.err


def test_several_files_are_one_capture(pcap: Any, tmp_path: Path) -> None:
    wire = Registration(Wire()).whole().wire
    packets = wire.packets
    names = []
    for name, part in (("late", packets[3:]), ("early", packets[:3])):
        wire.packets = part
        names.append(_write(wire, tmp_path / f"{name}.pcapng"))
    said = pcap("verify", *names, "--json")
    assert said.code == 0
    assert [step["frame"] for step in said.json["registrations"][0]["steps"]] == [1, 2, 3, 4, 5, 6]


def test_the_standard_input(good: Path) -> None:
    command = [sys.executable, "-m", "imslab.cli", "pcap", "verify", "-", "--json"]
    done = subprocess.run(command, input=gzip.compress(good.read_bytes()), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"] == "pass"


def test_ladder(pcap: Any, good: Path) -> None:
    said = pcap("ladder", good)
    assert said.code == 0
    assert re.search(r"5 .*═ REGISTER ═", said.out)
    assert "sequenceDiagram" in pcap("ladder", good, "--mermaid").out
    arrows = pcap("ladder", good, "--json").json["arrows"]
    assert [(each["frame"], each["protected"]) for each in arrows] == [(n, n > 4) for n in range(1, 7)]
    assert "text" not in arrows[0]


def test_keys_are_shown_only_when_asked_for(pcap: Any, good: Path, tmp_path: Path) -> None:
    vector = Registration(Wire()).vector
    secrets = (vector.ck.hex(), vector.ik.hex())
    html = tmp_path / "report.html"
    for arguments in (
        ["verify", good, *KEYS],
        ["verify", good, *KEYS, "--json"],
        ["verify", good, "--html", html],
        ["ladder", good, "--messages"],
        ["ladder", good, "--messages", "--json"],
    ):
        said = pcap(*arguments)
        shown = said.out + said.err + (html.read_text() if html in arguments else "")
        assert not any(secret in shown for secret in secrets), arguments
        said = pcap(*arguments, "--show-keys")
        shown = said.out + (html.read_text() if html in arguments else "")
        assert all(secret in shown for secret in secrets), arguments
    assert html.stat().st_mode & 0o777 == 0o600
    assert "<title>" in html.read_text()


def test_decrypt(pcap: Any, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = pcap("decrypt", good)
    assert said.code == 0
    assert "6 frames; 2 ESP packets opened, 0 left closed" in said.out
    output = tmp_path / "good.decrypted.pcapng"
    assert output.stat().st_mode & 0o777 == 0o600
    assert b"REGISTER sip:" in list(read(output))[4].octets
    said = pcap("decrypt", good, "-o", "other", "--esp-sa", "keys", "--json")
    assert said.json == {"files": ["other", "keys"], "packets": 6, "opened": 2, "closed": 0}
    assert (tmp_path / "keys").read_text().count('"IPv4"') == 4
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o600
    assert pcap("verify", good, "--keys", "keys").code == 0


def test_decrypt_without_keys_says_so(pcap: Any, closed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = pcap("decrypt", closed)
    assert said.code == 1
    assert "0 ESP packets opened, 2 left closed" in said.out
    assert "no CK and IK" in said.err


def test_decrypt_never_writes_over_its_input(pcap: Any, good: Path) -> None:
    before = good.read_bytes()
    for option in ("-o", "--esp-sa"):
        said = pcap("decrypt", good, option, good)
        assert said.code == 2
        assert "over the capture" in said.err
    assert good.read_bytes() == before
    assert "twice" in pcap("decrypt", "-").err
    pipe = good.with_name("pipe")
    os.mkfifo(pipe)
    assert "twice" in pcap("decrypt", pipe).err
    said = pcap("decrypt", good, "-o", good.with_name("one"), "--esp-sa", good.with_name("one"))
    assert (said.code, "expected two files" in said.err) == (2, True)
    assert not good.with_name("one").exists()


def test_a_report_never_goes_over_what_is_read(pcap: Any, good: Path) -> None:
    before = good.read_bytes()
    said = pcap("verify", good, "--html", good)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert "over the capture" in said.err
    assert good.read_bytes() == before
    keys = good.with_name("keys")
    keys.write_text("# none\n")
    for arguments in (("verify", good, "--html", keys), ("decrypt", good, "-o", keys)):
        said = pcap(*arguments, "--keys", keys)
        assert (said.code, "over the key file" in said.err) == (2, True)
    assert keys.read_text() == "# none\n"


def test_a_key_file_without_end(pcap: Any, good: Path) -> None:
    said = pcap("verify", good, "--keys", "/dev/zero")
    assert (said.code, said.err) == (2, "imslab: /dev/zero: expected a key file of up to 16777216 octets\n")


def test_what_a_peer_wrote_cannot_command_the_terminal(pcap: Any, tmp_path: Path) -> None:
    wire = Wire()
    wire.udp(
        UE, PCSCF, "REGISTER sip:a SIP/2.0\r\nVia: \x1b[31mred\r\nTo: <sip:\x1b]0;title\x07@a>\r\nX: \u202e\r\n\r\n"
    )
    path = _write(wire, tmp_path / "evil.pcapng")
    for arguments in (["verify", path], ["ladder", path, "--messages"], ["verify", path, "--json"]):
        said = pcap(*arguments)
        assert "\x1b" not in said.out + said.err
        assert "\x07" not in said.out + said.err


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from imslab.cli.main import main; main(['--help']);sys.exit('imslab.trace.dissect' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_verify_imports_no_more_than_it_needs(good: Path) -> None:
    code = (
        "import sys; from imslab.cli.main import main; main(['pcap', 'verify', sys.argv[1]]);"
        "sys.exit(any(name in sys.modules for name in ('scapy', 'jinja2', 'pydantic', 'asyncio', 'imslab.roles')))"
    )
    assert subprocess.run([sys.executable, "-c", code, good], capture_output=True, check=False).returncode == 0


def test_the_collector_is_on_again_afterwards_and_leaves_the_trace_alone(good: Path) -> None:
    code = (
        "import gc, sys; from imslab.cli.main import main; main(['pcap', 'verify', sys.argv[1]]);"
        "from imslab.trace.model import SipRecord;"
        "sys.exit(not gc.isenabled() or any(isinstance(each, SipRecord) for each in gc.get_objects()))"
    )
    assert subprocess.run([sys.executable, "-c", code, good], capture_output=True, check=False).returncode == 0


def test_in_memory_captures_are_streams_too() -> None:
    assert list(read(io.BytesIO(gzip.compress(b"\xd4\xc3\xb2\xa1" + bytes(20))))) == []
