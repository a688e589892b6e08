"""orientc: make the token-embedding table of a Transformer small, and measure what that cost.

    import orientc

    made = orientc.compress("bert-base-uncased", rank=128)
    orientc.substitute(model, made.artifact, head="tied")

Every name below is imported when it is first used: `import orientc` itself takes no time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from orientc._version import __version__
from orientc.errors import (
    ArtifactError,
    ArtifactMismatchError,
    CalibrationError,
    CalibrationMismatchError,
    DeviceError,
    DownloadError,
    EvaluationError,
    ExportError,
    FitError,
    GateError,
    ModelError,
    ModelNotFoundError,
    NoTableError,
    OrientcError,
    OutputError,
    RecordError,
    SubstitutionError,
    SweepError,
    TrustError,
    UsageError,
)

if TYPE_CHECKING:
    from orientc.calibration.calibrate import Calibrated, calibrate
    from orientc.comparison.compare import compare
    from orientc.comparison.comparisons import Comparisons
    from orientc.compression.compress import compress
    from orientc.compression.configs import AutoencoderConfig, QuantizeConfig, SvdConfig, TargetConfig
    from orientc.compression.fit_and_store import Compressed
    from orientc.compression.quantize import quantize
    from orientc.compression.svd import svd
    from orientc.distillation.tune import Tuned, tune
    from orientc.evaluation.glue.glue import GlueResult, glue
    from orientc.evaluation.perplexity import Perplexities, perplexity
    from orientc.evaluation.similarity import Similarities, similarity
    from orientc.evaluation.squad.squad import SquadResult, SquadScore, squad
    from orientc.evaluation.texts import Text
    from orientc.exporters.export import Exported, export
    from orientc.modeling.factors import Factors
    from orientc.modeling.modules import CompressedEmbedding, CompressedHead
    from orientc.models.inspect import ArtifactInspection, CalibrationInspection, TableInspection, inspect
    from orientc.models.source import ModelSource
    from orientc.models.substitute import head_policies, substitute, substituted
    from orientc.models.table import Table, read_table
    from orientc.storage.artifact import Artifact, load, save
    from orientc.storage.calibration import Calibration
    from orientc.storage.description import Description
    from orientc.utils.documents import schema
    from orientc.utils.progress import Progress
    from orientc.workflows.reproduce import Reproduction, reproduce
    from orientc.workflows.shrink import shrink
    from orientc.workflows.shrunk import Shrunk
    from orientc.workflows.sweep import Sweep, sweep

_HOMES = {
    "Artifact": "storage.artifact",
    "ArtifactInspection": "models.inspect",
    "AutoencoderConfig": "compression.configs",
    "Calibrated": "calibration.calibrate",
    "Calibration": "storage.calibration",
    "CalibrationInspection": "models.inspect",
    "Comparisons": "comparison.comparisons",
    "Compressed": "compression.fit_and_store",
    "CompressedEmbedding": "modeling.modules",
    "CompressedHead": "modeling.modules",
    "Exported": "exporters.export",
    "Description": "storage.description",
    "Factors": "modeling.factors",
    "GlueResult": "evaluation.glue.glue",
    "ModelSource": "models.source",
    "Perplexities": "evaluation.perplexity",
    "Progress": "utils.progress",
    "QuantizeConfig": "compression.configs",
    "Reproduction": "workflows.reproduce",
    "Shrunk": "workflows.shrunk",
    "Similarities": "evaluation.similarity",
    "SquadResult": "evaluation.squad.squad",
    "SquadScore": "evaluation.squad.squad",
    "SvdConfig": "compression.configs",
    "Sweep": "workflows.sweep",
    "Table": "models.table",
    "TableInspection": "models.inspect",
    "TargetConfig": "compression.configs",
    "Text": "evaluation.texts",
    "Tuned": "distillation.tune",
    "calibrate": "calibration.calibrate",
    "compare": "comparison.compare",
    "compress": "compression.compress",
    "export": "exporters.export",
    "glue": "evaluation.glue.glue",
    "head_policies": "models.substitute",
    "inspect": "models.inspect",
    "load": "storage.artifact",
    "perplexity": "evaluation.perplexity",
    "quantize": "compression.quantize",
    "read_table": "models.table",
    "reproduce": "workflows.reproduce",
    "save": "storage.artifact",
    "schema": "utils.documents",
    "shrink": "workflows.shrink",
    "similarity": "evaluation.similarity",
    "squad": "evaluation.squad.squad",
    "substitute": "models.substitute",
    "substituted": "models.substitute",
    "svd": "compression.svd",
    "sweep": "workflows.sweep",
    "tune": "distillation.tune",
}

__all__ = [
    "Artifact",
    "ArtifactError",
    "ArtifactInspection",
    "ArtifactMismatchError",
    "AutoencoderConfig",
    "Calibrated",
    "Calibration",
    "CalibrationError",
    "CalibrationInspection",
    "CalibrationMismatchError",
    "Comparisons",
    "Compressed",
    "CompressedEmbedding",
    "CompressedHead",
    "Description",
    "DeviceError",
    "DownloadError",
    "EvaluationError",
    "ExportError",
    "Exported",
    "Factors",
    "FitError",
    "GateError",
    "GlueResult",
    "ModelError",
    "ModelNotFoundError",
    "ModelSource",
    "NoTableError",
    "OrientcError",
    "OutputError",
    "Perplexities",
    "Progress",
    "QuantizeConfig",
    "RecordError",
    "Reproduction",
    "Shrunk",
    "Similarities",
    "SquadResult",
    "SquadScore",
    "SubstitutionError",
    "SvdConfig",
    "Sweep",
    "SweepError",
    "Table",
    "TableInspection",
    "TargetConfig",
    "Text",
    "TrustError",
    "Tuned",
    "UsageError",
    "__version__",
    "calibrate",
    "compare",
    "compress",
    "export",
    "glue",
    "head_policies",
    "inspect",
    "load",
    "perplexity",
    "quantize",
    "read_table",
    "reproduce",
    "save",
    "schema",
    "shrink",
    "similarity",
    "squad",
    "substitute",
    "substituted",
    "svd",
    "sweep",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'orientc' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"orientc.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
