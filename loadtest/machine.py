"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path


def machine() -> str:
    system = f"{platform.system()} {platform.release()}"
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, {system}, commit {commit()}"


def commit() -> str:
    argv = ["git", "rev-parse", "--short", "HEAD"]
    root = Path(__file__).resolve().parent
    return subprocess.run(argv, cwd=root, capture_output=True, text=True, check=False).stdout.strip()
