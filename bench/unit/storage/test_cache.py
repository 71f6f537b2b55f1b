"""The content-addressed store: every input changes the key, and a half-written entry is never visible."""

import json
import warnings
from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.arms import Draw
from fixtures.config import VERSIONS, Decoding, Hyper
from fixtures.generation import grammar
from fixtures.modeling.batching import Group, single_rows
from fixtures.prompts import Prompt
from fixtures.runs import inference
from fixtures.storage import cache, files
from fixtures.training import trainer

SPEC = {"model": "m", "rows": ["a", "b"], "hyper": {"lr": 0.001, "epochs": 2}, "seed": 0}


def write(folder):
    (folder / "weights").write_bytes(b"123")


def paths(spec, prefix=()):
    for name, value in spec.items():
        yield from paths(value, (*prefix, name)) if isinstance(value, dict) else [(*prefix, name)]


@pytest.mark.parametrize("path", list(paths(SPEC)), ids=".".join)
def test_changing_any_input_changes_the_key(path):
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


def test_an_entry_is_made_once(tmp_path):
    built = []
    for _ in range(2):
        folder = cache.get_or_put(tmp_path, cache.key(SPEC), SPEC, lambda f: (built.append(1), write(f)))
        assert (folder / "weights").read_bytes() == b"123"
    assert built == [1]


def test_a_failed_write_leaves_no_entry(tmp_path):
    def fail(folder):
        write(folder)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        cache.get_or_put(tmp_path, cache.key(SPEC), SPEC, fail)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


@pytest.mark.parametrize("damage", ["change", "remove", "manifest"])
def test_a_damaged_entry_is_set_aside_and_rebuilt(tmp_path, damage):
    folder = cache.get_or_put(tmp_path, cache.key(SPEC), SPEC, write)
    if damage == "change":
        (folder / "weights").write_bytes(b"124")
    elif damage == "remove":
        (folder / "weights").unlink()
    else:
        (folder / cache.MANIFEST).write_text("{")
    with warnings.catch_warnings(record=True) as caught:  # pytest.warns would hide a filter that makes it an error
        again = cache.get_or_put(tmp_path, cache.key(SPEC), SPEC, write)
    assert ["making it again" in str(warning.message) for warning in caught] == [True]
    assert (again / "weights").read_bytes() == b"123"
    assert not list(tmp_path.glob("*.damaged-*"))  # deleted once there is a good one


def test_every_training_input_is_in_the_adapter_key(monkeypatch):
    rows = [Prompt("a", (1,), (2, 3)), Prompt("b", (4,), (5,))]
    baseline = {
        "model": "m", "method": "sft", "groups": single_rows(rows), "hyper": Hyper(), "seed": 0, "start": ("a", "b"),
        "precision": "float32",
    }  # fmt: skip
    with_inputs = [Group((rows[0],), np.ones((2, 1))), Group((rows[1],))]
    others = {
        "model": ["n"], "method": ["dpo"], "seed": [1], "start": [("a", "c"), ("c", "b")],
        "precision": ["bf16"],
        "groups": [single_rows(rows[:1]), single_rows(rows[::-1]), with_inputs],
        "hyper": [replace(Hyper(), **{f.name: getattr(Hyper(), f.name) + 1}) for f in fields(Hyper)],
    }  # fmt: skip
    keys = [cache.key(trainer.adapter_spec(**baseline))]
    keys += [cache.key(trainer.adapter_spec(**baseline | {name: value})) for name in others for value in others[name]]
    real_version = trainer.metadata.version
    for package in ("mlx", "mlx-lm"):
        monkeypatch.setattr(
            trainer.metadata, "version", lambda name, new=package: "another" if name == new else real_version(name)
        )
        keys.append(cache.key(trainer.adapter_spec(**baseline)))
    for name in ("training", "method sft"):
        monkeypatch.setitem(VERSIONS, name, 99)
        keys.append(cache.key(trainer.adapter_spec(**baseline)))
    monkeypatch.setattr(trainer.mx, "default_device", lambda: "another")
    keys.append(cache.key(trainer.adapter_spec(**baseline)))
    assert len(set(keys)) == len(keys)


