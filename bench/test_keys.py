"""Does the cache still hit for adapters and completions of earlier versions? Recomputes their keys and compares them.

`keys.json` was written by the code at commit c533307 and must not change when code is moved or renamed. A key changes
only on purpose, together with its version in config.VERSIONS; `python -m bench.test_keys` then rewrites the file.
"""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest

from fixtures.arms import Arm, Recording
from fixtures.config import Options
from fixtures.formats import FORMATS
from fixtures.generation.scaffolds import SCAFFOLDS
from fixtures.runs import ledger
from fixtures.runs.provenance import read_manifest
from fixtures.runs.session import Bench
from fixtures.storage import cache as store

pytestmark = [pytest.mark.bfcl, pytest.mark.live]
FILE = Path(__file__).with_name("keys.json")
RUNS = ("full", "smoke")
NUMERICS = {"dtype": "float32", "mlx": "0.32.4", "mlx_lm": "0.32.2"}  # of the recorded runs
MODEL = "e7d90a8588f917126543cb8ab354abc7f8dcdc23584a6d7698e3f909307403a5"


@cache
def tokenizer():
    from mlx_lm.utils import load_tokenizer

    from fixtures.modeling import registry

    return load_tokenizer(registry.locate("smollm2_135m"), {"trust_remote_code": False})


def session(scale):
    """A session whose model has only a tokenizer: keys need no weights."""
    bench = Bench(Options(scale=scale, model="smollm2_135m", replay=True))
    bench.inference.__dict__["model"] = SimpleNamespace(
        tokenizer=tokenizer()._tokenizer,
        end_of_turn=tokenizer().eos_token_id,
        sha256=MODEL,
        format=lambda _: FORMATS["placeholder"],
    )
    return bench


def first_round(bench, arm):
    """A round whose samples are made from the gold answers: truncated, correct, correct, truncated, …"""
    from fixtures.training.method import ScoredSample

    def sample(rows, samples, temperature):
        def scored(row):
            truncated = replace(row, completion=row.completion[: len(row.completion) // 2])
            correct, wrong = ScoredSample(row, True, 1.0), ScoredSample(truncated, False, 0.25)
            return [correct if k % 3 else wrong for k in range(samples)]

        return [scored(row) for row in rows]

    rows = bench.runner.prompts(bench.items.training_ids(arm.regime))
    return SimpleNamespace(seed=arm.seed, number=0, questions=bench.scale.questions, rows=rows, sample=sample)


def spec(bench, arm, weights):
    """The spec whose hash is an adapter's key."""
    from fixtures.training import trainer
    from fixtures.training.methods import METHODS

    method = METHODS[arm.method]
    if method is None:
        return {"model": MODEL} | trainer.numerics() | NUMERICS
    groups, hyper = method.groups(first_round(bench, arm)), method.hyper_at(bench.scale, arm.method)
    return trainer.adapter_spec(MODEL, arm.method, groups, hyper, arm.seed, (weights, weights)) | NUMERICS


def keys(scale):
    """The keys of every recorded arm: of its adapter, its log-probabilities and its completions by sampling method."""
    from fixtures.runs.inference import completion_spec, logprob_spec
    from fixtures.training.methods import METHODS

    bench, keys_by_arm = session(scale), {}
    runs = read_manifest(bench.recorded.folder)
    draws = {draw.name or "greedy": draw for _, draw in SCAFFOLDS.values()}
    for arm in sorted({recording.arm for recording in bench.recorded.recordings()}, key=str):
        weights, method = runs.get(str(arm), {}).get("training", {}).get("weights", {}), METHODS[arm.method]
        start = str(replace(arm, method=method.start)) if method and method.start else ""
        training = spec(bench, arm, weights.get(start, ""))
        own_weights = {"weights": weights[str(arm)]} if weights.get(str(arm)) else {}
        adapter = SimpleNamespace(identity={"training": training} | own_weights)
        decoding = replace(bench.scale.decoding, seed=arm.seed)
        keys_by_arm[str(arm)] = {
            "adapter": store.key(training),
            "log_probabilities": store.key(logprob_spec(adapter)),
            **{name: store.key(completion_spec(adapter, replace(decoding, draw=draw))) for name, draw in draws.items()},
        }
    return keys_by_arm


def test_the_conversion_has_the_recorded_hash():
    """Past bug: one more line in its configuration, and no recorded run could be continued."""
    from fixtures.modeling import registry

    assert registry.fingerprint(registry.locate("smollm2_135m")) == MODEL


@pytest.mark.parametrize("run", RUNS)
def test_keys_match_the_frozen_keys(run):
    """An arm that was recorded since is not in the file yet."""
    frozen = json.loads(FILE.read_text())[run]
    current = keys(run)
    assert {arm: current.get(arm) for arm in frozen} == frozen


@pytest.mark.parametrize("run", RUNS)
def test_keys_match_the_recorded_adapters(run):
    """For SFT and its second epoch: their training data needs no samples, so it can be rebuilt here."""
    runs = read_manifest(ledger.RESULTS / f"smollm2_135m-{run}")
    for name, arm_keys in keys(run).items():
        if Arm.parse(name).method in ("sft", "second_epoch"):
            assert arm_keys["adapter"] == runs[str(Recording(Arm.parse(name)))]["training"]["key"], name


if __name__ == "__main__":
    FILE.write_text(json.dumps({run: keys(run) for run in RUNS}, indent=1, sort_keys=True) + "\n")
