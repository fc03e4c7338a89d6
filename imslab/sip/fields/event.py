"""Event and Subscription-State (RFC 6665 8.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from imslab.sip.grammar import LWS, NO_PARAMS, Params, number, parse_token_params, write_token_params


@dataclass(frozen=True, slots=True)
class Event:
    """The package subscribed to, case-sensitive ("reg"), and its parameters."""

    package: str
    params: Mapping[str, str | None] = NO_PARAMS
    _raw: str = field(default="", init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if type(self.params) is not Params:
            object.__setattr__(self, "params", Params(self.params))

    @classmethod
    def parse(cls, text: str) -> Event:
        """Raises PeerError."""
        made = cls(*parse_token_params(text, "Event"))
        object.__setattr__(made, "_raw", text.strip(LWS))
        return made

    def __str__(self) -> str:
        return self._raw or write_token_params(self.package, self.params)

    @property
    def id(self) -> str | None:
        """Tells subscriptions of one dialog apart; None if not written."""
        return self.params.get("id")


@dataclass(frozen=True, slots=True)
class SubscriptionState:
    """What a NOTIFY says of its subscription. state: "active", "pending", "terminated", …, in lower case."""

    state: str
    params: Mapping[str, str | None] = NO_PARAMS
    _raw: str = field(default="", init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if type(self.params) is not Params:
            object.__setattr__(self, "params", Params(self.params))

    @classmethod
    def parse(cls, text: str) -> SubscriptionState:
        """Raises PeerError."""
        state, params = parse_token_params(text, "Subscription-State")
        made = cls(state.lower(), params)
        object.__setattr__(made, "_raw", text.strip(LWS))
        return made

    def __str__(self) -> str:
        return self._raw or write_token_params(self.state, self.params)

    @property
    def reason(self) -> str | None:
        """Why it ended, in lower case; None if not written."""
        value = self.params.get("reason")
        return None if value is None else value.lower()

    @property
    def expires(self) -> int | None:
        """Seconds left; None if not written. Raises PeerError."""
        return self._seconds("expires")

    @property
    def retry_after(self) -> int | None:
        """Seconds to wait before subscribing again; None if not written. Raises PeerError."""
        return self._seconds("retry-after")

    def _seconds(self, name: str) -> int | None:
        value = self.params.get(name)
        return None if value is None else number(value, name, clause="RFC 6665 8.2.3")
