"""The steps of `shrink` for llama.cpp: a GGUF file whose tables are each in one of ggml's block types."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from orientc.compression.configs import TargetConfig
from orientc.compression.fit_and_store import Compressed
from orientc.exporters import gguf
from orientc.exporters.export import Exported, export
from orientc.exporters.forms import GGUF
from orientc.models.resolve import Subject
from orientc.storage.artifact import Artifact
from orientc.workflows import llama_cpp
from orientc.workflows.block_sizes import BlockSizes
from orientc.workflows.fresh_process import Loaded
from orientc.workflows.search import Tried
from orientc.workflows.shrunk import Verdict
from orientc.workflows.size_search import SizeSearch
from orientc.workflows.work import Work


@dataclass(frozen=True)
class GgufWork(Work):
    """One request for a GGUF file, settled."""

    def check_place(self, folder: Path, *, overwrite: bool) -> None:
        """Refuse a place that is taken or can't be written."""
        gguf.check_place(folder, overwrite=overwrite)

    def identity(self, folder: Path, name: str | None) -> dict[str, Any]:
        """All that what is made depends on."""
        return super().identity(folder, name) | {"runtime": GGUF}

    @cached_property
    def sizes(self) -> BlockSizes:
        """What the tables may take, and what the rest of the file does."""
        others = tuple(table.info for table in self.tables[1:])
        return BlockSizes(self.setup.source, self.info, self.exported_dtype, self.asked, others=others)

    def _smallest(self, search: SizeSearch) -> tuple[tuple[Tried, ...], Compressed]:
        return search.smallest_of(self.sizes.all_bits)

    def _of_size(self, calibration: Path) -> Compressed:
        return self._made(calibration, self._config(self.sizes.largest))

    def _config(self, bits: float) -> TargetConfig:
        return TargetConfig(target_bits=bits, runtime=GGUF)

    def _takes(self, artifact: Artifact) -> int:
        return artifact.factors.nbytes

    def _exported(self, made: Compressed, folder: Path, **options: Any) -> Exported:
        options.pop("name", None)  # a file has no card
        return export(made.paths, folder, form=GGUF, model=self.setup.source.id, **options)

    def _loaded(self, folder: Path, exported: Exported, sentences: list[str]) -> Loaded:
        return llama_cpp.loaded(folder, sentences)

    def _write_card(
        self, folder: Path, exported: Exported, subject: Subject, name: str | None, verdict: Verdict
    ) -> None:
        """A file has none."""
