"""Does today's parser and matcher still give every recorded completion the verdict it had?"""

import pytest


@pytest.mark.replay
def test_replay(replayed, run_snapshot):
    """A change of scoring shows here item by item; `--snapshot-update` records an intended one."""
    assert replayed == run_snapshot
