"""The I-CSCF between a scripted HSS, a P-CSCF and one or two S-CSCFs (24.229 5.3; 29.228 6.1.1, 6.1.4)."""

from __future__ import annotations

from typing import Any

import pytest

from imslab.core import events as ev
from imslab.core.entropy import SeededEntropy
from imslab.core.flow import Endpoint
from imslab.diameter.codes import UserAuthorizationType
from imslab.diameter.cx import (
    CxAnswer,
    LocationInfoAnswer,
    LocationInfoRequest,
    ServerCapabilities,
    UserAuthorizationAnswer,
    UserAuthorizationRequest,
)
from imslab.roles.icscf import Icscf, IcscfConfig, ServerChoice
from imslab.sip.message import Request, Response, response_to
from tests.roles.core_bench import (
    DOMAIN,
    ICSCF,
    IMPI,
    IMPU,
    PATH,
    SCSCF,
    SCSCF_NAME,
    Core,
    Neighbour,
    cx_config,
    sip_request,
)

SECOND = Endpoint("198.51.100.33", 5060)
SECOND_NAME = f"sip:scscf2.{DOMAIN}"
CONTACT = "<sip:ue@10.0.0.2:5062>"
AUTH = (
    f'Digest username="{IMPI}", realm="{DOMAIN}", nonce="", uri="sip:{DOMAIN}", response="", integrity-protected="no"'
)


class Bench(Core):
    """Two S-CSCFs; what the HSS says is `uaa` and `lia`."""

    def __init__(self, *, faults: tuple[str, ...] = (), servers: Any = None) -> None:
        choices = (ServerChoice(SCSCF_NAME, frozenset({1, 2})), ServerChoice(SECOND_NAME, frozenset({1, 3})))
        config = IcscfConfig(
            local=ICSCF, domain=DOMAIN, cx=cx_config("icscf", ICSCF), servers=choices if servers is None else servers
        )
        super().__init__(Icscf("icscf", config, SeededEntropy(3, "icscf"), faults), ICSCF)
        self.first, self.second = Neighbour("scscf", SCSCF), Neighbour("scscf2", SECOND)
        self.uaa: CxAnswer | None = UserAuthorizationAnswer(experimental=2001)
        self.lia: CxAnswer | None = LocationInfoAnswer(result_code=2001, server_name=SCSCF_NAME)
        self.hss.script[UserAuthorizationRequest] = lambda request: self.uaa
        self.hss.script[LocationInfoRequest] = lambda request: self.lia
        self.start()
        self.wire.names[f"scscf2.{DOMAIN}"] = SECOND.host
        self.wire.add(self.first, SCSCF.host)
        self.wire.add(self.second, SECOND.host)
        self.cseq = 0

    def register(self, expires: int | None = 3600, contacts: tuple[str, ...] = (CONTACT,), **more: Any) -> Request:
        self.cseq += 1
        headers = [("Path", PATH), ("Require", "path"), ("P-Visited-Network-ID", '"visited.example"')]
        headers += [("Authorization", more.pop("auth", AUTH))] if more.get("auth", AUTH) else []
        headers += [("Contact", contact) for contact in contacts]
        headers += [("Expires", str(expires))] if expires is not None else []
        headers += more.pop("headers", [])
        more.pop("auth", None)
        return sip_request("REGISTER", f"sip:{DOMAIN}", sender=IMPU, to=IMPU, cseq=self.cseq, headers=headers, **more)

    def message(self, uri: str = IMPU, **more: Any) -> Request:
        return sip_request("MESSAGE", uri, sender=f"sip:bob@{DOMAIN}", to=uri, **more)

    @property
    def uars(self) -> list[UserAuthorizationRequest]:
        return self.hss.of(UserAuthorizationRequest)

    def later(self, seconds: float = 60.0) -> list[Response]:
        """What the P-CSCF gets in a while."""
        before = len(self.pcscf.responses)
        self.wire.run(self.wire.now + seconds)
        return self.pcscf.responses[before:]


# ---- REGISTER


def test_a_register_goes_to_the_server_that_the_hss_names() -> None:
    bench = Bench()
    bench.uaa = UserAuthorizationAnswer(experimental=2002, server_name=SECOND_NAME)
    sent = bench.register()
    (response,) = bench.send(sent)
    assert response.status == 200
    assert bench.first.requests == []
    (request,) = bench.second.requests
    assert request.uri == SECOND_NAME
    assert request.rows("Path") == [PATH]
    assert request.max_forwards == 68
    assert [via.host for via in request.via] == [ICSCF.host, "198.51.100.1", "10.0.0.2"]
    for name in ("Record-Route", "Route"):
        assert not request.has(name)
    for name in ("Authorization", "Contact", "P-Visited-Network-ID", "From", "To", "Call-ID", "CSeq", "Require"):
        assert request.rows(name) == sent.rows(name)


