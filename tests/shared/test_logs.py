"""One line of JSON per event."""

import json
import logging
from concurrent.futures import ThreadPoolExecutor

from shared.logs import JsonLines, about


def line(**record: object) -> dict[str, object]:
    parsed: dict[str, object] = json.loads(JsonLines("worker").format(logging.makeLogRecord(record)))
    return parsed


def test_a_line_says_when_who_and_what() -> None:
    said = line(name="services.x", levelname="WARNING", msg="%s of %s", args=(1, 2), created=0.0015)
    assert said == {
        "time": "1970-01-01T00:00:00.001+00:00",
        "level": "warning",
        "service": "worker",
        "logger": "services.x",
        "event": "1 of 2",
    }


def test_extra_becomes_members_and_odd_values_become_text() -> None:
    said = line(msg="done", job="an_1", ms=3, odd={1})
    assert (said["job"], said["ms"], said["odd"]) == ("an_1", 3, "{1}")


def test_a_line_stays_one_line_with_a_traceback() -> None:
    error = ValueError("two\nlines")
    record = logging.makeLogRecord({"msg": "failed\nbadly", "exc_info": (ValueError, error, None)})
    text = JsonLines("worker").format(record)
    assert "\n" not in text
    assert "ValueError: two\nlines" in json.loads(text)["traceback"]


def test_lines_inside_say_what_they_are_about_and_those_after_do_not() -> None:
    with about(request_id="r1"), about(job_id="an_1", attempt=1):
        said = line(msg="begun", attempt=2)
    assert (said["request_id"], said["job_id"], said["attempt"]) == ("r1", "an_1", 2), "a line knows best what it is about"
    assert not {"request_id", "job_id"} & line(msg="idle").keys()


def test_another_thread_is_about_something_else() -> None:
    with about(job_id="an_1"), ThreadPoolExecutor(1) as pool:
        assert "job_id" not in pool.submit(line, msg="elsewhere").result()
