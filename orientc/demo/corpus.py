"""Texts for the demo model's training, calibration and evaluation, out of the Python environment itself.

Nothing is downloaded and no text is shipped. Training text: docstrings of the standard library and of orientc's
dependencies. Evaluation text: the language reference that `help()` shows, from `pydoc_data.topics`.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.metadata
import inspect
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

DIGEST_BYTES = 4
_SHORTEST = 40  # characters; a shorter paragraph has fewer than the 20 ids that masked perplexity needs


def paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of a text, blocks between blank lines, each on one line with single spaces."""
    for block in re.split(r"\n\s*\n", text):
        paragraph = " ".join(block.split())
        if len(paragraph) >= _SHORTEST:
            yield paragraph


def digest(paragraph: str) -> bytes:
    """A short hash of a paragraph in lower case."""
    return hashlib.sha256(paragraph.lower().encode()).digest()[:DIGEST_BYTES]


def training_paragraphs() -> list[str]:
    """All distinct docstring paragraphs, in a fixed order; takes a minute or two, for ten thousand files."""
    seen: dict[str, None] = {}
    for path in sorted({*_standard_library(), *_dependencies()}):
        for docstring in _docstrings_in(path):
            seen.update(dict.fromkeys(paragraphs(docstring)))
    for name in sorted(sys.builtin_module_names):
        for docstring in _docstrings_of(name):
            seen.update(dict.fromkeys(paragraphs(docstring)))
    return list(seen)


def evaluation_paragraphs(seen_in_training: frozenset[bytes]) -> list[str]:
    """The paragraphs of Python's language reference whose digests are not in `seen_in_training`."""
    from pydoc_data.topics import topics

    found: dict[str, None] = {}
    for name in sorted(topics):
        found.update(dict.fromkeys(paragraphs(topics[name])))
    return [paragraph for paragraph in found if digest(paragraph) not in seen_in_training]


def calibration_paragraphs() -> list[str]:
    """Docstring paragraphs of the standard library's top-level modules that are not in the language reference.

    They are part of the training text. Takes some seconds.
    """
    scored = {digest(paragraph) for paragraph in evaluation_paragraphs(frozenset())}
    found: dict[str, None] = {}
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        for docstring in _docstrings_in(path):
            found.update(dict.fromkeys(paragraphs(docstring)))
    return [paragraph for paragraph in found if digest(paragraph) not in scored]


def _standard_library() -> Iterator[Path]:
    root = Path(sysconfig.get_path("stdlib"))
    for path in root.rglob("*.py"):
        if not {"site-packages", "dist-packages", "pydoc_data"} & set(path.relative_to(root).parts):
            yield path


def _dependencies() -> Iterator[Path]:
    """Source files of orientc's dependencies, and of theirs."""
    waiting, done = ["orientc"], {"orientc"}
    while waiting:
        try:
            distribution = importlib.metadata.distribution(waiting.pop())
        except importlib.metadata.PackageNotFoundError:
            continue  # needed on another platform only
        for requirement in distribution.requires or ():
            name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
            if "extra ==" not in requirement and name not in done:
                done.add(name)
                waiting.append(name)
        if distribution.name != "orientc":
            for file in distribution.files or ():
                if file.suffix == ".py":
                    yield Path(str(file.locate())).resolve()


def _docstrings_in(path: Path) -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError, RecursionError):
        return  # test fixtures that are broken on purpose
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                yield docstring


def _docstrings_of(module_name: str) -> Iterator[str]:
    """Docstrings of a module written in C, which has no source to parse."""
    module = importlib.import_module(module_name)
    yield inspect.getdoc(module) or ""
    for _, member in sorted(vars(module).items()):
        yield inspect.getdoc(member) or ""
        if inspect.isclass(member):
            for _, method in sorted(vars(member).items()):
                yield inspect.getdoc(method) or ""
