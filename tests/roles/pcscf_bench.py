"""A P-CSCF between a scripted phone and a scripted core: both say what a test tells them, and keep what they got."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from imslab.core import effects as fx
from imslab.core import events as ev
from imslab.core.entropy import SeededEntropy
from imslab.core.flow import Endpoint, Flow, Transport
from imslab.roles.pcscf import Pcscf, PcscfConfig
from imslab.sip.message import Message, Request, Response, response_to
from imslab.sip.parser import StreamFramer, parse
from tests.roles.wire import Wire

GM = Endpoint("192.0.2.1", 5060)
MW = Endpoint("198.51.100.1", 5060)
CORE = Endpoint("198.51.100.2", 5060)
UE = "10.0.0.2"
IMPI = "001010000000001@ims.example"
IMPU = "sip:001010000000001@ims.example"
TEL = "tel:+15550001"
SERVICE_ROUTE = "<sip:orig@198.51.100.2:5060;lr>"
CK = "000102030405060708090a0b0c0d0e0f"
IK = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"
UDP, TCP = Transport.UDP, Transport.TCP


@dataclass(slots=True)
class Got:
    """A message that a peer got, when, and by which flow as it sees it."""

    time: float
    flow: Flow
    message: Message


class Peer:
    """A node without a mind of its own. answer: called for each message, may call `send`."""

    def __init__(self, name: str, *listen: Endpoint) -> None:
        self.name = name
        self.listen = listen
        self.got: list[Got] = []
        self.answer: Callable[[Got], None] | None = None
        self.closed: list[Flow] = []
        self.opened: list[Flow] = []
        self.wants: list[fx.Effect] = []
        self._framers: dict[Flow, StreamFramer] = {}

    def handle(self, event: ev.Event, now: float) -> None:
        match event:
            case ev.Started():
                for local in self.listen:
                    self.wants += [fx.Listen(UDP, local), fx.Listen(TCP, local)]
            case ev.Connected(flow):
                self.opened.append(flow)
                self._framers[flow] = StreamFramer()
            case ev.Closed(flow):
                self.closed.append(flow)
            case ev.Arrival(flow, octets):
                whole = self._framers[flow].feed(octets) if flow.transport.is_stream else [octets]
                for each in whole:
                    got = Got(now, flow, parse(each))
                    self.got.append(got)
                    if self.answer:
                        self.answer(got)

    def next_timer(self) -> float | None:
        return None

    def take(self) -> list[fx.Effect]:
        taken, self.wants = self.wants, []
        return taken

    def send(self, flow: Flow, message: Message | bytes) -> None:
        self.wants.append(fx.Send(flow, message if isinstance(message, bytes) else message.encode()))

    def messages(self) -> list[Message]:
        return [each.message for each in self.got]

    def requests(self, method: str = "") -> list[Request]:
        return [m for m in self.messages() if isinstance(m, Request) and method in ("", m.method)]

    def responses(self) -> list[Response]:
        return [m for m in self.messages() if isinstance(m, Response)]


@dataclass(slots=True)
class Sas:
    """The phone's idea of one set: its own ports and SPIs, and what Security-Server said."""

    uc: int = 40001
    us: int = 40002
    spi_c: int = 1001
    spi_s: int = 1002
    pc: int = 0
    ps: int = 0
    server: str = ""
    nonce: str = ""

    def next(self, step: int = 1) -> Sas:
        """New SPIs and client port, as every authentication has."""
        return Sas(self.uc + 10 * step, self.us, self.spi_c + 10 * step, self.spi_s + 10 * step)

    def client(self, *pairs: tuple[str, str]) -> str:
        pairs = pairs or (("hmac-sha-1-96", "aes-cbc"), ("hmac-sha-1-96", "null"))
        return ", ".join(
            f"ipsec-3gpp;alg={alg};ealg={ealg};prot=esp;mod=trans;"
            f"spi-c={self.spi_c};spi-s={self.spi_s};port-c={self.uc};port-s={self.us}"
            for alg, ealg in pairs
        )


