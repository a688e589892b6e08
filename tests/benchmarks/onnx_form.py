"""The ONNX form beside the graph of the uncompressed model: sizes, times, and what it costs.

    python tests/benchmarks/onnx_form.py sentences MODEL ARTIFACT --data GLUE_DIR [--limit 1500]
    python tests/benchmarks/onnx_form.py text MODEL ARTIFACT --file TEXT [--modules NODE_MODULES] [--dtype float16]
    python tests/benchmarks/onnx_form.py table [--rows 49152] [--width 576]

*sentences*: MB, Spearman's correlation on STS-B's dev set with its error (over 1 000 draws of pairs), the difference to
the uncompressed graph with its error, and sentences a second in ONNX Runtime, for each body.

*text*: for each body, MB, perplexity over windows of 512 tokens of a text, tokens a second in transformers.js in node,
and what ONNX Runtime in WASM, which browsers run, takes for one token after 64 and for a prompt of 64, with the file
for browsers and, for comparison, with the other one.

*table*: lookup and head alone, in a model with next to no body: time for 1, 16 and 256 tokens, and what the session
adds to the process's memory, each in a new process.

Everything runs on one thread, one after the other; rates are the best of three runs taken in turns.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

import orientc
from orientc.evaluation import sentences, similarity
from orientc.evaluation.glue.metrics import spearman
from orientc.exporters import onnx
from orientc.modeling.factors import Factors
from orientc.modeling.layout import CODES, HALF, IDS, PER_GROUP, TRELLIS, WHOLE, Layout
from orientc.models.source import ModelSource
from orientc.models.substitute import substitute
from orientc.storage.sizes import MB

BODIES = ("none", "int8", "int4")
BATCH, DRAWS, WINDOW = 16, 1000, 512
TOKENS = 64  # generated in node
_NODE = """\
import { pipeline, env } from '@huggingface/transformers';
env.allowRemoteModels = false;
const run = await pipeline('text-generation', process.argv[2], { session_options: { intraOpNumThreads: 1 } });
const times = [];
let text = '';
for (let turn = 0; turn < 3; ++turn) {
  for (const count of [1, TOKENS + 1]) {
    const start = performance.now();
    const options = { max_new_tokens: count, min_new_tokens: count, do_sample: false };
    text = (await run('The capital of France is', options))[0].generated_text;
    times.push(performance.now() - start);
  }
}
const each = [0, 2, 4].map((at) => (times[at + 1] - times[at]) / TOKENS);
console.log(JSON.stringify({ text, rate: 1000 / Math.min(...each) }));
process.exit(0);
""".replace("TOKENS", str(TOKENS))
_WASM = """\
import fs from 'fs';
import * as ort from 'onnxruntime-web';
ort.env.wasm.numThreads = 1;
ort.env.logLevel = 'error';
const session = await ort.InferenceSession.create(fs.readFileSync(process.argv[2]), { executionProviders: ['wasm'] });
const whole = (numbers) => new ort.Tensor('int64', BigInt64Array.from(numbers, BigInt), [1, numbers.length]);
const given = (length, past) => {
  const counted = Array.from({ length }, (_, at) => at + past);
  const found = {
    input_ids: whole(counted.map((at) => at + 7)),
    attention_mask: whole(Array(length + past).fill(1)),
    position_ids: whole(counted),
  };
  for (const { name, shape } of session.inputMetadata) {
    if (!name.startsWith('past_key_values')) continue;
    const [, heads, , width] = shape;
    found[name] = new ort.Tensor('float32', new Float32Array(heads * past * width), [1, heads, past, width]);
  }
  return found;
};
const best = async (length, past) => {
  let least = Infinity;
  for (let turn = 0; turn < 5; ++turn) {
    const start = performance.now();
    await session.run(given(length, past));
    least = Math.min(least, performance.now() - start);
  }
  return least;
};
console.log(JSON.stringify({ token: await best(1, 64), prompt: await best(64, 0) }));
process.exit(0);
"""


def session_of(path: Path) -> Any:
    """A session on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def folders(model: str, artifact: str, scratch: Path, dtype: str | None) -> Iterator[tuple[str, Path]]:
    """The uncompressed graph, and the exported one with each body."""
    source = ModelSource.resolve(model)
    (scratch / "uncompressed").mkdir()
    onnx.save(source.load(None, dtype=torch.float32), source.tokenizer, scratch / "uncompressed")
    source.tokenizer.save_pretrained(scratch / "uncompressed")
    yield "uncompressed", scratch / "uncompressed"
    for body in BODIES:
        orientc.export(artifact, scratch / body, form="onnx", body=body, model=model, dtype=dtype)
        yield f"body {body}", scratch / body


