"""Faults injected into whole runs: python -m bench.faults.run [--times 100] [--record]     make faults

A run is disturbed at one of its writes (a file opened, renamed or removed, a folder made), and run again in peace: it
has to end with the same bytes as a run that was never disturbed. With --record, the table goes to results/faults.json.
"""

import argparse
import random
import re
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.faults.workload import Workload
from fixtures.runs.ledger import RESULTS
from fixtures.storage.files import json_text, write_text

KINDS = {
    "kill": "kill -9 of all processes",
    "full": "the disk is full from then on",
    "read-only": "all places are read-only from then on",
    "damage": "one byte of one cached file is changed after a run",
    "together": "two runs at once on one cache",
}


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.faults.run", description=__doc__)
    parser.add_argument("--times", type=int, default=100, help="how often each kind is injected")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="callbench-faults-") as folder:
        table = inject(Workload(Path(folder)), chosen.kinds.split(","), chosen.times, random.Random(chosen.seed))
    if chosen.record:
        write_text(RESULTS / "faults.json", json_text(table))
    print(json_text(table))
    sys.exit(any(row["lost"] for row in table.values()))


def inject(workload, kinds, times, chance):
    """By kind: how often it was injected, survived and lost, and where."""
    workload.prepare()
    workload.reset()
    if problem := workload.run():
        sys.exit(f"the undisturbed run fails: {problem}")
    expected, writes = workload.results(), workload.writes()
    print(f"{len(writes)} writes in a run", flush=True)
    table = {}
    for kind in kinds:
        places, rows = Counter(), {"injected": 0, "survived": 0, "lost": [], "without a message": []}
        for at in chance.sample(range(1, len(writes) + 1), min(times, len(writes))):
            place = _place(writes[at - 1]) if kind in ("kill", "full", "read-only") else "a whole run"
            outcome = disturbed(workload, {"kind": kind, "at": at}, expected)
            print(f"{kind} at write {at} ({place}): {outcome or 'survived'}", flush=True)
            places[place] += 1
            rows["injected"] += 1
            rows["survived"] += not outcome
            rows["lost"] += [f"{at}: {writes[at - 1]}: {outcome}"] if outcome else []
            if not workload.explained:
                rows["without a message"].append(f"{at}: {writes[at - 1]}")
        table[kind] = rows | {"what": KINDS[kind], "places": dict(places.most_common())}
    return table


def disturbed(workload, fault, expected):
    """What is different after a disturbed run and one in peace; empty if nothing is."""
    workload.reset()
    workload.explained = True
    if fault["kind"] == "together":
        with ThreadPoolExecutor(2) as pool:
            problems = [problem for problem in pool.map(lambda _: workload.run(), range(2)) if problem]
        if problems:
            return f"a run beside another one fails: {problems[0][-2000:]}"
    elif fault["kind"] == "damage":
        workload.run()
        workload.damage(fault["at"])
    else:
        message = workload.run(fault)
        understood = message is None or re.search(r"No space left|Read-only file system", message)
        workload.explained = fault["kind"] == "kill" or bool(understood)
    if problem := workload.run():
        return f"the run after it fails: {problem[-2000:]}"
    found = workload.results()
    different = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    return f"different: {', '.join(different[:5])}" if different else ""


def _place(write):
    """`open …/cache/adapters/…/adapters.safetensors` → `cache/adapters`."""
    match = re.search(r"(cache|results|snapshots|page)(/[a-z_]+(?=/))?", write)
    return match[0] if match else write


if __name__ == "__main__":
    main()
