"""Whatever octets a peer sends, the HSS stands, and no subscriber's SQN goes back."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from imslab.core import events as ev
from imslab.diameter import cx
from imslab.diameter.message import DiameterMessage
from tests.hss.carrier import IMPI, IMPU, REALM, Bench, subscriber
from tests.properties.test_diameter_parsers import damaged

HEAD = {
    "session_id": "s;1;1",
    "origin_host": f"scscf.{REALM}",
    "origin_realm": REALM,
    "destination_realm": REALM,
}
NAME = f"sip:scscf.{REALM}:6060"

REQUESTS = [
    cx.UserAuthorizationRequest(**HEAD, user_name=IMPI, public_identity=IMPU, visited_network=REALM),
    cx.LocationInfoRequest(**HEAD, public_identity=IMPU),
    *(
        cx.MultimediaAuthRequest(
            **HEAD,
            user_name=IMPI,
            public_identity=IMPU,
            item=cx.AuthDataItem(scheme=cx.SCHEME_AKA, authorization=auts),
            number_items=2,
            server_name=NAME,
        )
        for auts in (None, bytes(30))
    ),
    *(
        cx.ServerAssignmentRequest(
            **HEAD,
            user_name=IMPI,
            public_identities=[IMPU],
            server_name=NAME,
            assignment_type=kind,
            already_available=cx.UserDataAlreadyAvailable.NOT_AVAILABLE,
        )
        for kind in cx.ServerAssignmentType
    ),
]
OCTETS = [request.to_message(number, number).encode() for number, request in enumerate(REQUESTS, 1)]


def with_length(octets: bytes) -> bytes:
    """The message length put right, so that the damage is inside."""
    octets = octets[: len(octets) & ~3]
    return octets[:1] + len(octets).to_bytes(3, "big") + octets[4:]


@given(
    st.lists(
        st.one_of(st.sampled_from(OCTETS), damaged(OCTETS).map(with_length), damaged(OCTETS)), min_size=1, max_size=8
    )
)
@settings(max_examples=300, deadline=None)
def test_no_octets_hurt_it(pieces: list[bytes]) -> None:
    made = Bench([subscriber()])
    one = made.connect()
    highest = 0
    for piece in pieces:
        made.tell(ev.Arrival(one.flow, piece))
        record = made.store.load(IMPI)
        assert record is not None
        assert record.privates[0].sqn >= highest
        highest = record.privates[0].sqn
    for message in one.raw()[1:]:
        assert isinstance(message, DiameterMessage)
        assert (message.result_code is None) is not (message.experimental_result is None) or message.request


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 13)), max_size=12))
@settings(max_examples=200, deadline=None)
def test_the_record_is_always_one_that_can_be(steps: list[tuple[int, int]]) -> None:
    """Any order of questions from two S-CSCFs leaves a name exactly where something is served or pending."""
    made = Bench([subscriber()])
    servers = [made.connect("scscf"), made.connect("scscf2")]
    for which, what in steps:
        one = servers[which % 2]
        if what == 12:
            one.mar()
        elif what == 13:
            one.uar(which % 3)
        else:
            one.sar(what, IMPU)
        record = made.store.load(IMPI)
        assert record is not None
        held = any(each.is_served or each.pending for each in record.sets)
        assert bool(record.server_name) is held
        for each in record.sets:
            assert bool(each.registered_by) is (each.state.value == "registered")
        document = one.lir()
        assert document.server_name == (record.server_name if record.is_served else None)
