"""`orientc shrink`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orientc.cli import export_options, options, output
from orientc.comparison.numbers import figure
from orientc.compression.configs import RUNTIMES
from orientc.errors import GateError
from orientc.storage.sizes import MB
from orientc.workflows.tolerance import MEASURES, PERPLEXITY, called, difference_in_words

if TYPE_CHECKING:
    from orientc.workflows.ruler import Outcome
    from orientc.workflows.shrunk import Shrunk


_LEAST = 1e-6  # a predicted loss that is told from none


def shrink(
    model: options.Model,
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR|FILE",
            help="Folder to write, or with --for gguf the file.",
            show_default=False,
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    within: Annotated[
        str | None,
        typer.Option(
            metavar="1%|1.01x|0.5pt",
            help="How much worse it may be. [default: 1%; of Spearman and tasks 0.5pt]",
            show_default=False,
            rich_help_panel=options.SIZE,
        ),
    ] = None,
    measure: Annotated[
        str | None,
        options.choice(
            MEASURES,
            metavar="perplexity|similarity|spearman|TASK",
            help="What may get worse; a TASK is one of GLUE's, as sst2, that the model was fine-tuned for. "
            "[default: perplexity with a language-model head, else similarity, the mean cosine of sentence vectors; "
            "spearman with --sts]",
            show_default=False,
            rich_help_panel=options.EVALUATION,
        ),
    ] = None,
    target_bits: Annotated[
        float | None,
        typer.Option(
            help="Bits per weight at most, whatever it costs.", show_default=False, rich_help_panel=options.SIZE
        ),
    ] = None,
    target_mb: Annotated[
        float | None,
        typer.Option(help="The table's size at most, in MB.", show_default=False, rich_help_panel=options.SIZE),
    ] = None,
    target_ratio: Annotated[
        float | None, typer.Option(help="Byte ratio at least.", show_default=False, rich_help_panel=options.SIZE)
    ] = None,
    model_mb: Annotated[
        float | None,
        typer.Option(help="The whole model's size at most, in MB.", show_default=False, rich_help_panel=options.SIZE),
    ] = None,
    runtime: Annotated[
        str | None,
        options.choice(
            RUNTIMES,
            "--for",
            help="Write a GGUF file with its tables in the smallest of ggml's block types.",
            show_default=False,
            rich_help_panel=options.SIZE,
        ),
    ] = None,
    effort: options.Effort = None,
    table: options.AllTables = None,
    text: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="UTF-8 text like the one the model is for: split for calibration, search and verdict; with --sts or a "
            "TASK calibrated on. [default: WikiText-103 raw validation and test, or the train set's]",
            show_default=False,
            rich_help_panel=options.EVALUATION,
        ),
    ] = None,
    sts: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR|hub",
            help="Search on STS-B's train set, judge on its dev set; where it is, as for orientc glue.",
            show_default=False,
            rich_help_panel=options.EVALUATION,
        ),
    ] = None,
    languages: options.Languages = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where a task's data is, as for orientc glue: search on its train set, judge on its dev set. "
            "[default: nyu-mll/glue from the hub]",
            show_default=False,
            rich_help_panel=options.EVALUATION,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            help="Measure on so many lines, tokens (causal), pairs or rows each time. [default: what takes a minute "
            "or so]",
            show_default=False,
            rich_help_panel=options.EVALUATION,
        ),
    ] = None,
    tokens: Annotated[
        int, typer.Option(help="Calibrate on about so many tokens.", rich_help_panel=options.CALIBRATION)
    ] = 16384,
    seed: Annotated[
        int,
        typer.Option(help="Draws which pieces of a text are for what.", rich_help_panel=options.CALIBRATION),
    ] = 0,
    body: export_options.Body = "none",
    dtype: export_options.ExportDtype = None,
    name: export_options.CardName = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Predict sizes and losses, and write nothing.", rich_help_panel=options.OUTPUT),
    ] = False,
    device: options.Device = None,
    out: options.RunsFolder = None,
    overwrite: options.Overwrite = False,
    push: export_options.Push = None,
    private: export_options.Private = False,
    revision: options.Revision = None,
    allow_pickle: options.AllowPickle = False,
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make a model's table as small as a tolerance allows, write the model as a folder, and say what that cost.

    Exit code 3 where the verdict is outside the tolerance (the folder is kept), or nothing is inside it.

    Example: `orientc shrink sentence-transformers/all-MiniLM-L6-v2 --to minilm-small`

    Example: `orientc shrink HuggingFaceTB/SmolLM2-135M --to smol-small --within 1%`

    Example: `orientc shrink smol.gguf --for gguf --to smol-small.gguf`
    """
    from orientc.workflows.shrink import shrink as run

    with output.stages(quiet=quiet) as progress:
        done = run(
            model,
            to,
            within=within,
            measure=measure,
            target_bits=target_bits,
            target_mb=target_mb,
            target_ratio=target_ratio,
            model_mb=model_mb,
            runtime=runtime,
            effort=effort,
            table=table,
            text=text,
            sts=sts,
            data=data,
            languages=languages,
            limit=limit,
            tokens=tokens,
            seed=seed,
            body=body,
            dtype=dtype,
            name=name,
            dry_run=dry_run,
            device=device,
            out=out,
            overwrite=overwrite,
            push=push,
            private=private,
            revision=revision,
            allow_pickle=allow_pickle,
            trust_remote_code=trust_remote_code,
            progress=progress,
        )
    if not done.fresh:
        output.note(f"done already: {done.folder} is what these settings make", quiet=quiet)
    if as_json:
        output.show_json(done.as_dict())
    elif done.folder is None:
        _show_predicted(done)
    else:
        output.show_facts(facts(done))
    if done.inside is False:
        assert done.verdict
        raise GateError(
            f"the verdict is outside {done.verdict.tolerance}: {done.folder} is kept; allow more with `within`, or "
            "search on more text"
        )


