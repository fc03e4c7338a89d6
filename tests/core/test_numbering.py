"""Identities made of an IMSI (23.003 13)."""

from __future__ import annotations

import pytest

from imslab.core.errors import LocalError
from imslab.core.numbering import derive, derive_in_plmn, home_domain


@pytest.mark.parametrize(
    ("mcc", "mnc", "domain"),
    [
        ("001", "01", "ims.mnc001.mcc001.3gppnetwork.org"),
        ("001", "001", "ims.mnc001.mcc001.3gppnetwork.org"),
        ("310", "410", "ims.mnc410.mcc310.3gppnetwork.org"),
        ("234", "15", "ims.mnc015.mcc234.3gppnetwork.org"),  # the example of 23.003 13.2
    ],
)
def test_the_home_domain_has_three_digits(mcc: str, mnc: str, domain: str) -> None:
    assert home_domain(mcc, mnc) == domain


@pytest.mark.parametrize(("mcc", "mnc"), [("01", "01"), ("0010", "01"), ("001", "1"), ("001", "0001"), ("٠٠١", "01")])
def test_no_plmn(mcc: str, mnc: str) -> None:
    with pytest.raises(LocalError):
        home_domain(mcc, mnc)


def test_identities_follow_from_the_imsi() -> None:
    derived = derive("001010000000001", home_domain("001", "01"))
    assert derived.impi == "001010000000001@ims.mnc001.mcc001.3gppnetwork.org"
    assert derived.impu == "sip:001010000000001@ims.mnc001.mcc001.3gppnetwork.org"
    assert derive_in_plmn("001010000000001", "001", "01") == derived
    assert derive_in_plmn("001010000000001", "001", "001") == derived


@pytest.mark.parametrize("imsi", ["00101", "0010100000000012", "00101000000000x", "", "٠٠١٠١٠٠٠٠٠٠٠٠٠١"])
def test_no_imsi(imsi: str) -> None:
    with pytest.raises(LocalError, match="IMSI"):
        derive(imsi, "example")


def test_an_imsi_of_another_network_is_refused() -> None:
    with pytest.raises(LocalError, match="IMSI 310410000000001 does not begin with 00101"):
        derive_in_plmn("310410000000001", "001", "01")
