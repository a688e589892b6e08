"""A loopback stand-in for the Hugging Face Hub: it serves folders to huggingface_hub, transformers and datasets.

It also takes what huggingface_hub uploads, and serves that again.

    with Hub() as hub:
        commit = hub.publish("google-bert/bert-base-uncased", folder, alias="bert-base-uncased")
        run("orientc", "svd", "bert-base-uncased", env=hub.environment(home))
        assert hub.downloads("google-bert/bert-base-uncased") == {"config.json", "model.safetensors"}
        run("orientc", "export", ..., "--push", "someone/small", env=hub.environment(home) | {"HF_TOKEN": hub.token})
        assert "config.json" in hub.repository("someone/small").files

It answers as the hub does: renamed repositories and large files redirect, errors carry `X-Error-Code`, a missing
repository is a 401. Large files come and go as LFS does it. Xet, which clients prefer, is a service of its own, and
`environment` turns it off unless `xet` says where one is. A new kind of request is one more method of `Hub` under its
pattern in `_ROUTES`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import threading
import time
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
import yaml

MAIN = "main"
LFS_SUFFIXES = {".bin", ".gguf", ".h5", ".msgpack", ".onnx", ".onnx_data", ".parquet", ".safetensors"}


@dataclass(frozen=True)
class File:
    """A file of a repository; large kinds are stored aside (LFS), as on the hub.

    Its contents lie on disk, or are `sent` by a client, or are with Xet and nothing but their sha256 is `known`.
    """

    path: Path
    sent: bytes | None = None
    known: str | None = None

    @property
    def lfs(self) -> bool:
        return self.path.suffix in LFS_SUFFIXES

    @cached_property
    def content(self) -> bytes:
        return self.path.read_bytes() if self.sent is None else self.sent

    @cached_property
    def blob_id(self) -> str:
        """What git calls the file; for an LFS file, what git calls the pointer to it."""
        content = self.pointer if self.lfs else self.content
        return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()

    @cached_property
    def sha256(self) -> str:
        return self.known or hashlib.sha256(self.content).hexdigest()

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
    private: bool = False
    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)

    def commit(self, revision: str) -> str | None:
        """The commit a branch, tag or commit name stands for."""
        return self.references.get(revision, revision if revision in self.commits else None)

    @property
    def files(self) -> dict[str, bytes]:
        """What the main branch holds."""
        return {name: file.content for name, file in self.commits[self.references[MAIN]].items()}

    def add(self, files: dict[str, File], revision: str) -> str:
        """Make a commit of its own from files, the new end of a branch; returns its name."""
        tree = [self.id, *(f"{name} {file.etag}" for name, file in files.items())]
        commit = hashlib.sha1("\n".join(tree).encode()).hexdigest()
        self.commits[commit] = files
        self.references[revision] = commit
        return commit


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
    """A response; `file` names the (kind, repository, path) whose contents it carries.

    Of `promised` bytes no more than `body` come before the connection ends.
    """

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    file: tuple[str, str, str] | None = None
    promised: int | None = None


@dataclass(frozen=True)
class Exchange:
    """One request as the hub's log has it."""

    method: str
    address: str
    status: int
    file: tuple[str, str, str] | None


class Refusal(Exception):
    """An error in the hub's manner."""

    def __init__(self, status: int, code: str | None, message: str, commit: str | None = None) -> None:
        super().__init__(message)
        headers = {"X-Error-Message": message, "X-Error-Code": code, "X-Repo-Commit": commit}
        given = {name: value for name, value in headers.items() if value}
        self.answer = Answer(status, given, json.dumps({"error": message}).encode())


class Cut(Exception):
    """The connection ends without an answer; the log has it with status 0."""


@dataclass
class Fault:
    """What goes wrong: a request like `request` ("POST /api/repos/create", a pattern) gets this answer so many `times`.

    None for an answer is a connection that ends without one. It takes `seconds` until then.
    """

    request: str
    answer: Answer | None
    times: float = math.inf
    seconds: float = 0


