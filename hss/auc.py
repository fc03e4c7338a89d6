"""The authentication centre: vectors out of a key and a sequence number, and what a card's AUTS changes (33.102 6.3).

Pure: it takes a private identity's record and gives the record as it must be made durable before the vectors leave.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from hss.faults import Faults
from hss.subscriber import AkaCredentials, PrivateIdentity
from imslab.aka.algorithm import RAND_LENGTH, AkaAlgorithm
from imslab.aka.sqn import SqnGenerator
from imslab.aka.vector import Vector, generate, open_auts
from imslab.core.entropy import Entropy
from imslab.core.errors import LocalError

#: How many algorithms with their key schedules are kept ready.
READY = 4096


class AuthenticationCentre:
    """entropy: where RANDs come from, never the same twice."""

    __slots__ = ("_entropy", "_faults", "_given_once", "_rands", "_ready")

    def __init__(self, entropy: Entropy, faults: Faults | None = None) -> None:
        self._entropy = entropy
        self._faults = faults or Faults()
        self._ready: OrderedDict[AkaCredentials, AkaAlgorithm] = OrderedDict()
        self._rands: dict[str, bytes] = {}
        self._given_once: set[str] = set()

    def vectors(
        self, private: PrivateIdentity, count: int, *, after_resync: bool = False
    ) -> tuple[list[Vector], PrivateIdentity]:
        """`count` fresh vectors, SEQ one step higher in each (33.102 C.1), and the record to keep.

        Raises LocalError for credentials that are no AKA ones, and when SEQ is used up.
        """
        credentials = _aka(private)
        algorithm = self._algorithm(credentials)
        generator = SqnGenerator(private.sqn, credentials.inds)
        amf = b"\0\0" if after_resync and "amf-zero-after-resync" in self._faults else credentials.amf
        vectors = []
        for _ in range(count):
            if "ind-blind" in self._faults:
                generator.sqn += 1
            else:
                generator.next()
            vectors.append(generate(algorithm, self._rand(private.impi), generator.sqn, amf))
        if "sqn-repeated" in self._faults and private.impi not in self._given_once:
            self._given_once.add(private.impi)
            return vectors, private
        self._given_once.discard(private.impi)
        return vectors, replace(private, sqn=generator.sqn)

    def resynchronise(self, private: PrivateIdentity, rand: bytes, auts: bytes) -> PrivateIdentity | None:
        """The record after a card's AUTS: SQN set to the card's where ours would be refused (33.102 6.3.5).

        rand: of the challenge that the card refused. None: the AUTS is not the card's, MAC-S is wrong, and nothing
        may change. Raises PeerError unless AUTS has 14 octets.
        """
        opened = open_auts(self._algorithm(_aka(private)), rand, auts)
        if not opened.mac_ok and "auts-unchecked" not in self._faults:
            return None
        self._rands.pop(private.impi, None)
        generator = SqnGenerator(private.sqn, _aka(private).inds)
        generator.resynchronise(opened.sqn_ms)
        return replace(private, sqn=generator.sqn)

    def _algorithm(self, credentials: AkaCredentials) -> AkaAlgorithm:
        algorithm = self._ready.get(credentials)
        if algorithm is None:
            algorithm = self._ready[credentials] = credentials.make_algorithm()
            if len(self._ready) > READY:
                self._ready.popitem(last=False)
        return algorithm

    def _rand(self, impi: str) -> bytes:
        rand = self._entropy.octets(RAND_LENGTH)
        return self._rands.setdefault(impi, rand) if "rand-reused" in self._faults else rand


def _aka(private: PrivateIdentity) -> AkaCredentials:
    if not isinstance(private.credentials, AkaCredentials):
        raise LocalError(f"{private.impi} has no key for AKA")
    return private.credentials
