"""The Cx commands of TS 29.229 as dataclasses: read with `from_message`, written with `to_message`.

    UAR/UAA 300   I-CSCF → HSS   may this user register here, and at which S-CSCF
    SAR/SAA 301   S-CSCF → HSS   I serve (or no longer serve) this user; give me the profile
    LIR/LIA 302   I-CSCF → HSS   who serves this user
    MAR/MAA 303   S-CSCF → HSS   give me authentication vectors
    RTR/RTA 304   HSS → S-CSCF   stop serving this user
    PPR/PPA 305   HSS → S-CSCF   here is a new profile

The field names are those of the specification in lower case where that is bearable. Fields are in the order in which
the specification's grammar has them, and so are the AVPs.
"""

# ruff: noqa: RUF009 — the declarations are dataclasses.field calls with a name

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from imslab.diameter.avp import Avp
from imslab.diameter.codes import (
    AuthSessionState,
    CxResult,
    OriginatingRequest,
    ReasonCode,
    ResultCode,
    ServerAssignmentType,
    UarFlags,
    UserAuthorizationType,
    UserDataAlreadyAvailable,
)
from imslab.diameter.dictionary import APPLICATION_CX, VENDOR_3GPP
from imslab.diameter.grammar import (
    Command,
    First,
    Group,
    Only,
    VendorApplication,
    cx_application,
    many,
    optional,
    required,
)
from imslab.diameter.message import DiameterMessage, answer

UAR, SAR, LIR, MAR, RTR, PPR = 300, 301, 302, 303, 304, 305

SCHEME_AKA = "Digest-AKAv1-MD5"
SCHEME_DIGEST = "SIP Digest"
SCHEME_UNKNOWN = "Unknown"

# --- groups ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class SupportedFeatures(Group):
    """Supported-Features (29.229 6.3.29)."""

    vendor_id: int = required("Vendor-Id")
    list_id: int = required("Feature-List-ID")
    features: int = required("Feature-List")


@dataclass(slots=True, kw_only=True)
class ServerCapabilities(Group):
    """Server-Capabilities (29.229 6.3.4): what an S-CSCF must or should have, or by name which one to take."""

    mandatory: list[int] = many("Mandatory-Capability")
    optional: list[int] = many("Optional-Capability")
    server_names: list[str] = many("Server-Name")


@dataclass(slots=True, kw_only=True)
class DigestAuthenticate(Group):
    """SIP-Digest-Authenticate (29.229 6.3.36). ha1: 32 hex digits."""

    realm: str = required("Digest-Realm")
    algorithm: str | None = optional("Digest-Algorithm")
    qop: str | None = optional("Digest-QoP")
    ha1: str | None = optional("Digest-HA1", shown=False)


@dataclass(slots=True)
class AuthDataItem(Group):
    """SIP-Auth-Data-Item (29.229 6.3.13).

    In an MAA: authenticate = RAND ‖ AUTN (32 octets), authorization = XRES (4 to 16), ck and ik 16 octets each.
    In an MAR of a resynchronisation: authorization = RAND ‖ AUTS (30 octets).
    """

    number: int | None = optional("SIP-Item-Number")
    scheme: str | None = optional("SIP-Authentication-Scheme")
    authenticate: bytes | None = optional("SIP-Authenticate")
    authorization: bytes | None = optional("SIP-Authorization", shown=False)
    context: bytes | None = optional("SIP-Authentication-Context")
    ck: bytes | None = optional("Confidentiality-Key", shown=False)
    ik: bytes | None = optional("Integrity-Key", shown=False)
    digest: DigestAuthenticate | None = optional("SIP-Digest-Authenticate", DigestAuthenticate)


@dataclass(slots=True, kw_only=True)
class ChargingInformation(Group):
    """Charging-Information (29.229 6.3.19): event (online) and collection (offline) functions, as Diameter URIs."""

    primary_event: str | None = optional("Primary-Event-Charging-Function-Name")
    secondary_event: str | None = optional("Secondary-Event-Charging-Function-Name")
    primary_collection: str | None = optional("Primary-Charging-Collection-Function-Name")
    secondary_collection: str | None = optional("Secondary-Charging-Collection-Function-Name")


