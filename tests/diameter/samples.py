"""One message of each kind, for the tests that show them to somebody else's decoder."""

from __future__ import annotations

from imslab.diameter import cx
from imslab.diameter.avp import Avp
from imslab.diameter.codes import (
    OriginatingRequest,
    ReasonCode,
    ServerAssignmentType,
    UserAuthorizationType,
    UserDataAlreadyAvailable,
)
from imslab.diameter.message import DiameterMessage

REALM = "ims.mnc001.mcc001.3gppnetwork.org"
IMPI = f"001010000000001@{REALM}"
IMPU = f"sip:001010000000001@{REALM}"
SCSCF = f"sip:scscf.{REALM}:6060"

RAND, AUTN = bytes(range(16)), bytes(range(16, 32))
XRES, CK, IK = b"\xa5" * 8, b"\xc0" * 16, b"\x1c" * 16

ORIGIN = {"origin_host": f"scscf.{REALM}", "origin_realm": REALM}
TO_HSS = {**ORIGIN, "session_id": "scscf;1;2", "destination_realm": REALM}
TO_CSCF = {
    "origin_host": f"hss.{REALM}",
    "origin_realm": REALM,
    "session_id": "hss;1;2",
    "destination_realm": REALM,
    "destination_host": f"scscf.{REALM}",
}
FROM_HSS = {"origin_host": f"hss.{REALM}", "origin_realm": REALM}
FEATURES = cx.SupportedFeatures(vendor_id=10415, list_id=1, features=3)
CHARGING = cx.ChargingInformation(primary_collection="aaa://ccf1.example:3868", secondary_event="aaa://ecf2.example")
USER_DATA = b'<?xml version="1.0" encoding="UTF-8"?><IMSSubscription/>'


def uar() -> cx.UserAuthorizationRequest:
    return cx.UserAuthorizationRequest(
        **TO_HSS,
        user_name=IMPI,
        supported_features=[FEATURES],
        public_identity=IMPU,
        visited_network=REALM,
        authorization_type=UserAuthorizationType.REGISTRATION_AND_CAPABILITIES,
        flags=1,
    )


def uaa() -> cx.UserAuthorizationAnswer:
    capabilities = cx.ServerCapabilities(mandatory=[1, 2], optional=[3], server_names=[SCSCF])
    return cx.UserAuthorizationAnswer(**FROM_HSS, experimental=2001, capabilities=capabilities)


def sar() -> cx.ServerAssignmentRequest:
    return cx.ServerAssignmentRequest(
        **TO_HSS,
        user_name=IMPI,
        public_identities=[IMPU],
        server_name=SCSCF,
        assignment_type=ServerAssignmentType.REGISTRATION,
        already_available=UserDataAlreadyAvailable.NOT_AVAILABLE,
    )


def saa() -> cx.ServerAssignmentAnswer:
    return cx.ServerAssignmentAnswer(
        **FROM_HSS,
        result_code=2001,
        user_name=IMPI,
        user_data=USER_DATA,
        charging=CHARGING,
        associated_identities=[IMPI, "other@" + REALM],
    )


def lir() -> cx.LocationInfoRequest:
    return cx.LocationInfoRequest(**TO_HSS, public_identity=IMPU, originating_request=OriginatingRequest.ORIGINATING)


def lia() -> cx.LocationInfoAnswer:
    return cx.LocationInfoAnswer(**FROM_HSS, result_code=2001, server_name=SCSCF)


def mar() -> cx.MultimediaAuthRequest:
    return cx.MultimediaAuthRequest(
        **TO_HSS,
        user_name=IMPI,
        public_identity=IMPU,
        item=cx.AuthDataItem(scheme=cx.SCHEME_AKA, authorization=RAND + AUTN[:14]),
        number_items=1,
        server_name=SCSCF,
    )


def maa(items: int = 1) -> cx.MultimediaAuthAnswer:
    return cx.MultimediaAuthAnswer(
        **FROM_HSS,
        result_code=2001,
        user_name=IMPI,
        public_identity=IMPU,
        number_items=items,
        items=[
            cx.AuthDataItem(number, cx.SCHEME_AKA, RAND + AUTN, XRES, None, CK, IK) for number in range(1, items + 1)
        ],
    )


def rtr() -> cx.RegistrationTerminationRequest:
    return cx.RegistrationTerminationRequest(
        **TO_CSCF,
        user_name=IMPI,
        public_identities=[IMPU, "tel:+15550001"],
        reason=cx.DeregistrationReason(ReasonCode.PERMANENT_TERMINATION, "contract ended"),
    )


def rta() -> cx.RegistrationTerminationAnswer:
    return cx.RegistrationTerminationAnswer(
        **ORIGIN, result_code=2002, emergency=[cx.EmergencyIdentity(IMPI, IMPU), cx.EmergencyIdentity(IMPI, "sip:b@c")]
    )


def ppr() -> cx.PushProfileRequest:
    return cx.PushProfileRequest(**TO_CSCF, user_name=IMPI, user_data=USER_DATA, charging=CHARGING)


def ppa() -> cx.PushProfileAnswer:
    return cx.PushProfileAnswer(**ORIGIN, experimental=5009, failed=[Avp(606, 10415, 0xC0, USER_DATA)])


PAIRS = ((uar, uaa), (sar, saa), (lir, lia), (mar, maa), (rtr, rta), (ppr, ppa))


def messages() -> list[DiameterMessage]:
    """All twelve, request before answer, with different identifiers."""
    every = []
    for number, (request, answer) in enumerate(PAIRS, 1):
        asked = request().to_message(number, 0xE2E00000 + number)
        every += [asked, answer().to_message(asked)]
    return every
