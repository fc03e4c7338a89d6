"""Subscribers: identities by rule, records as snapshots, nothing secret in a repr."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from hss.subscriber import (
    TUAK,
    XOR,
    AkaCredentials,
    DigestCredentials,
    PrivateIdentity,
    RegistrationSet,
    RegistrationState,
    Subscriber,
    canonical,
)
from imslab.aka.milenage import Milenage, derive_opc
from imslab.core.errors import LocalError
from imslab.diameter.userdata import (
    ApplicationServer,
    FilterCriteria,
    IdentityType,
    PublicIdentity,
    ServiceProfile,
    Spt,
    TriggerPoint,
)
from tests.hss.carrier import IMPI, IMPU, IMSI, OPC, K, subscriber


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SIP:Alice@Home1.EXAMPLE", "sip:Alice@home1.example"),
        ("sips:a@B.c:5061;transport=tls?x=y", "sips:a@b.c:5061"),
        ("sip:+1555;phone-context=x@B.c;user=phone", "sip:+1555;phone-context=x@b.c"),
        ("sip:b.C;lr", "sip:b.c"),
        ("tel:+1-555-(00)01;x=y", "tel:+15550001"),
        ("TEL:+1555", "tel:+1555"),
        ("User@REALM.Example", "User@realm.example"),
        ("plain", "plain"),
        ("urn:Service:SOS", "urn:Service:SOS"),
    ],
)
def test_canonical_identities(text: str, expected: str) -> None:
    assert canonical(text) == expected
    assert canonical(expected) == expected


def test_identities_follow_from_the_imsi() -> None:
    one = subscriber(msisdn="+15550001", bar_derived=True)
    assert one.privates[0].impi == IMPI
    identities = one.sets[0].identities
    assert [(identity.uri, identity.barred) for identity in identities] == [
        (IMPU, True),
        ("sip:+15550001@ims.mnc001.mcc001.3gppnetwork.org", False),
        ("tel:+15550001", False),
    ]
    assert one.sets[0].default is identities[1]
    assert one.id == IMPI
    assert one.private(IMPI.upper().replace("IMS", "ims")) == one.privates[0]
    assert one.private("nobody") is None
    assert one.set_of("tel:+1-555-0001") is one.sets[0]
    assert one.set_of("tel:+2") is None


def test_three_digits_of_mnc() -> None:
    one = Subscriber.from_imsi("310410123456789", K, OPC, "310", "410")
    assert one.privates[0].impi == "310410123456789@ims.mnc410.mcc310.3gppnetwork.org"
    assert Subscriber.from_imsi(IMSI, K, OPC, "001", "001").privates[0].impi == IMPI


@pytest.mark.parametrize(
    "arguments",
    [
        {"imsi": "00101x"},
        {"imsi": "0010"},
        {"imsi": "0010100000000012"},
        {"imsi": "999010000000001"},
        {"k": bytes(15)},
        {"opc": bytes(15)},
        {"opc": b""},
        {"op": bytes(16)},
        {"algorithm": "none"},
        {"algorithm": XOR},
        {"algorithm": TUAK},
        {"msisdn": "12ab"},
    ],
)
def test_what_cannot_be(arguments: dict) -> None:
    with pytest.raises(LocalError):
        Subscriber.from_imsi(**{"imsi": IMSI, "k": K, "opc": OPC, **arguments})


def test_algorithms() -> None:
    derived = Subscriber.from_imsi(IMSI, K, op=bytes(16)).privates[0].credentials
    assert isinstance(derived, AkaCredentials)
    assert derived.opc == derive_opc(K, bytes(16))
    assert isinstance(derived.make_algorithm(), Milenage)
    assert AkaCredentials(K, algorithm=XOR).make_algorithm().name == "XOR"
    assert AkaCredentials(K, bytes(32), TUAK).make_algorithm().name == "TUAK"
    assert Subscriber.from_imsi(IMSI, K, algorithm=XOR).privates[0].sqn == 0


def test_no_secret_shows() -> None:
    one = subscriber(sqn=0x123)
    digest = PrivateIdentity("a@b", DigestCredentials("b", "5ec4e7" * 5 + "00"))
    shown = repr(one) + repr(digest) + repr(replace(one, version=2))
    for secret in (K, OPC):
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown
    assert "5ec4e7" not in shown
    assert "000000000123" in shown


def test_records_are_snapshots() -> None:
    one = subscriber()
    with pytest.raises(FrozenInstanceError):
        one.version = 5  # type: ignore[misc]
    other = one.with_private(replace(one.privates[0], sqn=7))
    assert (one.privates[0].sqn, other.privates[0].sqn) == (0, 7)
    changed = one.with_set(one.sets[0], replace(one.sets[0], state=RegistrationState.REGISTERED))
    assert changed.is_served
    assert not one.is_served


def test_a_subscriber_is_whole() -> None:
    one = subscriber()
    for change in ({"privates": ()}, {"sets": ()}, {"sets": (RegistrationSet(()),)}, {"sets": one.sets * 2}):
        with pytest.raises(LocalError):
            replace(one, **change)


def test_who_may_use_a_set() -> None:
    each = subscriber().sets[0]
    assert each.serves("anybody")
    assert replace(each, impis=("a",)).serves("a")
    assert not replace(each, impis=("a",)).serves("b")


def criteria(*spts: Spt, part: int | None = None) -> FilterCriteria:
    trigger = TriggerPoint(True, list(spts)) if spts else None
    return FilterCriteria(0, ApplicationServer("sip:as"), trigger, part)


@pytest.mark.parametrize(
    ("each", "terminating", "originating"),
    [
        (criteria(), True, True),
        (criteria(part=0), False, False),
        (criteria(part=1), True, True),
        (criteria(Spt("Method", "INVITE")), True, True),
        (criteria(Spt("SessionCase", "2")), True, False),
        (criteria(Spt("SessionCase", "3")), False, True),
        (criteria(Spt("SessionCase", "0"), Spt("Method", "INVITE")), False, False),
        (criteria(Spt("SessionCase", "0", negated=True)), True, True),
    ],
)
def test_services_for_the_unregistered(each: FilterCriteria, terminating: bool, originating: bool) -> None:
    one = RegistrationSet((ServiceProfile([PublicIdentity("sip:a@b")], [each]),))
    assert one.has_unregistered_services(False) is terminating
    assert one.has_unregistered_services(True) is originating
    assert not RegistrationSet((ServiceProfile([PublicIdentity("sip:a@b")]),)).has_unregistered_services(False)


def test_user_data() -> None:
    wild = PublicIdentity("sip:!.*!@b", type=IdentityType.WILDCARDED_PSI)
    one = RegistrationSet((ServiceProfile([wild]), ServiceProfile([PublicIdentity("sip:a@b")])))
    document = one.user_data("a@b")
    assert document.impi == "a@b"
    assert [identity.uri for identity in document.identities] == ["sip:!.*!@b", "sip:a@b"]
    assert one.default is not None
    assert one.default.uri == "sip:a@b"
