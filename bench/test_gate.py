"""Is today's training as good as the recorded one? The live gate of a CI: non-inferiority, on the same items."""

import pytest

from fixtures.arms import Draw
from fixtures.generation.forced_choice import gains
from fixtures.runs import flips
from fixtures.runs.ledger import NotRecordedError
from fixtures.stats.contrast import mean_of

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
    if len(set(bench.clusters(split).values())) == 1:
        pytest.skip("one item, or items that share their tools, cannot show how likely others are")
    before = recorded(bench.recorded.graded, arm, bench.test_ids(split))
    after = bench.live.graded(arm, bench.test_ids(split))
    found = mean_of(gains(after, before), bench.clusters(split))
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
    gained = {i: float(after[i].primary.correct) - float(before[i].primary.correct) for i in ids}
    found = mean_of(gained, bench.clusters(split), binary=True)
    named = flips.render(arm.id, *({i: of[i].reasons for i in ids} for of in (before, after)))
    assert found.low > -POINTS, f"{arm.id} is {found} in accuracy from its recording; {-POINTS} is allowed\n{named}"
