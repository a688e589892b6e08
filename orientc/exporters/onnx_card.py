"""How a folder in the ONNX form is loaded, for its card: in JavaScript, ONNX Runtime and sentence-transformers."""

from __future__ import annotations

from pathlib import Path

from orientc.exporters import onnx
from orientc.exporters.facts import Facts

_PIPELINE = """\
import {{ pipeline }} from "@huggingface/transformers";

const run = await pipeline("{task}", "path/or/repository");
const found = await run("{text}"{options});"""
_SENTENCES = """\
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("path/or/repository", backend="onnx")  # needs optimum-onnx"""
_RUNTIME = """\
import onnxruntime
from transformers import AutoTokenizer

folder = "path/to/folder"
tokenizer = AutoTokenizer.from_pretrained(folder)
session = onnxruntime.InferenceSession(folder + "/onnx/model.onnx")
batch = tokenizer(["A sentence."], return_tensors="np")"""
_ONCE = "outputs = session.run(None, {entry.name: batch[entry.name] for entry in session.get_inputs()})"
_STEPS = """\
names = [entry.name for entry in session.get_outputs()]
given = {**batch, "position_ids": batch["attention_mask"].cumsum(1) - 1}
for entry in session.get_inputs():
    if entry.name.startswith("past_key_values"):
        given[entry.name] = np.zeros((1, entry.shape[1], 0, entry.shape[3]), np.float32)
outputs = dict(zip(names, session.run(None, given)))  # "present.…" is the "past_key_values.…" of the next token"""
_NAMES = {
    onnx.FILE: "what clients take that are told nothing else (ONNX Runtime's tools, transformers.js in node, "
    "text-embeddings-inference)",
    onnx.BROWSERS: "what transformers.js takes in a browser",
}


def loading(facts: Facts, folder: Path) -> str:
    """The chapter on loading it."""
    names = sorted(path.name for path in (folder / onnx.FOLDER).glob("*.onnx"))
    same = "The files in `onnx/` hold one model, under each name that is looked for:"
    listed = [f"- `{name}`: {_NAMES.get(name, 'the name that says what it holds')}" for name in names]
    options = ', { pooling: "mean", normalize: true }' if facts.library == "sentence-transformers" else ""
    text = "The [MASK] of a sentence." if facts.task == "fill-mask" else "A sentence."
    script = _PIPELINE.format(task=facts.task, text=text, options=options)
    parts = ["## Loading it", "\n".join([same, "", *listed])] if names else ["## Loading it"]
    parts.append(f"```js\n{script}\n```")
    if facts.library == "sentence-transformers":
        parts.append(f"```python\n{_SENTENCES}\n```")
    if facts.task == "text-generation":
        parts.append(f"```python\nimport numpy as np\n{_RUNTIME}\n{_STEPS}\n```")
    else:
        parts.append(f"```python\n{_RUNTIME}\n{_ONCE}\n```")
    return "\n\n".join(parts)
