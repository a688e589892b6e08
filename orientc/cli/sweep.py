"""`orientc sweep`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orientc.cli import options, output

_METHODS = {"svd": "svd", "ae": "autoencoder", "autoencoder": "autoencoder"}


def sweep(
    model: options.Model,
    ratios: Annotated[str, typer.Option(metavar="X,X,…", help="Parameter ratios.")] = "2.5,5,10",
    methods: Annotated[str, typer.Option(metavar="NAME,…", help="svd, ae.")] = "svd,ae",
    perplexity: Annotated[bool, typer.Option("--perplexity", help="Measure perplexity.")] = False,
    similarity: Annotated[bool, typer.Option("--similarity", help="Measure sentence vectors, on STS-B.")] = False,
    task: Annotated[
        list[str] | None, typer.Option(metavar="TASK", help="Fine-tune on a GLUE task or squad; may be repeated.")
    ] = None,
    text: Annotated[
        Path | None, typer.Option(help="Text for perplexity. [default: WikiText-103 raw test; demo's own for demo]")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Perplexity on so many lines (masked) or tokens (causal).", show_default=False)
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="GLUE's data, as for orientc glue. [default: from the hub]")
    ] = None,
    squad_data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="SQuAD's data, as for orientc squad. [default: from the hub]")
    ] = None,
    limit_train: options.LimitTrain = None,
    limit_eval: options.LimitEval = None,
    train_embeddings: options.TrainEmbeddings = "decoder",
    epochs: options.Epochs = 3,
    learning_rate: Annotated[
        float | None, typer.Option(help="AdamW's. [default: 2e-5 for GLUE, 3e-5 for SQuAD]", show_default=False)
    ] = None,
    seed: options.Seed = 0,
    seeds: options.Seeds = None,
    precision: options.Precision = "float32",
    device: options.Device = None,
    out: options.RunsFolder = None,
    revision: options.Revision = None,
    allow_pickle: options.AllowPickle = False,
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make the artifacts and records of a comparison, skip what is there, and show it; failed cells are named.

    Example: `orientc sweep bert-base-uncased --ratios 5,10 --perplexity --task sst2`
    """
    from orientc.cli import sweeping
    from orientc.compression.configs import AutoencoderConfig, SvdConfig
    from orientc.evaluation import finetuning
    from orientc.evaluation.configs import PerplexityConfig
    from orientc.models.source import ModelSource
    from orientc.utils.devices import pick_device
    from orientc.workflows.sweep import Measures
    from orientc.workflows.sweep import sweep as run

    kinds = {kind.method: kind for kind in (SvdConfig, AutoencoderConfig)}
    configs = [kinds[method](ratio=ratio) for ratio in _ratios(ratios) for method in _methods(methods)]
    tuned = {"epochs": epochs, "seed": seed, "train_embeddings": train_embeddings, "precision": precision}
    if learning_rate is not None:
        tuned["learning_rate"] = learning_rate
    source = ModelSource.resolve(
        model, revision=revision, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code
    )
    chosen = pick_device(device)
    with output.stages(quiet=quiet) as progress:
        measures = Measures.of(source, out=out, device=chosen, progress=progress)
        wanted = [measures.perplexity(text, PerplexityConfig(limit=limit))] if perplexity else []
        wanted += [measures.similarity(data)] if similarity else []
        limits = finetuning.limits(limit_train, limit_eval, epochs)
        for name in task or []:
            wanted.append(measures.task(name, squad_data if name == "squad" else data, limits, seeds, tuned))
        outcome = run(source, configs, wanted, out=out, device=str(chosen), progress=progress)
    sweeping.end(outcome, as_json=as_json, quiet=quiet)


def _ratios(text: str) -> list[float]:
    from orientc.errors import UsageError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--ratios takes numbers with commas between, such as 2.5,5,10, not {text!r}") from None


def _methods(text: str) -> list[str]:
    from orientc.errors import UsageError

    names = [part.strip() for part in text.split(",")]
    if unknown := [name for name in names if name not in _METHODS]:
        raise UsageError(f"there is no method {unknown[0]!r}: --methods takes {', '.join(_METHODS)}")
    return [_METHODS[name] for name in names]
