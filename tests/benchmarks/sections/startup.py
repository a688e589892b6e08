"""Whole commands, from the shell's view, beside what importing torch and a model's code takes by itself."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from sections.measuring import Row, seconds, side_by_side

MODEL_CODE = "import torch, safetensors.torch; from transformers import BertForMaskedLM"


def rows(options: argparse.Namespace) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        artifact = Path(folder) / "demo" / "svd.safetensors"
        svd = ["svd", "demo", "--rank", "16", "--quiet"]
        subprocess.run([sys.executable, "-m", "orientc", *svd, "--out", artifact], check=True, capture_output=True)
        commands = {
            "orientc --help": ["--help"],
            "orientc compare": ["compare", folder],
            "orientc inspect ARTIFACT": ["inspect", artifact],
            "orientc inspect demo": ["inspect", "demo"],
            "orientc svd demo --rank 16": [*svd, "--out", Path(folder) / "again.safetensors", "--overwrite"],
            "orientc compress demo --rank 16": ["compress", *svd[1:], "--out", folder, "--overwrite"],
        }
        calls = {name: partial(_run, ["-m", "orientc", *arguments]) for name, arguments in commands.items()}
        calls |= {"import torch": partial(_run, ["-c", "import torch"]), "model": partial(_run, ["-c", MODEL_CODE])}
        wall = argparse.Namespace(**vars(options) | {"clock": "wall"})  # the time goes by in other processes
        taken, _ = side_by_side(calls, wall)
        for name in commands:
            torch = name not in ("orientc --help", "orientc compare")
            model = torch and "ARTIFACT" not in name
            floor = taken["model"] if model else taken["import torch"]
            what = "importing torch, transformers and BERT's code" if model else "importing torch"
            yield Row(
                "start-up",
                name,
                seconds(taken[name]),
                seconds(floor) if torch else "",
                f"{taken[name] - floor:+.2f} s" if torch else "",
                "",
                f"against {what}" if torch else "imports neither torch nor transformers",
            )


def _run(arguments: list[object]) -> None:
    subprocess.run([sys.executable, *map(str, arguments)], check=True, capture_output=True)
