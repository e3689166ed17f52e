"""A gateway that may tell webhooks on this machine, to be killed.

python gateway_program.py PORT REDIS_URL DATA
"""

import sys
from pathlib import Path

from services.gateway.app import create_app
from services.gateway.published import Models
from services.gateway.uploads import UploadLimits
from services.gateway.webhooks.courier import Terms
from services.web import server
from services.web.guard import Guard
from shared.queue import GatewayQueue
from shared.videos import Videos
from tests.gateway.receiver import to_loopback


def main() -> None:
    port, redis_url, data = sys.argv[1:]
    app = create_app(
        queue=GatewayQueue(redis_url),
        videos=Videos(Path(data)),
        models=Models(Path(data) / "models"),
        triton_http="http://127.0.0.1:1",
        limits=UploadLimits(max_bytes=2**20),
        guard=Guard(),
        egress=to_loopback(),
        terms=Terms(waits_s=(0.2,) * 20, timeout_s=1.5, lease_s=2.0, look_every_s=0.02),
    )
    server.Server(server.config(app, host="127.0.0.1", port=int(port))).run()


if __name__ == "__main__":
    main()
