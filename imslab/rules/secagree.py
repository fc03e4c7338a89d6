"""Rules about the security agreement: Security-Client, -Server and -Verify (RFC 3329, 33.203 7 and Annex H).

What the two sides offer and list, that SPIs and ports are fit and new where they must be new, and that nobody goes on
when what was confirmed is not what was said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from imslab.core.errors import PeerError
from imslab.ipsec.sa import AES_GCM, CLEAR_PORTS, COMBINATIONS, FIRST_SPI, HMAC_SHA_1_96, NULL, is_legal
from imslab.rules.agreements import Agreement, gm_of
from imslab.rules.challenge import Reaction, reaction
from imslab.rules.clauses import Basis, Level, Wrong, on_sip
from imslab.rules.reading import leaves, mechanisms, order, shown, sides_in, what
from imslab.sip.fields.security import SecurityMechanism, same_list
from imslab.trace.associations import Side
from imslab.trace.model import Hop, Role, SipRecord
from imslab.trace.trace import Trace, status_of

_ALGS = frozenset(each.alg for each in COMBINATIONS)
_EALGS = frozenset(each.ealg for each in COMBINATIONS)
#: What V13.1.0 took out of Annex H.
_RETIRED = frozenset(("hmac-md5-96", "des-ede3-cbc"))
#: How many digits an SPI has in a header (33.203 Annex H).
_SPI_DIGITS = 10
_NUMBERS = ("spi-c", "spi-s", "port-c", "port-s")


def _offers(record: SipRecord, trace: Trace) -> list[SecurityMechanism]:
    """The ipsec-3gpp entries that a UE offers in a REGISTER, where they are new: not the repetition in an answer."""
    message = record.message
    if record.sender is not Role.UE or not message.has("Security-Client"):
        return []
    if gm_of(trace).answers(record) is not None and reaction(record) is Reaction.ANSWER:
        return []
    return mechanisms(message, "Security-Client")


def _offered(record: SipRecord, trace: Trace) -> list[Side]:
    """The same as values."""
    return sides_in(record.message, "Security-Client") if _offers(record, trace) else []


def _lists(record: SipRecord) -> list[SecurityMechanism]:
    """The ipsec-3gpp entries that a P-CSCF lists in a challenge."""
    return mechanisms(record.message, "Security-Server") if record.receiver is Role.UE else []


def _listed(record: SipRecord) -> list[Side]:
    """The same as values."""
    return sides_in(record.message, "Security-Server") if record.receiver is Role.UE else []


# ------------------------------------------------------------------------------------------------------ Security-Client


@on_sip("SEC-01", "33.203 Annex H", role=Role.UE, hop=Hop.GM, method="REGISTER", request=True)
def offer_is_well_formed(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """Security-Client: each ipsec-3gpp entry has alg, SPIs and ports, and all entries have the same ones."""
    if record.sender is Role.UE and record.message.has("Security-Client"):
        _ = record.message.security_client  # what cannot be read at all is a finding too
    yield from _entries_are_well_formed(record, "Security-Client", _offers(record, trace))


def _entries_are_well_formed(record: SipRecord, header: str, entries: Sequence[SecurityMechanism]) -> Iterator[Wrong]:
    complaints: dict[str, list[int]] = {}
    for number, each in enumerate(entries, 1):
        for complaint in _complaints(each):
            complaints.setdefault(complaint, []).append(number)
    for complaint, numbers in complaints.items():
        told = ", ".join(str(each) for each in numbers)
        yield Wrong(f"{header}, entry {told} of {len(entries)}: {complaint}", record)
    ends = {each[:4] for each in sides_in(record.message, header)}
    if len(ends) > 1:
        yield Wrong(f"{header}: {len(ends)} different sets of SPIs and ports, expected one", record)
    written = [(name, each.params.get(name) or "") for each in entries for name in _NUMBERS[:2]]
    short = dict.fromkeys(f"{name}={value}" for name, value in written if 0 < len(value) < _SPI_DIGITS)
    if short:
        text = f"{header}: {shown(', '.join(short))}: the grammar asks for ten digits, few peers write them"
        yield Wrong(text, record, level=Level.NOTE)


def _complaints(entry: SecurityMechanism) -> Iterator[str]:
    for read in (
        lambda: entry.alg,
        lambda: entry.ealg,
        lambda: entry.prot,
        lambda: entry.mod,
        lambda: entry.spi_c,
        lambda: entry.spi_s,
        lambda: entry.port_c,
        lambda: entry.port_s,
        lambda: entry.q,
    ):
        try:
            read()
        except PeerError as error:
            yield error.reason
    zero = [name for name in _NUMBERS[:2] if (entry.params.get(name) or "1").strip("0") == ""]
    if zero:
        yield f"{' and '.join(zero)} 0, which is no SPI (RFC 4303 2.1)"


@on_sip("SEC-02", "33.203 Annex H", role=Role.UE, hop=Hop.GM, method="REGISTER", request=True)
def offer_names_known_algorithms(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """Security-Client names no algorithm that Annex H does not know."""
    strange = _strange(_offered(record, trace))
    if strange:
        yield Wrong(f"Security-Client offers {', '.join(strange)}: no token of Annex H in any release", record)


def _strange(sides: Sequence[Side]) -> list[str]:
    found: dict[str, None] = {}
    for side in sides:
        if side.alg and side.alg not in _ALGS:
            found[f"alg={shown(side.alg)}"] = None
        if side.ealg not in _EALGS:
            found[f"ealg={shown(side.ealg)}"] = None
    return list(found)


@on_sip("SEC-03", "33.203 7.1", role=Role.UE, level=Level.WARNING, hop=Hop.GM, method="REGISTER", request=True)
def offer_has_what_all_support(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """Security-Client offers hmac-sha-1-96, which every release knows, or something newer."""
    sides = _offered(record, trace)
    retired = sorted({each.alg for each in sides} & _RETIRED)
    if retired and not any(each.alg in _ALGS - _RETIRED for each in sides):
        yield Wrong(f"Security-Client offers {retired[0]} alone: expected {HMAC_SHA_1_96} too", record)


@on_sip("ADD-09", "33.203 5.1.3", role=Role.UE, hop=Hop.GM, method="REGISTER", request=True)
def offer_has_a_cipher(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The UE always offers encryption, whether the P-CSCF uses it or not."""
    offered = _offered(record, trace)
    if offered and all(each.ealg == NULL for each in offered):
        yield Wrong("Security-Client offers no cipher: ealg is null or absent in every entry", record)


