"""Training and asking through the caches, end to end on a tiny model and real BFCL items."""

from contextlib import contextmanager

import pytest

from fixtures import adapters, live, regimes, train
from fixtures.arms import Arm, Decoding, Hyper, Scale

ARM = Arm("sft", "all_patterns")


class Silent:
    def update(self, done, total, detail):
        pass


@contextmanager
def silent(label):
    yield Silent()


@pytest.fixture
def arms(tiny_qwen, bench, tmp_path, monkeypatch):
    """A maker of fresh sessions over one cache folder."""
    examples = bench.examples  # from the real cache
    monkeypatch.setenv("CALLBENCH_CACHE", str(tmp_path))
    rows = regimes.subset(bench.partition.train, 4, 0, examples)
    hyper = Hyper(rank=2, alpha=4, epochs=1, batch_size=2, warmup_steps=1)
    scale = Scale(str(tiny_qwen), hyper=hyper, decoding=Decoding(max_new_tokens=4, batch_size=1))

    def session(**changes):
        made = live.LiveArms(scale, examples, lambda regime: rows, silent, offline=True, workers=1)
        for name, value in changes.items():
            setattr(made, name, value)
        return made

    return session


@pytest.fixture
def ids(bench):
    return bench.test_ids("unseen_tools")[:5]


@pytest.fixture
def trainings(monkeypatch):
    """Counts how often the training loop really runs."""
    seeds = []
    real = train.train

    def counted(team, loss, rows, hyper, seed, *rest):
        seeds.append(seed)
        return real(team, loss, rows, hyper, seed, *rest)

    monkeypatch.setattr(train, "train", counted)
    return seeds


def test_an_adapter_is_trained_once_for_all_sessions(arms, trainings):
    first = arms().adapter(ARM)
    assert (first / "adapters.safetensors").exists()
    assert arms().adapter(ARM) == first
    assert arms().adapter(Arm("sft", "all_patterns", seed=1)) != first
    assert trainings == [0, 1]


def test_the_base_model_needs_no_training(arms, ids, trainings):
    assert arms().adapter(Arm("base")) is None
    assert arms().complete(Arm("base"), ids).keys() == set(ids)
    assert trainings == []


def test_an_interrupted_evaluation_keeps_its_answers(arms, ids, monkeypatch):
    expected = arms().complete(ARM, ids)
    for path in (arms().root / "completions").glob("*.jsonl"):
        path.unlink()
    real, asked = live.append_completions, []

    def interrupt(path, completions):
        real(path, completions)
        asked.append(len(completions))
        if len(asked) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(live, "append_completions", interrupt)
    session = arms()
    session.base_model()
    with pytest.raises(KeyboardInterrupt):
        session.complete(ARM, ids)
    layers = session.base_model().module.named_modules()
    assert not any(isinstance(layer, adapters.FusedLinear) for _, layer in layers)
    assert arms().complete(ARM, ids) == expected
    assert sum(asked) == len(ids)


def test_answers_are_cached_by_arm(arms, ids):
    base, trained = arms().complete(Arm("base"), ids), arms().complete(ARM, ids)
    assert len(list((arms().root / "completions").glob("*.jsonl"))) == 2
    assert arms().complete(Arm("base"), ids[::-1]) == base
    assert {c.prompt for c in base.values()} == {c.prompt for c in trained.values()}


def test_a_failed_training_is_not_tried_again(arms, ids, monkeypatch):
    attempts = []

    def fail(*_):
        attempts.append(1)
        raise train.TrainingError("diverged")

    monkeypatch.setattr(train, "train", fail)
    session = arms()
    for _ in range(3):
        with pytest.raises(train.TrainingError, match="diverged"):
            session.complete(ARM, ids)
    assert len(attempts) == 1


@pytest.mark.parametrize("change", ["model", "method", "rows", "hyper", "seed", "recipe", "dtype", "mlx", "mlx_lm"])
def test_every_ingredient_is_in_an_adapters_key(arms, change):
    assert change in arms().training(ARM)
