"""REGISTER through the P-CSCF: what goes upstream, the challenge, the security agreement (catalogue B, C, F)."""

from __future__ import annotations

import pytest

from imslab.core import effects as fx
from imslab.core import events as ev
from imslab.core.errors import LocalError
from imslab.core.flow import Endpoint, Flow
from imslab.roles.pcscf import PcscfConfig, challenge_keys, strip_keys
from imslab.roles.pcscf_contact import granted
from imslab.sip.message import Request, Response
from tests.roles.pcscf_bench import CK, CORE, GM, IK, IMPI, IMPU, MW, TCP, UDP, UE, Bench, Sas


def first(bench: Bench, request: Request) -> Request:
    """Send a clear REGISTER; as the core gets it."""
    bench.from_ue(bench.clear(), request)
    return bench.core.requests("REGISTER")[-1]


def refused(bench: Bench, request: Request) -> Response:
    """Send a clear REGISTER that must not reach the core; the answer."""
    bench.from_ue(bench.clear(), request)
    assert bench.core.got == []
    assert bench.sets == {}
    assert bench.pcscf.contacts == {}
    return bench.ue.responses()[-1]


# ---- B: the initial REGISTER upstream


def test_path_is_ours_with_lr_and_a_token() -> None:
    bench = Bench()
    up = first(bench, bench.register(Sas()))
    path = up.path[0].uri
    assert (path.host, path.port) == MW
    assert "lr" in path.params
    assert path.user == bench.token
    assert "path" in up.require


def test_the_token_is_the_same_at_every_register_and_another_for_another_ue() -> None:
    bench = Bench()
    sas = bench.registered()
    bench.challenged(under=sas)
    tokens = {up.path[0].uri.user for up in bench.core.requests("REGISTER")}
    assert len(tokens) == 1
    up = first(bench, bench.register(Sas(41001, 41002, 5, 6), impi="other@ims.example"))
    assert up.path[0].uri.user not in tokens


def test_charging_and_visited_network_are_ours_and_fresh() -> None:
    bench = Bench()
    request = bench.register(Sas())
    request.add("P-Charging-Vector", "icid-value=forged")
    request.add("P-Charging-Function-Addresses", "ccf=10.0.0.9")
    request.add("P-Visited-Network-ID", "elsewhere.example")
    up = first(bench, request)
    vector = up.p_charging_vector
    assert vector is not None
    assert vector.orig_ioi == "Type 1visited.example"
    assert len(up.rows("P-Charging-Vector")) == 1
    assert not up.has("P-Charging-Function-Addresses")
    assert up.p_visited_network_id == ["visited.example"]
    again = first(bench, bench.register(Sas().next()))
    assert again.p_charging_vector
    assert again.p_charging_vector.icid != vector.icid != "forged"


def test_integrity_protected_is_no_once() -> None:
    bench = Bench()
    up = first(bench, bench.register(Sas()))
    assert up.authorization[0].get_all("integrity-protected") == ["no"]


@pytest.mark.parametrize(
    "spoof",
    [
        ', integrity-protected="yes"',
        ", Integrity-Protected=YES",
        ', integrity-protected=yes, INTEGRITY-PROTECTED="yes"',
        ', integrity-protected="no", integrity-protected="yes"',
    ],
)
def test_what_the_ue_says_of_its_integrity_is_removed(spoof: str) -> None:
    bench = Bench()
    up = first(bench, bench.register(Sas(), more=spoof))
    assert up.authorization[0].get_all("integrity-protected") == ["no"]


def test_every_digest_row_gets_the_flag_and_other_schemes_stay() -> None:
    bench = Bench()
    request = bench.register(Sas())
    request.add("Authorization", f'DIGEST username="{IMPI}", integrity-protected="yes"')
    request.add("Authorization", "Basic QWxhZGRpbjpvcGVu")
    up = first(bench, request)
    assert [each.get_all("integrity-protected") for each in up.authorization] == [["no"], ["no"]]
    assert "Basic QWxhZGRpbjpvcGVu" in up.rows("Authorization")


def test_the_agreement_stays_on_gm() -> None:
    bench = Bench()
    up = first(bench, bench.register(Sas()))
    for name in ("Security-Client", "Security-Verify", "Security-Server", "Proxy-Require"):
        assert not up.has(name)
    assert up.rows("Require") == ["path"]


def test_without_sec_agree_in_require_there_is_nothing_to_take_off() -> None:
    bench = Bench()
    request = bench.register(Sas())
    request.remove("Require")
    request.remove("Proxy-Require")
    up = first(bench, request)
    assert up.require == ["path"]
    assert not up.has("Proxy-Require")


