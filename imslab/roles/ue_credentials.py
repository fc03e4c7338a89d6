"""The UE's Authorization headers: empty, an answer, a report of failure (24.229 5.1.1.2.2, 5.1.1.5; RFC 3310).

The card says what it thinks of a challenge; here its word becomes credentials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from imslab.aka import digest
from imslab.aka.usim import Authenticated, MacFailure, SyncFailure, Usim
from imslab.core.entropy import Entropy, token
from imslab.core.errors import PeerError
from imslab.roles.profiles import Profile
from imslab.roles.ue_config import UeConfig
from imslab.sip.fields.digest import AuthenticationInfo, DigestChallenge, DigestCredentials


@dataclass(slots=True)
class Challenge:
    """One challenge, as far as the UE uses it. qop: the one chosen, "" where none was offered."""

    realm: str
    nonce: str
    algorithm: str
    opaque: str | None
    qop: str
    rand: bytes
    autn: bytes


@dataclass(slots=True)
class Answer:
    """What the card said and the credentials made of it.

    ck, ik: 16 octets each, empty after a failure. ha1: hex, for the server's proof.
    """

    challenge: Challenge
    verdict: Authenticated | MacFailure | SyncFailure
    authorization: str
    ck: bytes = field(default=b"", repr=False)
    ik: bytes = field(default=b"", repr=False)
    ha1: str = field(default="", repr=False)
    cnonce: str = ""
    nc: str = ""


def empty_credentials(config: UeConfig, first: bool) -> str:
    """Before any challenge: nonce and response present and empty (24.229 5.1.1.2.2)."""
    algorithm = "AKAv1-MD5" if first and config.profile.algorithm_first else None
    return str(
        DigestCredentials.build(
            username=config.impi, realm=config.domain, nonce="", uri=config.home_uri, response="", algorithm=algorithm
        )
    )


def choose_challenge(challenges: Sequence[DigestChallenge], profile: Profile) -> Challenge:
    """The strongest challenge that the phone can answer. Raises PeerError when there is none, or when it is broken.

    There is no way down from AKA: a challenge of plain Digest is not answered (RFC 3310 3.2).
    """
    by_name = {(each.algorithm or "MD5").lower(): each for each in reversed(challenges)}
    for name in profile.digests:
        found = by_name.get(name.lower())
        if found is not None:
            return _read(found, profile)
    told = ", ".join(each.algorithm or "MD5" for each in challenges) or "none"
    raise PeerError(f"no challenge that AKA can answer (algorithm: {told})", clause="24.229 5.1.1.5.1")


def _read(found: DigestChallenge, profile: Profile) -> Challenge:
    realm, nonce = found.realm, found.nonce
    if realm is None or nonce is None:
        raise PeerError("a challenge without realm or nonce", clause="RFC 2617 3.2.1")
    rand, autn, _ = digest.split_nonce(nonce)
    return Challenge(realm, nonce, found.algorithm or "", found.opaque, _choose_qop(found.qop, profile), rand, autn)


def _choose_qop(offered: str | None, profile: Profile) -> str:
    if offered is None:
        return ""  # RFC 2617 3.2.2: no qop offered, none sent, and neither cnonce nor nc
    known = {each.strip().lower() for each in offered.split(",")}
    for qop in profile.qops:
        if qop in known:
            return qop
    raise PeerError(f'qop: none of "{offered}" is known', clause="RFC 2617 3.2.1")


def answer_challenge(challenge: Challenge, config: UeConfig, usim: Usim, entropy: Entropy, body: bytes = b"") -> Answer:
    """Ask the card, and write what it says. body: of the REGISTER to come, for auth-int. Raises PeerError."""
    verdict = usim.authenticate(challenge.rand, challenge.autn)
    if isinstance(verdict, MacFailure):
        # 24.229 5.1.1.5.3: no auts, and an empty response.
        return Answer(challenge, verdict, str(_credentials(challenge, config, "")))
    cnonce = token(entropy) if challenge.qop else ""
    nc = "00000001" if challenge.qop else ""
    auts, password = "", b""
    if isinstance(verdict, SyncFailure):
        auts = digest.write_auts(verdict.auts)  # RFC 3310 3.4: the password counts as empty then
    else:
        password = digest.aka_password(challenge.algorithm, verdict.res, verdict.ck, verdict.ik)
    ha1 = digest.digest_ha1(
        algorithm=challenge.algorithm, username=config.impi, realm=challenge.realm, password=password
    )
    response = digest.digest_response(
        algorithm=challenge.algorithm,
        username=config.impi,
        realm=challenge.realm,
        ha1=ha1,
        nonce=challenge.nonce,
        method="REGISTER",
        uri=config.home_uri,
        qop=challenge.qop,
        nc=nc,
        cnonce=cnonce,
        body=body,
    )
    credentials = _credentials(challenge, config, response)
    if challenge.qop:
        credentials.set("cnonce", cnonce)
        credentials.set("qop", challenge.qop)
        credentials.set("nc", nc)
    if isinstance(verdict, SyncFailure):
        credentials.set("auts", auts)
        return Answer(challenge, verdict, str(credentials))
    # The SAs have the card's own CK and IK, as the HSS gives them to the network, whatever the digest made of them.
    return Answer(challenge, verdict, str(credentials), verdict.ck, verdict.ik, ha1, cnonce, nc)


def _credentials(challenge: Challenge, config: UeConfig, response: str) -> DigestCredentials:
    # 24.229 5.1.1.5.1: realm, nonce, algorithm and opaque exactly as received.
    return DigestCredentials.build(
        username=config.impi,
        realm=challenge.realm,
        nonce=challenge.nonce,
        uri=config.home_uri,
        response=response,
        algorithm=challenge.algorithm,
        opaque=challenge.opaque,
    )


def proves_itself(info: AuthenticationInfo | None, answer: Answer | None, config: UeConfig, body: bytes) -> bool:
    """False when the network's rspauth is wrong (RFC 3310 3.5). One that sends none is not asked: AUTN was its proof.

    body: of the 200, for auth-int. Raises PeerError when the header is malformed.
    """
    proof = info.rspauth if info is not None else None
    if proof is None or answer is None:
        return True
    challenge = answer.challenge
    expected = digest.rspauth(
        algorithm=challenge.algorithm,
        username=config.impi,
        realm=challenge.realm,
        ha1=answer.ha1,
        nonce=challenge.nonce,
        uri=config.home_uri,
        qop=challenge.qop,
        nc=answer.nc,
        cnonce=answer.cnonce,
        body=body,
    )
    return proof.lower() == expected
