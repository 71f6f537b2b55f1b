"""Are adapters and completions that earlier versions cached still found? Their keys, recomputed and compared.

`keys.json` was written by the code at commit c533307 and must not change with the layout or the names of the code. A
key changes on purpose only, with the VERSION of what it stands for; `python -m bench.test_keys` then writes the file.
"""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest

from fixtures.arms import Arm
from fixtures.generation.scaffolds import SCAFFOLDS
from fixtures.runs import ledger
from fixtures.runs.session import Bench, Options
from fixtures.storage import cache as store

FILE = Path(__file__).with_name("keys.json")
RUNS = ("default", "smoke")
NUMERICS = {"dtype": "float32", "mlx": "0.32.4", "mlx_lm": "0.32.2"}  # of the recorded runs
MODEL = "e7d90a8588f917126543cb8ab354abc7f8dcdc23584a6d7698e3f909307403a5"
FROM = {"second_epoch": "sft", "rft": "sft", "dpo": "sft", "grpo": "sft"}


@cache
def tokenizer():
    from mlx_lm.utils import load_tokenizer

    from fixtures.modeling import loading

    return load_tokenizer(loading.locate("smollm2_135m"))


def session(scale):
    """A session whose model is the tokenizer alone: keys need no weights."""
    bench = Bench(Options(scale=scale, replay=True))
    bench.live.asker.__dict__["model"] = SimpleNamespace(
        tokenizer=tokenizer()._tokenizer, end_of_turn=tokenizer().eos_token_id, sha256=MODEL
    )
    return bench


def stage(bench, arm):
    """One round of a training whose samples are made of the gold answer: right, cut short, and right again."""
    from fixtures.training.method import Answered

    def sample(rows, samples, temperature):
        def answers(row):
            cut = replace(row, completion=row.completion[: len(row.completion) // 2])
            return [Answered(row, True, 1.0) if k % 3 else Answered(cut, False, 0.25) for k in range(samples)]

        return [answers(row) for row in rows]

    rows = bench.live.prompts(bench.training_ids(arm.regime))
    return SimpleNamespace(seed=arm.seed, round=0, questions=bench.scale.questions, rows=rows, sample=sample)


def spec(bench, arm, weights):
    """What an adapter's key is made of."""
    from fixtures.training import trainer
    from fixtures.training.methods import METHODS

    method = METHODS[arm.method]
    if method is None:
        return {"model": MODEL} | trainer.numerics() | NUMERICS
    groups, hyper = method.groups(stage(bench, arm)), method.hyper(bench.scale.hyper)
    return trainer.spec(MODEL, arm.method, groups, hyper, arm.seed, (weights, weights), method.recipe) | NUMERICS


def keys(scale):
    """Of every recorded arm and of its completions, by each way of drawing them."""
    from fixtures.generation import logprobs
    from fixtures.runs.inference import _completion_spec

    bench, found = session(scale), {}
    runs = ledger.jsonl.read_document(bench.recorded.folder / ledger.MANIFEST)
    for name in sorted({name.partition("+")[0] for name in runs if "/" not in name}):
        method, _, rest = name.partition("-")
        regime, _, seed = rest.rpartition("-s")
        arm = Arm(method, regime, int(seed)) if rest else Arm(method)
        weights = runs[name]["training"].get("weights", {})
        of = spec(bench, arm, weights.get(f"{FROM.get(method)}-{rest}", ""))
        answering = {"training": of} | ({"weights": weights[name]} if weights.get(name) else {})
        adapter = SimpleNamespace(answering=answering)
        draws = {draw.name or "greedy": draw for _, draw in SCAFFOLDS.values()}
        found[name] = {
            "adapter": store.key(of),
            "log_probabilities": store.key(answering | {"likelihood": logprobs.RECIPE}),
            **{
                draw_name: store.key(
                    _completion_spec(
                        adapter,
                        replace(
                            bench.scale.decoding, temperature=draw.temperature, samples=draw.samples, seed=arm.seed,
                            constrained=draw.constrained,
                        ),
                    )
                )
                for draw_name, draw in draws.items()
            },
        }  # fmt: skip
    return found


@pytest.mark.live
@pytest.mark.parametrize("run", RUNS)
def test_keys_are_what_they_were(run):
    assert keys(run) == json.loads(FILE.read_text())[run]


@pytest.mark.live
@pytest.mark.parametrize("run", RUNS)
def test_keys_are_those_of_the_recorded_adapters(run):
    """Where the training data needs no samples, so that it can be made again: SFT and its second epoch."""
    runs = ledger.jsonl.read_document(ledger.RESULTS / f"smollm2_135m-{run}" / ledger.MANIFEST)
    for name, of in keys(run).items():
        if name.startswith(("sft-", "second_epoch-")):
            assert of["adapter"] == runs[name]["training"]["key"], name


if __name__ == "__main__":
    FILE.write_text(json.dumps({run: keys(run) for run in RUNS}, indent=1, sort_keys=True) + "\n")
