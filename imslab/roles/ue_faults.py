"""The faults of a UE (see imslab.roles.faults): switches first, then changes of what it sends."""

from __future__ import annotations

import re
from collections.abc import Callable

from imslab.roles.faults import Alter, declare
from imslab.sip.fields.digest import DigestCredentials
from imslab.sip.message import Message, Request

for _name, _text in (
    ("ue-access-info-in-clear", "P-Access-Network-Info is in the clear REGISTER (24.229 5.1.1.2.1)"),
    ("ue-answers-clear-requests", "requests that come in clear are answered (33.203 7.1)"),
    ("ue-answers-from-server-port", "answers over UDP leave from port_us (33.203 7.1)"),
    ("ue-answers-in-clear", "the REGISTER with the response goes in clear (33.203 7.4.1a)"),
    ("ue-answers-under-new-call-id", "the REGISTER with the response has another Call-ID (24.229 5.1.1.5.1)"),
    ("ue-clear-port-in-contact", "Contact always names the unprotected port (24.229 5.1.1.2.2)"),
    ("ue-clear-port-in-via", "Via always names the unprotected port (24.229 5.1.1.2.2)"),
    ("ue-cseq-stands", "the REGISTER with the response has the CSeq of the first (24.229 5.1.1.5.1)"),
    ("ue-drops-old-set", "the old set goes with the 200 that renews it (33.203 7.4.1a)"),
    ("ue-ignores-min-expires", "a 423 is answered with the same lifetime (RFC 3261 10.2.8)"),
    ("ue-keeps-call-id", "after an unusable challenge the UE begins again under the old Call-ID (24.229 5.1.1.5.1)"),
    ("ue-leaves-calls-standing", "calls are not ended before de-registering (24.229 5.1.1.6.1)"),
    ("ue-leaves-in-clear", "de-registration goes in clear (24.229 5.1.1.6.2)"),
    ("ue-never-subscribes", "the registration state is not subscribed to (24.229 5.1.1.3)"),
    ("ue-never-tires", "bad challenges are reacted to beyond the second (24.229 5.1.1.5.12)"),
    ("ue-never-waits", "a failed attempt is repeated at once (24.229 5.1.1.2.1)"),
    ("ue-no-cipher", "no combination with encryption is offered (33.203 5.1.3)"),
    ("ue-no-pcscf-route", "Route does not begin with the P-CSCF (24.229 5.1.2A.1.1)"),
    ("ue-no-rport", "the clear REGISTER has no rport (24.229 5.1.1.2.1)"),
    ("ue-no-service-route", "Service-Route is not followed (24.229 5.1.2A.1.1)"),
    ("ue-port-5061", "port-c is 5061 (33.203 7.1)"),
    ("ue-port-c-stays", "port_uc is the same at every authentication (33.203 7.4.0)"),
    ("ue-port-s-moves", "port_us is new at every authentication (33.203 7.4.0)"),
    ("ue-refreshes-in-clear", "the refresh goes in clear (24.229 5.1.1.4.2)"),
    ("ue-refreshes-late", "the refresh comes a second before the end (24.229 5.1.1.4.1)"),
    ("ue-refreshes-without-proof", "the refresh has empty credentials (24.229 5.1.1.4.2)"),
    ("ue-refuses-notify", "a NOTIFY of our subscription is answered 481 (24.229 5.1.2.1)"),
    ("ue-reports-under-new-call-id", "MAC and SQN failures are reported under another Call-ID (24.229 5.1.1.5.3)"),
    ("ue-reserved-spis", "SPIs are small, even reserved ones (RFC 4303 2.1)"),
    ("ue-returns-when-rejected", "after a NOTIFY with rejected the UE registers again (24.229 5.1.1.7)"),
    ("ue-short-lifetime", "the SAs end 30 s before the registration (24.229 5.1.1.5.1)"),
    ("ue-speaks-as-registered", "the registered identity is used even if it is barred (24.229 5.1.1.2.1)"),
    ("ue-spis-stay", "the SPIs are the same at every authentication (33.203 7.4.0)"),
    ("ue-stale-verify", "Security-Verify mirrors the first Security-Server for ever (24.229 5.1.1.5.1)"),
    ("ue-stays-away", "after a NOTIFY with deactivated the UE does not register again (24.229 5.1.1.7)"),
    ("ue-subscribes-briefly", "the subscription is asked for 3600 s (24.229 5.1.1.3)"),
    ("ue-takes-clear-answers", "answers to protected requests are taken in clear (33.203 7.4.1a)"),
    ("ue-talks-in-clear", "requests leave from the unprotected port although SAs stand (33.203 7.1)"),
    ("ue-talks-early", "OPTIONS is sent on the temporary set before the 200 (33.203 7.4.1a)"),
    ("ue-two-attempts", "a second REGISTER is sent before the first is answered (24.229 5.1.1.2.1)"),
    ("ue-udp-always", "large requests go over UDP (RFC 3261 18.1.1)"),
):
    declare(_name, "UE", _text)


