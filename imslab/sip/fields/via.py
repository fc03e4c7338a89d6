"""Via (RFC 3261 20.42, RFC 3581)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from imslab.core.errors import LocalError
from imslab.sip.grammar import NO_PARAMS, TOKEN_CHARS, Params, is_token, number, peer_error
from imslab.sip.uri import is_host, parse_host, parse_port

_CLAUSE = "RFC 3261 20.42"
_VIA = re.compile(
    rf"([{TOKEN_CHARS}]+)[ \t]*/[ \t]*([{TOKEN_CHARS}]+)[ \t]*/[ \t]*([{TOKEN_CHARS}]+)[ \t]+"
    r"(\[[^\]]*\]|[A-Za-z0-9._\-]+)[ \t]*(?::[ \t]*([0-9]+)[ \t]*)?(?=;|\Z)"
)


@dataclass(frozen=True, slots=True)
class Via:
    """One hop. transport: upper case ("UDP", "TCP", …). host: without brackets. port: None if not written."""

    transport: str
    host: str
    port: int | None = None
    params: Mapping[str, str | None] = NO_PARAMS
    _raw: str = field(default="", init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if type(self.params) is not Params:
            object.__setattr__(self, "params", Params(self.params))

    @classmethod
    def parse(cls, text: str) -> Via:
        """Read one value, not a list. Raises PeerError."""
        # Every box on the way reads it, there and back. Long ones are not worth remembering: memory stays bounded.
        return _parse_known(text) if len(text) <= 128 else cls._parse(text)

    @classmethod
    def _parse(cls, text: str) -> Via:
        found = _VIA.match(text)
        if found is None:
            raise peer_error("Via: protocol, transport and sent-by were expected", text, _CLAUSE)
        name, version, transport, host, port = found.groups()
        if name.upper() != "SIP" or version != "2.0":
            raise peer_error("Via: not SIP/2.0", text, _CLAUSE)
        params = Params.parse(text[found.end() :], "Via")
        if host[0] == "[":
            host = parse_host(host)
        via = cls(transport.upper(), host, None if port is None else parse_port(port), params)
        object.__setattr__(via, "_raw", text)
        return via

    def __str__(self) -> str:
        if self._raw:
            return self._raw
        if not is_token(self.transport) or not is_host(self.host):
            raise LocalError(f"not a Via: transport {self.transport!a}, host {self.host!a}")
        return f"SIP/2.0/{self.transport} {self.sent_by}{self.params}"

    @property
    def sent_by(self) -> str:
        """host[:port], an IPv6 address in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def branch(self) -> str | None:
        """The transaction's name; None if there is none (RFC 2543)."""
        return self.params.get("branch")

    @property
    def received(self) -> str | None:
        """Where the request really came from, without brackets (both spellings exist: RFC 5118 4.5)."""
        value = self.params.get("received")
        return None if value is None else value.strip("[]")

    @property
    def rport(self) -> int | None:
        """The source port the next hop saw. None when absent or still empty; `"rport" in via.params` tells these apart.

        Raises PeerError when it is no port.
        """
        value = self.params.get("rport")
        return None if value is None else number(value, "rport", 65535, "RFC 3581 3")

    def with_params(self, changes: Mapping[str, str | None]) -> Via:
        """This Via with some parameters replaced or added."""
        return Via(self.transport, self.host, self.port, Params(self.params).with_params(changes))

    def without_params(self, *names: str) -> Via:
        """This Via without some parameters."""
        return Via(self.transport, self.host, self.port, Params(self.params).without(*names))


_parse_known = lru_cache(maxsize=4096)(Via._parse)
