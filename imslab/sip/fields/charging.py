"""P-Charging-Vector and P-Charging-Function-Addresses (RFC 7315 4.5, 4.6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from imslab.core.errors import LocalError
from imslab.sip.grammar import LWS, NO_PARAMS, Params, parse_pairs, peer_error, unquote


@dataclass(frozen=True, slots=True)
class ChargingVector:
    """The identity that ties charging records of one session or registration together."""

    params: Mapping[str, str | None] = NO_PARAMS
    _raw: str = field(default="", init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if type(self.params) is not Params:
            object.__setattr__(self, "params", Params(self.params))

    @classmethod
    def parse(cls, text: str) -> ChargingVector:
        """Raises PeerError, also when icid-value is missing (RFC 7315 5.6)."""
        text = text.strip(LWS)
        made = cls(Params.parse(";" + text, "P-Charging-Vector"))
        if not made.params.get("icid-value"):
            raise peer_error("P-Charging-Vector: icid-value is missing", text, "RFC 7315 5.6")
        object.__setattr__(made, "_raw", text)
        return made

    def __str__(self) -> str:
        return self._raw or str(self.params)[1:]

    @property
    def icid(self) -> str:
        """The IMS charging identity."""
        return Params(self.params).text("icid-value") or ""

    @property
    def generated_at(self) -> str | None:
        """The host that made the icid; None if not written."""
        return Params(self.params).text("icid-generated-at")

    @property
    def orig_ioi(self) -> str | None:
        """The inter-operator identifier of the sending network; None if not written."""
        return Params(self.params).text("orig-ioi")

    @property
    def term_ioi(self) -> str | None:
        """The inter-operator identifier of the answering network; None if not written."""
        return Params(self.params).text("term-ioi")

    def with_params(self, changes: Mapping[str, str | None]) -> ChargingVector:
        """This vector with some parameters replaced or added."""
        return ChargingVector(Params(self.params).with_params(changes))


@dataclass(frozen=True, slots=True)
class ChargingFunctionAddresses:
    """Where charging data goes. Names repeat: `ccf` for offline, `ecf` for online charging, in order of preference."""

    pairs: tuple[tuple[str, str | None], ...]
    _raw: str = field(default="", init=False, repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> ChargingFunctionAddresses:
        """Raises PeerError."""
        text = text.strip(LWS)
        made = cls(tuple(parse_pairs(";" + text, "P-Charging-Function-Addresses")))
        object.__setattr__(made, "_raw", text)
        return made

    def __str__(self) -> str:
        if self._raw:
            return self._raw
        if not self.pairs:
            raise LocalError("no charging function address")
        # Params checks each pair; names may repeat, so that each is written alone.
        return "".join([str(Params([pair])) for pair in self.pairs])[1:]

    @property
    def ccf(self) -> list[str]:
        """Charging collection functions, without quotes."""
        return [unquote(value) for name, value in self.pairs if name.lower() == "ccf" and value is not None]

    @property
    def ecf(self) -> list[str]:
        """Event charging functions, without quotes."""
        return [unquote(value) for name, value in self.pairs if name.lower() == "ecf" and value is not None]
