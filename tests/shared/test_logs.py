"""One line of JSON per event."""

import json
import logging

from shared.logs import JsonLines


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
