"""What an S-CSCF remembers of its users: who is registered, where, and for how long (RFC 3261 10.3; 24.229 5.4.1).

Public identities come in implicit registration sets: registering one registers all (29.228 6.5.1). So a Registration
belongs to a set, is found by any identity of it, and holds the bindings of every private identity that registered it.
Everything is found by name; nothing here looks at all registrations: the thousandth user costs what the first did.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from imslab.diameter.userdata import UserProfile
from imslab.sip.fields.address import Contact
from imslab.sip.uri import Uri


@dataclass(frozen=True, slots=True)
class Identity:
    """A public identity of a set. uri: as the HSS wrote it. aor: what it is found by. usable: distinct, not barred."""

    uri: str
    aor: str
    distinct: bool = True
    barred: bool = False

    @property
    def usable(self) -> bool:
        """True for one that may originate, be reached and be told to the UE."""
        return self.distinct and not self.barred


def identities_of(profile: UserProfile) -> tuple[Identity, ...]:
    """The set that a profile describes, in its order. Raises PeerError for an identity that is no URI."""
    return tuple(
        Identity(each.uri, Uri.parse(each.uri).aor, each.is_distinct, each.barred) for each in profile.identities
    )


@dataclass(slots=True, eq=False)
class Binding:
    """One contact of a registration.

    number: unique within the S-CSCF; the id in reg-event documents and in the Service-Route. impi: who registered it.
    expires_at: on the node's clock. path: the Path of the REGISTER that made it, as written, nearest hop first.
    cseq: of that REGISTER, under call_id. event: what happened to it last, as RFC 3680 names it.
    """

    number: int
    impi: str
    contact: Contact
    expires_at: float
    registered_at: float
    path: list[str]
    call_id: str
    cseq: int
    event: str = "registered"

    @property
    def uri(self) -> Uri:
        """Where the UE is reached."""
        return self.contact.uri


@dataclass(slots=True, eq=False)
class Registration:
    """An implicit registration set that is registered.

    asked: the identity (Uri.aor) of the REGISTER that made it. must_authenticate: the next REGISTER is challenged,
    whatever the policy says. added: identities that a PPR has put in (24.229 5.4.2.1.2 tells them as "created").
    """

    asked: str
    identities: tuple[Identity, ...]
    bindings: list[Binding] = field(default_factory=list)
    must_authenticate: bool = False
    added: frozenset[str] = frozenset()
    #: Under what the Registrar has it: public and private identities.
    names: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()

    @property
    def allowed(self) -> list[str]:
        """The URIs that may be used: distinct, not barred, default first (29.228 6.5.1.1)."""
        return [each.uri for each in self.identities if each.usable]

    @property
    def representative(self) -> str:
        """The identity that stands for the set at the HSS (29.228 6.5.1.2): the asked one, as long as it belongs."""
        names = [each.aor for each in self.identities]
        return self.asked if self.asked in names or not names else names[0]

    def is_barred(self, aor: str) -> bool:
        """True for an identity of the set that may not originate or receive."""
        return all(each.aor != aor for each in self.identities if each.usable)

    def of_private(self, impi: str) -> list[Binding]:
        """The bindings of one private identity."""
        return [binding for binding in self.bindings if binding.impi == impi]


class Registrar:
    """All registrations of one S-CSCF, found by any of their identities, public or private."""

    __slots__ = ("_by_private", "_by_public", "_count")

    def __init__(self) -> None:
        self._by_public: dict[str, Registration] = {}
        self._by_private: dict[str, tuple[Registration, ...]] = {}
        self._count = 0

    def __len__(self) -> int:
        """How many private identities have something registered."""
        return len(self._by_private)

    def find(self, aor: str) -> Registration | None:
        """The registration that a public identity (Uri.aor) belongs to."""
        return self._by_public.get(aor)

    def of_private(self, impi: str) -> tuple[Registration, ...]:
        """All registrations in which a private identity has a binding."""
        return self._by_private.get(impi, ())

    def update(self, registration: Registration) -> None:
        """To be called after any change of identities or bindings: one without bindings is forgotten."""
        registered = bool(registration.bindings)
        names = dict.fromkeys((registration.asked, *(each.aor for each in registration.identities if each.distinct)))
        owners = dict.fromkeys(binding.impi for binding in registration.bindings)
        for aor in registration.names:
            if self._by_public.get(aor) is registration:
                del self._by_public[aor]
        for impi in registration.owners:
            if impi not in owners:
                others = tuple(each for each in self._by_private[impi] if each is not registration)
                if others:
                    self._by_private[impi] = others
                else:
                    del self._by_private[impi]
        for impi in owners:
            if impi not in registration.owners:
                self._by_private[impi] = (*self._by_private.get(impi, ()), registration)
        registration.owners = tuple(owners)
        registration.names = tuple(names) if registered else ()
        for aor in registration.names:
            self._by_public[aor] = registration

    def new_number(self) -> int:
        """A number for a binding."""
        self._count += 1
        return self._count


def same_contact(bindings: Iterable[Binding], contact: Contact) -> Binding | None:
    """The binding that a Contact means: same instance and reg-id (RFC 5626 6), else an equal URI (RFC 3261 10.3).

    Raises PeerError for a contact with a malformed reg-id.
    """
    for binding in bindings:
        if contact.instance and contact.reg_id is not None:
            if (binding.contact.instance, binding.contact.reg_id) == (contact.instance, contact.reg_id):
                return binding
        elif binding.uri == contact.uri:
            return binding
    return None


def same_device(bindings: Iterable[Binding], contact: Contact, impi: str) -> list[Binding]:
    """The bindings that a new Contact replaces: those that the same phone made under another address.

    Without RFC 5626 a UE has one contact; one that lost its SAs, or got another address, comes back with a new one.
    """
    if not contact.instance or contact.reg_id is not None:
        return []
    return [
        binding
        for binding in bindings
        if binding.impi == impi and binding.contact.instance == contact.instance and binding.contact.reg_id is None
    ]
