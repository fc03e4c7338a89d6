"""A registration on Gm, Mw and Cx as a list of named steps: sane as it stands, and made wrong by one knob in each test.

    story = sane()
    story["register/p"].message.remove("Path")
    findings(story)

The story: Alice registers in clear, is challenged, answers inside her SAs, watches her registration, sends a message
and gets one; after half an hour she registers again and is challenged again, later without a challenge, then leaves.

A step's name says what it is, and after the slash who sent it on: "register" is Alice's, "register/p" what the P-CSCF
made of it, "register/i" the I-CSCF; "challenge/s" left the S-CSCF, "challenge" is what Alice got. Cx steps bear the
names of their messages with a number for the round: "uar1", "maa2".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import imslab.rules  # noqa: F401  (declares the rules)
from imslab.aka.digest import digest_response
from imslab.aka.milenage import Milenage
from imslab.aka.vector import Vector, generate
from imslab.core.flow import Endpoint, Transport
from imslab.diameter.avp import Avp
from imslab.diameter.codes import ServerAssignmentType, UserAuthorizationType
from imslab.diameter.cx import (
    AuthDataItem,
    CxAnswer,
    CxRequest,
    MultimediaAuthAnswer,
    MultimediaAuthRequest,
    ServerAssignmentAnswer,
    ServerAssignmentRequest,
    UserAuthorizationAnswer,
    UserAuthorizationRequest,
)
from imslab.diameter.dictionary import by_name, make
from imslab.diameter.message import DiameterMessage, answer
from imslab.diameter.message import parse as parse_diameter
from imslab.diameter.userdata import PublicIdentity, ServiceProfile, UserProfile, write_userdata
from imslab.rules.clauses import RULES, Finding, Level, Rule
from imslab.rules.judge import judge
from imslab.sip.message import Message, Request, Response, response_to
from imslab.sip.parser import parse
from imslab.sip.reginfo import CONTENT_TYPE, RegContact, RegInfo, Registration, write_reginfo
from imslab.trace.keys import KeyRing
from imslab.trace.model import DiameterRecord, EspRecord, Icv, MalformedRecord, Record, Role, SaView, SipRecord
from imslab.trace.trace import Trace

UDP, TCP = Transport.UDP, Transport.TCP
DOMAIN = "ims.mnc001.mcc001.3gppnetwork.org"
IMPI = f"001010000000001@{DOMAIN}"
TEMPORARY = f"sip:{IMPI}"
ALICE, NUMBER, BOB = f"sip:alice@{DOMAIN}", "tel:+15551234", f"sip:bob@{DOMAIN}"
K, OPC = bytes(range(16)), bytes(range(16, 32))

UE, GM = Endpoint("192.0.2.10", 5060), Endpoint("192.0.2.1", 5060)
P, IC, S, S2 = (Endpoint(f"198.51.100.{number}", 5060) for number in (1, 2, 3, 5))
HSS = Endpoint("198.51.100.4", 3868)
I_CX, S_CX = Endpoint(IC.host, 40001), Endpoint(S.host, 40002)
SCSCF = f"sip:scscf.{DOMAIN}:5060"
PATH = f"<sip:token1@{P.host}:5060;lr>"
SERVICE_ROUTE = f"<sip:orig@scscf.{DOMAIN}:5060;lr>"
CONTACT = f"sip:alice@{UE.host}:30000"

#: The modules whose rules speak about Mw and Cx.
OURS = ("authentication", "cx", "diameter", "mw", "proxies", "regevent", "registrar", "vectors")


@dataclass(frozen=True)
class Ports:
    """One set of SAs: SPIs and ports of the UE, then of the P-CSCF."""

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
        return self._entry(self.spi_uc, self.spi_us, self.uc, self.us)

    @property
    def server(self) -> str:
        """Security-Server."""
        return self._entry(self.spi_pc, self.spi_ps, self.pc, self.ps)

    @staticmethod
    def _entry(*numbers: int) -> str:
        return (
            "ipsec-3gpp;prot=esp;mod=trans;alg=hmac-sha-1-96;ealg=aes-cbc;"
            "spi-c={:010d};spi-s={:010d};port-c={};port-s={}".format(*numbers)
        )

    @property
    def flows(self) -> tuple[tuple[int, Endpoint, Endpoint], ...]:
        """SPI, source and destination of the four SAs."""
        uc, us = Endpoint(UE.host, self.uc), Endpoint(UE.host, self.us)
        pc, ps = Endpoint(GM.host, self.pc), Endpoint(GM.host, self.ps)
        return (self.spi_ps, uc, ps), (self.spi_uc, ps, uc), (self.spi_us, pc, us), (self.spi_pc, us, pc)


FIRST = Ports(11001, 11002, 31001, 30000, 21001, 21002, 5101, 6100)
SECOND = Ports(12001, 12002, 31002, 30000, 22001, 22002, 5102, 6100)
THIRD = Ports(13001, 13002, 31003, 30000, 0, 0, 0, 0)

#: Source and destination in clear.
Way = tuple[int | None, Endpoint, Endpoint]
UP, DOWN = (None, UE, GM), (None, GM, UE)


@dataclass
class Step:
    """One message. spi: of the SA it goes through, None in clear."""

    name: str
    time: float
    src: Endpoint
    dst: Endpoint
    transport: Transport
    spi: int | None
    message: Any  # a SIP Message or a DiameterMessage

    def edit(self, header: str, pattern: str, replacement: str) -> None:
        """Replace a pattern in all rows of a SIP header; it has to be there."""
        rows = self.message.rows(header)
        edited = [re.sub(pattern, lambda _: replacement, row) for row in rows]
        assert edited != rows, f"{header} of {self.name} has no {pattern}"
        self.message.replace(header, edited)

    def put(self, name: str, value: Any) -> None:
        """Give a Diameter AVP another value, or add it; None takes it away, and then it has to be there."""
        definition = by_name(name)
        key = (definition.code, definition.vendor)
        place = [(avp.code, avp.vendor) for avp in self.message.avps].index(key) if _has(self.message, key) else None
        assert place is not None or value is not None, f"{self.name} has no {name}"
        if place is None:
            self.message.avps.append(make(name, value))
        elif value is None:
            del self.message.avps[place]
        else:
            self.message.avps[place] = make(name, value)


def _has(message: DiameterMessage, key: tuple[int, int]) -> bool:
    return message.find(*key) is not None


@dataclass
class Story:
    """Steps by name. keys: what is known besides. extra: other records."""

    steps: dict[str, Step] = field(default_factory=dict)
    keys: KeyRing = field(default_factory=KeyRing)
    extra: list[Record] = field(default_factory=list)
    vectors: list[Vector] = field(default_factory=list)
    _identifier: int = 0

    def __getitem__(self, name: str) -> Step:
        return self.steps[name]

    def sip(self, name: str, time: float, way: Way, message: Message, transport: Transport = UDP) -> Step:
        """One more SIP message."""
        step = self.steps[name] = Step(name, time, way[1], way[2], transport, way[0], message)
        return step

    def cx(self, name: str, time: float, src: Endpoint, dst: Endpoint, message: DiameterMessage) -> Step:
        """One more Diameter message."""
        step = self.steps[name] = Step(name, time, src, dst, TCP, None, message)
        return step

    def ask(self, name: str, time: float, src: Endpoint, request: CxRequest, reply: CxAnswer) -> None:
        """A Cx question of a CSCF and the HSS's answer 10 ms later: "mar1" and "maa1" for the name "ma1"."""
        self._identifier += 1
        question = request.to_message(self._identifier, 0x1000 + self._identifier)
        self.cx(f"{name[:-1]}r{name[-1]}", time, src, HSS, question)
        reply.origin_host, reply.origin_realm = f"hss.{DOMAIN}", DOMAIN
        self.cx(f"{name[:-1]}a{name[-1]}", time + 0.01, HSS, src, reply.to_message(question))

    def again(self, name: str, like: str, time: float, **changes: Any) -> Step:
        """The same message once more."""
        old = self.steps[like]
        message = old.message.copy() if isinstance(old.message, Message) else parse_diameter(old.message.encode())
        step = self.steps[name] = Step(name, time, old.src, old.dst, old.transport, old.spi, message)
        for key, value in changes.items():
            setattr(step, key, value)
        return step

    def until(self, last: str) -> Story:
        """Forget what comes after a step."""
        end = self.steps[last].time
        self.steps = {name: step for name, step in self.steps.items() if step.time <= end}
        return self

    def only(self, keep: Callable[[Step], bool]) -> Story:
        """Forget all other steps."""
        self.steps = {name: step for name, step in self.steps.items() if keep(step)}
        return self

    def drop(self, *names: str) -> Story:
        """Forget some steps."""
        for name in names:
            del self.steps[name]
        return self

    def later(self, start: str, seconds: float, end: str = "") -> None:
        """Move a step, and all that follow it up to `end`, to a later time."""
        first = self.steps[start].time
        last = self.steps[end].time if end else float("inf")
        for step in self.steps.values():
            if first <= step.time <= last:
                step.time += seconds

    def name_of(self, frame: int) -> str:
        """The step of a frame."""
        return dict(enumerate((step.name for step in self._in_order()), 1)).get(frame, "extra")

    def _in_order(self) -> list[Step]:
        return sorted(self.steps.values(), key=lambda step: step.time)

    def _learn(self, message: DiameterMessage) -> None:
        """Take the keys out of an MAA, as a dissector does."""
        for each in message.find_all(612, 10415):
            inner = {one.code: one.data for one in each.children}
            if inner.keys() >= {609, 610, 625, 626}:
                self.keys.learn(inner[609][:16], inner[625], inner[626], inner[610], "MAA")

    def trace(self) -> Trace:
        """The trace that shows all this."""
        records: list[Record] = []
        sequences: dict[tuple[str, int], int] = {}
        for number, step in enumerate(self._in_order(), 1):
            where: dict[str, Any] = {"time": step.time, "frames": (number,), "src": step.src, "dst": step.dst}
            if isinstance(step.message, DiameterMessage):
                heard = parse_diameter(step.message.encode())
                records.append(DiameterRecord(**where, transport=TCP, message=heard))
                self._learn(heard)
                continue
            message = parse(step.message.encode())
            records.append(SipRecord(**where, transport=step.transport, message=message, spi=step.spi))
            if step.spi is not None:
                key = (step.dst.host, step.spi)
                sequences[key] = sequences.get(key, 0) + 1
                records.append(
                    EspRecord(
                        time=step.time,
                        frames=(number,),
                        src=step.src.host,
                        dst=step.dst.host,
                        spi=step.spi,
                        sequence=sequences[key],
                        icv=Icv.OK,
                    )
                )
        sas = [
            SaView(spi=spi, src=src, dst=dst, alg="hmac-sha-1-96", ealg="aes-cbc")
            for ports in (FIRST, SECOND)
            for spi, src, dst in ports.flows
        ]
        return Trace([*records, *self.extra], sas, keys=self.keys)


