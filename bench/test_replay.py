"""Does the current scoring give every recorded completion its recorded verdict?"""

from dataclasses import asdict

import pytest

from fixtures.arms import Recording
from fixtures.runs import provenance
from fixtures.runs.ledger import GRADED

pytestmark = pytest.mark.replay


def test_replay(replayed, run_snapshot):
    """A scoring change shows here item by item; `--snapshot-update` accepts an intended one."""
    assert replayed.verdicts == run_snapshot
    assert not replayed.flips


def test_each_recorded_file_has_its_provenance(bench):
    """Otherwise the two tests below could not fail."""
    assert not provenance.without_provenance(bench.recorded.folder)


def test_each_recorded_arm_is_one_adapter(bench):
    """Methods that are initialised from an arm, or sample from it, used the same adapter that is recorded."""
    assert not provenance.conflicting_adapters(bench.recorded.folder)


def test_each_recorded_arm_has_the_current_hyper_parameters(bench):
    """A method whose hyper-parameters changed has to be recorded again."""
    from fixtures.training.methods import METHODS  # imports MLX

    for name, hyper in provenance.recorded_hyper(bench.recorded.folder).items():
        method = Recording.parse(name.removeprefix(f"{GRADED}/")).arm.method
        assert hyper == asdict(METHODS[method].hyper_at(bench.scale, method)), name
