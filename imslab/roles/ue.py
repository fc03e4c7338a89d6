"""The UE: how it registers (24.229 5.1.1), and what it does once it has.

The story. A UE that wants service sends REGISTER in clear, with credentials in which nonce and response are empty, and
says in Security-Client which SPIs, ports and algorithms it offers (5.1.1.2.2). The answer is a 401 with a challenge
(5.1.1.5.1). The card looks at it. If it is good, the UE makes a temporary set of SAs out of CK, IK and the first entry
of Security-Server that it offered, opens port_us, and sends REGISTER again from inside: same Call-ID, the response,
Security-Client as before, Security-Server mirrored in Security-Verify. The 200 makes the set an established one, tells
who the UE is (P-Associated-URI) and by which way to speak (Service-Route); the UE subscribes to its own registration
state (5.1.1.3).

600 seconds before the end, or at half time, it refreshes: a REGISTER inside the established set, with the last response
and with new SPIs and a new port_uc (5.1.1.4.2). If that is challenged, a second set comes to stand beside the first;
the first one goes when the P-CSCF has used the second. If it is answered 200 at once, nothing new is made of it.

De-registering ends the calls first, then sends Expires 0 inside the set; the SAs go when that is answered (5.1.1.6.2).
The network can end a registration by a NOTIFY (5.1.1.7): rejected ends it for good, deactivated and probation want a
new one, now or later; shortened wants the refresh sooner.

When the challenge is bad: a wrong MAC is reported by a REGISTER with an empty response and no auts, a stale SQN by one
with auts, each with new SPIs and inside the established set if there is one (5.1.1.5.3). A 401 that lacks a usable
Security-Server or challenge is dropped and the UE begins again under a new Call-ID. To a third bad challenge in a row
it says nothing (5.1.1.5.12). When nobody answers inside the SAs, they count as dead, and the UE begins again in clear
(33.203 7.4.0). Whoever asks us to wait is waited for; whoever fails us is left alone for a time that grows.

The table TABLE is that story, state × input → (action, next state). Timers, the card's verdicts and the answers of
the carrier are inputs like any other. What it does not list does not concern that state.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

from imslab.aka.usim import Usim
from imslab.core import effects as fx
from imslab.core import events as ev
from imslab.core.entropy import Entropy
from imslab.core.flow import Endpoint, Transport
from imslab.roles.base import argument
from imslab.roles.ue_calls import Calls
from imslab.roles.ue_config import UeConfig as UeConfig
from imslab.roles.ue_credentials import empty_credentials
from imslab.roles.ue_procedure import UeProcedure
from imslab.roles.ue_registration import refresh_delay
from imslab.roles.ue_sas import GRACE, REG_AWAIT_AUTH, Standing, UeSet
from imslab.roles.ue_states import LEAVING, Action, Input, State
from imslab.roles.ue_subscription import RegSubscription
from imslab.roles.ue_traffic import Asked
from imslab.sip.message import Request, Response
from imslab.sip.transaction import Transaction

Table = dict[tuple[State, Input], tuple[Action, State]]
_S, _I, _A = State, Input, Action

TABLE: Table = {
    # ---- nothing under way
    (_S.IDLE, _I.REGISTER): (_A.BEGIN, _S.INITIAL),  # 5.1.1.2.1
    (_S.WAITING, _I.RETRY_TIMER): (_A.BEGIN, _S.INITIAL),
    (_S.WAITING, _I.DEREGISTER): (_A.FORGET, _S.IDLE),
    # ---- initial registration, 5.1.1.2; challenge 5.1.1.5
    (_S.INITIAL, _I.CHALLENGED): (_A.INSTALL, _S.INSTALLING),  # 5.1.1.5.1
    (_S.INITIAL, _I.CHALLENGED_PLAIN): (_A.ANSWER, _S.ANSWERING),
    (_S.INITIAL, _I.MAC_WRONG): (_A.REPORT, _S.INITIAL),  # 5.1.1.5.3
    (_S.INITIAL, _I.SQN_WRONG): (_A.REPORT, _S.INITIAL),  # 5.1.1.5.3
    (_S.INITIAL, _I.UNUSABLE): (_A.BEGIN, _S.INITIAL),  # 5.1.1.5.1
    (_S.INITIAL, _I.TOO_MANY): (_A.GIVE_UP, _S.IDLE),  # 5.1.1.5.12
    (_S.INITIAL, _I.OK): (_A.ENTER, _S.REGISTERED),  # only where no SAs are wanted
    (_S.INITIAL, _I.UNPROVEN): (_A.GIVE_UP, _S.IDLE),  # 33.203 5.1.1: an initial one is always authenticated
    (_S.INITIAL, _I.TOO_BRIEF): (_A.ASK_LONGER, _S.INITIAL),  # RFC 3261 10.2.8
    (_S.INITIAL, _I.LATER): (_A.WAIT, _S.WAITING),
    (_S.INITIAL, _I.TROUBLE): (_A.WAIT, _S.WAITING),
    (_S.INITIAL, _I.ELSEWHERE): (_A.WAIT, _S.WAITING),
    (_S.INITIAL, _I.NO_ANSWER): (_A.WAIT, _S.WAITING),
    (_S.INITIAL, _I.REJECTED): (_A.GIVE_UP, _S.IDLE),
    (_S.INITIAL, _I.DEREGISTER): (_A.WISH, _S.INITIAL),
    (_S.INITIAL, _I.MOVE): (_A.BEGIN, _S.INITIAL),
    (_S.INSTALLING, _I.INSTALLED): (_A.ANSWER, _S.ANSWERING),
    (_S.INSTALLING, _I.NOT_INSTALLED): (_A.GIVE_UP, _S.IDLE),
    (_S.INSTALLING, _I.AUTH_TIMER): (_A.WAIT, _S.WAITING),
    (_S.INSTALLING, _I.DEREGISTER): (_A.WISH, _S.INSTALLING),
    (_S.INSTALLING, _I.MOVE): (_A.BEGIN, _S.INITIAL),
    (_S.ANSWERING, _I.OK): (_A.ENTER, _S.REGISTERED),
    (_S.ANSWERING, _I.UNPROVEN): (_A.GIVE_UP, _S.IDLE),  # RFC 3310 3.5
    (_S.ANSWERING, _I.CHALLENGED): (_A.INSTALL, _S.INSTALLING),  # the newest challenge counts
    (_S.ANSWERING, _I.CHALLENGED_PLAIN): (_A.ANSWER, _S.ANSWERING),
    (_S.ANSWERING, _I.MAC_WRONG): (_A.REPORT, _S.INITIAL),
    (_S.ANSWERING, _I.SQN_WRONG): (_A.REPORT, _S.INITIAL),
    (_S.ANSWERING, _I.UNUSABLE): (_A.BEGIN, _S.INITIAL),
    (_S.ANSWERING, _I.TOO_MANY): (_A.GIVE_UP, _S.IDLE),
    (_S.ANSWERING, _I.TOO_BRIEF): (_A.ASK_LONGER, _S.INITIAL),
    (_S.ANSWERING, _I.LATER): (_A.WAIT, _S.WAITING),
    (_S.ANSWERING, _I.TROUBLE): (_A.WAIT, _S.WAITING),
    (_S.ANSWERING, _I.ELSEWHERE): (_A.WAIT, _S.WAITING),
    (_S.ANSWERING, _I.NO_ANSWER): (_A.WAIT, _S.WAITING),
    (_S.ANSWERING, _I.AUTH_TIMER): (_A.WAIT, _S.WAITING),  # 5.1.1.5.1: 4 minutes
    (_S.ANSWERING, _I.REJECTED): (_A.GIVE_UP, _S.IDLE),
    (_S.ANSWERING, _I.DEREGISTER): (_A.WISH, _S.ANSWERING),
    (_S.ANSWERING, _I.MOVE): (_A.BEGIN, _S.INITIAL),
    # ---- registered
    (_S.REGISTERED, _I.REFRESH_TIMER): (_A.REFRESH, _S.REFRESHING),  # 5.1.1.4.1
    (_S.REGISTERED, _I.REREGISTER): (_A.REFRESH, _S.REFRESHING),
    (_S.REGISTERED, _I.DEREGISTER): (_A.HANG_UP, _S.HANGING_UP),  # 5.1.1.6
    (_S.REGISTERED, _I.EXPIRED): (_A.WAIT, _S.WAITING),
    (_S.REGISTERED, _I.SAS_LOST): (_A.BEGIN, _S.INITIAL),  # 33.203 7.4.0
    (_S.REGISTERED, _I.MOVE): (_A.BEGIN, _S.INITIAL),  # 33.203 7.5
    (_S.REGISTERED, _I.NET_ENDED): (_A.RELEASE, _S.IDLE),  # 5.1.1.7
    (_S.REGISTERED, _I.NET_DEACTIVATED): (_A.BEGIN, _S.INITIAL),  # 5.1.1.7
    (_S.REGISTERED, _I.NET_PROBATION): (_A.WAIT, _S.WAITING),  # RFC 3680 4.6
    (_S.REGISTERED, _I.NET_SHORTENED): (_A.RETIME, _S.REGISTERED),  # 33.203 6.1.4
    # ---- refreshing, 5.1.1.4
    (_S.REFRESHING, _I.OK): (_A.REFRESHED, _S.REGISTERED),
    (_S.REFRESHING, _I.CHALLENGED): (_A.INSTALL, _S.REFRESH_INSTALLING),
    (_S.REFRESHING, _I.CHALLENGED_PLAIN): (_A.ANSWER, _S.REFRESH_ANSWERING),
    (_S.REFRESHING, _I.MAC_WRONG): (_A.REPORT, _S.REFRESHING),
    (_S.REFRESHING, _I.SQN_WRONG): (_A.REPORT, _S.REFRESHING),
    (_S.REFRESHING, _I.UNUSABLE): (_A.REFRESH_ANEW, _S.REFRESHING),
    (_S.REFRESHING, _I.TOO_MANY): (_A.KEEP, _S.REGISTERED),
    (_S.REFRESHING, _I.TOO_BRIEF): (_A.REFRESH_LONGER, _S.REFRESHING),
    (_S.REFRESHING, _I.LATER): (_A.RETRY_REFRESH, _S.REGISTERED),
    (_S.REFRESHING, _I.TROUBLE): (_A.BEGIN, _S.INITIAL),  # 5.1.1.4.1: 408, 500, 504
    (_S.REFRESHING, _I.ELSEWHERE): (_A.BEGIN_ELSEWHERE, _S.INITIAL),
    (_S.REFRESHING, _I.NO_ANSWER): (_A.BEGIN_ELSEWHERE, _S.INITIAL),  # 5.1.1.4.1: timer F
    (_S.REFRESHING, _I.REJECTED): (_A.KEEP, _S.REGISTERED),
    (_S.REFRESHING, _I.SAS_LOST): (_A.BEGIN, _S.INITIAL),
    (_S.REFRESHING, _I.MOVE): (_A.BEGIN, _S.INITIAL),
    (_S.REFRESHING, _I.DEREGISTER): (_A.WISH, _S.REFRESHING),
    (_S.REFRESHING, _I.NET_ENDED): (_A.RELEASE, _S.IDLE),
    (_S.REFRESHING, _I.NET_DEACTIVATED): (_A.BEGIN, _S.INITIAL),
    (_S.REFRESHING, _I.NET_PROBATION): (_A.WAIT, _S.WAITING),
    (_S.REFRESH_INSTALLING, _I.INSTALLED): (_A.ANSWER, _S.REFRESH_ANSWERING),
    (_S.REFRESH_INSTALLING, _I.NOT_INSTALLED): (_A.KEEP, _S.REGISTERED),
    (_S.REFRESH_INSTALLING, _I.AUTH_TIMER): (_A.KEEP, _S.REGISTERED),
    (_S.REFRESH_INSTALLING, _I.SAS_LOST): (_A.BEGIN, _S.INITIAL),
    (_S.REFRESH_INSTALLING, _I.MOVE): (_A.BEGIN, _S.INITIAL),
    (_S.REFRESH_INSTALLING, _I.DEREGISTER): (_A.WISH, _S.REFRESH_INSTALLING),
    (_S.REFRESH_ANSWERING, _I.OK): (_A.SWITCH, _S.REGISTERED),  # 33.203 7.4.1a
    (_S.REFRESH_ANSWERING, _I.UNPROVEN): (_A.KEEP, _S.REGISTERED),
    (_S.REFRESH_ANSWERING, _I.CHALLENGED): (_A.INSTALL, _S.REFRESH_INSTALLING),
    (_S.REFRESH_ANSWERING, _I.CHALLENGED_PLAIN): (_A.ANSWER, _S.REFRESH_ANSWERING),
    (_S.REFRESH_ANSWERING, _I.MAC_WRONG): (_A.REPORT, _S.REFRESHING),
    (_S.REFRESH_ANSWERING, _I.SQN_WRONG): (_A.REPORT, _S.REFRESHING),
    (_S.REFRESH_ANSWERING, _I.UNUSABLE): (_A.REFRESH_ANEW, _S.REFRESHING),
    (_S.REFRESH_ANSWERING, _I.TOO_MANY): (_A.KEEP, _S.REGISTERED),
    (_S.REFRESH_ANSWERING, _I.TOO_BRIEF): (_A.REFRESH_LONGER, _S.REFRESHING),
    (_S.REFRESH_ANSWERING, _I.LATER): (_A.RETRY_REFRESH, _S.REGISTERED),
    (_S.REFRESH_ANSWERING, _I.TROUBLE): (_A.BEGIN, _S.INITIAL),
    (_S.REFRESH_ANSWERING, _I.ELSEWHERE): (_A.BEGIN_ELSEWHERE, _S.INITIAL),
    (_S.REFRESH_ANSWERING, _I.NO_ANSWER): (_A.BEGIN_ELSEWHERE, _S.INITIAL),
    (_S.REFRESH_ANSWERING, _I.AUTH_TIMER): (_A.KEEP, _S.REGISTERED),
    (_S.REFRESH_ANSWERING, _I.REJECTED): (_A.KEEP, _S.REGISTERED),  # 33.203 6.1.1: the registration stays
    (_S.REFRESH_ANSWERING, _I.SAS_LOST): (_A.BEGIN, _S.INITIAL),
    (_S.REFRESH_ANSWERING, _I.MOVE): (_A.BEGIN, _S.INITIAL),
    (_S.REFRESH_ANSWERING, _I.DEREGISTER): (_A.WISH, _S.REFRESH_ANSWERING),
    (_S.REFRESH_ANSWERING, _I.NET_ENDED): (_A.RELEASE, _S.IDLE),
    (_S.REFRESH_ANSWERING, _I.NET_DEACTIVATED): (_A.BEGIN, _S.INITIAL),
    (_S.REFRESH_ANSWERING, _I.NET_PROBATION): (_A.WAIT, _S.WAITING),
    # ---- leaving, 5.1.1.6
    (_S.HANGING_UP, _I.CALLS_ENDED): (_A.LEAVE, _S.LEAVING),
    (_S.HANGING_UP, _I.EXPIRED): (_A.LOSE, _S.IDLE),
    (_S.HANGING_UP, _I.SAS_LOST): (_A.LOSE, _S.IDLE),
    (_S.HANGING_UP, _I.NET_ENDED): (_A.RELEASE, _S.IDLE),
    (_S.HANGING_UP, _I.NET_DEACTIVATED): (_A.RELEASE, _S.IDLE),
    (_S.HANGING_UP, _I.NET_PROBATION): (_A.RELEASE, _S.IDLE),
    (_S.LEAVING, _I.OK): (_A.LEFT, _S.IDLE),  # 5.1.1.6.2
    (_S.LEAVING, _I.CHALLENGED): (_A.INSTALL, _S.LEAVE_INSTALLING),
    (_S.LEAVING, _I.CHALLENGED_PLAIN): (_A.ANSWER, _S.LEAVE_ANSWERING),
    (_S.LEAVING, _I.MAC_WRONG): (_A.REPORT, _S.LEAVING),
    (_S.LEAVING, _I.SQN_WRONG): (_A.REPORT, _S.LEAVING),
    (_S.LEAVING, _I.UNUSABLE): (_A.LEAVE_ANEW, _S.LEAVING),
    (_S.LEAVING, _I.TOO_MANY): (_A.LOSE, _S.IDLE),
    (_S.LEAVING, _I.TOO_BRIEF): (_A.LOSE, _S.IDLE),
    (_S.LEAVING, _I.LATER): (_A.LOSE, _S.IDLE),
    (_S.LEAVING, _I.TROUBLE): (_A.LOSE, _S.IDLE),
    (_S.LEAVING, _I.ELSEWHERE): (_A.LOSE, _S.IDLE),
    (_S.LEAVING, _I.NO_ANSWER): (_A.LOSE, _S.IDLE),
    (_S.LEAVING, _I.REJECTED): (_A.LOSE, _S.IDLE),
    (_S.LEAVING, _I.SAS_LOST): (_A.LOSE, _S.IDLE),
    (_S.LEAVE_INSTALLING, _I.INSTALLED): (_A.ANSWER, _S.LEAVE_ANSWERING),
    (_S.LEAVE_INSTALLING, _I.NOT_INSTALLED): (_A.LOSE, _S.IDLE),
    (_S.LEAVE_INSTALLING, _I.AUTH_TIMER): (_A.LOSE, _S.IDLE),
    (_S.LEAVE_INSTALLING, _I.SAS_LOST): (_A.LOSE, _S.IDLE),
    (_S.LEAVE_ANSWERING, _I.OK): (_A.LEFT, _S.IDLE),
    (_S.LEAVE_ANSWERING, _I.UNPROVEN): (_A.LOSE, _S.IDLE),
    (_S.LEAVE_ANSWERING, _I.CHALLENGED): (_A.INSTALL, _S.LEAVE_INSTALLING),
    (_S.LEAVE_ANSWERING, _I.CHALLENGED_PLAIN): (_A.ANSWER, _S.LEAVE_ANSWERING),
    (_S.LEAVE_ANSWERING, _I.MAC_WRONG): (_A.REPORT, _S.LEAVING),
    (_S.LEAVE_ANSWERING, _I.SQN_WRONG): (_A.REPORT, _S.LEAVING),
    (_S.LEAVE_ANSWERING, _I.UNUSABLE): (_A.LEAVE_ANEW, _S.LEAVING),
    (_S.LEAVE_ANSWERING, _I.TOO_MANY): (_A.LOSE, _S.IDLE),
    (_S.LEAVE_ANSWERING, _I.TOO_BRIEF): (_A.LOSE, _S.IDLE),
    (_S.LEAVE_ANSWERING, _I.LATER): (_A.LOSE, _S.IDLE),
    (_S.LEAVE_ANSWERING, _I.TROUBLE): (_A.LOSE, _S.IDLE),
    (_S.LEAVE_ANSWERING, _I.ELSEWHERE): (_A.LOSE, _S.IDLE),
    (_S.LEAVE_ANSWERING, _I.NO_ANSWER): (_A.LOSE, _S.IDLE),
    (_S.LEAVE_ANSWERING, _I.AUTH_TIMER): (_A.LOSE, _S.IDLE),
    (_S.LEAVE_ANSWERING, _I.REJECTED): (_A.LOSE, _S.IDLE),
    (_S.LEAVE_ANSWERING, _I.SAS_LOST): (_A.LOSE, _S.IDLE),
}


class Ue(UeProcedure):
    """A UE. Commands: register, reregister, deregister, subscribe, message(to, text), call(to), hangup, cancel,
    move(host). Readable: state, registration, sets, subscription, calls.
    """

    def __init__(self, name: str, config: UeConfig, usim: Usim, entropy: Entropy, faults: Iterable[str] = ()) -> None:
        super().__init__(name, config, usim, entropy, faults)
        self.subscription = RegSubscription(self)
        self.calls = Calls(self)
        self._proof = ""  # Authorization of the latest success, for refreshes
        self._wish = False  # to de-register as soon as the procedure under way is over

    # ---- the contract

    def on_started(self) -> None:
        """Open the unprotected port: for answers to a clear REGISTER, and for all there is where no SAs are wanted."""
        for transport in (Transport.UDP,) if self.config.ipsec else (Transport.UDP, Transport.TCP):
            self.effect(fx.Listen(transport, Endpoint(self.host, self.config.port)))

    def handle(self, event: ev.Event, now: float) -> None:
        """Take in one event, and let an old set go as soon as it may."""
        super().handle(event, now)
        old = self.sas.old
        if old is not None:
            new = self.sas.established
            # 33.203 7.4.1a: after a message on the new inbound SA, and when pending transactions have ended.
            if (new is None or new.confirmed) and not self.transactions.pending(old.carries):
                self._remove(old)

    def on_event(self, event: ev.Event) -> None:
        """The carrier's word on SAs."""
        match event:
            case ev.SasInstalled(number):
                if self.sas.temporary is not None and self.sas.temporary.number == number:
                    self.step(Input.INSTALLED)
            case ev.SasFailed(number, error):
                self.sas.remove(number)
                self.clear_alarm(("sa", number))
                self.emit("sa-failure", f"set {number}: {error}")
                self.step(Input.NOT_INSTALLED)
            case ev.SaExpired(number):
                self._set_ended(number)

    def on_alarm(self, key: Hashable) -> None:
        """Timers are inputs."""
        match key:
            case ("sa", int(number)):
                self._set_ended(number)
            case "retry":
                self.step(Input.RETRY_TIMER)
            case "refresh":
                self.step(Input.REFRESH_TIMER)
            case "expiry":
                self._end_of_registration()
            case "subscription":
                self.subscription.on_alarm()
            case ("call", str(call_id), str(what)):
                self.calls.on_alarm(call_id, what)

    def on_command(self, name: str, arguments: Mapping[str, Any]) -> None:
        """What an operator asks for."""
        match name:
            case "register":
                done = self.step(Input.REGISTER)
            case "reregister":
                done = self.step(Input.REREGISTER)
            case "deregister":
                done = self.step(Input.DEREGISTER)
            case "move":
                done = self._move(argument(arguments, "host"))
            case "subscribe":
                done = self.subscription.start()
            case "message":
                done = self._message(argument(arguments, "to"), argument(arguments, "text"))
            case "call":
                done = self.calls.call(argument(arguments, "to"))
            case "hangup":
                done = self.calls.hang_up()
            case "cancel":
                done = self.calls.cancel()
            case _:
                super().on_command(name, arguments)
                return
        if not done:
            self.emit("refused", f"{name}: not while {self.state}")

    def step(self, input_: Input) -> bool:
        """Make one transition; False when the state has no use for the input."""
        row = TABLE.get((self.state, input_))
        if row is None:
            return False
        action, self.state = row
        ACTIONS[action](self, input_)
        if self._wish and self.state in (State.REGISTERED, State.WAITING):
            self._wish = False
            self.step(Input.DEREGISTER)
        return True

    # ---- what comes in

    def on_request(self, txn: Transaction, request: Request, arrival: ev.Arrival) -> None:
        """Requests from the network; only by SAs, as `admit` sees to."""
        foreign = [tag for tag in request.require if tag.lower() != "sec-agree"]
        if foreign:
            self.respond(txn, 420, headers=[("Unsupported", ", ".join(foreign))])  # RFC 3261 8.2.2.3
            return
        match request.method:
            case "NOTIFY":
                self.subscription.on_notify(txn, request, arrival)
            case "BYE":
                self.calls.on_bye(txn, request)
            case "OPTIONS":
                self.respond(txn, 200, headers=[self.allow(), ("Accept", "application/sdp, text/plain")])
            case "MESSAGE" | "INVITE" if self.registration is None:
                self.respond(txn, 480)
            case "MESSAGE":
                self.respond(txn, 200)
                text = request.body.decode("utf-8", "replace")
                self.emit("message-received", f"from {request.from_.uri}", sender=str(request.from_.uri), body=text)
            case "INVITE":
                self.calls.on_invite(txn, request)
            case "REGISTER" | "SUBSCRIBE" | "PUBLISH" | "REFER" | "INFO" | "UPDATE" | "PRACK":
                self.respond(txn, 405, headers=[self.allow()])
            case _:
                self.respond(txn, 501, headers=[self.allow()])

    def on_ack(self, request: Request, arrival: ev.Arrival) -> None:
        """The ACK of a 200 of ours."""
        self.calls.on_ack(request)

    def on_cancel(self, invite: Transaction, cancel: Request, arrival: ev.Arrival) -> None:
        """The caller has changed its mind."""
        self.calls.on_cancelled(invite)

    def on_silence(self) -> None:
        """33.203 7.4.0: the P-CSCF seems to have lost our SAs."""
        self.emit("timeout", "nobody answers inside the SAs")
        self.step(Input.SAS_LOST)

    # ---- actions

    def _begin(self, input_: Input) -> None:
        # 24.229 5.1.1.7: after "deactivated" the SAs go when the NOTIFY's transaction is over; else they are dead.
        over = input_ is Input.NET_DEACTIVATED
        self._lose_registration(self.config.profile.timers.timeout if over else None)
        if input_ is not Input.UNUSABLE:
            self._bad = 0
        challenges = self._challenges
        if input_ is not Input.UNUSABLE or "ue-keeps-call-id" not in self.faults:
            self._new_call()
        if input_ is Input.UNUSABLE:
            self._challenges = challenges
        self._new_offer()
        first = empty_credentials(self.config, first=True)
        if "ue-two-attempts" in self.faults:
            self._send_register(first, Asked.CLEAR, None)
        self._send_register(first, Asked.CLEAR, None)

    def _begin_elsewhere(self, input_: Input) -> None:
        self._block(self._backoff())
        self._choose_pcscf()
        self._begin(input_)

    def _ask_longer(self, input_: Input) -> None:
        self._drop_temporary()
        self._register_again(empty_credentials(self.config, first=True))

    def _install(self, input_: Input) -> None:
        made = self.sas.temporary
        assert made is not None
        self._open_port(made.offer.port_s)
        self.set_alarm(("sa", made.number), REG_AWAIT_AUTH)
        self.effect(fx.InstallSas(made.sas))

    def _answer_challenge(self, input_: Input) -> None:
        assert self._answer is not None
        first = self.state is State.ANSWERING
        sas = self.sas.temporary
        if "ue-answers-in-clear" in self.faults:
            sas = None
        asked = Asked.CLEAR if sas is None else Asked.FIRST_ANSWER if first else Asked.NEXT_ANSWER
        if "ue-answers-under-new-call-id" in self.faults:
            self._new_call()
        if "ue-cseq-stands" in self.faults:
            self._cseq -= 1
        self._send_register(self._answer.authorization, asked, sas)
        if "ue-talks-early" in self.faults and sas is not None:
            self.send(self._early_words(sas), lambda txn, response, arrival: None, Asked.OTHER, sas)

    def _early_words(self, sas: UeSet) -> Request:
        """What the fault ue-talks-early says before the 200."""
        me = self.config.impu
        headers = [("From", f"<{me}>;tag={self.token(4)}"), ("To", f"<{me}>"), ("Call-ID", self.new_call_id())]
        rows = [*self.common_rows("OPTIONS", None, sas), *headers, ("CSeq", "1 OPTIONS")]
        return Request("OPTIONS", me, rows)

    def _report(self, input_: Input) -> None:
        assert self._answer is not None
        self._drop_temporary()
        if "ue-reports-under-new-call-id" in self.faults:
            self._new_call()
        self._register_again(self._answer.authorization)

    def _enter(self, input_: Input) -> None:
        made = self.sas.temporary
        for each in list(self.sets.values()):
            if each is not made:
                self._remove(each)  # 33.203 7.4.1a: a clear first REGISTER leaves only the new set
        self._establish(made)
        assert self.registration is not None
        text = f"{self.registration.default_identity} for {self.registration.granted} s"
        self.emit("registered", text, expires=self.registration.granted)
        self._speak()

    def _switch(self, input_: Input) -> None:
        old, before = self.sas.established, self.sas.old
        if before is not None:
            self._remove(before)
        if old is not None:
            old.standing = Standing.OLD
            if "ue-drops-old-set" in self.faults:
                self._remove(old)
        self._establish(self.sas.temporary, old)
        if old is not None:
            assert self.sas.established is not None
            text = f"from set {old.number} to set {self.sas.established.number}"
            self.emit("sas-switched", text, old=old.number, new=self.sas.established.number)
        self._speak()

    def _refreshed(self, input_: Input) -> None:
        # 33.203 7.4.0: a 200 at once makes no SAs; what was offered is forgotten.
        self._drop_temporary()
        self._take_granted()
        sas = self.sas.established
        if sas is not None:
            self._prolong(sas, sas.expires_at)
        self.emit("refreshed", f"for {self._granted.granted if self._granted else 0} s, the SAs stay")
        self._speak()

    def _establish(self, made: UeSet | None, before: UeSet | None = None) -> None:
        if made is not None:
            made.standing = Standing.ESTABLISHED
        self._take_granted()
        if made is not None:
            # 33.203 7.4.1a: the longer of the old lifetime and a little more than the registration.
            self._prolong(made, before.expires_at if before is not None else 0.0)
        if self._answer is not None:
            self._proof = self._answer.authorization

    def _take_granted(self) -> None:
        granted = self._granted
        assert granted is not None
        self.registration = granted
        self._failures = 0
        self._blocked.clear()
        self._time_registration(granted.granted)

    def _time_registration(self, seconds: float) -> None:
        self.set_alarm("expiry", seconds)
        delay = refresh_delay(seconds)
        if "ue-refreshes-late" in self.faults:
            delay = seconds - 1
        self.set_alarm("refresh", max(delay, min(self.config.least_refresh, seconds)))

    def _prolong(self, sas: UeSet, at_least: float) -> None:
        assert self.registration is not None
        grace = -GRACE if "ue-short-lifetime" in self.faults else GRACE
        sas.expires_at = max(self.registration.expires_at + grace, at_least)
        lifetime = sas.expires_at - self.now
        self.set_alarm(("sa", sas.number), lifetime)
        self.effect(fx.UpdateSas(sas.number, lifetime))

    def _speak(self) -> None:
        """The registration stands: subscribe to it if that has not been done (24.229 5.1.1.3)."""
        wanted = self.config.subscribe and "ue-never-subscribes" not in self.faults
        if wanted and not self.subscription.active and self.alarm("subscription") is None:
            self.subscription.start()

    def _keep(self, input_: Input) -> None:
        # 33.203 6.1.1: a registered subscriber stays registered when an authentication fails.
        self._drop_temporary()
        self._check_end()

    def _retry_refresh(self, input_: Input) -> None:
        self._drop_temporary()
        self.set_alarm("refresh", max(1.0, float(self._wait)))
        self._check_end()

    def _check_end(self) -> None:
        if self.registration is not None and self.registration.expires_at <= self.now:
            self._end_of_registration()

    def _end_of_registration(self) -> None:
        if TABLE.get((self.state, Input.EXPIRED)) is not None:
            self.emit("expired", "the registration has run out")
            self.step(Input.EXPIRED)

    def _wait_a_while(self, input_: Input) -> None:
        self._lose_registration(self.config.profile.timers.timeout if input_ is Input.NET_PROBATION else None)
        asked = self._wait if input_ in (Input.LATER, Input.NET_PROBATION) else 0
        delay = float(asked) if asked else self._backoff()
        if input_ is not Input.NET_PROBATION:  # that one is the registrar's word, not a P-CSCF's
            self._block(delay)
            delay = self._choose_pcscf()
        if "ue-never-waits" in self.faults:
            delay = 0.0
        self.emit("waiting", f"{delay:.1f} s before the next attempt, at {self.pcscf}")
        self.set_alarm("retry", delay)

    def _give_up(self, input_: Input) -> None:
        self._wish = False
        self._lose_registration(None)
        self.emit("gave-up", f"registration: {input_}")

    def _forget(self, input_: Input) -> None:
        self.clear_alarm("retry")
        self.emit("gave-up", "registration: no longer wanted")

    def _remember_wish(self, input_: Input) -> None:
        self._wish = True

    def _refresh(self, input_: Input) -> None:
        self._bad = 0
        self._challenges = self._longer = 0
        empty = "ue-refreshes-without-proof" in self.faults
        proof = empty_credentials(self.config, first=False) if empty else self._proof
        self._register_again(proof, clear="ue-refreshes-in-clear" in self.faults)

    def _refresh_longer(self, input_: Input) -> None:
        self._drop_temporary()
        self._register_again(self._proof)

    def _refresh_anew(self, input_: Input) -> None:
        self._drop_temporary()
        challenges = self._challenges
        self._new_call()
        self._challenges = challenges
        self._register_again(self._proof)

    def _retime(self, input_: Input) -> None:
        registration = self.registration
        assert registration is not None
        registration.expires_at = self.now + self._wait
        self._time_registration(self._wait)

    def _hang_up(self, input_: Input) -> None:
        # 24.229 5.1.1.6.1: dialogs are released first.
        if "ue-leaves-calls-standing" in self.faults:
            self.calls.drop_all()
        self.calls.end_all()

    def _leave(self, input_: Input) -> None:
        self._bad = 0
        self._challenges = self._longer = 0
        self._register_again(self._proof, clear="ue-leaves-in-clear" in self.faults)

    def _left(self, input_: Input) -> None:
        # 24.229 5.1.1.6.2: SAs go when the transaction is over; a repeated 200 may come for T4.
        self._lose_registration(self.config.profile.timers.t4, leave=True)
        self.emit("deregistered", f"{self.config.impu}, as we asked")

    def _release(self, input_: Input) -> None:
        # 24.229 5.1.1.7: SAs go when the transaction of the NOTIFY is over.
        self._lose_registration(self.config.profile.timers.timeout, leave=True)
        self.emit("deregistered", f"{self.config.impu}, by the network: {input_}")

    def _lose(self, input_: Input) -> None:
        self._lose_registration(None, leave=True)
        self.emit("deregistered", f"{self.config.impu}, without a word from the network: {input_}")

    # ---- the end of things

    def _lose_registration(self, linger: float | None, leave: bool = False) -> None:
        """Nobody is registered any more. linger: how long the sets stay, None: they go at once. leave: so does port_us.

        24.229 5.1.1.2.1: dialogs are stopped, silently.
        """
        for alarm in ("refresh", "expiry", "retry"):
            self.clear_alarm(alarm)
        self.registration = None
        self.calls.drop_all()
        self.subscription.leave()
        for each in list(self.sets.values()):
            if linger is None or each.standing is Standing.TEMPORARY:
                self._remove(each)
            else:
                each.standing = Standing.ENDING
                each.expires_at = self.now + linger
                self.set_alarm(("sa", each.number), linger)
        if leave:
            # 33.203 7.1: port_us was fixed until now.
            self.sas.port_s = 0
            self._offer = None
            self._close_ports()

    def _set_ended(self, number: int) -> None:
        """A set's own time is over, or the carrier says that it is gone."""
        sas = self.sets.get(number)
        if sas is None:
            return
        self._remove(sas)
        if sas.standing is Standing.TEMPORARY:
            self.step(Input.AUTH_TIMER)
        elif sas.standing is Standing.ESTABLISHED:
            self.emit("sas-expired", f"set {number}")
            self.step(Input.SAS_LOST)

    def _move(self, host: str) -> bool:
        """33.203 7.5: another address means other SAs, and a registration in clear from there."""
        if self.state in LEAVING:
            return False
        registered = self.state not in (State.IDLE, State.WAITING)
        self._lose_registration(None, leave=True)
        for transport in (Transport.UDP,) if self.config.ipsec else (Transport.UDP, Transport.TCP):
            self.effect(fx.Unlisten(transport, Endpoint(self.host, self.config.port)))
        self.config.host = host
        self.on_started()
        if self.state is State.WAITING:
            self.set_alarm("retry", 0.0)
        return self.step(Input.MOVE) if registered else True

    # ---- what registered UEs say

    def _message(self, to: str, text: str) -> bool:
        if not self.may_speak:
            return False
        me = self.identity
        headers = [
            ("From", f"<{me}>;tag={self.token(4)}"),
            ("To", f"<{to}>"),
            ("Call-ID", f"{self.token(12)}@{self.host}"),
            ("CSeq", "1 MESSAGE"),
            ("P-Preferred-Identity", f"<{me}>"),
            ("Content-Type", "text/plain;charset=UTF-8"),
        ]

        def then(txn: Transaction, response: Response | None, arrival: ev.Arrival | None) -> None:
            if response is None or response.status >= 200:
                status = 408 if response is None else response.status
                self.emit("message-sent", f"to {to}: {status}", to=to, status=status)

        self.ask("MESSAGE", to, headers, then, body=text.encode())
        return True

    # ---- the network's word, from NOTIFY

    def network_says(self, input_: Input, seconds: int = 0) -> None:
        """What a reg event document means for the registration. seconds: new lifetime, or how long to wait."""
        self._wait = seconds
        if input_ is Input.NET_ENDED and "ue-returns-when-rejected" in self.faults:
            input_ = Input.NET_DEACTIVATED
        elif input_ is Input.NET_DEACTIVATED and "ue-stays-away" in self.faults:
            input_ = Input.NET_ENDED
        self.step(input_)

    def calls_ended(self) -> None:
        """No call is left."""
        self.step(Input.CALLS_ENDED)


