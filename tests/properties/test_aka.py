"""What holds for every key and every nonce."""

from __future__ import annotations

from base64 import b64decode

from hypothesis import given, settings
from hypothesis import strategies as st

from imslab.aka.algorithm import AkaAlgorithm
from imslab.aka.digest import ALGORITHMS, digest_response, join_nonce, parse_auts, split_nonce, write_auts
from imslab.aka.milenage import Milenage
from imslab.aka.sqn import SEQ_MAX, SLOTS, Freshness, SqnGenerator, SqnWindow, join_sqn, split_sqn
from imslab.aka.tuak import Tuak
from imslab.aka.usim import Authenticated, MacFailure, SyncFailure, Usim
from imslab.aka.vector import check_auts, generate
from imslab.aka.xor import XorTest
from imslab.core.errors import PeerError

octets_16 = st.binary(min_size=16, max_size=16)
sqns = st.integers(0, (1 << 48) - 1)
algorithms: st.SearchStrategy[AkaAlgorithm] = st.one_of(
    st.builds(Milenage, octets_16, octets_16),
    st.builds(XorTest, octets_16),
    st.builds(Tuak, st.one_of(octets_16, st.binary(min_size=32, max_size=32)), st.binary(min_size=32, max_size=32)),
)
#: Text as a SIP parser gives it: whatever octets, the bad ones as surrogates.
wire_text = st.binary(max_size=80).map(lambda octets: octets.decode("utf-8", "surrogateescape"))


@given(algorithms, octets_16, sqns, sqns, st.binary(min_size=2, max_size=2))
@settings(max_examples=100, deadline=None)
def test_card_and_centre_understand_each_other(
    algorithm: AkaAlgorithm, rand: bytes, sqn: int, sqn_ms: int, amf: bytes
) -> None:
    vector = generate(algorithm, rand, sqn, amf)
    window = SqnWindow.at(sqn_ms)
    expected = window.check(sqn)
    answer = Usim(algorithm, window).authenticate(rand, vector.autn)
    if expected is Freshness.FRESH:
        assert answer == Authenticated(sqn, amf, vector.xres, vector.ck, vector.ik)
    else:
        assert isinstance(answer, SyncFailure)
        assert check_auts(algorithm, rand, answer.auts) == sqn_ms
        generator = SqnGenerator(sqn)
        if split_sqn(sqn_ms)[0] < SEQ_MAX and sqn >> 5 < SEQ_MAX:
            generator.resynchronise(sqn_ms)
            assert window.accept(generator.next()) is Freshness.FRESH


# Without XOR, which protects nothing: zeros fit zeros there.
@given(algorithms.filter(lambda algorithm: not isinstance(algorithm, XorTest)), octets_16, octets_16)
@settings(max_examples=60, deadline=None)
def test_a_made_up_autn_is_a_mac_failure(algorithm: AkaAlgorithm, rand: bytes, autn: bytes) -> None:
    assert Usim(algorithm).authenticate(rand, autn) == MacFailure()


@given(st.integers(0, SEQ_MAX), st.integers(0, SLOTS - 1))
def test_seq_and_ind_are_the_two_parts_of_sqn(seq: int, ind: int) -> None:
    assert split_sqn(join_sqn(seq, ind)) == (seq, ind)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3)), max_size=40))
def test_no_sqn_is_ever_accepted_twice(offered: list[tuple[int, int]]) -> None:
    window = SqnWindow()
    accepted = [sqn for sqn in (join_sqn(*pair) for pair in offered) if window.accept(sqn) is Freshness.FRESH]
    assert len(set(accepted)) == len(accepted)
    assert not accepted or split_sqn(window.sqn_ms)[0] == max(split_sqn(sqn)[0] for sqn in accepted)


@given(octets_16, octets_16, st.binary(max_size=40), st.booleans())
def test_nonces_there_and_back(rand: bytes, autn: bytes, data: bytes, padded: bool) -> None:
    nonce = join_nonce(rand, autn, data)
    assert split_nonce(nonce if padded else nonce.rstrip("=")) == (rand, autn, data)
    assert b64decode(nonce) == rand + autn + data


@given(st.one_of(st.text(max_size=80), wire_text, st.text("AZaz09+/=", max_size=60)))
@settings(max_examples=300)
def test_any_nonce_and_auts_is_split_or_refused(text: str) -> None:
    try:
        rand, autn, data = split_nonce(text)
    except PeerError:
        pass
    else:
        assert join_nonce(rand, autn, data).rstrip("=") == text.rstrip("=")
    try:
        auts = parse_auts(text)
    except PeerError:
        pass
    else:
        assert write_auts(auts).rstrip("=") == text.rstrip("=")


@given(
    st.one_of(st.sampled_from(sorted(ALGORITHMS)), wire_text),
    st.one_of(st.sampled_from(["", "auth", "auth-int"]), wire_text),
    st.lists(wire_text, min_size=7, max_size=7),
    st.binary(max_size=40),
)
@settings(max_examples=300)
def test_any_question_is_answered_or_refused(algorithm: str, qop: str, texts: list[str], octets: bytes) -> None:
    username, realm, nonce, method, uri, nc, cnonce = texts
    try:
        response = digest_response(
            algorithm=algorithm,
            username=username,
            realm=realm,
            password=octets,
            nonce=nonce,
            method=method,
            uri=uri,
            qop=qop,
            nc=nc,
            cnonce=cnonce,
            body=octets,
        )
    except PeerError:
        return
    assert len(response) in (32, 64)
    assert response == response.lower()
    int(response, 16)