@dataclass(slots=True)
class DeregistrationReason(Group):
    """Deregistration-Reason (29.229 6.3.16)."""

    code: ReasonCode = required("Reason-Code", ReasonCode)
    info: str | None = optional("Reason-Info")


@dataclass(slots=True)
class EmergencyIdentity(Group):
    """Identity-with-Emergency-Registration (29.229 6.3.57)."""

    user_name: str = required("User-Name")
    public_identity: str = required("Public-Identity")


# --- what all of them share -----------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class CxRequest(Command):
    """What every Cx request has. A session lasts for one request and its answer (29.229 5.1)."""

    REQUEST: ClassVar[bool] = True

    session_id: str = required("Session-Id")
    application: VendorApplication = required(
        "Vendor-Specific-Application-Id", VendorApplication, default_factory=cx_application
    )
    auth_session_state: int = required(
        "Auth-Session-State", default_factory=lambda: int(AuthSessionState.NO_STATE_MAINTAINED)
    )
    origin_host: str = required("Origin-Host")
    origin_realm: str = required("Origin-Realm")
    destination_host: str | None = optional("Destination-Host")
    destination_realm: str = required("Destination-Realm")

    def to_message(self, hop_by_hop: int = 0, end_to_end: int = 0) -> DiameterMessage:
        """The message. A Peer puts in the identifiers when it sends it."""
        return DiameterMessage(
            self.COMMAND,
            self.APPLICATION,
            request=True,
            proxiable=True,
            hop_by_hop=hop_by_hop,
            end_to_end=end_to_end,
            avps=self.to_avps(),
        )


@dataclass(slots=True, kw_only=True)
class CxAnswer(Command):
    """What every Cx answer has: one of result_code and experimental (29.229 6.2)."""

    REQUEST: ClassVar[bool] = False

    session_id: str | None = optional("Session-Id")
    application: VendorApplication | None = optional("Vendor-Specific-Application-Id", VendorApplication)
    result_code: int | None = optional("Result-Code")
    experimental: int | None = optional(
        "Experimental-Result", First("Experimental-Result-Code", (("Vendor-Id", VENDOR_3GPP),))
    )
    auth_session_state: int | None = optional("Auth-Session-State")
    origin_host: str | None = optional("Origin-Host")
    origin_realm: str | None = optional("Origin-Realm")
    error_message: str | None = optional("Error-Message")
    failed: list[Avp] | None = optional("Failed-AVP")

    def to_message(self, request: DiameterMessage) -> DiameterMessage:
        """The answer to this request: its identifiers, Session-Id and Proxy-Info; application and session state that
        were not given are what 29.229 6.1 asks for."""
        if self.application is None:
            self.application = cx_application()
        if self.auth_session_state is None:
            self.auth_session_state = int(AuthSessionState.NO_STATE_MAINTAINED)
        self.session_id = None
        message = answer(request)
        error = self.result_code is not None and 3000 <= self.result_code < 4000
        session = [avp for avp in message.avps[:1] if avp.code == 263]
        message.avps = session + self.to_avps() + message.avps[len(session) :]
        message.error = error
        return message

    @property
    def is_success(self) -> bool:
        """True for a result of the 2xxx class, base or experimental."""
        code = self.result_code if self.result_code is not None else self.experimental
        return code is not None and 2000 <= code < 3000


# --- the six commands -----------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class UserAuthorizationRequest(CxRequest):
    """UAR (29.229 6.1.1)."""

    COMMAND: ClassVar[int] = UAR

    user_name: str = required("User-Name")
    supported_features: list[SupportedFeatures] = many("Supported-Features", SupportedFeatures)
    public_identity: str = required("Public-Identity")
    visited_network: str = required("Visited-Network-Identifier", "text")
    authorization_type: UserAuthorizationType | None = optional("User-Authorization-Type", UserAuthorizationType)
    flags: int | None = optional("UAR-Flags")


@dataclass(slots=True, kw_only=True)
class UserAuthorizationAnswer(CxAnswer):
    """UAA (29.229 6.1.2)."""

    COMMAND: ClassVar[int] = UAR

    supported_features: list[SupportedFeatures] = many("Supported-Features", SupportedFeatures)
    server_name: str | None = optional("Server-Name")
    capabilities: ServerCapabilities | None = optional("Server-Capabilities", ServerCapabilities)


