"""The UE's offers and SA table (33.203 7.1, 7.2, Annex H)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from imslab.core.entropy import SeededEntropy
from imslab.core.errors import LocalError, PeerError
from imslab.core.flow import Endpoint, Flow, Transport
from imslab.ipsec.sa import derive_set
from imslab.roles.profiles import CONFORMANT
from imslab.roles.ue_sas import END_PORT, FIRST_PORT, SaTable, Standing, UeSet, choose_server
from imslab.sip.fields.security import SecurityMechanism

PAIRS = (("hmac-sha-1-96", "aes-cbc"), ("hmac-sha-1-96", "null"))


def table(profile_seed: int = 1) -> tuple[SaTable, SeededEntropy]:
    return SaTable(), SeededEntropy(profile_seed)


def made(sas: SaTable, entropy: SeededEntropy, standing: Standing = Standing.TEMPORARY) -> UeSet:
    offer = sas.offer(entropy, CONFORMANT, PAIRS, 5060)
    number = sas.next_number()
    server = sas.offer(SeededEntropy(1000 + number), CONFORMANT, PAIRS, 5060)
    server.port_c, server.port_s = 6100 + number, 6000
    derived = derive_set(number, "a", "a", offer, "b", server, *PAIRS[0], bytes(16), bytes(16), 240.0)
    found = UeSet(derived, offer, "b", server.port_c, server.port_s, [], 0.0, standing)
    sas.add(found)
    return found


def test_offer_is_written_as_annex_h_wants() -> None:
    sas, entropy = table()
    offer = sas.offer(entropy, CONFORMANT, PAIRS, 5060)
    tail = f"spi-c={offer.spi_c:010d};spi-s={offer.spi_s:010d};port-c={offer.port_c};port-s={offer.port_s}"
    assert offer.security_client == (
        f"ipsec-3gpp;alg=hmac-sha-1-96;ealg=aes-cbc;{tail}, ipsec-3gpp;alg=hmac-sha-1-96;ealg=null;{tail}"
    )
    profile = replace(CONFORMANT, pad_spis=False, prot_and_mod=True)
    offer = sas.offer(entropy, profile, PAIRS[:1], 5060)
    assert offer.security_client.startswith("ipsec-3gpp;prot=esp;mod=trans;alg=hmac-sha-1-96;ealg=aes-cbc;spi-c=")
    assert f"spi-c={offer.spi_c};" in offer.security_client


def test_a_thousand_offers_never_collide() -> None:
    # SPI-01, SPI-07
    sas, entropy = table()
    before = None
    for _ in range(1000):
        offer = sas.offer(entropy, CONFORMANT, PAIRS, 5060, before=before)
        assert offer.port_s == sas.port_s
        assert FIRST_PORT <= offer.port_c < END_PORT
        assert offer.port_c != offer.port_s
        assert min(offer.spi_c, offer.spi_s) > 255
        if before is not None:
            assert not {offer.spi_c, offer.spi_s} & {before.spi_c, before.spi_s}
            assert offer.port_c != before.port_c
        before = offer


def test_profile_names_the_first_ports_only() -> None:
    sas, entropy = table()
    profile = replace(CONFORMANT, port_c=6301, port_s=6300)
    first = sas.offer(entropy, profile, PAIRS, 5060)
    assert (first.port_c, first.port_s) == (6301, 6300)
    second = sas.offer(entropy, profile, PAIRS, 5060, before=first)
    assert second.port_s == 6300
    assert second.port_c != 6301


def test_no_port_is_left() -> None:
    class Stuck:
        """Another SPI each time, always the same port."""

        spi = 5000

        def octets(self, count: int) -> bytes:
            self.spi += 1
            return self.spi.to_bytes(4, "big") if count == 4 else (1).to_bytes(count, "big")

    sas = SaTable()
    sas.port_s = FIRST_PORT + 1
    with pytest.raises(LocalError, match="no free protected port"):
        sas.offer(Stuck(), CONFORMANT, PAIRS, 5060)


def test_sets_by_standing_and_flow() -> None:
    sas, entropy = table()
    assert (sas.temporary, sas.established, sas.old) == (None, None, None)
    old = made(sas, entropy, Standing.OLD)
    established = made(sas, entropy, Standing.ESTABLISHED)
    temporary = made(sas, entropy)
    assert (sas.temporary, sas.established, sas.old) == (temporary, established, old)
    assert len(sas.spis()) == 12
    for each in (old, established, temporary):
        out = each.flow(Transport.UDP, "a")
        assert out == Flow(Transport.UDP, Endpoint("a", each.offer.port_c), Endpoint("b", 6000))
        assert sas.find(out) is each
        back = Flow(Transport.TCP, Endpoint("a", each.offer.port_s), Endpoint("b", each.pcscf_port_c))
        assert sas.find(back) is each
        assert sas.find(out._replace(remote=Endpoint("c", 6000))) is None
        assert sas.find(out._replace(remote=Endpoint("b", 5060))) is None
        assert sas.is_protected_port(each.offer.port_c)
    assert sas.is_protected_port(sas.port_s)
    assert not sas.is_protected_port(5060)
    assert sas.remove(old.number) is old
    assert sas.remove(old.number) is None
    assert SaTable().is_protected_port(0) is False


def entry(text: str) -> SecurityMechanism:
    return SecurityMechanism.parse(f"ipsec-3gpp;{text};spi-c=1000;spi-s=1001;port-c=6100;port-s=6101")


@pytest.mark.parametrize(
    ("entries", "taken"),
    [
        (["alg=hmac-sha-1-96;ealg=null", "alg=hmac-sha-1-96;ealg=aes-cbc"], 0),  # SEC-07: no q, first listed
        (["q=0.1;alg=hmac-sha-1-96;ealg=null", "q=0.2;alg=hmac-sha-1-96;ealg=aes-cbc"], 1),
        (["q=0.5;alg=hmac-sha-1-96;ealg=null", "q=0.5;alg=hmac-sha-1-96;ealg=aes-cbc"], 0),
        (["alg=hmac-sha-1-96;ealg=null", "q=0.1;alg=hmac-sha-1-96;ealg=aes-cbc"], 1),
        (["q=0.9;alg=hmac-md5-96;ealg=aes-cbc", "q=0.1;alg=hmac-sha-1-96"], 1),  # SEC-06: whole entries
        (["q=0.9;alg=hmac-sha-1-96;mod=tun", "alg=HMAC-SHA-1-96"], 1),
    ],
)
def test_entry_that_is_taken(entries: list[str], taken: int) -> None:
    mechanisms = [entry(text) for text in entries]
    assert choose_server([SecurityMechanism.parse("tls;q=1.0"), *mechanisms], PAIRS) is mechanisms[taken]


def test_nothing_that_can_be_taken() -> None:
    for mechanisms in (
        [],
        [SecurityMechanism.parse("tls")],
        [entry("alg=hmac-md5-96")],
        [SecurityMechanism.parse("ipsec-3gpp;alg=hmac-sha-1-96")],
        [entry("q=x;alg=hmac-sha-1-96")],
    ):
        with pytest.raises(PeerError):
            choose_server(mechanisms, PAIRS)
