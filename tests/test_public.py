from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import orientc
from orientc import errors

NAMES = [
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


def modules() -> list[str]:
    found = pkgutil.walk_packages(orientc.__path__, "orientc.")
    return [module.name for module in found if not module.name.endswith("__main__")]


def test_the_public_names_are_these() -> None:
    assert orientc.__all__ == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there_and_explained(name: str) -> None:
    value = getattr(orientc, name)
    assert name in dir(orientc)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert inspect.getdoc(value)
        assert value.__name__ == name


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    assert not hasattr(orientc, "decompress")
    with pytest.raises(ImportError):
        importlib.import_module("orientc.decompress")


def test_importing_the_package_imports_nothing_large() -> None:
    code = (
        "import sys, orientc; orientc.UsageError; orientc.__version__; dir(orientc);"
        "print(sorted({'torch', 'transformers', 'numpy', 'rich', 'typer'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "name", ["calibrate", "compare", "compress", "head_policies", "load", "save", "substitute", "svd", "tune"]
)
def test_functions_stay_functions_whatever_module_is_imported(name: str) -> None:
    """A submodule of the same name would take the function's place when it is imported."""
    for module in modules():
        importlib.import_module(module)
    assert inspect.isfunction(getattr(orientc, name))


def test_every_error_is_where_the_drawing_has_it() -> None:
    drawn: dict[str, str | None] = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        name = line.lstrip(" │├└─").split(" ")[0]
        if not line.startswith("    ") or not name:
            continue
        depth = line.index(name)
        above = [entry for entry in above if entry[0] < depth]
        drawn[name] = above[-1][1] if above else None
        above.append((depth, name))
    defined = {
        name: None if value.__bases__ == (Exception,) else value.__bases__[0].__name__
        for name, value in vars(errors).items()
        if inspect.isclass(value)
    }
    assert drawn == defined
    assert set(defined) == {name for name in NAMES if name.endswith("Error")}