def facts(done: Shrunk) -> list[tuple[str, str]]:
    """What was made and what it cost, for people."""
    assert done.table is not None
    assert done.weights is not None
    halved = "" if done.halved is None else f" ({done.halved / MB:.1f} with --dtype float16)"
    named = done.model.rstrip("/").rpartition("/")[2]
    shown = [
        (
            named,
            f"table {done.base_table / MB:.1f} → {done.table / MB:.1f} MB    "
            f"model {done.base_weights / MB:.1f} → {done.weights / MB:.1f} MB{halved}",
        )
    ]
    if verdict := done.verdict:
        measured = called(verdict.measure) + (f", {done.head}" if verdict.measure == PERPLEXITY else "")
        told = f"; {'within' if verdict.inside else 'OUTSIDE'} {verdict.tolerance}" if verdict.tolerance else ""
        shown.append((measured, _lost(verdict.measure, verdict.outcome, told)))
        if verdict.alone:
            shown.append((f"body in {done.body} alone", _lost(verdict.measure, verdict.alone)))
        if verdict.outcome.also:
            also = ", ".join(f"{name} {_figure(value)}" for name, value in verdict.outcome.also.items())
            shown.append(("also", also))
        shown.append(("measured on", f"{verdict.text}, on which nothing was chosen"))
    if done.bits is not None:
        block = f" ({done.block})" if done.block else ""
        shown.append(("bits per weight", f"{figure(done.bits)}{block}{_searched(done)}"))
    shown.append(("load with", str(done.load)))
    if done.needs:
        shown.append(("needs", f"pip install {' '.join(done.needs)}"))
    if done.loaded:
        shown.append(("loads without", _loaded(done)))
    if done.share is not None:
        shown.append(("what is left", _left(done.share)))
    return shown + ([("on the hub", done.url)] if done.url else [])


def _lost(measure: str, outcome: Outcome, told: str = "") -> str:
    difference = difference_in_words(measure, outcome.difference, outcome.error)
    return f"{_figure(outcome.original)} → {_figure(outcome.here)} ({difference}{told})"


def _searched(done: Shrunk) -> str:
    return f", the smallest of {len(done.tried)} sizes measured that is surely inside" if done.tried else ""


def _loaded(done: Shrunk) -> str:
    assert done.loaded
    if done.loaded.why_not is None and done.loaded.difference is None:
        return f"orientc, in llama.cpp; {done.loaded.sentences} sentences went through it"
    if done.loaded.difference is None:
        return f"orientc: not tried, {done.loaded.why_not}"
    agree = f"to {done.loaded.difference:.0e}" if done.loaded.difference else "exactly"
    return f"orientc, in a new process; {done.loaded.sentences} sentences agree {agree}"


def _left(share: float) -> str:
    from orientc.workflows.shrunk import PAYS

    told = f"the table is now {100 * share:.0f} % of the model"
    return f"{told}; the rest is the body: a smaller table gains little" if share < PAYS else told


def _figure(value: float) -> str:
    return f"{value:.3f}" if value < 10 else figure(value, 4)


def _loss(value: float) -> str:
    return figure(value) if value >= _LEAST else f"<{_LEAST:f}"


def _show_predicted(done: Shrunk) -> None:
    rows = [
        [
            f"{row.bits:.3g}",
            "–" if row.table is None else f"{row.table / MB:.2f}",
            "–" if row.model is None else f"{row.model / MB:.1f}",
            "no form is so small" if row.loss is None else _loss(row.loss),
        ]
        for row in done.predicted
    ]
    header = ["bits per weight", "table MB", "model MB", "predicted loss"]
    was = f"table {done.base_table / MB:.2f} MB, model {done.base_weights / MB:.1f} MB"
    output.show_table(header, rows, title=f"{done.model}; {was}; calibrated on {done.texts['calibration']}")
    output.show("nothing was measured, nothing written\n")
