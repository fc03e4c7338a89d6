"""Messages: reading values, changing rows, writing."""

from __future__ import annotations

import pytest

from imslab.core.errors import LocalError, PeerError
from imslab.sip.fields.via import Via
from imslab.sip.message import REASONS, Message, Request, Response, response_to
from imslab.sip.parser import parse

REGISTER = (
    b"REGISTER sip:ims.example SIP/2.0\r\n"
    b"v: SIP/2.0/UDP 192.0.2.1:5062;branch=z9hG4bK1 ,\r\n"
    b"\tSIP/2.0/TCP a.example;branch=z9hG4bK0\r\n"
    b"Max-Forwards: 70\r\n"
    b"f:  <sip:u@ims.example>;tag=1\r\n"
    b"TO: <sip:u@ims.example>\r\n"
    b"call-id: abc@192.0.2.1\r\n"
    b"CSeq: 7 REGISTER\r\n"
    b"Contact: <sip:192.0.2.1:5062>;expires=600000\r\n"
    b"X-Unknown:   kept,  as it is\r\n"
    b"l: 4\r\n"
    b"\r\n"
    b"body"
)
REGISTER_START = "REGISTER sip:ims.example SIP/2.0"


def request(*headers: tuple[str, str]) -> Request:
    return Request("REGISTER", "sip:ims.example", headers)


def test_reading_a_request() -> None:
    message = parse(REGISTER)
    assert isinstance(message, Request)
    assert message.is_request
    assert (message.method, message.uri, message.body) == ("REGISTER", "sip:ims.example", b"body")
    assert message.request_uri.host == "ims.example"
    assert message.request_uri is message.request_uri
    assert [via.branch for via in message.via] == ["z9hG4bK1", "z9hG4bK0"]
    assert message.from_.tag == "1"
    assert message.to.tag is None
    assert message.call_id == "abc@192.0.2.1"
    assert message.cseq == (7, "REGISTER")
    assert message.max_forwards == 70
    assert message.contact[0].expires == 600000
    assert message.content_length == 4
    assert message.octets == REGISTER == message.encode() == bytes(message)
    assert not message.changed
    assert repr(message) == f"<{REGISTER_START!a}>"


def test_a_changed_message_keeps_what_was_not_touched() -> None:
    message = parse(REGISTER)
    message.prepend("Via", "SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK2")
    message.set("Max-Forwards", "69")
    message.body = b"longer body"
    assert message.changed
    assert message.octets == REGISTER
    assert message.encode() == (
        b"REGISTER sip:ims.example SIP/2.0\r\n"
        b"Via: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK2\r\n"
        b"v: SIP/2.0/UDP 192.0.2.1:5062;branch=z9hG4bK1 ,\r\n"
        b"\tSIP/2.0/TCP a.example;branch=z9hG4bK0\r\n"
        b"Max-Forwards: 69\r\n"
        b"f:  <sip:u@ims.example>;tag=1\r\n"
        b"TO: <sip:u@ims.example>\r\n"
        b"call-id: abc@192.0.2.1\r\n"
        b"CSeq: 7 REGISTER\r\n"
        b"Contact: <sip:192.0.2.1:5062>;expires=600000\r\n"
        b"X-Unknown:   kept,  as it is\r\n"
        b"Content-Length: 11\r\n"
        b"\r\n"
        b"longer body"
    )


def test_typed_values_follow_changes() -> None:
    message = parse(REGISTER)
    assert len(message.via) == 2
    message.prepend("v", "SIP/2.0/UDP b.example")
    assert [via.host for via in message.via] == ["b.example", "192.0.2.1", "a.example"]
    message.replace("Via", [str(via) for via in message.via[1:]])
    assert [via.host for via in message.via] == ["192.0.2.1", "a.example"]
    message.remove("Via")
    assert message.via == []
    message.set("Expires", "5")
    assert message.expires == 5
    message.remove("Expires")
    assert message.expires is None


def test_changing_a_list_that_was_read_does_not_change_the_message() -> None:
    message = parse(REGISTER)
    message.via.clear()
    assert len(message.via) == 2
    message.add("Authorization", 'Digest username="u"')
    message.authorization[0].remove("username")
    assert message.authorization[0].username == "u"
    message.add("Authentication-Info", "qop=auth")
    info = message.authentication_info
    assert info is not None
    info.remove("qop")
    assert message.authentication_info is not None
    assert message.authentication_info.qop == "auth"


