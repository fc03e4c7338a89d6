"""How handsets differ: what they offer, how they write it, which transport they take. One Profile is one kind of phone.

The first is what TS 24.229 and TS 33.203 ask for; the others are as captures show them (docs name the source).
"""

from __future__ import annotations

from dataclasses import dataclass

from imslab.core.errors import LocalError
from imslab.ipsec.sa import combinations
from imslab.sip.transaction import GM_TIMERS, Timers


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of phone.

    offers: (alg, ealg) pairs of Security-Client, in the order in which they are listed.
    transport: "auto" (RFC 3261 18.1.1: TCP above 1300 octets, UDP where TCP is refused), "udp", "tcp".
    digests: algorithms that the phone can answer, strongest first. qops: those it can use, preferred first; a
    challenge without qop is answered without.
    pad_spis: SPIs with the ten digits that Annex H wants. prot_and_mod: whether these two, which have defaults, are
    written out. algorithm_first: "algorithm=AKAv1-MD5" already in the REGISTER without a challenge.
    supported, allow, user_agent, features: header values; features: parameters of Contact.
    port_c, port_s: the first protected ports; 0: chosen at random.
    udp_answers: "client" as 33.203 7.1 has it (from port_uc to port_ps), "server" from port_us to the port of the Via,
    as P-CSCFs expect that put their client port there (Kamailio 5.6).
    timers: T1, T2, T4 towards the P-CSCF.
    """

    name: str
    offers: tuple[tuple[str, str], ...] = combinations(13)
    transport: str = "auto"
    digests: tuple[str, ...] = ("AKAv2-SHA-256", "AKAv2-MD5", "AKAv1-MD5")
    qops: tuple[str, ...] = ("auth", "auth-int")
    pad_spis: bool = True
    prot_and_mod: bool = False
    algorithm_first: bool = True
    supported: tuple[str, ...] = ("path",)
    allow: tuple[str, ...] = ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "MESSAGE", "NOTIFY")
    user_agent: str = "imslab"
    features: str = ';+g.3gpp.icsi-ref="urn%3Aurn-7%3A3gpp-service.ims.icsi.mmtel"'
    port_c: int = 0
    port_s: int = 0
    udp_answers: str = "client"
    timers: Timers = GM_TIMERS

    def __post_init__(self) -> None:
        """Raises LocalError for a transport or a way of answering that does not exist, or for no offer at all."""
        if self.transport not in ("auto", "udp", "tcp"):
            raise LocalError(f"transport {self.transport!r}: expected auto, udp or tcp")
        if self.udp_answers not in ("client", "server"):
            raise LocalError(f"udp_answers {self.udp_answers!r}: expected client or server")
        if not self.offers:
            raise LocalError("a profile without any algorithm to offer")


#: What the specifications ask of a UE of Rel-13 and later.
CONFORMANT = Profile("conformant")

PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        CONFORMANT,
        Profile("rel-12", offers=combinations(12)),
        # Samsung SM-T515 (2020): TCP inside the SAs, auth-int, fixed ports, one offer, SPIs without padding.
        Profile(
            "samsung",
            offers=(("hmac-md5-96", "null"),),
            transport="tcp",
            digests=("AKAv1-MD5",),
            qops=("auth-int", "auth"),
            pad_spis=False,
            prot_and_mod=True,
            supported=("path", "gruu", "sec-agree"),
            user_agent="SM-T515-TB4 Samsung IMS 6.0",
            features=';q=1.0;+g.3gpp.icsi-ref="urn%3Aurn-7%3A3gpp-service.ims.icsi.mmtel";+g.3gpp.smsip',
            port_c=6301,
            port_s=6300,
        ),
        # Xiaomi: leaves out prot and mod, and does not pad.
        Profile("xiaomi", offers=combinations(12), digests=("AKAv1-MD5",), pad_spis=False),
    )
}


def find_profile(name: str) -> Profile:
    """The profile of this name. Raises LocalError for an unknown one."""
    try:
        return PROFILES[name]
    except KeyError:
        raise LocalError(f"no handset profile {name!r}; there are: {', '.join(sorted(PROFILES))}") from None
