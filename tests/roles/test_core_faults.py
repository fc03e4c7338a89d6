"""Every fault of the S-CSCF and of the I-CSCF does what it says, and a box without it does not."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable

import pytest

from imslab.diameter.codes import ReasonCode
from imslab.diameter.cx import (
    DeregistrationReason,
    MultimediaAuthRequest,
    RegistrationTerminationRequest,
    ServerAssignmentRequest,
    UserAuthorizationAnswer,
)
from imslab.roles.faults import FAULTS
from imslab.sip.fields.digest import DigestChallenge
from imslab.sip.message import Request, Response
from tests.roles.core_bench import ALICE, DOMAIN, IMPI, IMPU, SCSCF_NAME, TEL, aka_response, profile, vector
from tests.roles.scscf_bench import CONTACT, Bench, Phone
from tests.roles.test_icscf import Bench as IcscfBench
from tests.roles.test_scscf_sessions import Two

Wrong = Callable[[Bench], bool]
AUTS = b64encode(bytes(14)).decode()


def challenge(bench: Bench) -> DigestChallenge:
    return bench.one(bench.phone.register()).www_authenticate[0]


def nonce_of(bench: Bench) -> str:
    return challenge(bench).nonce or ""


def welcome(bench: Bench) -> Response:
    nonce = nonce_of(bench)
    response = aka_response(nonce, vector(1).authorization or b"")
    return bench.one(bench.phone.register("yes", nonce=nonce, response=response))


def mars(bench: Bench) -> list[MultimediaAuthRequest]:
    return bench.hss.of(MultimediaAuthRequest)


def sars(bench: Bench) -> list[ServerAssignmentRequest]:
    return bench.hss.of(ServerAssignmentRequest)


def resync(bench: Bench) -> bytes | None:
    nonce = nonce_of(bench)
    auth = f'Digest username="{IMPI}", realm="{DOMAIN}", nonce="{nonce}", auts="{AUTS}", response=""'
    bench.send(bench.phone.register(auth=auth))
    return mars(bench)[-1].item.authorization


def wrong_answer(bench: Bench, **options: str) -> Response:
    nonce = nonce_of(bench)
    return bench.one(bench.phone.register("yes", nonce=nonce, response="0" * 32, **options))


def right_answer(bench: Bench, flag: str = "yes", **options: str) -> Response:
    nonce = nonce_of(bench)
    response = aka_response(nonce, bench.item(nonce).authorization or b"")
    return bench.one(bench.phone.register(flag, nonce=nonce, response=response, **options))


def left(bench: Bench) -> list[int]:
    bench.registered()
    bench.one(bench.phone.register("yes", expires=0))
    return [int(each.assignment_type) for each in sars(bench)]


def notify(bench: Bench, step: int = 0) -> Request:
    bench.registered()
    bench.subscribe()
    bench.registered()
    return bench.notifies[step]


def last_state(bench: Bench) -> str:
    bench.registered()
    bench.subscribe()
    bench.one(bench.phone.register("yes", expires=0))
    state = bench.notifies[-1].subscription_state
    return state.state if state else ""


def pushed(bench: Bench) -> int:
    bench.registered()
    rtr = RegistrationTerminationRequest(
        session_id="s",
        origin_host="h",
        origin_realm=DOMAIN,
        destination_realm=DOMAIN,
        destination_host="s",
        user_name=IMPI,
        reason=DeregistrationReason(code=ReasonCode.SERVER_CHANGE),
    )
    bench.hss.push(rtr)
    bench.kick(bench.hss)
    return len(bench.hss.pushed)


def barred_listed(bench: Bench) -> bool:
    bench.users.profile = profile(IMPU, ALICE, barred=[ALICE])
    return ALICE in (welcome(bench).get("P-Associated-URI") or "")


def failure_deregisters(bench: Bench) -> bool:
    bench.registered()
    wrong_answer(bench)
    return bench.bindings() == {}


def second_kind(bench: Bench) -> int:
    bench.registered()
    bench.registered()
    return int(sars(bench)[-1].assignment_type)


def route_to_user(bench: Bench) -> list[str]:
    assert isinstance(bench, Two)
    bench.send(bench.originate("MESSAGE", f"sip:bob@{DOMAIN}"))
    return bench.pcscf.requests[-1].rows("Route")


#: Fault → whether the box is wrong in that way.
SCSCF: dict[str, Wrong] = {
    "scscf-403-with-challenge": lambda b: wrong_answer(b).has("WWW-Authenticate"),
    "scscf-420-bare": lambda b: not b.one(b.phone.register(headers=[("Require", "foo")])).has("Unsupported"),
    "scscf-423-bare": lambda b: not b.answer(b.challenge(expires=1), expires=1).has("Min-Expires"),
    "scscf-algorithm-md5": lambda b: challenge(b).algorithm == "MD5",
    "scscf-any-call-id": lambda b: right_answer(b, call_id="another").status == 200,
    "scscf-any-response": lambda b: wrong_answer(b).status == 200,
    "scscf-anyone-watches": lambda b: welcome(b).status == b.subscribe(sender=f"sip:mallory@{DOMAIN}").status == 200,
    "scscf-auts-alone": lambda b: len(resync(b) or b"") == 14,
    "scscf-barred-listed": barred_listed,
    "scscf-failure-deregisters": failure_deregisters,
    "scscf-grants-more": lambda b: welcome(b).contact[0].expires == 7200,
    "scscf-ignores-auts": lambda b: resync(b) is None,
    "scscf-ignores-hss": lambda b: pushed(b) == 0,
    "scscf-ignores-path": lambda b: route_to_user(b) == [],
    "scscf-mar-no-items": lambda b: (b.send(b.phone.register()), mars(b)[0].number_items)[1] == 0,
    "scscf-mar-scheme": lambda b: (b.send(b.phone.register()), mars(b)[0].item.scheme)[1] == "Digest-AKAv2-SHA-256",
    "scscf-no-algorithm": lambda b: not challenge(b).has("algorithm"),
    "scscf-no-associated-uri": lambda b: not welcome(b).has("P-Associated-URI"),
    "scscf-no-contact": lambda b: not welcome(b).has("Contact"),
    "scscf-no-expires": lambda b: welcome(b).contact[0].expires is None,
    "scscf-no-keys": lambda b: not challenge(b).has("ck") and not challenge(b).has("ik"),
    "scscf-no-notify": lambda b: (welcome(b), b.subscribe(), len(b.notifies))[2] == 0,
    "scscf-no-path": lambda b: not welcome(b).has("Path"),
    "scscf-no-realm": lambda b: not challenge(b).has("realm"),
    "scscf-no-sar": lambda b: (welcome(b).status, len(sars(b))) == (200, 0),
    "scscf-no-sar-at-the-end": lambda b: left(b) == [1],
    "scscf-no-service-route": lambda b: not welcome(b).has("Service-Route"),
    "scscf-notify-from-contact": lambda b: notify(b).from_.uri == notify(b).contact[0].uri,
    "scscf-notify-never-ends": lambda b: last_state(b) == "active",
    "scscf-notify-no-tag": lambda b: notify(b).from_.tag is None,
    "scscf-notify-one-identity": lambda b: (notify(b), len(b.told[0].registrations))[1] == 1,
    "scscf-notify-version-stays": lambda b: (notify(b, 1), b.told[1].version)[1] == 0,
    "scscf-reuses-vectors": lambda b: nonce_of(b) == nonce_of(b),
    "scscf-sar-always-first": lambda b: second_kind(b) == 1,
    "scscf-sar-other-name": lambda b: (welcome(b), sars(b)[0].server_name)[1] != mars(b)[0].server_name,
    "scscf-sar-two-identities": lambda b: (welcome(b), len(sars(b)[0].public_identities))[1] == 2,
    "scscf-sar-wrong-end": lambda b: left(b) == [1, 2],
    "scscf-short-keys": lambda b: [len(each or "") for each in (challenge(b).ck, challenge(b).ik)] == [31, 31],
    "scscf-short-nonce": lambda b: len(b64decode(nonce_of(b))) == 31,
    "scscf-silent-failure": lambda b: (wrong_answer(b), len(sars(b)))[1] == 0,
    "scscf-strict-service-route": lambda b: "lr" not in welcome(b).service_route[0].uri.params,
    "scscf-swaps-keys": lambda b: challenge(b).ck == (vector(1).ik or b"").hex(),
    "scscf-trusts-clear": lambda b: right_answer(b, "no").status == 200,
    "scscf-vectors-backwards": lambda b: b64decode(nonce_of(b)) == vector(b.box.config.vectors).authenticate,
}


def scscf(name: str, faults: tuple[str, ...]) -> Bench:
    """A bench for a fault: with users where there must be some, with several vectors where order matters."""
    if name == "scscf-ignores-path":
        return Two(faults=faults)
    return Bench(faults, vectors=3 if name == "scscf-vectors-backwards" else 1)


@pytest.mark.parametrize("name", SCSCF)
def test_a_fault_of_the_scscf(name: str) -> None:
    assert SCSCF[name](scscf(name, (name,)))
    assert not SCSCF[name](scscf(name, ()))


def passed_on(bench: IcscfBench) -> Request:
    bench.uaa = UserAuthorizationAnswer(experimental=2002, server_name=SCSCF_NAME)
    bench.send(bench.register())
    return (bench.first.requests + bench.second.requests)[0]


def after_refusal(bench: IcscfBench) -> int:
    bench.uaa = UserAuthorizationAnswer(experimental=5001)
    bench.send(bench.register())
    return len(bench.first.requests)


def chosen(bench: IcscfBench) -> str:
    return passed_on(bench).uri


ICSCF: dict[str, Callable[[IcscfBench], bool]] = {
    "icscf-all-hops-left": lambda b: passed_on(b).max_forwards == 70,
    "icscf-claims-protection": lambda b: passed_on(b).authorization[0].integrity_protected == "yes",
    "icscf-drops-path": lambda b: not passed_on(b).has("Path"),
    "icscf-drops-visited-network": lambda b: not passed_on(b).has("P-Visited-Network-ID"),
    "icscf-ignores-refusal": lambda b: after_refusal(b) == 1,
    "icscf-keeps-uri": lambda b: passed_on(b).uri == f"sip:{DOMAIN}",
    "icscf-no-uar": lambda b: (passed_on(b), len(b.uars))[1] == 0,
    "icscf-other-server": lambda b: (passed_on(b), len(b.second.requests))[1] == 1,
    "icscf-record-routes-register": lambda b: passed_on(b).has("Record-Route"),
}


@pytest.mark.parametrize("name", ICSCF)
def test_a_fault_of_the_icscf(name: str) -> None:
    assert ICSCF[name](IcscfBench(faults=(name,)))
    assert not ICSCF[name](IcscfBench())


def test_every_fault_is_here() -> None:
    for role, known in (("S-CSCF", SCSCF), ("I-CSCF", ICSCF)):
        assert set(known) == {name for name, fault in FAULTS.items() if fault.role == role}


def test_every_fault_is_one_line_with_its_clause() -> None:
    for name in (*SCSCF, *ICSCF):
        text = FAULTS[name].text
        assert text.endswith(")")
        assert "\n" not in text


def test_a_box_with_faults_serves_all_the_same() -> None:
    """Faults that only change what is said leave the registration in place; nothing crashes on any of them."""
    for name in SCSCF:
        bench = scscf(name, (name,))
        bench.send(bench.phone.register())
        bench.send(Phone(impu=TEL, call_id="x").register("yes", contacts=[CONTACT], expires=0))
        bench.wire.run(5000.0)
