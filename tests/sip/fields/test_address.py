"""From, To, Contact, Route and their like."""

from __future__ import annotations

import dataclasses

import pytest

from imslab.core.errors import LocalError, PeerError
from imslab.sip.fields.address import Contact, NameAddr
from imslab.sip.uri import Uri


@pytest.mark.parametrize(
    ("text", "display", "uri", "params"),
    [
        ("<sip:a@b>", "", "sip:a@b", {}),
        ("sip:a@b", "", "sip:a@b", {}),
        ("sip:a@b;tag=x", "", "sip:a@b", {"tag": "x"}),
        ("sip:a@b ;   tag    = x", "", "sip:a@b", {"tag": "x"}),
        ("<sip:a@b;lr>;tag=x", "", "sip:a@b;lr", {"tag": "x"}),
        ("caller<sip:a@b>", "caller", "sip:a@b", {}),
        ("T. Watson  <sip:a@b>", "T. Watson", "sip:a@b", {}),
        ('"J Rosenberg \\\\\\""       <sip:a@b>  ;  tag = x', 'J Rosenberg \\"', "sip:a@b", {"tag": "x"}),
        ('"" <sip:a@b>', "", "sip:a@b", {}),
        ('"<sip:evil@x>"<sip:a@b>', "<sip:evil@x>", "sip:a@b", {}),
        ("<tel:+123>", "", "tel:+123", {}),
        ("<sip:a,b@c?x=y>", "", "sip:a,b@c?x=y", {}),
    ],
)
def test_reading(text: str, display: str, uri: str, params: dict[str, str]) -> None:
    address = NameAddr.parse(text)
    assert (address.display, str(address.uri)) == (display, uri)
    assert address.params == params
    assert str(address) == text.strip()
    assert address.tag == params.get("tag")
    # What is written from the parts is read back as the same.
    assert NameAddr.parse(str(dataclasses.replace(address))) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        '"Mr. J. User <sip:a@b>',
        '"a" sip:a@b',
        '"a" b <sip:a@b>',
        "Bell, Alexander <sip:a@b>",
        "Bell; <sip:a@b>",
        "<sip:a@b",
        "< sip:a@b >",
        "<>",
        "<sip:a@b> x",
        "<sip:a@b>;",
        "<sip:a@b>;;;;",
        "<sip:a@b>;tag=a;tag=b",
        "<sip:a@b>, <sip:c@d>",
        "sip:a@b?Route=%3Csip:c%3E",
        "sip:a,b@c",
        "sip:a@b;tag",
        "a@b",
        "sip:a@b, sip:c@d",
    ],
)
def test_malformed(text: str) -> None:
    if text == "sip:a@b;tag":
        assert NameAddr.parse(text).tag is None
        return
    with pytest.raises(PeerError):
        NameAddr.parse(text)


def test_writing() -> None:
    address = NameAddr('A "B" \\', Uri("sip", "a", host="b"), {"tag": "1"})
    assert str(address) == '"A \\"B\\" \\\\" <sip:a@b>;tag=1'
    assert str(NameAddr("", Uri.parse("sip:a@b;lr"))) == "<sip:a@b;lr>"
    assert str(address.with_params({"tag": "2"}).without_params("x")) == '"A \\"B\\" \\\\" <sip:a@b>;tag=2'
    assert str(address.without_params("TAG")) == '"A \\"B\\" \\\\" <sip:a@b>'
    with pytest.raises(LocalError):
        str(NameAddr("a\r\nVia: x", Uri("sip", host="b")))


def test_contact() -> None:
    text = (
        '<sip:192.0.2.1:5060;ob>;expires=600000;q=0.5;reg-id=1;+sip.instance="<urn:gsma:imei:35666610-000000-0>"'
        ';+g.3gpp.icsi-ref="urn%3Aurn-7%3A3gpp-service.ims.icsi.mmtel"'
    )
    contact = Contact.parse(text)
    assert isinstance(contact, Contact)
    assert (contact.expires, contact.q, contact.reg_id) == (600000, 0.5, 1)
    assert contact.instance == "urn:gsma:imei:35666610-000000-0"
    assert not contact.is_star
    assert str(contact) == text
    assert str(contact.with_params({"expires": "0"})).startswith("<sip:192.0.2.1:5060;ob>;expires=0;q=0.5")
    assert isinstance(contact.without_params("q"), Contact)


def test_contact_without_parameters() -> None:
    contact = Contact.parse("<sip:a@b>")
    assert (contact.expires, contact.q, contact.reg_id, contact.instance) == (None, None, None, None)


def test_star() -> None:
    star = Contact.parse(" * ")
    assert star.is_star
    assert str(star) == "*"


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ("expires=-1", "expires"),
        ("expires=280297596632815", "expires"),
        ("expires=abc", "expires"),
        ("q=1.1", "q"),
        ("q=0.1234", "q"),
        ("q=-0", "q"),
        ("q=x", "q"),
        ("reg-id=x", "reg_id"),
        ("reg-id=4294967295", "reg_id"),
    ],
)
def test_malformed_contact_parameters(params: str, name: str) -> None:
    contact = Contact.parse(f"<sip:a@b>;{params}")
    with pytest.raises(PeerError):
        getattr(contact, name)


@pytest.mark.parametrize(("text", "q"), [("0", 0.0), ("1", 1.0), ("0.", 0.0), ("1.000", 1.0), ("0.333", 0.333)])
def test_q(text: str, q: float) -> None:
    assert Contact.parse(f"<sip:a@b>;q={text}").q == q
