"""One analysis as the API shows it: what a real server answered about a real clip, read back through the models."""

import json
from pathlib import Path
from typing import Any, Final

from services.gateway.schemas import Analysis, AnalysisPage, ResultPage
from shared.jobs import Job, JobState, Progress

ANSWERED: Final = json.loads((Path(__file__).parent / "example.json").read_text(encoding="utf-8"))

SUCCEEDED: Final = Job.model_validate(ANSWERED["analysis"])
RESULT: Final = ResultPage.model_validate(ANSWERED["result"])
QUEUED: Final = Job(
    id=SUCCEEDED.id,
    size_bytes=SUCCEEDED.size_bytes,
    sha256=SUCCEEDED.sha256,
    options=SUCCEEDED.options,
    created_ms=SUCCEEDED.created_ms,
)
CANCELED: Final = QUEUED.model_copy(update={"state": JobState.CANCELED, "ended_ms": SUCCEEDED.created_ms + 400, "progress": Progress()})


def shown(model: Analysis | AnalysisPage | ResultPage) -> dict[str, Any]:
    """For a route's `responses`."""
    return {"content": {"application/json": {"example": model.model_dump(mode="json")}}}
