"""How many processors this process may use: fewer than the machine has where an affinity or a quota says so."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

CGROUPS: Final = Path("/sys/fs/cgroup")
"""Where Linux shows control groups, version 2; in a container that of the container."""
OWN_CGROUP: Final = Path("/proc/self/cgroup")


def processors(cgroups: Path = CGROUPS, own_cgroup: Path = OWN_CGROUP) -> int:
    """At least 1. A quota is rounded down: what more threads use is taken away from all of them for a while."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *map(int, _quotas(cgroups, own_cgroup))]))


def _quotas(cgroups: Path, own_cgroup: Path) -> list[float]:
    """Processors' worth of time that this process's groups may use, from the innermost outwards."""
    own = Path("/")
    with suppress(OSError):
        own = Path(next((line[3:] for line in own_cgroup.read_text().splitlines() if line.startswith("0::")), "/"))
    found = []
    for group in (own, *own.parents):
        with suppress(OSError, ValueError):  # there is none, or it is "max"
            quota, period = map(int, (cgroups / group.relative_to("/") / "cpu.max").read_text().split())
            found.append(quota / period)
    return found
