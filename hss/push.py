"""What the HSS says unasked: RTR to end a registration (29.228 6.1.3), PPR to change a profile (29.228 6.2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hss.subscriber import RegistrationSet, RegistrationState, Subscriber, canonical
from imslab.diameter.codes import CxResult, ReasonCode
from imslab.diameter.cx import (
    ChargingInformation,
    DeregistrationReason,
    PushProfileRequest,
    RegistrationTerminationAnswer,
    RegistrationTerminationRequest,
)
from imslab.diameter.userdata import write_userdata


@dataclass(frozen=True, slots=True)
class Push:
    """One RTR or PPR on its way.

    subscriber: id of the record. impi: User-Name. host, realm: where it goes. impus: the public identities it names,
    one or more per set. reason: of an RTR; None makes it a PPR with user_data and charging. remove: the subscriber
    goes away when the RTR is answered.
    """

    subscriber: str
    impi: str
    host: str
    realm: str
    impus: tuple[str, ...] = ()
    reason: ReasonCode | None = None
    info: str = ""
    associated: tuple[str, ...] = ()
    user_data: bytes | None = None
    charging: ChargingInformation | None = None
    remove: bool = False

    @property
    def name(self) -> str:
        """ "RTR" or "PPR"."""
        return "PPR" if self.reason is None else "RTR"

    def request(
        self, session_id: str, origin_host: str, origin_realm: str
    ) -> RegistrationTerminationRequest | PushProfileRequest:
        """The request."""
        if self.reason is None:
            return PushProfileRequest(
                session_id=session_id,
                origin_host=origin_host,
                origin_realm=origin_realm,
                destination_host=self.host,
                destination_realm=self.realm,
                user_name=self.impi,
                user_data=self.user_data,
                charging=self.charging,
            )
        return RegistrationTerminationRequest(
            session_id=session_id,
            origin_host=origin_host,
            origin_realm=origin_realm,
            destination_host=self.host,
            destination_realm=self.realm,
            user_name=self.impi,
            associated_identities=list(self.associated) or None,
            public_identities=list(self.impus),
            reason=DeregistrationReason(self.reason, self.info or None),
        )


def termination(
    subscriber: Subscriber,
    sets: Sequence[RegistrationSet],
    reason: ReasonCode,
    *,
    info: str = "",
    remove: bool = False,
) -> list[Push]:
    """The RTRs that end these sets: one per private identity that has some of them registered.

    Sets that are served without being registered go with the first private identity. Nothing, if none is served or
    nobody knows by whom.
    """
    served = [each for each in sets if each.is_served]
    if not served or not subscriber.server_host:
        return []
    by_impi: dict[tuple[str, ...], list[RegistrationSet]] = {}
    for each in served:
        order = [private.impi for private in subscriber.privates if private.impi in each.registered_by]
        fallback = next(private.impi for private in subscriber.privates if each.serves(private.impi))
        by_impi.setdefault(tuple(order) or (fallback,), []).append(each)
    return [
        Push(
            subscriber.id,
            impis[0],
            subscriber.server_host,
            subscriber.server_realm,
            tuple(identity.uri for each in group for identity in each.identities if identity.is_distinct),
            reason,
            info,
            impis if len(impis) > 1 else (),
            remove=remove,
        )
        for impis, group in by_impi.items()
    ]


def profile_change(subscriber: Subscriber, each: RegistrationSet) -> Push | None:
    """The PPR that brings the S-CSCF what the set is now: one, however many private identities have it registered.

    None when no S-CSCF serves it.
    """
    if not each.is_served or not subscriber.server_host:
        return None
    known = [private.impi for private in subscriber.privates if private.impi in each.registered_by]
    impi = (known or [private.impi for private in subscriber.privates if each.serves(private.impi)])[0]
    return Push(
        subscriber.id,
        impi,
        subscriber.server_host,
        subscriber.server_realm,
        (each.identities[0].uri,),
        user_data=write_userdata(each.user_data(impi)),
        charging=subscriber.charging,
    )


def terminated(subscriber: Subscriber, push: Push, answer: RegistrationTerminationAnswer) -> Subscriber | None:
    """The record after an RTA; None when it stays as it is.

    29.228 6.1.3: identities that the S-CSCF names as registered for an emergency stay. After NEW_SERVER_ASSIGNED the
    user is with the new S-CSCF, and nothing changes. An S-CSCF that does not know the user does not serve it either.
    """
    unknown = answer.experimental == CxResult.USER_UNKNOWN
    if push.reason is ReasonCode.NEW_SERVER_ASSIGNED or not (answer.is_success or unknown):
        return None
    kept = {canonical(identity.public_identity) for identity in answer.emergency}
    named = {canonical(impu) for impu in push.impus}
    ended = {push.impi, *push.associated}
    after = subscriber
    for each in subscriber.sets:
        keys = {canonical(identity.uri) for identity in each.identities}
        if not each.is_served or not keys & named or keys & kept:
            continue
        left = each.registered_by - ended
        state = RegistrationState.REGISTERED if left else RegistrationState.NOT_REGISTERED
        after = after.with_set(each, replace(each, state=state, registered_by=left, pending=each.pending - ended))
    if after is subscriber:
        return None
    if not any(each.is_served or each.pending for each in after.sets):
        after = replace(after, server_name="", server_host="", server_realm="", reassignment_pending=False)
    return replace(after, version=subscriber.version + 1)
