from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from trainer.config import Config
from trainer.trackers import RunContext
from trainer.trackers.records import EvaluationRecord, StepRecord

LOOP = Path(__file__).with_name("fake_loop.py")
KEY = "0123456789abcdef0123456789abcdef01234567"  # of the right form, of no account
ROOT = Path(__file__).parents[3]


@pytest.fixture
def make_step() -> Callable[..., StepRecord]:
    def make(step: int, **changes: Any) -> StepRecord:
        fields: dict[str, Any] = {
            "step": step,
            "samples": step * 4,
            "tokens": step * 1000,
            "targets": 990,
            "flop": step * 1e9,
            "loss": 8.0 / step,
            "grad_norm": 1.0,
            "lr": 1e-3,
            "tokens_per_second": 2000.0,
            "flop_per_second": 2e9,
            "mfu": None,
            "peak_flop_per_second": None,
            "memory_peak_bytes": 2**30,
            "seconds": {"data": 0.1, "forward_backward": 0.3, "optimizer": 0.1, "other": 0.0},
            "wall_seconds": 0.5 * step,
        }
        return StepRecord(**{**fields, **changes})

    return make


@pytest.fixture
def make_evaluation() -> Callable[..., EvaluationRecord]:
    def make(step: int, **changes: Any) -> EvaluationRecord:
        fields: dict[str, Any] = {
            "step": step,
            "tokens": step * 1000,
            "loss": 4.0,
            "bits_per_byte": 2.25,
            "unigram_bits_per_byte": 3.0,
            "targets": 500,
            "seconds": 0.2,
        }
        return EvaluationRecord(**{**fields, **changes})

    return make


@pytest.fixture
def make_context(tmp_path: Path) -> Callable[..., RunContext]:
    def make(**changes: Any) -> RunContext:
        tracker = changes.pop("tracker", {})
        steps = changes.pop("total_steps", 20)
        config = Config.model_validate({"tracker": tracker, "budget": {"steps": 1000}})
        fields: dict[str, Any] = {
            "config": config,
            "run": tmp_path,
            "total_steps": steps,
            "parameters": 4_200_000,
            "world_size": 1,
        }
        return RunContext(**{**fields, **changes})

    return make


class WandbServer:
    """Stands in for a W&B server on loopback: enough GraphQL, file stream and file upload for the real client.

    `log` holds every request as (method, path, headers, body); `history` the rows received, by run.
    """

    def __init__(self) -> None:
        self.log: list[tuple[str, str, dict[str, str], str]] = []
        self.history: dict[str, list[dict[str, Any]]] = {}
        self.configs: list[dict[str, Any]] = []
        self.exit_codes: list[int] = []
        self.upserts: list[dict[str, Any]] = []  # what the client says of a run: its project, group, name ...
        self.hang = threading.Event()  # when set, GraphQL and the file stream no longer answer
        self.dead = False
        self.last_words = False  # when set, the first rows of a run are the last thing that it takes
        self.refuse = False  # answer every GraphQL request with 401
        standin = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments: Any) -> None:
                pass

            def reply(self, status: int, body: Any) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                if standin.dead:
                    self.close_connection = True
                    return None
                text = body.decode(errors="replace")
                standin.log.append((self.command, self.path, dict(self.headers), text))
                if self.command == "GET":
                    return self.reply(404, {})
                if standin.hang.is_set():
                    while standin.hang.is_set():
                        time.sleep(0.05)
                    self.close_connection = True
                    return None
                if standin.refuse:
                    return self.reply(401, {"errors": [{"message": "invalid API key"}]})
                if self.path.endswith("/graphql"):
                    return self.reply(200, {"data": standin.graphql(json.loads(text))})
                if self.path.endswith("/file_stream"):
                    standin.stream(self.path.split("/")[-2], json.loads(text))
                if standin.dead:
                    self.close_connection = True
                    return None
                return self.reply(200, {})

            do_GET = do_POST = do_PUT = handle_any

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, address: Any) -> None:
                """A client that breaks the connection is no news."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def graphql(self, request: dict[str, Any]) -> dict[str, Any]:
        query, variables = request["query"], request.get("variables") or {}
        operation = re.search(r"(?:query|mutation)\s+(\w+)", query)[1]  # type: ignore[index]
        project = {"id": "p", "name": "isoflop", "entity": {"id": "e", "name": "tester"}}
        if operation == "Viewer":
            viewer = {"id": "v", "entity": "tester", "username": "tester", "flags": "{}", "teams": {"edges": []}}
            return {"viewer": viewer}
        if operation == "ServerFeaturesQuery":
            return {"serverInfo": {"features": []}}
        if operation == "RunResumeStatus":
            rows = self.history.get(variables["name"])
            if rows is None:
                return {"model": {"id": "m", "name": "isoflop", "bucket": None}}
            bucket = {
                "id": "b",
                "name": variables["name"],
                "historyLineCount": len(rows),
                "eventsLineCount": 0,
                "logLineCount": 0,
                "historyTail": json.dumps([json.dumps(row) for row in rows[-1:]]),
                "eventsTail": "[]",
                "summaryMetrics": json.dumps(rows[-1] if rows else {}),
                "config": "{}",
                "wandbConfig": json.dumps({"t": 1}),
                "tags": [],
                "historyKeys": None,
            }
            return {"model": {"id": "m", "name": "isoflop", "entity": {"id": "e", "name": "tester"}, "bucket": bucket}}
        if operation == "UpsertBucket":
            self.upserts.append(variables)
            if variables.get("config"):
                self.configs.append(json.loads(variables["config"]))
            bucket = {
                "id": "b",
                "name": variables["name"],
                "displayName": variables.get("displayName"),
                "description": "",
                "config": variables.get("config"),
                "sweepName": None,
                "project": project,
                "historyLineCount": 0,
            }
            return {"upsertBucket": {"bucket": bucket, "inserted": variables["name"] not in self.history}}
        if operation == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in variables["files"]]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        return {}

    def stream(self, run: str, body: dict[str, Any]) -> None:
        rows = self.history.setdefault(run, [])
        part = body.get("files", {}).get("wandb-history.jsonl")
        if part:
            rows[part["offset"] :] = [json.loads(line) for line in part["content"]]
            self.dead = self.dead or self.last_words
        if body.get("complete"):
            self.exit_codes.append(body.get("exitcode"))

    def die(self) -> None:
        """No longer there: open connections break, new ones are refused."""
        self.dead = True
        self._server.shutdown()
        self._server.server_close()

    def close(self) -> None:
        self.hang.clear()
        self.die()


@pytest.fixture
def wandb_server() -> Iterator[WandbServer]:
    server = WandbServer()
    yield server
    server.close()


@pytest.fixture
def run(tmp_path) -> Path:
    folder = tmp_path / "runs" / "experiment" / "run-1"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def loop(tmp_path, run) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the fake loop as a process of its own, with no W&B settings but those given."""

    def start(*arguments: str, url: str | None = None, key: str | None = KEY, **environment: str):
        env = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
        env |= {"HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc"), "no_proxy": "127.0.0.1"}
        env["PYTHONPATH"] = str(ROOT)
        env |= {"WANDB_BASE_URL": url} if url else {}
        env |= {"WANDB_API_KEY": key} if key else {}
        command = [sys.executable, str(LOOP), str(run), *arguments]
        done = subprocess.run(command, env=env | environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert KEY not in done.stdout + done.stderr
        return done

    return start
