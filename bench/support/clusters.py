"""Real Dask clusters on loopback, whose workers have caches of their own, and jobs that go wrong."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import distributed

from fixtures.cluster.jobs import Job
from fixtures.storage import assets
from fixtures.storage.files import MAKING, ROOT, private_folder

START_S = 60
# Of the tests: to compile them again in each worker's cache would take most of the time.
LIBRARIES = assets.cache_root() / "blas"


@dataclass
class Cluster:
    """A scheduler, and its workers in the order of their caches."""

    address: str
    workers: list
    scheduler: subprocess.Popen
    network: "Network"


@contextmanager
def cluster(folder, workers=2, resources=True):
    """A scheduler and worker processes as a user starts them; worker k has the cache `folder`/k.

    The workers reach the scheduler through a network of their own.
    """
    file = folder / "scheduler.json"
    processes = []
    try:
        options = ("--scheduler-file", str(file), "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        failures = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "2"}
        processes.append(_start(folder, ["dask", "scheduler", *options], "scheduler", **failures))
        _wait(file.exists)
        address = json.loads(file.read_text())["address"]
        network = Network(address)
        for k in range(workers):
            processes.append(_worker(folder, network.address, k, resources))
        with distributed.Client(address) as client:
            _wait(lambda: len(client.scheduler_info(n_workers=-1)["workers"]) == workers)
        yield Cluster(address, processes[1:], processes[0], network)
    finally:
        for process in processes:
            with suppress(ProcessLookupError):  # a test killed it
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def with_libraries(folder):
    """A cache that has what the tests' own cache has compiled."""
    if LIBRARIES.is_dir():
        unfinished = shutil.ignore_patterns("*.lock", f"{MAKING}*")
        shutil.copytree(LIBRARIES, private_folder(folder) / "blas", ignore=unfinished, dirs_exist_ok=True)
    return folder


def _worker(folder, address, k, resources):
    options = [address, "--no-dashboard", "--local-directory", str(folder)]
    module = ["fixtures.cluster.start", "--pause", "1"] if resources else ["dask", "worker"]
    return _start(folder, [*module, *options], f"worker{k}", CALLBENCH_CACHE=str(with_libraries(folder / str(k))))


def _start(folder, module, name, **env):
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")} | env
    with (folder / f"{name}.log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", *module], cwd=ROOT, env=env, stdout=log, stderr=log, start_new_session=True
        )


def _wait(ready):
    until = time.monotonic() + START_S
    while not ready():
        assert time.monotonic() < until, "the cluster did not start"
        time.sleep(0.1)


class Network:
    """Forwards what is sent to its address to another one; it can stall, or be cut."""

    def __init__(self, target):
        host, _, port = target.removeprefix("tcp://").partition(":")
        self.target = (host, int(port))
        self.server = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self.server.getsockname()[1]}"
        self.flows = threading.Event()
        self.flows.set()
        self.up = True
        self.open = []
        threading.Thread(target=self._accept, daemon=True).start()

    def stall(self, seconds):
        """Nothing arrives, and nothing is lost."""
        self.flows.clear()
        time.sleep(seconds)
        self.flows.set()

    def cut(self, seconds):
        """All connections are closed, and new ones too."""
        self.up = False
        for connection in self.open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        time.sleep(seconds)
        self.up = True

    def _accept(self):
        while True:
            near = self.server.accept()[0]
            if not self.up:
                near.close()
                continue
            try:
                far = socket.create_connection(self.target)
            except OSError:  # the scheduler is gone
                near.close()
                continue
            self.open += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._forward, args=(source, sink), daemon=True).start()

    def _forward(self, source, sink):
        with suppress(OSError):
            while data := source.recv(1 << 16):
                self.flows.wait()
                sink.sendall(data)
        for connection in (source, sink):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Killed(Job):
    """Takes its process down, as the kernel does when memory runs out."""

    def run(self, bench):
        os.kill(os.getpid(), signal.SIGKILL)


class Failing(Job):
    """Raises an error."""

    def run(self, bench):
        raise RuntimeError("the disk is full")
