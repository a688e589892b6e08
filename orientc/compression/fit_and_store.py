"""Fit a model's table and keep the artifact in its place: the one way from a config to a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from orientc.compression.configs import AutoencoderConfig, Config
from orientc.compression.fit_table import Fit
from orientc.compression.gguf_tables import say_rough
from orientc.errors import UsageError
from orientc.methods.autoencoder import Epoch
from orientc.models.source import ModelSource
from orientc.models.table import Table, read_table
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
    """An artifact in its place.

    `path` is its file and `description` what its header says. `fresh` is False where it was there already; `seconds`
    are what the fit took, from the history beside it where it was there, and None where that is gone.
    """

    path: Path
    description: Description
    fresh: bool
    seconds: float | None
    _fitted: Artifact | None = field(default=None, repr=False, compare=False)

    @cached_property
    def artifact(self) -> Artifact:
        """The artifact itself; it is read from its file where it was there already."""
        return self._fitted or artifacts.load(self.path)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: path, `fresh`, `seconds`, and the description with its sizes."""
        about = {"artifact": str(self.path), "fresh": self.fresh, "seconds": self.seconds}
        return document("artifact", about | self.description.as_dict())


def fit_and_store(
    model: str | Path | ModelSource | Table,
    config: Config,
    *,
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
        calibration: A calibration of this table, or its file.
        init: The artifact an autoencoder starts from, or its file, where the config's `init` is "artifact".
        log_with: Names of accelerate's trackers that an autoencoder's epochs are logged with.
        device: Where to fit; None for accelerate's choice.
        out: Runs folder, or the artifact itself where it ends in .safetensors; None for `ORIENTC_RUNS`, else "runs".
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
    hub = {"revision": revision, "allow_pickle": allow_pickle, "trust_remote_code": trust_remote_code}
    fit = Fit.prepare(_table(model, hub), config, calibration=calibration, init=init)
    info = fit.table.info
    say_rough(info, progress)
    path = runs.artifact_path(info, fit.config.slug, fit.settings, None if out is None else Path(out))
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
    return Compressed(stored.path, stored.description, stored.fresh, stored.seconds, fitted[0] if fitted else None)


def _table(model: str | Path | ModelSource | Table, hub: dict[str, Any]) -> Table:
    """The table of a model that is named, or was read already."""
    with distributed.main_first():
        return read_table(model, **hub)
