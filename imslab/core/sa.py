"""Security associations as nodes, carriers and traces speak of them: plain data, no crypto.

One set is two pairs, four unidirectional SAs (33.203 7.1), always in this order:

    index  flow              SPI chosen by      traffic over UDP                      traffic over TCP
    0      UE:uc → P:ps      P-CSCF (spi_ps)    all requests and responses of the UE  the connection the UE opened
    1      P:ps  → UE:uc     UE     (spi_uc)    nothing                               the connection the UE opened
    2      P:pc  → UE:us     UE     (spi_us)    all requests and responses to the UE  the connection the P-CSCF opened
    3      UE:us → P:pc      P-CSCF (spi_pc)    nothing                               the connection the P-CSCF opened

`ipsec.sa` derives a set from what was negotiated; a carrier installs it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from imslab.core.flow import Endpoint


@dataclass(frozen=True, slots=True)
class Sa:
    """One unidirectional ESP SA in transport mode.

    spi: 32 bits; 256–4294967295 by RFC 4303 2.1, though some peers announce reserved ones.
    src, dst: the selectors, address and port, any transport.
    alg, ealg: tokens of 33.203 Annex H ("hmac-sha-1-96", "aes-cbc", "null", …).
    ik, ck: the AKA keys, 16 octets each, before the expansion of Annex I. Kept out of repr().
    """

    spi: int
    src: Endpoint
    dst: Endpoint
    alg: str
    ealg: str
    ik: bytes = field(repr=False)
    ck: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SaSet:
    """The four SAs that one authentication makes, seen from the node whose address is `local`.

    number: unique within the node that made it; UpdateSas and RemoveSas name a set by it.
    lifetime: seconds from its installation; the node's own timers end it, a carrier may put a net below that.
    """

    number: int
    local: str
    sas: tuple[Sa, Sa, Sa, Sa]
    lifetime: float

    @property
    def inbound(self) -> tuple[Sa, ...]:
        """The two SAs that arrive at `local`."""
        return tuple(sa for sa in self.sas if sa.dst.host == self.local)

    @property
    def outbound(self) -> tuple[Sa, ...]:
        """The two SAs that leave `local`."""
        return tuple(sa for sa in self.sas if sa.src.host == self.local)
