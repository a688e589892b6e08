"""Texts to calibrate on and to choose by, apart from the four that `domains.py` scores; written as files, one each.

    python tests/benchmarks/calibration_texts.py DIR [--texts DIR]

To calibrate on: contexts and questions of SQuAD's training split, docstrings and sources of the running Python's
standard library, headlines (STS-B's without what is Microsoft's paraphrase corpus, or MRPC has too) and CoLA's training
sentences, from the folder that `--texts` or ORIENTC_ASSETS names. To choose by: contexts of SQuAD's development split,
captions and forum sentences of STS-B. Paragraphs that have 13 words in a row in common with a scored text are left out,
and how many they are is said. What `python -m orientc calibrate` is then told:

    --text DIR/squad.txt=4 --text DIR/docstrings.txt --text DIR/source.txt --text DIR/headlines.txt
    --text DIR/cola.txt --text DIR/questions.txt
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import re
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from domains import domains

from orientc import demo

WORDS = 13  # in a row; so many are no figure of speech
LARGEST = 2_500_000  # characters of a text
OF_THE_REFERENCE = ("pydoc_data", "idlelib", "lib2to3", "site-packages", "test")  # and what is no library


def texts(folder: Path) -> dict[str, list[str]]:
    """Paragraphs of each text by its name, in a fixed order without order."""
    pairs = list(_rows(folder / "glue" / "STS-B" / "train.tsv"))
    found = {
        "squad": [context for context, _ in _squad(folder / "squad" / "train-v1.1.json")],
        "questions": [question for _, own in _squad(folder / "squad" / "train-v1.1.json") for question in own],
        "docstrings": demo.calibration_text().splitlines(),
        "source": [path.read_text(encoding="utf-8", errors="replace") for path in _sources()],
        "headlines": [text for genre, text in pairs if genre == "main-news"],
        "cola": [line.split("\t")[3] for line in _lines(folder / "glue" / "CoLA" / "train.tsv")],
        "squad-dev": [context for context, _ in _squad(folder / "squad" / "dev-v1.1.json")],
        "captions-forum": [text for genre, text in pairs if genre != "main-news"],
    }
    return {name: _shuffled(paragraphs) for name, paragraphs in found.items()}


def _shuffled(paragraphs: Iterable[str]) -> list[str]:
    distinct = list(dict.fromkeys(paragraphs))
    random.Random(0).shuffle(distinct)
    return distinct


def _squad(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Each context with its questions."""
    for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            yield paragraph["context"], [entry["question"].strip() for entry in paragraph["qas"]]


def _sources() -> list[Path]:
    library = Path(sysconfig.get_paths()["stdlib"])
    files = [*library.glob("*.py"), *library.glob("*/*.py")]
    return sorted(path for path in files if not {*path.relative_to(library).parts} & {*OF_THE_REFERENCE})


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8-sig").splitlines()


def _rows(path: Path) -> Iterator[tuple[str, str]]:
    """Genre and text of STS-B's sentences, without those of Microsoft's paraphrase corpus."""
    for row in csv.reader(_lines(path)[1:], delimiter="\t", quoting=csv.QUOTE_NONE):
        if row[2] != "MSRpar":
            yield from ((row[1], sentence.strip()) for sentence in row[7:9])


def runs_of_words(text: str) -> set[int]:
    """Hashes of all runs of `WORDS` words; a shorter text is one run."""
    words = re.findall(r"\w+", text.lower())
    return {hash(tuple(words[start : start + WORDS])) for start in range(max(1, len(words) - WORDS + 1))}


def main() -> None:
    """Write the texts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--texts", type=Path, default=os.environ.get("ORIENTC_ASSETS"))
    options = parser.parse_args()
    if options.texts is None:
        parser.error("name the folder of the texts with --texts, or by ORIENTC_ASSETS")
    scored: set[int] = set()
    for text in domains(options.texts):
        for line in (text.content, *text.content.splitlines()):
            scored |= runs_of_words(line)
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, paragraphs in texts(options.texts).items():
        apart = [paragraph for paragraph in paragraphs if not runs_of_words(paragraph) & scored]
        content = "\n".join(apart)[:LARGEST] + "\n"
        (options.folder / f"{name}.txt").write_text(content, encoding="utf-8")
        left_out = len(paragraphs) - len(apart)
        print(f"{name}: {len(content)} characters, {left_out} of {len(paragraphs)} paragraphs left out", flush=True)


if __name__ == "__main__":
    main()
