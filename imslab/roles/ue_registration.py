"""What an answer to REGISTER says: the registration that a 200 grants, and what a failure asks for."""

from __future__ import annotations

from dataclasses import dataclass, field

from imslab.core.errors import PeerError
from imslab.core.flow import Endpoint, canonical_host
from imslab.roles.ue_config import UeConfig
from imslab.sip.message import Response
from imslab.sip.uri import Uri

#: RFC 3261 10.2.1.1: what holds when nobody named a lifetime.
DEFAULT_EXPIRES = 3600


@dataclass(slots=True)
class Registration:
    """A registration as its 200 described it.

    granted: seconds from `since`. expires_at: on the node's clock; a NOTIFY may shorten it.
    service_route: rows for Route, in order. associated: URIs of P-Associated-URI. default_identity: whom the UE speaks
    as. barred: the identity that was registered is not among the associated ones, so it must not be used (24.229
    5.1.1.2.1).
    """

    impu: str
    since: float
    granted: int
    expires_at: float
    service_route: list[str] = field(default_factory=list)
    associated: list[str] = field(default_factory=list)
    default_identity: str = ""
    barred: bool = False


def is_ours(uri: Uri, contact: Endpoint) -> bool:
    """True for a contact URI that leads to this endpoint, whatever its user part and parameters are."""
    try:
        return canonical_host(uri.host) == contact.host and (uri.port or 5060) == contact.port
    except ValueError:
        return False


def read_registration(response: Response, config: UeConfig, contact: Endpoint, now: float) -> Registration:
    """The registration that a 200 grants to our contact. Raises PeerError when what it needs cannot be read."""
    granted = _granted(response, contact)
    associated = [str(each.uri) for each in response.p_associated_uri]
    ours = Uri.parse(config.impu).aor
    # 24.229 5.1.1.2.1: the first is the default identity; an identity that is not listed is barred. A network that
    # sends no list at all has said nothing about either.
    barred = bool(associated) and all(Uri.parse(each).aor != ours for each in associated)
    return Registration(
        impu=config.impu,
        since=now,
        granted=granted,
        expires_at=now + granted,
        service_route=response.values("Service-Route"),
        associated=associated,
        default_identity=associated[0] if associated else config.impu,
        barred=barred,
    )


def _granted(response: Response, contact: Endpoint) -> int:
    """RFC 3261 10.2.4: the expires of our own Contact; else Expires; else the default."""
    for each in response.contact:
        if not each.is_star and is_ours(each.uri, contact) and each.expires is not None:
            return each.expires
    return DEFAULT_EXPIRES if response.expires is None else response.expires


def refresh_delay(granted: float) -> float:
    """When to refresh what was granted, in seconds from now (24.229 5.1.1.4.1, 5.1.1.3).

    600 s before the end if more than 1200 s were granted, else at half time.
    """
    return granted - 600 if granted > 1200 else granted / 2


def retry_after(response: Response) -> int | None:
    """Retry-After in seconds; None if absent or unreadable (an unreadable one asks for nothing)."""
    try:
        return response.retry_after
    except PeerError:
        return None
