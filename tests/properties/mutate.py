"""Octets spoilt on purpose. One seed, one mutant: a number that a failing test prints brings its input back.

`damage` spoils any octets. The others know a format and keep it intact around what they change, so that the mutant
comes past the first check: rows of SIP, elements of XML, AVPs, blocks of pcapng. `damaged` is a hypothesis strategy,
for properties that want their counter-examples made small.
"""

from __future__ import annotations

import random
import re
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence

import pytest
from hypothesis import strategies as st

from imslab.core.errors import PeerError
from imslab.diameter.avp import Avp, encode_avps, parse_avps

#: Makes a mutant.
Spoil = Callable[[random.Random, bytes], bytes]

#: Octets at the edges of what a field can say.
EDGES = (0, 1, 0x7F, 0x80, 0xFF)
#: Length fields that lie, and numbers that are zero, all ones, or just beyond something.
LIES = (
    *(b"\0\0", b"\0\0\0", b"\0\0\0\0", b"\0\0\0\1", b"\0\0\0\7", b"\1\0\0\0", b"\0\xff\0"),
    *(b"\xff\xff", b"\xff\xff\xff", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"),
)
#: Pieces that SIP gives a meaning to.
SIP_SPICE = (
    b"\r\n", b"\r", b"\n", b" ", b"\t", b"\r\n ", b"\r\n\r\n", b":", b";", b",", b"=", b'"', b"<", b">", b"@", b"\\",
    b"%", b"%00", b"\x00", b"\xff", b"\xc3\xa9", b"*", b"[", b"]", b"::", b"sip:", b"tel:", b"l: 5\r\n", b"v",
    b"SIP/2.0", b"Content-Length: 99999999999\r\n", b"0" * 30, b"9" * 30, b"-1", b"a" * 300, b"\xed\xa0\x80", b"lr",
    b"Digest ",
)  # fmt: skip
#: Pieces that XML gives a meaning to.
XML_SPICE = (
    b"<", b">", b"/>", b"</", b"&", b"&amp;", b"&lt;", b"&#0;", b"&#x110000;", b'"', b"'", b"=", b"<!--", b"-->",
    b"<![CDATA[", b"]]>", b"<?xml?>", b'<!DOCTYPE a [<!ENTITY b "c">]>', b"&b;", b"<a>" * 50, b"\x00", b"\xff",
    b"\xc3\xa9", b"\xef\xbb\xbf", b"9" * 30, b"-1", b"xmlns:a=", b" ", b"utf-16", b"idna",
)  # fmt: skip


def damage(chance: random.Random, octets: bytes, spice: Sequence[bytes] = LIES) -> bytes:
    """The octets after a few changes: bits turned, pieces cut, doubled, replaced or put in, lengths that lie."""
    changed = bytearray(octets)
    for _ in range(chance.randint(1, 4)):
        if not changed:
            break
        at = chance.randrange(len(changed))
        match chance.randrange(8):
            case 0:
                changed[at] ^= 1 << chance.randrange(8)
            case 1:
                changed[at] = chance.choice(EDGES)
            case 2:
                del changed[at : at + chance.randrange(1, 9)]
            case 3:
                changed[at:at] = changed[at : at + chance.randrange(1, 41)]
            case 4:
                piece = chance.choice(spice)
                changed[at : at + len(piece)] = piece
            case 5:
                changed[at:at] = chance.choice(spice)
            case 6:
                other = chance.randrange(len(changed))
                changed[at:at] = changed[other : other + chance.randrange(1, 200)]
            case _:
                del changed[at : None if chance.randrange(2) else at + chance.randrange(1, 200)]
    return bytes(changed)


_LINE_ENDS = re.compile(rb"[\r\n]")


def spoil_sip(chance: random.Random, octets: bytes) -> bytes:
    """A SIP message: anything, or only its rows: some lost, doubled, exchanged, or with another value."""
    if not chance.randrange(3):
        return damage(chance, octets, SIP_SPICE)
    head, end, body = octets.partition(b"\r\n\r\n")
    rows = head.split(b"\r\n")
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(rows))
        match chance.randrange(6):
            case 0 if len(rows) > 1:
                del rows[at]
            case 1:
                rows.insert(at, chance.choice(rows))
            case 2:
                name, value = rows[at].partition(b":")[0], chance.choice(rows).partition(b":")[2]
                rows[at] = name + b":" + value
            case _:
                name, colon, value = rows[at].partition(b":")
                rows[at] = name + colon + _LINE_ENDS.sub(b"", damage(chance, value, SIP_SPICE))
    return b"\r\n".join(rows) + end + body


_WORDS = ("", "0", "-1", "9" * 30, "²", "active", "full", "x" * 300, " ", "sip:a@b", "true", "1e5")


def spoil_xml(chance: random.Random, octets: bytes) -> bytes:
    """A document: anything, or only its tree, which stays well-formed: elements lost, doubled, moved, renamed."""
    if not chance.randrange(3):
        return damage(chance, octets, XML_SPICE)
    root = ElementTree.fromstring(octets)  # of our own writing
    for _ in range(chance.randint(1, 3)):
        element = chance.choice(list(root.iter()))
        children = list(element)
        match chance.randrange(7):
            case 0 if children:
                element.remove(chance.choice(children))
            case 1 if children:
                element.append(chance.choice(children))
            case 2 if children:
                element.insert(0, ElementTree.Element(chance.choice(children).tag))
            case 3:
                element.tag = chance.choice((*(each.tag for each in root.iter()), "{urn:x}y"))
            case 4 if element.attrib:
                del element.attrib[chance.choice(list(element.attrib))]
            case 5 if element.attrib:
                element.attrib[chance.choice(list(element.attrib))] = chance.choice(_WORDS)
            case _:
                element.text = chance.choice(_WORDS)
    return ElementTree.tostring(root, "utf-8")