def of_sentences(options: argparse.Namespace) -> None:
    """Print a line for each graph of a sentence encoder."""
    pairs = similarity.stsb(options.data).first_pairs(options.limit)
    tokenizer = ModelSource.resolve(options.model).tokenizer
    both = [*pairs.first, *pairs.second]

    def vectors(session: Any) -> NDArray[np.float64]:
        found = []
        for start in range(0, len(both), BATCH):
            batch = tokenizer(both[start : start + BATCH], padding=True, truncation=True, return_tensors="pt")
            fed = {entry.name: batch[entry.name].numpy() for entry in session.get_inputs()}
            states = torch.from_numpy(session.run(["last_hidden_state"], fed)[0])
            found.append(sentences.pool(states.double(), batch["attention_mask"], "mean"))
        return torch.nn.functional.normalize(torch.cat(found)).numpy()

    drawn = np.random.default_rng(0).integers(0, len(pairs.scores), (DRAWS, len(pairs.scores)))
    scores, first = np.asarray(pairs.scores), None
    with tempfile.TemporaryDirectory() as scratch:
        made = [*folders(options.model, options.artifact, Path(scratch), options.dtype)]
        sessions = {name: session_of(folder / "onnx/model.onnx") for name, folder in made}
        seconds = dict.fromkeys(sessions, float("inf"))
        for _ in range(3):
            for name, session in sessions.items():
                start = time.perf_counter()
                kept = vectors(session)
                seconds[name] = min(seconds[name], time.perf_counter() - start)
        for name, folder in made:
            kept = vectors(sessions[name])
            cosines = (kept[: len(scores)] * kept[len(scores) :]).sum(1)
            own = np.array([spearman(cosines[rows], scores[rows]) for rows in drawn])
            first = own if first is None else first
            print(
                f"{name}: {onnx.nbytes(folder) / MB:.2f} MB; STS-B {spearman(cosines, scores):.4f} ± {own.std():.4f}, "
                f"{100 * (own - first).mean():+.2f} pt ± {100 * (own - first).std():.2f}; "
                f"{len(both) / seconds[name]:.0f} sentences a second",
                flush=True,
            )


def of_text(options: argparse.Namespace) -> None:
    """Print a line for each graph of a language model."""
    ids = ModelSource.resolve(options.model).tokenizer(options.file.read_text())["input_ids"][: options.tokens]
    with tempfile.TemporaryDirectory() as scratch:
        for name, folder in folders(options.model, options.artifact, Path(scratch), options.dtype):
            session, losses = session_of(folder / "onnx/model.onnx"), []
            for start in range(0, len(ids) - 1, WINDOW):
                window = np.array([ids[start : start + WINDOW + 1]])
                logits = torch.from_numpy(session.run(["logits"], fed(session, window[:, :-1]))[0])
                target = torch.from_numpy(window[:, 1:])
                losses.append(torch.nn.functional.cross_entropy(logits[0], target[0], reduction="none"))
            line = f"{name}: {onnx.nbytes(folder) / MB:.2f} MB; perplexity {torch.cat(losses).mean().exp():.3f}"
            del session
            if options.modules:
                found = in_node(options.modules, _NODE, folder)
                line += f"; {found['rate']:.1f} tokens a second in node: {found['text'][:60]!r}; in WASM"
                for file in (onnx.BROWSERS, onnx.FILE):
                    found = in_node(options.modules, _WASM, folder / onnx.FOLDER / file)
                    line += f" {found['token']:.0f} and {found['prompt']:.0f} ms ({file})"
            print(line, flush=True)


def in_node(modules: Path, code: str, argument: Path) -> Any:
    """What a script in node prints last."""
    script = modules.parent / "measure.mjs"
    script.write_text(code)
    ended = subprocess.run(["node", script, argument], capture_output=True, text=True, check=True)
    return json.loads(ended.stdout.splitlines()[-1])


