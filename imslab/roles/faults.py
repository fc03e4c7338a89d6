"""Boxes made wrong on purpose: each fault is one named deviation, so that the rule for it can be shown to notice.

A fault either alters what a node sends (`alter`: the last hand on a message before it becomes octets), or is a switch
that the node asks for at the line where it would do the right thing (`if "late-sas" in self.faults`).
Every fault here has a rule that it trips; tests/rules proves it pair by pair.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from imslab.core.errors import LocalError, unknown
from imslab.sip.fields.digest import DigestChallenge
from imslab.sip.message import Message, Response

#: (message, reference point) → the message to send instead; None sends nothing.
Alter = Callable[[Message, str], Message | None]


@dataclass(frozen=True, slots=True)
class Fault:
    """One deviation. role: who can have it ("UE", "P-CSCF", …). text: what goes wrong, in one line."""

    name: str
    role: str
    text: str
    alter: Alter | None = None


#: All faults by name. Roles' modules say nothing about them except where a switch is asked for.
FAULTS: dict[str, Fault] = {}


def declare(name: str, role: str, text: str, alter: Alter | None = None) -> None:
    """Add a fault to the table."""
    if name in FAULTS:
        raise LocalError(f"fault {name!r} is declared twice")
    FAULTS[name] = Fault(name, role, text, alter)


class Faults:
    """The faults of one node. `name in faults` asks for a switch."""

    __slots__ = ("_alterations", "names")

    def __init__(self, names: Iterable[str] = (), role: str = "") -> None:
        """Raises LocalError for a fault that is unknown or belongs to another role."""
        self.names = frozenset(names)
        for name in self.names:
            if name not in FAULTS:
                raise unknown("fault", name, FAULTS, "docs/reference/faults.md")
            if role and FAULTS[name].role != role:
                raise LocalError(f"fault {name!r} is one of a {FAULTS[name].role}, not of a {role}")
        self._alterations = [alter for name in sorted(self.names) if (alter := FAULTS[name].alter) is not None]

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def alter(self, message: Message, hop: str) -> Message | None:
        """What is really sent on this reference point in place of `message`."""
        altered: Message | None = message
        for alteration in self._alterations:
            if altered is None:
                return None
            altered = alteration(altered, hop)
        return altered


def _drop(message: Message, name: str) -> None:
    message.remove(name)


# ---------------------------------------------------------------------------------------------------------- I-CSCF


def _edit_register(message: Message, hop: str, edit: Callable[[Message], None]) -> Message:
    """Change a REGISTER on its way."""
    if message.is_request and message.method == "REGISTER":
        edit(message)
    return message


def _claim_protection(message: Message) -> None:
    message.set("Authorization", re.sub('(integrity-protected=)"no"', '\\1"yes"', message.get("Authorization") or ""))


declare(
    "icscf-all-hops-left",
    "I-CSCF",
    "Max-Forwards is not counted down (RFC 3261 16.6)",
    lambda message, hop: _edit_register(message, hop, lambda register: register.set("Max-Forwards", "70")),
)
declare(
    "icscf-claims-protection",
    "I-CSCF",
    "integrity-protected becomes yes on the way (33.203 6.1.5)",
    lambda message, hop: _edit_register(message, hop, _claim_protection),
)
declare(
    "icscf-drops-path",
    "I-CSCF",
    "REGISTER goes on without Path (RFC 3327 5.2)",
    lambda message, hop: _edit_register(message, hop, lambda register: _drop(register, "Path")),
)
declare(
    "icscf-drops-visited-network",
    "I-CSCF",
    "REGISTER goes on without P-Visited-Network-ID (24.229 5.3.1.2)",
    lambda message, hop: _edit_register(message, hop, lambda register: _drop(register, "P-Visited-Network-ID")),
)
declare("icscf-ignores-refusal", "I-CSCF", "a REGISTER goes on although the UAA says no (29.228 6.1.1)")
declare("icscf-keeps-uri", "I-CSCF", "the Request-URI stays the home domain (24.229 5.3.1.2)")
declare("icscf-no-uar", "I-CSCF", "a REGISTER goes on without the HSS being asked (29.228 6.1.1)")
declare("icscf-other-server", "I-CSCF", "the S-CSCF is another one than the UAA names (29.228 6.1.1)")
declare(
    "icscf-record-routes-register",
    "I-CSCF",
    "REGISTER goes on with Record-Route (RFC 3261 10.3)",
    lambda message, hop: _edit_register(
        message, hop, lambda register: register.prepend("Record-Route", "<sip:icscf.invalid;lr>")
    ),
)


# ---------------------------------------------------------------------------------------------------------- P-CSCF


def _edit_server(message: Message, hop: str, edit: Callable[[str], str]) -> Message:
    """Change Security-Server in a challenge on Gm."""
    if hop == "Gm" and not message.is_request and message.has("Security-Server"):
        message.set("Security-Server", edit(message.get("Security-Server") or ""))
    return message


def _illegal_entry(text: str) -> str:
    """The list with an entry more: no integrity and no encryption."""
    return f"{text}, " + re.sub(";(alg|ealg)=[^;,]+", r";\1=null", text.partition(", ")[0])


def _without_server(message: Message, hop: str) -> Message:
    if hop == "Gm":
        message.remove("Security-Server")
    return message


def _flag_twice(message: Message, hop: str) -> Message:
    if hop == "Mw" and message.is_request and message.has("Authorization"):
        message.set("Authorization", f'{message.get("Authorization")}, integrity-protected="yes"')
    return message


def _all_hops_left(message: Message, hop: str) -> Message:
    if hop == "Mw" and message.is_request:
        message.set("Max-Forwards", "70")
    return message


for _name, _text in (
    ("pcscf-admits-all", "requests that come in clear are passed on (33.203 7.1)"),
    ("pcscf-agreement-in-200", "the 200 says Security-Server again (33.203 7.2)"),
    ("pcscf-agreement-upstream", "Security-Client, Security-Verify and sec-agree go upstream (24.229 5.2.2.2)"),
    ("pcscf-always-protected", "integrity-protected is always yes (33.203 6.1.5)"),
    ("pcscf-answers-in-clear", "answers to protected REGISTERs leave in clear (33.203 7.4)"),
    ("pcscf-answers-tcp-anew", "answers over TCP take a connection of their own (33.203 7.1, RFC 3261 18.2.2)"),
    ("pcscf-answers-to-uc", "answers over UDP go from port_ps to port_uc (33.203 7.1)"),
    ("pcscf-asserts-foreign", "any preferred identity is asserted (24.229 5.2.6.3)"),
    ("pcscf-believes-asserted", "the UE's own P-Asserted-Identity goes upstream (24.229 5.2.6.3)"),
    ("pcscf-believes-charging", "the UE's own charging and visited-network headers go upstream (24.229 5.2.2.1)"),
    ("pcscf-believes-integrity", "the UE's own integrity-protected goes upstream (33.203 P.3)"),
    ("pcscf-believes-path", "the UE's own Path goes upstream (24.229 5.2.2.1)"),
    ("pcscf-charging-on-gm", "charging headers reach the UE (24.229 5.4.1.2.2F)"),
    ("pcscf-drops-on-failure", "a failed re-authentication takes the old set too (33.203 7.4.2a)"),
    ("pcscf-drops-old-set", "the old set goes with the 200 that renews it (33.203 7.4.2a)"),
    ("pcscf-echoes-spis", "Security-Server has the UE's own SPIs (33.203 7.1)"),
    ("pcscf-failures-inside", "every failure answer leaves inside the new set (33.203 7.4)"),
    ("pcscf-fickle-401", "a repeated REGISTER gets another 401 (RFC 3261 17.2.2)"),
    ("pcscf-follows-any-route", "a Route that is not the Service-Route is followed (24.229 5.2.6.3)"),
    ("pcscf-ignores-rport", "answers in clear go to the port in Via, not to the source (RFC 3581 4)"),
    ("pcscf-ignores-user", "a REGISTER may be of another user than its SAs (33.203 7.1 rule 4)"),
    ("pcscf-ignores-verify", "Security-Verify and the repeated Security-Client are not compared (33.203 7.2)"),
    ("pcscf-ignores-via", "a protected REGISTER may name any address in its Via (33.203 7.1 rule 2)"),
    ("pcscf-keeps-older-sets", "older sets stay until they expire (33.203 7.4.2a)"),
    ("pcscf-keeps-refused-set", "the set of a failed authentication stays (33.203 7.3.1.1)"),
    ("pcscf-keeps-reported-set", "a failure report leaves the temporary set in place (33.203 7.3.1.2, 7.3.1.3)"),
    ("pcscf-keys-on-gm", "the 401 reaches the UE with ck and ik (33.203 6.1.1)"),
    ("pcscf-last-offer-wins", "of several offers the last one is taken (33.203 7.2)"),
    ("pcscf-late-sas", "the 401 leaves before its SAs stand (33.203 7.2)"),
    ("pcscf-mt-from-clear-port", "requests to the UE leave from 5060, in clear (33.203 7.1)"),
    ("pcscf-never-protected", "integrity-protected is always no (33.203 6.1.5)"),
    ("pcscf-never-switches", "what goes to the UE stays on the old set (33.203 7.4.2a)"),
    ("pcscf-no-charging-vector", "REGISTER goes upstream without P-Charging-Vector (24.229 5.2.2.1)"),
    ("pcscf-no-integrity", "REGISTER goes upstream without integrity-protected (24.229 5.2.2.2)"),
    ("pcscf-no-path", "REGISTER goes upstream without Path (24.229 5.2.2.1)"),
    ("pcscf-no-reg-event", "the registration state is not subscribed to (24.229 5.2.3)"),
    ("pcscf-no-require-path", "REGISTER goes upstream without Require: path (24.229 5.2.2.1)"),
    ("pcscf-no-visited-network", "REGISTER goes upstream without P-Visited-Network-ID (24.229 5.2.2.1)"),
    ("pcscf-one-entry-server", "Security-Server lists the chosen combination only (33.203 7.2)"),
    ("pcscf-port-c-stays", "port_pc is the same at every authentication (33.203 7.4.0)"),
    ("pcscf-port-s-moves", "port_ps is new at every authentication (33.203 7.4.0)"),
    ("pcscf-record-routes-register", "REGISTER goes upstream with Record-Route (RFC 3261 10.3)"),
    ("pcscf-retired-algorithms", "Security-Server lists hmac-md5-96, which left with Rel-13 (33.203 Annex H)"),
    ("pcscf-sas-go-first", "the SAs go before the 200 to a de-registration, which leaves in clear (24.229 5.2.5.1)"),
    ("pcscf-serves-temporary", "other requests inside a temporary set are answered (33.203 7.4.2a)"),
    ("pcscf-short-lifetime", "the SAs end with the registration, not 30 s later (24.229 5.2.2.2)"),
    ("pcscf-shortens-lifetime", "a shorter registration shortens the life of its SAs (33.203 7.4.2a)"),
    ("pcscf-spis-stay", "Security-Server says the SPIs of the set before (33.203 7.4.0)"),
    ("pcscf-swaps-keys", "CK and IK change places in the SAs (33.203 6.2)"),
    ("pcscf-swaps-ports", "port_pc and port_ps change places in Security-Server (33.203 7.1)"),
    ("pcscf-udp-always", "large requests to the UE go over UDP (RFC 3261 18.1.1)"),
    ("pcscf-via-port-pc", "Via and Record-Route towards the UE carry port_pc (24.229 5.2.6)"),
):
    declare(_name, "P-CSCF", _text)

declare(
    "pcscf-all-hops-left",
    "P-CSCF",
    "Max-Forwards is not counted down (RFC 3261 16.6)",
    _all_hops_left,
)
declare(
    "pcscf-clear-port-agreed",
    "P-CSCF",
    "Security-Server says port-s=5060 (33.203 7.1)",
    lambda message, hop: _edit_server(message, hop, lambda text: re.sub("port-s=[0-9]+", "port-s=5060", text)),
)
declare(
    "pcscf-flag-twice",
    "P-CSCF",
    "integrity-protected goes upstream twice (24.229 7.2A.2)",
    _flag_twice,
)
declare(
    "pcscf-illegal-pair",
    "P-CSCF",
    "Security-Server lists alg=null with ealg=null (33.203 Annex H)",
    lambda message, hop: _edit_server(message, hop, _illegal_entry),
)
declare(
    "pcscf-no-alg",
    "P-CSCF",
    "Security-Server leaves alg out (33.203 Annex H)",
    lambda message, hop: _edit_server(message, hop, lambda text: re.sub(";alg=[^;,]+", "", text)),
)
declare(
    "pcscf-no-security-server",
    "P-CSCF",
    "the 401 has no Security-Server (33.203 7.2)",
    _without_server,
)
declare(
    "pcscf-offers-ah",
    "P-CSCF",
    "Security-Server says prot=ah (33.203 6.3)",
    lambda message, hop: _edit_server(message, hop, lambda text: text.replace("prot=esp", "prot=ah")),
)
declare(
    "pcscf-reserved-spi",
    "P-CSCF",
    "Security-Server says spi-c=0000000001 (RFC 4303 2.1)",
    lambda message, hop: _edit_server(message, hop, lambda text: re.sub("spi-c=[0-9]+", "spi-c=0000000001", text)),
)

# ---------------------------------------------------------------------------------------------------------- S-CSCF


def _edit_challenge(message: Message, edit: Callable[[DigestChallenge], None]) -> Message:
    """Change the challenge of a 401 to REGISTER."""
    if isinstance(message, Response) and message.status == 401 and message.www_authenticate:
        challenge = message.www_authenticate[0]
        edit(challenge)
        message.set("WWW-Authenticate", str(challenge))
    return message


def _edit_welcome(message: Message, edit: Callable[[Message], None]) -> Message:
    """Change the 200 to a REGISTER."""
    if isinstance(message, Response) and message.status == 200 and message.method == "REGISTER":
        edit(message)
    return message


def _edit_notify(message: Message, edit: Callable[[Message], None]) -> Message:
    """Change a NOTIFY."""
    if message.is_request and message.method == "NOTIFY":
        edit(message)
    return message


def _without_path_route(message: Message, hop: str) -> Message:
    if message.is_request and message.has("P-Called-Party-ID"):
        message.remove("Route")
    return message


def _remove(challenge: DigestChallenge, name: str) -> None:
    challenge.remove(name)


def _without_keys(challenge: DigestChallenge) -> None:
    challenge.remove("ck")
    challenge.remove("ik")


def _short_keys(challenge: DigestChallenge) -> None:
    for name in ("ck", "ik"):
        challenge.set(name, (challenge.get(name) or "")[:31])


def _swapped_keys(challenge: DigestChallenge) -> None:
    ck, ik = challenge.ck or "", challenge.ik or ""
    challenge.set("ck", ik)
    challenge.set("ik", ck)


def _short_nonce(challenge: DigestChallenge) -> None:
    challenge.set("nonce", b64encode(b64decode(challenge.nonce or "")[:31]).decode())


def _bare_contacts(message: Message) -> None:
    message.replace("Contact", [str(each.without_params("expires")) for each in message.contact])


def _strict_route(message: Message) -> None:
    message.replace("Service-Route", [str(each).replace(";lr", "") for each in message.service_route])


def _from_contact(message: Message) -> None:
    message.set("From", f"{message.get('Contact')};tag={message.from_.tag}")


def _no_from_tag(message: Message) -> None:
    message.set("From", str(message.from_.without_params("tag")))


for _name, _text in (
    ("scscf-403-with-challenge", "the 403 after a failed authentication has security parameters (33.203 6.1.2.2)"),
    ("scscf-420-bare", "the 420 does not say what is unsupported (RFC 3261 8.2.2.3)"),
    ("scscf-423-bare", "the 423 has no Min-Expires (RFC 3261 10.3)"),
    ("scscf-any-call-id", "a challenge may be answered under another Call-ID (24.229 5.4.1.2.2)"),
    ("scscf-any-response", "a wrong response is taken for a right one (24.229 5.4.1.2.2)"),
    ("scscf-anyone-watches", "strangers may subscribe to the registration state (24.229 5.4.2.1.1)"),
    ("scscf-auts-alone", "SIP-Authorization in MAR is AUTS without RAND (29.229 6.3.11)"),
    ("scscf-barred-listed", "P-Associated-URI lists barred identities (24.229 5.4.1.2.2F)"),
    ("scscf-failure-deregisters", "a failed authentication ends the registration (33.203 6.1.1)"),
    ("scscf-grants-more", "more seconds are granted than were asked for (RFC 3261 10.3)"),
    ("scscf-ignores-auts", "AUTS is answered with an ordinary MAR (33.203 6.1.3)"),
    ("scscf-ignores-hss", "RTR and PPR are never answered (29.228 6.1.3, 6.2.2)"),
    ("scscf-mar-no-items", "MAR asks for no vector (29.229 6.3.8)"),
    ("scscf-mar-scheme", "the scheme in MAR is Digest-AKAv2-SHA-256 (29.229 6.3.9)"),
    ("scscf-no-notify", "SUBSCRIBE is granted, and no NOTIFY follows (RFC 6665 4.2.1.2)"),
    ("scscf-no-sar", "registrations are granted without SAR (29.228 6.1.2)"),
    ("scscf-no-sar-at-the-end", "registrations end without SAR (29.228 6.1.2)"),
    ("scscf-notify-never-ends", "NOTIFY says active although nothing is registered any more (24.229 5.4.2.1.2)"),
    ("scscf-notify-one-identity", "NOTIFY tells of the first identity of the set only (24.229 5.4.2.1.2)"),
    ("scscf-notify-version-stays", "all reg-event documents have version 0 (RFC 3680 5.1)"),
    ("scscf-reuses-vectors", "the same vector is sent again and again (33.203 6.1.1)"),
    ("scscf-sar-always-first", "SAR says REGISTRATION for a user who is registered (29.228 6.1.2)"),
    ("scscf-sar-other-name", "Server-Name in SAR is another one than in MAR (29.228 6.1.2)"),
    ("scscf-sar-two-identities", "SAR names two identities (29.228 6.1.2)"),
    ("scscf-sar-wrong-end", "SAR says RE_REGISTRATION when the user has left (29.229 6.3.15)"),
    ("scscf-silent-failure", "the HSS is not told of failed authentications (33.203 6.1.2.2)"),
    ("scscf-trusts-clear", "a right response counts although it came unprotected (33.203 6.1.5)"),
    ("scscf-vectors-backwards", "vectors are used in the wrong order (29.228 Table 6.3.5)"),
):
    declare(_name, "S-CSCF", _text)

declare(
    "scscf-algorithm-md5",
    "S-CSCF",
    "the challenge says algorithm=MD5 (24.229 5.4.1.2.1A)",
    lambda message, hop: _edit_challenge(message, lambda challenge: challenge.set("algorithm", "MD5")),
)
declare(
    "scscf-ignores-path",
    "S-CSCF",
    "requests to a user have no Route made of the Path (RFC 3327 5.3)",
    _without_path_route,
)
declare(
    "scscf-no-algorithm",
    "S-CSCF",
    "the challenge names no algorithm (24.229 5.4.1.2.1A)",
    lambda message, hop: _edit_challenge(message, lambda challenge: _remove(challenge, "algorithm")),
)
declare(
    "scscf-no-associated-uri",
    "S-CSCF",
    "the 200 has no P-Associated-URI (24.229 5.4.1.2.2F)",
    lambda message, hop: _edit_welcome(message, lambda welcome: _drop(welcome, "P-Associated-URI")),
)
declare(
    "scscf-no-contact",
    "S-CSCF",
    "the 200 has no Contact (RFC 3261 10.3)",
    lambda message, hop: _edit_welcome(message, lambda welcome: _drop(welcome, "Contact")),
)
declare(
    "scscf-no-expires",
    "S-CSCF",
    "the contacts of the 200 have no expires (RFC 3261 10.3)",
    lambda message, hop: _edit_welcome(message, _bare_contacts),
)
declare(
    "scscf-no-keys",
    "S-CSCF",
    "the challenge has neither ck nor ik (24.229 7.2A.1)",
    lambda message, hop: _edit_challenge(message, _without_keys),
)
declare(
    "scscf-no-path",
    "S-CSCF",
    "the 200 has no Path (RFC 3327 5.3)",
    lambda message, hop: _edit_welcome(message, lambda welcome: _drop(welcome, "Path")),
)
declare(
    "scscf-no-realm",
    "S-CSCF",
    "the challenge has no realm (24.229 5.4.1.2.1A)",
    lambda message, hop: _edit_challenge(message, lambda challenge: _remove(challenge, "realm")),
)
declare(
    "scscf-no-service-route",
    "S-CSCF",
    "the 200 has no Service-Route (24.229 5.4.1.2.2F)",
    lambda message, hop: _edit_welcome(message, lambda welcome: _drop(welcome, "Service-Route")),
)
declare(
    "scscf-notify-from-contact",
    "S-CSCF",
    "NOTIFY is from our own URI, not from the identity of the dialog (RFC 3261 12.2.1.1)",
    lambda message, hop: _edit_notify(message, _from_contact),
)
declare(
    "scscf-notify-no-tag",
    "S-CSCF",
    "NOTIFY has no From tag (RFC 3261 12.2.1.1)",
    lambda message, hop: _edit_notify(message, _no_from_tag),
)
declare(
    "scscf-short-keys",
    "S-CSCF",
    "ck and ik have 31 digits (24.229 7.2A.1)",
    lambda message, hop: _edit_challenge(message, _short_keys),
)
declare(
    "scscf-short-nonce",
    "S-CSCF",
    "the nonce has 31 octets (RFC 3310 3.2)",
    lambda message, hop: _edit_challenge(message, _short_nonce),
)
declare(
    "scscf-strict-service-route",
    "S-CSCF",
    "Service-Route has no lr (RFC 3608 5)",
    lambda message, hop: _edit_welcome(message, _strict_route),
)
declare(
    "scscf-swaps-keys",
    "S-CSCF",
    "ck and ik change places (24.229 7.2A.1)",
    lambda message, hop: _edit_challenge(message, _swapped_keys),
)


# -------------------------------------------------------------------------------------------------------------- UE
# Too many to stand here; importing the module declares them.

from imslab.roles import ue_faults as _ue_faults  # noqa: E402, F401
