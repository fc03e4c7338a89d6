"""What many users cost the S-CSCF: the last one as much as the first, and nothing once they have gone."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable

from tests.roles.core_bench import DOMAIN, profile, vector
from tests.roles.scscf_bench import Bench, Phone


class Crowd(Bench):
    """Users by number, each with two identities; what the wire remembers is thrown away after each step."""

    def phone_of(self, number: int) -> Phone:
        self.users.profile = profile(f"sip:{number}@{DOMAIN}", f"tel:+{number}")
        host = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        return Phone(f"{number}@{DOMAIN}", f"sip:{number}@{DOMAIN}", f"<sip:{number}@{host}:5062>", f"call-{number}")

    def item(self, nonce: str) -> object:  # type: ignore[override]  # the last one given is the one that is asked for
        return vector(self.users.count)

    def join(self, number: int) -> Phone:
        phone = self.phone_of(number)
        self.registered(phone)
        self.forget()
        return phone

    def forget(self) -> None:
        self.wire.log.clear()
        self.pcscf.got.clear()
        self.hss.got.clear()
        self.hss.messages.clear()

    def rest(self, seconds: float = 300.0) -> None:
        """Let transactions and remembered answers die away."""
        self.wire.run(self.wire.now + seconds)
        self.forget()
        gc.collect()


def cost(action: Callable[[], object]) -> int:
    """The lines of Python that an action runs, those of comprehensions once for each element."""
    lines = 0

    def tracer(frame: object, event: str, argument: object) -> object:
        nonlocal lines
        lines += event == "line"
        return tracer

    before = sys.gettrace()
    sys.settrace(tracer)  # type: ignore[arg-type]
    try:
        action()
    finally:
        sys.settrace(before)
    return lines


def test_the_measure_sees_a_scan() -> None:
    many = dict.fromkeys(range(400))
    assert cost(lambda: [each for each in many if each is None]) >= 400


def test_a_refresh_costs_the_same_among_few_and_among_many() -> None:
    """No step looks at all registrations: not REGISTER, not NOTIFY, not the end."""
    costs = []
    crowd = Crowd(reauthenticate=False)
    phone = crowd.join(0)
    crowd.subscribe(phone.impu)
    for number in range(1, 401):
        crowd.join(number)
        crowd.subscribe(f"sip:{number}@{DOMAIN}", call_id=f"sub-{number}") if number % 2 else None
        if number in (20, 400):
            crowd.rest(40.0)
            crowd.phone_of(0)
            for _ in range(2):
                crowd.one(phone.register("yes"))
            crowd.forget()
            costs.append(cost(lambda: crowd.one(phone.register("yes"))))
    few, many = costs
    assert many < few * 1.2


def test_memory_grows_by_the_same_for_every_user() -> None:
    crowd = Crowd()
    for number in range(100):
        crowd.join(number)
    sizes = []
    tracemalloc.start()
    try:
        for start in (100, 300):
            crowd.rest(40.0)
            before = tracemalloc.get_traced_memory()[0]
            for number in range(start, start + 200):
                crowd.join(number)
            crowd.rest(40.0)
            sizes.append((tracemalloc.get_traced_memory()[0] - before) / 200)
    finally:
        tracemalloc.stop()
    assert max(sizes) < 12_000, f"octets for each user, caches of URIs and the HSS's own included: {sizes}"
    assert sizes[1] < sizes[0] * 1.5


def test_nothing_is_left_of_those_who_have_gone() -> None:
    """By leaving, by time, by silence, by failure: every table is empty again."""
    crowd = Crowd()
    for number in range(40):
        phone = crowd.join(number)
        crowd.subscribe(phone.impu, call_id=f"sub-{number}")
        if number % 2:
            crowd.one(phone.register("yes", expires=0))
    for number in range(100, 140):
        nonce = crowd.challenge(crowd.phone_of(number))
        if number % 2:
            crowd.answer(nonce, crowd.phone_of(number), response="0" * 32)
    crowd.rest(5000.0)
    box = crowd.box
    assert len(box.registrar) == 0
    assert box.registrar._by_public == {}
    assert box.authentications == box._challenged == box._dialogs == box._watchers == box._alarms == {}
    assert len(box.transactions) == 0
    assert box.cx._taken == {}