def our_rules() -> list[Rule]:
    """The rules about Mw and Cx."""
    return [rule for rule in RULES.values() if rule.check.__module__.rpartition(".")[2] in OURS]


def findings(story: Story, rules: Iterable[Rule] | None = None) -> list[Finding]:
    """What the rules about Mw and Cx say."""
    return judge(story.trace(), our_rules() if rules is None else rules)


# ---------------------------------------------------------------------------------------------------------- the parts


def empty(nonce: str = "") -> str:
    """Credentials without an answer."""
    return (
        f'Digest username="{IMPI}",realm="{DOMAIN}",uri="sip:{DOMAIN}",nonce="{nonce}",response="",algorithm=AKAv1-MD5'
    )


def credentials(vector: Vector, *, res: bytes | None = None, more: str = "") -> str:
    """The answer to the challenge of a vector."""
    response = digest_response(
        algorithm="AKAv1-MD5",
        username=IMPI,
        realm=DOMAIN,
        password=vector.xres if res is None else res,
        nonce=vector.nonce,
        method="REGISTER",
        uri=f"sip:{DOMAIN}",
        qop="auth",
        nc="00000001",
        cnonce="c",
    )
    return (
        f'Digest username="{IMPI}",realm="{DOMAIN}",uri="sip:{DOMAIN}",nonce="{vector.nonce}",response="{response}",'
        f'algorithm=AKAv1-MD5,qop=auth,nc=00000001,cnonce="c"{more}'
    )


