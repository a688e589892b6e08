"""Generate the code file of a compact model, with which transformers loads it where orientc is not installed.

The file concatenates the modules of `orientc/modeling/`, and adds a configuration class and a model class for each of
the architecture's own, under the same name.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterable
from types import ModuleType

import transformers
from transformers import PreTrainedConfig

from orientc._version import __version__
from orientc.modeling import (
    compact_model,
    decoding,
    factors,
    ggml_blocks,
    ggml_types,
    layout,
    modules,
    packing,
    resident,
    swap,
    table_names,
    undecoded,
)
from orientc.modeling.resident import Resident

FILE = "modeling_orientc.py"
PREFIX = "orientc_"  # of a compact model's `model_type`
RESIDENT = "orientc_resident"  # the setting that says how a head holds the table while it runs
PARTS = (  # each needs those before
    table_names, ggml_types, layout, packing, ggml_blocks, decoding, factors, resident, undecoded, modules, swap,
    compact_model,
)  # fmt: skip
LEFT_OUT = {"pack"}  # functions that loading a model does not need
AUTO_CLASSES = (
    "AutoModelForTextEncoding",  # T5's encoder alone
    "AutoModel",
    "AutoModelForPreTraining",
    "AutoModelForCausalLM",
    "AutoModelForMaskedLM",
    "AutoModelForSeq2SeqLM",
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
    "AutoModelForQuestionAnswering",
    "AutoModelForMultipleChoice",
    "AutoModelForNextSentencePrediction",
    "AutoModelForTableQuestionAnswering",
    "AutoModelForDocumentQuestionAnswering",
    "AutoModelForVisualQuestionAnswering",
    "AutoModelForZeroShotImageClassification",
    "AutoModelForZeroShotObjectDetection",
    "AutoModelForAudioClassification",
    "AutoModelForTextToSpectrogram",
    "AutoModelForTextToWaveform",
    "AutoModelForSpeechSeq2Seq",
    "AutoModelForMultimodalLM",
    "AutoModelForImageTextToText",
)


def classes(config: type[PreTrainedConfig]) -> dict[str, str]:
    """Name an architecture's model classes.

    Args:
        config: The architecture's configuration class.

    Returns:
        For each of transformers' auto classes that the architecture supports, the name of its model class.
    """
    found = {}
    for auto_name in AUTO_CLASSES:
        named = getattr(transformers, auto_name)._model_mapping.get(config, None)
        if named is not None:
            found[auto_name] = (named[0] if isinstance(named, tuple) else named).__name__
    return found


def auto_map(config: type[PreTrainedConfig]) -> dict[str, str]:
    """The `auto_map` of a compact model's `config.json`: for each auto class, file and class name."""
    names = {"AutoConfig": _config_name(config)} | classes(config)
    return {auto_name: f"{FILE.removesuffix('.py')}.{name}" for auto_name, name in names.items()}


def source(config: type[PreTrainedConfig]) -> str:
    """The text of the code file for models of one architecture, given by its configuration class."""
    needed: list[ast.stmt] = [ast.Import([ast.alias("transformers")])]
    bodies = []
    for part in PARTS:
        imports, body = _split(part)
        needed += imports
        bodies.append(body)
    own, found = _config_name(config), classes(config)
    attributes = {"model_type": f"{PREFIX}{config.model_type}", RESIDENT: Resident.name}
    lines = [f"class {own}(transformers.{config.__name__}):", *(f'{name} = "{it}"' for name, it in attributes.items())]
    bodies.append("\n    ".join(lines))
    for name in dict.fromkeys(found.values()):
        bodies.append(f"class {name}(CompactModel, transformers.{name}):\n    config_class = {own}")
    marks = [f'{own}.register_for_auto_class("AutoConfig")']  # so that saving takes this file along
    marks += [f'{name}.register_for_auto_class("{auto_name}")' for auto_name, name in found.items()]
    head = f'"""A model with a compressed token-embedding table; written by orientc {__version__}."""'
    future = "from __future__ import annotations"
    first = "\n\n".join([head, future, _merged(needed), bodies[0]])
    return "\n\n\n".join([first, *bodies[1:], "\n".join(marks)]) + "\n"


def _config_name(config: type[PreTrainedConfig]) -> str:
    """Name of the compact configuration class; by the architecture's name transformers would find its own classes."""
    return f"Orientc{config.__name__}"


def _split(part: ModuleType) -> tuple[list[ast.stmt], str]:
    """Split a module into its imports of other packages, and its code without docstring, imports and `LEFT_OUT`."""
    text = inspect.getsource(part)
    lines, tree = text.splitlines(), ast.parse(text)
    imports: list[ast.stmt] = []
    dropped = set[int]()
    for position, node in enumerate(tree.body):
        docstring = position == 0 and isinstance(node, ast.Expr)
        imported = isinstance(node, ast.Import | ast.ImportFrom)
        if docstring or imported or (isinstance(node, ast.FunctionDef) and node.name in LEFT_OUT):
            dropped |= {*range(node.lineno, (node.end_lineno or node.lineno) + 1)}
        ours = isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] in ("orientc", "__future__")
        if imported and not ours:
            imports.append(node)
    return imports, "\n".join(line for number, line in enumerate(lines, 1) if number not in dropped).strip()


def _merged(imports: Iterable[ast.stmt]) -> str:
    """Merge import statements into one sorted block as linters want it: standard library first, each name once."""
    plain, named = set[str](), dict[str, set[str]]()
    for node in imports:
        if isinstance(node, ast.ImportFrom):
            named.setdefault(str(node.module), set()).update(ast.unparse(name) for name in node.names)
        elif isinstance(node, ast.Import):
            plain |= {ast.unparse(name) for name in node.names}
    lines = {name: f"import {name}" for name in sorted(plain)}
    for module, names in sorted(named.items()):
        listed = ", ".join(sorted(names, key=lambda name: (not name.isupper(), name.islower(), name)))
        lines[f"{module}."] = f"from {module} import {listed}"
    library = [line for name, line in lines.items() if name.partition(".")[0] in sys.stdlib_module_names]
    return "\n".join([*library, "", *(line for line in lines.values() if line not in library)])