@dataclass(slots=True, kw_only=True)
class ServerAssignmentRequest(CxRequest):
    """SAR (29.229 6.1.3)."""

    COMMAND: ClassVar[int] = SAR

    user_name: str | None = optional("User-Name")
    supported_features: list[SupportedFeatures] = many("Supported-Features", SupportedFeatures)
    public_identities: list[str] = many("Public-Identity")
    wildcarded_psi: str | None = optional("Wildcarded-Public-Identity")
    wildcarded_impu: str | None = optional("Wildcarded-IMPU")
    server_name: str = required("Server-Name")
    assignment_type: ServerAssignmentType = required("Server-Assignment-Type", ServerAssignmentType)
    already_available: UserDataAlreadyAvailable = required("User-Data-Already-Available", UserDataAlreadyAvailable)
    multiple_registration: int | None = optional("Multiple-Registration-Indication")
    flags: int | None = optional("SAR-Flags")


@dataclass(slots=True, kw_only=True)
class ServerAssignmentAnswer(CxAnswer):
    """SAA (29.229 6.1.4). user_data: the XML of 29.228 Annex E, see `userdata`."""

    COMMAND: ClassVar[int] = SAR

    user_name: str | None = optional("User-Name")
    supported_features: list[SupportedFeatures] = many("Supported-Features", SupportedFeatures)
    user_data: bytes | None = optional("User-Data")
    charging: ChargingInformation | None = optional("Charging-Information", ChargingInformation)
    associated_identities: list[str] | None = optional("Associated-Identities", Only("User-Name"))
    loose_route: int | None = optional("Loose-Route-Indication")
    server_name: str | None = optional("Server-Name")
    wildcarded_psi: str | None = optional("Wildcarded-Public-Identity")
    wildcarded_impu: str | None = optional("Wildcarded-IMPU")


@dataclass(slots=True, kw_only=True)
class LocationInfoRequest(CxRequest):
    """LIR (29.229 6.1.5)."""

    COMMAND: ClassVar[int] = LIR

    originating_request: OriginatingRequest | None = optional("Originating-Request", OriginatingRequest)
    supported_features: list[SupportedFeatures] = many("Supported-Features", SupportedFeatures)
    public_identity: str = required("Public-Identity")
    authorization_type: UserAuthorizationType | None = optional("User-Authorization-Type", UserAuthorizationType)


@dataclass(slots=True, kw_only=True)
class LocationInfoAnswer(CxAnswer):
    """LIA (29.229 6.1.6)."""

    COMMAND: ClassVar[int] = LIR

    supported_features: list[SupportedFeatures] = many("Supported-Features", SupportedFeatures)
    server_name: str | None = optional("Server-Name")
    capabilities: ServerCapabilities | None = optional("Server-Capabilities", ServerCapabilities)
    wildcarded_psi: str | None = optional("Wildcarded-Public-Identity")
    wildcarded_impu: str | None = optional("Wildcarded-IMPU")
    flags: int | None = optional("LIA-Flags")


@dataclass(slots=True, kw_only=True)
class MultimediaAuthRequest(CxRequest):
    """MAR (29.229 6.1.7). number_items: how many vectors are wanted."""

    COMMAND: ClassVar[int] = MAR

    user_name: str = required("User-Name")
    supported_features: list[SupportedFeatures] = many("Supported-Features", SupportedFeatures)
    public_identity: str = required("Public-Identity")
    item: AuthDataItem = required("SIP-Auth-Data-Item", AuthDataItem)
    number_items: int = required("SIP-Number-Auth-Items")
    server_name: str = required("Server-Name")


@dataclass(slots=True, kw_only=True)
class MultimediaAuthAnswer(CxAnswer):
    """MAA (29.229 6.1.8). number_items: how many vectors are here."""

    COMMAND: ClassVar[int] = MAR

    user_name: str | None = optional("User-Name")
    supported_features: list[SupportedFeatures] = many("Supported-Features", SupportedFeatures)
    public_identity: str | None = optional("Public-Identity")
    number_items: int | None = optional("SIP-Number-Auth-Items")
    items: list[AuthDataItem] = many("SIP-Auth-Data-Item", AuthDataItem)


