"""A simulated host: it holds one node, performs its effects in order, and brings it its events and timers."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from imslab.core import effects as fx
from imslab.core import events as ev
from imslab.core.entropy import SeededEntropy
from imslab.core.errors import LocalError
from imslab.core.flow import Endpoint, Flow, Transport, canonical_host
from imslab.core.node import Node
from imslab.core.sa import SaSet
from imslab.net.link import Way
from imslab.net.stack import Stack, Stream

if TYPE_CHECKING:
    from imslab.net.simulated import Entry, SimulatedNetwork

#: Seconds of processing: for every event, or what the callable says of an event or an effect.
Cost = float | Callable[[ev.Event | fx.Effect], float]

#: A set is the node's to remove; the carrier's own net takes it away this many seconds after its lifetime.
SA_NET = 60.0

#: More events at one instant, from one cause, than any sane node makes: it talks to itself without end.
MOST_EVENTS_AT_ONCE = 100_000

#: Timer events at one instant: more, and the node's timer does not move.
MOST_TIMERS_AT_ONCE = 1000


class Store(Protocol):
    """Where a node's records are: what Load and Persist speak to."""

    def load(self, key: Any) -> Any:
        """The record, None when there is none."""

    def commit(self, change: Any) -> None:
        """Make the change durable before returning."""


class _Rest:
    """What follows a Persist, waiting for its commit. ending: see Host._perform."""

    __slots__ = ("effects", "ending", "persist")

    def __init__(self, persist: fx.Persist, effects: Iterator[fx.Effect], ending: Stream | None) -> None:
        self.persist = persist
        self.effects = effects
        self.ending = ending


