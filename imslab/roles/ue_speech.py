"""What all messages of a UE have in common: who it is, where it is reached, the agreement, the routes (24.229 5.1.2A).

Calls and the subscription see the UE as this class.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence

from imslab.core.entropy import Entropy
from imslab.core.flow import Endpoint
from imslab.roles.base import Then
from imslab.roles.ue_config import UeConfig
from imslab.roles.ue_registration import Registration
from imslab.roles.ue_sas import UeSet
from imslab.roles.ue_states import LEAVING, Input, State
from imslab.roles.ue_traffic import Asked, UeTraffic
from imslab.sip.message import Request
from imslab.sip.transaction import Transaction


class UeSpeech(UeTraffic):
    """A UE that can put a request together. state, registration: of the registration, for everybody to read."""

    def __init__(self, name: str, config: UeConfig, entropy: Entropy, faults: Iterable[str] = ()) -> None:
        super().__init__(name, config, entropy, faults)
        self.state = State.IDLE
        self.registration: Registration | None = None
        self._first_verify: list[str] = []  # what the fault ue-stale-verify says for ever

    @property
    def identity(self) -> str:
        """Whom we speak as: the default identity (24.229 5.1.2A.1.1)."""
        if "ue-speaks-as-registered" in self.faults:
            return self.config.impu
        return self.registration.default_identity if self.registration is not None else self.config.impu

    @property
    def may_speak(self) -> bool:
        """33.203 7.4.1a: no other traffic before the 200. Nor on the way out, once the calls are over."""
        ready = self.registration is not None and (self.sas.established is not None or not self.config.ipsec)
        return ready and (self.state not in LEAVING or self.state is State.HANGING_UP)

    @property
    def contact(self) -> Endpoint:
        """Where requests reach us: port_us with SAs, the unprotected port without them (24.229 5.1.1.2.2)."""
        return Endpoint(self.host, self.sas.port_s if self.config.ipsec else self.config.port)

    def contact_row(self, at: Endpoint, *, features: bool = True) -> str:
        """The value of Contact. features: with +sip.instance and the services (24.229 5.1.1.2.1 c)."""
        user = self.config.impu.partition(":")[2].partition("@")[0]
        if "ue-clear-port-in-contact" in self.faults:
            at = Endpoint(self.host, self.config.port)
        if not features:
            return f"<sip:{user}@{at}>"
        return f'<sip:{user}@{at}>;+sip.instance="<urn:gsma:imei:{self.config.imei}>"{self.config.profile.features}'

    def allow(self) -> tuple[str, str]:
        """The Allow header."""
        return "Allow", ", ".join(self.config.profile.allow)

    def new_call_id(self) -> str:
        """A Call-ID that nobody has used."""
        return f"{self.token(12)}@{self.host}"

    def agreement_rows(self, sas: UeSet | None) -> list[tuple[str, str]]:
        """What RFC 3329 2.3.1 wants in requests: sec-agree, and Security-Server mirrored once there is one."""
        if not self.config.ipsec:
            return []
        rows = [("Require", "sec-agree"), ("Proxy-Require", "sec-agree")]
        verify = sas.security_server if sas is not None else []
        if "ue-stale-verify" in self.faults and verify:
            verify = self._first_verify = self._first_verify or verify
        # 24.229 5.1.1.5.1: the content of Security-Server, unchanged.
        return rows + [("Security-Verify", row) for row in verify]

    def common_rows(self, method: str, routes: Sequence[str] | None, sas: UeSet | None) -> list[tuple[str, str]]:
        """Max-Forwards, Route, the security agreement, the access network. routes: see `ask`."""
        if routes is None:
            # 24.229 5.1.2A.1.1: the P-CSCF at its protected server port, then Service-Route as it was given.
            at = Endpoint(sas.pcscf, sas.pcscf_port_s) if sas is not None else self.pcscf
            preloaded = [f"<sip:{at};lr>", *(self.registration.service_route if self.registration else ())]
            if "ue-no-service-route" in self.faults:
                del preloaded[1:]
            if "ue-no-pcscf-route" in self.faults:
                del preloaded[0]
            routes = preloaded
        rows = [("Max-Forwards", "70")]
        rows += [("Route", route) for route in routes]
        rows += self.agreement_rows(sas)
        if method != "ACK":
            rows.append(("P-Access-Network-Info", self.config.access_network))  # 24.229 5.1.2A.1.1
        rows.append(("User-Agent", self.config.profile.user_agent))
        return rows

    def ask(
        self,
        method: str,
        uri: str,
        headers: Sequence[tuple[str, str]],
        then: Then,
        *,
        routes: Sequence[str] | None = None,
        body: bytes = b"",
    ) -> Transaction | None:
        """Send a request inside the established set (in clear where no SAs are wanted).

        routes: those of a dialog; None for a request outside of any. None when a fault swallowed it. Only to be called
        with a registration.
        """
        sas = self.sas.established if "ue-talks-in-clear" not in self.faults else None
        request = Request(method, uri, [*self.common_rows(method, routes, sas), *headers], body)
        return self.send(request, then, Asked.OTHER, sas)

    def send_ack_inside(self, uri: str, headers: Sequence[tuple[str, str]], routes: Sequence[str]) -> None:
        """Send the ACK of a 200."""
        sas = self.sas.established
        request = Request("ACK", uri, [*self.common_rows("ACK", routes, sas), *headers])
        transport = self.choose_transport(request, sas, "")
        self.send_ack(request, self.way_out(sas, transport), sent_by=self.sent_by(sas))

    @abstractmethod
    def calls_ended(self) -> None:
        """No call is left."""

    @abstractmethod
    def network_says(self, input_: Input, seconds: int = 0) -> None:
        """What a reg event document means for the registration. seconds: the new lifetime, or how long to wait."""