def test_what_others_derive_is_derived_once_until_something_changes() -> None:
    message = Request("REGISTER", "sip:home.example", [("Call-ID", "a")], b"body")
    asked: list[str] = []

    def facts(of: Message) -> tuple[str, str, bytes]:
        asked.append(of.call_id)
        return of.call_id, of.uri if isinstance(of, Request) else "", of.body

    assert message.derived(facts) == message.derived(facts) == ("a", "sip:home.example", b"body")
    assert asked == ["a"]
    message.set("Call-ID", "b")
    assert message.derived(facts)[0] == "b"
    message.body = b"other"
    assert message.derived(facts)[2] == b"other"
    other = message.copy()
    message.uri = "sip:away.example"
    assert message.derived(facts)[1] == "sip:away.example"
    assert other.derived(facts)[1] == "sip:home.example"


def test_what_cannot_be_derived_is_said_each_time() -> None:
    message = Request("REGISTER", "sip:home.example")
    for _ in range(2):
        with pytest.raises(PeerError, match="Call-ID is missing"):
            message.derived(lambda of: of.call_id)


@pytest.mark.parametrize("octets", [REGISTER, b"SIP/2.0 200 OK\r\nCSeq: 1 A\r\nContent-Length: 0\r\n\r\n"])
def test_copies_are_independent(octets: bytes) -> None:
    message = parse(octets)
    _ = message.cseq
    copy = message.copy()
    assert type(copy) is type(message)
    assert copy.encode() == octets
    copy.set("CSeq", "9 REGISTER")
    copy.body = b"x"
    if isinstance(copy, Request):
        copy.uri = "sip:other.example"
        assert copy.request_uri.host == "other.example"
    assert message.encode() == octets
    assert message.cseq.number != 9
    assert copy.cseq.number == 9
    assert copy.octets == octets


def test_building_a_request() -> None:
    made = Request("MESSAGE", "tel:+1", [("To", "<tel:+1>"), ("Subject", " é ")], b"hi")
    assert (
        made.encode() == b"MESSAGE tel:+1 SIP/2.0\r\nTo: <tel:+1>\r\nSubject:  \xc3\xa9 \r\nContent-Length: 2\r\n\r\nhi"
    )
    assert made.octets is None
    made.uri = "sip:a@b"
    assert made.encode().startswith(b"MESSAGE sip:a@b SIP/2.0\r\n")
    read = parse(made.encode())
    assert read.get("Subject") == "é"
    assert read.body == b"hi"


def test_content_length_is_put_right_and_stands_once() -> None:
    made = request(("l", "99"), ("To", "<sip:a@b>"), ("Content-Length", "98"))
    assert made.encode() == b"REGISTER sip:ims.example SIP/2.0\r\nContent-Length: 0\r\nTo: <sip:a@b>\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "uri"),
    [
        ("IN VITE", "sip:a"),
        ("", "sip:a"),
        ("A\r\nB", "sip:a"),
        ("A", ""),
        ("A", "sip:a b"),
        ("A", "sip:a\r\nVia: x"),
        ("A", "sip:\ud800"),
    ],
)
def test_requests_that_cannot_be_written(method: str, uri: str) -> None:
    with pytest.raises(LocalError):
        Request(method, uri)


def test_changing_the_uri_is_checked_too() -> None:
    made = request()
    with pytest.raises(LocalError):
        made.uri = "sip:a\r\nb"
    assert made.uri == "sip:ims.example"


def test_headers_given_at_birth_are_checked_too() -> None:
    with pytest.raises(LocalError):
        request(("Via", "a\r\nb"))
    with pytest.raises(LocalError):
        Response(200, headers=[("Via", "a\nb")])


def test_building_a_response() -> None:
    assert Response(200).encode() == b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"
    assert Response(401, "Nö").encode().startswith(b"SIP/2.0 401 N\xc3\xb6\r\n")
    assert Response(299).reason == ""
    response = Response(494, headers=[("CSeq", "3 REGISTER")])
    assert (response.status, response.reason, response.method) == (494, "Security Agreement Required", "REGISTER")
    assert not response.is_request
    for status, reason in ((99, ""), (700, ""), (200, "a\r\nb"), (200, "\ud800")):
        with pytest.raises(LocalError):
            Response(status, reason)
    assert all(100 <= status <= 699 for status in REASONS)


