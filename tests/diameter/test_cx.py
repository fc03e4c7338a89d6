"""The Cx commands: against octets of others, scapy both ways, and tshark."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

from imslab.core.errors import LocalError
from imslab.diameter import cx
from imslab.diameter.avp import FLAG_MANDATORY, Avp, DiameterError
from imslab.diameter.codes import CxResult, ReasonCode, ResultCode, ServerAssignmentType
from imslab.diameter.dictionary import by_code, by_name, example, make
from imslab.diameter.grammar import VendorApplication
from imslab.diameter.message import DiameterMessage, parse
from tests.diameter import samples
from tests.diameter.shark import dissect
from tests.require import require_shared


@pytest.mark.parametrize(("request_", "answer"), samples.PAIRS, ids=lambda maker: maker.__name__)
def test_what_was_written_is_read(request_, answer) -> None:  # type: ignore[no-untyped-def]
    asked = request_().to_message(1, 2)
    assert type(request_()).from_message(parse(asked.encode())) == request_()
    reply = parse(answer().to_message(asked).encode())
    read = type(answer()).from_message(reply)
    expected = answer()
    expected.session_id, expected.application, expected.auth_session_state = read.session_id, read.application, 1
    assert read == expected
    assert read.session_id == request_().session_id
    assert cx.COMMANDS[asked.command, True] is request_().__class__
    assert cx.COMMANDS[asked.command, False] is answer().__class__


def unordered(avp: Avp) -> tuple[object, ...]:
    definition = by_code(avp.code, avp.vendor)
    if definition is not None and definition.type.name == "Grouped":
        return (avp.code, avp.vendor, avp.flags, b"", sorted(map(unordered, avp.children)))
    return (*avp, [])


def test_requests_of_others() -> None:
    """Octets that another HSS project calls UAR, MAR, SAR and RTR."""
    vectors = json.loads(require_shared("vectors/diameter_messages.json").read_text())["vectors"]
    seen = set()
    for vector in vectors:
        message = parse(bytes.fromhex(vector["hex"]))
        if message.application != cx.APPLICATION_CX or not message.request:
            continue
        seen.add(message.name)
        cls = cx.COMMANDS[message.command, True]
        read = cls.from_avps(message.avps, strict=False)
        # The order is ours, also inside groups; nothing is lost and nothing added.
        assert sorted(map(unordered, read.to_avps())) == sorted(map(unordered, message.avps)), vector["id"]
    assert seen == {"UAR", "MAR", "SAR", "RTR"}


def test_scapy_reads_the_same_avps() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from scapy.contrib.diameter import DiamG

    def flat(avps: list) -> list[tuple[int, int]]:
        return [(avp.avpCode, avp.avpFlags) for avp in avps]

    for message in samples.messages():
        octets = message.encode()
        theirs = DiamG(octets)
        assert theirs.drCode == message.command
        assert theirs.drAppId == cx.APPLICATION_CX
        assert (theirs.drHbHId, theirs.drEtEId) == (message.hop_by_hop, message.end_to_end)
        assert flat(theirs.avpList) == [(avp.code, avp.flags) for avp in message.avps]
        for theirs_avp, ours in zip(theirs.avpList, message.avps, strict=True):
            if ours.code == 612:
                assert flat(theirs_avp.val) == [(child.code, child.flags) for child in ours.children]
        theirs.drLen = None
        assert bytes(theirs) == octets


def test_we_read_what_scapy_writes() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from scapy.contrib.diameter import AVP, DiamAns

        item = [
            AVP([613, 10415], val=1),
            AVP([608, 10415], val="Digest-AKAv1-MD5"),
            AVP([609, 10415], val=samples.RAND + samples.AUTN),
            AVP([610, 10415], val=samples.XRES),
            AVP([625, 10415], val=samples.CK),
            AVP([626, 10415], val=samples.IK),
        ]
        octets = bytes(
            DiamAns(
                303,
                drAppId=16777216,
                drHbHId=5,
                drEtEId=6,
                avpList=[
                    AVP("Session-Id", val="s;1;2"),
                    AVP("Result-Code", val=2001),
                    AVP("User-Name", val=samples.IMPI),
                    AVP([601, 10415], val=samples.IMPU),
                    AVP([607, 10415], val=1),
                    AVP([612, 10415], val=item),
                ],
            )
        )
    message = parse(octets)
    assert message.encode() == octets
    read = cx.MultimediaAuthAnswer.from_message(message)
    assert read.is_success
    assert (read.session_id, read.user_name, read.public_identity) == ("s;1;2", samples.IMPI, samples.IMPU)
    assert read.items == samples.maa().items


def test_tshark_agrees(tmp_path: Path) -> None:
    fields = (
        "_ws.malformed",
        "_ws.expert",
        "diameter.cmd.code",
        "diameter.flags.request",
        "diameter.hopbyhopid",
        "diameter.User-Name",
        "diameter.Public-Identity",
        "diameter.Server-Name",
        "diameter.3GPP-SIP-Authenticate",
        "diameter.3GPP-SIP-Authorization",
        "diameter.Confidentiality-Key",
        "diameter.Integrity-Key",
        "diameter.3GPP-SIP-Authentication-Scheme",
        "diameter.Server-Assignment-Type",
        "diameter.User-Authorization-Type",
        "diameter.Experimental-Result-Code",
        "diameter.Result-Code",
        "diameter.Reason-Code",
        "diameter.Reason-Info",
        "diameter.Optional-Capability",
        "diameter.Primary-Charging-Collection-Function-Name",
        "diameter.avp.unknown",
    )
    messages = samples.messages()
    rows = dissect([message.encode() for message in messages], fields, tmp_path)
    by_name = dict(zip([message.name for message in messages], rows, strict=True))
    for message, row in zip(messages, rows, strict=True):
        assert row["_ws.malformed"] == []
        assert row["_ws.expert"] == [], (message.name, row)
        assert row["diameter.cmd.code"] == [str(message.command)]
        assert row["diameter.avp.unknown"] == []
        assert int(row["diameter.hopbyhopid"][0], 16) == message.hop_by_hop
    maa = by_name["MAA"]
    assert maa["diameter.User-Name"] == [samples.IMPI]
    assert maa["diameter.Public-Identity"] == [samples.IMPU]
    assert maa["diameter.3GPP-SIP-Authenticate"] == [(samples.RAND + samples.AUTN).hex()]
    assert maa["diameter.3GPP-SIP-Authorization"] == [samples.XRES.hex()]
    assert maa["diameter.Confidentiality-Key"] == [samples.CK.hex()]
    assert maa["diameter.Integrity-Key"] == [samples.IK.hex()]
    assert maa["diameter.3GPP-SIP-Authentication-Scheme"] == ["Digest-AKAv1-MD5"]
    assert maa["diameter.Result-Code"] == ["2001"]
    assert by_name["UAR"]["diameter.User-Authorization-Type"] == ["2"]
    assert by_name["UAA"]["diameter.Experimental-Result-Code"] == ["2001"]
    assert by_name["UAA"]["diameter.Result-Code"] == []
    assert by_name["UAA"]["diameter.Optional-Capability"] == ["3"]
    assert by_name["SAR"]["diameter.Server-Assignment-Type"] == ["1"]
    assert by_name["SAR"]["diameter.Server-Name"] == [samples.SCSCF]
    assert by_name["SAA"]["diameter.Primary-Charging-Collection-Function-Name"] == ["aaa://ccf1.example:3868"]
    assert by_name["RTR"]["diameter.Reason-Code"] == ["0"]
    assert by_name["RTR"]["diameter.Reason-Info"] == ["contract ended"]
    assert by_name["RTR"]["diameter.Public-Identity"] == [samples.IMPU, "tel:+15550001"]


@pytest.mark.parametrize(("request_", "answer"), samples.PAIRS, ids=lambda maker: maker.__name__)
def test_each_missing_avp_is_named(request_, answer) -> None:  # type: ignore[no-untyped-def]
    """RFC 6733 7.1.5: 5005 with an example of what is missing."""
    message = request_().to_message()
    required = {"Session-Id", "Vendor-Specific-Application-Id", "Auth-Session-State", "Origin-Host", "Origin-Realm"}
    required |= {"Destination-Realm"}
    required |= {
        300: {"User-Name", "Public-Identity", "Visited-Network-Identifier"},
        301: {"Server-Name", "Server-Assignment-Type", "User-Data-Already-Available"},
        302: {"Public-Identity"},
        303: {"User-Name", "Public-Identity", "SIP-Auth-Data-Item", "SIP-Number-Auth-Items", "Server-Name"},
        304: {"Destination-Host", "User-Name", "Deregistration-Reason"},
        305: {"Destination-Host", "User-Name"},
    }[message.command]
    for name in required:
        definition = by_name(name)
        rest = [avp for avp in message.avps if (avp.code, avp.vendor) != (definition.code, definition.vendor)]
        with pytest.raises(DiameterError) as caught:
            type(request_()).from_message(DiameterMessage(message.command, message.application, avps=rest))
        assert (caught.value.result_code, caught.value.failed) == (5005, (example(definition),))
        assert caught.value.header is not None
    for avp in message.avps:
        if not any((avp.code, avp.vendor) == (by_name(name).code, by_name(name).vendor) for name in required):
            rest = [other for other in message.avps if other != avp]
            type(request_()).from_message(DiameterMessage(message.command, message.application, avps=rest))


def test_what_else_a_request_can_get_wrong() -> None:
    def failure(avp: Avp, at: int = -1) -> DiameterError:
        message = samples.sar().to_message()
        message.avps.insert(at, avp)
        with pytest.raises(DiameterError) as caught:
            cx.ServerAssignmentRequest.from_message(message)
        return caught.value

    twice = failure(make("Server-Name", "sip:other"))
    assert (twice.result_code, twice.failed[0].code) == (5009, 602)
    unknown = Avp(9999, 10415, 0xC0, b"what")
    assert (failure(unknown).result_code, failure(unknown).failed) == (5001, (unknown,))
    nested = Avp.grouped(628, [unknown], 10415)
    assert (failure(nested).result_code, failure(nested).failed) == (5001, (unknown,))
    value = failure(make("Server-Assignment-Type", 99), 0)
    assert (value.result_code, value.failed) == (5004, (make("Server-Assignment-Type", 99),))
    assert failure(Avp(603, 10415, 0xC0, b"\0\0\0")).result_code == 5014
    group = failure(make("Supported-Features", [make("Vendor-Id", 1)]))
    assert (group.result_code, group.failed[0].code) == (5005, 629)
    with pytest.raises(LocalError):
        cx.MultimediaAuthRequest.from_message(samples.sar().to_message())
    with pytest.raises(LocalError):
        cx.MultimediaAuthRequest.from_message(samples.maa().to_message(samples.mar().to_message()))


def test_what_is_unknown_without_the_m_bit_survives() -> None:
    """A well-known S-CSCF puts an AVP 494 of vendor 50 into its SAR."""
    message = samples.sar().to_message()
    foreign = Avp(494, 50, 0x80, b"a call id")
    message.avps.append(foreign)
    read = cx.ServerAssignmentRequest.from_message(message)
    assert read.extra == [foreign]
    assert read.to_message() == message
    item = make("SIP-Auth-Data-Item", [make("SIP-Item-Number", 2), Avp(500, 13019, 0xC0, b"line"), foreign])
    inner = cx.AuthDataItem.from_avps(item.children)
    assert inner.extra == [Avp(500, 13019, 0xC0, b"line"), foreign]
    assert inner.to_avps() == item.children


def test_answers_are_read_as_they_come() -> None:
    message = DiameterMessage(303, cx.APPLICATION_CX, request=False)
    message.add("Result-Code", 2001)
    message.add("Result-Code", 5012)
    message.avps.append(Avp(9999, 10415, 0xC0, b"what"))
    message.add("Supported-Features", [make("Vendor-Id", 10415)])
    read = cx.MultimediaAuthAnswer.from_message(message)
    assert read.result_code == 2001
    assert read.extra == [make("Result-Code", 5012), Avp(9999, 10415, 0xC0, b"what")]
    assert (read.session_id, read.items) == (None, [])
    assert read.supported_features[0].features is None
    message.avps = [make("Experimental-Result", [make("Vendor-Id", 10415)])]
    with pytest.raises(DiameterError) as caught:
        cx.MultimediaAuthAnswer.from_message(message)
    assert caught.value.result_code == 5005


def test_success() -> None:
    assert cx.UserAuthorizationAnswer(experimental=2002).is_success
    assert cx.UserAuthorizationAnswer(result_code=2001).is_success
    assert not cx.UserAuthorizationAnswer(experimental=5001).is_success
    assert not cx.UserAuthorizationAnswer().is_success


def test_an_answer_takes_the_requests_identity() -> None:
    request = samples.uar().to_message(3, 4)
    request.avps.append(make("Proxy-Info", [make("Proxy-Host", "p"), make("Proxy-State", b"1")]))
    reply = cx.UserAuthorizationAnswer(result_code=3004, origin_host="h", session_id="other").to_message(request)
    assert reply.error
    assert reply.session_id == "scscf;1;2"
    assert (reply.hop_by_hop, reply.end_to_end, reply.proxiable) == (3, 4, True)
    assert reply.avps[-1].code == 284
    assert reply.get("Auth-Session-State") == 1
    group = VendorApplication.from_avps(reply.get("Vendor-Specific-Application-Id"))
    assert (group.vendor_ids, group.auth_application_id) == ([10415], 16777216)
    given = cx.UserAuthorizationAnswer(
        result_code=2001, application=VendorApplication(vendor_ids=[1]), auth_session_state=0
    ).to_message(request)
    assert given.get("Vendor-Specific-Application-Id") == [make("Vendor-Id", 1)]
    assert given.get("Auth-Session-State") == 0
    sessionless = cx.UserAuthorizationAnswer(experimental=5001).to_message(DiameterMessage(300, cx.APPLICATION_CX))
    assert sessionless.session_id is None
    assert sessionless.experimental_result == CxResult.USER_UNKNOWN
    assert not sessionless.error


def test_the_vendor_flag_and_the_m_bit_of_every_cx_avp() -> None:
    """29.229 6.3: V on all of them; M as its table has it."""
    for message in samples.messages():
        for avp in message.avps:
            if avp.vendor:
                assert avp.flags & 0x80
                mandatory = avp.code < 628 or avp.code == 633
                assert bool(avp.flags & FLAG_MANDATORY) is mandatory


def test_numbers_with_names() -> None:
    request = samples.sar()
    assert isinstance(
        cx.ServerAssignmentRequest.from_message(request.to_message()).assignment_type, ServerAssignmentType
    )
    read = cx.RegistrationTerminationRequest.from_message(samples.rtr().to_message())
    assert read.reason.code is ReasonCode.PERMANENT_TERMINATION
    # The same number means two things.
    assert ResultCode.AUTHORIZATION_REJECTED == CxResult.IDENTITY_NOT_REGISTERED == 5003


def test_text_that_is_no_utf8_survives() -> None:
    message = samples.uar().to_message()
    place = next(index for index, avp in enumerate(message.avps) if avp.code == 600)
    message.avps[place] = message.avps[place]._replace(data=b"\xff\xfe.example")
    assert cx.UserAuthorizationRequest.from_message(message).to_message() == message


def test_keys_do_not_show() -> None:
    shown = repr(samples.maa())
    for key in (samples.XRES, samples.CK, samples.IK):
        assert repr(key)[2:10] not in shown
    digest = cx.AuthDataItem(digest=cx.DigestAuthenticate(realm="r", ha1="5ec4e7"))
    assert "5ec4e7" not in repr(digest)