def test_other_option_tags_stay() -> None:
    bench = Bench()
    request = bench.register(Sas())
    request.replace("Require", ["foo, sec-agree", "Sec-Agree, bar"])
    up = first(bench, request)
    assert [tag.lower() for tag in up.require] == ["foo", "bar", "path"]


def test_require_path_is_not_added_twice() -> None:
    bench = Bench()
    request = bench.register(Sas())
    request.set("Require", "sec-agree, Path")
    assert first(bench, request).require == ["Path"]


def test_a_forged_path_and_identity_and_route_go() -> None:
    bench = Bench()
    request = bench.register(Sas())
    request.add("Path", "<sip:attacker.example;lr>")
    request.add("P-Asserted-Identity", "<sip:boss@ims.example>")
    request.add("Route", f"<sip:{GM};lr>, <sip:attacker.example;lr>")
    up = first(bench, request)
    assert len(up.path) == 1
    assert not up.has("P-Asserted-Identity")
    assert not up.has("Route")
    assert not up.has("Record-Route")


def test_network_provided_access_info_goes_and_the_ues_own_stays() -> None:
    bench = Bench()
    request = bench.register(Sas())
    request.add("P-Access-Network-Info", "3GPP-E-UTRAN-FDD;utran-cell-id-3gpp=1, 3GPP-GERAN;network-provided")
    assert first(bench, request).rows("P-Access-Network-Info") == ["3GPP-E-UTRAN-FDD;utran-cell-id-3gpp=1"]
    request = bench.register(Sas().next())
    request.add("P-Access-Network-Info", "3GPP-GERAN;network-provided")
    assert not first(bench, request).has("P-Access-Network-Info")


def test_a_pcscf_that_is_not_access_aware_passes_it_on() -> None:
    bench = Bench(access_aware=False)
    request = bench.register(Sas())
    request.add("P-Access-Network-Info", "3GPP-GERAN;network-provided")
    assert first(bench, request).has("P-Access-Network-Info")


def test_max_forwards_goes_down_and_ends_in_483() -> None:
    bench = Bench()
    request = bench.register(Sas())
    assert first(bench, request).max_forwards == 69
    bench = Bench()
    request = bench.register(Sas())
    request.set("Max-Forwards", "0")
    assert refused(bench, request).status == 483


def test_unknown_proxy_require_is_420_and_names_it() -> None:
    bench = Bench()
    request = bench.register(Sas())
    request.set("Proxy-Require", "sec-agree, foo")
    response = refused(bench, request)
    assert response.status == 420
    assert response.unsupported == ["foo"]


def test_repeated_register_makes_one_transaction_and_one_set() -> None:
    bench = Bench()
    request = bench.register(Sas())
    for _ in range(3):
        bench.from_ue(bench.clear(), request)
    assert len(bench.core.requests("REGISTER")) == 1
    bench.challenge(bench.core.requests("REGISTER")[0])
    for _ in range(2):
        bench.from_ue(bench.clear(), request)
    assert len({response.encode() for response in bench.ue.responses()}) == 1
    assert len(bench.ue.responses()) == 3
    assert len(bench.effects(fx.InstallSas)) == 1


def test_large_registers_go_upstream_over_tcp() -> None:
    bench = Bench()
    request = bench.register(Sas())
    request.add("Subject", "x" * 900)
    bench.from_ue(bench.clear(), request)
    assert bench.core.got[-1].flow.transport is TCP
    assert bench.core.got[-1].flow.remote.host == MW.host
    assert bench.core.requests()[-1].via[0].transport == "TCP"
    assert bench.core.requests()[-1].via[0].port == MW.port


def test_a_register_from_the_core_is_none_of_ours() -> None:
    bench = Bench()
    request = bench.register(Sas())
    bench.core.send(Flow(UDP, CORE, MW), request)
    bench.flush(bench.core)
    assert bench.core.responses()[-1].status == 403


# ---- entry points


def test_the_second_entry_point_is_tried_then_504() -> None:
    dead = Endpoint("198.51.100.77", 5060)
    bench = Bench(icscf=(dead, CORE))
    bench.from_ue(bench.clear(), bench.register(Sas()))
    assert bench.core.got == []
    bench.wire.run(40.0)
    assert len({up.via[0].branch for up in bench.core.requests("REGISTER")}) == 1
    bench.wire.run(80.0)
    assert bench.ue.responses()[-1].status == 504
    assert bench.ue.got[-1].flow.remote == GM
    assert "timeout" in bench.wire.emitted("pcscf")
    assert bench.sets == {}
    assert bench.pcscf.contacts == {}


