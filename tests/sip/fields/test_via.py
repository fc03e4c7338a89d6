"""Via."""

from __future__ import annotations

import pytest

from imslab.core.errors import LocalError, PeerError
from imslab.sip.fields.via import Via


def test_reading() -> None:
    via = Via.parse("SIP/2.0/udp 192.0.2.1:5062;branch=z9hG4bKx;rport;received=192.0.2.9")
    assert (via.transport, via.host, via.port, via.sent_by) == ("UDP", "192.0.2.1", 5062, "192.0.2.1:5062")
    assert (via.branch, via.received, via.rport) == ("z9hG4bKx", "192.0.2.9", None)
    assert "rport" in via.params
    assert str(via) == "SIP/2.0/udp 192.0.2.1:5062;branch=z9hG4bKx;rport;received=192.0.2.9"


def test_white_space_may_stand_anywhere() -> None:
    via = Via.parse("SIP  /   2.0 / UDP   [2001:db8::9:1] : 99 ; branch = z9hG4bKas3 ")
    assert (via.host, via.port, via.branch) == ("2001:db8::9:1", 99, "z9hG4bKas3")


@pytest.mark.parametrize("value", ["2001:db8::9:255", "[2001:db8::9:255]"])
def test_received_with_and_without_brackets(value: str) -> None:
    # RFC 5118 4.5
    assert Via.parse(f"SIP/2.0/UDP [2001:db8::9:1];received={value}").received == "2001:db8::9:255"


def test_rport() -> None:
    assert Via.parse("SIP/2.0/UDP a;rport=5555").rport == 5555
    assert Via.parse("SIP/2.0/UDP a").rport is None
    assert Via.parse("SIP/2.0/UDP a").received is None
    assert Via.parse("SIP/2.0/UDP a").branch is None
    for value in ("x", "65536", "-1"):
        with pytest.raises(PeerError):
            _ = Via.parse(f"SIP/2.0/UDP a;rport={value}").rport


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SIP/2.0/UDP",
        "SIP/2.0/UDP ",
        "SIP/2.0 a",
        "SIP/7.0/UDP a",
        "HTTP/2.0/UDP a",
        "SIP/2.0/UDP a:",
        "SIP/2.0/UDP a:x",
        "SIP/2.0/UDP a:65536",
        "SIP/2.0/UDP a b",
        "SIP/2.0/UDP [a]",
        "SIP/2.0/UDP [::1",
        "SIP/2.0/UDP 2001:db8::1",
        "SIP/2.0/UDP a;",
        "SIP/2.0/UDP a;;b",
        "SIP/2.0/UDP a;branch=",
        "SIP/2.0/UDP a;branch=1;Branch=2",
        "SIP/2.0/UDP a\n",
        "SIP/2.0/UDP a, SIP/2.0/UDP b",
    ],
)
def test_malformed(text: str) -> None:
    with pytest.raises(PeerError):
        Via.parse(text)


def test_writing() -> None:
    via = Via("TCP", "2001:db8::1", 5060, {"branch": "z9hG4bKx", "rport": None})
    assert str(via) == "SIP/2.0/TCP [2001:db8::1]:5060;branch=z9hG4bKx;rport"
    assert via == Via.parse(str(via))
    marked = via.with_params({"RPORT": "7", "received": "2001:db8::2"})
    assert str(marked) == "SIP/2.0/TCP [2001:db8::1]:5060;branch=z9hG4bKx;RPORT=7;received=2001:db8::2"
    assert marked.rport == 7
    assert str(marked.without_params("rport", "branch", "received")) == "SIP/2.0/TCP [2001:db8::1]:5060"


@pytest.mark.parametrize("via", [Via("UD P", "a"), Via("UDP", ""), Via("UDP", "a;b"), Via("UDP", "a\r\n")])
def test_what_cannot_be_written(via: Via) -> None:
    with pytest.raises(LocalError):
        str(via)
