"""Python runs this at its start in every process of a run: it counts writes, and lets the chosen one go wrong.

$CALLBENCH_FAULTS is a JSON object: `roots` (only writes below these folders count), `log` (a record per write), and
perhaps `kind` and `at`: which fault, at which write.
"""

import json
import os
import signal
import sys

SIZE = 200  # bytes of a record, so that a file's size is the number of writes
KILL, FULL, READ_ONLY = "kill", "full", "read-only"
ERRORS = {FULL: (28, "No space left on device"), READ_ONLY: (30, "Read-only file system")}
WRITES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}
SETTINGS = json.loads(os.environ.get("CALLBENCH_FAULTS", "null"))


def _path(event, arguments):
    """The path that an event writes to; None if it writes nothing."""
    if event == "open":
        path, _, flags = arguments
        return path if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) else None
    return arguments[-3 if event == "os.rename" and len(arguments) > 3 else 0] if event in WRITES else None


def _hook(event, arguments):
    path = _path(event, arguments)
    if not isinstance(path, str | bytes | os.PathLike):
        return
    name = os.path.abspath(os.fsdecode(path))  # noqa: PTH100  # pathlib is not loaded yet
    if not name.startswith(tuple(SETTINGS["roots"])):
        return
    file = os.open(SETTINGS["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(file, f"{event} {name}"[-SIZE + 1 :].ljust(SIZE - 1).encode()[: SIZE - 1] + b"\n")
    number = os.fstat(file).st_size // SIZE
    os.close(file)
    _let_it_fail(number, name)


def _let_it_fail(number, name):
    kind, at = SETTINGS.get("kind"), SETTINGS.get("at", 0)
    if kind == KILL and number == at:
        os.killpg(0, signal.SIGKILL)
    if kind in ERRORS and number >= at:
        raise OSError(*ERRORS[kind], name)


if SETTINGS:
    sys.addaudithook(_hook)
