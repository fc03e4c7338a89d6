"""Calls of the UE: INVITE, ACK, BYE, CANCEL (RFC 3261 9, 13, 15), signalling only.

    caller   CALLING → RINGING → ACTIVE → ENDING; whoever hangs up before the answer cancels, as soon as the other side
             has said anything at all (RFC 3261 9.1); a 200 that crosses the CANCEL is acknowledged and ended by BYE
    callee   INCOMING → ACCEPTED → ACTIVE; the 200 is repeated until the ACK comes (RFC 3261 13.3.1.4)

There is no media; the bodies are as small as SDP can be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from imslab.core import events as ev
from imslab.core.errors import PeerError
from imslab.roles.ue_speech import UeSpeech
from imslab.roles.ue_traffic import Asked, Sent
from imslab.sip.message import Message, Request, Response
from imslab.sip.transaction import Transaction

#: RFC 3261 13.3.1.4: a call that rings longer than this is given up by the callee.
LONGEST_RINGING = 180.0


class CallState(StrEnum):
    """Where a call is."""

    CALLING = "calling"
    RINGING = "ringing"
    CANCEL_WANTED = "to be cancelled"
    CANCELLING = "cancelling"
    INCOMING = "incoming"
    ACCEPTED = "accepted"
    BYE_WANTED = "to be ended"
    ACTIVE = "active"
    ENDING = "ending"
    ENDED = "ended"


class CallInput(StrEnum):
    """What can come to a call."""

    HANG_UP = "hang up"
    PROVISIONAL = "1xx"
    SUCCESS = "2xx"
    FAILURE = "failure or no answer"
    RING_TIMER = "rung long enough"
    GIVE_UP_TIMER = "rung too long"
    REPEAT_TIMER = "200 is due again"
    ACK = "ACK"
    ACK_TIMER = "no ACK came"
    CANCELLED = "CANCEL"
    CANCEL_TIMER = "CANCEL changed nothing"
    REINVITE = "INVITE within the call"
    BYE = "BYE"
    BYE_ANSWERED = "BYE answered"


class CallAction(StrEnum):
    """What is done on a transition."""

    NOTHING = "nothing"
    RING = "tell that it rings"
    CANCEL = "send CANCEL"
    ACKNOWLEDGE = "send ACK, the call stands"
    ACKNOWLEDGE_AGAIN = "send ACK"
    ACKNOWLEDGE_AND_BYE = "send ACK, then BYE"
    BYE = "send BYE"
    ACCEPT = "send 200"
    REPEAT = "send 200 again"
    STAND = "the call stands"
    DECLINE = "send 480"
    TERMINATE = "send 487"
    FINISH = "the call is over"


_S, _I, _A = CallState, CallInput, CallAction

CALL_TABLE: dict[tuple[CallState, CallInput], tuple[CallAction, CallState]] = {
    # caller
    (_S.CALLING, _I.PROVISIONAL): (_A.RING, _S.RINGING),
    (_S.CALLING, _I.SUCCESS): (_A.ACKNOWLEDGE, _S.ACTIVE),
    (_S.CALLING, _I.FAILURE): (_A.FINISH, _S.ENDED),
    (_S.CALLING, _I.HANG_UP): (_A.NOTHING, _S.CANCEL_WANTED),  # RFC 3261 9.1: not before a provisional answer
    (_S.RINGING, _I.PROVISIONAL): (_A.RING, _S.RINGING),
    (_S.RINGING, _I.SUCCESS): (_A.ACKNOWLEDGE, _S.ACTIVE),
    (_S.RINGING, _I.FAILURE): (_A.FINISH, _S.ENDED),
    (_S.RINGING, _I.HANG_UP): (_A.CANCEL, _S.CANCELLING),
    (_S.CANCEL_WANTED, _I.PROVISIONAL): (_A.CANCEL, _S.CANCELLING),
    (_S.CANCEL_WANTED, _I.SUCCESS): (_A.ACKNOWLEDGE_AND_BYE, _S.ENDING),
    (_S.CANCEL_WANTED, _I.FAILURE): (_A.FINISH, _S.ENDED),
    (_S.CANCELLING, _I.SUCCESS): (_A.ACKNOWLEDGE_AND_BYE, _S.ENDING),
    (_S.CANCELLING, _I.FAILURE): (_A.FINISH, _S.ENDED),
    (_S.CANCELLING, _I.CANCEL_TIMER): (_A.FINISH, _S.ENDED),
    # callee
    (_S.INCOMING, _I.RING_TIMER): (_A.ACCEPT, _S.ACCEPTED),
    (_S.INCOMING, _I.GIVE_UP_TIMER): (_A.DECLINE, _S.ENDED),
    (_S.INCOMING, _I.HANG_UP): (_A.DECLINE, _S.ENDED),
    (_S.INCOMING, _I.CANCELLED): (_A.TERMINATE, _S.ENDED),
    (_S.INCOMING, _I.BYE): (_A.TERMINATE, _S.ENDED),  # RFC 3261 15.1.2: a BYE in an early dialog
    (_S.ACCEPTED, _I.ACK): (_A.STAND, _S.ACTIVE),
    (_S.ACCEPTED, _I.REPEAT_TIMER): (_A.REPEAT, _S.ACCEPTED),
    (_S.ACCEPTED, _I.ACK_TIMER): (_A.BYE, _S.ENDING),
    (_S.ACCEPTED, _I.HANG_UP): (_A.NOTHING, _S.BYE_WANTED),  # RFC 3261 15: no BYE before the ACK
    (_S.ACCEPTED, _I.BYE): (_A.FINISH, _S.ENDED),
    (_S.BYE_WANTED, _I.REPEAT_TIMER): (_A.REPEAT, _S.BYE_WANTED),
    (_S.BYE_WANTED, _I.ACK): (_A.BYE, _S.ENDING),
    (_S.BYE_WANTED, _I.ACK_TIMER): (_A.BYE, _S.ENDING),
    (_S.BYE_WANTED, _I.BYE): (_A.FINISH, _S.ENDED),
    # both
    (_S.ACTIVE, _I.SUCCESS): (_A.ACKNOWLEDGE_AGAIN, _S.ACTIVE),
    (_S.ACTIVE, _I.REINVITE): (_A.ACCEPT, _S.ACCEPTED),
    (_S.ACTIVE, _I.HANG_UP): (_A.BYE, _S.ENDING),
    (_S.ACTIVE, _I.BYE): (_A.FINISH, _S.ENDED),
    (_S.ENDING, _I.SUCCESS): (_A.ACKNOWLEDGE_AGAIN, _S.ENDING),
    (_S.ENDING, _I.BYE_ANSWERED): (_A.FINISH, _S.ENDED),
    (_S.ENDING, _I.BYE): (_A.FINISH, _S.ENDED),
}


@dataclass(slots=True)
class Call:
    """One call. local, remote: values of From and To as our requests bear them. peer: whom humans see.

    sent: our INVITE; received: the latest one of theirs. cseq, remote_cseq: of the latest request of each side.
    """

    call_id: str
    state: CallState
    local: str
    remote: str
    peer: str
    target: str
    tag: str  # ours
    remote_tag: str = ""
    sent: Transaction | None = None
    received: Transaction | None = None
    cseq: int = 0
    remote_cseq: int = -1
    routes: list[str] = field(default_factory=list)
    answer: Response | None = None  # our latest 2xx
    interval: float = 0.0


class Calls:
    """The calls of a UE by Call-ID. One at a time: a second caller hears 486."""

    __slots__ = ("_ue", "by_id")

    def __init__(self, ue: UeSpeech) -> None:
        self._ue = ue
        self.by_id: dict[str, Call] = {}

    def __len__(self) -> int:
        return len(self.by_id)

    # ---- the operator

    def call(self, to: str) -> bool:
        """Send INVITE. False while the UE may not speak, or speaks already."""
        ue = self._ue
        if not ue.may_speak or self.by_id:
            return False
        me = ue.identity
        tag = ue.token(4)
        call = Call(ue.new_call_id(), CallState.CALLING, f"<{me}>;tag={tag}", f"<{to}>", to, to, tag)
        self.by_id[call.call_id] = call
        headers = [
            *self._dialog_rows(call, "INVITE"),
            ("P-Preferred-Identity", f"<{me}>"),
            *self._offer_rows(),
        ]
        call.sent = ue.ask("INVITE", to, headers, self._on_invite_answer, body=self._sdp())
        ue.emit("call-out", f"to {to}", to=to)
        return True

    def hang_up(self) -> bool:
        """End what there is, in the way that its state wants. False when there is nothing to end."""
        ended = [self._step(call, CallInput.HANG_UP) for call in list(self.by_id.values())]
        return any(ended)

    def cancel(self) -> bool:
        """Cancel a call that nobody has answered yet. False when there is none."""
        early = (CallState.CALLING, CallState.RINGING)
        ended = [self._step(call, CallInput.HANG_UP) for call in list(self.by_id.values()) if call.state in early]
        return any(ended)

    def end_all(self) -> None:
        """Hang up everything; `calls_ended` is called when nothing is left, at once if nothing was there."""
        self.hang_up()
        if not self.by_id:
            self._ue.calls_ended()

    def drop_all(self) -> None:
        """Forget all calls; only one that still rings here is answered (24.229 5.1.1.2.1: the SAs are going)."""
        for call in list(self.by_id.values()):
            if call.state is CallState.INCOMING and call.received is not None:
                self._ue.respond(call.received, 480, to_tag=call.tag)
            self._forget(call)
            self._ue.emit("call-dropped", f"with {call.peer}")

    # ---- the table

    def _step(self, call: Call, input_: CallInput) -> bool:
        row = CALL_TABLE.get((call.state, input_))
        if row is None:
            return False
        action, call.state = row
        _ACTIONS[action](self, call)
        return True

    def _nothing(self, call: Call) -> None:
        pass

    def _ring(self, call: Call) -> None:
        response = call.sent.response if call.sent is not None else None
        assert response is not None
        if response.status > 100:
            self._ue.emit("call-ringing", f"{call.peer}: {response.status}")

    def _cancel(self, call: Call) -> None:
        """RFC 3261 9.1: the Via, Request-URI, From, To, Call-ID, CSeq number and Route of the INVITE."""
        ue = self._ue
        txn = call.sent
        assert txn is not None
        invite = txn.request
        headers = [("Via", str(invite.via[0])), ("Max-Forwards", "70")]
        headers += [("Route", row) for row in invite.rows("Route")]
        headers += [(name, invite.get(name) or "") for name in ("From", "To", "Call-ID")]
        headers.append(("CSeq", f"{invite.cseq.number} CANCEL"))
        cancel = Request("CANCEL", invite.uri, headers)
        altered = ue.faults.alter(cancel, ue.hop_of(txn.flow))
        if isinstance(altered, Request):
            own = txn.context
            sas = own.sas if isinstance(own, Sent) else None
            sent = Sent(ue, Asked.OTHER, sas, cancel, _ignore)
            ue.transactions.send_request(altered, txn.flow, ue.now, timers=ue.timers_for(txn.flow), context=sent)
        # RFC 3261 9.1: with no final answer 64·T1 after the CANCEL, the call is over all the same.
        ue.set_alarm(("call", call.call_id, "cancelled"), txn.timers.timeout)
        ue.emit("call-cancel", f"to {call.peer}")

    def _acknowledge(self, call: Call) -> None:
        self._acknowledge_again(call)
        self._ue.emit("call-active", f"with {call.peer}")

    def _acknowledge_again(self, call: Call) -> None:
        assert call.sent is not None
        headers = [
            ("From", call.local),
            ("To", call.remote),
            ("Call-ID", call.call_id),
            ("CSeq", f"{call.sent.request.cseq.number} ACK"),  # RFC 3261 13.2.2.4
        ]
        self._ue.send_ack_inside(call.target, headers, call.routes)

    def _acknowledge_and_bye(self, call: Call) -> None:
        self._acknowledge_again(call)
        self._bye(call)

    def _bye(self, call: Call) -> None:
        self._clear_alarms(call)
        self._ue.ask("BYE", call.target, self._dialog_rows(call, "BYE"), self._on_bye_answer, routes=call.routes)
        self._ue.emit("call-bye", f"to {call.peer}")

    def _accept(self, call: Call) -> None:
        ue = self._ue
        assert call.received is not None
        ue.clear_alarm(("call", call.call_id, "give-up"))
        rows = [("Contact", ue.contact_row(ue.contact)), ue.allow(), ("Content-Type", "application/sdp")]
        rows += self._recorded(call.received.request)
        ue.respond(call.received, 200, to_tag=call.tag, headers=rows, body=self._sdp())
        call.answer = call.received.response
        # RFC 3261 13.3.1.4: T1, doubling to T2, for 64·T1.
        call.interval = call.received.timers.t1
        ue.set_alarm(("call", call.call_id, "repeat"), call.interval)
        ue.set_alarm(("call", call.call_id, "ack"), call.received.timers.timeout)

    def _repeat(self, call: Call) -> None:
        ue = self._ue
        assert call.received is not None
        assert call.answer is not None
        ue.forward_response(call.received, call.answer)
        call.interval = min(2 * call.interval, call.received.timers.t2)
        ue.set_alarm(("call", call.call_id, "repeat"), call.interval)

    def _stand(self, call: Call) -> None:
        self._clear_alarms(call)
        self._ue.emit("call-active", f"with {call.peer}")

    def _decline(self, call: Call) -> None:
        assert call.received is not None
        self._ue.respond(call.received, 480, to_tag=call.tag)
        self._finish(call)

    def _terminate(self, call: Call) -> None:
        assert call.received is not None
        self._ue.respond(call.received, 487, to_tag=call.tag)
        self._finish(call)

    def _finish(self, call: Call) -> None:
        self._forget(call)
        self._ue.emit("call-ended", f"with {call.peer}")
        self._ue.calls_ended()  # it was the only one

    # ---- as caller

    def _on_invite_answer(self, txn: Transaction, response: Response | None, arrival: ev.Arrival | None) -> None:
        call = self.by_id.get(txn.request.call_id)
        if call is None:
            return
        call.sent = txn  # another one than we sent first, when TCP was refused
        if response is None:
            self._step(call, CallInput.FAILURE)
        elif response.status < 200:
            self._step(call, CallInput.PROVISIONAL)
        elif response.status < 300:
            self._answered(call, response)
        else:
            self._ue.emit("call-failed", f"{call.peer}: {response.status} {response.reason}", status=response.status)
            self._step(call, CallInput.FAILURE)

    def _answered(self, call: Call, response: Response) -> None:
        call.remote = response.get("To") or call.remote
        call.remote_tag = response.to.tag or ""
        self._take_target(call, response)
        try:
            call.routes = [str(each) for each in reversed(response.record_route)]  # RFC 3261 12.1.2
        except PeerError:
            call.routes = []
        self._step(call, CallInput.SUCCESS)

    def _on_bye_answer(self, txn: Transaction, response: Response | None, arrival: ev.Arrival | None) -> None:
        call = self.by_id.get(txn.request.call_id)
        # Whatever it is, and if nobody answers: the dialog is over (RFC 3261 15.1.1).
        if call is not None and (response is None or response.status >= 200):
            self._step(call, CallInput.BYE_ANSWERED)

    # ---- as callee

    def on_invite(self, txn: Transaction, request: Request) -> None:
        """A new call, or a new offer within one."""
        ue = self._ue
        known = self.by_id.get(request.call_id)
        if request.to.tag is not None:
            self._on_reinvite(known, txn, request)
            return
        if self.by_id:
            ue.respond(txn, 486)
            return
        tag = ue.token(4)
        to = f"{request.get('To') or ''};tag={tag}"
        caller = str(request.from_.uri)
        call = Call(request.call_id, CallState.INCOMING, to, request.get("From") or "", caller, caller, tag)
        call.remote_tag = request.from_.tag or ""
        call.received = txn
        call.remote_cseq = request.cseq.number
        self._take_target(call, request)
        call.routes = [str(each) for each in request.record_route]  # RFC 3261 12.1.1
        self.by_id[call.call_id] = call
        ue.emit("call-in", f"from {caller}", sender=caller)
        ue.respond(txn, 180, to_tag=tag, headers=[("Contact", ue.contact_row(ue.contact)), *self._recorded(request)])
        ue.set_alarm(("call", call.call_id, "give-up"), LONGEST_RINGING)
        if ue.config.answer_calls:
            ue.set_alarm(("call", call.call_id, "ring"), ue.config.ring_time)

    def _on_reinvite(self, call: Call | None, txn: Transaction, request: Request) -> None:
        ue = self._ue
        if call is None or not self._in_dialog(call, request):
            ue.respond(txn, 481)
        elif request.cseq.number <= call.remote_cseq:
            ue.respond(txn, 500)
        elif call.state is not CallState.ACTIVE:
            ue.respond(txn, 491)  # RFC 3261 14.2: something is under way
        else:
            call.remote_cseq = request.cseq.number
            self._take_target(call, request)
            call.received = txn
            self._step(call, CallInput.REINVITE)

    def on_cancelled(self, invite: Transaction) -> None:
        """A CANCEL has found this INVITE."""
        call = self.by_id.get(invite.request.call_id)
        if call is not None and call.received is invite:
            self._step(call, CallInput.CANCELLED)

    def on_ack(self, request: Request) -> None:
        """The ACK of our 200."""
        call = self.by_id.get(request.call_id)
        if call is not None and self._in_dialog(call, request):
            self._step(call, CallInput.ACK)

    def on_bye(self, txn: Transaction, request: Request) -> None:
        """The other side hangs up."""
        call = self.by_id.get(request.call_id)
        if call is None or not self._in_dialog(call, request):
            self._ue.respond(txn, 481)
            return
        self._ue.respond(txn, 200)
        self._step(call, CallInput.BYE)

    def on_alarm(self, call_id: str, what: str) -> None:
        """One of a call's timers."""
        call = self.by_id.get(call_id)
        if call is not None:
            self._step(call, _TIMERS[what])

    # ---- pieces

    @staticmethod
    def _in_dialog(call: Call, request: Request) -> bool:
        """RFC 3261 12.2.2: both tags must be the dialog's."""
        return request.to.tag == call.tag and (request.from_.tag or "") == call.remote_tag

    @staticmethod
    def _take_target(call: Call, message: Message) -> None:
        try:
            contacts = message.contact
        except PeerError:
            return
        if contacts and not contacts[0].is_star:
            call.target = str(contacts[0].uri)

    def _dialog_rows(self, call: Call, method: str) -> list[tuple[str, str]]:
        """The rows that place a new request of ours in the dialog."""
        call.cseq += 1
        return [
            ("From", call.local),
            ("To", call.remote),
            ("Call-ID", call.call_id),
            ("CSeq", f"{call.cseq} {method}"),
        ]

    def _offer_rows(self) -> list[tuple[str, str]]:
        ue = self._ue
        return [("Contact", ue.contact_row(ue.contact)), ue.allow(), ("Content-Type", "application/sdp")]

    @staticmethod
    def _recorded(request: Request) -> list[tuple[str, str]]:
        return [("Record-Route", row) for row in request.rows("Record-Route")]

    def _sdp(self) -> bytes:
        """The smallest description that is one: an audio stream that nobody sends (port 9, inactive)."""
        host = self._ue.host
        family = "IP6" if ":" in host else "IP4"
        lines = (
            "v=0",
            f"o=- 1 1 IN {family} {host}",
            "s=-",
            f"c=IN {family} {host}",
            "t=0 0",
            "m=audio 9 RTP/AVP 0",
            "a=inactive",
        )
        return "".join(f"{line}\r\n" for line in lines).encode()

    def _clear_alarms(self, call: Call) -> None:
        for what in _TIMERS:
            self._ue.clear_alarm(("call", call.call_id, what))

    def _forget(self, call: Call) -> None:
        call.state = CallState.ENDED
        self._clear_alarms(call)
        self.by_id.pop(call.call_id, None)


