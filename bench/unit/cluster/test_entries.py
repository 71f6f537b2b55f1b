"""Cached results travel between caches without loss, and nothing else does."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.cluster.entries import NOTHING, Entries, pack, unpack
from fixtures.storage import cache, jsonl, origins
from fixtures.storage.cache import Use
from fixtures.storage.files import FileError

ROWS = "completions/abc.jsonl"
ADAPTER = "adapters/k"


def filled(root, rows=2):
    """A cache with an adapter and some rows."""
    cache.put(root / "adapters", "k", {"z": 1, "a": [2]}, lambda folder: (folder / "w.bin").write_bytes(b"\0\1weights"))
    jsonl.append_checked(root / ROWS, [{"prompt": f"p{k}", "text": "ä\n", "sample": k} for k in range(rows)])
    return root


def files(root):
    """The contents of a cache, without locks and notes of checks."""
    paths = (path for path in root.rglob("*") if path.is_file())
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in paths
        if path.suffix != ".lock" and path.name != cache.CHECKED
    }


def everything(rows=2):
    return [Use(ADAPTER), *(Use(ROWS, f"p{k}#{k}") for k in range(rows))]


def test_what_was_used_arrives_byte_by_byte(tmp_path):
    home = filled(tmp_path / "home")
    unpack(pack(home, everything()), tmp_path / "other")
    assert files(tmp_path / "other") == files(home)


def test_only_what_was_used_travels(tmp_path):
    entries = pack(filled(tmp_path, rows=5), [Use(ROWS, "p3#3")])
    assert not entries.folders
    assert list(entries.rows[ROWS]) == ["p3#3"]


@pytest.mark.parametrize("use", [Use("adapters/none"), Use(ROWS, "p9#0"), Use("completions/none.jsonl", "p0#0")])
def test_what_is_missing_is_an_error(use, tmp_path):
    with pytest.raises(FileError, match="missing"):
        pack(filled(tmp_path), [use])


def test_a_damaged_adapter_does_not_travel(tmp_path):
    home = filled(tmp_path)
    (home / ADAPTER / "w.bin").write_bytes(b"other")
    with pytest.warns(cache.CacheWarning), pytest.raises(FileError, match="missing or damaged"):
        pack(home, [Use(ADAPTER)])


def test_an_adapter_that_was_damaged_on_its_way_is_refused(tmp_path):
    entries = pack(filled(tmp_path / "home"), [Use(ADAPTER)])
    folders = {ADAPTER: {**entries.folders[ADAPTER], "w.bin": b"other"}}
    with pytest.raises(FileError, match="damaged on its way"):
        unpack(Entries(folders, {}), tmp_path / "other")
    assert not (tmp_path / "other" / ADAPTER).exists()


@pytest.mark.parametrize("name", ["/etc/passwd", "../outside.jsonl", "completions/../../outside.jsonl"])
def test_a_result_never_lands_outside_of_the_cache(name, tmp_path):
    """A cluster is trusted to run code, but not to be free of faults."""
    with pytest.raises(FileError, match="no name in a cache"):
        unpack(Entries({}, {name: {"p#0": {"prompt": "p"}}}), tmp_path / "cache")
    manifest = json.dumps({"spec": {}, "files": {}}).encode()
    with pytest.raises(FileError, match="no name in a cache"):
        unpack(Entries({name: {cache.MANIFEST: manifest}}, {}), tmp_path / "cache")


def test_a_cache_keeps_what_it_has(tmp_path):
    """Two machines may disagree about a row or an adapter; what was there first stays."""
    home = filled(tmp_path / "home")
    before = files(home)
    other = tmp_path / "other"
    jsonl.append_checked(other / ROWS, [{"prompt": "p0", "text": "else", "sample": 0}])
    cache.put(other / "adapters", "k", {}, lambda folder: (folder / "w.bin").write_bytes(b"else"))
    unpack(pack(other, [Use(ADAPTER), Use(ROWS, "p0#0")]), home)
    assert files(home) == before


def test_rows_get_the_hash_of_their_machine(tmp_path):
    other = tmp_path / "other"
    unpack(pack(filled(tmp_path / "home"), everything()), other, "m1")
    assert [row["machine"] for row in jsonl.read_checked(other / ROWS, dict, repair=False)] == ["m1", "m1"]
    assert origins.machines(other, [ROWS]) == origins.machines(other, [ADAPTER]) == {"m1": {}}
    origins.describe(other, "m1", {"core": "Zen"})
    assert origins.machines(other, [ROWS, ADAPTER]) == {"m1": {"core": "Zen"}}
    assert origins.machines(tmp_path / "home", [ROWS, ADAPTER]) == {}


names = st.dictionaries(st.sampled_from("abc"), st.dictionaries(st.sampled_from("xyz"), st.just({"v": 1})))


@given(names, names, names)
def test_joining_results_is_associative_and_keeps_all(first, second, third):
    a, b, c = (Entries({}, rows) for rows in (first, second, third))
    assert (a | b) | c == a | (b | c)
    assert a | NOTHING == a
    assert {(n, k) for n, rows in (a | b).rows.items() for k in rows} == {
        (n, k) for rows in (first, second) for n in rows for k in rows[n]
    }


def test_every_cached_kind_of_row_has_a_key_of_its_own():
    """The first sample has no number in its row."""
    first, second = ({"prompt": "p"}, {"prompt": "p", "sample": 1})
    assert cache.row_key(first) == cache.row_key({**first, "sample": 0}) != cache.row_key(second)
    assert cache.row_key({"group": "g", "nats": []}) == "g"
