"""The protocol of a peer: one JSON task per line on stdin, one JSON result per line on stdout.

{"do": "train", "length": 160} → {"seconds", "tokens", "losses"}      all steps of that length
{"do": "prefill"}              → {"seconds", "tokens"}                all prompts
{"do": "decode", "rows": 20}   → {"seconds", "tokens", "answers"}     new tokens only; answers are texts or token ids
A peer first reports the tasks that it supports: {"can": [...]}. Peers run in their own environments and import only
this file of callbench.
"""

import json
import os
import sys
import time


def serve(tasks):
    """Run tasks until stdin ends; everything else that is printed goes to stderr."""
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
