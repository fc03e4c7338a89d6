"""Commands and groups as dataclasses: each field names its AVP, and this turns objects into AVPs and back.

A field is declared with `required`, `optional` or `many`. What a message holds beyond its fields stays in `extra`,
raw, and is written again at the end.
"""

# ruff: noqa: RUF009 — the declarations are dataclasses.field calls with a name

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, NamedTuple, Self

from imslab.core.errors import LocalError
from imslab.diameter.avp import Avp, DiameterError
from imslab.diameter.dictionary import APPLICATION_CX, VENDOR_3GPP, Definition, by_name, check, example, value_of
from imslab.diameter.message import DiameterMessage


class Slot(NamedTuple):
    """How one field travels. kind: what wraps the AVP's value: a Group, an IntEnum, "text" for octets that are text,
    "only" for a group of which only the one kind of child counts; None for the plain value."""

    definition: Definition
    required: bool
    many: bool
    kind: Any


_SLOT = "imslab.diameter.slot"


def required(name: str, kind: Any = None, *, default_factory: Any = MISSING) -> Any:
    """A field whose AVP must be there: `{ AVP }` in the specification's grammar. The default is for who writes."""
    return field(default_factory=default_factory, metadata={_SLOT: Slot(by_name(name), True, False, kind)})


def optional(name: str, kind: Any = None, *, default: Any = None, shown: bool = True) -> Any:
    """A field whose AVP may be there: `[ AVP ]`. The default stands for its absence when read."""
    return field(default=default, repr=shown, metadata={_SLOT: Slot(by_name(name), False, False, kind)})


def many(name: str, kind: Any = None) -> Any:
    """A field whose AVP may be there any number of times: `*[ AVP ]`, a list."""
    return field(default_factory=list, metadata={_SLOT: Slot(by_name(name), False, True, kind)})


class _Plan(NamedTuple):
    rows: tuple[tuple[str, Slot], ...]
    by_avp: dict[tuple[int, int], tuple[str, Slot]]


_PLANS: dict[Any, _Plan] = {}


def _plan(cls: Any) -> _Plan:
    plan = _PLANS.get(cls)
    if plan is None:
        rows = tuple((item.name, item.metadata[_SLOT]) for item in fields(cls) if _SLOT in item.metadata)
        by_avp = {(slot.definition.code, slot.definition.vendor): (name, slot) for name, slot in rows}
        plan = _PLANS[cls] = _Plan(rows, by_avp)
    return plan


@dataclass(slots=True, kw_only=True)
class Structure:
    """Base of commands and groups. extra: AVPs beyond the fields, in order."""

    extra: list[Avp] = field(default_factory=list)

    @classmethod
    def from_avps(cls, avps: Iterable[Avp], *, strict: bool = True) -> Self:
        """Read the fields.

        Raises DiameterError with Failed-AVP: 5005 a required AVP is missing, 5009 one occurs too often, 5004 or 5014
        a value is wrong. strict False: what is missing takes None, what is too much goes to extra.
        """
        plan = _plan(cls)
        values: dict[str, Any] = {}
        extra: list[Avp] = []
        for avp in avps:
            row = plan.by_avp.get((avp[0], avp[1]))
            if row is None:
                extra.append(avp)
                continue
            name, slot = row
            if slot.many:
                values.setdefault(name, []).append(_read(slot.kind, avp, strict))
            elif name not in values:
                values[name] = _read(slot.kind, avp, strict)
            elif strict:
                reason = f"{slot.definition.name} occurs more than once"
                raise DiameterError(reason, 5009, failed=(avp,), clause="RFC 6733 7.1.5", octets=avp.data)
            else:
                extra.append(avp)
        for name, slot in plan.rows:
            if slot.required and name not in values:
                if strict:
                    reason = f"{slot.definition.name} is missing"
                    raise DiameterError(reason, 5005, failed=(example(slot.definition),), clause="RFC 6733 7.1.5")
                values[name] = None
        return cls(extra=extra, **values)

    def to_avps(self) -> list[Avp]:
        """Write the fields in order, then extra. A field that is None is left out."""
        avps: list[Avp] = []
        for name, slot in _plan(type(self)).rows:
            value = getattr(self, name)
            if value is None:
                continue
            definition, kind = slot.definition, slot.kind
            for single in value if slot.many else (value,):
                data = definition.type.encode(single if kind is None else _unwrap(kind, single))
                avps.append(Avp(definition.code, definition.vendor, definition.flags, data))
        avps.extend(self.extra)
        return avps


