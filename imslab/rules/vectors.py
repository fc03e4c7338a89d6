"""Rules about the HSS as authentication centre: the vectors of an MAA, their sequence numbers, resynchronisation.

SQNs are seen where the subscriber's key is known and proves to be the right one: its MAC is in the AUTN. XRES, CK and
IK are never shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from imslab.aka.algorithm import AkaAlgorithm
from imslab.aka.sqn import split_sqn
from imslab.aka.vector import open_auts
from imslab.diameter.cx import SCHEME_AKA, SCHEME_DIGEST, SCHEME_UNKNOWN, AuthDataItem
from imslab.rules.clauses import Basis, Level, Wrong, on_diameter
from imslab.rules.cx import answered, resync_of, stored_server
from imslab.rules.exchanges import Exchange, KnownVector, exchanges_of
from imslab.rules.reading import order, shown
from imslab.trace.model import DiameterRecord, Role
from imslab.trace.trace import Trace

#: Schemes that an MAR may ask for (29.229 6.3.9); what else there is gets 5006.
SCHEMES = (SCHEME_AKA, SCHEME_DIGEST, SCHEME_UNKNOWN, "NASS-Bundled", "Early-IMS-Security")
#: How far SEQ moves between two vectors at most, for who wonders whether it followed an AUTS.
NEAR = 1 << 12


def _vectors(record: DiameterRecord, trace: Trace) -> Exchange | None:
    """A successful MAA to a question for AKA vectors."""
    exchange = answered(record, trace)
    if exchange is None or exchange.mar is None or exchange.maa is None or not exchange.succeeded:
        return None
    item = exchange.mar.item
    return exchange if item is not None and item.scheme == SCHEME_AKA else None


@on_diameter("HSS-10", "29.228 6.3; 29.229 6.3.10, 6.3.11, 6.3.27, 6.3.28", role=Role.HSS, name="MAA")
def vectors_are_whole(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """A vector has SIP-Authenticate 32, SIP-Authorization 4 to 16, CK 16 and IK 16 octets, and the scheme asked for."""
    exchange = _vectors(record, trace)
    if exchange is None or exchange.maa is None:
        return
    maa = exchange.maa
    missing = [
        name
        for name, value in (
            ("User-Name", maa.user_name),
            ("Public-Identity", maa.public_identity),
            ("SIP-Number-Auth-Items", maa.number_items),
        )
        if value is None
    ]
    if missing:
        yield Wrong(f"MAA lacks {', '.join(missing)}", record)
    if not maa.items:
        yield Wrong("MAA with success and no SIP-Auth-Data-Item", record)
    for number, item in enumerate(maa.items, 1):
        for complaint in _complaints(item):
            yield Wrong(f"item {number}: {complaint}", record)


def _complaints(item: AuthDataItem) -> Iterator[str]:
    if item.scheme != SCHEME_AKA:
        yield f"scheme {shown(item.scheme or '-')}: expected {SCHEME_AKA}"
        return
    for name, value, least, most in (
        ("SIP-Authenticate", item.authenticate, 32, 32),
        ("SIP-Authorization", item.authorization, 4, 16),
        ("Confidentiality-Key", item.ck, 16, 16),
        ("Integrity-Key", item.ik, 16, 16),
    ):
        if value is None:
            yield f"{name} is missing"
        elif not least <= len(value) <= most:
            expected = str(least) if least == most else f"{least} to {most}"
            yield f"{name} of {len(value)} octets: expected {expected}"


@on_diameter("HSS-11", "29.228 6.3.1; 29.229 6.3.8", role=Role.HSS, name="MAA")
def vectors_are_counted(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """At most as many vectors as were asked for, all counted; several are numbered, with rising SQN."""
    exchange = _vectors(record, trace)
    if exchange is None or exchange.maa is None or exchange.mar is None:
        return
    maa, wanted = exchange.maa, exchange.mar.number_items
    count = len(maa.items)
    if wanted is not None and count > wanted:
        yield Wrong(f"{count} vectors: {wanted} were asked for", record, exchange.request)
    if maa.number_items is not None and count and maa.number_items != count:
        yield Wrong(f"SIP-Number-Auth-Items is {maa.number_items}, there are {count} items", record)
    numbers = [item.number for item in maa.items]
    if count > 1 and (None in numbers or len(set(numbers)) < count):
        yield Wrong("several vectors without SIP-Item-Numbers of their own", record)
    sqns = [each.sqn for each in exchanges_of(trace).sequence_numbers(exchange)]
    for one, other in pairwise(sqns):
        if one is not None and other is not None and other <= one:
            yield Wrong(f"SQN {other:012x} after {one:012x} in one MAA: expected a higher one", record)


@on_diameter("HSS-12", "29.228 6.3.1; 29.229 6.2.2.6", role=Role.HSS, name="MAA")
def unsupported_scheme_is_refused(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """A scheme that there is not, and "Unknown" for a user of AKA, get experimental 5006."""
    exchange = answered(record, trace)
    if exchange is None or exchange.mar is None or exchange.maa is None or not exchange.succeeded:
        return
    item = exchange.mar.item
    scheme = None if item is None else item.scheme
    if scheme is None:
        return
    if scheme not in SCHEMES:
        yield Wrong(f"success for scheme {shown(scheme)}: expected experimental 5006", record, exchange.request)
    elif scheme == SCHEME_UNKNOWN and any(each.scheme == SCHEME_AKA for each in exchange.maa.items):
        yield Wrong("AKA vectors for scheme Unknown: expected experimental 5006", record, exchange.request)


@on_diameter("ALG-21", "35.208; 33.102 6.3", role=Role.HSS, basis=Basis.UNREAD, name="MAA")
def vectors_come_from_the_key(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """XRES, CK and IK of a vector are what the key makes of its RAND, where its AUTN is the key's."""
    exchange = _vectors(record, trace)
    algorithm = None if exchange is None else trace.keys.algorithm(exchange.impi)
    if exchange is None or algorithm is None:
        return
    for each in exchanges_of(trace).sequence_numbers(exchange):
        if each.sqn is None:
            continue
        res, ck, ik, _ = algorithm.f2345(each.authenticate[:16])
        wrong = [
            name
            for name, is_, should in (("XRES", each.xres, res), ("CK", each.ck, ck), ("IK", each.ik, ik))
            if is_ is not None and is_ != should
        ]
        if wrong:
            yield Wrong(f"item {each.place + 1}: {', '.join(wrong)} not of the key that made its AUTN", record)


