"""P-Access-Network-Info (RFC 7315 4.4, 24.229 7.2A.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from imslab.sip.grammar import LWS, NO_PARAMS, Params, parse_token_params, write_token_params


@dataclass(frozen=True, slots=True)
class AccessNetworkInfo:
    """One access network. access_type: as written ("3GPP-E-UTRAN-FDD", "IEEE-802.11", …)."""

    access_type: str
    params: Mapping[str, str | None] = NO_PARAMS
    _raw: str = field(default="", init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if type(self.params) is not Params:
            object.__setattr__(self, "params", Params(self.params))

    @classmethod
    def parse(cls, text: str) -> AccessNetworkInfo:
        """Read one element of the list. Raises PeerError."""
        made = cls(*parse_token_params(text, "P-Access-Network-Info"))
        object.__setattr__(made, "_raw", text.strip(LWS))
        return made

    def __str__(self) -> str:
        return self._raw or write_token_params(self.access_type, self.params)

    @property
    def network_provided(self) -> bool:
        """True where the network, not the UE, vouches for it: a UE must not say so."""
        return "network-provided" in self.params
