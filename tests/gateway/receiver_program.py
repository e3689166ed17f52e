"""A receiver of webhooks, as a process of its own: it answers as its path says, and writes down all that it gets.

    python receiver_program.py LOG ADDRESS...

It listens at a free port of the first address, and at the same port of the others as far as they are this machine's; the port is its
first line of output. Paths are what it answers: /200, /503, /503/503/200 one after the other and then the last, /hang,
/302/http:--host:port-path. A header `Retry-After: 1` goes with every 429.
"""

import json
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

log = Path(sys.argv[1])
seen: Counter[str] = Counter()
writing = threading.Lock()


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        with writing:
            number = seen[self.path]
            seen[self.path] += 1
            with log.open("a") as file:
                headers = {name.lower(): value for name, value in self.headers.items()}
                file.write(json.dumps({"path": self.path, "at": time.time(), "headers": headers, "body": body}) + "\n")
        answers = self.path.strip("/").split("/")
        if answers[0] == "hang":
            time.sleep(60)
        if answers[0] == "302":
            self.send_response(302)
            self.send_header("Location", answers[1].replace("-", "/"))
        else:
            status = int(answers[min(number, len(answers) - 1)])
            self.send_response(status)
            if status == 429:
                self.send_header("Retry-After", "1")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST  # noqa: N815 -- the base class's name

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base class's name
        """Quiet."""


def main() -> None:
    first, *others = sys.argv[2:]
    servers = [ThreadingHTTPServer((first, 0), Receiver)]
    port = servers[0].server_port
    for address in others:
        kind = type("Server", (ThreadingHTTPServer,), {"address_family": 10 if ":" in address else 2})
        servers.append(kind((address, port), Receiver))
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print(port, flush=True)  # noqa: T201 -- what the test reads
    threading.Event().wait()


if __name__ == "__main__":
    main()
