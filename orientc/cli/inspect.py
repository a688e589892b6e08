"""`orientc inspect`"""

from __future__ import annotations

from typing import Annotated

import typer

from orientc.cli import options, output
from orientc.comparison.numbers import figure
from orientc.storage.sizes import MB


def inspect(
    subject: options.Subject,
    ratio: Annotated[
        list[float] | None,
        typer.Option(help="A parameter ratio to work out; may be repeated. [default: 2.5, 5, 10]", show_default=False),
    ] = None,
    revision: options.Revision = None,
    allow_pickle: options.AllowPickle = False,
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show what a model's table is like and what a ratio would make of it, or all an artifact says of itself.

    Example: `orientc inspect bert-base-uncased --ratio 5`
    """
    from orientc.models.resolve import is_artifact

    if is_artifact(subject):
        from orientc.storage.calibration import is_calibration

        (_calibration if is_calibration(subject) else _artifact)(subject, as_json=as_json)
        return
    from dataclasses import asdict

    from orientc.models.inspect import inspect as measure
    from orientc.models.source import ModelSource
    from orientc.models.table import read_table

    source = ModelSource.resolve(
        subject, revision=revision, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code
    )
    facts = measure(read_table(source), ratio or [2.5, 5, 10])
    if as_json:
        output.show_json(asdict(facts))
        return
    table = facts.table
    output.show_facts(
        [
            ("model", table["id"] + (f" ({table['revision']})" if table["revision"] else "")),
            ("table", f"{table['vocab']} × {table['dim']} {table['dtype']}, {table['nbytes'] / MB:.2f} MB"),
            ("share", f"{facts.share:.1%} of {table['model_parameters'] / 1e6:.1f} M parameters"),
            ("head", "tied" if table["tied"] else "untied, or none"),
            ("padding index", str(table["padding_idx"])),
            ("embedding scale", figure(table["embed_scale"], 6)),
            ("row norms", ", ".join(f"{name} {figure(value)}" for name, value in facts.norms.items())),
            ("sha256", table["sha256"]),
        ]
    )
    output.show_table(
        ["rank", "energy kept"],
        [[str(rank), f"{share:.1%}"] for rank, share in facts.energy.items()],
        title="\nspectrum",
    )
    output.show_table(
        ["ratio", "rank", "MB float32", "MB float16", "energy kept"],
        [
            [
                figure(size.ratio),
                str(size.rank),
                *(f"{mb:.2f}" for mb in size.mb.values()),
                f"{size.energy:.1%}",
            ]
            for size in facts.sizes
        ],
        title="\nwith a decoder and its bias",
    )


def _artifact(path: str, *, as_json: bool) -> None:
    from pathlib import Path

    from orientc.cli.artifacts import facts
    from orientc.storage.artifact import load

    description = load(Path(path)).description
    if as_json:
        output.show_json({"artifact": path} | description.as_dict())
        return
    settings = ", ".join(f"{name} {value}" for name, value in sorted(description.settings.items()))
    base = description.base
    output.show_facts(
        [
            ("artifact", path),
            *facts(description),
            *(
                (name, f"{value:.5f}")
                for name, value in description.distances.items()
                if name not in ("cosine", "rmse")
            ),
            ("codec", description.codec),
            ("activation", description.activation or "none"),
            ("settings", settings),
            ("seed", str(description.seed)),
            ("base revision", base.revision or "local"),
            ("base sha256", base.sha256),
            (
                "base model",
                f"{base.model_parameters / 1e6:.1f} M parameters, {base.model_bytes / MB:.2f} MB",
            ),
            ("padding index", str(base.padding_idx)),
            ("embedding scale", figure(base.embed_scale, 6)),
            ("head", "tied" if base.tied else "untied, or none"),
            ("written by", f"orientc {description.version}"),
        ]
    )


def _calibration(path: str, *, as_json: bool) -> None:
    from orientc.cli.calibrate import facts
    from orientc.storage.calibration import load

    made = load(path)
    description = made.description
    if as_json:
        output.show_json({"calibration": path} | made.facts | description.as_dict())
        return
    settings = ", ".join(f"{name} {value}" for name, value in sorted(description.settings.items()))
    output.show_facts(
        [
            ("calibration", path),
            *facts(made),
            ("settings", settings),
            ("base revision", description.base.revision or "local"),
            ("base sha256", description.base.sha256),
            ("written by", f"orientc {description.version}"),
        ]
    )
