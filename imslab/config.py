"""lab.yaml: what a lab is made of. Everything has a default, so that no file at all is a working lab.

A value is looked for in the environment first (IMSLAB_SEED=7, IMSLAB_SCSCF__EXPIRES_MIN=60: two underscores go one
level down, the rest is YAML), then in the file, then here. docs/reference/lab-yaml.md lists every key.

Keys of subscribers are SecretBytes: they are shown by nobody who does not ask for them by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretBytes,
    ValidationError,
    field_validator,
    model_validator,
)

from imslab.core.errors import LocalError, PeerError
from imslab.core.numbering import home_domain
from imslab.ipsec.sa import COMBINATIONS
from imslab.sip.uri import Uri

#: Environment variables that begin so override the file.
ENVIRONMENT = "IMSLAB_"
#: Variables of ours that are not configuration of a lab.
NOT_CONFIGURATION = {"IMSLAB_REQUIRE", "IMSLAB_TRACEBACK"}
#: The largest lab.yaml that is read, octets: some 10,000 subscribers.
LARGEST = 2 << 20


def _hex_octets(value: object) -> object:
    if isinstance(value, SecretBytes):
        return value
    # YAML reads digits alone as a number: 11111111… would lose its leading zeros, so it must be quoted.
    if not isinstance(value, str):
        raise ValueError("expected hex digits in quotes")
    if len(value) % 2 and all(each in "0123456789abcdefABCDEF" for each in value):
        raise ValueError(f"expected pairs of hex digits, got {len(value)} digits")
    try:
        return bytes.fromhex(value)
    except ValueError:
        raise ValueError(f"expected hex digits, got {len(value)} characters that are not all hex") from None


def _digits(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError(f"expected digits in quotes, so that leading zeros count: write '{value}'")
    return value


Key = Annotated[SecretBytes, BeforeValidator(_hex_octets)]
Digits = Annotated[str, BeforeValidator(_digits), Field(pattern=r"^\d+$")]
Pair = tuple[str, str]


class Part(BaseModel):
    """One mapping of the file. A key that does not exist is an error, not a silence."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class SubscriberConfig(Part):
    """A subscriber: the HSS's record and the card in the UE."""

    imsi: Digits = Field(description="15 digits; the identities are made of it")
    k: Key = Field(description="32 hex digits (TUAK: also 64)")
    opc: Key | None = Field(default=None, description="OPc (TUAK: TOPc), 32 (64) hex digits; or op")
    op: Key | None = Field(default=None, description="OP (TUAK: TOP), 32 (64) hex digits; or opc")
    algorithm: Literal["milenage", "tuak", "xor"] = Field(default="milenage", description="milenage, tuak or xor")
    amf: Annotated[str, BeforeValidator(_digits)] = Field(
        default="0000", pattern=r"^[0-9a-fA-F]{4}$", description="4 hex digits; bit 0 is 0 for IMS (33.102 Annex H)"
    )
    sqn: int = Field(default=0, ge=0, lt=1 << 48, description="where the HSS's sequence numbers start")
    sqn_ms: int = Field(default=0, ge=0, lt=1 << 48, description="where the card's memory starts")
    impus: tuple[str, ...] = Field(default=(), description="public identities; none: the one made of the IMSI")

    @field_validator("impus")
    @classmethod
    def _identities(cls, impus: tuple[str, ...]) -> tuple[str, ...]:
        for impu in impus:
            try:
                scheme = Uri.parse(impu).scheme
            except (PeerError, UnicodeError):
                scheme = ""
            if scheme not in ("sip", "sips", "tel"):
                raise ValueError(f"{impu!r}: expected a SIP or tel URI")
        return impus

    @model_validator(mode="after")
    def _complete(self) -> SubscriberConfig:
        if len(self.k.get_secret_value()) not in (16, 32):
            raise ValueError(f"k: expected 32 or 64 hex digits, got {2 * len(self.k.get_secret_value())}")
        if self.algorithm != "xor" and (self.opc is None) == (self.op is None):
            raise ValueError("expected exactly one of opc and op")
        for name in ("opc", "op"):
            value = getattr(self, name)
            expected = 32 if self.algorithm == "tuak" else 16
            if value is not None and len(value.get_secret_value()) != expected:
                raise ValueError(f"{name}: expected {2 * expected} hex digits, got {2 * len(value.get_secret_value())}")
        return self


