"""`orientc inspect`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orientc.cli import artifacts, calibrate, options, output
from orientc.comparison.numbers import figure
from orientc.modeling.table_names import INPUT
from orientc.storage.sizes import MB

if TYPE_CHECKING:
    from orientc.models.inspect import ArtifactInspection, CalibrationInspection, Listed, TableInspection
    from orientc.storage.table_info import TableInfo

_NORMS = {"zero_rows": "rows of zeros"}
_DISTANCES = {"mae": "mean |x|", "power_0_6": "mean |x|^0.6", "power_0_1": "mean |x|^0.1"}  # x: errors of the numbers


def inspect(
    subject: options.Subject,
    ratio: Annotated[
        list[float] | None,
        typer.Option(
            help="A parameter ratio to work out; may be repeated. [default: 2.5, 5, 10]",
            show_default=False,
            rich_help_panel=options.SIZE,
        ),
    ] = None,
    table: options.AllTables = None,
    revision: options.Revision = None,
    allow_pickle: options.AllowPickle = False,
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show what a model's tables are like and what a ratio would make of it, or all an orientc file says of itself.

    Example: `orientc inspect bert-base-uncased --ratio 5`
    """
    from orientc.models.inspect import ArtifactInspection, TableInspection
    from orientc.models.inspect import inspect as run

    trust = {"allow_pickle": allow_pickle, "trust_remote_code": trust_remote_code}
    found = run(subject, ratio=ratio, table=table, revision=revision, **trust)
    if as_json:
        output.show_json(found.as_dict())
    elif isinstance(found, TableInspection):
        _show_table(found)
    elif isinstance(found, ArtifactInspection):
        _show_artifact(found)
    else:
        _show_calibration(found)


def _show_table(found: TableInspection) -> None:
    table = found.table
    if len(found.tables) > 1:
        _show_tables(found.tables)
    output.show_facts(
        [
            ("model", table.id + (f" ({table.revision})" if table.revision else "")),
            ("table", f"{_named(table)}{table.vocab} × {table.dim} {table.dtype}, {table.nbytes / MB:.2f} MB"),
            ("share", f"{found.share:.1%} of {table.model_parameters / 1e6:.1f} M parameters"),
            *([("head", "tied" if table.tied else "untied, or none")] if table.table == INPUT else []),
            ("padding index", str(table.padding_idx)),
            ("embedding scale", figure(table.embed_scale, 6)),
            (
                "row norms",
                ", ".join(f"{_NORMS.get(name, name)} {figure(value)}" for name, value in found.norms.items()),
            ),
            ("sha256", table.sha256),
        ]
    )
    output.show("\n")
    output.show_table(
        ["rank", "energy kept"],
        [[str(rank), f"{share:.1%}"] for rank, share in found.energy.items()],
        title="spectrum",
    )
    output.show("\n")
    output.show_table(
        ["ratio", "rank", "MB float32", "MB float16", "energy kept"],
        [
            [
                figure(size.ratio),
                str(size.rank),
                *(f"{mb:.2f}" for mb in size.mb.values()),
                f"{size.energy:.1%}",
            ]
            for size in found.sizes
        ],
        title="with a decoder and its bias",
    )


def _show_tables(tables: tuple[Listed, ...]) -> None:
    output.show_table(
        ["table", "rows", "columns", "share", "MB", "used by"],
        [
            [
                each.name,
                str(each.vocab),
                str(each.dim),
                f"{each.share:.1%}",
                "–" if each.nbytes is None else f"{each.nbytes / MB:.2f}",
                ", ".join(each.modules),
            ]
            for each in tables
        ],
        title="all tables",
    )
    output.show("\n")


def _named(base: TableInfo) -> str:
    """The name of a table before its size, where it is not the lookup's."""
    return "" if base.table == INPUT else f"{base.table}, "


def _show_artifact(found: ArtifactInspection) -> None:
    description = found.description
    settings = ", ".join(f"{name} {value}" for name, value in sorted(description.settings.items()))
    base = description.base
    output.show_facts(
        [
            ("artifact", str(found.path)),
            *artifacts.facts(description),
            *((label, f"{description.distances[name]:.5f}") for name, label in _DISTANCES.items()),
            ("codec", description.codec),
            ("activation", description.activation or "none"),
            ("settings", settings),
            *([] if description.seed is None else [("seed", str(description.seed))]),
            ("base revision", base.revision or "local"),
            ("base sha256", base.sha256),
            ("all weights", f"{base.model_parameters / 1e6:.1f} M parameters, {base.model_bytes / MB:.2f} MB"),
            ("padding index", str(base.padding_idx)),
            ("embedding scale", figure(base.embed_scale, 6)),
            *([("head", "tied" if base.tied else "untied, or none")] if base.table == INPUT else []),
            ("written by", f"orientc {description.written_by}"),
        ]
    )


def _show_calibration(found: CalibrationInspection) -> None:
    description = found.calibration.description
    settings = ", ".join(f"{name} {value}" for name, value in sorted(description.settings.items()))
    output.show_facts(
        [
            ("calibration", str(found.path)),
            *calibrate.facts(found.calibration),
            ("settings", settings),
            ("base revision", description.base.revision or "local"),
            ("base sha256", description.base.sha256),
            ("written by", f"orientc {description.written_by}"),
        ]
    )
