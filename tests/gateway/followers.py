"""A client of server-sent events: it reads in a thread of its own, and keeps what it was told."""

import json
import threading
from dataclasses import dataclass
from typing import Any

import httpx

from tests.gateway.conftest import soon


@dataclass(frozen=True, kw_only=True)
class Event:
    name: str
    data: Any
    id: str


class Follower:
    """Connects once; whoever loses the connection makes a new one from `last_id`."""

    def __init__(self, url: str, *, last_id: str = "", headers: dict[str, str] | None = None) -> None:
        self.events: list[Event] = []
        self.comments: list[str] = []
        self.status = 0
        self.headers: httpx.Headers = httpx.Headers()
        self.is_over = threading.Event()
        self._client = httpx.Client(timeout=60, trust_env=False, verify=False)  # noqa: S501 -- plain HTTP
        self._request = self._client.build_request(
            "GET", url, headers={**(headers or {}), **({"Last-Event-ID": last_id} if last_id else {})}
        )
        self._response: httpx.Response | None = None
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    @property
    def last_id(self) -> str:
        return self.events[-1].id

    def named(self, name: str) -> list[Any]:
        return [event.data for event in list(self.events) if event.name == name]

    def hears(self, name: str, count: int = 1, *, within_s: float = 5) -> bool:
        """Whether that many such events have come, at the latest after that time."""
        return soon(lambda: len(self.named(name)) >= count, within_s=within_s)

    def ends(self, *, within_s: float = 10) -> bool:
        return self.is_over.wait(within_s)

    def leave(self) -> None:
        """Close the connection, whatever the server would say yet."""
        if self._response is not None and not self.is_over.is_set():
            self._response.extensions["network_stream"].get_extra_info("socket").shutdown(2)
        self._thread.join()

    def _read(self) -> None:
        try:
            self._response = self._client.send(self._request, stream=True)
            self.status, self.headers = self._response.status_code, self._response.headers
            self._take(self._response)
        except httpx.HTTPError:
            return  # the connection is gone
        finally:
            self._client.close()
            self.is_over.set()

    def _take(self, response: httpx.Response) -> None:
        fields: dict[str, str] = {}
        for line in response.iter_lines():
            name, _, value = line.partition(": ")
            if line.startswith(":"):
                self.comments.append(line)
            elif line:
                fields[name] = value
            elif fields:
                self.events.append(Event(name=fields["event"], data=json.loads(fields["data"]), id=fields.get("id", "")))
                fields = {}
