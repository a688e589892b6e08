"""What `compress` and `svd` have in common: settings to plan, plan to artifact, artifact to stdout."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orientc.cli import output
from orientc.comparison.numbers import figure
from orientc.modeling.layout import CODED, PER_GROUP, Layout
from orientc.storage.sizes import MB

if TYPE_CHECKING:
    from orientc.compression.configs import Plan
    from orientc.storage.runs import Stored


def layers(like: Path | None, config: Path | None, options: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Settings in the order they override one another: an artifact's, a file's, the command line's."""
    from orientc.models.resolve import settings_from
    from orientc.storage import artifact

    return [
        artifact.read_description(like).settings if like else {},
        settings_from(config) if config else {},
        {name: value.value if isinstance(value, Enum) else value for name, value in options.items()},
    ]


def sha256_of(file: Path | None) -> str | None:
    """The hash of a file that a plan names by it; None for none. Raises `UsageError` where it can't be read."""
    from orientc.errors import UsageError
    from orientc.utils.files import file_sha256

    try:
        return file_sha256(file) if file else None
    except OSError as error:
        raise UsageError(f"can't read {file}: {error.strerror or error}") from error


def fit(
    model: str,
    plan: Plan,
    *,
    out: Path | None,
    overwrite: bool,
    device: str | None,
    quiet: bool,
    init: Path | None = None,
    calibration: Path | None = None,
    log_with: list[str] | None = None,
    **source: Any,
) -> Stored:
    """Carry a plan out for a model, with a progress bar, and store what comes of it."""
    from orientc.compression import compress
    from orientc.models.source import ModelSource
    from orientc.models.table import read_table
    from orientc.storage import artifact, runs
    from orientc.storage import calibration as calibrations
    from orientc.utils import distributed
    from orientc.utils.tracking import trackers

    with distributed.main_first():
        table = read_table(ModelSource.resolve(model, **source))
    calibrated = calibrations.load(calibration) if calibration else None
    plan = plan.for_table(table, calibrated)
    path = runs.artifact_path(model, plan.slug, plan.settings, out)
    start = artifact.load(init).factors if init else None

    def work(log: Any) -> artifact.Artifact:
        with (
            trackers(log_with or [], path.with_suffix(""), plan.settings) as track,
            output.bar(plan.epochs, quiet=quiet) as bar,
        ):

            def on_epoch(epoch: Any) -> None:
                log(epoch)
                track(epoch.epoch, epoch.as_dict())
                bar(1, f"cosine distance {epoch.distances.cosine:.4f}, RMSE {epoch.distances.rmse:.4f}")

            return compress.run(plan, table, device=device, start=start, calibration=calibrated, on_epoch=on_epoch)

    stored = runs.produce(plan, table.info, path, work, overwrite=overwrite)
    if not stored.fresh:
        output.note(f"done already: {path} has these settings", quiet=quiet)
    return stored


def show(stored: Stored, *, as_json: bool) -> None:
    """The artifact's path, sizes and distances on stdout."""
    description = stored.description
    if as_json:
        output.show_json(
            {"artifact": str(stored.path), "fresh": stored.fresh, "seconds": stored.seconds} | description.as_dict()
        )
        return
    output.show_facts([("artifact", str(stored.path)), *facts(description), ("fit", f"{stored.seconds} s")])


def facts(description: Any) -> list[tuple[str, str]]:
    """An artifact's sizes and distances, for people."""
    base = description.base
    return [
        (
            "base model",
            f"{base.id}, table {base.vocab} × {base.dim} {base.dtype}, {base.nbytes / MB:.2f} MB",
        ),
        ("method", f"{description.method}, rank {description.rank}, {description.dtype}"),
        *stored(description.layout),
        ("size", f"{description.nbytes / MB:.2f} MB, {figure(description.bits_per_weight)} bits per weight"),
        (
            "ratio",
            f"{figure(description.parameter_ratio)} in parameters, {figure(description.byte_ratio)} in bytes",
        ),
        ("cosine distance", f"{description.distances['cosine']:.5f}"),
        ("RMSE", f"{description.distances['rmse']:.5f}"),
        *costs(description.distances),
    ]


def stored(layout: Layout) -> list[tuple[str, str]]:
    """How latents are coded and rows kept, where they are."""
    found = []
    if layout.codec in CODED:
        row_groups = [
            f"{rows} rows {_ranges(bits)}" if len(layout.bits) > 1 else _ranges(bits)
            for rows, bits in zip(layout.row_group_sizes, layout.bits, strict=True)
        ]
        scales = f"groups of {layout.group_size}" if layout.codec == PER_GROUP else "a scale for each column"
        found.append(("bits", f"{'; '.join(row_groups)}; {scales}"))
    if layout.kept:
        found.append(("rows kept", f"{layout.kept} of {layout.vocab}"))
    return found


def costs(distances: Mapping[str, float]) -> list[tuple[str, str]]:
    """What the model is predicted to lose, and what other forms of the size would have cost it."""
    found = []
    if "cost" in distances:
        found.append(("predicted loss", f"{figure(distances['cost'])} nats per token"))
    forms = {name: cost for name, cost in distances.items() if name.startswith("cost_")}
    if forms:
        ordered = sorted(forms.items(), key=lambda entry: entry[1])
        told = [f"{name.removeprefix('cost_')} {figure(cost)}" for name, cost in ordered]
        found.append(("chosen", f"{told[0]}{' over ' * (len(told) > 1)}{', '.join(told[1:])}"))
    return found


def _ranges(bits: tuple[int, ...]) -> str:
    return f"{bits[0]}" if len({*bits}) == 1 else f"{max(bits)}–{min(bits)}"
