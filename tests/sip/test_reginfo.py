"""Registration information documents."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ElementTree

import pytest

from imslab.core.errors import LocalError, PeerError
from imslab.sip.reginfo import NAMESPACE, RegContact, RegInfo, Registration, parse_reginfo, write_reginfo

#: The shape of RFC 3680 4.1's and RFC 5628's documents, with everything in it that we know.
DOCUMENT = b"""<?xml version="1.0"?>
<reginfo xmlns="urn:ietf:params:xml:ns:reginfo" xmlns:gr="urn:ietf:params:xml:ns:gruuinfo"
         version="4" state="partial">
  <!-- a comment -->
  <registration aor="sip:joe@example.com" id="a7" state="active">
    <contact id="76" state="active" event="registered" duration-registered="7322" expires="5" retry-after="9"
             q="0.8" callid="c&amp;d" cseq="3">
      <uri> sip:joe@pc887.example.com </uri>
      <display-name>Joe &lt;at work&gt;</display-name>
      <unknown-param name="+sip.instance">"&lt;urn:x&gt;"</unknown-param>
      <gr:pub-gruu uri="sip:joe@example.com;gr=1"/>
      <gr:temp-gruu uri="sip:t@example.com;gr" first-cseq="3"/>
      <new xmlns="urn:new" a="b"><inner/></new>
    </contact>
    <contact id="77" state="terminated" event="expired"><uri>sip:joe@x</uri></contact>
    <other xmlns="urn:new"/>
  </registration>
  <registration aor="tel:+1" id="b" state="terminated"/>
  <more xmlns="urn:new"/>
</reginfo>
"""


def test_reading() -> None:
    info = parse_reginfo(DOCUMENT)
    assert (info.version, info.state, len(info.registrations)) == (4, "partial", 2)
    registration = info.find("sip:joe@example.com")
    assert registration is not None
    assert (registration.id, registration.state, len(registration.contacts)) == ("a7", "active", 2)
    contact = registration.contacts[0]
    assert contact == RegContact(
        uri="sip:joe@pc887.example.com",
        id="76",
        state="active",
        event="registered",
        expires=5,
        retry_after=9,
        duration_registered=7322,
        q="0.8",
        callid="c&d",
        cseq=3,
        display_name="Joe <at work>",
        unknown_params=[("+sip.instance", '"<urn:x>"')],
        pub_gruu="sip:joe@example.com;gr=1",
        temp_gruu="sip:t@example.com;gr",
        extra=contact.extra,
    )
    assert "inner" in contact.extra[0]
    assert registration.contacts[1].expires is None
    assert info.find("sip:nobody@example.com") is None
    assert len(registration.extra) == len(info.extra) == 1


def test_what_is_unknown_survives() -> None:
    info = parse_reginfo(DOCUMENT)
    again = parse_reginfo(write_reginfo(info))
    assert again == info


def test_writing_is_read_by_others() -> None:
    info = RegInfo(
        0,
        "full",
        [
            Registration(
                "sip:ü@example.com",
                "r1",
                "active",
                [RegContact('sip:a@b;x="<&>"', "c1", "active", "created", expires=600, display_name="A & B\n")],
            ),
            Registration("tel:+1", "r2", "init"),
        ],
    )
    octets = write_reginfo(info)
    root = ElementTree.fromstring(octets)
    ns = f"{{{NAMESPACE}}}"
    assert root.tag == f"{ns}reginfo"
    assert root.attrib == {"version": "0", "state": "full"}
    one, two = root.findall(f"{ns}registration")
    assert one.attrib == {"aor": "sip:ü@example.com", "id": "r1", "state": "active"}
    contact = one[0]
    assert contact.attrib == {"id": "c1", "state": "active", "event": "created", "expires": "600"}
    assert contact.findtext(f"{ns}uri") == 'sip:a@b;x="<&>"'
    assert contact.findtext(f"{ns}display-name") == "A & B\n"
    assert two.attrib["state"] == "init"
    assert len(two) == 0


def test_a_document_without_namespace_is_forgiven() -> None:
    octets = b'<reginfo version="0" state="full"><registration aor="sip:a@b" id="1" state="init"/></reginfo>'
    assert parse_reginfo(octets).registrations[0].aor == "sip:a@b"


CONTACT = b"""<reginfo version="0" state="full"><registration aor="a" id="b" state="active">
<contact id="c" state="active" event="created"><uri>d</uri></contact></registration></reginfo>"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"<reginfo version", b"<reginfo x"),
        (b'version="0"', b'version="-1"'),
        (b'version="0"', b'version="4294967296"'),
        (b'version="0"', b'version=""'),
        (b'"full"', b'"whole"'),
        (b' state="full"', b""),
        (b'aor="a"', b""),
        (b'aor="a"', b'aor=""'),
        (b'id="b"', b""),
        (b'id="b" state="active"', b'id="b" state="x"'),
        (b'id="c"', b""),
        (b'id="c" state="active"', b'id="c" state="init"'),
        (b'event="created"', b'event="exploded"'),
        (b'event="created"', b""),
        (b'event="created"', b'event="created" expires="x"'),
        (b'event="created"', b'event="created" cseq="99999999999"'),
        (b'event="created"', b'event="created" q="2"'),
        (b"<uri>d</uri>", b""),
        (b"<uri>d</uri>", b"<uri> </uri>"),
        (b"<uri>d</uri>", b"<uri>d</uri><unknown-param>x</unknown-param>"),
        (b"<uri>d</uri>", b"<uri>d</uri><pub-gruu/>"),
        (b"<uri>d</uri>", b"<uri>d</uri><temp-gruu/>"),
        (b"</reginfo>", b""),
        (b"<reginfo ", b"<wrong "),
    ],
)
def test_what_is_missing_or_unknown(old: bytes, new: bytes) -> None:
    parse_reginfo(CONTACT)
    octets = CONTACT.replace(old, new, 1)
    if old == b"<reginfo ":
        octets = octets.replace(b"</reginfo", b"</wrong")
    assert octets != CONTACT
    with pytest.raises(PeerError) as caught:
        parse_reginfo(octets)
    assert caught.value.octets == octets[:80]


