"""The P-CSCF: the UE's first contact, and the only box that shares keys with it (24.229 5.2, 33.203 6 and 7).

A UE that knows nobody sends a REGISTER in clear, with the security mechanisms that it could use. The P-CSCF looks
whether one of them will do, puts its own address in as Path, says how the message was protected (it was not), and
passes it on to the home network. The 401 that comes back holds the keys CK and IK, which are not for the air: the
P-CSCF takes them out, makes the temporary set of SAs, tells the UE what it supports and which SPIs and ports it took,
and only then lets the 401 go. The UE's answer comes through that set and repeats what both had said in clear; had
somebody weakened it on the way, it would show here. When the home network says 200, the set is the established one.
Every later REGISTER comes through it, and may be challenged again: then a new set grows beside the old one.

    state         input                              next          action
    –             REGISTER without an answer         ASKED         take the offer, refuse or pass on
    CHALLENGED    REGISTER with an answer, inside    ANSWERED      compare, refuse or pass on
    CHALLENGED    failure report                     ASKED         the temporary set goes; pass on (33.203 7.3.1.2/.3)
    CHALLENGED    reg-await-auth                     –             the temporary set goes
    ASKED         401 with keys                      CHALLENGED    older temporary set goes, new one, 401 without keys
    ASKED         401 without keys                   –             500
    ASKED         2xx                                –             remember, lifetime up, pass on
    ASKED         any other final answer             –             pass on
    ASKED         nobody answers                     –             504
    ANSWERED      401 with keys                      CHALLENGED    as above (24.229 5.4.1.2.3A lets it happen twice)
    ANSWERED      2xx                                –             set established, remember, pass on, older sets go
    ANSWERED      403                                –             pass on inside, temporary set goes
    ANSWERED      any other end                      –             pass on or 500/504, temporary set goes

`ANSWERS` is the second half for the machine; the first is `on_register`, since each input there is a check. What is
let in, and which way an answer takes, are the tables of `pcscf_gm`; how sets live, that of `sa_table`. TS 24.229 5.2
has not been read here itself; reference implementations and 33.203 speak for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from imslab.core import effects as fx
from imslab.core import events as ev
from imslab.core.entropy import Entropy
from imslab.core.errors import PeerError
from imslab.core.flow import Endpoint, Flow, Transport
from imslab.ipsec.sa import Offer, check_offer, choose, derive_set
from imslab.roles.base import warning
from imslab.roles.pcscf_config import PcscfConfig
from imslab.roles.pcscf_contact import ContactKey, ContactState, contact_key, granted
from imslab.roles.pcscf_gm import ADMITTED, What, push
from imslab.roles.pcscf_proxy import OtherRequests, Refusal
from imslab.roles.sa_table import Happening, SaRecord, Stage
from imslab.sip.fields.digest import DigestChallenge, DigestCredentials
from imslab.sip.fields.security import SecurityMechanism, same_list
from imslab.sip.message import Request, Response, response_to
from imslab.sip.transaction import Transaction

__all__ = ["Pcscf", "PcscfConfig"]

_KEY = re.compile(r"[0-9A-Fa-f]{32}")


class State(StrEnum):
    """How far a REGISTER that was passed on had come."""

    ASKED = "asked"
    ANSWERED = "answered"


class Input(StrEnum):
    """What becomes of a REGISTER that was passed on."""

    CHALLENGE = "401 with keys"
    KEYLESS = "401 without keys"
    SUCCESS = "2xx"
    REFUSAL = "403"
    FAILURE = "any other final answer"
    SILENCE = "nobody answers"


class Act(StrEnum):
    """What is done about it, in order."""

    MAKE_SET = "older temporary set goes, new one comes"
    PROMOTE = "the temporary set is the established one"
    REMEMBER = "identities, routes, lifetimes"
    RELAY = "the answer goes to the UE"
    ERROR = "500 to the UE"
    TIMEOUT = "504 to the UE"
    OUTDATE = "older sets go, or are kept until the switch"
    SETTLE = "nothing registered: the SAs go; else watch the registration"
    END = "the temporary set goes"


_S, _I, _A = State, Input, Act

#: 24.229 5.2.2.2; 33.203 7.3, 7.4.2a.
ANSWERS: dict[tuple[State, Input], tuple[Act, ...]] = {
    (_S.ASKED, _I.CHALLENGE): (_A.MAKE_SET, _A.RELAY),
    (_S.ASKED, _I.KEYLESS): (_A.ERROR,),
    (_S.ASKED, _I.SUCCESS): (_A.REMEMBER, _A.RELAY, _A.SETTLE),
    (_S.ASKED, _I.REFUSAL): (_A.RELAY,),
    (_S.ASKED, _I.FAILURE): (_A.RELAY,),
    (_S.ASKED, _I.SILENCE): (_A.TIMEOUT,),
    (_S.ANSWERED, _I.CHALLENGE): (_A.MAKE_SET, _A.RELAY),
    (_S.ANSWERED, _I.KEYLESS): (_A.ERROR, _A.END),
    (_S.ANSWERED, _I.SUCCESS): (_A.REMEMBER, _A.PROMOTE, _A.RELAY, _A.OUTDATE, _A.SETTLE),
    (_S.ANSWERED, _I.REFUSAL): (_A.RELAY, _A.END),
    (_S.ANSWERED, _I.FAILURE): (_A.RELAY, _A.END),
    (_S.ANSWERED, _I.SILENCE): (_A.TIMEOUT, _A.END),
}

#: Answers that take the way of the REGISTER they belong to; all others that of the one the authentication began with.
#: (33.203 7.4: began protected?, input)
OWN_WAY = frozenset({(False, _I.SUCCESS), (True, _I.SUCCESS), (False, _I.REFUSAL)})


@dataclass(slots=True, eq=False)
class Attempt:
    """A REGISTER on its way through us.

    inside: the set it came through. way, under: how the REGISTER that began this authentication came (itself, unless it
    answers a challenge). offered, chosen: Security-Client, and the offer we would take. temporary: the set it answers
    in; made: the set that its challenge made. until: the end of the registration that it brought, plus the grace.
    remembered: it changed what is registered. entries: the home network's entry points that are still to be tried.
    """

    txn: Transaction
    contact: ContactState
    inside: SaRecord | None
    way: Flow
    under: SaRecord | None
    state: State = State.ASKED
    offered: list[SecurityMechanism] = field(default_factory=list)
    chosen: Offer | None = None
    temporary: SaRecord | None = None
    made: SaRecord | None = None
    until: float = 0.0
    remembered: bool = False
    entries: list[Endpoint] = field(default_factory=list)

    @property
    def request(self) -> Request:
        """As it came."""
        return self.txn.request


class Pcscf(OtherRequests):
    """See the module's page."""

    def __init__(self, name: str, config: PcscfConfig, entropy: Entropy, faults: Iterable[str] = ()) -> None:
        super().__init__(name, config, entropy, faults)
        self._challenged: dict[int, Transaction] = {}  # sets being installed → whose 401 waits behind them

    def on_request(self, txn: Transaction, request: Request, arrival: ev.Arrival) -> None:
        record = self.inside(arrival)
        if not self.is_gm(arrival.flow):
            if request.method == "REGISTER":
                self.respond(txn, 403)  # REGISTERs come from UEs
            else:
                self.on_core_request(txn, request)
        elif request.method == "REGISTER":
            self.on_register(txn, request, arrival)
        elif record is not None:
            self.on_ue_request(txn, request, record)
        else:
            self.on_clear_request(txn, request)

    def on_clear_request(self, txn: Transaction, request: Request) -> None:
        """Only a P-CSCF that admits everything comes here; it passes on what comes in clear."""
        copy = self.next_hop_copy(txn)
        if copy is not None:
            self._find(copy.request_uri, lambda remote: self.send_on(txn, copy, remote) if remote else None)

    # ---- REGISTER on its way in

    def on_register(self, txn: Transaction, request: Request, arrival: ev.Arrival) -> None:
        """The first half of the table. Raises PeerError for what cannot be read: 400."""
        inside = self.inside(arrival)
        what = self.what(request, arrival)
        flag = ADMITTED[inside.stage if inside else None, what]
        key = contact_key(request, arrival.flow.remote.host)
        own_key = inside.contact if inside else key
        assert isinstance(own_key, ContactKey)
        if inside is not None:
            inside.note(txn)
        attempt = Attempt(txn, self.contact_state(own_key), inside, txn.flow, inside)
        waiting = self.table.at(own_key, Stage.TEMPORARY)
        if what is What.ANSWER and waiting is inside and waiting is not None:
            attempt.state = State.ANSWERED
            attempt.temporary = waiting
        if inside is not None and inside.stage is Stage.TEMPORARY:
            attempt.way, attempt.under = inside.way, inside.under
        attempt.contact.under_way += 1
        try:
            upstream = self.next_hop_copy(txn)
            if upstream is None:
                self._end(attempt)
                return
            self.check_extensions(upstream)
            self._check_user(request, inside)
            if what is What.REPORT and waiting is not None and "pcscf-keeps-reported-set" not in self.faults:
                # 33.203 7.3.1.2, 7.3.1.3: the set of the failed authentication goes when the report comes.
                self.happen(waiting, Happening.REFUSED)
            if attempt.state is State.ANSWERED:
                self._compare(attempt)
            else:
                self._take_offer(attempt)
            self._prepare(upstream, attempt, flag)
            attempt.entries = self.entry_points(upstream.uri)
        except Refusal as refusal:
            self.refuse_attempt(attempt, refusal)
            return
        except PeerError:
            self._end(attempt)
            raise
        self._check_via(attempt, upstream)

    def _check_user(self, request: Request, inside: SaRecord | None) -> None:
        """33.203 7.1 rule 4: the user of the SA is the user of the message."""
        if inside is None or "pcscf-ignores-user" in self.faults:
            return
        if any(each.username != inside.impi for each in request.authorization):
            raise Refusal(403)

    def _compare(self, attempt: Attempt) -> None:
        """Security-Verify is our Security-Server, Security-Client that of the first REGISTER (33.203 7.2, 7.3.2.3)."""
        record = attempt.temporary
        assert record is not None
        if "pcscf-ignores-verify" in self.faults:
            return
        request = attempt.request
        if not same_list(request.security_verify, record.told) or not same_list(
            request.security_client, record.offered
        ):
            self.emit("bid-down", f"{record.impi}: what was agreed is not what is repeated", impi=record.impi)
            raise Refusal(494, self._server_list())

    def _take_offer(self, attempt: Attempt) -> None:
        """Find in Security-Client what we can use, and hold rule 3. Raises Refusal, PeerError."""
        request, inside = attempt.request, attempt.inside
        attempt.offered = request.security_client
        if not attempt.offered:
            if self.config.clear_register and inside is None:
                return
            tags = [*request.require, *request.proxy_require, *request.supported]
            if inside is None and "sec-agree" not in [tag.lower() for tag in tags]:
                raise Refusal(421, (("Require", "sec-agree"), *self._server_list()))  # RFC 3329 2.3.1
            raise Refusal(494, self._server_list())
        if len(self.contacts) > self.config.most_contacts:
            raise Refusal(503)
        usable, wrong = usable_offers(attempt.offered)
        chosen = self._choose(usable)
        if chosen is None:
            if wrong is not None and not usable:
                raise Refusal(400, (warning(self.name, wrong),))
            raise Refusal(494, self._server_list())
        try:
            self.table.check(attempt.contact.key, attempt.contact.key.host, chosen, inside)
        except PeerError as error:
            raise Refusal(400, (warning(self.name, error),)) from error
        attempt.chosen = chosen

    def _choose(self, usable: list[Offer]) -> Offer | None:
        if "pcscf-last-offer-wins" in self.faults:
            return usable[-1] if usable else None
        # 33.203 7.2: our own priority decides, and the two algorithms of one offer stay together.
        pair = choose(self.config.algorithms, [(each.alg, each.ealg) for each in usable])
        return next((each for each in usable if (each.alg, each.ealg) == pair), None)

    def _server_list(self, own: Offer | None = None) -> list[tuple[str, str]]:
        """Security-Server: everything we support, by our own priority (33.203 7.2). own: our SPIs and ports."""
        return [("Security-Server", ", ".join(str(each) for each in self._mechanisms(own)))]

    def _mechanisms(self, own: Offer | None, ue: Offer | None = None) -> list[SecurityMechanism]:
        pairs = list(self.config.algorithms)
        if "pcscf-retired-algorithms" in self.faults:
            pairs.append(("hmac-md5-96", "null"))
        if own is not None and ue is not None and "pcscf-echoes-spis" in self.faults:
            own = replace(own, spi_c=ue.spi_c, spi_s=ue.spi_s)
        if own is not None and "pcscf-swaps-ports" in self.faults:
            own = replace(own, port_c=own.port_s, port_s=own.port_c)
        if own is not None and "pcscf-one-entry-server" in self.faults:
            pairs = [(own.alg, own.ealg)]
        made = []
        for place, (alg, ealg) in enumerate(pairs):
            params: dict[str, str | None] = {"q": f"{max(0.0, 1 - place / 10):.1f}", "alg": alg, "ealg": ealg}
            params |= {"prot": "esp", "mod": "trans"}
            if own is not None:
                params |= {"spi-c": f"{own.spi_c:010d}", "spi-s": f"{own.spi_s:010d}"}
                params |= {"port-c": str(own.port_c), "port-s": str(own.port_s)}
            made.append(SecurityMechanism("ipsec-3gpp", params))
        return made

    def _prepare(self, upstream: Request, attempt: Attempt, flag: str) -> None:
        """What the home network gets to see (24.229 5.2.2.1, 5.2.2.2)."""
        self.strip_agreement(upstream)
        self.strip_claims(upstream)
        upstream.remove("Route")
        self._flag(upstream, flag if attempt.offered or attempt.temporary else "")
        if "pcscf-no-path" not in self.faults:
            push(upstream, "Path", f"<sip:{attempt.contact.token}@{self.config.mw};lr>")
        if "pcscf-no-require-path" not in self.faults and "path" not in [tag.lower() for tag in upstream.require]:
            upstream.add("Require", "path")
        if "pcscf-no-charging-vector" not in self.faults:
            upstream.set("P-Charging-Vector", self.charging_vector())
        if "pcscf-no-visited-network" not in self.faults:
            upstream.set("P-Visited-Network-ID", f'"{self.config.network}"')
        if "pcscf-record-routes-register" in self.faults:
            push(upstream, "Record-Route", f"<sip:{self.config.mw};lr>")

    def _flag(self, upstream: Request, flag: str) -> None:
        """integrity-protected is ours alone (33.203 6.1.5, P.3). flag: "" leaves it out (Digest, not AKA)."""
        if "pcscf-believes-integrity" in self.faults and any(
            each.has("integrity-protected") for each in upstream.authorization
        ):
            return
        if "pcscf-always-protected" in self.faults:
            flag = "yes"
        if "pcscf-never-protected" in self.faults:
            flag = "no"
        if "pcscf-no-integrity" in self.faults:
            flag = ""
        rows = []
        for row, credentials in _credentials(upstream):
            if credentials is None:
                rows.append(row)
                continue
            credentials.remove("integrity-protected")  # whatever the UE wrote, in any case, however often
            if flag:
                credentials.set("integrity-protected", flag)
            rows.append(str(credentials))
        if rows:
            upstream.replace("Authorization", rows)

    def _check_via(self, attempt: Attempt, upstream: Request) -> None:
        """33.203 7.1 rule 2: a protected REGISTER comes from the address in its Via; a name is looked up."""
        inside = attempt.inside
        via = attempt.request.via[0]

        def judge(found: Endpoint | None) -> None:
            if found is not None and inside is not None and found.host == inside.ue_host:
                self._pass_on(attempt, upstream)
                return
            error = PeerError(f"Via names {via.host}, the REGISTER came from another address", clause="33.203 7.1")
            self.refuse_attempt(attempt, Refusal(403, (warning(self.name, error),)))

        if inside is None or "pcscf-ignores-via" in self.faults:
            self._pass_on(attempt, upstream)
        else:
            self.resolve(via.host, via.port or 5060, Transport.UDP, judge)

    def _pass_on(self, attempt: Attempt, upstream: Request) -> None:
        """To the home network's entry points, one after the other until one answers; 504 when none does."""
        if not attempt.entries:
            self._conclude(attempt, Input.SILENCE, None)
            return
        entry = attempt.entries.pop(0)

        def found(remote: Endpoint | None) -> None:
            if remote is None:
                self._pass_on(attempt, upstream)
                return
            self.send_on(
                attempt.txn,
                upstream.copy(),
                remote,
                on_response=lambda response: self._on_answer(attempt, response),
                on_silence=lambda: self._pass_on(attempt, upstream),
            )

        self.resolve(entry.host, entry.port, Transport.UDP, found)

    def refuse_attempt(self, attempt: Attempt, refusal: Refusal) -> None:
        """A refusal of our own: an "other failure" of the table."""
        self.emit("rejected", f"REGISTER of {attempt.contact.key.impi}: {refusal.status}", status=refusal.status)
        self.respond(attempt.txn, refusal.status, headers=refusal.headers, flow=attempt.way)
        if attempt.temporary is not None:
            self.happen(attempt.temporary, Happening.REFUSED)
        self._end(attempt)

    def _end(self, attempt: Attempt) -> None:
        """This REGISTER has had its final answer."""
        attempt.contact.under_way -= 1
        self.forget_if_idle(attempt.contact)

    # ---- the answer on its way out

    def _on_answer(self, attempt: Attempt, response: Response) -> None:
        """The second half of the table, for an answer from the home network; always withheld, we send it ourselves."""
        if response.status < 200:
            self.forward_response(attempt.txn, response)
            return
        try:
            self._conclude(attempt, self._classify(response), response)
        except PeerError as error:
            self.emit("malformed", f"{response.status} to REGISTER of {attempt.contact.key.impi}: {error}")
            self._conclude(attempt, Input.KEYLESS, None)

    def _classify(self, response: Response) -> Input:
        if response.status == 401:
            return Input.CHALLENGE if challenge_keys(response) else Input.KEYLESS
        if response.status < 300:
            return Input.SUCCESS
        return Input.REFUSAL if response.status == 403 else Input.FAILURE

    def _conclude(self, attempt: Attempt, input_: Input, response: Response | None) -> None:
        if attempt.temporary is not None and attempt.temporary.stage is Stage.GONE:
            # The UE has begun again meanwhile, or its time was over: this answer has no set to travel in, and says
            # nothing of the newer one.
            self.emit("outdated", f"an answer to {attempt.contact.key.impi} came after the end of its set")
            self._end(attempt)
            return
        if input_ in (Input.CHALLENGE, Input.KEYLESS) and attempt.chosen is None and attempt.temporary is None:
            input_ = Input.FAILURE if response is not None else input_  # Digest: no keys, no SAs
        impi = attempt.contact.key.impi
        way = None if (attempt.under is not None, input_) in OWN_WAY else attempt.way
        if "pcscf-failures-inside" in self.faults and input_ in (Input.REFUSAL, Input.FAILURE):
            way = None
        for act in ANSWERS[attempt.state, input_]:
            match act:
                case Act.MAKE_SET:
                    assert response is not None
                    if not self._make_set(attempt, response):
                        self.respond(attempt.txn, 503, flow=way)
                        break
                case Act.REMEMBER:
                    assert response is not None
                    self._remember(attempt, response)
                case Act.PROMOTE:
                    self._promote(attempt)
                case Act.RELAY:
                    assert response is not None
                    self._relay_answer(attempt, response, way)
                case Act.OUTDATE:
                    self._outdate(attempt)
                case Act.SETTLE:
                    self._settle_registration(attempt)
                case Act.ERROR:
                    self.emit("rejected", f"REGISTER of {impi}: the challenge has no keys", status=500)
                    self.respond(attempt.txn, 500, flow=way)
                case Act.TIMEOUT:
                    self.emit("timeout", f"the home network does not answer the REGISTER of {impi}")
                    self.respond(attempt.txn, 504, flow=way)
                case _:  # Act.END
                    assert attempt.temporary is not None
                    if "pcscf-keeps-refused-set" not in self.faults:
                        self.happen(attempt.temporary, Happening.REFUSED if way else Happening.REFUSED_INSIDE)
                    if attempt.under is not None and "pcscf-drops-on-failure" in self.faults:
                        self.happen(attempt.under, Happening.OUTDATED)
        self._end(attempt)

    def _relay_answer(self, attempt: Attempt, response: Response, way: Flow | None) -> None:
        self.clean_for_ue(response)
        if "pcscf-keys-on-gm" not in self.faults:
            strip_keys(response)
        made = attempt.made
        if made is not None:
            response.set("Security-Server", ", ".join(map(str, made.told)))
        elif "pcscf-agreement-in-200" in self.faults and attempt.temporary is not None:
            response.set("Security-Server", ", ".join(map(str, attempt.temporary.told)))
        if "pcscf-sas-go-first" in self.faults and attempt.remembered and not attempt.contact.bindings:
            for record in self.table.of(attempt.contact.key):
                self.happen(record, Happening.LIFETIME)
            way = self._clear_way(attempt)
        if "pcscf-answers-in-clear" in self.faults and attempt.inside is not None:
            way = self._clear_way(attempt)
        self.forward_response(attempt.txn, response, flow=way)
        if made is not None and "pcscf-late-sas" in self.faults:
            self.effect(fx.InstallSas(made.sas))

    def _clear_way(self, attempt: Attempt) -> Flow:
        """Where an answer goes that ignores its SAs: only a faulty P-CSCF has one."""
        if attempt.under is None:
            return attempt.way
        return Flow(
            Transport.UDP, self.config.gm, Endpoint(attempt.contact.key.host, attempt.request.via[0].port or 5060)
        )

    # ---- acts

    def _make_set(self, attempt: Attempt, response: Response) -> bool:
        """Take the keys, drop what is left of earlier attempts, make the temporary set (24.229 5.2.2.2).

        False when ports have run out. Raises PeerError when a set made meanwhile holds the UE's ports (rule 3).
        """
        keys = challenge_keys(response)
        assert keys is not None
        contact, temporary = attempt.contact, attempt.temporary
        before = self.table.of(contact.key)
        for record in before:
            if record is not attempt.under:
                self.happen(record, Happening.CHALLENGED)  # 33.203 7.3.1.4
        chosen = temporary.ue if temporary else attempt.chosen
        assert chosen is not None
        host, local = contact.key.host, self.config.gm.host
        self.table.check(contact.key, host, chosen, attempt.under)
        own = self.table.allocate(contact.key, host, chosen, self.entropy)
        if own is None:
            self.emit("rejected", f"{contact.key.impi}: the protected ports are used up", status=503)
            return False
        own = self._mistaken_ports(contact, own)
        said = own
        if before and "pcscf-spis-stay" in self.faults:
            said = replace(own, spi_c=before[-1].own.spi_c, spi_s=before[-1].own.spi_s)
        ck, ik = (keys.ik, keys.ck) if "pcscf-swaps-keys" in self.faults else (keys.ck, keys.ik)
        self.last_number += 1
        lifetime = self.config.reg_await_auth
        sas = derive_set(self.last_number, local, host, chosen, local, own, own.alg, own.ealg, ck, ik, lifetime)
        made = attempt.made = SaRecord(
            sas,
            contact.key,
            contact.key.impi,
            host,
            chosen,
            local,
            own,
            self.now + lifetime,
            temporary.offered if temporary else attempt.offered,
            self._mechanisms(said, chosen),
            keys.nonce,
            attempt.way,
            attempt.under,
        )
        for effect in self.table.add(made):
            self.effect(effect)
        # 33.203 7.2: the SAs stand before the UE can answer, since the order of effects is the order of deeds.
        if "pcscf-late-sas" not in self.faults:
            self.effect(fx.InstallSas(sas))
        self._challenged[sas.number] = attempt.txn
        self.set_alarm(("lifetime", sas.number), lifetime)
        self.emit("challenge", f"{contact.key.impi}: set {sas.number}, {own.alg} and {own.ealg}", set=sas.number)
        return True

    def _mistaken_ports(self, contact: ContactState, own: Offer) -> Offer:
        """What a faulty P-CSCF makes of the ports that it was given."""
        mine = self.table.of(contact.key)
        if mine and "pcscf-port-c-stays" in self.faults:
            own = replace(own, port_c=mine[-1].own.port_c)
        if mine and "pcscf-port-s-moves" in self.faults:
            own = replace(own, port_s=own.port_s + 1)
        return own

    def _remember(self, attempt: Attempt, response: Response) -> None:
        """What a 2xx says of identities, routes and times. Raises PeerError."""
        request, contact = attempt.request, attempt.contact
        attempt.until = self.now + self.config.grace
        if not request.contact:
            return  # a fetch: it changes nothing (RFC 3261 10.2.3)
        seconds = granted(request, response)
        # The network may have said by NOTIFY already that nothing is registered: then the SAs are closing.
        holder = attempt.temporary or self.table.at(contact.key, Stage.ESTABLISHED)
        if attempt.inside is None or (holder is None and seconds):
            self.emit("unprotected", f"{contact.key.impi}: {response.status} without SAs; nothing is remembered")
            return
        identities = [each.uri for each in response.p_associated_uri]
        service_route = [each.uri for each in response.service_route]
        attempt.remembered = True
        aor = request.to.uri.aor
        if seconds == 0:
            contact.deregister(aor)
            return
        contact.contact = request.contact[0].uri
        contact.service_route = service_route
        contact.register(aor, identities or [request.to.uri], self.now + seconds)
        attempt.until += seconds
        if holder is not None and attempt.temporary is None:
            self.prolong(holder, attempt.until)  # 33.203 7.4.2a: a refresh without a challenge
        self.emit("registered", f"{aor} of {contact.key.impi} for {seconds} s", impi=contact.key.impi, expires=seconds)

    def _promote(self, attempt: Attempt) -> None:
        assert attempt.temporary is not None
        # 33.203 7.4.2a: as long as the registration and a little more, and never shorter than the older sets lived.
        older = [each.expires for each in self.table.of(attempt.contact.key) if each.stage is not Stage.TEMPORARY]
        until = max([attempt.until, *older])
        if "pcscf-short-lifetime" in self.faults:
            until = attempt.until - self.config.grace
        self.happen(attempt.temporary, Happening.SUCCESS, until)

    def _outdate(self, attempt: Attempt) -> None:
        """33.203 7.4.2a: the older set that protected the first REGISTER is kept, all others go."""
        for record in self.table.of(attempt.contact.key):
            if record is not attempt.temporary and "pcscf-keeps-older-sets" not in self.faults:
                renewed = record is attempt.under and "pcscf-drops-old-set" not in self.faults
                self.happen(record, Happening.RENEWED if renewed else Happening.OUTDATED)

    def _settle_registration(self, attempt: Attempt) -> None:
        if attempt.remembered:
            self.settle(attempt.contact, "the UE took its registration back")
            if attempt.contact.bindings:
                self.subscribe(attempt.contact)

    # ---- the carrier

    def on_event(self, event: ev.Event) -> None:
        match event:
            case ev.SasInstalled(number):
                self._challenged.pop(number, None)
            case ev.SasFailed(number, error):
                self._not_installed(number, error)
            case _:
                super().on_event(event)

    def _not_installed(self, number: int, error: str) -> None:
        """The 401 behind the set has not left: a 500 goes in its place."""
        txn = self._challenged.pop(number, None)
        record = self.table.get(number)
        self.emit("sas-failed", f"set {number}: {error}", set=number)
        if record is not None:
            self.happen(record, Happening.LOST)
        if txn is not None:
            self.replace_response(txn, response_to(txn.request, 500, to_tag=self.token(4)))

    def replace_response(self, txn: Transaction, response: Response) -> None:
        """Answer with this in place of an answer that never left."""
        txn.response = response
        txn.last = response.encode()
        self.transmit(txn.flow, txn.last)


