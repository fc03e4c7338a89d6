"""What the HSS keeps of a subscriber (29.228 6.5, 23.008 3): identities, keys, service profiles, registration state.

    Subscriber                       an IMS subscription: one S-CSCF at a time serves all of it
      PrivateIdentity …              IMPI, its credentials, its SQN
      RegistrationSet …              an implicit registration set: IMPUs that register and leave together
        ServiceProfile …             the service profiles of those IMPUs (diameter.userdata)

Records are snapshots: nothing in them is ever changed, a change makes a new record with the next version. So a record
may be shared by a store, a node and an answer that is still on its way. Keys never show in a repr.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from imslab.aka.algorithm import AkaAlgorithm
from imslab.aka.milenage import Milenage, derive_opc
from imslab.aka.sqn import SLOTS, sqn_text
from imslab.aka.tuak import Tuak
from imslab.aka.xor import XorTest
from imslab.core.errors import LocalError
from imslab.core.numbering import derive_in_plmn
from imslab.diameter.cx import ChargingInformation
from imslab.diameter.userdata import FilterCriteria, PublicIdentity, ServiceProfile, SessionCase, UserProfile

MILENAGE, TUAK, XOR = "milenage", "tuak", "xor"


class RegistrationState(StrEnum):
    """State of a public identity (29.228 6.5): unregistered is "served, but not registered"."""

    NOT_REGISTERED = "not registered"
    REGISTERED = "registered"
    UNREGISTERED = "unregistered"


def canonical(identity: str) -> str:
    """An identity as it is looked up (29.229 6.3.2): scheme and host in lower case, no parameters, no separators.

    A private identity has no scheme and keeps everything but the case of its realm.
    """
    scheme, colon, rest = identity.partition(":")
    scheme = scheme.lower()
    if colon and scheme == "tel":
        number = rest.partition(";")[0]
        return "tel:" + "".join(digit for digit in number if digit not in "-.() ")
    if colon and scheme in ("sip", "sips"):
        # A user part may hold ";" and "?" itself, a host cannot.
        user, at, host = rest.rpartition("@")
        for mark in ";?":
            host = host.partition(mark)[0]
        return f"{scheme}:{user}{at}{host.lower()}"
    user, at, realm = identity.rpartition("@")
    return f"{user}@{realm.lower()}" if at else identity


@dataclass(frozen=True, slots=True)
class AkaCredentials:
    """Keys for IMS AKA.

    k: 16 octets (TUAK also 32). opc: OPc, 16 octets; TOPc, 32, for TUAK; b"" for XOR. amf: 2 octets; its first bit
    is 0 for IMS (33.102 Annex H). inds: the slots of SQN for IMS (33.102 C.3.4), where another domain shares the key.
    """

    k: bytes = field(repr=False)
    opc: bytes = field(repr=False, default=b"")
    algorithm: str = MILENAGE
    amf: bytes = b"\0\0"
    inds: range = range(SLOTS)

    def make_algorithm(self) -> AkaAlgorithm:
        """The algorithm with the key inside. Raises LocalError for a wrong length or an unknown name."""
        if self.algorithm == MILENAGE:
            return Milenage(self.k, self.opc)
        if self.algorithm == TUAK:
            return Tuak(self.k, self.opc)
        if self.algorithm == XOR:
            return XorTest(self.k)
        raise LocalError(f"algorithm {self.algorithm!r}: expected {MILENAGE}, {TUAK} or {XOR}")


@dataclass(frozen=True, slots=True)
class DigestCredentials:
    """A password for SIP Digest, as H(A1): 32 hex digits over user name, realm and password."""

    realm: str
    ha1: str = field(repr=False)
    algorithm: str = "MD5"
    qop: str = "auth"


@dataclass(frozen=True, slots=True)
class PrivateIdentity:
    """An IMPI. sqn: the last SQN that was handed out, 48 bits."""

    impi: str
    credentials: AkaCredentials | DigestCredentials
    sqn: int = 0

    def __repr__(self) -> str:
        return f"PrivateIdentity({self.impi!r}, {self.credentials!r}, sqn={sqn_text(self.sqn)})"


@dataclass(frozen=True, slots=True)
class RegistrationSet:
    """An implicit registration set: its identities have one state.

    impis: which private identities may use it; empty: all of the subscription. registered_by: those that have it
    registered now. pending: those whose authentication was begun by an MAR (the authentication pending flag, 29.228
    6.3.1).
    """

    profiles: tuple[ServiceProfile, ...]
    impis: tuple[str, ...] = ()
    state: RegistrationState = RegistrationState.NOT_REGISTERED
    registered_by: frozenset[str] = frozenset()
    pending: frozenset[str] = frozenset()

    @property
    def identities(self) -> list[PublicIdentity]:
        """All public identities, in order."""
        return [identity for profile in self.profiles for identity in profile.identities]

    @property
    def default(self) -> PublicIdentity | None:
        """The default identity (29.228 6.5.1.1): the first distinct one that is not barred."""
        return UserProfile("", list(self.profiles)).default_identity

    def find(self, impu: str) -> PublicIdentity | None:
        """The identity of that URI."""
        wanted = canonical(impu)
        return next((identity for identity in self.identities if canonical(identity.uri) == wanted), None)

    def serves(self, impi: str) -> bool:
        """Whether that private identity may use this set."""
        return not self.impis or impi in self.impis

    @property
    def is_served(self) -> bool:
        """Whether an S-CSCF has it, registered or not."""
        return self.state is not RegistrationState.NOT_REGISTERED

    def has_unregistered_services(self, originating: bool) -> bool:
        """Whether some filter criterion can match while the user is not registered (29.228 6.1.4.1)."""
        case = SessionCase.ORIGINATING_UNREGISTERED if originating else SessionCase.TERMINATING_UNREGISTERED
        return any(_matches(criteria, case) for profile in self.profiles for criteria in profile.ifcs)

    def user_data(self, impi: str) -> UserProfile:
        """The document for the S-CSCF."""
        return UserProfile(impi, list(self.profiles))


def _matches(criteria: FilterCriteria, case: SessionCase) -> bool:
    if criteria.profile_part == 0:
        return False
    cases = [
        (int(spt.value) == case) is not spt.negated
        for spt in (criteria.trigger.spts if criteria.trigger else ())
        if spt.kind == "SessionCase"
    ]
    return any(cases) or not cases


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an S-CSCF must and should have to serve the subscriber, by number; or names of S-CSCFs to choose from."""

    mandatory: tuple[int, ...] = ()
    optional: tuple[int, ...] = ()
    server_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Subscriber:
    """An IMS subscription.

    server_name: SIP URI of the S-CSCF that serves it, "" for none; server_host, server_realm: its Diameter identity.
    reassignment_pending: another S-CSCF may take over (29.228 6.1.1.1, restoration).
    visited_networks: where the subscriber may register from, None: anywhere. may_register: False rejects it.
    version: counts the changes; a store refuses a change that was made from an older version.
    """

    privates: tuple[PrivateIdentity, ...]
    sets: tuple[RegistrationSet, ...]
    server_name: str = ""
    server_host: str = ""
    server_realm: str = ""
    reassignment_pending: bool = False
    capabilities: Capabilities | None = None
    charging: ChargingInformation | None = None
    visited_networks: frozenset[str] | None = None
    may_register: bool = True
    version: int = 0

    def __post_init__(self) -> None:
        if not self.privates or not self.sets or not all(each.identities for each in self.sets):
            raise LocalError("a subscriber needs a private identity, and a public one in each set")
        if len(set(self.keys)) != len(self.keys):
            raise LocalError(f"{self.id}: an identity is there twice")

    @property
    def id(self) -> str:
        """The first private identity: the subscription's own name."""
        return canonical(self.privates[0].impi)

    @property
    def keys(self) -> list[str]:
        """Every identity, canonical: what the record is found by."""
        publics = [canonical(identity.uri) for each in self.sets for identity in each.identities]
        return [canonical(private.impi) for private in self.privates] + publics

    def private(self, impi: str) -> PrivateIdentity | None:
        """The private identity of that name."""
        wanted = canonical(impi)
        return next((private for private in self.privates if canonical(private.impi) == wanted), None)

    def set_of(self, impu: str) -> RegistrationSet | None:
        """The implicit registration set that holds a public identity."""
        return next((each for each in self.sets if each.find(impu) is not None), None)

    @property
    def is_served(self) -> bool:
        """Whether any of its sets is with an S-CSCF."""
        return any(each.is_served for each in self.sets)

    def with_private(self, private: PrivateIdentity) -> Subscriber:
        """With this in place of the private identity of the same name."""
        return replace(self, privates=tuple(private if each.impi == private.impi else each for each in self.privates))

    def with_set(self, old: RegistrationSet, new: RegistrationSet) -> Subscriber:
        """With one registration set replaced."""
        return replace(self, sets=tuple(new if each is old else each for each in self.sets))

    @classmethod
    def from_imsi(
        cls,
        imsi: str,
        k: bytes,
        opc: bytes = b"",
        mcc: str = "001",
        mnc: str = "01",
        *,
        op: bytes = b"",
        algorithm: str = MILENAGE,
        amf: bytes = b"\0\0",
        sqn: int = 0,
        msisdn: str = "",
        bar_derived: bool = False,
        ifcs: Sequence[FilterCriteria] = (),
        capabilities: Capabilities | None = None,
        charging: ChargingInformation | None = None,
        visited_networks: Iterable[str] | None = None,
    ) -> Subscriber:
        """A subscriber whose identities follow from the IMSI by rule (23.003 13.3, 13.4B): one registration set.

        opc, or op from which it is derived. msisdn: digits without "+", adds a SIP URI with user=phone's number and
        a tel URI. bar_derived: the IMSI-derived public identity is barred, as operators have it, so that the MSISDN's
        SIP URI is the default one. Raises LocalError for digits and lengths that cannot be.
        """
        impi, impu, domain = derive_in_plmn(imsi, mcc, mnc)
        if bool(op) + bool(opc) != (algorithm != XOR):
            raise LocalError("expected either OP or OPc, and neither for XOR")
        if op:
            opc = derive_opc(k, op)
        credentials = AkaCredentials(k, opc, algorithm, amf)
        credentials.make_algorithm()
        identities = [PublicIdentity(impu, barred=bar_derived)]
        if msisdn:
            number = msisdn.lstrip("+")
            if not (number.isdecimal() and number.isascii()):
                raise LocalError(f"MSISDN {msisdn!r}: expected digits")
            identities += [PublicIdentity(f"sip:+{number}@{domain}"), PublicIdentity(f"tel:+{number}")]
        return cls(
            (PrivateIdentity(impi, credentials, sqn),),
            (RegistrationSet((ServiceProfile(identities, list(ifcs)),)),),
            capabilities=capabilities,
            charging=charging,
            visited_networks=None if visited_networks is None else frozenset(visited_networks),
        )
