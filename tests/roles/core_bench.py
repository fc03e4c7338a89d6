"""What I-CSCF and S-CSCF meet in tests: an HSS that says what it is told to, and SIP neighbours without a mind.

Digest responses are computed here with hashlib alone, so that the S-CSCF is not judged by the code it uses itself.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from imslab.core import effects as fx
from imslab.core import events as ev
from imslab.core.entropy import SeededEntropy
from imslab.core.flow import Endpoint, Flow, Transport
from imslab.diameter.cx import (
    COMMANDS,
    AuthDataItem,
    CxAnswer,
    CxRequest,
    MultimediaAuthAnswer,
    MultimediaAuthRequest,
    ServerAssignmentAnswer,
    ServerAssignmentRequest,
)
from imslab.diameter.message import DiameterMessage
from imslab.diameter.peer import Identity, Peer
from imslab.diameter.userdata import PublicIdentity, ServiceProfile, UserProfile, write_userdata
from imslab.roles.cx_client import CxConfig
from imslab.sip.message import Message, Request, Response, response_to
from imslab.sip.parser import StreamFramer, parse
from tests.roles.wire import Wire

DOMAIN = "ims.example"
PCSCF = Endpoint("198.51.100.1", 5060)
ICSCF = Endpoint("198.51.100.2", 5060)
SCSCF = Endpoint("198.51.100.3", 5060)
HSS = Endpoint("198.51.100.4", 3868)
SCSCF_NAME = f"sip:scscf.{DOMAIN}:5060"
IMPI = f"001010000000001@{DOMAIN}"
IMPU = f"sip:001010000000001@{DOMAIN}"
ALICE = f"sip:alice@{DOMAIN}"
TEL = "tel:+15550001"
PATH = "<sip:token1@198.51.100.1:5060;lr>"
UDP, TCP = Transport.UDP, Transport.TCP
_branches = itertools.count(1)

R = TypeVar("R", bound=CxRequest)
#: What the HSS does with a request: an answer, a raw message, octets, or silence.
Script = Callable[[Any], "CxAnswer | DiameterMessage | bytes | None"]


def cx_config(role: str, local: Endpoint, timeout: float = 5.0) -> CxConfig:
    """The Diameter side of a box."""
    return CxConfig(origin_host=f"{role}.{DOMAIN}", origin_realm=DOMAIN, local=local.host, hss=HSS, timeout=timeout)


class ScriptedHss:
    """A Diameter node. script: request class → what to do with it. got: the requests, in order."""

    def __init__(self) -> None:
        self.name = "hss"
        self.script: dict[type[CxRequest], Script] = {}
        self.got: list[CxRequest] = []
        self.messages: list[DiameterMessage] = []
        self.pushed: list[DiameterMessage] = []
        self.up = True
        self._peers: dict[Flow, Peer] = {}
        self._effects: list[fx.Effect] = []
        self._now = 0.0

    def handle(self, event: ev.Event, now: float) -> None:
        self._now = now
        match event:
            case ev.Started():
                self._effects.append(fx.Listen(TCP, HSS))
            case ev.Connected(flow):
                entropy = SeededEntropy(1, str(flow))
                identity = Identity(f"hss.{DOMAIN}", DOMAIN, (HSS.host,))
                self._peers[flow] = Peer(identity, entropy, initiator=False, watchdog=0)
                self._peers[flow].connected(now)
            case ev.Closed(flow):
                self._peers.pop(flow, None)
            case ev.Arrival(flow, octets) if flow in self._peers:
                for message in self._peers[flow].receive(octets, now):
                    self._take(flow, message)
        for flow, peer in self._peers.items():
            output = peer.take_output()
            if output:
                self._effects.append(fx.Send(flow, output))

    def _take(self, flow: Flow, message: DiameterMessage) -> None:
        peer = self._peers[flow]
        if not message.request:
            self.pushed.append(message)
            return
        self.messages.append(message)
        request = COMMANDS[message.command, True].from_message(message)
        assert isinstance(request, CxRequest)
        self.got.append(request)
        said = self.script[type(request)](request)
        if said is None:
            return
        if isinstance(said, bytes):
            self._effects.append(fx.Send(flow, said))
        else:
            peer.send_answer(said.to_message(message) if isinstance(said, CxAnswer) else said, self._now)

    def next_timer(self) -> float | None:
        return None

    def take(self) -> list[fx.Effect]:
        taken, self._effects = self._effects, []
        return taken

    def of(self, kind: type[R]) -> list[R]:
        """The requests of one kind."""
        return [each for each in self.got if isinstance(each, kind)]

    def push(self, request: CxRequest) -> None:
        """Send a request of the HSS's own (to be followed by `Wire.give(hss, Timer())`)."""
        for peer in self._peers.values():
            peer.send_request(request.to_message(), self._now, "push")

    def disconnect(self) -> None:
        """Say farewell to everybody."""
        for peer in self._peers.values():
            peer.disconnect(self._now)