class Keys(NamedTuple):
    """What the S-CSCF's challenge holds for us (24.229 7.2A.1): 16 octets each, and the nonce."""

    ck: bytes
    ik: bytes
    nonce: str

    def __repr__(self) -> str:
        return f"Keys(<keys not shown>, nonce={self.nonce!r})"


def challenge_keys(response: Response) -> Keys | None:
    """The keys of the first challenge that has both; None when there is none (then there can be no SAs)."""
    for each in response.www_authenticate:
        try:
            ck, ik, nonce = each.ck or "", each.ik or "", each.nonce
        except PeerError:
            continue
        if nonce and _KEY.fullmatch(ck) and _KEY.fullmatch(ik):
            return Keys(bytes.fromhex(ck), bytes.fromhex(ik), nonce)
    return None


def strip_keys(response: Response) -> None:
    """Take ck and ik out of every challenge, in any case, however often (33.203 6.1.1, 24.229 5.2.2.2)."""
    rows = []
    for row in response.rows("WWW-Authenticate"):
        try:
            challenge = DigestChallenge.parse(row)
        except PeerError:
            continue  # what cannot be read might hold them
        challenge.remove("ck")
        challenge.remove("ik")
        if challenge.params:
            rows.append(str(challenge))
    if rows:
        response.replace("WWW-Authenticate", rows)
    else:
        response.remove("WWW-Authenticate")


def usable_offers(mechanisms: Iterable[SecurityMechanism]) -> tuple[list[Offer], PeerError | None]:
    """The entries of Security-Client that could make an SA, and what was wrong with the last one that could not.

    Other mechanisms, protocols and modes are passed over (33.203 7.1, Annex H); what is wrong with an entry is wrong
    with that entry alone.
    """
    usable: list[Offer] = []
    wrong: PeerError | None = None
    for each in mechanisms:
        if not each.is_ipsec_3gpp:
            continue
        try:
            if each.prot != "esp" or each.mod != "trans":
                continue
            offer = Offer(each.spi_c, each.spi_s, each.port_c, each.port_s, each.alg, each.ealg)
            check_offer(offer)
        except PeerError as error:
            wrong = error
            continue
        usable.append(offer)
    return usable, wrong


def _credentials(request: Request) -> list[tuple[str, DigestCredentials | None]]:
    """The rows of Authorization, those of scheme Digest read. Raises PeerError."""
    return [
        (row, DigestCredentials.parse(row) if row.lower().split(None, 1)[:1] == ["digest"] else None)
        for row in request.rows("Authorization")
    ]
