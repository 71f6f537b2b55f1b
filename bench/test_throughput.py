"""How fast are training, prefill, decode and scoring here? (pytest-benchmark; figures, not verdicts)"""

import subprocess
import sys
import time
from functools import partial

import pytest

from bench.support import official
from bench.support.memory import peak_memory
from bench.support.mutations import HARMFUL, mutate
from bench.support.strategies import HOSTILE
from fixtures.data.bfcl import CATEGORIES, Answer, Call, Example, gold_calls
from fixtures.modeling.cpu import blas
from fixtures.prompts import render_prompts
from fixtures.runs.provenance import provenance
from fixtures.scoring.parse import parse_calls
from fixtures.scoring.scorer import prepare_scorer
from fixtures.storage import assets, pinned
from fixtures.storage.files import ROOT

pytestmark = [pytest.mark.bfcl, pytest.mark.live]
MATMUL = """
import sys, time
from pathlib import Path
from fixtures.modeling.cpu import blas
if sys.argv[1] == "openblas":
    assert blas.preload_blas(Path(sys.argv[2])).name == "openblas"
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


def test_throughput_of_matmul_against_the_wheels_own_blas(benchmark, bench):
    """OpenBLAS is at least five times as fast as the BLAS that MLX's Linux wheel links."""
    if bench.blas.name != "openblas":
        pytest.skip(f"needs a Linux CPU with OpenBLAS preloaded, found {bench.blas.name}: {bench.blas.reason}")
    fast = benchmark.pedantic(matmul_s, args=("openblas",), rounds=1)
    slow = matmul_s("wheel")
    benchmark.extra_info.update(openblas_gflops=2 * 768**3 / fast / 1e9, wheel_gflops=2 * 768**3 / slow / 1e9)
    assert slow / fast >= 5


def gold_and_variants(examples, kind):
    """2,000 (calls, item) pairs: the gold answers, then each with its arguments reordered, or one mutant of each."""
    names = ["reorder_arguments"] if kind == "right" else list(HARMFUL)
    items = [example for example in examples.values() if example.category in CATEGORIES]
    gold = [(gold_calls(example), example) for example in items]
    variants = [(mutate(e, names[k % len(names)]) or gold_calls(e), e) for k, e in enumerate(items)]
    return gold + variants


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@pytest.mark.parametrize("kind", ["right", "half_wrong"])
def test_throughput_of_scoring_against_upstream(benchmark, bench, examples, kind):
    """Our three verdicts against upstream's one on the same 2,000 answers; interleaved, best of seven runs each."""
    upstream = official.load(assets.fetch(pinned.BFCL, offline=bench.options.offline))
    answers = gold_and_variants(examples, kind)
    scorers = {i: prepare_scorer(example) for i, example in examples.items()}
    ready = [(calls, scorers[example.id]) for calls, example in answers]

    def both():
        ours = seconds(lambda: [scorer.judge(calls) for calls, scorer in ready])
        return ours, seconds(lambda: [upstream(calls, example) for calls, example in answers])

    ours, theirs = map(min, zip(*benchmark.pedantic(lambda: [both() for _ in range(7)], rounds=1), strict=True))
    ratio = theirs / ours
    benchmark.extra_info.update(answers_per_s=len(answers) / ours, upstream_per_s=len(answers) / theirs, ratio=ratio)
    print(f"{kind}: {len(answers) / ours:.0f} answers/s, upstream {len(answers) / theirs:.0f}, ratio {ratio:.2f}")
    assert kind != "right" or ratio >= 3


