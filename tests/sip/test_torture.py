"""The torture messages of RFC 4475 and RFC 5118, against the results their sections expect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from imslab.core.errors import PeerError
from imslab.sip.message import Message, Request, Response
from imslab.sip.parser import StreamFramer, parse
from tests.require import require_shared

#: All typed values. Reading them is the test.
TYPED = sorted(
    name
    for name, value in vars(Message).items()
    if isinstance(value, property) and name not in ("body", "octets", "changed", "method")
)

#: Invalid ones: where it shows. None: already when the message is read.
WHERE: dict[str, set[str] | None] = {
    "rfc4475-badinv01.dat": {"via", "contact"},
    "rfc4475-clerr.dat": None,
    "rfc4475-ncl.dat": None,
    "rfc4475-scalar02.dat": {"cseq", "max_forwards", "expires"},
    "rfc4475-scalarlg.dat": {"cseq", "retry_after"},
    "rfc4475-quotbal.dat": {"to"},
    "rfc4475-ltgtruri.dat": {"request_uri"},
    "rfc4475-lwsruri.dat": None,
    "rfc4475-lwsstart.dat": None,
    "rfc4475-trws.dat": None,
    "rfc4475-escruri.dat": {"request_uri"},
    "rfc4475-baddate.dat": {"date"},
    "rfc4475-regbadct.dat": {"contact"},
    "rfc4475-badaspec.dat": {"to"},
    # The archive's file ends without an empty line, so that it is cut short before it is wrong; see `baddn` below.
    "rfc4475-baddn.dat": None,
    "rfc4475-badvers.dat": None,
    "rfc4475-mismatch01.dat": {"cseq"},
    "rfc4475-mismatch02.dat": {"cseq"},
    "rfc4475-bigcode.dat": None,
    "rfc5118-ipv6-bad.dat": {"request_uri"},
}

#: What the grammar allows and an application must refuse (RFC 4475 3.2–3.4), as far as reading it shows that.
APPLICATION: dict[str, set[str] | None] = {
    "rfc4475-insuf.dat": {"from_", "to", "call_id"},
    "rfc4475-multi01.dat": {"from_", "to", "call_id", "cseq", "max_forwards"},
    # Two Content-Lengths that contradict each other leave no body to read.
    "rfc4475-mcl01.dat": None,
}

#: Where we deviate from the manifest, with the reason.
DEVIATIONS: dict[str, str] = {
    "rfc5118-ipv6-in-sdp.dat": "the archive's Content-Length is 17 octets more than the body: RFC 3261 18.3 makes that "
    "an error for a datagram; the corrected file is accepted",
}


def manifest() -> list[dict[str, Any]]:
    return json.loads(require_shared("vectors/sip-torture/manifest.json").read_text())["vectors"]  # type: ignore[no-any-return]


def octets_of(name: str) -> bytes:
    return Path(require_shared("vectors/sip-torture/manifest.json")).with_name(name).read_bytes()


def faults(message: Message) -> set[str]:
    """The typed values that cannot be read."""
    found = set()
    for name in [*TYPED, "request_uri"] if isinstance(message, Request) else TYPED:
        try:
            getattr(message, name)
        except PeerError:
            found.add(name)
    return found


def test_every_message_of_the_manifest_comes_out_as_expected() -> None:
    seen = {"valid": 0, "invalid": 0, "semantic": 0}
    for vector in manifest():
        name, kind = vector["file"], vector["class"].partition("-")[0]
        octets = octets_of(name)
        expected: set[str] | None
        if name in DEVIATIONS:
            expected = None
        elif kind == "invalid":
            expected = WHERE[name]
        else:
            expected = APPLICATION.get(name, set())
        if vector["class"] == "unreferenced":
            expected = None
        if expected is None:
            with pytest.raises(PeerError):
                parse(octets)
        else:
            assert faults(parse(octets)) == expected, name
        seen[kind] = seen.get(kind, 0) + 1
    assert seen["valid"] >= 24
    assert seen["invalid"] == len(WHERE)
    assert seen["semantic"] == 16


def test_messages_are_given_back_octet_by_octet() -> None:
    for vector in manifest():
        octets = octets_of(vector["file"])
        try:
            message = parse(octets)
        except PeerError:
            continue
        length = vector["content_length"]
        surplus = 0 if length is None else max(0, vector["body_octets"] - length)
        assert message.encode() == octets[: len(octets) - surplus], vector["file"]


def test_a_change_leaves_everything_else_as_it_was() -> None:
    for vector in manifest():
        try:
            message = parse(octets_of(vector["file"]))
        except PeerError:
            continue
        before = faults(message), message.headers, message.body
        message.add("X-Seen", "yes")
        again = parse(message.encode())
        assert again.headers[-1] in (("X-Seen", "yes"), ("Content-Length", str(len(again.body))))
        kept = [(name, value) for name, value in again.headers if name != "X-Seen"]
        lengths = ("content-length", "l")
        assert [row for row in kept if row[0].lower() not in lengths] == [
            row for row in before[1] if row[0].lower() not in lengths
        ]
        assert again.body == before[2]
        assert faults(again) == before[0]


class TestSingleMessages:
    """Details that the sections ask for."""

    def test_wsinv(self) -> None:
        message = parse(octets_of("rfc4475-wsinv.dat"))
        assert isinstance(message, Request)
        assert message.to.tag == "1918181833n"
        assert message.from_.display == 'J Rosenberg \\"'
        assert message.from_.tag == "98asjd8"
        assert message.max_forwards == 68
        assert message.cseq == (9, "INVITE")
        assert [(via.transport, via.host, via.branch) for via in message.via] == [
            ("UDP", "192.0.2.2", "390skdjuw"),
            ("TCP", "spindle.example.com", "z9hG4bK9ikj8"),
            ("UDP", "192.168.255.111", "z9hG4bK30239"),
        ]
        assert message.get("Subject") == ""
        assert message.get("NewFangledHeader") == "newfangled value continued newfangled value"
        assert message.get("UnknownHeaderWithUnusualValue") == ";;,,;;,;"
        assert message.contact[0].display == 'Quoted string ""'
        assert message.contact[0].q == 0.33
        assert message.route[0].uri.params == {
            "lr": None,
            "unknownwith": "value",
            "unknown-no-value": None,
        }

    def test_intmeth(self) -> None:
        message = parse(octets_of("rfc4475-intmeth.dat"))
        assert isinstance(message, Request)
        assert message.method == message.cseq.method == "!interesting-Method0123456789_*+`.%indeed'~"
        assert message.request_uri.user == "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"
        assert message.request_uri.password == "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"
        assert message.request_uri.host == "example.com"
        assert message.to.display == "BEL:\x07 NUL:\x00 DEL:\x7f"
        assert message.from_.display == "token1~` token2'+_ token3*%!.-"
        assert message.get("extensionHeader-!.%*+_`'~") == "\ufeff大停電"

    def test_esc01(self) -> None:
        message = parse(octets_of("rfc4475-esc01.dat"))
        assert isinstance(message, Request)
        assert (message.request_uri.scheme, message.request_uri.host) == ("sip", "example.net")
        assert message.to.uri.aor == "sip:user@example.com"
        contact = message.contact[0].uri
        assert contact.aor == "sip:caller@host5.example.net"
        assert contact.params["lr"] is None
        assert contact.params["name"] == "v%61lue%25%34%31"

    def test_escnull(self) -> None:
        message = parse(octets_of("rfc4475-escnull.dat"))
        one, two = message.contact
        assert one.uri != two.uri

    def test_esc02(self) -> None:
        message = parse(octets_of("rfc4475-esc02.dat"))
        assert message.method == "RE%47IST%45R"
        # C%6Fntact is another header.
        assert [contact.uri.user for contact in message.contact] == ["alias1", "alias3"]
        assert message.to.display == "%Z%45"

    def test_longreq(self) -> None:
        message = parse(octets_of("rfc4475-longreq.dat"))
        assert len(message.via) == 34
        assert message.via[0].host == "sip33.example.com"

    def test_dblreq(self) -> None:
        message = parse(octets_of("rfc4475-dblreq.dat"))
        assert message.method == "REGISTER"
        assert message.body == b""

    def test_dblreq_as_a_stream(self) -> None:
        messages = [parse(piece) for piece in StreamFramer().feed(octets_of("rfc4475-dblreq.dat"))]
        assert [message.method for message in messages] == ["REGISTER", "INVITE"]

    def test_semiuri(self) -> None:
        message = parse(octets_of("rfc4475-semiuri.dat"))
        assert isinstance(message, Request)
        assert message.request_uri.user == "user;par=u%40example.net"
        assert message.request_uri.params == {}
        assert len(message.accept) == 6

    def test_transports(self) -> None:
        message = parse(octets_of("rfc4475-transports.dat"))
        assert [via.transport for via in message.via] == ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"]

    def test_responses(self) -> None:
        unreason = parse(octets_of("rfc4475-unreason.dat"))
        assert isinstance(unreason, Response)
        assert unreason.reason.startswith("= 2**3 * 5**2 но сто")
        noreason = parse(octets_of("rfc4475-noreason.dat"))
        assert isinstance(noreason, Response)
        assert (noreason.status, noreason.reason) == (100, "")

    def test_clerr_as_a_stream_waits(self) -> None:
        framer = StreamFramer()
        assert framer.feed(octets_of("rfc4475-clerr.dat")) == []
        assert framer.broken is None

    def test_ncl_as_a_stream(self) -> None:
        with pytest.raises(PeerError):
            StreamFramer().feed(octets_of("rfc4475-ncl.dat"))

    def test_baddn_when_it_ends(self) -> None:
        assert faults(parse(octets_of("rfc4475-baddn.terminated.dat"))) == {"from_", "to"}

    def test_contact_parameters_belong_to_the_header_or_to_the_uri(self) -> None:
        one = parse(octets_of("rfc4475-cparam01.dat")).contact[0]
        two = parse(octets_of("rfc4475-cparam02.dat")).contact[0]
        assert ("unknownparam" in one.params, "unknownparam" in one.uri.params) == (True, False)
        assert ("unknownparam" in two.params, "unknownparam" in two.uri.params) == (False, True)

    def test_regescrt(self) -> None:
        contact = parse(octets_of("rfc4475-regescrt.dat")).contact[0]
        assert contact.uri.headers == (("Route", "%3Csip:sip.example.com%3E"),)

    def test_unknown_schemes_are_read(self) -> None:
        for name, scheme in (("rfc4475-unkscm.dat", "nobodyknowsthisscheme"), ("rfc4475-novelsc.dat", "soap.beep")):
            message = parse(octets_of(name))
            assert isinstance(message, Request)
            assert message.request_uri.scheme == scheme
        assert parse(octets_of("rfc4475-unksm2.dat")).to.uri.scheme == "isbn"

    def test_an_unknown_authentication_scheme_is_no_credential(self) -> None:
        message = parse(octets_of("rfc4475-regaut01.dat"))
        assert message.authorization == []
        assert message.has("Authorization")

    def test_bext01(self) -> None:
        message = parse(octets_of("rfc4475-bext01.dat"))
        assert message.require == ["nothingSupportsThis", "nothingSupportsThisEither"]
        assert message.proxy_require == ["noProxiesSupportThis", "norDoAnyProxiesSupportThis"]

    def test_inv2543(self) -> None:
        message = parse(octets_of("rfc4475-inv2543.dat"))
        assert message.via[0].branch is None
        assert message.from_.tag is None
        assert len(message.body) == 105

    @pytest.mark.parametrize(
        ("name", "host", "port"),
        [
            ("rfc5118-port-ambiguous.dat", "2001:db8::10:5070", None),
            ("rfc5118-port-unambiguous.dat", "2001:db8::10", 5070),
            ("rfc5118-ipv6-good.dat", "2001:db8::10", None),
            ("rfc5118-ipv6-bug-abnf-3-colons.dat", "2001:db8::192.0.2.1", None),
            ("rfc5118-ipv6-correct-abnf-2-colons.dat", "2001:db8::192.0.2.1", None),
        ],
    )
    def test_ipv6_hosts(self, name: str, host: str, port: int | None) -> None:
        message = parse(octets_of(name))
        assert isinstance(message, Request)
        assert (message.request_uri.host, message.request_uri.port) == (host, port)

    @pytest.mark.parametrize("delimiter", ["with", "no"])
    def test_ipv6_received(self, delimiter: str) -> None:
        message = parse(octets_of(f"rfc5118-via-received-param-{delimiter}-delim.dat"))
        assert message.via[0].received == "2001:db8::9:255"

    @pytest.mark.parametrize("name", ["ipv6-in-sdp", "mult-ip-in-sdp", "ipv4-mapped-ipv6"])
    def test_corrected_lengths(self, name: str) -> None:
        octets = octets_of(f"rfc5118-{name}.fixed.dat")
        message = parse(octets)
        assert faults(message) == set()
        assert message.encode() == octets