def _edit_register(edit: Callable[[Request], None]) -> Alter:
    """Change every REGISTER of a UE."""

    def alter(message: Message, hop: str) -> Message:
        if isinstance(message, Request) and message.method == "REGISTER":
            edit(message)
        return message

    return alter


def _edit_first(edit: Callable[[Request], None]) -> Alter:
    """Change those whose credentials are empty."""
    return _edit_register(
        lambda request: edit(request) if request.authorization and not request.authorization[0].nonce else None
    )


def _edit_proof(edit: Callable[[DigestCredentials], None]) -> Alter:
    """Change the credentials of those that bear a response, or a report of failure."""

    def register(request: Request) -> None:
        credentials = request.authorization[0]
        if credentials.nonce:
            edit(credentials)
            request.set("Authorization", str(credentials))

    return _edit_register(register)


def _edit_inside(edit: Callable[[Request], None]) -> Alter:
    """Change every other request of a UE."""

    def alter(message: Message, hop: str) -> Message:
        if isinstance(message, Request) and message.method != "REGISTER":
            edit(message)
        return message

    return alter


def _without(name: str) -> Callable[[Request], None]:
    def edit(request: Request) -> None:
        request.remove(name)

    return edit


def _contact_elsewhere(request: Request) -> None:
    request.set("Contact", re.sub(r"@[^>]+>", "@203.0.113.77:5060>", request.get("Contact") or "", count=1))


def _user_in_request_uri(request: Request) -> None:
    request.uri = request.uri.replace("sip:", "sip:user@", 1)


def _wrong_response(credentials: DigestCredentials) -> None:
    response = credentials.response
    if response:
        credentials.set("response", ("1" if response[0] == "0" else "0") + response[1:])


def _wrong_auts(credentials: DigestCredentials) -> None:
    auts = credentials.auts
    if auts:
        credentials.set("auts", ("B" if auts[0] == "A" else "A") + auts[1:])


def _auts_for_mac(credentials: DigestCredentials) -> None:
    if credentials.response == "":
        credentials.set("auts", "A" * 19 + "=")


def _count_without_qop(credentials: DigestCredentials) -> None:
    if credentials.response and not credentials.has("qop"):
        credentials.set("cnonce", "0a4f113b")
        credentials.set("nc", "00000001")


def _without_count(credentials: DigestCredentials) -> None:
    credentials.remove("nc")
    credentials.remove("cnonce")


def _change_realm(credentials: DigestCredentials) -> None:
    credentials.set("realm", (credentials.realm or "").upper())


def _change_nonce(credentials: DigestCredentials) -> None:
    credentials.set("nonce", (credentials.nonce or "").rstrip("="))


def _drop_offer(request: Request) -> None:
    offers = request.values("Security-Client")
    if request.has("Security-Verify") and len(offers) > 1:
        request.set("Security-Client", ", ".join(offers[1:]))


def _drop_verify(request: Request) -> None:
    entries = request.values("Security-Verify")
    if len(entries) > 1:
        request.set("Security-Verify", ", ".join(entries[:-1]))


def _private_token(request: Request) -> None:
    offers = request.values("Security-Client")
    if offers:
        private = re.sub("alg=[^;]+", "alg=hmac-sha-256-128", offers[-1], count=1)
        request.set("Security-Client", ", ".join([*offers[:-1], private]))


def _unpadded_spis(request: Request) -> None:
    client = request.get("Security-Client")
    if client:
        request.set("Security-Client", re.sub(r"(spi-[cs])=0*(?=[0-9])", r"\1=", client))


def _claim_protection(request: Request) -> None:
    row = request.get("Authorization")
    if row:
        request.set("Authorization", f'{row}, integrity-protected="yes"')


