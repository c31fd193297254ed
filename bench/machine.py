"""Say what machine, versions and commit a bench ran on."""

import os
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("sedma-jax", "jax", "jaxlib", "equinox", "numpy", "scipy", "libp2p", "ortools")


def machine() -> dict:
    """CPU, cores, memory in GB, load, versions, commit and date, as far as known."""
    about = {"cores": os.cpu_count(), "platform": platform.platform()}
    cpu, memory = Path("/proc/cpuinfo"), Path("/proc/meminfo")
    about["cpu"] = platform.processor() or platform.machine()
    if cpu.exists():
        names = [t for t in cpu.read_text().splitlines() if t.startswith("model name")]
        about["cpu"] = names[0].partition(":")[2].strip() if names else about["cpu"]
    if memory.exists():
        kilobytes = int(memory.read_text().split()[1])
        about["memory_gb"] = round(kilobytes * 1024 / 1e9, 1)
    about["load_before"] = round(os.getloadavg()[0], 1)
    about["versions"] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            about["versions"][name] = version(name)
        except PackageNotFoundError:
            continue
    about["commit"] = commit()
    about["date"] = time.strftime("%Y-%m-%d")
    return about


def commit() -> str:
    """The commit of the checkout, with a mark where files differ from it."""
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() or "unknown"
