"""The security agreement's IPsec side: algorithms, keys, SPIs, and the four SAs that come of them.

33.203 Annex H names the algorithms, Annex I expands IK and CK for them, clause 7.1 says what must differ from what.
Nothing here sends or encrypts; `esp` does.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from imslab.core.entropy import Entropy
from imslab.core.errors import LocalError, PeerError
from imslab.core.flow import Endpoint
from imslab.core.sa import Sa, SaSet

#: alg tokens of Annex H.
HMAC_MD5_96 = "hmac-md5-96"
HMAC_SHA_1_96 = "hmac-sha-1-96"
AES_GMAC = "aes-gmac"
#: ealg tokens of Annex H.
DES_EDE3_CBC = "des-ede3-cbc"
AES_CBC = "aes-cbc"
AES_GCM = "aes-gcm"
#: In both: no integrity of its own (only with aes-gcm), no encryption. An absent ealg means null.
NULL = "null"


class Combination(NamedTuple):
    """Integrity and encryption as one choice: `alg` and `ealg` tokens of Annex H."""

    alg: str
    ealg: str


_HMAC_SHA_1 = (Combination(HMAC_SHA_1_96, AES_CBC), Combination(HMAC_SHA_1_96, NULL))
_UNTIL_12 = (
    *_HMAC_SHA_1,
    Combination(HMAC_SHA_1_96, DES_EDE3_CBC),
    Combination(HMAC_MD5_96, AES_CBC),
    Combination(HMAC_MD5_96, NULL),
    Combination(HMAC_MD5_96, DES_EDE3_CBC),
)
_FROM_13 = (Combination(NULL, AES_GCM), Combination(AES_GMAC, NULL), *_HMAC_SHA_1)

#: Every combination that any release allows, strongest first.
COMBINATIONS = (*_FROM_13, *(each for each in _UNTIL_12 if each not in _HMAC_SHA_1))

#: The release that took hmac-md5-96 and des-ede3-cbc out and aes-gcm and aes-gmac in (33.203 V13.1.0).
CHANGE_RELEASE = 13

#: SPIs 1–255 are reserved for IANA and 0 never goes on the wire (RFC 4303 2.1). We allocate none of them, but take
#: 1–255 from a peer: Kamailio numbers its own from 100 unless configured otherwise. A rule reports it.
FIRST_SPI = 256
LAST_SPI = 0xFFFFFFFF

#: 33.203 7.1: the protected ports are neither of these.
CLEAR_PORTS = (5060, 5061)

_KEY_LENGTH = 16
_MAX_DRAWS = 1000


def combinations(release: int | None = None) -> tuple[Combination, ...]:
    """The legal combinations of a 3GPP release (12, 13, …), strongest first; None: of any release."""
    if release is None:
        return COMBINATIONS
    return _FROM_13 if release >= CHANGE_RELEASE else _UNTIL_12


def is_legal(alg: str, ealg: str, release: int | None = None) -> bool:
    """True when Annex H of that release (None: of any) allows the two together.

    alg null goes only with aes-gcm and aes-gcm only with alg null, since it protects integrity itself; aes-gmac
    (RFC 4543) encrypts nothing and goes with ealg null.
    """
    return (alg, ealg) in combinations(release)


def require_legal(alg: str, ealg: str) -> None:
    """Raises LocalError for a combination that no release allows."""
    if not is_legal(alg, ealg):
        raise LocalError(f"alg={alg} with ealg={ealg}: no combination of 33.203 Annex H")


# ---------------------------------------------------------------------------------------------------------- Annex I


def kdf(key: bytes, fc: int, *parameters: bytes) -> bytes:
    """The key derivation function of 33.220 Annex B: 32 octets.

    HMAC-SHA-256 under `key` over FC ‖ P0 ‖ L0 ‖ P1 ‖ L1 ‖ …, each L the length of its P in two octets.
    """
    text = bytes((fc,)) + b"".join(each + len(each).to_bytes(2, "big") for each in parameters)
    return hmac.digest(key, text, hashlib.sha256)


def auth_key(alg: str, ik: bytes) -> bytes:
    """IK_ESP: the integrity key that Annex I makes of IK (16 octets); empty for alg null.

    Raises LocalError: an unknown alg, an IK of another length.
    """
    if alg == NULL:
        return b""
    _require_key("IK", ik)
    if alg == HMAC_SHA_1_96:
        return ik + bytes(4)  # Annex I: IK ‖ 32 zero bits, the 160 bits of RFC 2404
    if alg in (HMAC_MD5_96, AES_GMAC):
        return ik
    raise LocalError(f"alg={alg} is none of 33.203 Annex H")


def cipher_key(ealg: str, ck: bytes) -> bytes:
    """CK_ESP: the encryption key that Annex I makes of CK (16 octets); empty for ealg null.

    Raises LocalError: an unknown ealg, a CK of another length.
    """
    if ealg == NULL:
        return b""
    _require_key("CK", ck)
    if ealg in (AES_CBC, AES_GCM):
        return ck
    if ealg == DES_EDE3_CBC:
        # CK1 ‖ CK2 ‖ CK1 with odd parity in each octet, as DES keys have (RFC 2451). The rule left Annex I with
        # the algorithm.
        return bytes(_odd_parity(octet) for octet in ck + ck[:8])
    raise LocalError(f"ealg={ealg} is none of 33.203 Annex H")


def salt(token: str, ck: bytes, ik: bytes) -> bytes:
    """The 4 octets of salt for "aes-gcm" or "aes-gmac" (Annex I, since 2017; peers before have none defined).

    The last 32 bits of KDF(CK ‖ IK). Raises LocalError: another token, keys not of 16 octets.
    """
    _require_key("CK", ck)
    _require_key("IK", ik)
    if token == AES_GMAC:
        return kdf(ck + ik, 0x58, b"AES_GMAC_SALT")[-4:]
    if token == AES_GCM:
        return kdf(ck + ik, 0x59, b"AES_GCM_SALT")[-4:]
    raise LocalError(f"{token} has no salt")


def _require_key(name: str, key: bytes) -> None:
    if len(key) != _KEY_LENGTH:
        raise LocalError(f"{name} of {len(key)} octets: 16 are needed")


def _odd_parity(octet: int) -> int:
    return octet & 0xFE | (octet >> 1).bit_count() % 2 ^ 1


# --------------------------------------------------------------------------------------------------- offer and choice


class OfferLike(Protocol):
    """What one side announces of its inbound SAs: the SPIs that it chose and the ports that they end at."""

    @property
    def spi_c(self) -> int: ...
    @property
    def spi_s(self) -> int: ...
    @property
    def port_c(self) -> int: ...
    @property
    def port_s(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Offer:
    """One ipsec-3gpp mechanism of a Security-Client or Security-Server header.

    spi_c, spi_s: of the sender's inbound SAs at its client and server port. alg, ealg: tokens of Annex H.
    """

    spi_c: int
    spi_s: int
    port_c: int
    port_s: int
    alg: str = HMAC_SHA_1_96
    ealg: str = NULL


def check_offer(offer: OfferLike, taken: Collection[int] = ()) -> None:
    """Raises PeerError when a peer's SPIs or ports cannot be used; reserved SPIs (1–255) can.

    taken: SPIs that the peer's must differ from (33.203 7.1: those of its live SAs; the P-CSCF's also from the UE's).
    """
    for name, spi in (("spi-c", offer.spi_c), ("spi-s", offer.spi_s)):
        if not 0 < spi <= LAST_SPI:
            raise PeerError(f"{name}={spi}: an SPI is 1 to {LAST_SPI}", clause="RFC 4303 2.1")
        if spi in taken:
            raise PeerError(f"{name}={spi} is in use", clause="33.203 7.1")
    if offer.spi_c == offer.spi_s:
        raise PeerError(f"spi-c and spi-s are both {offer.spi_c}", clause="33.203 7.1")
    for name, port in (("port-c", offer.port_c), ("port-s", offer.port_s)):
        if not 0 < port <= 0xFFFF:
            raise PeerError(f"{name}={port} is no port", clause="33.203 7.1")
        if port in CLEAR_PORTS:
            raise PeerError(f"{name}={port}: a protected port is neither 5060 nor 5061", clause="33.203 7.1")


def choose(own_priority: Sequence[tuple[str, str]], offered: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
    """The first (alg, ealg) of the own list that the peer offers; None when there is none.

    A combination is taken as a unit: alg of one offer never goes with ealg of another. 33.203 7.2: the P-CSCF goes by
    its own priorities; the UE takes the first of Security-Server that it supports, which is the same function with
    the P-CSCF's list first. Whether "no cipher offered" means NULL or refusal is in the own list: with a null or not.
    """
    known = {(alg.lower(), ealg.lower()) for alg, ealg in offered}
    for alg, ealg in own_priority:
        if (alg.lower(), ealg.lower()) in known:
            return alg, ealg
    return None


def allocate_spis(entropy: Entropy, taken: Collection[int] = ()) -> tuple[int, int]:
    """Two fresh SPIs (spi_c, spi_s): 256–4294967295, different from each other and from all that are taken.

    Raises LocalError: the entropy gives nothing usable.
    """
    found: list[int] = []
    for _ in range(_MAX_DRAWS):
        spi = int.from_bytes(entropy.octets(4), "big")
        if spi >= FIRST_SPI and spi not in taken and spi not in found:
            found.append(spi)
            if len(found) == 2:
                return found[0], found[1]
    raise LocalError(f"no free SPI in {_MAX_DRAWS} draws")


def derive_set(
    number: int,
    local: str,
    ue_host: str,
    ue: OfferLike,
    pcscf_host: str,
    pcscf: OfferLike,
    alg: str,
    ealg: str,
    ck: bytes,
    ik: bytes,
    lifetime: float,
) -> SaSet:
    """The four SAs of one authentication, in the order of `imslab.core.sa`, seen from the node at `local`.

    ue, pcscf: what Security-Client and Security-Server announced; hosts in canonical text; lifetime in seconds.
    33.203 6.2: all four have the same keys; the SPI of each is the receiver's.
    Raises LocalError: an illegal combination, keys not of 16 octets, SPIs out of range or not distinct, equal
    hosts, `local` neither of them. (What a peer announced is for `check_offer` to judge first.)
    """
    require_legal(alg, ealg)
    _require_key("CK", ck)
    _require_key("IK", ik)
    if ue_host == pcscf_host:
        raise LocalError(f"UE and P-CSCF share the address {ue_host}: transport mode cannot tell its ends apart")
    if local not in (ue_host, pcscf_host):
        raise LocalError(f"{local} is neither the UE ({ue_host}) nor the P-CSCF ({pcscf_host})")
    spis = (pcscf.spi_s, ue.spi_c, ue.spi_s, pcscf.spi_c)
    if len(set(spis)) != 4 or not all(0 < spi <= LAST_SPI for spi in spis):
        raise LocalError(f"SPIs {spis}: four different ones from 1 to {LAST_SPI} are needed (33.203 7.1)")
    uc, us = Endpoint(ue_host, ue.port_c), Endpoint(ue_host, ue.port_s)
    pc, ps = Endpoint(pcscf_host, pcscf.port_c), Endpoint(pcscf_host, pcscf.port_s)
    sas = (
        Sa(spis[0], uc, ps, alg, ealg, ik, ck),
        Sa(spis[1], ps, uc, alg, ealg, ik, ck),
        Sa(spis[2], pc, us, alg, ealg, ik, ck),
        Sa(spis[3], us, pc, alg, ealg, ik, ck),
    )
    return SaSet(number, local, sas, lifetime)
