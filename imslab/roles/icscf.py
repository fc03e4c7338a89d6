"""The I-CSCF: the door of the home network (24.229 5.3; 29.228 6.1.1, 6.1.4).

A REGISTER comes from some P-CSCF. The I-CSCF asks the HSS whether this user may register here (UAR), and the answer
names the S-CSCF that already serves the user, or says what an S-CSCF must be able to do; then the I-CSCF chooses one
and passes the REGISTER on, unchanged but for its own Via. It keeps nothing of the user: the next REGISTER asks again.

A request for a user of the home network comes from an S-CSCF or from outside. The I-CSCF asks who serves that user
(LIR) and passes the request on.

    state of a request   input                                next            action
    ASKING               answer names a server                FORWARDED       resolve it, pass the request on
    ASKING               answer lists capabilities, or none   FORWARDED       choose a server that has them, pass on
    ASKING               answer is an error                   ANSWERED        answer as REFUSALS says
    ASKING               no answer in time                    ANSWERED        480 (LIR), 504 (UAR)
    FORWARDED            nobody answers                       FORWARDED       the next server that is able, or 504

TS 24.229 5.3 has not been read here; the status codes are those that implementations agree on.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from imslab.core import effects as fx
from imslab.core import events as ev
from imslab.core.entropy import Entropy
from imslab.core.flow import Endpoint, Flow, Transport
from imslab.diameter.codes import CxResult, ResultCode, UserAuthorizationType
from imslab.diameter.cx import (
    LocationInfoAnswer,
    LocationInfoRequest,
    UserAuthorizationAnswer,
    UserAuthorizationRequest,
)
from imslab.diameter.message import DiameterMessage
from imslab.roles.cx_client import ALARM, CxClient, CxConfig
from imslab.roles.proxy import Proxy
from imslab.sip.message import Request
from imslab.sip.transaction import Transaction
from imslab.sip.uri import Uri


@dataclass(frozen=True, slots=True)
class ServerChoice:
    """An S-CSCF that may be chosen: its name as a SIP URI, and what it can do."""

    name: str
    capabilities: frozenset[int] = frozenset()


@dataclass(slots=True, kw_only=True)
class IcscfConfig:
    """The I-CSCF. servers: in order of preference."""

    local: Endpoint
    domain: str
    cx: CxConfig
    servers: Sequence[ServerChoice] = field(default_factory=tuple)


#: What an HSS's no means for the UE. Experimental results first (the key is true), base results second.
REFUSALS: dict[tuple[bool, int], int] = {
    (True, CxResult.USER_UNKNOWN): 403,
    (True, CxResult.IDENTITIES_DONT_MATCH): 403,
    (True, CxResult.ROAMING_NOT_ALLOWED): 403,
    (True, CxResult.IDENTITY_NOT_REGISTERED): 403,
    (False, ResultCode.AUTHORIZATION_REJECTED): 403,
}

#: The same for a request that looks for its addressee.
NOT_FOUND: dict[tuple[bool, int], int] = {
    (True, CxResult.USER_UNKNOWN): 404,
    (True, CxResult.IDENTITY_NOT_REGISTERED): 480,
}


class Icscf(Proxy):
    """See the module's page."""

    role: ClassVar[str] = "I-CSCF"

    def __init__(self, name: str, config: IcscfConfig, entropy: Entropy, faults: Iterable[str] = ()) -> None:
        super().__init__(name, config.local, entropy, faults)
        self.config = config
        self.cx = CxClient(self, config.cx)

    # ---- hooks

    def on_started(self) -> None:
        for transport in (Transport.UDP, Transport.TCP):
            self.effect(fx.Listen(transport, self.config.local))
        self.cx.connect()

    def on_stream_open(self, asked: Flow, flow: Flow) -> None:
        if self.cx.owns(asked):
            self.cx.opened(flow)

    def on_stream_closed(self, flow: Flow, key: object, reason: str) -> None:
        if self.cx.owns(flow):
            self.cx.closed(reason)

    def on_alarm(self, key: Hashable) -> None:
        if key == ALARM:
            self.cx.connect()

    def other_timer(self) -> float | None:
        return self.cx.next_timer()

    def on_time(self) -> None:
        self.cx.time()

    def on_request(self, txn: Transaction, request: Request, arrival: ev.Arrival) -> None:
        copy = self.next_hop_copy(txn)
        if copy is None:
            return
        if request.method == "REGISTER":
            self._authorize(txn, copy)
        elif copy.to.tag is not None:
            self.respond(txn, 481)  # a dialog never has the I-CSCF in its route
        else:
            self._locate(txn, copy)

    # ---- REGISTER

    def _authorize(self, txn: Transaction, request: Request) -> None:
        """29.228 6.1.1: ask for the user's S-CSCF."""
        public = request.to.uri.aor
        credentials = request.authorization
        # 24.229 5.3.1.2: without Authorization, the private identity is derived from the public one.
        private = credentials[0].username if credentials and credentials[0].username else _private_of(public)
        networks = request.p_visited_network_id
        expires = _requested_expiry(request)
        query = UserAuthorizationRequest(
            **self.cx.header(),
            user_name=private,
            public_identity=public,
            visited_network=networks[0] if networks else self.config.domain,
            authorization_type=UserAuthorizationType.DE_REGISTRATION
            if expires == 0
            else UserAuthorizationType.REGISTRATION,
        )
        self.cx.ask(query, lambda answer: self._authorized(txn, request, answer))

    def _authorized(self, txn: Transaction, request: Request, message: DiameterMessage | None) -> None:
        if message is None:
            self.emit("timeout", "HSS: no answer to UAR")
            self.respond(txn, 504)
            return
        answer = UserAuthorizationAnswer.from_message(message)
        if not answer.is_success:
            self._refuse_by(txn, REFUSALS, answer.experimental, answer.result_code, 500)
            return
        if answer.server_name:
            choices = [answer.server_name]
        else:
            needed = set(answer.capabilities.mandatory) if answer.capabilities else set()
            liked = set(answer.capabilities.optional) if answer.capabilities else set()
            choices = [*(answer.capabilities.server_names if answer.capabilities else ())]
            able = [each for each in self.config.servers if needed <= each.capabilities]
            choices += [each.name for each in sorted(able, key=lambda each: -len(liked & each.capabilities))]
        if not choices:
            self.emit("no-server", "no S-CSCF has the capabilities that the HSS demands")
            self.respond(txn, 600)
            return
        self._to_server(txn, request, choices)

    def _to_server(self, txn: Transaction, request: Request, choices: list[str]) -> None:
        """24.229 5.3.1.2: the Request-URI of the REGISTER becomes the S-CSCF; the next one when it is silent."""
        name, rest = choices[0], choices[1:]
        uri = Uri.parse(name)

        def found(endpoint: Endpoint | None) -> None:
            if endpoint is None:
                self.emit("unresolved", f"{name} has no address")
                silent()
                return
            copy = request.copy()
            copy.uri = name
            self.send_on(txn, copy, endpoint, on_silence=silent)

        def silent() -> None:
            if rest:
                self._to_server(txn, request, rest)
            else:
                self.respond(txn, 504)

        self.resolve(uri.host, uri.port or 5060, Transport.UDP, found)

    # ---- all other requests

    def _locate(self, txn: Transaction, request: Request) -> None:
        """29.228 6.1.4: ask who serves the addressee."""
        query = LocationInfoRequest(**self.cx.header(), public_identity=request.request_uri.aor)
        self.cx.ask(query, lambda answer: self._located(txn, request, answer))

    def _located(self, txn: Transaction, request: Request, message: DiameterMessage | None) -> None:
        if message is None:
            self.emit("timeout", "HSS: no answer to LIR")
            self.respond(txn, 480)
            return
        answer = LocationInfoAnswer.from_message(message)
        if not answer.is_success or not answer.server_name:
            self._refuse_by(txn, NOT_FOUND, answer.experimental, answer.result_code, 480)
            return
        server = answer.server_name
        uri = Uri.parse(server)

        def found(endpoint: Endpoint | None) -> None:
            if endpoint is None:
                self.respond(txn, 480)
                return
            # 24.229 5.3.2.1: the S-CSCF goes on top of the route, the Request-URI stays the user's.
            request.prepend("Route", f"<{server};lr>" if ";lr" not in server else f"<{server}>")
            self.send_on(txn, request, endpoint)

        self.resolve(uri.host, uri.port or 5060, Transport.UDP, found)

    # ---- shared

    def _refuse_by(
        self,
        txn: Transaction,
        table: dict[tuple[bool, int], int],
        experimental: int | None,
        result: int | None,
        otherwise: int,
    ) -> None:
        key = (True, experimental) if experimental is not None else (False, result or 0)
        status = table.get(key, otherwise)
        self.emit("refused", f"HSS: {'experimental ' if key[0] else ''}result {key[1]}, answered {status}")
        self.respond(txn, status)


def _private_of(public: str) -> str:
    """The private identity that a temporary public one is made of (23.003 13.4B): it without its scheme."""
    return public.partition(":")[2]


def _requested_expiry(request: Request) -> int | None:
    """What a REGISTER asks for: the first contact's expires, else Expires; None if neither says anything."""
    for contact in request.contact:
        if not contact.is_star and contact.expires is not None:
            return contact.expires
    return request.expires