@pytest.mark.parametrize("order", ["in_order", "reversed", "one_wrong"])
def test_throughput_of_parallel_calls(benchmark, order):
    """Seconds to score 8 to 64 parallel calls to one tool, and how they grow."""

    def best_s(n):
        tool = {"name": "f", "parameters": {"properties": {"x": {"type": "integer"}}, "required": ["x"]}}
        gold = tuple(Answer("f", {"x": [i]}) for i in range(n))
        scorer = prepare_scorer(Example("made_0", "parallel", (), (tool,), gold))
        values = list(range(n))[:: -1 if order == "reversed" else 1]
        values[n // 2] = -1 if order == "one_wrong" else values[n // 2]
        calls = [Call("f", {"x": value}) for value in values]
        return min(seconds(lambda: scorer.judge(calls)) for _ in range(20))

    took = benchmark.pedantic(lambda: {n: best_s(n) for n in (8, 16, 32, 64)}, rounds=1)
    benchmark.extra_info.update({f"us_{n}": 1e6 * s for n, s in took.items()})
    print(order, {n: f"{1e6 * s:.0f} us" for n, s in took.items()})
    assert took[64] < 8 * 16 * took[8]  # at most quadratic in the number of calls, with a factor of 2 for noise


@pytest.mark.parametrize("piece", HOSTILE, ids=ascii)
def test_throughput_of_parsing_hostile_text(benchmark, piece):
    """Parsing is about linear: four times the text takes about four times as long, whatever its content."""

    def best_s(size):
        text = "x " + piece * (size // len(piece))
        return min(seconds(lambda: parse_calls(text)) for _ in range(5))

    small, large = benchmark.pedantic(lambda: (best_s(20_000), best_s(80_000)), rounds=1)
    benchmark.extra_info.update(ms_per_80k=1000 * large, growth=large / small)
    assert large < 8 * max(small, 0.0005)


@pytest.fixture(scope="session")
def model(bench):
    return bench.inference.base_model()


@pytest.fixture
def prompts(bench, model):
    """Twenty training prompts, five per category."""
    ids = bench.items.training_ids("all_patterns")[:20]
    return render_prompts(
        [bench.items.examples[i] for i in ids], model.tokenizer, model.end_of_turn, form=model.format("")
    )


@pytest.fixture
def per_second(benchmark, bench):
    """Records tokens per second, also per TFLOP/s of a reference matmul, which makes machines comparable."""

    def record(tokens):
        if not benchmark.enabled:
            return
        speed, reference_gflops = tokens / benchmark.stats.stats.min, blas.gflops()
        versions = {name: provenance()["versions"][name] for name in ("mlx", "mlx-lm")}
        benchmark.extra_info.update(
            tokens=tokens, tokens_per_s=speed, reference_gflops=reference_gflops,
            tokens_per_s_per_tflops=1000 * speed / reference_gflops,
            blas=bench.blas.reason, processes=bench.inference.pool.size, **versions,
        )  # fmt: skip
        print(f"{tokens} tokens, {speed:.1f}/s; {1000 * speed / reference_gflops:.0f}/s per reference TFLOP/s")

    return record


def test_throughput_of_training(benchmark, bench, model, prompts, per_second, tmp_path):
    """One epoch over 20 examples, after a warm-up epoch that compiles the kernels."""
    from dataclasses import replace

    from fixtures.modeling import lora
    from fixtures.modeling.batching import single_rows
    from fixtures.training import trainer
    from fixtures.training.methods import METHODS

    hyper = replace(bench.scale.hyper, epochs=1)
    arguments = (bench.inference.pool, METHODS["sft"].objective, single_rows(prompts), hyper, 0)
    trainer.train(*arguments, tmp_path / "warm")
    losses = []
    train = partial(trainer.train, *arguments, tmp_path / "timed", lambda step: losses.append(step.loss))
    with peak_memory() as peak:
        benchmark.pedantic(train, rounds=1)
    lora.detach(model.module)
    assert losses[-1] < losses[0]
    benchmark.extra_info.update(gigabytes=peak.gigabytes)
    if peak.gigabytes:
        print(f"{peak.gigabytes:.1f} GB in all processes")
    per_second(sum(len(p.tokens) + len(p.completion) for p in prompts))


@pytest.mark.parametrize(
    ("part", "rows", "new_tokens"), [("prefill", 20, 1), ("decode_20", 20, 33), ("decode_1", 1, 33)]
)
def test_throughput_of_generation(benchmark, bench, prompts, per_second, part, rows, new_tokens):
    """Prefill with one token per row; and 33 tokens per row, with the prefill in the time."""
    from fixtures.config import Decoding
    from fixtures.runs.inference import generate_shard, shard_prompts

    pool, steps = bench.inference.pool, []
    shards = shard_prompts(pool.size, prompts[:rows], None, Decoding(new_tokens))
    benchmark.pedantic(
        lambda: pool.run(generate_shard, shards, steps.append), setup=steps.clear, rounds=1, warmup_rounds=1
    )
    assert sorted(one.id for step in steps for one in step.finished) == sorted(prompt.id for prompt in prompts[:rows])
    per_second(sum(len(p.tokens) for p in prompts[:rows]) if part == "prefill" else sum(step.tokens for step in steps))


STARTS = {
    "collecting": (["--collect-only"], "tests collected"),
    "replaying": (["--replay"], " passed"),
}


@pytest.mark.parametrize("what", STARTS)
def test_throughput_of_starting(benchmark, what):
    """Collecting all tests, and replaying the default run, each in a fresh process."""
    options, end = STARTS[what]
    command = [sys.executable, "-m", "pytest", "bench", "-q", "-p", "no:cacheprovider", *options]
    run = partial(subprocess.run, command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert end in benchmark.pedantic(run, rounds=3, warmup_rounds=1).stdout.splitlines()[-1]
