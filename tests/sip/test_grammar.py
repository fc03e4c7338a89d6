"""Tokens, quoted strings, lists, parameters, numbers."""

from __future__ import annotations

import pytest

from imslab.core.errors import LocalError, PeerError
from imslab.sip import grammar
from imslab.sip.grammar import NO_PARAMS, Params


@pytest.mark.parametrize("octets", [b"plain", "Ж".encode(), b"\xff\xfe\x00", b"caf\xe9", bytes(range(256))])
def test_any_octets_survive_as_text(octets: bytes) -> None:
    assert grammar.encode(grammar.decode(octets)) == octets


def test_a_text_that_stands_for_no_octets_is_the_callers_fault() -> None:
    with pytest.raises(LocalError):
        grammar.encode("\ud800")


def test_errors_keep_the_peers_octets() -> None:
    error = grammar.peer_error("why", grammar.decode(b"caf\xe9"), "RFC 3261 25.1")
    assert (error.octets, error.clause, error.reason) == (b"caf\xe9", "RFC 3261 25.1", "why")
    assert grammar.peer_error("why", "\ud800").octets == b"\\ud800"


@pytest.mark.parametrize("text", ["a", "INVITE", "token_~1'+`*%!-.", "0"])
def test_tokens(text: str) -> None:
    assert grammar.is_token(text)
    assert grammar.token(text, "x") == text


@pytest.mark.parametrize("text", ["", "a b", "a,b", "a;b", "é", "a\n", '"a"', "a=b", "a/b", "a@b", "[a]", "\x00"])
def test_not_tokens(text: str) -> None:
    assert not grammar.is_token(text)
    with pytest.raises(PeerError):
        grammar.token(text, "x")


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("0068", 68), ("4294967295", 4294967295), ("0" * 5000 + "7", 7), ("0" * 5000, 0)],
)
def test_numbers(text: str, value: int) -> None:
    assert grammar.number(text, "x") == value


@pytest.mark.parametrize(
    "text", ["", " 1", "-1", "+1", "1_0", "4294967296", "9" * 5000, "²", "١", "1.0", "0x10", "9" * 20 + "0"]
)
def test_not_numbers(text: str) -> None:
    with pytest.raises(PeerError):
        grammar.number(text, "x")


@pytest.mark.parametrize("text", ["", "plain", 'a "b"', "back\\slash", '\\"', "\x00\x7f"])
def test_quoted_strings_say_what_was_quoted(text: str) -> None:
    assert grammar.unquote(grammar.quote(text)) == text


@pytest.mark.parametrize("text", ["plain", '"', 'half"', '"half', ""])
def test_what_is_not_quoted_stays(text: str) -> None:
    assert grammar.unquote(text) == text


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        (" \t", []),
        ("a", ["a"]),
        (" a , b ", ["a", "b"]),
        ("a,,b,", ["a", "", "b", ""]),
        ('"a,b",c', ['"a,b"', "c"]),
        ('"a\\",b",c', ['"a\\",b"', "c"]),
        ("<sip:a,b@c>,d", ["<sip:a,b@c>", "d"]),
        ('"<" <sip:a@b>;x=",", <sip:c@d>', ['"<" <sip:a@b>;x=","', "<sip:c@d>"]),
        ("a>b,c", ["a>b", "c"]),
    ],
)
def test_lists(text: str, pieces: list[str]) -> None:
    assert grammar.split_list(text) == pieces


@pytest.mark.parametrize("text", ['"a,b', "a,<b", 'a,"', 'a,"\\"', '"a" "b,'])
def test_lists_with_something_left_open(text: str) -> None:
    with pytest.raises(PeerError):
        grammar.split_list(text)


class TestParams:
    def test_reading_keeps_everything(self) -> None:
        text = ';Branch=z9hG4bK ; rport;x="a;\\"b" ;ttl=1'
        params = Params.parse(text, "x")
        assert params.items_written == (("Branch", "z9hG4bK"), ("rport", None), ("x", '"a;\\"b"'), ("ttl", "1"))
        assert list(params) == ["branch", "rport", "x", "ttl"]
        assert params["BRANCH"] == "z9hG4bK"
        assert params["rport"] is None
        assert "RPORT" in params
        assert "port" not in params
        assert 1 not in params
        assert len(params) == 4
        assert params.text("x") == 'a;"b'
        assert params.text("rport") == ""
        assert params.text("nothing") is None
        assert params.get("nothing") is None
        assert str(params) == ';Branch=z9hG4bK;rport;x="a;\\"b";ttl=1'

    def test_none(self) -> None:
        assert Params.parse("", "x") is NO_PARAMS
        assert str(NO_PARAMS) == ""

    @pytest.mark.parametrize(
        "text",
        [";", ";;a", ";a;", ";=b", ";a=", ";a b", ";a=b c", ";a=b,c", 'a="b', ';a="b', ";a=<b>", "a", ";a=b;;,;,,"],
    )
    def test_malformed(self, text: str) -> None:
        with pytest.raises(PeerError):
            Params.parse(text, "x")

    @pytest.mark.parametrize("text", [";a;a", ";a=1;A=2", ";tag=a;b;TAG=a"])
    def test_a_name_given_twice_is_an_error(self, text: str) -> None:
        with pytest.raises(PeerError, match="more than once") as caught:
            Params.parse(text, "x")
        assert caught.value.clause == "RFC 3261 7.3.1"

    @pytest.mark.parametrize(
        "params",
        [
            {"a b": "c"},
            {"a": "b;c"},
            {"a": "b\r\nVia: x"},
            {"a": ""},
            {"a": '"open'},
            {"": "b"},
            {"a": "b,c"},
            {"a": "1", "A": "2"},
        ],
    )
    def test_what_cannot_be_written(self, params: dict[str, str]) -> None:
        with pytest.raises(LocalError):
            Params(params)

    def test_changes_keep_places_and_spelling(self) -> None:
        params = Params.parse(";A=1;b;c=3", "x")
        assert str(params.with_params({"B": "2", "d": None})) == ";A=1;B=2;c=3;d"
        assert params.with_params({"B": "2"})["b"] == "2"
        assert str(params.without("a", "C", "z")) == ";b"
        assert "a" not in params.without("A")
        assert str(params) == ";A=1;b;c=3"
        assert Params(params) == params

    def test_equality_ignores_case_of_names_and_order(self) -> None:
        assert Params.parse(";A=1;b", "x") == Params.parse(";B;a=1", "x")
        assert hash(Params.parse(";A=1;b", "x")) == hash(Params.parse(";B;a=1", "x"))
        assert Params.parse(";a=1", "x") != Params.parse(";a=2", "x")
        assert Params.parse(";a=1", "x") == {"A": "1"}
        assert Params.parse(";a=1", "x") != 5
        assert repr(Params({"a": "1"})) == "Params({'a': '1'})"


def test_a_word_with_parameters() -> None:
    assert grammar.parse_token_params(" reg ; id=1 ", "x") == ("reg", {"id": "1"})
    assert grammar.parse_token_params("reg", "x") == ("reg", {})
    for text in ("", ";a", "a b", "a b;c", "a;"):
        with pytest.raises(PeerError):
            grammar.parse_token_params(text, "x")
    assert grammar.write_token_params("reg", Params({"id": "1"})) == "reg;id=1"
    with pytest.raises(LocalError):
        grammar.write_token_params("a b", NO_PARAMS)
