"""Whole runs in the eyes of others: tshark on every frame, scapy on every packet."""

from __future__ import annotations

import io
import subprocess
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from imslab.config import load
from imslab.core.sa import Sa
from imslab.ipsec.packet import parse_ip
from imslab.lab import EPOCH, Lab
from imslab.trace.decrypt import decrypt
from imslab.trace.keys import esp_sa_file
from imslab.trace.live import recorded_packets, write_capture
from imslab.trace.trace import method_of, status_of
from tests.flows.labs import CBC_AND_NULL, Job, first, job
from tests.require import require_program

CHECKS = ["ip.check_checksum:TRUE", "udp.check_checksum:TRUE", "tcp.check_checksum:TRUE"]
OPEN = ["esp.enable_encryption_decode:TRUE", "esp.enable_authentication_check:TRUE"]
FIELDS = (
    "frame.number",
    "frame.protocols",
    "_ws.malformed",
    "ip.checksum.status",
    "udp.checksum.status",
    "tcp.checksum.status",
    "_ws.expert.severity",
    "_ws.expert.message",
    "sip.Method",
    "sip.Status-Code",
    "diameter.cmd.code",
    "esp.spi",
    "esp.icv_good",
    "esp.icv_bad",
)
#: How Wireshark numbers what it thinks: an error, and a checksum that it has verified.
ERROR = 0x800000
GOOD = "1"


@dataclass
class Frame:
    """A frame in tshark's words: field → its values."""

    number: int
    fields: dict[str, list[str]]

    def __getitem__(self, name: str) -> list[str]:
        return self.fields[name]

    def has(self, protocol: str) -> bool:
        """Whether the frame has (the end of) a message of this protocol."""
        return protocol in self["frame.protocols"][0].split(":")


def tshark(capture: bytes, folder: Path, *options: str) -> list[Frame]:
    """Every frame of a capture."""
    path = folder / "capture.pcapng"
    path.write_bytes(capture)
    command = [require_program("tshark"), "-r", str(path), "-T", "fields", "-E", "separator=|", "-E", "aggregator=^"]
    for option in (*CHECKS, *options):
        command += ["-o", option]
    for field in FIELDS:
        command += ["-e", field]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    frames = []
    for line in done.stdout.splitlines():
        values = [each.split("^") if each else [] for each in line.split("|")]
        row = dict(zip(FIELDS, values, strict=True))
        frames.append(Frame(int(row["frame.number"][0]), row))
    return frames


def assert_no_mark(frames: list[Frame]) -> None:
    """No malformed packet, no bad checksum, no error of the expert on any frame; and they were looked for."""
    for frame in frames:
        assert frame["_ws.malformed"] == [], frame
        assert [each for each in frame["_ws.expert.severity"] if int(each) >= ERROR] == [], frame
        for name in ("ip", "udp", "tcp"):
            assert set(frame[f"{name}.checksum.status"]) <= {GOOD}, frame
    verified = {name for frame in frames for name in ("udp", "tcp") if frame[f"{name}.checksum.status"]}
    assert verified == {"udp", "tcp"}


def told(frames: list[Frame]) -> list[tuple[int, str]]:
    """The SIP messages that tshark sees: the frame that ends each, and its method or status."""
    found = []
    for frame in frames:
        if frame.has("sip"):
            found += [(frame.number, each) for each in frame["sip.Method"] + frame["sip.Status-Code"]]
    return sorted(found)


def ours(done: Job, *, esp: bool) -> list[tuple[int, str]]:
    """The SIP messages that the trace has, in clear (or all), the same way."""
    found = []
    for record in done.trace.sip_records:
        if esp or record.spi is None:
            status = status_of(record)
            found.append((record.frames[-1], method_of(record) if status is None else str(status)))
    return sorted(found)


def keys(lab: Lab) -> list[str]:
    """The options with which tshark opens the ESP of a run."""
    sas: list[Sa] = [
        sa for event in lab.recording.events if event.kind == "install-sas" for sa in event.data["sas"].sas
    ]
    lines = [line for line in esp_sa_file(sas).splitlines() if not line.startswith("#")]
    assert lines
    return [*OPEN, *(f"uat:esp_sa:{line}" for line in dict.fromkeys(lines))]


SETTINGS: dict[str, dict[str, Any]] = {
    "IPv4": {},
    "IPv6": {"ip": 6},
    "IPv4 over UDP": {"ue__transport": "udp"},
    "IPv6 over UDP": {"ue__transport": "udp", "ip": 6},
    "IPv4 over TCP": {"ue__transport": "tcp"},
    "IPv6 over TCP": {"ue__transport": "tcp", "ip": 6},
    "a bad network": {
        "seed": 3,
        **{f"links__{link}__loss": 0.1 for link in ("gm", "mw", "cx")},
        **{f"links__{link}__duplicate": 0.1 for link in ("gm", "mw", "cx")},
        **{f"links__{link}__reorder": 0.2 for link in ("gm", "mw", "cx")},
    },
}


