"""Authentication in the S-CSCF: catalogue areas C, E, and what of M, N, R, U is its affair."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

import pytest

from imslab.aka.digest import aka_password, digest_response
from imslab.core import effects as fx
from imslab.diameter.codes import ReasonCode
from imslab.diameter.cx import (
    CxAnswer,
    MultimediaAuthAnswer,
    MultimediaAuthRequest,
    RegistrationTerminationRequest,
    ServerAssignmentAnswer,
    ServerAssignmentRequest,
)
from imslab.diameter.cx import DeregistrationReason as Reason
from imslab.diameter.message import DiameterMessage, answer
from imslab.roles import scscf
from imslab.roles.scscf import RESYNCS, TABLE, WAITING_MAX, Input, State
from tests.require import require_shared
from tests.roles.core_bench import DOMAIN, IMPI, IMPU, SCSCF_NAME, aka_response, md5, profile, vector
from tests.roles.scscf_bench import CONTACT, Bench, Phone

AUTS = bytes(range(14))


def auts_of(bench: Bench, nonce: str, auts: str = b64encode(AUTS).decode(), flag: str = "no") -> str:
    return (
        f'Digest username="{IMPI}", realm="{DOMAIN}", nonce="{nonce}", uri="sip:{DOMAIN}", response="", '
        f'algorithm=AKAv1-MD5, auts="{auts}", integrity-protected="{flag}"'
    )


# ---- C. challenge


def test_challenge_has_all_its_fields() -> None:
    """CHL-01, HSS-33."""
    bench = Bench()
    response = bench.one(bench.phone.register())
    (challenge,) = response.www_authenticate
    assert response.status == 401
    assert (challenge.realm, challenge.algorithm) == (DOMAIN, "AKAv1-MD5")
    assert challenge.nonce
    assert challenge.ik
    assert challenge.ck
    (mar,) = bench.hss.of(MultimediaAuthRequest)
    assert (mar.user_name, mar.public_identity, mar.server_name) == (IMPI, IMPU, SCSCF_NAME)
    assert (mar.number_items, mar.item.scheme, mar.item.authorization) == (1, "Digest-AKAv1-MD5", None)
    assert mar.auth_session_state == 1
    assert mar.destination_realm == DOMAIN


def test_qop_is_offered_as_configured() -> None:
    bench = Bench(qop="auth,auth-int")
    assert bench.one(bench.phone.register()).www_authenticate[0].qop == "auth,auth-int"
    assert not Bench().one(Phone().register()).www_authenticate[0].has("qop")


def test_nonce_is_rand_and_autn() -> None:
    """CHL-02."""
    bench = Bench()
    assert b64decode(bench.challenge()) == vector(1).authenticate


def test_keys_are_32_hex_digits() -> None:
    """CHL-03."""
    bench = Bench()
    text = bench.one(bench.phone.register()).get("WWW-Authenticate") or ""
    expected = vector(1)
    assert expected.ck is not None
    assert expected.ik is not None
    assert f'ck="{expected.ck.hex()}"' in text
    assert f'ik="{expected.ik.hex()}"' in text
    assert all(re.search(f'{name}="[0-9a-f]{{32}}"', text) for name in ("ck", "ik"))


def test_every_challenge_has_a_fresh_vector() -> None:
    """CHL-04."""
    bench = Bench()
    assert bench.challenge() != bench.challenge()
    assert len(bench.hss.of(MultimediaAuthRequest)) == 2


def test_a_repeated_register_gets_the_same_challenge() -> None:
    """CHL-04: a SIP retransmission is no new attempt."""
    bench = Bench()
    request = bench.phone.register()
    assert bench.one(request).encode() == bench.one(request).encode()
    assert len(bench.hss.of(MultimediaAuthRequest)) == 1


def test_vectors_are_used_in_the_order_of_their_numbers() -> None:
    """CHL-05: whatever order they come in; none is skipped, none is used twice."""
    bench = Bench(vectors=3)

    def backwards(request: MultimediaAuthRequest) -> CxAnswer | None:
        made = bench.users.maa(request)
        assert isinstance(made, MultimediaAuthAnswer)
        made.items.reverse()
        return made

    bench.hss.script[MultimediaAuthRequest] = backwards
    used = [b64decode(bench.challenge()) for _ in range(7)]
    assert used == [vector(number).authenticate for number in range(1, 8)]
    assert [mar.number_items for mar in bench.hss.of(MultimediaAuthRequest)] == [3, 3, 3]


def test_a_registered_user_is_challenged_in_clear_and_stays_registered() -> None:
    """CHL-06, AKS-16."""
    bench = Bench()
    bench.registered()
    bench.wire.run(100.0)
    assert bench.one(bench.phone.register(expires=50)).status == 401
    assert bench.bindings() == {"sip:001010000000001@10.0.0.2:5062": 3500}
    assert len(bench.sars) == 1


@pytest.mark.parametrize("flag", ["", "tls-yes", "ip-assoc-yes", "auth-done", "Yes!", "tls-connected"])
def test_without_the_flag_it_is_not_ims_aka(flag: str) -> None:
    """CHL-07: the HSS says what scheme it is; a right answer is never taken for a protected one."""
    bench = Bench()
    nonce = bench.challenge(flag=flag)
    assert bench.hss.of(MultimediaAuthRequest)[0].item.scheme == "Unknown"
    assert bench.answer(nonce, flag=flag).status == 401
    assert bench.sars == []


def test_the_hss_refuses_a_scheme_that_it_does_not_have() -> None:
    """CHL-07."""
    bench = Bench()
    bench.hss.script[MultimediaAuthRequest] = lambda request: MultimediaAuthAnswer(experimental=5006)
    assert bench.one(bench.phone.register(flag="")).status == 403


def test_without_authorization_the_private_identity_is_derived() -> None:
    """CHL-08."""
    bench = Bench()
    assert bench.one(bench.phone.register(auth="")).status == 401
    (mar,) = bench.hss.of(MultimediaAuthRequest)
    assert (mar.user_name, mar.item.scheme) == (IMPI, "Unknown")


def test_the_flag_has_no_case() -> None:
    bench = Bench()
    assert bench.answer(bench.challenge(flag="NO"), flag="YES").status == 200
    assert bench.hss.of(MultimediaAuthRequest)[0].item.scheme == "Digest-AKAv1-MD5"


def test_a_challenge_is_kept_for_four_minutes() -> None:
    """CHL-09: at 239 s the answer counts."""
    bench = Bench()
    nonce = bench.challenge()
    bench.wire.run(239.0)
    assert bench.answer(nonce).status == 200


def test_a_challenge_without_an_answer_is_forgotten() -> None:
    """CHL-09, AKS-13, AKS-14: after four minutes nothing is left, and the HSS knows."""
    bench = Bench()
    nonce = bench.challenge()
    bench.wire.run(240.5)
    assert bench.sars == [(10, IMPU)]
    assert bench.box.authentications == {}
    bench.wire.run(245.0)
    assert bench.answer(nonce).status == 401
    assert bench.box.registrar.find(IMPU) is None


# ---- E. answers


def test_a_right_response_is_accepted() -> None:
    """AKS-01, HSS-34."""
    bench = Bench()
    bench.registered()
    (sar,) = bench.hss.of(ServerAssignmentRequest)
    assert (sar.assignment_type, sar.already_available) == (1, 0)
    assert (sar.user_name, sar.public_identities, sar.server_name) == (IMPI, [IMPU], SCSCF_NAME)
    assert [each.name for each in bench.hss.messages] == ["MAR", "SAR"]
    assert bench.box.authentications == {}


@pytest.mark.parametrize("qop", ["auth", "auth-int"])
def test_a_response_with_qop_is_accepted_and_answered_by_a_proof(qop: str) -> None:
    """AKS-01: nc with letters, as it was written."""
    bench = Bench(qop="auth,auth-int")
    nonce = bench.challenge()
    res = vector(1).authorization or b""
    secret = md5(f"{IMPI}:{DOMAIN}:".encode() + res)
    entity = f":{md5(b'')}" if qop == "auth-int" else ""
    a2 = md5(f"REGISTER:sip:{DOMAIN}{entity}".encode())
    response = md5(f"{secret}:{nonce}:0000000A:c1:{qop}:{a2}".encode())
    auth = (
        f'Digest username="{IMPI}", realm="{DOMAIN}", nonce="{nonce}", uri="sip:{DOMAIN}", response="{response}", '
        f'algorithm=AKAv1-MD5, qop={qop}, nc=0000000A, cnonce="c1", integrity-protected="yes"'
    )
    welcome = bench.one(bench.phone.register(auth=auth))
    assert welcome.status == 200
    proof = md5(f"{secret}:{nonce}:0000000A:c1:{qop}:{md5(f':sip:{DOMAIN}{entity}'.encode())}".encode())
    assert welcome.authentication_info is not None
    assert welcome.authentication_info.rspauth == proof


def test_akav2_is_checked_as_configured() -> None:
    bench = Bench(algorithm="AKAv2-SHA-256")
    nonce = bench.challenge(algorithm="AKAv2-SHA-256")
    item = vector(1)
    password = aka_password("AKAv2-SHA-256", item.authorization or b"", item.ck or b"", item.ik or b"")
    response = digest_response(
        algorithm="AKAv2-SHA-256",
        username=IMPI,
        realm=DOMAIN,
        password=password,
        nonce=nonce,
        method="REGISTER",
        uri=f"sip:{DOMAIN}",
    )
    assert bench.answer(nonce, algorithm="AKAv2-SHA-256", response=response).status == 200


def test_a_wrong_response_is_forbidden() -> None:
    """AKS-02, AKS-15: 403, nothing registered, and the HSS knows."""
    bench = Bench()
    nonce = bench.challenge()
    right = aka_response(nonce, vector(1).authorization or b"")
    wrong = ("0" if right[0] != "0" else "1") + right[1:]
    response = bench.answer(nonce, response=wrong)
    assert response.status == 403
    assert not response.has("WWW-Authenticate")
    assert bench.sars == [(9, IMPU)]
    assert bench.box.registrar.find(IMPU) is None
    assert bench.box.authentications == {}


def test_an_answer_under_another_call_id_does_not_count() -> None:
    """AKS-03: nor does it end the challenge."""
    bench = Bench()
    nonce = bench.challenge()
    assert bench.answer(nonce, call_id="other").status == 403
    assert bench.sars == []
    assert bench.answer(nonce).status == 200


def test_an_answer_of_another_user_does_not_count() -> None:
    """AKS-04."""
    bench = Bench()
    nonce = bench.challenge()
    other = Phone(impi=f"mallory@{DOMAIN}")
    res = vector(1).authorization or b""
    right = aka_response(nonce, res, username=other.impi)
    response = bench.one(other.register("yes", nonce=nonce, response=right))
    assert response.status == 403
    assert bench.sars == []
    assert bench.answer(nonce).status == 200


@pytest.mark.parametrize("algorithm", ["", "MD5", "AKAv2-MD5", "nonsense"])
def test_an_answer_with_another_algorithm_is_forbidden(algorithm: str) -> None:
    """AKS-05."""
    bench = Bench()
    assert bench.answer(bench.challenge(), algorithm=algorithm).status == 403
    assert bench.box.registrar.find(IMPU) is None


def test_the_answer_to_an_old_challenge_does_not_count() -> None:
    """AKS-06: the new challenge stands."""
    bench = Bench()
    old = bench.challenge()
    new = bench.challenge()
    assert bench.answer(old).status == 403
    assert bench.sars == []
    assert bench.answer(new).status == 200


def test_an_answer_to_no_challenge_is_challenged() -> None:
    """AKS-06: a nonce that nobody sent."""
    bench = Bench()
    bench.users.count = 5
    nonce = b64encode(vector(5).authenticate or b"").decode()
    assert bench.answer(nonce).status == 401
    assert bench.sars == []


@pytest.mark.parametrize(("reauthenticate", "status"), [(True, 401), (False, 200)])
def test_a_replayed_answer_is_no_authentication(reauthenticate: bool, status: int) -> None:
    """AKS-07, AKS-20: protected, it is a refresh like any other; in clear it is worth nothing."""
    bench = Bench(reauthenticate=reauthenticate)
    nonce = bench.challenge()
    assert bench.answer(nonce).status == 200
    assert bench.answer(nonce, flag="no").status == 401
    assert bench.answer(nonce).status == status


def test_auts_goes_to_the_hss_with_rand() -> None:
    """AKS-08, AKS-09: RAND then AUTS, 30 octets; an unregistered user, in clear."""
    bench = Bench()
    nonce = bench.challenge()
    response = bench.one(bench.phone.register(auth=auts_of(bench, nonce)))
    first, second = bench.hss.of(MultimediaAuthRequest)
    assert first.item.authorization is None
    assert second.item.authorization == (vector(1).authenticate or b"")[:16] + AUTS
    assert len(second.item.authorization or b"") == 30
    assert second.item.scheme == "Digest-AKAv1-MD5"
    assert response.status == 401
    assert response.www_authenticate[0].nonce != nonce
    assert bench.answer(response.www_authenticate[0].nonce or "").status == 200


def test_auts_through_the_sas_of_a_registration() -> None:
    """AKS-08: the failure may come through an SA (33.203 7.3.1.3)."""
    bench = Bench()
    bench.registered()
    nonce = bench.challenge(flag="yes")
    assert bench.one(bench.phone.register(auth=auts_of(bench, nonce, flag="yes"))).status == 401
    assert bench.hss.of(MultimediaAuthRequest)[-1].item.authorization is not None


def test_old_vectors_go_when_a_user_is_out_of_step() -> None:
    """AKS-10."""
    bench = Bench(vectors=3)
    nonce = bench.challenge()
    response = bench.one(bench.phone.register(auth=auts_of(bench, nonce)))
    assert b64decode(response.www_authenticate[0].nonce or "") == vector(4).authenticate
    assert b64decode(bench.challenge()) == vector(5).authenticate


@pytest.mark.parametrize(
    "auts", ["", "AAAA", b64encode(bytes(13)).decode(), b64encode(bytes(15)).decode(), "!!!!", "A" * 400]
)
def test_malformed_auts_is_refused(auts: str) -> None:
    """AKS-11: no garbage reaches the HSS, and the challenge stands."""
    bench = Bench()
    nonce = bench.challenge()
    assert bench.one(bench.phone.register(auth=auts_of(bench, nonce, auts))).status == 400
    assert len(bench.hss.of(MultimediaAuthRequest)) == 1
    assert bench.answer(nonce).status == 200


def test_auts_for_another_nonce_is_an_ordinary_register() -> None:
    """AKS-06: nobody can have RANDs of his own put before the HSS."""
    bench = Bench()
    bench.challenge()
    made_up = b64encode(vector(9).authenticate or b"").decode()
    assert bench.one(bench.phone.register(auth=auts_of(bench, made_up))).status == 401
    assert bench.hss.of(MultimediaAuthRequest)[-1].item.authorization is None


@pytest.mark.parametrize("flag", ["no", "yes"])
def test_a_reported_mac_failure_is_forbidden(flag: str) -> None:
    """AKS-12, AKS-15: 4xx without security parameters; the HSS forgets our name."""
    bench = Bench()
    nonce = bench.challenge()
    response = bench.one(bench.phone.register(flag, nonce=nonce))
    assert response.status == 403
    assert not response.has("WWW-Authenticate")
    assert not response.has("Authentication-Info")
    assert bench.sars == [(9, IMPU)]
    assert "mac-failure" in bench.wire.emitted("scscf")
    assert bench.answer(nonce).status == 401


def test_a_registered_user_keeps_what_he_has_when_others_fail() -> None:
    """AKS-16: a forged clear REGISTER, a wrong answer, a MAC failure, silence: no SAR, same binding, same time."""
    bench = Bench()
    bench.registered()
    forger = Phone(call_id="forged", contact="<sip:mallory@203.0.113.9>")
    bench.answer(bench.challenge(forger), forger, response="0" * 32)
    bench.one(forger.register(nonce=bench.challenge(forger)))
    bench.challenge(forger)
    bench.wire.run(300.0)
    assert bench.bindings() == {"sip:001010000000001@10.0.0.2:5062": 3300}
    assert bench.sars == [(1, IMPU)]


def test_a_right_answer_in_clear_is_challenged_again() -> None:
    """AKS-17."""
    bench = Bench()
    nonce = bench.challenge()
    assert bench.answer(nonce, flag="no").status == 401
    assert bench.sars == []
    assert bench.answer(nonce).status == 403


def test_guessing_gets_one_try_for_a_challenge() -> None:
    """AKS-18."""
    bench = Bench()
    nonce = bench.challenge()
    statuses = [bench.answer(nonce, response=f"{guess:032x}").status for guess in range(20)]
    assert statuses[0] == 403
    assert 200 not in statuses
    # What follows is an answer to no challenge at all: it is challenged, and then refused until somebody answers that.
    assert statuses[1:] == [401] + [403] * 18
    assert bench.users.count == 2


def test_resynchronisation_is_tried_twice() -> None:
    """AKS-18: then 403."""
    bench = Bench()
    nonce = bench.challenge()
    for _ in range(RESYNCS):
        response = bench.one(bench.phone.register(auth=auts_of(bench, nonce)))
        assert response.status == 401
        nonce = response.www_authenticate[0].nonce or ""
    assert bench.one(bench.phone.register(auth=auts_of(bench, nonce))).status == 403
    assert bench.sars == [(9, IMPU)]
    assert bench.challenge() != nonce


@pytest.mark.parametrize("uri", ["sip:other.example", "not a uri", "tel:+15550001"])
def test_a_response_for_another_uri_is_forbidden(uri: str) -> None:
    """AKS-19."""
    bench = Bench()
    nonce = bench.challenge()
    response = aka_response(nonce, vector(1).authorization or b"", uri=uri)
    auth = (
        f'Digest username="{IMPI}", realm="{DOMAIN}", nonce="{nonce}", uri="{uri}", response="{response}", '
        'algorithm=AKAv1-MD5, integrity-protected="yes"'
    )
    assert bench.one(bench.phone.register(auth=auth)).status == 403


@pytest.mark.parametrize(
    "more", ["qop=auth", 'qop=auth, nc=00000001, cnonce=""', 'qop=strange, nc=00000001, cnonce="c"']
)
def test_an_answer_that_cannot_be_computed_is_forbidden(more: str) -> None:
    bench = Bench()
    nonce = bench.challenge()
    auth = (
        f'Digest username="{IMPI}", realm="{DOMAIN}", nonce="{nonce}", uri="sip:{DOMAIN}", response="{"0" * 32}", '
        f'algorithm=AKAv1-MD5, {more}, integrity-protected="yes"'
    )
    assert bench.one(bench.phone.register(auth=auth)).status == 403


@pytest.mark.parametrize("reauthenticate", [True, False])
def test_a_new_contact_through_old_sas_is_forbidden(reauthenticate: bool) -> None:
    """AKS-21: while a challenge runs, too; with reg-id it is another flow, and may be."""
    bench = Bench(reauthenticate=reauthenticate)
    bench.registered()
    new = "<sip:001010000000001@10.0.0.9:5062>"
    assert bench.one(bench.phone.register("yes", contacts=[new])).status == 403
    nonce = bench.challenge(Phone(call_id="elsewhere"))
    assert bench.one(bench.phone.register("yes", contacts=[new])).status == 403
    assert nonce in bench.box._challenged
    flow = f'{new};+sip.instance="<urn:uuid:1>";reg-id=2'
    assert bench.one(bench.phone.register("yes", contacts=[flow])).status == (401 if reauthenticate else 200)


def test_too_many_flows_are_forbidden() -> None:
    """AKS-22: what there is stays."""
    bench = Bench(reauthenticate=False, contacts_max=2)
    bench.registered()
    flow = '<sip:ue@10.0.0.{n}:5062>;+sip.instance="<urn:uuid:1>";reg-id={n}'
    assert bench.one(bench.phone.register("yes", contacts=[flow.format(n=1)])).status == 200
    assert bench.one(bench.phone.register("yes", contacts=[flow.format(n=2)])).status == 403
    assert len(bench.bindings()) == 2
    # One that goes makes room for one that comes.
    swap = [f"{CONTACT};expires=0", flow.format(n=2)]
    assert bench.one(bench.phone.register("yes", contacts=swap)).status == 200


# ---- M. re-registration


def test_a_refresh_may_go_without_a_challenge() -> None:
    """RER-08."""
    bench = Bench(reauthenticate=False)
    bench.registered()
    bench.wire.run(1000.0)
    assert bench.one(bench.phone.register("yes")).status == 200
    assert bench.sars == [(1, IMPU), (2, IMPU)]
    assert bench.hss.of(ServerAssignmentRequest)[-1].already_available == 1
    assert bench.bindings() == {"sip:001010000000001@10.0.0.2:5062": 3600}


def test_a_refresh_may_be_challenged() -> None:
    """RER-09: the binding is untouched meanwhile."""
    bench = Bench()
    bench.registered()
    bench.wire.run(1000.0)
    nonce = bench.challenge(flag="yes")
    assert bench.bindings() == {"sip:001010000000001@10.0.0.2:5062": 2600}
    assert bench.answer(nonce).status == 200
    assert bench.bindings() == {"sip:001010000000001@10.0.0.2:5062": 3600}
    assert bench.sars == [(1, IMPU), (2, IMPU)]


def test_a_refresh_ends_a_challenge_that_somebody_else_caused() -> None:
    bench = Bench(reauthenticate=False)
    bench.registered()
    forger = Phone(call_id="forged")
    nonce = bench.challenge(forger)
    assert bench.one(bench.phone.register("yes")).status == 200
    assert bench.answer(nonce, forger, response="0" * 32).status == 200  # a refresh by now
    assert bench.box.authentications == {}


def test_another_identity_through_the_same_sas() -> None:
    """24.229 5.4.1.2.2: a user who is known registers a second set."""
    bench = Bench(reauthenticate=False)
    bench.registered()
    bench.users.profile = profile(f"sip:work@{DOMAIN}")
    second = Phone(impu=f"sip:work@{DOMAIN}", call_id="reg-2")
    assert bench.one(second.register("yes")).status == 200
    assert bench.sars == [(1, IMPU), (1, f"sip:work@{DOMAIN}")]
    assert len(bench.box.registrar.of_private(IMPI)) == 2


def test_a_late_refresh_is_refused_before_it_is_challenged() -> None:
    """RER-14: same Call-ID, lower CSeq."""
    bench = Bench()
    bench.registered()
    before = bench.bindings()
    bench.phone.cseq = 0
    assert bench.one(bench.phone.register("yes", expires=60)).status == 500
    assert bench.bindings() == before
    nonce = bench.challenge(Phone(call_id="elsewhere"))
    bench.phone.cseq = 0
    assert bench.one(bench.phone.register("yes", expires=60)).status == 500
    assert nonce in bench.box._challenged


# ---- N. errors


def test_an_unknown_option_is_refused() -> None:
    """ERR-06."""
    bench = Bench()
    response = bench.one(bench.phone.register(headers=[("Require", "foo")]))
    assert (response.status, response.unsupported) == (420, ["foo"])
    assert bench.hss.got == []


REFUSALS = [
    ({"experimental": 5001}, 403),
    ({"experimental": 5002}, 403),
    ({"experimental": 5004}, 403),
    ({"experimental": 5006}, 403),
    ({"result_code": 5003}, 403),
    ({"result_code": 5012}, 500),
    ({"result_code": 3004}, 500),
    ({"experimental": 5005}, 500),
    ({"result_code": 5001}, 500),
]


@pytest.mark.parametrize(("result", "status"), REFUSALS)
def test_what_the_hss_says_no_to(result: dict[str, Any], status: int) -> None:
    """ERR-16, ERR-17, ERR-19: about the user it is 403, about itself 5xx; base 5001 and experimental 5001 differ."""
    bench = Bench()
    bench.hss.script[MultimediaAuthRequest] = lambda request: MultimediaAuthAnswer(**result)
    assert bench.one(bench.phone.register()).status == status
    assert bench.box.authentications == {}
    bench.users.install()
    nonce = bench.challenge()
    bench.hss.script[ServerAssignmentRequest] = lambda request: ServerAssignmentAnswer(**result)
    assert bench.answer(nonce).status == status
    assert bench.box.registrar.find(IMPU) is None
    assert bench.box.authentications == {}


@pytest.mark.parametrize("kind", [MultimediaAuthRequest, ServerAssignmentRequest])
def test_a_silent_hss_makes_504_in_time(kind: type[MultimediaAuthRequest]) -> None:
    """ERR-18: before the UE's transaction ends, and nothing is kept."""
    bench = Bench()
    silent = bench.hss.script[kind]
    bench.hss.script[kind] = lambda request: None
    if kind is MultimediaAuthRequest:
        assert bench.send(bench.phone.register()) == []
    else:
        nonce = bench.challenge()
        res = bench.item(nonce).authorization or b""
        assert bench.send(bench.phone.register("yes", nonce=nonce, response=aka_response(nonce, res))) == []
    bench.wire.run(6.0)
    assert bench.pcscf.responses[-1].status == 504
    assert bench.box.authentications == {}
    assert len(bench.box.registrar) == 0
    bench.hss.script[kind] = silent
    bench.registered()


