"""A registration on Gm as a list of named steps: sane as it stands, and made wrong by one knob in each test.

    script = sane()
    script["challenge"].edit("Security-Server", "port-s=6100", "port-s=5060")
    findings(script)

The story: registered in clear and challenged, answered inside the SAs over TCP, subscribed to reg, a message each way
over UDP; after half an hour a re-registration with new SAs, later a refresh that is not challenged, and a farewell.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass, field

import imslab.rules  # noqa: F401  (declares the rules)
from imslab.core.flow import Endpoint, Transport
from imslab.rules.clauses import RULES, Finding, Rule
from imslab.rules.judge import judge
from imslab.sip.message import Message
from imslab.sip.parser import parse
from imslab.trace.keys import KeyRing
from imslab.trace.model import EspRecord, Icv, MalformedRecord, Record, SaSetView, SaView, SipRecord
from imslab.trace.trace import Trace

UDP, TCP = Transport.UDP, Transport.TCP
UE, PCSCF = "192.0.2.10", "192.0.2.1"
DOMAIN = "ims.mnc001.mcc001.3gppnetwork.org"
IMPI = f"001010000000001@{DOMAIN}"
TEMPORARY = f"sip:{IMPI}"
IMPU = f"sip:alice@{DOMAIN}"
CALL = "call-1@192.0.2.10"

#: RAND of the two challenges, and their nonces.
RANDS = (bytes(range(16)), bytes(range(16, 32)))
NONCES = tuple(b64encode(rand + bytes(range(64, 80))).decode() for rand in RANDS)
RESPONSES = ("0" * 31 + "1", "0" * 31 + "2")

#: The modules whose rules speak about Gm and ESP.
OURS = ("challenge", "esp", "gm", "protected", "registered", "renewal", "secagree")


@dataclass(frozen=True)
class Ports:
    """SPIs and ports of one set: client ones and server ones of the UE, then of the P-CSCF."""

    spi_uc: int
    spi_us: int
    uc: int
    us: int
    spi_pc: int
    spi_ps: int
    pc: int
    ps: int

    @property
    def client(self) -> str:
        """Security-Client."""
        return _entries(self.spi_uc, self.spi_us, self.uc, self.us)

    @property
    def server(self) -> str:
        """Security-Server."""
        return _entries(self.spi_pc, self.spi_ps, self.pc, self.ps)

    @property
    def flows(self) -> tuple[tuple[int, Endpoint, Endpoint], ...]:
        """SPI, source and destination of the four SAs."""
        uc, us, pc, ps = (
            Endpoint(UE, self.uc),
            Endpoint(UE, self.us),
            Endpoint(PCSCF, self.pc),
            Endpoint(PCSCF, self.ps),
        )
        return (self.spi_ps, uc, ps), (self.spi_uc, ps, uc), (self.spi_us, pc, us), (self.spi_pc, us, pc)


def _entries(spi_c: int, spi_s: int, port_c: int, port_s: int) -> str:
    tail = f"spi-c={spi_c:010d};spi-s={spi_s:010d};port-c={port_c};port-s={port_s}"
    return ", ".join(
        f"ipsec-3gpp;prot=esp;mod=trans;alg=hmac-sha-1-96;ealg={ealg};{tail}" for ealg in ("aes-cbc", "null")
    )


FIRST = Ports(11001, 11002, 31001, 30000, 21001, 21002, 5101, 6100)
SECOND = Ports(12001, 12002, 31002, 30000, 22001, 22002, 5102, 6100)
#: What the refresh offers that nobody takes up.
THIRD = Ports(13001, 13002, 31003, 30000, 0, 0, 0, 0)
FOURTH = Ports(14001, 14002, 31004, 30000, 0, 0, 0, 0)


@dataclass
class Step:
    """One message. spi: of the SA it goes through, None in clear. frames: in how many fragments it comes."""

    name: str
    time: float
    src: Endpoint
    dst: Endpoint
    transport: Transport
    spi: int | None
    message: Message
    frames: int = 1

    def edit(self, header: str, pattern: str, replacement: str) -> None:
        """Replace a pattern in all rows of a header; it has to be there."""
        rows = self.message.rows(header)
        edited = [re.sub(pattern, lambda _: replacement, row) for row in rows]
        assert edited != rows, f"{header} of {self.name} has no {pattern}"
        self.message.replace(header, edited)

    def go_clear(self, src: int | None = None, dst: int | None = None, transport: Transport | None = None) -> None:
        """Travel in clear, maybe by other ports."""
        self.spi = None
        self.src = self.src._replace(port=src or self.src.port)
        self.dst = self.dst._replace(port=dst or self.dst.port)
        self.transport = transport or self.transport

    def go_through(self, ports: Ports, index: int, transport: Transport | None = None) -> None:
        """Travel in an SA of a set."""
        self.spi, self.src, self.dst = ports.flows[index]
        self.transport = transport or self.transport


@dataclass
class Script:
    """Steps by name, and what else the trace shall have. `esp` is made of the protected steps, then `extra` follows."""

    steps: dict[str, Step] = field(default_factory=dict)
    extra: list[Record] = field(default_factory=list)
    sets: list[Ports] = field(default_factory=lambda: [FIRST, SECOND])
    strangers: list[SaView] = field(default_factory=list)
    views: list[SaSetView] = field(default_factory=list)
    keys: KeyRing = field(default_factory=KeyRing)
    with_esp: bool = True
    edit_esp: dict[str, dict[str, object]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Step:
        return self.steps[name]

    def add(
        self,
        name: str,
        time: float,
        way: tuple[int | None, Endpoint, Endpoint],
        text: str | Message,
        transport: Transport = UDP,
    ) -> Step:
        """One more message."""
        message = parse(text.replace("\n", "\r\n").encode()) if isinstance(text, str) else text
        step = self.steps[name] = Step(name, time, way[1], way[2], transport, way[0], message)
        return step

    def again(self, name: str, like: str, time: float) -> Step:
        """The same message once more."""
        old = self.steps[like]
        step = self.steps[name] = Step(
            name, time, old.src, old.dst, old.transport, old.spi, old.message.copy(), old.frames
        )
        return step

    def until(self, last: str) -> Script:
        """Forget what comes after a step."""
        end = self.steps[last].time
        self.steps = {name: step for name, step in self.steps.items() if step.time <= end}
        return self

    def drop(self, *names: str) -> Script:
        """Forget some steps."""
        for name in names:
            del self.steps[name]
        return self

    def frame(self, name: str) -> int:
        """The number of the frame in which a step is complete."""
        number = 0
        for step in self._in_order():
            number += step.frames
            if step.name == name:
                return number
        raise KeyError(name)

    def name_of(self, frame: int) -> str:
        """The step of a frame."""
        number = 0
        for step in self._in_order():
            number += step.frames
            if frame <= number:
                return step.name
        return "extra"

    def _in_order(self) -> list[Step]:
        return sorted(self.steps.values(), key=lambda step: step.time)

    def trace(self) -> Trace:
        """The trace that shows all this."""
        records: list[Record] = []
        sequences: dict[tuple[str, int], int] = {}
        number = 0
        for step in self._in_order():
            frames = tuple(range(number + 1, number + step.frames + 1))
            number += step.frames
            records.append(
                SipRecord(
                    time=step.time,
                    frames=frames,
                    point="Gm",
                    src=step.src,
                    dst=step.dst,
                    transport=step.transport,
                    message=parse(step.message.encode()),
                    spi=step.spi,
                )
            )
            if step.spi is not None and self.with_esp:
                key = (step.dst.host, step.spi)
                sequences[key] = sequences.get(key, 0) + 1
                packet = esp(step.src.host, step.dst.host, step.spi, sequences[key], step.time, frames)
                packet.inner_src_port, packet.inner_dst_port = step.src.port, step.dst.port
                packet.next_header = 17 if step.transport is UDP else 6
                for name, value in self.edit_esp.get(step.name, {}).items():
                    setattr(packet, name, value)
                records.append(packet)
        sas = [
            SaView(spi=spi, src=src, dst=dst, alg="hmac-sha-1-96", ealg="aes-cbc")
            for ports in self.sets
            for spi, src, dst in ports.flows
        ]
        return Trace([*records, *self.extra], [*sas, *self.strangers], sets=self.views, keys=self.keys, packets=number)


def esp(src: str, dst: str, spi: int, sequence: int, time: float, frames: tuple[int, ...] = (9999,)) -> EspRecord:
    """An ESP packet that verifies."""
    return EspRecord(time=time, frames=frames, point="Gm", src=src, dst=dst, spi=spi, sequence=sequence, icv=Icv.OK)


def our_rules() -> list[Rule]:
    """The rules about Gm and ESP."""
    return [rule for rule in RULES.values() if rule.check.__module__.rpartition(".")[2] in OURS]


def findings(script: Script, rules: Iterable[Rule] | None = None) -> list[Finding]:
    """What the rules about Gm and ESP say."""
    return judge(script.trace(), our_rules() if rules is None else rules)


# ---------------------------------------------------------------------------------------------------------- the story


def register(
    cseq: int, way: str, offer: Ports, authorization: str, *, port: int = 30000, more: str = "", expires: int = 600000
) -> str:
    """A REGISTER of the UE."""
    return (
        f"REGISTER sip:{DOMAIN} SIP/2.0\n"
        f"Via: SIP/2.0/{way} {UE}:{port};branch=z9hG4bK-reg-{cseq};rport\n"
        "Max-Forwards: 70\n"
        f"From: <{TEMPORARY}>;tag=ue1\n"
        f"To: <{TEMPORARY}>\n"
        f"Call-ID: {CALL}\n"
        f"CSeq: {cseq} REGISTER\n"
        f'Contact: <sip:alice@{UE}:{port}>;+sip.instance="<urn:gsma:imei:1-2-0>"'
        ';+g.3gpp.icsi-ref="urn%3Aurn-7%3A3gpp-service.ims.icsi.mmtel"\n'
        f"Expires: {expires}\n"
        "Supported: path, gruu\n"
        "Require: sec-agree\n"
        "Proxy-Require: sec-agree\n"
        f"Security-Client: {offer.client}\n"
        f"Authorization: {authorization}\n"
        f"{more}Content-Length: 0\n\n"
    )


EMPTY = f'Digest username="{IMPI}",realm="{DOMAIN}",uri="sip:{DOMAIN}",nonce="",response="",algorithm=AKAv1-MD5'


def credentials(which: int) -> str:
    """The answer to a challenge."""
    return (
        f'Digest username="{IMPI}",realm="{DOMAIN}",uri="sip:{DOMAIN}",nonce="{NONCES[which]}",'
        f'response="{RESPONSES[which]}",algorithm=AKAv1-MD5,qop=auth,nc=00000001,cnonce="c{which}",opaque="o"'
    )


def protected(server: Ports) -> str:
    """What a protected REGISTER has besides."""
    return f"Security-Verify: {server.server}\nP-Access-Network-Info: 3GPP-E-UTRAN-FDD\n"


def answer(request: Message, status: str, more: str = "", tag: str = "p1") -> str:
    """An answer to a request."""
    to = request.get("To") or ""
    return (
        f"SIP/2.0 {status}\n"
        + "".join(f"Via: {via}\n" for via in request.rows("Via"))
        + f"From: {request.get('From')}\n"
        f"To: {to if ';tag=' in to else f'{to};tag={tag}'}\n"
        f"Call-ID: {request.get('Call-ID')}\n"
        f"CSeq: {request.get('CSeq')}\n"
        f"{more}Content-Length: 0\n\n"
    )


def challenge(which: int, ports: Ports) -> str:
    """The headers of a 401."""
    return (
        f'WWW-Authenticate: Digest realm="{DOMAIN}",nonce="{NONCES[which]}",algorithm=AKAv1-MD5,qop="auth,auth-int",'
        'opaque="o"\n'
        f"Security-Server: {ports.server}\n"
    )


def welcome(expires: int = 3600) -> str:
    """The headers of a 200 to REGISTER."""
    return (
        f"Contact: <sip:alice@{UE}:30000>;expires={expires}\n"
        f"Path: <sip:pcscf.{DOMAIN};lr>\n"
        f"Service-Route: <sip:orig@scscf.{DOMAIN}:5060;lr>\n"
        f"P-Associated-URI: <{IMPU}>, <tel:+15551234>\n"
    )


def request(method: str, number: int, *, target: str = IMPU, more: str = "", body: str = "") -> str:
    """A request of the UE inside its SAs, outside any dialog."""
    return (
        f"{method} {target} SIP/2.0\n"
        f"Via: SIP/2.0/UDP {UE}:30000;branch=z9hG4bK-ue-{method}-{number}\n"
        "Max-Forwards: 70\n"
        f"Route: <sip:{PCSCF}:6100;lr>, <sip:orig@scscf.{DOMAIN}:5060;lr>\n"
        f"From: <{IMPU}>;tag=ue-{number}\n"
        f"To: <{target}>\n"
        f"Call-ID: {method}-{number}@{UE}\n"
        f"CSeq: 1 {method}\n"
        "Require: sec-agree\n"
        "Proxy-Require: sec-agree\n"
        f"P-Preferred-Identity: <{IMPU}>\n"
        f"{more}Content-Length: {len(body)}\n\n{body}"
    )


def to_ue(method: str, number: int, *, more: str = "", call: str = "", to: str = IMPU) -> str:
    """A request of the P-CSCF to the UE."""
    return (
        f"{method} sip:alice@{UE}:30000 SIP/2.0\n"
        f"Via: SIP/2.0/UDP {PCSCF}:6100;branch=z9hG4bK-p-{method}-{number}\n"
        f"Via: SIP/2.0/UDP 198.51.100.2:5060;branch=z9hG4bK-s-{method}-{number}\n"
        f"Record-Route: <sip:{PCSCF}:6100;lr>\n"
        "Max-Forwards: 68\n"
        f"From: <sip:bob@{DOMAIN}>;tag=bob\n"
        f"To: <{to}>\n"
        f"Call-ID: {call or f'{method}-{number}@bob'}\n"
        f"CSeq: {number} {method}\n"
        f"{more}Content-Length: 0\n\n"
    )


CLEAR_UP = (None, Endpoint(UE, 5060), Endpoint(PCSCF, 5060))
CLEAR_DOWN = (None, Endpoint(PCSCF, 5060), Endpoint(UE, 5060))


def sane() -> Script:
    """The story as it should be."""
    s = Script()
    s.add("register", 0.0, CLEAR_UP, register(1, "UDP", FIRST, EMPTY, port=5060))
    reply = answer(s["register"].message, "401 Unauthorized", challenge(0, FIRST)).replace(";rport", ";rport=5060")
    s.add("challenge", 0.1, CLEAR_DOWN, reply)
    text = register(2, "TCP", FIRST, credentials(0), more=protected(FIRST))
    s.add("answer", 0.3, FIRST.flows[0], text, TCP)
    s.add("welcome", 0.4, FIRST.flows[1], answer(s["answer"].message, "200 OK", welcome()), TCP)
    verify = f"Security-Verify: {FIRST.server}\n"
    contact = f"Contact: <sip:alice@{UE}:30000>\n"
    more = f"{verify}{contact}Event: reg\nExpires: 600000\n"
    s.add("subscribe", 0.6, FIRST.flows[0], request("SUBSCRIBE", 1, more=more))
    s.add("subscribed", 0.7, FIRST.flows[2], answer(s["subscribe"].message, "200 OK", "Expires: 600000\n", "n1"))
    state = "Event: reg\nSubscription-State: active;expires=600000\n"
    text = to_ue("NOTIFY", 1, more=state, call=f"SUBSCRIBE-1@{UE}", to=f"{IMPU}>;tag=ue-1").replace(
        ">;tag=ue-1>", ">;tag=ue-1"
    )
    text = text.replace(f"<sip:bob@{DOMAIN}>;tag=bob", f"<{IMPU}>;tag=n1")
    s.add("notify", 0.8, FIRST.flows[2], text)
    s.add("notified", 0.9, FIRST.flows[0], answer(s["notify"].message, "200 OK"))
    s.add("message", 10.0, FIRST.flows[0], request("MESSAGE", 1, target=f"sip:bob@{DOMAIN}", more=verify))
    s.add("sent", 10.1, FIRST.flows[2], answer(s["message"].message, "202 Accepted"))
    s.add("incoming", 20.0, FIRST.flows[2], to_ue("MESSAGE", 1))
    s.add("received", 20.1, FIRST.flows[0], answer(s["incoming"].message, "200 OK"))
    s.add("reregister", 1800.0, FIRST.flows[0], register(3, "TCP", SECOND, credentials(0), more=protected(FIRST)), TCP)
    s.add(
        "rechallenge",
        1800.1,
        FIRST.flows[1],
        answer(s["reregister"].message, "401 Unauthorized", challenge(1, SECOND)),
        TCP,
    )
    text = register(4, "TCP", SECOND, credentials(1), more=protected(SECOND))
    s.add("reanswer", 1800.3, SECOND.flows[0], text, TCP)
    s.add("rewelcome", 1800.4, SECOND.flows[1], answer(s["reanswer"].message, "200 OK", welcome()), TCP)
    verify = f"Security-Verify: {SECOND.server}\n"
    s.add("later", 1900.0, SECOND.flows[0], request("MESSAGE", 2, target=f"sip:bob@{DOMAIN}", more=verify))
    s.add("later-sent", 1900.1, SECOND.flows[2], answer(s["later"].message, "202 Accepted"))
    s.add("refresh", 3600.0, SECOND.flows[0], register(5, "TCP", THIRD, credentials(1), more=protected(SECOND)), TCP)
    s.add("refreshed", 3600.1, SECOND.flows[1], answer(s["refresh"].message, "200 OK", welcome()), TCP)
    text = register(6, "TCP", FOURTH, credentials(1), more=protected(SECOND), expires=0)
    s.add("goodbye", 3700.0, SECOND.flows[0], text, TCP)
    s.add("farewell", 3700.1, SECOND.flows[1], answer(s["goodbye"].message, "200 OK"), TCP)
    return s


def malformed(error: Exception, src: str, dst: str, time: float, frame: int) -> MalformedRecord:
    """An ESP packet that could not be read."""
    return MalformedRecord(
        time=time,
        frames=(frame,),
        point="Gm",
        src=Endpoint(src, 0),
        dst=Endpoint(dst, 0),
        protocol="ESP",
        error=error,  # type: ignore[arg-type]
    )
