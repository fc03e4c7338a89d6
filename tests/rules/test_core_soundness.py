"""Unusual, but right, or not to be told from what was seen: nothing is found.

Each story here goes by a line at which some rule has to hold its tongue.
"""

from __future__ import annotations

from base64 import b64encode

import pytest

from imslab.aka.milenage import Milenage
from imslab.aka.vector import Vector, generate, make_auts
from imslab.diameter.codes import ReasonCode
from imslab.diameter.codes import ServerAssignmentType as Sat
from imslab.diameter.cx import (
    AuthDataItem,
    DeregistrationReason,
    MultimediaAuthAnswer,
    RegistrationTerminationAnswer,
    RegistrationTerminationRequest,
    ServerAssignmentAnswer,
)
from imslab.rules.attempts import aor_of, attempts_of, lifetime
from imslab.rules.exchanges import aor_of_text, exchanges_of
from imslab.rules.regevent import notices_of
from imslab.sip.message import Response, response_to
from tests.rules.build_core import (
    ALICE,
    CONTACT,
    DOMAIN,
    DOWN,
    FIRST,
    HSS,
    IMPI,
    OPC,
    S_CX,
    SCSCF,
    SECOND,
    TEMPORARY,
    THIRD,
    UP,
    K,
    P,
    S,
    Spoil,
    Story,
    asking,
    avp,
    by_pcscf,
    challenge,
    credentials,
    document,
    edit_up,
    empty,
    findings,
    goes,
    header,
    item,
    maa,
    mar,
    notify,
    register,
    request,
    saa,
    sane,
    sar,
    sent_down,
    sound,
    user_data,
    welcome,
)

ALGORITHM = Milenage(K, OPC)
INSIDE = (FIRST.flows[0], FIRST.flows[2])


def vector(number: int, sqn: int) -> Vector:
    """A vector of Alice's."""
    return generate(ALGORITHM, bytes([number]) * 16, sqn, b"\0\0")


def subscription_refreshed(story: Story) -> None:
    """Alice refreshes her subscription from another Contact; what follows goes there."""
    story.until("heard/p")
    asked = request("SUBSCRIBE", "sub")
    asked.set("CSeq", "2 SUBSCRIBE")
    asked.set("To", f"<{ALICE}>;tag=s1")
    asked.set("Contact", "<sip:alice@192.0.2.10:30001>")
    asked.set("Via", "SIP/2.0/UDP 192.0.2.10:30000;branch=z9hG4bK-sub-2")
    asked.add("Event", "reg")
    asked.add("Expires", "600")
    story.sip("resubscribe", 50.0, FIRST.flows[0], asked)
    story.sip("resubscribe/p", 50.01, (None, P, S), by_pcscf(asked))
    granted = response_to(story["resubscribe/p"].message, 200, headers=[("Expires", "600"), ("Contact", f"<{SCSCF}>")])
    story.sip("resubscribed/s", 50.02, (None, S, P), granted)
    sent = notify(2, story["subscribe/p"].message, document(1))
    sent.uri = "sip:alice@192.0.2.10:30001"
    story.sip("again/s", 50.03, (None, S, P), sent)


def empty_notify(story: Story) -> None:
    """A NOTIFY without a document: the subscription waits."""
    story.until("notify")
    for step in ("notify/s", "notify"):
        story[step].message.body = b""
        story[step].message.remove("Content-Type")


def told_after(story: Story) -> None:
    """The SAR of a de-registration follows the 200."""
    story["sar4"].time, story["saa4"].time = 3100.11, 3100.12


def of_another(story: Story) -> None:
    """The HSS is told of another identity of Alice's in the meantime."""
    story.ask("sa7", 3100.06, S_CX, sar(7, Sat.UNREGISTERED_USER, public_identities=[ALICE]), saa(user_data()))


