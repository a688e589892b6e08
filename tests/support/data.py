"""Sentences, and GLUE's and SQuAD's data in miniature."""

from __future__ import annotations

from typing import Any

SENTENCES = [
    f"The {adjective} {noun} {verb} over the {other} while everybody else in the quiet village was still asleep = = ."
    for adjective in ("quick", "slow", "unbelievable", "tiny")
    for noun in ("fox", "philosopher", "locomotive", "heuristics")
    for verb in ("jumps", "meanders", "stumbled")
    for other in ("dog", "mountains", "parametrization")
]

# sources and targets of unequal length
PAIRS = [
    (sentence, f"the {words[2]} {words[3]} {' '.join(words[: number % 5])}".strip())
    for number, sentence in enumerate(SENTENCES)
    for words in [sentence.split()]
]

# GLUE's files: the header of those with labels (CoLA's have none), that of the test file, and the labels
GLUE: dict[str, tuple[str, str, tuple[object, ...]]] = {
    "CoLA": ("source label star sentence", "index sentence", (0, 1)),
    "SST-2": ("sentence label", "index sentence", (0, 1)),
    "MRPC": ("Quality #1_ID #2_ID #1_String #2_String", "index #1_ID #2_ID #1_String #2_String", (0, 1)),
    "STS-B": ("index genre sentence1 sentence2 score", "index genre sentence1 sentence2", (0.0, 1.25, 3.8, 5.0)),
    "QQP": ("id qid1 qid2 question1 question2 is_duplicate", "id question1 question2", (0, 1)),
    "MNLI": (
        "index promptID sentence1 sentence2 label1 gold_label",
        "index promptID sentence1 sentence2",
        ("entailment", "neutral", "contradiction"),
    ),
    "QNLI": ("index question sentence label", "index question sentence", ("entailment", "not_entailment")),
    "RTE": ("index sentence1 sentence2 label", "index sentence1 sentence2", ("entailment", "not_entailment")),
    "WNLI": ("index sentence1 sentence2 label", "index sentence1 sentence2", (0, 1)),
}
GLUE_ROWS = {"train": 16, "dev": 10, "test": 5}
_TEXTS = ("sentence", "sentence1", "sentence2", "question", "question1", "question2", "#1_String", "#2_String")
_LABELS = ("label", "score", "gold_label", "Quality", "is_duplicate")


def glue_rows(task: str, split: str) -> list[dict[str, object]]:
    """A few rows of one file of a task, by the names of its columns; the first text's noun tells the label."""
    header, test_header, labels = GLUE[task]
    kind = split.partition("_")[0]
    names = (test_header if kind == "test" else header).split()
    first = list(GLUE_ROWS).index(kind) * 20 + len(split)
    rows: list[dict[str, object]] = []
    for number in range(GLUE_ROWS[kind]):
        start = (first + number) * 7 % 100
        texts = iter(" ".join(sentence.split()[1:4]) for sentence in SENTENCES[start:])
        noun = SENTENCES[start].split()[2]
        label = labels[("fox", "philosopher", "locomotive", "heuristics").index(noun) % len(labels)]
        values = dict.fromkeys(names, "-") | {"index": number, "id": number, "label1": labels[0]}
        values |= {name: next(texts) for name in _TEXTS if name in names}
        values |= dict.fromkeys((name for name in _LABELS if name in names), label)
        rows.append({name: values[name] for name in names})
    return rows


def squad_questions(split: str) -> list[dict[str, Any]]:
    """A few questions in the form of `rajpurkar/squad`."""
    questions = []
    for number in range(6 if split == "train" else 5):
        context = " ".join(SENTENCES[number * 3 + len(split) :][:3])
        words = context.split()
        answer = " ".join(words[1:3]) if number % 2 else words[4]
        questions.append(
            {
                "id": f"{split}-{number}",
                "title": "Village",
                "context": context,
                "question": f"Who or what was {words[number % 3]}?",
                "answers": {"text": [answer], "answer_start": [context.index(answer)]},
            }
        )
    return questions
