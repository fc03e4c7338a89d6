"""What a P-CSCF is told before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from imslab.core.errors import LocalError
from imslab.core.flow import Endpoint
from imslab.ipsec.sa import require_legal


@dataclass(frozen=True, slots=True, kw_only=True)
class PcscfConfig:
    """The P-CSCF.

    gm: the clear port towards UEs; protected ports are on the same address. mw: the port towards the core.
    icscf: where REGISTERs go, in order of trial; a host may be a name. Empty: the Request-URI's host.
    network: the name of the visited network (P-Visited-Network-ID, and the ioi in P-Charging-Vector).
    algorithms: (alg, ealg) that are supported, most wanted first (33.203 Annex H). Without any cipher in the list, the
    P-CSCF is one that never encrypts.
    client_ports, server_ports: the pools of port_pc and port_ps.
    reg_await_auth: life of a temporary set (24.229 7.8). grace: how long SAs outlive the registration.
    switch_margin: how long before its end an old set stops carrying traffic to the UE. All in seconds.
    most_contacts: contacts at a time, registered or trying to, so that a flood of REGISTERs cannot use up everything.
    clear_register: a REGISTER without Security-Client goes on (Digest profiles, 33.203 P.3) in place of a 494.
    require_verify: a request without Security-Verify inside the SAs gets 494 too, not only one with a wrong one.
    correct_routes: a wrong preloaded Route is replaced by the stored Service-Route in place of a 400.
    subscribe: watch the registration state of the UEs (24.229 5.2.3).
    access_timers: T1, T2, T4 of 24.229 7.7 towards UEs on radio accesses.
    access_aware: take network-provided P-Access-Network-Info from UEs out (33.203 P.3).
    """

    gm: Endpoint
    mw: Endpoint
    icscf: Sequence[Endpoint] = ()
    network: str = "visited.example"
    algorithms: Sequence[tuple[str, str]] = (
        ("hmac-sha-1-96", "aes-cbc"),
        ("null", "aes-gcm"),
        ("hmac-sha-1-96", "null"),
        ("aes-gmac", "null"),
    )
    client_ports: Sequence[int] = range(5100, 5200)
    server_ports: Sequence[int] = range(6100, 6200)
    reg_await_auth: float = 240.0
    grace: float = 30.0
    switch_margin: float = 10.0
    most_contacts: int = 100_000
    clear_register: bool = False
    require_verify: bool = False
    correct_routes: bool = False
    subscribe: bool = True
    access_timers: bool = True
    access_aware: bool = True

    def __post_init__(self) -> None:
        """Raises LocalError for what cannot work."""
        if self.gm == self.mw:
            raise LocalError(f"gm and mw are both {self.gm}: an answer could not tell where it came from")
        if not self.algorithms:
            raise LocalError("algorithms: one at least")
        for alg, ealg in self.algorithms:
            require_legal(alg, ealg)
        for port in (self.gm.port, self.mw.port):
            if port in self.client_ports or port in self.server_ports:
                raise LocalError(f"port {port} is a clear port and cannot be in a pool of protected ones")

    @property
    def uri(self) -> str:
        """The P-CSCF's own SIP URI."""
        return f"sip:{self.mw}"
