"""How fast are training, prefill, decode and scoring here? (pytest-benchmark; figures, not verdicts)"""

import subprocess
import sys

import pytest

from fixtures import assets
from fixtures.dataset import gold_calls
from fixtures.match import match_answer
from fixtures.parse import parse_calls
from fixtures.prompts import render_calls, render_prompts

MATMUL = """
import sys, time
from pathlib import Path
from fixtures import accelerate
if sys.argv[1] == "openblas":
    assert accelerate.preload_blas(Path(sys.argv[2])).name == "openblas"
import mlx.core as mx
a = mx.random.normal((768, 768), stream=mx.cpu)
best = float("inf")
for _ in range(4):
    start = time.perf_counter()
    mx.eval(mx.matmul(a, a, stream=mx.cpu))
    best = min(best, time.perf_counter() - start)
print(best)
"""


def matmul_s(blas):
    """Best of four 768-wide float32 matmuls in a fresh process, which has its own BLAS."""
    command = [sys.executable, "-c", MATMUL, blas, str(assets.cache_root() / "blas")]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.live
def test_throughput_of_matmul_against_the_wheels_own_blas(benchmark, bench):
    """OpenBLAS is at least five times as fast as the BLAS that MLX's Linux wheel links."""
    if bench.blas.name != "openblas":
        pytest.skip(f"needs a Linux CPU with OpenBLAS preloaded, found {bench.blas.name}: {bench.blas.reason}")
    fast = benchmark.pedantic(matmul_s, args=("openblas",), rounds=1)
    slow = matmul_s("wheel")
    benchmark.extra_info.update(openblas_gflops=2 * 768**3 / fast / 1e9, wheel_gflops=2 * 768**3 / slow / 1e9)
    assert slow / fast >= 5


def test_throughput_of_scoring(benchmark, examples):
    """Parse and match 1,000 gold answers."""
    answers = [(render_calls(gold_calls(example)), example) for example in examples.values()]
    verdicts = benchmark(lambda: [match_answer(parse_calls(text), example) for text, example in answers])
    if benchmark.enabled:
        benchmark.extra_info["verdicts_per_s"] = len(verdicts) / benchmark.stats.stats.median
    assert all(verdict.correct for verdict in verdicts)


@pytest.fixture(scope="session")
def model(bench):
    return bench.live.base_model()


@pytest.fixture
def prompts(bench, model):
    """Twenty training questions, five per category."""
    ids = bench.training_ids("all_patterns")[:20]
    return render_prompts([bench.examples[i] for i in ids], model.tokenizer, model.end_of_turn)


def per_second(benchmark, tokens):
    """Tokens per second of the one pedantic round, into the benchmark's record."""
    if benchmark.enabled:
        benchmark.extra_info.update(tokens=tokens, tokens_per_s=tokens / benchmark.stats.stats.min)


@pytest.mark.live
def test_throughput_of_training(benchmark, bench, model, prompts, tmp_path):
    """Optimizer steps over 20 examples, after one step that compiles the kernels."""
    from dataclasses import replace

    from fixtures import train
    from fixtures.methods import METHODS

    hyper = replace(bench.scale.hyper, epochs=1)
    arguments = (model.module, METHODS["sft"], prompts, hyper, 0)
    train.train(*arguments, tmp_path / "warm")
    benchmark.pedantic(lambda: train.train(*arguments, tmp_path / "timed"), rounds=1)
    train.detach(model.module)
    per_second(benchmark, sum(len(p.tokens) + len(p.completion) for p in prompts))


@pytest.mark.live
@pytest.mark.parametrize(("part", "new_tokens"), [("prefill", 1), ("prefill_and_decode", 33)])
def test_throughput_of_generation(benchmark, model, prompts, part, new_tokens):
    """Twenty rows: the prompts alone, and with 32 more tokens each."""
    from fixtures import generate
    from fixtures.arms import Decoding

    decoding = Decoding(max_new_tokens=new_tokens)
    answers = benchmark.pedantic(
        lambda: [c for batch in generate.generate(model, prompts, decoding) for c in batch], rounds=1, warmup_rounds=1
    )
    read = sum(len(prompt.tokens) for prompt in prompts)
    per_second(benchmark, read if part == "prefill" else sum(answer.tokens for answer in answers))
