"""Show Diameter octets to tshark: as the data of one TCP segment per message, from 192.0.2.1 to port 3868."""

from __future__ import annotations

import subprocess
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.require import require_program


def dissect(messages: Iterable[bytes], fields: Sequence[str], folder: Path) -> list[dict[str, list[str]]]:
    """One dictionary per message: field name → its values, as tshark prints them."""
    tshark = require_program("tshark")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from scapy.layers.inet import IP, TCP
        from scapy.layers.l2 import Ether
        from scapy.utils import wrpcap

        packets, sequence = [], 1
        for octets in messages:
            packet = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(src="192.0.2.1", dst="192.0.2.2")
            packets.append(packet / TCP(sport=40000, dport=3868, seq=sequence, ack=1, flags="PA") / octets)
            sequence += len(octets)
        path = folder / "diameter.pcap"
        wrpcap(str(path), packets)
    wanted = [argument for field in fields for argument in ("-e", field)]
    command = [tshark, "-r", str(path), "-T", "fields", "-E", "separator=|", "-E", "aggregator=^", *wanted]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = []
    for line in result.stdout.splitlines():
        values = line.split("|")
        rows.append({field: value.split("^") if value else [] for field, value in zip(fields, values, strict=True)})
    assert len(rows) == len(packets)
    return rows
