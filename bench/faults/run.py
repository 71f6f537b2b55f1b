"""Faults injected into whole runs: python -m bench.faults.run [--times 100] [--jobs 2] [--record]     make faults

A run is disturbed at one of its writes (a file opened, renamed or removed, a folder made), and run again in peace: it
has to end with the same bytes as a run that was never disturbed. The places that are written to take turns. With
--record, the table goes to results/faults.json; kinds that were not injected keep their rows there.
"""

import argparse
import random
import re
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, zip_longest
from pathlib import Path
from queue import SimpleQueue

from bench.faults.workload import Workload
from fixtures.runs.ledger import RESULTS
from fixtures.storage.files import json_text, read_json, write_text

KINDS = {
    "kill": "kill -9 of all processes",
    "full": "the disk is full from then on",
    "read-only": "all places are read-only from then on",
    "damage": "one byte of one cached file is changed after a run",
    "together": "two runs at once on one cache",
    "offline": "the package index is gone in the first run",
}
AT_WRITES = ("kill", "full", "read-only")
MESSAGES = r"No space left|Read-only file system|No matching distribution"
TABLE = RESULTS / "faults.json"


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.faults.run", description=__doc__)
    parser.add_argument("--times", type=int, default=100, help="how often each kind is injected")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="callbench-faults-") as folder:
        workloads = [Workload(Path(folder, str(number)), number) for number in range(chosen.jobs)]
        table = inject(workloads, chosen.kinds.split(","), chosen.times, random.Random(chosen.seed))
    if chosen.record:
        write_text(TABLE, json_text((read_json(TABLE) if TABLE.exists() else {}) | table))
    print(json_text(table))
    sys.exit(any(row["lost"] for row in table.values()))


def inject(workloads, kinds, times, chance):
    """By kind: how often it was injected, survived and lost, and where."""
    idle, places = SimpleQueue(), {}
    with ThreadPoolExecutor(len(workloads)) as pool:
        for workload in pool.map(_undisturbed, workloads):
            idle.put(workload)
        writes = [_place(write) for write in workloads[0].writes()]
        print(f"{len(writes)} writes in a run", flush=True)
        for kind in kinds:
            places[kind] = writes if kind in AT_WRITES else ["a whole run"] * times
        places |= {"damage": [_place(name) for name in workloads[0].cached()]} if "damage" in kinds else {}
        faults = [(kind, at) for kind in kinds for at in moments(places[kind], times, chance)]

        def result(fault):
            kind, at = fault
            workload = idle.get()
            outcome = disturbed(workload, kind, at)
            explained = workload.explained
            idle.put(workload)
            place = places[kind][at - 1]
            print(f"{kind} at {at} ({place}): {outcome or 'survived'}", flush=True)
            return kind, f"{at} ({place})", place, outcome, explained

        return tabulate(pool.map(result, faults))


def _undisturbed(workload):
    workload.prepare()
    workload.reset()
    if problem := workload.run():
        sys.exit(f"the undisturbed run fails: {problem}")
    workload.expected = workload.results()
    return workload


def moments(places, times, chance):
    """So many of the moments 1 … len(places): the places take turns, and the moments of a place come at random."""
    by_place = {}
    for at in chance.sample(range(1, len(places) + 1), len(places)):
        by_place.setdefault(places[at - 1], []).append(at)
    turns = (at for turn in zip_longest(*by_place.values()) for at in turn if at)
    return list(islice(turns, times))


def tabulate(results):
    table = {}
    for kind, where, place, outcome, explained in results:
        empty = {"what": KINDS[kind], "injected": 0, "survived": 0, "lost": [], "without a message": [], "places": {}}
        row = table.setdefault(kind, empty)
        row["injected"] += 1
        row["survived"] += not outcome
        row["lost"] += [f"{where}: {outcome}"] if outcome else []
        row["without a message"] += [] if explained else [where]
        row["places"] = dict((Counter(row["places"]) + Counter([place])).most_common())
    return table


def disturbed(workload, kind, at):
    """What is different after a disturbed run and one in peace; empty if nothing is."""
    workload.reset()
    workload.explained = True
    if kind == "together":
        with ThreadPoolExecutor(2) as pool:
            problems = [problem for problem in pool.map(lambda _: workload.run(), range(2)) if problem]
        if problems:
            return f"a run beside another one fails: {problems[0][-2000:]}"
    elif kind == "damage":
        workload.run()
        workload.damage(at)
    else:
        message = workload.run({"kind": kind, "at": at})
        workload.explained = kind == "kill" or message is None or bool(re.search(MESSAGES, message))
    if problem := workload.run():
        return f"the run after it fails: {problem[-2000:]}"
    expected, found = workload.expected, workload.results()
    different = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    return f"different: {', '.join(different[:5])}" if different else ""


def _place(write):
    """`open …/cache/adapters/…/adapters.safetensors` → `cache/adapters`."""
    match = re.search(r"(cache|results|snapshots|page)(/[a-z_]+(?=/))?", write)
    return match[0] if match else write


if __name__ == "__main__":
    main()