def terminated(time: float, result: int = 2001) -> Spoil:
    """The HSS ends the registration."""

    def spoil(story: Story) -> None:
        asked = RegistrationTerminationRequest(
            **asking("hss", 90),
            destination_host=f"scscf.{DOMAIN}",
            user_name=IMPI,
            public_identities=[TEMPORARY],
            reason=DeregistrationReason(ReasonCode.PERMANENT_TERMINATION),
        )
        message = asked.to_message(90, 90)
        story.cx("rtr", time, HSS, S_CX, message)
        reply = RegistrationTerminationAnswer(result_code=result, origin_host=f"scscf.{DOMAIN}", origin_realm=DOMAIN)
        story.cx("rta", time + 0.01, S_CX, HSS, reply.to_message(message))

    return spoil


def anew_after_termination(story: Story) -> None:
    """After an RTR Alice registers anew, which is a first registration again."""
    story.until("heard/p")
    terminated(100.0)(story)
    sent = register(3, SECOND, empty(), port=5060)
    first = goes(story, ("restart", "again"), 200.0, sent, "no", (UP, DOWN), 3, SECOND)
    story.ask("ma3", 200.05, S_CX, mar(3), maa(item(story.vectors[1])))
    first.answer(401, challenge(story.vectors[1]))
    way = (SECOND.flows[0], SECOND.flows[2])
    sent = register(4, SECOND, credentials(story.vectors[1]), verify=SECOND)
    second = goes(story, ("reanswer", "welcome-2"), 200.2, sent, "yes", way, 4, SECOND)
    story.ask("sa3", 200.25, S_CX, sar(3, Sat.REGISTRATION), saa(user_data()))
    second.answer(200, welcome())


def refused_termination(story: Story) -> None:
    """An RTR that the S-CSCF refuses ends nothing."""
    terminated(2900.0, 5012)(story)


def expired_after_leaving(story: Story) -> None:
    """The HSS hears of an expiry of a user who had left."""
    story.ask("sa7", 3110.0, S_CX, sar(7, Sat.TIMEOUT_DEREGISTRATION, 1), saa())


def refused_by_hss(story: Story) -> None:
    """A right answer is refused, because the HSS refuses."""
    story.until("answer/i")
    said = ServerAssignmentAnswer(experimental=5001)
    story.ask("sa1", 0.25, S_CX, sar(1, Sat.REGISTRATION), said)
    response = response_to(story["answer/i"].message, 403, to_tag="s")
    story.sip("refusal/s", 0.28, (None, S, story["answer/i"].src), response)


def late_and_refused(story: Story) -> None:
    """A right answer comes too late, and is refused."""
    story.until("answer/i").later("answer", 300.0)
    response = response_to(story["answer/i"].message, 403, to_tag="s")
    story.sip("refusal/s", 300.28, (None, S, story["answer/i"].src), response)


def replaced_and_refused(story: Story) -> None:
    """A right answer to a challenge that a newer one has replaced is refused."""
    story.until("answer/i").later("answer", 5.0)
    sent = register(1, THIRD, empty(), call="call-2", port=5060)
    went = goes(story, ("restart", "again"), 1.0, sent, "no", (UP, DOWN), 7)
    story.ask("ma7", 1.05, S_CX, mar(7), maa(item(vector(3, 0x63))))
    went.answer(401, challenge(vector(3, 0x63)))
    response = response_to(story["answer/i"].message, 403, to_tag="s")
    story.sip("refusal/s", 5.28, (None, S, story["answer/i"].src), response)


def lower_after_resync(story: Story) -> None:
    """SIP only, with the key known: after a resynchronisation the SQN may be lower."""
    story.until("challenge")
    high = vector(9, 0x9000021)
    for step in ("challenge/s", "challenge/i"):
        story[step].message.set("WWW-Authenticate", challenge(high)[0][1])
    auts = b64encode(make_auts(ALGORITHM, high.rand, 0x21)).decode()
    sent = register(2, FIRST, f'{empty(high.nonce)},auts="{auts}"')
    second = goes(story, ("resync", "rechallenge"), 1.0, sent, "no", (UP, DOWN), 2)
    second.answer(401, challenge(vector(8, 0x42)))
    sent = register(3, FIRST, empty(vector(8, 0x42).nonce))
    third = goes(story, ("report", "third"), 2.0, sent, "no", (UP, DOWN), 3)
    third.answer(401, challenge(vector(7, 0x63)))
    story.only(lambda step: HSS.host not in (step.src.host, step.dst.host))


