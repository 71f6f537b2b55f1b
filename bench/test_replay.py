"""Does today's parser and matcher still give every recorded completion the verdict it had?"""

from dataclasses import asdict

import pytest

from fixtures.runs import ledger


@pytest.mark.replay
def test_replay(replayed, run_snapshot):
    """A change of scoring shows here item by item; `--snapshot-update` records an intended one."""
    assert replayed == run_snapshot


@pytest.mark.replay
def test_each_recorded_arm_is_one_adapter(bench):
    """What goes on from an arm, or draws other answers from it, did so from the very adapter that is recorded."""
    assert not ledger.clashes(bench.recorded.folder)


@pytest.mark.replay
def test_each_recorded_arm_was_trained_as_one_would_today(bench):
    """A method whose hyper-parameters changed has to be recorded anew."""
    from fixtures.training.methods import METHODS

    for name, hyper in ledger.recorded_hyper(bench.recorded.folder).items():
        method = METHODS[name.removeprefix("graded/").partition("-")[0]]
        assert hyper == asdict(method.hyper(bench.scale.hyper)), name
