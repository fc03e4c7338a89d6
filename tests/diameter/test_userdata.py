"""User data: a document written by hand after 29.228 Annex E, both ways; hostile ones refused."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from imslab.core.errors import LocalError
from imslab.diameter.avp import DiameterError
from imslab.diameter.userdata import (
    MAX_OCTETS,
    ApplicationServer,
    DefaultHandling,
    Extra,
    FilterCriteria,
    IdentityType,
    PublicIdentity,
    RegistrationType,
    ServiceProfile,
    SessionCase,
    Spt,
    TriggerPoint,
    UserProfile,
    parse_userdata,
    write_userdata,
)

DOCUMENT = """<?xml version="1.0" encoding="UTF-8"?>
<IMSSubscription>
  <PrivateID>alice@home1.example</PrivateID>
  <ServiceProfile>
    <PublicIdentity>
      <BarringIndication>1</BarringIndication>
      <Identity>sip:001010000000001@home1.example</Identity>
    </PublicIdentity>
    <PublicIdentity><Identity>sip:alice@home1.example</Identity>
      <Extension><IdentityType>0</IdentityType>
        <Extension><DisplayName>Alice &amp; Söhne</DisplayName><AliasIdentityGroupID>7</AliasIdentityGroupID>
          <Extension><ServicePriorityLevel>3</ServicePriorityLevel></Extension>
        </Extension>
      </Extension>
    </PublicIdentity>
    <PublicIdentity><Identity>sip:list-!.*!@home1.example</Identity>
      <Extension><IdentityType>2</IdentityType><WildcardedPSI>sip:list-!.*!@home1.example</WildcardedPSI></Extension>
    </PublicIdentity>
    <InitialFilterCriteria>
      <Priority>10</Priority>
      <TriggerPoint>
        <ConditionTypeCNF>1</ConditionTypeCNF>
        <SPT><ConditionNegated>0</ConditionNegated><Group>0</Group><Method>REGISTER</Method>
          <Extension><RegistrationType>0</RegistrationType><RegistrationType>2</RegistrationType></Extension></SPT>
        <SPT><ConditionNegated>1</ConditionNegated><Group>0</Group><Group>1</Group>
          <SIPHeader><Header>Event</Header><Content>^reg$</Content></SIPHeader></SPT>
        <SPT><Group>1</Group><SessionCase>2</SessionCase></SPT>
        <SPT><Group>1</Group><RequestURI>sip:x@y</RequestURI></SPT>
        <SPT><Group>2</Group><SessionDescription><Line>m</Line><Content>audio</Content></SessionDescription></SPT>
      </TriggerPoint>
      <ApplicationServer>
        <ServerName>sip:as.home1.example</ServerName>
        <DefaultHandling>1</DefaultHandling>
        <ServiceInfo>info</ServiceInfo>
        <Extension><IncludeRegisterRequest/><IncludeRegisterResponse/></Extension>
      </ApplicationServer>
      <ProfilePartIndicator>0</ProfilePartIndicator>
    </InitialFilterCriteria>
    <InitialFilterCriteria><Priority>0</Priority>
      <ApplicationServer><ServerName>sip:as2.home1.example</ServerName></ApplicationServer></InitialFilterCriteria>
    <CoreNetworkServicesAuthorization><SubscribedMediaProfileId>5</SubscribedMediaProfileId>
      <Extension><ListOfServiceIds><ServiceId>a</ServiceId></ListOfServiceIds></Extension>
    </CoreNetworkServicesAuthorization>
    <Extension><SharedIFCSetID>3</SharedIFCSetID><SharedIFCSetID>4</SharedIFCSetID></Extension>
  </ServiceProfile>
  <ServiceProfile><PublicIdentity><Identity>tel:+15550001</Identity></PublicIdentity></ServiceProfile>
