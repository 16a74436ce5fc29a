"""A loopback server that answers like the two hubs, for their real clients.

The hubs themselves cannot be reached from a test. What is answered here follows the clients that
are installed (huggingface_hub 1.33, modelscope_hub 0.5): paths, headers and fields that they read.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What the server holds and has seen.

    Attributes:
        repositories: "models/owner/name" or "datasets/owner/name" -> folder with its files.
        token: What a client must show; "" lets everybody in.
        damaged: Files that are sent with other bytes than listed.
        cut: Files whose transfer ends half way, so many times.
        url: Where it listens.
        sent: Files whose content was sent, in order.
        ranges: Range headers that came.
    """

    repositories: dict[str, Path]
    token: str = ""
    damaged: set[str] = field(default_factory=set)
    cut: dict[str, int] = field(default_factory=dict)
    url: str = ""
    sent: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)


def names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def git_sha1(path: Path) -> str:
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """One request of a client."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def log_message(self, *_: Any) -> None:
        """Nothing on standard error."""

    def answer(self, *, body: bool) -> None:
        self.hub.log.append(f"{self.command} {self.path}")
        if self.hub.token and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self.json({"error": "no"}, status=401)
            return
        url = urlsplit(self.path)
        path, query = unquote(url.path), parse_qs(url.query)
        for pattern, method in ROUTES:
            match = re.fullmatch(pattern, path)
            if match:
                method(self, match, query, body)
                return
        self.json({"error": "no such page", "Code": 404, "Message": "no", "Success": False}, 404)

    def folder(self, kind: str, name: str) -> Path | None:
        found = self.hub.repositories.get(f"{kind}/{name}")
        if found is None:
            self.json({"error": "Repository not found", "Code": 10010205001}, 404)
        return found

    # Hugging Face: source huggingface_hub/hf_api.py and file_download.py of 1.33.

    def hf_info(self, match: re.Match[str], _query: dict[str, list[str]], _body: bool) -> None:
        folder = self.folder(match["kind"], match["name"])
        if folder is None:
            return
        siblings = []
        for name in names(folder):
            path = folder / name
            entry: dict[str, Any] = {
                "rfilename": name,
                "size": path.stat().st_size,
                "blobId": git_sha1(path),
            }
            if name.endswith(".safetensors"):
                entry["lfs"] = {"sha256": sha256(path), "size": entry["size"], "pointerSize": 134}
            siblings.append(entry)
        self.json({"id": match["name"], "sha": COMMIT, "siblings": siblings, "private": False})

    def hf_tree(self, match: re.Match[str], _query: dict[str, list[str]], _body: bool) -> None:
        folder = self.folder(match["kind"], match["name"])
        if folder is None:
            return
        entries = []
        for name in names(folder):
            path = folder / name
            entry: dict[str, Any] = {
                "type": "file",
                "path": name,
                "size": path.stat().st_size,
                "oid": git_sha1(path),
            }
            if name.endswith(".safetensors"):
                entry["lfs"] = {"oid": sha256(path), "size": entry["size"], "pointerSize": 134}
            entries.append(entry)
        self.json(entries)

    def hf_file(self, match: re.Match[str], _query: dict[str, list[str]], body: bool) -> None:
        kind = "datasets" if match["prefix"] else "models"
        folder = self.folder(kind, match["name"])
        if folder is not None:
            path = folder / match["file"]
            tag = sha256(path) if path.suffix == ".safetensors" else git_sha1(path)
            self.file(folder, match["file"], body, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT})

    # ModelScope: source modelscope_hub/_legacy_api.py of 0.5.

    def ms_files(self, match: re.Match[str], query: dict[str, list[str]], _body: bool) -> None:
        folder = self.folder(match["kind"], match["name"])
        if folder is None:
            return
        files = []
        if query.get("PageNumber", ["1"]) == ["1"]:
            files = [
                {
                    "Path": name,
                    "Name": Path(name).name,
                    "Type": "blob",
                    "Size": (folder / name).stat().st_size,
                    "Sha256": sha256(folder / name),
                }
                for name in names(folder)
            ]
        self.json({"Code": 200, "Success": True, "Message": "", "Data": {"Files": files}})

    def ms_file(self, match: re.Match[str], query: dict[str, list[str]], body: bool) -> None:
        folder = self.folder(match["kind"], match["name"])
        if folder is not None:
            self.file(folder, query["FilePath"][0], body, {})

    # Both.

    def file(self, folder: Path, name: str, body: bool, headers: dict[str, str]) -> None:
        data = (folder / name).read_bytes()
        if name in self.hub.damaged:
            data = bytes(len(data))
        begin, status = 0, 200
        if self.headers.get("Range"):
            self.hub.ranges.append(self.headers["Range"])
            begin = int(re.findall(r"\d+", self.headers["Range"])[0])
            status = 206
        part = data[begin:]
        self.send_response(status)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Accept-Ranges", "bytes")
        if status == 206:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if not body:
            return
        if self.hub.cut.get(name, 0):
            self.hub.cut[name] -= 1
            self.wfile.write(part[: len(part) // 2])
            self.close_connection = True
            return
        self.hub.sent.append(name)
        self.wfile.write(part)

    def json(self, data: Any, status: int = 200) -> None:
        text = json.dumps(data).encode()
        self.send_response(status)
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)


NAME = r"(?P<name>[^/]+/[^/]+)"
KIND = r"(?P<kind>models|datasets)"
ROUTES = (
    (rf"/api/{KIND}/{NAME}(/revision/.+)?", Handler.hf_info),
    (rf"/api/{KIND}/{NAME}/tree/.+", Handler.hf_tree),
    (rf"/(?P<prefix>datasets/)?{NAME}/resolve/[^/]+/(?P<file>.+)", Handler.hf_file),
    (rf"/api/v1/{KIND}/{NAME}/repo/(files|tree)", Handler.ms_files),
    (rf"/api/v1/{KIND}/{NAME}/repo", Handler.ms_file),
)


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve ``hub`` on a free loopback port."""
    handler = type("HubHandler", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
