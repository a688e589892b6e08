"""`shrink`: the smallest table within a tolerance, or of a size, as a folder that loads anywhere, with a verdict.

What is there already is not made again: calibrations, artifacts and records lie in the runs folder.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from orientc.calibration.config import CalibrationConfig
from orientc.compression.configs import check_effort
from orientc.evaluation.setup import Setup
from orientc.evaluation.texts import Text
from orientc.exporters import bodies, gguf
from orientc.exporters import push as hub
from orientc.exporters.forms import COMPACT, NONE
from orientc.methods.effort import FAST
from orientc.models.source import ModelSource
from orientc.storage import runs
from orientc.utils import distributed
from orientc.utils.devices import pick_device
from orientc.utils.files import short_hash, write_json
from orientc.utils.progress import Progress
from orientc.workflows.request import check_request, check_runtime, measure_for, size_asked, tables_for, texts_for
from orientc.workflows.shrunk import Shrunk, left_before, marked
from orientc.workflows.tolerance import Tolerance
from orientc.workflows.work import Work
from orientc.workflows.work_gguf import GgufWork

SIZES = ("target_bits", "target_mb", "target_ratio", "model_mb")


def shrink(
    model: str | Path | ModelSource,
    to: str | Path | None = None,
    *,
    within: str | None = None,
    measure: str | None = None,
    target_bits: float | None = None,
    target_mb: float | None = None,
    target_ratio: float | None = None,
    model_mb: float | None = None,
    runtime: str | None = None,
    effort: str | None = None,
    table: str | None = None,
    text: str | Path | Text | None = None,
    sts: str | Path | None = None,
    data: str | Path | None = None,
    languages: str | None = None,
    limit: int | None = None,
    tokens: int = CalibrationConfig.tokens,
    seed: int = 0,
    body: str = NONE,
    dtype: str | None = None,
    name: str | None = None,
    dry_run: bool = False,
    device: str | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    push: str | None = None,
    private: bool = False,
    revision: str | None = None,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> Shrunk:
    """Make a model's table as small as a tolerance allows, or of a size, export it, and measure what that cost.

    Args:
        model: Hub id, local folder, .gguf file, or "demo".
        to: Folder to write, with `runtime` the file; only a dry run does without.
        within: How much worse the measure may be: "1%", "1.01x" or "0.5pt". By default 1 % of perplexity or of the
            mean cosine, 0.5 points of the others.
        measure: "perplexity", "similarity" (mean cosine of sentence vectors), "spearman", or the GLUE task that the
            model was fine-tuned for, as "sst2"; by default perplexity where it has a language-model head, spearman
            where `sts` is given, else similarity.
        target_bits: Bits per weight at most, in the place of a tolerance.
        target_mb: The table's size at most, in MB of 10⁶ bytes.
        target_ratio: Byte ratio at least.
        model_mb: Size of the whole model's weight files at most, in MB.
        runtime: "gguf" for a GGUF file, its tables each in one of ggml's block types; `body`, `dtype`, `name` and
            `push` are not for that.
        effort: How long to search for codes: "fast" unless given, or "best", which takes several times as long for each
            size that is tried and loses less.
        table: Which tables to compress: "all" unless given, that is the lookup's and that of a head which has its own,
            sizes being shared out by predicted loss; "input" or "head" alone. By a measure without a head it is the
            lookup's.
        text: UTF-8 file, or a text, that is split for calibration, search and verdict; WikiText-103's validation and
            test texts unless given, for "demo" its own. An encoder-decoder's is pairs, as for `perplexity`.
        sts: Folder that STS-B is in, as for `similarity`, or "hub": the search is on its train set, the verdict on its
            dev set; other sentences of the train set are calibrated on, unless `text` is given, then all of that.
        data: Folder that the task's data is in, as for `glue`; the hub's unless given. The search is on rows of its
            train set, the verdict on its dev set; other texts of the train set are calibrated on, unless `text` is
            given.
        languages: Of an encoder-decoder's pairs, what source and target are called in `text`, and a multilingual
            tokenizer's languages, as "en,de".
        limit: Measure on so many lines, tokens (causal), pairs or rows each time.
        tokens: Calibrate on about so many tokens.
        seed: Draws which pieces of a text are for what, and those that are calibrated on.
        body: What linear layers are quantized to, as for `export`; tolerance and size are those of both together.
        dtype: Type of all weights of the folder; the base checkpoint's unless given.
        name: Title of the model's card.
        dry_run: Predict sizes and losses, and write nothing.
        device: "cpu", "cuda" …; accelerate's choice unless given.
        out: Runs folder; `$ORIENTC_RUNS` or "runs" unless given.
        overwrite: Replace a folder that is there already, if an export wrote all that is in it.
        push: Repository on the hub, NAME or OWNER/NAME, to upload the folder to.
        private: Make that repository private.
        revision: Hub branch, tag or commit of the model.
        allow_pickle: Read .bin weights (tensors only, no code).
        trust_remote_code: Run Python code from the model's repository.
        progress: Told of each step, and how long the rest may take.

    Returns:
        What was made and what it cost. A verdict outside the tolerance says so in `inside`; the folder is there.

    Raises:
        UsageError: The request is wrong by itself: a tolerance and a size, several processes, no folder.
        GateError: Nothing is within the tolerance; no folder was written.
        FitError: No form is as small as the size asked for.
        EvaluationError: The model or the text can't be measured so.
        ExportError: The folder can't be written, does not load without orientc, or was not pushed.
    """
    distributed.check_alone("shrink")
    start = time.perf_counter()
    sizes = {"target_bits": target_bits, "target_mb": target_mb, "target_ratio": target_ratio, "model_mb": model_mb}
    asked = size_asked(sizes, within)
    check_runtime(runtime, {"body": None if body == NONE else body, "dtype": dtype, "name": name, "push": push})
    effort = FAST if effort is None else effort
    check_effort(effort, runtime)
    bodies.check_request(body, COMPACT)
    check_request(to, dtype, dry_run=dry_run, limit=limit, push=push, private=private)
    config = CalibrationConfig(tokens, seed=seed, languages=languages)
    progress = progress or Progress()
    if not isinstance(model, ModelSource):
        trust = {"allow_pickle": allow_pickle, "trust_remote_code": trust_remote_code}
        model = ModelSource.resolve(str(model), revision=revision, **trust)
    if runtime is not None:
        gguf.check_base_file(model, None if to is None else Path(to))
    tolerance = Tolerance.read(measure_for(model, measure, sts=sts, data=data, progress=progress), within)
    place = None if out is None else Path(out)
    setup = Setup(model, runs.model_folder(model.id, place), pick_device(device), progress=progress)
    bodies.check(model, COMPACT, body, artifact=True)
    texts = texts_for(
        model, tolerance.measure, text=text, sts=sts, data=data, seed=seed, progress=progress, languages=languages
    )
    kind = Work if runtime is None else GgufWork
    names = tables_for(model, table, tolerance.measure, progress=progress)
    work = kind(setup, texts, tolerance, asked, limit, config, body, dtype, place, names, effort)
    if dry_run:
        return work.predicted()
    assert to is not None
    folder = Path(to)
    state = setup.folder / f"shrink-{short_hash(work.identity(folder, name))}.state"  # JSON, but no record
    done = None if overwrite else left_before(state, folder)
    if done is None:
        work.check_place(folder, overwrite=overwrite)
        done = work.run(folder, name, overwrite=overwrite)
        done = replace(done, seconds=round(time.perf_counter() - start, 1))
        kept = done.as_dict() | {"sha256": marked(folder)}
        write_json(state, kept)
    return replace(done, url=hub.push(folder, push, private=private)) if push is not None else done
