"""What is disturbed: a wheel is fetched, a model converted, an arm trained, evaluated, recorded, rescored, reported."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.support.lamps import lamp
from fixtures.storage import assets, files

HERE = Path(__file__).parent
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FETCH = """
import json, sys
from fixtures.storage import assets
assets.fetch(assets.Asset(**json.load(open(sys.argv[1]))))
"""
VOLATILE = {"at", "seconds", "pace", "gflops", "commit"}  # in run.json: they differ between any two runs
# What is no result. A wheel that was unpacked is not read again; if it is, its pinned hash is checked.
IGNORED = re.compile(r"\.lock$|\.damaged|/(pace|trained)\.jsonl$|/checked\.json$|/blas/|\.whl$")
TIMEOUT_S = 300


@dataclass
class Workload:
    """A copy of the checkout, a cache of its own, and the commands, which run on one core: its rounding is the same."""

    folder: Path
    number: int = 0

    @property
    def tree(self):
        return self.folder / "tree"

    @property
    def cache(self):
        return self.folder / "cache"

    def prepare(self):
        """The checkout's tracked files, a tiny GGUF model, rows, and an index with one wheel."""
        from bench.unit.modeling.test_gguf import write

        names = subprocess.run(["git", "ls-files", "-z"], cwd=files.ROOT, capture_output=True, check=True).stdout
        for name in names.decode().split("\0"):
            if name and not name.startswith("results/") and (files.ROOT / name).is_file():
                (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(files.ROOT / name, self.tree / name)
        (self.folder / "index").mkdir()
        (self.folder / "empty").mkdir()
        write(self.folder / "tiny.gguf", template=TEMPLATE)
        (self.folder / "lamps.jsonl").write_text("".join(json.dumps(lamp(k)) + "\n" for k in range(16)))
        (self.folder / "asset.json").write_text(json.dumps(asdict(_wheel(self.folder / "index"))))

    def reset(self):
        """Forget all results, as before a first run."""
        for place in (self.cache, self.tree / "results", self.tree / "snapshots", self.tree / "page"):
            shutil.rmtree(place, ignore_errors=True)
        self.cache.mkdir(mode=0o700)
        shutil.copytree(files.ROOT / "snapshots", self.tree / "snapshots")

    def commands(self):
        own = [
            "--data",
            str(self.folder / "lamps.jsonl"),
            "--model",
            str(self.folder / "tiny.gguf"),
            "--scale",
            "smoke",
        ]
        pytest = ["-m", "pytest", "bench", *own, "-p", "no:cacheprovider", "-q"]
        live = ["-k", "generalization", "--record", "--workers", "1", "-p", "bench.faults.eager"]
        return {
            "fetch": ["-c", FETCH, str(self.folder / "asset.json")],
            "train, evaluate, record": [*pytest, *live],
            "update snapshots": [*pytest, "--replay", "--snapshot-update"],
            "report": ["-m", "fixtures.report", *own, "--to", "page"],
        }

    def run(self, fault=None):
        """All commands; one that fails ends the run, as in a script with `set -e`. Returns its output, or None."""
        roots = [str(self.cache), *(str(self.tree / name) for name in ("results", "snapshots", "page"))]
        log = self.folder / "writes.log"
        log.unlink(missing_ok=True)
        if hasattr(os, "sched_setaffinity"):  # of this thread, and of the processes that it starts
            cores = sorted(os.sched_getaffinity(os.getpid()))
            os.sched_setaffinity(0, {cores[self.number % len(cores)]})
        index = "empty" if fault and fault["kind"] == "offline" else "index"
        env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PYTHON"))}
        env |= {"CALLBENCH_CACHE": str(self.cache), "PYTHONPATH": str(HERE / "inject")}
        env |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.folder / index), "OPENBLAS_NUM_THREADS": "1"}
        env["CALLBENCH_FAULTS"] = json.dumps({"roots": roots, "log": str(log)} | (fault or {}))
        for name, command in self.commands().items():
            done = subprocess.run(
                [sys.executable, *command], cwd=self.tree, env=env, start_new_session=True, check=False,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT_S,
            )  # fmt: skip
            if done.returncode:
                return f"{name}: exit {done.returncode}\n{done.stdout}"
        return None

    def writes(self):
        """What the latest run wrote, in order."""
        return [line.strip() for line in (self.folder / "writes.log").read_text(errors="replace").splitlines()]

    def cached(self):
        """The cached files, in the same order after each run."""
        return [str(path) for path in sorted(self.cache.rglob("*")) if path.is_file() and path.stat().st_size > 1]

    def damage(self, number):
        """Change a byte in the middle of the n-th cached file, counted from 1."""
        path = Path(self.cached()[number - 1])
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    def results(self):
        """All bytes that a run leaves, but for times."""
        kept = {}
        for root in (self.cache, self.tree / "results", self.tree / "snapshots"):
            for path in sorted(path for path in root.rglob("*") if path.is_file()):
                name = str(path.relative_to(self.folder))
                if not IGNORED.search(name):
                    kept[name] = _without_times(path)
        kept["page"] = sorted(str(path.relative_to(self.tree)) for path in (self.tree / "page").rglob("*"))
        return kept


def _without_times(path):
    if path.suffix == ".jsonl":  # what is made again stands at the end
        return b"".join(sorted(path.read_bytes().splitlines(keepends=True)))
    if path.name != "run.json":
        return path.read_bytes()
    return json.dumps(_dropped(json.loads(path.read_text())), sort_keys=True)


def _dropped(value):
    if isinstance(value, dict):
        return {key: _dropped(item) for key, item in value.items() if key not in VOLATILE}
    return value


def _wheel(index):
    wheel = index / "demo-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("demo/data.txt", "hello" * 200_000)
        archive.writestr("demo-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n")
        archive.writestr("demo-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("demo-1.0.dist-info/RECORD", "")
    return assets.Asset("demo", "1.0", files.sha256_of(wheel), wheel.stat().st_size, "MIT", "demo/")
