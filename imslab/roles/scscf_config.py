"""What an S-CSCF is told when it is made."""

from __future__ import annotations

from dataclasses import dataclass

from imslab.core.flow import Endpoint
from imslab.roles.cx_client import CxConfig

#: 24.229 Table 7.8.1, seconds: how long a challenge may wait for its answer.
REG_AWAIT_AUTH = 240.0


@dataclass(slots=True, kw_only=True)
class ScscfConfig:
    """The S-CSCF.

    local: where it listens. name: its SIP URI, as the HSS stores it. domain: of the home network, and the realm of its
    challenges. icscf: where requests for users of ours are looked up; None: only here.
    expires_min, expires_max: seconds that may be asked for, and that are granted. contacts_max: how many contacts one
    private identity may have in a registration. reauthenticate: challenge a protected REGISTER too.
    vectors: how many are asked for at a time. qop: what the challenge offers, "" for none. reg_await_auth: seconds.
    """

    local: Endpoint
    name: str
    domain: str
    cx: CxConfig
    icscf: Endpoint | None = None
    expires_min: int = 60
    expires_max: int = 3600
    contacts_max: int = 10
    reauthenticate: bool = True
    vectors: int = 1
    qop: str = "auth,auth-int"
    algorithm: str = "AKAv1-MD5"
    reg_await_auth: float = REG_AWAIT_AUTH
