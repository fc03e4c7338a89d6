"""The UE's half of the security agreement: what it offers, what it takes, and the life of its SA sets (33.203 7).

    offered      SPIs and ports are in Security-Client, nothing is installed yet          (7.2: not before the 401)
    temporary    the card has accepted the challenge; lives reg-await-auth, 4 minutes     (24.229 5.1.1.5.1)
    established  the 200 has come; registration + 30 s, never shortened                   (7.4.1a)
    old          a newer set is established; goes when the P-CSCF has used the new one
                 and nothing is under way on this one any more, at latest when it expires (7.4.1a)
    ending       nobody is registered through it any more; goes when the transaction that ended
                 the registration is over, so that its repetitions are still answered    (24.229 5.1.1.6.2, 5.1.1.7)

At most one set is temporary, one established, one old: six SAs per direction, the bound of 7.1 rule 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from imslab.core.entropy import Entropy, random_int
from imslab.core.errors import LocalError, PeerError
from imslab.core.flow import Endpoint, Flow, Transport
from imslab.core.sa import SaSet
from imslab.ipsec import sa as ipsec
from imslab.roles.profiles import Profile
from imslab.sip.fields.security import SecurityMechanism

#: 24.229 5.1.1.5.1 and 7.8: how long a temporary set, and the authentication it belongs to, may take.
REG_AWAIT_AUTH = 240.0
#: 24.229 5.1.1.5.1: how much longer than the registration a set lives.
GRACE = 30.0

#: Where protected ports are chosen at random: outside the ranges that kernels hand out themselves.
FIRST_PORT, END_PORT = 20000, 30000


class Standing(StrEnum):
    """Where a set is in its life."""

    TEMPORARY = "temporary"
    ESTABLISHED = "established"
    OLD = "old"
    ENDING = "ending"


@dataclass(slots=True)
class UeOffer:
    """SPIs and ports of the UE for one authentication, and the Security-Client that says so."""

    spi_c: int
    spi_s: int
    port_c: int
    port_s: int
    security_client: str


@dataclass(slots=True)
class UeSet:
    """One SA set. security_server: the rows of the header, to be mirrored octet by octet in Security-Verify.

    expires_at: on the node's clock. heard: how many messages came through it. confirmed: the P-CSCF has used it after
    the 200.
    """

    sas: SaSet
    offer: UeOffer
    pcscf: str
    pcscf_port_c: int
    pcscf_port_s: int
    security_server: list[str]
    expires_at: float
    standing: Standing = Standing.TEMPORARY
    heard: int = 0
    confirmed: bool = False

    @property
    def number(self) -> int:
        """How effects and events name the set."""
        return self.sas.number

    def flow(self, transport: Transport, host: str) -> Flow:
        """Where the UE sends, requests and UDP answers alike: from port_uc to port_ps (33.203 7.1)."""
        return Flow(transport, Endpoint(host, self.offer.port_c), Endpoint(self.pcscf, self.pcscf_port_s))

    def carries(self, flow: Flow) -> bool:
        """True for a flow between a pair of ports of this set."""
        ports = flow.local.port, flow.remote.port
        return flow.remote.host == self.pcscf and ports in (
            (self.offer.port_c, self.pcscf_port_s),
            (self.offer.port_s, self.pcscf_port_c),
        )


class SaTable:
    """The UE's SA sets by number, and the ports that they hold (33.203 7.1 rules 5 to 7)."""

    __slots__ = ("_last", "port_s", "sets")

    def __init__(self) -> None:
        self.sets: dict[int, UeSet] = {}
        #: The protected server port: fixed until all identities are de-registered (33.203 7.1); 0: none yet.
        self.port_s = 0
        self._last = 0

    def standing(self, standing: Standing) -> UeSet | None:
        """The set that stands so; None if there is none."""
        for each in self.sets.values():
            if each.standing is standing:
                return each
        return None

    @property
    def temporary(self) -> UeSet | None:
        """The set of the authentication under way."""
        return self.standing(Standing.TEMPORARY)

    @property
    def established(self) -> UeSet | None:
        """The set of the latest successful authentication."""
        return self.standing(Standing.ESTABLISHED)

    @property
    def old(self) -> UeSet | None:
        """The set before that."""
        return self.standing(Standing.OLD)

    def spis(self) -> set[int]:
        """All SPIs of the sets that live, inbound and outbound: new ones differ from them (33.203 7.1)."""
        return {sa.spi for each in self.sets.values() for sa in each.sas.sas}

    def is_protected_port(self, port: int) -> bool:
        """True for a port on which nothing clear is sent or received (33.203 7.1)."""
        return port == self.port_s != 0 or any(
            port in (each.offer.port_c, each.offer.port_s) for each in self.sets.values()
        )

    def find(self, flow: Flow) -> UeSet | None:
        """The set whose ports a flow has."""
        return next((each for each in self.sets.values() if each.carries(flow)), None)

    def next_number(self) -> int:
        """A number for a new set."""
        self._last += 1
        return self._last

    def offer(
        self,
        entropy: Entropy,
        profile: Profile,
        pairs: Sequence[tuple[str, str]],
        avoid: int,
        *,
        before: UeOffer | None = None,
    ) -> UeOffer:
        """New SPIs, a new client port, the same server port if there is one; one entry for each (alg, ealg) pair.

        avoid: the unprotected port. before: the offer that this one must differ from.
        """
        spis = self.spis() | ({before.spi_c, before.spi_s} if before else set())
        spi_c, spi_s = ipsec.allocate_spis(entropy, spis)
        # 33.203 7.4.0: server ports stay, client ports change.
        busy = {avoid, *ipsec.CLEAR_PORTS, *(each.offer.port_c for each in self.sets.values())}
        if before is not None:
            busy.add(before.port_c)
        if not self.port_s:
            self.port_s = _free_port(entropy, profile.port_s, busy)
        port_c = _free_port(entropy, profile.port_c, busy | {self.port_s})
        return UeOffer(
            spi_c, spi_s, port_c, self.port_s, write_offer(profile, pairs, (spi_c, spi_s, port_c, self.port_s))
        )

    def add(self, made: UeSet) -> None:
        """Keep a new temporary set."""
        self.sets[made.number] = made

    def remove(self, number: int) -> UeSet | None:
        """Forget a set; None if it is gone already."""
        return self.sets.pop(number, None)


