"""transformers.js, in node and in a headless browser, given a folder and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

PACKAGE = "@huggingface/transformers"
_NODE = """\
import { pipeline, env } from '@huggingface/transformers';
env.allowRemoteModels = false;
const [task, folder, input, options] = process.argv.slice(2);
const run = await pipeline(task, folder);
const found = await run(JSON.parse(input), JSON.parse(options));
console.log('\\n' + JSON.stringify(found.tolist ? found.tolist() : found));
process.exit(0);
"""
_PAGE = """\
<script type="module">
const tell = (value) => fetch('/told', { method: 'POST', body: JSON.stringify(value) });
try {
  const { pipeline, env } = await import('/package/dist/transformers.min.js');
  env.allowRemoteModels = false; env.allowLocalModels = true; env.localModelPath = '/models/';
  env.useBrowserCache = false; env.useWasmCache = false;
  env.backends.onnx.wasm.wasmPaths = '/runtime/';
  const { task, name, input, options } = await (await fetch('/asked')).json();
  const run = await pipeline(task, name);
  const found = await run(input, options);
  await tell({ found: found.tolist ? found.tolist() : found });
} catch (error) { await tell({ error: String(error.stack ?? error) }); }
</script>
"""


def modules(folder: Path) -> Path:
    """A `node_modules` that holds transformers.js: the one `ORIENTC_NODE_MODULES` names, or a new one in `folder`."""
    if not shutil.which("node"):
        pytest.skip("there is no node")
    if named := os.environ.get("ORIENTC_NODE_MODULES"):
        return Path(named)
    if not shutil.which("npm"):
        pytest.skip("there is no npm, and ORIENTC_NODE_MODULES names no folder")
    alone = {"ONNXRUNTIME_NODE_INSTALL": "skip", "ONNXRUNTIME_NODE_INSTALL_CUDA": "skip"}  # no GPU's libraries
    command = ["npm", "install", "--prefix", str(folder), PACKAGE]
    if subprocess.run(command, env=os.environ | alone, capture_output=True, check=False, timeout=600).returncode:
        pytest.skip(f"npm can't install {PACKAGE}")
    return folder / "node_modules"


def in_node(modules: Path, task: str, folder: Path, given: Any, **options: Any) -> Any:
    """What a pipeline gives in node."""
    script = modules.parent / "run_pipeline.mjs"
    script.write_text(_NODE)
    command = ["node", str(script), task, str(folder), json.dumps(given), json.dumps(options)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def in_browser(modules: Path, scratch: Path, task: str, folder: Path, given: Any, **options: Any) -> Any:
    """What a pipeline gives on a page in headless Chromium; all it loads comes from this machine."""
    if not (browser := shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("there is no chromium")
    asked = {"task": task, "name": folder.name, "input": given, "options": options}
    with _served(modules, folder, asked) as (port, told, requests):
        command = [
            browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            f"--user-data-dir={scratch}", f"http://127.0.0.1:{port}/page",
        ]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert told.wait(300), f"the page said nothing; it asked for {requests}"
        finally:
            process.terminate()
            process.wait(30)
    answer: dict[str, Any] = told.value
    assert "error" not in answer, f"{answer}; it asked for {requests}"
    assert "/models/" + folder.name + "/onnx/model_quantized.onnx" in requests
    return answer["found"]


class _Told(threading.Event):
    """Set with what a page tells."""

    value: dict[str, Any]


@contextmanager
def _served(modules: Path, folder: Path, asked: Any) -> Iterator[tuple[int, _Told, list[str]]]:
    """A server on loopback for one page, a model folder, and the packages' files."""
    told, requests = _Told(), list[str]()
    roots = {
        "package": modules / PACKAGE,
        "runtime": modules / "onnxruntime-web/dist",
        "models": folder.parent,
    }

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            fixed = {"/page": ("text/html", _PAGE), "/asked": ("application/json", json.dumps(asked))}
            if self.path not in fixed:
                return super().do_GET()
            kind, text = fixed[self.path]
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(text.encode())

        def do_POST(self) -> None:
            told.value = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()
            told.set()

        def translate_path(self, path: str) -> str:
            _, root, *rest = path.partition("?")[0].split("/")
            return str(roots.get(root, Path("/nowhere")).joinpath(*rest))

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    Handler.extensions_map = Handler.extensions_map | {".mjs": "text/javascript", ".wasm": "application/wasm"}
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1], told, requests
    finally:
        server.shutdown()
        server.server_close()
