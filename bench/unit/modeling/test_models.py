"""Model folders: the code path of the hub's Qwen, tested with a tiny random 4-bit Qwen2 in the same layout."""

import json
import os
import shutil
from contextlib import suppress
from io import StringIO

import mlx.core as mx
import pytest

from fixtures import prompts
from fixtures.config import Decoding, Hyper
from fixtures.generation import decode
from fixtures.modeling import checks, forward, loading, registry
from fixtures.modeling.batching import single_rows
from fixtures.modeling.worker_pool import WorkerPool
from fixtures.storage import files
from fixtures.training import trainer
from fixtures.training.methods import sft


def test_a_quantized_qwen_trains_and_generates(tiny_qwen, example, tmp_path):
    model = loading.load(str(tiny_qwen))
    assert model.id == "tiny-qwen2-4bit"
    assert model.stop_tokens == {257}
    rows = prompts.render_prompts([example], model.tokenizer, model.end_of_turn)
    hyper = Hyper(rank=16, alpha=32, lr=1e-2, final_lr=1e-3, warmup_steps=5, epochs=80, batch_size=1)
    losses = []
    pool = WorkerPool(model, str(tiny_qwen), 1)
    trainer.train(
        pool, sft.METHOD.objective, single_rows(rows), hyper, 0, tmp_path / "c", lambda step: losses.append(step.loss)
    )
    assert losses[-1] < 0.1 * losses[0]
    (completion,) = decode.complete(model, rows[:1], Decoding(max_new_tokens=80))
    assert completion.text == '[{"name":"area.of","arguments":{"width":2.5}}]'
    assert completion.finish == "stop"


@pytest.mark.parametrize("file", ["config.json", "merges.txt", "tokenizer.model", "chat_template.jinja", "vocab.txt"])
def test_the_fingerprint_changes_with_every_file_that_changes_answers(file, tiny_qwen, tmp_path):
    """Past bug: merges.txt and tokenizer.model were not seen."""
    first = registry.fingerprint(tiny_qwen)
    assert first == registry.fingerprint(tiny_qwen)
    shutil.copytree(tiny_qwen, tmp_path, dirs_exist_ok=True)
    (tmp_path / file).write_text(json.dumps({"model_type": "qwen2"}))
    assert registry.fingerprint(tmp_path) != first


def test_what_another_process_is_writing_is_no_part_of_a_model(tiny_qwen, tmp_path):
    """Past bug: a run that started while another one noted a check failed, or saw another model."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_qwen, folder)
    (folder / f"{files.temporary_prefix()}checked.json").write_text("{}")
    assert registry.fingerprint(folder) == registry.fingerprint(tiny_qwen)
    (folder / f"{files.temporary_prefix()}gone.json").symlink_to("nowhere")
    assert registry.fingerprint(folder) == registry.fingerprint(tiny_qwen)


def test_a_model_is_checked_once_for_all_runs(tiny_qwen, tmp_path, monkeypatch):
    """A damaged record of the check is no obstacle: the model is checked again."""
    monkeypatch.setenv("CALLBENCH_CACHE", str(tmp_path))
    real, checked = loading.checks.check, []
    monkeypatch.setattr(loading.checks, "check", lambda *arguments: checked.append(1) or real(*arguments))
    for _ in range(2):
        loading.load(str(tiny_qwen))
    assert checked == [1]
    (record,) = (tmp_path / "checks").iterdir()
    for damage in (b"{", b"\xff", b"{}"):
        record.write_bytes(damage)
        loading.load(str(tiny_qwen))
    assert checked == [1] * 4
    monkeypatch.setattr(loading.metadata, "version", lambda package: "another")
    loading.load(str(tiny_qwen))
    assert len(checked) == 5


def test_code_in_a_model_folder_never_runs(tiny_qwen, tmp_path, monkeypatch):
    """Past bug: with -s, transformers asked whether to run it, and a yes did."""
    folder, marker = tmp_path / "model", tmp_path / "ran"
    shutil.copytree(tiny_qwen, folder)
    (folder / "own.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass Own: pass\n")
    monkeypatch.setattr("sys.stdin", StringIO("y\n" * 9))
    for name, change in {
        "tokenizer_config.json": {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}},
        "config.json": {"model_file": "own.py", "auto_map": {"AutoConfig": "own.Own"}},
    }.items():
        document = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(document | change))
        with suppress(forward.ModelError):  # or it is loaded without its own code
            loading.load(str(folder))
        (folder / name).write_text(json.dumps(document))
    assert not marker.exists()


def test_a_pipe_in_a_model_folder_is_refused(tiny_qwen, tmp_path):
    """Past bug: its fingerprint waited for the pipe without end."""
    shutil.copytree(tiny_qwen, tmp_path, dirs_exist_ok=True)
    os.mkfifo(tmp_path / "added.json")
    with pytest.raises(forward.ModelError, match=r"added\.json: not regular files"):
        registry.fingerprint(tmp_path)


@pytest.mark.parametrize("layers", [10**9, "two", None])
def test_a_model_of_absurdly_many_layers_is_refused(layers, tiny_qwen, tmp_path):
    shutil.copytree(tiny_qwen, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": layers}))
    with pytest.raises(forward.ModelError, match="num_hidden_layers is"):
        loading.load(str(tmp_path))


def test_a_folder_that_mlx_lm_cannot_read_is_named(tiny_qwen, tmp_path):
    shutil.copytree(tiny_qwen, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(forward.ModelError, match=f"{tmp_path.name}: cannot be loaded"):
        loading.load(str(tmp_path))


def random_model(kind, **overrides):
    from importlib import import_module

    architecture = import_module(f"mlx_lm.models.{kind}")
    defaults = {
        "model_type": kind, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48,
        "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "vocab_size": 64,
    }  # fmt: skip
    return architecture.Model(architecture.ModelArgs.from_dict(defaults | overrides))


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_model_of_a_known_kind_is_accepted(kind, tied):
    overrides = {"tie_word_embeddings": tied, "max_position_embeddings": 99, "rope_theta": 1e4, "head_dim": 8}
    module = random_model(kind, **overrides)
    checks.check(module, "m", kind)
    tokens = mx.array([[5, 6, 7, 8]])
    logits = forward.project(module, forward.hidden_states(module, tokens))
    assert mx.allclose(logits, module(tokens), atol=1e-5)


def test_a_model_that_scales_its_logits_is_refused():
    """Past bug: Granite would have been trained and sampled with logits that are eight times too large."""
    overrides = {
        "tie_word_embeddings": True, "attention_bias": False, "mlp_bias": False, "max_position_embeddings": 99,
        "rope_theta": 1e4, "logits_scaling": 8.0, "attention_multiplier": 1.0, "embedding_multiplier": 1.0,
        "residual_multiplier": 1.0,
    }  # fmt: skip
    with pytest.raises(forward.ModelError, match="m: a granite model changes its logits after the vocab"):
        checks.check(random_model("granite", **overrides), "m", "granite")


def test_the_error_for_an_unknown_model_lists_the_known_ones():
    with pytest.raises(
        forward.ModelError, match=r"neither a known model \(smollm2_135m, .*qwen2_5_1_5b\) nor a folder"
    ):
        loading.load("gpt-7")


def test_the_error_for_an_unreachable_hub_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    source = registry.HubRepository("callbench/absent", "main", "callbench/absent")
    with pytest.raises(forward.ModelError, match=r"callbench/absent at main.*pass its path as --model"):
        registry.from_hub(source, offline=True)
