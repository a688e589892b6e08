"""The code file that goes along with a compact model, so that transformers loads it without orientc.

It is put together from the very modules that orientc runs on, and ends in a class for each of the architecture's own,
under the same name.
"""

from __future__ import annotations

import ast
import inspect
from types import ModuleType

import transformers
from transformers import PreTrainedConfig

from orientc import factors, modules, stand_ins
from orientc._version import __version__
from orientc.forms import compact_model

FILE = "modeling_orientc.py"
PREFIX = "orientc_"  # of a compact model's `model_type`
PARTS = (factors, modules, stand_ins, compact_model)  # each needs none but those before it
AUTO_CLASSES = (
    "AutoModel",
    "AutoModelForPreTraining",
    "AutoModelForCausalLM",
    "AutoModelForMaskedLM",
    "AutoModelForSeq2SeqLM",
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
    "AutoModelForQuestionAnswering",
    "AutoModelForMultipleChoice",
)


def classes(config: type[PreTrainedConfig]) -> dict[str, str]:
    """The architecture's model classes by the auto classes that stand for them, as far as it has them."""
    found = {}
    for auto_name in AUTO_CLASSES:
        named = getattr(transformers, auto_name)._model_mapping.get(config, None)
        if named is not None:
            found[auto_name] = (named[0] if isinstance(named, tuple) else named).__name__
    return found


def auto_map(config: type[PreTrainedConfig]) -> dict[str, str]:
    """The entry of `config.json` that tells transformers' auto classes where to look."""
    names = {"AutoConfig": _config_name(config)} | classes(config)
    return {auto_name: f"{FILE.removesuffix('.py')}.{name}" for auto_name, name in names.items()}


def source(config: type[PreTrainedConfig]) -> str:
    """The whole file for models of one architecture."""
    imports, bodies = {"import transformers": None}, []
    for part in PARTS:
        needed, body = _split(part)
        imports |= dict.fromkeys(needed)
        bodies.append(body)
    names = _config_name(config)
    bodies.append(f'class {names}(transformers.{config.__name__}):\n    model_type = "{PREFIX}{config.model_type}"')
    for name in dict.fromkeys(classes(config).values()):
        bodies.append(f"class {name}(CompactModel, transformers.{name}):\n    config_class = {names}")
    marks = [f'{names}.register_for_auto_class("AutoConfig")']  # so that saving takes this file along
    marks += [f'{name}.register_for_auto_class("{auto_name}")' for auto_name, name in classes(config).items()]
    head = f'"""A model whose token-embedding table is compressed; written by orientc {__version__}."""'
    future = "from __future__ import annotations"
    return "\n\n\n".join([f"{head}\n\n{future}\n\n" + "\n".join(sorted(imports)), *bodies, "\n".join(marks)]) + "\n"


def _config_name(config: type[PreTrainedConfig]) -> str:
    """Not the architecture's own: by that name transformers would find classes that know nothing of the form."""
    return f"Orientc{config.__name__}"


def _split(part: ModuleType) -> tuple[list[str], str]:
    """A module's imports of others than orientc, and the rest of it without its docstring."""
    text = inspect.getsource(part)
    lines, tree = text.splitlines(), ast.parse(text)
    imports, dropped = [], set[int]()
    for position, node in enumerate(tree.body):
        docstring = position == 0 and isinstance(node, ast.Expr)
        if docstring or isinstance(node, ast.Import | ast.ImportFrom):
            dropped |= {*range(node.lineno, (node.end_lineno or node.lineno) + 1)}
            ours = isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] in ("orientc", "__future__")
            if not docstring and not ours:
                imports.append(ast.unparse(node))
    return imports, "\n".join(line for number, line in enumerate(lines, 1) if number not in dropped).strip()
