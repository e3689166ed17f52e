"""What Prometheus sees of training."""

from services.training.metrics import Metrics
from shared.jobs import JobState


def test_epochs_are_shown_by_the_state_of_their_run_and_no_state_is_missing() -> None:
    metrics = Metrics()
    first = metrics.expose(epochs={JobState.RUNNING: 3, JobState.SUCCEEDED: 40}, runs=[], publications=[]).decode()
    assert 'mien_training_epochs{state="running"} 3.0' in first
    assert 'mien_training_epochs{state="succeeded"} 40.0' in first
    later = metrics.expose(epochs={JobState.SUCCEEDED: 44}, runs=[], publications=[]).decode()
    assert 'mien_training_epochs{state="running"} 0.0' in later
    assert all(f'mien_training_runs{{state="{state}"}} 0.0' in later for state in JobState)
