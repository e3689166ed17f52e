"""Releases as far as the gateway reads them: no weights."""

import hashlib
from pathlib import Path
from typing import Any

from shared.releases import CARD, MANIFEST, DataSet, Release, folder_name
from tests.gateway.conftest import Gateway

TEXT = "# Model card\n\nNot for decisions about people \N{EM DASH} ever.\n".encode()


def release(version: int, **changes: Any) -> Release:
    metrics = {"faces": {"samples": 10.0, "accuracy": 0.7, "mean_recall": 0.6, "macro_f1": 0.5, "recall_sad": 0.4}}
    data = (DataSet(name="faces", use="train", samples=90, licence="CC0-1.0", sha256="0" * 64),)
    of = {"size": 64, "width": 0.25, "feature_size": 128, "training": {"plan": {"seed": 1}}, "metrics": metrics, "data": data}
    return Release.model_validate({"version": version, "commit": "abc", "notes": "For tests.", **of, **changes})


def publish(gateway: Gateway, version: int, *, card: bytes | None = TEXT, **changes: Any) -> Path:
    return publish_in(gateway.models, version, card=card, **changes)


def publish_in(models: Path, version: int, *, card: bytes | None = TEXT, **changes: Any) -> Path:
    folder = models / folder_name(version)
    folder.mkdir(parents=True)
    files = {} if card is None else {CARD: hashlib.sha256(card).hexdigest()}
    if card is not None:
        (folder / CARD).write_bytes(card)
    (folder / MANIFEST).write_text(release(version, files=files, **changes).model_dump_json())
    return folder
