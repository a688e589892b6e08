"""`shrink`: the smallest table within a tolerance, or of a size, as a folder that loads anywhere, with a verdict.

Calibrate, look for the size, export, measure the exported folder, load it in a process without orientc. What is there
already is not made again: calibrations, artifacts and records lie in the runs folder.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from orientc.calibration.calibrate import Calibrated, calibrate, calibration_file
from orientc.calibration.config import CalibrationConfig
from orientc.compression.configs import TargetConfig
from orientc.compression.fit_and_store import Compressed, fit_and_store
from orientc.compression.fit_table import fit_table
from orientc.errors import FitError, GateError
from orientc.evaluation.perplexity import CAUSAL, head_protocol
from orientc.evaluation.setup import Setup
from orientc.evaluation.similarity import Pairs
from orientc.evaluation.texts import Text
from orientc.exporters import bodies, model_card
from orientc.exporters import export as exporting
from orientc.exporters import push as hub
from orientc.exporters.export import Exported, export
from orientc.exporters.forms import COMPACT, NONE
from orientc.models.resolve import Subject
from orientc.models.source import ModelSource
from orientc.models.substitute import head_policies
from orientc.models.table import Table, read_table
from orientc.storage import runs
from orientc.storage.artifact import FLOAT_DTYPES
from orientc.storage.calibration import Calibration
from orientc.storage.sizes import MB
from orientc.utils import distributed, folders
from orientc.utils.devices import pick_device
from orientc.utils.files import file_sha256, short_hash, write_json
from orientc.utils.progress import Progress
from orientc.utils.versions import versions
from orientc.workflows import fresh_process, search
from orientc.workflows.request import Texts, check_request, measure_for, size_asked, texts_for
from orientc.workflows.ruler import Outcome, Ruler
from orientc.workflows.search import MEASUREMENTS, Tried
from orientc.workflows.shrunk import Predicted, Shrunk, Verdict, left_before
from orientc.workflows.sizes import Sizes, stored_bytes
from orientc.workflows.tolerance import FIGURES, PERPLEXITY, SIMILARITY, SPEARMAN, Tolerance, difference_in_words

SIZES = ("target_bits", "target_mb", "target_ratio", "model_mb")
_SEARCHED: dict[str, int | None] = {PERPLEXITY: 1500, SIMILARITY: 1000, SPEARMAN: 4000}  # lines, or pairs
_JUDGED: dict[str, int | None] = {PERPLEXITY: 2000, SIMILARITY: 1000, SPEARMAN: None}
_SEARCHED_TOKENS, _JUDGED_TOKENS = 16_384, 32_768  # of a causal text
_AIM = 0.35  # of what is allowed: losses are larger than predicted where they are not tiny


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
    text: str | Path | Text | None = None,
    sts: str | Path | None = None,
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
        to: Folder to write; only a dry run does without.
        within: How much worse the measure may be: "1%", "1.01x" or "0.5pt". By default 1 % of perplexity or of the
            mean cosine, 0.5 points of Spearman's correlation.
        measure: "perplexity", "similarity" (mean cosine of sentence vectors) or "spearman"; by default perplexity where
            the model has a language-model head, spearman where `sts` is given, else similarity.
        target_bits: Bits per weight at most, in the place of a tolerance.
        target_mb: The table's size at most, in MB of 10⁶ bytes.
        target_ratio: Byte ratio at least.
        model_mb: Size of the whole model's weight files at most, in MB.
        text: UTF-8 file, or a text, that is split for calibration, search and verdict; WikiText-103's validation and
            test texts unless given, for "demo" its own.
        sts: Folder that STS-B is in, as for `similarity`, or "hub": the search is on its train set, the verdict on its
            dev set, and all of `text` is for the calibration.
        limit: Measure on so many lines, tokens (causal) or pairs each time.
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
    bodies.check_request(body, COMPACT)
    check_request(to, dtype, dry_run=dry_run, limit=limit, push=push, private=private)
    config = CalibrationConfig(tokens, None, seed)
    progress = progress or Progress()
    if not isinstance(model, ModelSource):
        trust = {"allow_pickle": allow_pickle, "trust_remote_code": trust_remote_code}
        model = ModelSource.resolve(str(model), revision=revision, **trust)
    tolerance = Tolerance.read(measure_for(model, measure, sts), within)
    place = None if out is None else Path(out)
    setup = Setup(model, runs.model_folder(model.id, place), pick_device(device), progress=progress)
    bodies.check(model, COMPACT, body, artifact=True)
    texts = texts_for(model, text, sts, seed, progress)
    work = _Work(setup, texts, tolerance, asked, limit, config, body, dtype, place)
    if dry_run:
        return work.predicted()
    assert to is not None
    folder = Path(to)
    state = setup.folder / f"shrink-{short_hash(work.identity(folder, name))}.state"  # JSON, but no record
    done = None if overwrite else left_before(state, folder)
    if done is None:
        folders.check_place(folder, overwrite=overwrite)
        done = work.run(folder, name, overwrite=overwrite)
        done = replace(done, seconds=round(time.perf_counter() - start, 1))
        kept = done.as_dict() | {"list_sha256": file_sha256(folder / folders.LIST)}
        write_json(state, kept)
    return replace(done, url=hub.push(folder, push, private=private)) if push is not None else done


@dataclass(frozen=True)
class _Work:
    """One request, settled: the model, the texts, what is allowed or how large it may be."""

    setup: Setup
    texts: Texts
    tolerance: Tolerance
    asked: tuple[str, float] | None
    limit: int | None
    config: CalibrationConfig
    body: str
    dtype: str | None
    out: Path | None

    def identity(self, folder: Path, name: str | None) -> dict[str, Any]:
        """All that what is made depends on."""
        judged = self.texts.search, self.texts.verdict
        return {
            "fingerprint": self.setup.fingerprint,
            "texts": [self.texts.calibration.sha256, *(text.sha256 for text in judged)],
            "measure": self.tolerance.measure,
            "within": self.tolerance.text if self.asked is None else None,
            "size": self.asked,
            "limit": self.limit,
            "tokens": self.config.tokens,
            "seed": self.config.seed,
            "body": self.body,
            "dtype": self.exported_dtype,
            "name": name,
            "folder": str(folder.resolve()),
            "device": self.setup.device.type,
            "versions": versions(),
        }

    @cached_property
    def table(self) -> Table:
        """The model's table."""
        return read_table(self.setup.source)

    @cached_property
    def sizes(self) -> Sizes:
        """What the table may take, and what the rest of the model does."""
        return Sizes(self.setup.source, self.table.info, self.exported_dtype, self.asked, self.body)

    @property
    def exported_dtype(self) -> str:
        """The type that the folder's weights have."""
        own = self.table.info.dtype
        return self.dtype or (own if own in FLOAT_DTYPES else "float32")

    def run(self, folder: Path, name: str | None, *, overwrite: bool) -> Shrunk:
        """Calibrate, find the size, export, and measure the folder."""
        calibration = self._calibrated(self.out)
        tried: tuple[Tried, ...] = ()
        bounds: tuple[str, ...] = ()
        if self.asked is None:
            bounds = self.sizes.bounds
            for line in bounds:
                self.setup.progress.done(line)
            tried = self._search(calibration.path)
            if (found := search.best(tried)) is None:
                raise GateError(self._nothing(tried))
            made = self._made(calibration.path, TargetConfig(target_bits=found.bits))
        else:
            made = self._of_size(calibration.path)
        subject = Subject(self.setup.source, made.path, made.artifact)
        exported = self._exported(made, folder, name=name, overwrite=overwrite, progress=self.setup.progress)
        ruler = self._ruler(self.texts.verdict, _JUDGED, _JUDGED_TOKENS)
        outcome = ruler.folder(ModelSource.resolve(folder))
        verdict = self._verdict(outcome, self._alone(ruler))
        load = fresh_process.loaded(folder, exported.facts, fresh_process.some_of(self._sentences))
        self._write_card(folder, exported, subject, name, verdict)
        info = self.table.info
        return Shrunk(
            model=self.setup.source.id, folder=folder, artifact=made.path, calibration=calibration.path,
            bits=round(made.description.bits_per_weight, 3), head=exported.facts.head, body=self.body,
            texts=self.texts.names, table=exported.facts.table, base_table=info.nbytes, weights=exported.weights,
            base_weights=info.model_bytes, halved=exported.halved, verdict=verdict, tried=tried, bounds=bounds,
            predicted=(), load=exported.facts.load(str(folder)), loaded=load,
            needs=exported.facts.needs,
        )  # fmt: skip

    def predicted(self) -> Shrunk:
        """Sizes, and what they are predicted to cost; nothing is left on the disk that was not there."""
        info = self.table.info
        there = calibration_file(self.setup.source, self.texts.calibration, self.config, self.out).exists()
        with TemporaryDirectory() as elsewhere:
            known = self._calibrated(self.out if there else Path(elsewhere))
            held, kept = known.calibration, known.path if there else None
        rows = [self._predicted(bits, held) for bits in self.sizes.shown_bits]
        return Shrunk(
            model=self.setup.source.id, folder=None, artifact=None, calibration=kept, bits=None,
            head=head_policies(self.setup.source.skeleton)[-1], body=self.body, texts=self.texts.names, table=None,
            base_table=info.nbytes, weights=None, base_weights=info.model_bytes, halved=None, verdict=None, tried=(),
            bounds=self.sizes.bounds, predicted=tuple(rows), load=None, loaded=None,
        )  # fmt: skip

    # -- the steps

    def _calibrated(self, out: Path | None) -> Calibrated:
        return calibrate(
            self.setup.source, text=self.texts.calibration, tokens=self.config.tokens, seed=self.config.seed,
            device=str(self.setup.device), out=out, progress=self.setup.progress,
        )  # fmt: skip

    def _search(self, calibration: Path) -> tuple[Tried, ...]:
        """Measure sizes on the search's text until the smallest one inside is found."""
        ruler = self._ruler(self.texts.search, _SEARCHED, _SEARCHED_TOKENS)
        name = FIGURES[self.tolerance.measure]
        original = 1.0 if self.tolerance.measure == SIMILARITY else float(ruler.original.metrics[name])
        allowed = self.tolerance.allowed(original)
        begun, count = time.perf_counter(), 0

        def predict(bits: float) -> float:
            return float(self._made(calibration, TargetConfig(target_bits=bits)).description.distances["cost"])

        def measure(bits: float) -> tuple[float, float]:
            made = self._made(calibration, TargetConfig(target_bits=bits))
            outcome = self._lost(ruler, made)
            return outcome.difference, outcome.error

        def tell(tried: Tried) -> None:
            nonlocal count
            count += 1
            told = difference_in_words(self.tolerance.measure, tried.difference, tried.error)
            where = "within" if tried.inside else "not surely within"
            left = (time.perf_counter() - begun) / count * (MEASUREMENTS - count + 2)
            self.setup.progress.done(
                f"{tried.bits:g} bits per weight: {self.tolerance.measure} {told}, {where} {self.tolerance.text}; "
                f"at most about {_minutes(left)} left"
            )

        aim = _AIM * allowed if self.tolerance.measure == PERPLEXITY else None
        lowest, highest = self.sizes.range
        return search.smallest(predict, measure, allowed, lowest=lowest, highest=highest, aim=aim, on_tried=tell)

    def _of_size(self, calibration: Path) -> Compressed:
        """The artifact whose table, in the folder's type, is as small as asked for."""
        wanted = self.sizes.wanted
        target = wanted
        for _ in range(4):
            made = self._made(calibration, TargetConfig(target_mb=target / MB))
            over = stored_bytes(made.artifact, self.exported_dtype) - wanted
            if over <= 0:
                return made
            target -= over
            if target <= 0:
                break
        raise FitError(
            f"the table can't be made as small as {wanted / MB:.2f} MB in {self.exported_dtype}: choose more"
        )

    def _made(self, calibration: Path, config: TargetConfig) -> Compressed:
        return fit_and_store(
            self.table, config, calibration=calibration, device=str(self.setup.device), out=self.out,
            progress=self.setup.progress,
        )  # fmt: skip

    def _exported(self, made: Compressed, folder: Path, **options: Any) -> Exported:
        source = self.setup.source
        return export(
            made.path, folder, body=self.body, dtype=self.dtype, model=source.id, revision=source.revision,
            allow_pickle=source.allow_pickle, trust_remote_code=source.trust_remote_code, **options,
        )  # fmt: skip

    def _lost(self, ruler: Ruler, made: Compressed) -> Outcome:
        """What the model loses with an artifact, and with its body in the bits that it ships in."""
        if self.body == NONE:
            return ruler.artifact(Subject(self.setup.source, made.path, made.artifact))
        return ruler.written(lambda folder: self._exported(made, folder))

    def _alone(self, ruler: Ruler) -> Outcome | None:
        """What the body's bits cost with the table as it was; None where the body stays as it is."""
        if self.body == NONE:
            return None
        return ruler.written(lambda folder: bodies.write(self.setup.source, folder, self.body, self.exported_dtype))

    def _predicted(self, bits: float, calibration: Calibration) -> Predicted:
        try:
            artifact = fit_table(self.table, TargetConfig(target_bits=bits), calibration=calibration)
        except FitError:
            return Predicted(bits, None, None, None)
        table = stored_bytes(artifact, self.exported_dtype)
        return Predicted(bits, table, self.sizes.body + table, float(artifact.description.distances["cost"]))

    def _ruler(self, text: Text | Pairs, lines: dict[str, int | None], causal: int) -> Ruler:
        """The measure on one of the texts, on as much of it as is needed unless a `limit` was given."""
        limit = self.limit or lines[self.tolerance.measure]
        if self.limit is None and self.tolerance.measure == PERPLEXITY and head_protocol(self.setup.source) == CAUSAL:
            limit = causal
        return Ruler(self.setup, self.tolerance.measure, text, limit)

    def _verdict(self, outcome: Outcome, alone: Outcome | None) -> Verdict:
        tolerance = self.tolerance if self.asked is None else None
        allowed = None if tolerance is None else tolerance.allowed(outcome.original)
        text, name = tolerance.text if tolerance else None, self.texts.verdict.name
        return Verdict(self.tolerance.measure, name, outcome, text, allowed, alone)

    def _write_card(
        self, folder: Path, exported: Exported, subject: Subject, name: str | None, verdict: Verdict
    ) -> None:
        content = model_card.content(
            folder, exported.facts, subject, fingerprint=self.setup.fingerprint,
            weights=exporting.weights_in(folder), name=name, verdict=verdict.rows,
        )  # fmt: skip
        folders.add_file(folder, model_card.FILE, content)

    def _nothing(self, tried: tuple[Tried, ...]) -> str:
        measured = [entry for entry in tried if math.isfinite(entry.difference)]
        if not measured:
            return f"no table within {self.tolerance.text} was found: no form is as small as what was tried"
        nearest = min(measured, key=lambda entry: entry.upper)
        told = difference_in_words(self.tolerance.measure, nearest.difference, nearest.error)
        return (
            f"no table is surely within {self.tolerance.text} of {self.tolerance.measure} ({self.texts.search.name}): "
            f"the nearest, {nearest.bits:g} bits per weight, is at {told}; measure on more with `limit` or `text`, or "
            "allow more with `within`"
        )

    @property
    def _sentences(self) -> list[str]:
        text = self.texts.verdict
        return list(text.first) if isinstance(text, Pairs) else text.content.split("\n")


def _minutes(seconds: float) -> str:
    return f"{math.ceil(seconds)} s" if seconds < 90 else f"{math.ceil(seconds / 60)} min"