@on_diameter("CHL-18", "33.102 Annex H", role=Role.HSS, level=Level.NOTE, basis=Basis.UNREAD, name="MAA")
def separation_bit_is_clear(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """The first bit of AMF is 0 in vectors for IMS, unless the operator wants it otherwise."""
    exchange = _vectors(record, trace)
    if exchange is None or exchange.maa is None or trace.derived(_first_separated).get(exchange.impi) is not record:
        return
    amf = next(item.authenticate[22:24] for item in exchange.maa.items if _is_separated(item) and item.authenticate)
    yield Wrong(f"AMF {amf.hex()} in a vector for IMS: its first bit is that of EPS vectors", record)


@on_diameter("CX-04", "33.102 6.3.5, Annex F", role=Role.HSS, level=Level.NOTE, basis=Basis.UNREAD, name="MAA")
def amf_survives_a_resynchronisation(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """The AMF of a subscriber is the same after a resynchronisation as before."""
    exchange = _vectors(record, trace)
    before = None if exchange is None or resync_of(exchange) is None else trace.derived(_amf_before).get(exchange)
    if exchange is None or before is None or before[0].answer is None:
        return
    amfs = _amfs(exchange)
    if amfs and before[1] not in amfs:
        yield Wrong(
            f"AMF {amfs[0].hex()} after a resynchronisation: it was {before[1].hex()}", record, before[0].answer
        )


def _amfs(exchange: Exchange) -> list[bytes]:
    """The AMF of each vector of an MAA: octets 22 and 23 of RAND ‖ AUTN."""
    items = () if exchange.maa is None else exchange.maa.items
    return [
        each.authenticate[22:24] for each in items if each.authenticate is not None and len(each.authenticate) == 32
    ]


def _amf_before(trace: Trace) -> dict[Exchange, tuple[Exchange, bytes]]:
    """For each MAA, the one before of the same IMPI and its last AMF."""
    found: dict[Exchange, tuple[Exchange, bytes]] = {}
    last: dict[str, tuple[Exchange, bytes]] = {}
    for exchange in exchanges_of(trace).all:
        amfs = _amfs(exchange) if exchange.succeeded else []
        if amfs:
            if exchange.impi in last:
                found[exchange] = last[exchange.impi]
            last[exchange.impi] = exchange, amfs[-1]
    return found


def _is_separated(item: AuthDataItem) -> bool:
    return item.authenticate is not None and len(item.authenticate) == 32 and bool(item.authenticate[22] & 0x80)


def _first_separated(trace: Trace) -> dict[str, DiameterRecord]:
    """Each IMPI that was given a vector with the separation bit, and the first such MAA: once is enough to be told."""
    found: dict[str, DiameterRecord] = {}
    for exchange in exchanges_of(trace).all:
        maa = exchange.maa
        if maa is not None and exchange.answer is not None and any(_is_separated(item) for item in maa.items):
            found.setdefault(exchange.impi, exchange.answer)
    return found


def _earlier(vector: KnownVector, trace: Trace) -> KnownVector | None:
    """The vector of the same RAND that came first, if that was another one."""
    first = exchanges_of(trace).vectors[vector.authenticate[:16]][0]
    return None if first.exchange is vector.exchange and first.place == vector.place else first


@on_diameter("CX-01", "33.102 6.3.2", role=Role.HSS, basis=Basis.UNREAD, name="MAA")
def rand_is_new(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """Each vector has a RAND of its own: with the same one, CK, IK and RES are the same too."""
    exchange = _vectors(record, trace)
    for vector in () if exchange is None else exchanges_of(trace).sequence_numbers(exchange):
        first = _earlier(vector, trace)
        if first is not None and first.authenticate != vector.authenticate and first.exchange.answer is not None:
            yield Wrong(
                f"RAND {vector.authenticate[:16].hex()} was in an earlier vector", record, first.exchange.answer
            )


@on_diameter("HSS-18", "33.102 6.3.2, C.1", role=Role.HSS, basis=Basis.UNREAD, name="MAA")
def sqn_is_new(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """No SQN is given twice, and the next one is higher."""
    exchange = _vectors(record, trace)
    if exchange is None:
        return
    exchanges = exchanges_of(trace)
    for vector in exchanges.sequence_numbers(exchange):
        twin = _earlier(vector, trace)
        if twin is not None and twin.authenticate == vector.authenticate and twin.exchange.answer is not None:
            yield Wrong("this vector was given before", record, twin.exchange.answer)
            return
        if vector.sqn is None:
            continue
        first = trace.derived(_sqns)[exchange.impi, vector.sqn]
        if first is not exchange and first.answer is not None:
            yield Wrong(f"SQN {vector.sqn:012x} was given before", record, first.answer)
            return
        before = trace.derived(_vector_before).get(exchange)
        # between the two there was neither a resynchronisation nor another question under way
        if before is None or before[0].answer is None or resync_of(exchange) or vector.place:
            continue
        if vector.sqn < before[1] and order(before[0].answer) < order(exchange.request):
            yield Wrong(
                f"SQN {vector.sqn:012x} after {before[1]:012x}: expected a higher one", record, before[0].answer
            )


def _sqns(trace: Trace) -> dict[tuple[str, int], Exchange]:
    """Each SQN of each IMPI, and where it was given first."""
    found: dict[tuple[str, int], Exchange] = {}
    for vectors in exchanges_of(trace).vectors.values():
        for vector in vectors:
            if vector.sqn is None:
                continue
            key = vector.exchange.impi, vector.sqn
            known = found.get(key)
            if known is None or order(vector.exchange.done) < order(known.done):
                found[key] = vector.exchange
    return found


def _vector_before(trace: Trace) -> dict[Exchange, tuple[Exchange, int]]:
    """For each exchange that brought vectors, the one before of the same IMPI, and its highest SQN."""
    found: dict[Exchange, tuple[Exchange, int]] = {}
    last: dict[str, tuple[Exchange, int]] = {}
    exchanges = exchanges_of(trace)
    for exchange in exchanges.all:
        if exchange.mar is None or not exchange.succeeded:
            continue
        sqns = [each.sqn for each in exchanges.sequence_numbers(exchange) if each.sqn is not None]
        if exchange.impi in last:
            found[exchange] = last[exchange.impi]
        if sqns:
            last[exchange.impi] = exchange, max(sqns)
        else:
            last.pop(exchange.impi, None)
    return found


@on_diameter("HSS-19", "33.102 C.3.1", role=Role.HSS, level=Level.NOTE, basis=Basis.SECOND_HAND, name="MAA")
def seq_moves_with_each_vector(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """With IND of 5 bits, SEQ is one higher in each vector, so that the card never has to refuse one."""
    exchange = _vectors(record, trace)
    before = None if exchange is None else trace.derived(_vector_before).get(exchange)
    if exchange is None or before is None or before[0].answer is None:
        return
    for vector in exchanges_of(trace).sequence_numbers(exchange)[:1]:
        if vector.sqn is None or vector.sqn <= before[1]:
            continue
        seq, last = split_sqn(vector.sqn)[0], split_sqn(before[1])[0]
        if seq == last:
            yield Wrong(
                f"SQN {vector.sqn:012x} after {before[1]:012x}: SEQ stays {seq} where IND has 5 bits",
                record,
                before[0].answer,
            )


# --- resynchronisation -----------------------------------------------------------------------------------------------


def _first_sqn(exchange: Exchange, trace: Trace) -> int | None:
    vectors = exchanges_of(trace).sequence_numbers(exchange)
    return vectors[0].sqn if vectors else None


def _resynchronised(record: DiameterRecord, trace: Trace) -> tuple[Exchange, AkaAlgorithm, bytes, int] | None:
    """An MAA to an AUTS of a user whose key is known: the exchange, RAND ‖ AUTS, and the SQN that came."""
    exchange = _vectors(record, trace)
    algorithm = None if exchange is None else trace.keys.algorithm(exchange.impi)
    given = None if exchange is None else resync_of(exchange)
    if exchange is None or algorithm is None or given is None:
        return None
    sqn = _first_sqn(exchange, trace)
    return None if sqn is None else (exchange, algorithm, given, sqn)


@on_diameter("HSS-14", "29.228 6.3.1; 33.102 6.3.5", role=Role.HSS, basis=Basis.SECOND_HAND, name="MAA")
def resynchronisation_helps(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """After a right AUTS the vector is one that the card accepts: its SEQ is above that of SQN_MS."""
    found = _resynchronised(record, trace)
    if found is None:
        return
    exchange, algorithm, given, sqn = found
    opened = open_auts(algorithm, given[:16], given[16:])
    if opened.mac_ok and split_sqn(sqn)[0] <= split_sqn(opened.sqn_ms)[0]:
        yield Wrong(f"SQN {sqn:012x} after an AUTS with SQN_MS {opened.sqn_ms:012x}", record, exchange.request)


@on_diameter("HSS-15", "33.102 6.3.5", role=Role.HSS, basis=Basis.UNREAD, name="MAA")
def forged_auts_moves_nothing(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """An AUTS whose MAC-S is wrong does not set the SQN."""
    found = _resynchronised(record, trace)
    before = None if found is None else trace.derived(_vector_before).get(found[0])
    if found is None or before is None or before[0].answer is None:
        return
    exchange, algorithm, given, sqn = found
    opened = open_auts(algorithm, given[:16], given[16:])
    if opened.mac_ok:
        return
    seq, forged, last = (split_sqn(each)[0] for each in (sqn, opened.sqn_ms, before[1]))
    if 0 <= seq - forged <= NEAR and not 0 <= seq - last <= NEAR:
        yield Wrong(
            f"SQN {sqn:012x} follows an AUTS whose MAC-S is wrong: the last one was {before[1]:012x}",
            record,
            exchange.request,
            before[0].answer,
        )


@on_diameter("HSS-16", "29.228 6.3.1, 8.1", role=Role.HSS, name="MAA")
def auts_of_a_stranger_is_refused(record: DiameterRecord, trace: Trace) -> Iterator[Wrong]:
    """An AUTS counts only from the S-CSCF whose name is stored; any other gets base 5012."""
    exchange = _vectors(record, trace)
    if exchange is None or exchange.mar is None or resync_of(exchange) is None or not exchange.impus:
        return
    stored = stored_server(exchange, trace)
    name = exchange.mar.server_name
    if stored is not None and name and stored[0] != name:
        yield Wrong(
            f"vectors for an AUTS from {shown(name)}: stored is {shown(stored[0])}, expected result 5012",
            record,
            exchange.request,
            stored[1],
        )