def test_an_unknown_name_is_passed_over_and_without_entry_points_the_domain_is_asked() -> None:
    bench = Bench(icscf=(Endpoint("nobody.example", 5060), Endpoint("scscf.ims.example", 5060)))
    bench.from_ue(bench.clear(), bench.register(Sas()))
    assert len(bench.core.requests("REGISTER")) == 1
    bench = Bench(icscf=())
    bench.wire.names["ims.example"] = CORE.host
    bench.from_ue(bench.clear(), bench.register(Sas()))
    assert len(bench.core.requests("REGISTER")) == 1
    bench = Bench(icscf=(Endpoint("nobody.example", 5060),))
    bench.from_ue(bench.clear(), bench.register(Sas()))
    assert bench.ue.responses()[-1].status == 504


# ---- C: the challenge


def test_the_keys_are_taken_out_and_used() -> None:
    bench = Bench()
    bench.challenged()
    response = bench.ue.responses()[-1]
    assert not response.www_authenticate[0].has("ck")
    assert not response.www_authenticate[0].has("ik")
    assert response.www_authenticate[0].qop == "auth"
    sas = bench.wire.sets["pcscf"][1]
    assert {(sa.ck.hex(), sa.ik.hex()) for sa in sas.sas} == {(CK, IK)}


@pytest.mark.parametrize(
    "www",
    [
        f'Digest CK="{CK}", realm="r", IK="{IK}", nonce="n", algorithm=AKAv1-MD5',
        f"digest ik={IK}, nonce=n, Ck={CK}",
        f'Digest realm="r", nonce="n", ik="{IK.upper()}", ck="{CK.upper()}"',
    ],
)
def test_the_keys_are_found_in_any_order_and_case(www: str) -> None:
    bench = Bench()
    up = first(bench, bench.register(Sas()))
    bench.challenge(up, www=www)
    text = bench.ue.got[-1].message.encode().decode().lower()
    assert CK not in text
    assert IK not in text
    assert bench.wire.sets["pcscf"][1].sas[0].ik.hex() == IK


@pytest.mark.parametrize(
    "www",
    [
        'Digest realm="r", nonce="n"',
        f'Digest realm="r", nonce="n", ck="{CK}"',
        f'Digest realm="r", nonce="n", ik="{IK}"',
        f'Digest realm="r", nonce="n", ck="{CK[:31]}", ik="{IK}"',
        f'Digest realm="r", nonce="n", ck="{CK}", ik="{IK}0"',
        f'Digest realm="r", nonce="n", ck="{"g" * 32}", ik="{IK}"',
        f'Digest realm="r", nonce="n", ck="", ik="{IK}"',
        f'Digest realm="r", nonce="n", ck="{CK}", ck="{IK}", ik="{IK}"',
        f'Digest realm="r", ck="{CK}", ik="{IK}"',
        f'Digest realm="r" nonce "n", ck="{CK}", ik="{IK}"',
        f'Basic realm="r", ck="{CK}", ik="{IK}"',
    ],
)
def test_a_challenge_without_good_keys_makes_no_set_and_an_error(www: str) -> None:
    bench = Bench()
    up = first(bench, bench.register(Sas()))
    bench.challenge(up, www=www)
    assert bench.ue.responses()[-1].status == 500
    assert bench.sets == {}
    assert bench.effects(fx.InstallSas) == []
    assert CK.encode() not in bench.ue.got[-1].message.encode()


def test_of_two_challenges_the_one_with_keys_counts_and_both_lose_them() -> None:
    response = Response(401, headers=[("WWW-Authenticate", f'Digest nonce="a", ck="{CK}"')])
    response.add("WWW-Authenticate", f'Digest nonce="b", ck="{CK}", ik="{IK}"')
    response.add("WWW-Authenticate", f'Strange ck="{CK}"')
    keys = challenge_keys(response)
    assert keys is not None
    assert keys.nonce == "b"
    assert repr(keys) == "Keys(<keys not shown>, nonce='b')"
    response.add("WWW-Authenticate", f"ck {CK}")
    strip_keys(response)
    assert CK not in response.encode().decode()
    assert len(response.rows("WWW-Authenticate")) == 2
    only = Response(401, headers=[("WWW-Authenticate", f"ck {CK}")])
    strip_keys(only)
    assert not only.has("WWW-Authenticate")


