"""Is training still as good as in the recorded run? A live gate for CI: non-inferiority on the same items."""

import pytest

from fixtures.arms import Draw
from fixtures.generation.forced_choice import gains
from fixtures.runs import flips
from fixtures.runs.ledger import NotRecordedError
from fixtures.stats.contrast import mean_of

pytestmark = [pytest.mark.axes(split="seen_tools"), pytest.mark.live]
MARGIN_NATS = 0.1  # per gold token: trainings that differ only in rounding are within a few hundredths
MARGIN_ACCURACY = 0.08
MIN_ITEMS = 100  # fewer cannot show that a difference is within MARGIN_ACCURACY
METHODS = ["sft"]


def recorded(read, *arguments):
    """Read committed results; skip the test if they are not recorded."""
    try:
        return read(*arguments)
    except NotRecordedError as error:
        pytest.skip(str(error))


def several_clusters(bench, split):
    """The cluster of each item; skip the test if there is only one."""
    clusters = bench.items.clusters(split)
    if len(set(clusters.values())) == 1:
        pytest.skip("one cluster (a single item, or items that share their tools) gives no interval")
    return clusters


@pytest.mark.parametrize("method", METHODS)
def test_gate_likelihood(method, split, bench):
    """The gold answers are as probable as recorded. A few items show it, so this runs at every scale."""
    arm, clusters = bench.arm(method, split), several_clusters(bench, split)
    before = recorded(bench.recorded.gold_logprobs, arm, bench.items.test_ids(split))
    after = bench.runner.gold_logprobs(arm, bench.items.test_ids(split))
    mean = mean_of(gains(after, before), clusters)
    assert mean.low > -MARGIN_NATS, f"{arm} - its recording = {mean} nats per gold token; {-MARGIN_NATS} is allowed"


@pytest.mark.parametrize("method", METHODS)
def test_gate_accuracy(method, split, bench):
    """Accuracy is as high as recorded, paired by item."""
    arm, ids = bench.arm(method, split), bench.items.test_ids(split)
    if len(ids) < MIN_ITEMS:
        pytest.skip(f"{len(ids)} items cannot show that accuracy is within {MARGIN_ACCURACY:.0%}; needs {MIN_ITEMS}")
    clusters = several_clusters(bench, split)
    completions = recorded(bench.recorded.complete, arm, ids, Draw())
    before = {i: bench.items.judge(completions[i][0]) for i in ids}
    after = bench.judgements(arm, split)
    differences = {i: float(after[i].primary.correct) - float(before[i].primary.correct) for i in ids}
    mean = mean_of(differences, clusters, binary=True)
    reasons = ({i: judgements[i].reasons for i in ids} for judgements in (before, after))
    flipped = flips.render(str(arm), *reasons)
    assert mean.low > -MARGIN_ACCURACY, f"{arm} - its recording = {mean}; {-MARGIN_ACCURACY} is allowed\n{flipped}"
