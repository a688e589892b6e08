"""Three texts that never overlap: to calibrate on, to search on, and for the verdict; or rows of a task."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import datasets

from orientc.errors import EvaluationError
from orientc.evaluation import texts
from orientc.evaluation.glue import data as glue
from orientc.evaluation.glue.finetuned import Rows
from orientc.evaluation.glue.tasks import Task
from orientc.evaluation.pairs import parse
from orientc.evaluation.protocols import reads_pairs
from orientc.evaluation.texts import Text
from orientc.models import hub
from orientc.models.argument import DEMO
from orientc.models.source import ModelSource
from orientc.utils.progress import Progress

_SEARCHED_SHARE = 0.8  # of a task's train set, at most; the rest is calibrated on
_SEARCHED_ROWS = 5_000
PARTS = ("calibration", "search", "verdict")
_PIECES = 32  # of a part: few enough that a causal model finds its context, many enough that parts are alike
_OWN = 40  # characters from which on a line that comes twice is the same text, not a heading or a bracket
_NO_HUB = (
    "the hub does not answer and no `text` is given: calibrating on the docstrings of this Python{}; that is English "
    "about programs, so for other languages and uses give a `text`"
)
_MEASURED = ", measuring on halves of its language reference"


@dataclass(frozen=True)
class ThreeTexts:
    """One text for each step; no line of some length is in two of them."""

    calibration: Text
    search: Text
    verdict: Text


def three_texts(
    source: ModelSource, text: str | Path | Text | None, seed: int, progress: Progress, languages: str | None = None
) -> ThreeTexts:
    """The texts to shrink a model by.

    A text that is given is split in three. By default they are the halves of WikiText-103's validation text and its
    test text; for `demo`, and where the hub is not to be had, docstrings and the halves of Python's language reference.

    Args:
        source: The model.
        text: A UTF-8 file or a text.
        seed: Draws which pieces of a text go where.
        progress: Told where the hub does not answer.
        languages: Of an encoder-decoder's pairs, what source and target are called.

    Raises:
        EvaluationError: The text can't be read, or is too short to be split.
    """
    if text is not None:
        given = texts.for_model(source, text if isinstance(text, Text) else texts.from_file(text), languages)
        return ThreeTexts(*split(given, PARTS, seed, parse if reads_pairs(source) else None))
    texts.check_default(source)
    if _wikitext_can_be_had(source, progress, _MEASURED):
        calibration, search = split(texts.wikitext("validation"), PARTS[:2], seed)
        return ThreeTexts(calibration, search, texts.wikitext("test"))
    return ThreeTexts(texts.demo_calibration(), *split(texts.demo_evaluation(), PARTS[1:], seed))


def calibration_text(source: ModelSource, text: str | Path | Text | None, progress: Progress) -> Text:
    """The text to calibrate on where nothing else is measured on it: all of what `three_texts` would split or give."""
    if text is not None:
        return text if isinstance(text, Text) else texts.from_file(text)
    return texts.wikitext("validation") if _wikitext_can_be_had(source, progress, "") else texts.demo_calibration()


def three_sets(task: Task, folder: Path | None, seed: int) -> tuple[Text, Rows, Rows]:
    """The rows of a task to shrink its model by: some of its train set's texts, others of its rows, and its dev set.

    Args:
        task: The task.
        folder: Where its data is, as for `glue`; the hub unless given.
        seed: Draws which rows of the train set go where.

    Raises:
        EvaluationError: The data is not to be had.
    """
    loaded = glue.load(task, folder)
    assert loaded.train is not None
    drawn = loaded.train.shuffle(seed=seed, keep_in_memory=True)
    count = min(_SEARCHED_ROWS, math.ceil(_SEARCHED_SHARE * len(drawn)))
    search = drawn.select(range(count))
    name = f"{loaded.name}/{task.name}"
    measured = {" ".join(text.split()) for rows in (search, *loaded.evaluation.values()) for text in _texts(task, rows)}
    others = [" ".join(text.split()) for text in _texts(task, drawn.select(range(count, len(drawn))))]
    calibration = "\n".join(text for text in dict.fromkeys(others) if text not in measured)
    verdict = replace(loaded, name=f"{name}/dev", train=None)
    return Text(f"{name}/calibration", calibration), Rows.of(task, f"{name}/search", search), Rows(task, verdict)


def _texts(task: Task, rows: datasets.Dataset) -> list[str]:
    """All texts of some rows."""
    return [text for column in task.texts for text in rows[column][:]]


def _wikitext_can_be_had(source: ModelSource, progress: Progress, measured: str) -> bool:
    """Whether the default texts are here or on a hub that answers; `demo` has its own."""
    if source.id == DEMO:
        return False
    if texts.wikitext_at_hand() or hub.answers():
        return True
    progress.warn(_NO_HUB.format(measured))
    return False


def split(
    text: Text,
    names: tuple[str, ...],
    seed: int,
    sides_in: Callable[[str, str], list[tuple[str, str]]] | None = None,
) -> list[Text]:
    """Split a text into parts of like size, each of pieces from all over it; a line that comes again is left out.

    Args:
        text: The text.
        names: The parts' names, which follow the text's.
        seed: Draws the piece that each part gets of as many neighbours as there are parts.
        sides_in: Finds the source and the target in a line of pairs, neither of which may come in two parts; the line
            itself may not unless this is given.

    Raises:
        EvaluationError: It has fewer lines than parts.
    """
    lines = text.content.splitlines(keepends=True)
    if sum(bool(line.strip()) for line in lines) < len(names):
        raise EvaluationError(f"{text.name} has fewer than {len(names)} lines: it can't be split, name a longer text")
    pieces = _pieces(lines, min(_PIECES * len(names), len(lines)))
    draw = random.Random(seed)
    parts: list[list[str]] = [[] for _ in names]
    home: dict[str, int] = {}

    def sides(line: str) -> list[str]:
        if sides_in is None:
            return [line]
        return [f"{number} {side}" for pair in sides_in(text.name, line) for number, side in enumerate(pair)]

    for start in range(0, len(pieces), len(names)):
        order = draw.sample(range(len(names)), len(names))
        for part, piece in zip(order, pieces[start : start + len(names)], strict=False):
            parts[part] += [line for line in piece if _is_at_home(sides(line), part, home)]
    if empty := [name for name, part in zip(names, parts, strict=True) if not "".join(part).strip()]:
        raise EvaluationError(f"{text.name} is too short to be split: nothing is left for the {empty[0]}")
    return [Text(f"{text.name}/{name}", "".join(part)) for name, part in zip(names, parts, strict=True)]


def _is_at_home(texts: list[str], part: int, home: dict[str, int]) -> bool:
    """Whether a line, or both sides of a pair, may stand in a part: each is short, or comes in no other."""
    own = [short for text in texts if len(short := " ".join(text.split())) >= _OWN]
    if any(home.get(text, part) != part for text in own):
        return False
    home.update(dict.fromkeys(own, part))
    return True


def _pieces(lines: list[str], count: int) -> list[list[str]]:
    """Cut lines into pieces of about as many characters each."""
    found: list[list[str]] = [[]]
    total, seen = sum(map(len, lines)), 0
    for line in lines:
        if found[-1] and seen >= len(found) * total / count:
            found.append([])
        found[-1].append(line)
        seen += len(line)
    return found
