"""Digest challenges and credentials (RFC 2617, RFC 7616, RFC 3310), with the parameters IMS adds (24.229 7.2A).

The parameters keep their order, their case and their quotes, so that what is not understood goes on unharmed, and what
a peer wrote twice stays visible.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar, Self

from imslab.core.errors import LocalError
from imslab.sip.grammar import LWS, QUOTED, TOKEN_CHARS, is_token, peer_error, quote, unquote

_CLAUSE = "RFC 3261 25.1"
_PARAM = re.compile(
    rf'[ \t]*([{TOKEN_CHARS}]+)[ \t]*=[ \t]*({QUOTED}|[^\x00-\x20\x7f",;<>]+)[ \t]*(?:,|\Z)|(.+)', re.DOTALL
)
_WHOLE_VALUE = re.compile(rf'{QUOTED}|[^\x00-\x20\x7f",;<>]+', re.DOTALL)

#: Values that the grammar does not quote (RFC 2617 3.2, RFC 7616 3.3/3.4, RFC 3261 25.1); all others are quoted.
#: (qop is quoted in a challenge only, integrity-protected always: 24.229 7.2A.2.)
_UNQUOTED = frozenset({"algorithm", "stale", "nc", "charset", "userhash"})


_NOTHING: list[str] = []

#: Pairs (name, value) as written, in order.
Pairs = tuple[tuple[str, str], ...]


class DigestParams:
    """A list of auth-params: a pair (name, value) each, names in any case, values as written."""

    __slots__ = ("_index", "_params", "_raw")

    #: Names that this header writes without quotes.
    unquoted: ClassVar[frozenset[str]] = _UNQUOTED

    def __init__(self, params: Iterable[tuple[str, str]] = ()) -> None:
        """params: (name, value) with the value as it shall be written, quotes included. Raises LocalError."""
        self._keep(tuple(params))
        for name, value in self._params:
            _check(name, value)

    def _keep(self, params: Pairs, raw: str = "") -> None:
        self._params = params
        #: The values of each name in lower case, without quotes; made when it is asked for.
        self._index: dict[str, list[str]] | None = None
        self._raw = raw

    @property
    def params(self) -> Pairs:
        """(name, value) as written, in order."""
        return self._params

    @classmethod
    def build(cls, **params: str | int | None) -> Self:
        """From plain values: underscores in names stand for hyphens, None leaves out, quotes are put where they belong.

        nc may be a number; it is written as eight hex digits.
        """
        made = cls()
        for name, value in params.items():
            if value is not None:
                made.set(name.replace("_", "-"), f"{value:08x}" if isinstance(value, int) else value)
        return made

    def _write_params(self) -> str:
        return ", ".join([f"{name}={value}" for name, value in self._params])

    def copy(self) -> Self:
        """An independent copy."""
        made = type(self).__new__(type(self))
        made._params = self._params
        made._index = self._index  # never changed, only made anew
        made._raw = self._raw
        return made

    def _values(self, name: str) -> list[str]:
        index = self._index
        if index is None:
            index = {}
            for key, value in self._params:
                index.setdefault(key.lower(), []).append(unquote(value))
            self._index = index
        return index.get(name.lower(), _NOTHING)

    def get_all(self, name: str) -> list[str]:
        """All values of a parameter, without quotes. More than one is the peer's fault."""
        return list(self._values(name))

    def get(self, name: str) -> str | None:
        """The value of a parameter without quotes; None if it is not there.

        Raises PeerError when it is there twice: whichever one was picked, somebody else might pick the other.
        """
        values = self._values(name)
        if len(values) > 1:
            # RFC 3261 7.3.1: any given parameter-name MUST NOT appear more than once.
            raise peer_error(f"digest parameter {name} appears more than once", self._write_params(), "RFC 3261 7.3.1")
        return values[0] if values else None

    def has(self, name: str) -> bool:
        """True if the parameter is there, once or more."""
        return bool(self._values(name))

    @property
    def duplicates(self) -> list[str]:
        """Names (lower case) that appear more than once, in the order of their second appearance."""
        seen: set[str] = set()
        twice: dict[str, None] = {}
        for name, _ in self._params:
            lower = name.lower()
            if lower in seen:
                twice[lower] = None
            seen.add(lower)
        return list(twice)

    def remove(self, name: str) -> bool:
        """Take out every occurrence, in any case. True if there was one."""
        wanted = name.lower()
        kept = tuple([pair for pair in self._params if pair[0].lower() != wanted])
        found = len(kept) != len(self._params)
        if found:
            self._keep(kept)
        return found

    def set(self, name: str, value: str, *, quoted: bool | None = None) -> None:
        """Give a parameter one value (plain text), in place of the first occurrence or at the end.

        quoted: None leaves it to the grammar. Raises LocalError for a value that cannot be written.
        """
        if quoted is None:
            quoted = name.lower() not in self.unquoted
        written = quote(value) if quoted else value
        _check(name, written)
        wanted = name.lower()
        pairs: list[tuple[str, str]] = []
        placed = False
        for pair in self._params:
            if pair[0].lower() != wanted:
                pairs.append(pair)
            elif not placed:
                pairs.append((pair[0], written))
                placed = True
        if not placed:
            pairs.append((name, written))
        self._keep(tuple(pairs))

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._comparable() == other._comparable()

    __hash__ = None  # type: ignore[assignment]  # changeable

    def _comparable(self) -> list[tuple[str, str]]:
        return sorted((name.lower(), unquote(value)) for name, value in self._params)

    def __repr__(self) -> str:
        """Without the values: they may be keys."""
        return f"<{type(self).__name__} {' '.join(name for name, _ in self._params)}>"

    # The parameters by name; None if absent, PeerError if there twice.
    @property
    def realm(self) -> str | None:
        """The protection domain; in IMS the home domain."""
        return self.get("realm")

    @property
    def nonce(self) -> str | None:
        """In AKA: base64 of RAND, AUTN and server data (RFC 3310 3.2)."""
        return self.get("nonce")

    @property
    def algorithm(self) -> str | None:
        """As written ("AKAv1-MD5", …); None means MD5."""
        return self.get("algorithm")

    @property
    def qop(self) -> str | None:
        """In a challenge the list offered, in credentials the one chosen."""
        return self.get("qop")

    @property
    def opaque(self) -> str | None:
        """To be echoed."""
        return self.get("opaque")

    @property
    def cnonce(self) -> str | None:
        """The client's own nonce."""
        return self.get("cnonce")

    @property
    def nc(self) -> int | None:
        """The nonce count. Raises PeerError unless it is eight hex digits (RFC 2617 3.2.2)."""
        text = self.get("nc")
        if text is None:
            return None
        if re.fullmatch(r"[0-9A-Fa-f]{8}", text) is None:
            raise peer_error("nc: eight hex digits were expected", text, "RFC 2617 3.2.2")
        return int(text, 16)