def _claim_provided_access(request: Request) -> None:
    if request.has("P-Access-Network-Info"):
        request.set("P-Access-Network-Info", f"{request.get('P-Access-Network-Info')};network-provided")


def _forge_charging(request: Request) -> None:
    request.set("P-Charging-Vector", "icid-value=forged")
    request.set("P-Charging-Function-Addresses", "ccf=203.0.113.66")
    request.set("P-Visited-Network-ID", '"forged.example.org"')


def _name_another(credentials: DigestCredentials) -> None:
    credentials.set("username", f"another.{credentials.username}")


def _other_port_in_via(request: Request) -> None:
    if request.has("Via") and not request.has("Security-Verify"):
        request.set("Via", re.sub(r":[0-9]+;", ":5062;", request.get("Via") or "", count=1))


def _via_elsewhere(request: Request) -> None:
    if request.has("Via") and request.has("Security-Verify"):
        request.set("Via", re.sub(r" [^;]+(:[0-9]+;)", r" 203.0.113.77\1", request.get("Via") or "", count=1))


def _unverified(request: Request) -> None:
    request.remove("Security-Verify")


def _unrepeated(request: Request) -> None:
    if request.has("Security-Verify"):
        request.remove("Security-Client")


def _watch_neighbour(request: Request) -> None:
    if request.method == "SUBSCRIBE" and request.to.tag is None:
        own = request.uri
        user = own.partition(":")[2].partition("@")[0]
        if user.isdecimal():
            request.uri = own.replace(user, f"{int(user) + 1:0{len(user)}d}", 1)
            request.set("To", f"<{request.uri}>")


def _without_agreement(request: Request) -> None:
    for name in ("Require", "Proxy-Require", "Security-Verify"):
        request.remove(name)


