"""Rules: one clause each, applied to any trace. Importing this package declares them all."""

from imslab.rules import (
    authentication,
    challenge,
    cx,
    diameter,
    esp,
    gm,
    mw,
    protected,
    proxies,
    regevent,
    registered,
    registrar,
    renewal,
    secagree,
    vectors,
)

__all__ = [
    "authentication",
    "challenge",
    "cx",
    "diameter",
    "esp",
    "gm",
    "mw",
    "protected",
    "proxies",
    "regevent",
    "registered",
    "registrar",
    "renewal",
    "secagree",
    "vectors",
]
