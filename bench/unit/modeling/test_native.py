"""The compiled extension: found, compiled or refused with a reason; and packed weights that processes share."""

import gc
import multiprocessing
from pathlib import Path
from types import SimpleNamespace

import mlx.core as mx
import numpy as np
import pytest

from fixtures.modeling import loading
from fixtures.modeling.cpu import bf16, blas, native
from fixtures.modeling.cpu.shelf import ENTRIES, Shelf
from fixtures.modeling.worker_pool import WorkerPool
from fixtures.storage import assets

ROOT = assets.cache_root() / "blas"


@pytest.fixture(scope="module")
def extension():
    found = native.load(ROOT)
    if found.module is None:
        pytest.skip(found.reason)
    return found.module


def loaded_anew(root):
    return native.load.__wrapped__(root)


REASONS = {
    "no_compiler": (lambda patch: patch.setattr(native.shutil, "which", lambda name: None), "install g++"),
    "no_headers": (lambda patch: patch.setattr(native.sysconfig, "get_path", lambda name: "/nowhere"), "python3-dev"),
    "no_onednn": (lambda patch: patch.setattr(native, "LIBRARY", "libabsent.so"), "found no libabsent.so"),
    "not_installed": (lambda patch: patch.setattr(native, "DISTRIBUTION", "no-such-onednn"), "run `make setup`"),
    "cannot_compile": (lambda patch: patch.setattr(native, "OPTIONS", ["-std=c++11"]), "g++ failed: "),
    "no_instructions": (lambda patch: patch.setattr(native, "INSTRUCTIONS", "avx1024_bf16"), "has no AVX1024_BF16"),
    "no_linux": (lambda patch: patch.setattr(native.platform, "system", lambda: "Darwin"), "Darwin x86_64 has none"),
}


@pytest.mark.parametrize("case", REASONS)
@pytest.mark.usefixtures("extension")
def test_a_machine_without_it_says_why(case, monkeypatch, tmp_path):
    spoil, reason = REASONS[case]
    spoil(monkeypatch)
    found = loaded_anew(tmp_path)
    assert found.module is None
    assert reason in found.reason
    assert "\n" not in found.reason


@pytest.mark.usefixtures("extension")
def test_one_that_does_not_fit_this_mlx_says_why(monkeypatch):
    """As after an upgrade of MLX to another nanobind, whose arrays it does not know."""

    def pack(weight):
        raise TypeError("pack(): incompatible function arguments")

    broken = SimpleNamespace(supported=lambda: True, set_threads=lambda n: None, pack=pack)
    monkeypatch.setattr(native, "_imported", lambda path: broken)
    found = loaded_anew(ROOT)
    assert found.module is None
    assert found.reason == "it does not fit this MLX: pack(): incompatible function arguments"


def test_a_model_says_once_that_its_products_are_computed_in_software(tiny_qwen, monkeypatch):
    monkeypatch.setattr(native, "load", lambda root: native.Native(reason="no such CPU"))
    notes = loading.load(str(tiny_qwen), precision="bf16").notes
    assert [note for note in notes if "no such CPU" in note] == [bf16.SOFTWARE.format("no such CPU")]
    assert not any("no such CPU" in note for note in loading.load(str(tiny_qwen)).notes)


@pytest.mark.usefixtures("extension")
def test_it_is_compiled_once_and_never_loaded_if_it_was_changed(tmp_path, monkeypatch):
    compiled = []
    compile_ = native._compile
    monkeypatch.setattr(
        native, "_compile", lambda command, folder: (compiled.append(folder), compile_(command, folder))
    )
    for _ in range(2):
        assert loaded_anew(tmp_path).module is not None
    assert len(compiled) == 1
    (path,) = tmp_path.glob("*/*.so")
    changed = path.read_bytes()[:-1] + b"?"
    path.unlink()  # this process has it mapped
    path.write_bytes(changed)
    with pytest.warns(match="making it again"):
        assert loaded_anew(tmp_path).module is not None
    assert len(compiled) == 2


@pytest.mark.usefixtures("extension")
def test_only_one_library_has_idle_threads():
    """Past bug: idle threads of both spun, and a step of one row took five times as long."""
    with blas.blas_threads(2):
        assert blas.cores() == 2
        assert [library.openblas_get_num_threads() for library in blas._openblas] == [1]


