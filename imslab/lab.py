"""A lab: five roles and their UEs on one network, made from a LabConfig. Here everything meets.

The core has addresses reserved for documentation (RFC 5737, RFC 3849), the UEs those of a private network.

                     Gm                       Mw                          Cx
    UE 10.n.n.n ──────────── P-CSCF ──────────────── I-CSCF ──────────────────── HSS
                                    └─────────────── S-CSCF ─────────────────────┘
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hss.node import HssConfig, HssNode
from hss.store import MemoryStore
from hss.subscriber import TUAK, AkaCredentials, PrivateIdentity, RegistrationSet, Subscriber
from imslab.aka.milenage import derive_opc
from imslab.aka.sqn import SqnWindow
from imslab.aka.tuak import derive_topc
from imslab.aka.usim import Usim
from imslab.config import LabConfig, LinkConfig, SubscriberConfig
from imslab.core.entropy import SeededEntropy
from imslab.core.errors import LocalError
from imslab.core.flow import Endpoint
from imslab.core.node import Node
from imslab.core.numbering import derive
from imslab.diameter.userdata import PublicIdentity, ServiceProfile
from imslab.net.host import Host
from imslab.net.simulated import SimulatedNetwork
from imslab.roles.cx_client import CxConfig
from imslab.roles.icscf import Icscf, IcscfConfig, ServerChoice
from imslab.roles.pcscf import Pcscf
from imslab.roles.pcscf_config import PcscfConfig
from imslab.roles.scscf import Scscf, ScscfConfig
from imslab.roles.ue import Ue
from imslab.roles.ue_config import UeConfig
from imslab.trace.keys import KeyRing
from imslab.trace.live import trace_of
from imslab.trace.model import Role
from imslab.trace.record import ListRecorder
from imslab.trace.trace import Trace

#: 2026-01-01 00:00 UTC: what the clock of a simulated run starts from, so that a seed gives the same capture always.
EPOCH = 1767225600.0

#: Role → address, for IPv4 and IPv6.
ADDRESSES: dict[int, dict[str, str]] = {
    4: {
        "gm": "192.0.2.1",
        "mw": "198.51.100.1",
        "icscf": "198.51.100.2",
        "scscf": "198.51.100.3",
        "hss": "198.51.100.4",
    },
    6: {
        "gm": "2001:db8:1::1",
        "mw": "2001:db8:2::1",
        "icscf": "2001:db8:2::2",
        "scscf": "2001:db8:2::3",
        "hss": "2001:db8:2::4",
    },
}


def ue_address(version: int, number: int) -> str:
    """The address of the UE of this number, from 1 to 4,000,000."""
    if version == 6:
        return f"2001:db8:10::{number:x}" if number < 0x10000 else f"2001:db8:10::{number >> 16:x}:{number & 0xFFFF:x}"
    return f"10.{number >> 16}.{number >> 8 & 0xFF}.{number & 0xFF}"


def credentials(subscriber: SubscriberConfig) -> AkaCredentials:
    """The keys of a subscriber as the HSS keeps them: OPc derived where OP was given."""
    k = subscriber.k.get_secret_value()
    opc = subscriber.opc.get_secret_value() if subscriber.opc else b""
    if subscriber.op is not None:
        derive = derive_topc if subscriber.algorithm == TUAK else derive_opc
        opc = derive(k, subscriber.op.get_secret_value())
    return AkaCredentials(k, opc, subscriber.algorithm, bytes.fromhex(subscriber.amf))


class Lab:
    """All boxes simulated, on the simulated network.

    record: False keeps no packets, for many UEs. ues: in the order of the configuration's subscribers.
    """

    def __init__(self, config: LabConfig, *, record: bool = True) -> None:
        self.config = config
        self.recorder = ListRecorder() if record else None
        self.net = SimulatedNetwork(config.seed, self.recorder)
        self._hosts: list[tuple[Host, Role]] = []
        place = ADDRESSES[config.ip]
        domain = config.home_domain
        names = {name: f"{name}.{domain}" for name in ("pcscf", "icscf", "scscf", "hss")}
        for name, full in names.items():
            self.net.names[full] = [place["mw" if name == "pcscf" else name]]
        self.net.names[domain] = [place["icscf"]]

        self.store = MemoryStore()
        for each in config.subscribers:
            self.store.add(self._subscriber(each))
        self.hss = HssNode(
            "hss",
            HssConfig(listen=(Endpoint(place["hss"], 3868),), origin_host=names["hss"], origin_realm=domain),
            self._entropy("hss"),
            config.hss.faults,
        )
        scscf_name = f"sip:{names['scscf']}:5060"
        self.scscf = Scscf(
            "scscf",
            ScscfConfig(
                local=Endpoint(place["scscf"], 5060),
                name=scscf_name,
                domain=domain,
                cx=self._cx("scscf", names["scscf"]),
                icscf=Endpoint(place["icscf"], 5060),
                expires_min=config.scscf.expires_min,
                expires_max=config.scscf.expires_max,
                reauthenticate=config.scscf.reauthenticate,
            ),
            self._entropy("scscf"),
            config.scscf.faults,
        )
        self.icscf = Icscf(
            "icscf",
            IcscfConfig(
                local=Endpoint(place["icscf"], 5060),
                domain=domain,
                cx=self._cx("icscf", names["icscf"]),
                servers=(ServerChoice(scscf_name),),
            ),
            self._entropy("icscf"),
            config.icscf.faults,
        )
        self.pcscf = Pcscf(
            "pcscf",
            PcscfConfig(
                gm=Endpoint(place["gm"], 5060),
                mw=Endpoint(place["mw"], 5060),
                icscf=(Endpoint(place["icscf"], 5060),),
                network=domain,
                algorithms=config.pcscf.algorithms,
            ),
            self._entropy("pcscf"),
            config.pcscf.faults,
        )
        self.ues = [self._ue(number, each) for number, each in enumerate(config.subscribers, 1)]
        self._build(place)

    # ---- what a lab can be asked

    @property
    def trace(self) -> Trace:
        """What has happened so far. Raises LocalError when nothing was recorded."""
        roles = {host.node.name: role for host, role in self._hosts}
        hosts = {host.node.name: host.addresses[0] for host, _ in self._hosts}
        return trace_of(self.recording, roles, hosts=hosts, epoch=EPOCH, keys=self.keys)

    @property
    def recording(self) -> ListRecorder:
        """All packets and events so far. Raises LocalError when nothing was recorded."""
        if self.recorder is None:
            raise LocalError("this lab was made to record nothing")
        return self.recorder

    @property
    def keys(self) -> KeyRing:
        """The subscribers' keys, with which every challenge can be checked."""
        ring = KeyRing()
        for ue, each in zip(self.ues, self.config.subscribers, strict=True):
            ring.add_subscriber(credentials(each).make_algorithm(), ue.config.impi)
        return ring

    def host(self, node: object) -> Host:
        """The host of a node of this lab, for `net.drop(lab.host(a) >> lab.host(b))` and its like."""
        for host, _ in self._hosts:
            if host.node is node:
                return host
        raise LocalError(f"{node!r} is no node of this lab")

    # ---- how it is made

    def _entropy(self, name: str) -> SeededEntropy:
        return SeededEntropy(self.config.seed, name)

    def _cx(self, role: str, name: str) -> CxConfig:
        place = ADDRESSES[self.config.ip]
        return CxConfig(
            origin_host=name,
            origin_realm=self.config.home_domain,
            local=place[role],
            hss=Endpoint(place["hss"], 3868),
        )

    def _identities(self, subscriber: SubscriberConfig) -> tuple[str, tuple[str, ...]]:
        """IMPI and IMPUs: those of the IMSI, unless the configuration names other public ones."""
        derived = derive(subscriber.imsi, self.config.home_domain)
        return derived.impi, subscriber.impus or (derived.impu,)

    def _subscriber(self, each: SubscriberConfig) -> Subscriber:
        impi, impus = self._identities(each)
        identities = [PublicIdentity(uri) for uri in impus]
        return Subscriber(
            (PrivateIdentity(impi, credentials(each), each.sqn),),
            (RegistrationSet((ServiceProfile(identities),)),),
        )

    def _ue(self, number: int, subscriber: SubscriberConfig) -> Ue:
        config = self.config
        impi, impus = self._identities(subscriber)
        name = f"ue{number}"
        return Ue(
            name,
            UeConfig(
                host=ue_address(config.ip, number),
                impi=impi,
                impu=impus[0],
                domain=config.home_domain,
                pcscf=(self.pcscf.config.gm,),
                transport=config.ue.transport,
                expires=config.ue.expires,
                offers=config.ue.algorithms,
                access_network=config.ue.access_network,
            ),
            Usim(credentials(subscriber).make_algorithm(), SqnWindow.at(subscriber.sqn_ms)),
            self._entropy(name),
            config.ue.faults if number == 1 else (),
        )

    def _build(self, place: dict[str, str]) -> None:
        add = self._add
        hss = add(self.hss, Role.HSS, place["hss"], store=self.store)
        scscf = add(self.scscf, Role.SCSCF, place["scscf"])
        icscf = add(self.icscf, Role.ICSCF, place["icscf"])
        pcscf = add(self.pcscf, Role.PCSCF, place["gm"], place["mw"])
        for ue in self.ues:
            add(ue, Role.UE, ue.config.host)
        links = self.config.links
        self._link(None, pcscf, "Gm", links.gm)
        self._link(pcscf, icscf, "Mw", links.mw)
        self._link(pcscf, scscf, "Mw", links.mw)
        self._link(icscf, scscf, "Mw", links.mw)
        self._link(icscf, hss, "Cx", links.cx)
        self._link(scscf, hss, "Cx", links.cx)

    def _add(self, node: Node, role: Role, *addresses: str, store: MemoryStore | None = None) -> Host:
        host = self.net.host(node, addresses, store=store)
        self._hosts.append((host, role))
        return host

    def _link(self, a: Host | None, b: Host, name: str, config: LinkConfig) -> None:
        self.net.link(
            a,
            b,
            name,
            delay=config.delay,
            loss=config.loss,
            duplicate=config.duplicate,
            reorder=config.reorder,
            mtu=config.mtu,
        )


