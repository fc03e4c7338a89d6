"""A UE and a P-CSCF made of canned answers, on a Wire.

The fake knows no roles code: it takes messages apart by hand, computes the digest with hashlib, and says whatever a
test wants it to say. What it expects of the UE, the tests say.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Callable, Iterable
from typing import Any

from imslab.aka.milenage import Milenage
from imslab.aka.usim import Usim
from imslab.aka.vector import Vector, generate
from imslab.core import effects as fx
from imslab.core import events as ev
from imslab.core.entropy import SeededEntropy
from imslab.core.flow import Endpoint, Flow, Transport
from imslab.roles.ue import Ue, UeConfig
from imslab.roles.ue_sas import UeSet
from imslab.roles.ue_states import State
from imslab.sip.message import Message, Request, Response, response_to
from imslab.sip.parser import StreamFramer, parse
from tests.roles.wire import Wire

K = bytes.fromhex("465b5ce8b199b49faa5f0a2ee238a6bc")
OPC = bytes.fromhex("cd63cb71954a9f4e48a5994e37a02baf")
DOMAIN = "ims.mnc001.mcc001.3gppnetwork.org"
IMPI = f"001010000000001@{DOMAIN}"
IMPU = f"sip:{IMPI}"
UE_HOST, PCSCF_HOST = "192.0.2.1", "192.0.2.2"
PORT_PS = 6001
SECURITY_SERVER = (
    "ipsec-3gpp;q=0.5;alg=hmac-sha-1-96;ealg=aes-cbc;spi-c={c};spi-s={s};port-c={p};port-s=6001, "
    "ipsec-3gpp;q=0.4;alg=hmac-sha-1-96;ealg=null;spi-c={c};spi-s={s};port-c={p};port-s=6001"
)

#: What to do with a request: called in place of the default.
Reaction = Callable[["FakePcscf", Request, ev.Arrival], None]


def md5(*parts: bytes | str) -> str:
    """RFC 2617's H over parts joined by colons."""
    octets = [part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part for part in parts]
    return hashlib.md5(b":".join(octets), usedforsecurity=False).hexdigest()


