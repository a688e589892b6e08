"""`orientc export --push` to a loopback hub, by processes of their own: what others get, and how it fails."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from huggingface_hub import constants
from support.commands import Client, Ended, files_in, one_line, run_here
from support.hub import MAIN, Answer, Fault, File, Hub
from support.words import facts

Orientc = Callable[..., Ended]

SECONDS = 90  # that a failing push may take; most of them are huggingface_hub's, between one try and the next
QUIET = {"TQDM_DISABLE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}  # a command sets that before it reads the libraries
NOWHERE = "http://127.0.0.1:9"
BROKEN = Answer(500, {"X-Error-Message": "Internal Error"})
BUSY = Answer(429, {"RateLimit": '"api";r=0;t=290', "Retry-After": "3600"})


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory, bert_folder: Path) -> Path:
    """Of the small masked language model, rank 4."""
    path = tmp_path_factory.mktemp("runs") / "svd-r4.safetensors"
    assert run_here("svd", bert_folder, "--rank", 4, "--out", path, "-q").code == 0
    return path


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory, bert_folder: Path) -> Path:
    """What a repository held before: another model under the same names, and more."""
    folder = tmp_path_factory.mktemp("older")
    shutil.copytree(bert_folder, folder, dirs_exist_ok=True)
    (folder / "README.md").write_text("Nothing yet.")
    (folder / "figures").mkdir()
    (folder / "figures" / "size.txt").write_text("large")
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, artifact: Path) -> Path:
    """What is pushed, made without a push."""
    folder = tmp_path_factory.mktemp("exported") / "small"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", False)  # transformers writes that into a tokenizer's configuration
        assert run_here("export", artifact, "--to", folder, "-q").code == 0
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files_in(folder)}


def pushed(hub: Hub, id: str) -> dict[str, bytes]:
    """What a repository holds, but for the file that the hub adds to new ones."""
    repository = hub.repository(id)
    assert repository
    return {name: content for name, content in repository.files.items() if name != ".gitattributes"}


# -- many pushes from one process, which has read the libraries once; each goes on in a process of its own

PUSHES = """
import json, os, sys, time
import transformers.models.bert.modeling_bert
from huggingface_hub import constants
from orientc.cli import app, main
from orientc.exporters import export, push

def run(name, arguments, environment, limits):
    for descriptor, stream in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{name}.{stream}", os.O_WRONLY | os.O_CREAT), descriptor)
    os.environ.update(environment)
    constants.ENDPOINT = os.environ["HF_ENDPOINT"]  # these two were read with the library
    constants.HF_HUB_DISABLE_XET = os.environ["HF_HUB_DISABLE_XET"] == "1"
    for limit, value in limits.items():
        assert hasattr(push, limit)
        setattr(push, limit, value)
    sys.argv = ["orientc", *arguments]
    main()

started, ended = {}, {}
for name, case in json.load(sys.stdin).items():
    process = os.fork()
    if not process:
        run(name, *case)
    started[process] = name, time.monotonic()
while started:
    process, status = os.wait()
    name, begun = started.pop(process)
    ended[name] = os.waitstatus_to_exitcode(status), time.monotonic() - begun
json.dump(ended, sys.stdout)
"""


@dataclass(frozen=True)
class Push:
    """A push of the folder `name`; `limits` are values for the module that pushes."""

    repository: str
    options: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    limits: dict[str, float] = field(default_factory=dict)


class Pushes:
    """Pushes under way, started side by side."""

    def __init__(self, folder: Path, artifact: Path, environment: dict[str, str], pushes: dict[str, Push]) -> None:
        self.folder = folder
        self._ended: dict[str, tuple[int, float]] = {}
        self._process = subprocess.Popen(
            [sys.executable, "-c", PUSHES],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", **QUIET, **environment},
            start_new_session=True,
        )
        given = {
            name: (
                ["export", str(artifact), "--to", name, "--push", push.repository, *push.options],
                push.environment,
                push.limits,
            )
            for name, push in pushes.items()
        }
        assert self._process.stdin
        with self._process.stdin as stream:
            json.dump(given, stream)

    def ended(self, name: str) -> Ended:
        """How one ended; it did in time."""
        if self._process.stdout and not self._process.stdout.closed:
            with self._process.stdout as stream:
                self._ended = json.load(stream)
            assert self._process.wait() == 0
        code, seconds = self._ended[name]
        assert seconds < SECONDS
        return Ended(code, *((self.folder / f"{name}.{kind}").read_text() for kind in ("out", "err")))

    def stop(self) -> None:
        """End those that still run."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


