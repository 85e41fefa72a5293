"""One job in a process of its own, which may be killed: ``job_process.py FOLDER SETTINGS`` (JSON).

The stand-in is on PYTHONPATH. It prints the transcript as JSON.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import faster_whisper  # noqa: F401  for its effect, as in conftest.py

from tests.engines.mst.bench import Bench, ScriptedWhisper, Standin, methods_of
from worker.engines.whisper import WhisperEngine


def main(folder: Path, settings: str) -> None:
    speech = ScriptedWhisper()
    for name, method in methods_of(speech):
        setattr(WhisperEngine, name, method)
    bench = Bench(Standin(folder / "standin"), folder / "jobs", speech)
    run = bench.run(checkpoints=bench.checkpoints(), **json.loads(settings))
    json.dump(asdict(run.transcript), sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