def test_what_does_not_fit_is_refused(extension):
    packed, x = extension.pack(mx.ones((48, 32))), mx.ones((3, 32))
    for wrong in (
        lambda: extension.product(mx.ones((3, 31)), packed, 32, 48),
        lambda: extension.product(x, packed, 32, 200),
        lambda: extension.product(x, packed, 32, 48, mx.ones((47,))),
        lambda: extension.product(x, packed, 32, 48, None, mx.ones((3, 4)), mx.ones((5, 48))),
        lambda: extension.product(x, packed, 32, 48, None, mx.ones((2, 4)), mx.ones((4, 48))),
        lambda: extension.product(x, packed, 32, 48, None, mx.ones((3, 4))),
        lambda: extension.pack(mx.ones((2, 3, 4))),
        lambda: extension.unpack(packed, 32, 200),
    ):
        with pytest.raises(ValueError, match=r"packed|columns|left|bias|axes"):
            wrong()


def test_a_packed_weight_is_never_taken_for_another_one(extension):
    """Weights come and go, and memory is used again: each product still has its own weight."""
    x, sums = mx.ones((2, 64)), []
    for k in range(50):
        layer = bf16.Packed(mx.full((32, 64), float(k)), extension)
        sums.append(layer.forward(x)[0, 0].item())
    assert sums == [64.0 * k for k in range(50)]


def read_from(address, name, answers):
    found = native.load(ROOT).module
    array = Shelf.at(address, found).get(name)
    answers.send(None if array is None else np.array(array).tolist())


def test_another_process_reads_what_is_on_the_shelf(extension):
    shelf, arrays = (
        Shelf.new(extension),
        {f"layer {n}": mx.arange(n + 1).astype(mx.uint16) for n in (0, 30, 4095, 70_000)},
    )
    for name, array in arrays.items():
        assert mx.array_equal(shelf.put(name, array), array)
    assert shelf.get("layer 1") is None
    assert mx.array_equal(shelf.get("layer 30"), arrays["layer 30"])
    ours, theirs = multiprocessing.Pipe()
    for name in ("layer 70000", "layer 1"):
        process = multiprocessing.get_context("spawn").Process(target=read_from, args=(shelf.address, name, theirs))
        process.start()
        found = ours.recv()
        process.join()
        assert found == (arrays[name].tolist() if name in arrays else None)


def test_a_full_shelf_keeps_nothing_more(extension):
    shelf = Shelf.new(extension)
    for k in range(ENTRIES + 5):
        shelf.put(str(k), mx.array([k], dtype=mx.uint16))
    assert shelf.get(str(ENTRIES - 2)).tolist() == [ENTRIES - 2]
    assert shelf.get(str(ENTRIES + 1)) is None
    assert shelf.put("more", mx.array([7], dtype=mx.uint16)).tolist() == [7]


@pytest.mark.usefixtures("extension")
def test_a_shelf_that_is_gone_leaves_a_model_with_weights_of_its_own(module):
    address = bf16.use_bf16_products(module, lambda name: mx.zeros(()), "/proc/self/fd/9999")
    assert address.startswith("/proc/")
    assert module(mx.array([[5, 6]])).shape == (1, 2, 64)


@pytest.mark.usefixtures("extension")
@pytest.mark.parametrize("error", [AttributeError, PermissionError])
def test_where_memory_cannot_be_shared_weights_are_private(module, monkeypatch, error):
    """Pythons built for an old glibc have no memfd_create; sandboxes forbid it."""

    def refuse(name):
        raise error(name)

    monkeypatch.setattr("os.memfd_create", refuse)
    assert bf16.use_bf16_products(module, lambda name: mx.zeros(())) == ""
    assert module(mx.array([[5, 6]])).shape == (1, 2, 64)


def test_a_dropped_shelf_is_closed_and_its_arrays_stay(extension):
    """Past bug: each model that a process loaded kept its weights in memory."""
    shelf = Shelf.new(extension)
    address, array = shelf.address, shelf.put("a", mx.array([7, 8], dtype=mx.uint16))
    assert Path(address).exists()
    del shelf
    gc.collect()
    assert not Path(address).exists()
    assert array.tolist() == [7, 8]


def bytes_of_own(model, shard, on_message):
    return mx.get_active_memory()


@pytest.mark.usefixtures("extension")
def test_workers_do_not_copy_the_weights(tiny_qwen):
    """A worker allocates fewer bytes than its packed weights alone would take."""
    model = loading.load(str(tiny_qwen), precision="bf16")
    pool = WorkerPool(model, str(tiny_qwen), 2, "bf16", offline=True)
    try:
        _, own = pool.run(bytes_of_own, [None, None])
    finally:
        pool.close()
    layers = [layer for _, layer in model.module.named_modules() if isinstance(layer, bf16.Bf16Linear)]
    assert own < sum(array.nbytes for layer in layers for array in layer.factor.arrays())
