"""Rules about the challenge on Gm and what the UE makes of it (24.229 5.1.1.5, 33.203 6.1, RFC 3310).

The UE's reaction to a challenge is one of three: an answer (a response, no auts), a report that the sequence number is
out of range (auts), a report that the MAC is wrong (an empty response). The answer goes inside the new SAs; a report
goes on SAs that stood before, else in clear, with new SPIs and a new client port, and makes no SAs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from functools import lru_cache

from imslab.aka.algorithm import AkaAlgorithm
from imslab.aka.digest import parse_auts, split_nonce
from imslab.aka.vector import check_auts
from imslab.core.errors import PeerError
from imslab.core.flow import Transport
from imslab.core.sa import SaSet
from imslab.rules.agreements import UC_PS, Agreement, Challenge, gm_of
from imslab.rules.clauses import Basis, Level, Wrong, on_registration, on_sip
from imslab.rules.exchanges import sqn_of
from imslab.rules.reading import (
    credentials,
    cseq_number,
    is_aka,
    mechanisms,
    order,
    param,
    place,
    quiet,
    shown,
    sides_in,
    top_via,
    what,
)
from imslab.sip.fields.digest import DigestCredentials
from imslab.sip.fields.security import SecurityMechanism, same_list
from imslab.trace.model import Hop, NodeRecord, Role, SipRecord
from imslab.trace.registration import Autn, Registration, Response
from imslab.trace.trace import Trace

#: 24.229 5.1.1.5.12: how many bad challenges in a row a UE reacts to.
BAD_CHALLENGES = 2
#: For how long an answer over UDP is repeated: timer J of RFC 3261; then the same request is a new one, seconds.
TIMER_J = 32.0
_KEYS = ("ck", "ik")


class Reaction(StrEnum):
    """What the UE made of a challenge."""

    ANSWER = "answer"
    SQN_FAILURE = "synchronisation failure"
    MAC_FAILURE = "MAC failure"


@lru_cache(256)
def reaction(record: SipRecord) -> Reaction | None:
    """What a REGISTER says of a challenge; None when it says nothing."""
    given = credentials(record.message)
    if given is None or not param(given, "nonce"):
        return None
    if param(given, "auts") is not None:
        return Reaction.SQN_FAILURE
    return Reaction.ANSWER if param(given, "response") else Reaction.MAC_FAILURE


def _reacts(record: SipRecord, trace: Trace) -> tuple[Challenge, DigestCredentials] | None:
    """The challenge that a REGISTER reacts to, and its credentials."""
    found = gm_of(trace).answers(record)
    given = credentials(record.message)
    return None if found is None or given is None else (found, given)


# ------------------------------------------------------------------------------------------------- the P-CSCF's part


@on_sip("CHL-10", "33.203 6.1.1", role=Role.PCSCF, hop=Hop.GM, request=False)
def keys_stay_in_the_core(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The P-CSCF takes ck and ik out of the challenge before it leaves for the UE."""
    message = record.message
    if record.receiver is not Role.UE or not (message.has("WWW-Authenticate") or message.has("Proxy-Authenticate")):
        return
    found = [*message.www_authenticate, *message.proxy_authenticate]
    left = [name for name in _KEYS if any(each.has(name) for each in found)]
    if left:
        # which keys they are is not to be repeated
        yield Wrong(f"{what(record)} to the UE still carries {' and '.join(left)}", record)


