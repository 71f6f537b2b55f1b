"""The content-addressed store: every ingredient counts, nothing half-written is ever seen."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures import cache

SPEC = {"model": "m", "rows": ["a", "b"], "hyper": {"lr": 0.001, "epochs": 2}, "seed": 0}


def write(folder):
    (folder / "weights").write_bytes(b"123")


def paths(spec, prefix=()):
    for name, value in spec.items():
        yield from paths(value, (*prefix, name)) if isinstance(value, dict) else [(*prefix, name)]


@pytest.mark.parametrize("path", list(paths(SPEC)), ids=".".join)
def test_changing_any_ingredient_misses(path):
    changed = json.loads(json.dumps(SPEC))
    inner = changed
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = [inner[path[-1]], "changed"]
    assert cache.key(changed) != cache.key(SPEC)


@given(st.randoms())
def test_the_order_of_keys_does_not_matter(random):
    names = random.sample(sorted(SPEC), len(SPEC))
    assert cache.key({name: SPEC[name] for name in names}) == cache.key(SPEC)


def test_an_entry_is_built_once(tmp_path):
    built = []
    for _ in range(2):
        folder = cache.get_or_put(tmp_path, SPEC, lambda f: (built.append(1), write(f)))
        assert (folder / "weights").read_bytes() == b"123"
    assert built == [1]


def test_a_failed_build_leaves_nothing(tmp_path):
    def fail(folder):
        write(folder)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        cache.get_or_put(tmp_path, SPEC, fail)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


@pytest.mark.parametrize("damage", ["change", "remove", "manifest"])
def test_a_damaged_entry_is_set_aside_and_built_again(tmp_path, damage):
    folder = cache.get_or_put(tmp_path, SPEC, write)
    if damage == "change":
        (folder / "weights").write_bytes(b"124")
    elif damage == "remove":
        (folder / "weights").unlink()
    else:
        (folder / cache.MANIFEST).write_text("{")
    with pytest.warns(cache.CacheWarning, match="building it again"):
        again = cache.get_or_put(tmp_path, SPEC, write)
    assert (again / "weights").read_bytes() == b"123"
    assert (tmp_path / f"{cache.key(SPEC)}.damaged-0").is_dir()