</IMSSubscription>""".encode()

PROFILE = UserProfile(
    "alice@home1.example",
    [
        ServiceProfile(
            [
                PublicIdentity("sip:001010000000001@home1.example", barred=True),
                PublicIdentity(
                    "sip:alice@home1.example",
                    type=IdentityType.PUBLIC_USER_IDENTITY,
                    display_name="Alice & Söhne",
                    alias_group="7",
                    extra=[
                        Extra("Extension/Extension/Extension", "<ServicePriorityLevel>3</ServicePriorityLevel>"),
                    ],
                ),
                PublicIdentity(
                    "sip:list-!.*!@home1.example",
                    type=IdentityType.WILDCARDED_PSI,
                    wildcarded_psi="sip:list-!.*!@home1.example",
                ),
            ],
            [
                FilterCriteria(
                    10,
                    ApplicationServer("sip:as.home1.example", DefaultHandling.SESSION_TERMINATED, "info", True, True),
                    TriggerPoint(
                        True,
                        [
                            Spt(
                                "Method",
                                "REGISTER",
                                registration_types=[
                                    RegistrationType.INITIAL_REGISTRATION,
                                    RegistrationType.DE_REGISTRATION,
                                ],
                            ),
                            Spt("SIPHeader", "Event", "^reg$", [0, 1], True),
                            Spt("SessionCase", str(int(SessionCase.TERMINATING_UNREGISTERED)), groups=[1]),
                            Spt("RequestURI", "sip:x@y", groups=[1]),
                            Spt("SessionDescription", "m", "audio", [2]),
                        ],
                    ),
                    0,
                ),
                FilterCriteria(0, ApplicationServer("sip:as2.home1.example")),
            ],
            5,
            [3, 4],
            [
                Extra(
                    "CoreNetworkServicesAuthorization",
                    "<Extension><ListOfServiceIds><ServiceId>a</ServiceId></ListOfServiceIds></Extension>",
                )
            ],
        ),
        ServiceProfile([PublicIdentity("tel:+15550001")]),
    ],
)


def shape(element: ElementTree.Element) -> tuple[object, ...]:
    """An element without the white space between elements."""
    return (element.tag, (element.text or "").strip(), [shape(child) for child in element])


def test_a_document_is_read() -> None:
    assert parse_userdata(DOCUMENT) == PROFILE


def test_a_document_is_written_in_the_schemas_order() -> None:
    """What the standard library's parser sees in our octets is what stands in the document, absent defaults aside."""
    ours, theirs = ElementTree.fromstring(write_userdata(PROFILE)), ElementTree.fromstring(DOCUMENT)
    for root in (ours, theirs):
        for parent in root.iter():
            for child in list(parent):
                if (child.tag, child.text) in (("ConditionNegated", "0"), ("DefaultHandling", "0")):
                    parent.remove(child)
    assert shape(ours) == shape(theirs)
    assert write_userdata(PROFILE).startswith(b'<?xml version="1.0" encoding="UTF-8"?><IMSSubscription><PrivateID>')


def test_round_trip() -> None:
    assert parse_userdata(write_userdata(PROFILE)) == PROFILE


def test_the_default_identity() -> None:
    assert [identity.uri for identity in PROFILE.identities][-1] == "tel:+15550001"
    assert PROFILE.default_identity is PROFILE.service_profiles[0].identities[1]
    barred = UserProfile("a", [ServiceProfile([PublicIdentity("sip:a", True)])])
    assert barred.default_identity is None
    wild = PublicIdentity("sip:!.*!", type=IdentityType.WILDCARDED_PUBLIC_USER_IDENTITY, wildcarded_impu="sip:!.*!")
    assert UserProfile("a", [ServiceProfile([wild])]).default_identity is None
    assert parse_userdata(write_userdata(UserProfile("a", [ServiceProfile([wild])]))).identities == [wild]


def test_a_namespace_is_no_hindrance() -> None:
    octets = DOCUMENT.replace(b"<IMSSubscription>", b'<IMSSubscription xmlns="urn:some:namespace">')
    profile = parse_userdata(octets)
    assert profile.impi == PROFILE.impi
    assert [identity.uri for identity in profile.identities] == [identity.uri for identity in PROFILE.identities]


def minimal(inside: str = "", identity: str = "") -> bytes:
    return (
        f"<IMSSubscription><PrivateID>a</PrivateID><ServiceProfile><PublicIdentity><Identity>sip:a</Identity>{identity}"
        f"</PublicIdentity>{inside}</ServiceProfile></IMSSubscription>"
    ).encode()


def test_what_is_unknown_stays_where_it_stood() -> None:
    criteria = (
        "<InitialFilterCriteria><Priority>1</Priority><TriggerPoint><ConditionTypeCNF>0</ConditionTypeCNF>"
        "<SPT><Group>0</Group><Method>M</Method><x1>1</x1><Extension><x2>2</x2></Extension></SPT><x3>3</x3>"
        "</TriggerPoint><ApplicationServer><ServerName>sip:s</ServerName><x4>4</x4><Extension><x5>5</x5></Extension>"
        "</ApplicationServer><x6>6</x6><Extension><x7>7</x7></Extension></InitialFilterCriteria><x8>8</x8>"
        "<Extension><x9>9</x9></Extension>"
    )
    identity = "<y1>1</y1><Extension><y2>2</y2><Extension><y3>3</y3></Extension></Extension>"
    octets = minimal(criteria, identity).replace(b"</IMSSubscription>", b"<z>0</z></IMSSubscription>")
    profile = parse_userdata(octets)
    written = ElementTree.fromstring(write_userdata(profile))
    paths = {
        "z": ".",
        "ServiceProfile/x8": ".",
        "ServiceProfile/Extension/x9": ".",
        "ServiceProfile/PublicIdentity/y1": ".",
        "ServiceProfile/PublicIdentity/Extension/y2": ".",
        "ServiceProfile/PublicIdentity/Extension/Extension/y3": ".",
        "ServiceProfile/InitialFilterCriteria/x6": ".",
        "ServiceProfile/InitialFilterCriteria/Extension/x7": ".",
        "ServiceProfile/InitialFilterCriteria/TriggerPoint/x3": ".",
        "ServiceProfile/InitialFilterCriteria/TriggerPoint/SPT/x1": ".",
        "ServiceProfile/InitialFilterCriteria/TriggerPoint/SPT/Extension/x2": ".",
        "ServiceProfile/InitialFilterCriteria/ApplicationServer/x4": ".",
        "ServiceProfile/InitialFilterCriteria/ApplicationServer/Extension/x5": ".",
    }
    for path in paths:
        assert len(written.findall(path)) == 1, path
    assert parse_userdata(write_userdata(profile)) == profile