def test_an_answer_that_comes_too_late_changes_nothing() -> None:
    """ERR-18."""
    bench = Bench()
    bench.hss.script[MultimediaAuthRequest] = lambda request: None
    bench.send(bench.phone.register())
    bench.wire.run(6.0)
    made = bench.users.maa(bench.hss.of(MultimediaAuthRequest)[0])
    assert made is not None
    (peer,) = bench.hss._peers.values()
    peer.send_answer(made.to_message(bench.hss.messages[0]), 6.0)
    bench.kick(bench.hss)
    assert [each.status for each in bench.pcscf.responses] == [504]
    assert bench.box.authentications == {}


# ---- the HSS is slow: turns


def held(bench: Bench) -> tuple[list[MultimediaAuthRequest], Callable[[], None]]:
    """An HSS that answers MARs when it is told."""
    asked: list[MultimediaAuthRequest] = []

    def hold(request: MultimediaAuthRequest) -> None:
        asked.append(request)

    def release() -> None:
        (peer,) = bench.hss._peers.values()
        request = asked.pop(0)
        index = bench.hss.got.index(request)
        made = bench.users.maa(request)
        assert made is not None
        peer.send_answer(made.to_message(bench.hss.messages[index]), bench.wire.now)
        bench.kick(bench.hss)

    bench.hss.script[MultimediaAuthRequest] = hold
    return asked, release


