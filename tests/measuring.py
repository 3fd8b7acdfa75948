"""Shared by tests of what services measure: a service that hears facts as from a tape, and its samples."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from prometheus_client import generate_latest

from tapeline_common.events import AUTHOR_OF, Event
from tapeline_common.follower import Follower
from tapeline_common.measures import Known
from tapeline_common.metrics import Metrics
from tapeline_common.wire import Heard
from tapeline_common.wiring import Service, in_author_order

SECOND_NS = 10**9


def parsed(text: str) -> dict[str, float]:
    """Sample → value, without the label ``service``, which all have."""
    found = {}
    for line in text.splitlines():
        if line.startswith("#") or "_created" in line:
            continue
        name, _, value = line.rpartition(" ")
        metric, _, labels = name.rstrip("}").partition("{")
        kept = [label for label in labels.split('",') if not label.startswith("service=")]
        found[f"{metric}{{{','.join(label.rstrip(chr(34)) for label in kept)}}}".replace('"', "")] = float(value)
    return found


class Scene:
    """A service with its metrics, and a tape that only it and the test speak on.

    Attributes:
        now_ns: the wall clock, and the stamp of what is heard.
    """

    def __init__(self, service: Service, *, known: Known = (), now_ns: int = 0) -> None:
        self.now_ns = now_ns
        self.pos = 0
        self.followers = {core.name: Follower(core) for core in in_author_order(service.cores)}
        self.metrics = Metrics(service.name, service.measures, known=known, clock=lambda: self.now_ns)
        self.metrics.bind({name: follower.state for name, follower in self.followers.items()})
        self._restoring = False

    def hear(self, *events: Event) -> Scene:
        """Each is recorded now, and so is what the service answers; all of it is heard."""
        for event in events:
            queue: deque[tuple[Event, str, int]] = deque([(event, AUTHOR_OF[type(event)], 0)])
            while queue:
                fact, author, cause = queue.popleft()
                self.pos += 1
                heard = Heard(self.pos, self.now_ns, author, cause, fact)
                for name, follower in self.followers.items():
                    queue.extend((decision, name, heard.pos) for decision in follower.hear(heard))
                if self._restoring:
                    self.metrics.recalled([heard])
                else:
                    self.metrics.heard(heard)
        return self

    def restored(self, *events: Event) -> Scene:
        """These were heard before the process began; then it has restored."""
        self._restoring = True
        self.hear(*events)
        self._restoring = False
        self.metrics.restored(0.0)
        return self

    def samples(self, *names: str) -> dict[str, float]:
        """Samples of these metrics, all buckets left out."""
        page = parsed(generate_latest(self.metrics.registry).decode())
        return {sample: value for sample, value in page.items() if _metric(sample) in names}

    def values(self, name: str) -> Mapping[str, float]:
        """The same of one metric, by its labels only, zeros left out."""
        return {sample[len(name) :].strip("{}"): value for sample, value in self.samples(name).items() if value}


def _metric(sample: str) -> str:
    return sample.partition("{")[0]
