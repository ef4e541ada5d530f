"""A small hub on the loopback interface: the few addresses that the real client asks for, and ways
to break them.
"""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

TOKEN = "-".join(["a", "token", "that", "opens", "what", "is", "gated"])
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Serves folders as repositories; `repositories` maps (kind, id) to a folder, `gated` names ids
    that want a token.
    """

    def __init__(self):
        self.repositories: dict[tuple[str, str], Path] = {}
        self.gated: set[str] = set()
        self.cut: dict[str, int] = {}  # file name -> how many transfers of it break off half way
        self.damaged: set[str] = set()  # files that arrive with other bytes
        self.unknown: int | None = None  # what a proxy answers that passes on revisions and files only
        self.asked: list[tuple[str, str, str | None]] = []  # method, path, range
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                hub._answer(self)

            def do_HEAD(self):
                hub._answer(self)

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request):
        path = unquote(urlsplit(request.path).path)
        self.asked.append((request.command, path, request.headers.get("Range")))
        api = re.fullmatch(r"/api/(model|dataset)s/([^/]+/[^/]+)(?:/(.*))?", path)
        file = re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if self.unknown and not (file or (api and (api[3] or "").startswith("revision/"))):
            return self._error(request, self.unknown, "")
        kind = api[1] if api else "dataset" if file and file[1] else "model"
        name = (api or file)[2] if api or file else ""
        folder = self.repositories.get((kind, name))
        if folder is None:
            return self._error(request, 404, "RepoNotFound")
        if (
            name in self.gated
            and request.headers.get("Authorization") != f"Bearer {TOKEN}"
            and (file or api[3] == "auth-check")
        ):
            return self._error(request, 403, "GatedRepo")
        revision = (
            file[3] if file else (re.fullmatch(r"(?:revision|tree)/([^/]+).*", api[3] or "") or [None, "main"])[1]
        )
        if revision not in ("main", COMMIT) and (api is None or api[3] != "auth-check"):
            return self._error(request, 404, "RevisionNotFound")
        if api:
            return self._json(request, self._api(folder, name, api[3] or ""))
        return self._file(request, folder / file[4])

    def _api(self, folder, name, rest):
        files = sorted(p for p in folder.rglob("*") if p.is_file())
        facts = [self._facts(p, p.relative_to(folder).as_posix()) for p in files]
        if rest.startswith("tree/"):
            trees = [{"type": "file", "path": f["rfilename"], "oid": f["blobId"], "size": f["size"]} for f in facts]
            large = [{"lfs": {**f["lfs"], "oid": f["lfs"]["sha256"]}} if f["lfs"] else {} for f in facts]
            return [tree | lfs for tree, lfs in zip(trees, large, strict=True)]
        if rest == "auth-check":
            return {}
        return {
            "_id": "0" * 24,
            "id": name,
            "sha": COMMIT,
            "private": False,
            "siblings": facts,
            "tags": [],
            "downloads": 0,
        }

    def _facts(self, path, name):
        data = path.read_bytes()
        checksum = hashlib.sha256(data).hexdigest()
        lfs = (
            {"size": len(data), "sha256": checksum, "pointerSize": 100}
            if path.suffix in (".safetensors", ".parquet")
            else None
        )
        return {"rfilename": name, "size": len(data), "blobId": hashlib.sha1(data).hexdigest(), "lfs": lfs}  # noqa: S324

    def _file(self, request, path):
        if not path.is_file():
            return self._error(request, 404, "EntryNotFound")
        data = path.read_bytes()
        etag = hashlib.sha256(data).hexdigest()
        if path.name in self.damaged:
            data = data[:-1] + bytes([data[-1] ^ 1])
        start = int((re.match(r"bytes=(\d+)-", request.headers.get("Range") or "") or [0, 0])[1])
        body = data[start:]
        request.send_response(206 if request.headers.get("Range") else 200)
        request.send_header("Content-Length", str(len(body)))
        request.send_header("X-Repo-Commit", COMMIT)
        request.send_header("ETag", f'"{etag}"')
        request.send_header("Accept-Ranges", "bytes")
        if request.headers.get("Range"):
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        request.end_headers()
        if request.command == "HEAD":
            return None
        if self.cut.get(path.name, 0) > 0:
            self.cut[path.name] -= 1
            request.wfile.write(body[: len(body) // 2])
            request.wfile.flush()
            request.close_connection = True
            return request.connection.shutdown(2)
        return request.wfile.write(body)

    def _json(self, request, value):
        body = json.dumps(value).encode()
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)

    def _error(self, request, status, code):
        request.send_response(status)
        request.send_header("X-Error-Code", code)
        request.send_header("Content-Length", "0")
        request.end_headers()