def register(
    cseq: int,
    offer: Ports,
    authorization: str,
    *,
    verify: Ports | None = None,
    expires: int = 600000,
    call: str = "call-1",
    port: int = 30000,
) -> Request:
    """A REGISTER as Alice sends it."""
    headers = [
        ("Via", f"SIP/2.0/UDP {UE.host}:{port};branch=z9hG4bK-{call}-{cseq};rport"),
        ("Max-Forwards", "70"),
        ("From", f"<{TEMPORARY}>;tag=ue"),
        ("To", f"<{TEMPORARY}>"),
        ("Call-ID", call),
        ("CSeq", f"{cseq} REGISTER"),
        ("Contact", f'<{CONTACT}>;+sip.instance="<urn:gsma:imei:1-2-0>"'),
        ("Expires", str(expires)),
        ("Supported", "path"),
        ("Require", "sec-agree"),
        ("Proxy-Require", "sec-agree"),
        ("Security-Client", offer.client),
        ("Authorization", authorization),
    ]
    if verify is not None:
        headers += [("Security-Verify", verify.server), ("P-Access-Network-Info", "3GPP-E-UTRAN-FDD")]
    return Request("REGISTER", f"sip:{DOMAIN}", headers)


def passed_on(request: Request, by: Endpoint) -> Request:
    """A request as a proxy sends it on: its own Via, one hop less."""
    copy = request.copy()
    copy.prepend("Via", f"SIP/2.0/UDP {by.host}:{by.port};branch={(request.via[0].branch or '')}-{by.host[-1]}")
    copy.set("Max-Forwards", str((request.max_forwards or 70) - 1))
    return copy


