"""A language model's server on loopback: OpenAI's API and Ollama's, real HTTP, misbehaving to order."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import numpy as np

SLOW_S = 0.2
ERROR_TEXT = "Error: Could not generate LLM output for topic 0"


@dataclass
class Asked:
    path: str
    authorization: str
    body: dict[str, Any]

    @property
    def prompt(self) -> str:
        return str(self.body["messages"][-1]["content"])

    @property
    def wants_json(self) -> bool:
        return bool(self.body.get("format") or self.body.get("response_format"))


@dataclass
class LlmServer:
    """``mood`` says how it answers; it may be changed at any time:

    fine, error (500), unauthorized (401), gone (404: no such model), slow (SLOW_S), hang (until the mood
    changes), think (thoughts before the answer), garbage (no JSON, no text), invented (names nobody said),
    shouting (a headline in Markdown over several lines), error_text (mst's own error as an answer), empty.
    """

    mood: str = "fine"
    mood_of_embeddings: str = "fine"
    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    _server: ThreadingHTTPServer | None = None

    def start(self) -> LlmServer:
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = _Server(("127.0.0.1", self.port), handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Nobody listens on the port any more."""
        self.mood = self.mood_of_embeddings = "fine"
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def openai_url(self) -> str:
        return f"{self.url}/v1"

    def count(self, path_end: str) -> int:
        return sum(one.path.endswith(path_end) for one in self.asked)

    def chats(self) -> list[Asked]:
        return [one for one in self.asked if one.path.endswith(("/chat/completions", "/api/chat"))]


class _Server(ThreadingHTTPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no news."""


class _Handler(BaseHTTPRequestHandler):
    owner: ClassVar[LlmServer]
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self.owner.asked.append(Asked(self.path, self.headers.get("Authorization", ""), {}))
        models = [{"id": "glm-4.7-flash", "name": "glm-4.7-flash"}]
        self._answer(self.owner.mood, {"data": models, "models": models})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asked = Asked(self.path, self.headers.get("Authorization", ""), body)
        self.owner.asked.append(asked)
        if self.path.endswith(("/embeddings", "/api/embed")):
            self._answer(self.owner.mood_of_embeddings, _embedded(body["input"]))
        else:
            self._answer(self.owner.mood, _said(asked, self.owner.mood))

    def _answer(self, mood: str, answer: dict[str, Any]) -> None:
        while mood == "hang" and "hang" in (self.owner.mood, self.owner.mood_of_embeddings):
            time.sleep(0.02)
        if mood == "slow":
            time.sleep(SLOW_S)
        status = {"error": 500, "unauthorized": 401, "gone": 404}.get(mood, 200)
        content = json.dumps(answer if status == 200 else {"error": {"message": mood}}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _said(asked: Asked, mood: str) -> dict[str, Any]:
    content = _names(asked, mood) if asked.wants_json else _text(asked, mood)
    message = {"role": "assistant", "content": content}
    choices = [{"index": 0, "finish_reason": "stop", "message": message}]
    named = {"id": "1", "object": "chat.completion", "created": 1, "model": str(asked.body["model"])}
    return {**named, "choices": choices, "message": message, "done": True}


def _text(asked: Asked, mood: str) -> str:
    what = "Headline" if "headline" in asked.prompt.lower() else "Summary"
    words = asked.prompt.rpartition("Transcript section:\n")[2].split()
    fine = f"{what}: {' '.join(words[:3])}"
    return {
        "think": f"<think>They want a\n{what.lower()}.</think>\n{fine}",
        "garbage": "",
        "empty": "  \n",
        "error_text": ERROR_TEXT,
        "shouting": f"# **{fine}**\n\nThat is [it](http://x/).\n",
    }.get(mood, fine)


def _names(asked: Asked, mood: str) -> str:
    """The names of the list, each once."""
    listed = [line[2:] for line in asked.prompt.splitlines() if line.startswith("- ")]
    fine = json.dumps({"nouns": sorted({name.strip() for name in listed if name.strip()})})
    return {
        "think": f"<think>Who is who?</think>\n{fine}",
        "garbage": "Certainly! Here are the names: Ann, Bob.",
        "empty": json.dumps({"nouns": []}),
        "invented": json.dumps({"nouns": ["Zaphod Beeblebrox"]}),
    }.get(mood, fine)


def _embedded(texts: Any) -> dict[str, Any]:
    """Texts of the same words are near each other."""
    vectors = [_vector(text) for text in ([texts] if isinstance(texts, str) else texts)]
    data = [{"index": at, "embedding": vector} for at, vector in enumerate(vectors)]
    return {"data": data, "embeddings": vectors, "model": "stub"}


def _vector(text: str) -> list[float]:
    vector = np.full(16, 1e-3)
    for word in text.lower().split():
        vector[sum(word.encode()) % 16] += 1
    return [float(value) for value in vector / np.linalg.norm(vector)]
