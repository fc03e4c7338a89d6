"""What happens in a lab, so that a fault in one of its boxes has its occasion: the stories of tests/rules/test_faults.

A story is a lab's settings and what is done with it. Most faults show in the main job; the others want a card that is
ahead of its HSS, a key that is wrong, an operator who ends a registration, a stranger on Cx, or time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hss.store import Change
from hss.subscriber import AkaCredentials
from imslab.aka.sqn import SqnWindow
from imslab.core import effects as fx
from imslab.core import events as ev
from imslab.core.entropy import SeededEntropy
from imslab.core.flow import Endpoint, Flow, Transport
from imslab.diameter.avp import FLAG_MANDATORY, Avp
from imslab.diameter.codes import ReasonCode, ServerAssignmentType, UserDataAlreadyAvailable
from imslab.diameter.cx import SCHEME_AKA, AuthDataItem, MultimediaAuthRequest, ServerAssignmentRequest
from imslab.diameter.dictionary import APPLICATION_CX, VENDOR_3GPP, make
from imslab.diameter.message import DiameterMessage, new_session_id
from imslab.diameter.peer import Identity, Peer
from imslab.diameter.userdata import PublicIdentity, ServiceProfile
from imslab.ipsec.packet import build_ip, build_udp
from imslab.lab import main_job
from imslab.roles.icscf import ServerChoice
from imslab.roles.ue import Ue
from imslab.sip.message import Request
from tests.flows.labs import DOMAIN, FIRST, SECOND, Play, play, says, subscriber

#: Where a card's memory stands that is far ahead of the HSS.
AHEAD = 1 << 40
#: More identities of the first subscriber.
TEL = "tel:+12125550001"
OTHER = f"sip:+12125550001@{DOMAIN}"


@dataclass(frozen=True)
class Story:
    """drive: what is done; the lab is at rest before. settings: of the lab."""

    drive: Callable[[Play], object]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def play(self, **more: Any) -> Play:
        """The story, once, with more settings; those of the story win."""
        here = play(**{**more, **self.settings})
        self.drive(here)
        return here


#: By name.
STORIES: dict[str, Story] = {}


def story(**settings: Any) -> Callable[[Callable[[Play], object]], Callable[[Play], object]]:
    """Declare one; its name is that of the function."""

    def keep(drive: Callable[[Play], object]) -> Callable[[Play], object]:
        STORIES[drive.__name__.replace("_", "-")] = Story(drive, settings)
        return drive

    return keep


# ---- what stories are made of


def try_register(here: Play, *ues: Ue, seconds: float = 5.0) -> None:
    """Let UEs register if they can."""
    for ue in ues or (here.ue,):
        here.net.command(ue, "register")
    here.run(seconds)


def do(here: Play, ue: Ue, verb: str, seconds: float = 2.0, **arguments: Any) -> None:
    """A command and its time, whatever comes of it."""
    here.net.command(ue, verb, **arguments)
    here.run(seconds)


def give_other_key(here: Play) -> None:
    """Change the first subscriber's K in the HSS, behind everybody's back."""
    before = here.lab.store.load(FIRST)
    assert before is not None
    private = before.privates[0]
    assert isinstance(private.credentials, AkaCredentials)
    other = replace(private, credentials=replace(private.credentials, k=bytes(16)))
    here.lab.store.commit(Change(before, replace(before.with_private(other), version=before.version + 1)))


def bar(here: Play, *barred: str) -> None:
    """Bar identities of the first subscriber."""
    before = here.lab.store.load(FIRST)
    assert before is not None
    identities = [PublicIdentity(each.uri, barred=each.uri in barred) for each in before.sets[0].identities]
    after = before.with_set(before.sets[0], replace(before.sets[0], profiles=(ServiceProfile(identities),)))
    here.lab.store.commit(Change(before, replace(after, version=before.version + 1)))


def switch_off(here: Play, ue: Ue) -> None:
    """From now on nothing reaches a UE, and nothing comes from it."""
    host, pcscf = here.lab.host(ue), here.lab.host(here.lab.pcscf)
    here.net.drop(host >> pcscf, nth=None)
    here.net.drop(pcscf >> host, nth=None)


def ask_in_clear(here: Play, port: int) -> None:
    """Somebody sends OPTIONS to the first UE from the P-CSCF's address, in clear."""
    pcscf, ue = here.lab.pcscf.config.gm, here.ue.config.host
    request = Request(
        "OPTIONS",
        f"sip:{ue}:{port}",
        [
            ("Via", f"SIP/2.0/UDP {pcscf};branch=z9hG4bKclear"),
            ("Max-Forwards", "70"),
            ("From", "<sip:somebody@example.org>;tag=1"),
            ("To", f"<{FIRST}>"),
            ("Call-ID", "in-clear@example.org"),
            ("CSeq", "1 OPTIONS"),
        ],
    )
    octets = build_udp(packed(pcscf.host), packed(ue), pcscf.port, port, request.encode())
    here.net.inject(build_ip(packed(pcscf.host), packed(ue), 17, octets), here.lab.host(here.ue), point="Gm")
    here.run(1)


