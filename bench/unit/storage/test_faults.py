"""Injected faults: what a damaged, foreign, locked or full disk does, and what is left of it."""

import errno
import json
import multiprocessing
import os
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.modeling.cpu import blas
from fixtures.storage import assets, cache, files, jsonl, timings

ROOT = Path(__file__).parents[3]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


def write(folder):
    (folder / "inner").mkdir()
    (folder / "inner" / "weights").write_bytes(b"123")


def entry(root):
    return cache.get_or_put(root, "entry", {"a": 1}, write)


@pytest.mark.parametrize("kept_size", [True, False])
def test_a_changed_byte_is_found_at_the_next_opening(tmp_path, kept_size):
    weights = entry(tmp_path) / "inner" / "weights"
    assert cache.get(tmp_path, "entry")
    weights.write_bytes(b"124" if kept_size else b"1234")
    with pytest.warns(cache.CacheWarning, match="inner/weights does not have its recorded sha256"):
        assert entry(tmp_path).joinpath("inner", "weights").read_bytes() == b"123"


def test_hashes_are_computed_once_per_change(tmp_path, monkeypatch):
    entry(tmp_path)
    computed = []
    monkeypatch.setattr(cache, "sha256_of", lambda path: computed.append(path.name) or files.sha256_of(path))
    for _ in range(3):
        cache.get(tmp_path, "entry")
    assert computed == ["weights"]
    cache.get(tmp_path, "entry", trust_times=False)
    assert computed == ["weights"] * 2
    os.utime(tmp_path / "entry" / "inner" / "weights", ns=(1, 1))
    cache.get(tmp_path, "entry")
    assert computed == ["weights"] * 3


def test_a_file_that_may_not_be_read_is_not_damaged(tmp_path, monkeypatch):
    """Past bug: another user's good adapter was renamed."""
    folder = entry(tmp_path)

    def denied(*_):
        raise PermissionError(errno.EACCES, "Permission denied", str(folder / cache.MANIFEST))

    monkeypatch.setattr(cache, "hashes", denied)
    with pytest.raises(files.FileError, match=r"manifest\.json: Permission denied.*change its permissions"):
        cache.get(tmp_path, "entry")
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["entry"]


@pytest.mark.parametrize("manifest", ["", "null", "[]", '{"files": 3}', '{"files": {"gone": "x"}}', "\udcff"])
def test_any_damaged_manifest_is_set_aside(tmp_path, manifest):
    folder = entry(tmp_path)
    (folder / cache.MANIFEST).write_text(manifest, errors="surrogateescape")
    with pytest.warns(cache.CacheWarning, match="making it again"):
        assert entry(tmp_path).is_dir()


def test_a_new_cache_is_private_and_its_entries_are_as_shared_as_the_folder_around_them(tmp_path, monkeypatch):
    monkeypatch.setenv("CALLBENCH_CACHE", str(tmp_path / "new"))
    assert stat.S_IMODE(assets.cache_root().stat().st_mode) == 0o700
    (tmp_path / "shared").mkdir()
    for mode, expected in ((0o700, 0o700), (0o750, 0o750), (0o755, 0o755), (0o777, 0o755)):
        (tmp_path / "shared").chmod(mode)
        with files.atomic_folder(tmp_path / "shared" / oct(mode)) as folder:
            write(folder)
        assert stat.S_IMODE((tmp_path / "shared" / oct(mode)).stat().st_mode) == expected


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o722])
def test_code_is_not_loaded_from_a_place_that_others_can_write(tmp_path, mode):
    library = tmp_path / "a" / "lib.so"
    library.parent.mkdir()
    library.write_bytes(b"")
    library.chmod(0o755)
    assert files.writable_by_others(library) is None
    library.parent.chmod(mode)
    assert files.writable_by_others(library) == library.parent.resolve()
    library.parent.chmod(0o755)
    library.chmod(mode)
    assert files.writable_by_others(library) == library.resolve()


PRELOAD = """
import sys
from pathlib import Path
from fixtures.modeling.cpu import blas
loaded = blas.preload_blas(Path(sys.argv[1]))
print(loaded.name, [line.split()[-1] for line in open("/proc/self/maps") if "openblas.so" in line and "r-x" in line])
"""


