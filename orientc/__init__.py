"""orientc: make the token-embedding table of a Transformer small, and measure what that cost.

    import orientc

    artifact = orientc.compress("bert-base-uncased", rank=128)
    orientc.save(artifact, "bert-r128.safetensors")
    orientc.substitute(model, orientc.load("bert-r128.safetensors"), head="tied")

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
    from orientc.calibration.calibrate import calibrate
    from orientc.comparison.compare import compare
    from orientc.compression.compress import compress, quantize, svd
    from orientc.compression.configs import PRESETS
    from orientc.distillation.tune import tune
    from orientc.exporters.export import export
    from orientc.methods.recipe import Recipe
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
    "Calibration": "storage.calibration",
    "CompressedEmbedding": "modeling.modules",
    "CompressedHead": "modeling.modules",
    "Description": "storage.description",
    "Factors": "modeling.factors",
    "ModelSource": "models.source",
    "PRESETS": "compression.configs",
    "Recipe": "methods.recipe",
    "Table": "models.table",
    "calibrate": "calibration.calibrate",
    "compare": "comparison.compare",
    "compress": "compression.compress",
    "export": "exporters.export",
    "head_policies": "models.substitute",
    "load": "storage.artifact",
    "quantize": "compression.compress",
    "read_table": "models.table",
    "save": "storage.artifact",
    "substitute": "models.substitute",
    "substituted": "models.substitute",
    "svd": "compression.compress",
    "tune": "distillation.tune",
}

__all__ = [
    "PRESETS",
    "Artifact",
    "ArtifactError",
    "ArtifactMismatchError",
    "Calibration",
    "CalibrationError",
    "CalibrationMismatchError",
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
    "ModelError",
    "ModelNotFoundError",
    "ModelSource",
    "NoTableError",
    "OrientcError",
    "OutputError",
    "Recipe",
    "RecordError",
    "SubstitutionError",
    "SweepError",
    "Table",
    "TrustError",
    "UsageError",
    "__version__",
    "calibrate",
    "compare",
    "compress",
    "export",
    "head_policies",
    "load",
    "quantize",
    "read_table",
    "save",
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