def packed(host: str) -> bytes:
    """An address as a packet has it."""
    from imslab.core.flow import pack_host

    return pack_host(host)


# ---- registrations


@story()
def job(here: Play) -> None:
    """The main job."""
    list(main_job(here.lab))


@story()
def job_and_rest(here: Play) -> None:
    """The main job, and a minute in which nothing happens but what is due."""
    list(main_job(here.lab))
    here.run(60)


@story()
def rest(here: Play) -> None:
    """Registered, and a minute later registered anew."""
    try_register(here, here.ue, here.other)
    here.run(60)
    do(here, here.ue, "reregister", 5)


@story(subscribers=(subscriber(1, sqn_ms=AHEAD),))
def resync(here: Play) -> None:
    """A card ahead of its HSS."""
    try_register(here, seconds=10)


@story(subscribers=(subscriber(1, amf="1234", sqn_ms=AHEAD),))
def resync_amf(here: Play) -> None:
    """The same, where the operator uses AMF."""
    try_register(here, seconds=10)


@story(subscribers=(subscriber(1),))
def resync_again(here: Play) -> None:
    """A card that another network has carried on with, while the UE is registered."""
    try_register(here)
    here.ue.usim.window = SqnWindow.at(AHEAD)
    do(here, here.ue, "reregister", 10)


@story(subscribers=(subscriber(1),))
def other_key(here: Play) -> None:
    """Another K in the HSS than in the card."""
    give_other_key(here)
    try_register(here, seconds=40)


@story(subscribers=(subscriber(1),))
def key_changes(here: Play) -> None:
    """K changes in the HSS while the UE is registered."""
    try_register(here)
    give_other_key(here)
    do(here, here.ue, "reregister", 20)


@story(subscribers=(subscriber(1),))
def alone(here: Play) -> None:
    """One UE registers, if it can."""
    try_register(here, seconds=20)


@story(subscribers=(subscriber(1),))
def renewal(here: Play) -> None:
    """One UE registers, re-registers and leaves."""
    try_register(here)
    do(here, here.ue, "reregister", 5)
    do(here, here.ue, "deregister", 10)


@story(subscribers=(subscriber(1),))
def lost_challenge(here: Play) -> None:
    """The 401 is lost on its way to the UE, which asks again."""
    host, pcscf = here.lab.host(here.ue), here.lab.host(here.lab.pcscf)
    with here.net.drop(pcscf >> host, match=says("REGISTER", 401)):
        try_register(here, seconds=20)


@story()
def neighbours(here: Play) -> None:
    """The second UE is there first."""
    try_register(here, here.other)
    try_register(here, here.ue)


RETIRED = (("hmac-md5-96", "null"), ("hmac-sha-1-96", "aes-cbc"))


@story(subscribers=(subscriber(1),), ue__algorithms=RETIRED, pcscf__algorithms=RETIRED)
def retired(here: Play) -> None:
    """Both sides know a retired algorithm, and the P-CSCF likes it best."""
    try_register(here)


