"""One REGISTER, read whole before anything is done with it.

Whatever is malformed in it shows here, as a PeerError that becomes a 400: later, when an answer of the HSS has come,
nobody would catch it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from imslab.aka.digest import parse_auts
from imslab.core.errors import PeerError
from imslab.roles.cx_client import identity
from imslab.sip.fields.address import Contact
from imslab.sip.fields.digest import DigestCredentials
from imslab.sip.message import Request
from imslab.sip.transaction import Transaction

#: What is read of credentials.
_CREDENTIALS = ("username", "realm", "nonce", "uri", "response", "algorithm", "qop", "cnonce", "integrity-protected")


@dataclass(frozen=True, slots=True)
class Wish:
    """One Contact of a REGISTER. seconds: what it asks for (RFC 3261 10.2.1.1); None where nothing is said."""

    contact: Contact
    seconds: int | None


@dataclass(slots=True)
class Attempt:
    """One REGISTER on its way through.

    impi: of the credentials; without any, made of the IMPU. impu: Uri.aor of To. auts: 14 octets. path: as written.
    authenticated, proof: filled in when its response was right; proof is the Authentication-Info for the 200.
    """

    txn: Transaction
    request: Request
    impi: str
    impu: str
    call_id: str
    cseq: int
    credentials: DigestCredentials | None
    auts: bytes | None
    wishes: list[Wish] = field(default_factory=list)
    path: list[str] = field(default_factory=list)
    authenticated: bool = False
    proof: str = ""

    @property
    def leaving(self) -> bool:
        """True when every contact is to go."""
        return bool(self.wishes) and all(wish.seconds == 0 for wish in self.wishes)

    @property
    def flag(self) -> str:
        """integrity-protected, lower case; "" where it is absent."""
        return (self.credentials.integrity_protected or "").lower() if self.credentials else ""

    @property
    def nonce(self) -> str:
        """The nonce that is answered; "" where there is none."""
        return (self.credentials.nonce or "") if self.credentials else ""


def read_attempt(txn: Transaction, realm: str) -> Attempt:
    """Read the REGISTER of a transaction. realm: whose credentials count. Raises PeerError."""
    request = txn.request
    impu = identity(request.to.uri.aor, "To")
    credentials = _credentials(request, realm)
    username = credentials.username if credentials else None
    return Attempt(
        txn,
        request,
        # 24.229 5.4.1.1: a public identity made of the private one gives it away (23.003 13.4B).
        identity(username, "Authorization") if username else impu.partition(":")[2],
        impu,
        request.call_id,
        request.cseq.number,
        credentials,
        parse_auts(credentials.get("auts") or "") if credentials and credentials.has("auts") else None,
        _wishes(request),
        [str(path) for path in request.path],
    )


def _wishes(request: Request) -> list[Wish]:
    wishes = []
    otherwise = request.expires
    for contact in request.contact:
        if contact.is_star and otherwise != 0:
            raise PeerError("Contact: * without Expires: 0", clause="RFC 3261 10.3")
        _ = contact.reg_id, contact.q  # to be read later: malformed ones show now
        seconds = None if contact.is_star else contact.expires
        wishes.append(Wish(contact, otherwise if seconds is None else seconds))
    return wishes


def _credentials(request: Request, realm: str) -> DigestCredentials | None:
    found = request.authorization
    ours = [each for each in found if each.realm == realm] or found[:1]
    if len(ours) > 1:
        # RFC 3261 22.3: one for each realm. Of two, whoever checks might take the other one.
        raise PeerError("two Authorization headers for one realm", clause="RFC 3261 22.3")
    for each in ours:
        _ = each.nc, *(each.get(name) for name in _CREDENTIALS)
        return each
    return None