ACTIONS: dict[Action, Callable[[Ue, Input], None]] = {
    _A.BEGIN: Ue._begin,
    _A.BEGIN_ELSEWHERE: Ue._begin_elsewhere,
    _A.ASK_LONGER: Ue._ask_longer,
    _A.INSTALL: Ue._install,
    _A.ANSWER: Ue._answer_challenge,
    _A.REPORT: Ue._report,
    _A.ENTER: Ue._enter,
    _A.WAIT: Ue._wait_a_while,
    _A.GIVE_UP: Ue._give_up,
    _A.FORGET: Ue._forget,
    _A.WISH: Ue._remember_wish,
    _A.REFRESH: Ue._refresh,
    _A.REFRESH_LONGER: Ue._refresh_longer,
    _A.REFRESH_ANEW: Ue._refresh_anew,
    _A.REFRESHED: Ue._refreshed,
    _A.SWITCH: Ue._switch,
    _A.KEEP: Ue._keep,
    _A.RETRY_REFRESH: Ue._retry_refresh,
    _A.RETIME: Ue._retime,
    _A.HANG_UP: Ue._hang_up,
    _A.LEAVE: Ue._leave,
    _A.LEAVE_ANEW: Ue._refresh_anew,
    _A.LEFT: Ue._left,
    _A.RELEASE: Ue._release,
    _A.LOSE: Ue._lose,
}
