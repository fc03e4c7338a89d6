"""A fake link for unit tests of nodes: no packets, no ESP, no loss — every effect of one node is an event of another.

The real carriers are tested elsewhere; here only the order of effects and the messages in them matter. Everything that
was performed is kept in `log` as (time, node name, effect).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from imslab.core import effects as fx
from imslab.core import events as ev
from imslab.core.flow import Endpoint, Flow, Transport
from imslab.core.node import Node
from imslab.core.sa import SaSet
from imslab.sip.message import Message
from imslab.sip.parser import parse


class Wire:
    """Nodes by the hosts they own. `run(until)` plays events and timers; `settle()` plays without letting time pass."""

    def __init__(self, names: dict[str, str] | None = None) -> None:
        self.now = 0.0
        self.nodes: dict[str, Node] = {}
        self.stores: dict[str, Any] = {}
        self.names = names or {}
        self.log: list[tuple[float, str, fx.Effect]] = []
        self.listening: set[tuple[Transport, Endpoint]] = set()
        self.connections: set[Flow] = set()
        self.sets: dict[str, dict[int, SaSet]] = {}
        self.queue: deque[tuple[Node, ev.Event]] = deque()
        #: Return False to lose what a node sends.
        self.passes: Callable[[str, fx.Send], bool] = lambda name, send: True
        #: Return an error to make an InstallSas fail.
        self.sa_error: Callable[[str, SaSet], str | None] = lambda name, sas: None
        self._ephemeral = 40000

    def add(self, node: Node, *hosts: str, store: Any = None) -> None:
        """Give a node its addresses and start it."""
        for host in hosts:
            self.nodes[host] = node
        self.stores[node.name] = store
        self.sets[node.name] = {}
        self.give(node, ev.Started())

    def give(self, node: Node, event: ev.Event) -> None:
        """Deliver one event and everything that follows from it at this moment."""
        self.queue.append((node, event))
        self.settle()

    def command(self, node: Node, name: str, **arguments: Any) -> None:
        """An operator's command."""
        self.give(node, ev.Command(name, arguments))

    def settle(self) -> None:
        """Play until nothing more happens at this moment."""
        for _ in range(100_000):
            if not self.queue:
                return
            node, event = self.queue.popleft()
            node.handle(event, self.now)
            for effect in node.take():
                self.log.append((self.now, node.name, effect))
                if not self._perform(node, effect):
                    break
        raise AssertionError("nodes keep each other busy without end")

    def run(self, until: float) -> None:
        """Let time pass up to `until`, with all timers on the way."""
        self.settle()
        for _ in range(100_000):
            due = [
                (when, node.name, node)
                for node in {id(n): n for n in self.nodes.values()}.values()
                if (when := node.next_timer()) is not None and when <= until
            ]
            if not due:
                self.now = until
                return
            when, _, node = min(due, key=lambda item: item[:2])
            self.now = max(self.now, when)
            self.give(node, ev.Timer())
        raise AssertionError("timers without end")

    def sent(self, name: str) -> list[Message]:
        """The SIP messages that a node has sent over UDP or whole over a stream."""
        return [
            parse(e.octets)
            for _, who, e in self.log
            if who == name and isinstance(e, fx.Send) and b"SIP/2.0" in e.octets
        ]

    def emitted(self, name: str) -> list[str]:
        """The kinds of what a node told humans."""
        return [e.kind for _, who, e in self.log if who == name and isinstance(e, fx.Emit)]

    # ---- effects

    def _set_of(self, node: Node, local: Endpoint, remote: Endpoint) -> int | None:
        for number, sas in self.sets[node.name].items():
            if any({sa.src, sa.dst} == {local, remote} for sa in sas.sas):
                return number
        return None

    def _perform(self, node: Node, effect: fx.Effect) -> bool:
        match effect:
            case fx.Listen(transport, local):
                self.listening.add((transport, local))
            case fx.Unlisten(transport, local):
                self.listening.discard((transport, local))
            case fx.Connect(flow, key):
                self._connect(node, flow, key)
            case fx.Close(flow):
                self._close(node, flow)
            case fx.Send(flow, octets):
                self._send(node, effect, flow, octets)
            case fx.InstallSas(sas):
                error = self.sa_error(node.name, sas)
                if error is not None:
                    self.queue.append((node, ev.SasFailed(sas.number, error)))
                    return False
                self.sets[node.name][sas.number] = sas
                self.queue.append((node, ev.SasInstalled(sas.number)))
            case fx.RemoveSas(number):
                self.sets[node.name].pop(number, None)
            case fx.Resolve(name, port, _):
                found = self.names.get(name)
                endpoints = (Endpoint(found, port),) if found else ()
                self.queue.append((node, ev.Resolved(name, endpoints)))
            case fx.Load(key):
                self.queue.append((node, ev.Loaded(key, self.stores[node.name].load(key))))
            case fx.Persist(change):
                self.stores[node.name].commit(change)
                self.queue.append((node, ev.Committed(change)))
        return True

    def _connect(self, node: Node, flow: Flow, key: object) -> None:
        if flow.local.port == 0:
            self._ephemeral += 1
            flow = flow._replace(local=Endpoint(flow.local.host, self._ephemeral))
        peer = self.nodes.get(flow.remote.host)
        if peer is None or (flow.transport, flow.remote) not in self.listening:
            self.queue.append((node, ev.Closed(flow, "refused", key)))
            return
        self.connections |= {flow, flow.reversed}
        self.queue.append((peer, ev.Connected(flow.reversed, None, self._set_of(peer, flow.remote, flow.local))))
        self.queue.append((node, ev.Connected(flow, key, self._set_of(node, flow.local, flow.remote))))

    def _close(self, node: Node, flow: Flow) -> None:
        if flow in self.connections:
            self.connections -= {flow, flow.reversed}
            self.queue.append((self.nodes[flow.remote.host], ev.Closed(flow.reversed)))

    def _send(self, node: Node, effect: fx.Send, flow: Flow, octets: bytes) -> None:
        peer = self.nodes.get(flow.remote.host)
        if peer is None or not self.passes(node.name, effect):
            return
        if flow.transport.is_stream:
            if flow not in self.connections:
                return
        elif (flow.transport, flow.remote) not in self.listening:
            return
        arrival = ev.Arrival(flow.reversed, octets, self._set_of(peer, flow.remote, flow.local))
        self.queue.append((peer, arrival))
