"""The releases as the API shows them: which there are, who judges, what is known about each, and their cards."""

import hashlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.gateway.model_schemas import Model, ModelPage
from services.gateway.schemas import Problem
from services.gateway.uploads import UploadLimits
from shared.releases import CARD, MANIFEST, folder_name
from shared.signatures import Signer
from tests.gateway.conftest import MAX_BYTES, Gateway, running
from tests.gateway.releases import TEXT, publish, release

SIGNER = Signer.generate()


def problem(gateway: Gateway, path: str, status: int) -> Problem:
    response = gateway.http.get(path)
    assert response.status_code == status, response.text
    assert str(gateway.models) not in response.text
    return Problem.model_validate_json(response.content)


def versions(gateway: Gateway, **params: Any) -> list[int]:
    return [model["version"] for model in gateway.get("/v1/models", **params)["models"]]


# --- the list --------------------------------------------------------------------------------------------------------


def test_without_a_repository_there_is_no_model(gateway: Gateway) -> None:
    assert gateway.get("/v1/models") == {"models": [], "next_page_token": None}


def test_the_newest_is_first_and_what_each_is_used_for_is_said(gateway: Gateway) -> None:
    for version in (1, 2, 10, 300):
        publish(gateway, version, parent=version - 1 or None)
    gateway.worker.promote("champion", 10)
    gateway.worker.promote("shadow", 10)
    gateway.worker.promote("canary", 300)
    page = ModelPage.model_validate(gateway.get("/v1/models"))
    assert [(model.version, model.parent, model.aliases) for model in page.models] == [
        (300, 299, ("canary",)),
        (10, 9, ("champion", "shadow")),
        (2, 1, ()),
        (1, None, ()),
    ]


def test_a_summary_has_the_headline_figures_and_leads_to_the_rest(gateway: Gateway) -> None:
    folder = publish(gateway, 1)
    (model,) = gateway.get("/v1/models")["models"]
    assert model["metrics"] == {"faces": {"samples": 10.0, "accuracy": 0.7, "mean_recall": 0.6, "macro_f1": 0.5}}
    assert model["published_ms"] == (folder / MANIFEST).stat().st_mtime_ns // 1_000_000
    assert model["links"] == {"model": "/v1/models/1", "card": "/v1/models/1/card"}
    assert gateway.get(model["links"]["model"])["version"] == 1