def upstream(request: Request, flag: str) -> Request:
    """A REGISTER as the P-CSCF sends it on."""
    copy = passed_on(request, P)
    for name in ("Security-Client", "Security-Verify", "Require", "Proxy-Require"):
        copy.remove(name)
    copy.set("Authorization", f'{copy.get("Authorization")},integrity-protected="{flag}"')
    copy.add("Path", PATH)
    copy.add("Require", "path")
    icid = f"icid-{request.call_id}-{request.cseq.number}"
    copy.add("P-Charging-Vector", f'icid-value="{icid}";icid-generated-at={P.host};orig-ioi="Type 1{DOMAIN}"')
    copy.add("P-Visited-Network-ID", f'"{DOMAIN}"')
    return copy


def to_server(request: Request) -> Request:
    """A REGISTER as the I-CSCF sends it on."""
    copy = passed_on(request, IC)
    copy.uri = SCSCF
    return copy


def back(response: Response) -> Response:
    """A response as a proxy sends it on."""
    copy = response.copy()
    copy.replace("Via", [str(via) for via in response.via[1:]])
    return copy


def challenge(vector: Vector) -> list[tuple[str, str]]:
    """The 401's header on Mw."""
    return [
        (
            "WWW-Authenticate",
            f'Digest realm="{DOMAIN}",nonce="{vector.nonce}",algorithm=AKAv1-MD5,qop="auth,auth-int",'
            f'ck="{vector.ck.hex()}",ik="{vector.ik.hex()}"',
        )
    ]


def welcome(expires: int = 3600) -> list[tuple[str, str]]:
    """The 200's headers on Mw."""
    return [
        ("Contact", f"<{CONTACT}>;expires={expires}"),
        ("Path", PATH),
        ("Service-Route", SERVICE_ROUTE),
        ("P-Associated-URI", f"<{ALICE}>, <{NUMBER}>"),
    ]


def user_data(*identities: PublicIdentity, impi: str = IMPI) -> bytes:
    """The profile: the temporary identity barred, Alice and her number."""
    listed = list(identities) or [PublicIdentity(TEMPORARY, barred=True), PublicIdentity(ALICE), PublicIdentity(NUMBER)]
    return write_userdata(UserProfile(impi, [ServiceProfile(listed)]))


def asking(who: str, number: int) -> dict[str, Any]:
    """What every Cx question has."""
    host = f"{who}.{DOMAIN}"
    return {
        "session_id": f"{host};1;{number}",
        "origin_host": host,
        "origin_realm": DOMAIN,
        "destination_realm": DOMAIN,
    }


def item(vector: Vector, number: int | None = 1) -> AuthDataItem:
    """A vector in an MAA."""
    return AuthDataItem(
        number=number,
        scheme="Digest-AKAv1-MD5",
        authenticate=vector.rand + vector.autn,
        authorization=vector.xres,
        ck=vector.ck,
        ik=vector.ik,
    )


def uar(number: int, kind: UserAuthorizationType = UserAuthorizationType.REGISTRATION) -> UserAuthorizationRequest:
    """The I-CSCF's question about a REGISTER."""
    return UserAuthorizationRequest(
        **asking("icscf", number),
        user_name=IMPI,
        public_identity=TEMPORARY,
        visited_network=DOMAIN,
        authorization_type=kind,
    )


def mar(number: int, **more: Any) -> MultimediaAuthRequest:
    """The S-CSCF's question for a vector."""
    asked: dict[str, Any] = {"item": AuthDataItem(scheme="Digest-AKAv1-MD5"), "number_items": 1, "server_name": SCSCF}
    return MultimediaAuthRequest(
        **asking("scscf", number), user_name=IMPI, public_identity=TEMPORARY, **{**asked, **more}
    )


def maa(*items: AuthDataItem) -> MultimediaAuthAnswer:
    """The HSS's vectors."""
    return MultimediaAuthAnswer(
        result_code=2001, user_name=IMPI, public_identity=TEMPORARY, number_items=len(items), items=list(items)
    )


def sar(number: int, kind: ServerAssignmentType, have: int = 0, **more: Any) -> ServerAssignmentRequest:
    """The S-CSCF's word about a user."""
    told: dict[str, Any] = {"server_name": SCSCF, "public_identities": [TEMPORARY]}
    return ServerAssignmentRequest(
        **asking("scscf", number), user_name=IMPI, assignment_type=kind, already_available=have, **{**told, **more}
    )


