"""A compose stack of its own: ports, volumes and passwords that no other has."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from ops.stack import free_port
from tests.docs.pages import blocks, commands
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
PROJECT = "transcription-test"
FLOWER_USER = "operator"


@dataclass
class ComposeStack:
    folder: Path
    file: str = "compose.cpu.yaml"
    port: int = field(default_factory=free_port)
    flower_port: int = field(default_factory=free_port)
    password: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    further: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)  # opens nothing yet
        settings = {
            "REDIS_PASSWORD": self.password,
            "FLOWER_BASIC_AUTH": f"{FLOWER_USER}:{self.password}",
            "ALLOW_ANONYMOUS": "true",
            "GATEWAY_PORT": self.port,
            "FLOWER_PORT": self.flower_port,
            **self.further,
        }
        self.settings_file = self.folder / "settings.env"
        self.settings_file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))

    def compose(self, *arguments: str, check: bool = True, timeout_s: float = 600) -> str:
        """What ``docker compose`` prints."""
        settings = ["-p", PROJECT, "--env-file", str(self.settings_file), "-f", self.file]
        done = subprocess.run(
            ["docker", "compose", *settings, *arguments],
            cwd=ROOT,
            # The services read this file, too, instead of a .env that may lie there.
            env={**os.environ, "SERVICE_ENV_FILE": str(self.settings_file)},
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stderr[-1500:]}"
        return done.stdout

    def run_documented(self, section: str, folder: Path) -> None:
        """The commands of this section of docs/operations.md, on this stack, in ``folder``."""
        settings = {
            "COMPOSE_FILE": str(ROOT / self.file),
            "COMPOSE_PROJECT_NAME": PROJECT,
            "COMPOSE_ENV_FILES": str(self.settings_file),
            "SERVICE_ENV_FILE": str(self.settings_file),
        }
        shown = [block for block in blocks("docs/operations.md") if block.section == section]
        texts = [command.text for block in shown for command in commands(block)]
        assert texts
        for text in texts:
            argv = ["bash", "-e", "-o", "pipefail", "-c", text.replace("transcription_", f"{PROJECT}_")]
            done = subprocess.run(
                argv, cwd=folder, env={**os.environ, **settings}, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{text}: {done.stderr[-1500:]}"

    def python(self, service: str, code: str, *, check: bool = True) -> str:
        """What a line of Python prints in the service's container."""
        return self.compose("exec", "-T", service, "python", "-c", code, check=check).strip()

    def submit(self, recording: Path) -> str:
        with recording.open("rb") as file:
            answer = self.http.post("/transcribe", files={"file": (recording.name, file, "audio/wav")})
        assert answer.status_code == httpx.codes.ACCEPTED, answer.text
        return str(answer.json()["task_id"])

    def status(self, task_id: str) -> dict[str, Any]:
        return dict(self.http.get(f"/status/{task_id}").json())

    def fraction(self, task_id: str) -> float:
        return float((self.status(task_id)["progress"] or {"fraction": 0})["fraction"])

    def wait_for(self, task_id: str, status: str, timeout_s: float = 300) -> dict[str, Any]:
        def reached() -> Any:
            try:
                found = self.status(task_id)
            except httpx.TransportError:
                return None
            return found if found.get("status") == status else None

        return dict(wait_until(reached, timeout_s, f"job {task_id} to be {status}"))

    def flower(self, path: str, *, user: str = FLOWER_USER) -> httpx.Response:
        url = f"http://127.0.0.1:{self.flower_port}{path}"
        return httpx.get(url, auth=(user, self.password), timeout=30)

    def left_over(self) -> list[str]:
        """Containers, volumes and networks of the project."""
        label = f"label=com.docker.compose.project={PROJECT}"
        found: list[str] = []
        for listing in (["ps", "-aq"], ["volume", "ls", "-q"], ["network", "ls", "-q"]):
            command = ["docker", *listing, "--filter", label]
            found += subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        return found

    def services(self) -> list[dict[str, Any]]:
        lines = self.compose("ps", "--format", "json").splitlines()
        return [json.loads(line) for line in lines]
