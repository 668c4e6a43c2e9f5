"""The most memory that this process has held."""

from __future__ import annotations

import sys

__all__ = ["peak_memory_mib"]


def peak_memory_mib() -> float | None:
    """Peak resident memory in MiB since the process began; on a GPU that of the GPU is added. None if not known."""
    peak = _windows() if sys.platform == "win32" else _posix()
    torch = sys.modules.get("torch")
    if peak is not None and torch is not None and torch.cuda.is_initialized():
        peak += torch.cuda.max_memory_allocated()
    return None if peak is None else round(peak / 2**20, 1)


def _posix() -> float:
    import resource

    # Linux counts in KiB, macOS in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _windows() -> float | None:
    import ctypes
    from ctypes import wintypes

    class Counters(ctypes.Structure):
        _fields_ = [
            ("cb", wintypes.DWORD),
            ("faults", wintypes.DWORD),
            *((f"size{i}", ctypes.c_size_t) for i in range(8)),
        ]

    counters = Counters(cb=ctypes.sizeof(Counters))
    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined,unused-ignore]
    kernel.GetCurrentProcess.restype = wintypes.HANDLE
    ask = kernel.K32GetProcessMemoryInfo
    ask.argtypes = [wintypes.HANDLE, ctypes.POINTER(Counters), wintypes.DWORD]
    done = ask(kernel.GetCurrentProcess(), ctypes.byref(counters), counters.cb)
    return float(counters.size0) if done else None  # the first size is the peak working set
