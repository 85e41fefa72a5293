"""What NVML says of the stub machine, and what becomes of it; nvidia-ml-py itself is the real one."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.gpu.stub import DRIVER_MISMATCH, LOST, RESET_REQUIRED, Gpu, StubMachine
from tests.support.service import ROOT
from worker.gpu.nvml import DriverFault, Nvml
from worker.gpu.pool import look_around
from worker.gpu.readings import MIB, FaultKind, Process, Reading, Versions
from worker.gpu.sight import Sight

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def nvml(here: StubMachine) -> Iterator[Nvml]:
    session = Nvml()
    yield session
    session.close()


def only(nvml: Nvml) -> Reading:
    (device,) = nvml.devices()
    return nvml.read(device)


def test_every_figure_is_the_devices(here: StubMachine, nvml: Nvml) -> None:
    here.set(Gpu("GPU-a", utilisation=37, temperature=66, throttle=0x24, processes=((77, 300), (78, 20))))
    reading = only(nvml)
    assert (reading.device.uuid, reading.device.label, reading.device.name) == ("GPU-a", "0", "Stub A")
    assert (reading.total_bytes, reading.used_bytes) == (24_000 * MIB, 500 * MIB)
    assert reading.free_bytes == 23_500 * MIB
    assert (reading.utilisation_percent, reading.temperature_c) == (37, 66)
    assert (reading.power_w, reading.power_limit_w) == (65.0, 300.0)
    assert reading.throttle_reasons == ("power_cap", "thermal")
    assert reading.processes == (Process(77, 300 * MIB), Process(78, 20 * MIB))
    assert reading.faults == ()
    assert nvml.versions() == Versions("570.86.15", "12.8")


@pytest.mark.parametrize("code", [13, 25, 26])  # function not found, version mismatch, deprecated
def test_a_driver_of_another_age_tells_the_heat_all_the_same(
    here: StubMachine, nvml: Nvml, code: int
) -> None:
    here.temperature_v = code
    here.set(Gpu("GPU-a", temperature=66))
    reading = only(nvml)
    assert (reading.temperature_c, reading.faults) == (66, ())


@pytest.mark.parametrize("count", [0, 1, 2, 8])
def test_as_many_devices_as_there_are(here: StubMachine, nvml: Nvml, count: int) -> None:
    here.set(*(Gpu(f"GPU-{number}") for number in range(count)))
    assert [one.uuid for one in nvml.devices()] == [f"GPU-{number}" for number in range(count)]


def test_instances_stand_for_a_split_gpu_and_have_its_heat_but_their_own_memory(
    here: StubMachine, nvml: Nvml
) -> None:
    instances = (Gpu("MIG-1", total_mib=5000, used_mib=100), Gpu("MIG-2", total_mib=9000))
    here.set(Gpu("GPU-a"), Gpu("GPU-b", temperature=71, ecc=1, instances=instances))
    devices = nvml.devices()
    assert [(one.uuid, one.label) for one in devices] == [("GPU-a", "0"), ("MIG-1", "1.0"), ("MIG-2", "1.1")]
    reading = nvml.read(devices[1])
    assert (reading.total_bytes, reading.free_bytes) == (5000 * MIB, 4900 * MIB)
    assert (reading.temperature_c, reading.utilisation_percent) == (71, None)
    assert [fault.kind for fault in reading.faults] == [FaultKind.ECC]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (LOST, FaultKind.LOST),
        (RESET_REQUIRED, FaultKind.RESET_REQUIRED),
        (DRIVER_MISMATCH, FaultKind.DRIVER_MISMATCH),
        (999, FaultKind.UNREADABLE),
    ],
)
def test_what_goes_wrong_is_a_fault_of_the_reading(
    here: StubMachine, nvml: Nvml, code: int, kind: FaultKind
) -> None:
    here.set(Gpu("GPU-a"))
    (device,) = nvml.devices()
    here.change(0, fault=code)
    assert [fault.kind for fault in nvml.read(device).faults] == [kind]
    with pytest.raises(DriverFault) as raised:
        nvml.devices()
    assert raised.value.fault.kind is kind
    here.set(*here.gpus, Gpu("GPU-b"))
    around = look_around(None)
    assert [one.device.uuid for one in around.readings] == ["GPU-b"]
    lost = around.of(device)
    assert lost is not None
    assert [fault.kind for fault in lost.faults] == [kind]


def test_a_device_that_fell_off_the_bus_reads_as_lost(here: StubMachine, nvml: Nvml) -> None:
    here.set(Gpu("GPU-a"), Gpu("GPU-b"))
    first, second = nvml.devices()
    here.set(Gpu("GPU-b"))
    assert [fault.kind for fault in nvml.read(first).faults] == [FaultKind.LOST]
    assert nvml.read(second).faults == ()


def test_uncorrectable_memory_errors_are_a_fault(here: StubMachine, nvml: Nvml) -> None:
    here.set(Gpu("GPU-a", ecc=2))
    reading = only(nvml)
    assert reading.uncorrected_ecc == 2
    assert [fault.kind for fault in reading.faults] == [FaultKind.ECC]


def test_xids_are_told_once_and_a_programs_own_not_at_all(here: StubMachine, nvml: Nvml) -> None:
    here.set(Gpu("GPU-a", xid="79 1"))
    (device,) = nvml.devices()
    assert nvml.xid_faults(device) == ()  # of before
    here.change(0, xid="48 2")
    assert [fault.text for fault in nvml.xid_faults(device)] == ["the driver reported Xid 48"]
    assert nvml.xid_faults(device) == ()
    here.change(0, xid="31 3")  # a page fault: some program's
    assert nvml.xid_faults(device) == ()


def test_a_driver_that_does_not_fit_its_library_is_a_fault_and_no_absence(here: StubMachine) -> None:
    here.refuse(DRIVER_MISMATCH)
    with pytest.raises(DriverFault) as raised:
        Nvml()
    assert raised.value.fault.kind is FaultKind.DRIVER_MISMATCH
    reading = Sight("GPU-a").look()
    assert [fault.kind for fault in reading.faults] == [FaultKind.DRIVER_MISMATCH]


def test_a_sight_finds_its_device_again(here: StubMachine) -> None:
    sight = Sight("GPU-b")
    here.set(Gpu("GPU-a"))
    assert [fault.kind for fault in sight.look().faults] == [FaultKind.LOST]
    here.set(Gpu("GPU-a"), Gpu("GPU-b"))
    reading = sight.look()
    assert (reading.faults, reading.device.label) == ((), "1")
    assert sight.versions is not None
    sight.close()


def test_only_the_devices_that_are_to_be_seen_are(here: StubMachine) -> None:
    here.set(*(Gpu(f"GPU-{number}") for number in range(3)))
    assert [one.device.uuid for one in look_around("GPU-2,0").readings] == ["GPU-2", "GPU-0"]
    assert [one.device.uuid for one in look_around("1,7,2").readings] == ["GPU-1"]
    assert look_around("").readings == []
    assert len(look_around(None).readings) == 3


def test_a_machine_without_the_library_has_no_driver() -> None:
    code = "from worker.gpu.nvml import *\ntry: Nvml()\nexcept NoDriver as exc: print('no driver:', exc)"
    clean = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=clean, capture_output=True, text=True, check=True
    )
    assert ran.stdout.startswith("no driver: NVML Shared Library Not Found")