class _Scheme(DigestParams):
    """Auth-params behind a scheme."""

    __slots__ = ("scheme",)

    def __init__(self, params: Iterable[tuple[str, str]] = (), scheme: str = "Digest") -> None:
        super().__init__(params)
        #: As written; "Digest" in any case.
        self.scheme = scheme

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read one row: one challenge or one set of credentials (RFC 3261 7.3.1). Raises PeerError."""
        text = text.strip(LWS)
        scheme, _, rest = text.partition(" ")
        if not is_token(scheme):
            raise peer_error("an authentication scheme was expected", text, _CLAUSE)
        made = cls.__new__(cls)
        made.scheme = scheme
        made._keep(_read_params(rest, scheme), text)
        return made

    def __str__(self) -> str:
        return self._raw or f"{self.scheme} {self._write_params()}"

    def copy(self) -> Self:
        """An independent copy."""
        made = super().copy()
        made.scheme = self.scheme
        return made


class DigestChallenge(_Scheme):
    """WWW-Authenticate or Proxy-Authenticate."""

    __slots__ = ()

    @property
    def stale(self) -> bool:
        """True when only the nonce was too old (RFC 2617 3.2.1)."""
        return (self.get("stale") or "").lower() == "true"

    @property
    def ck(self) -> str | None:
        """The cipher key in hex digits, between S-CSCF and P-CSCF only (24.229 7.2A.1)."""
        return self.get("ck")

    @property
    def ik(self) -> str | None:
        """The integrity key in hex digits, between S-CSCF and P-CSCF only (24.229 7.2A.1)."""
        return self.get("ik")


class DigestCredentials(_Scheme):
    """Authorization or Proxy-Authorization."""

    __slots__ = ()
    unquoted: ClassVar[frozenset[str]] = _UNQUOTED | {"qop"}

    @property
    def username(self) -> str | None:
        """In IMS the private identity (IMPI)."""
        return self.get("username")

    @property
    def uri(self) -> str | None:
        """The digest-uri."""
        return self.get("uri")

    @property
    def response(self) -> str | None:
        """The answer in hex digits; "" in an initial REGISTER (24.229 5.1.1.2.2)."""
        return self.get("response")

    @property
    def auts(self) -> str | None:
        """base64 of AUTS, when the sequence number was out of range (RFC 3310 3.4)."""
        return self.get("auts")

    @property
    def integrity_protected(self) -> str | None:
        """The P-CSCF's word on how the request came in: "yes", "no", … (24.229 7.2A.2)."""
        return self.get("integrity-protected")


class AuthenticationInfo(DigestParams):
    """Authentication-Info (RFC 2617 3.2.3, RFC 7616 3.5)."""

    __slots__ = ()
    unquoted: ClassVar[frozenset[str]] = _UNQUOTED | {"qop"}

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises PeerError."""
        made = cls.__new__(cls)
        made._keep(_read_params(text, "Authentication-Info"), text.strip(LWS))
        return made

    def __str__(self) -> str:
        return self._raw or self._write_params()

    @property
    def nextnonce(self) -> str | None:
        """The nonce to use from now on."""
        return self.get("nextnonce")

    @property
    def rspauth(self) -> str | None:
        """The server's proof in hex digits."""
        return self.get("rspauth")


def _read_params(text: str, what: str) -> Pairs:
    text = text.strip(LWS)
    found = _PARAM.findall(text)
    if not found or found[-1][2] or text[-1] == ",":
        bad = found[-1][2] if found else ""
        raise peer_error(f"{what}: name=value was expected", bad or text[-40:], _CLAUSE)
    return tuple([(name, value) for name, value, _ in found])


def _check(name: str, value: str) -> None:
    if not is_token(name) or _WHOLE_VALUE.fullmatch(value) is None or "\r" in value or "\n" in value:
        raise LocalError(f"not a digest parameter: {name!a} with a value of {len(value)} characters")
