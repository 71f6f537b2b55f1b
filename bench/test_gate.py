"""Is a model, or training, still as good as in the recorded run? Gates for CI: non-inferiority on the same items."""

import pytest

from fixtures.arms import Draw, Recording, arm_of
from fixtures.data.regimes import SPLITS
from fixtures.generation.forced_choice import gains
from fixtures.runs import flips
from fixtures.runs.ledger import NotRecordedError
from fixtures.runs.provenance import read_manifest
from fixtures.stats.contrast import mean_of

MARGIN_NATS = 0.1  # per gold token: trainings that differ only in rounding are within a few hundredths
MARGIN_ACCURACY = 0.08  # of a training
MARGIN_MODEL = 0.1  # of the model itself, which has as few as 40 items; one changed answer of them must not fail
MIN_ITEMS = 100  # fewer cannot show that two trainings are within MARGIN_ACCURACY; a model itself changes fewer answers
METHODS = ["sft"]
OWN_ROWS = pytest.param("base", "all_rows", marks=pytest.mark.own_rows)
NO_TOOL_FITS = pytest.param("base", "irrelevance", id="base-no_tool_fits")  # `-k irrelevance` is that experiment's
ACCURACIES = [("sft", "seen_tools"), ("base", "seen_tools"), ("base", "unseen_tools"), NO_TOOL_FITS, OWN_ROWS]


@pytest.fixture
def arm(method, split, seed):
    return arm_of(method, SPLITS[split].regime, seed)


@pytest.fixture
def fold(bench, seed):
    """The session with the seed's items."""
    return bench.fold(seed)


@pytest.fixture
def clusters(fold, split):
    """The cluster of each item; skips the test if there is only one."""
    clusters = fold.items.clusters(split)
    if len(set(clusters.values())) == 1:
        pytest.skip("one cluster (a single item, or items that share their tools) gives no interval")
    return clusters


@pytest.mark.live
@pytest.mark.axes(split="seen_tools")
@pytest.mark.parametrize("method", METHODS)
def test_gate_likelihood(method, split, arm, fold, clusters):
    """The gold answers are as probable as recorded. A few items show it, so this runs at every scale."""
    try:
        before = fold.baseline.gold_logprobs(arm, list(clusters))
    except NotRecordedError as error:
        pytest.skip(str(error))
    mean = mean_of(gains(fold.runner.gold_logprobs(arm, list(clusters)), before), clusters)
    assert mean.low > -MARGIN_NATS, f"{arm} - its recording = {mean} nats per gold token; {-MARGIN_NATS} is allowed"


@pytest.fixture
def margin(method):
    return MARGIN_MODEL if method == "base" else MARGIN_ACCURACY


@pytest.fixture
def reference(method, split, arm, fold, clusters, margin):
    """The recorded verdicts on each item; skips the test if so few items can show nothing.

    A test asks for it before its own completions: what is skipped needs none.
    """
    if fold.replay:
        pytest.skip("a replay would compare a recording with itself")
    # A gate that one fixed and one broken answer fail is one that fails by chance.
    little = dict(zip(clusters, [1.0, -1.0] + [0.0] * len(clusters), strict=False))
    too_few = f"{len(clusters)} items cannot show that accuracy is within {margin:.0%}"
    if method != "base" and len(clusters) < MIN_ITEMS:
        pytest.skip(f"{too_few}; needs {MIN_ITEMS}")
    if mean_of(little, clusters, binary=True).low <= -margin:
        pytest.skip(f"{too_few} even if only two answers change")
    try:
        with fold.overlapping(split, lambda: fold.baseline.completed(arm, Draw())):
            completions = fold.baseline.complete(arm, list(clusters), Draw())
    except NotRecordedError as error:
        pytest.skip(str(error))
    refuse_another_model(fold, arm)
    return {i: fold.items.judge(completions[i][0]) for i in clusters}


def refuse_another_model(bench, arm):
    """Results are named by the last part of a model's name, which two owners may use."""
    if bench.options.endpoint and not bench.options.baseline:
        recorded = read_manifest(bench.recorded.folder)[str(Recording(arm))]["training"]["model"]
        now = bench.live.identity(arm)["model"]
        assert recorded == now, f"{bench.recorded.folder} has answers of {recorded}, not of {now}; name a --baseline"


@pytest.mark.parametrize(("method", "split"), ACCURACIES)
def test_gate_accuracy(method, split, arm, clusters, margin, reference, judgements):
    """Accuracy is as high as recorded, paired by item; with --endpoint, of the served model."""
    correct = ({i: float(verdicts[i].primary.correct) for i in reference} for verdicts in (judgements, reference))
    now, before = correct
    mean = mean_of({i: now[i] - before[i] for i in reference}, clusters, binary=True)
    reasons = ({i: verdicts[i].reasons for i in reference} for verdicts in (reference, judgements))
    flipped = flips.render(str(arm), *reasons)
    assert mean.low > -margin, f"{arm} - its recording = {mean}; {-margin} is allowed\n{flipped}"