def spoil_diameter(chance: random.Random, octets: bytes) -> bytes:
    """A message: anything, or only its AVPs (those in groups too), with all lengths put right again."""
    if not chance.randrange(3):
        return damage(chance, octets)
    body = encode_avps(_spoil_avps(chance, parse_avps(octets, 20)))
    header = damage(chance, octets[4:20]) if not chance.randrange(4) else octets[4:20]
    header = header[:16].ljust(16, b"\0")
    return octets[:1] + (20 + len(body)).to_bytes(3, "big") + header + body


def _spoil_avps(chance: random.Random, avps: list[Avp]) -> list[Avp]:
    avps = list(avps)
    for _ in range(chance.randint(1, 3)):
        if not avps:
            break
        at = chance.randrange(len(avps))
        avp = avps[at]
        match chance.randrange(7):
            case 0:
                del avps[at]
            case 1:
                avps.insert(at, chance.choice(avps))
            case 2:
                avps[at] = avp._replace(flags=(avp.flags & 0x80) | chance.randrange(128))
            case 3:
                other = chance.choice(avps)
                avps[at] = avp._replace(code=other.code, vendor=other.vendor, flags=other.flags)
            case 4:
                try:
                    avps[at] = avp._replace(data=encode_avps(_spoil_avps(chance, parse_avps(avp.data))))
                except PeerError:
                    avps[at] = avp._replace(data=b"")
            case _:
                avps[at] = avp._replace(data=damage(chance, avp.data))
    return avps


def spoil_pcapng(chance: random.Random, octets: bytes) -> bytes:
    """A little-endian file: anything, or only what is inside its blocks, or blocks lost, doubled, of another type."""
    if not chance.randrange(3):
        return damage(chance, octets)
    blocks: list[tuple[int, bytes]] = []
    at = 0
    while at + 12 <= len(octets):
        kind, total = int.from_bytes(octets[at : at + 4], "little"), int.from_bytes(octets[at + 4 : at + 8], "little")
        if total < 12 or at + total > len(octets):
            break
        blocks.append((kind, octets[at + 8 : at + total - 4]))
        at += total
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(blocks))
        kind, body = blocks[at]
        match chance.randrange(8):
            case 0 if len(blocks) > 1:
                del blocks[at]
            case 1:
                blocks.insert(chance.randrange(len(blocks) + 1), blocks[at])
            case 2:
                blocks[at] = chance.choice((1, 2, 3, 4, 5, 6, 10, 0x0A0D0D0A, 0x80000001)), body
            case 3:
                blocks[at] = kind, body[: chance.randrange(0, len(body) + 1, 4)]
            case 4 if len(body) >= 24:
                # the fields of the packet: interface, time, lengths
                field = chance.randrange(0, 20, 4)
                blocks[at] = kind, body[:field] + chance.choice(LIES).ljust(4, b"\xff")[:4] + body[field + 4 :]
            case _:
                blocks[at] = kind, damage(chance, body)
    parts = []
    for kind, body in blocks:
        body += bytes(-len(body) & 3)
        total = (12 + len(body)).to_bytes(4, "little")
        parts.append(kind.to_bytes(4, "little") + total + body + total)
    return b"".join(parts)


def mutant(seeds: Sequence[bytes], number: int, spoil: Spoil = damage) -> tuple[random.Random, bytes]:
    """Mutant `number` of these seeds, and the chance that made it, for whatever else is to be drawn."""
    chance = random.Random(number)
    return chance, spoil(chance, chance.choice(seeds))


#: Seconds after which a run of mutants stops, so that a slow machine does not wait for the last of them.
BOX = 60.0


def feed_mutants(
    name: str,
    seeds: Sequence[bytes],
    count: int,
    feed: Callable[[random.Random, bytes], object],
    *,
    first: int = 0,
    spoil: Spoil = damage,
) -> None:
    """Give `count` mutants, from number `first` on, to `feed`, which may raise PeerError and nothing else.

    Fails with the number of the mutant that made it raise anything else, and its octets; and when not even a tenth of
    them went through within BOX seconds, which is a hang rather than a slow machine.
    """
    deadline = time.monotonic() + BOX
    for number in range(first, first + count):
        chance, octets = mutant(seeds, number, spoil)
        try:
            feed(chance, octets)
        except PeerError:
            pass
        except Exception as error:
            error.add_note(f"{name}: mutant {number}, {len(octets)} octets: {octets[:2000].hex()}")
            raise
        if time.monotonic() > deadline:
            done = number + 1 - first
            assert done * 10 >= count, f"{name}: only {done} of {count} mutants in {BOX} s, the last was {number}"
            pytest.skip(f"{name}: {done} of {count} mutants, all well, in the {BOX} s that they have here")


@st.composite
def damaged(draw: st.DrawFn, originals: Sequence[bytes], spice: Sequence[bytes] = LIES) -> bytes:
    """One of the originals with some places cut, doubled, or replaced."""
    octets = draw(st.sampled_from(originals))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(octets)))
        end = min(len(octets), start + draw(st.sampled_from([0, 0, 1, 2, 3, 8, 40])))
        match draw(st.integers(0, 3)):
            case 0:
                new = draw(st.sampled_from(spice))
            case 1:
                new = draw(st.binary(max_size=4))
            case 2:
                new = octets[start:end] * 2
            case _:
                new = b""
        octets = octets[:start] + new + octets[end:]
    return octets
