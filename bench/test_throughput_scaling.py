"""Do time and memory grow linearly with examples, lengths and items? (figures, not verdicts)"""

import json
import time
from itertools import islice

import numpy as np
import pytest

from fixtures.runs import ledger, provenance

pytestmark = [pytest.mark.bfcl, pytest.mark.live]
FACTORS = (1, 2, 4, 8)
AXES = ("examples", "lengths", "items")


@pytest.fixture(scope="module")
def stream(bench):
    """Real training tokens as one stream, from which rows of any length are cut."""
    from fixtures.prompts import render_prompts

    model = bench.inference.base_model()
    ids = bench.items.training_ids("all_patterns")[:40]
    rows = render_prompts(
        [bench.items.examples[i] for i in ids], model.tokenizer, model.end_of_turn, form=model.format("")
    )
    return [token for row in rows for token in row.tokens + row.completion]


@pytest.fixture
def cut(stream):
    """A function that cuts `n` rows of `length` tokens; the last 30 tokens of each are the completion."""
    from fixtures.prompts import Prompt

    def rows_of(n, length):
        tokens = iter(stream * (1 + n * length // len(stream)))
        rows = [tuple(islice(tokens, length)) for _ in range(n)]
        return [Prompt(str(i), row[:-30], row[-30:]) for i, row in enumerate(rows)]

    return rows_of


@pytest.fixture
def work(bench, cut, tmp_path):
    """The work of each axis, as a function of the factor."""
    from fixtures.config import Decoding
    from fixtures.modeling.batching import single_rows
    from fixtures.runs.inference import generate_shard, shard_prompts
    from fixtures.training import trainer
    from fixtures.training.methods import METHODS

    pool, hyper = bench.inference.pool, bench.scale.hyper

    def train(rows):
        trainer.train(pool, METHODS["sft"].objective, single_rows(rows), hyper, 0, tmp_path / "checkpoints")

    def generate(rows):
        pool.run(generate_shard, shard_prompts(pool.size, rows, None, Decoding(16)))

    return {
        "examples": lambda factor: train(cut(2 * factor, 150)),
        "lengths": lambda factor: train(cut(2, 100 * factor)),
        "items": lambda factor: generate(cut(6 * factor, 200)),
    }


@pytest.fixture(scope="module")
def measured(request):
    """Seconds and gigabytes at each factor, by axis; --record writes them and a plot to results/."""
    columns_by_axis = {}
    yield columns_by_axis
    if request.config.getoption("record") and columns_by_axis.keys() == set(AXES):
        document = {"factors": FACTORS, "axes": columns_by_axis, "provenance": provenance.provenance()}
        (ledger.RESULTS / "scaling.json").write_text(json.dumps(document, indent=1) + "\n")
        plot(columns_by_axis, ledger.RESULTS / "scaling.svg")


def plot(columns_by_axis, path):
    """Seconds and memory against the factor on log-log axes: a line of slope 1 is linear growth."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "callbench"
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for panel, column, unit in zip(panels, ("seconds", "gigabytes"), ("s", "GB, one process"), strict=True):
        for axis, columns in columns_by_axis.items():
            panel.plot(FACTORS, columns[column], marker="o", label=axis)
        panel.set(xscale="log", yscale="log", xlabel="times the work", ylabel=unit, title=column, xticks=FACTORS)
        panel.set_xticklabels(FACTORS)
        panel.plot(FACTORS, FACTORS, color="grey", linestyle=":", label="linear")
        panel.legend()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


@pytest.mark.parametrize("axis", AXES)
def test_throughput_scaling(benchmark, work, axis, measured):
    """Seconds and peak memory of this process at 1, 2, 4 and 8 times the work, and the exponent of growth."""
    import mlx.core as mx

    def measure(factor):
        mx.reset_peak_memory()
        start = time.perf_counter()
        work[axis](factor)
        return time.perf_counter() - start, mx.get_peak_memory() / 1e9

    work[axis](1)  # compiles kernels and starts the workers
    by_factor = benchmark.pedantic(lambda: [measure(factor) for factor in FACTORS], rounds=1)
    seconds, gigabytes = (list(column) for column in zip(*by_factor, strict=True))
    exponents = [float(np.polyfit(np.log(FACTORS), np.log(column), 1)[0]) for column in (seconds, gigabytes)]
    measured[axis] = {"seconds": seconds, "gigabytes": gigabytes, "exponents": exponents}
    benchmark.extra_info.update(measured[axis])
    for factor, took, peak in zip(FACTORS, seconds, gigabytes, strict=True):
        print(f"{axis} x {factor}: {took:.2f} s, {peak:.2f} GB")
    assert gigabytes[-1] < FACTORS[-1] * gigabytes[0]  # the model itself does not grow
    print(f"{axis}: seconds grow with exponent {exponents[0]:.2f}, memory with {exponents[1]:.2f} (1 is linear)")
