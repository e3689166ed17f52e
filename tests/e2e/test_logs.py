"""What all services together write to their logs: enough to follow a job through them, and nothing about anybody."""

import json
from pathlib import Path
from typing import Any

NAME, KEY = "anna-and-ben-at-the-lake", "order-4711-of-anna"
OURS = ("gateway", "worker", "training")


def lines(mien) -> list[dict[str, Any]]:
    """Those of our services, which are JSON, all of this run."""
    texts = [line for name in OURS for line in (mien.stack.logs / f"{name}.log").read_text().splitlines()]
    return [json.loads(text) for text in texts if text.startswith("{")]


def numbers(value: object) -> set[str]:
    """Every score and weight of a result, as it would be written."""
    if isinstance(value, dict):
        return set().union(*map(numbers, value.values()))
    if isinstance(value, list):
        return set().union(*map(numbers, value))
    return {str(value)} if isinstance(value, float) and len(str(value)) >= 6 else set()


def test_a_job_can_be_followed_and_nobody_be_found(mien, portrait: Path) -> None:
    answer = mien.http.post(
        "/v1/analyses",
        files={"video": (f"{NAME}.mp4", portrait.read_bytes(), "video/mp4")},
        headers={"X-Request-Id": "follow-me", "Idempotency-Key": KEY},
    )
    assert answer.status_code == 202, answer.text
    job_id = answer.json()["id"]
    result = mien.result(job_id)
    letter = mien.http.post("/v1/analyses", files={"video": (f"{NAME}.txt", b"Dear Anna,\n" * 500, "video/mp4")}).json()["id"]
    mien.final(letter)
    mien.http.delete(f"/v1/analyses/{job_id}")
    followed = [line for line in lines(mien) if line.get("job_id") == job_id]
    assert {line["service"] for line in followed} == {"gateway", "preprocess"}
    assert {line["request_id"] for line in followed} == {"follow-me"}
    assert {"accepted", "begun", "ended"} <= {line["event"] for line in followed}
    scores = numbers(result["tracks"])
    assert scores
    for path in mien.stack.logs.glob("*.log"):
        said = path.read_text(errors="replace")
        assert not [secret for secret in (NAME, KEY, "Dear Anna", *scores) if secret in said], path.name
    # Services name each other's addresses, which are the client's own here; what is said about a request names none.
    about_requests = [line for line in lines(mien) if line["event"] == "request" or line.get("request_id") == "follow-me"]
    assert about_requests
    assert not [line for line in about_requests if "127.0.0.1" in json.dumps(line)], "nobody's address"