def test_registers_of_one_user_wait_for_their_turn() -> None:
    """33.203 6.1.2.3: the last challenge is the one that counts."""
    bench = Bench()
    asked, release = held(bench)
    bench.send(bench.phone.register())
    bench.send(Phone(call_id="second").register())
    assert len(asked) == 1
    release()
    assert [each.status for each in bench.pcscf.responses] == [401]
    assert len(asked) == 1
    release()
    first, second = (each.www_authenticate[0].nonce or "" for each in bench.pcscf.responses)
    assert bench.answer(first).status == 403
    assert bench.answer(second, Phone(call_id="second", cseq=1)).status == 200


def test_only_so_many_registers_wait() -> None:
    """MAL-16's cousin: the queue of one user is bounded."""
    bench = Bench()
    _, _release = held(bench)
    bench.send(bench.phone.register())
    for number in range(WAITING_MAX):
        assert bench.send(Phone(call_id=f"waits-{number}").register()) == []
    (response,) = bench.send(Phone(call_id="one-too-many").register())
    assert (response.status, response.retry_after) == (503, 5)


def test_users_do_not_wait_for_each_other() -> None:
    bench = Bench()
    asked, _ = held(bench)
    bench.send(bench.phone.register())
    bench.send(Phone(impi=f"other@{DOMAIN}", impu=f"sip:other@{DOMAIN}", call_id="x").register())
    assert len(asked) == 2


