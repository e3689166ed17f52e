"""Every file of the corpus through the decoder that the worker uses: the right verdict, in little memory, and nothing reached."""

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.preprocess.decode.limits import most_frames
from tests.corpus.bombs import MAX_DURATION_MS, bombs
from tests.corpus.canary import SECRET, Canary, canary
from tests.corpus.cases import Case
from tests.corpus.corners import corners
from tests.corpus.judging import CODES, MOST_MEMORY, SAMPLE_FPS, Seen, complaints, judge, watching
from tests.corpus.mutations import MUTATIONS, mutant, seeds
from tests.corpus.strangers import strangers
from tests.corpus.tricks import tricks

MUTANTS = int(os.environ.get("MIEN_MUTATIONS", "500"))
PROCESSES = 2
SECONDS_EACH = 3
"""For the limit on the time of a test only: a mutant takes a tenth of that on a machine that has nothing else to do."""


def named(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("case", [*strangers(), *corners()], ids=named)
def test_an_odd_file_gets_the_right_verdict(case: Case, tmp_path: Path) -> None:
    assert complaints(case, judge(case.write(tmp_path), **case.limits)) == []


@pytest.mark.parametrize("case", bombs(), ids=named)
def test_a_bomb_costs_little(case: Case, tmp_path: Path) -> None:
    path = case.write(tmp_path)
    with watching() as watched:
        seen = judge(path, **case.limits)
    assert complaints(case, seen) == []
    assert watched.most_memory <= MOST_MEMORY


def test_a_video_of_too_many_frames_is_left_at_the_limit(tmp_path: Path) -> None:
    (case,) = (bomb for bomb in bombs() if bomb.name == "many-frames.mkv")
    seen = judge(case.write(tmp_path), **case.limits)
    sampled_at_the_limit = most_frames(MAX_DURATION_MS) * SAMPLE_FPS / 1000  # a thousand frames pass in a second of it
    assert 0.95 <= len(seen.numbers) / sampled_at_the_limit <= 1.05


# --- tricks ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def bird(tmp_path: Path) -> Iterator[Canary]:
    with canary(tmp_path) as bird:
        yield bird


def test_no_trick_reaches_a_server_a_file_or_a_socket(bird: Canary, tmp_path: Path) -> None:
    wrong: dict[str, list[str]] = {}
    with watching() as watched:
        for case in tricks(bird):
            wrong[case.name] = complaints(case, judge(case.write(tmp_path), **case.limits))
    assert {name: reasons for name, reasons in wrong.items() if reasons} == {}
    assert bird.hits == []
    assert watched.sockets == set()
    assert watched.most_memory > 0, "nobody looked"


def test_the_secret_would_be_seen(bird: Canary, tmp_path: Path) -> None:
    """Raw frames of the secret itself: what the other tests look for can be found."""
    (case,) = (trick for trick in tricks(bird) if trick.name == "url-file.mov")
    content = case.write(tmp_path).read_bytes()
    start = content.index(b"mdat") + 4
    (tmp_path / "own.mov").write_bytes(content[:start] + (SECRET * 5000)[: 25 * 768] + content[start + 25 * 768 :])
    assert judge(tmp_path / "own.mov").leaked


# --- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(120 + SECONDS_EACH * MUTANTS)
def test_mutants_get_a_verdict_each(tmp_path: Path) -> None:
    def outcome(number: int) -> tuple[str, Seen]:
        damaged = mutant(number)
        path = tmp_path / damaged.name
        path.write_bytes(damaged.content)
        try:
            return damaged.name, judge(path)
        finally:
            path.unlink()

    seeds()  # once, before the threads ask for them
    with watching() as watched, ThreadPoolExecutor(PROCESSES) as pool:
        outcomes = dict(pool.map(outcome, range(MUTANTS)))
    verdicts = {name: seen.verdict for name, seen in outcomes.items()}
    for verdict, count in Counter(verdicts.values()).most_common():
        print(f"{count:6d} {verdict}")  # noqa: T201 - the tally is what one wants to see
    assert {name: verdict for name, verdict in verdicts.items() if verdict not in CODES | {"succeeded"}} == {}
    assert {name: verdict for name, verdict in verdicts.items() if verdict in {"decode-crashed", "decode-timeout"}} == {}
    assert watched.most_memory <= MOST_MEMORY
    if len(verdicts) >= len(seeds()) * len(MUTATIONS):
        assert {"succeeded", "media-corrupt"} <= set(verdicts.values())


def test_mutants_are_the_same_in_every_run() -> None:
    before = [mutant(number) for number in range(60)]
    seeds.cache_clear()
    assert [mutant(number) for number in range(60)] == before
    assert len({each.content for each in before}) == 60
