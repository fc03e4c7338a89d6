"""One registration procedure: the REGISTERs it sends, what their answers are, whom it asks next (24.229 5.1.1).

The table of imslab.roles.ue decides what is done; here is how an answer becomes one of its inputs, how a REGISTER is
put together, and how the UE leaves alone who failed it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable

from imslab.aka.usim import Authenticated, MacFailure, Usim
from imslab.core import effects as fx
from imslab.core import events as ev
from imslab.core.entropy import Entropy, random_int
from imslab.core.errors import PeerError
from imslab.core.flow import Endpoint, Transport
from imslab.ipsec import sa as ipsec
from imslab.roles.ue_config import UeConfig
from imslab.roles.ue_credentials import Answer, answer_challenge, choose_challenge, proves_itself
from imslab.roles.ue_registration import Registration, read_registration, retry_after
from imslab.roles.ue_sas import REG_AWAIT_AUTH, UeOffer, UeSet, choose_server, write_offer
from imslab.roles.ue_speech import UeSpeech
from imslab.roles.ue_states import ANSWERED, BUSY, LEAVING, Input, State
from imslab.roles.ue_traffic import Asked
from imslab.sip.message import Request, Response
from imslab.sip.transaction import Transaction

#: 24.229 5.1.1.5.12: to so many bad challenges in a row the UE reacts.
BAD_CHALLENGES = 2
#: So many challenges in one procedure, good ones too, are more than any network means.
MOST_CHALLENGES = 5
#: So many times in one procedure a longer lifetime is asked for (423).
MOST_LONGER = 3


def judge_failure(response: Response, asked_for: int) -> Input:
    """Which input a failure answer to REGISTER is; 401 is judged elsewhere.

    asked_for: the lifetime that a 423 found too brief, seconds.
    """
    status = response.status
    if status == 305:
        return Input.ELSEWHERE  # 5.1.1.2.1: another P-CSCF; the Contact of a clear answer is nobody's word
    if status == 423:
        least = response.min_expires
        return Input.TOO_BRIEF if least is not None and least > asked_for else Input.REJECTED
    if retry_after(response) is not None and (status >= 500 or status in (404, 413, 480, 486)):
        return Input.LATER
    if status == 408 or 500 <= status < 600:
        return Input.TROUBLE
    return Input.REJECTED


class UeProcedure(UeSpeech):
    """A UE that can send REGISTER and read what comes back."""

    def __init__(self, name: str, config: UeConfig, usim: Usim, entropy: Entropy, faults: Iterable[str] = ()) -> None:
        super().__init__(name, config, entropy, faults)
        self.usim = usim
        self.expires = config.expires  # asked for; a 423 can raise it
        # The procedure under way.
        self._call_id = ""
        self._cseq = 0
        self._from_tag = ""
        self._offer: UeOffer | None = None
        self._answer: Answer | None = None  # to the latest challenge
        self._granted: Registration | None = None  # what the latest 200 says
        self._bad = 0  # bad challenges in a row
        self._challenges = 0
        self._longer = 0
        self._wait = 0  # seconds that somebody asked us to wait
        # What outlives it.
        self._failures = 0
        self._blocked: dict[int, float] = {}  # index of a P-CSCF → until when it is left alone
        self._listening: set[int] = set()  # protected server ports

    @abstractmethod
    def step(self, input_: Input) -> bool:
        """Make one transition of the table; False when the state has no use for the input."""

    # ---- answers

    def _on_answer(self, txn: Transaction, response: Response | None, arrival: ev.Arrival | None) -> None:
        """An answer to REGISTER: which input is it?"""
        if txn.request.call_id != self._call_id or txn.request.cseq.number != self._cseq or self.state not in BUSY:
            return  # of a procedure that was given up
        if response is None:
            self.emit("timeout", f"REGISTER: no answer from {txn.flow.remote}")
            self.step(Input.NO_ANSWER)
            return
        if response.status < 200:
            return
        try:
            input_ = self._judge(response)
        except PeerError as error:
            self.emit("malformed", f"{response.status} to REGISTER: {error}")
            input_ = Input.TROUBLE
        self.step(input_)

    def _judge(self, response: Response) -> Input:
        if response.status == 401:
            return self._judge_challenge(response)
        self._bad = 0
        if response.status >= 300:
            input_ = judge_failure(response, self.expires)
            self.emit("rejected", f"REGISTER: {response.status} {response.reason}", status=response.status)
            self._wait = retry_after(response) or 0
            if input_ is Input.TOO_BRIEF:
                self._longer += 1
                if self._longer > MOST_LONGER:
                    return Input.REJECTED
                if "ue-ignores-min-expires" not in self.faults:
                    self.expires = response.min_expires or self.expires
            return input_
        if self.state in ANSWERED:
            proven = proves_itself(response.authentication_info, self._answer, self.config, response.body)
        else:
            proven = self.state is not State.INITIAL or not self.config.ipsec
        if not proven:
            self.emit("unproven", "200 to REGISTER, but the network has not shown that it knows the secret")
            return Input.UNPROVEN
        self._granted = read_registration(response, self.config, self.contact, self.now)
        return Input.OK

    def _judge_challenge(self, response: Response) -> Input:
        self._challenges += 1
        try:
            # The body of the REGISTER that answers is empty, also for auth-int.
            challenge = choose_challenge(response.www_authenticate, self.config.profile)
            self._answer = answer_challenge(challenge, self.config, self.usim, self.entropy)
            verdict = self._answer.verdict
            made = None
            if isinstance(verdict, Authenticated) and self.config.ipsec:
                made = self._derive(response)
        except PeerError as error:
            self.emit("challenge", f"dropped: {error}")
            return self._bad_challenge(Input.UNUSABLE)
        if isinstance(verdict, MacFailure):
            self.emit("mac-failure", "the card does not believe the network: MAC is wrong")
            return self._bad_challenge(Input.MAC_WRONG)
        if not isinstance(verdict, Authenticated):
            self.emit("sqn-failure", f"the card finds SQN {verdict.sqn:012x} out of range: {verdict.freshness}")
            return self._bad_challenge(Input.SQN_WRONG)
        if self._challenges > MOST_CHALLENGES:
            return Input.TOO_MANY
        self._bad = 0
        self.emit("challenge", f"{challenge.algorithm}, qop {challenge.qop or 'none'}: the card accepts it")
        if made is None:
            return Input.CHALLENGED_PLAIN
        self._drop_temporary()  # the newest challenge counts
        self.sas.add(made)
        return Input.CHALLENGED

    def _bad_challenge(self, input_: Input) -> Input:
        self._bad += 1
        # 24.229 5.1.1.5.12: only two in a row are reacted to.
        most = 3 * BAD_CHALLENGES if "ue-never-tires" in self.faults else BAD_CHALLENGES
        return Input.TOO_MANY if self._bad > most else input_

    def _derive(self, response: Response) -> UeSet:
        """The temporary set that a good challenge and Security-Server make. Raises PeerError."""
        assert self._offer is not None
        assert self._answer is not None
        offer, pairs = self._offer, self.offers
        server = choose_server(response.security_server, pairs)
        # 33.203 7.1: the P-CSCF's SPIs differ from the UE's.
        ipsec.check_offer(server, self.sas.spis() | {offer.spi_c, offer.spi_s})
        sas = ipsec.derive_set(
            self.sas.next_number(),
            self.host,
            self.host,
            offer,
            self.pcscf.host,
            server,
            server.alg,
            server.ealg,
            self._answer.ck,
            self._answer.ik,
            REG_AWAIT_AUTH,
        )
        rows = response.rows("Security-Server")
        return UeSet(sas, offer, self.pcscf.host, server.port_c, server.port_s, rows, self.now + REG_AWAIT_AUTH)

    # ---- REGISTER

    def _new_call(self) -> None:
        self._call_id, self._cseq, self._from_tag = f"{self.token(12)}@{self.host}", 0, self.token(4)
        self._challenges = self._longer = 0

    def _new_offer(self) -> None:
        if not self.config.ipsec:
            return
        before = self._offer
        if "ue-port-s-moves" in self.faults:
            self.sas.port_s = 0
        made = self.sas.offer(self.entropy, self.config.profile, self.offers, self.config.port, before=before)
        if "ue-reserved-spis" in self.faults:
            made.spi_c, made.spi_s = 100 + 2 * self._cseq, 101 + 2 * self._cseq
        if "ue-port-5061" in self.faults:
            made.port_c = 5061
        if before is not None and "ue-spis-stay" in self.faults:
            made.spi_c, made.spi_s = before.spi_c, before.spi_s
        if before is not None and "ue-port-c-stays" in self.faults:
            made.port_c = before.port_c
        numbers = made.spi_c, made.spi_s, made.port_c, made.port_s
        made.security_client = write_offer(self.config.profile, self.offers, numbers)
        self._offer = made

    def _send_register(self, authorization: str, asked: Asked, sas: UeSet | None) -> None:
        config = self.config
        self._cseq += 1
        at = Endpoint(self.host, sas.offer.port_s) if sas is not None else Endpoint(self.host, config.port)
        headers = [
            ("Max-Forwards", "70"),
            ("From", f"<{config.impu}>;tag={self._from_tag}"),
            ("To", f"<{config.impu}>"),
            ("Call-ID", self._call_id),
            ("CSeq", f"{self._cseq} REGISTER"),
            ("Contact", self.contact_row(at)),
            ("Expires", str(0 if self.state in LEAVING else self.expires)),
            ("Supported", ", ".join(config.profile.supported)),
            ("Authorization", authorization),
        ]
        if self._offer is not None:
            headers.append(("Security-Client", self._offer.security_client))
        headers += self.agreement_rows(sas)
        if sas is not None or "ue-access-info-in-clear" in self.faults:
            # 24.229 5.1.1.2.1 h): where the UE is, is nobody's affair in clear.
            headers.append(("P-Access-Network-Info", config.access_network))
        headers.append(("User-Agent", config.profile.user_agent))
        self.send(Request("REGISTER", config.home_uri, headers), self._on_answer, asked, sas)

    def _register_again(self, authorization: str, *, clear: bool = False) -> None:
        """On the established set if there is one, else in clear, with new SPIs and port_uc (24.229 5.1.1.5.3)."""
        self._new_offer()
        sas = None if clear else self.sas.established
        self._send_register(authorization, Asked.CLEAR if sas is None else Asked.INSIDE, sas)

    # ---- P-CSCFs

    def _backoff(self) -> float:
        """RFC 5626 4.5: doubling from a base to a bound, of which at least half is waited, the rest by chance."""
        self._failures += 1
        bound = min(self.config.backoff_limit, self.config.backoff * 2.0 ** min(self._failures - 1, 16))
        return bound * random_int(self.entropy, 500, 1001) / 1000

    def _block(self, seconds: float) -> None:
        self._blocked[self.pcscf_index] = self.now + seconds

    def _choose_pcscf(self) -> float:
        """Turn to the next P-CSCF that is not left alone, else to the one that is free first; how long until then."""
        count = len(self.config.pcscf)
        order = [(self.pcscf_index + step) % count for step in range(1, count + 1)]
        self.pcscf_index = min(order, key=lambda index: max(self.now, self._blocked.get(index, 0.0)))
        return max(0.0, self._blocked.get(self.pcscf_index, 0.0) - self.now)

    # ---- sets and ports

    def _drop_temporary(self) -> None:
        made = self.sas.temporary
        if made is not None:
            self._remove(made)

    def _remove(self, sas: UeSet) -> None:
        self.close_streams(sas)
        self.sas.remove(sas.number)
        self.clear_alarm(("sa", sas.number))
        self.effect(fx.RemoveSas(sas.number))
        self._close_ports()

    def _open_port(self, port: int) -> None:
        if port not in self._listening:
            self._listening.add(port)
            # 33.203 7.1: each protected port serves UDP and TCP.
            for transport in (Transport.UDP, Transport.TCP):
                self.effect(fx.Listen(transport, Endpoint(self.host, port)))

    def _close_ports(self) -> None:
        """Close the protected server ports that no set and no registration needs any more."""
        needed = {self.sas.port_s, *(each.offer.port_s for each in self.sets.values())}
        for port in sorted(self._listening - needed):
            self._listening.discard(port)
            for transport in (Transport.UDP, Transport.TCP):
                self.effect(fx.Unlisten(transport, Endpoint(self.host, port)))
