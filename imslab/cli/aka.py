"""`imslab aka`: a calculator for one card. Keys go in and, because they were asked for, CK, IK and RES come out."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, BinaryIO, TypeVar

import click

from imslab.aka.algorithm import AkaAlgorithm
from imslab.aka.digest import aka_password, digest_response, parse_auts, split_nonce
from imslab.aka.milenage import Milenage
from imslab.aka.sqn import Freshness, SqnWindow, split_sqn, sqn_text
from imslab.aka.tuak import Tuak
from imslab.aka.vector import generate, open_autn, open_auts
from imslab.aka.xor import XorTest
from imslab.cli.errors import FAILED
from imslab.core.entropy import SystemEntropy
from imslab.core.errors import PeerError

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

#: Lengths in octets of K and of OP or OPc (TOP or TOPc), by algorithm.
KEY_LENGTHS = {"milenage": ((16,), (16,)), "tuak": ((16, 32), (32,)), "xor": ((16,), ())}
#: The Digest algorithms that a card can answer.
DIGESTS = ("AKAv1-MD5", "AKAv2-MD5", "AKAv2-SHA-256")


def hex_type(*lengths: int) -> Callable[[str], bytes]:
    """Octets as hex digits, in one of some lengths. The error tells lengths and never what was typed."""
    wanted = " or ".join(f"{length} octets ({2 * length} hex digits)" for length in lengths)

    def convert(text: str) -> bytes:
        digits = text.strip().removeprefix("0x")
        octets = hex_octets(digits)
        if octets is None or len(octets) not in lengths:
            got = f"{len(digits)} hex digits" if is_hex(digits) else f"{len(digits)} characters, not all of them hex"
            raise click.BadParameter(f"expected {wanted}, got {got}")
        return octets

    return convert


def sqn_type(text: str) -> int:
    """An SQN as 1 to 12 hex digits."""
    digits = text.strip().removeprefix("0x")
    if not is_hex(digits) or len(digits) > 12:
        raise click.BadParameter(f"expected 48 bits (up to 12 hex digits), got {len(digits)} characters")
    return int(digits, 16)


def nonce_type(text: str) -> str:
    """The nonce of a challenge, in base64: RAND, AUTN and the server's own data."""
    try:
        split_nonce(text)
    except PeerError as error:
        raise click.BadParameter(error.reason.removeprefix("nonce: ")) from error
    return text


def auts_type(text: str) -> bytes:
    """An AUTS: 28 hex digits, or the base64 of an auts parameter."""
    octets = hex_octets(text) if len(text) == 28 else None
    if octets is not None:
        return octets
    try:
        return parse_auts(text)
    except PeerError as error:
        wanted = "expected 14 octets, as 28 hex digits or as base64"
        raise click.BadParameter(f"{wanted}, got {len(text)} characters") from error


def nc_type(text: str) -> str:
    """A nonce count, 8 hex digits."""
    if not is_hex(text) or len(text) != 8:
        raise click.BadParameter(f"expected 8 hex digits, got {len(text)} characters")
    return text


def is_hex(text: str) -> bool:
    """True if there are digits, and all of them are hex."""
    return bool(text) and all(character in "0123456789abcdefABCDEF" for character in text)


def hex_octets(digits: str) -> bytes | None:
    """The octets, or None when these are not hex digits in pairs."""
    return bytes.fromhex(digits) if is_hex(digits) and len(digits) % 2 == 0 else None


def card_options(function: Decorated) -> Decorated:
    """The options that say what is on the card."""
    for option in (
        click.option("--res-bits", type=click.Choice(["32", "64", "128"]), help="Length of RES, for tuak and xor."),
        click.option(
            "--card", type=click.Choice(list(KEY_LENGTHS)), default="milenage", show_default=True, help="Its algorithm."
        ),
        click.option(
            "--op", type=hex_type(16, 32), metavar="HEX", help="The operator's OP (TOP for tuak), in place of OPc."
        ),
        click.option("--opc", type=hex_type(16, 32), metavar="HEX", help="OPc (TOPc for tuak)."),
        click.option("--k", type=hex_type(16, 32), metavar="HEX", required=True, help="The card's key K."),
    ):
        function = option(function)
    return function