def fed(session: Any, ids: NDArray[np.int64]) -> dict[str, Any]:
    """What a language model's graph is given for a prompt."""
    given = {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": np.arange(ids.shape[1])[None]}
    for entry in session.get_inputs():
        if entry.name.startswith("past_key_values"):
            given[entry.name] = np.zeros((1, entry.shape[1], 0, entry.shape[3]), np.float32)
    return given


def of_table(options: argparse.Namespace) -> None:
    """Print a line for each kind of table."""
    rows, width = options.rows, options.width
    groups = width // 64
    kinds: dict[str, Layout | None] = {
        "uncompressed": None,
        "4 bits in groups of 64": Layout(
            rows, width, width, False, codec=PER_GROUP, group_size=64, bits=((4,) * groups,), row_group_sizes=(rows,)
        ),
        "trellis codes of 3 bits": Layout(
            rows, width, width, True, codec=TRELLIS, group_size=1, window=12, rounded=True,
            bits=((3,) * width,), row_group_sizes=(rows,),
        ),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        for number, (kind, layout) in enumerate(kinds.items()):
            folder = Path(scratch) / str(number)
            folder.mkdir()
            _write(layout, rows, width, folder)
            for name in ("model", "model_quantized")[: 1 if layout is None else 2]:
                how = "" if layout is None else {"model": ", codes", "model_quantized": ", floats"}[name]
                path = folder / f"onnx/{name}.onnx"
                ended = subprocess.run([sys.executable, __file__, "time", path], capture_output=True, text=True)
                print(f"{kind}{how}: {path.stat().st_size / MB:.2f} MB; {ended.stdout.strip()}", flush=True)


def _write(layout: Layout | None, rows: int, width: int, folder: Path) -> None:
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=rows, hidden_size=width, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16,
        num_key_value_heads=1, head_dim=16, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    model: Any = transformers.LlamaForCausalLM(config).eval()
    if layout is not None:
        draw: dict[str, Callable[..., torch.Tensor]] = {
            CODES: lambda shape: torch.randint(256, shape, dtype=torch.uint8),
            IDS: lambda shape: torch.zeros(shape, dtype=torch.int32),
            HALF: lambda shape: (0.01 * torch.rand(shape)).half(),
            WHOLE: lambda shape: torch.randint(-127, 128, shape, dtype=torch.int8),
        }
        tensors = {
            name: draw.get(kind, lambda shape: 0.05 * torch.randn(shape))(shape)
            for name, (kind, shape) in layout.shapes.items()
        }
        substitute(model, Factors(layout, tensors), "tied")
    onnx.save(model, _Tokenizer(), folder)  # type: ignore[arg-type]


class _Tokenizer:
    model_input_names = ("input_ids", "attention_mask")

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [*text.encode()]}


def of_time(options: argparse.Namespace) -> None:
    """Print times and memory of one graph."""

    def held() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / MB

    before, start = held(), time.perf_counter()
    session = session_of(options.path)
    started, memory, line = time.perf_counter() - start, held() - before, ""
    for length in (1, 16, 256):
        given, best = fed(session, np.arange(length)[None] + 7), float("inf")
        for _ in range(20 if length == 1 else 5):
            start = time.perf_counter()
            session.run(["logits"], given)
            best = min(best, time.perf_counter() - start)
        line += f"{length}: {1000 * best:.1f} ms, "
    print(f"{line}start {started:.2f} s, memory {memory:.0f} MB")


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(required=True)
    for name, run in {"sentences": of_sentences, "text": of_text, "table": of_table, "time": of_time}.items():
        part = parts.add_parser(name)
        part.set_defaults(run=run)
        if name in ("sentences", "text"):
            part.add_argument("model")
            part.add_argument("artifact")
            part.add_argument("--dtype")
        if name == "sentences":
            part.add_argument("--data", type=Path, required=True)
            part.add_argument("--limit", type=int, default=1500)
        elif name == "text":
            part.add_argument("--file", type=Path, required=True)
            part.add_argument("--tokens", type=int, default=8192)
            part.add_argument("--modules", type=lambda place: Path(place).resolve())
        elif name == "table":
            part.add_argument("--rows", type=int, default=49152)
            part.add_argument("--width", type=int, default=576)
        else:
            part.add_argument("path", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.run(options)


if __name__ == "__main__":
    main()