@story(subscribers=(subscriber(1),), scscf__reauthenticate=False)
def unchallenged(here: Play) -> None:
    """A registrar that believes the SAs."""
    try_register(here)
    do(here, here.ue, "reregister", 5)
    do(here, here.ue, "deregister", 10)


@story(subscribers=(subscriber(1),), scscf__expires_max=120)
def short(here: Play) -> None:
    """A registration of two minutes, and its refresh."""
    try_register(here)
    here.run(140)


@story(subscribers=(subscriber(1),), scscf__expires_max=1300)
def long(here: Play) -> None:
    """A registration of more than twenty minutes, and its refresh."""
    try_register(here)
    here.run(1310)


@story(subscribers=(subscriber(1),), ue__expires=30)
def brief(here: Play) -> None:
    """A UE that asks for less than the registrar allows."""
    try_register(here)


@story(subscribers=(subscriber(1), subscriber(2)), scscf__expires_max=60)
def expiry(here: Play) -> None:
    """A UE that is switched off."""
    here.run(0.1)
    try_register(here, here.ue)
    switch_off(here, here.ue)
    here.run(70)
    try_register(here, here.other)
    here.run(10)


@story(subscribers=(subscriber(1),))
def unknown(here: Play) -> None:
    """A user whom the HSS does not know."""
    here.lab.store.commit(Change(here.lab.store.load(FIRST), None))
    try_register(here)


@story()
def mismatch(here: Play) -> None:
    """A user who names the identity of another."""
    here.ue.config.impu = SECOND
    try_register(here)


@story(subscribers=(subscriber(1),))
def no_qop(here: Play) -> None:
    """A registrar that offers no qop."""
    here.lab.scscf.config.qop = ""
    try_register(here)


@story(subscribers=(subscriber(1),))
def three_vectors(here: Play) -> None:
    """A registrar that asks for three vectors at a time."""
    here.lab.scscf.config.vectors = 3
    try_register(here)
    for _ in range(3):
        do(here, here.ue, "reregister", 3)


@story(subscribers=(subscriber(1),))
def two_servers(here: Play) -> None:
    """An I-CSCF with a choice of two S-CSCFs (it is one, under two names)."""
    here.net.names[f"scscf2.{DOMAIN}"] = here.net.names[f"scscf.{DOMAIN}"]
    choices = here.lab.icscf.config.servers
    here.lab.icscf.config.servers = (*choices, ServerChoice(f"sip:scscf2.{DOMAIN}:5060"))
    try_register(here)


@story(subscribers=(subscriber(1, impus=(FIRST, OTHER, TEL)), subscriber(2)))
def set_of_three(here: Play) -> None:
    """Three identities that register together, the last of them barred."""
    bar(here, TEL)
    try_register(here, here.ue, here.other)
    do(here, here.other, "message", to=OTHER, text="hello")
    do(here, here.ue, "message", to=SECOND, text="hello")
    do(here, here.ue, "deregister", 10)


@story(subscribers=(subscriber(1, impus=(FIRST, OTHER)), subscriber(2)))
def barred(here: Play) -> None:
    """The identity that the UE registers is barred, the other one is not."""
    bar(here, FIRST)
    try_register(here, here.ue, here.other)
    do(here, here.ue, "message", to=SECOND, text="hello")


@story(subscribers=(subscriber(1),))
def assignment_fails(here: Play) -> None:
    """The HSS does not answer the SAR: 504 to whoever has just proved who he is."""
    here.run(1)
    hss, scscf = here.lab.host(here.lab.hss), here.lab.host(here.lab.scscf)
    with here.net.drop(hss >> scscf, nth=None, match=lambda transit: b"\x00\x01\x2d" in transit.octets):
        try_register(here, seconds=20)
    here.run(60)


