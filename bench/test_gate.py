"""Is today's training as good as the recorded one? The live gate of a CI: non-inferiority, on the same items."""

import numpy as np
import pytest

from fixtures import flips
from fixtures.arms import Draw
from fixtures.contrast import Contrast
from fixtures.metrics import Mean, compare
from fixtures.regimes import groups_of
from fixtures.results import NotRecordedError
from fixtures.verdict import PRIMARY, under

NATS = 0.1  # per gold token: trainings that differ in rounding alone come within a few hundredths
POINTS = 0.08  # of accuracy
ENOUGH = 100  # items: fewer cannot show that a difference is within POINTS
METHODS = ["sft"]


@pytest.fixture
def split():
    """New questions for tools that training has seen."""
    return "seen_tools"


def recorded(read, *arguments):
    """From the committed results, or a reason to skip."""
    try:
        return read(*arguments)
    except NotRecordedError as error:
        pytest.skip(str(error))


@pytest.mark.live
@pytest.mark.parametrize("method", METHODS)
def test_gate_likelihood(method, split, bench):
    """The gold answers are as likely as they were; at every scale, as a few items tell."""
    arm = bench.arm(method, split)
    before = recorded(bench.recorded.graded, arm, bench.test_ids(split))
    after = bench.live.graded(arm, bench.test_ids(split))
    gained = np.array([[grade.nats_per_token - before[i].nats_per_token for i, grade in after.items()]])
    contrast = Contrast(gained, groups_of([bench.examples[i] for i in after]), binary=False)
    found = Mean(contrast.difference, *contrast.interval(), contrast.items)
    assert found.low > -NATS, f"{arm.id} is {found} nats per gold token from its recording; {-NATS} is allowed"


@pytest.mark.live
@pytest.mark.parametrize("method", METHODS)
def test_gate_accuracy(method, split, bench):
    """As many answers are right as were, item by item."""
    arm, ids = bench.arm(method, split), bench.test_ids(split)
    if len(ids) < ENOUGH:
        pytest.skip(f"{len(ids)} items cannot show that accuracy is within {POINTS:.0%}; needs {ENOUGH}")
    answers = recorded(bench.recorded.complete, arm, ids, Draw())
    before = {i: bench.judge(i, answers[i][0].text) for i in ids}
    after = bench.judgements(arm, split)
    paired = compare(under(PRIMARY, before), under(PRIMARY, after))
    named = flips.render(arm.id, *({i: of[i].reasons for i in ids} for of in (before, after)))
    assert paired.interval()[0] > -POINTS, f"{paired}; {-POINTS:.0%} is allowed\n{named}"
