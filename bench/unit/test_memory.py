"""The memory of a run is that of all its processes, with shared pages counted once."""

import mmap
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.support import memory

MEGABYTES = 100
CHILD = f"""
import mmap, sys
own = bytearray({MEGABYTES} * 10**6)
own[::4096] = b"x" * len(own[::4096])
with open(sys.argv[1], "r+b") as file:
    pages = mmap.mmap(file.fileno(), 0)
pages[::4096]
print(flush=True)
input()
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")
def test_children_count_and_shared_pages_count_once(tmp_path, monkeypatch):
    """100 MB are the child's own, and 100 MB are mapped by both."""
    monkeypatch.setattr(memory, "INTERVAL_S", 0.05)
    (tmp_path / "shared").write_bytes(bytes(MEGABYTES * 10**6))
    before = memory.proportional_gigabytes("self")
    with memory.peak_memory() as peak, (tmp_path / "shared").open("r+b") as file:
        pages = mmap.mmap(file.fileno(), 0)
        pages[::4096] = b"x" * len(pages[::4096])
        command = [sys.executable, "-c", CHILD, str(tmp_path / "shared")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            child.stdout.readline()
            time.sleep(0.3)
            child.communicate(b"\n")
    assert 1.8 * MEGABYTES < 1000 * (peak.gigabytes - before) < 2.5 * MEGABYTES