def test_pages_put_together_are_the_list_also_when_a_release_arrives_meanwhile(gateway: Gateway) -> None:
    for version in range(1, 8):
        publish(gateway, version, card=None)
    seen, token = [], None
    while True:
        page = gateway.get("/v1/models", page_size=3, **({"page_token": token} if token else {}))
        assert len(page["models"]) <= 3
        seen += [model["version"] for model in page["models"]]
        token = page["next_page_token"]
        if token is None:
            break
        publish(gateway, 100 + len(seen), card=None)
    assert seen == [7, 6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize("query", ["page_size=-1", "page_size=many", "page_token=x", "page_token=AAAA"])
def test_what_is_no_page_is_refused(lasting_gateway: Gateway, query: str) -> None:
    assert problem(lasting_gateway, f"/v1/models?{query}", 422).code == "validation-failed"


# --- one model -------------------------------------------------------------------------------------------------------


def test_a_model_is_its_whole_release_and_its_aliases(gateway: Gateway) -> None:
    publish(gateway, 3)
    gateway.worker.promote("champion", 3)
    body = gateway.get("/v1/models/3")
    model = Model.model_validate(body)
    known = release(3, files={CARD: hashlib.sha256(TEXT).hexdigest()}).model_dump(mode="json")
    assert {name: body[name] for name in known} == known
    assert body.keys() - known.keys() == {"aliases", "published_ms", "links"}
    assert (model.aliases, model.links.card) == (("champion",), "/v1/models/3/card")


@pytest.mark.parametrize("alias", ["champion", "canary", "shadow"])
def test_an_alias_stands_for_the_version_that_has_it_now(gateway: Gateway, alias: Any) -> None:
    publish(gateway, 3)
    publish(gateway, 4, card=b"# Four\n")
    assert problem(gateway, f"/v1/models/{alias}", 404).code == "model-version-unavailable"
    for version, card in ((3, TEXT), (4, b"# Four\n")):
        gateway.worker.promote(alias, version)
        assert gateway.get(f"/v1/models/{alias}") == gateway.get(f"/v1/models/{version}")
        assert gateway.http.get(f"/v1/models/{alias}/card").content == card


@pytest.mark.parametrize("name", ["2", "0", "01", "-1", "1000000", "1e0", "\u0661", "best", "Champion", "mien_000001", "..%2F1", "1%00"])
@pytest.mark.parametrize("of", ["", "/card"])
def test_what_names_no_release_is_not_there(gateway: Gateway, name: str, of: str) -> None:
    publish(gateway, 1)
    assert problem(gateway, f"/v1/models/{name}{of}", 404).code in {"model-version-unavailable", "not-found"}


def test_an_alias_of_a_release_that_is_gone_leads_nowhere(gateway: Gateway) -> None:
    gateway.worker.promote("champion", 9)
    assert problem(gateway, "/v1/models/champion", 404).code == "model-version-unavailable"


# --- the card --------------------------------------------------------------------------------------------------------


def test_the_card_is_the_markdown_that_was_published(gateway: Gateway) -> None:
    publish(gateway, 1)
    response = gateway.http.get("/v1/models/1/card")
    assert (response.status_code, response.content) == (200, TEXT)
    assert response.headers["content-type"] == "text/markdown; charset=utf-8"
    assert response.headers["etag"] == f'"{hashlib.sha256(TEXT).hexdigest()}"'
    assert "immutable" in response.headers["cache-control"]


def test_whoever_has_the_card_is_not_sent_it_again(gateway: Gateway) -> None:
    publish(gateway, 1)
    gateway.worker.promote("champion", 1)
    first = gateway.http.get("/v1/models/champion/card")
    assert first.headers["cache-control"] == "no-cache", "another release may be champion the next moment"
    tag = first.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}'):
        again = gateway.http.get("/v1/models/champion/card", headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    publish(gateway, 2, card=b"# Two\n")
    gateway.worker.promote("champion", 2)
    assert gateway.http.get("/v1/models/champion/card", headers={"If-None-Match": tag}).content == b"# Two\n"


def test_a_release_without_a_card_says_so(gateway: Gateway) -> None:
    publish(gateway, 1, card=None)
    assert gateway.get("/v1/models/1")["links"]["card"] is None
    assert problem(gateway, "/v1/models/1/card", 404).code == "model-card-missing"


def test_a_card_that_nobody_published_is_not_shown(gateway: Gateway) -> None:
    folder = publish(gateway, 1, card=None)
    (folder / CARD).write_text("# Trust me")
    assert problem(gateway, "/v1/models/1/card", 404).code == "model-card-missing"


@pytest.mark.parametrize(
    "spoil", [lambda card: card.write_text("# Fit for everything"), lambda card: card.unlink()], ids=["changed", "gone"]
)
def test_a_card_that_is_not_the_published_one_is_not_shown(gateway: Gateway, spoil: Callable[[Path], None]) -> None:
    spoil(publish(gateway, 1) / CARD)
    assert problem(gateway, "/v1/models/1/card", 500).code == "model-digest-mismatch"
    assert versions(gateway) == [1]


# --- broken behind ---------------------------------------------------------------------------------------------------


def no_json(manifest: Path) -> None:
    manifest.write_bytes(b"\xff{secret")


def another_contract(manifest: Path) -> None:
    manifest.write_text('{"version": 2, "secret": 1}')


def another_version(manifest: Path) -> None:
    manifest.write_text(release(5).model_dump_json())


def a_folder(manifest: Path) -> None:
    manifest.unlink()
    manifest.mkdir()


@pytest.mark.parametrize(
    ("spoil", "status", "code"),
    [
        (no_json, 500, "model-contract-mismatch"),
        (another_contract, 500, "model-contract-mismatch"),
        (another_version, 500, "model-contract-mismatch"),
        (a_folder, 503, "dependency-unavailable"),
    ],
)
def test_a_broken_release_is_left_out_of_the_list_and_says_so_by_itself(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None], status: int, code: str
) -> None:
    for version in (1, 2, 3):
        publish(gateway, version)
    spoil(gateway.models / folder_name(2) / MANIFEST)
    with caplog.at_level(logging.WARNING, logger="services"):
        assert versions(gateway) == [3, 1]
        assert versions(gateway, page_size=1) == [3]
    assert [record.__dict__["release"] for record in caplog.records if record.message == "release left out"] == [2, 2]
    for path in ("/v1/models/2", "/v1/models/2/card"):
        broken = problem(gateway, path, status)
        assert broken.code == code
        assert "secret" not in broken.detail


@pytest.fixture
def trusting_gateway(redis_url: str, tmp_path: Path) -> Iterator[Gateway]:
    """One that shows only what SIGNER has signed."""
    with running(redis_url=redis_url, data=tmp_path / "data", limits=UploadLimits(max_bytes=MAX_BYTES), trusted=SIGNER.trusted) as gateway:
        yield gateway


def test_with_trusted_keys_only_what_they_signed_is_shown(trusting_gateway: Gateway) -> None:
    for version, signer in ((1, SIGNER), (2, None), (3, Signer.generate()), (4, SIGNER)):
        folder = publish(trusting_gateway, version)
        if signer:
            signer.sign(folder)
    (trusting_gateway.models / folder_name(4) / MANIFEST).write_text(release(4, notes="Fit for everything.").model_dump_json())
    assert versions(trusting_gateway) == [1]
    assert trusting_gateway.http.get("/v1/models/1/card").content == TEXT
    for version in (2, 3, 4):
        for of in ("", "/card"):
            assert problem(trusting_gateway, f"/v1/models/{version}{of}", 500).code == "release-unsigned"


def test_a_folder_that_is_being_written_is_no_release_yet(gateway: Gateway) -> None:
    publish(gateway, 1).rename(gateway.models / f".{folder_name(1)}.partial")
    assert versions(gateway) == []


def test_without_redis_only_numbered_cards_are_there(frail_gateway: Gateway, redis_server: Any) -> None:
    publish(frail_gateway, 1)
    redis_server.kill()
    for path in ("/v1/models", "/v1/models/1", "/v1/models/champion/card"):
        assert problem(frail_gateway, path, 503).dependency == "redis"
    assert frail_gateway.http.get("/v1/models/1/card").content == TEXT
