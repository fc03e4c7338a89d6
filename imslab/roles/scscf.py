"""The S-CSCF: registrar, authenticator, and the hub of the home network (24.229 5.4, 33.203 6.1).

A REGISTER arrives from the I-CSCF with the mark that the P-CSCF set: integrity-protected "yes" says that it came
through SAs of an authentication that counts, "no" that it did not. Whoever is not protected is challenged: a vector is
fetched from the HSS (MAR), and the 401 carries RAND and AUTN to the UE and, for the P-CSCF alone, CK and IK. The answer
must come protected, under the same Call-ID, within four minutes. If it is right, the HSS is told (SAR), hands over the
profile, and the 200 lists routes and identities. A challenge never touches a registration that stands; only its
success replaces it.

Authentication of one private identity: state × input → (action, next state), as TABLE has it below. Leaving CHALLENGED
ends the challenge, whatever the reason; its answer is worth nothing from then on.

    state        input              action                                              next        clause
    IDLE         unprotected        fetch vectors                                       FETCHING    24.229 5.4.1.2.1
    IDLE         stranger           fetch vectors: nothing is known, so nothing counts  FETCHING    33.203 6.1.5
    IDLE         reauthentication   fetch vectors                                       FETCHING    24.229 5.4.1.2.2
    IDLE         refresh            do what it asks                                     ASSIGNING   24.229 5.4.1.2.2
    IDLE         new contact        403                                                 IDLE        24.229 5.4.1.2.2
    IDLE         late               500                                                 IDLE        RFC 3261 10.3
    IDLE         foreign answer     403                                                 IDLE        24.229 5.4.1.2.2
    FETCHING     vectors            challenge                                           CHALLENGED  24.229 5.4.1.2.1A
    FETCHING     no vectors         403, 500 or 504                                     IDLE        29.228 6.3
    CHALLENGED   right answer       do what it asks                                     ASSIGNING   24.229 5.4.1.2.2
    CHALLENGED   wrong answer       403, tell the HSS                                   IDLE        24.229 5.4.1.2.3A
    CHALLENGED   foreign answer     403                                                 CHALLENGED  24.229 5.4.1.2.2
    CHALLENGED   resync             fetch with RAND ‖ AUTS                              FETCHING    33.203 6.1.3
    CHALLENGED   resync once more   403, tell the HSS                                   IDLE        24.229 5.4.1.2.3A
    CHALLENGED   failure report     403 without security parameters, tell the HSS       IDLE        33.203 6.1.2.2
    CHALLENGED   reg-await-auth     tell the HSS                                        IDLE        33.203 6.1.2.3
    CHALLENGED   RTR                –                                                   IDLE        29.228 6.1.3
    CHALLENGED   new contact, late  403, 500                                            CHALLENGED  24.229 5.4.1.2.2
    CHALLENGED   any other          as in IDLE                                          as in IDLE  33.203 6.1.2.3
    ASSIGNING    answered           –                                                   IDLE        29.228 6.1.2

While the HSS is asked (FETCHING, ASSIGNING), further REGISTERs of the same private identity wait for their turn.

What a REGISTER is (`classify`), first match:

    nonce                        protected   what else                               input
    of a challenge to another    any                                                 foreign answer
    the challenged one           any         auts                                    resync (once more after RESYNCS)
    the challenged one           any         empty response                          failure report
    the challenged one           yes         another Call-ID                         foreign answer
    the challenged one           yes         response, algorithm, realm and uri fit  right answer, else wrong answer
    any other                    no                                                  unprotected
    any other                    yes         nothing registered, a challenge runs    foreign answer
    any other                    yes         nothing registered                      stranger, or refresh if it leaves
    any other                    yes         older than the binding                  late
    any other                    yes         a contact nobody authenticated          new contact
    any other                    yes         no contact, or it leaves                refresh
    any other                    yes         policy, or an operator wants it         reauthentication, else refresh

A right answer that came unprotected does not count (33.203 6.1.5): it is "unprotected", and challenged again. A
protected REGISTER of a user who is not registered here is challenged too; 24.229 5.4.1.2.3A would have 500 for an
S-CSCF without restoration, but the challenge restores all there is to restore.

The text of 24.229 5.4 is known here second-hand; 33.203 6.1 has been read.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from hmac import compare_digest
from typing import ClassVar

from imslab.aka.digest import aka_password, digest_response, join_nonce, rspauth, split_nonce
from imslab.core import events as ev
from imslab.core.entropy import Entropy
from imslab.core.errors import PeerError
from imslab.diameter.codes import ServerAssignmentType
from imslab.diameter.cx import SCHEME_AKA, SCHEME_UNKNOWN, AuthDataItem, MultimediaAuthAnswer, MultimediaAuthRequest
from imslab.roles.cx_client import Trouble
from imslab.roles.registrar import same_contact
from imslab.roles.scscf_attempt import Attempt, read_attempt
from imslab.roles.scscf_bindings import Bindings
from imslab.roles.scscf_config import ScscfConfig
from imslab.sip.fields.digest import AuthenticationInfo, DigestChallenge, DigestCredentials
from imslab.sip.message import Request
from imslab.sip.transaction import Transaction
from imslab.sip.uri import Uri

__all__ = ["Scscf", "ScscfConfig"]

#: Option tags that a REGISTER may require of us.
SUPPORTED = frozenset({"path"})
#: How often in a row a UE may ask for resynchronisation before it is refused (24.229 5.4.1.2.3A).
RESYNCS = 2
#: How many REGISTERs of one private identity wait while the HSS is asked.
WAITING_MAX = 4


class State(StrEnum):
    """Of the authentication of one private identity."""

    IDLE = "idle"
    FETCHING = "fetching vectors"
    CHALLENGED = "challenged"
    ASSIGNING = "telling the HSS"


class Input(StrEnum):
    """What a REGISTER is to the authentication; what the HSS says; the timer."""

    UNPROTECTED = "unprotected"
    STRANGER = "stranger"
    REAUTHENTICATION = "reauthentication"
    REFRESH = "refresh"
    NEW_CONTACT = "new contact"
    LATE = "late"
    FOREIGN_ANSWER = "foreign answer"
    RIGHT_ANSWER = "right answer"
    WRONG_ANSWER = "wrong answer"
    RESYNC = "resync"
    RESYNC_ONCE_MORE = "resync once more"
    FAILURE_REPORT = "failure report"
    VECTORS = "vectors"
    NO_VECTORS = "no vectors"
    ANSWERED = "answered"
    TIMER = "reg-await-auth"
    TERMINATED = "RTR"


@dataclass(frozen=True, slots=True)
class Challenge:
    """A challenge that waits for its answer. impu, call_id: of the REGISTER that was challenged."""

    item: AuthDataItem
    nonce: str
    impu: str
    call_id: str


@dataclass(slots=True, eq=False)
class Authentication:
    """Where the authentication of a private identity stands.

    attempt: the REGISTER that is being worked on. challenge: the one that runs. spare: vectors not yet used, in order
    (33.203 6.1.1: first in, first out, each once). reply: what the HSS said to the last MAR. resyncs: how many in a
    row. waiting: REGISTERs whose turn will come.
    """

    impi: str
    state: State = State.IDLE
    attempt: Attempt | None = None
    challenge: Challenge | None = None
    reply: MultimediaAuthAnswer | Trouble | None = None
    resyncs: int = 0
    spare: list[AuthDataItem] = field(default_factory=list)
    waiting: list[Attempt] = field(default_factory=list)

    @property
    def busy(self) -> bool:
        """True while the HSS is asked."""
        return self.state in (State.FETCHING, State.ASSIGNING)

    @property
    def current(self) -> Attempt:
        """The REGISTER that is being worked on."""
        assert self.attempt is not None
        return self.attempt


class Scscf(Bindings):
    """See the module's page. Everything but authentication is in the classes below this one."""

    role: ClassVar[str] = "S-CSCF"

    def __init__(self, name: str, config: ScscfConfig, entropy: Entropy, faults: Iterable[str] = ()) -> None:
        super().__init__(name, config, entropy, faults)
        self.authentications: dict[str, Authentication] = {}
        self._challenged: dict[str, Authentication] = {}  # by nonce

    # ---- what comes in

    def on_request(self, txn: Transaction, request: Request, arrival: ev.Arrival) -> None:
        """A REGISTER, or what Sessions knows about."""
        if request.method != "REGISTER":
            super().on_request(txn, request, arrival)
            return
        unknown = [tag for tag in request.require if tag.lower() not in SUPPORTED]
        if unknown:  # RFC 3261 8.2.2.3
            bare = "scscf-420-bare" in self.faults
            self.respond(txn, 420, headers=() if bare else [("Unsupported", ", ".join(unknown))])
            return
        attempt = read_attempt(txn, self.config.domain)
        authentication = self.authentications.setdefault(attempt.impi, Authentication(attempt.impi))
        if not authentication.busy:
            self._take(authentication, attempt)
            self._settle(authentication)
        elif len(authentication.waiting) < WAITING_MAX:
            authentication.waiting.append(attempt)
        else:
            self.respond(txn, 503, headers=[("Retry-After", "5")])

    def on_alarm(self, key: Hashable) -> None:
        match key:
            case ("reg-await-auth", Authentication() as authentication):
                self._step(authentication, Input.TIMER)
                self._settle(authentication)
            case _:
                super().on_alarm(key)

    def on_terminated(self, impi: str) -> None:
        """29.228 6.1.3: vectors and the challenge of the user go with the registration, and the HSS knows it."""
        authentication = self.authentications.get(impi)
        if authentication is not None:
            authentication.spare.clear()
            if authentication.state is State.CHALLENGED:
                self._step(authentication, Input.TERMINATED)
            self._settle(authentication)

    # ---- the machine

    def _take(self, authentication: Authentication, attempt: Attempt) -> None:
        """A REGISTER whose turn it is."""
        authentication.attempt = attempt
        self._step(authentication, self.classify(authentication, attempt))

    def _step(self, authentication: Authentication, input_: Input) -> None:
        """One transition: into the next state, then the action, which may step on."""
        action, after = TABLE[authentication.state, input_]
        ended = None
        if authentication.state is State.CHALLENGED and after is not State.CHALLENGED:
            ended = self._end_challenge(authentication)
        authentication.state = after
        action(self, authentication, ended)

    def _settle(self, authentication: Authentication) -> None:
        """After all that happened at this moment: whose turn is it? Nothing is kept of a user who is idle."""
        while authentication.waiting and not authentication.busy:
            self._take(authentication, authentication.waiting.pop(0))
        if not authentication.busy:
            authentication.attempt = authentication.reply = None
        if authentication.state is State.IDLE and not authentication.spare:
            self.authentications.pop(authentication.impi, None)

    def _end_challenge(self, authentication: Authentication) -> Challenge:
        """33.203 6.1.2.3: the data of an authentication that is over is deleted."""
        ended, authentication.challenge = authentication.challenge, None
        assert ended is not None
        if self._challenged.get(ended.nonce) is authentication:
            del self._challenged[ended.nonce]
        self.clear_alarm(("reg-await-auth", authentication))
        return ended

    # ---- what a REGISTER is

    def classify(self, authentication: Authentication, attempt: Attempt) -> Input:
        """See the module's page. Never raises: the attempt has been read."""
        challenge, credentials = authentication.challenge, attempt.credentials
        if credentials is None:
            return Input.UNPROTECTED
        protected = attempt.flag == "yes" or "scscf-trusts-clear" in self.faults
        if challenge is None or attempt.nonce != challenge.nonce:
            if attempt.nonce in self._challenged:
                return Input.FOREIGN_ANSWER
        else:
            if attempt.auts is not None:
                return Input.RESYNC if authentication.resyncs < RESYNCS else Input.RESYNC_ONCE_MORE
            if not credentials.response:
                return Input.FAILURE_REPORT
            if protected:
                if attempt.call_id != challenge.call_id and "scscf-any-call-id" not in self.faults:
                    return Input.FOREIGN_ANSWER
                right = "scscf-any-response" in self.faults or self._is_right(challenge, credentials, attempt.request)
                return Input.RIGHT_ANSWER if right else Input.WRONG_ANSWER
        return self._classify_protected(authentication, attempt) if protected else Input.UNPROTECTED

    def _classify_protected(self, authentication: Authentication, attempt: Attempt) -> Input:
        """It came through the SAs of the latest authentication, and does not answer a challenge."""
        registrations = self.registrar.of_private(attempt.impi)
        if not registrations:
            if authentication.state is State.CHALLENGED:
                return Input.FOREIGN_ANSWER
            return Input.REFRESH if attempt.leaving else Input.STRANGER
        if self.is_out_of_order(attempt, self.registrar.find(attempt.impu)):
            return Input.LATE
        if attempt.leaving or not attempt.wishes:
            return Input.REFRESH
        for wish in attempt.wishes:
            known = any(same_contact(each.bindings, wish.contact) for each in registrations)
            if not known and wish.contact.reg_id is None:
                return Input.NEW_CONTACT
        wanted = self.config.reauthenticate or any(each.must_authenticate for each in registrations)
        return Input.REAUTHENTICATION if wanted else Input.REFRESH

    def _is_right(self, challenge: Challenge, credentials: DigestCredentials, request: Request) -> bool:
        """24.229 5.4.1.2.2: algorithm and response, and what the response was made from."""
        algorithm = self.config.algorithm
        if (credentials.algorithm or "").lower() != algorithm.lower() or credentials.realm != self.config.domain:
            return False
        try:
            # RFC 2617 3.2.2.5. The Request-URI names us by now; the UE's was the home domain.
            if Uri.parse(credentials.uri or "").host.lower() != self.config.domain.lower():
                return False
            expected = digest_response(
                algorithm=algorithm,
                username=credentials.username or "",
                realm=credentials.realm or "",
                password=self._password(challenge),
                nonce=challenge.nonce,
                method="REGISTER",
                uri=credentials.uri or "",
                qop=credentials.qop or "",
                nc=credentials.get("nc") or "",
                cnonce=credentials.cnonce or "",
                body=request.body,
            )
        except PeerError:
            return False
        return compare_digest(expected.encode(), (credentials.response or "").lower().encode("utf-8", "replace"))

    def _password(self, challenge: Challenge) -> bytes:
        item = challenge.item
        return aka_password(self.config.algorithm, item.authorization or b"", item.ck or b"", item.ik or b"")

    # ---- actions: challenge

    def _fetch(self, authentication: Authentication, ended: Challenge | None) -> None:
        """29.228 6.3: ask for vectors, unless some are left."""
        authentication.resyncs = 0
        if authentication.spare:
            self._step(authentication, Input.VECTORS)
        else:
            self._ask(authentication, None)

    def _resync(self, authentication: Authentication, ended: Challenge | None) -> None:
        """33.203 6.1.3: ask for vectors with the RAND that we have kept and the AUTS that came."""
        attempt = authentication.current
        assert ended is not None
        assert attempt.auts is not None
        authentication.resyncs += 1
        self.emit("resync", f"{attempt.impi}: the UE sent AUTS", impi=attempt.impi)
        rand, _, _ = split_nonce(ended.nonce)
        if "scscf-ignores-auts" in self.faults:
            self._ask(authentication, None)
        else:
            self._ask(authentication, attempt.auts if "scscf-auts-alone" in self.faults else rand + attempt.auts)

    def _ask(self, authentication: Authentication, resync: bytes | None) -> None:
        """MAR. resync: RAND ‖ AUTS (30 octets), None for an ordinary one."""
        attempt = authentication.current
        # 33.203 P.4.2: yes and no mean IMS AKA. Without the flag it is another scheme's, if any: the HSS knows.
        scheme = SCHEME_AKA if attempt.flag in ("yes", "no") else SCHEME_UNKNOWN
        query = MultimediaAuthRequest(
            **self.cx.header(),
            user_name=attempt.impi,
            public_identity=attempt.impu,
            item=AuthDataItem(
                scheme="Digest-AKAv2-SHA-256" if "scscf-mar-scheme" in self.faults else scheme, authorization=resync
            ),
            number_items=0 if "scscf-mar-no-items" in self.faults else self.config.vectors,
            server_name=self.config.name,
        )
        self.cx.ask(query, MultimediaAuthAnswer, lambda answer: self._fetched(authentication, answer))

    def _fetched(self, authentication: Authentication, answer: MultimediaAuthAnswer | Trouble) -> None:
        authentication.reply = answer
        items = usable_vectors(answer)
        if items:
            # 33.203 6.1.3: what was left of older vectors goes.
            authentication.spare = items[::-1] if "scscf-vectors-backwards" in self.faults else items
        self._step(authentication, Input.VECTORS if items else Input.NO_VECTORS)
        self._settle(authentication)

    def _no_vectors(self, authentication: Authentication, ended: Challenge | None) -> None:
        """The HSS gave none: its no, its silence, or what cannot be used."""
        attempt, reply = authentication.current, authentication.reply
        if isinstance(reply, MultimediaAuthAnswer) and not reply.is_success:
            self.refuse_by(attempt, reply)
            return
        trouble = reply if isinstance(reply, Trouble) else Trouble.MALFORMED
        self.emit("timeout" if trouble is Trouble.SILENCE else "malformed", f"HSS: {trouble} to MAR")
        self.respond(attempt.txn, trouble.status)

    def _send_challenge(self, authentication: Authentication, ended: Challenge | None) -> None:
        """24.229 5.4.1.2.1A: 401 with RAND, AUTN, IK, CK; start reg-await-auth."""
        attempt = authentication.current
        item = authentication.spare[0]
        if "scscf-reuses-vectors" not in self.faults:
            del authentication.spare[0]
        both = item.authenticate or b""
        nonce = join_nonce(both[:16], both[16:])
        challenge = Challenge(item, nonce, attempt.impu, attempt.call_id)
        authentication.challenge = challenge
        self._challenged[challenge.nonce] = authentication
        self.set_alarm(("reg-await-auth", authentication), self.config.reg_await_auth)
        self.emit("challenge", attempt.impi, impi=attempt.impi)
        self.respond(attempt.txn, 401, headers=[self._challenge_row(challenge)])

    def _challenge_row(self, challenge: Challenge) -> tuple[str, str]:
        row = DigestChallenge.build(
            realm=self.config.domain,
            nonce=challenge.nonce,
            algorithm=self.config.algorithm,
            qop=self.config.qop or None,
            ik=(challenge.item.ik or b"").hex(),
            ck=(challenge.item.ck or b"").hex(),
        )
        return "WWW-Authenticate", str(row)

    # ---- actions: the end of an attempt

    def _accept(self, authentication: Authentication, ended: Challenge | None) -> None:
        """What a REGISTER asks that is protected by an earlier authentication."""

        def done() -> None:
            self._step(authentication, Input.ANSWERED)
            self._settle(authentication)

        self.accept(authentication.current, done)

    def _answered_right(self, authentication: Authentication, ended: Challenge | None) -> None:
        """24.229 5.4.1.2.2: the user is authenticated."""
        attempt = authentication.current
        assert ended is not None
        assert attempt.credentials is not None
        attempt.authenticated = True
        attempt.proof = server_proof(attempt.credentials, self.config.algorithm, self._password(ended))
        self._accept(authentication, ended)

    def _answered_wrong(self, authentication: Authentication, ended: Challenge | None) -> None:
        self.emit("rejected", f"{authentication.impi}: wrong response", impi=authentication.impi)
        self._fail(authentication, ended)

    def _resynced_enough(self, authentication: Authentication, ended: Challenge | None) -> None:
        self.emit("sqn-failure", f"{authentication.impi}: out of step after {RESYNCS} resynchronisations")
        self._fail(authentication, ended)

    def _failure_report(self, authentication: Authentication, ended: Challenge | None) -> None:
        """33.203 6.1.2.2: the UE found a wrong MAC."""
        self.emit("mac-failure", f"{authentication.impi}: the UE could not authenticate the network")
        self._fail(authentication, ended)

    def _fail(self, authentication: Authentication, ended: Challenge | None) -> None:
        """403 without security parameters; nothing of a registration is touched (33.203 6.1.1, 6.1.2)."""
        attempt = authentication.current
        assert ended is not None
        headers = [self._challenge_row(ended)] if "scscf-403-with-challenge" in self.faults else []
        self.respond(attempt.txn, 403, headers=headers)
        self._tell_hss(authentication, ended, ServerAssignmentType.AUTHENTICATION_FAILURE)
        registration = self.registrar.find(ended.impu)
        if registration is not None and "scscf-failure-deregisters" in self.faults:
            self.on_command("deregister", {"impu": ended.impu})

    def _timed_out(self, authentication: Authentication, ended: Challenge | None) -> None:
        assert ended is not None
        self.emit("timeout", f"{authentication.impi}: no answer to the challenge", impi=authentication.impi)
        self._tell_hss(authentication, ended, ServerAssignmentType.AUTHENTICATION_TIMEOUT)

    def _tell_hss(self, authentication: Authentication, ended: Challenge, kind: ServerAssignmentType) -> None:
        """33.203 6.1.2.2: the HSS forgets our name, but only if the user is not registered."""
        if self.registrar.find(ended.impu) is None and "scscf-silent-failure" not in self.faults:
            self.cx.tell(self.assignment(authentication.impi, ended.impu, kind))

    def _forbid(self, authentication: Authentication, ended: Challenge | None) -> None:
        attempt = authentication.current
        self.emit("rejected", f"{attempt.impi}: not an answer to its challenge, or a new contact", impi=attempt.impi)
        self.respond(attempt.txn, 403)

    def _too_late(self, authentication: Authentication, ended: Challenge | None) -> None:
        self.respond(authentication.current.txn, 500)

    def _rest(self, authentication: Authentication, ended: Challenge | None) -> None:
        """Nothing more to do."""