@dataclass(slots=True)
class Got:
    """A message that a neighbour got, when, and by which flow as it sees it."""

    time: float
    flow: Flow
    message: Message


class Neighbour:
    """A SIP node without a mind of its own. answer: called for each request, gives what to say, or None."""

    def __init__(self, name: str, *listen: Endpoint) -> None:
        self.name = name
        self.listen = listen
        self.got: list[Got] = []
        self.answer: Callable[[Request], Response | list[Response] | None] = lambda request: response_to(request, 200)
        self._framers: dict[Flow, StreamFramer] = {}
        self._effects: list[fx.Effect] = []

    def handle(self, event: ev.Event, now: float) -> None:
        match event:
            case ev.Started():
                for local in self.listen:
                    self._effects += [fx.Listen(UDP, local), fx.Listen(TCP, local)]
            case ev.Connected(flow):
                self._framers[flow] = StreamFramer()
            case ev.Arrival(flow, octets):
                whole = self._framers[flow].feed(octets) if flow.transport.is_stream else [octets]
                for each in whole:
                    self._take(Got(now, flow, parse(each)))

    def _take(self, got: Got) -> None:
        self.got.append(got)
        message = got.message
        if isinstance(message, Request) and message.method != "ACK":
            said = self.answer(message)
            for response in said if isinstance(said, list) else [said] if said is not None else []:
                self._effects.append(fx.Send(got.flow, response.encode()))

    def next_timer(self) -> float | None:
        return None

    def take(self) -> list[fx.Effect]:
        taken, self._effects = self._effects, []
        return taken

    def send(self, remote: Endpoint, message: Message | bytes) -> None:
        """Send over UDP from our first endpoint (to be followed by `Wire.give(node, Timer())`)."""
        octets = message if isinstance(message, bytes) else message.encode()
        self._effects.append(fx.Send(Flow(UDP, self.listen[0], remote), octets))

    @property
    def requests(self) -> list[Request]:
        """The requests that came, without repetitions."""
        found: dict[bytes, Request] = {}
        for got in self.got:
            if isinstance(got.message, Request):
                found.setdefault(got.message.encode(), got.message)
        return list(found.values())

    @property
    def responses(self) -> list[Response]:
        """The responses that came."""
        return [got.message for got in self.got if isinstance(got.message, Response)]


# ---- vectors, profiles, digests


def vector(number: int, item: int | None = None) -> AuthDataItem:
    """A vector that is easily told from others; nobody here needs to verify its MAC."""
    seed = hashlib.sha512(f"vector {number}".encode()).digest()
    return AuthDataItem(
        number=item,
        scheme="Digest-AKAv1-MD5",
        authenticate=seed[:32],
        authorization=seed[32:40],
        ck=seed[32:48],
        ik=seed[48:],
    )


def profile(*identities: str, barred: Iterable[str] = (), impi: str = IMPI) -> bytes:
    """User data with these identities in this order."""
    marked = [PublicIdentity(uri, uri in tuple(barred)) for uri in identities]
    return write_userdata(UserProfile(impi, [ServiceProfile(marked)]))


def md5(text: bytes) -> str:
    return hashlib.md5(text, usedforsecurity=False).hexdigest()


