"""The code file that goes along with a compact model, so that transformers loads it without orientc.

It is put together from the very modules that orientc runs on, and ends in a class for each of the architecture's own,
under the same name.
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
from orientc.modeling import compact_model, decoding, factors, layout, modules, swap

FILE = "modeling_orientc.py"
PREFIX = "orientc_"  # of a compact model's `model_type`
PARTS = (layout, decoding, factors, modules, swap, compact_model)  # each needs none but those before it
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
    needed: list[ast.stmt] = [ast.Import([ast.alias("transformers")])]
    bodies = []
    for part in PARTS:
        imports, body = _split(part)
        needed += imports
        bodies.append(body)
    own, found = _config_name(config), classes(config)
    bodies.append(f'class {own}(transformers.{config.__name__}):\n    model_type = "{PREFIX}{config.model_type}"')
    for name in dict.fromkeys(found.values()):
        bodies.append(f"class {name}(CompactModel, transformers.{name}):\n    config_class = {own}")
    marks = [f'{own}.register_for_auto_class("AutoConfig")']  # so that saving takes this file along
    marks += [f'{name}.register_for_auto_class("{auto_name}")' for auto_name, name in found.items()]
    head = f'"""A model whose token-embedding table is compressed; written by orientc {__version__}."""'
    future = "from __future__ import annotations"
    first = "\n\n".join([head, future, _merged(needed), bodies[0]])
    return "\n\n\n".join([first, *bodies[1:], "\n".join(marks)]) + "\n"


def _config_name(config: type[PreTrainedConfig]) -> str:
    """Not the architecture's own: by that name transformers would find classes that know nothing of the form."""
    return f"Orientc{config.__name__}"


def _split(part: ModuleType) -> tuple[list[ast.stmt], str]:
    """A module's imports of others than orientc, and the rest of it without its docstring."""
    text = inspect.getsource(part)
    lines, tree = text.splitlines(), ast.parse(text)
    imports: list[ast.stmt] = []
    dropped = set[int]()
    for position, node in enumerate(tree.body):
        docstring = position == 0 and isinstance(node, ast.Expr)
        if docstring or isinstance(node, ast.Import | ast.ImportFrom):
            dropped |= {*range(node.lineno, (node.end_lineno or node.lineno) + 1)}
            ours = isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] in ("orientc", "__future__")
            if not docstring and not ours:
                imports.append(node)
    return imports, "\n".join(line for number, line in enumerate(lines, 1) if number not in dropped).strip()


def _merged(imports: Iterable[ast.stmt]) -> str:
    """Each import once, sorted as a linter would: the standard library's, then the others'."""
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
