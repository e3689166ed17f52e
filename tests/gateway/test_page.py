"""The page for people: its files, and the headers that keep everything else out of it."""

import re

import pytest

from services.gateway.page import ASSETS, FOLDER
from tests.gateway.conftest import Gateway

ADDRESSES = ["/", *(f"/page/{name}" for name in sorted(ASSETS))]
TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}

of_every_file = pytest.mark.parametrize("address", ADDRESSES)


def file_of(address: str) -> str:
    return address.rpartition("/")[2] or "index.html"


@of_every_file
def test_every_file_is_served_as_what_it_is(lasting_gateway: Gateway, address: str) -> None:
    response = lasting_gateway.http.get(address)
    name = file_of(address)
    assert response.status_code == 200
    assert response.headers["content-type"].partition(";")[0] == TYPES[name.rpartition(".")[2]]
    assert response.content == (FOLDER / name).read_bytes()


@of_every_file
def test_head_is_answered_like_get_without_the_body(lasting_gateway: Gateway, address: str) -> None:
    head = lasting_gateway.http.head(address)
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) == len((FOLDER / file_of(address)).read_bytes())


@of_every_file
def test_the_browser_may_load_nothing_from_elsewhere_and_run_nothing_that_is_not_a_file(lasting_gateway: Gateway, address: str) -> None:
    headers = lasting_gateway.http.get(address).headers
    policy = dict(directive.split(maxsplit=1) for directive in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert {policy[of] for of in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}
    assert policy["media-src"] == "blob:"
    assert {policy[of] for of in ("base-uri", "form-action", "frame-ancestors")} == {"'none'"}
    assert policy["require-trusted-types-for"] == "'script'", "text must never become markup"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


@of_every_file
def test_no_file_names_another_server(address: str) -> None:
    content = (FOLDER / file_of(address)).read_text()
    assert re.findall(r"(?:https?:)?//[a-z][\w.-]*", content.replace('xmlns="http://www.w3.org/2000/svg"', "")) == []


def test_every_file_that_the_page_loads_is_there_and_no_other(lasting_gateway: Gateway) -> None:
    markup = lasting_gateway.http.get("/").text
    scripts = "".join((FOLDER / name).read_text() for name in ASSETS if name.endswith(".js"))
    loaded = {*re.findall(r'(?:href|src)="/page/([^"]*)"', markup), *re.findall(r'^import .* from "\./([^"]*)";$', scripts, re.MULTILINE)}
    assert loaded == ASSETS == {path.name for path in FOLDER.iterdir()} - {"index.html"}


@pytest.mark.parametrize("name", ["index.html", "nothing.js", "..%2Fpage.py", "..%2F..%2F..%2Fpyproject.toml", "%2Fetc%2Fpasswd", ""])
def test_nothing_else_is_served(lasting_gateway: Gateway, name: str) -> None:
    response = lasting_gateway.http.get(f"/page/{name}")
    assert (response.status_code, response.json()["code"]) == (404, "not-found")


def test_the_page_does_not_take_what_the_api_takes(lasting_gateway: Gateway) -> None:
    response = lasting_gateway.http.post("/", content=b"video")
    assert (response.status_code, response.json()["code"]) == (405, "method-not-allowed")


def test_it_is_no_part_of_the_api(lasting_gateway: Gateway) -> None:
    assert not {"/", "/page/{name}"} & lasting_gateway.get("/openapi.json")["paths"].keys()
