"""Rules about Mw: what a P-CSCF tells the home network about a UE, and what it keeps to itself.

Whoever judges the P-CSCF looks at both sides of it: the REGISTER on Gm and the one that it became on Mw. Where the
trace shows Mw only, there is no telling what came in, and rules that depend on it are silent. What any proxy may do is
in proxies.py, what the S-CSCF does in authentication.py, registrar.py and regevent.py.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from imslab.core.flow import Endpoint, Transport
from imslab.diameter.cx import PPR
from imslab.rules.agreements import gm_of
from imslab.rules.attempts import aor_of
from imslab.rules.clauses import Basis, Level, Wrong, on_registration, on_sip
from imslab.rules.exchanges import exchanges_of
from imslab.rules.reading import (
    challenge,
    credentials,
    is_aka,
    leaves,
    mechanisms,
    order,
    param,
    quiet,
    shown,
    what,
)
from imslab.sip.fields.address import NameAddr
from imslab.sip.fields.charging import ChargingVector
from imslab.sip.message import Message
from imslab.sip.uri import Uri
from imslab.trace.identity import is_third_party
from imslab.trace.model import Hop, Role, SipRecord
from imslab.trace.registration import Registration
from imslab.trace.trace import Trace, method_of, status_of

#: What belongs to the security agreement between UE and P-CSCF alone (RFC 3329).
OF_THE_AGREEMENT = ("Security-Client", "Security-Server", "Security-Verify")
#: How soon after the 200 a P-CSCF has subscribed, seconds: 64*T1 of RFC 3261.
PROMPTLY = 32.0
#: For how long a server transaction over UDP knows a retransmission: timer J of RFC 3261, seconds.
TIMER_J = 32.0

_KEY = re.compile(r"[0-9A-Fa-f]{32}")


def _upstream(record: SipRecord, trace: Trace) -> bool:
    """True for a REGISTER as its P-CSCF sent it to the home network, for the first time."""
    return record.sender is Role.PCSCF and not trace.is_retransmission(record) and not is_third_party(record.message)


def _came(record: SipRecord, trace: Trace) -> SipRecord | None:
    """The request of the UE that this one was; None where the trace does not show it."""
    gm = trace.relayed_from(record)
    return gm if gm is not None and gm.hop is Hop.GM and gm.sender is Role.UE else None


def _runs_aka(record: SipRecord, gm: SipRecord | None) -> bool:
    """True when the P-CSCF saw ipsec-3gpp offered: then it runs IMS AKA (33.203 P.3)."""
    return any(
        "ipsec-3gpp" in row.lower()
        for each in (record, gm)
        if each is not None
        for row in each.message.rows("Security-Client")
    )


# --- Path, charging, visited network ---------------------------------------------------------------------------------


@on_sip(
    "PCI-01",
    "24.229 5.2.2.1; RFC 3327 5.2",
    role=Role.PCSCF,
    basis=Basis.SECOND_HAND,
    hop=Hop.MW,
    method="REGISTER",
    request=True,
)
def path_is_inserted(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The P-CSCF puts its own URI on top of Path, with lr."""
    if not _upstream(record, trace):
        return
    gm = _came(record, trace)
    path = record.message.path
    brought = 0 if gm is None else len(quiet(lambda: gm.message.path) or ())
    if not path or (len(path) <= brought and gm is not None and _same_uris(path, gm.message.path)):
        yield Wrong("REGISTER goes upstream without a Path of the P-CSCF", record)
    elif "lr" not in path[0].uri.params:
        yield Wrong(f"Path <{shown(str(path[0].uri))}> has no lr", record)


