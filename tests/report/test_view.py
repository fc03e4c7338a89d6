"""What is shown of a record is all of it but the keys, and nothing that a terminal would obey."""

from __future__ import annotations

import pytest

from imslab.core.errors import PeerError
from imslab.report.view import MASK, escape, mask, record_text
from imslab.sip.message import Response
from imslab.sip.parser import StreamFramer, parse
from imslab.trace.model import MalformedRecord
from tests.report.build import CK, IK, UE, XRES, records, trace


def test_no_key_is_shown_unless_asked_for() -> None:
    shown = "\n".join(record_text(record) for record in records())
    asked = "\n".join(record_text(record, show_keys=True) for record in records())
    for key in (CK, IK, XRES.hex()):
        assert key not in shown
        assert key in asked
    assert shown.count(MASK) == 6  # ck and IK of the 401, XRES, CK and IK of the MAA, ck of what is malformed


@pytest.mark.parametrize(
    "text",
    [
        'Digest ck="{}"',
        "Digest CK = {}",
        'Digest iK="{}',
        "Digest qop=auth,ik={},nonce=1",
        'Digest ik ="{}", ck="00"',
    ],
)
def test_keys_are_masked_however_they_are_written(text: str) -> None:
    key = "0123456789abcdef" * 2
    assert key not in mask(text.format(key))
    assert MASK in mask(text.format(key))


def complaint(octets: bytes) -> str:
    """What is shown of octets that are no message."""
    try:
        parse(octets)
    except PeerError as error:
        return record_text(MalformedRecord(time=0, src=UE, dst=UE, protocol="SIP", error=error))
    return ""


def test_a_message_that_begins_in_the_middle_of_a_key_shows_none_of_it() -> None:
    whole = Response(200, headers=[("CSeq", "1 REGISTER")]).encode()
    octets = Response(401, headers=[("WWW-Authenticate", f'Digest ck="{CK}", ik="{IK}"')]).encode()
    shown = set()
    for start in range(len(octets)):
        shown.add(complaint(octets[start:]))
        shown.update(complaint(each) for each in StreamFramer().feed(whole + octets[start:]))
    assert len(shown) > 30
    assert not any(part in text for text in shown for part in (CK[:8], IK[:8]))


def test_what_only_looks_like_a_key_stays() -> None:
    text = 'trick="abc", quick=1, nonce="ck"'
    assert mask(text) == text


def test_control_characters_are_spelled_out() -> None:
    assert escape("a\x1b[2J\x00\u202e\r\n") == "a\\x1b[2J\\x00\\x202e\\x0d\n"
    assert escape("a\tb\nc", keep="") == "a\\x09b\\x0ac"
    for record in records():
        assert "\x1b" not in record_text(record)
        assert "\x07" not in record_text(record)


def test_a_diameter_message_is_a_tree() -> None:
    text = record_text(trace().diameter_records[1])
    assert text.splitlines()[0].startswith("MAA command 303 application 16777216 flags P ")
    assert "    SIP-Authenticate: " + (b"R" * 32).hex() in text
    assert f"    Confidentiality-Key: {MASK}" in text
