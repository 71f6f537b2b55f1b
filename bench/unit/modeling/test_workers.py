"""Worker processes share the work without changing its results, and their failures are reported."""

import dataclasses
import os
import signal

import mlx.core as mx
import numpy as np
import pytest

from fixtures import config
from fixtures.modeling import loading, lora, worker_pool
from fixtures.modeling.batching import batch_order, single_rows
from fixtures.modeling.cpu import blas
from fixtures.modeling.worker_pool import WorkerError, WorkerPool
from fixtures.prompts import Prompt
from fixtures.runs import inference
from fixtures.training import trainer
from fixtures.training.methods import sft

HYPER = config.Hyper(rank=2, alpha=4, lr=1e-2, final_lr=1e-3, warmup_steps=1, epochs=2, batch_size=3)


@pytest.fixture(scope="module")
def model(lively_qwen):
    return loading.load(str(lively_qwen))


@pytest.fixture(scope="module")
def pair(model, lively_qwen):
    """This process and one worker."""
    pool = WorkerPool(model, str(lively_qwen), 2, offline=True)
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return [
        Prompt(str(n), tuple(rng.integers(2, 250, n).tolist()), (*rng.integers(2, 250, 9).tolist(), 257))
        for n in range(10, 90, 11)
    ]


def add(model, shard, on_message):
    on_message(f"adding {shard}")
    if shard == [13]:
        raise ValueError("unlucky")
    if shard == ["die"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return sum(shard)


def test_results_keep_their_order_and_messages_arrive(pair):
    messages = []
    assert pair.run(add, [[1, 2], [4]], messages.append) == [3, 4]
    assert sorted(messages) == ["adding [1, 2]", "adding [4]"]


def test_a_workers_failure_is_raised_in_the_main_process_and_the_pool_stays_usable(pair):
    with pytest.raises(WorkerError, match=r"(?s)worker 1 failed.*ValueError: unlucky"):
        pair.run(add, [[1], [13]])
    assert pair.run(add, [[1], [2]]) == [1, 2]


def test_a_killed_worker_raises_an_error_instead_of_hanging(pair):
    with pytest.raises(WorkerError, match=r"worker 1 died with exit code -9.*--workers 1"):
        pair.run(add, [[1], ["die"]])
    assert pair.run(add, [[1], [2]]) == [1, 2]


def test_the_pool_stays_usable_after_a_failure_in_the_main_process(pair):
    with pytest.raises(ValueError, match="unlucky"):
        pair.run(add, [[13], [1]])
    assert pair.run(add, [[1], [2]]) == [1, 2]


def test_two_processes_train_the_same_weights_as_one(model, pair, rows, lively_qwen, tmp_path):
    groups, objective = single_rows(rows), sft.METHOD.objective
    alone = trainer.train(WorkerPool(model, str(lively_qwen), 1), objective, groups, HYPER, 0, tmp_path / "a")
    alone = {name: np.array(value) for name, value in alone.items()}
    together = trainer.train(pair, objective, groups, HYPER, 0, tmp_path / "b")
    again = {name: np.array(value) for name, value in together.items()}
    for name, value in alone.items():
        assert mx.allclose(mx.array(value), together[name], rtol=1e-3, atol=1e-5)
    lora.save(model.module, HYPER, tmp_path)
    shard = inference.PromptShard(tmp_path, config.Decoding(2), rows[:1])
    pair.run(inference.generate_shard, [shard, shard])  # leaves merged layers behind
    for name, value in trainer.train(pair, objective, groups, HYPER, 0, tmp_path / "c").items():
        assert np.array_equal(again[name], value)


def test_a_worker_whose_first_shard_comes_late_gets_the_adapter(model, pair, rows, lively_qwen, tmp_path):
    """As in rft at the smoke scale: the first batch has one group and the second has two."""
    groups, seed, hyper = single_rows(rows[:3]), 0, dataclasses.replace(HYPER, batch_size=2)
    assert [len(batch) for batch in batch_order([group.length for group in groups], hyper, seed)][:2] == [1, 2]
    shard = inference.PromptShard(None, config.Decoding(2), rows[:1])
    pair.run(inference.generate_shard, [shard, shard])  # the worker has no adapter attached
    alone = trainer.train(
        WorkerPool(model, str(lively_qwen), 1), sft.METHOD.objective, groups, hyper, seed, tmp_path / "a"
    )
    alone = {name: np.array(value) for name, value in alone.items()}
    for name, value in trainer.train(pair, sft.METHOD.objective, groups, hyper, seed, tmp_path / "b").items():
        assert np.allclose(alone[name], value, rtol=1e-3, atol=1e-5)


def forever(model, shard, on_message):
    import time

    while True:
        on_message("alive")
        time.sleep(0.05)


def test_a_worker_whose_home_died_ends_quietly(lively_qwen, capfd):
    """Past bug: it printed a traceback of a broken pipe."""
    worker = worker_pool._Worker(1, (str(lively_qwen), "float32", True, ""))
    worker.start(forever, None, 1)
    assert worker.pipe.recv() == ("message", "alive")
    worker.pipe.close()  # as the kernel does for a process that died
    worker.process.join(30)
    assert worker.process.exitcode == 0
    assert "Traceback" not in capfd.readouterr().err


def test_a_worker_that_fails_before_its_first_job_says_why(model):
    """Past bug: a job larger than the pipe's buffer hid the error behind `died with exit code 0`."""
    pool = WorkerPool(model, "/no/such/model", 2, offline=True)
    with pytest.raises(WorkerError, match=r"worker 1 failed:\n(.*\n)*.*no/such/model"):
        pool.run(add, [[1], [0] * 10_000_000])


def test_a_pool_of_three_shares_the_blas_threads(model, lively_qwen):
    pool, threads = WorkerPool(model, str(lively_qwen), 3, offline=True), blas.cores()
    assert pool.run(add, [[1], [2], [3]]) == [1, 2, 3]
    assert blas.cores() == threads
    pool.close()
    with pytest.raises(ValueError, match="4 shards for a pool of 3"):
        pool.run(add, [[1]] * 4)


def test_two_processes_generate_the_same_completions_as_one(model, pair, rows):
    def shards_of(*parts):
        return [inference.PromptShard(None, config.Decoding(12, batch_size=2), list(part)) for part in parts]

    completions = {1: [], 2: []}
    for size, shards in ((1, shards_of(rows)), (2, shards_of(rows[::2], rows[1::2]))):
        pair.run(inference.generate_shard, shards, lambda step, size=size: completions[size].extend(step.finished))
    assert len({completion.text for completion in completions[1]}) == len(rows)
    assert sorted(completions[1], key=str) == sorted(completions[2], key=str)