def test_two_users_with_one_vector_do_not_disturb_each_other() -> None:
    """A broken HSS gives two users the same RAND."""
    bench = Bench()

    def always(request: MultimediaAuthRequest) -> CxAnswer:
        return MultimediaAuthAnswer(result_code=2001, items=[vector(1)])

    bench.hss.script[MultimediaAuthRequest] = always
    bench.users.count = 1
    other = Phone(impi=f"other@{DOMAIN}", impu=f"sip:other@{DOMAIN}", call_id="x")
    nonce = bench.challenge()
    assert bench.challenge(other) == nonce
    assert bench.answer(nonce).status == 200
    assert bench.answer(nonce, other).status == 200
    assert bench.box._challenged == {}


def test_vectors_that_are_left_are_kept_for_the_next_time() -> None:
    bench = Bench(vectors=2)
    bench.registered()
    assert bench.box.authentications[IMPI].state is State.IDLE
    assert b64decode(bench.challenge(flag="yes")) == vector(2).authenticate
    assert len(bench.hss.of(MultimediaAuthRequest)) == 1


@pytest.mark.parametrize("state", ["spare", "challenged", "fetching"])
def test_an_rtr_takes_vectors_and_challenges_along(state: str) -> None:
    """29.228 6.1.3: the answer to a challenge from before the RTR is worth nothing."""
    bench = Bench(vectors=2 if state == "spare" else 1)
    bench.registered()
    nonce = "" if state != "challenged" else bench.challenge(flag="yes")
    asked, release = held(bench)
    if state == "fetching":
        bench.send(bench.phone.register("yes"))
    rtr = RegistrationTerminationRequest(
        session_id="s", origin_host="h", origin_realm=DOMAIN, destination_realm=DOMAIN,
        destination_host="s", user_name=IMPI, reason=Reason(code=ReasonCode.PERMANENT_TERMINATION),
    )  # fmt: skip
    assert bench.push(rtr).result_code == 2001
    if state == "fetching":
        release()
        assert bench.pcscf.responses[-1].status == 401
        return
    assert bench.box.authentications == {}
    if state == "challenged":
        assert bench.send(bench.phone.register("yes", nonce=nonce, response="0" * 32)) == []
        release()
        assert bench.pcscf.responses[-1].status == 401
    assert asked == []