#: The alarms of a call by name.
_TIMERS = {
    "ring": CallInput.RING_TIMER,
    "give-up": CallInput.GIVE_UP_TIMER,
    "repeat": CallInput.REPEAT_TIMER,
    "ack": CallInput.ACK_TIMER,
    "cancelled": CallInput.CANCEL_TIMER,
}

_ACTIONS: dict[CallAction, Callable[[Calls, Call], None]] = {
    _A.NOTHING: Calls._nothing,
    _A.RING: Calls._ring,
    _A.CANCEL: Calls._cancel,
    _A.ACKNOWLEDGE: Calls._acknowledge,
    _A.ACKNOWLEDGE_AGAIN: Calls._acknowledge_again,
    _A.ACKNOWLEDGE_AND_BYE: Calls._acknowledge_and_bye,
    _A.BYE: Calls._bye,
    _A.ACCEPT: Calls._accept,
    _A.REPEAT: Calls._repeat,
    _A.STAND: Calls._stand,
    _A.DECLINE: Calls._decline,
    _A.TERMINATE: Calls._terminate,
    _A.FINISH: Calls._finish,
}


def _ignore(txn: Transaction, response: Response | None, arrival: ev.Arrival | None) -> None:
    """The answer to a CANCEL says nothing that the INVITE's own answer does not say."""
