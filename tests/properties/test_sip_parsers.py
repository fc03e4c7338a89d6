"""Whatever octets arrive, SIP's readers return or raise PeerError; and what they return is written back as it came."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imslab.core.errors import PeerError
from imslab.sip.fields.access import AccessNetworkInfo
from imslab.sip.fields.address import Contact, NameAddr
from imslab.sip.fields.charging import ChargingFunctionAddresses, ChargingVector
from imslab.sip.fields.cseq import CSeq, RAck
from imslab.sip.fields.digest import AuthenticationInfo, DigestChallenge, DigestCredentials
from imslab.sip.fields.event import Event, SubscriptionState
from imslab.sip.fields.security import SecurityMechanism
from imslab.sip.fields.via import Via
from imslab.sip.grammar import decode, split_list
from imslab.sip.parser import StreamFramer
from imslab.sip.reginfo import parse_reginfo, write_reginfo
from imslab.sip.uri import Uri
from tests.properties.mutate import SIP_SPICE, damaged
from tests.properties.readers import change_sip, read_deep, read_sip

FEW = settings(max_examples=150, deadline=None)

MESSAGE = (
    b"REGISTER sip:ims.example;x=y SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP [2001:db8::1]:5062;branch=z9hG4bK1;rport, SIP/2.0/TCP a.example\r\n"
    b"Max-Forwards: 70\r\n"
    b'f: "J \\"R\\"" <sip:u:p@ims.example?h=v>;tag=1\r\n'
    b"To: sip:u@ims.example\r\n"
    b"Call-ID: abc@192.0.2.1\r\n"
    b"CSeq: 7 REGISTER\r\n"
    b'Contact: <sip:192.0.2.1:5062;ob>;expires=600000;q=0.5;+sip.instance="<urn:gsma:imei:1>",\r\n *\r\n'
    b"Route: <sip:p.example;lr>\r\n"
    b'Authorization: Digest username="u",realm="r",nonce="n",uri="sip:r",response="",nc=00000001,qop=auth\r\n'
    b"Security-Client: ipsec-3gpp;alg=hmac-sha-1-96;spi-c=0000000256;spi-s=2;port-c=3;port-s=4;q=0.1, tls\r\n"
    b"P-Access-Network-Info: IEEE-802.11;i-wlan-node-id=00\r\n"
    b'P-Charging-Vector: icid-value="1";orig-ioi=a\r\n'
    b'P-Visited-Network-ID: "a, b"\r\n'
    b"Event: reg;id=1\r\n"
    b"Subscription-State: active;expires=5\r\n"
    b"Content-Type: application/reginfo+xml;charset=utf-8\r\n"
    b"Expires: 600000\r\n"
    b"Content-Length: 4\r\n"
    b"\r\n"
    b"body"
)
DOCUMENT = (
    b'<?xml version="1.0"?><reginfo xmlns="urn:ietf:params:xml:ns:reginfo" version="1" state="full"><registration '
    b'aor="sip:a@b" id="1" state="active"><contact id="2" state="active" event="created" expires="3"><uri>sip:c@d</uri>'
    b"</contact></registration></reginfo>"
)


def read_all(octets: bytes) -> None:
    try:
        change_sip(read_sip(octets))
    except PeerError:
        return


@FEW
@given(st.binary(max_size=200))
def test_any_octets(octets: bytes) -> None:
    read_all(octets)


@FEW
@given(st.lists(st.sampled_from(SIP_SPICE), max_size=30))
def test_any_rows(pieces: list[bytes]) -> None:
    read_all(b"OPTIONS sip:a SIP/2.0\r\nTo: " + b"".join(pieces) + b"\r\n\r\n")


@settings(max_examples=600, deadline=None)
@given(damaged([MESSAGE], SIP_SPICE))
def test_damaged_messages(octets: bytes) -> None:
    read_all(octets)


@FEW
@given(damaged([MESSAGE + MESSAGE], SIP_SPICE), st.integers(1, 80))
def test_damaged_streams_are_cut_alike_whatever_the_pieces(octets: bytes, size: int) -> None:
    def cut(pieces: list[bytes]) -> tuple[list[bytes], bool]:
        framer = StreamFramer(limit=5000)
        found: list[bytes] = []
        for piece in pieces:
            try:
                found += framer.feed(piece)
            except PeerError:
                break
        return found, framer.broken is not None

    assert cut([octets]) == cut([octets[i : i + size] for i in range(0, len(octets), size)])
    for message in cut([octets])[0]:
        read_all(message)


READERS: list[Callable[[str], object]] = [
    Uri.parse,
    Via.parse,
    NameAddr.parse,
    Contact.parse,
    CSeq.parse,
    RAck.parse,
    DigestChallenge.parse,
    DigestCredentials.parse,
    AuthenticationInfo.parse,
    SecurityMechanism.parse,
    Event.parse,
    SubscriptionState.parse,
    ChargingVector.parse,
    ChargingFunctionAddresses.parse,
    AccessNetworkInfo.parse,
    split_list,
]
_SEEDS = [
    b'"J \\"R\\"" <sip:u:p@[2001:db8::1]:5060;lr;transport=tcp?h=v>;tag=1;expires=5;q=0.5;+x="<a>"',
    b"SIP/2.0/UDP [2001:db8::1]:5062;branch=z9hG4bK1;rport=5;received=1.2.3.4",
    b"ipsec-3gpp;alg=hmac-sha-1-96;ealg=null;spi-c=0000000256;spi-s=2;port-c=3;port-s=4;q=0.1",
    b'Digest username="u", realm="r",nonce="n", nc=00000001,qop=auth,integrity-protected="yes"',
    b"sip:+1-2;phone-context=a@b:5060;user=phone;%6Cr?x=y&z",
    b"tel:+1-201-555;phone-context=example.com",
    b'icid-value="1";ccf=[::1];ecf=b',
    b"1 2 INVITE",
]


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__qualname__)
@FEW
@given(data=st.data())
def test_fields(read: Callable[[str], object], data: st.DataObject) -> None:
    text = data.draw(st.one_of(st.text(max_size=60), damaged(_SEEDS, SIP_SPICE).map(decode)))
    try:
        value = read(text)
    except PeerError:
        return
    if isinstance(value, list | tuple):
        return
    read_deep(value)
    # What was read is written as it came, and is read as the same again.
    assert str(value).strip(" \t") == text.strip(" \t")
    assert read(str(value)) == value


@FEW
@given(st.one_of(st.binary(max_size=100), damaged([DOCUMENT], SIP_SPICE)))
def test_reginfo(octets: bytes) -> None:
    try:
        info = parse_reginfo(octets)
    except PeerError:
        return
    assert parse_reginfo(write_reginfo(info)) == info


@FEW
@given(
    user=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1), tag=st.from_regex(r"\A[a-z0-9]+\Z")
)
def test_uris_are_equal_to_themselves(user: str, tag: str) -> None:
    try:
        uri = Uri.parse(f"sip:{user}@example.com;tag={tag}")
    except PeerError:
        return
    assert uri == Uri.parse(str(uri))
    assert hash(uri) == hash(Uri.parse(str(uri)))
    assert uri == uri.with_params({"newparam": tag})
    assert Uri.parse(uri.aor) == Uri.parse(uri.aor)