# ---- U. malformed input


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Call-ID", "another"),
        ("To", f"<{IMPU}>"),
        ("From", f"<{IMPU}>;tag=x"),
        ("CSeq", "9 REGISTER"),
        ("Expires", "10"),
        ("Max-Forwards", "9"),
    ],
)
def test_a_header_that_may_be_there_once_is_there_twice(name: str, value: str) -> None:
    """MAL-09."""
    bench = Bench()
    response = bench.one(bench.phone.register(headers=[(name, value)]))
    assert response.status == 400
    assert bench.hss.got == []


@pytest.mark.parametrize(
    "options",
    [
        {"contacts": ["*"], "expires": 60},
        {"contacts": ["*"], "expires": None},
        {"contacts": ["*", CONTACT], "expires": 0},
        {"contacts": ["<sip:a@b"]},
        {"contacts": [f"{CONTACT};expires=soon"]},
        {"contacts": [f"{CONTACT};q=2"]},
        {"contacts": [f"{CONTACT};reg-id=x"]},
        {"headers": [("Path", "nonsense")]},
        {"auth": 'Digest username="a", username="b"'},
        {"auth": 'Digest username="a", nc=1'},
        {"auth": 'Digest username="a", integrity-protected="no", integrity-protected="yes"'},
        {"headers": [("Authorization", f'Digest username="x", realm="{DOMAIN}", integrity-protected="yes"')]},
        {"to": "<<>"},
    ],
)
def test_what_cannot_be_read_is_refused(options: dict[str, object]) -> None:
    """ERR-20 first; the HSS is not bothered with any of them."""
    bench = Bench()
    if "to" in options:
        request = bench.phone.register()
        request.set("To", str(options["to"]))
    else:
        request = bench.phone.register(**options)  # type: ignore[arg-type]
    assert bench.one(request).status == 400
    assert bench.hss.got == []
    assert bench.box.authentications == {}


