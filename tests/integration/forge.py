"""A manifest repository as others use it, and an HTTP server that stands for the cluster."""

import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from ebbtide.adapters.git.gitops import Gitops
from ebbtide.adapters.system.file import GitopsThing, Health

VALUES = "# by hand\nimage: {tag: v0}\nmodel:\n  version: '0'  # the release writes it\n"
FILES = {"apps/values.yaml": {"model.version": "model/demand"}, "apps/extra.yaml": {}}


class Forge:
    """The manifest repository as others use it: bare, and a checkout of somebody else's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bare = root / "manifests.git"
        self.checkout = root / "theirs"
        self.run("init", "-q", "--bare", "-b", "main", str(self.bare))
        self.run("clone", "-q", str(self.bare), str(self.checkout))
        self.commit({"apps/values.yaml": VALUES, "apps/extra.yaml": "a: 1\n", "README": "x\n"})

    def run(self, *words: str, folder: Path | None = None) -> str:
        who = [
            "-c",
            "user.name=A",
            "-c",
            "user.email=a@example.org",
            "-c",
            "init.defaultBranch=main",
        ]
        said = subprocess.run(
            ["git", "-C", str(folder or self.root), *who, *words], check=True, capture_output=True
        )
        return said.stdout.decode().strip()

    def commit(self, files: dict[str, str | None]) -> str:
        """Somebody else's commit on the tip, pushed."""
        if self.run("branch", "-r", folder=self.checkout):
            self.run("pull", "-q", "--rebase", "origin", "main", folder=self.checkout)
        for name, text in files.items():
            path = self.checkout / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text) if text is not None else path.unlink()
        self.run("add", "-A", folder=self.checkout)
        self.run("commit", "-qm", "theirs", folder=self.checkout)
        self.run("push", "-q", "origin", "HEAD:main", folder=self.checkout)
        return self.tip()

    def tip(self) -> str:
        return self.run("rev-parse", "main", folder=self.bare)

    def log(self) -> list[str]:
        return self.run("log", "--format=%H", "main", folder=self.bare).splitlines()

    def text(self, path: str = "apps/values.yaml", commit: str = "main") -> str:
        return self.run("show", f"{commit}:{path}", folder=self.bare)

    def version(self) -> str:
        return str(yaml.safe_load(self.text())["model"]["version"])

    def gitops(self, state: str = "state", **changes: Any) -> Gitops:
        about = {"kind": "gitops", "repository": "manifests.git", "branch": "main", "files": FILES}
        thing = GitopsThing.model_validate(about | changes)
        return Gitops(self.root / state, {"cluster": thing}, lambda path: self.root / path)


class Cluster:
    """An HTTP server that reports what the branch has, as Argo CD would bring it about."""

    def __init__(self, forge: Forge) -> None:
        self.forge = forge
        self.stuck: str | None = None
        self.asked = 0
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                cluster.asked += 1
                version = cluster.stuck or cluster.forge.version()
                body = json.dumps({"app": {"model": version}}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/version"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def health(self, **changes: Any) -> Health:
        about = {
            "url": self.url,
            "file": "apps/values.yaml",
            "key": "model.version",
            "reports": "app.model",
            "within": 3.0,
        }
        return Health.model_validate(about | changes)