@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        ("SIP/2.0 100 ", 100, ""),
        ("SIP/2.0 200", 200, ""),
        ("sip/2.0 200 OK", 200, "OK"),
        ("SIP/2.0 603  two  blanks", 603, " two  blanks"),
    ],
)
def test_status_lines(line: str, status: int, reason: str) -> None:
    response = parse(f"{line}\r\nContent-Length: 0\r\n\r\n".encode())
    assert isinstance(response, Response)
    assert (response.status, response.reason) == (status, reason)


@pytest.mark.parametrize(
    ("line", "clause"),
    [
        ("", "RFC 3261 7.1"),
        ("INVITE", "RFC 3261 7.1"),
        ("INVITE sip:a", "RFC 3261 7.1"),
        ("INVITE  sip:a SIP/2.0", "RFC 3261 7.1"),
        ("INVITE sip:a  SIP/2.0", "RFC 3261 7.1"),
        ("INVITE sip:a SIP/2.0 ", "RFC 3261 7.1"),
        (" INVITE sip:a SIP/2.0", "RFC 3261 7.1"),
        ("INVITE sip:a b SIP/2.0", "RFC 3261 7.1"),
        ("INVITE sip:a SIP/3.0", "RFC 3261 7.1"),
        ("INV,ITE sip:a SIP/2.0", "RFC 3261 7.1"),
        ("INVITE sip:\x00 SIP/2.0", "RFC 3261 7.1"),
        ("INVITE sip:a HTTP/1.1", "RFC 3261 7.1"),
        ("SIP/2.0", "RFC 3261 7.2"),
        ("SIP/2.0 ", "RFC 3261 7.2"),
        ("SIP/2.0 20 OK", "RFC 3261 7.2"),
        ("SIP/2.0 099 OK", "RFC 3261 7.2"),
        ("SIP/2.0 700 OK", "RFC 3261 7.2"),
        ("SIP/2.0 2000 OK", "RFC 3261 7.2"),
        ("SIP/2.0  200 OK", "RFC 3261 7.2"),
        ("SIP/3.0 200 OK", "RFC 3261 7.2"),
        ("SIP/2.0 ٢00 OK", "RFC 3261 7.2"),
    ],
)
def test_malformed_start_lines(line: str, clause: str) -> None:
    with pytest.raises(PeerError) as caught:
        parse(f"{line}\r\nContent-Length: 0\r\n\r\n".encode())
    assert caught.value.clause == clause


def test_an_old_or_new_version_is_named_as_such() -> None:
    with pytest.raises(PeerError, match=r"not SIP/2\.0"):
        parse(b"OPTIONS sip:a SIP/7.0\r\n\r\n")


# RFC 3261 7.3.1: what is no list stands once.
@pytest.mark.parametrize(
    ("name", "attribute", "value"),
    [
        ("Call-ID", "call_id", "a"),
        ("From", "from_", "<sip:a@b>"),
        ("To", "to", "<sip:a@b>"),
        ("CSeq", "cseq", "1 REGISTER"),
        ("Max-Forwards", "max_forwards", "1"),
        ("Expires", "expires", "1"),
        ("Min-Expires", "min_expires", "1"),
        ("Retry-After", "retry_after", "1"),
        ("Content-Type", "content_type", "a/b"),
        ("Content-Length", "content_length", "0"),
        ("Event", "event", "reg"),
        ("Subscription-State", "subscription_state", "active"),
        ("Authentication-Info", "authentication_info", "qop=auth"),
        ("P-Charging-Vector", "p_charging_vector", "icid-value=1"),
        ("P-Charging-Function-Addresses", "p_charging_function_addresses", "ccf=1"),
        ("P-Called-Party-ID", "p_called_party_id", "<sip:a@b>"),
        ("Date", "date", "Sat, 13 Nov 2010 23:29:00 GMT"),
        ("RSeq", "rseq", "1"),
        ("RAck", "rack", "1 2 INVITE"),
    ],
)
def test_single_values(name: str, attribute: str, value: str) -> None:
    once = request((name, value))
    assert getattr(once, attribute) is not None
    assert getattr(once, attribute) == getattr(once, attribute)
    with pytest.raises(PeerError) as caught:
        getattr(request((name, value), (name.upper(), value)), attribute)
    assert caught.value.clause == "RFC 3261 7.3.1"
    with pytest.raises(PeerError):
        getattr(request((name, "\x01")), attribute)
    if attribute in ("call_id", "from_", "to", "cseq"):
        with pytest.raises(PeerError, match="missing") as caught:
            getattr(request(), attribute)
        assert caught.value.clause == "RFC 3261 8.1.1"
    else:
        assert not getattr(request(), attribute)


