"""Native code that is made at first use: by one process at a time, and never where another user can write."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fixtures.modeling.cpu.build import made_once

FILE = "library.so"


def test_two_that_need_it_at_once_make_it_once(tmp_path):
    made, both = [], threading.Barrier(2)

    def make(folder):
        made.append(folder)
        time.sleep(0.2)
        (folder / FILE).write_bytes(b"code")

    def use(_):
        both.wait()
        with made_once(tmp_path / "cache", "name", FILE, make) as path:
            return path.read_bytes(), path.parent.parent

    assert list(ThreadPoolExecutor(2).map(use, range(2))) == [(b"code", tmp_path / "cache")] * 2
    assert len(made) == 1


@pytest.mark.parametrize("mask", [0o002, 0o022, 0o077])
def test_it_is_kept_under_every_usual_umask(tmp_path, mask):
    """Past bug: where the umask is 002, the extension was compiled at every start."""
    made, before = [], os.umask(mask)
    try:
        for _ in range(2):
            with made_once(tmp_path / "cache", "name", FILE, lambda f: (made.append(1), (f / FILE).write_text(""))):
                pass
    finally:
        os.umask(before)
    assert made == [1]


def test_a_folder_that_others_can_write_to_is_not_used(tmp_path):
    root = tmp_path / "cache"
    root.mkdir()
    root.chmod(0o777)
    with made_once(root, "name", FILE, lambda folder: (folder / FILE).write_bytes(b"code")) as path:
        assert path.read_bytes() == b"code"
        assert not path.is_relative_to(root)
    assert not path.exists()
    assert not list(root.iterdir())
