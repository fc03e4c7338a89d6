"""What one UE is: its card's identities, its address, its P-CSCFs, its manners."""

from __future__ import annotations

from dataclasses import dataclass, field

from imslab.core.errors import LocalError
from imslab.core.flow import Endpoint
from imslab.ipsec.sa import require_legal
from imslab.roles.profiles import CONFORMANT, Profile


@dataclass(slots=True)
class UeConfig:
    """Configuration of a UE.

    host: its IP address, canonical text. port: the unprotected one. impi, impu, domain: of the ISIM, or made of the
    IMSI (core.numbering). pcscf: one or more, tried in turn; port 0 means 5060.
    ipsec: False registers without a security agreement (plain AKA).
    expires: seconds asked for. imei: for +sip.instance. access_network: P-Access-Network-Info, sent inside SAs only.
    transport, offers: override the profile's unless empty.
    subscribe: to the reg event package after registering (24.229 5.1.1.3).
    answer_calls, ring_time: pick up after so many seconds, or only ring.
    backoff, backoff_limit: seconds, base and bound of the waiting between attempts (RFC 5626 4.5).
    least_refresh: a registration is refreshed no sooner than this many seconds after it was granted.
    """

    host: str
    impi: str
    impu: str
    domain: str
    pcscf: tuple[Endpoint, ...]
    port: int = 5060
    profile: Profile = field(default=CONFORMANT)
    ipsec: bool = True
    expires: int = 600000
    imei: str = "35622410-483840-0"
    access_network: str = "3GPP-E-UTRAN-FDD;utran-cell-id-3gpp=0010100010000001"
    transport: str = ""
    offers: tuple[tuple[str, str], ...] = ()
    subscribe: bool = True
    answer_calls: bool = True
    ring_time: float = 2.0
    backoff: float = 30.0
    backoff_limit: float = 1800.0
    least_refresh: float = 10.0

    def __post_init__(self) -> None:
        """Raises LocalError: no P-CSCF, an unknown transport, an offer that no release knows."""
        if not self.pcscf:
            raise LocalError("a UE needs at least one P-CSCF")
        if self.transport not in ("", "auto", "udp", "tcp"):
            raise LocalError(f"transport {self.transport!r}: expected auto, udp or tcp")
        for alg, ealg in self.effective_offers:
            require_legal(alg, ealg)

    @property
    def effective_transport(self) -> str:
        """ "auto", "udp" or "tcp"."""
        return self.transport or self.profile.transport

    @property
    def effective_offers(self) -> tuple[tuple[str, str], ...]:
        """(alg, ealg) pairs of Security-Client."""
        return self.offers or self.profile.offers

    @property
    def home_uri(self) -> str:
        """The Request-URI of every REGISTER and the digest-uri: the home domain without a user part (24.229
        5.1.1.2.1).
        """
        return f"sip:{self.domain}"
