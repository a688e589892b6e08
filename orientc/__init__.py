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
    from orientc.exporters.export import export
    from orientc.modeling.factors import Factors
    from orientc.modeling.modules import CompressedEmbedding, CompressedHead
    from orientc.models.source import ModelSource
    from orientc.models.substitute import head_policies, substitute, substituted
    from orientc.models.table import Table, read_table
    from orientc.storage.artifact import Artifact, load, save
    from orientc.storage.calibration import Calibration
    from orientc.storage.description import Description

_HOMES = {
    "Artifact": "storage.artifact",
    "AutoencoderConfig": "compression.configs",
    "Calibrated": "calibration.calibrate",
    "Calibration": "storage.calibration",
    "Compressed": "compression.fit_and_store",
    "CompressedEmbedding": "modeling.modules",
    "CompressedHead": "modeling.modules",
    "Description": "storage.description",
    "Factors": "modeling.factors",
    "GlueResult": "evaluation.glue.glue",
    "ModelSource": "models.source",
    "Perplexities": "evaluation.perplexity",
    "QuantizeConfig": "compression.configs",
    "Similarities": "evaluation.similarity",
    "SquadResult": "evaluation.squad.squad",
    "SquadScore": "evaluation.squad.squad",
    "SvdConfig": "compression.configs",
    "Table": "models.table",
    "TargetConfig": "compression.configs",
    "Tuned": "distillation.tune",
    "calibrate": "calibration.calibrate",
    "compare": "comparison.compare",
    "compress": "compression.compress",
    "export": "exporters.export",
    "glue": "evaluation.glue.glue",
    "head_policies": "models.substitute",
    "load": "storage.artifact",
    "perplexity": "evaluation.perplexity",
    "quantize": "compression.quantize",
    "read_table": "models.table",
    "save": "storage.artifact",
    "similarity": "evaluation.similarity",
    "squad": "evaluation.squad.squad",
    "substitute": "models.substitute",
    "substituted": "models.substitute",
    "svd": "compression.svd",
    "tune": "distillation.tune",
}

__all__ = [
    "Artifact",
    "ArtifactError",
    "ArtifactMismatchError",
    "AutoencoderConfig",
    "Calibrated",
    "Calibration",
    "CalibrationError",
    "CalibrationMismatchError",
    "Compressed",
    "CompressedEmbedding",
    "CompressedHead",
    "Description",
    "DeviceError",
    "DownloadError",
    "EvaluationError",
    "ExportError",
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
    "QuantizeConfig",
    "RecordError",
    "Similarities",
    "SquadResult",
    "SquadScore",
    "SubstitutionError",
    "SvdConfig",
    "SweepError",
    "Table",
    "TargetConfig",
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
    "load",
    "perplexity",
    "quantize",
    "read_table",
    "save",
    "similarity",
    "squad",
    "substitute",
    "substituted",
    "svd",
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
