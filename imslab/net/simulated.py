"""The simulated network: hosts, links and one clock that stands still until something is due.

    net = SimulatedNetwork(seed=1, recorder=ListRecorder())
    ue, pcscf = net.host(ue_node, ["10.0.0.1"]), net.host(pcscf_node, ["10.0.0.2"])
    net.link(ue, pcscf, name="Gm", delay=0.01, loss=0.05)
    net.command(ue, "register")
    with net.drop(pcscf >> ue, nth=1):
        net.run_until(lambda: ue_node.registered, timeout=60)

Everything that happens is an entry of one heap: a packet that arrives, a timer, the end of some processing. Entries of
the same time are taken in the order in which they were made. Nothing else moves the clock, and chance has a seed, so
the same seed gives the same packets at the same times, octet for octet.

Every hop carries real packets; a capture of the recorder's packets is a true capture.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Any

from imslab.core import events as ev
from imslab.core.errors import LocalError
from imslab.core.flow import Endpoint, canonical_host, pack_host
from imslab.core.node import Node
from imslab.net.host import Cost, Host, Store
from imslab.net.link import Delay, Fault, Link, Match, Transit, Treatment, Way, spoil
from imslab.trace.record import Recorder

#: [time, order, function, argument]; function None: cancelled.
Entry = list[Any]

#: More entries at one instant than any lab makes: the clock will never move again.
MOST_AT_ONCE = 10_000_000


class SimulatedNetwork:
    """Hosts and links under one virtual clock.

    now: seconds, from 0. recorder: told of every packet and of what nodes do; None keeps nothing.
    names: host name → addresses, or endpoints where the name service gives a port; what Resolve finds.
    hosts: by the names of their nodes.
    """

    def __init__(self, seed: int | str = 0, recorder: Recorder | None = None) -> None:
        self.now = 0.0
        self.recorder = recorder
        self.names: dict[str, Sequence[str | Endpoint]] = {}
        self.hosts: dict[str, Host] = {}
        self._seed = seed
        self._heap: list[Entry] = []
        self._order = 0
        self._at_once = 0
        self._owners: dict[bytes, Host] = {}
        self._links: dict[tuple[Host | None, Host | None], Link] = {}
        self._made = 0
        self._faults: list[Fault] = []

    # -- what there is -----------------------------------------------------------------------------------------------

    def host(self, node: Node, addresses: Sequence[str], *, store: Store | None = None, cost: Cost = 0.0) -> Host:
        """Give a node a host with these IP addresses. Its first event, Started, comes as soon as the clock runs.

        cost: seconds of processing for each event, during which others wait; or a callable that says it of each event
        and each effect. A Persist's cost is the time to its commit, for which only the rest of its list waits.
        Raises LocalError: a name or address that another host has, an address that is none.
        """
        if not addresses:
            raise LocalError(f"{node.name}: a host needs an address")
        if node.name in self.hosts:
            raise LocalError(f"two nodes with the name {node.name}")
        try:
            packed = [pack_host(canonical_host(address)) for address in addresses]
        except ValueError as error:
            raise LocalError(f"{node.name}: {error}") from error
        for octets, address in zip(packed, addresses, strict=True):
            if octets in self._owners:
                raise LocalError(f"{node.name} and {self._owners[octets].name} both have {address}")
        host = Host(self, node, addresses, store, cost, f"{self._seed}/host")
        self.hosts[node.name] = host
        self._owners.update(dict.fromkeys(packed, host))
        self.schedule(self.now, host.deliver, ev.Started())
        return host

    def link(
        self,
        a: Host | None,
        b: Host | None,
        name: str,
        *,
        delay: Delay = 0.0005,
        loss: float = 0.0,
        duplicate: float = 0.0,
        reorder: float = 0.0,
        mtu: int = 1500,
    ) -> Link:
        """Join two hosts, both ways; None stands for every host that has no link of its own to the other.

        name: the capture point ("Gm", "Mw", "Cx"); several links may share it. The rest is as Link says. A second
        link between the same two replaces the first.
        """
        seed = f"{self._seed}/link/{self._made}"
        link = Link(name, seed, delay=delay, loss=loss, duplicate=duplicate, reorder=reorder, mtu=mtu)
        self._made += 1
        self._links[a, b] = self._links[b, a] = link
        return link

    def route(self, source: Host, address: bytes) -> tuple[Link, Host] | None:
        """The link to the host with that address (packed), and that host; None when there is no way to it."""
        destination = self._owners.get(address)
        if destination is None:
            return None
        links = self._links
        for pair in ((source, destination), (None, destination), (source, None), (None, None)):
            link = links.get(pair)
            if link is not None:
                return link, destination
        return None

    def resolve(self, name: str, port: int) -> tuple[Endpoint, ...]:
        """What a name stands for, the asked port where the table names none; an IP address stands for itself."""
        try:
            return (Endpoint(canonical_host(name), port),)
        except ValueError:
            found = self.names.get(name.rstrip(".").lower(), ())
        return tuple(each if isinstance(each, Endpoint) else Endpoint(canonical_host(each), port) for each in found)

    # -- time --------------------------------------------------------------------------------------------------------

    def schedule(self, time: float, function: Callable[[Any], object], argument: Any) -> Entry:
        """Call function(argument) when the clock shows `time`. The entry can be cancelled."""
        self._order += 1
        entry: Entry = [time, self._order, function, argument]
        heapq.heappush(self._heap, entry)
        return entry

    def cancel(self, entry: Entry) -> None:
        """Make an entry void. That of a past time is no error."""
        entry[2] = entry[3] = None

    def at(self, time: float, call: Callable[[], object]) -> None:
        """Call something at a time, at once when it is past."""
        self.schedule(max(time, self.now), lambda _: call(), None)

    def command(self, who: Host | Node | str, verb: str, /, **arguments: Any) -> None:
        """Give a node a Command, as soon as the clock runs on."""
        name = who if isinstance(who, str) else who.name
        if name not in self.hosts:
            raise LocalError(f"there is no host {name}")
        self.schedule(self.now, self.hosts[name].deliver, ev.Command(verb, arguments))

    def step(self) -> bool:
        """Let the next thing happen. False when nothing will."""
        heap = self._heap
        while heap:
            time, _, function, argument = heapq.heappop(heap)
            if function is None:
                continue
            if time > self.now:
                self.now = time
                self._at_once = 0
            else:
                self._at_once += 1
                if self._at_once > MOST_AT_ONCE:
                    raise LocalError(f"the clock stands at {self.now} s: something happens there without end")
            function(argument)
            return True
        return False

    def _next_time(self) -> float | None:
        heap = self._heap
        while heap and heap[0][2] is None:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def run(self, until: float | None = None) -> None:
        """Let the clock run up to a time, which it shows then; None: until nothing more will happen."""
        while (time := self._next_time()) is not None and (until is None or time <= until):
            self.step()
        if until is not None:
            self.now = max(self.now, until)

    def run_until(self, predicate: Callable[[], bool], timeout: float) -> bool:
        """Let the clock run until the predicate holds, at most `timeout` seconds. Whether it holds."""
        limit = self.now + timeout
        while not predicate():
            time = self._next_time()
            if time is None or time > limit:
                self.now = limit
                return predicate()
            self.step()
        return True

    # -- packets -----------------------------------------------------------------------------------------------------

    def transmit(self, link: Link, way: Way, octets: bytes, clear: bytes) -> None:
        """Put an IP packet on a link: record it, then let faults and chance have it.

        clear: the datagram or segment in it before ESP, whole, for those who choose packets by what they say.
        """
        if self.recorder is not None:
            self.recorder.packet(self.now, link.name, octets)
        if self._faults:
            transit = Transit(self.now, link.name, way, octets, clear)
            for fault in list(self._faults):
                copies = fault.treat(transit)
                if copies is not None:
                    for later, copy in copies:
                        self._carry(link, way, copy, later)
                    return
        self._carry(link, way, octets, 0.0)

    def _carry(self, link: Link, way: Way, octets: bytes, later: float) -> None:
        receive = way.destination.receive
        for delay in link.delays():
            self.schedule(self.now + later + delay, receive, octets)

    # -- faults ------------------------------------------------------------------------------------------------------

    def fault(self, way: Way | None, treatment: Treatment, *, nth: int | None = 1, match: Match | None = None) -> Fault:
        """Treat chosen packets in any way; `drop` and its like are short for this.

        way: `ue >> pcscf`, None for every way. match: chooses by what is sent (see Transit); None: every packet counts.
        nth: the how-manieth that matches is treated, once; None: each, until the fault is cancelled or its block ends.
        The record has the packet as it was sent, not what a fault makes of it; `inject` puts into it what was sent.
        """
        return Fault(self._faults, treatment, way, nth, match)

    def drop(self, way: Way | None, *, nth: int | None = 1, match: Match | None = None) -> Fault:
        """Lose a packet."""
        return self.fault(way, lambda transit: [], nth=nth, match=match)

    def duplicate(self, way: Way | None, *, nth: int | None = 1, match: Match | None = None) -> Fault:
        """Let a packet arrive twice at the same time."""
        return self.fault(way, lambda transit: [(0.0, transit.octets)] * 2, nth=nth, match=match)

    def replay(self, way: Way | None, after: float, *, nth: int | None = 1, match: Match | None = None) -> Fault:
        """Let a packet arrive once more, `after` seconds later."""
        return self.fault(way, lambda transit: [(0.0, transit.octets), (after, transit.octets)], nth=nth, match=match)

    def hold(self, way: Way | None, seconds: float, *, nth: int | None = 1, match: Match | None = None) -> Fault:
        """Let a packet arrive later, so that others overtake it."""
        return self.fault(way, lambda transit: [(seconds, transit.octets)], nth=nth, match=match)

    def corrupt(
        self,
        way: Way | None,
        change: Callable[[bytes], bytes] = spoil,
        *,
        nth: int | None = 1,
        match: Match | None = None,
    ) -> Fault:
        """Damage a packet. change: what the IP packet becomes; by default its last octet is another."""
        return self.fault(way, lambda transit: [(0.0, change(transit.octets))], nth=nth, match=match)

    def inject(self, octets: bytes, at: Host, *, after: float = 0.0, point: str = "") -> None:
        """Put a packet of one's own on the wire, so that it arrives at a host now or `after` seconds later.

        It is recorded at that time under `point` when that is given.
        """

        def arrive(_: None) -> None:
            if point and self.recorder is not None:
                self.recorder.packet(self.now, point, octets)
            at.receive(octets)

        self.schedule(self.now + after, arrive, None)