Action = Callable[[Scscf, Authentication, Challenge | None], None]

#: The first table of the module's page.
TABLE: dict[tuple[State, Input], tuple[Action, State]] = {
    (State.IDLE, Input.UNPROTECTED): (Scscf._fetch, State.FETCHING),
    (State.IDLE, Input.STRANGER): (Scscf._fetch, State.FETCHING),
    (State.IDLE, Input.REAUTHENTICATION): (Scscf._fetch, State.FETCHING),
    (State.IDLE, Input.REFRESH): (Scscf._accept, State.ASSIGNING),
    (State.IDLE, Input.NEW_CONTACT): (Scscf._forbid, State.IDLE),
    (State.IDLE, Input.LATE): (Scscf._too_late, State.IDLE),
    (State.IDLE, Input.FOREIGN_ANSWER): (Scscf._forbid, State.IDLE),
    (State.FETCHING, Input.VECTORS): (Scscf._send_challenge, State.CHALLENGED),
    (State.FETCHING, Input.NO_VECTORS): (Scscf._no_vectors, State.IDLE),
    (State.CHALLENGED, Input.RIGHT_ANSWER): (Scscf._answered_right, State.ASSIGNING),
    (State.CHALLENGED, Input.WRONG_ANSWER): (Scscf._answered_wrong, State.IDLE),
    (State.CHALLENGED, Input.FOREIGN_ANSWER): (Scscf._forbid, State.CHALLENGED),
    (State.CHALLENGED, Input.RESYNC): (Scscf._resync, State.FETCHING),
    (State.CHALLENGED, Input.RESYNC_ONCE_MORE): (Scscf._resynced_enough, State.IDLE),
    (State.CHALLENGED, Input.FAILURE_REPORT): (Scscf._failure_report, State.IDLE),
    (State.CHALLENGED, Input.TIMER): (Scscf._timed_out, State.IDLE),
    (State.CHALLENGED, Input.TERMINATED): (Scscf._rest, State.IDLE),
    (State.CHALLENGED, Input.NEW_CONTACT): (Scscf._forbid, State.CHALLENGED),
    (State.CHALLENGED, Input.LATE): (Scscf._too_late, State.CHALLENGED),
    (State.CHALLENGED, Input.UNPROTECTED): (Scscf._fetch, State.FETCHING),
    (State.CHALLENGED, Input.REAUTHENTICATION): (Scscf._fetch, State.FETCHING),
    (State.CHALLENGED, Input.REFRESH): (Scscf._accept, State.ASSIGNING),
    (State.ASSIGNING, Input.ANSWERED): (Scscf._rest, State.IDLE),
}


