"""`/`: the page on which a person posts a video and sees what Mien makes of it. Static files, no build step."""

from pathlib import Path
from typing import Final

from fastapi import APIRouter
from fastapi.responses import FileResponse

from services.web.errors import NotFound

router = APIRouter(include_in_schema=False)

FOLDER: Final = Path(__file__).with_suffix("")
ASSETS: Final = frozenset(
    {
        *("icon.svg", "style.css"),
        *("api.js", "app.js", "events.js", "key.js", "live.js", "nodes.js", "options.js", "result.js", "sending.js", "timeline.js"),
    }
)

POLICY: Final = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "media-src": "blob:",  # the video that is watched never comes back from here: it is the file that was chosen
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}
HEADERS: Final = {
    "Content-Security-Policy": "; ".join(f"{directive} {sources}" for directive, sources in POLICY.items()),
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # the files of one release belong together
}


@router.get("/")
async def index() -> FileResponse:
    return FileResponse(FOLDER / "index.html", headers=HEADERS)


@router.get("/page/{name}")
async def asset(name: str) -> FileResponse:
    if name not in ASSETS:
        raise NotFound
    return FileResponse(FOLDER / name, headers=HEADERS)
