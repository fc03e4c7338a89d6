"""Second opinions for the ESP tests: published vectors, and the same SA as scapy and tshark speak of it."""

from __future__ import annotations

import json
import struct
import subprocess
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from imslab.core.flow import Endpoint
from imslab.core.sa import Sa
from imslab.ipsec.sa import auth_key, cipher_key, salt
from tests.require import PROJECT, require_program

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from scapy.layers import ipsec
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6

#: scapy has no types.
_scapy: Any = ipsec

#: TS 35.208 test set 3.
CK = bytes.fromhex("5dbdbb2954e8f3cde665b046179a5098")
IK = bytes.fromhex("59a92d3b476a0443487055cf88b2307b")

UE4, PCSCF4 = "192.0.2.1", "192.0.2.2"
UE6, PCSCF6 = "2001:db8::1", "2001:db8::2"

_SCAPY_CIPHER = {"aes-cbc": "AES-CBC", "des-ede3-cbc": "3DES", "aes-gcm": "AES-GCM", "null": "NULL"}
_SCAPY_AUTH = {"hmac-md5-96": "HMAC-MD5-96", "hmac-sha-1-96": "HMAC-SHA1-96"}
_TSHARK_CIPHER = {
    "null": "NULL",
    "aes-cbc": "AES-CBC [RFC3602]",
    "des-ede3-cbc": "TripleDES-CBC [RFC2451]",
    "aes-gcm": "AES-GCM with 16 octet ICV [RFC4106]",
}
_TSHARK_AUTH = {
    "null": "NULL",
    "hmac-md5-96": "HMAC-MD5-96 [RFC2403]",
    "hmac-sha-1-96": "HMAC-SHA-1-96 [RFC2404]",
}


def vectors(name: str) -> list[dict[str, Any]]:
    """The entries of vectors/NAME.json."""
    found: list[dict[str, Any]] = json.loads((PROJECT / "vectors" / f"{name}.json").read_text())["vectors"]
    return found


def make_sa(alg: str, ealg: str, spi: int = 0xC0DE, ik: bytes = IK, ck: bytes = CK, ipv6: bool = False) -> Sa:
    """One SA, UE:6000 → P-CSCF:6001."""
    hosts = (UE6, PCSCF6) if ipv6 else (UE4, PCSCF4)
    return Sa(spi, Endpoint(hosts[0], 6000), Endpoint(hosts[1], 6001), alg, ealg, ik, ck)


class Queue:
    """An Entropy that gives what was put into it, in order."""

    def __init__(self, *octets: bytes) -> None:
        self._octets = b"".join(octets)

    def octets(self, count: int) -> bytes:
        taken, self._octets = self._octets[:count], self._octets[count:]
        assert len(taken) == count
        return taken


def scapy_sa(sa: Sa) -> Any:
    """The same SA in scapy."""
    if sa.alg == "aes-gmac":
        key = sa.ik + salt("aes-gmac", sa.ck, sa.ik)
        return _scapy.SecurityAssociation(_scapy.ESP, spi=sa.spi, crypt_algo="AES-NULL-GMAC", crypt_key=key)
    if sa.ealg == "aes-gcm":
        key = sa.ck + salt("aes-gcm", sa.ck, sa.ik)
        return _scapy.SecurityAssociation(_scapy.ESP, spi=sa.spi, crypt_algo="AES-GCM", crypt_key=key)
    return _scapy.SecurityAssociation(
        _scapy.ESP,
        spi=sa.spi,
        crypt_algo=_SCAPY_CIPHER[sa.ealg],
        crypt_key=cipher_key(sa.ealg, sa.ck) or None,
        auth_algo=_SCAPY_AUTH[sa.alg],
        auth_key=auth_key(sa.alg, sa.ik),
    )


def scapy_ip(packet: bytes) -> Any:
    """An IP packet as scapy reads it."""
    return IP(packet) if packet[0] >> 4 == 4 else IPv6(packet)


def esp_sa_line(sa: Sa) -> str:
    """The SA as a line of Wireshark's esp_sa table."""
    key = cipher_key(sa.ealg, sa.ck)
    if sa.ealg == "aes-gcm":
        key += salt("aes-gcm", sa.ck, sa.ik)
    auth = auth_key(sa.alg, sa.ik)
    fields = (
        "IPv6" if ":" in sa.src.host else "IPv4",
        sa.src.host,
        sa.dst.host,
        f"0x{sa.spi:08x}",
        _TSHARK_CIPHER[sa.ealg],
        f"0x{key.hex()}" if key else "",
        _TSHARK_AUTH[sa.alg],
        f"0x{auth.hex()}" if auth else "",
    )
    return ",".join(f'"{each}"' for each in fields)


def tshark(packets: Sequence[bytes], sas: Sequence[Sa], fields: Sequence[str], folder: Path) -> list[list[str]]:
    """What tshark reads in the packets (raw IP) with the SAs as keys: the fields of each."""
    program = require_program("tshark")
    capture = folder / "packets.pcap"
    rows = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)]
    rows += [struct.pack("<IIII", 0, at, len(packet), len(packet)) + packet for at, packet in enumerate(packets)]
    capture.write_bytes(b"".join(rows))
    command = [program, "-r", str(capture), "-T", "fields", "-E", "separator=;"]
    for option in ("esp.enable_encryption_decode:TRUE", "esp.enable_authentication_check:TRUE"):
        command += ["-o", option]
    for option in ("ip.check_checksum:TRUE", "udp.check_checksum:TRUE", "tcp.check_checksum:TRUE"):
        command += ["-o", option]
    for sa in sas:
        command += ["-o", f"uat:esp_sa:{esp_sa_line(sa)}"]
    for field in fields:
        command += ["-e", field]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line.split(";") for line in text.splitlines()]