CASES = {
    "an upload": Push("someone/upload"),
    "token": Push("someone/new", environment={"HF_TOKEN": "hf_wrong"}),
    "namespace": Push("other/new"),
    "others": Push("other/model"),
    "commit": Push("someone/commit"),
    "cut": Push("someone/cut"),
    "page": Push("someone/page"),
    "silent": Push("someone/silent", limits={"TIMEOUT": 4, "PATIENCE": 3}),
    "busy": Push("someone/busy"),
    "public": Push("someone/public", ("--private",)),
    "name": Push("name", ("--json",), environment={"HF_TOKEN": ""}),
    "same": Push("someone/same"),
    "older": Push("someone/older"),
    "unreachable": Push("someone/small", ("--private",), environment={"HF_ENDPOINT": NOWHERE}),
    "xet": Push("someone/xet", ("--private",), environment={"HF_HUB_DISABLE_XET": "0"}),
    "xet-away": Push("someone/xet-away", environment={"HF_HUB_DISABLE_XET": "0"}),
}
AWAY = {"casUrl": NOWHERE, "accessToken": "xet", "exp": 1 << 40}
FAULTS = [
    Fault("PUT /store/someone/upload/.*", BROKEN),
    Fault("POST .*/someone/commit/commit/main", BROKEN),
    Fault("POST .*/someone/cut/commit/main", None),
    Fault("POST .*/someone/page/commit/main", Answer(200, body=b"<html>Welcome to the hotel's network</html>")),
    Fault("POST .*/someone/silent/preupload/main", None, seconds=30),
    Fault("POST .*/someone/busy/preupload/main", BUSY, times=1),
    Fault("GET .*/someone/xet-away/xet-write-token/main", Answer(200, body=json.dumps(AWAY).encode())),
]
# what each that fails says
FAILURES = {
    "an upload": "the hub answers: 500 Internal Error",
    "token": "the hub refuses the token: 401 Invalid credentials in Authorization header",
    "namespace": "the token may not do this: 403 You don't have the rights",
    "others": "the token may not do this: 403 You don't have the rights",
    "commit": "the hub answers: 500 Internal Error",
    "cut": "the connection to http://127.0.0.1:",
    "page": "the answer of http://127.0.0.1:",
    "silent": "no answer from 127.0.0.1",
    "unreachable": f"the connection to {NOWHERE} fails (",
    "xet-away": "",  # in the words of Xet
}


@pytest.fixture(scope="module")
def company(exported: Path, older: Path) -> Iterator[Hub]:
    """A hub where new repositories are private, and some are there already."""
    with Hub() as running:
        running.visibility = "private"
        running.faults = FAULTS
        for id in ("other/model", "someone/public", "someone/same"):
            running.publish(id, exported)
        running.publish("someone/older", older)
        yield running


@pytest.fixture(scope="module")
def pushes(company: Hub, artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushes]:
    """All pushes to that hub, side by side: they wait more than they work."""
    folder = tmp_path_factory.mktemp("pushes")
    home = folder / "huggingface"
    home.mkdir()
    (home / "token").write_text(company.token + "\n")  # of one who logged in
    environment = company.environment(home) | {"HF_TOKEN": company.token}
    company.xet = f"local://{folder / 'store'}"  # for those that turn it on
    running = Pushes(folder, artifact, environment, CASES)
    yield running
    running.stop()


# -- what others get

WITHOUT_ORIENTC = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "orientc":
            raise ImportError("orientc can't be imported here")

sys.meta_path.insert(0, Blocker())
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