@pytest.mark.parametrize(
    ("name", "attribute", "one", "other", "bad"),
    [
        ("Via", "via", "SIP/2.0/UDP a", "SIP/2.0/UDP b", "x"),
        ("Contact", "contact", "<sip:a@b>", '"x,y" <sip:c@d>', "<"),
        ("Route", "route", "<sip:a;lr>", "<sip:b;lr>", "a"),
        ("Record-Route", "record_route", "<sip:a;lr>", "<sip:b;lr>", "a"),
        ("Path", "path", "<sip:a;lr>", "<sip:b;lr>", "a"),
        ("Service-Route", "service_route", "<sip:a;lr>", "<sip:b;lr>", "a"),
        ("P-Associated-URI", "p_associated_uri", "<sip:a@b>", "<tel:+1>", "a"),
        ("P-Asserted-Identity", "p_asserted_identity", "<sip:a@b>", "<tel:+1>", "a"),
        ("P-Preferred-Identity", "p_preferred_identity", "<sip:a@b>", "<tel:+1>", "a"),
        ("Require", "require", "sec-agree", "path", "a b"),
        ("Proxy-Require", "proxy_require", "sec-agree", "path", "a b"),
        ("Supported", "supported", "sec-agree", "path", "a b"),
        ("Unsupported", "unsupported", "sec-agree", "path", "a b"),
        ("Allow", "allow", "INVITE", "ACK", "a b"),
        ("Allow-Events", "allow_events", "reg", "presence", "a b"),
        ("Accept", "accept", "application/sdp", "*/*;q=0.1", 'a,"'),
        ("Security-Client", "security_client", "ipsec-3gpp;alg=a", "tls", "a;"),
        ("Security-Server", "security_server", "ipsec-3gpp;alg=a", "tls", "a;"),
        ("Security-Verify", "security_verify", "ipsec-3gpp;alg=a", "tls", "a;"),
        ("P-Access-Network-Info", "p_access_network_info", "IEEE-802.11", "3GPP-NR-FDD;x=1", "a b"),
    ],
)
def test_lists(name: str, attribute: str, one: str, other: str, bad: str) -> None:
    assert getattr(request(), attribute) == []
    together = getattr(request((name, f"{one} , {other}")), attribute)
    apart = getattr(request((name, one), (name.lower(), other)), attribute)
    assert [str(value) for value in together] == [str(value) for value in apart] == [one, other]
    for text in (bad, f"{one},,{other}", f"{one},"):
        if attribute == "accept" and text != bad:
            continue
        with pytest.raises(PeerError):
            getattr(request((name, text)), attribute)


def test_visited_networks() -> None:
    message = request(
        ("P-Visited-Network-ID", '"Visited \\"1\\", x";y=1, other.net ; z'), ("P-Visited-Network-ID", "c")
    )
    assert message.p_visited_network_id == ['Visited "1", x', "other.net", "c"]
    with pytest.raises(PeerError):
        _ = request(("P-Visited-Network-ID", "a b")).p_visited_network_id


def test_credentials_are_one_for_each_row() -> None:
    message = request(
        ("Authorization", 'Digest username="a",realm="b"'),
        ("Authorization", "NoOneKnowsThisScheme opaque-data=here"),
        ("Authorization", "DIGEST username=c"),
        ("Proxy-Authorization", "Digest username=d"),
    )
    assert [credentials.username for credentials in message.authorization] == ["a", "c"]
    assert [credentials.username for credentials in message.proxy_authorization] == ["d"]
    response = Response(
        401, headers=[("WWW-Authenticate", 'Digest nonce="a", realm=b'), ("Proxy-Authenticate", "Digest x=y")]
    )
    assert response.www_authenticate[0].nonce == "a"
    assert response.proxy_authenticate[0].get("x") == "y"
    assert response.authorization == []
    with pytest.raises(PeerError):
        _ = request(("Authorization", "Digest")).authorization


def test_star() -> None:
    assert request(("Contact", "*")).contact[0].is_star
    with pytest.raises(PeerError):
        _ = request(("Contact", "*"), ("Contact", "<sip:a@b>")).contact


