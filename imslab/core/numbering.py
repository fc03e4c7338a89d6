"""Identities that follow from an IMSI by rule (23.003 13). Everybody who makes one makes it here."""

from __future__ import annotations

from typing import NamedTuple

from imslab.core.errors import LocalError


class Derived(NamedTuple):
    """What a card without an ISIM application has: private identity, temporary public identity, home domain."""

    impi: str
    impu: str
    domain: str


def home_domain(mcc: str, mnc: str) -> str:
    """The home network's domain (23.003 13.2): ims.mncXXX.mccYYY.3gppnetwork.org, the MNC always with three digits.

    mcc: three digits. mnc: two or three. Raises LocalError for anything else.
    """
    if not _digits(mcc, 3, 3):
        raise LocalError(f"MCC {mcc!r}: expected three digits")
    if not _digits(mnc, 2, 3):
        raise LocalError(f"MNC {mnc!r}: expected two or three digits")
    return f"ims.mnc{mnc:0>3}.mcc{mcc}.3gppnetwork.org"


def derive(imsi: str, domain: str) -> Derived:
    """The identities of an IMSI in a home domain (23.003 13.3, 13.4B). imsi: 6 to 15 digits, LocalError otherwise."""
    if not _digits(imsi, 6, 15):
        raise LocalError(f"IMSI {imsi!r}: expected up to 15 digits")
    return Derived(f"{imsi}@{domain}", f"sip:{imsi}@{domain}", domain)


def derive_in_plmn(imsi: str, mcc: str, mnc: str) -> Derived:
    """`derive` in the home domain of the network whose codes the IMSI begins with; LocalError when it does not.

    001-01 is often written 001-001: an MNC with a leading zero may stand in the IMSI with two digits.
    """
    domain = home_domain(mcc, mnc)
    derived = derive(imsi, domain)
    short = mnc[1:] if len(mnc) == 3 and mnc[0] == "0" else mnc
    if not imsi.startswith((mcc + mnc, mcc + short)):
        raise LocalError(f"IMSI {imsi} does not begin with {mcc}{mnc}")
    return derived


def _digits(text: str, least: int, most: int) -> bool:
    return text.isascii() and text.isdecimal() and least <= len(text) <= most
