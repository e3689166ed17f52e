"""A few bad files as a client sends them: each job ends with its reason, and the worker serves on."""

from pathlib import Path

import pytest

from tests.corpus.bombs import bombs
from tests.corpus.corners import corners
from tests.corpus.judging import CODES
from tests.corpus.mutations import mutant
from tests.corpus.strangers import strangers

BAD = [
    *("html.mp4", "zip.mp4", "animation.gif", "video.flv", "song.m4a", "no-moov.mp4", "unknown-codec.mp4", "timescale-0.mp4"),
    *("too-long.mp4", "hidden-8192.mp4", "2e9-sizes.mp4"),
]
ODD = {"rotated-90.mp4": ["rotated"], "vfr.mp4": ["variable-frame-rate"], "polyglot.mp4": [], "alpha.webm": []}
MUTANTS = range(0, 60, 7)
CASES = {case.name: case for case in [*strangers(), *corners(), *bombs()]}


@pytest.fixture
def good(portrait: Path) -> bytes:
    return portrait.read_bytes()


def test_bad_files_fail_with_their_reasons_and_a_good_one_succeeds(mien, good, tmp_path, worker_lives):
    sent = {name: mien.accepted(CASES[name].write(tmp_path)) for name in BAD}
    last = mien.accepted(good)
    jobs = {name: mien.final(job_id) for name, job_id in sent.items()}
    codes = {name: (job["failure"] or {}).get("code") for name, job in jobs.items()}
    right = {name: {error.code() for error in CASES[name].expected.errors} or CODES for name in BAD}
    assert {name: code for name, code in codes.items() if code not in right[name]} == {}
    assert {job["attempts"] for job in jobs.values()} == {1}
    assert not any(job["failure"]["retryable"] for job in jobs.values())
    assert len(mien.result(last)["tracks"]) == 1


def test_odd_files_are_analysed_with_a_warning_where_one_is_due(mien, tmp_path, worker_lives):
    sent = {name: mien.accepted(CASES[name].write(tmp_path)) for name in ODD}
    assert {name: mien.result(job_id)["warnings"] for name, job_id in sent.items()} == ODD


def test_mutants_are_final_with_a_reason_that_the_catalogue_knows(mien, worker_lives):
    sent = [mien.accepted(mutant(number).content) for number in MUTANTS]
    for job in map(mien.final, sent):
        assert job["state"] == "succeeded" or job["failure"]["code"] in CODES, job
