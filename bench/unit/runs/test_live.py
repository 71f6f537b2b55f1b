"""Training and inference through the caches, end to end on a tiny model and real BFCL items."""

import shutil
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import mlx.core as mx
import pytest

from fixtures.arms import Arm, Draw
from fixtures.config import VERSIONS, Decoding, Hyper, Scale
from fixtures.data import regimes
from fixtures.generation.scaffolds import scaffold_of
from fixtures.modeling import lora
from fixtures.modeling.cpu import blas
from fixtures.runs import inference, runner
from fixtures.storage import jsonl, timings
from fixtures.training import trainer
from fixtures.training.methods import METHODS

ARM = Arm("sft", "all_patterns")


def score(completion):
    """Marks about two in five texts of a random model as correct, by their characters."""
    value = sum(map(ord, completion.text)) % 5
    return value < 2, value / 4


class Silent:
    def update(self, done, total, detail):
        pass

    def note(self, text):
        pass


@contextmanager
def silent(label):
    yield Silent()


@pytest.fixture
def arms(tiny_qwen, bench, tmp_path, monkeypatch):
    """A function that starts a new session over the same cache folder."""
    examples = bench.items.examples  # from the real cache
    monkeypatch.setenv("CALLBENCH_CACHE", str(tmp_path))
    rows = regimes.subset(bench.items.partition.train, 4, 0, examples)
    hyper = Hyper(rank=2, alpha=4, lr=2e-3, final_lr=2e-4, epochs=1, batch_size=2, warmup_steps=1)
    scale = Scale(str(tiny_qwen), hyper=hyper, decoding=Decoding(max_new_tokens=4, batch_size=1))

    def session():
        model = inference.InferenceRunner(scale, silent, offline=True, workers=1)
        return runner.ArmRunner(model, examples, lambda regime: rows, score)

    return session


@pytest.fixture
def ids(bench):
    return bench.items.test_ids("unseen_tools")[:5]


@pytest.fixture
def trainings(monkeypatch):
    """The seed of each run of the training loop."""
    seeds = []
    real = trainer.train

    def counted(pool, objective, groups, hyper, seed, *rest):
        seeds.append(seed)
        return real(pool, objective, groups, hyper, seed, *rest)

    monkeypatch.setattr(trainer, "train", counted)
    return seeds


def test_an_adapter_is_trained_once_for_all_sessions(arms, trainings):
    first = arms().adapter(ARM)
    assert (first.folder / "adapters.safetensors").exists()
    assert arms().adapter(ARM) == first
    assert arms().adapter(Arm("sft", "all_patterns", seed=1)) != first
    assert trainings == [0, 1]


def test_planning_reads_the_cache_and_computes_nothing(arms, ids, trainings):
    """Missing work raises NotCachedError at once; after a run, the same requests succeed."""
    requests = [lambda a: a.adapter(ARM), lambda a: a.complete(ARM, ids, Draw()), lambda a: a.gold_logprobs(ARM, ids)]
    for request in requests:
        session = arms()
        with pytest.raises(inference.NotCachedError), session.inference.only_planning():
            request(session)
    assert trainings == []
    made = arms()
    for request in requests:
        request(made)
    for request in requests:
        session = arms()
        with session.inference.only_planning():
            request(session)
    model = made.inference.scale.timed_as
    assert timings.per_unit(made.inference.root, "training sft", model) > 0
    assert timings.per_unit(made.inference.root, timings.generating("sft", "", 4), model) > 0
    assert timings.per_unit(made.inference.root, "training dpo", model) is None
    assert made.describe(ARM, Draw()) == (training := arms().describe(ARM, Draw()))
    assert training["seconds"] > 0 < training["gflops"]
    assert training["trained"]["core"] == blas.core()
    assert training["pace"].keys() == {
        timings.training("sft"),
        timings.generating("sft", "", 4),
        timings.LOG_PROBABILITIES,
    }
    assert training["weights"] == {str(ARM): made.adapter(ARM).weights}


def test_only_the_first_round_needs_training_data(arms, monkeypatch):
    """Past bug: one GRPO round with equal rewards made the whole arm fail."""
    usual = METHODS["sft"]

    def only_in(*rounds):
        return replace(usual, rounds=3, groups=lambda this: usual.groups(this) if this.number in rounds else [])

    monkeypatch.setitem(METHODS, "sft", only_in(0))
    once = arms().adapter(ARM)
    monkeypatch.setitem(METHODS, "sft", only_in(0, 2))
    assert arms().adapter(ARM) != once
    monkeypatch.setitem(METHODS, "sft", only_in(1, 2))
    with pytest.raises(trainer.TrainingError, match="nothing to train on"):
        arms().adapter(ARM)