logits = []
for place in sys.argv[1:]:
    tokens = AutoTokenizer.from_pretrained(place)("The quick fox jumps", return_tensors="pt")
    with torch.no_grad():
        logits.append(AutoModelForMaskedLM.from_pretrained(place, trust_remote_code=True)(**tokens).logits)
assert logits[0].isfinite().all() and logits[0].std() > 0
assert torch.equal(*logits)
assert not [name for name in sys.modules if name.partition(".")[0] == "orientc"]
"""


@pytest.mark.slow
def test_what_is_pushed_loads_from_the_hub_where_there_is_no_orientc(
    hub: Hub, online: Client, artifact: Path, exported: Path, tmp_path: Path
) -> None:
    ended = online("export", artifact, "--to", "small", "--push", "someone/small", HF_TOKEN=hub.token)

    assert (ended.code, ended.err) == (0, "")
    assert facts(ended.out)[-1].split() == ["on", "the", "hub", f"{hub.endpoint}/someone/small"]
    assert contents(tmp_path / "small") == contents(exported)
    assert not [path for path in (tmp_path / "small").rglob("*") if path.is_dir()]  # nor a cache
    assert pushed(hub, "someone/small") == contents(exported)
    repository = hub.repository("someone/small")
    assert repository
    assert not repository.private
    assert len(repository.commits) == 2  # the empty one, and one for all files

    loaded = subprocess.run(
        [sys.executable, "-c", WITHOUT_ORIENTC, "small", "someone/small"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, **hub.environment(tmp_path / "elsewhere")},
        timeout=300,
    )

    assert loaded.returncode == 0, loaded.stderr
    assert {"model.safetensors", "modeling_orientc.py", "tokenizer.json"} <= hub.downloads("someone/small")


@pytest.mark.slow
def test_a_push_replaces_files_of_the_same_name_and_leaves_others(
    pushes: Pushes, company: Hub, older: Path, exported: Path
) -> None:
    ended = pushes.ended("older")

    assert (ended.code, ended.err) == (0, "")
    assert contents(older).keys() & contents(exported).keys() > {"README.md", "config.json", "model.safetensors"}
    assert pushed(company, "someone/older") == contents(older) | contents(exported)


def test_only_what_is_on_the_folders_list_is_uploaded(hub: Hub, online: Client, exported: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(exported, tmp_path / "small")
    (folder / "secret.env").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret.json").write_text("{}")
    (folder / "link").symlink_to(tmp_path / "elsewhere")

    code = """