def two_contacts(story: Story) -> None:
    """One of the contacts of a REGISTER goes, the other stays."""
    story.until("refreshed")
    value = f"<{CONTACT}>, <sip:alice@192.0.2.11>;expires=0"
    for step in ("refresh", "refresh/p", "refresh/i"):
        story[step].message.set("Contact", value)


def star(story: Story) -> None:
    """Alice leaves with Contact: *."""
    for step in ("goodbye", "goodbye/p", "goodbye/i"):
        story[step].message.set("Contact", "*")


def answer_of_another_challenge(story: Story) -> None:
    """In the first set comes a response to a nonce that the trace does not know: nobody knows what it is."""
    story.until("reregister/i")
    value = credentials(vector(9, 0x999))
    story["reregister"].message.set("Authorization", value)
    for step in ("reregister/p", "reregister/i"):
        story[step].message.set("Authorization", f'{value},integrity-protected="no"')


def keyless_without_ipsec(story: Story) -> None:
    """A challenge without keys, for a UE without IPsec."""
    story.until("challenge")
    for step in ("register", "challenge"):
        for name in ("Security-Client", "Security-Server"):
            story[step].message.remove(name)
    edit_up("register", "Authorization", ',integrity-protected="no"', "")(story)
    for step in ("challenge/s", "challenge/i", "challenge"):
        story[step].message.set("WWW-Authenticate", 'Digest realm="x",nonce="abc",algorithm=MD5')


def an_hour_later(story: Story) -> None:
    """What was so long ago does not count any more."""
    story.until("heard/p")
    asked = sar(8, Sat.NO_ASSIGNMENT, 1, server_name="sip:other.example")
    asked.origin_host = "other.example"
    story.ask("sa8", 5000.0, S_CX._replace(host="198.51.100.5"), asked, saa())


def other_contact_stays(story: Story) -> None:
    """One contact leaves, another keeps the set registered."""
    story.drop("sar4", "saa4")
    two = f"<{CONTACT}>;expires=0, <sip:alice@192.0.2.11>;expires=600"
    sent_down("farewell", "Contact", two)(story)
    for step in ("last-notify/s", "last-notify"):
        story[step].message.body = document(2)
        story[step].message.set("Subscription-State", "active;expires=600")


def unreadable_times(story: Story) -> None:
    """A time that is no number counts for none."""
    story.until("dwa")
    for step in ("welcome/s", "welcome/i", "welcome"):
        story[step].message.set("Contact", f"<{CONTACT}>;expires=60")


def not_registered_here(story: Story) -> None:
    """A message to a contact whose registration has run out."""
    story.until("incoming/s")
    sent_down("welcome", "Contact", f"<{CONTACT}>;expires=10")(story)
    header("incoming/s", "Route", "<sip:elsewhere.example;lr>")(story)


def other_scheme(story: Story) -> None:
    """An MAR without a scheme, answered by whatever the HSS has."""
    story.only(lambda step: step.name in ("mar1", "maa1"))
    answer = MultimediaAuthAnswer(result_code=2001, items=[AuthDataItem(number=1, scheme="SIP Digest")])
    story["maa1"].message = answer.to_message(story["mar1"].message)
    avp("mar1", "SIP-Auth-Data-Item", [])(story)


STORIES = [
    subscription_refreshed,
    empty_notify,
    told_after,
    of_another,
    anew_after_termination,
    refused_termination,
    expired_after_leaving,
    refused_by_hss,
    late_and_refused,
    replaced_and_refused,
    lower_after_resync,
    two_contacts,
    star,
    answer_of_another_challenge,
    keyless_without_ipsec,
    an_hour_later,
    other_contact_stays,
    unreadable_times,
    not_registered_here,
]


@pytest.mark.parametrize("spoil", STORIES, ids=lambda spoil: spoil.__name__)
@pytest.mark.parametrize("keyed", [False, True])
def test_nothing_is_found(spoil: Spoil, keyed: bool) -> None:
    sound(spoil, keyed=keyed)


def test_a_question_without_a_scheme_is_the_askers_fault_alone() -> None:
    story = sane()
    other_scheme(story)
    assert [(each.rule, each.role) for each in findings(story)] == [("HSS-33", "S-CSCF")]


