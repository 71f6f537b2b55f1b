"""The memory of this process and its children together, at its highest: shared pages count once (Linux)."""

import threading
from contextlib import contextmanager, suppress
from pathlib import Path

INTERVAL_S = 0.25


class Peak:
    gigabytes = None  # where the system does not say


@contextmanager
def peak_memory():
    """Watch it while the block runs; the result is in the yielded Peak."""
    peak, done = Peak(), threading.Event()
    watcher = threading.Thread(target=_watch, args=(peak, done), daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()
        peak.gigabytes = peak.gigabytes and round(peak.gigabytes, 2)


def _watch(peak, done):
    while True:
        peak.gigabytes = max(filter(None, (peak.gigabytes, proportional_gigabytes("self"))), default=None)
        if done.wait(INTERVAL_S):
            return


def proportional_gigabytes(pid):
    """The proportional set size of a process and all its descendants; None if it cannot be read."""
    folder, total = Path("/proc", pid), None
    with suppress(OSError):
        lines = (folder / "smaps_rollup").read_text().splitlines()
        total = sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1e6
    with suppress(OSError):
        children = " ".join(path.read_text() for path in folder.glob("task/*/children")).split()
        total = sum(filter(None, (total, *map(proportional_gigabytes, children)))) or None
    return total
