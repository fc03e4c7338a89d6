"""Header rows: names in any case and in compact form, order and raw text kept (RFC 3261 7.3)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from imslab.core.errors import LocalError
from imslab.sip.grammar import LWS, encode, is_token, peer_error, split_list

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

#: (key, name as written, value unfolded and stripped, the row's raw text without its last CRLF)
Row = tuple[str, str, str, str]


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


def split_rows(text: str) -> list[Row]:
    """The header rows of a message, from the text between its start line and the empty line.

    `text` has no line ends but CRLF. Raises PeerError for a row without a colon or with a name that is no token.
    """
    if not text:
        return []
    lines = text.split("\r\n")
    folded = "\r\n " in text or "\r\n\t" in text
    if folded:
        lines = _join_folded(lines)
    rows: list[Row] = []
    append = rows.append
    known = _KEYS.get
    for line in lines:
        name, colon, value = line.partition(":")
        key = known(name)
        if key is None or not colon:
            if folded:
                name = _FOLD.sub(" ", name)
            name = name.rstrip(LWS)
            if not colon or not is_token(name):
                raise peer_error("header: a name and a colon were expected", line, "RFC 3261 7.3.1")
            key = key_of(name)
        if folded and "\r" in value:
            value = _FOLD.sub(" ", value)
        append((key, name, value.strip(LWS), line))
    return rows


def _join_folded(lines: list[str]) -> list[str]:
    # RFC 3261 7.3.1: a line that begins with white space continues the one before it.
    joined: list[list[str]] = []
    for line in lines:
        if line[:1] in (" ", "\t") and joined:
            joined[-1].append(line)
        else:
            joined.append([line])
    return ["\r\n".join(parts) for parts in joined]


def make_row(name: str, value: str) -> Row:
    """A row of our own. Raises LocalError for what would not stay one row: a line end, a name that is no token."""
    if not is_token(name):
        raise LocalError(f"not a header name: {name!a}")
    if "\r" in value or "\n" in value:
        raise LocalError(f"{name}: a header value of more than one line: {value[:80]!a}")
    if not value.isascii():
        encode(value)
    value = value.strip(LWS)
    return key_of(name), name, value, f"{name}: {value}"


class HeaderRows:
    """The rows of one message: found by name, changed by name. Untouched rows are written as they came."""

    __slots__ = ("_cache", "_changed", "_index", "_rows")

    def __init__(self, rows: list[Row], changed: bool) -> None:
        self._rows = rows
        self._changed = changed
        self._index: dict[str, list[str]] | None = None
        #: Typed values by key; `_touch` forgets them.
        self._cache: dict[str, Any] = {}

    def _by_key(self) -> dict[str, list[str]]:
        """Values by key, in order."""
        index = self._index
        if index is None:
            index = self._index = {}
            for key, _, value, _ in self._rows:
                found = index.get(key)
                if found is None:
                    index[key] = [value]
                else:
                    found.append(value)
        return index

    def _touch(self, key: str) -> None:
        self._changed = True
        self._index = None
        self._cache.pop(key, None)

    @property
    def headers(self) -> list[tuple[str, str]]:
        """(name as written, value unfolded) of all rows, in order."""
        return [(name, value) for _, name, value, _ in self._rows]

    def get(self, name: str) -> str | None:
        """The value of the first row of this name; None if there is none."""
        found = self._by_key().get(key_of(name))
        return found[0] if found else None

    def rows(self, name: str) -> list[str]:
        """The values of all rows of this name."""
        return list(self._by_key().get(key_of(name), ()))

    def values(self, name: str) -> list[str]:
        """The elements of a comma-separated header, over all its rows.

        Not for headers whose rows are one value each (Authorization, WWW-Authenticate, Date, …).
        Raises PeerError for a quote or an angle bracket that is never closed.
        """
        return [piece for row in self._by_key().get(key_of(name), ()) for piece in split_list(row)]

    def has(self, name: str) -> bool:
        """True if there is a row of this name."""
        return key_of(name) in self._by_key()

    def add(self, name: str, value: str) -> None:
        """Append a row. Raises LocalError (see `make_row`)."""
        row = make_row(name, value)
        self._rows.append(row)
        self._touch(row[0])

    def prepend(self, name: str, value: str) -> None:
        """Put a row before the first one of its name, or before all rows if there is none."""
        row = make_row(name, value)
        places = [i for i, other in enumerate(self._rows) if other[0] == row[0]]
        self._rows.insert(places[0] if places else 0, row)
        self._touch(row[0])

    def set(self, name: str, value: str) -> None:
        """One row in place of all rows of this name; at the end if there was none."""
        self.replace(name, [value])

    def replace(self, name: str, values: Sequence[str]) -> None:
        """These rows in place of all rows of this name: where the first one was, at the end if there was none."""
        if isinstance(values, str):
            raise LocalError(f"{name}: a list of values was expected, one for each row")
        new = [make_row(name, value) for value in values]
        key = key_of(name)
        rows: list[Row] = []
        placed = False
        for row in self._rows:
            if row[0] != key:
                rows.append(row)
            elif not placed:
                rows += new
                placed = True
        self._rows = rows if placed else rows + new
        self._touch(key)

    def remove(self, name: str) -> bool:
        """Take out all rows of this name. True if there was one."""
        key = key_of(name)
        kept = [row for row in self._rows if row[0] != key]
        found = len(kept) != len(self._rows)
        if found:
            self._rows = kept
            self._touch(key)
        return found

    def extend(self, headers: Iterable[tuple[str, str]]) -> None:
        """Append rows."""
        for name, value in headers:
            self.add(name, value)