@story(subscribers=(subscriber(1),))
def access_unaware(here: Play) -> None:
    """A P-CSCF that knows nothing of P-Access-Network-Info (33.203 P.3 lets it)."""
    here.lab.pcscf.config = replace(here.lab.pcscf.config, access_aware=False)
    try_register(here)


@story(subscribers=(subscriber(1, amf="8000"),))
def separated(here: Play) -> None:
    """A subscriber whose AMF has the bit of EPS vectors."""
    try_register(here)


@story(subscribers=(subscriber(1),))
def network_is_down(here: Play) -> None:
    """An I-CSCF without its HSS for ten seconds: 504 to whoever asks."""
    here.run(1)
    hss = here.lab.host(here.lab.hss)
    with here.net.drop(hss >> here.lab.host(here.lab.icscf), nth=None):
        try_register(here, seconds=10)
    here.run(60)


# ---- registered UEs


@story()
def talk(here: Play) -> None:
    """Both register and exchange messages; the first re-registers, and they go on."""
    try_register(here, here.ue, here.other)
    do(here, here.ue, "message", to=SECOND, text="hello")
    do(here, here.other, "message", to=FIRST, text="hello yourself")
    do(here, here.ue, "reregister")
    do(here, here.other, "message", to=FIRST, text="on the old set")
    do(here, here.ue, "message", to=SECOND, text="on the new set")
    do(here, here.other, "message", 40, to=FIRST, text="so here too")


@story()
def silent_after_refresh(here: Play) -> None:
    """The UE re-registers and says nothing, while somebody writes to it."""
    try_register(here, here.ue, here.other)
    do(here, here.ue, "reregister")
    do(here, here.other, "message", 40, to=FIRST, text="on the old set")


@story()
def large(here: Play) -> None:
    """A message that is too large for UDP, both ways."""
    try_register(here, here.ue, here.other)
    do(here, here.ue, "message", 5, to=SECOND, text="x" * 1600)
    do(here, here.other, "message", 5, to=FIRST, text="x" * 1600)


@story()
def clear_options(here: Play) -> None:
    """Somebody asks the UE in clear."""
    try_register(here)
    ask_in_clear(here, here.ue.config.port)


@story()
def call(here: Play) -> None:
    """A call that is hung up."""
    try_register(here, here.ue, here.other)
    do(here, here.ue, "call", 10, to=SECOND)
    do(here, here.other, "hangup", 5)


@story()
def leaving_a_call(here: Play) -> None:
    """A UE that leaves in the middle of a call."""
    try_register(here, here.ue, here.other)
    do(here, here.ue, "call", 10, to=SECOND)
    do(here, here.ue, "deregister", 10)


# ---- what the network ends


def terminate(reason: ReasonCode) -> Callable[[Play], object]:
    """An RTR with this reason, and twenty seconds."""

    def drive(here: Play) -> None:
        try_register(here, here.ue, here.other)
        here.net.command(here.lab.hss, "rtr", identity=FIRST, reason=reason)
        here.run(20)
        do(here, here.other, "reregister", 5)

    return drive


for _reason in ReasonCode:
    STORIES[f"rtr-{int(_reason)}"] = Story(terminate(_reason))


@story()
def rtr_then_refresh(here: Play) -> None:
    """Another S-CSCF has the user; nobody tells the UE, which refreshes."""
    try_register(here, here.ue)
    here.net.command(here.lab.hss, "rtr", identity=FIRST, reason=ReasonCode.NEW_SERVER_ASSIGNED)
    here.run(2)
    do(here, here.ue, "reregister", 10)


@story()
def operator_ends(here: Play) -> None:
    """The S-CSCF's operator ends a registration for good."""
    try_register(here, here.ue)
    here.net.command(here.lab.scscf, "deregister", impu=FIRST, event="rejected")
    here.run(20)


@story(subscribers=(subscriber(1),), scscf__reauthenticate=False)
def operator_asks(here: Play) -> None:
    """The S-CSCF's operator wants the user authenticated."""
    try_register(here)
    here.net.command(here.lab.scscf, "reauthenticate", impu=FIRST)
    here.run(60)