for _name, _text, _alter in (
    (
        "ue-asserts-foreign",
        "requests have a P-Asserted-Identity of somebody else (24.229 5.1.2A.1.1)",
        _edit_inside(lambda request: request.set("P-Asserted-Identity", "<sip:somebody.else@example.org>")),
    ),
    (
        "ue-auts-for-mac",
        "a wrong MAC is reported with auts (24.229 5.1.1.5.3)",
        _edit_proof(_auts_for_mac),
    ),
    (
        "ue-changes-nonce",
        "the nonce is echoed without its padding (24.229 5.1.1.5.1)",
        _edit_proof(_change_nonce),
    ),
    (
        "ue-changes-offer",
        "Security-Client is repeated without its first entry (24.229 5.1.1.5.1)",
        _edit_register(_drop_offer),
    ),
    (
        "ue-changes-realm",
        "the realm is echoed in upper case (24.229 5.1.1.5.1)",
        _edit_proof(_change_realm),
    ),
    (
        "ue-changes-verify",
        "Security-Verify lacks the last entry of Security-Server (33.203 7.2)",
        _edit_register(_drop_verify),
    ),
    (
        "ue-claims-protection",
        "REGISTER says integrity-protected itself (33.203 P.3)",
        _edit_register(_claim_protection),
    ),
    (
        "ue-claims-provided-access",
        "P-Access-Network-Info says network-provided (RFC 7315 5.4)",
        _edit_register(_claim_provided_access),
    ),
    (
        "ue-contact-elsewhere",
        "Contact names another address (24.229 5.1.1.2.1)",
        _edit_register(_contact_elsewhere),
    ),
    (
        "ue-count-without-qop",
        "nc and cnonce are sent without qop (RFC 2617 3.2.2)",
        _edit_proof(_count_without_qop),
    ),
    (
        "ue-forges-charging",
        "REGISTER has charging and visited-network headers (24.229 4.4)",
        _edit_register(_forge_charging),
    ),
    (
        "ue-names-another",
        "a REGISTER with a response names another user (33.203 7.1 rule 4)",
        _edit_proof(_name_another),
    ),
    (
        "ue-no-access-info",
        "P-Access-Network-Info is in no REGISTER (24.229 5.1.1.2.1)",
        _edit_register(_without("P-Access-Network-Info")),
    ),
    (
        "ue-no-agreement",
        "requests inside the SAs lack sec-agree and Security-Verify (RFC 3329 2.3.1)",
        _edit_inside(_without_agreement),
    ),
    (
        "ue-no-count",
        "qop is sent without nc and cnonce (RFC 2617 3.2.2)",
        _edit_proof(_without_count),
    ),
    (
        "ue-no-credentials",
        "the first REGISTER has no Authorization (24.229 5.1.1.2.2)",
        _edit_first(_without("Authorization")),
    ),
    (
        "ue-no-instance",
        "Contact has neither +sip.instance nor the services (24.229 5.1.1.2.1)",
        _edit_register(lambda request: request.set("Contact", (request.get("Contact") or "").partition(">")[0] + ">")),
    ),
    (
        "ue-no-path",
        "Supported lacks path (24.229 5.1.1.2.1)",
        _edit_register(_without("Supported")),
    ),
    (
        "ue-no-proxy-require",
        "sec-agree is in Require only (24.229 5.1.1.2.2)",
        _edit_register(_without("Proxy-Require")),
    ),
    (
        "ue-no-require",
        "sec-agree is in Proxy-Require only (24.229 5.1.1.2.2)",
        _edit_register(_without("Require")),
    ),
    (
        "ue-no-security-client",
        "REGISTER offers no security mechanism (24.229 5.1.1.2.2)",
        _edit_register(_without("Security-Client")),
    ),
    (
        "ue-no-second-offer",
        "the REGISTER with the response has no Security-Client (24.229 5.1.1.5.1)",
        _edit_register(_unrepeated),
    ),
    (
        "ue-no-verify",
        "REGISTER has no Security-Verify (24.229 5.1.1.5.1)",
        _edit_register(_unverified),
    ),
    (
        "ue-other-port-in-via",
        "the Via of a REGISTER in clear names a port that it was not sent from (24.229 5.1.1.2.1)",
        _edit_register(_other_port_in_via),
    ),
    (
        "ue-prefers-foreign",
        "P-Preferred-Identity is somebody else's (24.229 5.1.2A.1.1)",
        _edit_inside(lambda request: request.set("P-Preferred-Identity", "<sip:somebody.else@example.org>")),
    ),
    (
        "ue-private-token",
        "hmac-sha-256-128 is offered, which nobody has specified (33.203 Annex H)",
        _edit_register(_private_token),
    ),
    (
        "ue-requires-unknown",
        "REGISTER requires an option that nobody knows (RFC 3261 8.1.1.9)",
        _edit_register(lambda request: request.add("Require", "levitation")),
    ),
    (
        "ue-route-in-register",
        "REGISTER has a Route beyond the P-CSCF (34.229-1 A.1.1)",
        _edit_register(lambda request: request.add("Route", "<sip:203.0.113.99;lr>")),
    ),
    (
        "ue-short-expires",
        "3600 s are asked for (24.229 5.1.1.2.1)",
        _edit_first(lambda request: request.set("Expires", "3600")),
    ),
    (
        "ue-to-differs",
        "To of REGISTER is another identity than From (24.229 5.1.1.2.1)",
        _edit_register(lambda request: request.set("To", "<sip:somebody.else@example.org>")),
    ),
    (
        "ue-to-tag",
        "To of REGISTER has a tag (RFC 3261 8.1.1.2)",
        _edit_register(lambda request: request.set("To", f"{request.get('To')};tag=1")),
    ),
    (
        "ue-unpadded-spis",
        "SPIs have fewer than ten digits (33.203 Annex H)",
        _edit_register(_unpadded_spis),
    ),
    (
        "ue-user-in-request-uri",
        "the Request-URI of REGISTER has a user part (24.229 5.1.1.2.1)",
        _edit_register(_user_in_request_uri),
    ),
    (
        "ue-via-elsewhere",
        "the Via of a protected REGISTER names another address (33.203 7.1 rule 2)",
        _edit_register(_via_elsewhere),
    ),
    (
        "ue-watches-neighbour",
        "the subscription is to the registration state of the next IMSI (24.229 5.1.1.3)",
        _edit_inside(_watch_neighbour),
    ),
    (
        "ue-writes-path",
        "REGISTER has a Path (RFC 3327 5.1)",
        _edit_register(lambda request: request.add("Path", "<sip:203.0.113.66;lr>")),
    ),
    (
        "ue-wrong-auts",
        "auts is another one than the card's (33.102 6.3.3)",
        _edit_proof(_wrong_auts),
    ),
    (
        "ue-wrong-response",
        "the response is another one than RES makes (24.229 5.1.1.5.1)",
        _edit_proof(_wrong_response),
    ),
):
    declare(_name, "UE", _text, _alter)
