"""callbench and its peers on the same work, interleaved on this machine: medians, and ratios with their range.

make peers                 creates the environments, then runs this
python -m bench.peers.compare --model qwen2_5_coder_0_5b --rounds 3 --only ours torch_bf16
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import venv
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from fixtures.runs import ledger
from fixtures.runs.provenance import provenance
from fixtures.storage import assets

HERE = Path(__file__).parent
TASKS = (
    {"do": "train", "length": 160}, {"do": "train", "length": 416}, {"do": "prefill"},
    {"do": "decode", "rows": 64}, {"do": "decode", "rows": 20}, {"do": "decode", "rows": 1},
)  # fmt: skip
SLOW = {"stock": ({"do": "train", "length": 160}, {"do": "prefill"}, {"do": "decode", "rows": 1})}  # once each
# Of losses, relative: torch's activations are bf16, too. Rounding may decide a near tie of greedy tokens either way.
LOSS_TOLERANCE = {"float32": 1e-3, "bf16": 0.02}
SAME_ANSWERS = {"float32": 0.9, "bf16": 0.6}
OURS = "ours"
# What each library reads at its start. llama.cpp is compiled for the machine it is installed on, and has none.
WITHOUT_AVX512 = {
    "OPENBLAS_CORETYPE": "Haswell", "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}  # fmt: skip


class Way(NamedTuple):
    """A library at one precision of products."""

    script: str  # peer_….py
    precision: str


WAYS = {
    OURS: Way("ours", "bf16"), "ours_float32": Way("ours", "float32"), "torch_bf16": Way("torch", "bf16"),
    "torch": Way("torch", "float32"), "llama": Way("llama", "4 bits"), "stock": Way("stock", "float32"),
}  # fmt: skip


class Peer:
    """A peer's process, and the results of the tasks that it ran."""

    def __init__(self, name, folder, threads):
        self.name, self.way = name, WAYS[name]
        python = sys.executable if self.way.script == OURS else environment(self.way.script)
        script = HERE / f"peer_{self.way.script}.py"
        command = [str(python), str(script), str(folder), str(threads), self.way.precision]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.can = set(self._read()["can"])
        self.runs = {}

    def do(self, task):
        self.process.stdin.write(json.dumps(task) + "\n")
        self.process.stdin.flush()
        result = self._read()
        self.runs.setdefault(label(task), []).append(result)
        return result

    def _read(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"peer {self.name} died with exit code {self.process.wait()}; its stderr is above")
        return json.loads(line)

    def speeds(self, task):
        return [run["tokens"] / run["seconds"] for run in self.runs.get(label(task), ())]


def label(task):
    return " ".join(str(value) for value in task.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=WAYS, default=list(WAYS), help="(default: all)")
    parser.add_argument("--tasks", nargs="*", default=["train", "prefill", "decode"])
    parser.add_argument("--model", default="smollm2_135m", help="a key of MODELS that comes as a GGUF file")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--avx2", action="store_true", help="switch AVX-512 off for all (not for llama)")
    parser.add_argument("--record", action="store_true", help="write results/peers-MODEL[-avx2].json")
    options = parser.parse_args()
    if options.avx2:
        os.environ |= WITHOUT_AVX512
    folder = assets.cache_root() / "peers" / options.model
    subprocess.run([sys.executable, "-m", "bench.peers.work", str(folder), options.model], check=True)
    peers = [Peer(name, folder, options.threads) for name in options.only]
    for round_ in range(options.rounds):
        for task in (task for task in TASKS if task["do"] in options.tasks):
            for peer in peers:
                if task["do"] in peer.can and (peer.name not in SLOW or (round_ == 0 and task in SLOW[peer.name])):
                    run = peer.do(task)
                    speed = run["tokens"] / run["seconds"]
                    print(f"round {round_ + 1}: {label(task)}: {peer.name} {speed:.1f} tokens/s", flush=True)
    problems = list(differing(peers, decoder(folder)))
    show(peers, problems)
    if options.record:
        record(peers, problems, options.model + "-avx2" * options.avx2)
    sys.exit(bool(problems))


def environment(name):
    """The Python of a peer's own virtual environment, which is created if it is missing or outdated."""
    folder = assets.cache_root() / "peers" / name
    python = folder / "bin" / "python"
    requirements = HERE / f"{name}.txt"
    stamp = folder / "installed"
    if not stamp.exists() or stamp.read_text() != requirements.read_text():
        print(f"installing {requirements.name} …", file=sys.stderr, flush=True)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--requirement", requirements], check=True)
        stamp.write_text(requirements.read_text())
    return python


def differing(peers, decode):
    """Where results differ at the same precision; llama.cpp computes with 4-bit weights, as nobody else does."""
    for precision in LOSS_TOLERANCE:
        mine, *others = [peer for peer in peers if peer.way.precision == precision] or [None]
        for peer in others:
            yield from differences(mine, peer, decode, precision)


def differences(mine, peer, decode, precision):
    for task in TASKS:
        ours, theirs = (p.runs.get(label(task), [{}])[0] for p in (mine, peer))
        for step, (a, b) in enumerate(zip(ours.get("losses", ()), theirs.get("losses", ()), strict=False)):
            if not abs(a - b) <= LOSS_TOLERANCE[precision] * abs(b):
                yield f"{label(task)}: loss at step {step} is {a:.5f} with {mine.name} and {b:.5f} with {peer.name}"
        texts = [a if isinstance(a, str) else decode(a) for a in theirs.get("answers", ())]
        same = sum(text.startswith(answer) for answer, text in zip(ours.get("answers", ()), texts, strict=False))
        if texts:
            print(f"{label(task)}: {same} of {len(texts)} greedy answers of {mine.name} and {peer.name} are the same")
        if same < SAME_ANSWERS[precision] * len(texts):
            yield f"{label(task)}: {same} of {len(texts)} greedy answers of {mine.name} and {peer.name} are the same"


def decoder(folder):
    """A function from token ids to text, with the model's own tokenizer."""
    from mlx_lm.utils import load_tokenizer

    work = json.loads((folder / "work.json").read_text())
    return load_tokenizer(Path(work["mlx"]), {"trust_remote_code": False}).decode


def show(peers, problems):
    ours, others = peers[0], peers[1:]
    table = Table("work, tokens/s", *(peer.name for peer in peers), *(f"{ours.name} / {p.name}" for p in others))
    for task in TASKS:
        speeds = [peer.speeds(task) for peer in peers]
        cells = [f"{statistics.median(s):.1f}" if s else "–" for s in speeds]
        table.add_row(label(task), *cells, *(spread(speeds[0], theirs) for theirs in speeds[1:]))
    Console(width=180).print(table)
    for problem in problems:
        print(f"NOT THE SAME WORK: {problem}")


def spread(ours, theirs):
    """The median ratio over the rounds, with the smallest and the largest."""
    if not theirs:
        return "–"
    ratios = [a / b for a, b in zip(ours, theirs, strict=False)]
    return f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"


def record(peers, problems, name):
    tokens_per_s = {
        peer.name: {label(task): [round(s, 1) for s in speeds] for task in TASKS if (speeds := peer.speeds(task))}
        for peer in peers
    }
    document = {"tokens_per_s": tokens_per_s, "problems": problems, "provenance": provenance()}
    (ledger.RESULTS / f"peers-{name}.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