@story(subscribers=(subscriber(1, impus=(FIRST, TEL)), subscriber(2)))
def profile_changes(here: Play) -> None:
    """A PPR with an identity more and one less."""
    try_register(here, here.ue, here.other)
    profiles = [ServiceProfile([PublicIdentity(FIRST), PublicIdentity(OTHER)])]
    here.net.command(here.lab.hss, "ppr", identity=FIRST, profiles=profiles)
    here.run(20)
    do(here, here.other, "message", to=OTHER, text="to the new one")
    do(here, here.other, "reregister", 5)


# ---- strangers on Cx


class Stranger:
    """Somebody who connects to the HSS, introduces itself, and says what it is told; it understands no answer.

    Commands: say(octets), close().
    """

    def __init__(self, name: str, host: str, hss: Endpoint, *, polite: bool = True, application: int = APPLICATION_CX):
        self.name = name
        self.host = f"{name}.{DOMAIN}"
        self.entropy = SeededEntropy(1, name)
        self._flow = Flow(Transport.TCP, Endpoint(host, 0), hss)
        self._polite = polite
        self._application = application
        self._effects: list[fx.Effect] = []

    @property
    def introduction(self) -> bytes:
        """Its CER."""
        vendor = VENDOR_3GPP
        identity = Identity(self.host, DOMAIN, (self._flow.local.host,), applications=((vendor, self._application),))
        peer = Peer(identity, self.entropy, initiator=True)
        peer.connected(0.0)
        return peer.take_output()

    def handle(self, event: ev.Event, now: float) -> None:
        match event:
            case ev.Started():
                self._effects.append(fx.Connect(self._flow))
            case ev.Connected(flow=flow):
                self._flow = flow
                if self._polite:
                    self._effects.append(fx.Send(flow, self.introduction))
            case ev.Command(name="say", arguments=arguments):
                self._effects.append(fx.Send(self._flow, arguments["octets"]))

    def next_timer(self) -> float | None:
        return None

    def take(self) -> list[fx.Effect]:
        effects, self._effects = self._effects, []
        return effects

    @property
    def farewell(self) -> bytes:
        """Its DPR."""
        avps = [make("Origin-Host", self.host), make("Origin-Realm", DOMAIN), make("Disconnect-Cause", 2)]
        return identified(DiameterMessage(282, avps=avps)).encode()

    # ---- what it may say

    def header(self) -> dict[str, Any]:
        """What every question begins with."""
        return {
            "session_id": new_session_id(self.host, self.entropy),
            "origin_host": self.host,
            "origin_realm": DOMAIN,
            "destination_realm": DOMAIN,
        }

    def mar(self, **more: Any) -> DiameterMessage:
        """An MAR for the first subscriber, as an S-CSCF of this name sends it."""
        item = AuthDataItem(scheme=more.pop("scheme", SCHEME_AKA), authorization=more.pop("auts", None))
        fields = {"user_name": impi(), "public_identity": FIRST, "number_items": 1, "server_name": f"sip:{self.host}"}
        return identified(MultimediaAuthRequest(**self.header(), item=item, **{**fields, **more}).to_message())

    def sar(self, kind: ServerAssignmentType, **more: Any) -> DiameterMessage:
        """An SAR about the first subscriber."""
        fields = {"user_name": impi(), "public_identities": [FIRST], "server_name": f"sip:{self.host}"}
        request = ServerAssignmentRequest(
            **self.header(),
            assignment_type=kind,
            already_available=UserDataAlreadyAvailable.NOT_AVAILABLE,
            **{**fields, **more},
        )
        return identified(request.to_message())


def impi() -> str:
    """The first subscriber's private identity."""
    return FIRST.removeprefix("sip:")


def identified(message: DiameterMessage) -> DiameterMessage:
    """With identifiers of its own."""
    message.hop_by_hop = message.end_to_end = 0x57000000 + sum(message.encode()) % 65521
    return message


