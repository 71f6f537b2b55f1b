"""The same training and the same answers in bf16 and in float32: how far do they differ, and what do they need?

python -m bench.peers.precisions --model qwen2_5_coder_0_5b [--steps 100] [--answers 200] [--record]

Both train on the same rows in the same order. Both answer the same questions, untrained and with the adapter that was
trained in bf16, so that the answers differ by the precision of generation alone.
"""

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bench.support.memory import peak_memory
from bench.support.rows import training_rows
from fixtures.modeling.cpu import blas
from fixtures.runs.ledger import RESULTS
from fixtures.runs.provenance import provenance
from fixtures.storage import assets

BATCH, NEW_TOKENS, SMOOTHED = 2, 64, 10  # rows of a step; tokens of an answer; steps of the mean
LOOKED_AT = 6  # rows whose hidden states and gradient are compared, with the adapter that was trained in bf16


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="qwen2_5_coder_0_5b", help="a key of MODELS")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--answers", type=int, default=200, help="to training questions, the shortest first")
    parser.add_argument("--record", action="store_true", help="write results/precisions-MODEL.json")
    options = parser.parse_args()
    blas.preload_for_command(assets.cache_root() / "blas")
    with TemporaryDirectory() as folder:
        found = {}
        for precision in ("bf16", "float32"):
            found[precision] = run(options, precision, Path(folder))
            blas.release_freed_memory()
    document = {**compared(found), "measured": {p: one["measured"] for p, one in found.items()}}
    print(json.dumps(document, indent=1, ensure_ascii=False))
    if options.record:
        losses = {precision: [round(loss, 5) for loss in one["losses"]] for precision, one in found.items()}
        document |= {"losses": losses, "provenance": provenance() | {"core": blas.core()}}
        (RESULTS / f"precisions-{options.model}.json").write_text(json.dumps(document, indent=1) + "\n")


def run(options, precision, folder):
    """Losses and answers of one precision, with seconds and gigabytes of each part."""
    from fixtures.modeling import loading
    from fixtures.modeling.worker_pool import WorkerPool

    model = loading.load(options.model, precision=precision)
    pool, measured = WorkerPool(model, options.model, blas.cores(), precision), {}
    rows = sorted(training_rows(model), key=lambda row: len(row.tokens))[: options.answers]

    def timed(name, work):
        start = time.monotonic()
        with peak_memory() as peak:
            result = work()
        measured[name] = {"seconds": round(time.monotonic() - start), "gigabytes": peak.gigabytes}
        print(f"{precision}: {name}: {measured[name]}", flush=True)
        return result

    losses = timed("training", lambda: train(pool, options, rows, folder / precision))
    hidden, gradient = states_and_gradient(pool.model, options, rows[:LOOKED_AT], folder / "bf16")
    adapters = {"untrained": None, "adapter": folder / "bf16"}
    answers = {name: timed(f"answers, {name}", lambda a=a: answered(pool, rows, a)) for name, a in adapters.items()}
    pool.close()
    return {"losses": losses, "answers": answers, "measured": measured, "hidden": hidden, "gradient": gradient}


def train(pool, options, rows, folder):
    """SFT with the model's hyper-parameters; the loss of each step."""
    from fixtures.config import Options, scale_of
    from fixtures.modeling import lora
    from fixtures.modeling.batching import single_rows
    from fixtures.training import trainer
    from fixtures.training.methods import METHODS

    hyper, module = scale_of(Options(model=options.model)).hyper, pool.model.module
    lora.attach(module, hyper)
    trainer.attach_lora(pool, hyper)
    optimizer, groups, losses = trainer.adam(module, hyper), single_rows(rows), []
    order = np.random.default_rng(0).permutation(len(groups))
    for step in range(options.steps):
        batch = [groups[order[(BATCH * step + k) % len(groups)]] for k in range(BATCH)]
        optimizer.learning_rate = trainer.learning_rate(step, options.steps, hyper)
        losses.append(trainer.update(pool, METHODS["sft"].objective, optimizer, batch, hyper))
    folder.mkdir()
    lora.save(module, hyper, folder)
    return losses


def states_and_gradient(model, options, rows, adapter):
    """The last hidden states of the rows' prompts, and the gradient of their loss, both as vectors."""
    import mlx.core as mx

    from fixtures.config import Options, scale_of
    from fixtures.modeling import lora
    from fixtures.modeling.batching import single_rows
    from fixtures.modeling.forward import hidden_states
    from fixtures.training import trainer
    from fixtures.training.methods import METHODS

    lora.attach(model.module, scale_of(Options(model=options.model)).hyper)
    lora.load(model.module, adapter)
    objective, groups = METHODS["sft"].objective, single_rows(rows)
    shard = trainer.GradientShard([[group] for group in groups], objective.denominator(groups), objective, None)
    _, gradient = trainer.gradient(model, shard, print)
    states = [hidden_states(model.module, mx.array([row.tokens]))[0, -1] for row in rows]
    return np.concatenate([np.array(state) for state in states]), np.array(gradient)


def answered(pool, rows, adapter):
    from fixtures.config import Decoding
    from fixtures.prompts import Prompt
    from fixtures.runs.inference import shard_prompts

    asked = [Prompt(row.id, row.tokens, ()) for row in rows]
    shards = pool.run(_answer, shard_prompts(pool.size, asked, adapter, Decoding(NEW_TOKENS)))
    return {name: text for shard in shards for name, text in shard.items()}


def _answer(model, shard, _):
    from fixtures.runs import inference

    texts = {}
    inference.generate_shard(
        model, shard, lambda step: texts.update((completion.id, completion.text) for completion in step.finished)
    )
    return texts


def compared(found):
    """Losses relative to float32's, and the answers that differ, with the first characters that do."""
    ours, exact = (np.array(found[precision]["losses"]) for precision in ("bf16", "float32"))
    ours_mean, exact_mean = (np.convolve(x, np.ones(SMOOTHED) / SMOOTHED, "valid") for x in (ours, exact))
    answers = {}
    for name, texts in found["bf16"]["answers"].items():
        others = found["float32"]["answers"][name]
        differing = [i for i in texts if texts[i] != others[i]]
        answers[name] = {
            "same": len(texts) - len(differing), "of": len(texts),
            "differing": {i: _first_difference(texts[i], others[i]) for i in sorted(differing)},
        }  # fmt: skip
    states = {what: _nearness(*(found[p][what] for p in ("bf16", "float32"))) for what in ("hidden", "gradient")}
    return {
        **states,
        "steps": len(ours),
        "largest_difference_of_a_step": float(np.abs(ours / exact - 1).max()),
        f"largest_difference_of_a_mean_of_{SMOOTHED}_steps": float(np.abs(ours_mean / exact_mean - 1).max()),
        "difference_of_the_mean": float(ours.mean() / exact.mean() - 1),
        "answers": answers,
    }


def _nearness(ours, exact):
    """Relative error and cosine of two vectors."""
    norm = np.linalg.norm
    return {
        "relative_error": float(norm(ours - exact) / norm(exact)),
        "cosine": float(ours @ exact / norm(ours) / norm(exact)),
    }


def _first_difference(one, other):
    """What stands in each answer where they begin to differ."""
    at = next((k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return [text[max(0, at - 20) : at + 20] for text in (one, other)]


if __name__ == "__main__":
    main()
