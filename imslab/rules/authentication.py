"""Rules about the S-CSCF as authenticator: the challenge, the vectors behind it, and what it takes for an answer.

33.203 6.1: each vector is used once and in order; an answer counts only if it is right, protected, in time, and to the
challenge that is running. A verdict on an answer needs the challenge in the trace, and everything between the two.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator

from imslab.aka.digest import parse_auts, split_nonce
from imslab.core.errors import PeerError
from imslab.diameter.cx import MAR, SAR
from imslab.rules.attempts import Attempt, attempts_of
from imslab.rules.clauses import Basis, Level, Wrong, on_diameter, on_sip
from imslab.rules.exchanges import Exchange, exchanges_of, sqn_of
from imslab.rules.reading import challenge, is_aka, is_emergency, order, param, quiet, shown
from imslab.rules.registrar import told_before
from imslab.sip.fields.digest import DigestChallenge
from imslab.trace.model import DiameterRecord, Hop, Role, SipRecord
from imslab.trace.registration import Response, check_response
from imslab.trace.trace import Trace

#: 24.229 7.8: reg-await-auth, seconds; and how late an answer must be before we say so.
REG_AWAIT_AUTH = 240.0
SLACK = 2.0
#: How long after a challenge an answer under another Call-ID is surely none to another one, seconds.
SOON = 32.0
#: 24.229 5.4.1.2.3A: how many challenges in a row a UE may get: the first, and two fresh ones.
CHALLENGES_IN_A_ROW = 3

_KEY = re.compile(r"[0-9A-Fa-f]{32}")


def _challenged(record: SipRecord, trace: Trace) -> tuple[Attempt, DigestChallenge, bytes, bytes] | None:
    """A 401 with an AKA challenge as it left the S-CSCF: the attempt, the challenge, RAND and AUTN."""
    attempt = attempts_of(trace).concluded(record)
    offered = challenge(record.message)
    if attempt is None or offered is None or not is_aka(offered):
        return None
    parts = quiet(lambda: split_nonce(param(offered, "nonce") or ""))
    return None if parts is None else (attempt, offered, parts[0], parts[1])


# --- the challenge ---------------------------------------------------------------------------------------------------


@on_sip("CHL-01", "33.203 6.1.1", role=Role.SCSCF, hop=Hop.MW, method="REGISTER", status=401)
def challenge_is_whole(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The 401 of IMS AKA has realm, nonce, algorithm AKAv1-MD5, ik and ck."""
    attempt = attempts_of(trace).concluded(record)
    if attempt is None:
        return
    marked = next((each for each in attempt.flags if each in ("yes", "no")), "")
    offered = next(iter(record.message.www_authenticate), None)
    offered = challenge(record.message) or offered
    if offered is None:
        if marked:
            yield Wrong("401 without a Digest challenge", record)
        return
    algorithm = param(offered, "algorithm") or ""
    if not is_aka(offered):
        if marked:
            yield Wrong(
                f"challenge with algorithm {shown(algorithm or 'MD5')}: expected AKAv1-MD5, since the REGISTER is "
                f"marked integrity-protected={marked}",
                record,
                attempt.request,
            )
        return
    first = algorithm.lower().startswith("akav1")
    missing = [name for name in ("realm", "nonce", *(("ck", "ik") if first else ())) if not offered.has(name)]
    if missing:
        yield Wrong(f"challenge lacks {', '.join(missing)}", record)
    if "tls-connected" in attempt.flags and (offered.has("ck") or offered.has("ik")):
        yield Wrong("challenge over TLS carries ck or ik (33.203 X.2: none)", record, attempt.request)


