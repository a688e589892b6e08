"""`orientc perplexity`"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from orientc.cli import options, output
from orientc.comparison.numbers import figure, ratio, with_error
from orientc.evaluation.option_values import HEADS
from orientc.storage.records import DIVERGENCES, Record


def perplexity(
    subject: options.Subjects,
    text: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="UTF-8 text to score; for an encoder-decoder pairs, as TSV or JSON lines. "
            "[default: WikiText-103 raw test; demo's own for demo]",
            show_default=False,
            rich_help_panel=options.EVALUATION,
        ),
    ] = None,
    dataset: options.ScoredDataset = None,
    column: options.ScoredColumn = "text",
    languages: options.Languages = None,
    head: Annotated[
        str,
        options.choice(
            HEADS,
            help="Of a tied model, compress the lookup alone, lookup and head, or show both figures.",
            rich_help_panel=options.EVALUATION,
        ),
    ] = "both",
    limit: Annotated[
        int | None,
        typer.Option(
            help="Score only so many lines (masked), tokens (causal) or pairs. [default: all]",
            show_default=False,
            rich_help_panel=options.EVALUATION,
        ),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(
            help="Text tokens per window (causal). [default: at most 1024]",
            show_default=False,
            rich_help_panel=options.EVALUATION,
        ),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(
            help="Tokens from window to window (causal). [default: the window]",
            show_default=False,
            rich_help_panel=options.EVALUATION,
        ),
    ] = None,
    bos: Annotated[
        bool,
        typer.Option(
            "--bos/--no-bos", help="BOS token before each window (causal).", rich_help_panel=options.EVALUATION
        ),
    ] = True,
    batch_size: Annotated[
        int | None,
        typer.Option(
            help="At most so many lines or windows at a time; does not change the figures. [default: by their length]",
            show_default=False,
            rich_help_panel=options.EVALUATION,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the masks (masked).", rich_help_panel=options.EVALUATION)] = 0,
    dtype: options.ComputeDtype = "float32",
    kl: Annotated[
        bool,
        typer.Option(
            "--kl/--no-kl",
            help="Hold an artifact's predictions against the uncompressed model's.",
            rich_help_panel=options.EVALUATION,
        ),
    ] = True,
    model: options.BaseModel = None,
    force: options.Force = False,
    device: options.Device = None,
    device_map: options.DeviceMap = None,
    max_memory: options.MaxMemory = None,
    out: options.RunsFolder = None,
    overwrite: options.OverwriteRun = False,
    revision: options.Revision = None,
    allow_pickle: options.AllowPickle = False,
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure perplexity, by the protocol of the model's architecture; of an artifact, beside its base model.

    Example: `orientc perplexity small.safetensors --text wiki.txt`
    """
    import orientc

    with output.stages(quiet=quiet) as progress:
        found = orientc.perplexity(
            subject,
            text=text,
            dataset=dataset,
            column=column,
            languages=languages,
            head=head,
            limit=limit,
            window=window,
            stride=stride,
            bos=bos,
            batch_size=batch_size,
            seed=seed,
            dtype=dtype,
            kl=kl,
            model=model,
            force=force,
            device=device,
            device_map=device_map,
            max_memory=max_memory,
            out=out,
            overwrite=overwrite,
            revision=revision,
            allow_pickle=allow_pickle,
            trust_remote_code=trust_remote_code,
            progress=progress,
        )
    if as_json:
        output.show_json(found.as_dict())
        return
    original = found.records[0]
    held = [name for name in DIVERGENCES if any(name in record.metrics for record in found.records)]
    output.show_table(
        ["table", "perplexity", "ratio", "loss", *(name.replace("_", " ") for name in held), "tokens", "seconds"],
        [
            [
                f"{record.artifact['method']} r{record.artifact['rank']}, {record.head}"
                if record.artifact
                else "original",
                with_error(figure(record.perplexity, 4), record.standard_error("perplexity")),
                f"{times:.3f}×" if (times := ratio(record.perplexity, original.perplexity)) else "–",
                f"{loss:.4f}" if (loss := record.metrics["loss"]) < math.inf else figure(loss),
                *(_divergence(record, name) for name in held),
                str(record.metrics["tokens"]),
                f"{record.seconds:.1f}",
            ]
            for record in found.records
        ],
        title=f"{original.model['id']}; {found.protocol} perplexity on {found.text}",
    )


def _divergence(record: Record, name: str) -> str:
    """A divergence with its standard error, where the record has both."""
    if name not in record.metrics:
        return "–"
    return with_error(figure(record.metrics[name]), record.standard_error(name))
