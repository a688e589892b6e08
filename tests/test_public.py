from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import orientc
from orientc import errors

NAMES = [
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


@pytest.mark.parametrize("name", [name for name in NAMES if name.islower() and not name.startswith("_")])
def test_functions_stay_functions_whatever_module_is_imported(name: str) -> None:
    """A submodule of the same name would take the function's place when it is imported."""
    for module in modules():
        importlib.import_module(module)
    assert inspect.isfunction(getattr(orientc, name))


# Rooms whose messages name fields; `cli` is the one that speaks of options.
FIELDS_NOT_OPTIONS = ("calibration", "comparison", "compression", "distillation", "methods", "modeling", "workflows")


@pytest.mark.parametrize("room", FIELDS_NOT_OPTIONS)
def test_the_library_names_fields_and_never_options(room: str) -> None:
    package = Path(orientc.__file__).parent
    files = [*package.glob("*.py"), *(package / room).rglob("*.py")]
    assert len(files) > 5
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not re.search(r"(?<![\w-])--[a-z]", node.value), f"{file}:{node.lineno}"


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