@dataclass(slots=True, kw_only=True)
class RegistrationTerminationRequest(CxRequest):
    """RTR (29.229 6.1.9). public_identities: none may mean all of the private identity (29.228 6.1.3.1)."""

    COMMAND: ClassVar[int] = RTR

    destination_host: str = required("Destination-Host")
    user_name: str = required("User-Name")
    associated_identities: list[str] | None = optional("Associated-Identities", Only("User-Name"))
    supported_features: list[SupportedFeatures] = many("Supported-Features", SupportedFeatures)
    public_identities: list[str] = many("Public-Identity")
    reason: DeregistrationReason = required("Deregistration-Reason", DeregistrationReason)
    flags: int | None = optional("RTR-Flags")


@dataclass(slots=True, kw_only=True)
class RegistrationTerminationAnswer(CxAnswer):
    """RTA (29.229 6.1.10). emergency: identities that stay, because they are registered for an emergency."""

    COMMAND: ClassVar[int] = RTR

    associated_identities: list[str] | None = optional("Associated-Identities", Only("User-Name"))
    supported_features: list[SupportedFeatures] = many("Supported-Features", SupportedFeatures)
    emergency: list[EmergencyIdentity] = many("Identity-with-Emergency-Registration", EmergencyIdentity)


@dataclass(slots=True, kw_only=True)
class PushProfileRequest(CxRequest):
    """PPR (29.229 6.1.11)."""

    COMMAND: ClassVar[int] = PPR

    destination_host: str = required("Destination-Host")
    user_name: str = required("User-Name")
    supported_features: list[SupportedFeatures] = many("Supported-Features", SupportedFeatures)
    user_data: bytes | None = optional("User-Data")
    charging: ChargingInformation | None = optional("Charging-Information", ChargingInformation)
    item: AuthDataItem | None = optional("SIP-Auth-Data-Item", AuthDataItem)


@dataclass(slots=True, kw_only=True)
class PushProfileAnswer(CxAnswer):
    """PPA (29.229 6.1.12)."""

    COMMAND: ClassVar[int] = PPR

    supported_features: list[SupportedFeatures] = many("Supported-Features", SupportedFeatures)


#: (command code, is a request) → its class.
COMMANDS: dict[tuple[int, bool], type[Command]] = {
    (cls.COMMAND, cls.REQUEST): cls
    for cls in (
        UserAuthorizationRequest,
        UserAuthorizationAnswer,
        ServerAssignmentRequest,
        ServerAssignmentAnswer,
        LocationInfoRequest,
        LocationInfoAnswer,
        MultimediaAuthRequest,
        MultimediaAuthAnswer,
        RegistrationTerminationRequest,
        RegistrationTerminationAnswer,
        PushProfileRequest,
        PushProfileAnswer,
    )
}

__all__ = [
    "APPLICATION_CX",
    "COMMANDS",
    "LIR",
    "MAR",
    "PPR",
    "RTR",
    "SAR",
    "SCHEME_AKA",
    "SCHEME_DIGEST",
    "SCHEME_UNKNOWN",
    "UAR",
    "AuthDataItem",
    "AuthSessionState",
    "ChargingInformation",
    "CxAnswer",
    "CxRequest",
    "CxResult",
    "DeregistrationReason",
    "DigestAuthenticate",
    "EmergencyIdentity",
    "LocationInfoAnswer",
    "LocationInfoRequest",
    "MultimediaAuthAnswer",
    "MultimediaAuthRequest",
    "OriginatingRequest",
    "PushProfileAnswer",
    "PushProfileRequest",
    "ReasonCode",
    "RegistrationTerminationAnswer",
    "RegistrationTerminationRequest",
    "ResultCode",
    "ServerAssignmentAnswer",
    "ServerAssignmentRequest",
    "ServerAssignmentType",
    "ServerCapabilities",
    "SupportedFeatures",
    "UarFlags",
    "UserAuthorizationAnswer",
    "UserAuthorizationRequest",
    "UserAuthorizationType",
    "UserDataAlreadyAvailable",
]
