"""The memory of a run is that of all its processes, with shared pages counted once."""

import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.storage.files import ROOT

# A parent that does nothing else, so that nothing else is freed or allocated: its child has 100 MB of its own, and both
# map the same 100 MB.
PARENT = """
import mmap, subprocess, sys, time
from bench.support import memory
memory.INTERVAL_S = 0.05
def mapped():
    with open(sys.argv[1], "r+b") as file:
        return mmap.mmap(file.fileno(), 0)
if len(sys.argv) > 2:
    own, pages = bytearray(100 * 10**6), mapped()
    own[::4096] = b"x" * len(own[::4096])
    pages[::4096]
    print(flush=True)
    time.sleep(60)
before = memory.proportional_gigabytes("self")
with memory.peak_memory() as peak:
    pages = mapped()
    pages[::4096] = b"x" * len(pages[::4096])
    with subprocess.Popen([sys.executable, *sys.orig_argv[1:], "child"], stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        time.sleep(0.5)
        child.kill()
print(1000 * (peak.gigabytes - before))
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")
def test_children_count_and_shared_pages_count_once(tmp_path):
    (tmp_path / "shared").write_bytes(bytes(100 * 10**6))
    command = [sys.executable, "-c", PARENT, str(tmp_path / "shared")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert 190 < float(run.stdout) < 250