@dataclass(slots=True, kw_only=True)
class Group(Structure):
    """Base of grouped AVPs."""


class Only(NamedTuple):
    """A group that is read as the list of values of its one kind of child (Associated-Identities)."""

    name: str


class First(NamedTuple):
    """A group that is read as the value of one child (Experimental-Result as its code), the others being constant."""

    name: str
    others: tuple[tuple[str, Any], ...]


def _read(kind: Any, avp: Avp, strict: bool) -> Any:
    value = value_of(avp)
    if kind is None:
        return value
    if isinstance(kind, type):
        if issubclass(kind, Group):
            return kind.from_avps(value, strict=strict)
        return _member(kind, avp, value)
    if kind == "text":
        return value.decode("utf-8", "surrogateescape")
    definition = by_name(kind.name)
    inner = [value_of(child) for child in value if (child.code, child.vendor) == (definition.code, definition.vendor)]
    if isinstance(kind, Only):
        return inner
    if not inner:
        failed = avp._replace(data=example(definition).encode())
        raise DiameterError(f"{definition.name} is missing", 5005, failed=(failed,), clause="RFC 6733 7.1.5")
    return inner[0]


def _member(kind: Callable[[Any], Any], avp: Avp, value: int) -> Any:
    try:
        return kind(value)
    except ValueError:
        raise DiameterError(
            f"AVP {avp.code}: {value} is none of its values", 5004, failed=(avp,), clause="RFC 6733 7.1.5"
        ) from None


def _unwrap(kind: Any, value: Any) -> Any:
    if isinstance(kind, type):
        return value.to_avps() if issubclass(kind, Group) else int(value)
    if kind == "text":
        return value.encode("utf-8", "surrogateescape")
    definition = by_name(kind.name)
    values = value if isinstance(kind, Only) else (value,)
    inner = [Avp(definition.code, definition.vendor, definition.flags, definition.type.encode(one)) for one in values]
    if isinstance(kind, First):
        others = [(by_name(name), constant) for name, constant in kind.others]
        return [Avp(row.code, row.vendor, row.flags, row.type.encode(one)) for row, one in others] + inner
    return inner


@dataclass(slots=True, kw_only=True)
class VendorApplication(Group):
    """Vendor-Specific-Application-Id (RFC 6733 6.11)."""

    vendor_ids: list[int] = many("Vendor-Id")
    auth_application_id: int | None = optional("Auth-Application-Id")
    acct_application_id: int | None = optional("Acct-Application-Id")


def cx_application() -> VendorApplication:
    """What every Cx message says: vendor 10415, application 16777216 (29.229 6.1)."""
    return VendorApplication(vendor_ids=[VENDOR_3GPP], auth_application_id=APPLICATION_CX)


@dataclass(slots=True, kw_only=True)
class Command(Structure):
    """Base of requests and answers. COMMAND: the command code. APPLICATION: the id in the header."""

    COMMAND: ClassVar[int]
    REQUEST: ClassVar[bool]
    APPLICATION: ClassVar[int] = APPLICATION_CX

    @classmethod
    def from_message(cls, message: DiameterMessage) -> Self:
        """Read a message of this command.

        Requests are read strictly, with every group followed: DiameterError 5001, 5005, 5009, 5004, 5014 as RFC 6733
        7.1.5 has it. Answers are read as they come, since somebody else judges them: only a value that cannot be
        decoded raises. LocalError: the message is another command.
        """
        if message.command != cls.COMMAND or message.request is not cls.REQUEST:
            raise LocalError(f"{message.name} is not {cls.__name__}")
        try:
            if cls.REQUEST:
                check(message.avps)
            return cls.from_avps(message.avps, strict=cls.REQUEST)
        except DiameterError as error:
            error.header = message
            raise