@on_sip("CHL-02", "29.229 6.3.10; RFC 3310 3.2", role=Role.SCSCF, hop=Hop.MW, method="REGISTER", status=401)
def nonce_is_the_vector(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The nonce is base64 of RAND and AUTN, as the MAA has them."""
    attempt = attempts_of(trace).concluded(record)
    offered = challenge(record.message)
    if attempt is None or offered is None or not is_aka(offered) or not offered.has("nonce"):
        return
    try:
        rand, autn, _ = split_nonce(param(offered, "nonce") or "")
    except PeerError as error:
        yield Wrong(shown(error.reason), record)
        return
    exchanges = exchanges_of(trace)
    known = exchanges.vectors.get(rand, [])
    if known:
        if all(each.authenticate[16:] != autn for each in known):
            answer = known[0].exchange.answer
            assert answer is not None
            yield Wrong("nonce has the RAND of an MAA and another AUTN", record, answer)
        return
    asked = exchanges.during(MAR, attempt.impi or attempt.impu, attempt.request, record)
    for each in reversed(asked):
        if each.succeeded and each.answer is not None and exchanges.sequence_numbers(each):
            yield Wrong("nonce has a RAND that is not in the MAA just received", record, each.answer)
            return


@on_sip("CHL-03", "24.229 7.2A.1", role=Role.SCSCF, basis=Basis.SECOND_HAND, hop=Hop.MW, method="REGISTER", status=401)
def keys_are_those_of_the_vector(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """ck and ik are 32 hex digits each, and those of the MAA."""
    found = _challenged(record, trace)
    if found is None:
        return
    _, offered, rand, _ = found
    vectors = exchanges_of(trace).vectors.get(rand, [])
    for name in ("ck", "ik"):
        text = param(offered, name)
        if text is None:
            continue
        if _KEY.fullmatch(text) is None:
            shape = f"of {len(text)} characters" if len(text) != 32 else "that is no hex"
            yield Wrong(f"{name} {shape}: expected 32 hex digits", record)
            continue
        keys = [each.ck if name == "ck" else each.ik for each in vectors]
        if keys and None not in keys and bytes.fromhex(text) not in keys:
            other = [each.ik if name == "ck" else each.ck for each in vectors]
            swapped = f": it is the {'IK' if name == 'ck' else 'CK'}" if bytes.fromhex(text) in other else ""
            answer = vectors[0].exchange.answer
            assert answer is not None
            yield Wrong(f"{name} is not the {name.upper()} of the MAA{swapped}", record, answer)


@on_sip("CHL-04", "33.203 6.1.1", role=Role.SCSCF, hop=Hop.MW, method="REGISTER", status=401)
def vector_is_fresh(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """No vector is handed out twice: each challenge has a RAND of its own and a higher SQN."""
    found = _challenged(record, trace)
    if found is None:
        return
    attempt, _, rand, autn = found
    exchanges, attempts = exchanges_of(trace), attempts_of(trace)
    first = trace.derived(_first_challenges).get(rand)
    if first is not None and first is not attempt and first.final is not None:
        again = (first.call_id, first.cseq) == (attempt.call_id, attempt.cseq)  # sent again, only by another way
        if not again and len(exchanges.vectors.get(rand, ())) < 2:  # else the HSS gave it twice
            yield Wrong(
                f"challenge with the RAND of an earlier one, {rand.hex()}, {record.time - first.final.time:.3f} s ago",
                record,
                first.final,
            )
        return
    algorithm = trace.keys.algorithm(attempt.impi)
    before = trace.derived(_challenge_before).get(attempt)
    if algorithm is None or before is None or before.final is None or attempt.auts:
        return
    earlier = quiet(lambda: split_nonce(before.told))
    if earlier is None or (rand in exchanges.vectors and earlier[0] in exchanges.vectors):
        return  # the HSS is asked about what its MAAs show
    if any(each.auts for each in attempts.before(attempt.impi, record) if order(each.request) > order(before.request)):
        return
    sqn, last = sqn_of(algorithm, rand + autn), sqn_of(algorithm, earlier[0] + earlier[1])
    if sqn is not None and last is not None and sqn <= last:
        yield Wrong(
            f"challenge with SQN {sqn:012x}: the one before had {last:012x}",
            record,
            before.final,
            role=Role.UNKNOWN,
        )


def _first_challenges(trace: Trace) -> dict[bytes, Attempt]:
    """Each RAND that was sent to a UE, and the attempt that was challenged with it first."""
    found: dict[bytes, Attempt] = {}
    for attempt in attempts_of(trace).all:
        parts = quiet(lambda told=attempt.told: split_nonce(told)) if attempt.told else None  # type: ignore[misc]
        if parts is not None:
            found.setdefault(parts[0], attempt)
    return found


def _challenge_before(trace: Trace) -> dict[Attempt, Attempt]:
    """For each attempt that was challenged, the last attempt of its IMPI that was challenged before."""
    found: dict[Attempt, Attempt] = {}
    last: dict[str, Attempt] = {}
    for attempt in attempts_of(trace).all:
        if attempt.told and attempt.impi:
            if attempt.impi in last:
                found[attempt] = last[attempt.impi]
            last[attempt.impi] = attempt
    return found


@on_sip("CHL-05", "33.203 6.1.1; 29.228 6.3", role=Role.SCSCF, hop=Hop.MW, method="REGISTER", status=401)
def vectors_are_used_in_order(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """Of several vectors of an MAA, the one with the lowest SIP-Item-Number is used first."""
    found = _challenged(record, trace)
    if found is None:
        return
    attempt, _, rand, _ = found
    vectors = exchanges_of(trace).vectors.get(rand, [])
    if len(vectors) != 1:
        return
    vector = vectors[0]
    used = trace.derived(_items_used).get(vector.exchange, [])
    later = next((each for place, each in used if place > vector.place and _is_before(each, attempt)), None)
    answer = vector.exchange.answer
    if later is not None and later.final is not None and answer is not None:
        yield Wrong(f"challenge with item {vector.place + 1} of an MAA after a later one", record, later.final, answer)
    elif vector.place and answer is not None and used and used[0][1] is attempt:
        asked = exchanges_of(trace).during(MAR, attempt.impi, attempt.request, record)
        if asked and asked[-1] is vector.exchange:
            yield Wrong(f"challenge with item {vector.place + 1} of the MAA just received: expected 1", record, answer)


def _items_used(trace: Trace) -> dict[Exchange, list[tuple[int, Attempt]]]:
    """For each MAA the places of the items that became challenges, in the order of these."""
    found: dict[Exchange, list[tuple[int, Attempt]]] = {}
    vectors = exchanges_of(trace).vectors
    for rand, attempt in trace.derived(_first_challenges).items():
        if len(vectors.get(rand, ())) == 1:
            vector = vectors[rand][0]
            found.setdefault(vector.exchange, []).append((vector.place, attempt))
    return found


def _is_before(one: Attempt, other: Attempt) -> bool:
    return one.final is not None and other.final is not None and order(one.final) < order(other.final)


@on_sip("AKS-10", "33.203 6.1.3", role=Role.SCSCF, hop=Hop.MW, method="REGISTER", status=401)
def resynchronisation_drops_old_vectors(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """After a resynchronisation no vector of an older MAA is used."""
    found = _challenged(record, trace)
    if found is None:
        return
    attempt, _, rand, _ = found
    vectors = exchanges_of(trace).vectors.get(rand, [])
    if not vectors:
        return
    newest = vectors[-1].exchange
    resyncs = trace.derived(_resyncs).get(attempt.impi, [])
    place = bisect_left(resyncs, order(record), key=lambda each: order(each.done))
    resync = resyncs[place - 1] if place else None
    if resync is not None and order(newest.done) < order(resync.request) and newest.answer is not None:
        yield Wrong("challenge with a vector from before the resynchronisation", record, newest.answer, resync.done)


def _resyncs(trace: Trace) -> dict[str, list[Exchange]]:
    """The successful resynchronisations of each IMPI, in the order of their answers."""
    found: dict[str, list[Exchange]] = {}
    for each in sorted(exchanges_of(trace).all, key=lambda each: order(each.done)):
        if each.succeeded and _authorization(each):
            found.setdefault(each.impi, []).append(each)
    return found


def _authorization(exchange: Exchange) -> bytes | None:
    """SIP-Authorization of an MAR; None without."""
    item = None if exchange.mar is None else exchange.mar.item
    return None if item is None else item.authorization


@on_sip(
    "AKS-18",
    "24.229 5.4.1.2.3A",
    role=Role.SCSCF,
    level=Level.WARNING,
    basis=Basis.SECOND_HAND,
    hop=Hop.MW,
    method="REGISTER",
    status=401,
)
def challenges_have_an_end(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A UE that keeps failing is challenged again twice, and then refused."""
    attempts = attempts_of(trace)
    attempt = attempts.concluded(record)
    chain = 0
    while attempt is not None and attempt.told and chain <= CHALLENGES_IN_A_ROW + 8:
        chain += 1
        if attempts.accepted_before(attempt.nonce, attempt.request) is not None:
            break  # a refresh repeats the credentials of its last success: no failure goes before it
        if attempt.answers and attempt.flags == ["no"]:
            break  # 33.203 6.1.5: it counts as no answer, right or wrong, but as a new beginning
        attempt = attempts.challenge_before(attempt)
    if chain > CHALLENGES_IN_A_ROW:
        yield Wrong(f"challenge number {chain} in a row: expected a refusal after {CHALLENGES_IN_A_ROW}", record)


# --- what counts as an answer ----------------------------------------------------------------------------------------


def _accepted(record: SipRecord, trace: Trace) -> Attempt | None:
    """The attempt that a 2xx has accepted, if it had the response to a challenge."""
    attempt = attempts_of(trace).concluded(record)
    return attempt if attempt is not None and attempt.accepted and attempt.answers else None


def _proof(attempt: Attempt, trace: Trace) -> Response:
    """Whether the response of an attempt is right; UNKNOWN_KEY unless the trace or a proven K gives the RES."""
    given = attempt.given
    parts = quiet(lambda: split_nonce(attempt.nonce))
    if given is None or parts is None:
        return Response.UNKNOWN_KEY
    algorithm = trace.keys.algorithm(attempt.impi)
    proven = algorithm is not None and sqn_of(algorithm, parts[0] + parts[1]) is not None
    if not proven and not any(each.xres for each in exchanges_of(trace).vectors.get(parts[0], ())):
        return Response.UNKNOWN_KEY
    return check_response(trace, attempt.request.message, attempt.impi)


@on_sip(
    "AKS-02",
    "33.203 6.1.2.1; 24.229 5.4.1.2.3A (unconfirmed)",
    role=Role.SCSCF,
    hop=Hop.MW,
    method="REGISTER",
    request=False,
)
def wrong_response_is_refused(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A wrong response gets 403, never 200."""
    attempts = attempts_of(trace)
    attempt = attempts.concluded(record)
    if attempt is None or not attempt.answers or not (attempt.accepted or attempt.status == 401):
        return
    first = attempts.answered_by(attempt)
    if first is None or first.final is None or _proof(attempt, trace) is not Response.MISMATCH:
        return
    if attempt.accepted:
        yield Wrong(f"{attempt.status} to a REGISTER with a wrong response", record, attempt.request, first.final)
    else:
        yield Wrong("401 to a REGISTER with a wrong response: expected 403", record, attempt.request, level=Level.NOTE)


@on_sip("AKS-01", "33.203 6.1.1; 24.229 5.4.1.2.2", role=Role.SCSCF, hop=Hop.MW, method="REGISTER", request=False)
def right_response_is_accepted(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A right response that is protected and in time ends the authentication: SAR, then 200."""
    yield from told_before(record, trace)
    attempts = attempts_of(trace)
    attempt = attempts.concluded(record)
    if attempt is None or not attempt.answers or attempt.flags != ["yes"] or attempt.status not in (401, 403):
        return
    first = attempts.answered_by(attempt)
    if first is None or first.final is None or attempt.request.time - first.final.time > REG_AWAIT_AUTH - SLACK:
        return
    # another challenge of the same user ends this one (33.203 6.1.2.3)
    last = trace.derived(_challenge_before).get(attempt) if attempt.told else None
    newer = attempts.before(attempt.impi, attempt.request)
    if any(each.told and each is not first and order(each.request) > order(first.request) for each in newer):
        return
    if attempt.status == 403:
        exchanges = exchanges_of(trace)
        if not exchanges.touched(MAR, attempt.impi) or exchanges.during(SAR, attempt.impi, attempt.request, record):
            return  # it may have been refused for another reason
    if (last is None or last is first) and _proof(attempt, trace) is Response.OK and _same_algorithm(attempt, first):
        yield Wrong(
            f"{attempt.status} to a REGISTER whose response is right and marked protected",
            record,
            attempt.request,
            first.final,
        )


def _same_algorithm(attempt: Attempt, first: Attempt) -> bool:
    offered = None if first.final is None else challenge(first.final.message)
    if offered is None or attempt.given is None:
        return False
    return (param(offered, "algorithm") or "").lower() == (param(attempt.given, "algorithm") or "").lower()


@on_sip(
    "AKS-03",
    "24.229 5.4.1.2.2",
    role=Role.SCSCF,
    basis=Basis.SECOND_HAND,
    hop=Hop.MW,
    method="REGISTER",
    status=range(200, 300),
)
def answer_has_the_call_id(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The answer to a challenge comes under the Call-ID that was challenged."""
    attempt = _accepted(record, trace)
    if attempt is None:
        return
    attempts = attempts_of(trace)
    first = attempts.challenge_before(attempt)
    if first is None or first.final is None or attempts.accepted_before(attempt.nonce, attempt.request) is not None:
        return
    if first.call_id != attempt.call_id and attempt.request.time - first.final.time < SOON:
        yield Wrong(
            f"{attempt.status} to an answer under Call-ID {shown(attempt.call_id)}: {shown(first.call_id)} was "
            "challenged",
            record,
            attempt.request,
            first.final,
        )


@on_sip(
    "AKS-04",
    "24.229 5.4.1.2.2",
    role=Role.SCSCF,
    basis=Basis.SECOND_HAND,
    hop=Hop.MW,
    method="REGISTER",
    status=range(200, 300),
)
def answer_is_of_the_same_user(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The answer to a challenge names the IMPI that was challenged."""
    attempt = _accepted(record, trace)
    first = None if attempt is None else attempts_of(trace).challenge_before(attempt)
    if attempt is None or first is None or first.final is None or not first.impi or not attempt.impi:
        return
    if first.impi != attempt.impi:
        yield Wrong(
            f"{attempt.status} to an answer of {shown(attempt.impi)}: {shown(first.impi)} was challenged",
            record,
            attempt.request,
            first.final,
        )


@on_sip(
    "AKS-05",
    "24.229 5.4.1.2.2",
    role=Role.SCSCF,
    basis=Basis.SECOND_HAND,
    hop=Hop.MW,
    method="REGISTER",
    status=range(200, 300),
)
def answer_has_the_algorithm(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """The answer to a challenge names the algorithm of the challenge."""
    attempt = _accepted(record, trace)
    first = None if attempt is None else attempts_of(trace).answered_by(attempt)
    if attempt is None or first is None or first.final is None or attempt.given is None:
        return
    offered = challenge(first.final.message)
    if offered is not None and is_aka(offered) and not _same_algorithm(attempt, first):
        algorithm = param(attempt.given, "algorithm")
        told = f"algorithm {shown(algorithm)}" if algorithm else "no algorithm"
        yield Wrong(
            f"{attempt.status} to an answer with {told}: the challenge had {shown(param(offered, 'algorithm') or '')}",
            record,
            attempt.request,
            first.final,
        )


@on_sip("AKS-06", "33.203 6.1.2.3", role=Role.SCSCF, hop=Hop.MW, method="REGISTER", status=range(200, 300))
def only_the_last_challenge_counts(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A new challenge ends the one before: its nonce is good for nothing any more."""
    attempt = _accepted(record, trace)
    first = None if attempt is None else attempts_of(trace).answered_by(attempt)
    if attempt is None or first is None or first.final is None:
        return
    for each in attempts_of(trace).before(attempt.impi, attempt.request):
        newer = each.final
        if newer is None or not each.told or each.told == attempt.nonce or each.impi != attempt.impi:
            continue
        if is_emergency(each.request.message) is not is_emergency(attempt.request.message):
            continue  # 33.203 6.1.0: a registration of its own
        if order(first.final) < order(newer) < order(attempt.request):
            yield Wrong(
                f"{attempt.status} to the answer to a challenge that a newer one had replaced",
                record,
                attempt.request,
                first.final,
                newer,
            )
            return


@on_sip(
    "AKS-13",
    "33.203 6.1.2.3; 24.229 7.8 (unconfirmed)",
    role=Role.SCSCF,
    hop=Hop.MW,
    method="REGISTER",
    status=range(200, 300),
)
def late_answer_is_none(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """An answer that comes more than four minutes after its challenge is not accepted."""
    attempt = _accepted(record, trace)
    first = None if attempt is None else attempts_of(trace).answered_by(attempt)
    if attempt is None or first is None or first.final is None:
        return
    late = attempt.request.time - first.final.time
    if late > REG_AWAIT_AUTH + SLACK:
        yield Wrong(
            f"{attempt.status} to an answer {late:.0f} s after its challenge: expected at most {REG_AWAIT_AUTH:.0f} s",
            record,
            attempt.request,
            first.final,
        )


def _unprotected(record: SipRecord, trace: Trace) -> Attempt | None:
    """The attempt that a 2xx has accepted though it was marked as unprotected."""
    attempt = attempts_of(trace).concluded(record)
    if attempt is None or not attempt.accepted or attempt.flags != ["no"] or is_emergency(attempt.request.message):
        return None
    return attempt


@on_sip(
    "AKS-17", "33.203 6.1.5; 24.229 5.4.1.2.2", role=Role.SCSCF, hop=Hop.MW, method="REGISTER", status=range(200, 300)
)
def unprotected_answer_is_none(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A response that came unprotected is not accepted, however right it is."""
    attempt = _unprotected(record, trace)
    if attempt is not None and not attempt.leaving and attempt.response:
        yield Wrong(
            f"{attempt.status} to a REGISTER with a response and integrity-protected=no: expected a challenge",
            record,
            attempt.request,
        )


@on_sip(
    "CHL-06",
    "33.203 6.1.1; 24.229 5.4.1.2.1 (unconfirmed)",
    role=Role.SCSCF,
    hop=Hop.MW,
    method="REGISTER",
    status=range(200, 300),
)
def unprotected_register_is_challenged(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A REGISTER that came in clear is always challenged."""
    attempt = _unprotected(record, trace)
    if attempt is not None and not attempt.leaving and not attempt.response:
        yield Wrong(
            f"{attempt.status} to a REGISTER with integrity-protected=no: expected a challenge", record, attempt.request
        )


@on_sip(
    "DER-05",
    "33.203 6.1.5; 24.229 5.4.1.4 (unconfirmed)",
    role=Role.SCSCF,
    hop=Hop.MW,
    method="REGISTER",
    status=range(200, 300),
)
def unprotected_deregistration_is_challenged(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A de-registration that came in clear is challenged, and the binding stays."""
    attempt = _unprotected(record, trace)
    if attempt is not None and attempt.leaving:
        yield Wrong(
            f"{attempt.status} to a de-registration with integrity-protected=no: expected a challenge",
            record,
            attempt.request,
        )


@on_sip(
    "CHL-07",
    "33.203 P.4.2; 24.229 5.4.1.1 (unconfirmed)",
    role=Role.SCSCF,
    hop=Hop.MW,
    method="REGISTER",
    status=range(200, 300),
)
def unmarked_register_is_not_protected(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A REGISTER without integrity-protected is not one of IMS AKA: its answer is never taken for a protected one."""
    attempt = _accepted(record, trace)
    if attempt is None or attempt.flags or not attempt.is_aka:
        return
    yield Wrong(f"{attempt.status} to an AKA answer that is not marked integrity-protected", record, attempt.request)


@on_sip(
    "AKS-12",
    "33.203 6.1.2.2; 24.229 5.4.1.2.3A (unconfirmed)",
    role=Role.SCSCF,
    hop=Hop.MW,
    method="REGISTER",
    request=False,
)
def failure_report_is_no_answer(record: SipRecord, trace: Trace) -> Iterator[Wrong]:
    """A UE that reports a wrong MAC gets 403 without security parameters, or a fresh 401; never 200."""
    attempts = attempts_of(trace)
    attempt = attempts.concluded(record)
    if attempt is None or not attempt.nonce or attempt.response or attempt.auts:
        return
    first = attempts.answered_by(attempt)
    if first is None or first.final is None:
        return
    if attempt.accepted:
        yield Wrong(f"{attempt.status} to a report of a wrong MAC", record, attempt.request, first.final)
    elif attempt.status != 401 and record.message.has("WWW-Authenticate"):
        yield Wrong(
            f"{attempt.status} to a report of a wrong MAC carries WWW-Authenticate: expected no security parameters",
            record,
            attempt.request,
        )


# --- resynchronisation -----------------------------------------------------------------------------------------------


def _resync_behind(record: DiameterRecord, trace: Trace) -> tuple[Exchange, Attempt] | None:
    """An MAR, and the REGISTER with auts that it was sent for; None where that is not sure."""
    exchange = exchanges_of(trace).of(record)
    if exchange is None or exchange.mar is None:
        return None
    pending = attempts_of(trace).pending(exchange.impi, record)
    if len(pending) != 1 or not pending[0].auts or not pending[0].nonce:
        return None
    earlier = exchanges_of(trace).during(MAR, exchange.impi, pending[0].request, record)
    return None if earlier else (exchange, pending[0])


@on_diameter("AKS-08", "29.229 6.3.11; 29.228 6.3", role=Role.SCSCF, name="MAR")
def auts_goes_to_the_hss(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """The MAR for a REGISTER with auts has SIP-Authorization: RAND and AUTS, 30 octets."""
    exchange = exchanges_of(trace).of(record)
    given = None if exchange is None else _authorization(exchange)
    if given is not None and len(given) != 30:
        yield Wrong(f"SIP-Authorization of {len(given)} octets: expected RAND and AUTS, 30", record)
        return
    found = _resync_behind(record, trace)
    if found is None:
        return
    _, attempt = found
    auts = quiet(lambda: parse_auts(attempt.auts))
    parts = quiet(lambda: split_nonce(attempt.nonce))
    # an AUTS for a challenge that the S-CSCF does not know any more is none
    first = attempts_of(trace).answered_by(attempt)
    if auts is None or parts is None or first is None:
        return
    if given is None:
        yield Wrong("MAR without SIP-Authorization: the REGISTER has auts", record, attempt.request)
    elif given[:16] != parts[0]:
        yield Wrong("SIP-Authorization does not begin with the RAND of the challenge", record, attempt.request)
    elif given[16:] != auts:
        yield Wrong("SIP-Authorization does not end with the AUTS of the REGISTER", record, attempt.request)


@on_diameter("AKS-11", "24.229 5.4.1.2.3A", role=Role.SCSCF, level=Level.WARNING, basis=Basis.UNREAD, name="MAR")
def broken_auts_is_kept_from_the_hss(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """An auts that is not base64 of 14 octets makes no MAR with SIP-Authorization."""
    found = _resync_behind(record, trace)
    if found is None or _authorization(found[0]) is None:
        return
    attempt = found[1]
    if quiet(lambda: parse_auts(attempt.auts)) is None:
        yield Wrong(f'MAR with SIP-Authorization for auts="{shown(attempt.auts)}"', record, attempt.request)
