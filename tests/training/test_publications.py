"""Requests to publish: until the release gets its name one can be canceled, and from there on it is finished."""

import threading
from pathlib import Path

import pytest

from shared.errors import PublicationNotFound, PublicationOver
from shared.jobs import JobState
from training.publications import Publication, Publications
from training.work import work

RUN = "tr_" + "0" * 32


@pytest.fixture
def ledger(tmp_path: Path) -> Publications:
    return Publications(tmp_path / "runs")


@pytest.fixture
def publication(ledger: Publications) -> Publication:
    return ledger.accept(RUN, promote=True)


def test_one_that_waits_is_canceled_at_once(ledger: Publications, publication: Publication) -> None:
    assert ledger.cancel(publication.id).state is JobState.CANCELED
    with pytest.raises(PublicationOver):
        ledger.begin(publication.id)
    with pytest.raises(PublicationNotFound):
        ledger.cancel(RUN)


def test_one_that_is_canceled_while_it_is_measured_changes_nothing(ledger: Publications, publication: Publication) -> None:
    """Whether or not anybody has had the time to tell its process."""

    def measuring(entry: Publication) -> dict[str, object]:
        assert ledger.cancel(entry.id).cancel_requested
        ledger.commit(entry.id)
        raise AssertionError("the repository would be changed here")

    with pytest.raises(SystemExit):
        work(ledger, publication.id, measuring)
    left = ledger.get(publication.id)
    assert (left.state, left.committed, left.version) == (JobState.CANCELED, False, None)


def test_one_whose_release_gets_its_name_is_finished(ledger: Publications, publication: Publication) -> None:
    def renaming(entry: Publication) -> dict[str, object]:
        ledger.commit(entry.id)
        with pytest.raises(PublicationOver) as caught:
            ledger.cancel(entry.id)
        assert caught.value.extra == {"state": JobState.RUNNING}
        return {"version": 7}

    assert work(ledger, publication.id, renaming).state is JobState.SUCCEEDED
    with pytest.raises(PublicationOver):
        ledger.cancel(publication.id)


def test_one_that_was_killed_after_that_is_finished_by_the_next_attempt(ledger: Publications, publication: Publication) -> None:
    ledger.begin(publication.id)
    ledger.commit(publication.id)
    with pytest.raises(PublicationOver):
        ledger.cancel(publication.id)
    assert ledger.died(publication.id, "by SIGKILL").state is JobState.QUEUED
    with pytest.raises(PublicationOver):
        ledger.cancel(publication.id)
    assert work(ledger, publication.id, lambda entry: ledger.commit(entry.id) or {"version": 7}).version == 7


def test_of_a_cancel_and_a_commit_at_the_same_moment_one_wins(ledger: Publications) -> None:
    for _ in range(20):
        entry = ledger.accept(RUN, promote=True)
        with ledger.hold(entry.id):
            ledger.begin(entry.id)
            refused: list[bool] = []

            def cancel(entry_id: str = entry.id, refused: list[bool] = refused) -> None:
                try:
                    ledger.cancel(entry_id)
                except PublicationOver:
                    refused.append(True)

            canceling = threading.Thread(target=cancel)
            canceling.start()
            try:
                ledger.commit(entry.id)
                committed = True
            except SystemExit:
                committed = False
            canceling.join()
            assert committed == bool(refused)
