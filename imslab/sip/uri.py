"""SIP, SIPS and tel URIs (RFC 3261 19.1, RFC 3966); any other scheme is kept as opaque text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from imslab.core.errors import LocalError, PeerError
from imslab.core.flow import canonical_host
from imslab.sip.grammar import NO_PARAMS, Params, number, peer_error

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*")
#: User and password: the escapes must be whole; what else is let through is anything that cannot be mistaken for an
#: end, since phones put characters like # there that RFC 3261 wants escaped.
_USERINFO = re.compile(r"(?:[^\x00-\x20\x7f<>\"@%:]|%[0-9A-Fa-f]{2})*")
_HOSTPORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._\-]+))(?::([0-9]+))?(?=[;?]|\Z)")
_HOST = re.compile(r"[A-Za-z0-9._:\-]+")
_TAIL = re.compile(r"(?:[^\x00-\x20\x7f<>\",%]|%[0-9A-Fa-f]{2})*")
_OPAQUE = re.compile(r"[^\x00-\x20\x7f<>\"]*")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNSAFE = re.compile(r"[\x00-\x20\x7f<>\"]")
_SEPARATORS = re.compile(r"[\-.()]")

#: RFC 3261 19.1.2: what must stay escaped, because unescaped it would mean something else.
_RESERVED = frozenset(";/?:@&=+$,")
#: RFC 3261 19.1.4: a parameter of these in one URI only makes the two differ.
_TELLING = ("user", "ttl", "method", "maddr", "transport")


@dataclass(frozen=True, slots=True, eq=False)
class Uri:
    """A URI as its parts, all as written (escapes kept).

    scheme: lower case. user, password, host: sip and sips; for tel, user is the number and host is "".
    host: without brackets. port: None if not written. headers: what follows "?", names as written.
    opaque: what follows the colon of any other scheme.
    Equality is that of RFC 3261 19.1.4 (RFC 3966 4 for tel). Unchangeable; `dataclasses.replace` makes variants.
    """

    scheme: str
    user: str = ""
    password: str | None = None
    host: str = ""
    port: int | None = None
    params: Mapping[str, str | None] = NO_PARAMS
    headers: tuple[tuple[str, str], ...] = ()
    opaque: str = ""
    _raw: str = field(default="", init=False, repr=False)

    def __post_init__(self) -> None:
        """Raises LocalError for parts that would not be read back as what they are."""
        if type(self.params) is not Params:
            object.__setattr__(self, "params", Params(self.params))
        if self.host:
            sound = bool(_USERINFO.fullmatch(self.user) and _HOST.fullmatch(self.host))
        else:
            sound = self.scheme not in ("sip", "sips") and not _UNSAFE.search(f"{self.user}{self.opaque}")
        if self.port is not None and not 0 <= self.port <= 65535:
            raise LocalError(f"not a port: {self.port}")
        if not sound or (self.password and not _USERINFO.fullmatch(self.password)):
            raise LocalError(f"not the parts of a URI: {self.scheme!a} {self.user!a} {self.host!a} {self.opaque!a}")

    @classmethod
    def parse(cls, text: str) -> Uri:
        """Read one URI, nothing around it. Raises PeerError."""
        # The same few URIs come in message after message. Long ones are not worth remembering: memory stays bounded.
        return _parse_known(text) if len(text) <= 128 else cls._parse(text)

    @classmethod
    def _parse(cls, text: str) -> Uri:
        scheme, colon, rest = text.partition(":")
        lower = scheme.lower()
        if not colon or _SCHEME.fullmatch(scheme) is None:
            raise peer_error("URI: a scheme was expected", text, "RFC 3261 19.1.1")
        if lower in ("sip", "sips"):
            uri = _parse_sip(lower, rest)
        elif lower == "tel":
            uri = _parse_tel(rest)
        else:
            if not rest or _OPAQUE.fullmatch(rest) is None:
                raise peer_error("URI: a character that must be escaped", text, "RFC 3986 2")
            uri = cls(lower, opaque=rest)
        object.__setattr__(uri, "_raw", text)
        return uri

    def __str__(self) -> str:
        if self._raw:
            return self._raw
        if self.scheme == "tel":
            return f"tel:{self.user}{self.params}"
        if self.scheme not in ("sip", "sips"):
            return f"{self.scheme}:{self.opaque}"
        password = "" if self.password is None else f":{self.password}"
        at = "@" if self.user or password else ""
        query = "?" + "&".join([f"{name}={value}" for name, value in self.headers]) if self.headers else ""
        return f"{self.scheme}:{self.user}{password}{at}{self.hostport}{self.params}{query}"

    @property
    def hostport(self) -> str:
        """host[:port], an IPv6 address in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def aor(self) -> str:
        """The address-of-record in canonical text: scheme, user and host only (RFC 3261 10.3 item 5).

        For tel the number without visual separators, with its phone-context; for other schemes the whole URI.
        """
        if self.scheme == "tel":
            context = self.params.get("phone-context")
            return f"tel:{_bare_number(self.user)}" + (f";phone-context={context.lower()}" if context else "")
        if self.scheme not in ("sip", "sips"):
            return str(self)
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}:{unescape(self.user)}{'@' if self.user else ''}{host.lower()}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Uri):
            return NotImplemented
        return self._key() == other._key() and _params_match(self, other) and _headers_match(self, other)

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        """What must be equal, whatever the parameters are."""
        if self.scheme == "tel":
            return "tel", _bare_number(self.user)
        if self.scheme not in ("sip", "sips"):
            return self.scheme, self.opaque
        password = None if self.password is None else unescape(self.password)
        return self.scheme, unescape(self.user), password, _canonical(self.host), self.port

    def with_params(self, changes: Mapping[str, str | None]) -> Uri:
        """This URI with some parameters replaced or added."""
        return self._with(Params(self.params).with_params(changes))

    def without_params(self, *names: str) -> Uri:
        """This URI without some parameters."""
        return self._with(Params(self.params).without(*names))

    def _with(self, params: Params) -> Uri:
        return Uri(self.scheme, self.user, self.password, self.host, self.port, params, self.headers, self.opaque)


