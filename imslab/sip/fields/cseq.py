"""CSeq (RFC 3261 20.16) and RAck (RFC 3262 7.2)."""

from __future__ import annotations

from typing import NamedTuple

from imslab.sip.grammar import number, peer_error, token


class CSeq(NamedTuple):
    """A sequence number, less than 2**31, and a method."""

    number: int
    method: str

    @classmethod
    def parse(cls, text: str) -> CSeq:
        """Raises PeerError."""
        words = text.split()
        if len(words) != 2:
            raise peer_error("CSeq: a number and a method were expected", text, "RFC 3261 20.16")
        # RFC 3261 8.1.1.5: the number MUST be less than 2**31.
        return cls(number(words[0], "CSeq", 2**31 - 1, "RFC 3261 8.1.1.5"), token(words[1], "CSeq"))

    def __str__(self) -> str:
        return f"{self.number} {self.method}"


class RAck(NamedTuple):
    """The provisional response that a PRACK acknowledges: its RSeq, and the CSeq of its request."""

    rseq: int
    cseq: CSeq

    @classmethod
    def parse(cls, text: str) -> RAck:
        """Raises PeerError."""
        first, _, rest = text.strip().partition(" ")
        return cls(number(first, "RAck", clause="RFC 3262 7.2"), CSeq.parse(rest))

    def __str__(self) -> str:
        return f"{self.rseq} {self.cseq}"