def test_what_cannot_be_read_is_no_attempt_of_anybody() -> None:
    """A REGISTER whose To and CSeq nobody can read is one of nobody."""

    def spoil(story: Story) -> None:
        story.until("register/i")
        for step in ("register", "register/p", "register/i"):
            story[step].message.set("To", "<:>")

    story = sane()
    spoil(story)
    trace = story.trace()
    (attempt,) = attempts_of(trace).all
    assert attempt.impu == ""
    assert attempts_of(trace).pending("", attempt.request) == []
    assert aor_of(attempt.request.message) == ""


def test_lifetimes_are_read_or_not() -> None:
    contact = ("Contact", f"<{CONTACT}>;expires=60")
    assert lifetime(Response(200, headers=[contact])) == 60
    assert lifetime(Response(200, headers=[("Contact", f"<{CONTACT}>"), ("Expires", "90")])) == 90
    assert lifetime(Response(200, headers=[("Contact", f"<{CONTACT}>")])) is None
    assert lifetime(Response(200, headers=[("Contact", f"<{CONTACT}>;expires=soon")])) is None
    assert lifetime(Response(200)) is None


def test_chains_of_registers_have_no_gaps() -> None:
    """An answer is direct when every REGISTER since the challenge is there, and none was accepted."""
    story = sane()
    attempts = attempts_of(story.trace())
    by_name = {story.name_of(each.request.frames[0]): each for each in attempts.all}
    assert attempts.answered_by(by_name["answer/i"]) is by_name["register/i"]
    assert attempts.answered_by(by_name["reregister/i"]) is None  # the challenge was answered before
    assert attempts.challenge_before(by_name["reregister/i"]) is by_name["register/i"]
    assert attempts.answered_by(by_name["register/i"]) is None
    assert attempts.accepted_before(story.vectors[0].nonce, by_name["reregister/i"].request) is by_name["answer/i"]
    assert attempts.accepted_before(story.vectors[0].nonce, by_name["answer/i"].request) is None


def test_a_leap_in_cseq_is_a_gap() -> None:
    story = sane().until("welcome")
    for step in ("answer", "answer/p", "answer/i", "welcome/s", "welcome/i", "welcome"):
        story[step].message.set("CSeq", "40 REGISTER")
    attempts = attempts_of(story.trace())
    assert attempts.answered_by(attempts.all[-1]) is None


def test_exchanges_are_found_by_their_users() -> None:
    story = sane()
    trace = story.trace()
    exchanges = exchanges_of(trace)
    last = trace.records[-1]
    for user in (IMPI, aor_of_text(TEMPORARY)):
        found = exchanges.last(301, user, last)
        assert found is not None
        assert found.sar is not None
        assert found.sar.assignment_type is Sat.USER_DEREGISTRATION
        assert len(exchanges.before(303, user, last)) == 2
    assert exchanges.following(301, IMPI, last, 1.0) is None
    assert exchanges.profile_before(aor_of_text(TEMPORARY), trace.records[0]) is None
    unanswered = sane().until("sar1")
    found = exchanges_of(unanswered.trace()).all[-1]
    assert exchanges_of(unanswered.trace()).profile(found) is None
    assert found.done is found.request
    assert exchanges.sequence_numbers(found) == ()
    assert aor_of_text("no URI") == "no URI"


def test_an_answer_without_its_question_is_an_orphan() -> None:
    story = sane().drop("sar1")
    trace = story.trace()
    assert [each.message.name for each in exchanges_of(trace).orphans] == ["SAA"]
    assert exchanges_of(trace).lost(301, trace.records[0], trace.records[-1])
    assert not exchanges_of(trace).lost(303, trace.records[0], trace.records[-1])


def test_notifies_know_their_subscriptions() -> None:
    story = sane()
    subscription_refreshed(story)
    trace = story.trace()
    notices = notices_of(trace)
    (subscription,) = notices.subscriptions["sub"]
    assert [story.name_of(each.frames[0]) for each in subscription.asked] == ["subscribe/p", "resubscribe/p"]
    assert [story.name_of(each.record.frames[0]) for each in subscription.notices] == ["notify/s", "again/s"]
    assert subscription.notices[1].before is subscription.notices[0]