def test_the_set_stands_before_the_401_leaves() -> None:
    bench = Bench()
    sas = bench.challenged()
    log = [
        e for e in bench.effects(fx.InstallSas, fx.Send, fx.Listen) if not isinstance(e, fx.Send) or b"401" in e.octets
    ]
    kinds = [type(e).__name__ for e in log[4:]]  # after the four ports that are open from the start
    assert kinds == ["Listen"] * 4 + ["InstallSas", "Send"]
    assert isinstance(log[-2], fx.InstallSas)
    assert log[-2].sas.lifetime == 240.0
    assert {(e.transport, e.local) for e in log[4:8] if isinstance(e, fx.Listen)} == {
        (transport, Endpoint(GM.host, port)) for transport in (UDP, TCP) for port in (sas.pc, sas.ps)
    }


def test_a_set_that_cannot_be_installed_makes_a_500_in_place_of_the_401() -> None:
    bench = Bench()
    bench.wire.sa_error = lambda name, sas: "no memory"
    request = bench.register(Sas())
    bench.from_ue(bench.clear(), request)
    bench.challenge(bench.core.requests("REGISTER")[-1])
    assert [response.status for response in bench.ue.responses()] == [500]
    assert bench.sets == {}
    assert "sas-failed" in bench.wire.emitted("pcscf")
    bench.from_ue(bench.clear(), request)  # repeated: the same answer again
    assert [response.status for response in bench.ue.responses()] == [500, 500]
    bench.wire.give(bench.pcscf, ev.SasFailed(99, "not even ours"))
    assert bench.sets == {}


def test_the_four_sas_have_the_right_spis_and_ports() -> None:
    bench = Bench()
    ue = bench.challenged()
    told = bench.ue.responses()[-1].security_server[0]
    a, b, c, d = bench.wire.sets["pcscf"][1].sas
    uc, us = Endpoint(UE, ue.uc), Endpoint(UE, ue.us)
    pc, ps = Endpoint(GM.host, told.port_c), Endpoint(GM.host, told.port_s)
    assert (a.src, a.dst, a.spi) == (uc, ps, told.spi_s)
    assert (b.src, b.dst, b.spi) == (ps, uc, ue.spi_c)
    assert (c.src, c.dst, c.spi) == (pc, us, ue.spi_s)
    assert (d.src, d.dst, d.spi) == (us, pc, told.spi_c)
    assert len({sa.spi for sa in (a, b, c, d)}) == 4
    assert told.port_c != told.port_s


def test_security_server_lists_everything_by_own_priority() -> None:
    pairs = (("null", "aes-gcm"), ("hmac-sha-1-96", "aes-cbc"), ("hmac-sha-1-96", "null"), ("aes-gmac", "null"))
    bench = Bench(algorithms=pairs)
    request = bench.register(Sas())
    request.set("Security-Client", Sas().client(("hmac-sha-1-96", "null")))  # no cipher offered at all
    bench.challenge(first(bench, request))
    told = bench.ue.responses()[-1].security_server
    assert [(each.alg, each.ealg) for each in told] == list(pairs)
    qs = [each.q for each in told]
    assert None not in qs
    assert qs == sorted(qs, key=lambda q: -(q or 0))
    assert len(set(qs)) == len(qs)
    assert len({(each.spi_c, each.spi_s, each.port_c, each.port_s) for each in told}) == 1
    assert {(each.mechanism, each.prot, each.mod) for each in told} == {("ipsec-3gpp", "esp", "trans")}
    assert all(len(each.params["spi-c"] or "") == 10 for each in told)
    assert bench.wire.sets["pcscf"][1].sas[0].ealg == "null"


def test_the_401_to_a_clear_register_goes_where_it_came_from() -> None:
    bench = Bench()
    request = bench.register(Sas())
    request.set("Via", "SIP/2.0/UDP 10.9.9.9:5999;branch=z9hG4bKx;rport")
    bench.from_ue(bench.clear(40041), request)
    bench.challenge(bench.core.requests("REGISTER")[-1])
    got = bench.ue.got[-1]
    assert got.flow == Flow(UDP, Endpoint(UE, 40041), GM)
    via = got.message.via[0]
    assert (via.received, via.rport) == (UE, 40041)


def test_a_large_401_stays_on_udp() -> None:
    bench = Bench()
    up = first(bench, bench.register(Sas()))
    bench.challenge(up, www=f'Digest realm="{"r" * 1500}", nonce="n", ck="{CK}", ik="{IK}"')
    got = bench.ue.got[-1]
    assert got.flow.transport is UDP
    assert len(got.message.encode()) > 1500


def test_a_newer_challenge_replaces_the_temporary_set() -> None:
    bench = Bench()
    one = bench.challenged()
    bench.wire.log.clear()
    two = bench.challenged(Sas(uc=one.uc))  # the same ports and SPIs again: the 401 was lost
    assert bench.sets == {2: "temporary"}
    first_effects = [type(e) for e in bench.effects(fx.RemoveSas, fx.InstallSas)]
    assert first_effects == [fx.RemoveSas, fx.InstallSas]
    assert one.server != two.server