class FakePcscf:
    """A node that answers REGISTER as a network would, and everything else with 200, unless told otherwise.

    next: reactions for the coming requests, by method. heard: all messages that came, with how they came.
    """

    def __init__(self, name: str = "pcscf", host: str = PCSCF_HOST, ue: str = UE_HOST) -> None:
        self.name = name
        self.host = host
        self.ue = ue
        self.algorithm = Milenage(K, OPC)
        self.sqn = 32
        self.random = SeededEntropy(1, name)
        self.next: dict[str, list[Reaction]] = {}
        self.heard: list[tuple[Message, ev.Arrival]] = []
        self.vector: Vector | None = None
        self.spi = 1000
        self.granted = 3600
        self.qop: str | None = None
        self.digest = "AKAv1-MD5"
        self.rechallenge = True
        self.headers: list[tuple[str, str]] = [
            ("Path", "<sip:term@pcscf.example.org;lr>"),
            ("Service-Route", "<sip:orig@scscf.example.org;lr>"),
            ("P-Associated-URI", f"<{IMPU}>, <sip:alice@{DOMAIN}>"),
        ]
        self.port_pc = 6100
        self.ports: dict[int, int] = {}  # port_uc → port_pc
        self.cseq = 0
        self.effects: list[fx.Effect] = []
        self.framers: dict[Flow, StreamFramer] = {}

    # ---- Node

    def handle(self, event: ev.Event, now: float) -> None:
        match event:
            case ev.Started():
                for transport in (Transport.UDP, Transport.TCP):
                    for port in (5060, PORT_PS):
                        self.effects.append(fx.Listen(transport, Endpoint(self.host, port)))
            case ev.Connected(flow):
                self.framers[flow] = StreamFramer()
            case ev.Arrival(flow, octets) if flow.transport.is_stream:
                for each in self.framers[flow].feed(octets):
                    self.take_in(parse(each), event)
            case ev.Arrival(_, octets):
                self.take_in(parse(octets), event)

    def next_timer(self) -> float | None:
        return None

    def take(self) -> list[fx.Effect]:
        taken, self.effects = self.effects, []
        return taken

    def take_in(self, message: Message, arrival: ev.Arrival) -> None:
        self.heard.append((message, arrival))
        if not isinstance(message, Request):
            return
        waiting = self.next.get(message.method, [])
        if waiting:
            waiting.pop(0)(self, message, arrival)
        elif message.method == "REGISTER":
            self.on_register(message, arrival)
        elif message.method == "SUBSCRIBE":
            self.reply(message, arrival, 200, [("Expires", message.get("Expires") or ""), ("Contact", "<sip:s@x>")])
        elif message.method != "ACK":
            self.reply(message, arrival, 200)

    # ---- what it says

    def on_register(self, request: Request, arrival: ev.Arrival) -> None:
        credentials = request.authorization[0]
        protected = arrival.flow.local.port == PORT_PS
        temporary = self.vector is not None and credentials.nonce == self.nonce()
        if credentials.response and temporary and self.is_right(request):
            if self.is_fresh:
                self.is_fresh = False
                self.reply(request, arrival, 200, self.ok_headers(request))
                return
            if not self.rechallenge:
                self.reply(request, arrival, 200, self.ok_headers(request))
                return
        if protected and not self.rechallenge and request.get("Expires") == "0":
            self.reply(request, arrival, 200, self.ok_headers(request))
            return
        self.challenge(request, arrival)

    is_fresh = False

    def ok_headers(self, request: Request) -> list[tuple[str, str]]:
        expires = 0 if request.get("Expires") == "0" else self.granted
        return [*self.headers, ("Contact", f"{request.get('Contact')};expires={expires}")]

    def new_vector(self) -> Vector:
        self.sqn += 32
        self.vector = generate(self.algorithm, self.random.octets(16), self.sqn, b"\x80\x00")
        return self.vector

    def nonce(self) -> str:
        assert self.vector is not None
        return b64encode(self.vector.rand + self.vector.autn).decode()

    def challenge_headers(self, **changes: str | None) -> list[tuple[str, str]]:
        """WWW-Authenticate of the present vector, and Security-Server; changes: parameters, None leaves one out."""
        params: dict[str, str | None] = {
            "realm": f'"{DOMAIN}"',
            "nonce": f'"{self.nonce()}"',
            "algorithm": self.digest,
            "qop": None if self.qop is None else f'"{self.qop}"',
        }
        params.update(changes)
        written = ", ".join(f"{name}={value}" for name, value in params.items() if value is not None)
        return [("WWW-Authenticate", f"Digest {written}"), ("Security-Server", self.security_server())]

    def security_server(self) -> str:
        return SECURITY_SERVER.format(c=self.spi, s=self.spi + 1, p=self.port_pc)

    def new_set(self, request: Request) -> None:
        """New SPIs and a new client port, for the set that comes of this REGISTER (33.203 7.4.0)."""
        self.spi += 10
        self.port_pc += 1
        self.ports[offer_of(request).get("port-c", 0)] = self.port_pc

    def challenge(self, request: Request, arrival: ev.Arrival, **changes: str | None) -> None:
        self.new_vector()
        self.new_set(request)
        self.is_fresh = True
        self.reply(request, arrival, 401, self.challenge_headers(**changes))

    def is_right(self, request: Request) -> bool:
        assert self.vector is not None
        c = request.authorization[0]
        a1 = md5(c.username or "", c.realm or "", self.vector.xres)
        a2 = md5("REGISTER", c.uri or "")
        if c.qop == "auth-int":
            a2 = md5("REGISTER", c.uri or "", md5(request.body))
        if c.qop:
            return c.response == md5(a1, c.nonce or "", c.get("nc") or "", c.cnonce or "", c.qop, a2)
        return c.response == md5(a1, c.nonce or "", a2)

    def way_back(self, request: Request, arrival: ev.Arrival) -> Flow:
        """Clear: where it came from. Inside: on the connection, or from port_pc to the port of the Via."""
        flow = arrival.flow
        if flow.transport.is_stream or flow.local.port == 5060:
            return flow
        via = request.via[0]
        own = Endpoint(self.host, self.ports.get(flow.remote.port, self.port_pc))
        return Flow(Transport.UDP, own, Endpoint(flow.remote.host, via.port or 5060))

    def reply(
        self,
        request: Request,
        arrival: ev.Arrival,
        status: int,
        headers: Iterable[tuple[str, str]] = (),
        *,
        flow: Flow | None = None,
        to_tag: str = "network",
        body: bytes = b"",
    ) -> None:
        response = response_to(request, status, to_tag=to_tag, headers=headers)
        response.body = body
        self.send(flow or self.way_back(request, arrival), response)

    def send(self, flow: Flow, message: Message) -> None:
        self.effects.append(fx.Send(flow, message.encode()))

    def make(
        self,
        method: str,
        port_us: int,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        *,
        to: str = f"<{IMPU}>",
        call_id: str = "",
        transport: str = "UDP",
        branch: str = "",
        cseq: int | None = None,
    ) -> Request:
        """A request for the UE, with a Via that bears port_ps (24.229 5.2.6)."""
        self.cseq += 1
        number = self.cseq if cseq is None else cseq
        return Request(
            method,
            f"sip:ue@{self.ue}:{port_us}",
            [
                ("Via", f"SIP/2.0/{transport} {self.host}:{PORT_PS};branch={branch or f'z9hG4bKf{self.cseq}'}"),
                ("Max-Forwards", "68"),
                ("From", "<sip:bob@example.org>;tag=bob"),
                ("To", to),
                ("Call-ID", call_id or f"fake-{self.cseq}"),
                ("CSeq", f"{number} {method}"),
                *headers,
            ],
            body,
        )