def test_credentials_for_another_realm_are_left_alone() -> None:
    """RFC 3261 22.3: several Authorization rows, ours counts."""
    bench = Bench()
    foreign = ("Authorization", 'Digest username="x@elsewhere", realm="elsewhere", integrity-protected="yes"')
    assert bench.one(bench.phone.register(headers=[foreign])).status == 401
    assert bench.hss.of(MultimediaAuthRequest)[0].user_name == IMPI


def broken(message: DiameterMessage, how: str) -> bytes:
    """An answer whose lengths lie."""
    octets = bytearray(message.encode())
    # The first AVP after the header is Session-Id: code 4, flags 1, length 3.
    if how == "AVP length 0":
        octets[25:28] = (0).to_bytes(3, "big")
    elif how == "AVP length 7":
        octets[25:28] = (7).to_bytes(3, "big")
    elif how == "AVP beyond the message":
        octets[25:28] = (len(octets)).to_bytes(3, "big")
    elif how == "group overflow":
        place = octets.index((612).to_bytes(4, "big")) + 12
        octets[place + 5 : place + 8] = (0xFFFF).to_bytes(3, "big")
    elif how == "message length 8":
        octets[1:4] = (8).to_bytes(3, "big")
    elif how == "message too long":
        octets[1:4] = (0xFFFFFF).to_bytes(3, "big")
    return bytes(octets)