def saa(data: bytes | None = None) -> ServerAssignmentAnswer:
    """The HSS's answer to it."""
    return ServerAssignmentAnswer(result_code=2001, user_name=IMPI, user_data=data)


def document(version: int, state: str = "active", event: str = "", expires: int = 3600) -> bytes:
    """The reg-event document of Alice's set."""
    registrations = [
        Registration(
            aor, f"r{place}", state, [RegContact(CONTACT, f"c{place}", state, event or "created", expires=expires)]
        )
        for place, aor in enumerate((ALICE, NUMBER))
    ]
    return write_reginfo(RegInfo(version, "full", registrations))


def notify(cseq: int, subscribe: Request, body: bytes, state: str = "active;expires=600000") -> Request:
    """A NOTIFY as the S-CSCF sends it."""
    headers = [
        ("Via", f"SIP/2.0/UDP {S.host}:5060;branch=z9hG4bK-notify-{subscribe.call_id}-{cseq}"),
        ("Max-Forwards", "70"),
        *[("Route", row) for row in subscribe.rows("Record-Route")],
        ("From", f"{subscribe.get('To')};tag=s1"),
        ("To", subscribe.get("From") or ""),
        ("Call-ID", subscribe.call_id),
        ("CSeq", f"{cseq} NOTIFY"),
        ("Contact", f"<{SCSCF}>"),
        ("Event", "reg"),
        ("Subscription-State", state),
        ("Content-Type", CONTENT_TYPE),
    ]
    return Request("NOTIFY", str(subscribe.contact[0].uri), headers, body)


def request(method: str, call: str, *, target: str = ALICE, port: int = 30000) -> Request:
    """A request of Alice outside any dialog."""
    return Request(
        method,
        target,
        [
            ("Via", f"SIP/2.0/UDP {UE.host}:{port};branch=z9hG4bK-{call}"),
            ("Max-Forwards", "70"),
            ("Route", f"<sip:{GM.host}:6100;lr>"),
            ("Route", SERVICE_ROUTE),
            ("From", f"<{ALICE}>;tag={call}"),
            ("To", f"<{target}>"),
            ("Call-ID", call),
            ("CSeq", f"1 {method}"),
            ("Contact", f"<{CONTACT}>"),
            ("P-Preferred-Identity", f"<{ALICE}>"),
        ],
    )


def by_pcscf(asked: Request) -> Request:
    """A request of Alice as the P-CSCF sends it on."""
    copy = passed_on(asked, P)
    copy.replace("Route", [SERVICE_ROUTE])
    copy.remove("P-Preferred-Identity")
    copy.add("P-Asserted-Identity", f"<{ALICE}>")
    if asked.method == "SUBSCRIBE":
        copy.add("Record-Route", f"<sip:token1@{P.host}:5060;lr>")
    return copy


def capabilities(request: bool, *, apps: Iterable[int] = (16777216,)) -> list[Avp]:
    """What CER and CEA say."""
    inner = [[make("Vendor-Id", 10415), make("Auth-Application-Id", each)] for each in apps]
    result = [] if request else [make("Result-Code", 2001)]
    return [
        *result,
        make("Origin-Host", f"{'scscf' if request else 'hss'}.{DOMAIN}"),
        make("Origin-Realm", DOMAIN),
        make("Host-IP-Address", HSS.host),
        make("Vendor-Id", 10415),
        make("Product-Name", "test"),
        *[make("Vendor-Specific-Application-Id", each) for each in inner],
    ]


# ---------------------------------------------------------------------------------------------------------- the story


def to_ue(response: Response, ports: Ports) -> Response:
    """An answer as the P-CSCF sends it to Alice: without keys, a challenge with Security-Server."""
    copy = back(response)
    if copy.status == 401:
        row = copy.get("WWW-Authenticate") or ""
        copy.set("WWW-Authenticate", re.sub(',[ci]k="[0-9a-f]*"', "", row))
        copy.set("Security-Server", ports.server)
    return copy