class Hub:
    """The server: runs within its `with` block, at `endpoint`, for whoever is given `environment`.

    `log` holds every request in the order of the answers. `token` opens the gated repositories; who has it is `user`,
    and may write to what is under this name. New repositories are of `visibility` unless the client asks for another.
    Requests go wrong as `faults` say. `xet` is the address of Xet's service, where clients are to use that.
    """

    token = "hf_open_sesame"
    user = "someone"

    def __init__(self) -> None:
        self.log: list[Exchange] = []
        self.faults: list[Fault] = []
        self.visibility = "public"
        self.xet: str | None = None
        self._objects: dict[tuple[str, str], bytes] = {}  # LFS files that were uploaded, by repository and sha256
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
            "HUGGING_FACE_HUB_TOKEN": "",
            "HF_HUB_DISABLE_XET": "0" if self.xet else "1",
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
        if alias:
            self._aliases[kind, alias] = id
        return repository.add(files, revision)

    def clear(self) -> None:
        """Forget all that was published, pushed and asked for, and what is to go wrong."""
        for held in (self.log, self.faults, self._objects, self._repositories, self._aliases):
            held.clear()

    def repository(self, id: str, kind: str = "models") -> Repository | None:
        """The repository of this name, where there is one."""
        return self._repositories.get((kind, id))

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
            answer = self._fault(asked) or self._route(asked)
        except Refusal as refusal:
            answer = refusal.answer
        except Cut:
            self.log.append(Exchange(asked.method, asked.address, 0, None))
            raise
        self.log.append(Exchange(asked.method, asked.address, answer.status, answer.file))
        return answer

    def _fault(self, asked: Asked) -> Answer | None:
        """The wrong answer to a request, where `faults` has one."""
        for fault in self.faults:
            if fault.times > 0 and re.fullmatch(fault.request, f"{asked.method} {asked.address}"):
                fault.times -= 1
                time.sleep(fault.seconds)
                if fault.answer is None:
                    raise Cut
                return fault.answer
        return None

    def _route(self, asked: Asked) -> Answer:
        path = urlsplit(asked.address).path
        if path.startswith("/api/") and asked.headers.get("authorization", self._key) != self._key:
            raise Refusal(401, None, "Invalid credentials in Authorization header")
        for pattern, handle in _ROUTES:
            if match := re.fullmatch(pattern, path):
                parts = {name: unquote(part) for name, part in match.groupdict().items() if part is not None}
                parts.setdefault("kind", "models")
                if (moved := self._aliases.get((parts["kind"], parts.get("id", "")))) is not None:
                    return Answer(307, {"Location": asked.address.replace(parts["id"], quote(moved), 1)})
                return handle(self, Asked(asked.method, asked.address, asked.headers, asked.body, parts))
        raise Refusal(404, "NotFound", f"Nothing at {path}")

    def _file(self, asked: Asked) -> Answer:
        """`/{id}/resolve/{revision}/{path}`: the contents, or for LFS the way to them."""
        repository, commit, files = self._found(asked)
        if repository.gated and asked.headers.get("authorization") != self._key:
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
                "private": repository.private,
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

    def _create(self, asked: Asked) -> Answer:
        """`/api/repos/create`."""
        wanted = json.loads(asked.body)
        kind, id = f"{wanted.get('type', 'model')}s", f"{wanted['organization'] or self.user}/{wanted['name']}"
        self._check_author(asked, id)
        address = {"url": f"{self.endpoint}/{'' if kind == 'models' else f'{kind}/'}{id}"}
        if (kind, id) in self._repositories:
            return _json({"error": f"You already created this {kind[:-1]} repo"} | address, 409)
        repository = Repository(kind, id, private=wanted.get("visibility", self.visibility) == "private")
        lines = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in sorted(LFS_SUFFIXES))
        repository.add({".gitattributes": File(Path(".gitattributes"), lines.encode())}, MAIN)
        self._repositories[kind, id] = repository
        return _json(address)

    def _validate_card(self, asked: Asked) -> Answer:
        """`/api/validate-yaml`: what the hub thinks of a card's first lines."""
        found = re.match(r"---\n(.*?)\n---\n", json.loads(asked.body)["content"], re.DOTALL)
        if not found:
            return _json({"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]})
        base = yaml.safe_load(found[1]).get("base_model", "a/b")
        if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", base):
            return _json({"errors": [], "warnings": []})
        message = f'"base_model" with value "{base}" is not valid. Use a model id from https://hf.co/models.'
        return _json({"error": message, "errors": [{"message": message}], "warnings": []}, 400)

    def _before_upload(self, asked: Asked) -> Answer:
        """`/api/models/{id}/preupload/{revision}`: how each file is to be sent, and what is there under its name."""
        _, files = self._to_write(asked)
        told = []
        for name in (file["path"] for file in json.loads(asked.body)["files"]):
            mode = "lfs" if File(Path(name)).lfs else "regular"
            known = {"oid": files[name].etag} if name in files else {}
            told.append({"path": name, "uploadMode": mode, "shouldIgnore": False} | known)
        return _json({"files": told})

    def _batch(self, asked: Asked) -> Answer:
        """`/{id}.git/info/lfs/objects/batch`: where to send the LFS files that are not there yet."""
        self._to_write(asked)
        told = []
        for wanted in json.loads(asked.body)["objects"]:
            id, place = asked.parts["id"], f"http://localhost:{self._server.server_port}/store"
            upload = {"href": f"{place}/{id}/{wanted['oid']}"}
            verify = {"href": f"{self.endpoint}/{id}.git/info/lfs/objects/verify"}
            missing = (id, wanted["oid"]) not in self._objects
            told.append(wanted | ({"actions": {"upload": upload, "verify": verify}} if missing else {}))
        return _json({"transfer": "basic", "objects": told})

    def _store(self, asked: Asked) -> Answer:
        """Where LFS files are sent: another host, that wants no token but the right contents."""
        sha256 = asked.parts["sha256"]
        if "authorization" in asked.headers or hashlib.sha256(asked.body).hexdigest() != sha256:
            raise Refusal(400, None, "BadDigest, or more than one way to say who you are")
        self._objects[asked.parts["id"], sha256] = asked.body
        return Answer(200)

    def _verify(self, asked: Asked) -> Answer:
        """`/{id}.git/info/lfs/objects/verify`: whether an LFS file came."""
        self._to_write(asked)
        wanted = json.loads(asked.body)
        if len(self._objects.get((asked.parts["id"], wanted["oid"]), b"")) != wanted["size"]:
            raise Refusal(404, None, "No such object")
        return _json({})

    def _commit(self, asked: Asked) -> Answer:
        """`/api/models/{id}/commit/{revision}`: one JSON document a line, what the commit is and what changes."""
        repository, files = self._to_write(asked)
        _, *changes = map(json.loads, asked.body.splitlines())
        for change in changes:
            key, value = change["key"], change["value"]
            name = Path(value["path"])
            if key == "file":
                files[value["path"]] = File(name, base64.b64decode(value["content"]))
            elif key == "lfsFile" and ((repository.id, value["oid"]) in self._objects or self.xet):
                files[value["path"]] = File(name, self._objects.get((repository.id, value["oid"])), value["oid"])
            elif key in ("deletedFile", "deletedFolder"):
                gone = [file for file in files if Path(file).is_relative_to(name)]
                files = {file: files[file] for file in files if file not in gone}
            else:
                raise Refusal(400, None, f"There is no {key} {value} to commit")
        commit = repository.add(files, asked.parts["revision"])
        return _json(
            {"success": True, "commitOid": commit, "commitUrl": f"{self.endpoint}/{repository.id}/commit/{commit}"}
        )

    def _xet_token(self, asked: Asked) -> Answer:
        """`/api/models/{id}/xet-write-token/{revision}`: where Xet's service is."""
        self._to_write(asked)
        return _json({"casUrl": self.xet, "accessToken": "xet", "exp": int(time.time()) + 3600})

    @property
    def _key(self) -> str:
        """What a request carries that comes from the user."""
        return f"Bearer {self.token}"

    def _check_author(self, asked: Asked, id: str) -> None:
        if asked.headers.get("authorization") != self._key:
            raise Refusal(401, None, "Invalid username or password.")
        if (space := id.partition("/")[0]) != self.user:
            raise Refusal(403, None, f'You don\'t have the rights to write under the namespace "{space}"')

    def _to_write(self, asked: Asked) -> tuple[Repository, dict[str, File]]:
        """The repository a client wants to change, and the files to start from."""
        repository, _, files = self._found(asked)
        self._check_author(asked, repository.id)
        return repository, dict(files)

    def _found(self, asked: Asked) -> tuple[Repository, str, dict[str, File]]:
        """The repository, commit and files a request is about."""
        repository = self._repositories.get((asked.parts["kind"], asked.parts["id"]))
        if repository is None or (repository.private and asked.headers.get("authorization") != self._key):
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
_LFS = rf"/{_ID}\.git/info/lfs/objects"
_ROUTES: tuple[tuple[str, Callable[[Hub, Asked], Answer]], ...] = (
    (r"/api/repos/create", Hub._create),
    (r"/api/validate-yaml", Hub._validate_card),
    (rf"{_API}/preupload/(?P<revision>[^/]+)", Hub._before_upload),
    (rf"{_API}/commit/(?P<revision>[^/]+)", Hub._commit),
    (rf"{_API}/xet-write-token/(?P<revision>[^/]+)", Hub._xet_token),
    (rf"{_LFS}/batch", Hub._batch),
    (rf"{_LFS}/verify", Hub._verify),
    (rf"/store/{_ID}/(?P<sha256>[0-9a-f]{{64}})", Hub._store),
    (rf"/stored/(?P<kind>models|datasets)/{_ID}/(?P<revision>[0-9a-f]{{40}})/(?P<path>.+)", Hub._stored),
    (rf"/(?:(?P<kind>datasets)/)?{_ID}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", Hub._file),
    (rf"{_API}/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?", Hub._tree),
    (rf"{_API}/paths-info/(?P<revision>[^/]+)", Hub._paths_info),
    (rf"{_API}(?:/revision/(?P<revision>[^/]+))?", Hub._about),
)


def _json(value: Any, status: int = 200) -> Answer:
    return Answer(status, {"Content-Type": "application/json"}, json.dumps(value).encode())


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
        try:
            answer = self.server.hub.answer(Asked(self.command, self.path, headers, body))
        except Cut:
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(answer.promised or len(answer.body)))
        self.end_headers()
        self.close_connection = bool(answer.promised) or self.close_connection
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_HEAD = do_POST = do_PUT = do_GET

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing: the hub keeps a log of its own."""