BOMB = b"""<?xml version="1.0"?>
<!DOCTYPE lolz [<!ENTITY a "aaaaaaaaaa">%s]>
<reginfo version="0" state="full">&z;</reginfo>"""


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\x00",
        b"nonsense",
        b"<",
        b'<?xml version="1.0" encoding="utf-7"?><a/>',
        b'<?xml version="1.0" encoding="no-such"?><a/>',
        b'<?xml version="1.0" encoding="shift_jis"?><a/>',
        b"\xff\xfe<",
        BOMB % b"".join(b'<!ENTITY %c "%s">' % (i + 1, b"&%c;" % i * 10) for i in range(97, 122)),
        b'<!DOCTYPE reginfo SYSTEM "file:///etc/passwd"><reginfo version="0" state="full"/>',
        b'<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><reginfo version="0" state="full">&x;</reginfo>',
        b"<!DOCTYPE reginfo><reginfo version='0' state='full'/>",
        b"<reginfo version='0' state='full'>" + b"<a>" * 33 + b"</a>" * 33 + b"</reginfo>",
        b"<reginfo version='0' state='full'>" + b"<a>" * 120_000 + b"</a>" * 120_000 + b"</reginfo>",
        b"<a>" * 300_000,
        b"<reginfo version='0' state='full'>" + b" " * (1 << 20) + b"</reginfo>",
        b"<reginfo version='0' state='full' version='0'/>",
    ],
)
def test_hostile_documents(octets: bytes) -> None:
    start = time.process_time()
    with pytest.raises(PeerError):
        parse_reginfo(octets)
    assert time.process_time() - start < 4.0


@pytest.mark.parametrize(
    "info",
    [
        RegInfo(0, "half"),
        RegInfo(0, "full", [Registration("a", "b", "gone")]),
        RegInfo(0, "full", [Registration("a", "b", "active", [RegContact("u", "i", "init", "created")])]),
        RegInfo(0, "full", [Registration("a", "b", "active", [RegContact("u", "i", "active", "x")])]),
        RegInfo(0, "full", [Registration("a", "b", "active", [RegContact("u\x00", "i", "active", "created")])]),
        RegInfo(0, "full", [Registration("a\udcff", "b", "active")]),
    ],
)
def test_what_cannot_be_written(info: RegInfo) -> None:
    with pytest.raises(LocalError):
        write_reginfo(info)
