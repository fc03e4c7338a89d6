"""`imslab pcap verify` against `tshark -T fields` on captures of 100,000 packets, as whole processes.

Two captures, both made here: "signalling" is UEs that register and send each other messages, and nothing else;
"packet core" is the same as one frame in eight among user traffic (RTP in GTP-U, DNS, TCP), as captures of real cores
are.

`verify` opens ESP, checks every ICV and reads the SIP inside; tshark does so when it is given the key file. What it
takes without keys, seeing nothing inside ESP, stands beside it. The target is for both captures and both ways.
"""

from __future__ import annotations

import itertools
import random
import shutil
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

from imslab.ipsec.packet import ACK, TCP, UDP, build_ip, build_tcp, build_udp
from imslab.lab import EPOCH, Lab
from imslab.trace.keys import esp_sa_file
from imslab.trace.live import recorded_packets
from imslab.trace.pcap import LINKTYPE_RAW, PcapngWriter
from tests.benchmarks.fleet import config, register_all
from tests.benchmarks.process import IMSLAB, seconds
from tests.benchmarks.table import Row

PACKETS = 100_000
#: So few that tshark, which tries one SA after the other, is not measured by their number.
UES = 40
#: Frames of other traffic beside one of signalling.
OTHERS = 7
FIELDS = (
    "frame.number",
    "sip.Method",
    "sip.Status-Code",
    "sip.Call-ID",
    "diameter.cmd.code",
    "diameter.applicationId",
    "esp.spi",
    "esp.sequence",
)


def run() -> list[Row]:
    """Packets per CPU second."""
    tshark = shutil.which("tshark")
    if tshark is None:
        return [Row("pcap verify: tshark is not installed, nothing to compare with", 0.0)]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        rows: list[Row] = []
        for name, others in (("signalling", 0), ("packet core", OTHERS)):
            rows += compare(tshark, name, place, others)
        return rows


def compare(tshark: str, name: str, place: Path, others: int) -> list[Row]:
    """One capture, verified by both."""
    capture = place / f"{name.replace(' ', '-')}.pcapng"
    settings = place / f"{capture.stem}-settings"
    settings.mkdir()
    count = make(capture, settings / "esp_sa", others)
    ours = count / seconds([IMSLAB, "pcap", "verify", str(capture), "--json"], runs=2)
    fields = [part for field in FIELDS for part in ("-e", field)]
    command = [tshark, "-r", str(capture), "-T", "fields", *fields]
    opened = ["-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE"]
    known = {"WIRESHARK_CONFIG_DIR": str(settings)}
    empty = {"WIRESHARK_CONFIG_DIR": str(place / "none")}
    with_keys = count / seconds([*command, *opened], runs=1, environment=known)
    without = count / seconds(command, runs=1, environment=empty)
    what = f"pcap verify, {name}, {count:,} packets"
    return [
        Row(what, ours, "tshark -T fields, ESP opened", with_keys, "packets/s", 1.0),
        Row(what, ours, "tshark -T fields, ESP closed", without, "packets/s", 1.0),
    ]


def make(capture: Path, keys: Path, others: int) -> int:
    """Write a capture of at least PACKETS packets and the key file for it. How many packets it has."""
    lab = Lab(config(UES))
    register_all(lab)
    talk(lab, PACKETS // (1 + others))
    sas = [sa for event in lab.recording.events if event.kind == "install-sas" for sa in event.data["sas"].sas]
    keys.write_text(esp_sa_file({(sa.dst.host, sa.spi): sa for sa in sas}.values()))
    noise = user_traffic()
    count = 0
    with capture.open("wb") as stream:
        writer = PcapngWriter(stream)
        interface = writer.interface("any", LINKTYPE_RAW)
        for packet in recorded_packets(lab.recording, EPOCH):
            writer.packet(interface, packet.time, packet.octets)
            for _ in range(others):
                writer.packet(interface, packet.time, next(noise))
            count += 1 + others
    if count < PACKETS:
        raise RuntimeError(f"only {count} packets were made")
    return count


def talk(lab: Lab, packets: int) -> None:
    """Let each UE send its neighbour a MESSAGE, in turn, until so many packets are recorded."""
    neighbours = itertools.cycle(zip(lab.ues, [*lab.ues[1:], lab.ues[0]], strict=True))
    while len(lab.recording.packets) < packets:
        for ue, neighbour in itertools.islice(neighbours, len(lab.ues)):
            lab.net.command(ue, "message", to=neighbour.config.impu, text="what a benchmark has to say")
        lab.net.run(lab.net.now + 1.0)


def user_traffic() -> Iterator[bytes]:
    """What else a packet core carries: RTP in GTP-U, DNS, bulk TCP. The same always."""
    chance = random.Random(1)
    outer = bytes((198, 51, 100, 10)), bytes((198, 51, 100, 11))
    server = bytes((203, 0, 113, 5))
    sequence = 0
    while True:
        sequence += 1
        ue = bytes((10, 200, chance.randrange(256), chance.randrange(1, 255)))
        rtp = struct.pack(">BBHII", 0x80, 8, sequence & 0xFFFF, sequence * 160, 7) + chance.randbytes(160)
        inner = build_ip(ue, server, UDP, build_udp(ue, server, 40000, 40002, rtp))
        tunnelled = struct.pack(">BBHI", 0x30, 255, len(inner), 0x1234) + inner
        yield build_ip(*outer, UDP, build_udp(*outer, 2152, 2152, tunnelled))
        query = struct.pack(">HHHHHH", sequence & 0xFFFF, 0x0100, 1, 0, 0, 0) + b"\7example\3com\0\0\1\0\1"
        yield build_ip(ue, server, UDP, build_udp(ue, server, 50000, 53, query))
        data = chance.randbytes(1200)
        yield build_ip(
            server, ue, TCP, build_tcp(server, ue, 443, 51000, seq=sequence * 1200 & 0xFFFFFFFF, flags=ACK, data=data)
        )