def test_a_new_version_of_a_method_is_trained_again(arms, trainings, monkeypatch):
    first = arms().adapter(ARM)
    monkeypatch.setitem(VERSIONS, "method sft", 1)
    assert arms().adapter(ARM).key != first.key
    assert len(trainings) == 2


def test_the_base_models_cache_key_depends_on_the_mlx_version(arms, monkeypatch):
    """Past bug: after an MLX upgrade, an arm's new completions were compared with the base model's old ones."""
    keys = {arms().base.key}
    monkeypatch.setattr(trainer.metadata, "version", lambda package: "another")
    assert arms().base.key not in keys


@pytest.mark.parametrize(("before", "paced"), [([], True), (["rft"], False)])
def test_a_training_with_cached_samples_is_not_timed(arms, before, paced):
    """Past bug: plans predicted 17 minutes for DPO, which takes 35; it was timed after RFT had cached its samples."""
    made = arms()
    for method in [*before, "dpo"]:
        made.adapter(Arm(method, "all_patterns"))
    assert (timings.per_unit(made.inference.root, "training dpo", made.inference.scale.model) is not None) == paced


def test_a_recorded_arm_has_the_weights_of_every_adapter_it_was_initialised_from(arms):
    made = arms()
    second_epoch = Arm("second_epoch", "all_patterns")
    weights = made.describe(second_epoch, Draw())["weights"]
    assert weights == {str(arm): made.adapter(arm).weights for arm in (ARM, second_epoch)}
    assert len(set(weights.values())) == 2
    assert made.describe(Arm("base"), Draw())["weights"] == {"base": ""}


def test_more_samples_keep_the_cached_ones(arms, ids):
    """A sample that is generated again in another batch may round differently."""
    few, many = (Draw("best", samples=n, temperature=1.0) for n in (2, 3))
    first = arms().complete(ARM, ids, few)
    for path in (arms().inference.root / "completions").glob("*.jsonl"):
        rows = [row | {"text": f"kept {row['text']}"} for row in jsonl.read_rows(path, dict)]
        path.unlink()
        jsonl.append_checked(path, rows)
    kept = arms().complete(ARM, ids, few)
    assert kept != first
    assert {i: samples[:2] for i, samples in arms().complete(ARM, ids, many).items()} == kept
    assert {i: samples[:2] for i, samples in arms().complete(ARM, ids, many).items()} == kept


def test_the_base_model_needs_no_training(arms, ids, trainings):
    assert arms().adapter(Arm("base")).folder is None
    assert arms().complete(Arm("base"), ids, Draw()).keys() == set(ids)
    assert trainings == []


def test_an_interrupted_evaluation_keeps_its_answers(arms, ids, monkeypatch):
    expected = arms().complete(ARM, ids, Draw())
    for path in (arms().inference.root / "completions").glob("*.jsonl"):
        path.unlink()
    real, appended = inference.jsonl.append_checked, []

    def interrupt(path, rows):
        rows = list(rows)
        real(path, rows)
        if path.parent.name == "completions":
            appended.append(len(rows))
        if len(appended) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(inference.jsonl, "append_checked", interrupt)
    session = arms()
    before = dict(session.inference.base_model().module.named_modules())
    with pytest.raises(KeyboardInterrupt):
        session.complete(ARM, ids, Draw())
    after = dict(session.inference.base_model().module.named_modules())
    assert all(after[name] is layer for name, layer in before.items())  # the adapter is gone
    assert arms().complete(ARM, ids, Draw()) == expected
    assert sum(appended) == len(ids)


