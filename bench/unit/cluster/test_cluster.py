"""A session on real worker processes has the same results as one process, whatever happens to the workers."""

import contextlib
import os
import signal
import socket
import threading
import time
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import distributed
import pytest

from bench.support.clusters import Failing, Killed, cluster, with_libraries
from bench.support.lamps import lamp
from bench.unit.cluster.test_entries import files
from fixtures.arms import Arm, Draw
from fixtures.cluster import child, run, start, worker
from fixtures.cluster.child import ClusterError, JobError, Request
from fixtures.cluster.jobs import Job, jobs_of, needs
from fixtures.cluster.machine import Machine
from fixtures.cluster.worker import Terms
from fixtures.config import Options
from fixtures.modeling.cpu import blas
from fixtures.runs.session import Bench, Requirement
from fixtures.storage import assets
from fixtures.storage.jsonl import row_text

SFT = Arm("sft", "all_patterns", 0)
REQUIRED = [Requirement(SFT, "seen_tools", "plain"), Requirement(Arm("base"), "unseen_tools", None)]
DISTURBED_S = float(os.environ.get("DISTURBED_S", "5"))
MACHINE = Machine("code", "lock", "3.11", "mlx", "float32", "Zen", "answers")


@pytest.fixture(scope="module")
def options(lively_qwen, tmp_path_factory):
    """A tiny model on short rows about tools of their own."""
    path = tmp_path_factory.mktemp("rows") / "lamps.jsonl"
    path.write_text("".join(row_text(lamp(k)) for k in range(16)))
    return Options(scale="smoke", model=str(lively_qwen), offline=True, workers=1, data=path)


def session(options, folder, monkeypatch):
    with_libraries(folder)
    monkeypatch.setattr(assets, "cache_root", lambda: folder)
    monkeypatch.setenv("CALLBENCH_CACHE", str(folder))  # of child processes
    return Bench(options)


def results(folder):
    """What is cached, without what differs between runs: timings, checks, and the machine of a row."""
    kinds = ("adapters", "completions", "log_probabilities")
    return {name: content for name, content in files(folder).items() if name.startswith(kinds)}


@pytest.fixture(scope="module")
def alone(options, tmp_path_factory):
    """The cached results of one process."""
    return made_alone(options, tmp_path_factory.mktemp("alone"))


def made_alone(options, folder):
    with pytest.MonkeyPatch.context() as patch:
        bench = session(options, folder, patch)
        for job in jobs_of(bench, REQUIRED):
            job.run(bench)
    return results(folder)


def same(found, expected):
    """Whether two caches have the same results; rows come back in another order, and with their machine."""

    def rows(content):
        return sorted(line.split(b', "machine"')[0].split(b', "checksum"')[0] for line in content.splitlines())

    assert found.keys() == expected.keys()
    for name, content in expected.items():
        if name.endswith(".jsonl"):
            assert rows(found[name]) == rows(content), name
        else:
            assert found[name] == content, name


def once_there_is(folder, patterns, act):
    """A thread that acts as soon as the workers have written files of each pattern."""

    def wait():
        while not all(list(folder.glob(pattern)) for pattern in patterns):
            time.sleep(0.05)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_two_workers_make_what_one_process_makes(options, alone, tmp_path, monkeypatch):
    bench, said = session(options, tmp_path / "home", monkeypatch), []
    with cluster(tmp_path) as workers:
        bench.options = replace(options, cluster=workers.address)
        run.make(bench, REQUIRED, said.append)
    same(results(tmp_path / "home"), alone)
    assert not any(job.uses(Bench(options)) is None for job in jobs_of(Bench(options), REQUIRED))
    assert all(results(tmp_path / str(k)) for k in range(2))  # both have worked
    assert b'"machine"' in next(v for n, v in results(tmp_path / "home").items() if n.startswith("completions"))
    assert any(workers.address in text for text in said)
    (machine,) = Bench(options).runner.describe(SFT, Draw())["machines"].values()  # for run.json
    assert machine["precision"] == "bf16"


