"""The ONNX form of a sentence encoder with a compressed table: how near torch it runs, and how large it is.

    python tests/benchmarks/onnx_size.py MODEL --data GLUE_DIR [--ratio 5] [--limit 200]
    python tests/benchmarks/onnx_size.py MODEL --sentences FILE

Sentences are those of STS-B's dev set or the lines of a file; their vectors are the mean over all tokens. The model is
written twice in the same way, uncompressed and compressed by SVD, and each time compared with itself in torch.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from orientc.compression.configs import SvdConfig
from orientc.compression.fit_table import fit_table
from orientc.evaluation import sentences, similarity, texts
from orientc.evaluation.setup import tokenizer_for
from orientc.exporters import onnx
from orientc.models.source import ModelSource
from orientc.models.substitute import head_policies, substitute
from orientc.models.table import read_table
from orientc.storage.sizes import MB

BATCH = 16


def cosines(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path, sentences: list[str]
) -> NDArray[np.float32]:
    """For each sentence the cosine between its vectors from torch and from ONNX Runtime."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = []
    for start in range(0, len(sentences), BATCH):
        batch = tokenizer(sentences[start : start + BATCH], padding=True, truncation=True, return_tensors="pt")
        fed = {entry.name: batch[entry.name].numpy() for entry in session.get_inputs()}
        with torch.inference_mode():
            expected = vectors(model(**batch).last_hidden_state, batch["attention_mask"])
        actual = vectors(torch.from_numpy(session.run(["last_hidden_state"], fed)[0]), batch["attention_mask"])
        found.append(torch.nn.functional.cosine_similarity(expected, actual).numpy())
    return np.concatenate(found)


def vectors(states: Tensor, mask: Tensor) -> Tensor:
    """Sentence vectors in double precision, in which a cosine of 1 is told from one just below."""
    return sentences.pool(states.double(), mask, "mean")


def main() -> None:
    """Write both forms and print a line on each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--data", type=Path)
    given.add_argument("--sentences", type=Path)
    parser.add_argument("--ratio", type=float, default=5.0)
    parser.add_argument("--limit", type=int, default=200)
    options = parser.parse_args()
    if options.data:
        sentences = similarity.stsb(options.data).first
    else:
        sentences = [line for line in texts.from_file(options.sentences).content.splitlines() if line.strip()]
    sentences = [*sentences[: options.limit]]

    source = ModelSource.resolve(options.model)
    tokenizer = tokenizer_for(source)
    artifact = fit_table(read_table(source), SvdConfig(ratio=options.ratio))
    sizes = {}
    for name in ("uncompressed", f"rank {artifact.factors.rank}"):
        model = source.load(None, dtype=torch.float32)
        if sizes:
            substitute(model, artifact, head_policies(model)[-1])
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            onnx.save(model, tokenizer, Path(folder))
            seconds = time.perf_counter() - start
            path = Path(folder) / onnx.FILE
            sizes[name] = path.stat().st_size
            found = cosines(model, tokenizer, path, sentences)
        parameters = sum(parameter.nbytes for parameter in model.parameters())
        print(
            f"{name}: {sizes[name] / MB:.2f} MB (parameters {parameters / MB:.2f} MB), written in {seconds:.0f} s; "
            f"cosine to torch over {len(found)} sentences: least {found.min():.9f}, mean {found.mean():.9f}",
            flush=True,
        )
    dense, compact = sizes.values()
    table = artifact.factors.vocab * artifact.factors.dim * 4
    print(f"{(dense - compact) / MB:.2f} MB smaller; the table lost {(table - artifact.factors.nbytes) / MB:.2f} MB")


if __name__ == "__main__":
    main()
