"""The SAs of a trace: found in security agreements, opened with whatever keys fit.

Security-Client of the UE's REGISTER and Security-Server of the 401 to the UE make a set of four SAs (33.203 7.2),
between the addresses of the IP packets that carried them (7.1). The keys are those of the challenge in the same 401.
What was really chosen is on nobody's word: of all pairs of announced algorithms and all keys that may belong to the
challenge, the first that verifies a packet of the set is believed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from imslab.core.errors import LocalError, PeerError
from imslab.core.flow import Endpoint
from imslab.core.sa import Sa
from imslab.ipsec.esp import Inspected, Opener
from imslab.ipsec.sa import COMBINATIONS
from imslab.sip.fields.security import SecurityMechanism
from imslab.trace.keys import ANYWHERE, KeyRing, SessionKeys
from imslab.trace.model import SaSetView, SaView

#: A capture's order is not quite that of arrival: a window wider than a receiver's tells repeats all the same.
WINDOW = 1024
#: How many SAs may bear the same SPI at the same host, the newest ones.
SAME_SPI = 8
#: How many announced mechanisms of one side are looked at.
MECHANISMS = 32
#: How many packets of a set are tried with everything; those after them with what is likeliest.
PATIENCE = 64
LIKELIEST = 4
#: What a transport-mode or tunnelled packet of IMS holds: IPv4, TCP, UDP, IPv6, nothing.
_PLAUSIBLE = frozenset((4, 6, 17, 41, 59))


class Side(NamedTuple):
    """What one side announced in one ipsec-3gpp mechanism; 0 or "" where it cannot be read."""

    spi_c: int
    spi_s: int
    port_c: int
    port_s: int
    alg: str
    ealg: str


def read_side(mechanism: SecurityMechanism) -> Side:
    """The mechanism's values, without an error for those that are missing or malformed."""
    value = mechanism.params.get
    return Side(
        _number(value("spi-c"), 0xFFFFFFFF),
        _number(value("spi-s"), 0xFFFFFFFF),
        _number(value("port-c"), 0xFFFF),
        _number(value("port-s"), 0xFFFF),
        (value("alg") or "").strip().lower(),
        (value("ealg") or "").strip().lower() or "null",
    )


def _number(text: str | None, limit: int) -> int:
    text = (text or "").strip()
    if not text.isascii() or not text.isdigit() or len(text) >= 20:
        return 0
    number = int(text)
    return number if number <= limit else 0


def sides(mechanisms: Iterable[SecurityMechanism]) -> list[Side]:
    """The ipsec-3gpp entries of a Security-Client, -Server or -Verify header, those with the highest q first."""
    found: list[tuple[float, Side]] = []
    for mechanism in list(mechanisms)[:MECHANISMS]:
        if mechanism.mechanism.lower() == "ipsec-3gpp":
            try:
                preference = mechanism.q
            except PeerError:
                preference = None
            found.append((0.0 if preference is None else -preference, read_side(mechanism)))
    return [side for _, side in sorted(found, key=lambda each: each[0])]


#: SPI, source and destination of the four SAs of a set.
_Flows = tuple[tuple[int, Endpoint, Endpoint], ...]


class _Choice(NamedTuple):
    """Algorithms that may be in use, and between what."""

    alg: str
    ealg: str
    flows: _Flows


class _Candidate:
    """One choice of algorithms and keys for the four SAs of a set."""

    __slots__ = ("announced", "openers", "sas")

    def __init__(self, sas: tuple[Sa, ...], announced: bool) -> None:
        self.sas = sas
        self.announced = announced
        self.openers: list[Opener | None] = [None] * len(sas)

    def inspect(self, index: int, packet: bytes) -> Inspected | None:
        """None when these algorithms cannot be."""
        opener = self.openers[index]
        if opener is None:
            try:
                opener = self.openers[index] = Opener(self.sas[index], WINDOW)
            except LocalError:
                return None
        return opener.inspect(packet)