class UeConfigPart(Part):
    """How all UEs of the lab behave."""

    transport: Literal["auto", "udp", "tcp"] = Field(
        default="auto", description="auto (TCP above 1300 octets), udp, tcp"
    )
    expires: int = Field(default=600000, ge=1, le=0xFFFFFFFF, description="seconds asked for")
    algorithms: tuple[Pair, ...] = Field(
        default=(
            ("hmac-sha-1-96", "aes-cbc"),
            ("hmac-sha-1-96", "null"),
            ("null", "aes-gcm"),
            ("aes-gmac", "null"),
        ),
        description="[alg, ealg] pairs offered in Security-Client, most wanted first",
    )
    access_network: str = Field(
        default="3GPP-E-UTRAN-FDD;utran-cell-id-3gpp=0010100010000001",
        description="P-Access-Network-Info, sent inside SAs only",
    )
    faults: tuple[str, ...] = Field(default=(), description="deviations to play, see docs/reference/faults.md")

    @field_validator("algorithms")
    @classmethod
    def _legal(cls, pairs: tuple[Pair, ...]) -> tuple[Pair, ...]:
        return _legal_pairs(pairs)

    @field_validator("access_network")
    @classmethod
    def _one_line(cls, text: str) -> str:
        if not text.isprintable():
            raise ValueError("expected one line of printable characters")
        return text


class PcscfConfigPart(Part):
    """The P-CSCF."""

    algorithms: tuple[Pair, ...] = Field(
        default=(
            ("hmac-sha-1-96", "aes-cbc"),
            ("null", "aes-gcm"),
            ("hmac-sha-1-96", "null"),
            ("aes-gmac", "null"),
        ),
        description="[alg, ealg] pairs supported, most wanted first",
    )
    faults: tuple[str, ...] = Field(default=(), description="deviations to play, see docs/reference/faults.md")

    @field_validator("algorithms")
    @classmethod
    def _legal(cls, pairs: tuple[Pair, ...]) -> tuple[Pair, ...]:
        return _legal_pairs(pairs)


class IcscfConfigPart(Part):
    """The I-CSCF."""

    faults: tuple[str, ...] = Field(default=(), description="deviations to play, see docs/reference/faults.md")


class ScscfConfigPart(Part):
    """The S-CSCF."""

    expires_max: int = Field(default=3600, ge=1, description="the longest registration, seconds")
    expires_min: int = Field(default=60, ge=1, description="the shortest, seconds; below it 423")
    reauthenticate: bool = Field(default=True, description="challenge a protected re-REGISTER too")
    faults: tuple[str, ...] = Field(default=(), description="deviations to play, see docs/reference/faults.md")


class HssConfigPart(Part):
    """The HSS."""

    faults: tuple[str, ...] = Field(default=(), description="deviations to play, see docs/reference/faults.md")


class LinkConfig(Part):
    """The links of the simulated network. Times in seconds, shares from 0 to 1."""

    delay: float = Field(default=0.001, ge=0, le=10, description="seconds")
    loss: float = Field(default=0.0, ge=0, le=1, description="share of packets lost, 0 to 1")
    duplicate: float = Field(default=0.0, ge=0, le=1, description="share of packets that arrive twice")
    reorder: float = Field(default=0.0, ge=0, le=1, description="share of packets overtaken by later ones")
    mtu: int = Field(default=1500, ge=1280, le=65535, description="octets")


class LinksConfig(Part):
    """One link per reference point."""

    gm: LinkConfig = LinkConfig()
    mw: LinkConfig = LinkConfig()
    cx: LinkConfig = LinkConfig()


def _legal_pairs(pairs: tuple[Pair, ...]) -> tuple[Pair, ...]:
    if not pairs:
        raise ValueError("expected at least one [alg, ealg]")
    for pair in pairs:
        if pair not in COMBINATIONS:
            known = ", ".join(f"[{alg}, {ealg}]" for alg, ealg in COMBINATIONS)
            raise ValueError(f"[{pair[0]}, {pair[1]}] is not a combination of 33.203 Annex H; there are: {known}")
    return pairs


def default_subscribers() -> tuple[SubscriberConfig, ...]:
    """Two subscribers of the test network 001/01, with the keys of TS 35.208 test sets 1 and 3 (published numbers)."""
    return (
        SubscriberConfig(
            imsi="001010000000001",
            k=SecretBytes(bytes.fromhex("465b5ce8b199b49faa5f0a2ee238a6bc")),
            op=SecretBytes(bytes.fromhex("cdc202d5123e20f62b6d676ac72cb318")),
        ),
        SubscriberConfig(
            imsi="001010000000002",
            k=SecretBytes(bytes.fromhex("fec86ba6eb707ed08905757b1bb44b8f")),
            op=SecretBytes(bytes.fromhex("dbc59adcb6f9a0ef735477b7fadf8374")),
        ),
    )


