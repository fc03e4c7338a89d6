"""The keys that open a trace: subscribers' K, the CK and IK of single challenges, whole SAs; and their files.

A KeyRing starts with what the user gives and learns what a capture shows: a 401 on Mw (or, wrongly, on Gm) bears ck
and ik, an MAA also XRES. Nothing of it is ever shown by repr().

A key file has one entry per line; `#` starts a comment, keys are hex digits with or without 0x:

    "IPv4","192.0.2.1","192.0.2.2","0x00001001","AES-CBC [RFC3602]","0x…","HMAC-SHA-1-96 [RFC2404]","0x…"   (Wireshark)
    0x1001 hmac-sha-1-96 aes-cbc IK CK         one SA: SPI, alg and ealg of 33.203 Annex H, keys (CK: - for ealg null)
    ck=… ik=… [rand=…|nonce=…]                 the keys of one challenge; without rand they are tried on all
    k=… opc=…|op=… [impi=…]                    a subscriber with Milenage
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from ipaddress import ip_address
from typing import NamedTuple

from imslab.aka.algorithm import RAND_LENGTH, AkaAlgorithm
from imslab.aka.digest import split_nonce
from imslab.aka.milenage import Milenage
from imslab.core.errors import LocalError, PeerError
from imslab.core.flow import Endpoint
from imslab.core.sa import Sa
from imslab.ipsec.sa import (
    AES_CBC,
    AES_GCM,
    AES_GMAC,
    DES_EDE3_CBC,
    HMAC_MD5_96,
    HMAC_SHA_1_96,
    NULL,
    auth_key,
    cipher_key,
    salt,
)

#: How many challenges a ring remembers; a capture of more registrations than that forgets the oldest.
MAX_SESSIONS = 1 << 18
#: How many pairs of CK and IK are believed to belong to one RAND. There is one; a capture may show wrong ones too.
SAME_RAND = 8


#: The host of an SA from a file that does not tell it.
ANYWHERE = "*"


class SessionKeys(NamedTuple):
    """What one challenge made. ck, ik: 16 octets each. res: 4 to 16 octets, None if unknown. source: who showed it."""

    ck: bytes
    ik: bytes
    res: bytes | None
    source: str

    def __repr__(self) -> str:
        return f"SessionKeys(<keys not shown>, source={self.source!r})"


class KeyRing:
    """All keys that are known.

    sas: SAs given by the user; a port of 0 or a host of "*" is unknown.
    """

    __slots__ = ("_loose", "_sessions", "_subscribers", "sas")

    def __init__(self) -> None:
        self._subscribers: list[tuple[str, AkaAlgorithm]] = []
        self._sessions: dict[bytes, list[SessionKeys]] = {}
        self._loose: list[SessionKeys] = []
        self.sas: list[Sa] = []

    def __repr__(self) -> str:
        return f"<KeyRing: {len(self._subscribers)} subscribers, {len(self._sessions)} challenges, {len(self.sas)} SAs>"

    # --- subscribers ---

    def add_subscriber(self, algorithm: AkaAlgorithm, impi: str = "") -> None:
        """A subscriber's algorithm with its key. impi: "" fits everybody."""
        self._subscribers.append((impi, algorithm))

    def add_milenage(self, k: bytes, *, opc: bytes | None = None, op: bytes | None = None, impi: str = "") -> None:
        """A subscriber with Milenage: K and either OPc or OP, 16 octets each. Raises LocalError otherwise."""
        if (opc is None) is (op is None):
            raise LocalError("K needs either OPc or OP beside it, and not both")
        self.add_subscriber(Milenage(k, opc) if opc is not None else Milenage.from_op(k, op or b""), impi)

    def algorithm(self, impi: str) -> AkaAlgorithm | None:
        """The algorithm of a subscriber: one given for this IMPI, else one given for everybody."""
        for wanted in (impi, ""):
            for known, algorithm in self._subscribers:
                if known == wanted:
                    return algorithm
        return None

    # --- challenges ---

    def learn(self, rand: bytes | None, ck: bytes, ik: bytes, res: bytes | None = None, source: str = "") -> bool:
        """The keys of a challenge. rand: 16 octets; None when unknown. True when they were not known before."""
        if len(ck) != 16 or len(ik) != 16:
            return False
        keys = SessionKeys(ck, ik, res, source)
        if rand is None:
            self._loose.append(keys)
            return True
        known = self._sessions.setdefault(rand, [])
        for place, each in enumerate(known):
            if each.ck == ck and each.ik == ik:
                if each.res is None and res is not None:
                    known[place] = keys
                return False
        if len(known) >= SAME_RAND:
            return False
        known.append(keys)
        if len(self._sessions) > MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return True

    def sessions(self, rand: bytes, impi: str = "") -> list[SessionKeys]:
        """All keys that may belong to a challenge: shown by the capture, computed from K, given without a RAND.

        rand: 16 octets; b"" when it could not be read.
        """
        found = list(self._sessions.get(rand, ()))
        algorithm = self.algorithm(impi)
        if algorithm is not None and len(rand) == RAND_LENGTH:
            res, ck, ik, _ = algorithm.f2345(rand)
            computed = SessionKeys(ck, ik, res, "K")
            # a 401 shows CK and IK without RES
            place = next((at for at, each in enumerate(found) if each.ck == ck and each.ik == ik), len(found))
            if place == len(found) or found[place].res is None:
                found[place : place + 1] = [computed]
        return found + self._loose

    # --- files ---

    def read(self, text: str, name: str = "key file") -> None:
        """Take in the lines of a key file. Raises LocalError that tells name and line."""
        for number, line in enumerate(text.splitlines(), 1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            try:
                self._read_line(line)
            except LocalError as error:
                raise LocalError(f"{name}, line {number}: {error}") from None

    def _read_line(self, line: str) -> None:
        if line.startswith('"'):
            self.sas.append(parse_esp_sa(line))
            return
        words = line.split()
        pairs = {name.lower(): value for name, equals, value in (word.partition("=") for word in words) if equals}
        if len(pairs) == len(words):
            self._read_pairs(pairs)
        elif len(words) == 5 and not pairs:
            spi, alg, ealg, ik, ck = words
            ealg, alg = ealg.lower(), alg.lower()
            anywhere = Endpoint(ANYWHERE, 0)
            self.sas.append(
                _checked(Sa(_spi(spi), anywhere, anywhere, alg, ealg, _key(ik), bytes(16) if ck == "-" else _key(ck)))
            )
        else:
            raise LocalError('expected an esp_sa line, "SPI ALG EALG IK CK", "ck=… ik=…" or "k=… opc=…"')

    def _read_pairs(self, pairs: dict[str, str]) -> None:
        if pairs.keys() <= {"ck", "ik", "rand", "nonce"} and {"ck", "ik"} <= pairs.keys():
            rand = _key(pairs["rand"]) if "rand" in pairs else None
            if "nonce" in pairs:
                try:
                    rand = split_nonce(pairs["nonce"])[0]
                except PeerError as error:
                    raise LocalError(error.reason) from None
            self.learn(rand, _key(pairs["ck"]), _key(pairs["ik"]), None, "key file")
        elif pairs.keys() <= {"k", "opc", "op", "impi"} and "k" in pairs:
            opc = _key(pairs["opc"]) if "opc" in pairs else None
            op = _key(pairs["op"]) if "op" in pairs else None
            self.add_milenage(_key(pairs["k"]), opc=opc, op=op, impi=pairs.get("impi", ""))
        else:
            raise LocalError('expected "ck=… ik=… [rand=…|nonce=…]" or "k=… opc=…|op=… [impi=…]"')


_HEX_KEY = re.compile(r"(?:0[xX])?((?:[0-9A-Fa-f]{2})*)")


def _hex(text: str) -> bytes:
    found = _HEX_KEY.fullmatch(text)
    if found is None:
        raise LocalError("a key is no string of hex digits")
    return bytes.fromhex(found[1])


def _key(text: str) -> bytes:
    key = _hex(text)
    if len(key) != 16:
        raise LocalError(f"a key of {len(key)} octets: expected 16")
    return key


def _spi(text: str) -> int:
    try:
        spi = int(text, 0)
    except ValueError:
        spi = -1
    if not 0 <= spi <= 0xFFFFFFFF:
        raise LocalError(f"{text!a} is no SPI")
    return spi


def _checked(sa: Sa) -> Sa:
    """The SA, if its algorithms are known. Raises LocalError."""
    auth_key(sa.alg, sa.ik)
    cipher_key(sa.ealg, sa.ck)
    return sa


# --- Wireshark's esp_sa lines ---

#: ealg, alg of Annex H ↔ what Wireshark calls them.
_CIPHER_NAMES = {
    NULL: "NULL",
    AES_CBC: "AES-CBC [RFC3602]",
    DES_EDE3_CBC: "TripleDES-CBC [RFC2451]",
    AES_GCM: "AES-GCM with 16 octet ICV [RFC4106]",
}
_AUTH_NAMES = {NULL: "NULL", HMAC_MD5_96: "HMAC-MD5-96 [RFC2403]", HMAC_SHA_1_96: "HMAC-SHA-1-96 [RFC2404]"}


def esp_sa(sa: Sa) -> str:
    """The line of Wireshark's `esp_sa` file that opens an SA; a comment where Wireshark cannot (aes-gmac)."""
    if sa.alg == AES_GMAC:
        return f"# 0x{sa.spi:08x}: Wireshark knows no AES-GMAC"
    cipher = cipher_key(sa.ealg, sa.ck)
    if sa.ealg == AES_GCM:
        cipher += salt(AES_GCM, sa.ck, sa.ik)
    fields = (
        "IPv6" if ":" in sa.dst.host else "IPv4",
        sa.src.host,
        sa.dst.host,
        f"0x{sa.spi:08x}",
        _CIPHER_NAMES[sa.ealg],
        _written_key(cipher),
        _AUTH_NAMES[sa.alg],
        _written_key(auth_key(sa.alg, sa.ik)),
    )
    return ",".join(f'"{field}"' for field in fields)


def esp_sa_file(sas: Iterable[Sa]) -> str:
    """A whole `esp_sa` file."""
    head = "# ESP SAs for Wireshark (Preferences, Protocols, ESP) and for --keys. Holds keys: keep it to yourself.\n"
    return head + "".join(esp_sa(sa) + "\n" for sa in sas)


def parse_esp_sa(line: str) -> Sa:
    """The SA of one `esp_sa` line; ports, which it does not tell, are 0.

    Raises LocalError: not such a line, algorithms that 33.203 does not have, keys that Annex I cannot have made,
    AES-GCM (whose salt needs both CK and IK, and the line has one).
    """
    try:
        fields = next(csv.reader([line], strict=True))
    except (csv.Error, StopIteration):
        fields = []
    if len(fields) < 8:
        raise LocalError('expected "IPv4","SRC","DST","0xSPI","CIPHER","KEY","AUTHENTICATION","KEY"')
    _, src, dst, spi, cipher, cipher_text, auth, auth_text = (field.strip() for field in fields[:8])
    ealg = _token(cipher, _CIPHER_NAMES)
    alg = _token(auth, _AUTH_NAMES)
    if ealg == AES_GCM:
        raise LocalError("AES-GCM: the salt of 33.203 Annex I needs CK and IK; give them as SPI ALG EALG IK CK")
    ik = _hex(auth_text)
    ck = _hex(cipher_text)
    if alg == HMAC_SHA_1_96 and len(ik) == 20 and not any(ik[16:]):
        ik = ik[:16]  # Annex I: IK ‖ 32 zero bits
    if ealg == DES_EDE3_CBC and len(ck) == 24:
        ck = ck[:16]  # Annex I: CK1 ‖ CK2 ‖ CK1
    sa = Sa(
        _spi(spi),
        Endpoint(_host(src), 0),
        Endpoint(_host(dst), 0),
        alg,
        ealg,
        ik or bytes(16),
        ck or bytes(16),
    )
    return _checked(sa)


def _token(name: str, names: dict[str, str]) -> str:
    for token, known in names.items():
        if name.lower() == known.lower() or name.split(" [")[0].lower() == known.split(" [")[0].lower():
            return token
    raise LocalError(f"{name!a} is no algorithm of 33.203 Annex H")


def _host(text: str) -> str:
    if text == ANYWHERE:
        return text
    try:
        return ip_address(text).compressed
    except ValueError:
        raise LocalError(f"{text!a} is no IP address") from None


def _written_key(key: bytes) -> str:
    return f"0x{key.hex()}" if key else ""
