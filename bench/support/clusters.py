"""Real Dask clusters on loopback, whose workers have caches of their own, and jobs that go wrong."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import distributed

from fixtures.cluster.jobs import Job
from fixtures.storage.files import ROOT

START_S = 60


@dataclass
class Cluster:
    """A scheduler, and its workers in the order of their caches."""

    address: str
    workers: list
    scheduler: subprocess.Popen


@contextmanager
def cluster(folder, workers=2, resources="callbench=1"):
    """A scheduler and worker processes as a user starts them; worker k has the cache `folder`/k."""
    file = folder / "scheduler.json"
    processes = []
    try:
        options = ("--scheduler-file", str(file), "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        processes.append(_dask(folder, "scheduler", *options, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="2"))
        for k in range(workers):
            processes.append(_worker(folder, file, k, resources))
        _wait(file.exists)
        address = json.loads(file.read_text())["address"]
        with distributed.Client(address) as client:
            _wait(lambda: len(client.scheduler_info(n_workers=-1)["workers"]) == workers)
        yield Cluster(address, processes[1:], processes[0])
    finally:
        for process in processes:
            with suppress(ProcessLookupError):  # a test killed it
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _worker(folder, file, k, resources):
    options = ["--nthreads", "1", "--nworkers", "1", "--no-dashboard", "--local-directory", str(folder)]
    options += ["--scheduler-file", str(file), *(["--resources", resources] if resources else [])]
    return _dask(folder, "worker", *options, name=f"worker{k}", CALLBENCH_CACHE=str(folder / str(k)))


def _dask(folder, command, *options, name="scheduler", **env):
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")} | env
    with (folder / f"{name}.log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "dask", command, *options], cwd=ROOT, env=env, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip


def _wait(ready):
    until = time.monotonic() + START_S
    while not ready():
        assert time.monotonic() < until, "the cluster did not start"
        time.sleep(0.1)


class Killed(Job):
    """Takes its process down, as the kernel does when memory runs out."""

    def run(self, bench):
        os.kill(os.getpid(), signal.SIGKILL)


class Failing(Job):
    """Raises an error."""

    def run(self, bench):
        raise RuntimeError("the disk is full")