_parse_known = lru_cache(maxsize=4096)(Uri._parse)


def _parse_sip(scheme: str, rest: str) -> Uri:
    user, password, tail = "", None, rest
    if "@" in rest:
        userinfo, _, tail = rest.partition("@")
        user, colon, secret = userinfo.partition(":")
        password = secret if colon else None
        if not user or _USERINFO.fullmatch(user) is None or _USERINFO.fullmatch(secret) is None:
            raise peer_error("URI: malformed user part", rest, "RFC 3261 19.1.1")
    found = _HOSTPORT.match(tail)
    if found is None:
        raise peer_error("URI: malformed host or port", tail, "RFC 3261 19.1.1")
    address, host, port = found.groups()
    if address is not None:
        host = _checked_address(address)
    end = found.end()
    params: Params = NO_PARAMS
    headers: tuple[tuple[str, str], ...] = ()
    if end < len(tail):
        # A second @, or one after the host, is no legal character here either.
        if _TAIL.fullmatch(tail, end) is None or "@" in tail:
            raise peer_error("URI: a character that must be escaped", tail[end:], "RFC 3261 19.1.2")
        written, _, query = tail[end:].partition("?")
        if written:
            params = parse_uri_params(written)
        if query:
            headers = tuple([(name, value) for name, _, value in (h.partition("=") for h in query.split("&"))])
    return Uri(scheme, user, password, host, None if port is None else parse_port(port), params, headers)


def _parse_tel(rest: str) -> Uri:
    subscriber, semicolon, written = rest.partition(";")
    if not subscriber or _TAIL.fullmatch(rest) is None or "@" in rest:
        raise peer_error("URI: malformed telephone number", rest, "RFC 3966 3")
    return Uri("tel", subscriber, params=parse_uri_params(";" + written) if semicolon else NO_PARAMS)


def parse_uri_params(text: str) -> Params:
    """Read `;name=value;…` of a URI. Names are found unescaped and in any case."""
    pairs: list[tuple[str, str | None]] = []
    index: dict[str, str | None] = {}
    for piece in text.split(";")[1:]:
        name, equals, written = piece.partition("=")
        if not name:
            raise peer_error("URI: an empty parameter", text, "RFC 3261 19.1.1")
        value = written if equals else None
        pairs.append((name, value))
        index[(unescape(name) if "%" in name else name).lower()] = value
    if len(index) != len(pairs):
        # RFC 3261 19.1.1: any given parameter-name MUST NOT appear more than once.
        raise peer_error("URI: a parameter appears more than once", text, "RFC 3261 19.1.1")
    return Params.of_pairs(tuple(pairs), index)


def parse_port(text: str) -> int:
    """A port number, 0–65535. Raises PeerError."""
    return number(text, "port", 65535, "RFC 3261 19.1.1")


@lru_cache(maxsize=1024)
def _checked_address(text: str) -> str:
    """An IPv6 address as written. A third colon, which RFC 3261's grammar allowed, is forgiven (RFC 5118 4.10)."""
    address = text.replace(":::", "::")
    try:
        canonical_host(address)
    except ValueError:
        raise PeerError("malformed IPv6 address", clause="RFC 5954 4.1", octets=text.encode()) from None
    if ":" not in address:
        raise PeerError("an IPv4 address in brackets", clause="RFC 3261 25.1", octets=text.encode())
    return address


def is_host(text: str) -> bool:
    """True for what may stand as a host name or an address without brackets."""
    return _HOST.fullmatch(text) is not None


def parse_host(text: str) -> str:
    """A host name or address as written, brackets dropped. Raises PeerError."""
    found = _HOSTPORT.fullmatch(text)
    if found is None or found.group(3) is not None:
        raise peer_error("malformed host", text, "RFC 3261 25.1")
    return found.group(2) or _checked_address(found.group(1))


def unescape(text: str) -> str:
    """The text with those escapes undone that do not change its meaning; the others in upper case (RFC 3261 19.1.2)."""
    if "%" not in text:
        return text

    def undo(match: re.Match[str]) -> str:
        character = chr(int(match.group(1), 16))
        # Octets beyond ASCII and controls stay escaped: one escape is one octet, not one character.
        if character in _RESERVED or not "!" <= character <= "~" or character == "%":
            return match.group().upper()
        return character

    return _ESCAPE.sub(undo, text)


def _canonical(host: str) -> str:
    if ":" in host:
        try:
            return canonical_host(host)
        except ValueError:
            pass
    return host.lower()


def _bare_number(subscriber: str) -> str:
    """RFC 3966 4: visual separators do not count, hex digits have no case."""
    return _SEPARATORS.sub("", subscriber).lower()


def _params_match(one: Uri, other: Uri) -> bool:
    for name, value in one.params.items():
        if name in other.params:
            if _folded(value) != _folded(other.params[name]):
                return False
        elif name in _TELLING or one.scheme == "tel":
            return False
    if one.scheme == "tel":
        return len(one.params) == len(other.params)
    return all(name in one.params for name in _TELLING if name in other.params)


def _folded(value: str | None) -> str | None:
    return None if value is None else unescape(value).lower()


def _headers_match(one: Uri, other: Uri) -> bool:
    def told(uri: Uri) -> list[tuple[str, str]]:
        return sorted((unescape(name).lower(), unescape(value)) for name, value in uri.headers)

    return told(one) == told(other)
