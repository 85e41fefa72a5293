"""The stub NVML: built once, and a file of devices that tests change while programs read it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("nvml_stub.c")
LIBRARY = "libnvidia-ml.so.1"
LOST, RESET_REQUIRED, DRIVER_MISMATCH = 15, 16, 18


@dataclass(frozen=True)
class Gpu:
    """As nvml_stub.c reads it; ``instances`` make it a GPU that is split."""

    uuid: str
    name: str = "Stub A"
    total_mib: int = 24_000
    used_mib: int = 500
    utilisation: int = 3
    temperature: int = 41
    power_mw: int = 65_000
    power_limit_mw: int = 300_000
    throttle: int = 0
    ecc: int = 0
    fault: int = 0
    xid: str = "0 0"
    instances: tuple[Gpu, ...] = ()
    processes: tuple[tuple[int, int], ...] = ()

    def lines(self, kind: str = "device") -> list[str]:
        own = {one.name for one in fields(self)} - {"uuid", "instances", "processes"}
        return [
            f"{kind} {self.uuid}",
            *(f"  {name} {getattr(self, name)}" for name in sorted(own)),
            *(f"  process {pid} {mib}" for pid, mib in self.processes),
            *(line for one in self.instances for line in one.lines("mig")),
        ]


@dataclass
class StubMachine:
    """The machine's devices, and what a process needs to see them."""

    library: Path
    folder: Path
    driver: str = "570.86.15"
    init: int = 0
    temperature_v: int = 0
    hangs: int = 0
    gpus: list[Gpu] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.claims.mkdir(parents=True, exist_ok=True)
        self.write()

    @property
    def file(self) -> Path:
        return self.folder / "devices"

    @property
    def claims(self) -> Path:
        return self.folder / "devices.claims"

    @property
    def environment(self) -> dict[str, str]:
        """With a folder for temporary files of its own: other tests' machines have a GPU-a, too."""
        folder = self.folder / "tmp"
        folder.mkdir(exist_ok=True)
        places = {"TMPDIR": str(folder), "NVML_STUB_FILE": str(self.file)}
        return {"LD_LIBRARY_PATH": str(self.library.parent), **places}

    def set(self, *gpus: Gpu) -> None:
        self.gpus = list(gpus)
        self.write()

    def change(self, index: int, **figures: Any) -> None:
        self.gpus[index] = replace(self.gpus[index], **figures)
        self.write()

    def refuse(self, code: int) -> None:
        """Let nvmlInit answer this code."""
        self.init = code
        self.write()

    def hang(self, hangs: bool) -> None:
        """Let every call wait, until it is let go again."""
        self.hangs = int(hangs)
        self.write()

    def write(self) -> None:
        lines = [f"driver {self.driver}", "cuda 12080", f"init {self.init}", f"hangs {self.hangs}"]
        lines += [f"temperature_v {self.temperature_v}"]
        lines += [line for gpu in self.gpus for line in gpu.lines()]
        aside = self.file.with_suffix(".new")
        aside.write_text("\n".join(lines) + "\n")
        aside.rename(self.file)  # a reader sees all of it or nothing


def build(folder: Path) -> Path:
    """The library, under the name that nvidia-ml-py asks for."""
    library = folder / LIBRARY
    flags = ["-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", f"-Wl,-soname,{LIBRARY}"]
    subprocess.run(["gcc", *flags, "-o", str(library), str(SOURCE), "-lpthread"], check=True)
    return library
