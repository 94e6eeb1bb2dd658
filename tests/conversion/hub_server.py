"""A small server that answers as the Hub does for what huggingface_hub's client asks when it loads and publishes.

Repositories live in memory, with branches and commits. Tests read `server.requests` and make it fail on purpose.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from huggingface_hub import constants, hf_api
from transformers.utils import hub as transformers_hub


TOKEN = "hf_test_token"
LICENSES = (None, "apache-2.0", "mit", "cc-by-nc-4.0", "other")  # of the Hub's; a card may state none


@dataclass
class Repository:
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, files: dict[str, bytes], message: str, branch: str = "main") -> str:
        oid = hashlib.sha1(f"{message}{len(self.commits)}".encode()).hexdigest()
        self.commits[oid], self.branches[branch] = files, oid
        self.messages.append(message)
        return oid

    def files(self, revision: str = "main") -> dict[str, bytes]:
        return self.commits[self.branches.get(revision, revision)]


@dataclass
class Request:
    method: str
    path: str
    authorization: str | None


class Refusal(Exception):
    """Status, the Hub's code and message of a request that is refused."""


class HubServer(ThreadingHTTPServer):
    """Use as a context manager; `url` goes into HF_ENDPOINT."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.repositories: dict[str, Repository] = {}
        self.requests: list[Request] = []
        self.gated: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def add(self, repo_id: str, folder: Path, **changes: bytes | None) -> Repository:
        """A repository with the files of a folder; `changes` replace or (None) remove some."""
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()} | changes
        repository = self.repositories[repo_id] = Repository()
        repository.commit({name: content for name, content in files.items() if content is not None}, "first")
        return repository


class HubHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *_):
        """Kept in `server.requests` instead."""

    def answer(self, status: int = 200, body: bytes | dict | list = b"", **headers: str) -> None:
        if not isinstance(body, bytes):
            body, headers = json.dumps(body).encode(), {"Content-Type": "application/json"} | headers
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def serve(self) -> None:
        path, authorization = unquote(urlsplit(self.path).path), self.headers.get("Authorization")
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append(Request(self.command, path, authorization))
        try:
            if self.command == "POST" and path != "/api/validate-yaml" and authorization != f"Bearer {TOKEN}":
                raise Refusal(401, "Unauthorized", "Invalid username or password.")
            for method, pattern, handle in ROUTES:
                if self.command in method and (match := re.fullmatch(pattern, path)):
                    return handle(self, content, **match.groupdict())
            raise Refusal(404, "NotFound", f"hub_server knows no route {self.command} {path}")
        except Refusal as refusal:
            status, code, message = refusal.args
            return self.answer(status, {"error": message}, X_Error_Code=code, X_Error_Message=message)

    do_GET = do_HEAD = do_POST = serve

    def found(self, repo: str, revision: str) -> tuple[Repository, str]:
        repository = self.server.repositories.get(repo)
        if repository is None:
            raise Refusal(404, "RepoNotFound", "Repository not found")
        if repo in self.server.gated:
            raise Refusal(401, "GatedRepo", "Access to this model is restricted")
        return repository, repository.branches.get(revision, revision)

    def get_file(self, _: bytes, repo: str, revision: str, file: str) -> None:
        repository, commit = self.found(repo, revision)
        content = repository.commits[commit].get(file)
        if content is None:
            raise Refusal(404, "EntryNotFound", "Entry not found")
        self.answer(200, content, ETag=f'"{hashlib.sha256(content).hexdigest()}"', X_Repo_Commit=commit)

    def get_info(self, _: bytes, repo: str, revision: str | None = None) -> None:
        repository, commit = self.found(repo, revision or "main")
        files = repository.commits[commit]
        task = _metadata(files.get("README.md", b"").decode()).get("pipeline_tag")
        info = {"id": repo, "modelId": repo, "sha": commit, "private": False, "tags": [], "pipeline_tag": task}
        self.answer(body=info | {"siblings": [{"rfilename": name} for name in files]})

    def get_tree(self, _: bytes, repo: str, revision: str, folder: str | None = None) -> None:
        repository, commit = self.found(repo, revision)
        if folder:
            raise Refusal(404, "EntryNotFound", f"{folder} does not exist")
        entries = [
            {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
            for name, content in repository.commits[commit].items()
        ]
        self.answer(body=entries)

    def create_repository(self, content: bytes) -> None:
        wanted = json.loads(content)
        repo = f"{wanted['organization']}/{wanted['name']}"
        exists = repo in self.server.repositories
        if not exists:
            self.server.repositories[repo] = Repository()
            self.server.repositories[repo].commit({".gitattributes": b"*.safetensors filter=lfs\n"}, "initial commit")
        self.answer(409 if exists else 200, {"url": f"{self.server.url}/{repo}", "error": "You already created it"})

    def create_branch(self, _: bytes, repo: str, branch: str) -> None:
        branches = self.server.repositories[repo].branches
        branches[branch] = branches["main"]
        self.answer(201, {})

    def choose_upload(self, content: bytes, repo: str, revision: str) -> None:
        self.found(repo, revision)
        paths = [file["path"] for file in json.loads(content)["files"]]
        self.answer(body={"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in paths]})

    def commit(self, content: bytes, repo: str, revision: str) -> None:
        repository, parent = self.found(repo, revision)
        files, message = dict(repository.commits[parent]), ""
        for line in content.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "header":
                message = value["summary"]
            elif operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "deletedFile":
                del files[value["path"]]
        oid = repository.commit(files, message, revision)
        self.answer(body={"commitUrl": f"{self.server.url}/{repo}/commit/{oid}", "commitOid": oid})

    def validate_card(self, content: bytes) -> None:
        metadata = _metadata(json.loads(content)["content"])
        known = metadata.get("license") in LICENSES
        errors = [] if known else [{"message": '"license" must be one of [apache-2.0, mit, …]'}]
        self.answer(200 if known else 400, {"errors": errors, "warnings": []})


@contextmanager
def local_hub() -> Iterator[HubServer]:
    """A server that is the Hub of this process, for whoever has the token."""
    with HubServer() as hub, pytest.MonkeyPatch.context() as patch:
        files = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        settings = {"ENDPOINT": hub.url, "HUGGINGFACE_CO_URL_TEMPLATE": files}
        for name, value in (settings | {"HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}).items():
            patch.setattr(constants, name, value)
        patch.setattr(hf_api.api, "endpoint", hub.url)  # of the functions of the package's own client
        patch.setattr(transformers_hub, "_hf_api", None, raising=False)  # transformers keeps one of its first endpoint
        patch.setenv("HF_TOKEN", TOKEN)
        yield hub


def _metadata(card: str) -> dict:
    match = re.match(r"---\n(.*?)\n---\n", card, re.S)
    return (yaml.safe_load(match[1]) or {}) if match else {}


REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"
ROUTES: list[tuple[tuple[str, ...], str, Callable]] = [
    (("GET", "HEAD"), rf"/{REPO}/resolve/(?P<revision>[^/]+)/(?P<file>.+)", HubHandler.get_file),
    (("GET",), rf"/api/models/{REPO}", HubHandler.get_info),
    (("GET",), rf"/api/models/{REPO}/revision/(?P<revision>[^/]+)", HubHandler.get_info),
    (("GET",), rf"/api/models/{REPO}/tree/(?P<revision>[^/]+)(?:/(?P<folder>.+))?", HubHandler.get_tree),
    (("POST",), r"/api/repos/create", HubHandler.create_repository),
    (("POST",), rf"/api/models/{REPO}/branch/(?P<branch>[^/]+)", HubHandler.create_branch),
    (("POST",), rf"/api/models/{REPO}/preupload/(?P<revision>[^/]+)", HubHandler.choose_upload),
    (("POST",), rf"/api/models/{REPO}/commit/(?P<revision>[^/]+)", HubHandler.commit),
    (("POST",), r"/api/validate-yaml", HubHandler.validate_card),
]
