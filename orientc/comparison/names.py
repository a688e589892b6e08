"""Names of figures: a metric, and in brackets what was chosen of the way it was measured.

perplexity.tied             by the protocol that its evaluation has by default
perplexity.tied[limit=100]  the same but for a limit
perplexity[text=mine.txt]   under every head policy, on another text

A name depends on the figure alone, never on what else there is. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from orientc.evaluation.configs import FinetuningConfig, PerplexityConfig, SimilarityConfig, SquadConfig
from orientc.evaluation.glue.tasks import TASKS
from orientc.storage.records import DIVERGENCES
from orientc.storage.sizes import POLICIES
from orientc.utils.files import canonical_json

TEXT = "text"
OF_A_POLICY = ("perplexity", *DIVERGENCES)
# Every metric that a record may have a figure of; those of other tools are known where there are any.
METRICS = (
    *(f"{metric}.{policy}" for metric in OF_A_POLICY for policy in POLICIES),
    *(f"similarity.{metric}" for metric in ("spearman", "cosine", "cosine_p5")),
    *(f"{task.name}.{metric}" for task in TASKS.values() for metric in task.figures),
    *(f"squad.{metric}" for metric in ("exact_match", "f1")),
)
_SETTINGS = {
    TEXT, "protocol", "max_ids", "limit_train", "limit_eval", "shots", "samples",
    *(entry.name for kind in (PerplexityConfig, SimilarityConfig, FinetuningConfig, SquadConfig)
      for entry in fields(kind)),
}  # fmt: skip
_FORM = re.compile(r"(?P<metric>[^\[\]]+?)\s*(\[(?P<chosen>.*)\])?", re.DOTALL)


@dataclass(frozen=True)
class Name:
    """A name as someone writes it: a metric or all of a subject ("sst2"), and settings as text."""

    metric: str
    chosen: Mapping[str, str]

    @classmethod
    def parse(cls, text: str) -> Name:
        """Read a name; one that is in no such form is all metric, which nothing has."""
        found = _FORM.fullmatch(text.strip())
        if not found:
            return cls(text, {})
        parts = re.split(r",\s*(?=[\w-]+\s*=)", found["chosen"]) if found["chosen"] else []
        pairs = [part.partition("=") for part in parts]
        return cls(found["metric"], {name.strip().replace("-", "_"): value.strip() for name, _, value in pairs})

    def fits(self, metric: str) -> bool:
        """Whether a metric is the one named, or of the subject named."""
        return self.metric in (metric, subject_of(metric))

    def unknown(self, metrics: Iterable[str], settings: Iterable[str]) -> str | None:
        """What of the name nothing is called, beside what there always is: the metric or a setting."""
        if not any(map(self.fits, (*METRICS, *metrics))):
            return self.metric
        return next((name for name in self.chosen if name not in _SETTINGS and name not in settings), None)


def subject_of(metric: str) -> str:
    """What a metric is of: "perplexity", "sst2"."""
    return metric.partition(".")[0]


def label(chosen: Mapping[str, Any]) -> str:
    """Settings as they stand at the end of a name: "[limit=100]"; nothing for none."""
    return f"[{','.join(f'{name}={shown(value)}' for name, value in sorted(chosen.items()))}]" if chosen else ""


def shown(value: Any) -> str:
    """A setting's value as text."""
    if isinstance(value, str):
        return value
    return str(value).removesuffix(".0") if isinstance(value, float) else canonical_json(value)


def same(wanted: str, value: Any) -> bool:
    """Whether a value is what someone wrote; the hash at the end of a text's name may be left out."""
    told = shown(value)
    if wanted == told or wanted == re.sub(r":[0-9a-f]{8}$", "", told):
        return True
    try:
        return not isinstance(value, bool | str) and float(wanted) == float(told)
    except ValueError:
        return False