class LabConfig(Part):
    """A whole lab."""

    seed: int | str = Field(default=1, description="the same seed gives the same run, octet for octet")
    mcc: Annotated[str, BeforeValidator(_digits)] = Field(default="001", pattern=r"^\d{3}$", description="3 digits")
    mnc: Annotated[str, BeforeValidator(_digits)] = Field(
        default="01", pattern=r"^\d{2,3}$", description="2 or 3 digits"
    )
    domain: str = Field(default="", description="the home domain; none: ims.mncXXX.mccYYY.3gppnetwork.org")
    ip: Literal[4, 6] = Field(default=4, description="IP version, 4 or 6")
    subscribers: tuple[SubscriberConfig, ...] = Field(
        default_factory=default_subscribers, min_length=1, description="one UE each; all are in the HSS"
    )
    ue: UeConfigPart = UeConfigPart()
    pcscf: PcscfConfigPart = PcscfConfigPart()
    icscf: IcscfConfigPart = IcscfConfigPart()
    scscf: ScscfConfigPart = ScscfConfigPart()
    hss: HssConfigPart = HssConfigPart()
    links: LinksConfig = LinksConfig()

    @field_validator("domain")
    @classmethod
    def _host(cls, text: str) -> str:
        if re.fullmatch(r"[A-Za-z0-9.-]*", text) is None:
            raise ValueError("expected a host name, as ims.example.org")
        return text

    @model_validator(mode="after")
    def _unique(self) -> LabConfig:
        imsis = [subscriber.imsi for subscriber in self.subscribers]
        twice = {imsi for imsi in imsis if imsis.count(imsi) > 1} if len(set(imsis)) < len(imsis) else set()
        if twice:
            raise ValueError(f"subscribers: IMSI {sorted(twice)[0]} stands there twice")
        return self

    @property
    def home_domain(self) -> str:
        """The home network's domain."""
        return self.domain or home_domain(self.mcc, self.mnc)


def load(path: Path | None = None, environment: Mapping[str, str] | None = None, **overrides: Any) -> LabConfig:
    """Read a lab. overrides: dotted keys with values that win over file and environment ("ue__transport"="tcp").

    Raises LocalError with one line: file, place, what was expected. Raises OSError when the file cannot be read.
    """
    data: dict[str, Any] = {}
    source = "the defaults"
    if path is not None:
        source = str(path)
        data = _read(path)
    told_by: dict[str, str] = {}
    for name, text in (environment or {}).items():
        if name.startswith(ENVIRONMENT) and name not in NOT_CONFIGURATION:
            try:
                value = _parse(text)
            except (yaml.YAMLError, ValueError):
                value = text
            steps = name[len(ENVIRONMENT) :].lower().split("__")
            told_by[".".join(steps)] = name
            _put(data, steps, value, name)
    for name, value in overrides.items():
        if value is not None:
            _put(data, name.split("__"), value, name)
    try:
        return LabConfig.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        if first["loc"] == ("seed", "int"):  # or str: what is neither is told once
            first["loc"], first["type"], more = ("seed",), "seed", ""
        place = ".".join(str(step) for step in first["loc"]) or "the whole"
        source = next((name for steps, name in told_by.items() if f"{place}.".startswith(f"{steps}.")), source)
        raise LocalError(f"{source}: {place}: {_reason(first['type'], first['msg'])}{more}") from None


def _reason(kind: str, message: str) -> str:
    """What was expected, in our words where pydantic speaks of Python."""
    if kind in _REASONS:
        return _REASONS[kind]
    return re.sub("^(Value error, |Input should be (?=.))", lambda found: _BEGINNINGS[found[0]], message)


_REASONS = {
    "extra_forbidden": "no such key",
    "seed": "expected a whole number or text",
    "tuple_type": "expected a list",
    "too_short": "expected at least one",
    "missing": "has to be given",
    "model_type": "expected a mapping of keys to values",
    "dict_type": "expected a mapping of keys to values",
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "int_parsing": "expected a whole number",
}
_BEGINNINGS = {"Value error, ": "", "Input should be ": "expected "}


class _Loader(yaml.SafeLoader):
    """YAML of a lab: a key that stands twice is an error, not a silence; a date is text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        known: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in known:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands there twice", key.start_mark)
            known.add(str(key.value) if isinstance(key, yaml.ScalarNode) else "")
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [row for row in rows if row[0] != "tag:yaml.org,2002:timestamp"]
    for first, rows in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _parse(text: str | bytes) -> Any:
    """Raises YAMLError or ValueError, whatever the text is."""
    try:
        return yaml.load(text, _Loader)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except (AttributeError, TypeError, LookupError, ArithmeticError) as error:  # of constructors fed by a !!tag
        raise ValueError(f"a value does not fit its tag ({error})") from None


def _read(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        octets = stream.read(LARGEST + 1)
    if len(octets) > LARGEST:
        raise LocalError(f"{path}: expected a lab.yaml of up to {LARGEST} octets")
    try:
        data = _parse(octets)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = " ".join((getattr(error, "problem", None) or str(error)).split())
        raise LocalError(f"{path}: {where}not YAML: {problem}") from None
    except ValueError as error:
        raise LocalError(f"{path}: not YAML: {error}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise LocalError(f"{path}: expected a mapping of keys to values, found {type(data).__name__}")
    return data


def _put(data: dict[str, Any], steps: list[str], value: Any, name: str) -> None:
    for step in steps[:-1]:
        below = data.setdefault(step, {})
        if not isinstance(below, dict):
            raise LocalError(f"{name}: {step} is not a mapping")
        data = below
    data[steps[-1]] = value
