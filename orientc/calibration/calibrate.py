"""`calibrate`: measure token counts and importance matrices of a model, and keep them as a file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from orientc.calibration.config import ALL, CalibrationConfig
from orientc.calibration.measure import full_settings, measure
from orientc.calibration.mixture import Mixture, TokenizedMixture
from orientc.calibration.tokenized_text import objective_of
from orientc.evaluation.setup import say_dequantized
from orientc.evaluation.texts import Text
from orientc.models.device_map import DeviceMap
from orientc.models.fingerprint import fingerprint
from orientc.models.source import ModelSource
from orientc.models.table import table_info
from orientc.storage import calibration as calibrations
from orientc.storage import imatrix as imatrices
from orientc.storage import runs
from orientc.storage.calibration import Calibration
from orientc.utils import distributed
from orientc.utils.devices import pick_device
from orientc.utils.documents import document
from orientc.utils.progress import Progress


@dataclass(frozen=True)
class Calibrated:
    """A calibration in its file.

    Attributes:
        path: the file.
        fresh: whether it was made just now; False where the same one was there already.
        seconds: how long measuring took; None where `fresh` is False.
    """

    path: Path
    fresh: bool
    seconds: float | None

    @cached_property
    def calibration(self) -> Calibration:
        """The counts and matrices, read from the file when first asked for."""
        return calibrations.load(self.path)

    def as_dict(self) -> dict[str, Any]:
        """The JSON document of the command."""
        about = {"calibration": str(self.path), "fresh": self.fresh, "seconds": self.seconds}
        return document("calibration", about | self.calibration.as_dict())


def calibration_file(source: ModelSource, text: Text, config: CalibrationConfig, out: Path | None) -> Path:
    """The file that `calibrate` would keep a calibration of a model on a text in; it need not be there."""
    mixture = Mixture.of(source, text, languages=config.languages)
    return runs.calibration_path(
        source.id,
        full_settings(source, config, TokenizedMixture(source, mixture, config.languages), fingerprint(source)),
        out,
    )


def calibrate(
    model: str | Path | ModelSource,
    *,
    text: str | Path | Text | Mixture | Sequence[str | Path] | None = None,
    dataset: str | Sequence[str] | None = None,
    column: str = "text",
    languages: str | None = None,
    tokens: int = 16384,
    frequency: str | None = None,
    seed: int = 0,
    table: str = ALL,
    device: str | None = None,
    device_map: str | Path | None = None,
    max_memory: str | None = None,
    imatrix: str | Path | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    revision: str | None = None,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> Calibrated:
    """Measure token counts and importance matrices of a model, and write them to a calibration file.

    Args:
        model: hub id, local folder, `.gguf` file or "demo".
        text: UTF-8 file or `Text` to count and measure on, which should not be the one that is scored; or several, each
            FILE or FILE=WEIGHT. By default WikiText-103's validation set, docstrings for "demo"; none where a
            `frequency` is given.
        dataset: a text out of a data set, NAME[:CONFIG][:SPLIT] or the same with =WEIGHT; or several.
        column: the data sets' column that holds the text.
        languages: of an encoder-decoder's pairs, what source and target are called in the data, and a multilingual
            tokenizer's languages, as "en,de".
        tokens: measure on about so many tokens, of which each text has the share of its weight in all; all of each text
            is counted, its counts scaled to its share.
        frequency: counts from "zipf" or "wordfreq:LANGUAGE"; without a text nothing else is measured.
        seed: draws the pieces of the text, masks and labels.
        table: "input" to leave out a head with a table of its own, which is measured otherwise ("all"; "head" where
            there must be one).
        device: "cpu", "cuda", "cuda:1", "mps" …; accelerate's choice by default.
        device_map, max_memory: spread a model larger than one device over several, see `DeviceMap.read`; all of it has
            to have room there.
        imatrix: GGUF file to write too, with the importance of the table's columns as llama.cpp's `llama-quantize`
            takes it; one that is there is replaced.
        out: runs folder, or the file itself where it ends in `.safetensors`; `$ORIENTC_RUNS` or "runs" by default.
        overwrite: make it again, and replace what is there.
        revision: hub branch, tag or commit of the model.
        allow_pickle: read `.bin` weights.
        trust_remote_code: run Python code from the model's repository.
        progress: told of stages and steps.

    Returns:
        Where the calibration is, with its figures; the same settings again find the file that is there.

    Raises:
        UsageError: for an option or weight out of range, or several processes.
        ModelError: where the model can't be read.
        CalibrationError: for an encoder-decoder that writes no text, too little text, or numbers that are not finite.
        EvaluationError: where the text can't be had.
        OutputError: where something else is at the place, or it can't be written.
    """
    distributed.check_alone("calibrate")
    config = CalibrationConfig(tokens, frequency, seed, table, languages)
    place = None if out is None else Path(out)
    runs.check_out(place)
    if imatrix is not None:
        imatrices.check(imatrix, measured=text is not None or dataset is not None or frequency is None)
    place_of_model = DeviceMap.read(device_map, max_memory, device) or pick_device(device)
    progress = progress or Progress()
    source = model
    if not isinstance(source, ModelSource):
        source = ModelSource.resolve(
            str(model), revision=revision, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code
        )
    before = fingerprint(source)
    tokenized = None
    if text is not None or dataset is not None or frequency is None:
        objective_of(source)  # before a text is fetched for nothing
        tokenized = TokenizedMixture(source, Mixture.of(source, text, dataset, column, languages), languages)
    base = table_info(source)
    if tokenized:
        say_dequantized(source, progress)
    settings = full_settings(source, config, tokenized, before)
    path = runs.calibration_path(source.id, settings, place)
    start = time.perf_counter()
    fresh = runs.keep_calibration(
        settings,
        base,
        path,
        lambda: measure(source, tokenized, config, base, fingerprint=before, place=place_of_model, progress=progress),
        overwrite=overwrite,
    )
    made = Calibrated(path, fresh, round(time.perf_counter() - start, 3) if fresh else None)
    if imatrix is not None:
        imatrices.save(made.calibration, imatrix, overwrite=overwrite)
    return made
