"""One analysis, and the model that judged it, as the API shows them: what a real server answered, read back through the models."""

import json
from pathlib import Path
from typing import Any, Final

from services.gateway.model_schemas import Model
from services.gateway.pages import all_slots
from services.gateway.schemas import ResultPage, WindowPage
from services.gateway.windows import window_of
from services.web.paging import token
from shared.jobs import Contract, Job, JobState, Progress

ANSWERED: Final = json.loads((Path(__file__).parent / "example.json").read_text(encoding="utf-8"))

SUCCEEDED: Final = Job.model_validate(ANSWERED["analysis"])
RESULT: Final = ResultPage.model_validate(ANSWERED["result"])
MODEL: Final = Model.model_validate(ANSWERED["model"])
WINDOWS: Final = WindowPage(
    state=JobState.RUNNING,
    windows=tuple(map(window_of, all_slots(RESULT)))[:2],
    next_page_token=token(2),
)
QUEUED: Final = Job(
    id=SUCCEEDED.id,
    size_bytes=SUCCEEDED.size_bytes,
    sha256=SUCCEEDED.sha256,
    options=SUCCEEDED.options,
    created_ms=SUCCEEDED.created_ms,
)
CANCELED: Final = QUEUED.model_copy(update={"state": JobState.CANCELED, "ended_ms": SUCCEEDED.created_ms + 400, "progress": Progress()})


def shown(model: Contract) -> dict[str, Any]:
    """For a route's `responses`."""
    return {"content": {"application/json": {"example": model.model_dump(mode="json")}}}
