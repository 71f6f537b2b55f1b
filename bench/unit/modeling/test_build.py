"""Native code that is made at first use: by one process at a time, and never where another user can write."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

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


def test_a_folder_that_others_can_write_to_is_not_used(tmp_path):
    root = tmp_path / "cache"
    root.mkdir()
    root.chmod(0o777)
    with made_once(root, "name", FILE, lambda folder: (folder / FILE).write_bytes(b"code")) as path:
        assert path.read_bytes() == b"code"
        assert not path.is_relative_to(root)
    assert not path.exists()
    assert not list(root.iterdir())
