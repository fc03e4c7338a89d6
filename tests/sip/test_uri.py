"""URIs: reading, writing, and the equality of RFC 3261 19.1.4."""

from __future__ import annotations

import dataclasses

import pytest

from imslab.core.errors import LocalError, PeerError
from imslab.sip import uri as uri_module
from imslab.sip.uri import Uri, is_host, parse_host, unescape


def test_all_parts() -> None:
    text = "SIPS:%61lice:se%20cret@[2001:DB8::1]:5061;transport=tcp;LR?Subject=hi&Priority=urgent"
    uri = Uri.parse(text)
    assert (uri.scheme, uri.user, uri.password) == ("sips", "%61lice", "se%20cret")
    assert (uri.host, uri.port, uri.hostport) == ("2001:DB8::1", 5061, "[2001:DB8::1]:5061")
    assert uri.params == {"transport": "tcp", "lr": None}
    assert uri.headers == (("Subject", "hi"), ("Priority", "urgent"))
    assert str(uri) == text
    # Written from its parts it is the same but for the case of the scheme.
    assert str(dataclasses.replace(uri)) == text.replace("SIPS", "sips")


@pytest.mark.parametrize(
    ("text", "user", "host", "port"),
    [
        ("sip:example.com", "", "example.com", None),
        ("sip:user@example.com", "user", "example.com", None),
        ("sip:192.0.2.1:5060", "", "192.0.2.1", 5060),
        ("sip:[::1]", "", "::1", None),
        ("sip:user@[::ffff:192.0.2.1]:65535;lr", "user", "::ffff:192.0.2.1", 65535),
        (
            "sip:+15551234567;phone-context=a.b@example.com;user=phone",
            "+15551234567;phone-context=a.b",
            "example.com",
            None,
        ),
        ("sip:*21#@example.com", "*21#", "example.com", None),
        ("sip:a?b@example.com", "a?b", "example.com", None),
        ("sip:under_score.example", "", "under_score.example", None),
        ("sip:ж@example.com", "ж", "example.com", None),
    ],
)
def test_where_it_points(text: str, user: str, host: str, port: int | None) -> None:
    uri = Uri.parse(text)
    assert (uri.user, uri.host, uri.port, str(uri)) == (user, host, port, text)
    assert str(dataclasses.replace(uri)) == text


def test_tel() -> None:
    uri = Uri.parse("tel:+1-201-555-0123;phone-context=example.com")
    assert (uri.scheme, uri.user, uri.host) == ("tel", "+1-201-555-0123", "")
    assert uri.params == {"phone-context": "example.com"}
    assert uri.aor == "tel:+12015550123;phone-context=example.com"
    assert str(dataclasses.replace(uri)) == "tel:+1-201-555-0123;phone-context=example.com"
    # RFC 3966 4: visual separators and case do not count, parameters do.
    assert Uri.parse("tel:+1(201)555.0123") == Uri.parse("tel:+12015550123")
    assert hash(Uri.parse("tel:+1(201)555.0123")) == hash(Uri.parse("tel:+12015550123"))
    assert Uri.parse("tel:12") != Uri.parse("tel:12;phone-context=a")
    assert Uri.parse("tel:12;phone-context=a") != Uri.parse("tel:12")
    assert Uri.parse("tel:12;phone-context=A") == Uri.parse("tel:12;phone-context=a")
    assert Uri.parse("tel:*100#").aor == "tel:*100#"


def test_other_schemes_are_opaque() -> None:
    uri = Uri.parse("urn:service:sos")
    assert (uri.scheme, uri.opaque, uri.user, uri.host) == ("urn", "service:sos", "", "")
    assert str(dataclasses.replace(uri)) == "urn:service:sos" == uri.aor
    assert uri == Uri.parse("URN:service:sos")
    assert uri != Uri.parse("urn:service:fire")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.com",
        ":x",
        "1a:x",
        "sip:",
        "sip:@example.com",
        "sip::pw@example.com",
        "sip:a@",
        "sip:a@b@c",
        "sip:a@b;x=c@d",
        "sip:a b@c",
        "sip:a%2@c",
        "sip:a:%zz@c",
        "sip:a@b c",
        "sip:a@b:",
        "sip:a@b:x",
        "sip:a@b:65536",
        "sip:a@b:" + "9" * 5000,
        "sip:a@b;",
        "sip:a@b;;lr",
        "sip:a@b;=x",
        "sip:a@b;lr;LR",
        "sip:a@b;%6cr;lr",
        "sip:a@b;x=%4",
        "sip:a@b;x=<",
        "sip:a@b/c",
        "sip:2001:db8::1",
        "sip:[2001:db8::1",
        "sip:[2001:db8::1]x",
        "sip:[12345::1]",
        "sip:[192.0.2.1]",
        "sip:[]",
        "sip:a@b\n",
        "sip:a@b\r\nVia: x",
        "sip:\x00@b",
        "<sip:a@b>",
        "tel:",
        "tel:;x",
        "tel:+1 2",
        "tel:+1@b",
        "tel:1;;",
        "urn:",
        "urn:a b",
        'urn:"',
        "sip:a@b?x=\x7f",
    ],
)
def test_malformed(text: str) -> None:
    with pytest.raises(PeerError):
        Uri.parse(text)


