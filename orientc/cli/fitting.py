"""What `compress` and `svd` have in common: settings to plan, plan to artifact, artifact to stdout."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orientc.cli import terminal
from orientc.report.numbers import figure
from orientc.sizes import MB

if TYPE_CHECKING:
    from orientc.compression import Plan
    from orientc.runs import Stored


def layers(like: Path | None, config: Path | None, options: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Settings in the order they override one another: an artifact's, a file's, the command line's."""
    from orientc import artifact
    from orientc.arguments import settings_from

    return [
        artifact.read_description(like).settings if like else {},
        settings_from(config) if config else {},
        {name: value.value if isinstance(value, Enum) else value for name, value in options.items()},
    ]


def fit(
    model: str,
    plan: Plan,
    *,
    out: Path | None,
    overwrite: bool,
    device: str | None,
    quiet: bool,
    init: Path | None = None,
    log_with: list[str] | None = None,
    **source: Any,
) -> Stored:
    """Carry a plan out for a model, with a progress bar, and store what comes of it."""
    from orientc import artifact, compression, runs
    from orientc.models import ModelSource
    from orientc.tables import read_table
    from orientc.tracking import trackers

    table = read_table(ModelSource.resolve(model, **source))
    plan = plan.for_table(table)
    path = runs.artifact_path(model, plan, out)
    start = artifact.load(init).factors if init else None

    def work(log: Any) -> artifact.Artifact:
        with (
            trackers(log_with or [], path.with_suffix(""), plan.settings) as track,
            terminal.bar(plan.epochs, quiet=quiet) as bar,
        ):

            def on_epoch(epoch: Any) -> None:
                log(epoch)
                track(epoch.epoch, epoch.as_dict())
                bar(1, f"cosine distance {epoch.distances.cosine:.4f}, RMSE {epoch.distances.rmse:.4f}")

            return compression.run(plan, table, device=device, start=start, on_epoch=on_epoch)

    stored = runs.produce(plan, table.info, path, work, overwrite=overwrite)
    if not stored.fresh:
        terminal.note(f"done already: {path} has these settings", quiet=quiet)
    return stored


def show(stored: Stored, *, as_json: bool) -> None:
    """The artifact's path, sizes and distances on stdout."""
    description = stored.description
    if as_json:
        terminal.show_json(
            {"artifact": str(stored.path), "fresh": stored.fresh, "seconds": stored.seconds} | description.as_dict()
        )
        return
    terminal.show_facts([("artifact", str(stored.path)), *facts(description), ("fit", f"{stored.seconds} s")])


def facts(description: Any) -> list[tuple[str, str]]:
    """An artifact's sizes and distances, for people."""
    base = description.base
    return [
        (
            "base model",
            f"{base.id}, table {base.vocab} × {base.dim} {base.dtype}, {base.nbytes / MB:.2f} MB",
        ),
        ("method", f"{description.method}, rank {description.rank}, {description.dtype}"),
        ("size", f"{description.nbytes / MB:.2f} MB, {figure(description.bits_per_weight)} bits per weight"),
        (
            "ratio",
            f"{figure(description.parameter_ratio)} in parameters, {figure(description.byte_ratio)} in bytes",
        ),
        ("cosine distance", f"{description.distances['cosine']:.5f}"),
        ("RMSE", f"{description.distances['rmse']:.5f}"),
    ]
