"""The runs folder: names of artifacts, histories, records and calibrations, and what is there already."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from orientc import demo
from orientc.errors import ArtifactError, CalibrationError, OutputError, UsageError
from orientc.modeling.table_names import INPUT
from orientc.storage import artifact as artifacts
from orientc.storage import calibration as calibrations
from orientc.storage import safetensors_file
from orientc.storage.artifact import Artifact
from orientc.storage.calibration import Calibration, CalibrationDescription
from orientc.storage.description import Description
from orientc.utils import distributed
from orientc.utils.documents import document, marks
from orientc.utils.files import check_writable, read_bytes, short_hash, write_json, writing
from orientc.utils.versions import versions

if TYPE_CHECKING:
    from orientc.storage.table_info import TableInfo

HISTORY_SUFFIX = ".history.json"
UNFINISHED_SUFFIX = ".unfinished"
_LARGEST = 100_000_000  # bytes of a history
_Found = TypeVar("_Found", Description, CalibrationDescription)


def runs_folder(out: Path | None = None) -> Path:
    """The runs folder: `out`, else the environment's `ORIENTC_RUNS`, else "runs"."""
    return out if out is not None else Path(os.environ.get("ORIENTC_RUNS") or "runs")


def model_folder(model: str, out: Path | None = None) -> Path:
    """A model's folder in the runs folder, named by its hub id with "/" as "--", or by a local model's last name.

    Raises `UsageError` where it would hide the model.
    """
    local = _is_local(model)
    name = Path(model).resolve().name if local else model.replace("/", "--")
    folder = runs_folder(out) / name
    # a model that lies in the runs folder itself: its own folder must not be written into; nor must one on the hub get
    # a folder that its id would be taken for
    if model != demo.NAME and folder.resolve() == Path(model).resolve():
        folder = folder.with_name(f"{name}-runs")
    _check_hides_nothing(model, folder)
    return folder


def _check_hides_nothing(model: str, path: Path) -> None:
    """Raise `UsageError` where the folders above `path` would be taken for the model of the hub that it is of."""
    if model != demo.NAME and not _is_local(model) and Path(model).resolve() in path.resolve().parents:
        raise UsageError(f"a folder {model} would hide the model of that name on the hub: name another one as `out`")


def records_folder(model: str, artifact: Path | None, out: Path | None) -> Path:
    """The folder for records: that of the artifact evaluated, else the model's folder in the runs folder.

    Where `out` is given, the latter for an artifact too. Raises `UsageError` where that would hide the model.
    """
    return artifact.parent if artifact and out is None else model_folder(model, out)


def artifact_path(base: TableInfo, slug: str, settings: dict[str, Any], out: Path | None = None) -> Path:
    """The file for an artifact: `out` where that ends in ".safetensors", else one in the model's folder.

    Args:
        base: The table to compress.
        slug: Method and size as the file's name has them, as "svd-r128".
        settings: All settings of the fit; a hash of them and of the base is part of the name.
        out: The file, or the runs folder.
    """
    return _placed(f"{slug}-{_fit_hash(base, settings)}{artifacts.SUFFIX}", base.id, out)


def history_path(artifact: Path) -> Path:
    """The file for an artifact's history, beside it."""
    return artifact.with_name(artifact.name.removesuffix(artifacts.SUFFIX) + HISTORY_SUFFIX)


def tuned_path(artifact: Path, base: TableInfo, settings: dict[str, Any], out: Path | None = None) -> Path:
    """The file for a tuned artifact: beside the one it starts from, or by `out` as in `artifact_path`."""
    return _tuned_path(artifact, base, _fit_hash(base, settings), out)


def unfinished_path(artifact: Path, base: TableInfo, settings: dict[str, Any], out: Path | None = None) -> Path:
    """The file for the state of an unfinished tuning, where the tuned artifact will be; arguments as in `tuned_path`.

    Its name depends on `settings` alone: those of runs of which one would find, but may not use, another's state.
    """
    path = _tuned_path(artifact, base, short_hash(settings), out)
    return path.with_name(path.name + UNFINISHED_SUFFIX)


class Planned(Protocol):
    """What `produce` needs to know of a fit: its settings."""

    @property
    def settings(self) -> dict[str, Any]:
        """All settings, a flat dictionary; equal settings give equal artifacts."""


@dataclass(frozen=True)
class Stored:
    """An artifact on disk.

    Attributes:
        path: The file.
        description: Its description.
        fresh: Whether it was made now, rather than found.
        seconds: Wall-clock time of the fit; None where the history of an artifact that was found is gone.
    """

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
    """Make an artifact and write it and its history, unless the same artifact is there already.

    Of several processes the main one writes, and all wait for it.

    Args:
        plan: The settings.
        base: The table to compress.
        path: The file for the artifact.
        fit: Makes the artifact; it is given a function to call with the report of each epoch.
        overwrite: Make it anew in any case.
        reports: Key of the reports in the history.
        spent: Called after the fit; seconds that interrupted runs of the same fit took.

    Raises:
        OutputError: Another file is at `path`, with `overwrite` one that orientc did not write, or it can't be written.
    """

    def same(found: Description) -> bool:
        return found.settings == plan.settings and _facts(found.base) == _facts(base)

    done = distributed.from_main(
        lambda: None if overwrite else _done(path, "artifact", artifacts.read_description, same)
    )
    if done is not None:
        _touch(path)
        return Stored(path, done, fresh=False, seconds=fit_seconds(path))
    distributed.from_main(lambda: _check_replaceable(path, history_path(path)))
    if distributed.is_main():
        check_writable(path.parent)
    reported: list[Any] = []
    start = time.perf_counter()
    artifact = fit(reported.append)
    seconds = round(time.perf_counter() - start + spent(), 3)
    history = {
        "settings": plan.settings,
        "seconds": seconds,
        "versions": versions(),
        reports: [report.as_dict() for report in reported],
    }
    if distributed.is_main():
        write_json(history_path(path), document("history", history))
        artifacts.save(artifact, path)
    distributed.wait()
    return Stored(path, artifact.description, fresh=True, seconds=seconds)


