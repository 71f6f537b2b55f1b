"""llama.cpp on the same GGUF, row by row. Its own 4-bit kernels use other arithmetic: only its speed is compared."""

import json
import sys
from pathlib import Path

import llama_cpp
from protocol import serve, timed

WORK = json.loads((Path(sys.argv[1]) / "work.json").read_text())
THREADS = int(sys.argv[2])
MODEL = llama_cpp.Llama(
    WORK["gguf"], n_ctx=4096, n_batch=512, n_threads=THREADS, n_threads_batch=THREADS, verbose=False
)


def prefill():
    def run():
        for tokens in WORK["prefilled"]:
            MODEL.reset()
            MODEL.eval(tokens)

    seconds, _ = timed(run)
    return {"seconds": seconds, "tokens": sum(map(len, WORK["prefilled"]))}


def decode(rows):
    """Row by row; the prefill is not timed."""
    answers, seconds = [], 0.0
    for tokens in WORK["prompts"][:rows]:
        MODEL.reset()
        MODEL.eval(tokens)
        answers.append([])

        def generate(answer=answers[-1]):
            for _ in range(WORK["new_tokens"]):
                answer.append(MODEL.sample(top_k=1, temp=0.0))
                MODEL.eval(answer[-1:])

        seconds += timed(generate)[0]
    return {"seconds": seconds, "tokens": rows * WORK["new_tokens"], "answers": answers}


serve({"prefill": prefill, "decode": decode})