def aka_response(
    nonce: str, res: bytes, *, username: str = IMPI, realm: str = DOMAIN, uri: str = f"sip:{DOMAIN}"
) -> str:
    """RFC 2617 3.2.2.1 without qop, with RES as password (RFC 3310 3.3)."""
    secret = md5(f"{username}:{realm}:".encode() + res)
    return md5(f"{secret}:{nonce}:{md5(f'REGISTER:{uri}'.encode())}".encode())


def sip_request(
    method: str,
    uri: str,
    *,
    sender: str,
    to: str,
    via: Endpoint = PCSCF,
    call_id: str = "call-1@10.0.0.2",
    cseq: int = 1,
    branch: str = "",
    tag: str = "uetag",
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
) -> Request:
    """A request as it arrives on Mw."""
    branch = branch or f"z9hG4bKtest{next(_branches)}"
    rows = [
        ("Via", f"SIP/2.0/UDP {via};branch={branch}"),
        ("Via", f"SIP/2.0/UDP 10.0.0.2:5062;branch={branch}ue"),
        ("Max-Forwards", "69"),
        ("From", f"<{sender}>;tag={tag}"),
        ("To", to if to.startswith("<") else f"<{to}>"),
        ("Call-ID", call_id),
        ("CSeq", f"{cseq} {method}"),
        *headers,
    ]
    return Request(method, uri, rows, body)


@dataclass
class Core:
    """Wire, HSS and the neighbours; `box` is the node under test, `home` its address."""

    box: Any
    home: Endpoint
    wire: Wire = field(default_factory=Wire)
    hss: ScriptedHss = field(default_factory=ScriptedHss)
    pcscf: Neighbour = field(default_factory=lambda: Neighbour("pcscf", PCSCF))

    def start(self) -> None:
        """Everybody on the wire; the HSS first."""
        self.wire.names |= {f"scscf.{DOMAIN}": SCSCF.host, f"icscf.{DOMAIN}": ICSCF.host}
        self.wire.add(self.hss, HSS.host)
        self.wire.add(self.pcscf, PCSCF.host)
        self.wire.add(self.box, self.home.host)

    def kick(self, node: Any) -> None:
        """Let a scripted node do what it has been told."""
        self.wire.give(node, ev.Timer())

    def send(self, message: Message | bytes, frm: Neighbour | None = None) -> list[Response]:
        """Send to the box; the answers that came at this moment."""
        neighbour = frm or self.pcscf
        before = len(neighbour.got)
        neighbour.send(self.home, message)
        self.kick(neighbour)
        return [got.message for got in neighbour.got[before:] if isinstance(got.message, Response)]

    def push(self, request: CxRequest) -> DiameterMessage:
        """The box's answer to a request of the HSS."""
        before = len(self.hss.pushed)
        self.hss.push(request)
        self.kick(self.hss)
        (answer,) = self.hss.pushed[before:]
        return answer


class Subscribers:
    """The HSS's usual answers for S-CSCF tests: vectors one after the other, one profile."""

    def __init__(self, hss: ScriptedHss) -> None:
        self.hss = hss
        self.count = 0
        self.profile: bytes | None = profile(IMPU, ALICE, TEL)
        self.install()

    def install(self) -> None:
        """Answer as usual, from now on."""
        self.hss.script[MultimediaAuthRequest] = self.maa
        self.hss.script[ServerAssignmentRequest] = self.saa

    def maa(self, request: MultimediaAuthRequest) -> CxAnswer | None:
        items = []
        for item in range(1, request.number_items + 1):
            self.count += 1
            items.append(vector(self.count, item))
        return MultimediaAuthAnswer(
            result_code=2001,
            origin_host=f"hss.{DOMAIN}",
            origin_realm=DOMAIN,
            user_name=request.user_name,
            public_identity=request.public_identity,
            number_items=len(items),
            items=items,
        )

    def saa(self, request: ServerAssignmentRequest) -> CxAnswer | None:
        wanted = request.assignment_type in (1, 2)
        return ServerAssignmentAnswer(
            result_code=2001,
            origin_host=f"hss.{DOMAIN}",
            origin_realm=DOMAIN,
            user_name=request.user_name,
            user_data=self.profile if wanted else None,
        )
