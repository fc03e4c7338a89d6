"""ESP in transport mode (RFC 4303) with the algorithms of 33.203 Annex H.

    SPI | sequence number | IV | payload | padding 1, 2, 3 … | pad length | next header | ICV
     4          4          0–16                                    1            1       12 or 16 octets

    alg            ealg           IV   ICV   encrypted          authenticated
    hmac-md5-96    null            –    12   –                  all before the ICV
    hmac-sha-1-96  aes-cbc        16    12   payload … header   all before the ICV
                   des-ede3-cbc    8    12   payload … header   all before the ICV
    aes-gmac       null            8    16   –                  all before the ICV   (RFC 4543)
    null           aes-gcm         8    16   payload … header   SPI, number; AEAD    (RFC 4106)

A `Sealer` makes packets of one SA, an `Opener` takes them apart. Both keep the state of their SA (sequence number,
window, cipher chain): one of each per SA, for as long as it lives, never two sealers for the same SA.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import BlockCipherAlgorithm, Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from imslab.core.entropy import Entropy
from imslab.core.errors import LocalError, PeerError
from imslab.core.sa import Sa
from imslab.ipsec.replay import DEFAULT_SIZE, LAST_SEQUENCE, ReplayWindow
from imslab.ipsec.sa import (
    AES_CBC,
    AES_GCM,
    AES_GMAC,
    DES_EDE3_CBC,
    HMAC_MD5_96,
    auth_key,
    cipher_key,
    require_legal,
    salt,
)

#: Next Header of a dummy packet (RFC 4303 2.6), which a receiver drops without a word.
DUMMY = 59

#: Takes SPI ‖ sequence number (8 octets) and the plaintext with its trailer; gives the whole packet.
Protect = Callable[[bytes, bytes], bytes]
#: Takes a whole packet of right size; gives the plaintext with its trailer, or None when the ICV is wrong.
Unprotect = Callable[[bytes], bytes | None]

_HEADER = struct.Struct("!II")

#: Padding of n octets 1, 2, 3 … with its pad length behind it (RFC 4303 2.4).
_PADDING = tuple(bytes(range(1, length + 1)) + bytes((length,)) for length in range(256))

_HMAC_BLOCK = 64
_HMAC_ICV = 12
_AEAD_IV = 8
_AEAD_ICV = 16


class EspError(PeerError):
    """An ESP packet that its receiver discards. Base of the kinds below."""


class EspFormatError(EspError):
    """Too short, or of a length that its algorithms cannot have made."""


class SpiError(EspError):
    """The packet belongs to another SA."""


class ReplayError(EspError):
    """The sequence number was seen before, lies left of the window, or is 0."""


class IcvError(EspError):
    """The integrity check value is wrong: other keys, another algorithm, or changed on the way."""


class PaddingError(EspError):
    """The ICV is right, but pad length or padding cannot be: the sender pads, or encrypts, in another way."""


class SequenceExhausted(LocalError):
    """The SA has used up its sequence numbers; a new one is needed."""


class Opened(NamedTuple):
    """What an ESP packet held. next_header: protocol of the payload; DUMMY (59) is to be dropped without a word."""

    next_header: int
    payload: bytes
    sequence: int


@dataclass(frozen=True, slots=True)
class Inspected:
    """What can be said of a captured ESP packet.

    spi, sequence: as in its header, 0 where that is cut short. icv_ok: None when it could not be checked (wrong size
    or SPI). replayed: the window rejects its number, as a receiver would. next_header and payload: None unless the
    ICV is right and the trailer sound; a replayed packet is opened all the same. error: why a receiver would discard
    the packet, the first reason in the order of RFC 4303 3.4; None when it would take it.
    """

    spi: int
    sequence: int
    icv_ok: bool | None = None
    replayed: bool = False
    next_header: int | None = None
    payload: bytes | None = None
    error: EspError | None = None


class EspTransform:
    """The algorithms of an SA with their keys; without state, so that both directions may share it.

    iv_length, icv_length: octets. alignment: of payload, padding and its two-octet trailer, octets.
    """

    __slots__ = ("_auth_key", "_cipher_key", "_salt", "alg", "alignment", "ealg", "icv_length", "iv_length")

    def __init__(self, alg: str, ealg: str, ik: bytes, ck: bytes, *, own_salt: bytes | None = None) -> None:
        """ik, ck: the AKA keys, 16 octets each, before the expansion of Annex I.

        own_salt: 4 octets in place of Annex I's, for a peer from before it defined one.
        Raises LocalError: an illegal combination, a key or salt of another length.
        """
        require_legal(alg, ealg)
        self.alg = alg
        self.ealg = ealg
        self._auth_key = auth_key(alg, ik)
        self._cipher_key = cipher_key(ealg, ck)
        aead = AES_GCM if ealg == AES_GCM else AES_GMAC if alg == AES_GMAC else ""
        self._salt = b""
        self.icv_length = _HMAC_ICV
        if aead:
            self._salt = salt(aead, ck, ik) if own_salt is None else own_salt
            if len(self._salt) != 4:
                raise LocalError(f"a salt of {len(self._salt)} octets: 4 are needed")
            self.icv_length = _AEAD_ICV
        self.iv_length = {AES_CBC: 16, DES_EDE3_CBC: 8}.get(ealg, _AEAD_IV if aead else 0)
        # RFC 4303 2.4: the trailer ends on a 4-octet boundary whatever the cipher, and on a block of the cipher
        self.alignment = {AES_CBC: 16, DES_EDE3_CBC: 8}.get(ealg, 4)

    def overhead(self, length: int) -> int:
        """How many octets ESP adds to a payload of that length."""
        return 8 + self.iv_length + -(length + 2) % self.alignment + 2 + self.icv_length

    def protector(self, entropy: Entropy) -> Protect:
        """What makes the packets of one SA; it holds the chain of its cipher. entropy: for the IVs of CBC."""
        if self.ealg == AES_GCM:
            return _gcm_protect(self._cipher_key, self._salt)
        if self.alg == AES_GMAC:
            return _gmac_protect(self._auth_key, self._salt)
        icv = _hmac_96(self.alg, self._auth_key)
        cipher = self._block_cipher()
        if cipher is None:
            return _null_protect(icv)
        return _cbc_protect(cipher, icv, entropy)

    def unprotector(self) -> Unprotect:
        """What verifies and decrypts the packets of one SA."""
        if self.ealg == AES_GCM:
            return _gcm_unprotect(self._cipher_key, self._salt)
        if self.alg == AES_GMAC:
            return _gmac_unprotect(self._auth_key, self._salt)
        icv = _hmac_96(self.alg, self._auth_key)
        cipher = self._block_cipher()
        if cipher is None:
            return _null_unprotect(icv)
        return _cbc_unprotect(cipher, icv)

    def _block_cipher(self) -> BlockCipherAlgorithm | None:
        if self.ealg == AES_CBC:
            return AES(self._cipher_key)
        if self.ealg == DES_EDE3_CBC:
            return TripleDES(self._cipher_key)
        return None


class Sealer:
    """Makes the ESP packets of one outbound SA, in order.

    sequence: the number that was sent last; 0 before the first packet (RFC 4303 3.3.3). Whoever sets it skips
    numbers, and must never set it back: with AES-GCM and AES-GMAC that would repeat an IV.
    """

    __slots__ = ("_protect", "_spi", "_transform", "sequence")

    def __init__(self, sa: Sa, iv_entropy: Entropy) -> None:
        """iv_entropy: for the IVs of CBC. Raises LocalError: algorithms or keys that cannot be."""
        self._transform = EspTransform(sa.alg, sa.ealg, sa.ik, sa.ck)
        self._protect = self._transform.protector(iv_entropy)
        self._spi = sa.spi
        self.sequence = 0

    @property
    def transform(self) -> EspTransform:
        """The algorithms."""
        return self._transform

    def seal(self, next_header: int, payload: bytes) -> bytes:
        """The whole ESP packet, SPI to ICV, around the payload of an IP packet whose protocol is `next_header`.

        Raises SequenceExhausted after 2^32 − 1 packets; LocalError: a next header beyond 0–255.
        """
        if not 0 <= next_header <= 255:
            raise LocalError(f"next header {next_header}: it has 8 bits")
        number = self.sequence + 1
        if number > LAST_SEQUENCE:
            # RFC 4303 3.3.3: with anti-replay on, the number must not cycle
            raise SequenceExhausted(
                f"SA 0x{self._spi:08x} has sent sequence number {LAST_SEQUENCE}: a new SA is needed"
            )
        self.sequence = number
        trailer = _PADDING[-(len(payload) + 2) % self._transform.alignment] + bytes((next_header,))
        return self._protect(_HEADER.pack(self._spi, number), payload + trailer)


class Opener:
    """Takes the ESP packets of one inbound SA apart. window: its anti-replay window."""

    __slots__ = ("_minimum", "_spi", "_transform", "_unprotect", "window")

    def __init__(self, sa: Sa, window: int = DEFAULT_SIZE) -> None:
        """window: size, at least 32. Raises LocalError: a smaller one, algorithms or keys that cannot be."""
        self._transform = EspTransform(sa.alg, sa.ealg, sa.ik, sa.ck)
        self._unprotect = self._transform.unprotector()
        self._spi = sa.spi
        self._minimum = self._transform.overhead(0)
        self.window = ReplayWindow(window)

    @property
    def transform(self) -> EspTransform:
        """The algorithms."""
        return self._transform

    def open(self, packet: bytes) -> Opened:
        """The payload of an ESP packet, reassembled from IP fragments before.

        In the order of RFC 4303 3.4: SPI, sequence number, ICV, window, decryption, padding. Raises EspFormatError,
        SpiError, ReplayError, IcvError, PaddingError; only a packet with a right ICV moves the window.
        """
        sequence = self._check_header(packet)
        window = self.window
        if not window.check(sequence):
            raise self._replay_error(packet, sequence)
        plaintext = self._unprotect(packet)
        if plaintext is None:
            raise IcvError("wrong ICV", clause="RFC 4303 3.4.4", octets=packet)
        window.update(sequence)
        next_header, payload = _strip_trailer(plaintext)
        return Opened(next_header, payload, sequence)

    def inspect(self, packet: bytes) -> Inspected:
        """The same for a packet of a capture: never raises, and says of a replayed packet what it holds.

        The window moves as a receiver's would.
        """
        spi, sequence = _HEADER.unpack_from(packet) if len(packet) >= 8 else (0, 0)
        try:
            self._check_header(packet)
        except EspError as unfit:
            return Inspected(spi, sequence, error=unfit)
        replayed = not self.window.check(sequence)
        error: EspError | None = self._replay_error(packet, sequence) if replayed else None
        plaintext = self._unprotect(packet)
        if plaintext is None:
            if error is None:
                error = IcvError("wrong ICV", clause="RFC 4303 3.4.4", octets=packet)
            return Inspected(spi, sequence, False, replayed, error=error)
        if not replayed:
            self.window.update(sequence)
        try:
            next_header, payload = _strip_trailer(plaintext)
        except PaddingError as wrong:
            return Inspected(spi, sequence, True, replayed, error=error or wrong)
        return Inspected(spi, sequence, True, replayed, next_header, payload, error)

    def _check_header(self, packet: bytes) -> int:
        """The sequence number of a packet of this SA whose size its algorithms can have made."""
        length = len(packet)
        if length < 8:
            raise EspFormatError("an ESP header cut short", clause="RFC 4303 2", octets=packet)
        spi, sequence = _HEADER.unpack_from(packet)
        if spi != self._spi:
            raise SpiError(f"SPI 0x{spi:08x} in place of 0x{self._spi:08x}", clause="RFC 4303 3.4.2", octets=packet)
        # the shortest packet of all holds nothing, and every other is longer by whole alignments
        if length < self._minimum or (length - self._minimum) % self._transform.alignment:
            raise EspFormatError(
                f"{length} octets: no ESP packet with {self._transform.alg} and {self._transform.ealg}",
                clause="RFC 4303 2.4",
                octets=packet,
            )
        return int(sequence)

    def _replay_error(self, packet: bytes, sequence: int) -> ReplayError:
        if sequence == 0:
            # RFC 4303 3.3.3: the first packet has number 1
            return ReplayError("sequence number 0", clause="RFC 4303 3.3.3", octets=packet)
        if self.window.too_old(sequence):
            reason = f"sequence number {sequence} is left of the window that ends at {self.window.highest}"
        else:
            reason = f"sequence number {sequence} was received before"
        return ReplayError(reason, clause="RFC 4303 3.4.3", octets=packet)


def _strip_trailer(plaintext: bytes) -> tuple[int, bytes]:
    """Next header and payload; the padding is inspected, as RFC 4303 2.4 advises."""
    pad, next_header = plaintext[-2], plaintext[-1]
    end = len(plaintext) - 2 - pad
    if end < 0:
        raise PaddingError(f"pad length {pad} is more than there is", clause="RFC 4303 2.4", octets=plaintext[-2:])
    # a dummy packet need be well formed in its trailer only (2.6)
    if pad and plaintext[end:-1] != _PADDING[pad] and next_header != DUMMY:
        raise PaddingError("padding other than 1, 2, 3 …", clause="RFC 4303 2.4", octets=plaintext[end:])
    return next_header, plaintext[:end]


# ---------------------------------------------------------------------------------------------------- HMAC with CBC


def _hmac_96(alg: str, key: bytes) -> Callable[[bytes], bytes]:
    """HMAC-MD5-96 (RFC 2403) or HMAC-SHA-1-96 (RFC 2404): octets to their ICV.

    Two hash objects hold the inner and the outer key block, hashed once; each packet continues copies of them.
    """
    # protection as agreed on with the peer; the choice of hash is not ours
    name = "md5" if alg == HMAC_MD5_96 else "sha1"
    block = key.ljust(_HMAC_BLOCK, b"\0")
    inner = hashlib.new(name, bytes(octet ^ 0x36 for octet in block), usedforsecurity=False).copy
    outer = hashlib.new(name, bytes(octet ^ 0x5C for octet in block), usedforsecurity=False).copy

    def icv(octets: bytes) -> bytes:
        first = inner()
        first.update(octets)
        second = outer()
        second.update(first.digest())
        return second.digest()[:_HMAC_ICV]

    return icv


def _null_protect(icv: Callable[[bytes], bytes]) -> Protect:
    def protect(header: bytes, plaintext: bytes) -> bytes:
        packet = header + plaintext
        return packet + icv(packet)

    return protect


def _null_unprotect(icv: Callable[[bytes], bytes]) -> Unprotect:
    def unprotect(packet: bytes) -> bytes | None:
        if not hmac.compare_digest(icv(packet[:-_HMAC_ICV]), packet[-_HMAC_ICV:]):
            return None
        return packet[8:-_HMAC_ICV]

    return unprotect


def _cbc_protect(algorithm: BlockCipherAlgorithm, icv: Callable[[bytes], bytes], entropy: Entropy) -> Protect:
    """One CBC encryptor for the life of the SA: setting one up costs more than a packet does.

    Each packet runs a block R of fresh random octets through it ahead of its plaintext. The ciphertext of R is
    IV = E(R ⊕ last ciphertext block), and what follows is chained to it, so that IV ‖ ciphertext is what an encryptor
    of its own, started with that IV, would give; the receiver sees no difference. RFC 3602 3 and RFC 2451 3 ask for
    an IV that is random and cannot be foretold. R is uniform and known to nobody before the packet is out, so R ⊕
    anything is uniform, and so is its image under the block cipher. (The last ciphertext block itself as IV, which
    a bare chain would give, could be foretold: that is what those clauses are against.)
    """
    block = (algorithm.block_size or 0) // 8
    update = Cipher(algorithm, CBC(bytes(block))).encryptor().update
    draw = entropy.octets

    def protect(header: bytes, plaintext: bytes) -> bytes:
        packet = header + update(draw(block) + plaintext)
        return packet + icv(packet)

    return protect


def _cbc_unprotect(algorithm: BlockCipherAlgorithm, icv: Callable[[bytes], bytes]) -> Unprotect:
    """One CBC decryptor for the life of the SA: it runs over IV ‖ ciphertext, and what the IV decrypts to is dropped.

    CBC decryption needs the previous ciphertext block only, which for the first block of a packet is its IV.
    """
    block = (algorithm.block_size or 0) // 8
    update = Cipher(algorithm, CBC(bytes(block))).decryptor().update

    def unprotect(packet: bytes) -> bytes | None:
        authenticated = packet[:-_HMAC_ICV]
        if not hmac.compare_digest(icv(authenticated), packet[-_HMAC_ICV:]):
            return None
        return update(authenticated[8:])[block:]

    return unprotect


# ---------------------------------------------------------------------------------------------------- AES-GCM, AES-GMAC
#
# A nonce is salt ‖ IV, and must never come twice under one key (RFC 4106 3.1, RFC 4543 3.2). The four SAs of a set
# share key and salt (33.203 6.2, Annex I), so a counter per SA is not enough: the IV here is SPI ‖ sequence number,
# which is new for each packet and for each of the four, since their SPIs differ (33.203 7.1).


def _gcm_protect(key: bytes, own_salt: bytes) -> Protect:
    encrypt = AESGCM(key).encrypt

    def protect(header: bytes, plaintext: bytes) -> bytes:
        return header + header + encrypt(own_salt + header, plaintext, header)

    return protect


def _gcm_unprotect(key: bytes, own_salt: bytes) -> Unprotect:
    decrypt = AESGCM(key).decrypt

    def unprotect(packet: bytes) -> bytes | None:
        try:
            return decrypt(own_salt + packet[8:16], packet[16:], packet[:8])
        except InvalidTag:
            return None

    return unprotect


def _gmac_protect(key: bytes, own_salt: bytes) -> Protect:
    encrypt = AESGCM(key).encrypt

    def protect(header: bytes, plaintext: bytes) -> bytes:
        packet = header + header + plaintext
        return packet + encrypt(own_salt + header, b"", packet)

    return protect


def _gmac_unprotect(key: bytes, own_salt: bytes) -> Unprotect:
    decrypt = AESGCM(key).decrypt

    def unprotect(packet: bytes) -> bytes | None:
        try:
            decrypt(own_salt + packet[8:16], packet[-_AEAD_ICV:], packet[:-_AEAD_ICV])
        except InvalidTag:
            return None
        return packet[16:-_AEAD_ICV]

    return unprotect