def json_option(function: Decorated) -> Decorated:
    """The option for programs that read the answer."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")(function)


def card_algorithm(card: str, k: bytes, opc: bytes | None, op: bytes | None, res_bits: str | None) -> AkaAlgorithm:
    """The algorithm that the card options name. Raises click's UsageError, which never shows a key."""
    k_lengths, constant_lengths = KEY_LENGTHS[card]
    need_length("--k", k, k_lengths)
    if res_bits and card == "milenage":
        raise click.UsageError("--res-bits: a RES of Milenage always has 64 bits")
    if card == "xor":
        if opc is not None or op is not None:
            raise click.UsageError("--opc, --op: the XOR algorithm has none")
        return XorTest(k, res_length=int(res_bits or 128) // 8)
    if (opc is None) == (op is None):
        raise click.UsageError("--opc, --op: expected one of the two")
    need_length("--opc" if op is None else "--op", opc or op or b"", constant_lengths)
    if card == "tuak":
        bits = int(res_bits or 64)
        return Tuak(k, opc, res_bits=bits) if opc is not None else Tuak.from_top(k, op or b"", res_bits=bits)
    return Milenage(k, opc) if opc is not None else Milenage.from_op(k, op or b"")


def need_length(flag: str, octets: bytes, lengths: tuple[int, ...]) -> None:
    if len(octets) not in lengths:
        wanted = " or ".join(f"{length} octets ({2 * length} hex digits)" for length in lengths)
        raise click.UsageError(f"{flag}: expected {wanted} for this --card, got {len(octets)} octets")


def show(answer: dict[str, str], as_json: bool, rows: list[tuple[str, str]]) -> None:
    """The answer for a program, or rows of name and value for a human."""
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name:<{width}}  {value}")


def sqn_line(sqn: int) -> str:
    seq, ind = split_sqn(sqn)
    return f"{sqn_text(sqn)}  (SEQ {seq}, IND {ind})"


@click.group()
def aka() -> None:
    """Calculate with a card's key.

    Octets are hex digits; --sqn too (48 bits, as SEQ and 5 bits of IND). Mind that keys on a command line are seen by
    other users of the machine and kept by the shell's history.
    """


@aka.command()
@card_options
@click.option("--sqn", type=sqn_type, metavar="HEX", required=True, help="The SQN of this vector.")
@click.option("--amf", type=hex_type(2), metavar="HEX", default="8000", show_default=True, help="AMF.")
@click.option("--rand", type=hex_type(16), metavar="HEX", help="RAND; a random one when left out.")
@json_option
def vector(
    card: str,
    k: bytes,
    opc: bytes | None,
    op: bytes | None,
    res_bits: str | None,
    sqn: int,
    amf: bytes,
    rand: bytes | None,
    as_json: bool,
) -> None:
    """Make an authentication vector, as an HSS does."""
    algorithm = card_algorithm(card, k, opc, op, res_bits)
    made = generate(algorithm, SystemEntropy().octets(16) if rand is None else rand, sqn, amf)
    answer = {name: getattr(made, name).hex() for name in ("rand", "autn", "xres", "ck", "ik")} | {"nonce": made.nonce}
    show(answer, as_json, [(name if name == "nonce" else name.upper(), value) for name, value in answer.items()])


@aka.command()
@card_options
@click.option("--nonce", type=nonce_type, metavar="BASE64", required=True, help="The nonce of the challenge.")
@click.option(
    "--sqn", "sqn_ms", type=sqn_type, metavar="HEX", help="The card's SQN_MS: would it accept this challenge?"
)
@json_option
@click.pass_context
def check(
    ctx: click.Context,
    card: str,
    k: bytes,
    opc: bytes | None,
    op: bytes | None,
    res_bits: str | None,
    nonce: str,
    sqn_ms: int | None,
    as_json: bool,
) -> None:
    """Take a nonce apart, as a card does: does it fit this key, is its SQN in range, what are RES, CK and IK.

    Exit code 1 on a MAC failure. SQN is judged after MAC, by the array of 33.102 C.2.2 with every slot at SQN_MS.
    """
    algorithm = card_algorithm(card, k, opc, op, res_bits)
    rand, autn, server_data = split_nonce(nonce)
    res, ck, ik, ak = algorithm.f2345(rand)
    sqn, amf, mac_ok = open_autn(algorithm, rand, autn, ak)
    sqn_check, sqn_words = "unchecked", "unchecked: --sqn gives the card's SQN_MS"
    if not mac_ok:
        sqn_words = "unchecked: MAC comes first"
    elif sqn_ms is not None:
        freshness = SqnWindow.at(sqn_ms).check(sqn)
        sqn_check = "ok" if freshness is Freshness.FRESH else "out-of-range"
        sqn_words = "ok" if freshness is Freshness.FRESH else f"out of range: {freshness.value}, the card answers AUTS"
    answer = {
        "rand": rand.hex(),
        "autn": autn.hex(),
        "sqn": sqn_text(sqn),
        "amf": amf.hex(),
        "mac": "ok" if mac_ok else "failure",
        "sqn_check": sqn_check,
        "res": res.hex(),
        "ck": ck.hex(),
        "ik": ik.hex(),
        "ak": ak.hex(),
    }
    rows = [
        ("MAC", "ok" if mac_ok else "failure: this AUTN was not made with this key, the rest means nothing"),
        ("SQN", sqn_line(sqn)),
        ("SQN check", sqn_words),
        ("AMF", amf.hex()),
        *((name.upper(), answer[name]) for name in ("rand", "autn", "res", "ck", "ik", "ak")),
    ]
    if server_data:
        answer["server_data"] = server_data.hex()
        rows.append(("server data", server_data.hex()))
    show(answer, as_json, rows)
    if not mac_ok:
        ctx.exit(FAILED)