def test_a_newer_challenge_keeps_the_established_set() -> None:
    bench = Bench()
    old = bench.registered()
    bench.challenged(old.next())
    bench.challenged(old.next(2))
    assert bench.sets == {1: "established", 3: "temporary"}


# ---- F: Security-Client


def offers(bench: Bench, *rows: str) -> Response:
    """The answer to a clear REGISTER with these Security-Client rows, after a challenge if it got that far."""
    request = bench.register(Sas())
    request.replace("Security-Client", rows)
    bench.from_ue(bench.clear(), request)
    if bench.core.got:
        bench.challenge(bench.core.requests("REGISTER")[-1])
    return bench.ue.responses()[-1]


def installed(bench: Bench) -> tuple[str, str]:
    sa = bench.wire.sets["pcscf"][1].sas[0]
    return sa.alg, sa.ealg


PORTS = "spi-c=1001;spi-s=1002;port-c=40001;port-s=40002"


def test_defaults_of_annex_h() -> None:
    bench = Bench()
    assert offers(bench, f"ipsec-3gpp;alg=hmac-sha-1-96;{PORTS}").status == 401
    assert installed(bench) == ("hmac-sha-1-96", "null")


def test_own_priority_decides_and_pairs_stay_together() -> None:
    bench = Bench(algorithms=(("hmac-sha-1-96", "aes-cbc"), ("null", "aes-gcm"), ("hmac-sha-1-96", "null")))
    sas = Sas()
    offers(bench, sas.client(("hmac-sha-1-96", "null"), ("null", "aes-gcm"), ("aes-gmac", "null")))
    assert installed(bench) == ("null", "aes-gcm")


@pytest.mark.parametrize(
    "rows",
    [
        [f"ipsec-3gpp;alg=foo;{PORTS}", f"ipsec-3gpp;alg=hmac-sha-1-96;ealg=aes-cbc;{PORTS}"],
        ["tls, ipsec-ike;q=0.1", f"token, sdes-srtp;mediasec, ipsec-3gpp;alg=hmac-sha-1-96;ealg=aes-cbc;{PORTS}"],
        [f"ipsec-3gpp;ealg=aes-cbc;{PORTS}, ipsec-3gpp;alg=hmac-sha-1-96;ealg=aes-cbc;{PORTS}"],
        [f"ipsec-3gpp;ALG=HMAC-SHA-1-96;Ealg=AES-CBC;{PORTS.upper()}"],
        [f"ipsec-3gpp;alg=null;ealg=aes-gcm;prot=ah;{PORTS}, ipsec-3gpp;alg=hmac-sha-1-96;ealg=aes-cbc;{PORTS}"],
        [f"ipsec-3gpp; alg=hmac-sha-1-96 ;ealg=aes-cbc; {PORTS}", f"ipsec-3gpp;alg=hmac-sha-1-96;mod=tun;{PORTS}"],
        [f"ipsec-3gpp;alg=hmac-sha-1-96;ealg=aes-cbc;{PORTS.replace('1001', '4294967295')}"],
        [f"ipsec-3gpp;alg=hmac-sha-1-96;ealg=null;spi-c=1;spi-s=x;port-c=2;port-s=3, {Sas().client()}"],
    ],
)
def test_the_usable_entry_is_found(rows: list[str]) -> None:
    bench = Bench()
    assert offers(bench, *rows).status == 401
    assert installed(bench) == ("hmac-sha-1-96", "aes-cbc")


@pytest.mark.parametrize(
    "row",
    [
        f"ipsec-3gpp;alg=hmac-sha-256-128;{PORTS}",
        f"ipsec-3gpp;alg=null;ealg=null;{PORTS}",
        f"ipsec-3gpp;alg=null;ealg=aes-cbc;{PORTS}",
        f"ipsec-3gpp;alg=hmac-sha-1-96;ealg=aes-gcm;{PORTS}",
        f"ipsec-3gpp;alg=hmac-md5-96;ealg=des-ede3-cbc;{PORTS}",
        f"ipsec-3gpp;alg=hmac-sha-1-96;prot=ah;{PORTS}",
        f"ipsec-3gpp;alg=hmac-sha-1-96;mod=tun;{PORTS}",
        f"ipsec-3gpp;alg=hmac-sha-1-96;mod=UDP-enc-tun;{PORTS}",
        "tls",
    ],
)
def test_nothing_acceptable_is_494_with_our_list(row: str) -> None:
    bench = Bench()
    response = offers(bench, row)
    assert response.status == 494
    assert len(response.security_server) == 4
    assert "spi-c" not in response.security_server[0].params  # nothing was allocated
    assert bench.core.got == []
    assert bench.sets == {}


