"""The GPU, its driver, and the processes that use its memory.

On a GB10 the GPU has no memory of its own: nvidia-smi answers `[N/A]` for it, which is not zero. The capacity is the
node's, from /proc/meminfo; what each process holds comes from nvidia-smi, which does know that.
"""

from __future__ import annotations

from collections.abc import Mapping

from gb10.facts.reading.gpu import GpuState, read_gpu
from gb10.facts.reading.launcher import Launch, SectionsFact
from gb10.facts.reading.sections import Section

NVIDIA_SMI = "timeout 15 nvidia-smi"  # it hangs on a GPU that fell off the bus


class Gpu(SectionsFact[GpuState | None]):
    """GPU and driver of the node; None without nvidia-smi.

    A driver that does not answer is no absence: it gives no devices and a `trouble`. Raises FactProcessError for the
    host whose output is not understood.
    """

    def command(self) -> Launch:
        return self.sections(
            {
                "gpus": f"{NVIDIA_SMI} --query-gpu=name,memory.total,driver_version --format=csv,noheader,nounits",
                "processes": f"{NVIDIA_SMI} --query-compute-apps=pid,process_name,used_memory"
                " --format=csv,noheader,nounits",
                "table": NVIDIA_SMI,
            },
            {"memory": "/proc/meminfo"},
        )

    def read_sections(self, found: Mapping[str, Section]) -> GpuState | None:
        return read_gpu(found)
