"""May a device be given a job? By its reading alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engines.needs import need_bytes
from worker.gpu.admission import FRESH_S, Limits, admit
from worker.gpu.places import visible, worker_names
from worker.gpu.readings import MIB, Device, Fault, FaultKind, Reading
from worker.settings import Settings

DEVICE = Device("GPU-a", "0", "Stub A")
LIMITS = Limits(temperature_c=85, utilisation_percent=80)
NEED = 8000 * MIB


def reading(**figures: Any) -> Reading:
    usual = {"total_bytes": 24_000 * MIB, "free_bytes": 20_000 * MIB, "utilisation_percent": 5}
    return Reading(DEVICE, at=100.0, **{**usual, "temperature_c": 50, **figures})


def decide(found: Reading, *, loaded: bool = False, now: float = 101.0, limits: Limits = LIMITS) -> str:
    """Empty where it is admitted; otherwise the reason."""
    admission = admit(found, NEED, limits, loaded=loaded, now=now)
    return "" if admission.admitted else admission.reason


@pytest.mark.parametrize(
    ("figures", "reason"),
    [
        ({}, ""),
        ({"free_bytes": NEED}, ""),
        ({"free_bytes": NEED - MIB}, "7999 MiB are free, and the engine needs 8000 MiB"),
        ({"temperature_c": 84}, ""),
        ({"temperature_c": 85}, "it is 85 °C hot (GPU_MAX_TEMPERATURE_C=85)"),
        ({"utilisation_percent": 80}, "it is 80 % busy (GPU_MAX_UTILISATION=80)"),
        ({"faults": (Fault(FaultKind.LOST, "GPU is lost"),)}, "GPU is lost"),
        # What a device does not tell does not count against it.
        ({"temperature_c": None, "utilisation_percent": None, "free_bytes": None}, ""),
    ],
)
def test_what_stands_against_a_job(figures: dict[str, Any], reason: str) -> None:
    assert decide(reading(**figures)) == reason


def test_a_loaded_model_needs_no_more_room_but_all_else_holds() -> None:
    full = reading(free_bytes=0)
    assert decide(full, loaded=True) == ""
    assert decide(full) != ""
    assert decide(reading(free_bytes=0, temperature_c=90), loaded=True) != ""


def test_an_old_reading_admits_nothing() -> None:
    assert decide(reading(), now=100 + FRESH_S) == ""
    assert decide(reading(), now=101 + FRESH_S) == "the driver has not answered for 11 s"


def test_a_limit_of_100_percent_is_none() -> None:
    assert decide(reading(utilisation_percent=100), limits=Limits(85, 100)) == ""


@given(free=st.integers(0, 30_000), heat=st.integers(0, 120), use=st.integers(0, 100), loaded=st.booleans())
def test_it_admits_exactly_where_all_conditions_hold(free: int, heat: int, use: int, loaded: bool) -> None:
    found = reading(free_bytes=free * MIB, temperature_c=heat, utilisation_percent=use)
    expected = heat < 85 and use < 80 and (loaded or free >= 8000)
    assert (decide(found, loaded=loaded) == "") is expected


def test_names_follow_the_drivers_count_and_never_clash() -> None:
    assert worker_names(DEVICE, 1, "h", ()) == ["gpu0@h"]
    assert worker_names(DEVICE, 2, "h", ()) == ["gpu0@h", "gpu0-2@h"]
    assert worker_names(Device("MIG-1", "1.2", ""), 1, "h", ()) == ["gpu1.2@h"]
    assert worker_names(Device("GPU-0123456789", "0", ""), 1, "h", {"gpu0@h"}) == ["gpu0-456789@h"]


def test_a_name_that_fits_no_device_hides_those_behind_it() -> None:
    other = Device("GPU-b", "1", "")
    assert visible([DEVICE, other], "1,x,0") == [other]
    assert visible([DEVICE, other], "GPU-a") == [DEVICE]
    assert visible([DEVICE, other], "") == []
    assert visible([DEVICE, other], None) == [DEVICE, other]


@pytest.mark.parametrize(
    ("engine", "fields", "mib"),
    [
        ("whisper", {}, 1024),
        ("whisper", {"whisper_model": "large-v3"}, 8192),
        ("whisper", {"whisper_model": "large-v3-turbo"}, 5120),
        ("whisper", {"whisper_model": "distil-large-v3"}, 5120),
        ("whisper", {"whisper_model": "someone/else"}, 8192),
        ("mst", {}, 1024 + 2048 + 9728),
        ("mst", {"diarization_model": "none", "whisper_model": "large-v3"}, 8192 + 2048),
        ("simulated", {"simulated_script": '{"vram_mib": 77}'}, 77),
        ("mst", {"gpu_need_mib": 9000}, 9000),
    ],
)
def test_each_engine_declares_its_need(engine: str, fields: dict[str, Any], mib: int) -> None:
    assert need_bytes(engine, Settings(**fields)) == mib * MIB
