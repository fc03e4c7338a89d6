"""P-Access-Network-Info."""

from __future__ import annotations

import pytest

from imslab.core.errors import PeerError
from imslab.sip.fields.access import AccessNetworkInfo


def test_access_network_info() -> None:
    text = "3GPP-E-UTRAN-FDD; utran-cell-id-3gpp=0010100010000101;network-provided"
    info = AccessNetworkInfo.parse(text)
    assert info.access_type == "3GPP-E-UTRAN-FDD"
    assert info.params["utran-cell-id-3gpp"] == "0010100010000101"
    assert info.network_provided
    assert str(info) == text
    assert not AccessNetworkInfo.parse("IEEE-802.11").network_provided
    assert str(AccessNetworkInfo("IEEE-802.11", {"i-wlan-node-id": "aa"})) == "IEEE-802.11;i-wlan-node-id=aa"
    with pytest.raises(PeerError):
        AccessNetworkInfo.parse("3GPP E-UTRAN")
