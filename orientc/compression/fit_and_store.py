"""Fit a model's table and keep the artifact in its place: the one way from a config to a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from orientc.compression.configs import AutoencoderConfig, Config, TargetConfig
from orientc.compression.fit_table import Fit, loaded
from orientc.compression.gguf_tables import say_rough
from orientc.compression.shared_budget import SharedBudget, equal_shares
from orientc.errors import UsageError
from orientc.methods.autoencoder import Epoch
from orientc.modeling.table_names import INPUT
from orientc.models.resolve import Subject
from orientc.models.source import ModelSource
from orientc.models.table import Table, read_table
from orientc.models.tables import ALL, chosen
from orientc.storage import artifact as artifacts
from orientc.storage import runs
from orientc.storage.artifact import Artifact
from orientc.storage.calibration import Calibration
from orientc.storage.description import Description
from orientc.utils import distributed
from orientc.utils.documents import document
from orientc.utils.progress import Progress
from orientc.utils.tracking import trackers


@dataclass(frozen=True)
class Compressed:
    """An artifact in its place, or one for each of several tables.

    `path` is its file and `description` what its header says. `fresh` is False where it was there already; `seconds`
    are what the fit took, from the history beside it where it was there, and None where that is gone. `others` are
    those of other tables that were compressed with it.
    """

    path: Path
    description: Description
    fresh: bool
    seconds: float | None
    others: tuple[Compressed, ...] = ()
    _fitted: Artifact | None = field(default=None, repr=False, compare=False)

    @cached_property
    def artifact(self) -> Artifact:
        """The artifact itself; it is read from its file where it was there already."""
        return self._fitted or artifacts.load(self.path)

    @property
    def all(self) -> tuple[Compressed, ...]:
        """Each of the artifacts, this one first."""
        return (replace(self, others=()), *self.others)

    @property
    def bits_per_weight(self) -> float:
        """Stored bits per number of all the tables."""
        described = [each.description for each in self.all]
        return 8 * sum(each.nbytes for each in described) / sum(each.base.vocab * each.base.dim for each in described)

    @property
    def cost(self) -> float:
        """The predicted loss in nats per token, of all tables together. Raises `KeyError` without a calibration."""
        return float(sum(each.description.distances["cost"] for each in self.all))

    def of(self, source: ModelSource) -> Subject:
        """The artifacts, to be put into a model."""
        others = tuple((each.path, each.artifact) for each in self.others)
        return Subject(source, self.path, self.artifact, others)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files of the artifacts."""
        return tuple(each.path for each in self.all)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: path, `fresh`, `seconds`, and the description with its sizes; of several a list."""
        paths = {"artifacts": [str(path) for path in self.paths]}
        if self.others:
            tables = [each.as_dict() for each in self.all]
            return document("artifacts", paths | {"tables": tables})
        about = {"artifact": str(self.path), **paths, "fresh": self.fresh, "seconds": self.seconds}
        return document("artifact", about | self.description.as_dict())


def fit_and_store(
    model: str | Path | ModelSource | Table,
    config: Config,
    *,
    table: str | None = None,
    calibration: str | Path | Calibration | None = None,
    init: str | Path | Artifact | None = None,
    log_with: Sequence[str] | None = None,
    device: str | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    revision: str | None = None,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> Compressed:
    """Compress a model's table and store the artifact and its fit's history, unless that is done already.

    Args:
        model: Hub id, local folder, GGUF file or "demo"; or a model or table that was read already.
        config: How to compress the table.
        table: Which table: "input" unless given; "head", an untied head's own; another that `inspect` lists; or "all".
            Of several each has an artifact of its own; a target's size is that of all of them together, shared out by
            predicted loss with a calibration, else as many bits per weight for each.
        calibration: A calibration of the model, or its file.
        init: The artifact an autoencoder starts from, or its file, where the config's `init` is "artifact".
        log_with: Names of accelerate's trackers that an autoencoder's epochs are logged with.
        device: Where to fit; None for accelerate's choice.
        out: Runs folder, or the artifact itself where it ends in .safetensors, which "all" tables can't; None for
            `ORIENTC_RUNS`, else "runs".
        overwrite: Replace a file that is in the artifact's place.
        revision: Hub branch, tag or commit of a model that is named.
        allow_pickle: Read .bin weights of a model that is named.
        trust_remote_code: Run code from the repository of a model that is named.
        progress: Told how the fit goes.

    Raises:
        UsageError: The config doesn't go with what is given.
        ModelError: The table can't be read.
        FitError: The table can't be compressed so.
        CalibrationError: The calibration can't be used, or was measured on another table.
        OutputError: Something else is in the artifact's place, or it can't be written.
    """
    progress = progress or Progress()
    config.check_inputs(calibration=calibration is not None, init=init is not None)  # before a model is downloaded
    if log_with and not isinstance(config, AutoencoderConfig):
        raise UsageError(f"`log_with` logs an autoencoder's epochs: {config.method} has none")
    if table == ALL:
        if out is not None and str(out).endswith(artifacts.SUFFIX):
            raise UsageError(f"`out` must be a folder where `table` is {ALL}: each table has a file of its own")
        if init is not None:
            raise UsageError(f"`init` is an artifact of one table: name that one with `table`, not {ALL}")
    hub = {"revision": revision, "allow_pickle": allow_pickle, "trust_remote_code": trust_remote_code}
    known = None if calibration is None else loaded(calibration)
    tables = _tables(model, table, hub)
    configs: Sequence[Config] = [config] * len(tables)
    if len(tables) > 1 and isinstance(config, TargetConfig):
        configs = _shares(tables, config, known, device, progress)
    fits = [Fit.prepare(each, own, calibration=known, init=init) for each, own in zip(tables, configs, strict=True)]
    del known  # a fit has its importance of it, and the matrices of a wide table take hundreds of MB
    return run_and_store(fits, log_with=log_with, device=device, out=out, overwrite=overwrite, progress=progress)


def _shares(
    tables: Sequence[Table], config: TargetConfig, known: Calibration | None, device: str | None, progress: Progress
) -> Sequence[Config]:
    """A target for each table: by the losses that a calibration predicts, else as many bits for all."""
    if known is None:
        found = equal_shares(tables, config)
        names = ", ".join(table.info.table for table in tables)
        progress.warn(
            f"{found[0].target_bits:.3g} bits per weight for each table ({names}): without a `calibration` nothing "
            "says which of them loses more; with one they share the size by predicted loss"
        )
        return found
    for table in tables:
        known.of_table(table.info.table)  # refuses one that it says nothing of, before any is fitted
    progress.stage("sizes that the tables lose least at", 1)
    shared = SharedBudget(tables, known, device).shares(config)
    progress.advance(1)
    return shared


def run_and_store(
    fits: Sequence[Fit],
    *,
    log_with: Sequence[str] | None = None,
    device: str | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress,
) -> Compressed:
    """Run fits, one for each of a model's tables, and store what they give; arguments as for `fit_and_store`."""
    options: dict[str, Any] = {"log_with": log_with, "device": device, "out": out, "overwrite": overwrite}
    made = [_stored(fit, progress=progress, **options) for fit in fits]
    return replace(made[0], others=tuple(made[1:]))


