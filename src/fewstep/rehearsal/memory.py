"""How much memory this machine has to give."""

from __future__ import annotations

import os
import re
from pathlib import Path

MEMINFO = Path("/proc/meminfo")


def available() -> int:
    """Bytes that a process can have without another's being moved out; all that there are where the system does not say."""
    try:
        return 1024 * int(re.search(r"(?m)^MemAvailable:\s+(\d+) kB$", MEMINFO.read_text()).group(1))
    except (OSError, AttributeError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
