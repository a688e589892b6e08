"""A loopback stand-in for the Hugging Face Hub: it serves folders to huggingface_hub, transformers and datasets.

    with Hub() as hub:
        commit = hub.publish("google-bert/bert-base-uncased", folder, alias="bert-base-uncased")
        run("orientc", "svd", "bert-base-uncased", env=hub.environment(home))
        assert hub.downloads("google-bert/bert-base-uncased") == {"config.json", "model.safetensors"}

It answers as the hub does: renamed repositories and large files redirect, errors carry `X-Error-Code`, a missing
repository is a 401. A new kind of request is one more method of `Hub` under its pattern in `_ROUTES`.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pyarrow
import pyarrow.parquet

MAIN = "main"
LFS_SUFFIXES = {".bin", ".gguf", ".h5", ".msgpack", ".onnx", ".parquet", ".safetensors"}


@dataclass(frozen=True)
class File:
    """A file of a repository; large kinds are stored aside (LFS), as on the hub."""

    path: Path

    @property
    def lfs(self) -> bool:
        return self.path.suffix in LFS_SUFFIXES

    @cached_property
    def content(self) -> bytes:
        return self.path.read_bytes()

    @cached_property
    def blob_id(self) -> str:
        """What git calls the file; for an LFS file, what git calls the pointer to it."""
        content = self.pointer if self.lfs else self.content
        return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def pointer(self) -> bytes:
        return (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.content)}\n"
        ).encode()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.blob_id


@dataclass
class Repository:
    """Commits (name to files) and the branches and tags that point to them."""

    kind: str
    id: str
    gated: bool = False
    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)

    def commit(self, revision: str) -> str | None:
        """The commit a branch, tag or commit name stands for."""
        return self.references.get(revision, revision if revision in self.commits else None)


@dataclass(frozen=True)
class Asked:
    """What a client asked for; `parts` are the pieces of the address that its route's pattern names."""

    method: str
    address: str
    headers: dict[str, str]
    body: bytes
    parts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """A response; `file` names the (kind, repository, path) whose contents it carries."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    file: tuple[str, str, str] | None = None


@dataclass(frozen=True)
class Exchange:
    """One request as the hub's log has it."""

    method: str
    address: str
    status: int
    file: tuple[str, str, str] | None


class Refusal(Exception):
    """An error in the hub's manner."""

    def __init__(self, status: int, code: str, message: str, commit: str | None = None) -> None:
        super().__init__(message)
        headers = {"X-Error-Code": code, "X-Error-Message": message} | ({"X-Repo-Commit": commit} if commit else {})
        self.answer = Answer(status, headers, json.dumps({"error": message}).encode())