class Association:
    """One set of SAs: four that an agreement made, or a single one from a key file.

    views: the SAs as the trace shows them, in the order of `imslab.core.sa`. rand: of the challenge, b"" if there was
    none. chosen: the SAs with their keys, once a packet has proved them.
    """

    __slots__ = (
        "_all_made",
        "_candidates",
        "_choices",
        "_failures",
        "_sessions",
        "chosen",
        "hosts",
        "impi",
        "rand",
        "views",
    )

    def __init__(
        self, hosts: tuple[str, str], choices: list[_Choice], rand: bytes, impi: str, views: list[SaView]
    ) -> None:
        self.hosts = hosts
        self.rand = rand
        self.impi = impi
        self.views = views
        self.chosen: _Candidate | None = None
        #: What was announced, likeliest first; none for a single SA.
        self._choices = choices
        self._candidates: list[_Candidate] = []
        self._all_made = True
        self._sessions: list[SessionKeys] = []
        self._failures = 0

    @classmethod
    def agreed(cls, ue: str, pcscf: str, client: list[Side], server: list[Side], rand: bytes, impi: str) -> Association:
        """The set that Security-Client and Security-Server make. client, server: at least one entry each."""
        pairs = [(_partner(entry, client), entry) for entry in server]
        # the UE takes the first of the P-CSCF's list that it supports (33.203 7.2)
        pairs.sort(key=lambda pair: (pair[0].alg, pair[0].ealg) != (pair[1].alg, pair[1].ealg))
        choices = [_Choice(server.alg, server.ealg, _flows(ue, pcscf, client, server)) for client, server in pairs]
        alg, ealg, flows = choices[0]
        views = [SaView(spi=spi, src=src, dst=dst, alg=alg, ealg=ealg) for spi, src, dst in flows]
        return cls((ue, pcscf), choices, rand, impi, views)

    @classmethod
    def given(cls, sa: Sa) -> Association:
        """A single SA from a key file."""
        made = cls((sa.src.host, sa.dst.host), [], b"", "", [_view(sa)])
        made._candidates = [_Candidate((sa,), announced=True)]
        return made

    @property
    def agreed_on(self) -> bool:
        """True for the set of an agreement, False for a single SA from a key file."""
        return bool(self._choices)

    @property
    def has_keys(self) -> bool:
        """True when there is something to try."""
        return bool(self._candidates)

    def use(self, keys: KeyRing) -> bool:
        """Make candidates of all keys that may belong to the challenge. True when there are more than before."""
        if not self._choices or self.chosen is not None:
            return False
        sessions = keys.sessions(self.rand, self.impi)
        if keys.sas:
            # an SA of a key file brings the keys of all four (33.203 6.2)
            spis = {spi for _, spi in self.addresses()}
            given = {(sa.ck, sa.ik): SessionKeys(sa.ck, sa.ik, None, "key file") for sa in keys.sas if sa.spi in spis}
            sessions.extend(given.values())
        if len(sessions) == len(self._sessions):
            return False
        self._sessions = sessions
        self._candidates = self._make(self._choices, announced=True)
        self._all_made = False
        return True

    def _make(self, choices: Iterable[_Choice], *, announced: bool) -> list[_Candidate]:
        return [
            _Candidate(tuple(Sa(*flow, alg, ealg, each.ik, each.ck) for flow in flows), announced)
            for alg, ealg, flows in choices
            for each in self._sessions
        ]

    def shown(self) -> SaSetView | None:
        """The set as the trace shows it; None for a single SA from a key file."""
        if not self._choices:
            return None
        ue, pcscf = self.hosts
        keyed = () if self.chosen is None else self.chosen.sas
        return SaSetView(ue=ue, pcscf=pcscf, rand=self.rand, impi=self.impi, sas=self.views, keyed=keyed)

    def addresses(self) -> Iterator[tuple[str, int]]:
        """Host and SPI of every SA that may be in the set."""
        if not self._choices:
            yield from ((view.dst.host, view.spi) for view in self.views)
        yield from {(dst.host, spi): None for choice in self._choices for spi, _, dst in choice.flows}

    def view(self, host: str, spi: int) -> SaView | None:
        """The SA of this SPI, inbound at this host."""
        for view in self.views:
            if view.spi == spi and view.dst.host in (host, ANYWHERE):
                return view
        return None

    def inspect(self, host: str, packet: bytes) -> Inspected | None:
        """What a packet to this host holds, as the SA it names says; the first sound one makes the choice.

        None: it could not be tried.
        """
        spi = int.from_bytes(packet[:4], "big")
        if self.chosen is not None:
            index = _index(self.chosen, host, spi)
            return None if index is None else self.chosen.inspect(index, packet)
        best = self._try(self._candidates, host, spi, packet)
        if self.chosen is None and not self._all_made:
            # none of what was announced: perhaps something else was installed
            self._all_made = True
            flows = self._choices[0].flows
            more = self._make((_Choice(*each, flows) for each in COMBINATIONS), announced=False)
            self._candidates.extend(more)
            other = self._try(more, host, spi, packet)
            if self.chosen is not None or best is None:
                best = other
        if self.chosen is not None or best is None:
            return None if best is None else best[1]
        if best[1].icv_ok and best[0].announced:
            self._choose(best[0])
        else:
            self._failures += 1
            if self._failures > PATIENCE:
                del self._candidates[LIKELIEST:]
        return best[1]

    def _try(
        self, candidates: list[_Candidate], host: str, spi: int, packet: bytes
    ) -> tuple[_Candidate, Inspected] | None:
        """The first candidate that makes sense of the packet is chosen; else the best that can be said."""
        best: tuple[_Candidate, Inspected] | None = None
        for candidate in candidates:
            index = _index(candidate, host, spi)
            result = None if index is None else candidate.inspect(index, packet)
            if result is None:
                continue
            # an ICV does not tell one cipher from another, the padding does: an unsound one waits for better
            if result.icv_ok and result.next_header in _PLAUSIBLE:
                self._choose(candidate)
                return candidate, result
            if best is None or (result.icv_ok and not best[1].icv_ok):
                best = candidate, result
        return best

    def _choose(self, candidate: _Candidate) -> None:
        self.chosen = candidate
        self._candidates = [candidate]
        for view, sa in zip(self.views, candidate.sas, strict=True):
            view.spi, view.src, view.dst, view.alg, view.ealg = sa.spi, sa.src, sa.dst, sa.alg, sa.ealg


