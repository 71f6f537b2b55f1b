"""llama.cpp's own server, compiled here: is a model behind it evaluated like any other endpoint, and its gate green?

make peers                                     runs this last
python -m bench.peers.served [--items 10]

The model is the default one, in llama.cpp's own 4-bit arithmetic, so that its answers need not be ours.
"""

import argparse
import contextlib
import hashlib
import json
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from fixtures.config import SCALES
from fixtures.modeling.registry import MODELS
from fixtures.storage import assets
from fixtures.storage.files import ROOT

SOURCE = "llama-cpp-python==0.3.36"  # its source distribution has llama.cpp's whole tree
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
FLAGS = ("-DCMAKE_BUILD_TYPE=Release", "-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF", "-DLLAMA_BUILD_TESTS=OFF",
         "-DLLAMA_BUILD_EXAMPLES=OFF", "-DBUILD_SHARED_LIBS=OFF")  # fmt: skip
START_S = 120


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=10)
    options = parser.parse_args()
    with serving(server(), assets.fetch_joined(MODELS[SCALES["default"].model].asset)) as url:
        rows = evaluate(url, options.items)
    for row in rows:
        right, n, dropped = row["right"]["strict"], row["n"], len(row["dropped_by_server"])
        print(
            f"llama-server, {row['on']}: {right} of {n} correct; its parser left calls in the text of {dropped} answers"
        )
    sys.exit(not (rows and all(row["right"]["strict"] and row["prompt_tokens"] for row in rows)))


def server():
    """The compiled llama-server, which is kept in the cache."""
    folder = assets.cache_root() / "peers" / "llama_server"
    binary = folder / SHA256[:12] / "llama-server"
    if not binary.exists():
        with tempfile.TemporaryDirectory(dir=assets.cache_root()) as place:
            built = compile_server(Path(place))
            binary.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(built, binary)
    return binary


def compile_server(folder):
    """Fetch llama.cpp's source and build its server; about half an hour on two cores."""
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", SOURCE]
    subprocess.run(download, cwd=folder, check=True)
    (archive,) = folder.glob("*.tar.gz")
    if (actual := hashlib.sha256(archive.read_bytes()).hexdigest()) != SHA256:
        raise SystemExit(f"{archive.name}: sha256 is {actual}, expected {SHA256}")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    (tree,) = folder.glob("*/vendor/llama.cpp")
    subprocess.run(["cmake", "-B", "build", *FLAGS], cwd=tree, check=True)
    subprocess.run(["cmake", "--build", "build", "--target", "llama-server", "--parallel", "2"], cwd=tree, check=True)
    return tree / "build" / "bin" / "llama-server"


@contextlib.contextmanager
def serving(binary, gguf):
    """The address of the server, on loopback, with the chat template in the file."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [binary, "--model", gguf, "--host", "127.0.0.1", "--port", str(port), "--jinja", "--ctx-size", "16384"]
    command += ["--parallel", "2", "--threads", "2"]
    process = subprocess.Popen([*map(str, command), "--log-verbosity", "0"])
    try:
        for _ in range(START_S):
            with contextlib.suppress(URLError, ConnectionError):
                urlopen(f"http://127.0.0.1:{port}/health", timeout=10).close()
                break
            if process.poll() is not None:
                raise SystemExit(f"llama-server ended with {process.returncode}")
            time.sleep(1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)


def evaluate(url, items):
    """What a user's run measures at the endpoint."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "run.json"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "bench",
            "-k",
            "generalization and base and tools",
            "--endpoint",
            url,
        ]
        command += ["--model", "qwen", "--items", str(items), "--concurrency", "2", "--json", str(report)]
        run = subprocess.run(command, cwd=ROOT, check=False)
        if run.returncode:
            raise SystemExit(f"the run at llama-server failed with {run.returncode}")
        return json.loads(report.read_text())["measured"]


if __name__ == "__main__":
    main()