@on_sip(
    "PCI-12",
    "24.229 5.2.2.1",
    role=Role.PCSCF,
    level=Level.WARNING,
    basis=Basis.UNREAD,
    hop=Hop.MW,
    method="REGISTER",
    request=True,
)
def path_of_the_ue_is_removed(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A Path that the UE wrote itself does not reach the home network."""
    gm = _came(record, trace)
    if gm is None or not _upstream(record, trace) or not gm.message.has("Path"):
        return
    forged = [each for each in texts(gm.message, "Path") if each in texts(record.message, "Path")]
    if forged:
        yield Wrong(f"Path {shown(forged[0])} came from the UE and went upstream", record, gm)


@on_sip(
    "PCI-02",
    "24.229 5.2.2.1",
    role=Role.PCSCF,
    basis=Basis.SECOND_HAND,
    hop=Hop.MW,
    method="REGISTER",
    request=True,
)
def path_is_required(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The P-CSCF adds Require: path."""
    if _upstream(record, trace) and "path" not in (each.lower() for each in record.message.require):
        listed = ", ".join(record.message.require)
        yield Wrong(f"Require {f'is {shown(listed)}: expected path in it' if listed else 'is missing'}", record)


@on_sip(
    "PCI-03",
    "24.229 5.2.2.1, 7.2A.5",
    role=Role.PCSCF,
    basis=Basis.SECOND_HAND,
    hop=Hop.MW,
    method="REGISTER",
    request=True,
)
def charging_vector_is_inserted(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The P-CSCF adds P-Charging-Vector: an icid of its own making, orig-ioi of type 1 naming its network."""
    if not _upstream(record, trace):
        return
    yield from _charging_of_the_ue(record, trace)
    vector = record.message.p_charging_vector
    if vector is None:
        yield Wrong("REGISTER goes upstream without P-Charging-Vector", record)
        return
    gm = _came(record, trace)
    brought = None if gm is None else _vector(gm.message)
    first = trace.derived(_icids).get(vector.icid)
    if gm is not None and brought is not None and brought.icid == vector.icid:
        yield Wrong(f"icid-value {shown(vector.icid)} is the UE's own", record, gm)
    elif first is not None and first.message.get("Call-ID") != record.message.get("Call-ID"):
        yield Wrong(f"icid-value {shown(vector.icid)} was used before, for another registration", record, first)
    ioi = vector.orig_ioi
    if ioi is None:
        yield Wrong("P-Charging-Vector without orig-ioi", record, level=Level.NOTE)
    elif not ioi.lower().startswith("type 1"):
        yield Wrong(f'orig-ioi "{shown(ioi)}": expected "Type 1" before the network', record, level=Level.NOTE)


def _charging_of_the_ue(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    gm = _came(record, trace)
    name = "P-Charging-Function-Addresses"
    if gm is not None and any(row in gm.message.rows(name) for row in record.message.rows(name)):
        yield Wrong(f"{name} {shown(record.message.get(name) or '')} is the UE's own", record, gm)


def _vector(message: Message) -> ChargingVector | None:
    return quiet(lambda: message.p_charging_vector)


def _icids(trace: Trace) -> dict[str, SipRecord]:
    """Each icid-value that a P-CSCF sent with a REGISTER, and where it stood first."""
    found: dict[str, SipRecord] = {}
    for record in trace.sip(method="REGISTER", request=True, hop=Hop.MW, sender=Role.PCSCF):
        vector = _vector(record.message)
        if vector is not None and not is_third_party(record.message):
            found.setdefault(vector.icid, record)
    return found


@on_sip(
    "PCI-04",
    "24.229 5.2.2.1",
    role=Role.PCSCF,
    basis=Basis.SECOND_HAND,
    hop=Hop.MW,
    method="REGISTER",
    request=True,
)
def visited_network_is_named(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The P-CSCF adds P-Visited-Network-ID, and replaces what a UE put there."""
    if not _upstream(record, trace):
        return
    named = record.message.p_visited_network_id
    if not named:
        yield Wrong("REGISTER goes upstream without P-Visited-Network-ID", record)
        return
    gm = _came(record, trace)
    brought = [] if gm is None else quiet(lambda: gm.message.p_visited_network_id) or []
    own = trace.derived(_visited_networks).get(record.src.host, set())
    for each in named:
        if gm is not None and each in brought and own and each not in own:
            yield Wrong(
                f'P-Visited-Network-ID "{shown(each)}" is the UE\'s: expected "{shown(sorted(own)[0])}"', record, gm
            )


def _visited_networks(trace: Trace) -> dict[str, set[str]]:
    """What each P-CSCF names when its UE names nothing."""
    found: dict[str, set[str]] = {}
    for record in trace.sip(method="REGISTER", request=True, hop=Hop.MW, sender=Role.PCSCF):
        gm = _came(record, trace)
        if gm is not None and not gm.message.has("P-Visited-Network-ID"):
            found.setdefault(record.src.host, set()).update(networks(record.message))
    return found


def networks(message: Message) -> list[str]:
    """P-Visited-Network-ID; none where it cannot be read."""
    return quiet(lambda: message.p_visited_network_id) or []


# --- integrity-protected ---------------------------------------------------------------------------------------------


def _flag(record: SipRecord, trace: Trace) -> tuple[str, str, str] | None:
    """What integrity-protected has to say of a UE's REGISTER by 33.203 6.1.5, why, and the rule that says so.

    None where the trace does not show enough of the SAs.
    """
    gm = gm_of(trace)
    if gm.is_clear(record):
        return "no", "it came in clear", "PCI-05"
    agreement = gm.agreement_of(record)
    given = credentials(record.message)
    if agreement is None or given is None:
        return None
    nonce = param(given, "nonce") or ""
    answers = bool(nonce and param(given, "response")) and not given.has("auts")
    reacted = gm.answers(record)
    if reacted is not None and reacted.nonce != nonce:
        return None
    accepted = agreement.accepted
    if accepted is None or order(accepted) > order(record):
        if reacted is not agreement.challenge:
            return None
        if answers:
            return "yes", "it answers in the SAs of this authentication", "PCI-05"
        return "no", "it reports a failure in the temporary SAs", "ADD-05"
    if reacted is not None and reacted is not agreement.challenge and answers:
        return "no", "it answers a new challenge in the old SAs", "ADD-04"
    if answers and reacted is None and nonce != agreement.challenge.nonce:
        return None
    latest = gm.standing(record.src.host, record)
    if latest is agreement:
        return "yes", "it came in the SAs of the latest authentication", "RER-07"
    return None if latest is None else ("no", "it came in SAs older than the latest authentication", "PCI-05")


def _written(record: SipRecord) -> list[str] | None:
    """The values of integrity-protected that a REGISTER carries; None without an Authorization for Digest."""
    given = credentials(record.message)
    return None if given is None else given.get_all("integrity-protected")


class _Flags:
    """What is wrong with integrity-protected of each REGISTER, by the rule that says so; each looked at once."""

    __slots__ = ("_known", "_trace")

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._known: dict[SipRecord, tuple[str, Wrong] | None] = {}

    def wrong(self, record: SipRecord, rule: str) -> Iterator[Wrong]:
        """What this rule has to say of a REGISTER."""
        if record not in self._known:
            self._known[record] = _wrong_flag(record, self._trace)
        found = self._known[record]
        if found is not None and found[0] == rule:
            yield found[1]


def _wrong_flag(record: SipRecord, trace: Trace) -> tuple[str, Wrong] | None:
    """The rule that the integrity-protected of a REGISTER breaks, and how; PCI-06 has an eye on those of the UE."""
    written = _written(record)
    if written is None or not _upstream(record, trace):
        return None
    gm = _came(record, trace)
    if _brought_flag(gm):
        return None
    if len(written) > 1:
        return "PCI-05", Wrong(f"integrity-protected stands {len(written)} times: {shown(', '.join(written))}", record)
    if not _runs_aka(record, gm):
        return None
    bare = "REGISTER goes upstream without integrity-protected"
    expected = None if gm is None else _flag(gm, trace)
    if gm is None or expected is None:
        return None if written else ("PCI-05", Wrong(bare, record, *(() if gm is None else (gm,))))
    value, why, owner = expected
    if not written:
        return owner, Wrong(f"{bare}: expected {value}, since {why}", record, gm)
    if written[0].lower() != value:
        return owner, Wrong(f"integrity-protected={shown(written[0])}: expected {value}, since {why}", record, gm)
    return None


def _brought_flag(gm: SipRecord | None) -> bool:
    return gm is not None and any(
        each.has("integrity-protected") for each in quiet(lambda: gm.message.authorization) or ()
    )


@on_sip("PCI-05", "33.203 6.1.5", role=Role.PCSCF, hop=Hop.MW, method="REGISTER", request=True)
def protection_is_told(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The P-CSCF says integrity-protected once: no for what came in clear, yes for an answer in its own new SAs."""
    yield from trace.derived(_Flags).wrong(record, "PCI-05")


@on_sip("RER-07", "33.203 6.1.5", role=Role.PCSCF, hop=Hop.MW, method="REGISTER", request=True)
def protection_of_a_refresh_is_told(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """integrity-protected is yes for a REGISTER without an answer in the SAs of the latest authentication."""
    yield from trace.derived(_Flags).wrong(record, "RER-07")


@on_sip("ADD-04", "33.203 6.1.5", role=Role.PCSCF, hop=Hop.MW, method="REGISTER", request=True)
def answer_in_old_sas_is_unprotected(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """integrity-protected is no for the answer to a challenge that came in the old SAs."""
    yield from trace.derived(_Flags).wrong(record, "ADD-04")


@on_sip("ADD-05", "33.203 6.1.5", role=Role.PCSCF, hop=Hop.MW, method="REGISTER", request=True)
def report_in_temporary_sas_is_unprotected(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """integrity-protected is no for a failure report that came in the temporary SAs."""
    yield from trace.derived(_Flags).wrong(record, "ADD-05")


@on_sip("PCI-06", "33.203 P.3, 6.1.5", role=Role.PCSCF, hop=Hop.MW, method="REGISTER", request=True)
def forged_protection_is_removed(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """What the UE itself says in integrity-protected is removed."""
    gm = _came(record, trace)
    if gm is None or not _upstream(record, trace) or not _brought_flag(gm):
        return
    written = [
        value
        for each in quiet(lambda: record.message.authorization) or ()
        for value in each.get_all("integrity-protected")
    ]
    rows = len(quiet(lambda: record.message.authorization) or ())
    expected = _flag(gm, trace)
    wrong = [each for each in written if expected is not None and each.lower() != expected[0]]
    if wrong or len(written) > rows:
        told = "once" if expected is None else f"{expected[0]} once, since {expected[1]}"
        yield Wrong(
            f"the UE wrote integrity-protected, upstream it is {shown(', '.join(written))}: expected {told}",
            record,
            gm,
        )


# --- what stays on Gm ------------------------------------------------------------------------------------------------


def _agreement_left(message: Message) -> list[str]:
    """What a message still has of the security agreement."""
    left = [name for name in OF_THE_AGREEMENT if message.has(name)]
    for name in ("Require", "Proxy-Require"):
        rows = message.rows(name)
        tags = [each.strip().lower() for row in rows for each in row.split(",")]
        if "sec-agree" in tags:
            left.append(f"{name}: sec-agree")
        elif any(not row.strip() or row.strip() == "0" for row in rows):
            left.append(f"an emptied {name}")
    return left


@on_sip(
    "PCI-07",
    "24.229 5.2.2.2; RFC 3329 2.3.1",
    role=Role.PCSCF,
    basis=Basis.SECOND_HAND,
    hop=Hop.MW,
    method="REGISTER",
    request=True,
)
def agreement_stays_on_gm(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """No Security-Client, -Server, -Verify and no sec-agree in Require or Proxy-Require goes upstream in a REGISTER."""
    if _upstream(record, trace):
        left = _agreement_left(record.message)
        if left:
            yield Wrong(f"REGISTER goes upstream with {', '.join(left)}", record)


@on_sip("SEC-26", "24.229 5.2.6; RFC 3329 2.3.1", role=Role.PCSCF, basis=Basis.UNREAD, hop=Hop.MW, request=True)
def agreement_of_other_requests_stays_on_gm(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """No Security-Verify and no sec-agree goes upstream in any other request of a UE."""
    if method_of(record) == "REGISTER" or record.sender is not Role.PCSCF or trace.is_retransmission(record):
        return
    gm = _came(record, trace)
    left = _agreement_left(record.message) if gm is not None else []
    if gm is not None and left:
        yield Wrong(f"{what(record)} goes upstream with {', '.join(left)}", record, gm)


@on_sip(
    "PCI-11",
    "RFC 3261 10.3, 16.6",
    role=Role.PCSCF,
    level=Level.WARNING,
    hop=Hop.MW,
    method="REGISTER",
    request=True,
)
def register_is_not_record_routed(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """REGISTER makes no dialog: neither P-CSCF nor I-CSCF inserts a Record-Route."""
    if record.sender is Role.SCSCF or trace.is_retransmission(record) or is_third_party(record.message):
        return
    before = trace.relayed_from(record)
    if before is None and record.sender is not Role.PCSCF:
        return
    found = texts(record.message, "Record-Route")
    if len(found) > (0 if before is None else len(texts(before.message, "Record-Route"))):
        yield Wrong(f"REGISTER goes upstream with Record-Route {shown(found[0])}", record, role=record.sender)


@on_sip(
    "PCI-13",
    "33.203 P.3",
    role=Role.PCSCF,
    level=Level.NOTE,
    hop=Hop.MW,
    method="REGISTER",
    request=True,
)
def access_network_of_the_ue_is_its_own(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A P-Access-Network-Info in which the UE says network-provided is removed, if the P-CSCF knows the header."""
    gm = _came(record, trace)
    if gm is None or not _upstream(record, trace):
        return
    forged = [str(each) for each in quiet(lambda: gm.message.p_access_network_info) or () if each.network_provided]
    kept = [each for each in texts(record.message, "P-Access-Network-Info") if each in forged]
    if kept:
        yield Wrong(f"P-Access-Network-Info {shown(kept[0])} came from the UE and went upstream", record, gm)


@on_sip(
    "PCI-15",
    "RFC 3261 17.2.2",
    role=Role.PCSCF,
    hop=Hop.MW,
    method="REGISTER",
    request=True,
)
def retransmission_is_absorbed(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A REGISTER that the UE sends again makes no second transaction upstream."""
    gm = _came(record, trace)
    if gm is None or not _upstream(record, trace) or gm.transport is not Transport.UDP:
        return
    sent = [each for each in trace.transaction(gm) if each.message.is_request and order(each) < order(record)]
    if len(sent) < 2 or sent[-1].time - sent[0].time > TIMER_J:
        return
    first = trace.derived(_first_upstream).get(_way(record))
    # the same destination: another entry point is tried when the first one is silent
    if first is not None and first is not record and _branch(first.message) != _branch(record.message):
        yield Wrong(
            f"REGISTER that the UE sent again goes upstream again, as {shown(_branch(record.message))} "
            f"beside {shown(_branch(first.message))}",
            record,
            first,
            sent[-1],
        )


def _way(record: SipRecord) -> tuple[str | None, str | None, Endpoint, Transport]:
    message = record.message
    return message.get("Call-ID"), message.get("CSeq"), record.dst, record.transport


def _first_upstream(trace: Trace) -> dict[tuple[str | None, str | None, Endpoint, Transport], SipRecord]:
    """Each REGISTER that a P-CSCF sent, by destination: its first sending."""
    found: dict[tuple[str | None, str | None, Endpoint, Transport], SipRecord] = {}
    for record in trace.sip(method="REGISTER", request=True, hop=Hop.MW, sender=Role.PCSCF):
        found.setdefault(_way(record), record)
    return found


def _branch(message: Message) -> str:
    vias = quiet(lambda: message.via) or []
    return (vias[0].branch or "") if vias else ""


def texts(message: Message, header: str) -> list[str]:
    """The values of a list header as written; none where they cannot be told apart."""
    return quiet(lambda: message.values(header)) or []


def _same_uris(one: Sequence[NameAddr], other: Sequence[NameAddr]) -> bool:
    return [each.uri for each in one] == [each.uri for each in other]


# --- keys for the P-CSCF ---------------------------------------------------------------------------------------------


def _keyless(record: SipRecord, trace: Trace) -> tuple[SipRecord, str, str] | None:
    """A challenge for IMS AKA whose keys the P-CSCF cannot use, relayed as if it could: to whom, ck, ik.

    A 401 with Security-Server is a challenge that the UE may answer.
    """
    if record.receiver is not Role.PCSCF or trace.is_retransmission(record):
        return None
    told = trace.relayed(record)
    offered = challenge(record.message)
    if told is None or told.hop is not Hop.GM or offered is None or not is_aka(offered):
        return None
    if not mechanisms(told.message, "Security-Server"):
        return None
    return told, param(offered, "ck") or "", param(offered, "ik") or ""


@on_sip(
    "CHL-11",
    "24.229 5.2.2.2",
    role=Role.PCSCF,
    basis=Basis.UNREAD,
    hop=Hop.MW,
    method="REGISTER",
    status=401,
)
def challenge_without_keys_is_not_relayed(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A 401 without ck or ik makes no SAs: the UE gets an error and not a challenge."""
    found = _keyless(record, trace)
    if found is None:
        return
    missing = [name for name, value in (("ck", found[1]), ("ik", found[2])) if not value]
    if missing:
        yield Wrong(
            f"401 without {' and '.join(missing)} relayed as a challenge with Security-Server", found[0], record
        )


@on_sip(
    "CHL-12",
    "24.229 5.2.2.2",
    role=Role.PCSCF,
    level=Level.WARNING,
    basis=Basis.UNREAD,
    hop=Hop.MW,
    method="REGISTER",
    status=401,
)
def challenge_with_broken_keys_is_not_relayed(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A 401 whose ck or ik are not 32 hex digits makes no SAs either."""
    found = _keyless(record, trace)
    if found is None or not (found[1] and found[2]):
        return
    broken = [
        f"{name} of {len(value)} characters" if len(value) != 32 else f"{name} that is no hex"
        for name, value in (("ck", found[1]), ("ik", found[2]))
        if _KEY.fullmatch(value) is None
    ]
    if broken:
        yield Wrong(f"401 with {' and '.join(broken)} relayed as a challenge with Security-Server", found[0], record)


# --- identities ------------------------------------------------------------------------------------------------------


def _identities(trace: Trace) -> dict[str, tuple[list[tuple[float, int]], list[frozenset[str]]]]:
    """The identities that the UE at an address has been told to be its own: from when on, and all of them so far."""
    found: dict[str, tuple[list[tuple[float, int]], list[frozenset[str]]]] = {}
    for final in trace.sip(method="REGISTER", request=False, hop=Hop.GM, receiver=Role.UE):
        request = trace.request_of(final)
        if request is None or leaves(request.message) or not 200 <= (status_of(final) or 0) < 300:
            continue
        told = [each.uri.aor for each in _associated(final.message)]
        times, sets = found.setdefault(final.dst.host, ([], []))
        times.append(order(final))
        sets.append(frozenset((*told, aor_of(request.message), *(sets[-1] if sets else ()))))
    return found


def _associated(message: Message) -> list[NameAddr]:
    return quiet(lambda: message.p_associated_uri) or []


def _foreign(record: SipRecord, trace: Trace) -> tuple[SipRecord, str, bool] | None:
    """A request of a UE for which the P-CSCF asserts an identity that is not the UE's: as it came, the identity, and
    whether the UE had asserted it itself."""
    if record.sender is not Role.PCSCF or trace.is_retransmission(record) or method_of(record) == "REGISTER":
        return None
    gm = _came(record, trace)
    if gm is None or gm_of(trace).agreement_of(gm) is None or trace.derived(_profiles_change):
        return None
    known = trace.derived(_identities).get(gm.src.host)
    count = 0 if known is None else bisect_left(known[0], order(gm))
    if known is None or not count:
        return None
    own = known[1][count - 1]
    for each in record.message.p_asserted_identity:
        if each.uri.aor not in own:
            mine = quiet(lambda: gm.message.p_asserted_identity) or []
            return gm, str(each.uri), any(one.uri.aor == each.uri.aor for one in mine)
    return None


def _profiles_change(trace: Trace) -> bool:
    """True when an HSS pushed a profile: identities may have come that no 200 has told."""
    return any(each.command == PPR for each in exchanges_of(trace).all)


@on_sip("DRP-14", "24.229 5.2.6.3; RFC 3325", role=Role.PCSCF, basis=Basis.UNREAD, hop=Hop.MW, request=True)
def only_own_identities_are_asserted(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """What the P-CSCF asserts is one of the identities that the 200 has given to the UE."""
    found = _foreign(record, trace)
    if found is not None and not found[2]:
        yield Wrong(f"P-Asserted-Identity {shown(found[1])} is none of this UE's identities", record, found[0])


@on_sip("DRP-15", "24.229 5.2.6.3", role=Role.PCSCF, basis=Basis.UNREAD, hop=Hop.MW, request=True)
def asserted_identity_of_the_ue_is_replaced(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A P-Asserted-Identity that the UE wrote itself does not reach the core, unless it is right."""
    found = _foreign(record, trace)
    if found is not None and found[2]:
        yield Wrong(f"P-Asserted-Identity {shown(found[1])} came from the UE and is none of its own", record, found[0])


# --- routes, and the registration as the P-CSCF watches it -----------------------------------------------------------


@on_sip("MW-09", "24.229 5.2.6.3", role=Role.PCSCF, basis=Basis.UNREAD, hop=Hop.MW, request=True)
def service_route_is_enforced(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """What a UE begins goes along the Service-Route that it was given: any other Route is corrected or refused."""
    if record.sender is not Role.PCSCF or method_of(record) in ("REGISTER", "ACK", "CANCEL"):
        return
    came = _came(record, trace) if not trace.is_retransmission(record) else None
    agreement = None if came is None else gm_of(trace).agreement_of(came)
    if came is None or agreement is None or quiet(lambda: came.message.to.tag) is not None:
        return
    accepted = gm_of(trace).accepted_before(agreement, trace.original(came))
    given = [_uris(quiet(lambda m=each.response.message: m.service_route)) for each in accepted[-2:]]  # type: ignore[misc]
    routes = [each.uri for each in record.message.route]
    if given and all(given) and routes not in given:
        told = shown(", ".join(str(each) for each in routes)) or "none"
        expected = shown(", ".join(str(each) for each in given[-1]))
        text = f"{what(record)} goes upstream with Route {told}: Service-Route was {expected}"
        yield Wrong(text, record, came, accepted[-1].response)


def _uris(addresses: Sequence[NameAddr] | None) -> list[Uri]:
    return [each.uri for each in addresses or ()]


@on_registration("EVT-20", "24.229 5.2.3", role=Role.PCSCF, level=Level.WARNING, basis=Basis.SECOND_HAND)
def registration_is_watched(registration: Registration, trace: Trace) -> Iterator[Wrong]:
    """After the first 200 the P-CSCF subscribes to the registration state of the UE, once for each user."""
    gm = gm_of(trace)
    first, final, last = registration.requests[0], registration.final, registration.requests[-1]
    if final is None or not registration.succeeded or not gm.is_initial(first) or leaves(last.message):
        return
    sent, agreement = trace.relayed(last), gm.agreement_of(last)
    if sent is None or sent.hop is not Hop.MW or agreement is None or agreement.accepted is not final:
        return
    words = trace.derived(_words_on_mw).get(sent.src.host, 0.0)
    if min(words, agreement.ends) - final.time < PROMPTLY:
        return
    own = {_identity(final, registration), *(each.uri.aor for each in _associated(final.message))}
    if not own & trace.derived(_watched).get(sent.src.host, set()):
        yield Wrong(f"no SUBSCRIBE of the P-CSCF for reg within {PROMPTLY:.0f} s of the 200", final)


def _identity(final: SipRecord, registration: Registration) -> str:
    """The address-of-record that a registration is of."""
    return aor_of(final.message) or registration.impu


def _words_on_mw(trace: Trace) -> dict[str, float]:
    """When each P-CSCF said something last to an S-CSCF: then the trace shows that way."""
    found = trace.sip(hop=Hop.MW, sender=Role.PCSCF)
    return {record.src.host: record.time for record in found if record.receiver is Role.SCSCF}


def _watched(trace: Trace) -> dict[str, set[str]]:
    """Whose registration state each P-CSCF watches itself, by whatever the trace shows of it."""
    found: dict[str, set[str]] = {}
    for method, header in (("SUBSCRIBE", "To"), ("NOTIFY", "From")):
        for record in trace.sip(method=method, hop=Hop.MW):
            if record.sender is Role.PCSCF and _came(record, trace) is None:
                host = record.src.host
            elif record.receiver is Role.PCSCF and not _goes_to_ue(record, trace):
                host = record.dst.host
            else:
                continue
            message = record.message
            whose = quiet(lambda m=message, h=header: m.to if h == "To" else m.from_)  # type: ignore[misc]
            if whose is not None:
                found.setdefault(host, set()).add(whose.uri.aor)
    return found


def _goes_to_ue(record: SipRecord, trace: Trace) -> bool:
    relayed = trace.relayed(record)
    return relayed is not None and relayed.hop is Hop.GM
