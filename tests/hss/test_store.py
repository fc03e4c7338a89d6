"""The store in memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hss.store import Change, MemoryStore, StaleChange
from hss.subscriber import Subscriber
from imslab.core.errors import LocalError
from tests.hss.carrier import IMPI, IMPU, OPC, K, subscriber


def test_found_by_every_identity() -> None:
    one = subscriber(msisdn="15550001")
    store = MemoryStore([one])
    for key in (IMPI, IMPU, "tel:+1-555-0001", "SIP:+15550001@IMS.mnc001.mcc001.3gppnetwork.org;user=phone"):
        assert store.load(key) is one
    assert store.load("tel:+1") is None
    assert list(store) == [one]
    assert len(store) == 1


def test_a_change_is_made_once() -> None:
    one = subscriber()
    store = MemoryStore([one])
    after = replace(one, version=1)
    store.commit(Change(one, after))
    assert store.load(IMPI) is after
    # A second worker that had loaded the same record may not commit: it would hand out the same SQN.
    with pytest.raises(StaleChange):
        store.commit(Change(one, replace(one, version=1)))
    assert store.load(IMPI) is after


def test_identities_come_and_go() -> None:
    one = subscriber()
    store = MemoryStore([one])
    more = replace(subscriber(msisdn="15550001"), version=1)
    store.commit(Change(one, more))
    assert store.load("tel:+15550001") is more
    store.commit(Change(more, replace(one, version=2)))
    assert store.load("tel:+15550001") is None
    store.remove(IMPU)
    assert store.load(IMPI) is None
    assert len(store) == 0
    with pytest.raises(LocalError):
        store.remove(IMPU)


def test_nobody_takes_anothers_identity() -> None:
    store = MemoryStore([subscriber(msisdn="15550001")])
    other = Subscriber.from_imsi("001010000000002", K, OPC, msisdn="15550001")
    with pytest.raises(LocalError):
        store.add(other)
    assert store.load("001010000000002@ims.mnc001.mcc001.3gppnetwork.org") is None
    with pytest.raises(StaleChange):
        store.add(subscriber())
    with pytest.raises(StaleChange):
        store.commit(Change(other, None))


def test_no_change_is_no_change() -> None:
    with pytest.raises(LocalError):
        MemoryStore().commit(Change(None, None))


def test_a_change_shows_no_key() -> None:
    one = subscriber()
    assert K.hex() not in repr(Change(one, replace(one, version=1)))
    assert repr(K)[2:-1] not in repr(Change(one, None))
