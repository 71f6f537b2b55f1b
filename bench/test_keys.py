"""Are adapters and completions that earlier versions cached still found? Their keys, recomputed and compared.

`keys.json` was written by the code at commit c533307 and must not change with the layout or the names of the code. A
key changes on purpose only, with the version of what it stands for (config.VERSIONS); `python -m bench.test_keys` then
writes the file anew.
"""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest

from fixtures.arms import Arm, Recording
from fixtures.config import Options
from fixtures.generation.scaffolds import SCAFFOLDS
from fixtures.runs import ledger
from fixtures.runs.provenance import read_manifest
from fixtures.runs.session import Bench
from fixtures.storage import cache as store

pytestmark = pytest.mark.live
FILE = Path(__file__).with_name("keys.json")
RUNS = ("default", "smoke")
NUMERICS = {"dtype": "float32", "mlx": "0.32.4", "mlx_lm": "0.32.2"}  # of the recorded runs
MODEL = "e7d90a8588f917126543cb8ab354abc7f8dcdc23584a6d7698e3f909307403a5"


@cache
def tokenizer():
    from mlx_lm.utils import load_tokenizer

    from fixtures.modeling import registry

    return load_tokenizer(registry.locate("smollm2_135m"))


def session(scale):
    """A session whose model is the tokenizer alone: keys need no weights."""
    bench = Bench(Options(scale=scale, replay=True))
    bench.inference.__dict__["model"] = SimpleNamespace(
        tokenizer=tokenizer()._tokenizer, end_of_turn=tokenizer().eos_token_id, sha256=MODEL
    )
    return bench


def first_round(bench, arm):
    """A round whose samples are made from the gold answer: cut short, correct, correct, cut short, …"""
    from fixtures.training.method import ScoredSample

    def sample(rows, samples, temperature):
        def scored(row):
            cut = replace(row, completion=row.completion[: len(row.completion) // 2])
            return [ScoredSample(row, True, 1.0) if k % 3 else ScoredSample(cut, False, 0.25) for k in range(samples)]

        return [scored(row) for row in rows]

    rows = bench.runner.prompts(bench.items.training_ids(arm.regime))
    return SimpleNamespace(seed=arm.seed, number=0, questions=bench.scale.questions, rows=rows, sample=sample)


def spec(bench, arm, weights):
    """What an adapter's key is made of."""
    from fixtures.training import trainer
    from fixtures.training.methods import METHODS

    method = METHODS[arm.method]
    if method is None:
        return {"model": MODEL} | trainer.numerics() | NUMERICS
    groups, hyper = method.groups(first_round(bench, arm)), method.hyper(bench.scale.hyper)
    return trainer.adapter_spec(MODEL, arm.method, groups, hyper, arm.seed, (weights, weights)) | NUMERICS


def keys(scale):
    """Of every recorded arm, and of its completions by each draw."""
    from fixtures.runs.inference import completion_spec, logprob_spec
    from fixtures.training.methods import METHODS

    bench, found = session(scale), {}
    runs = read_manifest(bench.recorded.folder)
    draws = {draw.name or "greedy": draw for _, draw in SCAFFOLDS.values()}
    for arm in sorted({recording.arm for recording in bench.recorded.recordings()}, key=str):
        weights, method = runs.get(str(arm), {}).get("training", {}).get("weights", {}), METHODS[arm.method]
        start = str(replace(arm, method=method.start)) if method and method.start else ""
        of = spec(bench, arm, weights.get(start, ""))
        own = {"weights": weights[str(arm)]} if weights.get(str(arm)) else {}
        adapter = SimpleNamespace(identity={"training": of} | own)
        decoding = replace(bench.scale.decoding, seed=arm.seed)
        found[str(arm)] = {
            "adapter": store.key(of),
            "log_probabilities": store.key(logprob_spec(adapter)),
            **{name: store.key(completion_spec(adapter, replace(decoding, draw=draw))) for name, draw in draws.items()},
        }
    return found


@pytest.mark.parametrize("run", RUNS)
def test_keys_are_what_they_were(run):
    assert keys(run) == json.loads(FILE.read_text())[run]


@pytest.mark.parametrize("run", RUNS)
def test_keys_are_those_of_the_recorded_adapters(run):
    """Where the training data needs no samples, so that it can be made again: SFT and its second epoch."""
    runs = read_manifest(ledger.RESULTS / f"smollm2_135m-{run}")
    for name, of in keys(run).items():
        if Arm.parse(name).method in ("sft", "second_epoch"):
            assert of["adapter"] == runs[str(Recording(Arm.parse(name)))]["training"]["key"], name


if __name__ == "__main__":
    FILE.write_text(json.dumps({run: keys(run) for run in RUNS}, indent=1, sort_keys=True) + "\n")
