"""A proxy with a connection to the HSS: what I-CSCF and S-CSCF have in common as nodes."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from imslab.core import effects as fx
from imslab.core.entropy import Entropy
from imslab.core.flow import Endpoint, Flow, Transport
from imslab.diameter.message import DiameterMessage
from imslab.roles.cx_client import ALARM, CxClient, CxConfig
from imslab.roles.proxy import Proxy


class CxProxy(Proxy):
    """A Proxy that listens on `core` and keeps `cx`. A role that adds to one of these hooks calls it too."""

    def __init__(self, name: str, core: Endpoint, cx: CxConfig, entropy: Entropy, faults: Iterable[str] = ()) -> None:
        super().__init__(name, core, entropy, faults)
        self.cx = CxClient(self, cx, self.on_hss)

    def on_hss(self, message: DiameterMessage) -> DiameterMessage | None:
        """What the HSS asks of us, and our answer; None for none. The I-CSCF is asked nothing (29.228 6)."""
        return None

    def on_started(self) -> None:
        for transport in (Transport.UDP, Transport.TCP):
            self.effect(fx.Listen(transport, self.core))
        self.cx.connect()

    def on_stream_open(self, asked: Flow, flow: Flow) -> None:
        if self.cx.owns(asked):
            self.cx.opened(flow)

    def on_stream_closed(self, flow: Flow, key: object, reason: str) -> None:
        if self.cx.owns(flow):
            self.cx.closed(reason)

    def on_alarm(self, key: Hashable) -> None:
        if key == ALARM:
            self.cx.connect()

    def other_timer(self) -> float | None:
        return self.cx.next_timer()

    def on_time(self) -> None:
        self.cx.time()