def _stored(
    fit: Fit,
    *,
    log_with: Sequence[str] | None,
    device: str | None,
    out: str | Path | None,
    overwrite: bool,
    progress: Progress,
) -> Compressed:
    """Run one fit and store what it gives, unless that is done already."""
    info, config = fit.table.info, fit.config
    say_rough(info, progress)
    slug = fit.config.slug if info.table == INPUT else f"{fit.config.slug}-{info.table}"
    path = runs.artifact_path(info, slug, fit.settings, None if out is None else Path(out))
    fitted: list[Artifact] = []

    def work(log: Callable[[Epoch], None]) -> Artifact:
        with trackers(list(log_with or []), path.with_suffix(""), fit.settings) as track:

            def on_epoch(epoch: Epoch) -> None:
                log(epoch)
                track(epoch.epoch, epoch.as_dict())
                progress.advance(1)
                progress.status(f"cosine distance {epoch.distances.cosine:.4f}, RMSE {epoch.distances.rmse:.4f}")

            epochs = config.epochs if isinstance(config, AutoencoderConfig) else None
            progress.stage(f"{config.method}, {fit.config.size}", epochs or 1)
            fitted.append(fit.run(device=device, on_epoch=on_epoch))
            if epochs is None:
                progress.advance(1)
            return fitted[0]

    stored = runs.produce(fit, info, path, work, overwrite=overwrite)
    one = fitted[0] if fitted else None
    return Compressed(stored.path, stored.description, stored.fresh, stored.seconds, _fitted=one)


def _tables(model: str | Path | ModelSource | Table, name: str | None, hub: dict[str, Any]) -> list[Table]:
    """The table, or tables, of a model that is named, or was read already."""
    with distributed.main_first():
        if isinstance(model, Table) or name in (None, INPUT):
            return [read_table(model, table=name, **hub)]
        source = ModelSource.resolve(model, **hub)
        return [read_table(source, table=each) for each in chosen(source.skeleton, str(name), source.id)]
