"""What a hub can do wrong: each time one line, and nothing that came of it is taken for whole later."""

from __future__ import annotations

import hashlib
import http.server
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.commands import Client, Commands, Ended, files_in, one_line, without_hint
from support.data import SENTENCES
from support.hub import Answer, Fault, Hub, write_dataset

WEIGHTS = "model.safetensors"
# no wait between attempts, little for an answer, and what was there of a small file counts when the next one starts,
# as in a large file
IMPATIENT = """
import time
from huggingface_hub import constants
time.sleep = lambda seconds: None
constants.HF_HUB_DOWNLOAD_TIMEOUT = constants.HF_HUB_ETAG_TIMEOUT = 0.3
constants.DOWNLOAD_CHUNK_SIZE = 1024
"""


# What the hub does wrong at which requests, and what the user is told. "half" and "wrong" stand for bytes, PROMISED for
# the number of those that should come.
PROMISED = 1
FAULTS: dict[str, tuple[str, Answer | None, str]] = {
    "half": ("GET /stored/", Answer(200, body=b"half"), "model.safetensors of some/half came incomplete from"),
    "cut": (
        "GET /stored/",  # each time, whatever range is asked for
        Answer(200, body=b"half", promised=PROMISED),
        "model.safetensors of some/cut came incomplete from",
    ),
    "wrong": ("GET /stored/", Answer(200, body=b"wrong"), "model.safetensors of some/wrong came damaged from"),
    "scored": ("GET /stored/", Answer(200, body=b"wrong"), "model.safetensors of some/scored came damaged from"),
    "500": ("", Answer(500), "can't be had from"),
    "500-weights": (f".*/{WEIGHTS}", Answer(500), "can't be had from"),
    "500-stored": (".*/stored/", Answer(500), "can't be had from"),
    "404-stored": (".*/stored/", Answer(404), "can't be had from"),
    "401": ("", Answer(401), "does not let you read some/401 (401): set HF_TOKEN"),
    "401-weights": (f".*/{WEIGHTS}", Answer(401), "set HF_TOKEN"),
    "403-stored": (".*/stored/", Answer(403), "set HF_TOKEN"),
    "portal": ("GET /api/", Answer(200, body=b"<html>"), "can't be had from"),
    "silent": ("", None, "can't be had from"),
    "silent-weights": (f".*/{WEIGHTS}", None, "can't be had from"),
    "silent-stored": (".*/stored/", None, "can't be had from"),
}


@dataclass
class Case:
    """How a command ended while its hub went wrong, what it left, and how it ended when the hub was well again."""

    ended: Ended
    seconds: float
    left: list[str]
    again: Ended


