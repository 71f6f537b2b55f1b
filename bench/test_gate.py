"""Is today's training as good as the recorded one? The live gate of a CI: non-inferiority, on the same items."""

import pytest

from fixtures.arms import Draw
from fixtures.generation.forced_choice import gains
from fixtures.runs import flips
from fixtures.runs.ledger import NotRecordedError
from fixtures.stats.contrast import mean_of

pytestmark = [pytest.mark.axes(split="seen_tools"), pytest.mark.live]
NATS = 0.1  # per gold token: trainings that differ in rounding alone come within a few hundredths
POINTS = 0.08  # of accuracy
ENOUGH = 100  # items: fewer cannot show that a difference is within POINTS
METHODS = ["sft"]


def recorded(read, *arguments):
    """From the committed results, or a reason to skip."""
    try:
        return read(*arguments)
    except NotRecordedError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("method", METHODS)
def test_gate_likelihood(method, split, bench):
    """The gold answers are as probable as recorded; at every scale, as a few items show it."""
    arm, clusters = bench.arm(method, split), bench.items.clusters(split)
    if len(set(clusters.values())) == 1:
        pytest.skip("one item, or items that share their tools, cannot show how probable others are")
    before = recorded(bench.recorded.gold_logprobs, arm, bench.items.test_ids(split))
    after = bench.runner.gold_logprobs(arm, bench.items.test_ids(split))
    mean = mean_of(gains(after, before), clusters)
    assert mean.low > -NATS, f"{arm} is {mean} nats per gold token from its recording; {-NATS} is allowed"


@pytest.mark.parametrize("method", METHODS)
def test_gate_accuracy(method, split, bench):
    """As many answers are correct as recorded, item by item."""
    arm, ids = bench.arm(method, split), bench.items.test_ids(split)
    if len(ids) < ENOUGH:
        pytest.skip(f"{len(ids)} items cannot show that accuracy is within {POINTS:.0%}; needs {ENOUGH}")
    completions = recorded(bench.recorded.complete, arm, ids, Draw())
    before = {i: bench.items.judge(i, completions[i][0].text) for i in ids}
    after = bench.judgements(arm, split)
    gained = {i: float(after[i].primary.correct) - float(before[i].primary.correct) for i in ids}
    mean = mean_of(gained, bench.items.clusters(split), binary=True)
    flipped = flips.render(str(arm), *({i: of[i].reasons for i in ids} for of in (before, after)))
    assert mean.low > -POINTS, f"{arm} is {mean} in accuracy from its recording; {-POINTS} is allowed\n{flipped}"
