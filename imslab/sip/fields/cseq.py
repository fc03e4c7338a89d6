"""CSeq (RFC 3261 20.16) and RAck (RFC 3262 7.2)."""

from __future__ import annotations

import re
from typing import NamedTuple

from imslab.sip.grammar import TOKEN_CHARS, number, peer_error

_CSEQ = re.compile(rf"[ \t]*([0-9]+)[ \t]+([{TOKEN_CHARS}]+)[ \t]*")
_RACK = re.compile(r"[ \t]*([0-9]+)[ \t]+([^ \t].*)", re.DOTALL)


class CSeq(NamedTuple):
    """A sequence number, less than 2**31, and a method."""

    number: int
    method: str

    @classmethod
    def parse(cls, text: str) -> CSeq:
        """Raises PeerError."""
        found = _CSEQ.fullmatch(text)
        if found is None:
            raise peer_error("CSeq: a number and a method were expected", text, "RFC 3261 20.16")
        # RFC 3261 8.1.1.5: the number MUST be less than 2**31.
        return cls(number(found.group(1), "CSeq", 2**31 - 1, "RFC 3261 8.1.1.5"), found.group(2))

    def __str__(self) -> str:
        return f"{self.number} {self.method}"


class RAck(NamedTuple):
    """The provisional response that a PRACK acknowledges: its RSeq, and the CSeq of its request."""

    rseq: int
    cseq: CSeq

    @classmethod
    def parse(cls, text: str) -> RAck:
        """Raises PeerError."""
        found = _RACK.fullmatch(text)
        if found is None:
            raise peer_error("RAck: two numbers and a method were expected", text, "RFC 3262 7.2")
        return cls(number(found.group(1), "RAck", clause="RFC 3262 7.2"), CSeq.parse(found.group(2)))

    def __str__(self) -> str:
        return f"{self.rseq} {self.cseq}"
