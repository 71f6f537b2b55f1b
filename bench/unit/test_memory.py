"""The memory of a run is that of all its processes, with shared pages counted once."""

import mmap
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.support import memory

MEGABYTES = 100
CHILD = f"x = bytearray({MEGABYTES} * 10**6); x[::4096] = b'x' * len(x[::4096]); print(flush=True); input()"


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")
def test_children_count_and_shared_pages_count_once(monkeypatch):
    monkeypatch.setattr(memory, "INTERVAL_S", 0.05)
    with memory.peak_memory() as before:
        pass
    with memory.peak_memory() as peak:
        pages = mmap.mmap(-1, MEGABYTES * 10**6)  # shared with the forked child
        pages[::4096] = b"x" * len(pages[::4096])
        pid = os.fork()
        if pid == 0:  # reads them all, and waits
            pages[::4096]
            time.sleep(60)
            os._exit(0)
        with subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            child.stdout.readline()
            time.sleep(0.3)
            child.communicate(b"\n")
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    assert 1.9 * MEGABYTES < 1000 * (peak.gigabytes - before.gigabytes) < 2.7 * MEGABYTES
