"""Chance as an argument: the same seed gives the same RAND, branch, SPI and cnonce, and so the same capture."""

from __future__ import annotations

import hashlib
import os
from typing import Protocol


class Entropy(Protocol):
    """A source of random octets, given to a node when it is made."""

    def octets(self, count: int) -> bytes:
        """`count` random octets."""


class SeededEntropy:
    """Reproducible octets: SHA-256 in counter mode over a seed and the name of the one who asks.

    Two names under one seed give independent streams, so that a node added to a lab does not change the others'.
    Not for keys of real subscribers.
    """

    __slots__ = ("_buffer", "_counter", "_key")

    def __init__(self, seed: int | str, name: str = "") -> None:
        self._key = hashlib.sha256(f"{seed}\0{name}".encode(errors="surrogatepass")).digest()
        self._counter = 0
        self._buffer = b""

    def octets(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._buffer += hashlib.sha256(self._key + self._counter.to_bytes(8, "big")).digest()
            self._counter += 1
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken


class SystemEntropy:
    """The operating system's."""

    __slots__ = ()

    def octets(self, count: int) -> bytes:
        return os.urandom(count)


def random_int(entropy: Entropy, low: int, high: int) -> int:
    """A whole number, low ≤ n < high, without bias that matters (64 bits are drawn)."""
    return low + int.from_bytes(entropy.octets(8), "big") % (high - low)


def token(entropy: Entropy, octets: int = 8) -> str:
    """A lower-case hex token of 2 × octets digits, for tags, branches, Call-IDs."""
    return entropy.octets(octets).hex()
