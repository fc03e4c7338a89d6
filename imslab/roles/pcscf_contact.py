"""What a P-CSCF remembers of a registered contact: identities, routes, the token of its flow (24.229 5.2.2).

The SAs of a contact are in the SA_table; here is what they are for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from imslab.sip.message import Request, Response
from imslab.sip.uri import Uri

#: Dialogs that are remembered for one contact; the longest unused ones are forgotten first.
MOST_DIALOGS = 200


class ContactKey(NamedTuple):
    """What tells one registered contact of a private identity from another (33.203 6.1.0).

    Without RFC 5626 a new contact from the same address takes the place of the old one; with it, the device and its
    reg-id make the difference. flow: "" without RFC 5626.
    """

    impi: str
    host: str
    flow: str = ""


def contact_key(request: Request, host: str) -> ContactKey:
    """The key for a REGISTER that came from this address. Raises PeerError."""
    username = next((each.username for each in request.authorization if each.username), None)
    flow = ""
    for contact in request.contact:
        if contact.reg_id is not None and contact.instance:
            flow = f"{contact.instance};{contact.reg_id}"
            break
    return ContactKey(username or request.to.uri.aor.partition(":")[2], host, flow)


@dataclass(slots=True)
class Binding:
    """One registration: the identity that was registered, and the set that came with it.

    aor: of the To. identities: P-Associated-URI, the default first. expires: on the clock of `now`.
    """

    aor: str
    identities: list[Uri]
    expires: float

    @property
    def names(self) -> set[str]:
        """All identities that it registers, as canonical text."""
        return {self.aor, *(uri.aor for uri in self.identities)}


@dataclass(slots=True, eq=False)
class ContactState:
    """One contact. token: marks our Path and Record-Route, so that what comes back is recognised.

    contact: the UE's own address, as last registered. under_way: REGISTERs that have not been answered yet.
    """

    key: ContactKey
    token: str
    contact: Uri | None = None
    bindings: list[Binding] = field(default_factory=list)
    service_route: list[Uri] = field(default_factory=list)
    dialogs: dict[str, None] = field(default_factory=dict)
    under_way: int = 0

    @property
    def identities(self) -> list[Uri]:
        """Everyone the UE may speak as; the first is the default (24.229 5.2.2.1)."""
        return [uri for binding in self.bindings for uri in binding.identities]

    def identity(self, uri: Uri) -> Uri | None:
        """The registered identity that this URI means; None for anyone else's."""
        return next((each for each in self.identities if each.aor == uri.aor), None)

    def register(self, aor: str, identities: list[Uri], expires: float) -> None:
        """A 200 said so. A binding of the same implicit set is replaced."""
        binding = Binding(aor, identities, expires)
        for place, old in enumerate(self.bindings):
            if old.names & binding.names:
                self.bindings[place] = binding
                break
        else:
            self.bindings.append(binding)

    def deregister(self, aor: str) -> None:
        """The identity goes, and its implicit set with it (29.228 6.5.1.2)."""
        self.bindings = [binding for binding in self.bindings if aor not in binding.names]

    def note_dialog(self, call_id: str) -> None:
        """A dialog exists or is used; its routes are the dialog's own, not the Service-Route."""
        self.dialogs.pop(call_id, None)
        self.dialogs[call_id] = None
        if len(self.dialogs) > MOST_DIALOGS:
            del self.dialogs[next(iter(self.dialogs))]


def granted(request: Request, response: Response) -> int:
    """For how many seconds a 2xx registers the contact of this REGISTER; 0 when it is gone. Raises PeerError."""
    asked = request.contact[0]
    wanted = asked.expires if asked.expires is not None else request.expires
    if asked.is_star or wanted == 0:
        return 0
    told = response.expires
    for contact in response.contact:
        if contact.uri == asked.uri:
            if contact.expires is not None:
                return contact.expires
            break
    # RFC 3261 10.2.4: the Expires of the answer, then what was asked for; an hour where nobody said anything.
    return next(each for each in (told, wanted, 3600) if each is not None)