def preload(root):
    run = subprocess.run([sys.executable, "-c", PRELOAD, root], cwd=ROOT, capture_output=True, text=True, check=True)
    return run.stdout.strip()


@LINUX
def test_a_library_that_others_can_write_is_not_the_one_that_runs(tmp_path):
    """Past bug: whoever could write into the cache ran code as the user."""
    root = tmp_path / "blas"
    assert str(root) in preload(root)
    root.chmod(0o777)
    loaded = preload(root)
    assert loaded.startswith("openblas")
    assert str(root) not in loaded


@LINUX
@pytest.mark.parametrize("damage", ["truncated", "replaced"])
def test_a_damaged_library_is_made_again(tmp_path, damage):
    """Past bug: a truncated one killed every run with SIGBUS."""
    root = tmp_path / "blas"
    preload(root)
    (library,) = root.glob(f"*/{blas.LIBRARY}")
    good = library.read_bytes()
    status = library.stat()
    library.write_bytes(good[:5000] if damage == "truncated" else b"\0" * len(good))
    os.utime(library, ns=(status.st_atime_ns, status.st_mtime_ns))  # times are not trusted where code is loaded
    assert str(root) in preload(root)
    assert library.read_bytes() == good


@LINUX
def test_a_cache_that_is_a_file_falls_back_to_a_temporary_library(tmp_path):
    (tmp_path / "file").write_text("")
    assert preload(tmp_path / "file" / "blas").startswith("openblas")


@LINUX
def test_kernels_are_compiled_where_nobody_else_can_write(tmp_path, monkeypatch):
    monkeypatch.setattr(blas.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    blas._own_kernels()
    assert os.environ["TMPDIR"] == str(tmp_path)
    assert stat.S_IMODE((tmp_path / "mlx").stat().st_mode) == 0o700
    (tmp_path / "mlx").chmod(0o777)
    blas._own_kernels()
    own = Path(os.environ["TMPDIR"])
    assert own != tmp_path
    assert stat.S_IMODE(own.stat().st_mode) == 0o700


def test_leftovers_of_dead_processes_are_deleted_and_others_kept(tmp_path):
    host = socket.gethostname()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    names = {
        f".making-{host}-{dead.pid}-abc": False, f".making-{host}-{os.getpid()}-abc": True,
        f".making-another-{dead.pid}-abc": True, ".making-odd": True, "entry": True,
    }  # fmt: skip
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / f".making-{host}-{dead.pid}-run.json").write_text("")
    files.write_text(tmp_path / "other.json", "{}")
    assert {path.name for path in tmp_path.iterdir()} == {name for name, kept in names.items() if kept} | {"other.json"}


def row(i):
    return {"prompt": f"p{i}", "text": "x" * i}


DAMAGE = [b"{", b"\xff\xfe", b"[]", b"null", b"5", b'{"prompt": 1}', b'{"text": "y"}', b""]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_line_of_the_cache_is_set_aside_and_the_others_are_kept(tmp_path, damage):
    """Past bug: one bad line blocked the arm until someone deleted everything."""
    path = tmp_path / "c.jsonl"
    jsonl.append_checked(path, [row(0)])
    with path.open("ab") as file:
        file.write(damage + b"\n")
    jsonl.append_checked(path, [row(1)])

    def parse(values):
        return {"prompt": values["prompt"] + "", "text": values["text"]}

    for repair in (False, True):
        with pytest.warns(cache.CacheWarning, match=r"lines 2 of .*c\.jsonl are damaged"):
            assert jsonl.read_checked(path, parse, repair=repair) == [row(0), row(1)]
    assert (tmp_path / "c.damaged").read_bytes() == damage + b"\n"
    assert jsonl.read_checked(path, parse, repair=True) == [row(0), row(1)]


