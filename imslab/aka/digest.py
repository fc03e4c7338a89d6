"""Digest: the nonce that carries a challenge, the response, and the proof of the server.

AKA (RFC 3310, RFC 4169) changes two things in HTTP Digest (RFC 2617, RFC 7616): the nonce is base64(RAND ‖ AUTN), and
the password comes from the card. The password is a string of octets and nothing else: a RES with a zero octet in it
is an ordinary one (a C string would end there).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64decode, b64encode

from imslab.aka.vector import AUTS_LENGTH
from imslab.core.errors import LocalError, PeerError

#: What a challenge may name, lower case → (AKA version or 0, hash for hashlib, session variant).
_HASHES = {"md5": "md5", "sha-256": "sha256", "sha-512-256": "sha512_256"}
ALGORITHMS: dict[str, tuple[int, str, bool]] = {
    f"{prefix}{name}{session}": (version, hash_name, bool(session))
    for version, prefix in ((0, ""), (1, "akav1-"), (2, "akav2-"))
    for name, hash_name in _HASHES.items()
    for session in ("", "-sess")
}

_CHALLENGE_LENGTH = 32
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}\Z")


def aka_version(algorithm: str) -> int:
    """1 for AKAv1-…, 2 for AKAv2-…, 0 for a digest without AKA. Any case. Raises PeerError for an unknown one."""
    return _algorithm(algorithm)[0]


def split_nonce(nonce: str) -> tuple[bytes, bytes, bytes]:
    """RAND (16 octets), AUTN (16 octets) and the server's own data (0 or more) of an AKA challenge (RFC 3310 3.2).

    The base64 may be padded or not, as networks do both. Raises PeerError for everything else.
    """
    octets = _decode_base64("nonce", nonce, clause="RFC 3310 3.2")
    if len(octets) < _CHALLENGE_LENGTH:
        raise PeerError(
            f"nonce: expected RAND and AUTN, {_CHALLENGE_LENGTH} octets or more, got {len(octets)}",
            clause="RFC 3310 3.2",
            octets=octets,
        )
    return octets[:16], octets[16:32], octets[32:]


def join_nonce(rand: bytes, autn: bytes, server_data: bytes = b"") -> str:
    """The nonce of a challenge. rand, autn: 16 octets each, LocalError otherwise; server_data: any number."""
    if len(rand) != 16 or len(autn) != 16:
        raise LocalError(f"nonce: expected 16 octets of RAND and of AUTN, got {len(rand)} and {len(autn)}")
    return b64encode(rand + autn + server_data).decode("ascii")


def parse_auts(text: str) -> bytes:
    """The 14 octets of an auts parameter (RFC 3310 3.4), padded or not. Raises PeerError for everything else."""
    octets = _decode_base64("auts", text, clause="RFC 3310 3.4")
    if len(octets) != AUTS_LENGTH:
        raise PeerError(f"auts: expected {AUTS_LENGTH} octets, got {len(octets)}", clause="RFC 3310 3.4", octets=octets)
    return octets


def write_auts(auts: bytes) -> str:
    """The value of an auts parameter. auts: 14 octets; LocalError otherwise."""
    if len(auts) != AUTS_LENGTH:
        raise LocalError(f"auts: expected {AUTS_LENGTH} octets, got {len(auts)}")
    return b64encode(auts).decode("ascii")


def aka_password(algorithm: str, res: bytes, ck: bytes, ik: bytes) -> bytes:
    """What goes where Digest wants a password: for AKAv1 the octets of RES, for AKAv2 a text made of RES, IK and CK.

    Raises PeerError for an unknown algorithm and for one without AKA.
    """
    version, hash_name, _ = _algorithm(algorithm)
    if version == 0:
        raise PeerError(f'algorithm: "{algorithm}" is no AKA algorithm', clause="RFC 3310 3.1")
    if version == 1:
        return res
    # RFC 4169 3: base64 of PRF(RES ‖ IK ‖ CK, …), with HMAC of the algorithm's hash as PRF.
    return b64encode(hmac.digest(res + ik + ck, b"http-digest-akav2-password", hash_name))


def aka_keys(algorithm: str, ck: bytes, ik: bytes) -> tuple[bytes, bytes]:
    """CK and IK as the session may use them: the card's own for AKAv1, keys derived from them for AKAv2 (RFC 4169 3).

    AKAv2 gives as many octets as its hash has. Raises PeerError as `aka_password` does.
    """
    version, hash_name, _ = _algorithm(algorithm)
    if version == 0:
        raise PeerError(f'algorithm: "{algorithm}" is no AKA algorithm', clause="RFC 3310 3.1")
    if version == 1:
        return ck, ik
    return (
        hmac.digest(ck, b"http-digest-akav2-cipherkey", hash_name),
        hmac.digest(ik, b"http-digest-akav2-integritykey", hash_name),
    )


def digest_ha1(*, algorithm: str, username: str, realm: str, password: bytes) -> str:
    """H(username:realm:password), lower-case hex: what a server may store in place of a password."""
    return _hash(_algorithm(algorithm)[1], _octets(username) + b":" + _octets(realm) + b":" + password)


def digest_response(
    *,
    algorithm: str,
    username: str,
    realm: str,
    password: bytes = b"",
    nonce: str,
    method: str,
    uri: str,
    qop: str = "",
    nc: str = "",
    cnonce: str = "",
    body: bytes = b"",
    auts: str = "",
    ha1: str = "",
) -> str:
    """The response parameter, lower-case hex (RFC 2617 3.2.2, RFC 7616 3.4).

    algorithm: as the challenge named it, any case; "" means MD5. qop: "", "auth" or "auth-int". body: for auth-int.
    auts: when it is sent, the password counts as empty (RFC 3310 3.4). ha1: known in place of the password.
    Raises PeerError for an unknown algorithm or qop, and where qop or -sess lacks the nc or cnonce it needs.
    """
    a2 = _octets(method) + b":" + _octets(uri)
    return _respond(algorithm, username, realm, b"" if auts else password, nonce, a2, qop, nc, cnonce, body, ha1)


def rspauth(
    *,
    algorithm: str,
    username: str,
    realm: str,
    password: bytes = b"",
    nonce: str,
    uri: str,
    qop: str,
    nc: str,
    cnonce: str,
    body: bytes = b"",
    ha1: str = "",
) -> str:
    """The server's proof in Authentication-Info: as the response, without the method (RFC 2617 3.2.3).

    body: of the answer, for auth-int. The rest as in `digest_response`.
    """
    return _respond(algorithm, username, realm, password, nonce, b":" + _octets(uri), qop, nc, cnonce, body, ha1)


def _respond(
    algorithm: str,
    username: str,
    realm: str,
    password: bytes,
    nonce: str,
    a2: bytes,
    qop: str,
    nc: str,
    cnonce: str,
    body: bytes,
    ha1: str,
) -> str:
    _, hash_name, session = _algorithm(algorithm)
    kind = qop.lower()
    if kind not in ("", "auth", "auth-int"):
        raise PeerError(f'qop: expected auth or auth-int, got "{qop}"', clause="RFC 2617 3.2.1")
    # RFC 2617 3.2.2: with qop, nc and cnonce are there too; the session variant hashes cnonce in any case.
    if (kind and not nc) or ((kind or session) and not cnonce):
        raise PeerError("nc, cnonce: missing beside qop or a session algorithm", clause="RFC 2617 3.2.2")
    secret = ha1 or _hash(hash_name, _octets(username) + b":" + _octets(realm) + b":" + password)
    if session:
        secret = _hash(hash_name, _octets(f"{secret}:{nonce}:{cnonce}"))
    if kind == "auth-int":
        a2 += b":" + _hash(hash_name, body).encode("ascii")
    between = f"{nonce}:{nc}:{cnonce}:{kind}" if kind else nonce
    return _hash(hash_name, _octets(f"{secret}:{between}:{_hash(hash_name, a2)}"))


def _algorithm(name: str) -> tuple[int, str, bool]:
    # RFC 2617 3.2.1: no algorithm named means MD5.
    found = ALGORITHMS.get(name.lower() or "md5")
    if found is None:
        raise PeerError(f'algorithm: "{name}" is not known', clause="RFC 2617 3.2.1")
    return found


def _hash(name: str, octets: bytes) -> str:
    return hashlib.new(name, octets, usedforsecurity=False).hexdigest()


def _octets(text: str) -> bytes:
    # Octets of a message that were no UTF-8 come as surrogates and go back as they were.
    return text.encode("utf-8", "surrogateescape")


def _decode_base64(name: str, text: str, *, clause: str) -> bytes:
    data = text.rstrip("=")
    padding = len(text) - len(data)
    if not _BASE64.match(text) or len(data) % 4 == 1 or (padding and (len(data) + padding) % 4):
        raise PeerError(f"{name}: not base64", clause=clause, octets=_octets(text))
    octets = b64decode(data + "=" * (-len(data) % 4))
    if b64encode(octets).decode("ascii").rstrip("=") != data:
        raise PeerError(f"{name}: not base64, bits are set behind its end", clause=clause, octets=_octets(text))
    return octets