@on_sip("CHL-14", "33.203 7.4.2a", role=Role.PCSCF, hop=Hop.GM, status=401)
def clear_request_is_challenged_in_clear(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The 401 to a REGISTER in clear goes back in clear, to where the REGISTER came from."""
    found = gm_of(trace).challenge_in(record)
    if found is None or not gm_of(trace).is_clear(found.request):
        return
    request = found.request
    if record.spi is not None:
        yield Wrong(f"401 {place(record)}; its REGISTER came in clear", record, request)
        return
    via = quiet(lambda: top_via(request.message))
    if via is None or record.transport is not Transport.UDP or record.dst == request.src:
        return
    if "rport" in via.params or via.port != record.dst.port:
        yield Wrong(f"401 to {record.dst}; its REGISTER came from {request.src}", record, request)


@on_sip("CHL-15", "33.203 7.4.2a", role=Role.PCSCF, hop=Hop.GM, status=401)
def protected_request_is_challenged_on_its_set(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The 401 to a REGISTER that came on an established set goes back on that set."""
    gm = gm_of(trace)
    found = gm.challenge_in(record)
    if found is None or found.protected_by is None or not found.protected_by.stands(found.request):
        return
    if gm.is_clear(record):
        yield Wrong(f"401 {place(record)}; its REGISTER came in ESP", record, found.request)
        return
    carried = gm.agreement_of(record)
    if carried is not None and carried is not found.protected_by:
        yield Wrong(f"401 {place(record)}: another SA set than that of its REGISTER", record, found.request)


@on_sip("CHL-16", "33.203 7.2", role=Role.PCSCF, level=Level.WARNING, hop=Hop.GM, status=401)
def sas_stand_before_the_challenge_leaves(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The P-CSCF has its SAs in place before it sends the 401: the answer may come at once."""
    found = gm_of(trace).challenge_in(record)
    if found is None or found.agreement is None or found.response is not record:
        return
    installed = trace.derived(_installed).get((found.agreement.pcscf, found.agreement.server.spi_s))
    if installed is not None and order(record) < (installed.time, installed.after + 0.5):
        late = f"{(installed.time - record.time) * 1000:.3f} ms"
        yield Wrong(f"the SAs were installed {late} after the 401 had left", record)


def _installed(trace: Trace) -> dict[tuple[str, int], NodeRecord]:
    """When P-CSCFs of a live run installed their SAs, by their address and SPI; a capture does not tell."""
    found: dict[tuple[str, int], NodeRecord] = {}
    for record in trace.node_records:
        if record.kind == "install-sas" and record.role is Role.PCSCF:
            sas = record.data.get("sas")
            for sa in sas.sas if isinstance(sas, SaSet) else ():
                found.setdefault((sa.dst.host, sa.spi), record)
    return found


@on_sip("TRN-14", "RFC 3261 17.2.2", role=Role.PCSCF, hop=Hop.GM, status=401)
def retransmitted_challenge_is_the_same(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A 401 that is sent again offers the same nonce, SPIs and ports as before."""
    first = trace.original(record)
    if first is record or record.time - first.time > TIMER_J:
        return
    for header in ("Security-Server", "WWW-Authenticate"):
        if first.message.rows(header) != record.message.rows(header):
            yield Wrong(f"401 sent again with another {header}", record, first)


# ----------------------------------------------------------------------------------------------------- the UE's part


@on_registration("AKA-01", "24.229 5.1.1.5.1", role=Role.UE)
def response_proves_the_secret(registration: Registration, trace: Trace) -> Iterator[Wrong]:
    """The response of the UE is the one that RES gives."""
    # where AUTN does not fit the keys either, it is the keys we were given that are wrong
    if registration.response is not Response.MISMATCH or registration.autn is Autn.MAC_FAILURE:
        return
    answers = [each for each in registration.requests if each.hop is Hop.GM and reaction(each) is Reaction.ANSWER]
    # a refresh repeats its response, and no AUTN is there to check the keys by
    found = _reacts(answers[-1], trace) if answers else None
    if found is not None and _is_computable(*found):
        yield Wrong(f"response does not fit RES (qop {shown(registration.qop) or 'none'})", answers[-1])


def _is_computable(challenge: Challenge, given: DigestCredentials) -> bool:
    """True when credentials have what a response is computed from; other rules tell what is missing or changed."""
    if any(param(given, name) != param(challenge.params, name) for name in ("realm", "nonce")):
        return False
    asked = credentials(challenge.request.message)
    if asked is not None and param(asked, "username") != param(given, "username"):
        return False
    if given.has("qop") and not (param(given, "nc") and param(given, "cnonce")):
        return False
    return quiet(lambda: split_nonce(challenge.nonce)) is not None


@on_sip("AKA-04", "RFC 2617 3.2.2", role=Role.UE, basis=Basis.SECOND_HAND, hop=Hop.GM, method="REGISTER", request=True)
def no_qop_no_count(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A challenge without qop is answered without qop, nc and cnonce."""
    found = _reacts(record, trace)
    if found is None or param(found[0].params, "qop") is not None or found[0].params.has("qop"):
        return
    sent = [name for name in ("qop", "nc", "cnonce") if found[1].has(name)]
    if sent:
        yield Wrong(f"the challenge offers no qop, Authorization has {', '.join(sent)}", record, found[0].response)


@on_sip("AKA-05", "RFC 2617 3.2.2", role=Role.UE, basis=Basis.SECOND_HAND, hop=Hop.GM, method="REGISTER", request=True)
def qop_is_taken_up_rightly(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The chosen qop is one that was offered, unquoted, with nc=00000001 and a cnonce."""
    found = _reacts(record, trace)
    if found is None:
        return
    challenge, given = found
    offered = param(challenge.params, "qop")
    chosen = given.get("qop")
    if offered is None or chosen is None:
        return  # AKA-04, or a UE that ignores qop as RFC 2617 lets it
    response = challenge.response
    if chosen.lower() not in [each.strip().lower() for each in offered.split(",")]:
        yield Wrong(f"qop={shown(chosen)}, offered was {shown(offered)}", record, response)
    written = {name.lower(): value for name, value in given.params}
    if written["qop"].startswith('"'):
        yield Wrong(f"qop={shown(written['qop'])}: expected it unquoted", record)
    count = written.get("nc")
    if count != "00000001":
        told = "no nc" if count is None else f"nc={shown(count)}"
        yield Wrong(f"{told}: expected nc=00000001", record, response)
    if not given.get("cnonce"):
        yield Wrong("qop without cnonce", record, response)


@on_sip("AKA-06", "24.229 5.1.1.5.1", role=Role.UE, hop=Hop.GM, method="REGISTER", request=True)
def challenge_is_echoed(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The reaction to a challenge repeats its realm, nonce, algorithm and opaque octet by octet."""
    found = _reacts(record, trace)
    if found is None:
        return
    challenge, given = found
    for name in ("realm", "nonce", "algorithm", "opaque"):
        asked, echoed = param(challenge.params, name), given.get(name)
        if asked is not None and echoed != asked:
            told = "is missing" if echoed is None else f"is {shown(echoed)}"
            yield Wrong(f"{name} {told}, in the challenge {shown(asked)}", record, challenge.response)


@on_sip("AKA-07", "24.229 5.1.1.5.1", role=Role.UE, hop=Hop.GM, method="REGISTER", request=True)
def answer_goes_on_with_the_call(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The answer to a challenge has the Call-ID of the challenge, and the next CSeq."""
    found = _reacts(record, trace)
    if found is not None and reaction(record) is Reaction.ANSWER:
        yield from _same_call(record, found[0])


@on_sip("AKA-26", "34.229-1 9.2", role=Role.UE, hop=Hop.GM, method="REGISTER", request=True)
def report_goes_on_with_the_call(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The report of a failure has the Call-ID of the challenge, and the next CSeq."""
    found = _reacts(record, trace)
    if found is not None and reaction(record) in (Reaction.SQN_FAILURE, Reaction.MAC_FAILURE):
        yield from _same_call(record, found[0])


def _same_call(record: SipRecord, challenge: Challenge) -> Iterator[Wrong]:
    asked, now = challenge.response.message.get("Call-ID") or "", record.message.call_id
    if now != asked:
        yield Wrong(f"Call-ID {shown(now)}, of the challenge {shown(asked)}", record, challenge.response)
        return
    before, number = cseq_number(challenge.request.message), record.message.cseq.number
    if before is not None and number <= before:
        yield Wrong(f"CSeq {number} after {before}: expected {before + 1}", record, challenge.response)


@on_sip("AKA-08", "24.229 5.1.1.5.1", role=Role.UE, hop=Hop.GM, method="REGISTER", request=True)
def agreement_is_confirmed(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The answer repeats Security-Client of the first REGISTER, and mirrors Security-Server in Security-Verify."""
    found = _reacts(record, trace)
    if found is None or found[0].agreement is None or reaction(record) is not Reaction.ANSWER:
        return
    challenge, agreement = found[0], found[0].agreement
    message = record.message
    if not message.has("Security-Client"):
        yield Wrong("the answer to the challenge has no Security-Client", record, challenge.request)
    else:
        ipsec = [each for each in message.security_client if each.is_ipsec_3gpp]
        if not same_list(ipsec, agreement.offered):
            yield Wrong("Security-Client differs from that of the first REGISTER", record, challenge.request)
    if not message.has("Security-Verify"):
        yield Wrong("the answer to the challenge has no Security-Verify", record, challenge.response)
        return
    verify = [each for each in message.security_verify if each.is_ipsec_3gpp]
    if same_list(verify, agreement.listed) or _mirrors_earlier(record, challenge, trace) is not None:
        return
    yield Wrong(
        f"Security-Verify differs from Security-Server: {_difference(verify, agreement)}", record, challenge.response
    )


def _difference(verify: Sequence[SecurityMechanism], agreement: Agreement) -> str:
    """Where two lists part, in a few words."""
    if len(verify) != len(agreement.listed):
        return f"{len(verify)} entries, listed were {len(agreement.listed)}"
    pairs = enumerate(zip(verify, agreement.listed, strict=True), 1)
    number, (one, other) = next(each for each in pairs if not same_list([each[1][0]], [each[1][1]]))
    return f"entry {number} is {shown(str(one))}, listed was {shown(str(other))}"


def _mirrors_earlier(record: SipRecord, challenge: Challenge, trace: Trace) -> Challenge | None:
    """An earlier challenge of the same procedure whose Security-Server the answer mirrors instead."""
    verify = mechanisms(record.message, "Security-Verify")
    for final in challenge.registration.challenges:
        earlier = gm_of(trace).challenge_in(final)
        if earlier is challenge:
            break
        if earlier is not None and earlier.agreement is not None and same_list(verify, earlier.agreement.listed):
            return earlier
    return None


@on_sip("LIF-27", "33.203 7.4.1a", role=Role.UE, hop=Hop.GM, method="REGISTER", request=True)
def newest_challenge_counts(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """After a second challenge in one procedure, Security-Verify mirrors the newest Security-Server."""
    found = _reacts(record, trace)
    if found is None or found[0].agreement is None or reaction(record) is not Reaction.ANSWER:
        return
    if same_list(mechanisms(record.message, "Security-Verify"), found[0].agreement.listed):
        return
    earlier = _mirrors_earlier(record, found[0], trace)
    if earlier is not None:
        yield Wrong(
            "Security-Verify mirrors the Security-Server of an earlier challenge",
            record,
            found[0].response,
            earlier.response,
        )


@on_sip("AKA-09", "33.203 7.4.1a", role=Role.UE, hop=Hop.GM, method="REGISTER", request=True)
def answer_travels_in_the_new_set(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The answer to a challenge goes inside the new SAs, from port_uc to port_ps."""
    gm = gm_of(trace)
    found = _reacts(record, trace)
    if found is None or found[0].agreement is None or reaction(record) is not Reaction.ANSWER:
        return
    challenge, agreement = found[0], found[0].agreement
    spi, src, dst = agreement.flows[UC_PS]
    expected = f"expected in ESP with SPI {spi} from {src.port} to {dst.port}"
    if gm.is_clear(record):
        yield Wrong(f"the answer to the challenge goes {place(record)}; {expected}", record, challenge.response)
        return
    carried = gm.sa_of(record)
    if carried is not None and carried != (agreement, UC_PS):
        yield Wrong(f"the answer to the challenge goes {place(record)}; {expected}", record, challenge.response)


@on_sip("AKA-10", "24.229 5.1.1.5.3", role=Role.UE, hop=Hop.GM, method="REGISTER", request=True)
def mac_failure_is_reported(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The report of a wrong MAC has new SPIs and a new client port, and does not use the new SAs."""
    found = _reacts(record, trace)
    if found is not None and reaction(record) is Reaction.MAC_FAILURE:
        yield from _report(record, found[0], trace)


@on_sip("AKA-13", "24.229 5.1.1.5.3", role=Role.UE, hop=Hop.GM, method="REGISTER", request=True)
def sqn_failure_is_reported(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The report of a wrong sequence number has auts of 14 octets, new SPIs and a new client port."""
    if reaction(record) is not Reaction.SQN_FAILURE or record.sender is not Role.UE:
        return
    given = credentials(record.message)
    auts = "" if given is None else param(given, "auts") or ""
    try:
        parse_auts(auts)
    except PeerError as error:
        yield Wrong(f"auts={shown(auts)}: {error.reason}", record)
    found = gm_of(trace).answers(record)
    if found is not None:
        yield from _report(record, found, trace)


def _report(record: SipRecord, challenge: Challenge, trace: Trace) -> Iterator[Wrong]:
    gm = gm_of(trace)
    if challenge.agreement is None:
        return
    if gm.agreement_of(record) is challenge.agreement:
        yield Wrong(f"the report of a failure goes {place(record)}: no SAs come of that challenge", record)
    elif gm.is_clear(record) and challenge.protected_by is not None and challenge.protected_by.stands(record):
        yield Wrong(f"the report of a failure goes {place(record)}, though SAs stand", record, challenge.response)
    if not record.message.has("Security-Client"):
        yield Wrong("the report of a failure has no Security-Client", record)
    before = challenge.agreement.client
    for now in sides_in(record.message, "Security-Client")[:1]:
        same = [
            f"{name}={value}"
            for name, value, old in (
                ("spi-c", now.spi_c, before.spi_c),
                ("spi-s", now.spi_s, before.spi_s),
                ("port-c", now.port_c, before.port_c),
            )
            if value == old
        ]
        if same:
            yield Wrong(f"Security-Client repeats {', '.join(same)}: expected new ones", record, challenge.request)


def _unpacked(record: SipRecord, trace: Trace) -> tuple[Challenge, AkaAlgorithm, bytes, bytes, bytes] | None:
    """A report of a wrong sequence number where the user's key is known: the challenge, RAND, AUTN and AUTS."""
    found = _reacts(record, trace)
    if found is None or reaction(record) is not Reaction.SQN_FAILURE:
        return None
    algorithm = trace.keys.algorithm(param(found[1], "username") or "")
    parts = quiet(lambda: split_nonce(found[0].nonce))
    auts = quiet(lambda: parse_auts(param(found[1], "auts") or ""))
    return None if algorithm is None or parts is None or auts is None else (found[0], algorithm, *parts[:2], auts)


@on_sip("AKA-14", "33.102 6.3.3", role=Role.UE, basis=Basis.UNREAD, hop=Hop.GM, method="REGISTER", request=True)
def auts_is_the_cards(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """AUTS is made with the card's key: its MAC-S is right over SQN_MS, the RAND of the challenge and AMF 0000."""
    found = _unpacked(record, trace)
    if found is None:
        return
    challenge, algorithm, rand, autn, auts = found
    # where AUTN does not fit the key either, it is the key we were given that is wrong
    if sqn_of(algorithm, rand + autn) is not None and check_auts(algorithm, rand, auts) is None:
        yield Wrong("auts does not fit the key that made the challenge: its MAC-S is wrong", record, challenge.response)


@on_sip("AKA-15", "33.102 6.3.3", role=Role.UE, basis=Basis.UNREAD, hop=Hop.GM, method="REGISTER", request=True)
def mac_comes_before_the_sequence_number(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A challenge whose MAC is wrong is no reason for auts, whatever its sequence number is."""
    found = _unpacked(record, trace)
    given = credentials(record.message)
    impi = "" if given is None else param(given, "username") or ""
    if found is None or impi not in trace.derived(_proven):
        return
    challenge, algorithm, rand, autn, _ = found
    if sqn_of(algorithm, rand + autn) is None:
        text = "auts for a challenge whose MAC is wrong: expected a report without auts"
        yield Wrong(text, record, challenge.response)


def _proven(trace: Trace) -> set[str]:
    """Users whose key is known and right: a challenge and its answer both fit it."""
    return {
        each.impi for each in trace.registrations if each.autn is Autn.OK and each.response is Response.OK and each.impi
    }


@on_registration("AKA-11", "24.229 5.1.1.5.12", role=Role.UE, basis=Basis.SECOND_HAND)
def bad_challenges_end_the_attempt(registration: Registration, trace: Trace) -> Iterator[Wrong]:
    """The UE reacts to at most two bad challenges in a row."""
    row: list[SipRecord] = []
    for record in registration.requests:
        if record.hop is not Hop.GM or gm_of(trace).answers(record) is None:
            continue
        if reaction(record) is Reaction.ANSWER:
            row.clear()
            continue
        row.append(record)
        if len(row) == BAD_CHALLENGES + 1:
            yield Wrong(
                f"failure reported {len(row)} times in a row: expected the UE to stop after two", record, *row[:-1]
            )


@on_sip("AKA-16", "33.203 6.1.1", role=Role.UE, hop=Hop.GM, method="REGISTER", request=True)
def replayed_challenge_is_refused(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A challenge that was answered before is not answered again: its sequence number is used."""
    found = _reacts(record, trace)
    if found is None or reaction(record) is not Reaction.ANSWER or not is_aka(found[0].params):
        return
    first = trace.derived(_first_answers).get((record.src.host, found[0].nonce))
    if first is not None and first.response is not found[0].response and first.answer is not None:
        yield Wrong("the same RAND and AUTN are answered a second time", record, found[0].response, first.answer)


def _first_answers(trace: Trace) -> dict[tuple[str, str], Challenge]:
    """The first challenge with a nonce that each UE answered."""
    found: dict[tuple[str, str], Challenge] = {}
    for each in gm_of(trace).challenges:
        if each.answer is not None and reaction(each.answer) is Reaction.ANSWER:
            found.setdefault((each.request.src.host, each.nonce), each)
    return found


@on_sip("AKA-19", "RFC 3310 3.2", role=Role.UE, basis=Basis.UNREAD, hop=Hop.GM, method="REGISTER", request=True)
def broken_nonce_is_not_answered(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A nonce that is no RAND and AUTN is not answered."""
    found = _reacts(record, trace)
    if found is None or reaction(record) is not Reaction.ANSWER or not is_aka(found[0].params):
        return
    try:
        split_nonce(found[0].nonce)
    except PeerError as error:
        yield Wrong(f"an answer to a broken challenge ({error.reason})", record, found[0].response)


@on_sip("AKA-27", "24.229 5.1.1.5.1", role=Role.UE, hop=Hop.GM, method="REGISTER", request=True)
def no_agreement_no_answer(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A 401 without Security-Server ends the attempt: it is not answered, and the next one has another Call-ID."""
    yield from _answers_without_agreement(record, trace, missing=True)
    if record.sender is not Role.UE or reaction(record) is not None or trace.is_retransmission(record):
        return
    ended = trace.derived(_without_agreement).get(record.message.get("Call-ID") or "", ())
    last = next((each for each in reversed(ended) if order(each.response) < order(record)), None)
    if last is not None and last.request.src.host == record.src.host:
        told = "a new attempt under the Call-ID of the one that a 401 without Security-Server has ended"
        yield Wrong(f"{told}: expected another", record, last.response)


def _without_agreement(trace: Trace) -> dict[str, list[Challenge]]:
    """Challenges without Security-Server, where one was offered, by Call-ID."""
    found: dict[str, list[Challenge]] = {}
    for each in gm_of(trace).challenges:
        if mechanisms(each.request.message, "Security-Client") and not mechanisms(
            each.response.message, "Security-Server"
        ):
            found.setdefault(each.response.message.get("Call-ID") or "", []).append(each)
    return found


@on_sip("AKA-28", "24.229 5.1.1.5.1", role=Role.UE, hop=Hop.GM, method="REGISTER", request=True)
def incomplete_agreement_no_answer(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A 401 whose Security-Server lacks a parameter ends the attempt: it is not answered."""
    yield from _answers_without_agreement(record, trace, missing=False)


def _answers_without_agreement(record: SipRecord, trace: Trace, *, missing: bool) -> Iterator[Wrong]:
    found = _reacts(record, trace)
    if found is None or reaction(record) is not Reaction.ANSWER:
        return
    challenge = found[0]
    offered = mechanisms(challenge.request.message, "Security-Client")
    listed = sides_in(challenge.response.message, "Security-Server")
    if not offered or bool(listed) is missing:
        return
    if missing:
        yield Wrong("an answer to a challenge without Security-Server", record, challenge.response)
    elif all(0 in each[:4] or not each.alg for each in listed):
        yield Wrong("an answer to a challenge whose Security-Server is incomplete", record, challenge.response)