def test_texts_that_were_edited_in_the_cache_are_not_scored(tmp_path):
    """Past bug: with all cached texts set to [], a run ended with exit 0."""
    path = tmp_path / "c.jsonl"
    jsonl.append_checked(path, [row(3), row(4)])
    path.write_text(path.read_text().replace("xxxx", "[]"))
    with pytest.warns(cache.CacheWarning, match="lines 2 of"):
        assert jsonl.read_checked(path, dict, repair=False) == [row(3)]


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.floats(allow_nan=False) | st.none() | st.booleans()))
def test_every_row_survives_its_checksum(values):
    values.pop(jsonl.CHECKSUM, None)
    line = jsonl.row_text({**values, jsonl.CHECKSUM: jsonl._checksum(values)})
    assert jsonl._parsed(jsonl._Line(1, line.encode()), dict) == values


def test_bad_timings_do_not_stop_a_plan(tmp_path):
    timings.record(tmp_path, "training sft", "m", 2, 3.0, "n")
    with (tmp_path / timings.FILE).open("a") as file:
        file.write(
            'null\n{"kind": "training sft"}\n{"kind": 1, "model": "m", "units": "x", "seconds": 1, "name": ""}\n'
        )
    with pytest.warns(cache.CacheWarning, match="lines 2, 3, 4 of"):
        assert timings.per_unit(tmp_path, "training sft", "m") == 1.5


def test_a_lock_that_cannot_be_made_names_its_place(tmp_path):
    """Past bug: a read-only cache ended in a bare OSError."""
    (tmp_path / "file").write_text("")
    message = r"file: (Not a directory|File exists).*CALLBENCH_CACHE"
    with pytest.raises(files.FileError, match=message), files.locked(tmp_path / "file" / "x.lock"):
        pass


def hold(path, seconds):
    with files.locked(path):
        time.sleep(seconds)


def test_waiting_for_another_process_says_so(tmp_path):
    from contextlib import contextmanager

    said = []

    @contextmanager
    def waiting():
        said.append("waiting")
        yield

    process = multiprocessing.get_context("spawn").Process(target=hold, args=(tmp_path / "x.lock", 3))
    process.start()
    while not (tmp_path / "x.lock").exists():
        time.sleep(0.05)
    time.sleep(0.2)
    with files.locked(tmp_path / "x.lock", waiting):
        process.join()
    with files.locked(tmp_path / "x.lock", waiting):
        pass
    assert said == ["waiting"]


def test_files_are_written_together_or_not_at_all(tmp_path, monkeypatch):
    """Past bug: a death between ledger and run.json made the next recording refuse its own answers."""
    files.write_together(tmp_path, {"a.jsonl": "1", "graded/b.jsonl": "1"})
    real = files.write_text

    def killed(path, text):
        if path.name == "b.jsonl":
            raise KeyboardInterrupt
        real(path, text)

    monkeypatch.setattr(files, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        files.write_together(tmp_path, {"a.jsonl": "2", "graded/b.jsonl": "2"})
    monkeypatch.setattr(files, "write_text", real)
    files.finish_writing(tmp_path)
    assert [(tmp_path / name).read_text() for name in ("a.jsonl", "graded/b.jsonl")] == ["2", "2"]
    assert not (tmp_path / files.JOURNAL).exists()


def test_a_replaced_folder_is_whole_at_every_moment(tmp_path):
    """Past bug: an export deleted the one before it and then wrote."""
    target = tmp_path / "export"
    for text in ("1", "2"):
        with files.replaced_folder(target) as folder:
            (folder / "a").write_text(text)
            assert text == "1" or (target / "a").read_text() == "1"
    assert (target / "a").read_text() == "2"

    def fail():
        with files.replaced_folder(target) as folder:
            (folder / "a").write_text("3")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert (target / "a").read_text() == "2"
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


@given(st.text())
def test_printable_text_has_no_control_characters(text):
    shown = files.printable(text)
    assert shown.isprintable()
    assert text.isprintable() <= (shown == text)


def test_a_json_document_names_its_file(tmp_path):
    (tmp_path / "d.json").write_bytes(json.dumps({"a": "\xff"}, ensure_ascii=False).encode("latin-1"))
    with pytest.raises(files.FileError, match=r"d\.json: not a JSON object"):
        files.read_json(tmp_path / "d.json")