import os, sys
from pathlib import Path
from orientc.exporters.push import push
os.environ["HF_TOKEN"] = sys.argv[1]
push(Path("small"), "someone/listed")
"""
    ended = online.python(code, hub.token)

    assert ended.code == 0, ended.err
    assert pushed(hub, "someone/listed") == contents(exported)


@pytest.mark.slow
def test_pushing_the_same_again_changes_nothing(pushes: Pushes, company: Hub) -> None:
    ended = pushes.ended("same")

    assert (ended.code, ended.err) == (0, "")
    assert facts(ended.out)[-1].endswith(f" {company.endpoint}/someone/same")
    assert not any("same/commit" in exchange.address for exchange in company.log)


@pytest.mark.slow
def test_a_name_alone_is_of_whoever_logged_in(pushes: Pushes, company: Hub, exported: Path) -> None:
    ended = pushes.ended("name")

    assert (ended.code, ended.err) == (0, "")
    assert ended.document["url"] == f"{company.endpoint}/someone/name"
    assert pushed(company, "someone/name") == contents(exported)


@pytest.mark.slow
def test_a_new_repository_is_private_where_new_ones_are(pushes: Pushes, company: Hub) -> None:
    assert pushes.ended("name").code == 0

    repository = company.repository("someone/name")
    assert repository
    assert repository.private


@pytest.mark.slow
def test_xet_takes_the_weights_where_the_hub_has_it(pushes: Pushes, company: Hub, exported: Path) -> None:
    pytest.importorskip("hf_xet")

    ended = pushes.ended("xet")

    assert (ended.code, ended.err) == (0, "")
    repository = company.repository("someone/xet")
    assert repository
    assert repository.private
    held = {name: file.etag for name, file in repository.commits[repository.references[MAIN]].items()}
    del held[".gitattributes"]
    assert held == {name: File(exported / name).etag for name in files_in(exported)}
    assert not any("someone/xet.git/info/lfs" in exchange.address for exchange in company.log)


# -- what is said before any work is done

NAMES = [
    "",
    "a/b/c",
    "bad name!",
    "café",
    "a--b",
    "someone/",
    "/small",
    "someone/small.git",
    "https://huggingface.co/a/b",
]


@pytest.mark.parametrize("name", NAMES)
def test_what_can_not_be_a_repository_is_wrong_usage(name: str, orientc: Orientc, tmp_path: Path) -> None:
    said = one_line(orientc("export", "no.safetensors", "--to", tmp_path / "small", "--push", name), 2)

    assert said.startswith("orientc: --push takes ")
    assert said.endswith(f"not {name!r}")
    assert files_in(tmp_path) == []


def test_private_without_a_repository_is_wrong_usage(orientc: Orientc, tmp_path: Path) -> None:
    said = one_line(orientc("export", "no.safetensors", "--to", tmp_path / "small", "--private"), 2)

    assert "--push" in said


@pytest.mark.parametrize(
    ("token", "offline", "told"),
    [
        ("", False, "set HF_TOKEN, or log in with: hf auth login"),
        ("hf_\tt", False, "set HF_TOKEN again"),
        (Hub.token, True, "unset HF_HUB_OFFLINE"),
    ],
)
def test_what_keeps_the_hub_away_is_told_before_any_work(
    token: str, offline: bool, told: str, hub: Hub, online: Client, artifact: Path, tmp_path: Path
) -> None:
    asked = ("export", artifact, "--to", "small", "--push", "someone/small")

    said = one_line(online(*asked, HF_TOKEN=token, offline=offline), 1)

    assert told in said
    assert "hf_" not in said  # what is wrong with a token is told without it
    assert files_in(tmp_path) == []
    assert hub.log == []


# -- how a push fails


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.slow
def test_a_push_that_fails_says_why_where_the_folder_is_and_how_to_go_on(
    name: str, pushes: Pushes, company: Hub, exported: Path
) -> None:
    if "xet" in name:
        pytest.importorskip("hf_xet")

    said = one_line(pushes.ended(name), 1)

    repository, options = CASES[name].repository, CASES[name].options
    assert said.startswith(f"orientc: {name} is written, but not pushed to {repository}: {FAILURES[name]}")
    assert said.endswith("; to push it later: " + shlex.join(["hf", "upload", repository, name, *options]))
    assert contents(pushes.folder / name) == contents(exported)
    held = company.repository(repository)
    assert held is None or pushed(company, repository) in ({}, contents(exported))


@pytest.mark.slow
def test_the_command_a_failure_names_does_it(pushes: Pushes, hub: Hub, exported: Path, tmp_path: Path) -> None:
    said = one_line(pushes.ended("an upload"), 1)
    program, *arguments = shlex.split(said.rpartition(": ")[2])

    done = subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        cwd=pushes.folder,
        env={**os.environ, **hub.environment(tmp_path), "HF_TOKEN": hub.token},
        capture_output=True,
        timeout=300,
    )

    assert done.returncode == 0, done.stderr
    assert pushed(hub, "someone/upload") == contents(exported)


@pytest.mark.slow
def test_a_busy_hub_is_asked_again_soon_whatever_it_says(pushes: Pushes, company: Hub, exported: Path) -> None:
    ended = pushes.ended("busy")

    assert (ended.code, ended.err) == (0, "")
    assert [exchange.status for exchange in company.log if "busy/preupload" in exchange.address] == [429, 200]
    assert pushed(company, "someone/busy") == contents(exported)


@pytest.mark.slow
def test_a_public_repository_is_not_pushed_to_as_a_private_one(pushes: Pushes, company: Hub) -> None:
    said = one_line(pushes.ended("public"), 1)

    assert said.startswith("orientc: public is written, but not pushed to someone/public: it is there and public; ")
    assert "--private" in said
    repository = company.repository("someone/public")
    assert repository
    assert len(repository.commits) == 1
