"""The small words of SIP's grammar (RFC 3261 25.1): tokens, quoted strings, lists, parameters, numbers.

Texts here are octets decoded by `decode`: UTF-8, with octets that are no UTF-8 kept as lone surrogates, so that
`encode` gives back exactly what came in. All readers are linear in their input and raise PeerError only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar, overload

from imslab.core.errors import LocalError, PeerError

T = TypeVar("T")

#: The characters of a token, for use inside a regular expression's brackets.
TOKEN_CHARS = r"A-Za-z0-9.!%*_+`'~\-"
#: A whole quoted string. Unrolled, so that an unbalanced one costs no more than one pass.
QUOTED = r'"[^"\\]*(?:\\.[^"\\]*)*"'
#: Linear white space that may stand around separators, once rows are unfolded.
LWS = " \t"
#: The largest delta-seconds and the largest of other unsigned 32-bit numbers (RFC 3261 20.19, 25.1).
MAX_32 = 2**32 - 1

_TOKEN = re.compile(f"[{TOKEN_CHARS}]+")
_LIST_PIECE = re.compile(rf'{QUOTED}|<[^>]*>|,|[^",<]+|.', re.DOTALL)
_VALUE = rf'(?:{QUOTED}|[^\x00-\x20\x7f";,<>]+)'
#: One parameter, or else the whole rest: what no parameter could be made of.
_PARAM = re.compile(rf";[ \t]*([{TOKEN_CHARS}]+)[ \t]*(?:=[ \t]*({_VALUE})[ \t]*)?|(.+)", re.DOTALL)
_WHOLE_VALUE = re.compile(_VALUE, re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def decode(octets: bytes) -> str:
    """Octets as text, without loss whatever they are."""
    return octets.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """The octets of a text. Raises LocalError for a text that stands for none (a surrogate not made by `decode`)."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise LocalError(f"text cannot be sent: {text[:80]!a}") from None