def test_a_complete_cache_may_be_read_only(arms, ids, monkeypatch):
    """Past bug: a cache with every answer in it failed at its lock."""
    made = arms()
    expected = made.complete(ARM, ids, Draw()), made.gold_logprobs(ARM, ids)

    def read_only(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(inference.files, "locked", read_only)
    monkeypatch.setattr(inference.cache, "locked", read_only)
    monkeypatch.setattr(inference.jsonl, "append_rows", read_only)
    again = arms()
    assert (again.complete(ARM, ids, Draw()), again.gold_logprobs(ARM, ids)) == expected


def test_answers_are_cached_by_arm(arms, ids):
    base, trained = arms().complete(Arm("base"), ids, Draw()), arms().complete(ARM, ids, Draw())
    assert len(list((arms().inference.root / "completions").glob("*.jsonl"))) == 2
    assert arms().complete(Arm("base"), ids[::-1], Draw()) == base
    assert {c.prompt for (c,) in base.values()} == {c.prompt for (c,) in trained.values()}


def test_a_failed_training_is_not_tried_again(arms, ids, monkeypatch):
    attempts = []

    def fail(*_):
        attempts.append(1)
        raise trainer.TrainingError("diverged")

    monkeypatch.setattr(trainer, "train", fail)
    session = arms()
    for _ in range(3):
        with pytest.raises(trainer.TrainingError, match="diverged"):
            session.complete(ARM, ids, Draw())
    assert len(attempts) == 1


@pytest.mark.parametrize("method", ["second_epoch", "rft", "dpo", "grpo"])
def test_methods_on_top_of_sft_are_initialised_from_it_and_trained_once(arms, ids, trainings, method):
    arm = Arm(method, "all_patterns")
    first = arms()
    answers, rounds = first.complete(arm, ids, Draw()), METHODS[method].rounds
    assert len(trainings) == 1 + rounds
    sft, made = first.adapter(ARM), first.adapter(arm)
    assert made.spec["start"][0] == sft.weights
    assert (made.spec["start"][1] == sft.weights) == (rounds == 1)
    assert arms().complete(arm, ids, Draw()) == answers
    assert len(trainings) == 1 + rounds
    weights = [lora.read_arrays(a.folder / lora.ADAPTER_FILE) for a in (sft, made)]
    assert any(not mx.array_equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_an_adapters_key_depends_on_the_scores_of_its_samples(arms):
    arm = Arm("dpo", "all_patterns")
    before, stricter = arms().adapter(arm), arms()
    stricter.score = lambda completion: (False, 0.0)
    assert stricter.adapter(arm).key != before.key


def test_an_adapter_with_other_weights_has_its_own_results(arms, ids, monkeypatch):
    """Another machine or more processes can give other weights for the same key: the old results must not be reused."""
    child, real = Arm("second_epoch", "all_patterns"), trainer.train
    old, new = arms(), arms()
    before = old.adapter(ARM), old.adapter(child).key, old.complete(ARM, ids, Draw()), old.gold_logprobs(ARM, ids)
    shutil.rmtree(before[0].folder)
    monkeypatch.setattr(trainer, "train", lambda *args: real(*args[:4], args[4] + 1, *args[5:]))  # another seed
    after = new.adapter(ARM), new.adapter(child).key, new.complete(ARM, ids, Draw()), new.gold_logprobs(ARM, ids)
    assert (before[0].key, before[0].spec) == (after[0].key, after[0].spec)
    assert all(a != b for a, b in zip(before[1:], after[1:], strict=True))


def test_only_an_interrupted_round_is_trained_again(arms, monkeypatch):
    """Each GRPO round is initialised from the round before, and trains on samples of that adapter."""
    arm, real, calls = Arm("grpo", "all_patterns"), trainer.train, []

    def interrupt(*args):
        calls.append(1)
        if len(calls) == 4:  # SFT and two rounds are finished
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(trainer, "train", interrupt)
    with pytest.raises(KeyboardInterrupt):
        arms().adapter(arm)
    resumed = arms().adapter(arm)
    assert len(calls) == 1 + METHODS["grpo"].rounds + 1
    shutil.rmtree(arms().inference.root)
    assert arms().adapter(arm).weights == resumed.weights


def test_log_probabilities_are_computed_once_and_survive_an_interruption(arms, ids, monkeypatch):
    expected = arms().gold_logprobs(ARM, ids)
    for path in (arms().inference.root / "log_probabilities").glob("*.jsonl"):
        path.unlink()
    real, appended = jsonl.append_rows, []

    def interrupt(path, rows):
        real(path, rows)
        appended.extend([path] * (path.parent.name == "log_probabilities"))
        if len(appended) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(jsonl, "append_rows", interrupt)
    with pytest.raises(KeyboardInterrupt):
        arms().gold_logprobs(ARM, ids)
    assert arms().gold_logprobs(ARM, ids) == expected
    assert len(appended) == len(ids)
    assert arms().gold_logprobs(ARM, ids) == expected
    assert len(appended) == len(ids)


def test_the_graded_metric_agrees_with_the_models_logits(arms, bench):
    """Both the gold answer's log-probability and the forced choice of a tool, recomputed one text at a time."""
    session = arms()
    item = next(i for i in bench.items.test_ids("seen_tools") if len(bench.items.examples[i].tools) > 1)
    graded = session.gold_logprobs(Arm("base"), [item])[item]
    model = session.inference.base_model()

    def nats(prompt, completion):
        logits = model.module(mx.array([[*prompt, *completion]]))[0].astype(mx.float32)
        logs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        return sum(logs[len(prompt) - 1 + k, token].item() for k, token in enumerate(completion))

    (prompt,) = session.prompts([item])
    assert graded.nats == pytest.approx(nats(prompt.tokens, prompt.completion), rel=1e-4)
    openings = {t["name"]: f'[{{"name":"{t["name"]}","arguments' for t in bench.items.examples[item].tools}
    scores = {n: nats(prompt.tokens, model.tokenizer.encode(t, add_special_tokens=False)) for n, t in openings.items()}
    assert graded.choice == max(scores, key=scores.get)
    assert graded.tools == len(openings)
    assert graded.right == (graded.choice in bench.items.examples[item].gold_names)


def draws(*names):
    return [scaffold_of(name).draw for name in names]


def test_what_a_draw_adds_is_in_the_prompt_and_in_nothing_else(arms, ids):
    """Two sets of shots have no example in common; an instruction follows the question; keys stay as they were."""
    session = arms()
    first, second, brief = draws("few_shot", "few_shot_b", "brief_reasoning")
    assert {shot.id for shot in session.shots(first)}.isdisjoint(shot.id for shot in session.shots(second))
    plain, *changed = (session.prompts(ids[:1], draw)[0] for draw in (Draw(), first, second, brief))
    assert len({prompt.sha256 for prompt in (plain, *changed)}) == 4
    text = session.inference.model.tokenizer.decode(changed[-1].tokens)
    question = session.examples[ids[0]].question
    assert f"{question}\n\n{brief.instruction}" in text
    assert all(prompt.completion == plain.completion for prompt in changed)
    specs = [inference.completion_spec(session.base, Decoding(draw=draw)) for draw in (Draw(), first, second, brief)]
    assert all(spec == specs[0] for spec in specs)


def test_few_shot_examples_precede_each_question_and_come_from_training(arms, ids):
    session, one_shot = arms(), Draw("one_shot", shots=1)
    (shot,), (prompt,) = session.shots(one_shot), session.prompts(ids[:1], one_shot)
    bare, text = session.prompts(ids[:1])[0], session.inference.model.tokenizer.decode(prompt.tokens)
    assert shot.id in session.training_ids("all_patterns")
    assert shot.question in text
    assert prompt.tokens[-len(bare.tokens) :] == bare.tokens
    assert prompt.sha256 != bare.sha256


def test_an_export_of_the_base_model_is_refused(arms, tmp_path):
    with pytest.raises(lora.AdapterError, match="base has no adapter"):
        arms().export(Arm("base"), tmp_path)


def test_the_commit_that_trained_an_adapter_is_kept(arms, monkeypatch):
    """Past bug: results named the commit that recorded them, also as the one that trained their adapter."""
    monkeypatch.setattr(runner, "provenance", lambda: {"commit": "of the training"})
    arms().adapter(ARM)
    monkeypatch.setattr(runner, "provenance", lambda: {"commit": "of the recording"})
    assert arms().describe(ARM, Draw())["trained"]["commit"] == "of the training"
    assert "trained" not in arms().describe(Arm("base"), Draw())


def test_what_a_base_model_failed_at_elsewhere_is_not_made_here_instead(arms, ids):
    """Past bug: a job of the base model that a cluster had given up ran locally without a word."""
    session = arms()
    session.fail(Arm("base"), RuntimeError("given up"))
    with pytest.raises(RuntimeError, match="given up"):
        session.complete(Arm("base"), ids, Draw())


@pytest.mark.parametrize(("gigabytes", "parameters", "shared", "processes"), [
    (8, 494e6, "", 1), (16, 494e6, "", 2), (24, 494e6, "", 4), (8, 135e6, "", 5), (4, 1.5e9, "", 1),
    (8, 494e6, "a shelf", 3), (8, 1.5e9, "a shelf", 1), (16, 1.5e9, "a shelf", 1), (24, 1.5e9, "a shelf", 3),
    (8, 0, "", inference.MANY),
])  # fmt: skip
def test_no_more_processes_are_started_than_fit_into_the_memory(monkeypatch, gigabytes, parameters, shared, processes):
    """Past bugs: a laptop with 8 GB got one process per core, with 5.5 GB each, and any number with shared weights."""
    monkeypatch.setattr(inference.recompute, "memory", lambda: gigabytes * 1e9)
    model = SimpleNamespace(shared=shared, parameters=parameters)
    assert inference.processes_in_memory(model) == processes