@pytest.fixture(scope="module")
def cases(bert_folder: Path, text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    folder, home = tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("home")
    weights = (bert_folder / WEIGHTS).read_bytes()
    bodies = {b"half": weights[: len(weights) // 2], b"wrong": weights[:-4] + b"\1\2\3\4"}
    commands = {name: ["svd", f"some/{name}", "--rank", "4", "--out", f"{name}/x.safetensors"] for name in FAULTS}
    commands["scored"] = ["perplexity", "some/scored", "--text", str(text_file), "--limit", "4", "--out", "scored"]
    with Hub() as hub:
        for name, (request, answer, _) in FAULTS.items():
            hub.publish(f"some/{name}", bert_folder)
            if answer:
                promised = answer.promised and len(weights)
                answer = Answer(answer.status, body=bodies.get(answer.body, answer.body), promised=promised)
            hub.faults.append(Fault(rf"(?={request}).*/some/{name}(/.*)?", answer, seconds=0 if answer else 20))
        process = Commands(before=IMPATIENT, **hub.environment(home))
        first = [(process.run(*command, folder=folder), process.seconds) for command in commands.values()]
        left = {name: files_in(folder / name) if (folder / name).exists() else [] for name in FAULTS}
        blobs = [path for path in home.rglob("*") if path.name.endswith(".incomplete") or WEIGHTS in path.name]
        blobs += [path for path in home.rglob("blobs/*") if path.stat().st_size >= len(weights) // 2]
        for name in FAULTS:
            here = f"models--some--{name}"
            left[name] += [str(path) for path in blobs if here in path.parts and ".no_exist" not in path.parts]
        hub.faults.clear()
        second = [process.run(*command, folder=folder) for command in commands.values()]
        process.close()
    return {
        name: Case(ended, seconds, left[name], again)
        for name, (ended, seconds), again in zip(FAULTS, first, second, strict=True)
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_hub_that_goes_wrong_is_one_line_and_nothing_stays_of_it(cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    line = one_line(case.ended, 1)
    assert FAULTS[name][2] in line
    assert f"some/{name}" in line
    assert case.left == []
    assert case.seconds < 90  # a wait of the library without end took ten minutes; a busy machine takes its time
    assert (case.again.code, without_hint(case.again.err)) == (0, "")


def test_a_connection_that_was_cut_is_taken_up_again(
    bert_folder: Path, hub: Hub, online: Client, huggingface: Path
) -> None:
    weights = (bert_folder / WEIGHTS).read_bytes()
    hub.publish("some/model", bert_folder)
    half = Answer(200, body=weights[: len(weights) // 2], promised=len(weights))
    hub.faults.append(Fault("GET /stored/.*", half, times=1))
    ended = online("svd", "some/model", "--rank", 4)
    assert (ended.code, without_hint(ended.err)) == (0, "")
    assert [exchange.status for exchange in hub.log if "/stored/" in exchange.address].count(200) == 2
    stored = {hashlib.sha256(path.read_bytes()).hexdigest() for path in huggingface.rglob(f"**/{WEIGHTS}")}
    assert stored == {hashlib.sha256(weights).hexdigest()}


def test_a_damaged_text_is_refused(tmp_path: Path, bert_folder: Path, hub: Hub, online: Client) -> None:
    rows = [{"text": f" {sentence} \n"} for sentence in SENTENCES]
    data = write_dataset(tmp_path / "data", {"wikitext-103-raw-v1": {"test": rows}})
    (file,) = data.rglob("*.parquet")
    hub.publish("Salesforce/wikitext", data, kind="datasets")
    hub.faults.append(Fault("GET /stored/.*", Answer(200, body=file.read_bytes()[::-1])))
    line = one_line(online("perplexity", bert_folder, "--limit", 4), 1)
    assert "came damaged from" in line
    hub.faults.clear()
    assert online("perplexity", bert_folder, "--limit", 4).code == 0


# -- a hub that is not there


WAITING = """
import sys, time
from orientc.errors import OrientcError
from orientc.evaluation import texts
from orientc.evaluation.glue.data import load
from orientc.evaluation.glue.tasks import TASKS
from orientc.models.source import ModelSource

asked = {
    "text": lambda: texts.wikitext("test"),
    "model": lambda: ModelSource.resolve("some/model").config,
    "glue": lambda: load(TASKS["stsb"], None, train=False),
    "data": lambda: texts.from_dataset("some/data", "text"),
}
for name in sys.argv[1:]:
    start = time.monotonic()
    try:
        asked[name]()
    except OrientcError as error:
        print(f"{name}\\t{time.monotonic() - start}\\t{error}")
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["refusing", "silent"])
def test_a_hub_that_is_not_there_is_given_up_within_seconds(tmp_path: Path, kind: str) -> None:
    """The library tries six times, twice over: half a minute where nobody listens, ten where nobody answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        if kind == "silent":
            listening.listen(50)
        # three attempts in three seconds; a wait of two for an answer, ten unless told otherwise
        process = Commands(
            HF_ENDPOINT=address, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="0", HF_HUB_DOWNLOAD_TIMEOUT="2",
            HF_HUB_ETAG_TIMEOUT="2",
        )  # fmt: skip
        ended = process.python(WAITING, "text", "text", "model", "glue", "data", folder=tmp_path)
        process.close()
    given_up = [line.split("\t") for line in ended.out.splitlines()]  # two lines of one message would have no time
    assert [name for name, _, _ in given_up] == ["text", "text", "model", "glue", "data"]
    first, *others = (float(seconds) for _, seconds, _ in given_up)
    assert first < 5.5
    assert max(others) < 2.5  # a hub that was not there a moment ago is not waited for
    assert without_hint(ended.err) == ""


def test_a_hub_that_hangs_up_twice_is_asked_again(bert_folder: Path, hub: Hub, online: Client) -> None:
    hub.publish("some/model", bert_folder)
    hub.faults.append(Fault(".*/some/model.*", None, times=2))
    ended = online("inspect", "some/model")
    assert (ended.code, without_hint(ended.err)) == (0, "")


class _Slow(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        time.sleep(1)
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()

    do_GET = do_HEAD


@pytest.mark.slow
def test_a_hub_that_is_slow_but_there_is_waited_for(tmp_path: Path) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        process = Commands(HF_ENDPOINT=address, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="0", HF_HUB_DOWNLOAD_TIMEOUT="2")
        line = one_line(process.run("inspect", "some/model", folder=tmp_path), 1)
        process.close()
        server.shutdown()
    assert "there is no model some/model" in line