def octets_of(text: str) -> bytes:
    """The octets of a text for an error: those it was decoded from, or something readable if it never was octets."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("ascii", "backslashreplace")


def peer_error(reason: str, text: str, clause: str = "") -> PeerError:
    """A PeerError about a text that came from a peer."""
    return PeerError(reason, clause=clause, octets=octets_of(text[:80]))


def is_token(text: str) -> bool:
    """True for one or more token characters (RFC 3261 25.1)."""
    return _TOKEN.fullmatch(text) is not None


def token(text: str, what: str, clause: str = "RFC 3261 25.1") -> str:
    """The text, if it is a token."""
    if _TOKEN.fullmatch(text) is None:
        raise peer_error(f"{what}: a token was expected", text, clause)
    return text


def number(text: str, what: str, most: int = MAX_32, clause: str = "RFC 3261 25.1") -> int:
    """The value of decimal digits, 0 ≤ n ≤ most. Leading zeros are allowed, a sign is not."""
    if not (text.isascii() and text.isdigit()):
        raise peer_error(f"{what}: a number was expected", text, clause)
    # Python refuses to convert very long digit strings; a number of more than 20 digits is too large for anything here.
    if len(text) > 20:
        text = text.lstrip("0") or "0"
    if len(text) > 20 or (value := int(text)) > most:
        raise peer_error(f"{what}: the number is greater than {most}", text, clause)
    return value


def quote(text: str) -> str:
    """A quoted string that says `text`."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def unquote(text: str) -> str:
    """What a quoted string says; any other text unchanged."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    inner = text[1:-1]
    return _ESCAPED.sub(r"\1", inner) if "\\" in inner else inner


def split_list(text: str) -> list[str]:
    """The elements of a comma-separated list, stripped; commas in quoted strings and in <…> do not count.

    An empty text is an empty list; an empty element between commas is kept as "". Raises PeerError for a quote or an
    angle bracket that is never closed; an element that stands alone is left for its own reader to judge.
    """
    text = text.strip(LWS)
    if not text:
        return []
    if "," not in text:
        return [text]
    if '"' not in text and "<" not in text:
        return [piece.strip(LWS) for piece in text.split(",")]
    pieces: list[str] = []
    start = 0
    for match in _LIST_PIECE.finditer(text):
        piece = match.group()
        if piece == ",":
            pieces.append(text[start : match.start()].strip(LWS))
            start = match.end()
        elif piece in ('"', "<"):
            raise peer_error(f"{piece} is never closed", text[match.start() :], "RFC 3261 25.1")
    pieces.append(text[start:].strip(LWS))
    return pieces


def parse_pairs(text: str, what: str) -> list[tuple[str, str | None]]:
    """Read `;name=value;name…` as it stands, names repeated or not. Raises PeerError."""
    found = _PARAM.findall(text)
    if found and found[-1][2]:
        raise peer_error(f"{what}: a parameter was expected", found[-1][2], "RFC 3261 25.1")
    return [(name, value or None) for name, value, _ in found]


class Params(Mapping[str, str | None]):
    """Parameters in their order, names in any case, values as written (quotes included), None for a bare name.

    Unchangeable: `with_params` and `without` give new ones. `text(name)` is a value without its quotes.
    """

    __slots__ = ("_index", "items_written")

    def __init__(self, params: Mapping[str, str | None] | Iterable[tuple[str, str | None]] = ()) -> None:
        """Raises LocalError for a name or value that cannot be written, or a name given twice."""
        #: The (name, value) pairs as written.
        self.items_written: tuple[tuple[str, str | None], ...]
        #: The values by the name under which they are looked up, in the same order.
        self._index: dict[str, str | None]
        if isinstance(params, Params):
            self.items_written, self._index = params.items_written, params._index
            return
        self.items_written = tuple(params.items() if isinstance(params, Mapping) else params)
        for name, value in self.items_written:
            if not is_token(name) or (value is not None and _WHOLE_VALUE.fullmatch(value) is None):
                raise LocalError(f"not a parameter: {name!a}={value!a}")
        self._index = {name.lower(): value for name, value in self.items_written}
        if len(self._index) != len(self.items_written):
            raise LocalError(f"a parameter is given twice: {self}")

    @classmethod
    def parse(cls, text: str, what: str) -> Params:
        """Read `;name=value;name…`. Raises PeerError, also for a name given twice (RFC 3261 7.3.1)."""
        if not text:
            return NO_PARAMS
        pairs = parse_pairs(text, what)
        self = cls.__new__(cls)
        self.items_written = tuple(pairs)
        self._index = {name.lower(): value for name, value in pairs}
        if len(self._index) != len(pairs):
            # RFC 3261 7.3.1: any given parameter-name MUST NOT appear more than once.
            raise peer_error(f"{what}: a parameter appears more than once", text, "RFC 3261 7.3.1")
        return self

    @classmethod
    def of_pairs(cls, pairs: tuple[tuple[str, str | None], ...], index: dict[str, str | None]) -> Params:
        """Parameters that a reader has checked. index: the values by the name under which they are looked up."""
        self = cls.__new__(cls)
        self.items_written = pairs
        self._index = index
        return self

    def __str__(self) -> str:
        if not self.items_written:
            return ""
        return "".join([f";{name}" if value is None else f";{name}={value}" for name, value in self.items_written])

    def __getitem__(self, name: str) -> str | None:
        return self._index[name.lower()]

    @overload
    def get(self, name: str, /) -> str | None: ...
    @overload
    def get(self, name: str, /, default: str | T | None) -> str | T | None: ...
    def get(self, name: str, /, default: str | T | None = None) -> str | T | None:
        """The value as written; the default where the name is missing."""
        return self._index.get(name.lower(), default)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._index

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Params):
            return self._index == other._index
        if isinstance(other, Mapping):
            return dict(self._index) == {str(name).lower(): value for name, value in other.items()}
        return NotImplemented

    def __hash__(self) -> int:
        return hash(frozenset(self._index.items()))

    def __repr__(self) -> str:
        return f"Params({dict(self.items_written)!r})"

    def text(self, name: str) -> str | None:
        """The value without quotes; "" for a bare name; None if it is not there."""
        key = name.lower()
        if key not in self._index:
            return None
        value = self._index[key]
        return "" if value is None else unquote(value)

    def with_params(self, changes: Mapping[str, str | None]) -> Params:
        """These parameters with some replaced in place, or added at the end."""
        new = Params(changes)
        left = dict(zip(new._index, new.items_written, strict=True))
        pairs = [left.pop(key, pair) for key, pair in zip(self._index, self.items_written, strict=True)]
        return self.of_pairs((*pairs, *left.values()), {**self._index, **new._index})

    def without(self, *names: str) -> Params:
        """These parameters but those named."""
        gone = {name.lower() for name in names}
        kept = [(key, pair) for key, pair in zip(self._index, self.items_written, strict=True) if key not in gone]
        return self.of_pairs(tuple([pair for _, pair in kept]), {key: pair[1] for key, pair in kept})


NO_PARAMS = Params()


def parse_token_params(text: str, what: str) -> tuple[str, Params]:
    """Read `token;name=value…`. Raises PeerError."""
    end = text.find(";")
    word = text.strip(LWS) if end < 0 else text[:end].strip(LWS)
    return token(word, what), NO_PARAMS if end < 0 else Params.parse(text[end:].rstrip(LWS), what)


def write_token_params(word: str, params: Mapping[str, str | None]) -> str:
    """The twin of `parse_token_params`. Raises LocalError for a word that is no token."""
    if not is_token(word):
        raise LocalError(f"not a token: {word!a}")
    return f"{word}{params}"