@pytest.mark.parametrize(
    "change",
    [
        ("spi-c=1001", "spi-c=0"),
        ("spi-c=1001", "spi-c=4294967296"),
        ("spi-c=1001", "spi-c=-1"),
        ("spi-c=1001", "spi-c=0x10"),
        ("spi-c=1001", "spi-c=1002"),
        ("spi-c=1001;", ""),
        ("port-c=40001", "port-c=0"),
        ("port-c=40001", "port-c=65536"),
        ("port-s=40002", "port-s=5060"),
        (";port-s=40002", ""),
    ],
)
def test_values_out_of_range_are_400(change: tuple[str, str]) -> None:
    bench = Bench()
    response = offers(bench, f"ipsec-3gpp;alg=hmac-sha-1-96;{PORTS}".replace(*change))
    assert response.status == 400
    assert response.has("Warning")
    assert bench.core.got == []


def test_syntax_errors_are_400() -> None:
    bench = Bench()
    assert offers(bench, "ipsec-3gpp;alg=;;;=x").status == 400
    assert bench.core.got == []


def test_retired_algorithms_are_used_by_a_profile_that_has_them() -> None:
    bench = Bench(algorithms=(("hmac-md5-96", "des-ede3-cbc"),))
    offers(bench, f"ipsec-3gpp;alg=hmac-md5-96;ealg=des-ede3-cbc;{PORTS}")
    assert installed(bench) == ("hmac-md5-96", "des-ede3-cbc")


def test_without_security_client_494_or_421() -> None:
    bench = Bench()
    request = bench.register(Sas())
    request.remove("Security-Client")
    response = refused(bench, request)
    assert response.status == 494
    assert response.security_server
    request = bench.register(Sas())
    for name in ("Security-Client", "Require", "Proxy-Require"):
        request.remove(name)
    response = refused(bench, request)  # Supported: sec-agree alone
    assert response.status == 494
    request = bench.register(Sas())
    for name in ("Security-Client", "Require", "Proxy-Require", "Supported"):
        request.remove(name)
    response = refused(bench, request)
    assert response.status == 421
    assert response.require == ["sec-agree"]
    assert response.security_server


def test_a_digest_profile_passes_it_on_without_a_flag() -> None:
    bench = Bench(clear_register=True)
    request = bench.register(Sas(), more=', integrity-protected="yes"')
    request.remove("Security-Client")
    up = first(bench, request)
    assert not up.authorization[0].has("integrity-protected")
    bench.challenge(up, www='Digest realm="r", nonce="n", algorithm=MD5')
    assert bench.ue.responses()[-1].status == 401
    assert not bench.ue.responses()[-1].has("Security-Server")
    assert bench.sets == {}


def test_too_many_contacts_are_503() -> None:
    bench = Bench(most_contacts=1)
    first(bench, bench.register(Sas()))
    bench.from_ue(bench.clear(), bench.register(Sas().next(), impi="second@ims.example"))
    assert bench.ue.responses()[-1].status == 503
    assert len(bench.pcscf.contacts) == 1


def test_ports_run_out_with_503_and_come_back() -> None:
    bench = Bench(client_ports=range(5100, 5101))
    bench.challenged()
    other = "other@ims.example"
    bench.from_ue(bench.clear(), bench.register(Sas(41001, 40002, 71, 72), impi=other))
    bench.challenge(bench.core.requests("REGISTER")[-1])
    assert bench.ue.responses()[-1].status == 503
    assert bench.sets == {1: "temporary"}
    bench.wire.run(250.0)
    assert bench.sets == {}
    bench.challenged(Sas(41001, 40002, 71, 72), impi=other)
    assert bench.sets == {2: "temporary"}


def test_a_port_in_use_is_refused_and_the_live_set_stays() -> None:
    bench = Bench()
    sas = bench.registered()
    before = len(bench.core.got)
    bench.from_ue(bench.clear(), bench.register(Sas(spi_c=71, spi_s=72)))
    assert bench.ue.responses()[-1].status == 400
    assert len(bench.core.got) == before
    assert bench.sets == {1: "established"}
    bench.from_ue(bench.inside(sas), bench.ue_request(sas, "MESSAGE"))
    assert len(bench.core.requests("MESSAGE")) == 1


