"""The steps of `shrink`: calibrate, look for the size, export, measure what was exported, and load it elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from orientc.calibration.calibrate import Calibrated, calibrate, calibration_file
from orientc.calibration.config import CalibrationConfig
from orientc.compression.configs import TargetConfig
from orientc.compression.fit_and_store import Compressed, run_and_store
from orientc.compression.fit_table import Fit, loaded
from orientc.compression.shared_budget import SharedBudget
from orientc.errors import FitError
from orientc.evaluation.glue.finetuned import Rows
from orientc.evaluation.pairs import parse
from orientc.evaluation.protocols import CAUSAL, head_protocol, reads_pairs
from orientc.evaluation.setup import Setup
from orientc.evaluation.similarity import Pairs
from orientc.evaluation.texts import Text
from orientc.exporters import bodies, model_card
from orientc.exporters import export as exporting
from orientc.exporters.export import Exported, export
from orientc.exporters.forms import NONE
from orientc.methods.effort import FAST
from orientc.modeling.table_names import INPUT
from orientc.models.resolve import Subject
from orientc.models.source import ModelSource
from orientc.models.substitute import head_policies
from orientc.models.table import Table, read_table
from orientc.storage.artifact import FLOAT_DTYPES, Artifact
from orientc.storage.calibration import Calibration
from orientc.storage.sizes import MB
from orientc.storage.table_info import TableInfo
from orientc.utils import folders
from orientc.utils.versions import versions
from orientc.workflows import fresh_process
from orientc.workflows.fresh_process import Loaded
from orientc.workflows.request import Texts
from orientc.workflows.ruler import Outcome, Ruler
from orientc.workflows.search import Tried
from orientc.workflows.shrunk import Predicted, Shrunk, Verdict
from orientc.workflows.size_search import SizeSearch
from orientc.workflows.sizes import Sizes, stored_bytes
from orientc.workflows.tolerance import PERPLEXITY, SIMILARITY, Tolerance

_SEARCHED = {PERPLEXITY: 1500, SIMILARITY: 1000}  # lines; of pairs and rows all
_JUDGED = {PERPLEXITY: 2000, SIMILARITY: 1000}
_SEARCHED_TOKENS, _JUDGED_TOKENS = 16_384, 32_768  # of a causal text
_FULL = 0.97  # of a size that is asked for, from which on a table is large enough


@dataclass(frozen=True)
class Work:
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
    names: tuple[str, ...] = (INPUT,)  # of the tables that are compressed
    effort: str = FAST

    def check_place(self, folder: Path, *, overwrite: bool) -> None:
        """Refuse a place that is taken or can't be written."""
        folders.check_place(folder, overwrite=overwrite)

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
            "languages": self.config.languages,
            "seed": self.config.seed,
            "body": self.body,
            "dtype": self.exported_dtype,
            "tables": self.names,
            "effort": self.effort,
            "name": name,
            "folder": str(folder.resolve()),
            "device": self.setup.device.type,
            "versions": versions(),
        }

    @cached_property
    def tables(self) -> tuple[Table, ...]:
        """The model's tables that are compressed."""
        return tuple(read_table(self.setup.source, table=name) for name in self.names)

    @property
    def info(self) -> TableInfo:
        """Facts of the first table, and of the model."""
        return self.tables[0].info

    @cached_property
    def sizes(self) -> Sizes:
        """What the tables may take, and what the rest of the model does."""
        others = tuple(table.info for table in self.tables[1:])
        return Sizes(self.setup.source, self.info, self.exported_dtype, self.asked, self.body, others)

    @property
    def exported_dtype(self) -> str:
        """The type that the folder's weights have."""
        own = self.info.dtype
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
            tried, made = self._smallest(self._search(calibration.path))
        else:
            made = self._of_size(calibration.path)
        subject = made.of(self.setup.source)
        exported = self._exported(made, folder, name=name, overwrite=overwrite, progress=self.setup.progress)
        ruler = self._ruler(self.texts.verdict, _JUDGED, _JUDGED_TOKENS)
        outcome = ruler.folder(ModelSource.resolve(folder))
        verdict = self._verdict(outcome, self._alone(ruler))
        load = self._loaded(folder, exported, fresh_process.some_of(self._sentences))
        self._write_card(folder, exported, subject, name, verdict)
        info = self.info
        return Shrunk(
            model=self.setup.source.id, folder=folder, artifact=made.path, calibration=calibration.path,
            artifacts=made.paths, bits=round(made.bits_per_weight, 3), head=exported.facts.head, body=self.body,
            texts=self.texts.names, table=exported.facts.table, base_table=self.sizes.nbytes, weights=exported.weights,
            base_weights=info.model_bytes, halved=exported.halved, verdict=verdict, tried=tried, bounds=bounds,
            predicted=(), load=exported.facts.load(str(folder)), loaded=load,
            needs=exported.facts.needs, block=_blocks(made),
        )  # fmt: skip

    def predicted(self) -> Shrunk:
        """Sizes, and what they are predicted to cost; nothing is left on the disk that was not there."""
        info = self.info
        there = calibration_file(self.setup.source, self.texts.calibration, self.config, self.out).exists()
        with TemporaryDirectory() as elsewhere:
            known = self._calibrated(self.out if there else Path(elsewhere))
            held, kept = known.calibration, known.path if there else None
        rows = [self._predicted(bits, held) for bits in self.sizes.shown_bits]
        return Shrunk(
            model=self.setup.source.id, folder=None, artifact=None, calibration=kept, bits=None,
            artifacts=(), head=head_policies(self.setup.source.skeleton, self.names)[-1], body=self.body,
            texts=self.texts.names, table=None, base_table=self.sizes.nbytes, weights=None,
            base_weights=info.model_bytes, halved=None, verdict=None, tried=(), bounds=self.sizes.bounds,
            predicted=tuple(rows), load=None, loaded=None,
        )  # fmt: skip

    # -- the steps

    def _calibrated(self, out: Path | None) -> Calibrated:
        return calibrate(
            self.setup.source, text=self.texts.calibration, tokens=self.config.tokens, seed=self.config.seed,
            device=str(self.setup.device), languages=self.config.languages, out=out,
            progress=self.setup.progress,
        )  # fmt: skip

    def _search(self, calibration: Path) -> SizeSearch:
        """What sizes are looked for by, on the search's text."""
        ruler = self._ruler(self.texts.search, _SEARCHED, _SEARCHED_TOKENS)
        return SizeSearch(
            ruler,
            self.tolerance,
            lambda bits: self._made(calibration, self._config(bits)),
            lambda made: self._lost(ruler, made),
            self.setup.progress,
        )

    def _smallest(self, search: SizeSearch) -> tuple[tuple[Tried, ...], Compressed]:
        return search.smallest(*self.sizes.range)

    def _of_size(self, calibration: Path) -> Compressed:
        """The artifact whose table, in the folder's type, is as small as asked for, and hardly smaller."""
        wanted = self.sizes.wanted
        target, above, found = wanted, math.inf, None
        for _ in range(6):
            made = self._made(calibration, TargetConfig(target_mb=target / MB, effort=self.effort))
            takes = sum(self._takes(each.artifact) for each in made.all)
            if takes > wanted:
                above, target = target, target * wanted / takes if found is None else (target + found[0]) / 2
                continue
            found = target, made
            if target == wanted or takes >= _FULL * wanted:
                break
            target = (target + above) / 2
        if found is None:
            raise FitError(
                f"the table can't be made as small as {wanted / MB:.2f} MB in {self.exported_dtype}: choose more"
            )
        return found[1]

    def _config(self, bits: float) -> TargetConfig:
        """How a table of so many bits per weight is made."""
        return TargetConfig(target_bits=bits, effort=self.effort)

    def _takes(self, artifact: Artifact) -> int:
        """Bytes that an artifact's table takes in what is exported."""
        return stored_bytes(artifact, self.exported_dtype)

    def _made(self, calibration: Path, config: TargetConfig) -> Compressed:
        fits = self._fits(loaded(calibration), config)
        return run_and_store(fits, device=str(self.setup.device), out=self.out, progress=self.setup.progress)

    def _fits(self, calibration: Calibration, config: TargetConfig) -> list[Fit]:
        """How each table is made, so that all together have a size."""
        configs = [config]
        if len(self.tables) > 1:
            configs = self._budget(calibration).shares(config)
        pairs = zip(self.tables, configs, strict=True)
        return [Fit.prepare(table, own, calibration=calibration) for table, own in pairs]

    def _budget(self, calibration: Calibration) -> SharedBudget:
        """What tables of some sizes are predicted to lose; it is kept, as sizes are looked for."""
        if calibration.sha256 not in self._budgets:
            self._budgets[calibration.sha256] = SharedBudget(self.tables, calibration, str(self.setup.device))
        return self._budgets[calibration.sha256]

    @cached_property
    def _budgets(self) -> dict[str, SharedBudget]:
        return {}

    def _exported(self, made: Compressed, folder: Path, **options: Any) -> Exported:
        source = self.setup.source
        return export(
            made.paths, folder, body=self.body, dtype=self.dtype, model=source.id, revision=source.revision,
            allow_pickle=source.allow_pickle, trust_remote_code=source.trust_remote_code, **options,
        )  # fmt: skip

    def _lost(self, ruler: Ruler, made: Compressed) -> Outcome:
        """What the model loses with an artifact, and with its body in the bits that it ships in."""
        if self.body == NONE:
            return ruler.artifact(made.of(self.setup.source))
        return ruler.written(lambda folder: self._exported(made, folder))

    def _alone(self, ruler: Ruler) -> Outcome | None:
        """What the body's bits cost with the table as it was; None where the body stays as it is."""
        if self.body == NONE:
            return None
        return ruler.written(lambda folder: bodies.write(self.setup.source, folder, self.body, self.exported_dtype))

    def _predicted(self, bits: float, calibration: Calibration) -> Predicted:
        try:
            made = [fit.run(device=str(self.setup.device)) for fit in self._fits(calibration, self._config(bits))]
        except FitError:
            return Predicted(bits, None, None, None)
        table = sum(map(self._takes, made))
        loss = sum(float(artifact.description.distances["cost"]) for artifact in made)
        return Predicted(bits, table, self.sizes.body + table, loss)

    def _ruler(self, text: Text | Pairs | Rows, lines: Mapping[str, int], causal: int) -> Ruler:
        """The measure on one of the texts, on as much of it as is needed unless a `limit` was given."""
        limit = self.limit or lines.get(self.tolerance.measure)
        if self.limit is None and self.tolerance.measure == PERPLEXITY and head_protocol(self.setup.source) == CAUSAL:
            limit = causal
        return Ruler(self.setup, self.tolerance.measure, text, limit, self.config.languages)

    def _verdict(self, outcome: Outcome, alone: Outcome | None) -> Verdict:
        tolerance = self.tolerance if self.asked is None else None
        allowed = None if tolerance is None else tolerance.allowed(outcome.original)
        text, name = tolerance.text if tolerance else None, self.texts.verdict.name
        return Verdict(self.tolerance.measure, name, outcome, text, allowed, alone)

    def _loaded(self, folder: Path, exported: Exported, sentences: list[str]) -> Loaded:
        return fresh_process.loaded(folder, exported.facts, sentences)

    def _write_card(
        self, folder: Path, exported: Exported, subject: Subject, name: str | None, verdict: Verdict
    ) -> None:
        content = model_card.content(
            folder, exported.facts, subject, fingerprint=self.setup.fingerprint,
            weights=exporting.weights_in(folder), name=name, verdict=verdict.rows,
        )  # fmt: skip
        folders.add_file(folder, model_card.FILE, content)

    @property
    def _sentences(self) -> list[str]:
        text = self.texts.verdict
        if isinstance(text, Rows):
            return text.sentences
        if isinstance(text, Text) and reads_pairs(self.setup.source):
            return [first for first, _ in parse(text.name, text.content)]
        return list(text.first) if isinstance(text, Pairs) else text.content.split("\n")


def _blocks(made: Compressed) -> str | None:
    """The block types that tables are in, in the tables' order; None where they are in others."""
    return ", ".join(each.description.layout.block for each in made.all if each.description.layout.block) or None
