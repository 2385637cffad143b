"""What a GPU's driver says of it: the memory in use and how busy it is.

Asked by NVML and not by CUDA, whose calls from a second thread may spoil a CUDA graph that the first one captures.
"""

from __future__ import annotations

from typing import Any

import pynvml
import structlog

log = structlog.get_logger("engine")


class Gpu:
    """One device. uuid: as `torch.cuda.get_device_properties` has it, without the driver's `GPU-` before it.

    A driver that cannot be asked is logged once; `figures` is empty then.
    """

    def __init__(self, uuid: str) -> None:
        self._handle: Any = None
        try:
            pynvml.nvmlInit()
            self._handle = _found(uuid)
        except pynvml.NVMLError as error:
            log.warning("the GPU's driver cannot be asked, its figures are left out", error=str(error))

    def figures(self) -> dict[str, Any]:
        """Read the figures of `service.fleet.engines.Engine`.

        They are bytes of the whole device, whoever has them, and a share of 1. A part of a GPU (MIG) has no utilization
        of its own: then it is None.
        """
        if self._handle is None:
            return {}
        try:
            memory = pynvml.nvmlDeviceGetMemoryInfo(self._handle)
        except pynvml.NVMLError:
            return {}
        found = {"gpu_memory_used": int(memory.used), "gpu_memory_total": int(memory.total)}
        try:
            return found | {"gpu_utilization": pynvml.nvmlDeviceGetUtilizationRates(self._handle).gpu / 100}
        except pynvml.NVMLError:
            return found | {"gpu_utilization": None}


def _found(uuid: str) -> Any:
    try:
        return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except pynvml.NVMLError_NotFound:
        return pynvml.nvmlDeviceGetHandleByUUID(f"MIG-{uuid}")