HOWS = ["AVP length 0", "AVP length 7", "AVP beyond the message", "message length 8", "message too long"]


@pytest.mark.parametrize("how", [*HOWS, "group overflow"])
def test_an_maa_whose_lengths_lie_fails_the_register_cleanly(how: str) -> None:
    """MAL-20."""
    bench = Bench()

    def script(request: MultimediaAuthRequest) -> bytes:
        made = bench.users.maa(request)
        assert made is not None
        return broken(made.to_message(bench.hss.messages[-1]), how)

    bench.hss.script[MultimediaAuthRequest] = script
    bench.send(bench.phone.register())
    bench.wire.run(6.0)
    assert [each.status for each in bench.pcscf.responses] == [500 if how == "group overflow" else 504]
    assert bench.box.authentications == {}
    bench.users.install()
    bench.wire.run(20.0)
    bench.registered(Phone(call_id="again"))


@pytest.mark.parametrize("how", HOWS)
def test_an_saa_whose_lengths_lie_fails_the_register_cleanly(how: str) -> None:
    """MAL-20."""
    bench = Bench()
    nonce = bench.challenge()

    def script(request: ServerAssignmentRequest) -> bytes:
        made = bench.users.saa(request)
        assert made is not None
        return broken(made.to_message(bench.hss.messages[-1]), how)

    bench.hss.script[ServerAssignmentRequest] = script
    res = vector(1).authorization or b""
    bench.send(bench.phone.register("yes", nonce=nonce, response=aka_response(nonce, res)))
    bench.wire.run(6.0)
    assert bench.pcscf.responses[-1].status == 504
    assert len(bench.box.registrar) == 0


@pytest.mark.parametrize("field", ["authenticate", "authorization", "ck", "ik", "scheme", "all"])
def test_an_maa_without_a_whole_vector_is_500(field: str) -> None:
    """MAL-20; Kamailio needs each of these too."""
    bench = Bench()

    def script(request: MultimediaAuthRequest) -> CxAnswer:
        item = vector(1)
        if field == "scheme":
            item.scheme = "SIP Digest"
        elif field != "all":
            setattr(item, field, None)
        return MultimediaAuthAnswer(result_code=2001, items=[] if field == "all" else [item])

    bench.hss.script[MultimediaAuthRequest] = script
    assert bench.one(bench.phone.register()).status == 500
    assert bench.box.authentications == {}


