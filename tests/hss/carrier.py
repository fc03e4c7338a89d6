"""The least carrier: performs an HSS's effects against a MemoryStore, and S-CSCFs that talk to it over real octets."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from hss.node import HssConfig, HssNode
from hss.store import MemoryStore
from hss.subscriber import Subscriber
from imslab.core import effects as fx
from imslab.core import events as ev
from imslab.core.entropy import SeededEntropy
from imslab.core.flow import Endpoint, Flow, Transport
from imslab.diameter import cx
from imslab.diameter.cx import CxAnswer, CxRequest
from imslab.diameter.message import DiameterMessage, StreamFramer, parse
from imslab.diameter.peer import Identity, Peer

REALM = "ims.mnc001.mcc001.3gppnetwork.org"
HSS_HOST = f"hss.{REALM}"
LISTEN = Endpoint("192.0.2.1", 3868)

K = bytes.fromhex("465b5ce8b199b49faa5f0a2ee238a6bc")
OPC = bytes.fromhex("cd63cb71954a9f4e48a5994e37a02baf")
IMSI = "001010000000001"
IMPI = f"{IMSI}@{REALM}"
IMPU = f"sip:{IMPI}"


def subscriber(**options: Any) -> Subscriber:
    return Subscriber.from_imsi(IMSI, K, OPC, **options)


class Bench:
    """An HSS, its store, and the S-CSCFs connected to it."""

    def __init__(
        self,
        subscribers: Iterable[Subscriber] = (),
        faults: Iterable[str] = (),
        seed: int = 1,
        **config: Any,
    ) -> None:
        self.store = MemoryStore(subscribers)
        self.node = HssNode("hss", HssConfig(HSS_HOST, REALM, (LISTEN,), **config), SeededEntropy(seed, "hss"), faults)
        self.now = 0.0
        self.log: list[fx.Effect] = []
        self.clients: dict[Flow, Client] = {}
        #: True: a Persist waits for `commit`, and so does what follows it in its list.
        self.slow = False
        self.waiting: deque[deque[fx.Effect]] = deque()
        self.tell(ev.Started())

    def tell(self, event: ev.Event) -> None:
        self.node.handle(event, self.now)
        self.perform(deque(self.node.take()))

    def perform(self, effects: deque[fx.Effect]) -> None:
        while effects:
            effect = effects.popleft()
            if isinstance(effect, fx.Persist) and self.slow:
                effects.appendleft(effect)
                self.waiting.append(effects)
                return
            self.log.append(effect)
            match effect:
                case fx.Load(key=key):
                    self.tell(ev.Loaded(key, self.store.load(key)))
                case fx.Persist(change=change):
                    self.store.commit(change)
                    self.tell(ev.Committed(change))
                case fx.Send(flow=flow, octets=octets):
                    self.clients[flow].got(octets)
                case fx.Close(flow=flow):
                    self.clients[flow].closed = True

    def commit(self) -> None:
        """Perform the oldest list that waits for its commit."""
        effects = self.waiting.popleft()
        slow, self.slow = self.slow, False
        first = effects.popleft()
        assert isinstance(first, fx.Persist)
        self.perform(deque([first]))
        self.slow = slow
        self.perform(effects)

    def command(self, verb: str, **arguments: Any) -> None:
        self.tell(ev.Command(verb, arguments))

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.tell(ev.Timer())

    def emitted(self, kind: str = "") -> list[str]:
        return [
            effect.text
            for effect in self.log
            if isinstance(effect, fx.Emit) and effect.kind in (kind, kind or effect.kind)
        ]

    def connect(self, host: str = "scscf", **options: Any) -> Client:
        client = Client(self, host, len(self.clients) + 1, **options)
        self.clients[client.flow] = client
        self.tell(ev.Connected(client.flow))
        client.start()
        return client


class Client:
    """An S-CSCF (or I-CSCF): a Diameter peer that asks and waits."""

    def __init__(self, bench: Bench, host: str, number: int, *, silent: bool = False) -> None:
        self.bench = bench
        self.host = f"{host}.{REALM}"
        self.name = f"sip:{host}.{REALM}:6060"
        self.flow = Flow(Transport.TCP, LISTEN, Endpoint(f"192.0.2.{number + 10}", 40000))
        self.peer = Peer(Identity(self.host, REALM), SeededEntropy(number, host), initiator=True)
        self.silent = silent
        self.closed = False
        self.octets: list[bytes] = []
        self.answers: list[DiameterMessage] = []
        self.requests: list[DiameterMessage] = []
        self.count = 0

    def start(self) -> None:
        if not self.silent:
            self.peer.connected(self.bench.now)
            self.flush()

    def flush(self) -> None:
        octets = self.peer.take_output()
        if octets:
            self.bench.tell(ev.Arrival(self.flow, octets))

    def got(self, octets: bytes) -> None:
        self.octets.append(octets)
        if self.silent:
            return
        for message in self.peer.receive(octets, self.bench.now):
            (self.requests if message.request else self.answers).append(message)
        self.flush()

    def hang_up(self) -> None:
        self.bench.tell(ev.Closed(self.flow))

    def raw(self) -> list[DiameterMessage]:
        """What came, read without a state machine."""
        return [parse(single) for single in StreamFramer().feed(b"".join(self.octets))]

    def head(self) -> dict[str, Any]:
        self.count += 1
        return {
            "session_id": f"{self.host};{self.count};0",
            "origin_host": self.host,
            "origin_realm": REALM,
            "destination_realm": REALM,
        }

    def send(self, message: DiameterMessage) -> None:
        self.peer.send_request(message, self.bench.now, self.count)
        self.flush()

    def ask(self, request: CxRequest) -> Any:
        """The answer, read."""
        self.send(request.to_message())
        message = self.answers.pop()
        return cx.COMMANDS[message.command, False].from_message(message)

    def answer(self, **result: Any) -> None:
        """Answer the oldest request of the HSS."""
        request = self.requests.pop(0)
        cls = cx.COMMANDS[request.command, False]
        assert issubclass(cls, CxAnswer)
        self.peer.send_answer(cls(origin_host=self.host, origin_realm=REALM, **result).to_message(request), 0.0)
        self.flush()

    # --- the four questions

    def uar(
        self, kind: int | None = None, impi: str = IMPI, impu: str = IMPU, visited: str = REALM, **more: Any
    ) -> Any:
        if kind is not None:
            more["authorization_type"] = cx.UserAuthorizationType(kind)
        return self.ask(
            cx.UserAuthorizationRequest(
                **self.head(), user_name=impi, public_identity=impu, visited_network=visited, **more
            )
        )

    def lir(self, impu: str = IMPU, **more: Any) -> Any:
        return self.ask(cx.LocationInfoRequest(**self.head(), public_identity=impu, **more))

    def mar_request(
        self,
        count: int = 1,
        *,
        impi: str = IMPI,
        impu: str = IMPU,
        scheme: str | None = cx.SCHEME_AKA,
        auts: bytes | None = None,
        server: str = "",
    ) -> cx.MultimediaAuthRequest:
        return cx.MultimediaAuthRequest(
            **self.head(),
            user_name=impi,
            public_identity=impu,
            item=cx.AuthDataItem(scheme=scheme, authorization=auts),
            number_items=count,
            server_name=server or self.name,
        )

    def mar(self, count: int = 1, **options: Any) -> Any:
        return self.ask(self.mar_request(count, **options))

    def sar(
        self,
        kind: int,
        *impus: str,
        impi: str | None = IMPI,
        available: int = 0,
        server: str = "",
    ) -> Any:
        return self.ask(
            cx.ServerAssignmentRequest(
                **self.head(),
                user_name=impi,
                public_identities=list(impus),
                server_name=server or self.name,
                assignment_type=cx.ServerAssignmentType(kind),
                already_available=cx.UserDataAlreadyAvailable(available),
            )
        )

    def register(self, impu: str = IMPU, impi: str = IMPI) -> None:
        assert self.mar(impi=impi, impu=impu).is_success
        assert self.sar(1, impu, impi=impi).is_success
