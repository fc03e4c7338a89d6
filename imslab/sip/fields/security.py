"""Security-Client, Security-Server, Security-Verify (RFC 3329 2.2, 33.203 Annex H)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from imslab.sip.grammar import (
    LWS,
    NO_PARAMS,
    Params,
    is_token,
    number,
    parse_token_params,
    peer_error,
    write_token_params,
)

_CLAUSE = "33.203 Annex H"
_QVALUE = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


@dataclass(frozen=True, slots=True)
class SecurityMechanism:
    """One mechanism of the list. Values of `params` are as written: whether an SPI has its ten digits shows there.

    The properties read them, tokens in lower case, with the defaults of 33.203 Annex H; they raise PeerError for a
    value that is missing without a default or out of its range.
    """

    mechanism: str
    params: Mapping[str, str | None] = NO_PARAMS
    _raw: str = field(default="", init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if type(self.params) is not Params:
            object.__setattr__(self, "params", Params(self.params))

    @classmethod
    def parse(cls, text: str) -> SecurityMechanism:
        """Read one element of the list. Raises PeerError."""
        # An agreement is said three times, and read by both sides. Memory stays bounded.
        return _parse_known(text) if len(text) <= 192 else cls._parse(text)

    @classmethod
    def _parse(cls, text: str) -> SecurityMechanism:
        text = text.strip(LWS)
        made = cls(*parse_token_params(text, "security mechanism"))
        object.__setattr__(made, "_raw", text)
        return made

    def __str__(self) -> str:
        return self._raw or write_token_params(self.mechanism, self.params)

    @property
    def is_ipsec_3gpp(self) -> bool:
        """True for the mechanism of 33.203."""
        return self.mechanism.lower() == "ipsec-3gpp"

    @property
    def alg(self) -> str:
        """The integrity algorithm. Mandatory (33.203 Annex H)."""
        return self._token("alg")

    @property
    def ealg(self) -> str:
        """The encryption algorithm, "null" by default."""
        return self._token("ealg", "null")

    @property
    def prot(self) -> str:
        """ "esp" (the default) or "ah"."""
        return self._token("prot", "esp")

    @property
    def mod(self) -> str:
        """ "trans" (the default), "tun", "udp-enc-tun"."""
        return self._token("mod", "trans")

    @property
    def spi_c(self) -> int:
        """The SPI of the sender's inbound SA at its client port, 0–4294967295."""
        return number(self._value("spi-c"), "spi-c", clause=_CLAUSE)

    @property
    def spi_s(self) -> int:
        """The SPI of the sender's inbound SA at its server port, 0–4294967295."""
        return number(self._value("spi-s"), "spi-s", clause=_CLAUSE)

    @property
    def port_c(self) -> int:
        """The sender's protected client port, 1–65535."""
        return self._port("port-c")

    @property
    def port_s(self) -> int:
        """The sender's protected server port, 1–65535."""
        return self._port("port-s")

    @property
    def q(self) -> float | None:
        """The server's preference, 0 to 1; None if not written."""
        value = self.params.get("q")
        if value is None:
            return None
        if _QVALUE.fullmatch(value) is None:
            raise peer_error("security mechanism: malformed q", value, "RFC 3329 2.2")
        return float(value)

    def with_params(self, changes: Mapping[str, str | None]) -> SecurityMechanism:
        """This mechanism with some parameters replaced or added."""
        return SecurityMechanism(self.mechanism, Params(self.params).with_params(changes))

    def without_params(self, *names: str) -> SecurityMechanism:
        """This mechanism without some parameters."""
        return SecurityMechanism(self.mechanism, Params(self.params).without(*names))

    def _value(self, name: str) -> str:
        value = self.params.get(name)
        if value is None:
            raise peer_error(f"{self.mechanism}: {name} is missing", str(self), _CLAUSE)
        return value

    def _token(self, name: str, default: str | None = None) -> str:
        if default is not None and name not in self.params:
            return default
        value = self._value(name)
        if not is_token(value):
            raise peer_error(f"{self.mechanism}: {name} is no token", value, _CLAUSE)
        return value.lower()

    def _port(self, name: str) -> int:
        value = number(self._value(name), name, 65535, _CLAUSE)
        if value == 0:
            raise peer_error(f"{name}: 0 is no port", str(self), _CLAUSE)
        return value


_parse_known = lru_cache(maxsize=4096)(SecurityMechanism._parse)


def same_list(one: Sequence[SecurityMechanism], other: Sequence[SecurityMechanism]) -> bool:
    """True when two lists say the same, as Security-Verify must of Security-Server (RFC 3329 2.3.1, 33.203 7.2).

    Spacing, the case of names and tokens, the order of parameters and the splitting into rows do not count (they are
    free by RFC 3261 7.3.1). The order of the mechanisms, any added, missing or different value does: also an SPI
    written with another number of digits.
    """
    if list(one) == list(other):  # nearly always, to the letter
        return True
    return [_comparable(mechanism) for mechanism in one] == [_comparable(mechanism) for mechanism in other]


def _comparable(mechanism: SecurityMechanism) -> tuple[str, dict[str, str | None]]:
    params: dict[str, str | None] = {}
    for name, value in mechanism.params.items():
        # RFC 3261 7.3.1: unless otherwise stated, values are case-insensitive; quoted strings are case-sensitive.
        params[name.lower()] = value if value is None or value.startswith('"') else value.lower()
    return mechanism.mechanism.lower(), params