@pytest.mark.parametrize(("text", "value"), [("0068", 68), ("255", 255), ("0", 0)])
def test_max_forwards(text: str, value: int) -> None:
    assert request(("Max-Forwards", text)).max_forwards == value


def test_max_forwards_has_an_end() -> None:
    with pytest.raises(PeerError):
        _ = request(("Max-Forwards", "256")).max_forwards


@pytest.mark.parametrize(("text", "value"), [("5", 5), ("18000;duration=3600", 18000), ("120 (in a meeting)", 120)])
def test_retry_after(text: str, value: int) -> None:
    assert request(("Retry-After", text)).retry_after == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("application/sdp", "application/sdp"),
        ("Application / Reginfo+XML ; charset=UTF-8", "application/reginfo+xml"),
    ],
)
def test_content_type(text: str, value: str) -> None:
    assert request(("c", text)).content_type == value


def test_events() -> None:
    message = request(("o", "reg"), ("Subscription-State", "active;expires=5"), ("RAck", "1 2 INVITE"))
    assert message.event is not None
    assert message.event.package == "reg"
    assert message.subscription_state is not None
    assert message.subscription_state.expires == 5
    assert message.rack is not None
    assert message.rack.cseq.method == "INVITE"


def test_call_id_is_one_word() -> None:
    for text in ("a b", "a\tb", ""):
        with pytest.raises(PeerError):
            _ = request(("Call-ID", text)).call_id


def test_the_method_of_cseq_must_be_that_of_the_request() -> None:
    message = request(("CSeq", "1 INVITE"))
    with pytest.raises(PeerError) as caught:
        _ = message.cseq
    assert caught.value.clause == "RFC 3261 8.1.1.5"
    assert message.method == "REGISTER"


@pytest.mark.parametrize("uri", ["<sip:a@b>", "sip:a@b?Route=%3Csip:c%3E", "sip:2001:db8::10", "nonsense"])
def test_request_uris_that_make_no_sense(uri: str) -> None:
    message = Request("INVITE", uri)
    with pytest.raises(PeerError):
        _ = message.request_uri


class TestResponseTo:
    def test_copies_what_it_must(self) -> None:
        message = parse(REGISTER)
        assert isinstance(message, Request)
        response = response_to(message, 401, to_tag="t", headers=[("Retry-After", "1")])
        assert response.headers == [
            ("Via", "SIP/2.0/UDP 192.0.2.1:5062;branch=z9hG4bK1 , SIP/2.0/TCP a.example;branch=z9hG4bK0"),
            ("From", "<sip:u@ims.example>;tag=1"),
            ("To", "<sip:u@ims.example>;tag=t"),
            ("Call-ID", "abc@192.0.2.1"),
            ("CSeq", "7 REGISTER"),
            ("Retry-After", "1"),
        ]
        assert (response.status, response.reason, response.method) == (401, "Unauthorized", "REGISTER")
        assert [via.host for via in response.via] == ["192.0.2.1", "a.example"]

    def test_a_tag_that_is_there_stays(self) -> None:
        message = request(("To", "sip:u@ims.example;tag=old"))
        assert response_to(message, 200, to_tag="new").to.tag == "old"

    def test_no_tag_asked_for(self) -> None:
        assert response_to(request(("To", "<sip:a@b>")), 100).to.tag is None

    def test_a_bare_address_gets_its_tag_in_the_header(self) -> None:
        assert response_to(request(("To", "sip:a@b")), 200, to_tag="t").to.tag == "t"

    def test_a_malformed_request_can_be_refused(self) -> None:
        message = request(("To", '"open <sip:a@b>'), ("CSeq", "x"), ("Via", "y"))
        response = response_to(message, 400, "Bad To", to_tag="t")
        assert response.headers == [("Via", "y"), ("To", '"open <sip:a@b>'), ("CSeq", "x")]
        assert response.reason == "Bad To"


def test_messages_are_made_as_one_or_the_other() -> None:
    with pytest.raises(TypeError):
        Message([], b"")  # type: ignore[abstract]


def test_a_via_read_and_marked_is_written_as_one() -> None:
    message = parse(REGISTER)
    top = message.via[0].with_params({"received": "192.0.2.99"})
    message.replace("Via", [str(top), *[str(via) for via in message.via[1:]]])
    assert isinstance(top, Via)
    assert message.rows("Via")[0] == "SIP/2.0/UDP 192.0.2.1:5062;branch=z9hG4bK1;received=192.0.2.99"
