"""Pairs of source and target, which encoder-decoders read and write: as JSON lines, TSV, or rows of a data set.

Wherever they are kept, hashed or split they are a text of one form: a line for each pair, `["source", "target"]`, JSON
in ASCII, so that no sign within a text can be taken for a line's end.
"""

from __future__ import annotations

import json
from typing import Any

from orientc.errors import EvaluationError, UsageError

Pair = tuple[str, str]
TRANSLATION = "translation"  # the column of data sets whose values are texts by language
_FORMS = (
    "an encoder-decoder's text has a line for each pair: source, a tab, target; or in JSON a list of two texts, an "
    f'object with two, or one with both under "{TRANSLATION}"'
)


def languages_of(named: str | None) -> Pair | None:
    """The source's and the target's name out of "source,target". Raises `UsageError` where they are not two."""
    if named is None:
        return None
    source, _, target = (part.strip() for part in named.partition(","))
    if not source or not target or "," in target or source == target:
        raise UsageError(f"`languages` takes the source's and the target's name, as en,de, not {named!r}")
    return source, target


def canonical(name: str, content: str, languages: Pair | None = None) -> str:
    """Bring a text of pairs into the one form; arguments and errors are those of `parse`."""
    return "".join(f"{json.dumps(pair)}\n" for pair in parse(name, content, languages))


def parse(name: str, content: str, languages: Pair | None = None) -> list[Pair]:
    """The pairs of a text; blank lines are none.

    Args:
        name: What the text is called in errors.
        content: JSON lines or TSV, whichever the first line is.
        languages: Under which names an object has source and target; where there are two alone, the first is the source
            unless this is given.

    Raises:
        EvaluationError: A line is not a pair.
    """
    lines = [(number, line) for number, line in enumerate(content.split("\n"), start=1) if line.strip()]
    read = _json_pair if lines and _is_json(lines[0][1]) else _tsv_pair
    found: list[Pair] = []
    for number, line in lines:
        try:
            found.append(read(line, languages))
        except (ValueError, RecursionError) as error:
            raise EvaluationError(f"{name}, line {number}: {error}; {_FORMS}") from None
    return found


def _is_json(line: str) -> bool:
    try:
        return isinstance(json.loads(line), list | dict)
    except (ValueError, RecursionError):
        return False


def _json_pair(line: str, languages: Pair | None) -> Pair:
    try:
        value: Any = json.loads(line)
    except ValueError:
        raise ValueError("it is not JSON, as the first line is") from None
    if isinstance(value, dict):
        value = _of_names(value, languages)
    if not (isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)):
        raise ValueError("these are not two texts")
    return value[0], value[1]


def _of_names(values: dict[str, Any], languages: Pair | None) -> list[Any]:
    """The two values that are meant."""
    if isinstance(values.get(TRANSLATION), dict):
        values = values[TRANSLATION]
    if languages is None:
        if len(values) != 2:
            raise ValueError(f"say with `languages` which two are meant of {', '.join(values)}")
        return [*values.values()]
    if lacking := [name for name in languages if name not in values]:
        raise ValueError(f"there is no {lacking[0]} among {', '.join(values)}, choose others with `languages`")
    return [values[name] for name in languages]


def _tsv_pair(line: str, _: Pair | None) -> Pair:
    cells = line.removesuffix("\r").split("\t")
    if len(cells) != 2:
        raise ValueError(f"it has {len(cells)} columns, not two")
    return cells[0], cells[1]