def test_a_third_colon_is_forgiven() -> None:
    assert Uri.parse("sip:user@[2001:db8:::192.0.2.1]").host == "2001:db8::192.0.2.1"


# RFC 3261 19.1.4 gives these.
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"),
        ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
        (
            "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
            "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
        ),
        (
            "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
            "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
        ),
        ("sip:a@[2001:DB8::0:1]", "sip:a@[2001:db8::1]"),
        ("sip:a%3Ab@c", "sip:a%3ab@c"),
        ("sip:a@b;%6Cr", "sip:a@b;lr"),
    ],
)
def test_equal(one: str, other: str) -> None:
    assert Uri.parse(one) == Uri.parse(other)
    assert Uri.parse(other) == Uri.parse(one)
    assert hash(Uri.parse(one)) == hash(Uri.parse(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
        ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
        ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
        ("sip:a@b", "sips:a@b"),
        ("sip:a@b", "sip:a:@b"),
        ("sip:a@b", "sip:a@b;maddr=c"),
        ("sip:a@b", "sip:a@b;user=phone"),
        ("sip:a%40b@c", "sip:ab@c"),
        ("sip:a@b", "urn:a@b"),
    ],
)
def test_not_equal(one: str, other: str) -> None:
    assert Uri.parse(one) != Uri.parse(other)
    assert Uri.parse(other) != Uri.parse(one)
    assert Uri.parse(one) != one


@pytest.mark.parametrize(
    ("text", "aor"),
    [
        ("sip:%61lice:pw@Atlanta.COM:5060;transport=tcp?a=b", "sip:alice@atlanta.com"),
        ("sips:[2001:DB8::1]:5061", "sips:[2001:db8::1]"),
        ("sip:a%2Fb@c", "sip:a%2Fb@c"),
    ],
)
def test_the_address_of_record(text: str, aor: str) -> None:
    assert Uri.parse(text).aor == aor


def test_escapes() -> None:
    # Reserved characters, octets beyond ASCII, the percent sign itself and controls keep their escape.
    assert unescape("%61%2f%25%00%d0%7e") == "a%2F%25%00%D0~"
    assert unescape("%zz") == "%zz"


def test_building() -> None:
    assert (
        str(Uri("sip", "alice", host="2001:db8::1", port=5060, params={"lr": None}))
        == "sip:alice@[2001:db8::1]:5060;lr"
    )
    assert str(Uri("sip", "a", "b", "c", headers=(("x", "y"), ("z", "")))) == "sip:a:b@c?x=y&z="
    assert str(Uri("sip", host="c")) == "sip:c"


@pytest.mark.parametrize(
    "parts",
    [
        {"scheme": "sip"},
        {"scheme": "sip", "user": "a b", "host": "c"},
        {"scheme": "sip", "user": "a@b", "host": "c"},
        {"scheme": "sip", "user": "a%2", "host": "c"},
        {"scheme": "sip", "user": "a", "host": "c\r\nd"},
        {"scheme": "sip", "user": "a", "host": "c;d"},
        {"scheme": "sip", "user": "a", "password": "b>", "host": "c"},
        {"scheme": "sip", "host": "c", "port": 65536},
        {"scheme": "sip", "host": "c", "params": {"a": "b c"}},
        {"scheme": "urn", "opaque": "a\nb"},
        {"scheme": "tel", "user": "1\r\n"},
    ],
)
def test_what_cannot_be_written(parts: dict[str, object]) -> None:
    with pytest.raises(LocalError):
        Uri(**parts)  # type: ignore[arg-type]


def test_changing_parameters_keeps_the_rest_as_the_peer_wrote_it() -> None:
    # a/b is no token: legal in a URI, and not ours to judge.
    uri = Uri.parse("sip:a@b;a/b=[1];LR;%6Daddr=x?h=1")
    assert str(uri.with_params({"lr": "on", "ob": None})) == "sip:a@b;a/b=[1];lr=on;%6Daddr=x;ob?h=1"
    assert str(uri.without_params("lr", "maddr")) == "sip:a@b;a/b=[1]?h=1"
    assert str(uri).endswith("x?h=1")


def test_hosts() -> None:
    assert parse_host("[2001:db8::1]") == "2001:db8::1"
    assert parse_host("a.example") == "a.example"
    for text in ("", "a:5060", "[x]", "a b", "2001:db8::1"):
        with pytest.raises(PeerError):
            parse_host(text)
    assert is_host("2001:db8::1")
    assert not is_host("a b")


def test_equality_copes_with_a_host_of_our_own_that_is_no_address() -> None:
    assert Uri("sip", host="A:b") == Uri("sip", host="a:B")


def test_memory_for_known_uris_is_bounded() -> None:
    before = uri_module._parse_known.cache_info().currsize
    Uri.parse("sip:" + "x" * 200 + "@example.com")
    assert uri_module._parse_known.cache_info().currsize == before
    assert uri_module._parse_known.cache_info().maxsize == 4096
