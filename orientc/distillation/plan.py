"""What `tune` is going to do, settled before a model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from orientc.calibration.mixture import Mixture, TokenizedMixture
from orientc.calibration.tokenized_text import CAUSAL, CLASSES, MASKED, SENTENCE, SEQ2SEQ, objective_of
from orientc.distillation.config import TuningConfig
from orientc.distillation.data import split
from orientc.errors import EvaluationError
from orientc.models.fingerprint import fingerprint
from orientc.models.source import ModelSource
from orientc.models.substitute import head_policies
from orientc.storage.artifact import Artifact

_BATCH = {MASKED: 32, CAUSAL: 4, SEQ2SEQ: 16, SENTENCE: 32}  # lines, windows or pairs a step
_PREFIX = "tuned_"  # of an artifact's settings that are those of its tuning


@dataclass(frozen=True)
class Plan:
    """One tuning run.

    Attributes:
        source: the original model.
        fingerprint: that of the original model, from before it was loaded.
        artifact: what is tuned.
        beside: artifacts of other tables, which the model runs with meanwhile.
        head: head policy that it is tuned under.
        config: options, with the batch size filled in.
        train: the texts that are trained on.
        held_out: the texts that are evaluated on.
        settings: the full settings of the artifact to be made: those of `artifact`, and the tuning's.
    """

    source: ModelSource
    fingerprint: str
    artifact: Artifact
    beside: Sequence[Artifact]
    head: str
    config: TuningConfig
    train: TokenizedMixture
    held_out: TokenizedMixture
    settings: dict[str, Any]

    @property
    def settings_of_any_teacher(self) -> dict[str, Any]:
        """The settings but for the original model's fingerprint."""
        return {name: value for name, value in self.settings.items() if name != f"{_PREFIX}fingerprint"}


def plan(
    source: ModelSource,
    artifact: Artifact,
    texts: Mixture,
    config: TuningConfig,
    head: str | None,
    languages: str | None = None,
    beside: Sequence[Artifact] = (),
) -> Plan:
    """Settle a tuning run; `head` None is tied where the head shares the table, `languages` are those of pairs.

    Raises `EvaluationError` for a head policy that the model does not have.
    """
    teacher = fingerprint(source)
    allowed = head_policies(source.skeleton, [each.description.base.table for each in (artifact, *beside)])
    policy = head or allowed[-1]
    if policy not in allowed:
        raise EvaluationError(f"the head of {source.id} can be {' or '.join(allowed)}, not {policy}")
    objective = SENTENCE if objective_of(source) == CLASSES else None  # a classifier's body is tuned as an encoder
    train, held_out = (TokenizedMixture(source, part, languages, objective) for part in split(texts))
    config = replace(config, batch_size=config.batch_size or _BATCH[train.objective])
    tuning = {name: value for name, value in asdict(config).items() if value is not None}
    tuning |= {"from_sha256": artifact.sha256, "fingerprint": teacher, "head": policy}
    tuning |= {"text": texts.name, "text_sha256": texts.sha256, **train.settings}
    if beside:
        tuning["beside_sha256"] = " ".join(sorted(each.sha256 for each in beside))
    fitted = {name: value for name, value in artifact.description.settings.items() if not name.startswith(_PREFIX)}
    settings = fitted | {f"{_PREFIX}{name}": value for name, value in tuning.items()}
    return Plan(source, teacher, artifact, beside, policy, config, train, held_out, settings)