@on_sip("SPI-01", "33.203 7.1", role=Role.UE, hop=Hop.GM, method="REGISTER", request=True)
def ue_spis_are_fit(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The UE's SPIs differ from each other and from those of its last negotiation, and are not reserved."""
    for side in _offered(record, trace)[:1]:
        yield from _spis_are_fit(record, side)
        if gm_of(trace).is_initial(record):
            for before in gm_of(trace).latest_agreements(record):
                again = sorted({side.spi_c, side.spi_s} & {before.client.spi_c, before.client.spi_s} - {0})
                if again and before.lives(record):
                    used = ", ".join(str(each) for each in again)
                    yield Wrong(f"Security-Client uses SPI {used} again", record, before.challenge.request)
                    return


def _spis_are_fit(record: SipRecord, side: Side) -> Iterator[Wrong]:
    if side.spi_c and side.spi_c == side.spi_s:
        yield Wrong(f"spi-c and spi-s are both {side.spi_c}", record)
    reserved = [f"{name}={value}" for name, value in zip(_NUMBERS, side[:2], strict=False) if 0 < value < FIRST_SPI]
    if reserved:
        text = f"{', '.join(reserved)}: SPIs up to {FIRST_SPI - 1} are reserved (RFC 4303 2.1)"
        yield Wrong(text, record, level=Level.WARNING)


@on_sip("SPI-07", "33.203 7.1", role=Role.UE, hop=Hop.GM, method="REGISTER", request=True)
def ue_ports_are_fit(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The UE's protected ports are not 5060 or 5061, and not the same."""
    for side in _offered(record, trace)[:1]:
        yield from _ports_are_fit(record, side)


def _ports_are_fit(record: SipRecord, side: Side) -> Iterator[Wrong]:
    for name, port in zip(_NUMBERS[2:], side[2:4], strict=True):
        if port in CLEAR_PORTS:
            yield Wrong(f"{name}={port}: a port for unprotected SIP", record)
    if side.port_c and side.port_c == side.port_s:
        yield Wrong(f"port-c and port-s are both {side.port_c}", record, level=Level.WARNING)


@on_sip("SPI-08", "33.203 7.4.0", role=Role.UE, hop=Hop.GM, method="REGISTER", request=True)
def ue_server_port_stays(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """In a re-registration the UE's port-s stays and its port-c is a new one."""
    gm = gm_of(trace)
    live = gm.agreement_of(record)
    if live is None or not live.stands(record) or leaves(record.message):
        return
    for side in _offered(record, trace)[:1]:
        if side.port_s and side.port_s != live.client.port_s:
            text = f"port-s={side.port_s}, before it was {live.client.port_s}: expected it to stay"
            yield Wrong(text, record, live.challenge.request)
        if side.port_c == live.client.port_c:
            yield Wrong(f"port-c={side.port_c} as before: expected a new one", record, live.challenge.request)


# ------------------------------------------------------------------------------------------------------ Security-Server


@on_sip("CHL-13", "33.203 7.2", role=Role.PCSCF, hop=Hop.GM, status=401)
def list_is_complete(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The 401 has a Security-Server whose entries have alg, SPIs and ports."""
    found = gm_of(trace).challenge_in(record)
    if record.message.has("Security-Server"):
        _ = record.message.security_server  # what cannot be read at all is a finding too
    listed = _lists(record)
    if listed:
        yield from _entries_are_well_formed(record, "Security-Server", listed)
    elif found is not None and mechanisms(found.request.message, "Security-Client"):
        text = "401 has no Security-Server with ipsec-3gpp, though the UE offers it"
        yield Wrong(text, record, found.request)


@on_sip("ADD-01", "33.203 7.2", role=Role.PCSCF, hop=Hop.GM, status=401)
def list_is_full(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """Security-Server lists every combination that the P-CSCF supports, ciphers too, against bidding down."""
    pairs = dict.fromkeys((each.alg, each.ealg) for each in _listed(record))
    if len(pairs) == 1:
        alg, ealg = next(iter(pairs))
        yield Wrong(
            f"Security-Server lists one combination only ({shown(alg)} with {shown(ealg)}): expected all that the "
            "P-CSCF supports",
            record,
        )


@on_sip("SEC-24", "33.203 Annex H", role=Role.PCSCF, hop=Hop.GM, status=401)
def list_has_esp_in_transport_mode(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """Security-Server lists neither prot=ah nor mod=tun."""
    for each in _lists(record):
        if each.prot != "esp" or each.mod == "tun":
            yield Wrong(f"Security-Server lists prot={shown(each.prot)} with mod={shown(each.mod)}", record)


@on_sip("ALG-10", "33.203 Annex H", role=Role.PCSCF, hop=Hop.GM)
def combinations_are_legal(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """Integrity without encryption or with it, but alg null only with aes-gcm and aes-gcm only with alg null."""
    message = record.message
    if message.is_request and message.has("Security-Client"):
        sides, header = _offered(record, trace), "Security-Client"
    elif message.has("Security-Server") and status_of(record) == 401:
        sides, header = _listed(record), "Security-Server"
    else:
        return
    for alg, ealg in dict.fromkeys((each.alg, each.ealg) for each in sides):
        known = alg in _ALGS and ealg in _EALGS
        if known and (alg == NULL) is not (ealg == AES_GCM) and not is_legal(alg, ealg):
            yield Wrong(f"{header}: alg={alg} with ealg={ealg}", record, role=record.sender)


@on_sip("ALG-20", "33.203 Annex H", role=Role.PCSCF, level=Level.WARNING, hop=Hop.GM, status=401)
def retired_algorithms_are_not_preferred(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The P-CSCF does not choose hmac-md5-96 or des-ede3-cbc where the UE offers better."""
    found = gm_of(trace).challenge_in(record)
    agreement = None if found is None else found.agreement
    if found is None or agreement is None:
        return
    chosen = agreement.server
    retired = [each for each in (chosen.alg, chosen.ealg) if each in _RETIRED]
    offered = sides_in(found.request.message, "Security-Client")
    better = next(
        (each for each in offered if is_legal(each.alg, each.ealg) and not {each.alg, each.ealg} & _RETIRED), None
    )
    if retired and better is not None:
        names = " and ".join(retired)
        text = f"{names} chosen (left Annex H in V13.1.0), though the UE offers {better.alg} with {better.ealg}"
        yield Wrong(text, record, found.request)


@on_sip("SPI-02", "33.203 7.1", role=Role.PCSCF, hop=Hop.GM, status=401)
def pcscf_spis_are_fit(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The P-CSCF's SPIs differ from each other, from the UE's, and from those of standing SAs, and are not reserved."""
    gm = gm_of(trace)
    found = gm.challenge_in(record)
    for side in _listed(record)[:1]:
        yield from _spis_are_fit(record, side)
        if found is None or found.agreement is None:
            continue
        mine = {side.spi_c, side.spi_s} - {0}
        same = sorted(mine & {found.agreement.client.spi_c, found.agreement.client.spi_s})
        if same:
            yield Wrong(f"Security-Server has SPI {same[0]}, which the UE chose for itself", record, found.request)
        for spi in sorted(mine):
            owner = gm.owner(found.agreement.pcscf, spi, record)
            if owner is not None and owner.ue != found.agreement.ue:
                yield Wrong(f"SPI {spi} is that of another UE's SA", record, owner.challenge.response)


@on_sip("CHL-17", "33.203 7.4.0", role=Role.PCSCF, hop=Hop.GM, status=401)
def each_challenge_has_new_spis(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """Each challenge makes new SAs: its SPIs are not those of a set of the same UE that lives."""
    found = gm_of(trace).challenge_in(record)
    if found is None or found.agreement is None or found.response is not record:
        return
    now = found.agreement.server
    for before in [*gm_of(trace).before(found.agreement), *_replaced(found.agreement, trace)]:
        again = sorted({now.spi_c, now.spi_s} & {before.server.spi_c, before.server.spi_s})
        if again:
            used = ", ".join(str(each) for each in again)
            yield Wrong(f"Security-Server uses SPI {used} again", record, before.challenge.response)
            return


def _replaced(agreement: Agreement, trace: Trace) -> list[Agreement]:
    """The temporary sets of the same procedure that a new challenge replaced."""
    found = [gm_of(trace).challenge_in(each) for each in agreement.challenge.registration.challenges]
    return [
        each.agreement
        for each in found
        if each is not None
        and each.agreement is not None
        and order(each.response) < order(agreement.challenge.response)
    ]


@on_sip("SPI-06", "33.203 7.1", role=Role.PCSCF, hop=Hop.GM, status=401)
def pcscf_ports_are_fit(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The P-CSCF's protected ports are not 5060 or 5061, and not the same."""
    for side in _listed(record)[:1]:
        yield from _ports_are_fit(record, side)


@on_sip("SPI-09", "33.203 7.4.0", role=Role.PCSCF, hop=Hop.GM, status=401)
def pcscf_server_port_stays(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """In a re-authentication the P-CSCF's port-s stays and its port-c is a new one."""
    found = gm_of(trace).challenge_in(record)
    if found is None or found.agreement is None or found.protected_by is None:
        return
    live = found.protected_by
    if not live.stands(record) or live.pcscf != found.agreement.pcscf:
        return
    now, before = found.agreement.server, live.server
    if now.port_s != before.port_s:
        text = f"port-s={now.port_s}, before it was {before.port_s}: expected it to stay"
        yield Wrong(text, record, live.challenge.response)
    if now.port_c == before.port_c:
        yield Wrong(f"port-c={now.port_c} as before: expected a new one", record, live.challenge.response)


# ----------------------------------------------------------------------------------- what the P-CSCF makes of it


def _accepted(record: SipRecord, trace: Trace) -> tuple[Agreement, SipRecord] | None:
    """The agreement that a 2xx established, and the REGISTER inside its SAs that it answers."""
    gm = gm_of(trace)
    request = trace.request_of(record)
    found = None if request is None else gm.answers(request)
    if request is None or found is None or found.agreement is None or reaction(request) is not Reaction.ANSWER:
        return None
    return None if gm.is_clear(request) else (found.agreement, request)


@on_sip("SEC-10", "33.203 Annex H", role=Role.PCSCF, hop=Hop.GM, method="REGISTER", status=range(200, 300))
def unverified_agreement_is_refused(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The P-CSCF refuses a protected REGISTER that answers the challenge without Security-Verify."""
    found = _accepted(record, trace)
    if found is not None and not found[1].message.has("Security-Verify"):
        yield Wrong(f"{what(record)}, though the REGISTER has no Security-Verify", record, found[1])


@on_sip("SEC-11", "33.203 Annex H", role=Role.PCSCF, hop=Hop.GM, method="REGISTER", status=range(200, 300))
def unrepeated_offer_is_refused(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The P-CSCF refuses a protected REGISTER that answers the challenge without Security-Client."""
    found = _accepted(record, trace)
    if found is not None and not found[1].message.has("Security-Client"):
        yield Wrong(f"{what(record)}, though the REGISTER has no Security-Client", record, found[1])


@on_sip("SEC-12", "33.203 7.2", role=Role.PCSCF, hop=Hop.GM, method="REGISTER", status=range(200, 300))
def wrong_verification_is_refused(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The P-CSCF refuses an answer whose Security-Verify is not its Security-Server."""
    found = _accepted(record, trace)
    if found is None or not found[1].message.has("Security-Verify"):
        return
    if not same_list(mechanisms(found[1].message, "Security-Verify"), found[0].listed):
        text = f"{what(record)}, though Security-Verify differs from Security-Server"
        yield Wrong(text, record, found[1], found[0].challenge.response)


@on_sip("SEC-13", "33.203 7.2", role=Role.PCSCF, hop=Hop.GM, method="REGISTER", status=range(200, 300))
def changed_offer_is_refused(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The P-CSCF refuses an answer whose Security-Client is not that of the first REGISTER."""
    found = _accepted(record, trace)
    if found is None or not found[1].message.has("Security-Client"):
        return
    if not same_list(mechanisms(found[1].message, "Security-Client"), found[0].offered):
        text = f"{what(record)}, though Security-Client differs from that of the first REGISTER"
        yield Wrong(text, record, found[1], found[0].challenge.request)


@on_sip("SEC-25", "RFC 3329 2.3.1", role=Role.UE, basis=Basis.SECOND_HAND, hop=Hop.GM, request=True)
def agreement_goes_with_every_request(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A protected request has sec-agree in Require and Proxy-Require, and mirrors the last Security-Server."""
    message = record.message
    if record.sender is not Role.UE or message.method in ("REGISTER", "ACK", "CANCEL"):
        return
    agreement = gm_of(trace).agreement_of(record)
    if agreement is None:
        return
    missing = [
        f"sec-agree in {name}"
        for name, tags in (("Require", message.require), ("Proxy-Require", message.proxy_require))
        if "sec-agree" not in (each.lower() for each in tags)
    ]
    if not message.has("Security-Verify"):
        missing.append("Security-Verify")
    if missing:
        yield Wrong(f"{what(record)} lacks {', '.join(missing)}", record)
    if not message.has("Security-Verify"):
        return
    verify = [each for each in message.security_verify if each.is_ipsec_3gpp]
    newest = gm_of(trace).standing(record.src.host, record) or agreement
    if not any(same_list(verify, each.listed) for each in (agreement, newest)):
        text = f"{what(record)}: Security-Verify differs from the last Security-Server"
        yield Wrong(text, record, newest.challenge.response)


@on_sip(
    "SEC-28", "33.203 7.2", role=Role.PCSCF, level=Level.WARNING, hop=Hop.GM, method="REGISTER", status=range(200, 300)
)
def success_has_no_agreement(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The 200 to REGISTER has no Security-Server, -Client or -Verify, but for mediasec."""
    message = record.message
    if record.receiver is not Role.UE:
        return
    found = [name for name in ("Security-Server", "Security-Client", "Security-Verify") if message.has(name)]
    left = [name for name in found if mechanisms(message, name)]
    if left:
        yield Wrong(f"{what(record)} has {', '.join(left)} with ipsec-3gpp", record)
