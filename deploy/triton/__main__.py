"""`python -m deploy.triton --models models --grpc-port 8001 --http-port 8000 --metrics-port 8002`: tritonserver in the foreground.

This process becomes tritonserver, so signals reach it and nothing stands between it and whoever started it.
"""

import argparse
import os
from pathlib import Path

from deploy.triton import server


def parse() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.triton", description="Serve a model repository with Triton, on the CPU.")
    parser.add_argument("--models", type=Path, required=True, help="the model repository")
    parser.add_argument("--grpc-port", type=int, default=8001)
    parser.add_argument("--http-port", type=int, default=8000)
    parser.add_argument("--metrics-port", type=int, default=8002)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="threads of one model (default: %(default)s)")
    parser.add_argument(
        "--exit-timeout-s", type=int, default=server.EXIT_TIMEOUT_S, help="seconds to finish requests in (default: %(default)s)"
    )
    parser.add_argument("--state", type=Path, default=cache(), help="where the backends are put together (default: %(default)s)")
    return parser


def cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mien" / "triton"


def main() -> None:
    parser = parse()
    arguments = vars(parser.parse_args())
    state = arguments.pop("state")
    settings = server.Settings(**arguments, secret=os.environ.get(server.CONTROL_VARIABLE, ""))
    try:
        wheel, libpython = server.find_wheel(), server.find_libpython()
    except server.TritonMissing as error:
        parser.exit(1, f"{error}\n")
    server.remove_stale_memory()
    backends = server.assemble_backends(wheel, state)
    os.execve(  # noqa: S606 (a shell in between would swallow the signals)
        wheel.binary,
        server.command(settings, wheel=wheel, backends=backends),
        server.environment(os.environ, settings, wheel=wheel, libpython=libpython),
    )


if __name__ == "__main__":
    main()
