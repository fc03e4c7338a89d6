"""What an S-CSCF remembers of its users: who is registered, where, and for how long (RFC 3261 10.3; 24.229 5.4.1).

Public identities come in implicit registration sets: registering one registers all (29.228 6.5.1). So a Registration
belongs to a set, is found by any identity of it, and holds the bindings of the private identity that made it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from imslab.diameter.userdata import PublicIdentity, UserProfile
from imslab.sip.fields.address import Contact
from imslab.sip.uri import Uri


@dataclass(slots=True)
class Binding:
    """One contact of a registration.

    number: unique within the S-CSCF, the id in reg-event documents. expires_at: on the node's clock.
    path: the Path of the REGISTER that made it, as written, nearest hop first. cseq: of that REGISTER, under call_id.
    """

    number: int
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


@dataclass(slots=True)
class Registration:
    """An implicit registration set that is registered.

    asked: the identity of the REGISTER that made it. associated: the identities as the HSS listed them.
    """

    impi: str
    asked: str
    profile: UserProfile
    associated: list[PublicIdentity]
    bindings: dict[str, Binding] = field(default_factory=dict)

    @property
    def allowed(self) -> list[str]:
        """The identities that may be used: distinct, not barred, default first (29.228 6.5.1.1)."""
        return [each.uri for each in self.associated if each.is_distinct and not each.barred]

    @property
    def default(self) -> str:
        """The default identity; the asked one where all are barred."""
        allowed = self.allowed
        return allowed[0] if allowed else self.asked

    def is_barred(self, aor: str) -> bool:
        """True for an identity of the set that may not originate or receive."""
        return all(Uri.parse(uri).aor != aor for uri in self.allowed)


class Registrar:
    """All registrations of one S-CSCF, found by any of their identities."""

    def __init__(self) -> None:
        self._by_identity: dict[str, Registration] = {}
        self._count = 0

    def find(self, aor: str) -> Registration | None:
        """The registration that an identity (Uri.aor) belongs to."""
        return self._by_identity.get(aor)

    def of_private(self, impi: str) -> list[Registration]:
        """All registrations that a private identity has made."""
        unique = {id(each): each for each in self._by_identity.values() if each.impi == impi}
        return list(unique.values())

    def all(self) -> list[Registration]:
        """Every registration once."""
        return list({id(each): each for each in self._by_identity.values()}.values())

    def store(self, registration: Registration) -> None:
        """Make a registration findable by its identities, those it has lost excepted."""
        self.forget(registration)
        for each in (registration.asked, *(each.uri for each in registration.associated if each.is_distinct)):
            self._by_identity[Uri.parse(each).aor] = registration

    def forget(self, registration: Registration) -> None:
        """The set is no longer registered."""
        for aor in [aor for aor, each in self._by_identity.items() if each is registration]:
            del self._by_identity[aor]

    def new_number(self) -> int:
        """A number for a binding."""
        self._count += 1
        return self._count


def same_contact(bindings: Iterable[Binding], contact: Contact) -> Binding | None:
    """The binding that a Contact means: same instance and reg-id (RFC 5626 6), else an equal URI (RFC 3261 10.3)."""
    for binding in bindings:
        if contact.instance and contact.reg_id is not None:
            if (binding.contact.instance, binding.contact.reg_id) == (contact.instance, contact.reg_id):
                return binding
        elif binding.uri == contact.uri:
            return binding
    return None
