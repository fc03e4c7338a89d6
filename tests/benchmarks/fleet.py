"""Many UEs in one simulated network: made and registered, with what that costs. Run as a process of its own by
bench_fleet: `python -m tests.benchmarks.fleet COUNT` prints one JSON document.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import time

from imslab.config import LabConfig, load
from imslab.lab import Lab
from imslab.roles.ue_states import State

#: Seconds of the lab's clock between one UE's start and the next: a crowd, not a stampede.
APART = 0.002
OP = "cdc202d5123e20f62b6d676ac72cb318"


def config(count: int) -> LabConfig:
    """A lab of this many subscribers, each with its own key."""
    subscribers = [{"imsi": f"00101{number:010d}", "k": f"{number:032x}", "op": OP} for number in range(1, count + 1)]
    return load(subscribers=subscribers)


def register_all(lab: Lab) -> int:
    """Let every UE register and its subscriptions settle. How many are registered."""
    for place, ue in enumerate(lab.ues):
        lab.net.at(place * APART, lambda ue=ue: lab.net.command(ue, "register"))  # type: ignore[misc]
    lab.net.run(len(lab.ues) * APART + 5.0)
    return sum(ue.state is State.REGISTERED for ue in lab.ues)


def main(count: int) -> None:
    """Measure one size."""
    gc.freeze()  # what was imported lives for ever: the collector need not look at it again
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wanted = config(count)
    start = time.process_time()
    lab = Lab(wanted, record=False)
    made = time.process_time()
    registered = register_all(lab)
    done = time.process_time()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        json.dumps(
            {
                "count": count,
                "registered": registered,
                "making": made - start,
                "registering": done - made,
                "kilobytes": after - before,
            }
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
