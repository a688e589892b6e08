"""What language models are scored on in tests: a few examples, for every architecture of ours."""

from __future__ import annotations

from orientc.evaluation.scoring import Example

EXAMPLES = [
    Example([5, 6, 7, 8, 9, 10, 11], [1, 4], [60, 61]),
    Example([12, 13, 14], [0], [62]),
    Example([15, 16, 17, 18, 19], [2, 3, 4], [63, 64, 65]),
]
LANGUAGE_MODELS = [
    "bert",
    "roberta",
    "distilbert",
    "electra",
    "albert",
    "deberta-v2",
    "mpnet",
    "gpt2",
    "llama",
    "qwen3",
    "gemma3",
    "bert-untied",
    "llama-untied",
]
