"""Nodes that do what a test tells them, and a pair of hosts that share SAs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from imslab.core import effects as fx
from imslab.core import events as ev
from imslab.core.flow import Endpoint, Flow, Transport
from imslab.core.sa import SaSet
from imslab.ipsec.sa import Offer, derive_set
from imslab.net.simulated import SimulatedNetwork
from imslab.trace.record import ListRecorder

IK = bytes(range(16))
CK = bytes(range(16, 32))

UE4, PCSCF4 = "10.0.0.1", "10.0.0.2"
UE6, PCSCF6 = "2001:db8::1", "2001:db8::2"
UC, US, PC, PS = 40001, 40002, 40003, 40004

EVERY_COMBINATION = [
    ("hmac-md5-96", "null"),
    ("hmac-md5-96", "aes-cbc"),
    ("hmac-md5-96", "des-ede3-cbc"),
    ("hmac-sha-1-96", "null"),
    ("hmac-sha-1-96", "aes-cbc"),
    ("hmac-sha-1-96", "des-ede3-cbc"),
    ("aes-gmac", "null"),
    ("null", "aes-gcm"),
]


class Toy:
    """Keeps every event with its time; answers it with the effects that `react` gives. `timer`: its next Timer."""

    def __init__(self, name: str, react: Callable[[ev.Event], list[fx.Effect] | None] | None = None) -> None:
        self.name = name
        self.react = react
        self.timer: float | None = None
        self.heard: list[tuple[float, ev.Event]] = []
        self.wishes: list[fx.Effect] = []

    def handle(self, event: ev.Event, now: float) -> None:
        self.heard.append((now, event))
        if isinstance(event, ev.Timer):
            self.timer = None
        if isinstance(event, ev.Command) and event.name == "do":
            self.wishes += event.arguments["effects"]
        if self.react is not None:
            self.wishes += self.react(event) or []

    def next_timer(self) -> float | None:
        return self.timer

    def take(self) -> list[fx.Effect]:
        wishes, self.wishes = self.wishes, []
        return wishes

    def of(self, kind: type[Any]) -> list[Any]:
        """The events of a kind."""
        return [event for _, event in self.heard if isinstance(event, kind)]

    @property
    def octets(self) -> bytes:
        """All that has arrived, joined."""
        return b"".join(event.octets for event in self.of(ev.Arrival))


class Lab:
    """A UE and a P-CSCF on one Gm link."""

    def __init__(self, seed: int = 0, **link: Any) -> None:
        self.recorder = ListRecorder()
        self.net = SimulatedNetwork(seed, self.recorder)
        self.ue, self.pcscf = Toy("ue"), Toy("pcscf")
        self.u = self.net.host(self.ue, [UE4, UE6])
        self.p = self.net.host(self.pcscf, [PCSCF4, PCSCF6])
        self.link = self.net.link(self.u, self.p, "Gm", **link)
        self.net.run(0)

    def do(self, who: Toy, *effects: fx.Effect, seconds: float = 1.0) -> None:
        """Let a node perform effects, and the clock run on."""
        self.net.command(who, "do", effects=effects)
        self.net.run(self.net.now + seconds)

    def protect(self, alg: str = "hmac-sha-1-96", ealg: str = "aes-cbc", **options: Any) -> None:
        """Install a set at both ends."""
        self.do(self.pcscf, fx.InstallSas(sas_of(PCSCF4, alg=alg, ealg=ealg, **options)))
        self.do(self.ue, fx.InstallSas(sas_of(UE4, alg=alg, ealg=ealg, **options)))


def sas_of(
    local: str,
    number: int = 1,
    *,
    alg: str = "hmac-sha-1-96",
    ealg: str = "aes-cbc",
    uc: int = UC,
    pc: int = PC,
    first_spi: int = 1001,
    lifetime: float = 600.0,
    ik: bytes = IK,
) -> SaSet:
    """A set between the UE and the P-CSCF, IPv6 when `local` is. first_spi: of the four consecutive SPIs."""
    ue_host, pcscf_host = (UE6, PCSCF6) if ":" in local else (UE4, PCSCF4)
    ue = Offer(first_spi, first_spi + 1, uc, US)
    pcscf = Offer(first_spi + 2, first_spi + 3, pc, PS)
    return derive_set(number, local, ue_host, ue, pcscf_host, pcscf, alg, ealg, CK, ik, lifetime)


def udp(local: tuple[str, int], remote: tuple[str, int]) -> Flow:
    return Flow(Transport.UDP, Endpoint(*local), Endpoint(*remote))


def tcp(local: tuple[str, int], remote: tuple[str, int]) -> Flow:
    return Flow(Transport.TCP, Endpoint(*local), Endpoint(*remote))


def listen(transport: Transport, host: str, port: int) -> fx.Listen:
    return fx.Listen(transport, Endpoint(host, port))


def echo(event: ev.Event) -> list[fx.Effect] | None:
    """Sends back what arrives."""
    return [fx.Send(event.flow, event.octets)] if isinstance(event, ev.Arrival) else None
