"""What a rule is: one clause, applied to everything of any trace that it speaks about.

A rule is a function with a selector. The judge calls it for each record (or SA, or registration, or once for the
trace) that the selector names; it yields what is wrong, in words that show the octets, and the frames that prove it.

    @on_sip("CHL-10", "33.203 6.1.1", role=Role.PCSCF, hop=Hop.GM, status=401)
    def keys_stay_in_the_core(record, trace):
        \"\"\"The P-CSCF removes ck and ik before the challenge leaves for the UE.\"\"\"
        …
        yield Wrong(f"401 still carries {names}", record)

The id is the catalogue's where the catalogue has the case (docs/reference/rules.md lists all). `basis` says how well
the clause is known; a finding on a clause that nobody here has read says "(unconfirmed)". Where only the second of two
clauses is unread, the text of `clause` says so itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from imslab.core.errors import LocalError
from imslab.trace.model import DiameterRecord, Hop, Record, Role, SaView, SipRecord
from imslab.trace.registration import Registration
from imslab.trace.trace import Trace


class Level(StrEnum):
    """How bad a finding is: a must broken; a should, or robustness; worth knowing."""

    VIOLATION = "violation"
    WARNING = "warning"
    NOTE = "note"


class Basis(StrEnum):
    """How well a clause is known here."""

    READ = "read"
    SECOND_HAND = "second-hand"
    UNREAD = "unread"


@dataclass(frozen=True, slots=True)
class Wrong:
    """What a rule yields: a text, and the records that prove it (in the order in which they should be looked at).

    role: whose fault, when it is not the rule's own role. level: when it is not the rule's own level.
    """

    text: str
    records: tuple[Record, ...]
    role: Role | None = None
    level: Level | None = None

    def __init__(self, text: str, *records: Record, role: Role | None = None, level: Level | None = None) -> None:
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "records", records)
        object.__setattr__(self, "role", role)
        object.__setattr__(self, "level", level)


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule broken. records: frame numbers, the first is where to look (see `frames_of`)."""

    rule: str
    clause: str
    level: Level
    role: Role
    records: tuple[int, ...]
    text: str

    def as_json(self) -> dict[str, Any]:
        """The form of design and documentation (docs/reference/json.md)."""
        return {
            "rule": self.rule,
            "clause": self.clause,
            "level": str(self.level),
            "role": str(self.role),
            "records": list(self.records),
            "text": self.text,
        }


#: What the check is called with, besides the trace.
Subject = SipRecord | DiameterRecord | SaView | Registration | None
Kind = Literal["sip", "diameter", "sa", "registration", "trace"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One clause as a check. See the module's page; `title` is the first line of the function's docstring."""

    id: str
    clause: str
    role: Role
    level: Level
    basis: Basis
    title: str
    kind: Kind
    check: Callable[[Any, Trace], Iterable[Wrong]]
    hops: frozenset[Hop] | None = None
    methods: frozenset[str] | None = None
    statuses: frozenset[int] | None = None
    request: bool | None = None

    @property
    def printed_clause(self) -> str:
        """The clause as a finding prints it."""
        return self.clause if self.basis is Basis.READ else f"{self.clause} (unconfirmed)"

    def finding(self, wrong: Wrong) -> Finding:
        """What the check yielded, as a finding of this rule."""
        return Finding(
            self.id,
            self.printed_clause,
            wrong.level or self.level,
            wrong.role or self.role,
            frames_of(*wrong.records),
            wrong.text,
        )


def frames_of(first: Record | None = None, *others: Record) -> tuple[int, ...]:
    """The frames that prove a finding.

    Of the first record the frame that completes it, then those that show it at other capture points; of each further
    record the frame that completes it.
    """
    if first is None:
        return ()
    found = [*first.frames[-1:], *first.copies, *(frame for record in others for frame in record.frames[-1:])]
    return tuple(dict.fromkeys(found))


#: All rules by id, in the order in which they are declared.
RULES: dict[str, Rule] = {}

Check = Callable[[Any, Trace], Iterable[Wrong]]


def _declare(kind: Kind, id_: str, clause: str, role: Role, level: Level, basis: Basis, **selector: Any) -> Any:
    def register(check: Check) -> Check:
        if id_ in RULES:
            raise LocalError(f"rule {id_} is declared twice")
        title = (check.__doc__ or "").strip().splitlines()
        if not title:
            raise LocalError(f"rule {id_} needs a docstring: its first line is its title")
        RULES[id_] = Rule(id_, clause, role, level, basis, title[0], kind, check, **selector)
        return check

    return register


def _set(value: Any) -> Any:
    if value is None:
        return None
    return frozenset(value) if isinstance(value, (set, frozenset, tuple, list, range)) else frozenset([value])


def on_sip(
    id_: str,
    clause: str,
    *,
    role: Role,
    level: Level = Level.VIOLATION,
    basis: Basis = Basis.READ,
    hop: Hop | Iterable[Hop] | None = None,
    method: str | Iterable[str] | None = None,
    status: int | Iterable[int] | None = None,
    request: bool | None = None,
) -> Callable[[Check], Check]:
    """A rule about SIP messages: check(record: SipRecord, trace).

    method: of the request, or of the request that a response answers. status: only responses with it.
    request: True only requests, False only responses (implied by status).
    """
    if status is not None:
        request = False
    return _declare(  # type: ignore[no-any-return]
        "sip",
        id_,
        clause,
        role,
        level,
        basis,
        hops=_set(hop),
        methods=_set(method),
        statuses=_set(status),
        request=request,
    )


def on_diameter(
    id_: str,
    clause: str,
    *,
    role: Role,
    level: Level = Level.VIOLATION,
    basis: Basis = Basis.READ,
    name: str | Iterable[str] | None = None,
) -> Callable[[Check], Check]:
    """A rule about Diameter messages: check(record: DiameterRecord, trace). name: "MAR", "MAA", …"""
    return _declare("diameter", id_, clause, role, level, basis, methods=_set(name))  # type: ignore[no-any-return]


def on_sa(
    id_: str, clause: str, *, role: Role, level: Level = Level.VIOLATION, basis: Basis = Basis.READ
) -> Callable[[Check], Check]:
    """A rule about an SA: check(sa: SaView, trace)."""
    return _declare("sa", id_, clause, role, level, basis)  # type: ignore[no-any-return]


def on_registration(
    id_: str, clause: str, *, role: Role, level: Level = Level.VIOLATION, basis: Basis = Basis.READ
) -> Callable[[Check], Check]:
    """A rule about a whole registration: check(registration: Registration, trace)."""
    return _declare("registration", id_, clause, role, level, basis)  # type: ignore[no-any-return]


def on_trace(
    id_: str, clause: str, *, role: Role, level: Level = Level.VIOLATION, basis: Basis = Basis.READ
) -> Callable[[Check], Check]:
    """A rule that needs the whole trace at once: check(None, trace)."""
    return _declare("trace", id_, clause, role, level, basis)  # type: ignore[no-any-return]