def stranger(here: Play, **how: Any) -> Stranger:
    """Put one into the lab, and let it connect."""
    hss = here.lab.hss.config.listen[0]
    made = Stranger("stranger", "198.51.100.9", hss, **how)
    host = here.net.host(made, ["198.51.100.9"])
    here.net.link(host, here.lab.host(here.lab.hss), "Cx", delay=0.001)
    here.run(0.5)
    return made


def say(here: Play, who: Stranger, *messages: DiameterMessage | bytes, seconds: float = 0.5) -> None:
    """Let a stranger say something, one after the other."""
    for each in messages:
        here.net.command(who.name, "say", octets=each if isinstance(each, bytes) else each.encode())
        here.run(seconds)


@story()
def stranger_is_there(here: Play) -> None:
    """Somebody connects to the HSS, asks for a vector, and is answered."""
    try_register(here)
    who = stranger(here)
    say(here, who, who.mar(number_items=2))
    here.run(20)


@story()
def stranger_takes_over(here: Play) -> None:
    """Another S-CSCF asks for vectors of a registered user: it is his from now on, and the first one is told."""
    try_register(here)
    who = stranger(here)
    say(here, who, who.mar())
    here.run(20)
    do(here, here.ue, "reregister", 5)


@story()
def stranger_assigns_itself(here: Play) -> None:
    """Another S-CSCF wants a registered user without authenticating him."""
    try_register(here)
    who = stranger(here)
    say(here, who, who.sar(ServerAssignmentType.RE_REGISTRATION))
    here.run(5)


@story()
def stranger_resynchronises(here: Play) -> None:
    """Another S-CSCF reports an AUTS."""
    try_register(here)
    who = stranger(here)
    say(here, who, who.mar(auts=bytes(30)))
    here.run(5)


@story(subscribers=(subscriber(1),))
def stranger_reports_a_failure(here: Play) -> None:
    """The user's own S-CSCF reports on a second connection that an authentication has failed."""
    try_register(here)
    who = stranger(here)
    say(here, who, who.sar(ServerAssignmentType.AUTHENTICATION_FAILURE, server_name=here.lab.scscf.config.name))
    do(here, here.ue, "reregister", 5)


@story()
def stranger_without_cx(here: Play) -> None:
    """Somebody who speaks another application."""
    try_register(here)
    stranger(here, application=16777251)
    here.run(5)


@story()
def stranger_without_cer(here: Play) -> None:
    """Somebody who asks before he has introduced himself."""
    who = stranger(here, polite=False)
    say(here, who, who.mar())
    here.run(1)
    say(here, who, who.introduction)
    here.run(1)


@story()
def stranger_forgets_an_avp(here: Play) -> None:
    """An MAR without Public-Identity."""
    who = stranger(here)
    wrong = who.mar()
    wrong.avps = [each for each in wrong.avps if each.code != 601]
    say(here, who, wrong)
    here.run(15)
    say(here, who, who.mar())


@story()
def stranger_adds_an_avp(here: Play) -> None:
    """An MAR with an AVP that nobody knows, and that must be understood."""
    who = stranger(here)
    odd = who.mar()
    odd.avps.append(Avp(4711, 0, FLAG_MANDATORY, b"what?"))
    say(here, who, odd)
    here.run(1)


@story()
def stranger_says_farewell(here: Play) -> None:
    """DPR, and a question after it."""
    who = stranger(here)
    say(here, who, who.mar())
    say(here, who, who.farewell, seconds=2)
    say(here, who, who.mar(number_items=2))
    here.run(1)


@story()
def stranger_wants_a_scheme(here: Play) -> None:
    """An MAR for a scheme that there is not."""
    who = stranger(here)
    say(here, who, who.mar(scheme="Digest-Levitation"))
    here.run(1)


@story()
def stranger_in_two_segments(here: Play) -> None:
    """An MAR whose second half comes a little later."""
    who = stranger(here)
    octets = who.mar().encode()
    say(here, who, octets[:100], octets[100:], seconds=0.1)
    here.run(15)
    say(here, who, who.mar(number_items=2))