def _free_port(entropy: Entropy, first: int, busy: set[int]) -> int:
    if first and first not in busy:
        return first
    for _ in range(1000):
        port = random_int(entropy, FIRST_PORT, END_PORT)
        if port not in busy:
            return port
    raise LocalError(f"no free protected port between {FIRST_PORT} and {END_PORT}")


def write_offer(profile: Profile, pairs: Sequence[tuple[str, str]], numbers: tuple[int, int, int, int]) -> str:
    """The value of Security-Client: one ipsec-3gpp entry for each pair (33.203 7.2, Annex H).

    numbers: spi_c, spi_s, port_c, port_s.
    """
    spi_c, spi_s, port_c, port_s = numbers
    digits = 10 if profile.pad_spis else 1
    tail = f";spi-c={spi_c:0{digits}d};spi-s={spi_s:0{digits}d};port-c={port_c};port-s={port_s}"
    head = "ipsec-3gpp;prot=esp;mod=trans" if profile.prot_and_mod else "ipsec-3gpp"
    return ", ".join(f"{head};alg={alg};ealg={ealg}{tail}" for alg, ealg in pairs)


def choose_server(mechanisms: Sequence[SecurityMechanism], pairs: Sequence[tuple[str, str]]) -> SecurityMechanism:
    """The entry of Security-Server that the UE takes: the first by preference that it offered itself, as a whole.

    33.203 7.2: the first combination that the UE supports; RFC 3329 2.2: the higher q first, entries without q last,
    ties in the order of the list. Raises PeerError: none at all, one that is incomplete (24.229 5.1.1.5.1), none that
    the UE offered (33.203 7.3.2.2).
    """
    entries = [each for each in mechanisms if each.is_ipsec_3gpp]
    if not entries:
        raise PeerError("Security-Server with ipsec-3gpp is missing", clause="24.229 5.1.1.5.1")
    for each in entries:
        # Reading them is the check; an incomplete entry spoils the list.
        _ = each.spi_c, each.spi_s, each.port_c, each.port_s, each.alg
    offered = {(alg, ealg) for alg, ealg in pairs}
    by_preference = sorted(entries, key=lambda each: -1.0 if each.q is None else each.q, reverse=True)
    for each in by_preference:
        if (each.alg, each.ealg) in offered and each.prot == "esp" and each.mod == "trans":
            return each
    raise PeerError("Security-Server lists nothing that was offered", clause="33.203 7.3.2.2")
