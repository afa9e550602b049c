import subprocess
import sys
import time

import pytest

from exporter import machine

CALM = {"foreign_cores": 0.0, "stolen_cores": 0.0, "gpu": [None, None], "mhz": [2400.0, 2400.0]}
GPU = dict.fromkeys(machine.GPU_FIELDS, "0") | {"other_processes": 0, "clocks_throttle_reasons.active": "0x0"}


def test_the_machine_is_described():
    found = machine.describe()
    assert found["cores"] >= 1 and found["cpu"] and found["system"] and found["python"].startswith("3.")


def test_ones_own_work_is_not_foreign_and_anothers_is():
    if machine._busy() == (0.0, 0.0):
        pytest.skip("this system has no /proc/stat")
    with machine.Watch() as idle:
        time.sleep(0.5)
    spin = "import time\nend = time.time() + 1.5\nwhile time.time() < end: pass"
    with machine.Watch() as own:
        end = time.time() + 0.6
        while time.time() < end:
            pass
    child = subprocess.Popen([sys.executable, "-c", spin])
    try:
        with machine.Watch() as other:
            time.sleep(0.8)
    finally:
        child.wait()
    # what else runs on this machine meanwhile can only add
    assert other.found["foreign_cores"] > 0.25
    assert own.found["foreign_cores"] < idle.found["foreign_cores"] + 0.6 or machine.disturbances(own.found)
    assert machine.disturbances(other.found)


@pytest.mark.parametrize("change, says", [
    ({"foreign_cores": 0.8}, "0.80 cores busy"),
    ({"stolen_cores": 0.5}, "hypervisor"),
    ({"mhz": [2400.0, 1800.0]}, "2400 to 1800 MHz"),
    ({"gpu": [GPU | {"other_processes": 2}]}, "2 other processes"),
    ({"gpu": [GPU | {"clocks_throttle_reasons.active": "0x0000000000000004"}]}, "held its clocks back"),
])  # fmt: skip
def test_a_disturbed_run_says_by_what(change, says):
    assert machine.disturbances(CALM) == []
    assert says in machine.disturbances(CALM | change)[0]


@pytest.mark.parametrize("reasons", ["0x0000000000000000", "0x0000000000000001", "0x0000000000000002"])
def test_a_gpu_that_idles_is_not_disturbed(reasons):
    assert machine.disturbances(CALM | {"gpu": [GPU | {"clocks_throttle_reasons.active": reasons}]}) == []


def test_nvidia_smis_answer_is_read(monkeypatch):
    answers = {
        "gpu": "NVIDIA A100, 550.1, P0, 1410 MHz, 1593 MHz, 1410 MHz, 60.1 W, 400 W, 31, 0 %, 0x1\n",
        "apps": "77\n",
    }

    def smi(command, **_):
        text = answers["apps" if "compute-apps" in command[1] else "gpu"]
        return subprocess.CompletedProcess(command, 0, stdout=text)

    monkeypatch.setattr(machine.subprocess, "run", smi)
    found = machine.gpu()
    assert found["name"] == "NVIDIA A100" and found["pstate"] == "P0" and found["clocks.sm"] == "1410 MHz"
    assert found["clocks_throttle_reasons.active"] == "0x1" and found["other_processes"] == 1


def test_without_nvidia_smi_there_is_no_gpu(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError("nvidia-smi")

    monkeypatch.setattr(machine.subprocess, "run", missing)
    assert machine.gpu() is None
