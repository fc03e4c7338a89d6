"""Headers that hold an address: From, To, Contact, Route, Path, P-Asserted-Identity, … (RFC 3261 20.10, 25.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar, Self

from imslab.core.errors import LocalError
from imslab.sip.grammar import LWS, NO_PARAMS, QUOTED, TOKEN_CHARS, Params, number, peer_error, quote, unquote
from imslab.sip.uri import Uri

_CLAUSE = "RFC 3261 20.10"
_QUOTED = re.compile(QUOTED, re.DOTALL)
#: An unquoted display name: tokens and blanks.
_DISPLAY = re.compile(rf"[{TOKEN_CHARS} \t]*")
_QVALUE = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")

#: The URI of "Contact: *".
STAR_URI = Uri("*")


@dataclass(frozen=True, slots=True)
class NameAddr:
    """A URI with an optional display name, and the parameters of the header.

    display: what a human reads, without quotes and escapes; "" if there is none.
    Written in angle brackets, always (RFC 3261 20.10 wants them in most cases and allows them in all).
    """

    display: str
    uri: Uri
    params: Mapping[str, str | None] = NO_PARAMS
    _raw: str = field(default="", init=False, repr=False, compare=False)

    _what: ClassVar[str] = "address"

    def __post_init__(self) -> None:
        if type(self.params) is not Params:
            object.__setattr__(self, "params", Params(self.params))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read one value, not a list. Raises PeerError."""
        # Every box on the way reads it, in every message. Long ones are not worth remembering: memory stays bounded.
        return cls._parse_known(text) if len(text) <= 192 else cls._parse(text)

    @classmethod
    @lru_cache(maxsize=4096)
    def _parse_known(cls, text: str) -> Self:
        return cls._parse(text)

    @classmethod
    def _parse(cls, text: str) -> Self:
        text = text.strip(LWS)
        display = ""
        start = text.find("<")
        if text.startswith('"'):
            quoted = _QUOTED.match(text)
            if quoted is None:
                raise peer_error(f"{cls._what}: a quote is never closed", text, _CLAUSE)
            display = unquote(quoted.group())
            start = text.find("<", quoted.end())
            if start < 0 or text[quoted.end() : start].strip(LWS):
                raise peer_error(f"{cls._what}: <URI> was expected after the display name", text, _CLAUSE)
        elif start > 0:
            display = text[:start].rstrip(LWS)
            if _DISPLAY.fullmatch(display) is None:
                raise peer_error(f"{cls._what}: a display name that needs quotes", text, _CLAUSE)
        if start >= 0:
            end = text.find(">", start)
            if end < 0:
                raise peer_error(f"{cls._what}: < is never closed", text, _CLAUSE)
            uri = Uri.parse(text[start + 1 : end])
            rest = text[end + 1 :].lstrip(LWS)
        else:
            # RFC 3261 20.10: without brackets, what follows a semicolon belongs to the header, not to the URI; a URI
            # with a question mark or a comma needs brackets.
            end = text.find(";")
            written = text if end < 0 else text[:end].rstrip(LWS)
            if "?" in written or "," in written:
                raise peer_error(f"{cls._what}: this URI needs angle brackets", text, _CLAUSE)
            uri = Uri.parse(written)
            rest = "" if end < 0 else text[end:]
        value = cls(display, uri, Params.parse(rest, cls._what))
        object.__setattr__(value, "_raw", text)
        return value

    def __str__(self) -> str:
        if self._raw:
            return self._raw
        if "\r" in self.display or "\n" in self.display:
            raise LocalError(f"a display name of more than one line: {self.display!a}")
        display = f"{quote(self.display)} " if self.display else ""
        return f"{display}<{self.uri}>{self.params}"

    @property
    def tag(self) -> str | None:
        """The tag of From and To; None if there is none."""
        return self.params.get("tag")

    def with_params(self, changes: Mapping[str, str | None]) -> Self:
        """This address with some parameters replaced or added."""
        return type(self)(self.display, self.uri, Params(self.params).with_params(changes))

    def without_params(self, *names: str) -> Self:
        """This address without some parameters."""
        return type(self)(self.display, self.uri, Params(self.params).without(*names))


@dataclass(frozen=True, slots=True)
class Contact(NameAddr):
    """One Contact; `Contact: *` is one too."""

    _what: ClassVar[str] = "Contact"

    @classmethod
    def _parse(cls, text: str) -> Self:
        if text.strip(LWS) == "*":
            return cls("", STAR_URI)
        # Without arguments super() would look for the class that the dataclass decorator replaced.
        return super(Contact, cls)._parse(text)

    @property
    def is_star(self) -> bool:
        """True for `*`: all contacts (RFC 3261 10.2.2)."""
        return self.uri is STAR_URI

    def __str__(self) -> str:
        return "*" if self.is_star else NameAddr.__str__(self)

    @property
    def expires(self) -> int | None:
        """Seconds asked for or granted; None if not written. Raises PeerError when it is no delta-seconds."""
        value = self.params.get("expires")
        return None if value is None else number(value, "expires", clause="RFC 3261 20.10")

    @property
    def q(self) -> float | None:
        """The preference, 0 to 1; None if not written. Raises PeerError."""
        value = self.params.get("q")
        if value is None:
            return None
        if _QVALUE.fullmatch(value) is None:
            raise peer_error("Contact: malformed q", value, _CLAUSE)
        return float(value)

    @property
    def reg_id(self) -> int | None:
        """The flow's number (RFC 5626 4.2); None if not written. Raises PeerError."""
        value = self.params.get("reg-id")
        return None if value is None else number(value, "reg-id", 2**31 - 1, "RFC 5626 9")

    @property
    def instance(self) -> str | None:
        """The URN of the device, without quotes and angle brackets; None if not written."""
        value = self.params.get("+sip.instance")
        return None if value is None else unquote(value).strip("<>")
