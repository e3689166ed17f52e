"""What the description of the API promises is what a client gets, whatever it sends. `make chaos ARGS=B7` does the same at length."""

from pathlib import Path

from tests.gateway.schema_run import try_out

EXAMPLES = 4
LEAST_CASES = 200


def test_no_request_that_a_program_can_think_of_gets_an_answer_that_is_not_described(redis_url: str, tmp_path: Path) -> None:
    tried = try_out(redis_url=redis_url, folder=tmp_path, examples=EXAMPLES, seed=1, phases=("examples", "fuzzing", "stateful"))
    assert tried.is_clean, tried.text
    assert tried.cases >= LEAST_CASES
    assert {200, 202, 401, 404, 422} <= set(tried.statuses)
