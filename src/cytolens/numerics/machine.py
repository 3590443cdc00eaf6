"""What the machine has: cores, memory, disk; and seconds as a person reads them."""

import os
import shutil
import sys
from pathlib import Path


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> tuple[int | None, int | None]:
    """Bytes of memory, and those that are free; the limit of a container counts."""
    total = free = None
    try:
        text = Path("/proc/meminfo").read_text()
        about = {
            k: int(v.split()[0]) << 10 for k, _, v in (r.partition(":") for r in text.splitlines())
        }
        total, free = about.get("MemTotal"), about.get("MemAvailable")
    except (OSError, ValueError, IndexError):
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            total = free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        total = min(total or limit, limit)
        free = min(free or limit, max(limit - used, 0))
    except (OSError, ValueError):  # no container, or no limit
        pass
    return total, free


def peak_memory() -> int | None:
    """Bytes that this process has held at most; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def free_disk(path: Path) -> int:
    """Bytes that are free where ``path`` lies, or will lie."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def clock(seconds: float) -> str:
    """Seconds as a person reads them.

    >>> clock(42.3), clock(200)
    ('42 s', '3 min 20 s')
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