@dataclass
class Register:
    """One REGISTER on its way: Alice's, and where its answers go. ports: of the set that a challenge makes."""

    story: Story
    name: str
    reply: str
    time: float
    up: Way
    down: Way
    ports: Ports
    last: Request

    def answer(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """What the S-CSCF answers, hop by hop."""
        response = response_to(self.last, status, to_tag="s", headers=headers)
        self.story.sip(f"{self.reply}/s", self.time + 0.08, (None, S, IC), response)
        self.story.sip(f"{self.reply}/i", self.time + 0.09, (None, IC, P), back(response))
        self.story.sip(self.reply, self.time + 0.1, self.down, to_ue(back(response), self.ports))


def goes(
    story: Story,
    names: tuple[str, str],
    time: float,
    sent: Request,
    flag: str,
    ways: tuple[Way, Way],
    number: int,
    ports: Ports = FIRST,
) -> Register:
    """A REGISTER from Alice to the S-CSCF. number: of the UAR. ports: of the set that a challenge to it makes."""
    story.sip(names[0], time, ways[0], sent)
    first = upstream(sent, flag)
    story.sip(f"{names[0]}/p", time + 0.01, (None, P, IC), first)
    kind, known = UserAuthorizationType.REGISTRATION, UserAuthorizationAnswer(experimental=2002, server_name=SCSCF)
    if sent.expires == 0:
        kind = UserAuthorizationType.DE_REGISTRATION
        known = UserAuthorizationAnswer(result_code=2001, server_name=SCSCF)
    elif number == 1:
        known = UserAuthorizationAnswer(experimental=2001)
    story.ask(f"ua{number}", time + 0.02, I_CX, uar(number, kind), known)
    second = to_server(first)
    story.sip(f"{names[0]}/i", time + 0.04, (None, IC, S), second)
    return Register(story, names[0], names[1], time, ways[0], ways[1], ports, second)


def notified(story: Story, name: str, time: float, sent: Request, ports: Ports) -> None:
    """A NOTIFY from the S-CSCF to Alice, and her answer back."""
    story.sip(f"{name}/s", time, (None, S, P), sent)
    down = passed_on(sent, P)
    down.remove("Route")
    story.sip(name, time + 0.01, ports.flows[2], down)
    reply = response_to(down, 200)
    story.sip(f"{name}-ok", time + 0.02, ports.flows[0], reply)
    story.sip(f"{name}-ok/p", time + 0.03, (None, P, S), back(reply))


def sane() -> Story:
    """The story as it should be."""
    s = Story()
    algorithm = Milenage(K, OPC)
    s.vectors = [generate(algorithm, bytes([number]) * 16, sqn, b"\0\0") for number, sqn in ((1, 0x21), (2, 0x42))]
    v1, v2 = s.vectors
    for name, end, number in (("i", I_CX, 1), ("s", S_CX, 2)):
        cer = DiameterMessage(257, hop_by_hop=number, end_to_end=number, avps=capabilities(True))
        s.cx(f"cer-{name}", -1.0 + number / 10, end, HSS, cer)
        cea = answer(cer)
        cea.avps += capabilities(False)
        s.cx(f"cea-{name}", -0.99 + number / 10, HSS, end, cea)

    first = goes(s, ("register", "challenge"), 0.0, register(1, FIRST, empty(), port=5060), "no", (UP, DOWN), 1)
    s.ask("ma1", 0.05, S_CX, mar(1), maa(item(v1)))
    first.answer(401, challenge(v1))

    inside = (FIRST.flows[0], FIRST.flows[2])
    sent = register(2, FIRST, credentials(v1), verify=FIRST)
    second = goes(s, ("answer", "welcome"), 0.2, sent, "yes", inside, 2)
    s.ask("sa1", 0.25, S_CX, sar(1, ServerAssignmentType.REGISTRATION), saa(user_data()))
    second.answer(200, welcome())

    watch = Request(
        "SUBSCRIBE",
        ALICE,
        [
            ("Via", f"SIP/2.0/UDP {P};branch=z9hG4bK-watch"),
            ("Max-Forwards", "70"),
            ("From", f"<sip:{P}>;tag=w1"),
            ("To", f"<{ALICE}>"),
            ("Call-ID", "watch"),
            ("CSeq", "1 SUBSCRIBE"),
            ("Contact", f"<sip:{P}>"),
            ("P-Asserted-Identity", f"<sip:{P}>"),
            ("Event", "reg"),
            ("Expires", "600000"),
        ],
    )
    s.sip("watch", 0.4, (None, P, S), watch)
    headers = [("Expires", "600000"), ("Contact", f"<{SCSCF}>")]
    s.sip("watched", 0.41, (None, S, P), response_to(watch, 200, to_tag="s1", headers=headers))
    seen = notify(1, watch, document(0))
    s.sip("seen", 0.42, (None, S, P), seen)
    s.sip("seen-ok", 0.43, (None, P, S), response_to(seen, 200))

    asked = request("SUBSCRIBE", "sub")
    asked.add("Event", "reg")
    asked.add("Expires", "600000")
    s.sip("subscribe", 0.5, FIRST.flows[0], asked)
    subscribe = by_pcscf(asked)
    s.sip("subscribe/p", 0.51, (None, P, S), subscribe)
    headers = [("Expires", "600000"), ("Contact", f"<{SCSCF}>"), ("Record-Route", subscribe.get("Record-Route") or "")]
    granted = response_to(subscribe, 200, to_tag="s1", headers=headers)
    s.sip("subscribed/s", 0.52, (None, S, P), granted)
    s.sip("subscribed", 0.53, FIRST.flows[2], back(granted))
    notified(s, "notify", 0.54, notify(1, subscribe, document(0)), FIRST)

    said = request("MESSAGE", "hello", target=BOB)
    s.sip("message", 10.0, FIRST.flows[0], said)
    s.sip("message/p", 10.01, (None, P, S), by_pcscf(said))
    reply = response_to(by_pcscf(said), 202, to_tag="b")
    s.sip("sent/s", 10.02, (None, S, P), reply)
    s.sip("sent", 10.03, FIRST.flows[2], back(reply))
    heard = request("MESSAGE", "hello-back", target=ALICE)
    heard.uri = CONTACT
    heard.replace("Route", [PATH])
    heard.replace("From", [f"<{BOB}>;tag=b"])
    heard.replace("Via", [f"SIP/2.0/UDP {S.host}:5060;branch=z9hG4bK-hello-back"])
    s.sip("incoming/s", 20.0, (None, S, P), heard)
    down = passed_on(heard, P)
    down.remove("Route")
    s.sip("incoming", 20.01, FIRST.flows[2], down)
    s.sip("heard", 20.02, FIRST.flows[0], response_to(down, 200, to_tag="a"))
    s.sip("heard/p", 20.03, (None, P, S), back(response_to(down, 200, to_tag="a")))

    dwr = DiameterMessage(280, hop_by_hop=77, end_to_end=77, avps=capabilities(True)[:2])
    s.cx("dwr", 30.0, S_CX, HSS, dwr)
    s.cx("dwa", 30.01, HSS, S_CX, answer(dwr, origin_host=f"hss.{DOMAIN}", origin_realm=DOMAIN, result_code=2001))

    sent = register(3, SECOND, credentials(v1), verify=FIRST)
    third = goes(s, ("reregister", "rechallenge"), 1800.0, sent, "yes", inside, 3, SECOND)
    s.ask("ma2", 1800.05, S_CX, mar(2), maa(item(v2)))
    third.answer(401, challenge(v2))
    inside = (SECOND.flows[0], SECOND.flows[2])
    sent = register(4, SECOND, credentials(v2), verify=SECOND)
    fourth = goes(s, ("reanswer", "rewelcome"), 1800.2, sent, "yes", inside, 4, SECOND)
    s.ask("sa2", 1800.25, S_CX, sar(2, ServerAssignmentType.RE_REGISTRATION, 1), saa())
    fourth.answer(200, welcome())
    notified(s, "renotify", 1800.5, notify(2, subscribe, document(1, event="refreshed")), SECOND)

    fifth = goes(
        s, ("refresh", "refreshed"), 3000.0, register(5, THIRD, credentials(v2), verify=SECOND), "yes", inside, 5
    )
    s.ask("sa3", 3000.05, S_CX, sar(3, ServerAssignmentType.RE_REGISTRATION, 1), saa())
    fifth.answer(200, welcome())
    sixth = goes(
        s,
        ("goodbye", "farewell"),
        3100.0,
        register(6, THIRD, credentials(v2), verify=SECOND, expires=0),
        "yes",
        inside,
        6,
    )
    s.ask("sa4", 3100.05, S_CX, sar(4, ServerAssignmentType.USER_DEREGISTRATION, 1), saa())
    sixth.answer(200, [("Contact", f"<{CONTACT}>;expires=0"), ("Path", PATH)])
    last = notify(3, subscribe, document(2, "terminated", "unregistered", 0), "terminated;reason=noresource")
    notified(s, "last-notify", 3100.3, last, SECOND)
    return s


def key_ring() -> KeyRing:
    """A ring that knows Alice's key."""
    ring = KeyRing()
    ring.add_milenage(K, opc=OPC, impi=IMPI)
    return ring


def malformed(error: Exception, time: float, frame: int) -> MalformedRecord:
    """Diameter from the HSS that could not be read."""
    return MalformedRecord(
        time=time,
        frames=(frame,),
        src=HSS,
        dst=S_CX,
        protocol="Diameter",
        error=error,  # type: ignore[arg-type]
    )


# ---------------------------------------------------------------------------------------------------------- the cases

#: What breaks a story.
Spoil = Callable[[Story], object]


@dataclass(frozen=True)
class Case:
    """What is broken in the sane story, and what is found.

    rule: the only finding's, but for those of `also`, which follow of necessity. spoil: breaks the story. at: the step
    whose frame comes first; evidence: those after it. text: what the finding's text has in it. keyed: Alice's key is
    known.
    """

    rule: str
    spoil: Spoil
    at: str
    text: str
    role: Role
    evidence: tuple[str, ...] = ()
    level: Level = Level.VIOLATION
    also: frozenset[str] = frozenset()
    keyed: bool = False

    def __str__(self) -> str:
        return f"{self.rule}: {self.text}"


def check(case: Case) -> None:
    """Play a case."""
    story = sane()
    if case.keyed:
        story.keys = key_ring()
    case.spoil(story)
    found = findings(story)
    told = "\n".join(f"{each.rule} {each.role} {each.level} {each.records}: {each.text}" for each in found)
    mine = [each for each in found if each.rule == case.rule and case.text in each.text]
    assert len(mine) == 1, told or "nothing was found"
    assert {each.rule for each in found} == {case.rule, *case.also}, told
    only = mine[0]
    assert (only.role, only.level) == (case.role, case.level), told
    assert only.clause == RULES[case.rule].printed_clause
    assert "\n" not in only.text
    assert not any(
        secret.hex() in only.text for vector in story.vectors for secret in (vector.ck, vector.ik, vector.xres)
    )
    assert [story.name_of(frame) for frame in only.records] == [case.at, *case.evidence], told


def rules_lacking(cases: Iterable[Case], *modules: str) -> set[str]:
    """The rules of modules that no case breaks."""
    rules = {rule.id for rule in our_rules() if rule.check.__module__.rpartition(".")[2] in modules}
    assert rules, f"no rules in {modules}"
    return rules - {case.rule for case in cases}


def header(step: str, name: str, value: str | None) -> Spoil:
    """Set a header of a step, or take it away."""

    def spoil(story: Story) -> None:
        if value is None:
            assert story[step].message.remove(name)
        else:
            story[step].message.set(name, value)

    return spoil


def edit(step: str, name: str, pattern: str, replacement: str) -> Spoil:
    """Replace something in a header of a step."""
    return lambda story: story[step].edit(name, pattern, replacement)


def sent_up(name: str, header_name: str, value: str | None) -> Spoil:
    """Set a header of a request as the P-CSCF sent it, and as it was passed on from there; or take it away."""
    return _on(("/p", "/i"), name, header_name, value)


def sent_down(name: str, header_name: str, value: str | None) -> Spoil:
    """Set a header of an answer as the S-CSCF sent it, and as it was passed on to Alice; or take it away."""
    return _on(("/s", "/i", ""), name, header_name, value)


def _on(tails: tuple[str, ...], name: str, header_name: str, value: str | None) -> Spoil:
    def spoil(story: Story) -> None:
        for step in [f"{name}{tail}" for tail in tails if f"{name}{tail}" in story.steps]:
            header(step, header_name, value)(story)

    return spoil


def edit_up(name: str, header_name: str, pattern: str, replacement: str) -> Spoil:
    """Replace something in a header of a REGISTER as the P-CSCF sent it."""
    return every(*[edit(f"{name}/{tail}", header_name, pattern, replacement) for tail in "pi"])


def edit_down(name: str, header_name: str, pattern: str, replacement: str) -> Spoil:
    """Replace something in a header of an answer to REGISTER as the S-CSCF sent it."""
    return every(*[edit(f"{name}{tail}", header_name, pattern, replacement) for tail in ("/s", "/i", "")])


def flagged(name: str, value: str) -> Spoil:
    """Say something else in integrity-protected of a REGISTER."""
    return edit_up(name, "Authorization", 'integrity-protected="[a-z]*"', f'integrity-protected="{value}"')


def avp(step: str, name: str, value: Any) -> Spoil:
    """Set an AVP of a step, or take it away."""
    return lambda story: story[step].put(name, value)


def every(*spoils: Spoil) -> Spoil:
    """Several of them."""

    def spoil(story: Story) -> None:
        for each in spoils:
            each(story)

    return spoil


def until(last: str, *spoils: Spoil) -> Spoil:
    """The story up to a step only, which is then spoilt."""
    return every(lambda story: story.until(last), *spoils)


def sound(*spoils: Spoil, keyed: bool = False) -> None:
    """Nothing is found although something is unusual."""
    story = sane()
    if keyed:
        story.keys = key_ring()
    every(*spoils)(story)
    found = findings(story)
    assert not found, "\n".join(f"{each.rule} {each.role} {each.records}: {each.text}" for each in found)