class Associations:
    """All sets of a trace, by the host and SPI that a packet names."""

    __slots__ = ("_table", "_waiting", "all")

    def __init__(self, keys: KeyRing) -> None:
        self.all: list[Association] = []
        self._table: dict[tuple[str, int], list[Association]] = {}
        self._waiting: dict[bytes, list[Association]] = {}
        for sa in keys.sas:
            self.add(Association.given(sa), keys)

    def add(self, association: Association, keys: KeyRing) -> None:
        """A new set; the keys that are known already are used."""
        self.all.append(association)
        for key in association.addresses():
            same = self._table.setdefault(key, [])
            same.append(association)
            del same[:-SAME_SPI]
        if association.rand:
            self._waiting.setdefault(association.rand, []).append(association)
        association.use(keys)

    def proved(self) -> list[Sa]:
        """All SAs, with their keys, of sets in which a packet has verified."""
        return [sa for association in self.all if association.chosen is not None for sa in association.chosen.sas]

    def learned(self, rand: bytes, keys: KeyRing) -> list[Association]:
        """The sets that can be opened better now that something was learned about a challenge."""
        return [association for association in self._waiting.get(rand, ()) if association.use(keys)]

    def find(self, host: str, spi: int) -> list[Association]:
        """The sets that may own a packet to this host, the newest first."""
        found = self._table.get((host, spi))
        if found is None:
            found = self._table.get((ANYWHERE, spi), [])
        return found[::-1]


def _flows(ue: str, pcscf: str, client: Side, server: Side) -> _Flows:
    """SPI, source and destination of the four SAs (33.203 7.1): the SPI is the receiver's."""
    uc, us = Endpoint(ue, client.port_c), Endpoint(ue, client.port_s)
    pc, ps = Endpoint(pcscf, server.port_c), Endpoint(pcscf, server.port_s)
    return (server.spi_s, uc, ps), (client.spi_c, ps, uc), (client.spi_s, pc, us), (server.spi_c, us, pc)


def _partner(entry: Side, client: list[Side]) -> Side:
    """The UE's entry that goes with one of the P-CSCF's: the same algorithms, else the same alg, else its first."""
    for same in ((lambda each: (each.alg, each.ealg) == (entry.alg, entry.ealg)), lambda each: each.alg == entry.alg):
        for each in client:
            if same(each):
                return each
    return client[0]


def _index(candidate: _Candidate, host: str, spi: int) -> int | None:
    for index, sa in enumerate(candidate.sas):
        if sa.spi == spi and sa.dst.host in (host, ANYWHERE):
            return index
    return None


def _view(sa: Sa) -> SaView:
    return SaView(spi=sa.spi, src=sa.src, dst=sa.dst, alg=sa.alg, ealg=sa.ealg)