def usable_vectors(answer: MultimediaAuthAnswer | Trouble) -> list[AuthDataItem]:
    """The vectors of an answer in the order of their numbers; none if one of them is not whole.

    29.229 6.3.10, 6.3.11, 6.3.27, 6.3.28; 29.228 Table 6.3.5.
    """
    if isinstance(answer, Trouble) or not answer.is_success:
        return []
    whole = all(
        item.scheme in (None, SCHEME_AKA)
        and len(item.authenticate or b"") == 32
        and 4 <= len(item.authorization or b"") <= 16
        and len(item.ck or b"") == 16
        and len(item.ik or b"") == 16
        for item in answer.items
    )
    return sorted(answer.items, key=lambda item: item.number or 0) if whole else []


def server_proof(credentials: DigestCredentials, algorithm: str, password: bytes) -> str:
    """Authentication-Info for the 200: the proof that the server knows RES too (RFC 2617 3.2.3). "" without qop.

    credentials: those of a right answer.
    """
    qop, nc, cnonce = credentials.qop, credentials.get("nc"), credentials.cnonce
    if not qop or nc is None or cnonce is None:
        return ""
    proof = rspauth(
        algorithm=algorithm,
        username=credentials.username or "",
        realm=credentials.realm or "",
        password=password,
        nonce=credentials.nonce or "",
        uri=credentials.uri or "",
        qop=qop,
        nc=nc,
        cnonce=cnonce,
    )
    return str(AuthenticationInfo.build(qop=qop, rspauth=proof, cnonce=cnonce, nc=nc))
