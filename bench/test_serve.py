"""Does a served arm give the answers that it gives when it is evaluated directly?"""

import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from fixtures.arms import Arm, Draw
from fixtures.runs.session import Bench
from fixtures.storage.files import ROOT

ITEMS = 20
START_S = 600  # for loading a model


@contextmanager
def served(bench, arm):
    """The address of a server process with this arm."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    chosen = ["--arm", str(arm), "--scale", bench.options.scale, "--port", str(port)]
    for name in ("model", "data", "tools", "precision"):
        value = getattr(bench.options, name)
        chosen += [f"--{name}", str(value.absolute() if isinstance(value, Path) else value)] if value else []
    chosen += ["--offline"] if bench.options.offline else []
    process = subprocess.Popen([sys.executable, "-m", "fixtures.runs.serve", *chosen], cwd=ROOT)
    try:
        for _ in range(START_S):
            try:
                urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=10).close()
                break
            except URLError:
                assert process.poll() is None, "the server ended"
                time.sleep(1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.live
def test_serve_answers_as_the_arm_itself(bench):
    """Greedy, item for item, through the server's own chat template and decoding."""
    arm, ids = Arm("sft", "all_patterns", bench.seed), bench.items.partition.dev[::2][:ITEMS]
    direct = bench.runner.complete(arm, ids, Draw())
    with served(bench, arm) as url:
        session = Bench(replace(bench.options, endpoint=url, model="served"))
        assert session.endpoint.endpoint.served() == [str(arm)]
        base = Arm("base", format=bench.default_format)
        answers = session.endpoint.complete(base, ids, Draw())
    verdicts = ({i: bench.items.judge(found[i][0]).reasons for i in ids} for found in (direct, answers))
    before, after = verdicts
    assert after == before
    same = sum(direct[i][0].text == answers[i][0].text for i in ids)
    assert same >= 0.9 * len(ids), f"{same} of {len(ids)} texts are the same"
