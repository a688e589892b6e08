"""The runs folder: where artifacts, their histories, records and calibrations lie, and when one is done already."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from orientc.errors import ArtifactError, CalibrationError, OutputError, UsageError
from orientc.storage import artifact as artifacts
from orientc.storage import calibration as calibrations
from orientc.storage.artifact import Artifact
from orientc.storage.calibration import Calibration, CalibrationDescription
from orientc.storage.description import Description
from orientc.utils import distributed
from orientc.utils.files import check_writable, short_hash, write_json
from orientc.utils.versions import versions

if TYPE_CHECKING:
    from orientc.storage.table_info import TableInfo

HISTORY_SUFFIX = ".history.json"
_Found = TypeVar("_Found", Description, CalibrationDescription)


def runs_folder(out: Path | None = None) -> Path:
    """The runs folder asked for, else `ORIENTC_RUNS`, else `runs`."""
    return out if out is not None else Path(os.environ.get("ORIENTC_RUNS") or "runs")


def model_folder(model: str, out: Path | None = None) -> Path:
    """A model's folder in the runs folder: a hub id with "/" as "--", a local model by its last name."""
    local = Path(model).exists() or model.startswith((".", "/", "~"))
    name = Path(model).resolve().name if local else model.replace("/", "--")
    folder = runs_folder(out) / name
    # beside a model that lies there itself: in its own folder, what is made of it would be taken for a part of it
    return folder.with_name(f"{name}-runs") if local and folder.resolve() == Path(model).resolve() else folder


def records_folder(model: str, artifact: Path | None, out: Path | None) -> Path:
    """Where records go: beside the artifact that is evaluated, else into the model's folder in the runs folder.

    Raises `UsageError` where `out` is given for an artifact.
    """
    if artifact and out:
        raise UsageError("records of an artifact go beside it: --out is for those of a model")
    return artifact.parent if artifact else model_folder(model, out)


def artifact_path(model: str, slug: str, settings: dict[str, Any], out: Path | None = None) -> Path:
    """Where an artifact goes: `out` itself where that names an artifact, else its place in the runs folder.

    `slug` is method and size as they go into a file's name, `settings` the fit's full settings.
    """
    return _placed(f"{slug}-{short_hash(settings)}{artifacts.SUFFIX}", model, out)


def history_path(artifact: Path) -> Path:
    """The history beside an artifact."""
    return artifact.with_name(artifact.name.removesuffix(artifacts.SUFFIX) + HISTORY_SUFFIX)


def tuned_path(artifact: Path, model: str, settings: dict[str, Any], out: Path | None = None) -> Path:
    """Where what an artifact is tuned to goes: beside it, with `out` that file itself or into that runs folder."""
    name = f"{artifact.name.removesuffix(artifacts.SUFFIX)}-tuned-{short_hash(settings)}{artifacts.SUFFIX}"
    return artifact.with_name(name) if out is None else _placed(name, model, out)


class Planned(Protocol):
    """What leads to an artifact: its settings are those of the artifact."""

    @property
    def settings(self) -> dict[str, Any]:
        """Flat and complete; equal settings give equal artifacts."""


@dataclass(frozen=True)
class Stored:
    """An artifact in its place. `fresh` is false where it was there already; `seconds` are the fit's then too."""

    path: Path
    description: Description
    fresh: bool
    seconds: float | None


def produce(
    plan: Planned,
    base: TableInfo,
    path: Path,
    fit: Callable[[Callable[[Any], None]], Artifact],
    *,
    overwrite: bool = False,
    reports: str = "epochs",
    spent: Callable[[], float] = lambda: 0.0,
) -> Stored:
    """Make an artifact and its history, unless the same one is there already.

    `fit` is handed a function to call with each epoch's report and returns the artifact; `reports` is what the history
    calls these. `spent` says, after the fit, how many seconds earlier commands worked on it. Raises `OutputError`
    where something else is at `path` and `overwrite` is not set, or where `path` can't be written. Of several
    processes the main one writes, and nobody goes on before that.
    """
    done = distributed.from_main(
        lambda: None if overwrite else _done(path, "artifact", artifacts.read_description, plan.settings, base)
    )
    if done is not None:
        return Stored(path, done, fresh=False, seconds=fit_seconds(path))
    if distributed.is_main():
        check_writable(path.parent)
    reported: list[Any] = []
    start = time.perf_counter()
    artifact = fit(reported.append)
    seconds = round(time.perf_counter() - start + spent(), 3)
    history = {
        "format": "orientc-history",
        "version": 1,
        "settings": plan.settings,
        "seconds": seconds,
        "versions": versions(),
        reports: [report.as_dict() for report in reported],
    }
    if distributed.is_main():
        write_json(history_path(path), history)
        artifacts.save(artifact, path)
    distributed.wait()
    return Stored(path, artifact.description, fresh=True, seconds=seconds)


def fit_seconds(artifact: Path) -> float | None:
    """How long an artifact's fit took, from its history; None where that is not known."""
    try:
        return float(_history_entry(artifact, "seconds"))
    except (ValueError, TypeError):
        return None


def fit_reports(artifact: Path, name: str) -> list[dict[str, Any]]:
    """What a fit reported, from the artifact's history; nothing where that is not known."""
    found = _history_entry(artifact, name)
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _history_entry(artifact: Path, name: str) -> Any:
    """An entry of an artifact's history; None where there is none that can be read."""
    try:
        return json.loads(history_path(artifact).read_text(encoding="utf-8"))[name]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def calibration_path(model: str, settings: dict[str, Any], out: Path | None = None) -> Path:
    """Where a calibration goes: `out` itself where that names a file, else its place in the runs folder."""
    return _placed(f"calibration-{short_hash(settings)}{calibrations.SUFFIX}", model, out)


def keep_calibration(
    settings: dict[str, Any],
    base: TableInfo,
    path: Path,
    make: Callable[[], Calibration],
    *,
    overwrite: bool = False,
) -> bool:
    """Make a calibration and write it to `path`, unless the same one is there already; says whether it was made.

    Raises `OutputError` where something else is at `path` and `overwrite` is not set, or it can't be written.
    """
    if not overwrite and _done(path, "calibration", calibrations.read_description, settings, base):
        return False
    check_writable(path.parent)
    calibrations.save(make(), path)
    return True


def _placed(name: str, model: str, out: Path | None) -> Path:
    """`out` where that names such a file itself, else `name` in the model's folder."""
    return out if out is not None and out.suffix == Path(name).suffix else model_folder(model, out) / name


def _done(
    path: Path, kind: str, read: Callable[[Path], _Found], settings: dict[str, Any], base: TableInfo
) -> _Found | None:
    """What is at `path` if these settings made it of this table; None where nothing is there."""
    if not path.exists():
        return None
    try:
        found = read(path)
    except (ArtifactError, CalibrationError) as error:
        raise OutputError(f"{path} is in the way and is not a usable {kind}: replace it with --overwrite") from error
    if found.settings != settings or found.base.sha256 != base.sha256:
        raise OutputError(f"{path} holds another {kind}: replace it with --overwrite")
    return found
