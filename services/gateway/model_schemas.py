"""Releases as the API shows them: `shared.releases.Release`, and what only the API knows."""

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import Field

from services.gateway.published import Published
from services.gateway.schemas import model_path
from shared.jobs import Contract, Milliseconds
from shared.queue import Alias
from shared.releases import CARD, Release

HEADLINES: Final = ("samples", "accuracy", "mean_recall", "macro_f1")
"""The figures of a summary."""


class ModelLinks(Contract):
    """Where more about this model can be read, as paths on this server."""

    model: Annotated[str, Field(examples=["/v1/models/1"])]
    """All that is known about it."""
    card: Annotated[str | None, Field(examples=["/v1/models/1/card"])] = None
    """The same for people, with known failures, intended and forbidden uses; null when it was published without."""

    @classmethod
    def to(cls, release: Release) -> "ModelLinks":
        here = model_path(release.version)
        return cls(model=here, card=f"{here}/card" if CARD in release.files else None)


class Model(Release):
    """One published release: its whole `release.json`, what it is used for, and where to go from here."""

    aliases: Annotated[tuple[Alias, ...], Field(examples=[["champion"]])]
    """What it is used for: the champion judges new analyses."""
    published_ms: Milliseconds
    """When it was written to this server's model repository."""
    links: ModelLinks
    """Where more about this model can be read."""

    @classmethod
    def of(cls, found: Published, *, aliases: Mapping[Alias, int | None]) -> "Model":
        release = found.release
        names = tuple(name for name, version in aliases.items() if version == release.version)
        return cls(**dict(release), aliases=names, published_ms=found.published_ms, links=ModelLinks.to(release))


class ModelSummary(Contract):
    """One published release in few words."""

    version: Annotated[int, Field(ge=1, examples=[1])]
    """Only ever grows."""
    parent: Annotated[int | None, Field(examples=[None])] = None
    """The release whose network was the teacher."""
    aliases: Annotated[tuple[Alias, ...], Field(examples=[["champion"]])]
    """What it is used for: the champion judges new analyses."""
    published_ms: Milliseconds
    """When it was written to this server's model repository."""
    size: Annotated[int, Field(examples=[64])]
    """Side of the square face, eyes and mouth crops, in pixels."""
    width: Annotated[float, Field(examples=[0.25])]
    """Channel multiplier; 1.0 is the paper's."""
    metrics: Annotated[dict[str, dict[str, float]], Field(examples=[{"fer2013-val": {"accuracy": 0.6213, "mean_recall": 0.6}}])]
    """Per validation set its size and the headline figures; the model itself has those of each label."""
    links: ModelLinks
    """Where more about this model can be read."""

    @classmethod
    def of(cls, model: Model) -> "ModelSummary":
        headlines = {name: {key: figures[key] for key in HEADLINES if key in figures} for name, figures in model.metrics.items()}
        return cls(**{**{name: getattr(model, name) for name in cls.model_fields}, "metrics": headlines})


class ModelPage(Contract):
    """Some models, newest first."""

    models: tuple[ModelSummary, ...]
    """At most `page_size` of them."""
    next_page_token: Annotated[str | None, Field(examples=[None])] = None
    """Pass it as `page_token` to get the next page; null on the last."""
