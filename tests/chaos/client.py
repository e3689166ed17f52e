"""A client as the API asks it to be: it repeats what was not answered, with the same Idempotency-Key, until it is."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import httpx

from shared.jobs import FINAL_STATES
from tests.chaos.waiting import wait_for

RAW: Final = {"Content-Type": "application/octet-stream"}
AGAIN_AFTER_S: Final = 0.3
ANSWERS_WITHIN_S: Final = 30.0
GOOD: Final = 202
TOO_MANY: Final = 429
KEY_IN_USE: Final = 409

Answer = dict[str, Any]


class Refused(Exception):
    """The server's final word on a request."""


class Client:
    """Remembers how it was answered. May be shared by threads."""

    def __init__(self, url: str, *, api_key: str | None = None) -> None:
        self.statuses: Counter[int] = Counter()
        """How often each status came; 0 stands for no answer at all."""
        self.slowest_s = 0.0
        """The longest that `ask_timed` took."""
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(base_url=url, timeout=ANSWERS_WITHIN_S, headers=headers)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def ask(self, method: str, path: str, **how: Any) -> httpx.Response | None:
        """One try; None when there was no answer."""
        try:
            answer = self._http.request(method, path, **how)
        except httpx.TransportError:
            self.statuses[0] += 1
            return None
        self.statuses[answer.status_code] += 1
        return answer

    def ask_timed(self, path: str) -> None:
        """A look that counts towards `slowest_s`, whatever the answer is."""
        began = time.monotonic()
        self.ask("GET", path)
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)

    def post(self, video: Path, *, key: str, within_s: float) -> str:
        """The id of the analysis. Raises Refused; TooLate."""

        def posted() -> str:
            answer = self.ask("POST", "/v1/analyses", content=video.read_bytes(), headers={**RAW, "Idempotency-Key": key})
            if answer is None or is_passing(answer.status_code):
                return ""
            if answer.status_code != GOOD:
                raise Refused(answer.text)
            return str(answer.json()["id"])

        return wait_for(posted, within_s=within_s, what=f"posting {key}", every_s=AGAIN_AFTER_S)

    def post_all(self, videos: Sequence[Path], *, keys: Sequence[str], within_s: float, at_once: int = 4) -> list[str]:
        """The ids, in the order of the keys. The videos take turns."""
        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(lambda n: self.post(videos[n % len(videos)], key=keys[n], within_s=within_s), range(len(keys))))

    def read(self, path: str, *, within_s: float = 60.0, **parameters: Any) -> Answer:
        """Raises Refused; TooLate."""

        def answered() -> Answer:
            answer = self.ask("GET", path, params=parameters)
            if answer is None or is_passing(answer.status_code):
                return {}
            if not answer.is_success:
                raise Refused(answer.text)
            body: Answer = answer.json()
            return body

        return wait_for(answered, within_s=within_s, what=f"reading {path}", every_s=AGAIN_AFTER_S)

    def job(self, job_id: str) -> Answer:
        return self.read(f"/v1/analyses/{job_id}")

    def jobs(self) -> list[Answer]:
        """All of them."""
        jobs: list[Answer] = []
        token: str | None = ""
        while token is not None:
            page = self.read("/v1/analyses", page_size=500, **({"page_token": token} if token else {}))
            jobs += page["analyses"]
            token = page["next_page_token"]
        return jobs

    def states(self, job_ids: Iterable[str]) -> Counter[str]:
        wanted = set(job_ids)
        return Counter(job["state"] for job in self.jobs() if job["id"] in wanted)

    def all_final(self, job_ids: Sequence[str], *, within_s: float) -> list[Answer]:
        """The records, once each is final. Raises TooLate."""
        ends = {str(state) for state in FINAL_STATES}
        records: dict[str, Answer] = {}

        def over() -> bool:
            with suppress(TimeoutError):
                records.update((job["id"], job) for job in self.jobs())
            return all(records.get(job_id, {}).get("state") in ends for job_id in job_ids)

        wait_for(over, within_s=within_s, what=f"the end of {len(job_ids)} analyses", every_s=0.5)
        return [records[job_id] for job_id in job_ids]

    def result(self, job_id: str) -> Answer:
        """What the analysis found, without what differs between two of the same video."""
        body = self.read(f"/v1/analyses/{job_id}/results")
        return {name: value for name, value in body.items() if name not in {"id", "links", "next_page_token"}}


def is_passing(status: int) -> bool:
    """Whether the same request may be answered otherwise later."""
    return status in {KEY_IN_USE, TOO_MANY} or status >= 500


def server_errors(statuses: Counter[int]) -> int:
    """Answers that nobody should ever get: 5xx other than 503 and 507."""
    return sum(count for status, count in statuses.items() if status >= 500 and status not in {503, 507})