def test_the_key_of_constrained_completions_contains_the_grammar_version(monkeypatch):
    """Past bug: another version of llguidance would have reused the completions of the previous one."""
    base = inference.Adapter(None, {"model": "m"})

    def key(constrained):
        draw = Draw("draw", constrained=constrained)
        return cache.key(inference.completion_spec(base, Decoding(draw=draw)))

    keys = {key(True), key(False)}
    monkeypatch.setitem(VERSIONS, "grammar", -1)
    keys.add(key(True))
    monkeypatch.setattr(grammar.metadata, "version", lambda package: f"another {package}")
    keys.add(key(True))
    assert len(keys) == 4


def perturbed(settings):
    """Each field's name, and a copy of the dataclass in which only that field has another value."""
    for field in fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, bool):
            yield field.name, replace(settings, **{field.name: not value})
        elif isinstance(value, int | float):
            yield field.name, replace(settings, **{field.name: value + 1})
        elif isinstance(value, str):
            yield field.name, replace(settings, **{field.name: f"{value} changed"})


SAMPLED = Decoding(seed=3, draw=Draw("sampled", samples=4, temperature=0.7))
CHANGED = [(name, changed) for name, changed in perturbed(SAMPLED)]
CHANGED += [(name, replace(SAMPLED, draw=draw)) for name, draw in perturbed(SAMPLED.draw)]


@pytest.mark.parametrize(("name", "decoding"), CHANGED, ids=[name for name, _ in CHANGED])
def test_every_field_of_decoding_is_in_the_key_unless_exempt(name, decoding):
    """A new field changes the key without having to be listed anywhere."""
    base = inference.Adapter(None, {"model": "m"})
    keys = {cache.key(inference.completion_spec(base, each)) for each in (SAMPLED, decoding)}
    assert len(keys) == (1 if name in inference.NOT_IN_KEY else 2)


def test_a_new_field_of_decoding_changes_the_key_unless_it_has_its_default():
    @dataclass(frozen=True)
    class Newer(Decoding):
        top_p: float = 1.0

    base = inference.Adapter(None, {"model": "m"})
    decodings = (Decoding(), Newer(), Newer(top_p=0.9))
    old, default, changed = (inference.completion_spec(base, decoding) for decoding in decodings)
    assert old == default  # cached completions stay valid
    assert changed != default


def test_greedy_completions_do_not_depend_on_the_seed():
    base = inference.Adapter(None, {"model": "m"})
    one, other = (inference.completion_spec(base, Decoding(seed=seed)) for seed in (1, 2))
    assert one == other


@given(st.data())
def test_any_changed_byte_of_a_manifest_is_noticed(tmp_path_factory, data):
    """Past bug: while sizes and times of the files stood in for their hashes, a changed hash or step was believed."""
    root = tmp_path_factory.mktemp("changed")
    folder = cache.put(
        root, "x", {"step": 17, "of": "a training"}, lambda f: (f / "weights").write_text("w" * 9) and None
    )
    assert cache.get(root, "x")  # from now on, sizes and times stand in
    content = bytearray((folder / cache.MANIFEST).read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 6))
    (folder / cache.MANIFEST).write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cache.CacheWarning)
        found = cache.get(root, "x")
    assert found is None or cache.spec_of(found) == {"step": 17, "of": "a training"}
    assert found is None or cache.hashes(found)["weights"] == files.sha256_of(found / "weights")


def test_a_manifest_of_before_checksums_is_read(tmp_path):
    folder = cache.put(tmp_path, "x", {"a": 1}, write)
    content = json.loads((folder / cache.MANIFEST).read_text())
    del content[cache.CHECKSUM]
    (folder / cache.MANIFEST).write_text(json.dumps(content))
    assert cache.get(tmp_path, "x") == folder
    assert cache.spec_of(folder) == {"a": 1}
