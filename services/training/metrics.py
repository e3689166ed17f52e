"""What Prometheus sees of the training service."""

from collections import Counter
from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from services.web.metrics import RequestMetrics
from shared.jobs import JobState
from training.ledger import Entry


class Metrics:
    """The instruments of one training service, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = RequestMetrics("training", self._registry)
        self._entries = {
            name: Gauge(f"mien_training_{name}", f"{name.capitalize()} by state.", ["state"], registry=self._registry)
            for name in ("runs", "publications")
        }

        self._epochs = Gauge(
            "mien_training_epochs", "Finished epochs of the runs that there are, by the run's state.", ["state"], registry=self._registry
        )

    def expose(self, *, epochs: Mapping[JobState, int], **entries: Sequence[Entry]) -> bytes:
        """The text format, with the `runs` and `publications` that there are now."""
        for state in JobState:
            self._epochs.labels(state=state).set(epochs.get(state, 0))
        for name, found in entries.items():
            counts = Counter(entry.state for entry in found)
            for state in JobState:
                self._entries[name].labels(state=state).set(counts[state])
        return generate_latest(self._registry)