@pytest.mark.parametrize("name", SETTINGS)
def test_tshark_finds_nothing_wrong_on_any_frame(name: str, tmp_path: Path) -> None:
    """SIP, Diameter and ESP alike; it sees the messages that the trace has, in the same frames."""
    done = job(**SETTINGS[name])
    frames = tshark(done.capture(), tmp_path)
    assert len(frames) == done.trace.packets
    assert_no_mark(frames)
    if name != "a bad network":  # tshark keeps segments of TCP that came twice apart
        assert told(frames) == ours(done, esp=False)
        diameter = sorted(code for frame in frames if frame.has("diameter") for code in frame["diameter.cmd.code"])
        assert diameter == sorted(str(record.message.command) for record in done.trace.diameter_records)
    esp = [int(frame["esp.spi"][0], 16) for frame in frames if frame["esp.spi"]]
    assert len(esp) == len(done.trace.esp_records)
    assert set(esp) == {record.spi for record in done.trace.esp_records}


@pytest.mark.parametrize(("alg", "ealg"), [*CBC_AND_NULL, ("null", "aes-gcm")])
def test_tshark_opens_esp_and_verifies_it(alg: str, ealg: str, tmp_path: Path) -> None:
    """With the key file: every ICV good, every checksum inside right, every SIP message where the trace has it."""
    done = job(**first(alg, ealg))
    frames = tshark(done.capture(), tmp_path, *keys(done.lab))
    assert_no_mark(frames)
    esp = [frame for frame in frames if frame["esp.spi"]]
    assert len(esp) == len(done.trace.esp_records)
    if alg != "null":  # the ICV of GCM is not checked by itself there
        assert {tuple(frame["esp.icv_good"]) for frame in esp} == {("1",)}
    assert not any(each == "1" for frame in esp for each in frame["esp.icv_bad"])
    assert {"udp" if frame["udp.checksum.status"] else "tcp" for frame in esp} == {"udp", "tcp"}
    assert all(frame["udp.checksum.status"] or frame["tcp.checksum.status"] for frame in esp)
    assert told(frames) == ours(done, esp=True)
    inside = {each for frame in esp for each in frame["sip.Method"]}
    assert {"REGISTER", "SUBSCRIBE", "NOTIFY", "MESSAGE"} <= inside


@pytest.mark.parametrize("ip", [4, 6])
def test_tshark_does_not_open_it_with_another_key(ip: int, tmp_path: Path) -> None:
    """So that the test above can fail: one digit of the integrity key is enough."""
    done = job(**first("hmac-sha-1-96", "aes-cbc"), ip=ip)
    options = keys(done.lab)
    wrong = [each[:-10] + ("1" if each[-10] == "0" else "0") + each[-9:] if "uat" in each else each for each in options]
    frames = tshark(done.capture(), tmp_path, *wrong)
    esp = [frame for frame in frames if frame["esp.spi"]]
    assert {tuple(frame["esp.icv_bad"]) for frame in esp} == {("1",)}


@pytest.mark.parametrize("name", ["IPv4", "IPv6 over UDP", "IPv6 over TCP"])
def test_the_decrypted_capture_needs_no_key(name: str, tmp_path: Path) -> None:
    done = job(**SETTINGS[name])
    stream = io.BytesIO()
    decrypt(recorded_packets(done.lab.recording, EPOCH), done.trace, stream)
    frames = tshark(stream.getvalue(), tmp_path)
    assert_no_mark(frames)
    assert not any(frame["esp.spi"] for frame in frames)
    assert sorted(name for _, name in told(frames)) == sorted(name for _, name in ours(done, esp=True))


@pytest.mark.parametrize("name", SETTINGS)
def test_scapy_reads_every_packet(name: str) -> None:
    """To the last octet: what scapy builds from what it read is the packet, checksums and lengths its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from scapy.layers.inet import IP, TCP, UDP
        from scapy.layers.inet6 import IPv6
        from scapy.layers.ipsec import ESP
    seen: set[Any] = set()
    for each in job(**SETTINGS[name]).lab.recording.packets:
        read = (IP if each.octets[0] >> 4 == 4 else IPv6)(each.octets)
        fragment = parse_ip(each.octets)
        whole = not fragment.more_fragments and not fragment.fragment_offset
        for layer, fields in ((IP, ("len", "chksum")), (IPv6, ("plen",)), (UDP, ("len", "chksum")), (TCP, ("chksum",))):
            if layer in read and (whole or layer in (IP, IPv6)):
                seen.add(layer)
                for field in fields:
                    delattr(read[layer], field)
        if ESP in read:
            seen.add(ESP)
        assert bytes(read) == each.octets
    assert {UDP, TCP, ESP} <= seen
    assert seen & {IP, IPv6}


def test_a_bad_checksum_would_be_seen(tmp_path: Path) -> None:
    """So that the tests above can fail."""
    lab = Job(Lab(load())).lab
    packets = enumerate(lab.recording.packets)
    place = next(index for index, each in packets if each.point == "Mw" and parse_ip(each.octets).protocol == 17)
    packet = lab.recording.packets[place]
    octets = packet.octets[:-1] + bytes([packet.octets[-1] ^ 1])
    lab.recording.packets[place] = packet._replace(octets=octets)
    stream = io.BytesIO()
    write_capture(lab.recording, stream, epoch=EPOCH)
    frames = tshark(stream.getvalue(), tmp_path)
    assert frames[place]["udp.checksum.status"] == ["0"]
    with pytest.raises(AssertionError):
        assert_no_mark(frames)
