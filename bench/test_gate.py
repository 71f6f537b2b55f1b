"""Is a model, or training, still as good as in the recorded run? Gates for CI: non-inferiority on the same items."""

import pytest

from fixtures.arms import Draw
from fixtures.generation.forced_choice import gains
from fixtures.runs import flips
from fixtures.runs.ledger import NotRecordedError
from fixtures.stats.contrast import mean_of

MARGIN_NATS = 0.1  # per gold token: trainings that differ only in rounding are within a few hundredths
MARGIN_ACCURACY = 0.08
MIN_ITEMS = 100  # fewer cannot show that two trainings are within MARGIN_ACCURACY; a model itself changes fewer answers
METHODS = ["sft"]
OWN_ROWS = pytest.param("base", "all_rows", marks=pytest.mark.own_rows)
ACCURACIES = [("sft", "seen_tools"), ("base", "seen_tools"), ("base", "unseen_tools"), OWN_ROWS]


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


@pytest.mark.live
@pytest.mark.axes(split="seen_tools")
@pytest.mark.parametrize("method", METHODS)
def test_gate_likelihood(method, split, bench):
    """The gold answers are as probable as recorded. A few items show it, so this runs at every scale."""
    arm, clusters = bench.arm(method, split), several_clusters(bench, split)
    before = recorded(bench.baseline.gold_logprobs, arm, bench.items.test_ids(split))
    after = bench.runner.gold_logprobs(arm, bench.items.test_ids(split))
    mean = mean_of(gains(after, before), clusters)
    assert mean.low > -MARGIN_NATS, f"{arm} - its recording = {mean} nats per gold token; {-MARGIN_NATS} is allowed"


@pytest.fixture
def reference(method, split, bench):
    """The recorded verdicts on each item; skips the test if so few items can show nothing.

    A test asks for it before its own completions: what is skipped needs none.
    """
    arm, ids = bench.arm(method, split), bench.items.test_ids(split)
    if bench.replay:
        pytest.skip("a replay would compare a recording with itself")
    unchanged = mean_of(dict.fromkeys(ids, 0.0), several_clusters(bench, split), binary=True)
    if unchanged.low <= -MARGIN_ACCURACY or (method != "base" and len(ids) < MIN_ITEMS):
        needed = " even if no answer changes" if method == "base" else f"; needs {MIN_ITEMS}"
        pytest.skip(f"{len(ids)} items cannot show that accuracy is within {MARGIN_ACCURACY:.0%}{needed}")
    completions = recorded(bench.baseline.complete, arm, ids, Draw())
    return {i: bench.items.judge(completions[i][0]) for i in ids}


@pytest.mark.parametrize(("method", "split"), ACCURACIES)
def test_gate_accuracy(method, split, bench, reference, judgements):
    """Accuracy is as high as recorded, paired by item; with --endpoint, of the served model."""
    arm = bench.arm(method, split)
    correct = ({i: float(verdicts[i].primary.correct) for i in reference} for verdicts in (judgements, reference))
    now, before = correct
    mean = mean_of({i: now[i] - before[i] for i in reference}, bench.items.clusters(split), binary=True)
    reasons = ({i: verdicts[i].reasons for i in reference} for verdicts in (reference, judgements))
    flipped = flips.render(str(arm), *reasons)
    assert mean.low > -MARGIN_ACCURACY, f"{arm} - its recording = {mean}; {-MARGIN_ACCURACY} is allowed\n{flipped}"
