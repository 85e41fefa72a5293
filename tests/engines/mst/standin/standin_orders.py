"""What the stand-in is told to do, and the record of what was asked of it.

``STANDIN_ORDERS`` names a JSON file, read anew at every call, so that a test may change its mind:

    names      {text: label} that GLiNER finds; only whole words
    turns      [[start, end, speaker], ...] that pyannote hears
    missing    models that are not there; ``gated``: models behind terms of use; ``offline``: no hub
    cuda       whether there is a GPU
    at         {call: {"do": deed, "on": [1, 3]}}: what to do at which call of that name (default: each)

``STANDIN_CALLS`` names a file that gets a line for every call, in every process.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

_DEFAULTS: dict[str, Any] = {
    "names": {},
    "turns": [[0.0, 4.0, "SPEAKER_00"], [4.0, 8.0, "SPEAKER_01"], [8.0, 600.0, "SPEAKER_00"]],
    "missing": [],
    "gated": [],
    "offline": False,
    "cuda": False,
    "at": {},
}


class HubError(OSError):
    """As huggingface_hub's errors are: LocalEntryNotFoundError, GatedRepoError, RepositoryNotFoundError."""


def orders() -> dict[str, Any]:
    path = os.environ.get("STANDIN_ORDERS", "")
    return _DEFAULTS | (json.loads(Path(path).read_text()) if path else {})


def say(text: str) -> None:
    """As the original prints."""
    sys.stdout.write(f"{text}\n")


def asked(call: str, **detail: object) -> None:
    """Note the call, then do what was ordered for it."""
    count = _noted(call, detail)
    order = orders()["at"].get(call)
    if order and count in order.get("on", [count]):
        _DEEDS[order["do"]](call)


def load(call: str, model: str) -> None:
    """Note that a model is loaded, from a folder or a hub."""
    asked(call, model=model)
    told = orders()
    if model in told["missing"]:
        raise HubError(f"{model} is not a local folder and is not a valid model identifier")
    if model in told["gated"]:
        raise HubError(f"401 Client Error. Cannot access gated repo for url {model}: access is restricted")
    if told["offline"] and not Path(model).is_dir():
        raise HubError(f"Cannot find {model} in the local cache, and outgoing traffic has been disabled")


def _noted(call: str, detail: dict[str, object]) -> int:
    """How often this call has come by now."""
    path = os.environ.get("STANDIN_CALLS", "")
    if not path:
        return 1
    line = json.dumps({"call": call, **detail}) + "\n"
    with Path(path).open("a+") as file:
        file.write(line)
        file.flush()
        file.seek(0)
        return sum(json.loads(one)["call"] == call for one in file)


def _raise(call: str) -> None:
    raise RuntimeError(f"{call} failed as ordered")


def _out_of_gpu_memory(_call: str) -> None:
    import torch  # noqa: PLC0415  the stand-in's, which may not be imported yet

    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 0 bytes free.")


def _out_of_memory(_call: str) -> None:
    raise MemoryError


def _kill(_call: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hang(call: str) -> None:
    """Until the order is withdrawn."""
    while orders()["at"].get(call, {}).get("do") == "hang":
        time.sleep(0.02)


_DEEDS = {
    "raise": _raise,
    "gpu_oom": _out_of_gpu_memory,
    "oom": _out_of_memory,
    "kill": _kill,
    "hang": _hang,
}
