"""Handsets and the configuration of a UE."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from imslab.core.errors import LocalError
from imslab.core.flow import Endpoint
from imslab.roles.profiles import CONFORMANT, PROFILES, Profile, find_profile
from imslab.roles.ue_config import UeConfig
from imslab.roles.ue_states import State
from tests.roles.ue_lab import DOMAIN, IMPI, IMPU, UeLab


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_every_profile_registers(name: str) -> None:
    lab = UeLab(profile=find_profile(name))
    if name == "samsung":
        # It offers hmac-md5-96 without a cipher and nothing else.
        lab.pcscf.security_server = lambda: (  # type: ignore[method-assign]
            "ipsec-3gpp;alg=hmac-md5-96;ealg=null;"
            f"spi-c={lab.pcscf.spi};spi-s={lab.pcscf.spi + 1};port-c={lab.pcscf.port_pc};port-s=6001"
        )
        lab.pcscf.qop = "auth,auth-int"
    lab.register()
    assert lab.state() is State.REGISTERED
    lab.command("reregister")
    assert lab.state() is State.REGISTERED


def test_samsung_is_as_captured() -> None:
    lab = UeLab(profile=find_profile("samsung"))
    lab.pcscf.qop = "auth,auth-int"
    lab.register()
    request = lab.sent("REGISTER")[0]
    client = request.get("Security-Client") or ""
    assert client.startswith("ipsec-3gpp;prot=esp;mod=trans;")
    assert "port-c=6301;port-s=6300" in client
    assert "gruu" in request.supported


def test_unknown_profile() -> None:
    with pytest.raises(LocalError, match="there are: conformant"):
        find_profile("brick")


@pytest.mark.parametrize("wrong", [{"transport": "smoke"}, {"udp_answers": "never"}, {"offers": ()}])
def test_impossible_profile(wrong: dict[str, Any]) -> None:
    with pytest.raises(LocalError):
        Profile("x", **wrong)


def config(**changes: Any) -> UeConfig:
    values: dict[str, Any] = {
        "host": "192.0.2.1",
        "impi": IMPI,
        "impu": IMPU,
        "domain": DOMAIN,
        "pcscf": (Endpoint("192.0.2.2", 5060),),
    }
    return UeConfig(**{**values, **changes})


def test_configuration_overrides_the_profile() -> None:
    assert config().effective_transport == "auto"
    assert config(transport="tcp").effective_transport == "tcp"
    assert config().effective_offers == CONFORMANT.offers
    pairs = (("hmac-sha-1-96", "null"),)
    assert config(offers=pairs).effective_offers == pairs
    assert config(profile=replace(CONFORMANT, transport="udp")).effective_transport == "udp"
    assert config().home_uri == f"sip:{DOMAIN}"


@pytest.mark.parametrize("wrong", [{"pcscf": ()}, {"transport": "smoke"}, {"offers": (("aes-gmac", "aes-cbc"),)}])
def test_impossible_configuration(wrong: dict[str, Any]) -> None:
    with pytest.raises(LocalError):
        config(**wrong)
