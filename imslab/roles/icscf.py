"""The I-CSCF: the door of the home network (24.229 5.3; 29.228 6.1.1, 6.1.4).

A REGISTER comes from some P-CSCF. The I-CSCF asks the HSS whether this user may register here (UAR), and the answer
names the S-CSCF that already serves the user, or says what an S-CSCF must be able to do; then the I-CSCF chooses one
and passes the REGISTER on, unchanged but for its Request-URI and our Via. It keeps nothing of the user: the next
REGISTER asks again.

A request for a user of the home network comes from an S-CSCF or from outside. The I-CSCF asks who serves that user
(LIR) and passes the request on.

    state of a REGISTER   input                                   next         action
    ASKING                UAA names a server                      FORWARDED    resolve it, pass the REGISTER on
    ASKING                UAA lists capabilities, or none         FORWARDED    choose a server that has them, pass on
    ASKING                no server has them                      ANSWERED     600
    ASKING                UAA is an error                         ANSWERED     as REFUSALS says
    ASKING                no UAA in time, or an unreadable one    ANSWERED     504, 500
    FORWARDED             the server is silent, or has no address,
                          or answers 3xx or 480                   FORWARDED    the next one that is able
    FORWARDED             the same, and it was named by the HSS   ASKING       UAR for capabilities, to choose another
    FORWARDED             the same, and nobody is left            ANSWERED     504, or what it said

    state of any other    input                                   next         action
    ASKING                LIA names a server                      FORWARDED    it goes on top of the Route
    ASKING                LIA is an error, or names nobody        ANSWERED     as NOT_FOUND says
    ASKING                no LIA in time, or an unreadable one    ANSWERED     480

TS 24.229 5.3 has not been read here; the status codes are those that implementations agree on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from imslab.core import events as ev
from imslab.core.entropy import Entropy
from imslab.core.errors import PeerError
from imslab.core.flow import Endpoint, Transport
from imslab.diameter.codes import CxResult, ResultCode, UserAuthorizationType
from imslab.diameter.cx import (
    CxAnswer,
    LocationInfoAnswer,
    LocationInfoRequest,
    ServerCapabilities,
    UserAuthorizationAnswer,
    UserAuthorizationRequest,
)
from imslab.roles.cx_client import CxConfig, Trouble, identity
from imslab.roles.cx_proxy import CxProxy
from imslab.sip.message import Request, Response
from imslab.sip.transaction import Transaction
from imslab.sip.uri import Uri


@dataclass(frozen=True, slots=True)
class ServerChoice:
    """An S-CSCF that may be chosen: its name as a SIP URI, and what it can do."""

    name: str
    capabilities: frozenset[int] = frozenset()


@dataclass(slots=True, kw_only=True)
class IcscfConfig:
    """The I-CSCF. domain: of the home network. servers: in order of preference."""

    local: Endpoint
    domain: str
    cx: CxConfig
    servers: Sequence[ServerChoice] = field(default_factory=tuple)


#: What an HSS's no means for the UE. Experimental results first (the key is true), base results second.
#: Whatever is not about the user is our own trouble: 500.
REFUSALS: dict[tuple[bool, int], int] = {
    (True, CxResult.USER_UNKNOWN): 403,
    (True, CxResult.IDENTITIES_DONT_MATCH): 403,
    (True, CxResult.ROAMING_NOT_ALLOWED): 403,
    (True, CxResult.IDENTITY_NOT_REGISTERED): 403,
    (False, ResultCode.AUTHORIZATION_REJECTED): 403,
}

#: The same for a request that looks for its addressee; what is not here is 480.
NOT_FOUND: dict[tuple[bool, int], int] = {
    (True, CxResult.USER_UNKNOWN): 404,
    (True, CxResult.IDENTITY_NOT_REGISTERED): 480,
}


@dataclass(slots=True)
class Search:
    """The search of a REGISTER for its S-CSCF.

    query: the UAR. choices: names still to be tried, best first. tried: those that did not serve. named: the HSS had
    named the server, so that its capabilities have not been asked for yet.
    """

    txn: Transaction
    request: Request
    query: UserAuthorizationRequest
    choices: list[str] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)
    named: bool = False


class Icscf(CxProxy):
    """See the module's page."""

    role: ClassVar[str] = "I-CSCF"

    def __init__(self, name: str, config: IcscfConfig, entropy: Entropy, faults: Iterable[str] = ()) -> None:
        super().__init__(name, config.local, config.cx, entropy, faults)
        self.config = config

    def on_request(self, txn: Transaction, request: Request, arrival: ev.Arrival) -> None:
        copy = self.next_hop_copy(txn)
        if copy is None or self.refuses_extensions(txn):
            return
        self._pop_own_route(copy)
        if request.method == "REGISTER":
            self._authorize(txn, copy)
        elif copy.to.tag is not None:
            self.respond(txn, 481)  # a dialog never has the I-CSCF in its route
        else:
            self._locate(txn, copy)

    # ---- REGISTER

    def _authorize(self, txn: Transaction, request: Request) -> None:
        """29.228 6.1.1: ask for the user's S-CSCF."""
        public = identity(request.to.uri.aor, "To")
        credentials = request.authorization
        # 24.229 5.3.1.2: without Authorization, the private identity is derived from the public one.
        private = credentials[0].username if credentials and credentials[0].username else _private_of(public)
        networks = request.p_visited_network_id
        leaving = _is_leaving(request)
        query = UserAuthorizationRequest(
            **self.cx.header(),
            user_name=identity(private, "Authorization"),
            public_identity=public,
            visited_network=networks[0] if networks else self.config.domain,
            authorization_type=UserAuthorizationType.DE_REGISTRATION if leaving else UserAuthorizationType.REGISTRATION,
        )
        search = Search(txn, request, query)
        if "icscf-no-uar" in self.faults:
            self._choose(search, None)
        else:
            self._ask(search)

    def _ask(self, search: Search) -> None:
        self.cx.ask(search.query, UserAuthorizationAnswer, lambda answer: self._authorized(search, answer))

    def _authorized(self, search: Search, answer: UserAuthorizationAnswer | Trouble) -> None:
        if isinstance(answer, Trouble):
            self.emit("timeout", f"HSS: {answer} to UAR")
            self.respond(search.txn, answer.status)
        elif not answer.is_success and "icscf-ignores-refusal" not in self.faults:
            self._refuse_by(search.txn, REFUSALS, answer, 500)
        elif answer.server_name and answer.server_name not in search.tried:
            search.named = search.query.authorization_type is not UserAuthorizationType.REGISTRATION_AND_CAPABILITIES
            search.choices = [answer.server_name]
            if "icscf-other-server" in self.faults:
                others = [each.name for each in self.config.servers if each.name != answer.server_name]
                search.choices = others or search.choices
            self._to_server(search)
        else:
            self._choose(search, answer.capabilities)

    def _choose(self, search: Search, capabilities: ServerCapabilities | None) -> None:
        """29.229 6.3.4: what is mandatory must be there, what is optional should be, and names come first."""
        wanted = capabilities or ServerCapabilities()
        needed, liked = set(wanted.mandatory), set(wanted.optional)
        able = [each for each in self.config.servers if needed <= each.capabilities]
        able.sort(key=lambda each: -len(liked & each.capabilities))
        names = dict.fromkeys([*wanted.server_names, *(each.name for each in able)])
        search.choices = [name for name in names if name not in search.tried]
        if search.choices:
            self._to_server(search)
        elif search.tried:
            self.respond(search.txn, 504)
        else:
            self.emit("no-server", "no S-CSCF has the capabilities that the HSS demands")
            self.respond(search.txn, 600)

    def _to_server(self, search: Search) -> None:
        """24.229 5.3.1.2: the Request-URI of the REGISTER becomes the S-CSCF; another one when it does not serve."""
        name = search.choices.pop(0)
        search.tried.append(name)

        def found(endpoint: Endpoint | None) -> None:
            if endpoint is None:
                self.emit("unresolved", f"{name} has no address")
                self._go_on(search)
                return
            request = search.request.copy()
            if "icscf-keeps-uri" not in self.faults:
                request.uri = name
            self.send_on(search.txn, request, endpoint, on_response=answered, on_silence=lambda: self._go_on(search))

        def answered(response: Response) -> Response | None:
            # 24.229 5.3.1.3: it will not serve this user.
            if (response.status == 480 or 300 <= response.status < 400) and (search.choices or search.named):
                self._go_on(search)
                return None
            return response

        self._find(name, found)

    def _go_on(self, search: Search) -> None:
        """The last choice does not serve: the next one, or others that the HSS would allow, or nobody."""
        if search.choices:
            self._to_server(search)
        elif search.named:
            search.named = False
            search.query.authorization_type = UserAuthorizationType.REGISTRATION_AND_CAPABILITIES
            search.query.session_id = self.cx.header()["session_id"]
            self._ask(search)
        else:
            self.respond(search.txn, 504)

    # ---- all other requests

    def _locate(self, txn: Transaction, request: Request) -> None:
        """29.228 6.1.4: ask who serves the addressee."""
        public = identity(request.request_uri.aor, "Request-URI")
        query = LocationInfoRequest(**self.cx.header(), public_identity=public)
        self.cx.ask(query, LocationInfoAnswer, lambda answer: self._located(txn, request, answer))

    def _located(self, txn: Transaction, request: Request, answer: LocationInfoAnswer | Trouble) -> None:
        if isinstance(answer, Trouble):
            self.emit("timeout", f"HSS: {answer} to LIR")
            self.respond(txn, 480)
            return
        server = answer.server_name
        if not answer.is_success or not server:
            self._refuse_by(txn, NOT_FOUND, answer, 480)
            return

        def found(endpoint: Endpoint | None) -> None:
            if endpoint is None:
                self.emit("unresolved", f"{server} has no address")
                self.respond(txn, 480)
                return
            # 24.229 5.3.2.1: the S-CSCF goes on top of the route, the Request-URI stays the user's.
            uri = Uri.parse(server)
            request.prepend("Route", f"<{uri if 'lr' in uri.params else uri.with_params({'lr': None})}>")
            self.send_on(txn, request, endpoint)

        self._find(server, found)

    # ---- shared

    def _pop_own_route(self, request: Request) -> None:
        routes = request.route
        here = (self.core.host, self.core.port)
        if routes and (routes[0].uri.host, routes[0].uri.port or 5060) == here:
            request.replace("Route", [str(route) for route in routes[1:]])

    def _find(self, name: str, then: Callable[[Endpoint | None], None]) -> None:
        """The address of an S-CSCF by its name, which the HSS or our configuration gave."""
        try:
            uri = Uri.parse(name)
        except PeerError as error:
            self.emit("malformed", f"Server-Name: {error}")
            then(None)
            return
        if uri.host:
            self.resolve(uri.host, uri.port or 5060, Transport.UDP, then)
        else:
            then(None)

    def _refuse_by(
        self, txn: Transaction, table: dict[tuple[bool, int], int], answer: CxAnswer, otherwise: int
    ) -> None:
        experimental = answer.experimental is not None
        code = answer.experimental if answer.experimental is not None else answer.result_code
        status = table.get((experimental, code or 0), otherwise)
        self.emit("rejected", f"HSS: {'experimental ' if experimental else ''}result {code}, answered {status}")
        self.respond(txn, status)


def _private_of(public: str) -> str:
    """The private identity that a temporary public one is made of (23.003 13.4B): it without its scheme."""
    return public.partition(":")[2]


def _is_leaving(request: Request) -> bool:
    """True when a REGISTER asks for zero seconds for every contact it names."""
    contacts = request.contact
    seconds = [request.expires if each.is_star or each.expires is None else each.expires for each in contacts]
    return bool(contacts) and not any(asked != 0 for asked in seconds)
