"""The compact form where orientc is not installed: is it the model that orientc's own substitution gives?

    python tests/benchmarks/export.py demo SENTENCE_ENCODER CAUSAL.gguf [--ratio 5] [--environment FOLDER]

Makes a virtual environment with torch, transformers and sentence-transformers alone (or takes one that is there),
and for each model an SVD artifact, which it exports in the compact form in float32. Logits, or sentence vectors, of
the substituted model here are compared with those of the folder there; there it is saved, loaded and saved again too,
and a causal model generates. Asked for is a difference of at most 1e-5.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from orientc.exporters.export import export
from orientc.exporters.sentence_transformers import LIST
from orientc.models.source import ModelSource
from orientc.models.substitute import head_policies, substitute
from orientc.storage import artifact as artifacts
from orientc.storage.sizes import MB

ROOT = Path(__file__).parents[2]
PACKAGES = ("torch==2.13.0", "transformers", "sentence-transformers", "safetensors")
TEXTS = [
    "The village lay quiet under the snow.",
    "Nobody had seen the locomotive since Tuesday, and nobody asked.",
    "Compression keeps what matters: the rest is noise!",
    "1, 2, 3 … 4?",
]
GENERATED = {"max_new_tokens": 16, "do_sample": False}

THERE = """
import importlib.util, json, sys
from pathlib import Path

import torch, transformers
from safetensors.torch import save_file

assert importlib.util.find_spec("orientc") is None, "orientc is installed here"
task = json.loads(Path(sys.argv[1]).read_text())
folder, out, texts = Path(task["folder"]), Path(task["out"]), task["texts"]


def loaded(path):
    if task["auto_class"] is None:
        from sentence_transformers import SentenceTransformer
        return SentenceTransformer(str(path), trust_remote_code=True, device="cpu")
    auto_class = getattr(transformers, task["auto_class"])
    return auto_class.from_pretrained(path, trust_remote_code=True).eval()


def save(model, path):
    model.save(str(path)) if task["auto_class"] is None else model.save_pretrained(path)


model, found = loaded(folder), {}
if task["auto_class"] is None:
    found["vectors"] = model.encode(texts, convert_to_tensor=True)
else:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    with torch.no_grad():
        for number, text in enumerate(texts):
            inputs = tokenizer(text, return_tensors="pt")
            found[f"ids{number}"] = inputs["input_ids"]
            found[f"logits{number}"] = model(input_ids=inputs["input_ids"]).logits
        if model.can_generate():
            found["generated"] = model.generate(found["ids0"], **task["generated"])
save(model, out / "once")
save(loaded(out / "once"), out / "twice")
save_file({name: tensor.clone() for name, tensor in found.items()}, out / "found.safetensors")
"""


def fresh(folder: Path) -> Path:
    """The interpreter of a virtual environment without orientc."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        install = ["-m", "pip", "install", "-q", "-c", ROOT / ".ci" / "constraints.txt", *PACKAGES]
        subprocess.run([python, *install], check=True)
    return python


def here(source: ModelSource, artifact: artifacts.Artifact, path: Path) -> dict[str, torch.Tensor]:
    """What orientc's own substitution computes."""
    if source.has(LIST):
        from sentence_transformers import SentenceTransformer

        encoder = SentenceTransformer(str(path), device="cpu")
        substitute(encoder[0].auto_model, artifact, head_policies(encoder[0].auto_model)[-1])
        return {"vectors": encoder.encode(TEXTS, convert_to_tensor=True)}
    model = source.load(None, dtype=torch.float32)
    substitute(model, artifact, head_policies(model)[-1])
    found = {}
    with torch.no_grad():
        for number, text in enumerate(TEXTS):
            ids = found[f"ids{number}"] = source.tokenizer(text, return_tensors="pt")["input_ids"]
            found[f"logits{number}"] = model(input_ids=ids).logits
        if model.can_generate():
            found["generated"] = model.generate(found["ids0"], **GENERATED)
    return found


def folder_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())


def compared(model: str, ratio: float, python: Path, folder: Path) -> list[str]:
    """One row of the table."""
    source = ModelSource.resolve(model)
    made = folder / "artifact.safetensors"
    command = [sys.executable, "-m", "orientc", "svd", model, "--ratio", str(ratio), "--out", made, "-q"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    exported = export(made, folder / "exported", dtype="float32")
    sentences = source.has(LIST)
    task: dict[str, Any] = {
        "folder": str(exported.folder),
        "out": str(folder),
        "texts": TEXTS,
        "auto_class": None if sentences else exported.facts.auto_class,
        "generated": GENERATED,
    }
    (folder / "task.json").write_text(json.dumps(task))
    (folder / "there.py").write_text(THERE)
    environment = {**os.environ, "HF_MODULES_CACHE": str(folder / "modules"), "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONPATH", None)
    command = [python, "there.py", "task.json"]
    subprocess.run(command, check=True, cwd=folder, env=environment, stderr=subprocess.PIPE)
    assert source.local is not None
    expected, found = here(source, artifacts.load(made), source.local), load_file(folder / "found.safetensors")
    assert expected.keys() == found.keys()
    exact = [name for name in found if name.startswith(("ids", "generated"))]
    assert all(torch.equal(found[name], expected[name]) for name in exact if name != "generated"), "other tokens"
    difference = max(float((found[name] - expected[name]).abs().max()) for name in found if name not in exact)
    weights = [(folder / name / "model.safetensors").read_bytes() for name in ("exported", "once", "twice")]
    generated = str(torch.equal(found["generated"], expected["generated"])) if "generated" in found else "–"
    before, now = folder_bytes(source.local), folder_bytes(exported.folder)
    return [
        source.local.name if source.local.name != "model" else source.local.parent.name,
        f"{exported.facts.tables[0].rank}",
        f"{difference:.1e}",
        f"{before / MB:.1f}",
        f"{exported.facts.base_weights / MB:.1f}",
        f"{now / MB:.1f}",
        f"{exported.weights / MB:.1f}",
        generated,
        str(weights[0] == weights[1] == weights[2]),
    ]


def main() -> None:
    """Run and print one line per model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--ratio", type=float, default=5.0)
    parser.add_argument("--environment", type=Path, help="a virtual environment to make, or one made before")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        python = fresh((given.environment or Path(temporary) / "environment").absolute())
        header = ["model", "rank", "largest Δ", "folder MB", "weights MB", "exported MB", "its weights MB"]
        print("| " + " | ".join([*header, "generates the same", "saved again the same"]) + " |", flush=True)
        print("|---" * (len(header) + 2) + "|")
        for number, model in enumerate(given.models):
            folder = Path(temporary) / str(number)
            folder.mkdir()
            print("| " + " | ".join(compared(model, given.ratio, python, folder)) + " |", flush=True)


if __name__ == "__main__":
    main()