def test_what_the_hss_is_asked() -> None:
    """29.228 Table 6.1.1.1."""
    bench = Bench()
    bench.send(bench.register())
    (uar,) = bench.uars
    assert (uar.user_name, uar.public_identity, uar.visited_network) == (IMPI, IMPU, "visited.example")
    assert uar.authorization_type is UserAuthorizationType.REGISTRATION
    assert (uar.auth_session_state, uar.destination_realm) == (1, DOMAIN)


@pytest.mark.parametrize(
    ("expires", "contacts", "kind"),
    [
        (0, (CONTACT,), 1),
        (0, ("*",), 1),
        (3600, (f"{CONTACT};expires=0",), 1),
        (0, (f"{CONTACT};expires=60",), 0),
        (3600, (f"{CONTACT};expires=0", "<sip:b@c>"), 0),
        (None, (CONTACT,), 0),
        (0, (), 0),
    ],
)
def test_leaving_is_asked_for_as_such(expires: int | None, contacts: tuple[str, ...], kind: int) -> None:
    """29.228 6.1.1: DE_REGISTRATION when every contact is to go."""
    bench = Bench()
    bench.send(bench.register(expires, contacts))
    assert bench.uars[0].authorization_type == kind


@pytest.mark.parametrize("auth", ["", 'Digest realm="x", username=""'])
def test_without_a_name_the_private_identity_is_derived(auth: str) -> None:
    bench = Bench()
    bench.send(bench.register(auth=auth))
    assert bench.uars[0].user_name == IMPI


def test_without_a_visited_network_it_is_the_home_network() -> None:
    bench = Bench()
    request = bench.register()
    request.remove("P-Visited-Network-ID")
    bench.send(request)
    assert bench.uars[0].visited_network == DOMAIN


@pytest.mark.parametrize(
    ("mandatory", "optional", "names", "expected"),
    [
        ([], [], [], SCSCF),
        ([1], [3], [], SECOND),
        ([3], [], [], SECOND),
        ([1, 2], [3], [], SCSCF),
        ([9], [], [SECOND_NAME], SECOND),
    ],
)
def test_a_server_is_chosen_by_what_it_can_do(
    mandatory: list[int], optional: list[int], names: list[str], expected: Endpoint
) -> None:
    """29.229 6.3.4: all that is mandatory, most of what is optional; a name that is given comes first."""
    bench = Bench()
    bench.uaa = UserAuthorizationAnswer(
        experimental=2001,
        capabilities=ServerCapabilities(mandatory=mandatory, optional=optional, server_names=names),
    )
    assert bench.send(bench.register())[0].status == 200
    assert [bool(bench.first.requests), bool(bench.second.requests)] == [expected == SCSCF, expected == SECOND]


def test_nobody_can_do_what_is_demanded() -> None:
    bench = Bench()
    bench.uaa = UserAuthorizationAnswer(experimental=2001, capabilities=ServerCapabilities(mandatory=[9]))
    assert bench.send(bench.register())[0].status == 600


@pytest.mark.parametrize(
    ("result", "status"),
    [
        ({"experimental": 5001}, 403),
        ({"experimental": 5002}, 403),
        ({"experimental": 5003}, 403),
        ({"experimental": 5004}, 403),
        ({"result_code": 5003}, 403),
        ({"result_code": 5012}, 500),
        ({"result_code": 3004}, 500),
        ({"result_code": 5004}, 500),
    ],
)
def test_what_the_hss_says_no_to(result: dict[str, Any], status: int) -> None:
    bench = Bench()
    bench.uaa = UserAuthorizationAnswer(**result)
    assert bench.send(bench.register())[0].status == status
    assert bench.first.requests == bench.second.requests == []


def test_a_silent_hss() -> None:
    bench = Bench()
    bench.uaa = None
    assert bench.send(bench.register()) == []
    assert [each.status for each in bench.later(6.0)] == [504]


def test_an_hss_that_says_nothing_of_use() -> None:
    bench = Bench()
    bench.uaa = UserAuthorizationAnswer()
    assert bench.send(bench.register())[0].status == 500