def test_a_set_made_meanwhile_with_the_same_port_ends_the_other_attempt() -> None:
    bench = Bench()
    sas = Sas()
    one, two = bench.register(sas), bench.register(sas)
    bench.from_ue(bench.clear(), one)
    bench.from_ue(bench.clear(), two)
    up_one, up_two = bench.core.requests("REGISTER")
    sas.nonce = bench.challenge(up_one)
    bench.read(sas, bench.ue.responses()[-1])
    bench.ok(bench.answer(sas))
    bench.challenge(up_two)
    assert bench.ue.responses()[-1].status == 500
    assert bench.sets == {1: "established"}


# ---- F: Security-Verify


def test_a_faithful_answer_is_passed_on_protected() -> None:
    bench = Bench()
    up = bench.answer(bench.challenged())
    assert up.authorization[0].get_all("integrity-protected") == ["yes"]
    for name in ("Security-Client", "Security-Verify"):
        assert not up.has(name)


def changed_verify(server: str, name: str) -> str:
    """Security-Verify with one thing changed."""
    entries = server.split(", ")
    changes = {
        "spi-c": ("spi-c=", "spi-c=1"),
        "spi-s": ("spi-s=", "spi-s=1"),
        "port-c": ("port-c=5", "port-c=6"),
        "port-s": ("port-s=6", "port-s=5"),
        "alg": ("alg=hmac-sha-1-96;ealg=aes-cbc", "alg=hmac-md5-96;ealg=aes-cbc"),
        "ealg": ("ealg=aes-cbc", "ealg=null"),
        "q": ("q=1.0", "q=0.1"),
        "prot": ("prot=esp", "prot=ah"),
        "mod": ("mod=trans", "mod=tun"),
    }
    if name == "fewer":
        return ", ".join(entries[2:])
    if name == "more":
        return server + ", tls"
    if name == "order":
        return ", ".join(reversed(entries))
    old, new = changes[name]
    assert old in entries[0]
    return ", ".join([entries[0].replace(old, new, 1), *entries[1:]])


@pytest.mark.parametrize(
    "name", ["spi-c", "spi-s", "port-c", "port-s", "alg", "ealg", "q", "prot", "mod", "fewer", "more", "order"]
)
def test_anything_else_in_security_verify_aborts(name: str) -> None:
    bench = Bench()
    sas = bench.challenged()
    before = len(bench.core.got)
    bench.answer(sas, verify=changed_verify(sas.server, name))
    assert len(bench.core.got) == before
    assert bench.ue.responses()[-1].status == 494
    assert bench.sets == {}
    assert "bid-down" in bench.wire.emitted("pcscf")


@pytest.mark.parametrize("header", ["Security-Verify", "Security-Client"])
def test_what_is_not_repeated_aborts(header: str) -> None:
    bench = Bench()
    sas = bench.challenged()
    request = bench.register(sas, clear=False, nonce=sas.nonce, response="abc")
    request.remove(header)
    bench.from_ue(bench.inside(sas), request)
    assert bench.ue.responses()[-1].status == 494
    assert len(bench.core.requests("REGISTER")) == 1
    assert bench.sets == {}


def test_a_weakened_offer_shows_when_the_ue_repeats_its_own() -> None:
    bench = Bench()
    sas = Sas()
    request = bench.register(sas)
    request.set("Security-Client", sas.client(("hmac-sha-1-96", "null")))  # somebody struck the cipher out
    up = first(bench, request)
    sas.nonce = bench.challenge(up)
    bench.read(sas, bench.ue.responses()[-1])
    bench.answer(sas)
    assert bench.ue.responses()[-1].status == 494
    assert len(bench.core.requests("REGISTER")) == 1


def test_cosmetic_differences_are_none() -> None:
    bench = Bench()
    sas = bench.challenged()
    request = bench.register(sas, clear=False, nonce=sas.nonce, response="abc")
    entries = [entry.split(";") for entry in sas.server.split(", ")]
    request.replace("Security-Verify", ["; ".join([entry[0].upper(), *reversed(entry[1:])]) for entry in entries])
    bench.from_ue(bench.inside(sas), request)
    assert len(bench.core.requests("REGISTER")) == 2


def test_the_200_says_nothing_of_security_and_charging_and_goes_inside() -> None:
    bench = Bench()
    sas = bench.challenged()
    more = [
        ("Security-Server", "tls"),
        ("P-Charging-Vector", "icid-value=1"),
        ("P-Charging-Function-Addresses", "ccf=1.2.3.4"),
    ]
    bench.ok(bench.answer(sas), headers=more)
    got = bench.ue.got[-1]
    assert got.flow == Flow(UDP, Endpoint(UE, sas.us), Endpoint(GM.host, sas.pc))
    for name in ("Security-Server", "Security-Verify", "P-Charging-Vector", "P-Charging-Function-Addresses"):
        assert not got.message.has(name)
    assert got.message.has("Service-Route")
    contact = next(iter(bench.pcscf.contacts.values()))
    assert [str(uri) for uri in contact.identities] == [IMPU, "tel:+15550001"]
    assert len(contact.service_route) == 1
    assert "registered" in bench.wire.emitted("pcscf")


