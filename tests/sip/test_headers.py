"""Header rows."""

from __future__ import annotations

import pytest

from imslab.core.errors import LocalError, PeerError
from imslab.sip.headers import COMPACT, HeaderRows, key_of, name_of, split_rows


def rows_of(*lines: str) -> HeaderRows:
    keys, joined = split_rows(list(lines))
    return HeaderRows(keys, joined, False)


@pytest.mark.parametrize("short", sorted(COMPACT))
def test_compact_forms(short: str) -> None:
    assert key_of(short) == key_of(short.upper()) == COMPACT[short]
    rows = rows_of(f"{short}: x")
    assert rows.get(COMPACT[short].title()) == "x"
    assert rows.headers == [(short, "x")]


@pytest.mark.parametrize("name", ["Call-ID", "call-id", "CALL-ID", "cAlL-iD", "Call-Id", "i", "I"])
def test_any_case(name: str) -> None:
    assert rows_of(f"{name}:x").get("Call-ID") == "x"
    assert rows_of("Call-ID: x").get(name) == "x"


def test_names_for_humans() -> None:
    assert name_of("www-authenticate") == "WWW-Authenticate"
    assert name_of("x-unknown") == "x-unknown"


def test_folding_and_white_space() -> None:
    rows = rows_of("TO :", " sip:a@b ;   tag    = 1", "Subject:  a", "\t b ", "   c", "X\t : \t", "Y:")
    assert rows.headers == [("TO", "sip:a@b ;   tag    = 1"), ("Subject", "a b c"), ("X", ""), ("Y", "")]
    assert rows.get("to") == "sip:a@b ;   tag    = 1"


@pytest.mark.parametrize(
    "line", ["", "Via", "no colon", ": x", " leading: x", "a b: x", "Ünicode: x", "a\x00: x", "From", "To x:y z"]
)
def test_malformed_rows(line: str) -> None:
    with pytest.raises(PeerError):
        split_rows([line])
    if line[:1] != " ":
        with pytest.raises(PeerError):
            split_rows(["Via: x", line])


def test_reading() -> None:
    rows = rows_of("Via: a, b", "v: c", "From: x", 'Contact: "a,b" <sip:c,d@e>, *', "Supported:")
    assert rows.get("Via") == "a, b"
    assert rows.rows("Via") == ["a, b", "c"]
    assert rows.values("via") == ["a", "b", "c"]
    assert rows.values("Contact") == ['"a,b" <sip:c,d@e>', "*"]
    assert rows.values("Supported") == []
    assert rows.values("Nothing") == rows.rows("Nothing") == []
    assert rows.get("Nothing") is None
    assert rows.has("t") is False
    assert rows.has("f")


def test_changing() -> None:
    rows = rows_of("Via: a", "From: x", "v: b", "To: y")
    rows.prepend("Via", "new")
    assert rows.headers == [("Via", "new"), ("Via", "a"), ("From", "x"), ("v", "b"), ("To", "y")]
    rows.prepend("Route", "first of all")
    assert rows.headers[0] == ("Route", "first of all")
    rows.set("via", "only")
    assert rows.headers == [("Route", "first of all"), ("via", "only"), ("From", "x"), ("To", "y")]
    rows.set("f", "z")
    assert rows.headers[2] == ("f", "z")
    rows.set("Expires", "0")
    rows.add("X", "  1 ")
    assert rows.headers[-2:] == [("Expires", "0"), ("X", "1")]
    rows.replace("From", ["p", "q"])
    assert rows.rows("From") == ["p", "q"]
    assert [name for name, _ in rows.headers] == ["Route", "via", "From", "From", "To", "Expires", "X"]
    assert rows.remove("from")
    assert not rows.remove("From")
    rows.replace("New", [])
    rows.replace("To", [])
    assert [name for name, _ in rows.headers] == ["Route", "via", "Expires", "X"]
    rows.extend([("A", "1"), ("A", "2")])
    assert rows.values("A") == ["1", "2"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X", "a\r\nVia: evil"),
        ("X", "a\nVia: evil"),
        ("X", "a\rb"),
        ("X", "\r\n folded"),
        ("X\r\nY", "a"),
        ("X Y", "a"),
        ("X:", "a"),
        ("", "a"),
        ("X", "\ud800"),
    ],
)
def test_nothing_can_be_smuggled_in(name: str, value: str) -> None:
    rows = rows_of("Via: a")
    for change in (rows.add, rows.set, rows.prepend, lambda n, v: rows.replace(n, [v])):
        with pytest.raises(LocalError):
            change(name, value)
    with pytest.raises(LocalError):
        rows.extend([(name, value)])
    assert rows.headers == [("Via", "a")]


def test_one_text_is_no_list_of_values() -> None:
    with pytest.raises(LocalError):
        rows_of().replace("Via", "a")
