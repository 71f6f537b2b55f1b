"""Does today's parser and matcher still give every recorded completion the verdict it had?"""

import pytest

from fixtures import results


@pytest.mark.replay
def test_replay(replayed, run_snapshot):
    """A change of scoring shows here item by item; `--snapshot-update` records an intended one."""
    assert replayed == run_snapshot


@pytest.mark.replay
def test_each_recorded_arm_is_one_adapter(bench):
    """What goes on from an arm, or draws other answers from it, did so from the very adapter that is recorded."""
    assert not results.clashes(bench.recorded.folder)
