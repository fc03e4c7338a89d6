"""Every fault of the P-CSCF does what it says, and a P-CSCF without it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from imslab.core import effects as fx
from imslab.core.flow import Endpoint
from imslab.ipsec.sa import Offer
from imslab.roles.faults import FAULTS
from imslab.sip.message import Request, Response, response_to
from tests.roles.pcscf_bench import GM, IK, IMPI, IMPU, MW, TCP, UE, Bench, Sas

Wrong = Callable[[Bench], bool]


def first(bench: Bench, request: Request | None = None) -> Request:
    bench.from_ue(bench.clear(), request or bench.register(Sas()))
    return bench.core.requests("REGISTER")[-1]


def forged(bench: Bench, name: str, value: str) -> Request:
    request = bench.register(Sas())
    request.add(name, value)
    return first(bench, request)


def challenge(bench: Bench, request: Request | None = None) -> Response:
    bench.challenge(first(bench, request))
    return bench.ue.responses()[-1]


def refresh(bench: Bench, sas: Sas, **changes: Any) -> Request:
    return bench.register(sas.next(), clear=False, nonce=sas.nonce, response="1", verify=sas.server, **changes)


def asserted(bench: Bench, **changes: str) -> list[str]:
    sas = bench.registered()
    bench.from_ue(bench.inside(sas), bench.ue_request(sas, "MESSAGE", **changes))
    return bench.core.requests("MESSAGE")[-1].rows("P-Asserted-Identity")


def agreement_in_200(bench: Bench) -> bool:
    bench.registered()
    return bench.ue.responses()[-1].has("Security-Server")


def admits_clear(bench: Bench) -> bool:
    sas = bench.registered()
    bench.from_ue(bench.clear(), bench.ue_request(sas, "MESSAGE", uri="sip:bob@198.51.100.2"))
    return len(bench.core.requests("MESSAGE")) == 1


def answer_port(bench: Bench) -> int:
    sas = bench.registered()
    bench.from_ue(bench.inside(sas), bench.ue_request(sas, "MESSAGE"))
    bench.from_core(response_to(bench.core.requests("MESSAGE")[-1], 200))
    return max(e.flow.remote.port for e in bench.effects(fx.Send)[-1:] if isinstance(e, fx.Send))


def answers_in_clear(bench: Bench) -> bool:
    sas = bench.registered()
    bench.from_ue(bench.inside(sas), refresh(bench, sas))
    bench.ok(bench.core.requests("REGISTER")[-1])
    sent = [e for e in bench.effects(fx.Send) if isinstance(e, fx.Send) and e.flow.remote.host == UE]
    return sent[-1].flow.local == GM


def sas_go_first(bench: Bench) -> bool:
    sas = bench.registered()
    bench.wire.log.clear()
    bench.from_ue(bench.inside(sas), refresh(bench, sas, expires=0))
    bench.ok(bench.core.requests("REGISTER")[-1], expires=0)
    kinds = [
        type(e)
        for e in bench.effects(fx.RemoveSas, fx.Send)
        if isinstance(e, fx.RemoveSas) or e.flow.remote.host == UE  # type: ignore[attr-defined]
    ]
    return kinds == [fx.RemoveSas, fx.Send]


def late_sas(bench: Bench) -> bool:
    challenge(bench)
    kinds = [type(e) for e in bench.effects(fx.InstallSas, fx.Send)]
    return kinds[-2:] == [fx.Send, fx.InstallSas]


def second_set(bench: Bench) -> tuple[Offer, Offer]:
    old = bench.registered()
    bench.registered(under=old)
    one, two = (record.own for record in bench.pcscf.table)
    return one, two


def mt_flow(bench: Bench) -> tuple[Endpoint, int]:
    sas = bench.registered()
    bench.from_core(bench.core_request(sas, "INVITE"))
    sent = bench.effects(fx.Send)[-1]
    assert isinstance(sent, fx.Send)
    via = next(line for line in sent.octets.decode().split("\r\n") if line.startswith("Via"))
    return sent.flow.local, int(via.partition(";")[0].rpartition(":")[2])


def never_switches(bench: Bench) -> bool:
    old = bench.registered()
    new = bench.registered(under=old)
    bench.from_ue(bench.inside(new), bench.ue_request(new, "MESSAGE"))
    return bench.sets[1] == "kept"


def refused_answer(bench: Bench) -> bool:
    sas = bench.challenged()
    before = len(bench.core.got)
    bench.answer(sas, verify="tls")
    return len(bench.core.got) == before


def own_refresh(bench: Bench, **changes: str) -> bool:
    """True when a refresh with something foreign in it reaches the core."""
    sas = bench.registered()
    before = len(bench.core.got)
    request = refresh(bench, sas)
    if "via" in changes:
        request.set("Via", bench.via(sas.us, host=changes["via"]))
    if "impi" in changes:
        request.set("Authorization", (request.get("Authorization") or "").replace(IMPI, changes["impi"]))
    bench.from_ue(bench.inside(sas), request)
    return len(bench.core.got) > before


def chosen(bench: Bench) -> str:
    challenge(bench)
    return bench.wire.sets["pcscf"][1].sas[0].ealg


def same_spis(bench: Bench) -> bool:
    told = challenge(bench).security_server[0]
    return (told.spi_c, told.spi_s) == (Sas().spi_c, Sas().spi_s)


def lifetime(bench: Bench) -> float:
    bench.registered(expires=100)
    return bench.effects(fx.UpdateSas)[-1].lifetime  # type: ignore[attr-defined, no-any-return]


def any_route(bench: Bench) -> bool:
    sas = bench.registered()
    bench.from_ue(bench.inside(sas), bench.ue_request(sas, "MESSAGE", Route="<sip:other@198.51.100.2;lr>"))
    return len(bench.core.requests("MESSAGE")) == 1


def tcp_answer_port(bench: Bench) -> int:
    sas = bench.registered()
    flow = bench.inside(sas, TCP)
    bench.connect(flow)
    bench.from_ue(flow, bench.ue_request(sas, "MESSAGE", Via=bench.via(sas.us, "TCP")))
    bench.from_core(response_to(bench.core.requests("MESSAGE")[-1], 200))
    return bench.ue.got[-1].flow.local.port


def failed_renewal(bench: Bench) -> dict[int, str]:
    sas = bench.challenged(under=bench.registered())
    bench.from_core(response_to(bench.answer(sas), 403))
    return bench.sets


def failure_inside(bench: Bench) -> bool:
    sas = bench.challenged()
    bench.from_core(response_to(bench.answer(sas), 500))
    return bench.ue.got[-1].flow.remote.port == sas.pc


def repeated(bench: Bench) -> list[bytes]:
    request = bench.register(Sas())
    challenge(bench, request)
    bench.from_ue(bench.clear(), request)
    return [response.encode() for response in bench.ue.responses()]


def clear_answer_port(bench: Bench) -> int:
    bench.from_ue(bench.clear(40041), bench.register(Sas()))
    bench.challenge(bench.core.requests("REGISTER")[-1])
    return bench.ue.got[-1].flow.local.port


def listed(bench: Bench) -> list[tuple[str, str]]:
    return [(each.alg, each.ealg) for each in challenge(bench).security_server]


def clear_renewal(bench: Bench) -> dict[int, str]:
    bench.registered(bench.registered().next())
    return bench.sets


def reported(bench: Bench) -> dict[int, str]:
    sas = bench.challenged()
    bench.from_ue(bench.clear(), bench.register(sas.next(), nonce=sas.nonce))
    return bench.sets


def serves_temporary(bench: Bench) -> bool:
    sas = bench.challenged()
    before = len(bench.ue.got)
    bench.from_ue(bench.inside(sas), bench.ue_request(sas, "MESSAGE"))
    return len(bench.ue.got) > before


def refreshed_lifetime(bench: Bench) -> float:
    sas = bench.registered()
    bench.from_ue(bench.inside(sas), refresh(bench, sas))
    bench.ok(bench.core.requests("REGISTER")[-1], expires=60)
    update = bench.effects(fx.UpdateSas)[-1]
    assert isinstance(update, fx.UpdateSas)
    return update.lifetime


def spis_stay(bench: Bench) -> bool:
    bench.challenged(under=bench.registered())
    one, two = (each.security_server[0] for each in bench.ue.responses() if each.status == 401)
    return (one.spi_c, one.spi_s) == (two.spi_c, two.spi_s)


def large_request_transport(bench: Bench) -> str:
    sas = bench.registered()
    request = bench.core_request(sas, "MESSAGE")
    request.body = b"x" * 1400
    bench.from_core(request)
    return str(bench.ue.got[-1].flow.transport)


def integrity(request: Request) -> list[str]:
    return request.authorization[0].get_all("integrity-protected")


#: Fault → what is wrong, seen from outside.
WRONG: dict[str, Wrong] = {
    "pcscf-admits-all": admits_clear,
    "pcscf-agreement-in-200": agreement_in_200,
    "pcscf-agreement-upstream": lambda bench: first(bench).has("Security-Client"),
    "pcscf-all-hops-left": lambda bench: first(bench).max_forwards == 70,
    "pcscf-always-protected": lambda bench: integrity(first(bench)) == ["yes"],
    "pcscf-answers-in-clear": answers_in_clear,
    "pcscf-answers-tcp-anew": lambda bench: tcp_answer_port(bench) == 40002,
    "pcscf-answers-to-uc": lambda bench: answer_port(bench) == 40001,
    "pcscf-asserts-foreign": lambda bench: asserted(bench, P_Preferred_Identity="<sip:x@y>") == ["<sip:x@y>"],
    "pcscf-believes-asserted": lambda bench: asserted(bench, P_Asserted_Identity="<sip:x@y>") == ["<sip:x@y>"],
    "pcscf-believes-charging": lambda bench: forged(bench, "P-Charging-Function-Addresses", "ccf=1").has(
        "P-Charging-Function-Addresses"
    ),
    "pcscf-believes-integrity": lambda bench: (
        integrity(first(bench, bench.register(Sas(), more=', integrity-protected="yes"'))) == ["yes"]
    ),
    "pcscf-believes-path": lambda bench: len(forged(bench, "Path", "<sip:attacker.example;lr>").path) == 2,
    "pcscf-charging-on-gm": lambda bench: charged(bench),
    "pcscf-clear-port-agreed": lambda bench: challenge(bench).security_server[0].port_s == 5060,
    "pcscf-drops-on-failure": lambda bench: "established" not in failed_renewal(bench).values(),
    "pcscf-drops-old-set": lambda bench: len(kept_sets(bench)) == 1,
    "pcscf-echoes-spis": same_spis,
    "pcscf-failures-inside": failure_inside,
    "pcscf-fickle-401": lambda bench: len(set(repeated(bench))) == 2,
    "pcscf-flag-twice": lambda bench: len(integrity(first(bench))) == 2,
    "pcscf-follows-any-route": any_route,
    "pcscf-ignores-rport": lambda bench: clear_answer_port(bench) == 5060,
    "pcscf-illegal-pair": lambda bench: ("null", "null") in listed(bench),
    "pcscf-ignores-user": lambda bench: own_refresh(bench, impi="victim@ims.example"),
    "pcscf-ignores-verify": lambda bench: not refused_answer(bench),
    "pcscf-ignores-via": lambda bench: own_refresh(bench, via="10.0.0.99"),
    "pcscf-keeps-older-sets": lambda bench: len(clear_renewal(bench)) == 2,
    "pcscf-keeps-refused-set": lambda bench: "temporary" in failed_renewal(bench).values(),
    "pcscf-keeps-reported-set": lambda bench: reported(bench) == {1: "temporary"},
    "pcscf-keys-on-gm": lambda bench: IK in challenge(bench).encode().decode(),
    "pcscf-last-offer-wins": lambda bench: chosen(bench) == "null",
    "pcscf-late-sas": late_sas,
    "pcscf-mt-from-clear-port": lambda bench: mt_flow(bench)[0] == GM,
    "pcscf-never-protected": lambda bench: integrity(bench.answer(bench.challenged())) == ["no"],
    "pcscf-never-switches": never_switches,
    "pcscf-no-alg": lambda bench: "alg" not in challenge(bench).security_server[0].params,
    "pcscf-no-charging-vector": lambda bench: not first(bench).has("P-Charging-Vector"),
    "pcscf-no-integrity": lambda bench: integrity(first(bench)) == [],
    "pcscf-no-path": lambda bench: not first(bench).has("Path"),
    "pcscf-no-reg-event": lambda bench: not subscribed(bench),
    "pcscf-no-require-path": lambda bench: not first(bench).has("Require"),
    "pcscf-no-security-server": lambda bench: not challenge(bench).has("Security-Server"),
    "pcscf-no-visited-network": lambda bench: not first(bench).has("P-Visited-Network-ID"),
    "pcscf-offers-ah": lambda bench: challenge(bench).security_server[0].prot == "ah",
    "pcscf-one-entry-server": lambda bench: len(challenge(bench).security_server) == 1,
    "pcscf-port-c-stays": lambda bench: second_set(bench)[0].port_c == second_set_port(bench, "port_c"),
    "pcscf-port-s-moves": lambda bench: second_set(bench)[0].port_s != second_set_port(bench, "port_s"),
    "pcscf-record-routes-register": lambda bench: first(bench).has("Record-Route"),
    "pcscf-reserved-spi": lambda bench: challenge(bench).security_server[0].spi_c == 1,
    "pcscf-retired-algorithms": lambda bench: ("hmac-md5-96", "null") in listed(bench),
    "pcscf-sas-go-first": sas_go_first,
    "pcscf-serves-temporary": serves_temporary,
    "pcscf-short-lifetime": lambda bench: lifetime(bench) == 100.0,
    "pcscf-shortens-lifetime": lambda bench: refreshed_lifetime(bench) == 90.0,
    "pcscf-spis-stay": spis_stay,
    "pcscf-swaps-keys": lambda bench: chosen(bench) != "" and bench.wire.sets["pcscf"][1].sas[0].ck.hex() == IK,
    "pcscf-swaps-ports": lambda bench: challenge(bench).security_server[0].port_c >= 6100,
    "pcscf-udp-always": lambda bench: large_request_transport(bench) == "udp",
    "pcscf-via-port-pc": lambda bench: mt_flow(bench)[1] < 6000,
}


def charged(bench: Bench) -> bool:
    sas = bench.challenged()
    bench.ok(bench.answer(sas), headers=[("P-Charging-Vector", "icid-value=1")])
    return bench.ue.responses()[-1].has("P-Charging-Vector")


def kept_sets(bench: Bench) -> dict[int, str]:
    bench.registered(under=bench.registered())
    return bench.sets


def subscribed(bench: Bench) -> bool:
    bench.registered()
    return bool(bench.core.requests("SUBSCRIBE"))


def second_set_port(bench: Bench, name: str) -> int:
    """The port of the newest set; `second_set` has made it."""
    newest = list(bench.pcscf.table)[-1]
    return int(getattr(newest.own, name))


def test_every_fault_of_a_pcscf_has_its_proof() -> None:
    assert set(WRONG) == {name for name, fault in FAULTS.items() if fault.role == "P-CSCF"}


@pytest.mark.parametrize("name", WRONG)
def test_the_fault_shows_and_only_with_it(name: str) -> None:
    subscribe = name == "pcscf-no-reg-event"
    assert WRONG[name](Bench(faults=[name], subscribe=subscribe))
    assert not WRONG[name](Bench(subscribe=subscribe))
    assert FAULTS[name].text


def test_a_pcscf_that_changes_answers_changes_only_answers() -> None:
    bench = Bench(faults=["pcscf-fickle-401"])
    sas = bench.registered()
    bench.from_core(bench.core_request(sas, "MESSAGE"))
    message = bench.ue.requests("MESSAGE")[-1]
    for _ in range(2):
        bench.from_ue(bench.inside(sas), response_to(message, 200))
    assert [each.status for each in bench.core.responses()] == [200]


def test_a_verify_that_nobody_reads() -> None:
    bench = Bench(faults=["pcscf-ignores-verify"])
    sas = bench.registered()
    bench.from_ue(bench.inside(sas), bench.ue_request(sas, "MESSAGE", Security_Verify="tls"))
    assert len(bench.core.requests("MESSAGE")) == 1


def test_sets_that_share_ports_by_mistake_are_struck_out_one_by_one() -> None:
    bench = Bench(faults=["pcscf-port-c-stays"])
    old = bench.registered()
    new = bench.registered(under=old)
    bench.from_ue(bench.inside(new), bench.ue_request(new, "MESSAGE"))
    bench.from_core(response_to(bench.core.requests("MESSAGE")[-1], 200))
    bench.wire.run(6.0)
    assert bench.sets == {2: "established"}
    bench.from_core(bench.core_request(new, "MESSAGE"))
    assert bench.ue.requests("MESSAGE")


def test_a_pcscf_that_admits_all_finds_nobody_or_ends_hops_like_anyone() -> None:
    bench = Bench(faults=["pcscf-admits-all"])
    sas = bench.registered()
    before = len(bench.core.got)
    bench.from_ue(bench.clear(), bench.ue_request(sas, "MESSAGE", uri="sip:bob@nowhere.example"))
    bench.from_ue(bench.clear(), bench.ue_request(sas, "MESSAGE", Max_Forwards="0"))
    bench.from_ue(bench.clear(), bench.ue_request(sas, "ACK"))
    assert len(bench.core.got) == before
    assert MW != GM
    assert IMPU