def in_set(sas: UeSet, transport: Transport = Transport.UDP) -> Flow:
    """How the P-CSCF reaches the UE inside a set: port_pc → port_us."""
    return Flow(transport, Endpoint(sas.pcscf, sas.pcscf_port_c), Endpoint(UE_HOST, sas.offer.port_s))


class UeLab:
    """The two of them on a wire."""

    def __init__(self, *, faults: Iterable[str] = (), seed: int = 7, pcscfs: int = 1, **config: Any) -> None:
        self.wire = Wire()
        hosts = [f"192.0.2.{2 + i}" for i in range(pcscfs)]
        self.fakes = [FakePcscf(f"pcscf{i}", host) for i, host in enumerate(hosts)]
        self.pcscf = self.fakes[0]
        self.usim = Usim(Milenage(K, OPC))
        self.config = UeConfig(
            **{
                "host": UE_HOST,
                "impi": IMPI,
                "impu": IMPU,
                "domain": DOMAIN,
                "pcscf": tuple(Endpoint(host, 5060) for host in hosts),
                **config,
            }
        )
        self.ue = Ue("ue", self.config, self.usim, SeededEntropy(seed, "ue"), faults)
        for fake, host in zip(self.fakes, hosts, strict=True):
            self.wire.add(fake, host)
        self.wire.add(self.ue, UE_HOST)

    def command(self, name: str, **arguments: Any) -> None:
        self.wire.command(self.ue, name, **arguments)

    def register(self, **arguments: Any) -> None:
        self.command("register", **arguments)

    def run(self, seconds: float) -> None:
        self.wire.run(self.wire.now + seconds)

    def push(self, flow: Flow, message: Message | bytes) -> None:
        """Let the P-CSCF send something now."""
        octets = message if isinstance(message, bytes) else message.encode()
        self.pcscf.effects.append(fx.Send(flow, octets))
        self.wire.give(self.pcscf, ev.Timer())

    def push_inside(self, message: Message) -> None:
        """Send a request to the UE inside its established set."""
        sas = self.ue.sas.established
        assert sas is not None
        self.push(in_set(sas), message)

    def state(self) -> State:
        """The UE's state (a call, so that a type checker does not take the state for settled)."""
        return self.ue.state

    # ---- looking back

    @property
    def requests(self) -> list[Request]:
        return [m for m in self.wire.sent("ue") if isinstance(m, Request)]

    def sent(self, method: str) -> list[Request]:
        return [request for request in self.requests if request.method == method]

    @property
    def answers(self) -> list[Response]:
        return [m for m in self.wire.sent("ue") if isinstance(m, Response)]

    def sends(self, method: str) -> list[fx.Send]:
        """The Send effects of the UE that bear a request of this method."""
        return [
            effect
            for _, who, effect in self.wire.log
            if who == "ue" and isinstance(effect, fx.Send) and effect.octets.startswith(method.encode() + b" ")
        ]

    def effects(self, *kinds: type) -> list[Any]:
        return [effect for _, who, effect in self.wire.log if who == "ue" and isinstance(effect, kinds)]

    @property
    def emitted(self) -> list[str]:
        return self.wire.emitted("ue")


def offer_of(request: Request) -> dict[str, int]:
    """spi-c, spi-s, port-c, port-s of Security-Client, read by hand."""
    text = request.get("Security-Client") or ""
    return {name: int(value) for name, value in re.findall(r"(spi-[cs]|port-[cs])=(\d+)", text)}
