"""callbench itself, through the same functions as a real run."""

import json
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
from protocol import serve, timed

FOLDER = Path(sys.argv[1])
WORK = json.loads((FOLDER / "work.json").read_text())


def main():
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from fixtures.modeling.cpu import blas
    from fixtures.storage import assets

    blas.preload_blas(assets.cache_root() / "blas", int(sys.argv[2]))
    from fixtures.modeling import loading
    from fixtures.modeling.worker_pool import WorkerPool

    model = loading.load(WORK["model"], precision=sys.argv[3])
    pool = WorkerPool(model, WORK["model"], blas.cores(), sys.argv[3])
    generate(pool, WORK["prompts"][:2], 1)  # starts the workers
    tasks = {"train": train, "prefill": prefill, "decode": decode}
    serve({name: partial(task, pool) for name, task in tasks.items()})


def train(pool, length):
    import mlx.core as mx
    from mlx.utils import tree_unflatten

    from fixtures.config import Hyper
    from fixtures.modeling import lora
    from fixtures.modeling.batching import single_rows
    from fixtures.prompts import Prompt
    from fixtures.training import trainer
    from fixtures.training.methods import sft

    hyper = Hyper(WORK["rank"], WORK["alpha"], WORK["lr"], WORK["lr"], 0, 1, WORK["batch"], WORK["max_grad_norm"])
    cut = length - WORK["completion"]
    rows = single_rows(
        [Prompt(str(i), tuple(r[:cut]), tuple(r[cut:])) for i, r in enumerate(WORK["training"][str(length)])]
    )
    module = pool.model.module
    lora.attach(module, hyper)
    trainer.attach_lora(pool, hyper)
    lora_a = np.load(FOLDER / "lora_a.npz")
    module.update(tree_unflatten([(f"{name}.lora_a", mx.array(lora_a[name].T)) for name in lora_a.files]))
    optimizer = trainer.adam(module, hyper)
    batches = [rows[i : i + hyper.batch_size] for i in range(0, len(rows), hyper.batch_size)]
    step = partial(trainer.update, pool, sft.METHOD.objective, optimizer, hyper=hyper)
    losses = [step(groups=batches[0])]  # warm-up
    seconds, rest = timed(lambda: [step(groups=batch) for batch in batches[1:]])
    return {"seconds": seconds, "tokens": length * len(rows[hyper.batch_size :]), "losses": losses + rest}


def timed_shard(model, shard, _):
    """One process's part of decoding: when each step ended, its new tokens, and the finished completions."""
    from fixtures.runs import inference

    steps = []
    inference.generate_shard(model, shard, lambda step: steps.append((time.perf_counter(), step.tokens, step.finished)))
    return steps


def generate(pool, texts, new_tokens):
    """The steps of every process; their clocks are the same."""
    from fixtures.config import Decoding
    from fixtures.prompts import Prompt
    from fixtures.runs import inference

    prompts = [Prompt(str(i), tuple(tokens), ()) for i, tokens in enumerate(texts)]
    return pool.run(timed_shard, inference.shard_prompts(pool.size, prompts, None, Decoding(new_tokens)))


def prefill(pool):
    seconds, _ = timed(lambda: generate(pool, WORK["prefilled"], 1))
    return {"seconds": seconds, "tokens": sum(map(len, WORK["prefilled"]))}


def decode(pool, rows):
    """Timed from the moment when all processes have a first token to the end."""
    shards = generate(pool, WORK["prompts"][:rows], 1 + WORK["new_tokens"])
    start = max(steps[0][0] for steps in shards)
    later = [step for steps in shards for step in steps if step[0] > start]
    finished = [completion for steps in shards for _, _, finished in steps for completion in finished]
    answers = [completion.text for completion in sorted(finished, key=lambda c: int(c.id))]
    seconds = max(at for at, _, _ in later) - start
    return {"seconds": seconds, "tokens": sum(n for _, n, _ in later), "answers": answers}


if __name__ == "__main__":  # worker processes import this file again
    main()
