"""A REGISTER read whole: what it says, and every way in which it cannot be read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from imslab.core.errors import PeerError
from imslab.core.flow import Endpoint, Flow, Transport
from imslab.roles.scscf_attempt import Attempt, read_attempt
from imslab.sip.message import Request
from imslab.sip.transaction import Transactions
from tests.roles.core_bench import sip_request

A = "sip:a@ims.example"
FLOW = Flow(Transport.UDP, Endpoint("192.0.2.1", 5060), Endpoint("192.0.2.2", 5060))


def read(headers: Iterable[tuple[str, str]] = (), **more: Any) -> Attempt:
    request: Request = sip_request("REGISTER", "sip:scscf", sender=A, to=A, headers=headers, **more)
    txn = Transactions(lambda flow, octets: None).receive_request(request, FLOW, 0.0)
    assert txn is not None
    return read_attempt(txn, "ims.example")


def auth(text: str, realm: str = "ims.example") -> tuple[str, str]:
    return "Authorization", f'Digest realm="{realm}", {text}'


def test_what_a_register_says() -> None:
    attempt = read(
        [
            auth('username="a@ims.example", nonce="n", integrity-protected="YES"'),
            ("Contact", "<sip:x@1>;expires=5, <sip:y@2>"),
            ("Contact", "<sip:z@3>;expires=0"),
            ("Expires", "100"),
            ("Path", "<sip:p1;lr>, <sip:p2;lr>"),
            ("Path", "<sip:p3;lr>"),
        ],
        call_id="c",
        cseq=9,
    )
    assert (attempt.impi, attempt.impu, attempt.call_id, attempt.cseq) == ("a@ims.example", A, "c", 9)
    assert (attempt.flag, attempt.nonce, attempt.auts) == ("yes", "n", None)
    assert [(str(wish.contact.uri), wish.seconds) for wish in attempt.wishes] == [
        ("sip:x@1", 5),
        ("sip:y@2", 100),
        ("sip:z@3", 0),
    ]
    assert attempt.path == ["<sip:p1;lr>", "<sip:p2;lr>", "<sip:p3;lr>"]
    assert not attempt.leaving


def test_a_register_that_says_little() -> None:
    attempt = read()
    assert (attempt.impi, attempt.credentials, attempt.flag, attempt.nonce) == ("a@ims.example", None, "", "")
    assert (attempt.wishes, attempt.path, attempt.leaving) == ([], [], False)
    assert read([("Contact", "<sip:x@1>")]).wishes[0].seconds is None


@pytest.mark.parametrize(
    ("headers", "leaving"),
    [
        ([("Contact", "*"), ("Expires", "0")], True),
        ([("Contact", "<sip:x@1>"), ("Expires", "0")], True),
        ([("Contact", "<sip:x@1>;expires=0, <sip:y@2>;expires=0")], True),
        ([("Contact", "<sip:x@1>;expires=0, <sip:y@2>")], False),
        ([("Expires", "0")], False),
    ],
)
def test_who_leaves(headers: list[tuple[str, str]], leaving: bool) -> None:
    assert read(headers).leaving is leaving


def test_auts_is_fourteen_octets() -> None:
    assert read([auth('username="a", auts="AAECAwQFBgcICQoLDA0="')]).auts == bytes(range(14))


def test_ours_counts_among_several_credentials() -> None:
    """RFC 3261 22.3."""
    rows = [auth('username="x"', "elsewhere"), auth('username="a"'), auth('username="y"', "third")]
    assert read(rows).impi == "a"
    assert read(rows[:1]).impi == "x"
    assert read([rows[0], rows[2]]).impi == "x"


@pytest.mark.parametrize(
    "headers",
    [
        [("Contact", "*")],
        [("Contact", "*"), ("Expires", "1")],
        [("Contact", "<sip:x@1>;expires=-1")],
        [("Contact", "<sip:x@1>;q=7")],
        [("Contact", "<sip:x@1>;reg-id=one")],
        [("Contact", "nonsense")],
        [("Expires", "soon")],
        [("Expires", "1"), ("Expires", "2")],
        [("Path", "<sip:p")],
        [auth('username="a", username="b"')],
        [auth('username="a", nonce="1", nonce="2"')],
        [auth('username="a", nc=1')],
        [auth('username="a", auts=""')],
        [auth('username="a", auts="AAAA"')],
        [auth('username="a", auts="?"')],
        [auth('username="a", integrity-protected="no", Integrity-Protected="yes"')],
        [auth('username="a"'), auth('username="b"')],
    ],
)
def test_what_cannot_be_read(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(PeerError):
        read(headers)


def test_reading_on_never_raises() -> None:
    """Whatever is asked of an attempt later has been read once."""
    attempt = read([auth('username="a", response="r", qop=auth, nc=00000001, cnonce="c", uri="u", algorithm=x')])
    credentials = attempt.credentials
    assert credentials is not None
    seen = [credentials.response, credentials.qop, credentials.nc, credentials.cnonce, credentials.uri]
    assert seen == ["r", "auth", 1, "c", "u"]
