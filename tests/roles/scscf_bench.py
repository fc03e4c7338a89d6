"""An S-CSCF between a scripted HSS and a scripted P-CSCF, and the REGISTERs of a phone as they arrive on Mw."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from imslab.core.entropy import SeededEntropy
from imslab.diameter.codes import ServerAssignmentType
from imslab.diameter.cx import AuthDataItem, ServerAssignmentRequest
from imslab.roles.scscf import Scscf, ScscfConfig
from imslab.sip.message import Request, Response
from imslab.sip.reginfo import RegInfo, parse_reginfo
from tests.roles.core_bench import (
    ALICE,
    DOMAIN,
    IMPI,
    IMPU,
    PATH,
    PCSCF,
    SCSCF,
    SCSCF_NAME,
    Core,
    Subscribers,
    aka_response,
    cx_config,
    sip_request,
    vector,
)

CONTACT = "<sip:001010000000001@10.0.0.2:5062>"


@dataclass
class Phone:
    """Who registers, and where. Its REGISTERs come by way of P-CSCF and I-CSCF."""

    impi: str = IMPI
    impu: str = IMPU
    contact: str = CONTACT
    call_id: str = "reg-1@10.0.0.2"
    path: str = PATH
    cseq: int = 0

    def register(
        self,
        flag: str = "no",
        *,
        nonce: str = "",
        response: str = "",
        expires: int | None = 3600,
        contacts: Iterable[str] | None = None,
        algorithm: str = "AKAv1-MD5",
        auth: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        **more: Any,
    ) -> Request:
        """The next REGISTER. flag: integrity-protected, "" leaves it out. auth: the whole Authorization instead."""
        self.cseq += 1
        if auth is None:
            auth = (
                f'Digest username="{self.impi}", realm="{DOMAIN}", nonce="{nonce}", uri="sip:{DOMAIN}", '
                f'response="{response}"'
            )
            auth += f", algorithm={algorithm}" if algorithm else ""
            auth += f', integrity-protected="{flag}"' if flag else ""
        rows = [("Path", self.path), ("Require", "path"), ("Supported", "path")]
        rows += [("Authorization", auth)] if auth else []
        rows += [("Contact", each) for each in ([self.contact] if contacts is None else contacts)]
        rows += [("Expires", str(expires))] if expires is not None else []
        options: dict[str, Any] = {"call_id": self.call_id, "cseq": self.cseq, **more}
        return sip_request(
            "REGISTER",
            SCSCF_NAME,
            sender=self.impu,
            to=self.impu,
            headers=[*rows, *headers],
            **options,
        )


class Bench(Core):
    """See the module's page."""

    def __init__(self, faults: Iterable[str] = (), **config: Any) -> None:
        settings: dict[str, Any] = {
            "local": SCSCF,
            "name": SCSCF_NAME,
            "domain": DOMAIN,
            "cx": cx_config("scscf", SCSCF),
            "qop": "",
            **config,
        }
        super().__init__(Scscf("scscf", ScscfConfig(**settings), SeededEntropy(7, "scscf"), faults), SCSCF)
        self.users = Subscribers(self.hss)
        self.phone = Phone()
        self.start()

    # ---- the usual steps

    def one(self, request: Request) -> Response:
        """Send a request that is answered at this moment, once."""
        (response,) = self.send(request)
        return response

    def challenge(self, phone: Phone | None = None, **options: Any) -> str:
        """An unprotected REGISTER; the nonce of its 401."""
        response = self.one((phone or self.phone).register(**options))
        assert response.status == 401
        nonce = response.www_authenticate[0].nonce
        assert nonce is not None
        return nonce

    def answer(
        self, nonce: str, phone: Phone | None = None, item: AuthDataItem | None = None, **options: Any
    ) -> Response:
        """The protected REGISTER that answers a challenge, rightly unless told otherwise."""
        phone = phone or self.phone
        res = (item or self.item(nonce)).authorization or b""
        options = {"flag": "yes", "response": aka_response(nonce, res, username=phone.impi), **options}
        return self.one(phone.register(nonce=nonce, **options))

    def registered(self, phone: Phone | None = None, **options: Any) -> Response:
        """A whole registration; its 200."""
        response = self.answer(self.challenge(phone, **options), phone, **options)
        assert response.status == 200
        return response

    def item(self, nonce: str) -> AuthDataItem:
        """The vector that a nonce was made from."""
        both = b64decode(nonce)
        return next(each for each in map(vector, range(1, self.users.count + 1)) if each.authenticate == both)

    @property
    def sars(self) -> list[tuple[ServerAssignmentType, str]]:
        """What the HSS was told: type and identity."""
        return [(each.assignment_type, each.public_identities[0]) for each in self.hss.of(ServerAssignmentRequest)]

    def bindings(self, impu: str = IMPU) -> dict[str, int]:
        """Contact → seconds left, as the S-CSCF has them."""
        registration = self.box.registrar.find(impu)
        if registration is None:
            return {}
        return {str(each.uri): round(each.expires_at - self.wire.now) for each in registration.bindings}

    # ---- reg event

    def subscribe(
        self, identity: str = IMPU, *, sender: str = "", expires: int | None = 600000, event: str = "reg", **more: Any
    ) -> Response:
        """A SUBSCRIBE of the P-CSCF, or of an asserted identity."""
        who = sender or f"sip:{PCSCF}"
        rows = [("P-Asserted-Identity", f"<{who}>"), ("Contact", f"<sip:{PCSCF}>")]
        rows += [("Event", event)] if event else []
        rows += [("Expires", str(expires))] if expires is not None else []
        options: dict[str, Any] = {"call_id": "sub-1", "sender": who, "to": identity, **more}
        headers = [*rows, *options.pop("headers", [])]
        responses = self.send(sip_request("SUBSCRIBE", options.pop("uri", identity), headers=headers, **options))
        assert len(responses) == 1
        return responses[0]

    @property
    def notifies(self) -> list[Request]:
        """The NOTIFYs that came to the P-CSCF, without repetitions."""
        return [each for each in self.pcscf.requests if each.method == "NOTIFY"]

    @property
    def told(self) -> list[RegInfo]:
        """Their documents."""
        return [parse_reginfo(each.body) for each in self.notifies]


def states(info: RegInfo) -> dict[str, tuple[str, list[tuple[str, str, str]]]]:
    """A document as identity → (state, [(uri, state, event), …])."""
    return {
        each.aor: (each.state, [(contact.uri, contact.state, contact.event) for contact in each.contacts])
        for each in info.registrations
    }


__all__ = ["ALICE", "CONTACT", "Bench", "Phone", "states"]
