"""Header rows: names in any case and in compact form, order and raw text kept (RFC 3261 7.3)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self, TypeVar

from imslab.core.errors import LocalError
from imslab.sip.grammar import LWS, encode, is_token, peer_error, split_list

D = TypeVar("D")

#: Compact forms (RFC 3261 20, and the registry of header fields for the later ones), all in lower case.
COMPACT = {
    "a": "accept-contact",
    "b": "referred-by",
    "c": "content-type",
    "d": "request-disposition",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "j": "reject-contact",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "n": "identity-info",
    "o": "event",
    "r": "refer-to",
    "s": "subject",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
    "y": "identity",
}

#: Names as they are usually written; any other spelling of them, and any other name, is found too, only slower.
USUAL_NAMES = """
Via From To Call-ID CSeq Max-Forwards Contact Expires Min-Expires Retry-After Route Record-Route Path Service-Route
Require Proxy-Require Supported Unsupported Allow Allow-Events Accept Accept-Encoding Accept-Language Accept-Contact
Authorization WWW-Authenticate Proxy-Authorization Proxy-Authenticate Authentication-Info Proxy-Authentication-Info
Security-Client Security-Server Security-Verify P-Access-Network-Info P-Associated-URI P-Asserted-Identity
P-Preferred-Identity P-Preferred-Service P-Asserted-Service P-Called-Party-ID P-Charging-Vector
P-Charging-Function-Addresses P-Visited-Network-ID P-User-Database P-Early-Media Event Subscription-State Content-Type
Content-Length Content-Encoding Content-Disposition User-Agent Server Date Warning Timestamp Subject Organization
Privacy Reason RSeq RAck Refer-To Referred-By Replaces Session-Expires Min-SE Request-Disposition Reject-Contact
Session-ID Feature-Caps Geolocation SIP-ETag SIP-If-Match Error-Info Call-Info Alert-Info Priority MIME-Version
"""

#: Name as written → key under which its rows are found.
_KEYS = {
    spelling: name.lower()
    for name in USUAL_NAMES.split()
    for spelling in (name, name.lower(), name.title(), name.upper(), name.replace("-ID", "-Id"))
}
_KEYS.update({spelling: key for short, key in COMPACT.items() for spelling in (short, short.upper())})

#: Key → name as it is usually written.
_NAMES = {name.lower(): name for name in USUAL_NAMES.split()}

_FOLD = re.compile(r"[ \t]*\r\n[ \t]+")


def key_of(name: str) -> str:
    """The key of a header name: lower case, long form."""
    key = _KEYS.get(name)
    if key is None:
        lower = name.strip(LWS).lower()
        key = COMPACT.get(lower, lower)
    return key


def name_of(key: str) -> str:
    """The usual spelling of a key, for humans."""
    return _NAMES.get(key, key)


def split_rows(lines: list[str]) -> tuple[list[str], list[str]]:
    """The keys and the raw texts of the header rows, from the lines between start line and empty line.

    Raises PeerError for a row without a colon or with a name that is no token.
    """
    known = _KEYS
    try:
        # The fast way: every name in a usual spelling, nothing folded.
        return [known[line[: line.index(":")]] for line in lines], lines
    except (KeyError, ValueError):
        pass
    lines = _join_folded(lines)
    keys: list[str] = []
    for line in lines:
        name, colon, _ = line.partition(":")
        key = known.get(name)
        if key is None or not colon:
            # RFC 3261 25.1: white space may stand before the colon, but no fold.
            name = name.rstrip(LWS)
            if not colon or not is_token(name):
                raise peer_error("header: a name and a colon were expected", line, "RFC 3261 7.3.1")
            key = key_of(name)
        keys.append(key)
    return keys, lines


def _join_folded(lines: list[str]) -> list[str]:
    # RFC 3261 7.3.1: a line that begins with white space continues the one before it.
    joined: list[list[str]] = []
    for line in lines:
        if line[:1] in (" ", "\t") and joined:
            joined[-1].append(line)
        else:
            joined.append([line])
    return ["\r\n".join(parts) for parts in joined]


def _value(line: str) -> str:
    value = line.partition(":")[2]
    if "\r" in value:
        # RFC 3261 7.3.1: a fold means a single space.
        value = _FOLD.sub(" ", value)
    return value.strip(LWS)


def make_line(name: str, value: str) -> str:
    """A row of our own. Raises LocalError for what would not stay one row: a line end, a name that is no token."""
    if not is_token(name):
        raise LocalError(f"not a header name: {name!a}")
    if "\r" in value or "\n" in value:
        raise LocalError(f"{name}: a header value of more than one line: {value[:80]!a}")
    if not value.isascii():
        encode(value)
    return f"{name}: {value}"


class HeaderRows:
    """The rows of one message: found by name, changed by name. Untouched rows are written as they came."""

    __slots__ = ("_cache", "_changed", "_derived", "_keys", "_lines")

    def __init__(self, keys: list[str], lines: list[str], changed: bool) -> None:
        #: Of each row the key under which it is found, and the text without its last CRLF.
        self._keys = keys
        self._lines = lines
        self._changed = changed
        #: Typed values by key; a change of a row forgets them.
        self._cache: dict[str, Any] = {}
        #: What others read out of it, by whom; any change forgets all of it.
        self._derived: dict[object, Any] | None = None

    def derived(self, make: Callable[[Self], D]) -> D:
        """What `make` reads out of this message, read once and for all who ask: nobody may change it.

        What it raises is raised each time.
        """
        derived = self._derived
        if derived is None:
            derived = self._derived = {}
        elif make in derived:
            known: D = derived[make]
            return known
        found = derived[make] = make(self)
        return found

    def _of_key(self, key: str) -> list[str]:
        """The values of all rows of this key."""
        keys, lines = self._keys, self._lines
        if key not in keys:
            return []
        if keys.count(key) == 1:
            return [_value(lines[keys.index(key)])]
        return [_value(line) for other, line in zip(keys, lines, strict=True) if other == key]

    def _touch(self, key: str) -> None:
        self._changed = True
        self._derived = None
        self._cache.pop(key, None)

    @property
    def headers(self) -> list[tuple[str, str]]:
        """(name as written, value unfolded) of all rows, in order."""
        return [(line[: line.index(":")].rstrip(LWS), _value(line)) for line in self._lines]

    def get(self, name: str) -> str | None:
        """The value of the first row of this name; None if there is none."""
        key = _KEYS.get(name) or key_of(name)
        keys = self._keys
        return _value(self._lines[keys.index(key)]) if key in keys else None

    def rows(self, name: str) -> list[str]:
        """The values of all rows of this name."""
        return self._of_key(key_of(name))

    def values(self, name: str) -> list[str]:
        """The elements of a comma-separated header, over all its rows.

        Not for headers whose rows are one value each (Authorization, WWW-Authenticate, Date, …).
        Raises PeerError for a quote or an angle bracket that is never closed.
        """
        rows = self._of_key(_KEYS.get(name) or key_of(name))
        return split_list(rows[0]) if len(rows) == 1 else [piece for row in rows for piece in split_list(row)]

    def has(self, name: str) -> bool:
        """True if there is a row of this name."""
        return (_KEYS.get(name) or key_of(name)) in self._keys

    def add(self, name: str, value: str) -> None:
        """Append a row. Raises LocalError (see `make_line`)."""
        line, key = make_line(name, value), key_of(name)
        self._keys.append(key)
        self._lines.append(line)
        self._touch(key)

    def prepend(self, name: str, value: str) -> None:
        """Put a row before the first one of its name, or before all rows if there is none."""
        line, key = make_line(name, value), key_of(name)
        place = self._keys.index(key) if key in self._keys else 0
        self._keys.insert(place, key)
        self._lines.insert(place, line)
        self._touch(key)

    def set(self, name: str, value: str) -> None:
        """One row in place of all rows of this name; at the end if there was none."""
        key = key_of(name)
        if self._keys.count(key) == 1:
            self._lines[self._keys.index(key)] = make_line(name, value)
            self._touch(key)
        else:
            self.replace(name, [value])

    def replace(self, name: str, values: Sequence[str]) -> None:
        """These rows in place of all rows of this name: where the first one was, at the end if there was none."""
        if isinstance(values, str):
            raise LocalError(f"{name}: a list of values was expected, one for each row")
        new = [make_line(name, value) for value in values]
        key = key_of(name)
        place = self._keys.index(key) if key in self._keys else len(self._keys)
        self.remove(name)
        self._keys[place:place] = [key] * len(new)
        self._lines[place:place] = new
        self._touch(key)

    def remove(self, name: str) -> bool:
        """Take out all rows of this name. True if there was one."""
        key = key_of(name)
        if key not in self._keys:
            return False
        kept = [i for i, other in enumerate(self._keys) if other != key]
        self._lines = [self._lines[i] for i in kept]
        self._keys = [self._keys[i] for i in kept]
        self._touch(key)
        return True

    def extend(self, headers: Iterable[tuple[str, str]]) -> None:
        """Append rows."""
        for name, value in headers:
            self.add(name, value)