def fit_seconds(artifact: Path) -> float | None:
    """The wall-clock time of an artifact's fit, from its history; None where that can't be read."""
    try:
        seconds = float(_history_entry(artifact, "seconds"))
    except (ValueError, TypeError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) else None


def fit_reports(artifact: Path, name: str) -> list[dict[str, Any]]:
    """The reports of an artifact's fit, from its history; empty where that can't be read."""
    found = _history_entry(artifact, name)
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _history_entry(artifact: Path, name: str) -> Any:
    """An entry of an artifact's history; None where it can't be read."""
    try:
        return json.loads(read_bytes(history_path(artifact), _LARGEST))[name]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def calibration_path(model: str, settings: dict[str, Any], out: Path | None = None) -> Path:
    """The file for a calibration: `out` where that ends in ".safetensors", else one in the model's folder."""
    return _placed(f"calibration-{short_hash(settings)}{calibrations.SUFFIX}", model, out)


def keep_calibration(
    settings: dict[str, Any],
    base: TableInfo,
    path: Path,
    make: Callable[[], Calibration],
    *,
    overwrite: bool = False,
) -> bool:
    """Make a calibration and write it, unless the same one is there already.

    Args:
        settings: All settings of the measurement.
        base: The table it is measured on.
        path: The file for it.
        make: Makes the calibration.
        overwrite: Make it anew in any case.

    Returns:
        Whether it was made now.

    Raises:
        OutputError: Another file is at `path`, or it can't be written.
    """

    def same(found: CalibrationDescription) -> bool:  # the model's fingerprint is among the settings
        return found.settings == settings and found.base.sha256 == base.sha256

    if not overwrite and _done(path, "calibration", calibrations.read_description, same):
        _touch(path)
        return False
    _check_replaceable(path)
    check_writable(path.parent)
    calibrations.save(make(), path)
    return True


def check_out(out: Path | None) -> None:
    """Raise `UsageError` for an `out` that looks like a file but is no `.safetensors`: a folder was not meant."""
    if out is not None and out.suffix not in ("", artifacts.SUFFIX) and not out.is_dir():
        raise UsageError(f"`out` must be a folder, or a file that ends in {artifacts.SUFFIX}, not {out}")


def _placed(name: str, model: str, out: Path | None) -> Path:
    """The file `out` where it ends in ".safetensors", else `name` in the model's folder. Raises as `check_out`."""
    check_out(out)
    if out is None or out.suffix != artifacts.SUFFIX:
        return model_folder(model, out) / name
    _check_hides_nothing(model, out)
    return out


def _check_replaceable(path: Path, history: Path | None = None) -> None:
    """Raise `OutputError` where an artifact or a calibration, or its history, would replace what is none."""
    with writing(path):
        if os.path.lexists(path) and not safetensors_file.is_ours(path):
            raise OutputError(f"{path} is in the way, and orientc did not write it: move it, or name another place")
        if history and history.exists() and history.stat().st_size:
            try:
                ours = json.loads(history.read_text(encoding="utf-8"))["format"] == marks("history")["format"]
            except (ValueError, KeyError, TypeError, RecursionError):
                ours = False
            if not ours:
                raise OutputError(f"{history}, where the history of {path.name} goes, holds something else: move it")


def _done(path: Path, kind: str, read: Callable[[Path], _Found], same: Callable[[_Found], bool]) -> _Found | None:
    """Read what is at `path`, None if nothing. Raises `OutputError` where it is not the same as what is wanted."""
    if not path.exists():
        return None
    try:
        found = read(path)
    except (ArtifactError, CalibrationError) as error:
        ours = safetensors_file.is_ours(path)
        remedy = "replace it with `overwrite`" if ours else "move it, or name another place"
        raise OutputError(f"{path} is in the way and is not a usable {kind}: {remedy}") from error
    if not same(found):
        raise OutputError(f"{path} holds another {kind}: replace it with `overwrite`")
    return found


def _touch(path: Path) -> None:
    """Give a file that is what was asked for the time of now, as `make` wants it; one that is not ours keeps its."""
    if distributed.is_main():
        with contextlib.suppress(OSError):
            os.utime(path)


def _tuned_path(artifact: Path, base: TableInfo, digest: str, out: Path | None) -> Path:
    name = f"{artifact.name.removesuffix(artifacts.SUFFIX)}-tuned-{digest}{artifacts.SUFFIX}"
    return artifact.with_name(name) if out is None else _placed(name, base.id, out)


def _fit_hash(base: TableInfo, settings: dict[str, Any]) -> str:
    """What tells fits with one slug in one folder apart: settings, and the base where its id leaves that open.

    Two local models may have folders of one name, and a model on the hub commits that share a table.
    """
    known_by_id = base.revision is None and not _is_local(base.id)
    return short_hash(settings if known_by_id else {"settings": settings, "base": _facts(base)})


def _facts(base: TableInfo) -> dict[str, Any]:
    """All that an artifact says of its base; a local model is known by where it lies, however that is spelled."""
    place = os.path.realpath(os.path.expanduser(base.id)) if _is_local(base.id) else base.id
    facts = asdict(base) | {"id": place}
    if base.table == INPUT:  # so that names are what they were before there were other tables
        del facts["table"]
    return facts


def _is_local(model: str) -> bool:
    return Path(model).exists() or model.startswith((".", "/", "~"))