def silent(request: Request) -> None:
    """Whoever gets this says nothing."""


def test_the_next_server_is_tried_when_one_is_silent() -> None:
    """24.229 5.3.1.3."""
    bench = Bench()
    bench.first.answer = silent
    bench.send(bench.register())
    assert [each.status for each in bench.later()] == [200]
    assert bench.second.requests[0].uri == SECOND_NAME
    assert len(bench.uars) == 1


@pytest.mark.parametrize("status", [480, 302])
def test_the_next_server_is_tried_when_one_will_not(status: int) -> None:
    bench = Bench()
    bench.first.answer = lambda request: response_to(request, status)
    assert [each.status for each in bench.send(bench.register())] == [200]
    assert len(bench.second.requests) == 1


def test_a_named_server_that_is_silent_is_replaced_by_another() -> None:
    """29.228 6.1.1.1: REGISTRATION_AND_CAPABILITIES gives capabilities instead of the name."""
    bench = Bench()
    bench.uaa = UserAuthorizationAnswer(experimental=2002, server_name=SCSCF_NAME)
    bench.first.answer = silent
    bench.send(bench.register())
    bench.uaa = UserAuthorizationAnswer(result_code=2001)
    assert [each.status for each in bench.later()] == [200]
    assert [int(uar.authorization_type or 0) for uar in bench.uars] == [0, 2]
    assert bench.uars[0].session_id != bench.uars[1].session_id
    assert len(bench.second.requests) == 1


def test_a_named_server_that_is_named_again_is_not_tried_again() -> None:
    bench = Bench(servers=())
    bench.uaa = UserAuthorizationAnswer(experimental=2002, server_name=SCSCF_NAME)
    bench.first.answer = silent
    bench.send(bench.register())
    assert [each.status for each in bench.later()] == [504]
    assert len(bench.uars) == 2


def test_nobody_is_left() -> None:
    bench = Bench()
    bench.first.answer = bench.second.answer = silent
    bench.send(bench.register())
    assert [each.status for each in bench.later(80.0)] == [504]


def test_the_last_ones_no_is_passed_on() -> None:
    bench = Bench()
    bench.first.answer = bench.second.answer = lambda request: response_to(request, 480)
    assert [each.status for each in bench.send(bench.register())] == [480]


@pytest.mark.parametrize("name", ["sip:nowhere.example", "not a uri", "tel:+1"])
def test_a_server_without_an_address(name: str) -> None:
    """The HSS, or whoever configured it, may be wrong about names."""
    bench = Bench()
    bench.uaa = UserAuthorizationAnswer(experimental=2002, server_name=name)
    bench.send(bench.register())
    assert [int(uar.authorization_type or 0) for uar in bench.uars] == [0, 2]
    bench.lia = LocationInfoAnswer(result_code=2001, server_name=name)
    assert bench.send(bench.message())[0].status == 480


def test_a_challenge_comes_back() -> None:
    bench = Bench()
    bench.first.answer = lambda request: response_to(request, 401, headers=[("WWW-Authenticate", 'Digest realm="x"')])
    (response,) = bench.send(bench.register())
    assert (response.status, len(response.via)) == (401, 2)
    assert response.has("WWW-Authenticate")


def test_a_register_that_is_too_large_goes_by_tcp() -> None:
    """RFC 3261 18.1.1."""
    bench = Bench()
    assert bench.send(bench.register(headers=[("X-Long", "x" * 1300)]))[0].status == 200
    (request,) = bench.first.requests
    assert request.via[0].transport == "TCP"


@pytest.mark.parametrize("header", [("Contact", "<sip:a@b"), ("P-Visited-Network-ID", '"x'), ("Expires", "1")])
def test_what_cannot_be_read_is_refused(header: tuple[str, str]) -> None:
    bench = Bench()
    assert bench.send(bench.register(headers=[header]))[0].status == 400
    assert bench.hss.got == []


def test_no_hops_left_and_unknown_extensions() -> None:
    bench = Bench()
    request = bench.register()
    request.set("Max-Forwards", "0")
    assert bench.send(request)[0].status == 483
    response = bench.send(bench.register(headers=[("Proxy-Require", "foo")]))[0]
    assert (response.status, response.unsupported) == (420, ["foo"])


# ---- all others


