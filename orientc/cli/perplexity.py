"""`orientc perplexity`"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orientc.cli import options, output
from orientc.comparison.numbers import figure


class Head(StrEnum):
    """Which of a tied model's two figures to measure."""

    input_only = "input-only"
    tied = "tied"
    both = "both"


def perplexity(
    subject: options.Subject,
    text: Annotated[
        Path | None,
        typer.Option(help="UTF-8 text to score. [default: WikiText-103 raw test; demo's own for demo]"),
    ] = None,
    head: Annotated[
        Head, typer.Option(help="Compress the lookup alone, lookup and tied head, or show both.")
    ] = Head.both,
    limit: Annotated[
        int | None,
        typer.Option(help="Score only so many lines (masked) or tokens (causal).", show_default=False),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(help="Text tokens per window (causal). [default: at most 1024]", show_default=False),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(help="Tokens from window to window (causal). [default: the window]", show_default=False),
    ] = None,
    no_bos: Annotated[bool, typer.Option("--no-bos", help="No BOS token before a window (causal).")] = False,
    batch_size: Annotated[
        int | None,
        typer.Option(
            help="At most so many lines or windows at a time; does not change the figures.", show_default=False
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the masks (masked).")] = 0,
    dtype: options.ComputeDtype = "float32",
    model: options.BaseModel = None,
    force: options.Force = False,
    device: options.Device = None,
    out: options.RunsFolder = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Measure again what was measured before.")] = False,
    revision: options.Revision = None,
    allow_pickle: options.AllowPickle = False,
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure perplexity, masked or causal by the model's architecture; of an artifact, beside its base model.

    Example: `orientc perplexity runs/bert-base-uncased/svd-r128-1f0c4a2b.safetensors --text wiki.txt`
    """
    from orientc.evaluation import perplexity as measure
    from orientc.evaluation import texts
    from orientc.models import resolve
    from orientc.storage.runs import records_folder
    from orientc.utils import distributed
    from orientc.utils.devices import pick_device
    from orientc.utils.files import check_writable

    settings = measure.Settings(limit, window, stride, not no_bos, seed, batch_size, dtype)
    chosen = pick_device(device)
    found = resolve.subject(
        subject,
        model=model,
        revision=revision,
        allow_pickle=allow_pickle,
        trust_remote_code=trust_remote_code,
    )
    protocol = measure.protocol_of(found.source)  # before a text is fetched for nothing
    with distributed.main_first():
        scored = texts.scored_text(text, found.source)
    folder = records_folder(found.source.id, found.path, out)
    check_writable(folder)
    with output.stages(quiet=quiet) as progress:
        measurement = measure.Measurement(
            found.source,
            scored,
            settings,
            folder=folder,
            device=chosen,
            again=overwrite,
            force=force,
            progress=progress,
        )
        compressed = measurement.compressed(found.path, found.artifact, head) if found.path and found.artifact else ()
        records = [measurement.original(), *compressed]
    if as_json:
        output.show_json({"protocol": protocol, "records": [record.as_dict() for record in records]})
        return
    original = records[0].perplexity
    output.show_table(
        ["table", "perplexity", "ratio", "loss", "tokens", "seconds"],
        [
            [
                f"{record.artifact['method']} r{record.artifact['rank']}, {record.head}"
                if record.artifact
                else "original",
                figure(record.perplexity, 4),
                f"{record.perplexity / original:.3f}×",
                f"{record.metrics['loss']:.4f}",
                str(record.metrics["tokens"]),
                f"{record.seconds:.1f}",
            ]
            for record in records
        ],
        title=f"{found.source.id}; {protocol} perplexity on {scored.name}",
    )
