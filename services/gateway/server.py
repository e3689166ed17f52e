"""How the gateway listens."""

import uvicorn
from fastapi import FastAPI


def config(app: FastAPI, *, host: str, port: int) -> uvicorn.Config:
    """Limits for a server that may face the open network; a proxy in front may have stricter ones."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http="h11",  # bounds a request's headers; httptools takes them without end
        h11_max_incomplete_event_size=16 * 1024,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,  # longer than a proxy's own, so that it is the proxy that hangs up
        timeout_graceful_shutdown=30,
    )
