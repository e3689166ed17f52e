"""What is said about the gateway's API as a whole, and about the body that FastAPI does not see."""

from typing import Final

from services.gateway.multipart import VIDEO
from services.gateway.problems import MULTIPART
from services.web.openapi import SCHEMAS
from shared.jobs import Options

TAGS: Final = (
    {"name": "analyses", "description": "A video in, expressions out."},
    {"name": "uploads", "description": "A large video over a line that may break (tus 1.0)."},
    {"name": "webhooks", "description": "Being told when an analysis has ended, as Standard Webhooks describe it."},
    {"name": "models", "description": "Who judges: releases, their figures and their cards."},
    {"name": "operations", "description": "For those who run Mien."},
    {"name": "problems", "description": "What the problem codes mean."},
)

DESCRIPTION: Final = """
Post a video, and learn who was on screen, when, and which expression their face showed - with the evidence.

1. `POST /v1/analyses` with the video as the body. The answer is `202`, with the address of the analysis in `Location`.
2. `GET` that address until `state` is final, as often as `Retry-After` says; or `GET .../events`, which tells as it happens; or make
   a webhook, to be told at the end.
3. `GET .../results`; or, while it runs, `GET .../windows` for what is judged so far.

Which model judged, on what it was trained, how good it is and what it must not be used for is under `/v1/models`.

A video is deleted within 5 minutes of the end unless `keep_video` or `training_consent` asked to keep it, and everything else, a kept
video included, 7 days after the end, or by `DELETE` at any time.

Times are integer milliseconds of media time, boxes are fractions of the upright frame, scores are 0 to 1 and sum to 1.
A server that others can reach asks for an API key: send it as `Authorization: Bearer mien_...` with every request. A key belongs to a
tenant, which sees its own analyses only, and its roles say what it may do; `RateLimit` says how much of it.
Every error is an RFC 9457 problem; test its `code`. What each code means is under [/problems](/problems).
Every response carries `X-Request-Id`; one that you send is kept when it is up to 64 letters, digits, `.`, `_` or `-`.
"""

UPLOAD_BODY: Final = {
    "required": True,
    "description": "The video, as the whole body or as the part `video` of a form. It is streamed: no length needs to be known.",
    "content": {
        "video/*": {"schema": {"type": "string", "format": "binary", "description": "The video file."}},
        "application/octet-stream": {"schema": {"type": "string", "format": "binary", "description": "The video file."}},
        MULTIPART: {
            "schema": {
                "type": "object",
                "required": [VIDEO],
                "additionalProperties": False,
                "properties": {
                    VIDEO: {"type": "string", "format": "binary", "description": "The video file. Its name is not kept."},
                    **Options.model_json_schema(ref_template=SCHEMAS)["properties"],
                },
            }
        },
    },
}
