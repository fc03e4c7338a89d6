"""The two ways in which anything here fails.

LocalError: the caller misused us; the text says how.
PeerError:  the other side broke a rule; it carries the clause and the octets, so that a verdict can show both.

Whatever octets arrive, a parser returns or raises PeerError. Any other exception is a bug of ours.
"""

from __future__ import annotations

from collections.abc import Iterable

#: How many of the offending octets an error keeps: enough to recognise the place, too few to fill a log.
OCTETS_KEPT = 80


class ImslabError(Exception):
    """Base of both, for those who only want to report."""


class LocalError(ImslabError):
    """We were asked for something that cannot be done: a wrong argument, an illegal state, a bad configuration."""


class PeerError(ImslabError):
    """The peer broke a rule.

    reason: one short sentence that names the place and what was expected.
    clause: the rule broken, as "RFC 3261 20.8" or "33.203 Annex H"; "" where only common sense was broken.
    octets: the offending octets (at most OCTETS_KEPT of them are kept).
    offset: where they stand in what was parsed, in octets; None if unknown.
    """

    def __init__(self, reason: str, *, clause: str = "", octets: bytes = b"", offset: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.clause = clause
        self.octets = bytes(octets[:OCTETS_KEPT])
        self.offset = offset

    def __str__(self) -> str:
        text = self.reason
        if self.offset is not None:
            text += f" (at octet {self.offset})"
        if self.clause:
            text += f" [{self.clause}]"
        return text


def unknown(what: str, name: str, known: Iterable[str], where: str) -> LocalError:
    """What to say of a name that is none of the known ones: which look like it, and where all of them stand."""
    from difflib import get_close_matches  # only where something is wrong already

    near = " or ".join(get_close_matches(name, sorted(known), n=3))
    return LocalError(f"unknown {what} {name!r}: {f'did you mean {near}? ' if near else ''}{where} lists them all")
