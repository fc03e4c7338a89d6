"""P-Charging-Vector and P-Charging-Function-Addresses."""

from __future__ import annotations

import pytest

from imslab.core.errors import LocalError, PeerError
from imslab.sip.fields.charging import ChargingFunctionAddresses, ChargingVector


def test_vector() -> None:
    text = 'icid-value="AyretyU0dm+6O2IrT5tAFrbHLso=023551024";icid-generated-at=192.0.2.1; orig-ioi="home1.net"'
    vector = ChargingVector.parse(text)
    assert (vector.icid, vector.generated_at) == ("AyretyU0dm+6O2IrT5tAFrbHLso=023551024", "192.0.2.1")
    assert (vector.orig_ioi, vector.term_ioi) == ("home1.net", None)
    assert str(vector) == text
    assert str(vector.with_params({"term-ioi": "x"})).endswith('192.0.2.1;orig-ioi="home1.net";term-ioi=x')
    assert str(ChargingVector({"icid-value": "1"})) == "icid-value=1"
    for bad in ("", "orig-ioi=x", "icid-value", "icid-value=1;icid-value=2", "icid-value=1, x"):
        with pytest.raises(PeerError):
            ChargingVector.parse(bad)


def test_icid_of_a_vector_made_without() -> None:
    assert ChargingVector().icid == ""


def test_function_addresses() -> None:
    text = 'ccf="192.0.2.1"; CCF=[2001:db8::1];ecf=a.example;x'
    addresses = ChargingFunctionAddresses.parse(text)
    assert (addresses.ccf, addresses.ecf) == (["192.0.2.1", "[2001:db8::1]"], ["a.example"])
    assert str(addresses) == text
    assert str(ChargingFunctionAddresses((("ccf", "a"), ("ccf", "b")))) == "ccf=a;ccf=b"
    with pytest.raises(PeerError):
        ChargingFunctionAddresses.parse("")
    with pytest.raises(LocalError):
        str(ChargingFunctionAddresses(()))
    with pytest.raises(LocalError):
        str(ChargingFunctionAddresses((("ccf", "a b"),)))
