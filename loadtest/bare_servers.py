"""What the gateway is measured against: the least that can be done with the same bytes.

python loadtest/bare_servers.py copy PORT FOLDER      a socket into a file
python loadtest/bare_servers.py handler PORT FOLDER   a FastAPI handler that only saves its file
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import uuid
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, UploadFile

BLOCK_BYTES = 256 * 1024
DONE = b"done"


def serve_copies(port: int, folder: Path) -> None:
    """Each connection into one file, made durable before the answer; the client half-closes at its end."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        while True:
            connection, _ = listener.accept()
            with connection:
                copy(connection, folder / "copy")


def copy(connection: socket.socket, target: Path) -> None:
    block = memoryview(bytearray(BLOCK_BYTES))
    with target.open("wb", buffering=0) as file:
        while size := connection.recv_into(block):
            file.write(block[:size])
        os.fsync(file.fileno())
    connection.sendall(DONE)


def serve_handler(port: int, folder: Path, *, durable: bool = False) -> None:
    app = FastAPI()

    @app.post("/transcribe", status_code=202)
    def save(file: UploadFile) -> dict[str, Any]:
        name = uuid.uuid4().hex
        with (folder / name).open("wb") as target:
            shutil.copyfileobj(file.file, target)
            if durable:
                target.flush()
                os.fsync(target.fileno())
        return {"task_id": name}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    kind, given_port, given_folder = sys.argv[1:]
    servers = {
        "copy": serve_copies,
        "handler": serve_handler,
        "durable": partial(serve_handler, durable=True),
    }
    servers[kind](int(given_port), Path(given_folder))