class Bench:
    """The three of them on a Wire."""

    def __init__(self, *, faults: Iterable[str] = (), ue: str = UE, gm: Endpoint = GM, **config: Any) -> None:
        self.wire = Wire({"scscf.ims.example": CORE.host, "phone.example": ue})
        self.host = ue
        self.gm = gm
        config.setdefault("icscf", (CORE,))
        config.setdefault("subscribe", False)
        config.setdefault("network", "visited.example")
        self.config = PcscfConfig(gm=gm, mw=MW, **config)
        self.pcscf = Pcscf("pcscf", self.config, SeededEntropy(1, "pcscf"), faults)
        self.ue = Peer("ue", *(Endpoint(ue, port) for port in (5060, 40001, 40002, 40011, 40021, 40031, 40041)))
        self.core = Peer("core", CORE)
        self.wire.add(self.core, CORE.host)
        self.wire.add(self.ue, ue)
        self.wire.add(self.pcscf, gm.host, MW.host)
        self.cseq = 0
        self.call = 0
        self.branch = 0
        self.challenges = 0

    # ---- sending

    def flush(self, peer: Peer) -> None:
        self.wire.give(peer, ev.Timer())

    def from_ue(self, flow: Flow, message: Message | bytes) -> None:
        self.ue.send(flow, message)
        self.flush(self.ue)

    def from_core(self, message: Message, remote: Endpoint = MW, flow: Flow | None = None) -> None:
        self.core.send(flow or Flow(UDP, CORE, remote), message)
        self.flush(self.core)

    def clear(self, port: int = 5060) -> Flow:
        return Flow(UDP, Endpoint(self.host, port), self.gm)

    def inside(self, sas: Sas, transport: Transport = UDP) -> Flow:
        return Flow(transport, Endpoint(self.host, sas.uc), Endpoint(self.gm.host, sas.ps))

    def connect(self, flow: Flow) -> None:
        self.ue.wants.append(fx.Connect(flow))
        self.flush(self.ue)

    # ---- building

    def via(self, port: int, transport: str = "UDP", host: str = "") -> str:
        self.branch += 1
        at = Endpoint(host, port) if host else Endpoint(self.host, port)
        return f"SIP/2.0/{transport} {at};branch=z9hG4bKue{self.branch}"

    def register(
        self,
        sas: Sas,
        *,
        clear: bool = True,
        nonce: str = "",
        response: str = "",
        more: str = "",
        call_id: str = "",
        expires: int = 600,
        impi: str = IMPI,
        impu: str = IMPU,
        transport: str = "UDP",
        verify: str | None = None,
        contact: str = "",
    ) -> Request:
        """A REGISTER as a sane phone sends it."""
        self.cseq += 1
        if not call_id:
            self.call += 1
            call_id = f"call{self.call}@ue"
        port = 5060 if clear else sas.us
        authorization = (
            f'Digest username="{impi}", realm="ims.example", nonce="{nonce}", uri="sip:ims.example", '
            f'response="{response}"{more}'
        )
        headers = [
            ("Via", self.via(port, transport) + (";rport" if clear else "")),
            ("Max-Forwards", "70"),
            ("From", f"<{impu}>;tag=ue"),
            ("To", f"<{impu}>"),
            ("Call-ID", call_id),
            ("CSeq", f"{self.cseq} REGISTER"),
            ("Contact", contact or f"<sip:ue@{Endpoint(self.host, sas.us)}>;expires={expires}"),
            ("Supported", "path, sec-agree"),
            ("Require", "sec-agree"),
            ("Proxy-Require", "sec-agree"),
            ("Security-Client", sas.client()),
            ("Authorization", authorization),
        ]
        if verify is None and not clear:
            verify = sas.server
        if verify:
            headers.append(("Security-Verify", verify))
        return Request("REGISTER", "sip:ims.example", headers)

    def challenge(self, request: Request, *, www: str | None = None, status: int = 401) -> str:
        """The core's 401; the nonce."""
        self.challenges += 1
        nonce = f"nonce{self.challenges}"
        if www is None:
            www = f'Digest realm="ims.example", nonce="{nonce}", algorithm=AKAv1-MD5, qop="auth", ck="{CK}", ik="{IK}"'
        self.from_core(response_to(request, status, to_tag="core", headers=[("WWW-Authenticate", www)]))
        return nonce

    def ok(
        self,
        request: Request,
        *,
        expires: int = 600,
        identities: str = f"<{IMPU}>, <{TEL}>",
        headers: Iterable[tuple[str, str]] = (),
    ) -> None:
        contact = request.get("Contact") or ""
        self.from_core(
            response_to(
                request,
                200,
                to_tag="core",
                headers=[
                    ("Path", request.get("Path") or "<sip:nowhere;lr>"),
                    ("Contact", contact.partition(";expires")[0] + f";expires={expires}"),
                    ("Service-Route", SERVICE_ROUTE),
                    ("P-Associated-URI", identities),
                    *headers,
                ],
            )
        )

    # ---- procedures

    def challenged(self, sas: Sas | None = None, *, under: Sas | None = None, **changes: Any) -> Sas:
        """As far as the 401: a temporary set. under: an established set to begin in, else in clear."""
        sas = sas or (under.next() if under else Sas())
        if under is None:
            self.from_ue(self.clear(), self.register(sas, **changes))
        else:
            changes.setdefault("verify", under.server)
            self.from_ue(
                self.inside(under), self.register(sas, clear=False, nonce=under.nonce, response="1", **changes)
            )
        sas.nonce = self.challenge(self.core.requests("REGISTER")[-1])
        self.read(sas, self.ue.responses()[-1])
        return sas

    def read(self, sas: Sas, response: Response) -> None:
        assert response.status == 401, response
        first = response.security_server[0]
        sas.server = response.get("Security-Server") or ""
        sas.pc, sas.ps = first.port_c, first.port_s

    def answer(self, sas: Sas, **changes: Any) -> Request:
        """The second REGISTER, inside the temporary set; as the core got it."""
        before = len(self.core.got)
        request = self.register(
            sas, clear=False, nonce=changes.pop("nonce", sas.nonce), response=changes.pop("response", "abc"), **changes
        )
        self.from_ue(self.inside(sas), request)
        return self.core.requests("REGISTER")[-1] if len(self.core.got) > before else request

    def registered(
        self, sas: Sas | None = None, *, under: Sas | None = None, expires: int = 600, **changes: Any
    ) -> Sas:
        """The whole procedure."""
        sas = self.challenged(sas, under=under, **changes)
        again = {name: changes[name] for name in ("impi", "impu", "contact") if name in changes}
        self.ok(self.answer(sas, **again), expires=expires)
        return sas

    def in_dialog_headers(self, method: str, **changes: str) -> list[tuple[str, str]]:
        self.cseq += 1
        values = {
            "Max-Forwards": "70",
            "From": f"<{IMPU}>;tag=ue",
            "To": "<sip:bob@ims.example>",
            "Call-ID": f"dialog{self.cseq}@ue",
            "CSeq": f"{self.cseq} {method}",
        }
        values |= {name.replace("_", "-"): value for name, value in changes.items()}
        return [(name, value) for name, value in values.items() if value]

    def ue_request(self, sas: Sas, method: str, uri: str = "sip:bob@ims.example", **changes: str) -> Request:
        """A request other than REGISTER as a sane phone sends it inside its SAs."""
        changes.setdefault("Route", f"<sip:{Endpoint(self.gm.host, sas.ps)};lr>, {SERVICE_ROUTE}")
        changes.setdefault("Security_Verify", sas.server)
        changes.setdefault("Require", "sec-agree")
        changes.setdefault("Proxy_Require", "sec-agree")
        via = changes.pop("Via", self.via(sas.us))
        return Request(method, uri, [("Via", via), *self.in_dialog_headers(method, **changes)])

    def core_request(self, sas: Sas, method: str, route: str | None = None, **changes: str) -> Request:
        """A request from the core to the phone, by its Path."""
        self.branch += 1
        if route is None:
            route = f"<sip:{self.token}@{MW};lr>"
        changes.setdefault("From", "<sip:bob@ims.example>;tag=bob")
        changes.setdefault("To", f"<{IMPU}>")
        return Request(
            method,
            f"sip:ue@{Endpoint(self.host, sas.us)}",
            [
                ("Via", f"SIP/2.0/UDP {CORE};branch=z9hG4bKcore{self.branch}"),
                *([("Route", route)] if route else []),
                *self.in_dialog_headers(method, **changes),
            ],
        )

    @property
    def token(self) -> str:
        """The token of the one contact."""
        return next(iter(self.pcscf.tokens))

    @property
    def sets(self) -> dict[int, str]:
        """Number → stage of all sets that the P-CSCF has; the carrier must hold the same ones."""
        stages = {record.number: str(record.stage) for record in self.pcscf.table}
        assert set(self.wire.sets["pcscf"]) == set(stages)
        return stages

    def effects(self, *kinds: type) -> list[fx.Effect]:
        """What the P-CSCF has had done, of these kinds."""
        return [e for _, who, e in self.wire.log if who == "pcscf" and isinstance(e, kinds)]

    def last_to_ue(self) -> Got:
        return self.ue.got[-1]


@dataclass(slots=True)
class Count:
    """How often something happened since it was made."""

    of: list[Any]
    before: int = field(init=False)

    def __post_init__(self) -> None:
        self.before = len(self.of)

    @property
    def new(self) -> list[Any]:
        return self.of[self.before :]