class Host:
    """Made by `SimulatedNetwork.host`. `ue >> pcscf` names the way from one host to another.

    node, addresses: what it was made with. sa_install_fails: an error text makes every InstallSas fail with it, until
    it is "" again.
    """

    __slots__ = (
        "_cost",
        "_inbox",
        "_nets",
        "_network",
        "_spin",
        "_spin_at",
        "_stack",
        "_store",
        "_timer_due",
        "_wake",
        "_working",
        "addresses",
        "node",
        "receive",
        "sa_install_fails",
    )

    def __init__(
        self,
        network: SimulatedNetwork,
        node: Node,
        addresses: Sequence[str],
        store: Store | None,
        cost: Cost,
        seed: str,
    ) -> None:
        self.node = node
        self.addresses = tuple(canonical_host(address) for address in addresses)
        self.sa_install_fails = ""
        self._network = network
        self._stack = Stack(network, self, self.addresses, SeededEntropy(seed, node.name))
        #: An IP packet or fragment has arrived.
        self.receive = self._stack.receive
        self._store = store
        self._cost = _cost_function(cost)
        self._nets: dict[int, Entry] = {}
        self._inbox: deque[ev.Event | _Rest] = deque()
        self._working = False
        self._wake: Entry | None = None
        self._timer_due = False
        self._spin = 0
        self._spin_at = -1.0

    @property
    def name(self) -> str:
        """The node's."""
        return self.node.name

    @property
    def counters(self) -> Counter[str]:
        """What was dropped and why: names of /proc/net/xfrm_stat (see `sadb`) and of SNMP."""
        return self._stack.counters

    def set_cost(self, cost: Cost) -> None:
        """What processing takes from now on: see `SimulatedNetwork.host`."""
        self._cost = _cost_function(cost)

    @property
    def sets(self) -> dict[int, SaSet]:
        """The SA sets that are installed, by number."""
        return self._stack.sadb.sets

    def abort(self, flow: Flow) -> None:
        """Reset a TCP connection, as if its process had died; its node hears Closed. LocalError: there is none."""
        self._stack.abort(flow)

    def __rshift__(self, other: Host) -> Way:
        return Way(self, other)

    def __repr__(self) -> str:
        return f"<Host {self.name} {' '.join(self.addresses)}>"

    # -- events to the node ------------------------------------------------------------------------------------------

    def deliver(self, event: ev.Event) -> None:
        """Hand an event to the node, after those that wait already."""
        self._inbox.append(event)
        self.work()

    def tell(self, event: ev.Event) -> None:
        """Let an event wait for `work`."""
        self._inbox.append(event)

    def work(self) -> None:
        """Let the node handle what waits, until nothing does or it is busy to a later time."""
        if self._working or not self._inbox:
            return
        self._working = True
        inbox = self._inbox
        budget = MOST_EVENTS_AT_ONCE
        while inbox:
            budget -= 1
            if not budget:
                raise LocalError(f"{self.name} keeps itself busy without end at {self._network.now} s")
            step = inbox.popleft()
            if isinstance(step, _Rest):
                self._persist(step.persist)
                free = self._perform(step.effects, step.ending)
            elif self._cost is not None and (cost := self._cost(step)) > 0:
                self._network.schedule(self._network.now + cost, self._handle_later, step)
                free = False
            else:
                free = self._handle(step)
            if not free:
                return
        self._working = False

    def _go_on(self, free: bool) -> None:
        if free:
            self._working = False
            self.work()

    def _handle_later(self, event: ev.Event) -> None:
        self._go_on(self._handle(event))

    def _handle(self, event: ev.Event) -> bool:
        """Let the node handle one event and perform what it wants. False: that takes until a later time."""
        if isinstance(event, ev.Timer):
            self._timer_due = False
        self.node.handle(event, self._network.now)
        ending = self._stack.stream(event.flow) if isinstance(event, ev.Closed) else None
        return self._perform(iter(self.node.take()), ending)

    def _perform(self, effects: Iterator[fx.Effect], ending: Stream | None) -> bool:
        """Perform effects in order up to the first that fails. False: one of them takes until a later time.

        ending: a stream whose end by the peer the node is hearing of. Our side stays open until then, so that the
        node can answer what came before the end.
        """
        for effect in effects:
            if self._cost is not None and (cost := self._cost(effect)) > 0:
                later = self._network.now + cost
                if isinstance(effect, fx.Persist):
                    # Only this list waits for the commit; the node goes on with other events.
                    self._network.schedule(later, self._resume, _Rest(effect, effects, ending))
                    self._arm()
                    return True
                self._network.schedule(later, self._perform_later, (effect, effects, ending))
                return False
            if not _PERFORMERS[type(effect)](self, effect):
                break
        if ending is not None and ending.told:
            self._stack.close(ending)
        self._arm()
        return True

    def _perform_later(self, step: tuple[fx.Effect, Iterator[fx.Effect], Stream | None]) -> None:
        effect, effects, ending = step
        done = _PERFORMERS[type(effect)](self, effect)
        self._go_on(self._perform(effects if done else iter(()), ending))

    def _resume(self, rest: _Rest) -> None:
        self._inbox.append(rest)
        self.work()

    # -- the node's timer --------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        """See to it that the node gets its Timer."""
        if self._timer_due:
            return
        when = self.node.next_timer()
        if when is None:
            return
        if self._wake is not None:
            if self._wake[0] <= when:
                return  # it comes early, sees that, and is set again
            self._network.cancel(self._wake)
        self._wake = self._network.schedule(max(when, self._network.now), self._wake_up, None)

    def _wake_up(self, _: None) -> None:
        self._wake = None
        now = self._network.now
        when = self.node.next_timer()
        if when is None or when > now:
            self._arm()
            return
        self._spin = self._spin + 1 if self._spin_at == now else 0
        self._spin_at = now
        if self._spin > MOST_TIMERS_AT_ONCE:
            raise LocalError(f"{self.name} asks for a Timer at {when} s again and again, and it is {now} s")
        self._timer_due = True
        self.deliver(ev.Timer())

    # -- effects: False when one failed, and the event that says so waits in the inbox -------------------------------

    def _fail(self, flow: Flow, reason: str, key: object = None) -> bool:
        self._inbox.append(ev.Closed(flow, reason, key))
        return False

    def _listen(self, effect: fx.Listen) -> bool:
        reason = self._stack.listen(effect.transport, effect.local)
        if not reason:
            return True
        nobody = Endpoint("::" if ":" in effect.local.host else "0.0.0.0", 0)
        return self._fail(Flow(effect.transport, effect.local, nobody), reason)

    def _unlisten(self, effect: fx.Unlisten) -> bool:
        self._stack.unlisten(effect.transport, effect.local)
        return True

    def _connect(self, effect: fx.Connect) -> bool:
        reason = self._stack.connect(effect.flow, effect.key)
        return not reason or self._fail(effect.flow, reason, effect.key)

    def _close(self, effect: fx.Close) -> bool:
        stream = self._stack.stream(effect.flow)
        if stream is not None:
            self._stack.close(stream)
        return True

    def _send(self, effect: fx.Send) -> bool:
        flow = effect.flow
        if flow.transport is Transport.UDP:
            reason = self._stack.send_datagram(flow, effect.octets)
        else:
            reason = self._stack.send(flow, effect.octets)
            if reason and any(isinstance(event, ev.Closed) and event.flow == flow for event in self._inbox):
                return True  # the end of this stream waits to be told; the octets are lost with what was under way
        return not reason or self._fail(flow, reason)

    def _install(self, effect: fx.InstallSas) -> bool:
        sas = effect.sas
        try:
            if self.sa_install_fails:
                raise LocalError(self.sa_install_fails)
            if not self._stack.owns(sas.local):
                raise LocalError(f"{sas.local} is not an address of this host")
            self._stack.sadb.install(sas)
        except LocalError as error:
            self._note("sas-failed", f"SA set {sas.number}: {error}", {"number": sas.number, "error": str(error)})
            self._inbox.append(ev.SasFailed(sas.number, str(error)))
            return False
        self._spread_net(sas.number, sas.lifetime)
        self._note("install-sas", _describe(sas), {"number": sas.number, "lifetime": sas.lifetime, "sas": sas})
        self._inbox.append(ev.SasInstalled(sas.number))
        return True

    def _update(self, effect: fx.UpdateSas) -> bool:
        number, lifetime = effect.number, effect.lifetime
        if number not in self.sets:
            self._inbox.append(ev.SasFailed(number, f"there is no SA set {number}"))
            return False
        self._spread_net(number, lifetime)
        self._note("update-sas", f"SA set {number}: {lifetime:g} s from now", {"number": number, "lifetime": lifetime})
        return True

    def _remove(self, effect: fx.RemoveSas) -> bool:
        if self._stack.sadb.remove(effect.number) is not None:
            self._network.cancel(self._nets.pop(effect.number))
            self._note("remove-sas", f"SA set {effect.number}", {"number": effect.number})
        return True

    def _spread_net(self, number: int, lifetime: float) -> None:
        """Below the node's own timer, which has the SIP lifetime of the set."""
        old = self._nets.get(number)
        if old is not None:
            self._network.cancel(old)
        self._nets[number] = self._network.schedule(self._network.now + lifetime + SA_NET, self._expire, number)

    def _expire(self, number: int) -> None:
        del self._nets[number]
        self._stack.sadb.remove(number)
        self._note("sas-expired", f"SA set {number}: its node never removed it", {"number": number})
        self.deliver(ev.SaExpired(number))

    def _resolve(self, effect: fx.Resolve) -> bool:
        self._inbox.append(ev.Resolved(effect.name, self._network.resolve(effect.name, effect.port)))
        return True

    def _load(self, effect: fx.Load) -> bool:
        self._inbox.append(ev.Loaded(effect.key, self._stored().load(effect.key)))
        return True

    def _persist(self, effect: fx.Persist) -> bool:
        self._stored().commit(effect.change)
        self._inbox.append(ev.Committed(effect.change))
        return True

    def _stored(self) -> Store:
        if self._store is None:
            raise LocalError(f"{self.name} loads or persists, but its host was given no store")
        return self._store

    def _emit(self, effect: fx.Emit) -> bool:
        self._note(effect.kind, effect.text, effect.data)
        return True

    def _note(self, kind: str, text: str, data: Any) -> None:
        if self._network.recorder is not None:
            self._network.recorder.node(self._network.now, self.name, kind, text, data)


def _cost_function(cost: Cost) -> Callable[[ev.Event | fx.Effect], float] | None:
    """None where everything is free; a plain number is the price of an event, and effects come with it."""
    if callable(cost):
        return cost
    price = float(cost)
    if price < 0:
        raise LocalError(f"a cost of {price} s")
    return (lambda step: 0.0 if type(step) in _PERFORMERS else price) if price else None


def _describe(sas: SaSet) -> str:
    flows = ", ".join(f"{sa.src} → {sa.dst} SPI {sa.spi}" for sa in sas.sas)
    return f"SA set {sas.number}: {sas.sas[0].alg} {sas.sas[0].ealg}, {sas.lifetime:g} s: {flows}"


_PERFORMERS: dict[type, Callable[[Host, Any], bool]] = {
    fx.Send: Host._send,
    fx.Listen: Host._listen,
    fx.Unlisten: Host._unlisten,
    fx.Connect: Host._connect,
    fx.Close: Host._close,
    fx.InstallSas: Host._install,
    fx.UpdateSas: Host._update,
    fx.RemoveSas: Host._remove,
    fx.Resolve: Host._resolve,
    fx.Load: Host._load,
    fx.Persist: Host._persist,
    fx.Emit: Host._emit,
}