@dataclass(frozen=True, slots=True)
class Result:
    """One step of the main job: what was tried, whether it came about, and when (seconds)."""

    step: str
    ok: bool
    time: float


#: Seconds of virtual time that one step may take: timer F on Gm is 128 s (24.229 7.7).
PATIENCE = 140.0


def main_job(lab: Lab) -> Iterator[Result]:
    """What `imslab run` plays: register, watch, exchange messages, re-register, de-register. Gives each step's result.

    Stops at the first step that fails: what comes after would only fail for the same reason.
    """
    first, others = lab.ues[0], lab.ues[1:]
    partner = others[0] if others else first
    hello = {"to": partner.config.impu, "text": "hello"}
    back = {"to": first.config.impu, "text": "hello yourself"}
    steps: list[tuple[str, list[Ask]]] = [
        ("register", [Ask(first, "register", {}, first, "registered"), Ask(first, "", {}, first, "notify")]),
        ("register the others", [Ask(ue, "register", {}, ue, "registered") for ue in others]),
        ("message to", [Ask(first, "message", hello, partner, "message-received")]),
        ("message from", [Ask(partner, "message", back, first, "message-received")]),
        ("re-register", [Ask(first, "reregister", {}, first, "sas-switched")]),
        ("de-register", [Ask(first, "deregister", {}, first, "deregistered")]),
        ("de-register the others", [Ask(ue, "deregister", {}, ue, "deregistered") for ue in others]),
    ]
    for name, asks in steps:
        seen = _seen(lab.recording, asks)
        for ask in asks:
            if ask.verb:
                lab.net.command(ask.ue, ask.verb, **ask.arguments)
        ok = lab.net.run_until(seen, PATIENCE)
        lab.net.run(lab.net.now + SETTLE)
        yield Result(name, ok, lab.net.now)
        if not ok:
            return


#: Seconds between steps, in which what is under way arrives.
SETTLE = 1.0


@dataclass(frozen=True, slots=True)
class Ask:
    """A command for a UE ("" for none), and by what it is known to have come about: what `where` then tells."""

    ue: Ue
    verb: str
    arguments: dict[str, str]
    where: Ue
    kind: str


def _seen(recording: ListRecorder, asks: list[Ask]) -> Callable[[], bool]:
    """True once everything asked for has been told of, from now on."""
    waiting = {(ask.where.name, ask.kind) for ask in asks}
    place = len(recording.events)

    def seen() -> bool:
        nonlocal place
        for event in recording.events[place:]:
            waiting.discard((event.node, event.kind))
        place = len(recording.events)
        return not waiting

    return seen
