"""What the rules know of a trace: sets and their lives."""

from __future__ import annotations

from imslab.core.flow import Endpoint
from imslab.rules.agreements import Gm, gm_of, granted
from imslab.sip.parser import parse
from imslab.trace.model import SipRecord
from imslab.trace.trace import Trace
from tests.rules.build import CLEAR_UP, EMPTY, FIRST, PCSCF, SECOND, THIRD, UE, Script, answer, register, sane


def read(script: Script) -> tuple[Gm, dict[str, SipRecord]]:
    """What is known, and the records by the names of their steps."""
    trace = script.trace()
    records = {script.name_of(each.frames[-1]): each for each in trace.sip_records}
    return gm_of(trace), records


def test_sets_with_their_ports_and_lives() -> None:
    gm, records = read(sane())
    first, second = gm.agreements
    assert (first.flows, second.flows) == (FIRST.flows, SECOND.flows)
    assert first.key == second.key == Endpoint(UE, 30000)
    assert (first.accepted, second.accepted) == (records["welcome"], records["rewelcome"])
    assert (first.ue, first.pcscf) == (UE, PCSCF)
    # the farewell ends both, the older one would have gone on to 3600.4
    assert first.ends == records["welcome"].time + 3600
    assert second.ends == records["farewell"].time
    assert not first.stands(records["welcome"])
    assert first.stands(records["subscribe"])
    assert first.lives(records["answer"])
    assert not first.lives(records["challenge"])
    assert not second.stands(records["reanswer"])
    assert second.lives(records["reanswer"])
    assert gm.before(second) == [first]


def test_challenges_and_their_answers() -> None:
    gm, records = read(sane())
    assert [each.answer for each in gm.challenges] == [records["answer"], records["reanswer"]]
    assert gm.answers(records["answer"]) is gm.challenge_in(records["challenge"])
    assert gm.answers(records["refresh"]) is None
    assert gm.challenges[1].protected_by is gm.agreements[0]
    assert gm.challenges[0].protected_by is None


def test_which_registers_begin_what() -> None:
    gm, records = read(sane())
    begins = {name for name, record in records.items() if gm.starts(record)}
    assert begins == {"register", "reregister", "refresh", "goodbye"}
    assert {name for name, record in records.items() if gm.is_initial(record)} == {"register"}


def test_what_travelled_where() -> None:
    gm, records = read(sane())
    first, second = gm.agreements
    assert gm.sa_of(records["register"]) is None
    assert gm.sa_of(records["answer"]) == (first, 0)
    assert gm.sa_of(records["welcome"]) == (first, 1)
    assert gm.sa_of(records["incoming"]) == (first, 2)
    assert gm.sa_of(records["later"]) == (second, 0)
    assert gm.is_clear(records["challenge"])
    assert not gm.is_clear(records["answer"])
    assert [each.response for each in gm.accepted_before(second, records["goodbye"])] == [
        records["welcome"],
        records["rewelcome"],
        records["refreshed"],
    ]


def test_standing_and_ports() -> None:
    gm, records = read(sane())
    first, second = gm.agreements
    assert gm.standing(UE, records["message"]) is first
    assert gm.standing(UE, records["later"]) is second
    assert gm.standing("192.0.2.99", records["later"]) is None
    assert gm.on_port(Endpoint(UE, 31001), records["message"]) is first
    assert gm.on_port(Endpoint(UE, 31009), records["message"]) is None
    assert gm.owner(PCSCF, 21002, records["message"]) is first
    assert gm.owner(PCSCF, 21002, records["challenge"]) is None


def test_a_clear_registration_ends_the_sets_before() -> None:
    # 33.203 7.4.2a
    script = sane().until("received")
    text = register(1, "UDP", SECOND, EMPTY, port=5060).replace("call-1", "call-2").replace("reg-1", "reg-x")
    step = script.add("restart", 30.0, CLEAR_UP, text)
    gm, records = read(script)
    assert gm.agreements[0].ends == records["welcome"].time + 3600

    again = sane()
    script.add("c", 30.1, (None, CLEAR_UP[2], CLEAR_UP[1]), reply(again["rechallenge"].message, step.message))
    more = again["reanswer"].message.encode().decode().replace("\r\n", "\n").replace("call-1", "call-2")
    script.add("a", 30.2, SECOND.flows[0], more.replace("CSeq: 4", "CSeq: 2"), again["reanswer"].transport)
    script.add(
        "w",
        30.3,
        SECOND.flows[1],
        answer(script["a"].message, "200 OK", f"Contact: <sip:alice@{UE}:30000>;expires=60\n"),
    )
    gm, records = read(script)
    assert gm.agreements[0].ends == 30.3
    assert gm.agreements[1].accepted is records["w"]


def reply(like: object, request: object) -> str:
    """A 401 with the challenge and list of another one."""
    rows = [f"{name}: {like.get(name)}\n" for name in ("WWW-Authenticate", "Security-Server")]  # type: ignore[attr-defined]
    return answer(request, "401 Unauthorized", "".join(rows))  # type: ignore[arg-type]


def test_a_challenge_that_was_given_up_leaves_nothing() -> None:
    script = sane().until("challenge")
    script.add("refused", 0.3, FIRST.flows[0], sane()["answer"].message)
    text = answer(script["refused"].message, "403 Forbidden")
    script.add("no", 0.4, FIRST.flows[1], text)
    script.add("after", 0.5, CLEAR_UP, register(3, "UDP", THIRD, EMPTY, port=5060))
    gm, records = read(script)
    assert not gm.agreements[0].lives(records["after"])
    assert gm.agreements[0].lives(records["refused"])


def test_a_temporary_set_does_not_live_for_ever() -> None:
    script = sane().until("challenge")
    script.add("soon", 200.0, CLEAR_UP, register(3, "UDP", THIRD, EMPTY, port=5060).replace("call-1", "call-3"))
    script.add("late", 241.0, CLEAR_UP, register(4, "UDP", THIRD, EMPTY, port=5060).replace("call-1", "call-4"))
    gm, records = read(script)
    assert gm.agreements[0].lives(records["soon"])
    assert not gm.agreements[0].lives(records["late"])


def test_one_view_for_each_trace() -> None:
    trace = Trace([])
    assert gm_of(trace) is gm_of(trace)
    assert gm_of(trace).agreements == []


def test_what_a_200_grants() -> None:
    def message(contact: str, more: str = "", kind: str = "SIP/2.0 200 OK") -> object:
        rows = f"Via: SIP/2.0/UDP h;branch=z9hG4bKx\r\nContact: {contact}\r\n" if contact else ""
        return parse(f"{kind}\r\n{rows}{more}\r\n".encode())

    asked = message("<sip:a@192.0.2.10:30000>", kind="REGISTER sip:d SIP/2.0")

    def given(contact: str, more: str = "") -> int | None:
        return granted(asked, message(contact, more))  # type: ignore[arg-type]

    assert given("<sip:a@192.0.2.10:30000>;expires=60") == 60
    assert given("<sip:b@192.0.2.11>;expires=9, <sip:a@192.0.2.10:30000>;expires=61") == 61
    assert given("<sip:a@192.0.2.10:30000;alias=x>;expires=62") == 62
    assert given("<sip:other@192.0.2.77>;expires=63") == 63  # the only one there is
    assert given("<sip:b@192.0.2.11>;expires=9, <sip:c@192.0.2.12>;expires=8") is None
    assert given("<sip:a@192.0.2.10:30000>", "Expires: 64\r\n") == 64
    assert given("<sip:a@192.0.2.10:30000>;expires=x") is None
    assert given("") is None
    assert given("*") is None
