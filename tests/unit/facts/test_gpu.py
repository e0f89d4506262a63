"""Samples: see samples/README.md."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from gb10.facts.node import Gpu, parse_cuda_version, parse_gpus, parse_meminfo, parse_processes
from gb10.facts.reading.node import (
    GpuDevice,
    GpuProcess,
    GpuState,
)
from tests.unit.facts.reading import ABSENT, Printed, damaged, printed, process, run, sample, shell_accepts, words

GB10: dict[str, Printed] = {
    "gpus": (sample("nvidia-smi-query-gb10.txt"), 0),
    "processes": (sample("nvidia-smi-processes-gb10.txt"), 0),
    "table": (sample("nvidia-smi-580-gb10.txt"), 0),
    "memory": (sample("meminfo-gb10.txt"), 0),
}


def test_a_gb10_has_no_memory_of_its_own_and_tells_what_processes_hold() -> None:
    assert Gpu().process(printed(GB10)) == GpuState(
        devices=(GpuDevice("NVIDIA GB10", "580.126.09", memory_mib=None),),
        cuda_version="13.0",
        processes=(GpuProcess(3150, "python3", 218), GpuProcess(6330, "sglang::scheduler", 96073)),
        memory_total_kib=125442896,
        memory_available_kib=115789004,
    )


def test_a_gpu_with_memory_tells_it() -> None:
    assert list(parse_gpus(["NVIDIA GeForce GTX 1650, 4096, 610.57.04", "NVIDIA A100, 40960 MiB, 580.1"])) == [
        GpuDevice("NVIDIA GeForce GTX 1650", "610.57.04", 4096),
        GpuDevice("NVIDIA A100", "580.1", 40960),
    ]


def test_a_process_name_may_contain_commas_and_its_memory_may_be_hidden() -> None:
    rows = ["17, python3 -c a, b, 42", "18, [Not Found], [N/A]", "19, java, [Insufficient Permissions]"]
    assert list(parse_processes(rows)) == [
        GpuProcess(17, "python3 -c a, b", 42),
        GpuProcess(18, "[Not Found]", None),
        GpuProcess(19, "java", None),
    ]


def test_no_process_is_empty_and_no_answer_is_none() -> None:
    idle = Gpu().process(printed({**GB10, "processes": ([], 0)}))
    mute = Gpu().process(printed({**GB10, "processes": ([], 9)}))
    assert idle is not None
    assert mute is not None
    assert (idle.processes, mute.processes) == ((), None)


def test_the_cuda_version_is_read_from_old_and_new_headers() -> None:
    assert parse_cuda_version(sample("nvidia-smi-580-gb10.txt")) == "13.0"
    assert parse_cuda_version(sample("nvidia-smi-610.txt")) == "13.3"
    assert parse_cuda_version(["| NVIDIA-SMI 580.95.05   Driver Version: 580.95.05   CUDA Version: N/A     |"]) is None


def test_a_driver_that_does_not_answer_is_no_absence() -> None:
    failure = (sample("nvidia-smi-no-driver.txt"), 9)
    found = Gpu().process(printed({**GB10, "gpus": failure, "processes": failure, "table": failure}))
    assert found is not None
    assert (found.devices, found.processes, found.cuda_version) == ((), None, None)
    assert found.trouble == sample("nvidia-smi-no-driver.txt")[0]
    assert found.memory_total_kib == 125442896


def test_a_gpu_that_hangs_has_a_trouble() -> None:
    found = Gpu().process(printed({**GB10, "gpus": ([], 124)}))
    assert found is not None
    assert found.trouble == "nvidia-smi ended with status 124"


def test_no_nvidia_smi_is_none() -> None:
    absent: Printed = ([], ABSENT)
    assert Gpu().process(printed({**GB10, "gpus": absent, "processes": absent, "table": absent})) is None


def test_meminfo_is_read_by_key() -> None:
    memory = parse_meminfo(sample("meminfo-gb10.txt"))
    assert (memory["MemTotal"], memory["HugePages_Total"]) == (125442896, 0)


def test_the_command_runs_in_a_posix_shell_without_the_tool() -> None:
    command = Gpu().command()
    assert shell_accepts(command)
    found = Gpu().process(run(command))
    assert found is None or found.memory_total_kib


@settings(deadline=None)
@given(st.data())
def test_garbage_is_understood_or_refused_and_nothing_else(data: st.DataObject) -> None:
    sections = dict(GB10)
    for name in data.draw(st.sets(st.sampled_from(sorted(GB10)), min_size=1)):
        wrong = damaged(GB10[name][0]) | st.lists(words)
        sections[name] = (data.draw(wrong), data.draw(st.sampled_from([0, 0, 9, ABSENT])))
    found = process(Gpu(), printed(sections))
    if found is not None:
        json.dumps(found.to_json())