@aka.command()
@card_options
@click.option(
    "--rand", type=hex_type(16), metavar="HEX", required=True, help="RAND of the challenge that the card refused."
)
@click.option("--auts", type=auts_type, metavar="HEX|BASE64", required=True, help="The card's AUTS.")
@json_option
@click.pass_context
def resync(
    ctx: click.Context,
    card: str,
    k: bytes,
    opc: bytes | None,
    op: bytes | None,
    res_bits: str | None,
    rand: bytes,
    auts: bytes,
    as_json: bool,
) -> None:
    """Open an AUTS, as an HSS does: is it the card's, and what is its SQN_MS.

    Exit code 1 when MAC-S is wrong.
    """
    algorithm = card_algorithm(card, k, opc, op, res_bits)
    sqn_ms, mac_ok = open_auts(algorithm, rand, auts)
    answer = {"sqn_ms": sqn_text(sqn_ms), "mac_s": "ok" if mac_ok else "failure"}
    words = "ok" if mac_ok else "failure: not made with this key for this RAND, SQN_MS means nothing"
    show(answer, as_json, [("MAC-S", words), ("SQN_MS", sqn_line(sqn_ms))])
    if not mac_ok:
        ctx.exit(FAILED)


@aka.command()
@card_options
@click.option("--nonce", type=nonce_type, metavar="BASE64", required=True, help="The nonce of the challenge.")
@click.option("--username", required=True, help="The IMPI.")
@click.option("--realm", required=True, help="The realm of the challenge.")
@click.option("--uri", required=True, help="The uri parameter of the answer.")
@click.option("--method", default="REGISTER", show_default=True, help="The method of the request.")
@click.option("--qop", type=click.Choice(["auth", "auth-int"]), help="None when left out.")
@click.option(
    "--nc",
    type=nc_type,
    metavar="HEX",
    default="00000001",
    show_default=True,
    help="Nonce count, 8 hex digits; with --qop.",
)
@click.option("--cnonce", help="The client's nonce; with --qop.")
@click.option("--body", type=click.File("rb"), help="The body of the request, for auth-int; empty when left out.")
@click.option("--algorithm", type=click.Choice(DIGESTS, case_sensitive=False), default=DIGESTS[0], show_default=True)
@json_option
def digest(
    card: str,
    k: bytes,
    opc: bytes | None,
    op: bytes | None,
    res_bits: str | None,
    nonce: str,
    username: str,
    realm: str,
    uri: str,
    method: str,
    qop: str | None,
    nc: str,
    cnonce: str | None,
    body: BinaryIO | None,
    algorithm: str,
    as_json: bool,
) -> None:
    """Compute the Digest response to a challenge, as a UE does."""
    functions = card_algorithm(card, k, opc, op, res_bits)
    if qop and not cnonce:
        raise click.UsageError(f"--cnonce: expected beside --qop {qop}")
    rand, autn, _ = split_nonce(nonce)
    res, ck, ik, ak = functions.f2345(rand)
    if not open_autn(functions, rand, autn, ak).mac_ok:
        click.echo("imslab: note: the MAC of this nonce does not fit this key; a card would not answer", err=True)
    response = digest_response(
        algorithm=algorithm,
        username=username,
        realm=realm,
        password=aka_password(algorithm, res, ck, ik),
        nonce=nonce,
        method=method,
        uri=uri,
        qop=qop or "",
        nc=nc,
        cnonce=cnonce or "",
        body=body.read() if body else b"",
    )
    show({"response": response}, as_json, [("response", response)])
