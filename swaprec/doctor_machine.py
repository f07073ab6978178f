"""What this machine offers a service: Python, packages, a device, threads, memory."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Callable

import psutil

from service.settings import Settings
from swaprec.finding import Finding

GIB = 1024**3
MEMORY_BYTES = 2 * GIB
PACKAGES = ("torch", "transformers", "faiss-cpu", "fastapi", "uvicorn")


def _python(_: Settings) -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.platform != "linux":
        return Finding(
            "bad",
            "python",
            f"{version} on {sys.platform}",
            "swaprec runs on Linux; elsewhere in a container",
        )
    return Finding("ok", "python", f"{version}, {sys.executable}")


def _packages(_: Settings) -> Finding:
    found = []
    missing = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding(
            "bad", "packages", f"missing: {', '.join(missing)}", "pip install 'swaprec[serve]'"
        )
    try:
        importlib.metadata.version("polars")
    except importlib.metadata.PackageNotFoundError:
        return Finding(
            "ok", "packages", ", ".join(found), "training needs pip install 'swaprec[train]'"
        )
    return Finding("ok", "packages", ", ".join(found))


def _device(settings: Settings) -> Finding:
    import torch

    from transrec.devices import resolve_device, resolve_dtype

    device = resolve_device(settings.device)
    if settings.device.startswith("cuda") and not torch.cuda.is_available():
        advice = "set SWAPREC_DEVICE=auto, or make the driver visible here (containers: --gpus all)"
        return Finding("bad", "device", f"{settings.device}, and torch finds no CUDA", advice)
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else "no GPU"
    return Finding(
        "ok", "device", f"{device} ({name}), item vectors in {resolve_dtype('auto', device)}"
    )


def _threads(settings: Settings) -> Finding:
    cores = len(os.sched_getaffinity(0))
    found = (
        f"{cores} cores, SWAPREC_THREADS={settings.threads},"
        f" OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', '-')}"
    )
    if settings.threads > cores:
        return Finding(
            "warning",
            "threads",
            found,
            "more threads than cores are many times slower: set SWAPREC_THREADS=1",
        )
    return Finding("ok", "threads", found)


def _memory(_: Settings) -> Finding:
    free = psutil.virtual_memory().available
    found = f"{free / GIB:.1f} GiB available"
    if free < MEMORY_BYTES:
        return Finding("warning", "memory", found, "a service with one backbone takes about 1 GiB")
    return Finding("ok", "memory", found)


MACHINE_CHECKS: tuple[Callable[[Settings], Finding], ...] = (
    _python,
    _packages,
    _device,
    _threads,
    _memory,
)
"""What concerns this machine, whatever the settings name."""