def test_a_200_that_cannot_be_read_is_500_and_registers_nobody() -> None:
    bench = Bench()
    sas = bench.challenged()
    bench.ok(bench.answer(sas), identities="<sip:broken")
    assert bench.ue.responses()[-1].status == 500
    bench.wire.run(40.0)
    assert bench.sets == {}
    assert bench.pcscf.contacts == {}


def test_without_p_associated_uri_the_registered_identity_is_the_only_one() -> None:
    bench = Bench()
    sas = bench.challenged()
    request = bench.answer(sas)
    bench.ok(request, identities="")
    contact = next(iter(bench.pcscf.contacts.values()))
    assert [str(uri) for uri in contact.identities] == [IMPU]


def test_a_fetch_changes_nothing() -> None:
    bench = Bench()
    sas = bench.registered()
    request = bench.register(sas.next(), clear=False, nonce=sas.nonce, response="1", verify=sas.server)
    request.remove("Contact")
    bench.from_ue(bench.inside(sas), request)
    bench.ok(bench.core.requests("REGISTER")[-1])
    contact = next(iter(bench.pcscf.contacts.values()))
    assert len(contact.bindings) == 1
    assert bench.ue.responses()[-1].status == 200


def test_a_clear_200_registers_nobody() -> None:
    bench = Bench()
    bench.ok(first(bench, bench.register(Sas())))
    assert bench.ue.responses()[-1].status == 200
    assert bench.pcscf.contacts == {}
    assert "unprotected" in bench.wire.emitted("pcscf")


def test_without_authorization_the_public_identity_names_the_user() -> None:
    bench = Bench()
    request = bench.register(Sas())
    request.remove("Authorization")
    up = first(bench, request)
    assert not up.has("Authorization")
    assert next(iter(bench.pcscf.contacts)).impi == IMPI  # as 23.003 derives one from the other


def test_a_request_uri_that_leads_nowhere_leaves_nothing() -> None:
    bench = Bench(icscf=())
    request = bench.register(Sas())
    bench.from_ue(bench.clear(), request.encode().replace(b"sip:ims.example SIP", b"si~p:ims.example SIP"))
    assert bench.ue.responses()[-1].status == 400
    assert bench.pcscf.contacts == {}


@pytest.mark.parametrize(
    ("asked", "header", "told", "expected"),
    [
        ("<sip:a@b>;expires=100", None, ["<sip:a@b>;expires=60"], 60),
        ("<sip:a@b>;expires=100", None, ["<sip:other@b>;expires=7", "<sip:a@b>;expires=60"], 60),
        ("<sip:a@b>;expires=100", None, ["<sip:a@b>"], 100),
        ("<sip:a@b>", "200", ["<sip:other@b>;expires=7"], 200),
        ("<sip:a@b>", None, [], 3600),
        ("<sip:a@b>;expires=0", "200", ["<sip:other@b>;expires=7"], 0),
        ("*", "0", [], 0),
        ("<sip:a@b>", "0", [], 0),
    ],
)
def test_how_long_a_200_registers(asked: str, header: str | None, told: list[str], expected: int) -> None:
    request = Request("REGISTER", "sip:b", [("Contact", asked), *([("Expires", header)] if header else [])])
    response = Response(200, headers=[("Contact", each) for each in told])
    assert granted(request, response) == expected
    if expected and not any(";expires" in each for each in told):
        response.add("Expires", "77")
        assert granted(request, response) == 77


def test_provisional_answers_pass() -> None:
    bench = Bench()
    up = first(bench, bench.register(Sas()))
    response = Response(199, headers=[(n, v) for n, v in up.headers if n in ("Via", "From", "To", "Call-ID", "CSeq")])
    bench.from_core(response)
    assert bench.ue.responses()[-1].status == 199
    bench.challenge(up)
    assert bench.ue.responses()[-1].status == 401


# ---- configuration


def test_a_configuration_that_cannot_work_is_told() -> None:
    with pytest.raises(LocalError):
        PcscfConfig(gm=GM, mw=GM)
    with pytest.raises(LocalError):
        PcscfConfig(gm=GM, mw=MW, algorithms=())
    with pytest.raises(LocalError):
        PcscfConfig(gm=GM, mw=MW, algorithms=(("null", "null"),))
    with pytest.raises(LocalError):
        PcscfConfig(gm=GM, mw=Endpoint(MW.host, 6100))