class Hub:
    """The server: runs within its `with` block, at `endpoint`, for whoever is given `environment`.

    `log` holds every request in the order of the answers. `token` opens the gated repositories.
    """

    token = "hf_open_sesame"

    def __init__(self) -> None:
        self.log: list[Exchange] = []
        self._repositories: dict[tuple[str, str], Repository] = {}
        self._aliases: dict[tuple[str, str], str] = {}
        self._server = _Server(self)

    def __enter__(self) -> Hub:
        self._server.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._server.stop()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def environment(self, home: Path) -> dict[str, str]:
        """Environment variables of a process that takes this for the hub, and keeps its caches in `home`."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_DATASETS_CACHE": str(home / "datasets"),
            "HF_TOKEN": "",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def publish(
        self,
        id: str,
        folder: Path,
        *,
        kind: str = "models",
        revision: str = MAIN,
        alias: str | None = None,
        gated: bool = False,
    ) -> str:
        """Make a folder's files a new commit of a repository, made if need be, and return the commit's name.

        `kind` is "models" or "datasets". `alias` is an older id that redirects here.
        """
        repository = self._repositories.setdefault((kind, id), Repository(kind, id))
        repository.gated = gated
        files = {
            path.relative_to(folder).as_posix(): File(path) for path in sorted(folder.rglob("*")) if path.is_file()
        }
        tree = [repository.id, *(f"{name} {file.etag}" for name, file in files.items())]
        commit = hashlib.sha1("\n".join(tree).encode()).hexdigest()
        repository.commits[commit] = files
        repository.references[revision] = commit
        if alias:
            self._aliases[kind, alias] = id
        return commit

    def downloads(self, id: str, kind: str = "models") -> set[str]:
        """Names of the files of a repository whose contents were sent."""
        return {
            exchange.file[2]
            for exchange in self.log
            if exchange.method == "GET" and exchange.file and exchange.file[:2] == (kind, id)
        }

    def answer(self, asked: Asked) -> Answer:
        """The answer to one request, put on the log."""
        try:
            answer = self._route(asked)
        except Refusal as refusal:
            answer = refusal.answer
        self.log.append(Exchange(asked.method, asked.address, answer.status, answer.file))
        return answer

    def _route(self, asked: Asked) -> Answer:
        path = urlsplit(asked.address).path
        for pattern, handle in _ROUTES:
            if match := re.fullmatch(pattern, path):
                parts = {name: unquote(part) for name, part in match.groupdict().items() if part is not None}
                parts.setdefault("kind", "models")
                if (moved := self._aliases.get((parts["kind"], parts["id"]))) is not None:
                    return Answer(307, {"Location": asked.address.replace(parts["id"], quote(moved), 1)})
                return handle(self, Asked(asked.method, asked.address, asked.headers, asked.body, parts))
        raise Refusal(404, "NotFound", f"Nothing at {path}")

    def _file(self, asked: Asked) -> Answer:
        """`/{id}/resolve/{revision}/{path}`: the contents, or for LFS the way to them."""
        repository, commit, files = self._found(asked)
        if repository.gated and asked.headers.get("authorization") != f"Bearer {self.token}":
            message = f"Access to {repository.id} is restricted. You must be authenticated to access it."
            raise Refusal(403 if "authorization" in asked.headers else 401, "GatedRepo", message)
        name = asked.parts["path"]
        if name not in files:
            raise Refusal(404, "EntryNotFound", "Entry not found", commit)
        file = files[name]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{file.etag}"', "Accept-Ranges": "bytes"}
        if not file.lfs:
            return _contents(asked, file, headers, (repository.kind, repository.id, name))
        stored = f"http://localhost:{self._server.server_port}/stored/{repository.kind}/{repository.id}/{commit}/{quote(name)}"
        linked = {"X-Linked-Size": str(len(file.content)), "X-Linked-ETag": f'"{file.etag}"', "Location": stored}
        return Answer(302, headers | linked)

    def _stored(self, asked: Asked) -> Answer:
        """Where LFS files lie: another host, to clients; it knows nothing of commits or tokens."""
        repository, commit, name = (asked.parts[part] for part in ("id", "revision", "path"))
        file = self._repositories[asked.parts["kind"], repository].commits[commit][name]
        return _contents(asked, file, {"ETag": f'"{file.etag}"'}, (asked.parts["kind"], repository, name))

    def _about(self, asked: Asked) -> Answer:
        """`/api/models/{id}`, `/api/models/{id}/revision/{revision}`."""
        repository, commit, files = self._found(asked)
        return _json(
            {
                "_id": commit[:24],
                "id": repository.id,
                "sha": commit,
                "private": False,
                "gated": "manual" if repository.gated else False,
                "disabled": False,
                "downloads": 0,
                "likes": 0,
                "tags": [],
                "lastModified": "2024-02-19T11:06:12.000Z",
                "createdAt": "2022-03-02T23:29:04.000Z",
                "siblings": [{"rfilename": name} for name in files],
            }
        )

    def _tree(self, asked: Asked) -> Answer:
        """`/api/models/{id}/tree/{revision}/{folder}`."""
        _, commit, files = self._found(asked)
        folder = asked.parts.get("path", "")
        prefix = f"{folder}/" if folder else ""
        query = parse_qs(urlsplit(asked.address).query)
        recursive = query.get("recursive", ["false"])[0].lower() in ("true", "1")
        below = {name: file for name, file in files.items() if name.startswith(prefix)}
        if not below:
            raise Refusal(404, "EntryNotFound", f"{folder} does not exist on {commit}", commit)
        folders = {
            "/".join(steps[:depth])
            for steps in (name.split("/") for name in below)
            for depth in range(prefix.count("/") + 1, len(steps))
        }
        entries = [_folder_entry(name) for name in sorted(folders)]
        entries += [_file_entry(name, file) for name, file in below.items()]
        direct = [entry for entry in entries if "/" not in entry["path"].removeprefix(prefix)]
        return _json(entries if recursive else direct)

    def _paths_info(self, asked: Asked) -> Answer:
        """`/api/models/{id}/paths-info/{revision}`: entries of the paths that exist."""
        _, _, files = self._found(asked)
        wanted = parse_qs(asked.body.decode())["paths"]
        found = [_file_entry(name, files[name]) for name in wanted if name in files]
        found += [_folder_entry(name) for name in wanted if any(file.startswith(f"{name}/") for file in files)]
        return _json(found)

    def _found(self, asked: Asked) -> tuple[Repository, str, dict[str, File]]:
        """The repository, commit and files a request is about."""
        repository = self._repositories.get((asked.parts["kind"], asked.parts["id"]))
        if repository is None:
            raise Refusal(401, "RepoNotFound", "Invalid username or password.")
        revision = asked.parts.get("revision", MAIN)
        commit = repository.commit(revision)
        if commit is None:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repository, commit, repository.commits[commit]


def write_dataset(folder: Path, configurations: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]) -> Path:
    """A data set as the hub has them: rows by configuration and split in Parquet files, and a card that says so."""
    described = []
    for configuration, splits in configurations.items():
        (folder / configuration).mkdir(parents=True)
        for split, rows in splits.items():
            table = pyarrow.Table.from_pylist([dict(row) for row in rows])
            pyarrow.parquet.write_table(table, folder / configuration / f"{split}-00000-of-00001.parquet")
        files = [{"split": split, "path": f"{configuration}/{split}-*"} for split in splits]
        described.append({"config_name": configuration, "data_files": files})
    (folder / "README.md").write_text(f"---\n{json.dumps({'configs': described})}\n---\n\n# A data set\n")
    return folder


_ID = r"(?P<id>[^/]+(?:/[^/]+)?)"
_API = rf"/api/(?P<kind>models|datasets)/{_ID}"
_ROUTES: tuple[tuple[str, Callable[[Hub, Asked], Answer]], ...] = (
    (rf"/stored/(?P<kind>models|datasets)/{_ID}/(?P<revision>[0-9a-f]{{40}})/(?P<path>.+)", Hub._stored),
    (rf"/(?:(?P<kind>datasets)/)?{_ID}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", Hub._file),
    (rf"{_API}/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?", Hub._tree),
    (rf"{_API}/paths-info/(?P<revision>[^/]+)", Hub._paths_info),
    (rf"{_API}(?:/revision/(?P<revision>[^/]+))?", Hub._about),
)


def _json(value: Any) -> Answer:
    return Answer(200, {"Content-Type": "application/json"}, json.dumps(value).encode())


def _contents(asked: Asked, file: File, headers: dict[str, str], named: tuple[str, str, str]) -> Answer:
    """A file's bytes, or the one range of them asked for."""
    headers = headers | {"Content-Type": "application/octet-stream"}
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.headers.get("range", ""))
    if not wanted:
        return Answer(200, headers, file.content, named)
    size = len(file.content)
    start, end = int(wanted[1]), min(int(wanted[2] or size), size - 1)
    if start >= size:
        return Answer(416, {"Content-Range": f"bytes */{size}"})
    return Answer(206, headers | {"Content-Range": f"bytes {start}-{end}/{size}"}, file.content[start : end + 1], named)


def _file_entry(name: str, file: File) -> dict[str, Any]:
    entry = {"type": "file", "path": name, "oid": file.blob_id, "size": len(file.content)}
    if file.lfs:
        entry["lfs"] = {"oid": file.sha256, "size": len(file.content), "pointerSize": len(file.pointer)}
    return entry


def _folder_entry(name: str) -> dict[str, Any]:
    return {"type": "directory", "path": name, "oid": hashlib.sha1(name.encode()).hexdigest(), "size": 0}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: Hub) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.hub.answer(Asked(self.command, self.path, headers, body))
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_HEAD = do_POST = do_GET

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing: the hub keeps a log of its own."""
