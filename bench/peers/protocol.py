"""How a peer is asked: one JSON task per line on its input, one JSON result per line on its output.

{"do": "train", "length": 160} → {"seconds", "tokens", "losses"}      all steps of that length
{"do": "prefill"}              → {"seconds", "tokens"}                all prompts
{"do": "decode", "rows": 20}   → {"seconds", "tokens", "answers"}     new tokens only; answers are texts or token ids
A peer that cannot do a task leaves it out of its table. Peers run in their own environments and import
nothing of callbench but this file.
"""

import json
import os
import sys
import time


def serve(tasks):
    """Answer tasks until the input ends; whatever else is printed goes to stderr."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(json.dumps({"can": list(tasks)}), file=out, flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        print(json.dumps(tasks[task.pop("do")](**task)), file=out, flush=True)


def timed(work):
    """Seconds and result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result
