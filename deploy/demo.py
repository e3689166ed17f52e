"""Post one video and show what Mien sees in it: `python -m deploy.demo [VIDEO]`.

Without VIDEO it makes a clip from a public-domain portrait. Uses the server at MIEN_URL, with the key in MIEN_API_KEY, or
else the stack that `make up` left running, or else one that it starts and stops itself.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from deploy.clip import make_clip
from deploy.report import report
from deploy.stack import HOME, Stack, running_at
from deploy.supervisor import StackError
from shared.jobs import FINAL_STATES, Job, JobState
from shared.results import Result, Track

POLL_S: Final = 0.25
STALLED_S: Final = 300.0
"""A job that says nothing new for so long will not end by itself."""
PLAIN_WIDTH: Final = 140
"""Of output that goes to a file: wide enough that no cell is broken."""


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.demo", description="Analyse one video with Mien, on this machine.")
    parser.add_argument("video", nargs="?", type=Path, help="a video file (default: a clip made from a public-domain portrait)")
    parser.add_argument("--home", type=Path, default=HOME, help="where the stack keeps its state (default: .mien)")
    asked = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH)
    try:
        demo(
            asked.video,
            home=asked.home,
            url=os.environ.get("MIEN_URL"),
            api_key=os.environ.get("MIEN_API_KEY"),
            redis_url=os.environ.get("REDIS_URL"),
            console=console,
        )
    except (DemoError, StackError) as error:
        console.print(f"error: {error}", style="red", markup=False, highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("stopped")
        return 130
    return 0


def demo(video: Path | None, *, home: Path, url: str | None, redis_url: str | None, console: Console, api_key: str | None = None) -> None:
    """The whole demonstration. Raises DemoError or StackError."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    with chosen_video(video) as path, server(home, url=url, redis_url=redis_url, console=console) as (address, logs):
        console.print(f"posting {path.name} to {address}", markup=False, highlight=False)
        with httpx.Client(base_url=address, timeout=60, headers=headers) as client:
            try:
                job = follow(client, post(client, path), console)
                result = read_result(client, job)
            except httpx.TransportError as error:
                raise DemoError(f"{address} does not answer ({error}); {logs}") from error
            except DemoError as error:
                raise DemoError(f"{error}\n{logs}") from error
        console.print(report(result, name=path.name, timings=job.timings), markup=False, highlight=False)


@contextmanager
def chosen_video(video: Path | None) -> Iterator[Path]:
    """The file to post, looked for before anything is started."""
    if video is None:
        with TemporaryDirectory(prefix="mien-") as folder:
            path = Path(folder) / "portrait.mp4"
            make_clip(path)
            yield path
    elif not video.is_file():
        raise DemoError(f"there is no file {video}" if not video.exists() else f"{video} is not a file")
    else:
        yield video


@contextmanager
def server(home: Path, *, url: str | None, redis_url: str | None, console: Console) -> Iterator[tuple[str, str]]:
    """A running Mien's address, and a sentence on where its logs are."""
    running = url or running_at(home)
    if running is not None:
        yield running.rstrip("/"), "the server that was already running has the logs" if url else f"the logs are in {home / 'logs'}"
        return
    console.print("starting Redis, Triton, the gateway and a worker ...")
    began_s = time.monotonic()
    with Stack(home=home, redis_url=redis_url, announce=lambda line: console.print(line, markup=False, highlight=False)) as stack:
        console.print(f"ready after {time.monotonic() - began_s:.0f} s", highlight=False)
        yield stack.url, f"the logs are in {stack.logs}"


# --- the API, as any client uses it ----------------------------------------------------------------------------------


def post(client: httpx.Client, video: Path) -> Job:
    """Submit a video, streamed from the disk."""
    with video.open("rb") as body:
        answer = client.post("/v1/analyses", content=body, headers={"Content-Type": "application/octet-stream"})
    return read_job(answer)


def follow(client: httpx.Client, job: Job, console: Console) -> Job:
    """Show the job's progress until it has succeeded. Raises DemoError when it ends otherwise."""
    with progress_shown(console) as show:
        seen, changed_s = job, time.monotonic()
        while job.state not in FINAL_STATES:
            time.sleep(POLL_S)
            job = read_job(client.get(f"/v1/analyses/{job.id}"))
            if job != seen:
                seen, changed_s = job, time.monotonic()
                show(job)
            elif time.monotonic() - changed_s > STALLED_S:
                raise DemoError(f"analysis {job.id} is {job.state} and has not moved for {STALLED_S:.0f} s")
    if job.failure is not None:
        raise DemoError(f"{job.failure.title} {job.failure.detail} ({job.failure.code})")
    if job.state is not JobState.SUCCEEDED:
        raise DemoError(f"analysis {job.id} was {job.state}")
    return job


def read_result(client: httpx.Client, job: Job) -> Result:
    """The whole result: a long one comes in pages, each with some windows of some tracks."""
    pages: list[Result] = []
    token: object = None
    while token is not None or not pages:
        body = _body(client.get(f"/v1/analyses/{job.id}/results", params={"page_token": str(token)} if token else {}))
        token = body["next_page_token"]
        pages.append(Result.model_validate({name: body[name] for name in Result.model_fields}))
    return pages[0].model_copy(update={"tracks": joined(track for page in pages for track in page.tracks)})


def joined(parts: Iterable[Track]) -> tuple[Track, ...]:
    """Whole tracks from their parts: those with one id are one track, whose timeline was cut."""
    tracks: dict[str, Track] = {}
    for part in parts:
        before = tracks[part.track_id].timeline if part.track_id in tracks else ()
        tracks[part.track_id] = part.model_copy(update={"timeline": before + part.timeline})
    return tuple(tracks.values())


def read_job(answer: httpx.Response) -> Job:
    """The job's record, without the links that the API adds."""
    return Job.model_validate({name: value for name, value in _body(answer).items() if name in Job.model_fields})


def _body(answer: httpx.Response) -> dict[str, object]:
    body: dict[str, object] = answer.json()
    if not answer.is_success:
        raise DemoError(f"{body['title']} {body['detail']} ({body['code']})")
    return body


# --- progress --------------------------------------------------------------------------------------------------------


@contextmanager
def progress_shown(console: Console) -> Iterator[Callable[[Job], None]]:
    """A bar on a terminal, a line per change of stage elsewhere."""
    if not console.is_terminal:
        yield _StageLines(console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("frames"), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("waiting", total=None)

        def show(job: Job) -> None:
            bar.update(task, description=job.progress.stage, completed=job.progress.frames_done, total=job.progress.frames_total)

        yield show


class _StageLines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._said = ""

    def __call__(self, job: Job) -> None:
        if job.progress.stage != self._said and job.state not in FINAL_STATES:
            self._said = job.progress.stage
            self._console.print(f"{self._said} ...", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