def test_two_local_workers_make_the_same_beside_another_cluster(options, tmp_path, monkeypatch):
    """Past bug: with Dask's usual port for the dashboard in use, its warning ended the session as an error."""
    with blas.blas_threads(max(1, blas.usable_cores() // 2)):  # what each of them uses; more threads round differently
        alone = made_alone(options, tmp_path / "alone")
    bench = session(replace(options, cluster="local:2"), tmp_path / "home", monkeypatch)
    with socket.socket() as other:
        with contextlib.suppress(OSError):  # in use already
            other.bind(("0.0.0.0", 8787))
            other.listen()
        run.make(bench, REQUIRED, lambda _: None)
    same(results(tmp_path / "home"), alone)


def test_a_killed_worker_loses_nothing(options, alone, tmp_path, monkeypatch):
    """One of two workers is killed with its whole process group while both work."""
    bench = session(options, tmp_path / "home", monkeypatch)
    with cluster(tmp_path) as workers:
        bench.options = replace(options, cluster=workers.address)

        kill = partial(os.killpg, workers.workers[0].pid, signal.SIGKILL)
        killer = once_there_is(tmp_path, ("?/checks/*", "?/pace.jsonl"), kill)
        run.make(bench, REQUIRED, lambda _: None)
        killer.join(timeout=60)
        assert workers.workers[0].poll() is not None
    same(results(tmp_path / "home"), alone)


@pytest.mark.parametrize("fault", ["stall", "cut"])
def test_a_network_that_fails_for_a_while_loses_nothing(fault, options, alone, tmp_path, monkeypatch):
    """While they work, what workers and scheduler send each other is late, or all their connections break."""
    bench = session(options, tmp_path / "home", monkeypatch)
    with cluster(tmp_path) as workers:
        bench.options = replace(options, cluster=workers.address)

        disturb = partial(getattr(workers.network, fault), DISTURBED_S)
        disturber = once_there_is(tmp_path, ("?/pace.jsonl",), disturb)
        run.make(bench, REQUIRED, lambda _: None)
        assert not disturber.is_alive()
    same(results(tmp_path / "home"), alone)


def test_a_scheduler_that_is_gone_is_an_error_and_the_next_run_goes_on(options, alone, tmp_path, monkeypatch):
    """What had come back is kept; without a cluster, the session makes the rest by itself."""
    bench = session(options, tmp_path / "home", monkeypatch)
    with cluster(tmp_path) as workers:
        bench.options = replace(options, cluster=workers.address)

        once_there_is(tmp_path, ("?/pace.jsonl",), workers.scheduler.kill)
        with pytest.raises(ClusterError, match=r"scheduler.*run again"):
            run.make(bench, REQUIRED, lambda _: None)
    rest = Bench(options)
    for job in jobs_of(rest, REQUIRED):
        job.run(rest)
    same(results(tmp_path / "home"), alone)


def test_options_that_dask_does_not_take_end_a_worker(capfd):
    assert "does not take these options" in start.main(["tcp://127.0.0.1:9", "--nonsense"])
    assert "nonsense" in capfd.readouterr().err


def test_a_worker_that_joins_late_is_refused_at_its_first_job(options, monkeypatch):
    events, callbacks = [], []
    fake = SimpleNamespace(
        address="tcp://late", log_event=lambda topic, event: events.append(event), close_gracefully="leaves",
        loop=SimpleNamespace(add_callback=callbacks.append),
    )  # fmt: skip
    monkeypatch.setattr(worker, "get_worker", lambda: fake)
    monkeypatch.setattr(child, "hello", lambda _: replace(MACHINE, core="SkylakeX"))
    monkeypatch.setattr(worker, "_machines", {})
    with pytest.raises(distributed.Reschedule):
        worker.run(Request(options, Job(SFT, 0)), Terms(MACHINE, mixed=False), None)
    assert events == [{"refused": "tcp://late", "reason": "core SkylakeX (here Zen)"}]
    assert callbacks == ["leaves"]


def test_a_worker_with_other_numerics_is_refused(options, tmp_path, monkeypatch):
    bench = session(options, tmp_path / "home", monkeypatch)
    monkeypatch.setattr(child, "hello", lambda options: MACHINE)  # the session's own
    said = []
    with cluster(tmp_path, workers=1) as workers:
        bench.options = replace(options, cluster=workers.address)
        with pytest.raises(ClusterError, match="all 1 workers were refused"):
            run.make(bench, REQUIRED, said.append)
        assert workers.workers[0].wait(timeout=30) != 0  # it does not come back
    assert "(here lock)" in said[-1]
    assert "a session has refused this worker" in (tmp_path / "worker0.log").read_text()


def test_a_worker_that_would_run_several_jobs_at_once_is_refused(options, tmp_path, monkeypatch):
    bench, said = session(options, tmp_path / "home", monkeypatch), []
    with cluster(tmp_path, workers=1, resources=False) as workers:
        bench.options = replace(options, cluster=workers.address)
        with pytest.raises(ClusterError, match="were refused"):
            run.make(bench, REQUIRED, said.append)
    assert "no resource callbench" in said[-1]


@pytest.mark.parametrize("kind", [Killed, Failing])
def test_a_job_that_always_fails_is_given_up(kind, options, tmp_path, monkeypatch):
    """It is tried three times; its arm then raises in every test that needs it, and is not tried again here."""
    bench = session(options, tmp_path / "home", monkeypatch)
    monkeypatch.setattr(run, "jobs_of", lambda *_: [kind(SFT, 0)])
    monkeypatch.setattr(Job, "uses", lambda *_: None)
    with cluster(tmp_path, workers=1) as workers:
        bench.options = replace(options, cluster=workers.address)
        run.make(bench, [REQUIRED[0]], lambda _: None)
    with pytest.raises(ClusterError, match="train sft-all_patterns-s0 failed") as error:
        bench.judgements(SFT, "seen_tools")
    assert ("-9: killed" if kind is Killed else "the disk is full") in str(error.value)


def test_without_a_scheduler_or_a_worker_the_error_says_what_to_start(options, tmp_path, monkeypatch):
    bench = session(replace(options, cluster="tcp://127.0.0.1:9"), tmp_path / "home", monkeypatch)
    monkeypatch.setattr(run, "CONNECT_S", 1.0)
    monkeypatch.setattr(child, "hello", lambda options: MACHINE)
    with pytest.raises(ClusterError, match="Start one: dask scheduler"):
        run.make(bench, REQUIRED, lambda _: None)
    with cluster(tmp_path, workers=0) as workers:
        bench.options = replace(options, cluster=workers.address)
        with pytest.raises(ClusterError, match=r"no worker.*make worker"):
            run.make(bench, REQUIRED, lambda _: None)


def test_a_child_ends_with_its_parent_and_tells_why_it_died(options):
    with pytest.raises(JobError, match="exit code -9"):
        child.ask(Request(options, Killed(SFT, 0)))
    with pytest.raises(JobError, match="the disk is full"):
        child.ask(Request(options, Failing(SFT, 0)))


def test_a_child_that_dies_before_it_has_its_request_tells_why(options, monkeypatch):
    """Past bug: the rest of a request of more than a pipe's 64 KB hid the exit code."""
    monkeypatch.setattr(child, "__name__", "fixtures.no_such_module")
    with pytest.raises(JobError, match=r"exit code 1; it printed last: .*no_such_module"):
        child.ask(Request(replace(options, model="x" * 1_000_000)))


def test_jobs_come_after_what_they_need(options, tmp_path, monkeypatch):
    """DPO starts from SFT; splits are cut into blocks; each job is there once."""
    bench = session(replace(options, items=None), tmp_path, monkeypatch)
    dpo = Arm("dpo", "all_patterns", 0)
    monkeypatch.setattr("fixtures.cluster.jobs.BLOCK", 4)
    required = [Requirement(dpo, "seen_tools", scaffold) for scaffold in ("plain", "repair")]
    jobs = jobs_of(bench, [*required, *REQUIRED])
    assert len(jobs) == len(set(jobs))
    assert all(needs(job) in jobs[: jobs.index(job)] for job in jobs if needs(job))
    assert [str(job) for job in jobs[:2]] == ["train sft-all_patterns-s0", "train dpo-all_patterns-s0"]
    asked = [i for job in jobs if job.arm == dpo for i in job.ids]
    assert sorted(asked) == sorted(bench.items.test_ids("seen_tools"))
    assert max(len(job.ids) for job in jobs) == 4


@pytest.mark.parametrize(
    ("field", "mixed", "refused"),
    [
        ("lock", False, True),
        ("lock", True, False),
        ("canary", False, True),
        ("core", True, False),
        ("code", True, True),
    ],
)
def test_what_may_differ_between_machines(field, mixed, refused):
    other = replace(MACHINE, **{field: "other"})
    refusal = other.refusal(MACHINE, mixed=mixed)
    assert bool(refusal) == refused
    assert not refused or f"{field} other (here {getattr(MACHINE, field)})" in refusal
    assert other.hash != MACHINE.hash
    assert MACHINE.refusal(MACHINE, mixed=False) == ""
