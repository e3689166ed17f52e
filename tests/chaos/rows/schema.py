"""B7: a program that has read the description of the API sends whatever comes to its mind, with and without a key."""

from typing import Final

from deploy.stack import HOST, answers, free_ports, redis_program
from deploy.supervisor import Supervisor
from tests.chaos.drill import Drill, Verdict
from tests.chaos.supervise import REDIS_STARTS_WITHIN_S, say_nothing
from tests.gateway.schema_run import try_out

FULL: Final = 500
"""Cases of an operation in a phase, at most."""
LEAST_CASES: Final = 5000
MARK: Final = "no answer is a 5xx, none has a status that is not described, and every error but uvicorn's own 400 is problem+json"


def run(drill: Drill) -> Verdict:
    (port,) = free_ports(1)
    url = f"redis://{HOST}:{port}/0"
    with Supervisor(logs=drill.folder / "logs", directory=drill.folder, announce=say_nothing) as programs:
        programs.start(redis_program(home=drill.folder / "redis", port=port))
        programs.wait("redis", lambda: answers(url), timeout_s=REDIS_STARTS_WITHIN_S)
        tried = try_out(redis_url=url, folder=drill.folder, examples=drill.size(FULL), seed=drill.seed)
    if not tried.is_clean:
        drill.say(tried.text)
    return Verdict(
        id="B7",
        n=tried.cases,
        passed=tried.is_clean and (tried.cases >= LEAST_CASES or drill.scale < 1),
        value={
            "statuses": {str(status): count for status, count in sorted(tried.statuses.items())},
            "5xx": tried.broken,
            "failures": dict(tried.failures),
            "errors": tried.errors,
        },
        mark=MARK,
    )
