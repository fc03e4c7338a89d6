"""Cx as 29.228 has it, over real octets: the catalogue's HSS cases, each named by its number."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hss.auc import AuthenticationCentre
from hss.cx import CxService, Policy
from hss.store import MemoryStore
from hss.subscriber import (
    AkaCredentials,
    Capabilities,
    DigestCredentials,
    PrivateIdentity,
    RegistrationSet,
    RegistrationState,
    Subscriber,
)
from imslab.aka.milenage import Milenage
from imslab.aka.sqn import SqnWindow, join_sqn, split_sqn
from imslab.aka.usim import Authenticated, SyncFailure, Usim
from imslab.aka.vector import make_auts
from imslab.core.entropy import SeededEntropy
from imslab.core.errors import LocalError
from imslab.diameter import cx
from imslab.diameter.userdata import (
    ApplicationServer,
    FilterCriteria,
    IdentityType,
    PublicIdentity,
    ServiceProfile,
    parse_userdata,
)
from tests.diameter import samples
from tests.hss.carrier import IMPI, IMPU, OPC, REALM, Bench, Client, K, subscriber

OTHER = Subscriber.from_imsi("001010000000002", K, OPC)
OTHER_IMPI, OTHER_IMPU = OTHER.privates[0].impi, OTHER.sets[0].identities[0].uri

REGISTERED, UNREGISTERED, NOT_REGISTERED = (
    RegistrationState.REGISTERED,
    RegistrationState.UNREGISTERED,
    RegistrationState.NOT_REGISTERED,
)


def bench(one: Subscriber | None = None, **options: Any) -> tuple[Bench, Client]:
    made = Bench([one or subscriber(), OTHER], **options)
    return made, made.connect()


def stored(made: Bench, key: str = IMPI) -> Subscriber:
    found = made.store.load(key)
    assert found is not None
    return found


def state(made: Bench, impu: str = IMPU) -> RegistrationState:
    each = stored(made).set_of(impu)
    assert each is not None
    return each.state


def result(answer: Any) -> tuple[int | None, int | None]:
    """(Result-Code, Experimental-Result-Code): never both."""
    assert (answer.result_code is None) is not (answer.experimental is None)
    return answer.result_code, answer.experimental


# --- UAR -------------------------------------------------------------------------------------------------------------


def test_hss_01_first_registration() -> None:
    _, one = bench(subscriber(capabilities=Capabilities((1, 2), (3,), ("sip:s1",))))
    answer = one.uar()
    assert result(answer) == (None, 2001)
    assert answer.server_name is None
    assert (answer.capabilities.mandatory, answer.capabilities.optional) == ([1, 2], [3])
    assert answer.capabilities.server_names == ["sip:s1"]
    _, two = bench()
    assert two.uar(0).capabilities is None


def test_hss_02_subsequent_registration() -> None:
    made, one = bench(subscriber(capabilities=Capabilities((1,))))
    one.mar()
    pending = one.uar()
    assert (result(pending), pending.server_name, pending.capabilities) == ((None, 2002), one.name, None)
    one.sar(1, IMPU)
    answer = one.uar(0)
    assert (result(answer), answer.server_name) == ((None, 2002), one.name)
    assert state(made) is REGISTERED


def test_hss_02_another_identity_of_the_subscription_is_registered() -> None:
    base = subscriber()
    more = replace(base, sets=(*base.sets, RegistrationSet((ServiceProfile([PublicIdentity("sip:work@x.example")]),))))
    made, one = bench(more)
    one.register()
    answer = one.uar(impu="sip:work@x.example")
    assert (result(answer), answer.server_name) == ((None, 2002), one.name)
    assert state(made, "sip:work@x.example") is NOT_REGISTERED


@pytest.mark.parametrize(
    ("impi", "impu"), [("nobody@x", IMPU), (IMPI, "sip:nobody@x"), ("nobody@x", "sip:nobody@x"), (IMPU, IMPU)]
)
def test_hss_03_unknown(impi: str, impu: str) -> None:
    made, one = bench()
    assert result(one.uar(impi=impi, impu=impu)) == (None, 5001)
    assert result(one.mar(impi=impi, impu=impu)) == (None, 5001)  # HSS-13
    assert result(one.sar(1, impu, impi=impi)) == (None, 5001)
    assert stored(made).version == 0


def test_hss_03_not_distinct() -> None:
    base = subscriber()
    wild = PublicIdentity("sip:list-!.*!@x", type=IdentityType.WILDCARDED_PUBLIC_USER_IDENTITY)
    more = replace(base, sets=(RegistrationSet((ServiceProfile([*base.sets[0].identities, wild]),)),))
    _, one = bench(more)
    assert result(one.uar(impu=wild.uri)) == (None, 5001)


def test_hss_04_identities_do_not_match() -> None:
    made, one = bench()
    assert result(one.uar(impu=OTHER_IMPU)) == (None, 5002)
    assert result(one.mar(impu=OTHER_IMPU)) == (None, 5002)  # HSS-13
    assert result(one.sar(1, OTHER_IMPU)) == (None, 5002)
    assert (stored(made).version, stored(made, OTHER_IMPI).version) == (0, 0)


def test_hss_04_a_set_for_another_private_identity() -> None:
    base = subscriber()
    second = PrivateIdentity("second@x", AkaCredentials(K, OPC))
    work = RegistrationSet((ServiceProfile([PublicIdentity("sip:work@x")]),), impis=("second@x",))
    _, one = bench(replace(base, privates=(*base.privates, second), sets=(*base.sets, work)))
    assert result(one.uar(impu="sip:work@x")) == (None, 5002)
    assert result(one.sar(1, "sip:work@x")) == (None, 5002)
    assert result(one.uar(impi="second@x", impu="sip:work@x")) == (None, 2001)


def test_hss_05_roaming() -> None:
    _, one = bench(subscriber(visited_networks=[REALM]))
    assert result(one.uar(visited="visited.example")) == (None, 5004)
    assert result(one.uar(visited=REALM)) == (None, 2001)
    assert result(one.uar(visited=f'"{REALM.upper()}"')) == (None, 2001)
    # The order: unknown, mismatch, barred, roaming.
    assert result(one.uar(visited="visited.example", impu=OTHER_IMPU)) == (None, 5002)
    barred = replace(
        subscriber(visited_networks=[]), sets=(RegistrationSet((ServiceProfile([PublicIdentity(IMPU, True)]),)),)
    )
    _, two = bench(barred)
    assert result(two.uar(visited="visited.example")) == (5003, None)


def test_hss_06_deregistration() -> None:
    _, one = bench(subscriber(visited_networks=[]))
    assert result(one.uar(1)) == (None, 5003)
    one.mar()
    pending = one.uar(1, visited="anywhere")
    assert (result(pending), pending.server_name) == ((2001, None), one.name)
    one.sar(1, IMPU)
    registered = one.uar(1)
    assert (result(registered), registered.server_name) == ((2001, None), one.name)


def test_hss_07_barred_everywhere() -> None:
    """Base 5003, not the experimental one."""
    identities = [PublicIdentity(IMPU, True), PublicIdentity("tel:+1", True)]
    barred = replace(subscriber(), sets=(RegistrationSet((ServiceProfile(identities),)),))
    _, one = bench(barred)
    assert result(one.uar()) == (5003, None)
    assert result(one.uar(1)) == (5003, None)
    # A barred one in a set with one that is not may be used to register.
    _, two = bench(subscriber(msisdn="1555", bar_derived=True))
    assert result(two.uar()) == (None, 2001)


def test_hss_07_not_authorised() -> None:
    _, one = bench(replace(subscriber(), may_register=False))
    assert result(one.uar()) == (5003, None)
    assert result(one.uar(2)) == (5003, None)
    assert result(one.uar(1)) == (None, 5003)


def test_hss_08_capabilities() -> None:
    made, one = bench(subscriber(capabilities=Capabilities((7,))))
    one.register()
    version = stored(made).version
    answer = one.uar(2)
    assert (result(answer), answer.server_name, answer.capabilities.mandatory) == ((2001, None), None, [7])
    assert stored(made).version == version


def test_hss_09_emergency() -> None:
    barred = replace(
        subscriber(visited_networks=[]),
        may_register=False,
        sets=(RegistrationSet((ServiceProfile([PublicIdentity(IMPU, True)]),)),),
    )
    _, one = bench(barred)
    assert result(one.uar(flags=1)) == (None, 2001)
    assert result(one.uar(flags=2)) == (5003, None)


# --- LIR -------------------------------------------------------------------------------------------------------------


def test_lir() -> None:
    made, one = bench(subscriber(capabilities=Capabilities((7,))))
    assert result(one.lir("sip:nobody@x")) == (None, 5001)
    assert result(one.lir()) == (None, 5003)
    one.register()
    answer = one.lir()
    assert (result(answer), answer.server_name) == ((2001, None), one.name)
    assert one.lir(IMPI.join(("SIP:", ";user=phone"))).server_name == one.name
    chosen = one.lir(authorization_type=cx.UserAuthorizationType.REGISTRATION_AND_CAPABILITIES)
    assert (result(chosen), chosen.server_name, chosen.capabilities.mandatory) == ((2001, None), None, [7])
    assert result(one.lir(IMPI)) == (None, 5001)
    assert state(made) is REGISTERED


def test_lir_for_services_of_the_unregistered() -> None:
    service = FilterCriteria(0, ApplicationServer("sip:voicemail"))
    base = subscriber(ifcs=[service], capabilities=Capabilities((7,)))
    work = RegistrationSet((ServiceProfile([PublicIdentity("sip:work@x")], [service]),))
    made, one = bench(replace(base, sets=(*base.sets, work)))
    answer = one.lir()
    assert (result(answer), answer.server_name, answer.capabilities.mandatory) == ((None, 2003), None, [7])
    assert result(one.lir(originating_request=cx.OriginatingRequest.ORIGINATING)) == (None, 2003)
    one.register("sip:work@x")
    # One S-CSCF serves the whole subscription.
    shared = one.lir()
    assert (result(shared), shared.server_name) == ((2001, None), one.name)
    assert state(made) is NOT_REGISTERED


# --- MAR -------------------------------------------------------------------------------------------------------------


def test_hss_10_contents() -> None:
    _, one = bench(subscriber(amf=b"\x12\x34"))
    answer = one.mar()
    assert result(answer) == (2001, None)
    assert (answer.user_name, answer.public_identity, answer.number_items) == (IMPI, IMPU, 1)
    item = answer.items[0]
    assert (item.number, item.scheme) == (1, "Digest-AKAv1-MD5")
    assert (len(item.authenticate), len(item.ck), len(item.ik)) == (32, 16, 16)
    assert 4 <= len(item.authorization) <= 16
    card = Usim(Milenage(K, OPC)).authenticate(item.authenticate[:16], item.authenticate[16:])
    assert isinstance(card, Authenticated)
    assert (card.res, card.ck, card.ik) == (item.authorization, item.ck, item.ik)
    assert item.authenticate[22:24] == b"\x12\x34"


def test_hss_11_count() -> None:
    made, one = bench(policy=Policy(max_vectors=5))
    card = Usim(Milenage(K, OPC))
    for count, given in ((3, 3), (5, 5), (9, 5), (1, 1)):
        answer = one.mar(count)
        assert answer.number_items == len(answer.items) == given
        assert [item.number for item in answer.items] == list(range(1, given + 1))
        for item in answer.items:
            before = card.window.sqn_ms
            assert isinstance(card.authenticate(item.authenticate[:16], item.authenticate[16:]), Authenticated)
            assert card.window.sqn_ms > before
    assert stored(made).privates[0].sqn == card.window.sqn_ms
    none = one.mar(0)
    assert result(none) == (5004, None)
    assert none.failed[0].code == 607


@pytest.mark.parametrize("scheme", ["foo", "Digest-MD5", "SIP Digest", "Unknown", "", None])
def test_hss_12_schemes(scheme: str | None) -> None:
    made, one = bench()
    assert result(one.mar(scheme=scheme)) == (None, 5006)
    assert stored(made).version == 0


def test_sip_digest() -> None:
    credentials = DigestCredentials(REALM, "0123456789abcdef" * 2)
    base = subscriber()
    made, one = bench(replace(base, privates=(replace(base.privates[0], credentials=credentials),)))
    for scheme in ("SIP Digest", "Unknown", None):
        answer = one.mar(2, scheme=scheme)
        assert (result(answer), answer.number_items, len(answer.items)) == ((2001, None), 1, 1)
        digest = answer.items[0].digest
        assert (digest.realm, digest.ha1, digest.algorithm, digest.qop) == (REALM, credentials.ha1, "MD5", "auth")
        assert answer.items[0].scheme == "SIP Digest"
    assert result(one.mar()) == (None, 5006)
    assert stored(made).server_name == one.name


def resync(one: Client, sqn_ms: int) -> tuple[Usim, bytes]:
    """A card far ahead refuses a vector; RAND ‖ AUTS."""
    card = Usim(Milenage(K, OPC), SqnWindow.at(sqn_ms))
    item = one.mar().items[0]
    failure = card.authenticate(item.authenticate[:16], item.authenticate[16:])
    assert isinstance(failure, SyncFailure)
    return card, item.authenticate[:16] + failure.auts


def test_hss_14_resynchronisation() -> None:
    made, one = bench()
    far = join_sqn(1 << 30, 3)
    card, report = resync(one, far)
    item = one.mar(auts=report).items[0]
    assert isinstance(card.authenticate(item.authenticate[:16], item.authenticate[16:]), Authenticated)
    assert split_sqn(stored(made).privates[0].sqn)[0] == (1 << 30) + 1
    assert made.emitted("resync")


def test_hss_15_wrong_mac() -> None:
    """The SQN is not reset: the next vector is the one after the last."""
    made, one = bench()
    _, report = resync(one, join_sqn(1 << 30, 3))
    forged = report[:-1] + bytes([report[-1] ^ 1])
    assert result(one.mar(auts=forged)) == (2001, None)
    assert split_sqn(stored(made).privates[0].sqn)[0] == 2
    assert made.emitted("auts-rejected")


def test_hss_16_auts_from_another_server() -> None:
    made, one = bench()
    two = made.connect("scscf2")
    _, report = resync(one, join_sqn(1 << 30, 3))
    before = stored(made)
    answer = two.mar(auts=report)
    assert result(answer) == (5012, None)
    assert stored(made) is before
    assert stored(made).server_name == one.name
    fresh, alone = bench()
    rand = bytes(16)
    assert result(alone.mar(auts=rand + make_auts(Milenage(K, OPC), rand, 1 << 30))) == (5012, None)
    assert stored(fresh).version == 0


def test_a_report_of_a_wrong_length() -> None:
    made, one = bench()
    one.mar()
    before = stored(made)
    for auts in (b"", bytes(29), bytes(31)):
        answer = one.mar(auts=auts)
        assert result(answer) == (5004, None)
        assert [(avp.code, avp.data) for avp in answer.failed] == [(610, auts)]
    assert stored(made) is before


def test_hss_17_and_add_12_takeover() -> None:
    made, one = bench(subscriber(msisdn="15550001"))
    two = made.connect("scscf2")
    one.register()
    assert result(two.mar()) == (2001, None)
    now = stored(made)
    assert (now.server_name, now.server_host) == (two.name, two.host)
    assert now.sets[0].pending == {IMPI}
    assert state(made) is REGISTERED
    told = cx.RegistrationTerminationRequest.from_message(one.requests[0])
    assert (told.user_name, int(told.reason.code)) == (IMPI, 1)
    assert told.public_identities == [IMPU, f"sip:+15550001@{REALM}", "tel:+15550001"]
    assert (told.destination_host, told.destination_realm) == (one.host, REALM)
    assert two.requests == []
    one.answer(result_code=2001)
    assert stored(made) is now
    assert result(two.sar(1, IMPU)) == (2001, None)
    assert stored(made).sets[0].pending == frozenset()
    # A new MAR of the one that serves overwrites nothing and tells nobody.
    assert result(two.mar()) == (2001, None)
    assert (one.requests, two.requests) == ([], [])


def test_hss_17_a_takeover_before_registration_tells_nobody() -> None:
    made, one = bench()
    two = made.connect("scscf2")
    one.mar()
    two.mar()
    assert stored(made).server_name == two.name
    assert (one.requests, two.requests) == ([], [])


# --- SAR -------------------------------------------------------------------------------------------------------------


def test_hss_20_registration() -> None:
    charging = cx.ChargingInformation(primary_collection="aaa://ccf.example:3868")
    made, one = bench(subscriber(msisdn="15550001", bar_derived=True, charging=charging))
    one.mar()
    answer = one.sar(1, IMPU)
    assert (result(answer), answer.user_name) == ((2001, None), IMPI)
    profile = parse_userdata(answer.user_data)
    assert profile.impi == IMPI
    assert [(each.uri, each.barred) for each in profile.identities] == [
        (IMPU, True),
        (f"sip:+15550001@{REALM}", False),
        ("tel:+15550001", False),
    ]
    assert profile.default_identity is not None
    assert profile.default_identity.uri == f"sip:+15550001@{REALM}"
    assert answer.charging == charging
    assert answer.associated_identities is None
    now = stored(made)
    assert (now.sets[0].state, now.sets[0].registered_by, now.sets[0].pending) == (REGISTERED, {IMPI}, frozenset())
    assert (now.server_name, now.server_host, now.server_realm) == (one.name, one.host, REALM)
    assert one.lir("tel:+15550001").server_name == one.name


def test_hss_21_re_registration() -> None:
    made, one = bench()
    one.register()
    assert one.sar(2, IMPU).user_data is not None
    answer = one.sar(2, IMPU, available=1)
    assert (result(answer), answer.user_data) == ((2001, None), None)
    assert state(made) is REGISTERED


@pytest.mark.parametrize("kind", [4, 5, 8, 11])
def test_hss_22_deregistration(kind: int) -> None:
    made, one = bench(subscriber(msisdn="15550001"))
    one.register()
    assert result(one.sar(kind, IMPU)) == (2001, None)
    now = stored(made)
    assert (now.sets[0].state, now.sets[0].registered_by, now.server_name) == (NOT_REGISTERED, frozenset(), "")
    assert result(one.lir("tel:+15550001")) == (None, 5003)


def test_hss_22_several_identities_or_none_named() -> None:
    for named in ((IMPU, "tel:+15550001"), ()):
        made, one = bench(subscriber(msisdn="15550001"))
        one.register()
        assert result(one.sar(5, *named)) == (2001, None)
        assert state(made) is NOT_REGISTERED
    made, one = bench()
    assert result(one.sar(5)) == (None, 5007)


def two_privates() -> Subscriber:
    base = subscriber()
    return replace(base, privates=(*base.privates, PrivateIdentity("second@x", AkaCredentials(K, OPC))))


def test_hss_22_with_a_second_private_identity() -> None:
    made, one = bench(two_privates())
    one.register()
    one.register(impi="second@x")
    answer = one.sar(2, IMPU)
    assert answer.associated_identities == [IMPI, "second@x"]
    assert result(one.sar(5, IMPU)) == (2001, None)
    now = stored(made)
    assert (now.sets[0].state, now.sets[0].registered_by, now.server_name) == (REGISTERED, {"second@x"}, one.name)
    # Without User-Name it is whoever has it registered.
    assert one.sar(5, IMPU, impi=None).user_name == "second@x"
    assert (state(made), stored(made).server_name) == (NOT_REGISTERED, "")


def test_without_a_private_identity() -> None:
    made, one = bench()
    assert one.sar(3, IMPU, impi=None).user_name == IMPI
    assert state(made) is UNREGISTERED


@pytest.mark.parametrize("kind", [6, 7])
def test_hss_23_store_server_name(kind: int) -> None:
    made, one = bench(policy=Policy(keep_server_name=True))
    one.register()
    assert result(one.sar(kind, IMPU)) == (2001, None)
    assert (state(made), stored(made).server_name) == (UNREGISTERED, one.name)
    assert one.lir().server_name == one.name
    assert result(one.sar(kind, IMPU)) == (None, 5007)
    made, one = bench()
    one.register()
    assert result(one.sar(kind, IMPU)) == (None, 2004)
    assert (state(made), stored(made).server_name) == (NOT_REGISTERED, "")


def test_hss_23_while_another_private_identity_is_registered() -> None:
    made, one = bench(two_privates())
    one.register()
    one.register(impi="second@x")
    assert result(one.sar(6, IMPU)) == (2001, None)
    assert (state(made), stored(made).server_name) == (REGISTERED, one.name)


@pytest.mark.parametrize("kind", [9, 10])
def test_hss_24_authentication_ended(kind: int) -> None:
    made, one = bench()
    one.mar()
    answer = one.sar(kind, IMPU)
    assert (result(answer), answer.user_data) == ((2001, None), None)
    now = stored(made)
    assert (now.sets[0].state, now.sets[0].pending, now.server_name) == (NOT_REGISTERED, frozenset(), "")
    one.register()
    one.mar()
    assert result(one.sar(kind, IMPU)) == (2001, None)
    now = stored(made)
    assert (now.sets[0].state, now.sets[0].pending, now.server_name) == (REGISTERED, frozenset(), one.name)


def test_hss_25_no_assignment() -> None:
    made, one = bench()
    two = made.connect("scscf2")
    assert result(one.sar(0, IMPU)) == (5012, None)
    one.register()
    before = stored(made)
    assert one.sar(0, IMPU).user_data is not None
    answer = two.sar(0, IMPU)
    assert (result(answer), answer.user_data) == ((5012, None), None)
    assert stored(made) is before


def test_hss_26_and_add_11_another_server() -> None:
    made, one = bench()
    two = made.connect("scscf2")
    one.register()
    before = stored(made)
    for kind in (1, 2, 3):
        answer = two.sar(kind, IMPU)
        assert (result(answer), answer.server_name, answer.user_data) == ((None, 5005), one.name, None)
    for kind in (4, 5, 6, 7, 8, 9, 10, 11):
        assert result(two.sar(kind, IMPU)) == (5012, None)
    assert stored(made) is before


def test_hss_26_with_restoration() -> None:
    made, one = bench(policy=Policy(restoration=True))
    two = made.connect("scscf2")
    one.register()
    assert result(one.uar(2)) == (2001, None)
    assert stored(made).reassignment_pending
    version = stored(made).version
    one.uar(2)
    assert stored(made).version == version
    assert two.sar(0, IMPU).user_data is not None
    assert result(two.sar(1, IMPU)) == (2001, None)
    assert (stored(made).server_name, stored(made).reassignment_pending) == (two.name, False)


@pytest.mark.parametrize("kind", [2, 4, 5, 6, 7, 8, 11])
def test_hss_27_type_not_allowed(kind: int) -> None:
    made, one = bench()
    assert result(one.sar(kind, IMPU)) == (None, 5007)
    assert stored(made).version == 0


def test_unregistered_user() -> None:
    made, one = bench()
    answer = one.sar(3, IMPU)
    assert result(answer) == (2001, None)
    assert parse_userdata(answer.user_data).impi == IMPI
    assert (state(made), stored(made).server_name) == (UNREGISTERED, one.name)
    assert result(one.uar()) == (None, 2002)
    assert result(one.sar(4, IMPU)) == (2001, None)
    assert (state(made), stored(made).server_name) == (NOT_REGISTERED, "")
    one.register()
    assert result(one.sar(3, IMPU)) == (None, 5007)


def test_hss_34_one_identity_is_due() -> None:
    made, one = bench(subscriber(msisdn="15550001"))
    for kind in (0, 1, 2, 3, 9, 10):
        answer = one.sar(kind, IMPU, "tel:+15550001")
        assert result(answer) == (5009, None)
        assert [avp.data for avp in answer.failed] == [b"tel:+15550001"]
    missing = one.sar(1)
    assert (result(missing), missing.failed[0].code) == ((5005, None), 601)
    assert result(one.sar(5, impi=None)) == (5005, None)
    assert stored(made).version == 0


def test_identities_of_two_subscriptions() -> None:
    _, one = bench()
    one.register()
    assert result(one.sar(5, IMPU, OTHER_IMPU)) == (None, 5002)
    assert result(one.sar(5, IMPU, OTHER_IMPU, impi=None)) == (None, 5002)
    assert result(one.sar(5, IMPU, "sip:nobody@x")) == (None, 5001)
    assert result(one.sar(5, impi="nobody@x")) == (None, 5001)


def test_two_sets_leave_one_by_one() -> None:
    base = subscriber()
    work = RegistrationSet((ServiceProfile([PublicIdentity("sip:work@x")]),))
    made, one = bench(replace(base, sets=(*base.sets, work)))
    one.register()
    one.register("sip:work@x")
    assert result(one.sar(5, IMPU)) == (2001, None)
    assert (state(made), state(made, "sip:work@x")) == (NOT_REGISTERED, REGISTERED)
    assert stored(made).server_name == one.name
    assert result(one.sar(5)) == (2001, None)
    assert stored(made).server_name == ""


# --- all of them -----------------------------------------------------------------------------------------------------


def test_hss_30_what_every_answer_has() -> None:
    _, one = bench()
    one.uar()
    one.mar()
    one.sar(1, IMPU)
    one.lir()
    one.uar(impu=OTHER_IMPU)
    one.mar(0)
    answers = [message for message in one.raw() if message.application]
    assert len(answers) == 6
    for message in answers:
        assert not message.request
        assert not message.error
        assert message.application == 16777216
        group = {avp.code: int.from_bytes(avp.data, "big") for avp in message.get("Vendor-Specific-Application-Id")}
        assert group == {266: 10415, 258: 16777216}
        assert message.get("Auth-Session-State") == 1
        assert message.get("Origin-Host") == f"hss.{REALM}"
        assert message.get("Origin-Realm") == REALM
        assert message.session_id is not None
        assert (message.result_code is None) is not (message.experimental_result is None)


def test_what_is_nothing_to_ask() -> None:
    service = CxService(AuthenticationCentre(SeededEntropy(1)))
    with pytest.raises(LocalError):
        service.identities(samples.rtr())
    assert service.identities(samples.sar()) == [samples.IMPI, samples.IMPU]
    assert MemoryStore().load(samples.IMPI) is None