def test_a_request_goes_to_the_server_of_its_addressee() -> None:
    """24.229 5.3.2.1: Route gets the S-CSCF, the Request-URI stays."""
    bench = Bench()
    bench.lia = LocationInfoAnswer(result_code=2001, server_name=f"{SCSCF_NAME};transport=udp")
    assert bench.send(bench.message())[0].status == 200
    (lir,) = bench.hss.of(LocationInfoRequest)
    assert lir.public_identity == IMPU
    (request,) = bench.first.requests
    assert request.uri == IMPU
    assert [str(each.uri) for each in request.route] == [f"{SCSCF_NAME};transport=udp;lr"]
    assert not request.has("Record-Route")


def test_a_name_that_is_loose_already_stays_as_it_is() -> None:
    bench = Bench()
    bench.lia = LocationInfoAnswer(result_code=2001, server_name=f"{SCSCF_NAME};lr")
    bench.send(bench.message("tel:+1-555-0001"))
    (request,) = bench.first.requests
    assert request.rows("Route") == [f"<{SCSCF_NAME};lr>"]
    assert bench.hss.of(LocationInfoRequest)[0].public_identity == "tel:+15550001"


def test_our_own_route_is_taken_off() -> None:
    bench = Bench()
    bench.send(bench.message(headers=[("Route", f"<sip:{ICSCF};lr>")]))
    assert len(bench.first.requests[0].route) == 1


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (LocationInfoAnswer(experimental=5001), 404),
        (LocationInfoAnswer(experimental=5003), 480),
        (LocationInfoAnswer(experimental=2003), 480),
        (LocationInfoAnswer(result_code=5012), 480),
        (LocationInfoAnswer(), 480),
    ],
)
def test_nobody_serves_the_addressee(answer: CxAnswer, status: int) -> None:
    bench = Bench()
    bench.lia = answer
    assert bench.send(bench.message())[0].status == status


def test_an_hss_silent_about_the_addressee() -> None:
    bench = Bench()
    bench.lia = None
    assert bench.send(bench.message()) == []
    assert [each.status for each in bench.later(6.0)] == [480]


def test_a_dialog_is_not_led_through_here() -> None:
    bench = Bench()
    request = sip_request("BYE", IMPU, sender=IMPU, to=f"<{IMPU}>;tag=x")
    assert bench.send(request)[0].status == 481


def test_an_invite_that_is_cancelled_while_the_hss_is_asked() -> None:
    """RFC 3261 9.2: 487 at once, and nothing goes on when the answer comes."""
    bench = Bench()
    bench.lia = None
    invite = sip_request("INVITE", IMPU, sender=IMPU, to=IMPU)
    assert bench.send(invite) == []
    cancel = sip_request("CANCEL", IMPU, sender=IMPU, to=IMPU)
    cancel.replace("Via", invite.rows("Via"))
    assert [(each.status, each.method) for each in bench.send(cancel)] == [(200, "CANCEL"), (487, "INVITE")]
    (peer,) = bench.hss._peers.values()
    found = LocationInfoAnswer(result_code=2001, server_name=SCSCF_NAME)
    peer.send_answer(found.to_message(bench.hss.messages[-1]), bench.wire.now)
    bench.kick(bench.hss)
    assert bench.first.requests == []


def test_acks_of_2xx_do_not_come_here() -> None:
    bench = Bench()
    assert bench.send(sip_request("ACK", IMPU, sender=IMPU, to=f"<{IMPU}>;tag=x")) == []
    assert bench.first.requests == []


def test_other_alarms_are_nobodys() -> None:
    bench = Bench()
    bench.box.on_alarm("something else")
    assert bench.box.take() == []


def test_the_connection_to_the_hss_may_be_lost() -> None:
    """What is asked meanwhile waits for the next one."""
    bench = Bench()
    (flow,) = bench.hss._peers
    bench.wire.give(bench.box, ev.Closed(flow._replace(local=flow.remote), "another"))
    bench.wire.give(bench.hss, ev.Closed(flow))
    bench.wire.give(bench.box, ev.Closed(flow.reversed, "reset"))
    assert bench.send(bench.register()) == []
    assert [each.status for each in bench.later(4.0)] == [200]


def test_an_identity_that_is_no_text_is_refused() -> None:
    """RFC 6733 4.3.1: it could not be put before the HSS."""
    bench = Bench()
    odd = "sip:\udcff@ims.example"
    register = bench.register()
    register.set("To", f"<{odd}>")
    assert [each.status for each in bench.send(register)] == [400]
    assert [each.status for each in bench.send(bench.register(auth=f'Digest username="{odd}"'))] == [400]
    assert [each.status for each in bench.send(bench.message(odd))] == [400]
    assert bench.hss.got == []