def test_an_answer_to_another_question_is_none() -> None:
    bench = Bench()

    def other(request: MultimediaAuthRequest) -> DiameterMessage:
        made = answer(bench.hss.messages[-1], origin_host="hss", origin_realm=DOMAIN, result_code=2001)
        made.command = 301
        return made

    bench.hss.script[MultimediaAuthRequest] = other
    assert bench.send(bench.phone.register()) == []
    bench.wire.run(6.0)
    assert bench.pcscf.responses[-1].status == 504


def test_an_answer_without_a_result_is_500() -> None:
    bench = Bench()
    bench.hss.script[MultimediaAuthRequest] = lambda request: MultimediaAuthAnswer(items=[vector(1)])
    assert bench.one(bench.phone.register()).status == 500


def test_torturous_but_valid_registers_are_accepted() -> None:
    """MAL-02: folded lines, compact names, odd case, blanks, escapes, unknown headers and schemes."""
    bench = Bench()
    text = (
        f"REGISTER {SCSCF_NAME} SIP/2.0\r\n"
        "TO :\r\n sip:%30%30101000000000%31@IMS.example\r\n"
        'f: "J Rosenberg \\\\\\"" <sip:jdrosen@example.com>;tag = 98asjd8\r\n'
        "MaX-fOrWaRdS: 0068\r\n"
        "i: wsinv.ndaksdj@192.0.2.1\r\n"
        "cseq: 0009\r\n  REGISTER\r\n"
        "v: SIP / 2.0 / UDP 198.51.100.1 ;branch=390skdjuw, SIP/2.0/TCP spindle.example.com ;branch=z9hG4bK9\r\n"
        "NewFangledHeader: newfangled value\r\n continued newfangled value\r\n"
        "UnknownHeaderWithUnusualValue: ;;,,;;,;\r\n"
        "Route: \r\n <sip:services.example.com;lr;unknownwith=value;unknown-no-value>\r\n"
        'm:"Quoted string \\"\\"" <sip:001010000000001@10.0.0.2:5062>;newparam = newvalue ;expires=3600\r\n'
        f'authorization: dIGEST USERNAME="{IMPI}",ReAlM = "{DOMAIN}" ,nonce="",uri="sip:{DOMAIN}",response="",'
        'Integrity-Protected="no"\r\n'
        "\r\n"
    )
    (response,) = bench.send(text.encode())
    assert response.status == 401
    (mar,) = bench.hss.of(MultimediaAuthRequest)
    assert (mar.user_name, mar.public_identity) == (IMPI, IMPU)


def test_the_torture_messages_do_no_harm() -> None:
    """MAL-02, MAL-03 on Mw: whatever it is, somebody registers afterwards."""
    folder = require_shared("vectors")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and "tortur" in str(path).lower())
    assert files
    bench = Bench()
    for path in files:
        octets = path.read_bytes()
        bench.send(octets)
        bench.send(octets.replace(b"INVITE", b"REGISTER").replace(b"OPTIONS", b"REGISTER"))
    bench.registered()


# ---- the table


def test_the_table_says_what_the_page_says() -> None:
    """The module's page is read by people; here it is read by a program."""
    assert scscf.__doc__ is not None
    page = scscf.__doc__.partition("clause\n")[2].partition("\n\nWhile")[0]
    states = {state.name: state for state in State}
    seen: set[tuple[State, Input]] = set()
    for line in page.splitlines():
        cells = re.split(r"\s{2,}", line.strip())
        state, names, after = states[cells[0]], cells[1], cells[3].split(" ")[0]
        if names == "any other":
            continue
        for name in names.split(", "):
            row = TABLE[state, Input(name)]
            assert row[1] is states[after], line
            seen.add((state, Input(name)))
    inherited = {key for key in TABLE if key[0] is State.CHALLENGED} - seen
    assert {input_ for _, input_ in inherited} == {Input.UNPROTECTED, Input.REAUTHENTICATION, Input.REFRESH}
    for state, input_ in inherited:
        assert TABLE[state, input_] == TABLE[State.IDLE, input_]
    assert seen | inherited == set(TABLE)


def test_no_key_is_told_to_humans() -> None:
    bench = Bench()
    bench.registered()
    item = vector(1)
    secrets = [part.hex() for part in (item.ck, item.ik, item.authorization) if part]
    told = repr([effect for _, _, effect in bench.wire.log if isinstance(effect, fx.Emit)])
    assert not any(secret in told for secret in secrets)
    assert item.ck is not None
    assert item.ck.hex() not in repr(bench.box.__dict__)


@pytest.mark.parametrize("place", ["impi", "impu"])
def test_an_identity_that_is_no_text_is_refused(place: str) -> None:
    """RFC 6733 4.3.1: it could not be put before the HSS."""
    bench = Bench()
    phone = Phone(**{place: "sip:\udcff@ims.example"})
    assert bench.one(phone.register()).status == 400
    assert bench.hss.got == []