def criteria(inner: str) -> bytes:
    return minimal(f"<InitialFilterCriteria>{inner}</InitialFilterCriteria>")


SERVER = "<ApplicationServer><ServerName>sip:s</ServerName></ApplicationServer>"


def trigger(inner: str) -> bytes:
    return criteria(f"<Priority>0</Priority><TriggerPoint>{inner}</TriggerPoint>{SERVER}")


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"no xml",
        b"<IMSSubscription>",
        b"\xff\xfe",
        b'<?xml version="1.0" encoding="no-such-code"?><IMSSubscription/>',
        b'<?xml version="1.0" encoding="utf-16"?><IMSSubscription/>',
        b"<Sh-Data/>",
        b"<IMSSubscription/>",
        b"<IMSSubscription><PrivateID/></IMSSubscription>",
        b"<IMSSubscription><PrivateID>a</PrivateID></IMSSubscription>",
        b"<IMSSubscription><PrivateID>a</PrivateID><ServiceProfile/></IMSSubscription>",
        b"<IMSSubscription><PrivateID>a</PrivateID><ServiceProfile><PublicIdentity/></ServiceProfile></IMSSubscription>",
        minimal(identity="<BarringIndication>maybe</BarringIndication>"),
        minimal(identity="<Extension><IdentityType>9</IdentityType></Extension>"),
        minimal("<Extension><SharedIFCSetID>-1</SharedIFCSetID></Extension>"),
        minimal("<Extension><SharedIFCSetID>" + "9" * 5000 + "</SharedIFCSetID></Extension>"),
        criteria(SERVER),
        criteria("<Priority>0</Priority>"),
        criteria("<Priority>one</Priority>" + SERVER),
        criteria("<Priority>0</Priority><ApplicationServer/>"),
        trigger(""),
        trigger("<ConditionTypeCNF>1</ConditionTypeCNF><SPT><Group>0</Group></SPT>"),
        trigger("<ConditionTypeCNF>1</ConditionTypeCNF><SPT><Method>A</Method><RequestURI>B</RequestURI></SPT>"),
        trigger("<ConditionTypeCNF>1</ConditionTypeCNF><SPT><SessionCase>5</SessionCase></SPT>"),
        trigger("<ConditionTypeCNF>1</ConditionTypeCNF><SPT><Method/></SPT>"),
        trigger("<ConditionTypeCNF>1</ConditionTypeCNF><SPT><SIPHeader/></SPT>"),
        b'<!DOCTYPE a [<!ENTITY b "c">]><IMSSubscription><PrivateID>&b;</PrivateID></IMSSubscription>',
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><IMSSubscription/>',
        b"<a>" * 40 + b"</a>" * 40,
        b"<a>" * 20000,
        b"<!---->" * (MAX_OCTETS // 7 + 1),
    ],
)
def test_what_is_refused(octets: bytes) -> None:
    with pytest.raises(DiameterError) as caught:
        parse_userdata(octets)
    assert (caught.value.result_code, caught.value.vendor) == (5009, 10415)


def test_entities_do_not_explode() -> None:
    laughs = "".join(f'<!ENTITY l{n} "&l{n - 1};&l{n - 1};&l{n - 1};">' for n in range(1, 40))
    octets = f'<!DOCTYPE x [<!ENTITY l0 "ha">{laughs}]><IMSSubscription>&l39;</IMSSubscription>'.encode()
    with pytest.raises(DiameterError):
        parse_userdata(octets)


def test_what_cannot_be_written() -> None:
    for profile in (
        UserProfile("a", []),
        UserProfile("a", [ServiceProfile([])]),
        UserProfile("a\0", [ServiceProfile([PublicIdentity("sip:a")])]),
        UserProfile("a", [ServiceProfile([PublicIdentity("sip:\ud800")])]),
        UserProfile(
            "a",
            [
                ServiceProfile(
                    [PublicIdentity("sip:a")],
                    [FilterCriteria(0, ApplicationServer("s"), TriggerPoint(True, [Spt("Nonsense", "x")]))],
                )
            ],
        ),
    ):
        with pytest.raises(LocalError):
            write_userdata(profile)


def test_text_is_escaped() -> None:
    profile = UserProfile("a<b>&\"'", [ServiceProfile([PublicIdentity("sip:a;x=<&>@b")])])
    assert parse_userdata(write_userdata(profile)) == profile
