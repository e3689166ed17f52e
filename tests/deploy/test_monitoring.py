"""Every figure that the alerts and the dashboard name is one that somebody serves, with those labels."""

import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client import REGISTRY
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from services.gateway.uploads import UploadLimits
from services.preprocess import metrics as worker
from services.training.metrics import Metrics as TrainingMetrics
from shared.errors import MediaCorrupt
from shared.jobs import Timings
from shared.results import Coverage, Media, ModelInfo, Result
from tests.gateway.conftest import running, wait_until
from tests.triton_server import Triton

MONITORING = Path(__file__).parents[2] / "deploy" / "monitoring"
NAME = re.compile(r"\b(?:mien|nv)_[a-z_]+")
LABELLED = re.compile(r"\b((?:mien|nv)_[a-z_]+)\{([^}]*)\}")
OF_PROMETHEUS = {"le"}


def expressions() -> dict[str, str]:
    alerts = yaml.safe_load((MONITORING / "alerts.yml").read_text())
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    rules = {rule["alert"]: rule["expr"] for group in alerts["groups"] for rule in group["rules"]}
    panels = {f"{panel['title']} {target['refId']}": target["expr"] for panel in dashboard["panels"] for target in panel["targets"]}
    assert len(rules) == sum(len(group["rules"]) for group in alerts["groups"]), "no two alerts of one name"
    return {**rules, **panels}


@pytest.fixture
def gateway_metrics(redis_url: str, tmp_path: Path) -> str:
    """What a gateway shows that has taken a video, and refused a request."""
    with running(redis_url=redis_url, data=tmp_path / "data", limits=UploadLimits(max_bytes=1000)) as gateway:
        gateway.post()
        assert gateway.http.get("/v1/nothing").status_code == 404
        wait_until(lambda: "mien_gateway_upkeep_jobs_total{" in gateway.http.get("/metrics").text)
        return gateway.http.get("/metrics").text


def of_the_worker() -> Iterator[Metric]:
    """What a worker shows that has had a good video and a bad one."""
    result = Result(
        id=f"an_{'0' * 32}",
        model=ModelInfo(release=7, preprocess="p1"),
        media=Media(duration_ms=1, width=8, height=8, frames_decoded=1, codec="none", container="none", rotation_degrees=0),
        coverage=Coverage(frames_sampled=1, frames_with_face=1, frames_used=0, faces_found=1, faces_used=0, dropped={"blurred": 1}),
        tracks=(),
    )
    worker.count_result(result, Timings())
    worker.count_attempt("succeeded", 1, release=7)
    worker.count_error(MediaCorrupt())
    yield from REGISTRY.collect()


def labels_by_name(families: Iterable[Metric]) -> dict[str, set[str]]:
    return {sample.name: set(sample.labels) for family in families for sample in family.samples}


def test_all_that_is_named_of_ours_is_served_with_its_labels(gateway_metrics: str) -> None:
    training = TrainingMetrics().expose(epochs={}, runs=[], publications=[]).decode()
    known = labels_by_name(chain(of_the_worker(), *map(text_string_to_metric_families, (gateway_metrics, training))))
    ours = {where: text for where, text in expressions().items() if "mien_" in text}
    assert len(ours) > 20
    for where, text in ours.items():
        for name in NAME.findall(re.sub(r'"[^"]*"', '""', text)):
            assert name in known or name.startswith("nv_"), f"{where}: nobody serves {name}"
        for name, matchers in LABELLED.findall(text):
            asked = {matcher.partition("=")[0].rstrip("!~ ") for matcher in matchers.split(",")}
            assert name.startswith("nv_") or asked <= known[name], where
        for grouped in re.findall(r"by \(([^)]*)\) \((?:rate\(|increase\()?(mien_[a-z_]+)", text):
            assert set(grouped[0].split(", ")) <= known[grouped[1]] | OF_PROMETHEUS, where


def test_all_that_is_named_of_tritons_is_served(triton: Triton) -> None:
    text = httpx.get(f"{triton.metrics}/metrics").raise_for_status().text
    # The parser gives counters the ending that they have with everybody else.
    known = {name.removesuffix("_total"): labels for name, labels in labels_by_name(text_string_to_metric_families(text)).items()}
    named = {name for text in expressions().values() for name in NAME.findall(re.sub(r'"[^"]*"', '""', text)) if name.startswith("nv_")}
    assert len(named) >= 4
    assert named <= known.keys()
    assert all("model" in known[name] for name in named)


@pytest.mark.parametrize("name", ["gateway", "training", "preprocess", "triton"])
def test_what_is_scraped_is_a_service_of_the_compose_file(name: str) -> None:
    scraped = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["scrape_configs"]
    services = yaml.safe_load((MONITORING.parents[1] / "docker-compose.yml").read_text())["services"]
    (job,) = (job for job in scraped if job["job_name"] == name)
    ((target,),) = (config["targets"] for config in job["static_configs"])
    assert target.partition(":")[0] in services
