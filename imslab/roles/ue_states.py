"""The words of the UE's table (imslab.roles.ue): where a registration is, what can come to it, what is done then."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where the registration is. "Installing": the carrier puts the temporary set in place."""

    IDLE = "idle"
    WAITING = "waiting"
    INITIAL = "initial"
    INSTALLING = "installing"
    ANSWERING = "answering"
    REGISTERED = "registered"
    REFRESHING = "refreshing"
    REFRESH_INSTALLING = "refresh-installing"
    REFRESH_ANSWERING = "refresh-answering"
    HANGING_UP = "hanging-up"
    LEAVING = "leaving"
    LEAVE_INSTALLING = "leave-installing"
    LEAVE_ANSWERING = "leave-answering"


class Input(StrEnum):
    """What can come to the registration."""

    # the operator
    REGISTER = "register"
    REREGISTER = "reregister"
    DEREGISTER = "deregister"
    MOVE = "new address"
    # the 401, as the card and the UE judge it
    CHALLENGED = "good challenge"
    CHALLENGED_PLAIN = "good challenge, no SAs wanted"
    MAC_WRONG = "MAC wrong"
    SQN_WRONG = "SQN wrong"
    UNUSABLE = "unusable challenge"
    TOO_MANY = "one bad challenge too many"
    # other answers
    OK = "200"
    UNPROVEN = "200 without proof of the network"
    TOO_BRIEF = "423"
    LATER = "Retry-After"
    TROUBLE = "408, 5xx"
    ELSEWHERE = "305"
    REJECTED = "any other failure"
    NO_ANSWER = "timer F"
    # the carrier
    INSTALLED = "SAs installed"
    NOT_INSTALLED = "SAs not installed"
    SAS_LOST = "SAs lost"
    # timers
    RETRY_TIMER = "waited"
    REFRESH_TIMER = "refresh is due"
    EXPIRED = "registration expired"
    AUTH_TIMER = "reg-await-auth"
    # the calls
    CALLS_ENDED = "calls ended"
    # the network's NOTIFY
    NET_ENDED = "NOTIFY rejected"
    NET_DEACTIVATED = "NOTIFY deactivated"
    NET_PROBATION = "NOTIFY probation"
    NET_SHORTENED = "NOTIFY shortened"


class Action(StrEnum):
    """What is done on a transition; one method each."""

    BEGIN = "REGISTER in clear, new Call-ID, nothing of before is kept"
    BEGIN_ELSEWHERE = "the same at the next P-CSCF"
    ASK_LONGER = "REGISTER in clear again, asking for the longer lifetime"
    INSTALL = "open port_us, install the temporary set"
    ANSWER = "REGISTER with the response"
    REPORT = "REGISTER that reports the card's refusal"
    ENTER = "registered: the set is established, all others go"
    WAIT = "leave this P-CSCF alone for a while"
    GIVE_UP = "drop what is temporary, tell the operator"
    FORGET = "wait no more"
    WISH = "remember to de-register"
    REFRESH = "REGISTER inside the established set, new SPIs and port_uc"
    REFRESH_LONGER = "the same, asking for the longer lifetime"
    REFRESH_ANEW = "the same under a new Call-ID"
    REFRESHED = "the established set lives on, the offer is forgotten"
    SWITCH = "the temporary set is established, the established one is old"
    KEEP = "drop what is temporary, keep what is established"
    RETRY_REFRESH = "keep what is established, refresh later"
    RETIME = "a sooner end, so a sooner refresh"
    HANG_UP = "end the calls"
    LEAVE = "REGISTER with Expires 0"
    LEAVE_ANEW = "the same under a new Call-ID"
    LEFT = "nobody is registered: the SAs go when the transaction is over"
    RELEASE = "the network has ended it: the SAs go when the transaction is over"
    LOSE = "drop everything at once"


#: A REGISTER with a response has been sent, so a 200 must prove that the network knows the secret too.
ANSWERED = frozenset({State.ANSWERING, State.REFRESH_ANSWERING, State.LEAVE_ANSWERING})
#: On the way out.
LEAVING = frozenset({State.HANGING_UP, State.LEAVING, State.LEAVE_INSTALLING, State.LEAVE_ANSWERING})
#: A REGISTER, or what follows from its answer, is under way.
BUSY = frozenset(State) - {State.IDLE, State.WAITING, State.REGISTERED, State.HANGING_UP}
