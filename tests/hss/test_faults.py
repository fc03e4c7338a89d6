"""Each fault of the field, seen from outside: what the HSS does with it, and what it does without."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hss.faults import FAULTS, Faults, cut_mnc
from hss.subscriber import RegistrationState, Subscriber
from imslab.aka.milenage import Milenage
from imslab.aka.sqn import split_sqn
from imslab.aka.usim import Authenticated, Usim
from imslab.aka.vector import make_auts
from imslab.core import effects as fx
from imslab.core import events as ev
from imslab.core.errors import LocalError
from imslab.diameter.avp import Avp
from imslab.diameter.message import DiameterMessage
from imslab.diameter.userdata import PublicIdentity, ServiceProfile
from tests.diameter.test_peer import cer
from tests.hss.carrier import IMPI, IMPU, OPC, Bench, Client, K, subscriber

OTHER = Subscriber.from_imsi("001010000000002", K, OPC)
OTHER_IMPU = OTHER.sets[0].identities[0].uri


def seq(made: Bench) -> int:
    record = made.store.load(IMPI)
    assert record is not None
    return split_sqn(record.privates[0].sqn)[0]


def sqn_of(item: object) -> int:
    octets: bytes = item.authenticate  # type: ignore[attr-defined]
    ak = Milenage(K, OPC).f2345(octets[:16])[3]
    return int.from_bytes(octets[16:22], "big") ^ int.from_bytes(ak, "big")


def auts_unchecked(made: Bench, one: Client) -> bool:
    one.mar()
    one.mar(auts=bytes(30))
    return seq(made) != 2


def auts_from_anyone(made: Bench, one: Client) -> bool:
    one.mar()
    report = bytes(16) + make_auts(Milenage(K, OPC), bytes(16), 1 << 30)
    return bool(made.connect("scscf2").mar(auts=report).is_success)


def sqn_repeated(made: Bench, one: Client) -> bool:
    return sqn_of(one.mar().items[0]) == sqn_of(one.mar().items[0])


def ind_blind(made: Bench, one: Client) -> bool:
    card = Usim(Milenage(K, OPC))
    items = one.mar(5).items
    results = [card.authenticate(item.authenticate[:16], item.authenticate[16:]) for item in items]
    return not all(isinstance(result, Authenticated) for result in results)


def amf_zero_after_resync(made: Bench, one: Client) -> bool:
    item = one.mar().items[0]
    assert item.authenticate[22:24] == b"\x40\0"
    auts = make_auts(Milenage(K, OPC), item.authenticate[:16], 1 << 30)
    again = one.mar(auts=item.authenticate[:16] + auts).items[0]
    return bool(again.authenticate[22:24] == b"\0\0")


def rand_reused(made: Bench, one: Client) -> bool:
    return bool(one.mar().items[0].authenticate[:16] == one.mar().items[0].authenticate[:16])


def split_request_lost(made: Bench, one: Client) -> bool:
    octets = one.mar_request().to_message(7, 7).encode()
    for piece in (octets[:100], octets[100:]):
        made.tell(ev.Arrival(one.flow, piece))
    assert one.mar().is_success  # whole ones are answered
    return not any(message.hop_by_hop == 7 for message in one.raw())


def missing_avp_ignored(made: Bench, one: Client) -> bool:
    message = one.mar_request().to_message()
    message.avps = [avp for avp in message.avps if avp.code != 601]
    one.send(message)
    return not one.answers


def unknown_avp_accepted(made: Bench, one: Client) -> bool:
    message = one.mar_request().to_message()
    message.avps.append(Avp(4242, 10415, 0xC0, b"x"))
    one.send(message)
    return one.answers[0].result_code == 2001


def any_sar_clears(made: Bench, one: Client) -> bool:
    one.register()
    one.sar(0, IMPU)
    record = made.store.load(IMPI)
    assert record is not None
    return record.server_name == "" and record.sets[0].state is RegistrationState.NOT_REGISTERED


def takeover_unchecked(made: Bench, one: Client) -> bool:
    one.register()
    return bool(made.connect("scscf2").sar(1, IMPU).is_success)


def identities_unmatched(made: Bench, one: Client) -> bool:
    answers = [one.uar(impu=OTHER_IMPU), one.mar(impu=OTHER_IMPU), one.sar(1, OTHER_IMPU)]
    accepted = [answer.is_success for answer in answers]
    assert accepted in ([True] * 3, [False] * 3)
    return all(accepted)


def scheme_ignored(made: Bench, one: Client) -> bool:
    answer = one.mar(scheme="Digest-MD5")
    return answer.is_success and answer.items[0].scheme == "Digest-AKAv1-MD5"


def one_vector(made: Bench, one: Client) -> bool:
    return len(one.mar(3).items) == 1


def vector_before_commit(made: Bench, one: Client) -> bool:
    made.slow = True
    one.send(one.mar_request().to_message())
    return bool(one.answers)


def silent(made: Bench) -> Client:
    return made.connect("scscf9", silent=True)


def mar_before_cer(made: Bench, one: Client) -> bool:
    early = silent(made)
    made.tell(ev.Arrival(early.flow, early.mar_request().to_message(1, 1).encode()))
    return [message.name for message in early.raw()] == ["MAA"]


def cer_unchecked(made: Bench, one: Client) -> bool:
    stranger = silent(made)
    made.tell(ev.Arrival(stranger.flow, cer([]).encode()))
    return stranger.raw()[0].result_code == 2001 and not stranger.closed


def open_after_dpr(made: Bench, one: Client) -> bool:
    other = silent(made)
    made.tell(ev.Arrival(other.flow, cer().encode()))
    made.tell(ev.Arrival(other.flow, DiameterMessage(282, hop_by_hop=5, end_to_end=5).encode()))
    assert [message.name for message in other.raw()] == ["CEA", "DPA"]
    return not other.closed


def rtr_nowhere(made: Bench, one: Client) -> bool:
    one.register()
    made.command("rtr", identity=IMPU)
    assert made.emitted("rtr")
    return not one.requests


def ppr_missing(made: Bench, one: Client) -> bool:
    one.register()
    made.command("ppr", identity=IMPU, profiles=(ServiceProfile([PublicIdentity(IMPU), PublicIdentity("tel:+1")]),))
    assert made.emitted("ppr")
    return not one.requests


def takeover_silent(made: Bench, one: Client) -> bool:
    one.register()
    made.connect("scscf2").mar()
    return not one.requests


def mnc_cut(made: Bench, one: Client) -> bool:
    return bool(one.uar().experimental == 5001)


def keys_logged(made: Bench, one: Client) -> bool:
    one.mar()
    told = " ".join(effect.text for effect in made.log if isinstance(effect, fx.Emit))
    return K.hex() in told and OPC.hex() in told


SEEN: dict[str, Callable[[Bench, Client], bool]] = {
    "auts-unchecked": auts_unchecked,
    "auts-from-anyone": auts_from_anyone,
    "sqn-repeated": sqn_repeated,
    "ind-blind": ind_blind,
    "amf-zero-after-resync": amf_zero_after_resync,
    "rand-reused": rand_reused,
    "split-request-lost": split_request_lost,
    "missing-avp-ignored": missing_avp_ignored,
    "unknown-avp-accepted": unknown_avp_accepted,
    "any-sar-clears": any_sar_clears,
    "takeover-unchecked": takeover_unchecked,
    "identities-unmatched": identities_unmatched,
    "scheme-ignored": scheme_ignored,
    "one-vector": one_vector,
    "vector-before-commit": vector_before_commit,
    "mar-before-cer": mar_before_cer,
    "cer-unchecked": cer_unchecked,
    "open-after-dpr": open_after_dpr,
    "rtr-nowhere": rtr_nowhere,
    "ppr-missing": ppr_missing,
    "takeover-silent": takeover_silent,
    "mnc-cut": mnc_cut,
    "keys-logged": keys_logged,
}


def test_every_fault_is_looked_at() -> None:
    assert set(SEEN) == set(FAULTS)
    for name, fault in FAULTS.items():
        assert fault.name == name
        assert fault.text


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_a_fault_is_seen_and_its_absence_too(name: str) -> None:
    for faults in ((name,), ()):
        made = Bench([subscriber(amf=b"\x40\0"), OTHER], faults)
        assert SEEN[name](made, made.connect()) is bool(faults)


def test_faults_have_names() -> None:
    with pytest.raises(LocalError):
        Faults(["no-such-fault"])
    assert "one-vector" in Faults(["one-vector"])
    assert "one-vector" not in Faults()


def test_garbage_with_a_split_fault() -> None:
    made = Bench([subscriber()], ["split-request-lost"])
    one = made.connect()
    made.tell(ev.Arrival(one.flow, b"\xff" * 30))
    assert one.mar().is_success


def test_cutting() -> None:
    assert cut_mnc("1@ims.mnc001.mcc001.3gppnetwork.org") == "1@ims.mnc01.mcc001.3gppnetwork.org"
    assert cut_mnc("1@ims.mnc410.mcc310.3gppnetwork.org") == "1@ims.mnc410.mcc310.3gppnetwork.org"
