"""GGUF files of every kind that is converted, written here with the gguf package from tiny random models."""

import json

import gguf
import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx.utils import tree_flatten, tree_map_with_path

from fixtures.modeling import gguf as conversion
from fixtures.modeling import gguf_tokenizer, registry
from fixtures.modeling.forward import ModelError

WIDTH, INNER, HEADS, KV_HEADS = 256, 512, 4, 2  # rows are whole blocks of every quantization
QUANTIZED = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]  # what the gguf package can also write
TOKENS = [*sorted(chr(c) for c in range(33, 127)), "Ġ", "Ċ", "<|im_start|>", "<|im_end|>", "<tool_call>", "ab"]
KINDS = [1] * (len(TOKENS) - 4) + [gguf_tokenizer.CONTROL] * 2 + [gguf_tokenizer.USER_DEFINED, 1]
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"


def layers(kind):
    """Each sixth layer of Gemma 3 sees everything."""
    return 6 if kind == "gemma3" else 2


def model(kind, tied, scaling=None):
    from importlib import import_module

    name = conversion.ARCHITECTURES[kind].model_type or kind
    architecture = import_module(f"mlx_lm.models.{name}")
    arguments = {
        "model_type": name, "hidden_size": WIDTH, "num_hidden_layers": layers(kind), "intermediate_size": INNER,
        "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "rms_norm_eps": 1e-6, "vocab_size": len(TOKENS),
        "tie_word_embeddings": tied, "rope_theta": 1e4, "max_position_embeddings": 512, "head_dim": WIDTH // HEADS,
        "rope_traditional": kind == "llama", "query_pre_attn_scalar": WIDTH // HEADS, "sliding_window": 4,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0} if kind == "gemma3" else scaling,
    }  # fmt: skip
    mx.random.seed(0)
    module = architecture.Model(architecture.ModelArgs.from_dict(arguments))
    if kind == "gemma3" and tied:
        module.sanitize({})
    if kind == "gemma3":  # norms of ones, as they are made, would hide an offset
        module.update(tree_map_with_path(
            lambda path, value: mx.random.normal(value.shape) * 0.1 if "norm" in path else value, module.parameters()
        ))  # fmt: skip
    module.set_dtype(mx.float32)
    return module


def gguf_name(name, kind):
    names = conversion.NAMES | dict(conversion.ARCHITECTURES[kind].names)
    reversed_names = {ours: theirs for theirs, ours in names.items()}
    layer, _, rest = name.removeprefix("model.layers.").partition(".") if "layers." in name else ("", "", name)
    inner, _, last = rest.rpartition(".")
    return f"blk.{layer}.{reversed_names[inner]}.{last}" if layer else f"{reversed_names[inner]}.{last}"


def write(path, kind="qwen2", quantization="F16", tied=False, **changes):
    """A tiny random model as a GGUF file; returns the model."""
    module = model(kind, tied, changes.get("scaling"))
    writer = gguf.GGUFWriter(path, changes.get("architecture", kind))
    writer.add_block_count(layers(kind))
    writer.add_context_length(512)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    if changes.get("base", True):
        writer.add_rope_freq_base(1e4)
    if "scaled_by" in changes:
        writer.add_rope_scaling_type(changes["scaled_by"])
        writer.add_rope_scaling_factor(4.0)
    if "factors" in changes:
        writer.add_tensor("rope_freqs.weight", changes["factors"].astype(np.float32))
    if kind == "gemma3":
        writer.add_sliding_window(4)
        writer.add_rope_scaling_factor(8.0)
    writer.add_tokenizer_model(changes.get("tokenizer", "gpt2"))
    writer.add_tokenizer_pre(changes.get("pre", "qwen2"))
    writer.add_token_list(TOKENS)
    writer.add_token_types(KINDS)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(TOKENS.index("<|im_start|>"))
    writer.add_eos_token_id(TOKENS.index("<|im_end|>"))
    writer.add_chat_template(changes.get("template", TEMPLATE))
    for name, value in tree_flatten(module.parameters()):
        array = np.array(value)
        matrix = array.ndim == 2
        wanted = gguf.GGMLQuantizationType[quantization if matrix else "F32"]
        exported = array + conversion.ARCHITECTURES[kind].norms if "norm" in name else array
        data = gguf.quants.quantize(array, wanted) if matrix else exported
        writer.add_tensor(gguf_name(name, kind), data, raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return module


def converted(tmp_path, **arguments):
    """The original's logits, and those of its conversion."""
    from mlx_lm.utils import dequantize_model, load_model

    original = write(tmp_path / "m.gguf", **arguments)
    folder = tmp_path / "mlx"
    folder.mkdir()
    conversion.convert_gguf(tmp_path / "m.gguf", folder)
    module = dequantize_model(load_model(folder)[0])
    module.set_dtype(mx.float32)
    tokens = mx.array([[3, 40, 7, 99, 12, 5]])
    return np.array(original(tokens)), np.array(module(tokens)), json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize("kind", list(conversion.ARCHITECTURES))
@pytest.mark.parametrize("tied", [True, False])
def test_a_converted_model_has_the_originals_logits(tmp_path, kind, tied):
    """Past bug: an untied vocabulary projection was lost."""
    expected, found, config = converted(tmp_path, kind=kind, tied=tied)
    np.testing.assert_allclose(found, expected, atol=3e-2 * np.abs(expected).max())
    assert config["tie_word_embeddings"] == tied
    assert config["model_type"] == (conversion.ARCHITECTURES[kind].model_type or kind)


@pytest.mark.parametrize("quantization", ["F32", "F16", "BF16", *QUANTIZED])
def test_every_quantization_is_read(tmp_path, quantization):
    """As near as its bits allow (a wrong layout has no correlation); Q4_K to Q6_K need real files."""
    expected, found, config = converted(tmp_path, quantization=quantization)
    correlation = np.corrcoef(expected.ravel(), found.ravel())[0, 1]
    assert correlation > (0.95 if quantization.startswith("Q4") else 0.99)
    assert ("quantization" in config) == (quantization in conversion.MLX_READS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "mamba"}, "its architecture is 'mamba', of which callbench converts llama, qwen2, qwen3"),
        ({"tokenizer": "t5"}, "its tokenizer is 't5' with pre-tokenizer 'qwen2'"),
        ({"pre": "new-bpe"}, "pre-tokenizer 'new-bpe'; callbench builds llama, and gpt2 with gpt-2"),
    ],
)
def test_what_cannot_be_converted_is_named(tmp_path, changes, message):
    write(tmp_path / "m.gguf", **changes)
    folder = tmp_path / "mlx"
    folder.mkdir()
    with pytest.raises(ModelError, match=message):
        conversion.convert_gguf(tmp_path / "m.gguf", folder)


def llama_3_factors(factor):
    """By what Llama 3.1 (8) and 3.2 (32) divide each frequency, as their paper's code has it; by hand in NumPy."""
    wavelengths = 2 * np.pi * 1e4 ** (np.arange(0, WIDTH // HEADS, 2) / (WIDTH // HEADS))
    smooth = (8192 / wavelengths - 1) / (4 - 1)
    between = 1 / ((1 - smooth) / factor + smooth)
    return np.where(wavelengths < 8192 / 4, 1.0, np.where(wavelengths > 8192 / 1, factor, between))


@pytest.mark.parametrize("factor", [1.0, 8.0, 32.0])
def test_llama_3s_frequencies_are_rebuilt(tmp_path, factor):
    """Past bug: they were dropped, so that Llama 3.1 and 3.2 answered worse, the longer the prompt was."""
    scaling = {"rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 8192} if factor > 1 else None  # fmt: skip
    factors = llama_3_factors(factor)
    assert factor == 1 or len(set(factors.round(6))) > 3
    expected, found, config = converted(tmp_path, kind="llama", scaling=scaling, factors=factors)
    assert config.get("rope_scaling") == scaling
    np.testing.assert_allclose(found, expected, atol=3e-2 * np.abs(expected).max())


def test_linear_scaling_is_kept_and_a_missing_base_is_the_usual_one(tmp_path):
    scaling = {"rope_type": "linear", "factor": 4.0}
    changes = {"scaling": scaling, "scaled_by": gguf.RopeScalingType.LINEAR, "base": False}
    expected, found, config = converted(tmp_path, kind="llama", **changes)
    assert (config["rope_scaling"], config["rope_theta"]) == (scaling, 1e4)
    np.testing.assert_allclose(found, expected, atol=3e-2 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scaled_by": gguf.RopeScalingType.YARN}, r"scaled by 'yarn' \(llama.rope.scaling.type\), expected linear"),
        ({"factors": np.linspace(1, 8, WIDTH // HEADS // 2)}, "its rope_freqs are not those of Llama 3"),
    ],
)
def test_other_scaled_frequencies_are_refused(tmp_path, changes, message):
    with pytest.raises(ModelError, match=message):
        converted(tmp_path, kind="llama", **changes)


def test_what_a_file_may_leave_out_has_its_usual_value():
    """Past bug: a KeyError without the file's name for models without grouped queries, or without a first token."""
    names = ("embedding_length", "feed_forward_length", "block_count", "context_length", "attention.head_count")
    metadata = {f"llama.{name}": 7 for name in (*names, "attention.layer_norm_rms_epsilon", "rope.freq_base")}
    metadata |= {"tokenizer.ggml.tokens": ["a"], "tokenizer.ggml.eos_token_id": 0}
    config = conversion._config(metadata, "llama")
    assert config["num_key_value_heads"] == config["num_attention_heads"] == 7
    assert "bos_token_id" not in config


def test_what_a_file_must_not_leave_out_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(gguf.GGUFWriter, "add_context_length", lambda *_: None)
    with pytest.raises(ModelError, match=r"m\.gguf: its metadata lack 'qwen2\.context_length'"):
        converted(tmp_path)


@pytest.mark.parametrize(
    ("method", "given"),
    [
        ("add_token_merges", None), ("add_token_merges", ["a"]), ("add_token_merges", ["a nowhere"]),
        ("add_token_types", None), ("add_token_types", [1]), ("add_eos_token_id", 10**6),
    ],
)  # fmt: skip
def test_a_damaged_tokenizer_is_named(tmp_path, monkeypatch, method, given):
    """Past bug: each of these raised another error, none with the file's name."""
    write_as_it_is = getattr(gguf.GGUFWriter, method)
    monkeypatch.setattr(gguf.GGUFWriter, method, lambda self, _: given is not None and write_as_it_is(self, given))
    with pytest.raises(ModelError, match=r"m\.gguf: its tokenizer cannot be built \(\w+: "):
        converted(tmp_path)


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama"])
def test_a_file_that_names_no_splitting_has_its_familys_or_is_refused(tmp_path, monkeypatch, kind):
    """Past bug: a Qwen file without it was split as GPT-2 splits, without a word."""
    monkeypatch.setattr(gguf.GGUFWriter, "add_tokenizer_pre", lambda *_: None)
    if kind == "llama":
        with pytest.raises(ModelError, match=r"m\.gguf: its tokenizer is 'gpt2' with pre-tokenizer None"):
            converted(tmp_path, kind=kind)
    else:
        converted(tmp_path, kind=kind)
        text = (tmp_path / "mlx" / "tokenizer.json").read_text()
        assert json.loads(text)["normalizer"] == {"type": "NFC"}


@pytest.mark.parametrize(("head", "named"), [(WIDTH // HEADS, None), (2 * WIDTH // HEADS, 2 * WIDTH // HEADS)])
def test_a_llama_with_wider_heads_says_so(head, named):
    """Past bug: Mistral Nemo's heads were taken to be as wide as Llama's."""
    metadata = {
        "llama.attention.key_length": head, "llama.attention.head_count": HEADS, "llama.embedding_length": WIDTH
    }  # fmt: skip
    assert conversion.ARCHITECTURES["llama"].config(metadata).get("head_dim") == named


@pytest.mark.parametrize("content", [b"", b"GGUF", b"no gguf at all" * 99])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "m.gguf").write_bytes(content)
    with pytest.raises(ModelError, match=r"m\.gguf: cannot be read as GGUF"):
        conversion.convert_gguf(tmp_path / "m.gguf", tmp_path)


def test_a_users_file_is_converted_once(tmp_path, monkeypatch):
    monkeypatch.setenv("CALLBENCH_CACHE", str(tmp_path / "cache"))
    write(tmp_path / "my.gguf")
    first = registry.locate(str(tmp_path / "my.gguf"))
    monkeypatch.setattr(registry, "convert_gguf", lambda *_: pytest.fail("converted again"))
    assert registry.locate(str(tmp_path / "my.gguf")) == first
    assert registry.short_name(str(tmp_path / "my.gguf")) == "my"


def built(pre, tmp_path):
    from transformers import PreTrainedTokenizerFast

    metadata = {
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": pre, "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.token_type": KINDS, "tokenizer.ggml.merges": ["a b"], "tokenizer.chat_template": TEMPLATE,
        "tokenizer.ggml.eos_token_id": TOKENS.index("<|im_end|>"),
        "tokenizer.ggml.bos_token_id": TOKENS.index("<|im_start|>"),
    }  # fmt: skip
    gguf_tokenizer.write_tokenizer(metadata, tmp_path, "m")
    return PreTrainedTokenizerFast.from_pretrained(tmp_path, trust_remote_code=False)


@pytest.mark.parametrize("pre", list(gguf_tokenizer.PRE_TOKENIZERS))
def test_the_pre_tokenizer_splits_words_and_digits_as_named(pre, tmp_path):
    tokenizer = built(pre, tmp_path)
    words = [word for word, _ in tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("it's 1234 x")]
    assert (
        words
        == {
            "gpt-2": ["it", "'s", "Ġ1234", "Ġx"],
            "smollm": ["it", "'s", "Ġ", "1", "2", "3", "4", "Ġx"],
            "qwen2": ["it", "'s", "Ġ", "1", "2", "3", "4", "Ġx"],
            "llama-bpe": ["it", "'s", "Ġ", "123", "4", "Ġx"],
        }[pre]
    )
    ids = tokenizer.encode("ab<|im_end|><tool_call>a", add_special_tokens=False)
    assert tokenizer.convert_ids_to_tokens(ids) == ["ab", "<|im_end|>", "<tool_call>", "a"]
    special = set(tokenizer.convert_ids_to_tokens(tokenizer.all_special_ids))
    assert special >= {"<|im_end|>"}
    assert "<tool_call>" not in special
    assert tokenizer.chat_template == TEMPLATE


@pytest.mark.parametrize(("pre", "tokens", "starts"), [("qwen2", ["ab", "<"], False), ("llama-bpe", ["ab<"], True)])
def test_llama_3_takes_whole_words_and_starts_texts(pre, tokens, starts, tmp_path, monkeypatch):
    """Past bug: a word that no merge makes was cut; a file that does not say so had no start of a text."""
    monkeypatch.setattr("bench.unit.modeling.test_gguf.TOKENS", [*TOKENS, "ab<"])
    monkeypatch.setattr("bench.unit.modeling.test_gguf.KINDS", [*KINDS, 1])
    monkeypatch.setitem(gguf_tokenizer.PRE_TOKENIZERS, pre, gguf_tokenizer.PRE_TOKENIZERS[pre]._replace(pattern=r"\S+"))
    tokenizer = built(pre, tmp_path)
    ids = tokenizer.encode("ab<", add_special_tokens=False)
    assert tokenizer.convert_ids_to_tokens(ids) == tokens
    assert bool(tokenizer.bos_token) == starts


@given(st.text(alphabet="ab 1.,<|>\n{}[]\"'xyz", max_size=60))
def test_tokens_spell_the_text_again(text):
    import tempfile
    from pathlib import Path

    global _built
    if _built is None:
        with tempfile.TemporaryDirectory() as folder:
            _built = built("qwen2", Path(folder))
    assert _built.decode(_built.encode(text, add_special_tokens=False)) == text


_built = None


PROSE = [
    "Wie ist das Wetter in München? 12,50 €", "def area(width: float) -> float:", "  two  spaces\tand a tab",
    '[{"name": "area.of", "arguments": {"width": 2.5}}]', "naïve café, 東京, 🙂", "The weather in Rome, in degrees.",
]  # fmt: skip
SPECIAL = "<end_of_turn>"


@pytest.fixture(scope="module", params=[True, False], ids=["prefixed", "plain"])
def sentencepiece_pair(request, tmp_path_factory):
    """SentencePiece's own tokenizer, trained here, and ours from the same vocabulary: llama's kind and Gemma's."""
    import io

    import sentencepiece
    from transformers import PreTrainedTokenizerFast

    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(PROSE * 20), model_writer=made, model_type="bpe", vocab_size=420, byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=request.param,
        control_symbols=[SPECIAL], user_defined_symbols=["\n\n"], minloglevel=2, hard_vocab_limit=False,
    )  # fmt: skip
    theirs = sentencepiece.SentencePieceProcessor(model_proto=made.getvalue())
    ids = range(theirs.get_piece_size())
    kinds = [3 if theirs.is_control(i) else 2 if theirs.is_unknown(i) else 6 if theirs.is_byte(i) else 1 for i in ids]
    kinds[theirs.piece_to_id("\n\n")] = gguf_tokenizer.USER_DEFINED
    metadata = {
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": [theirs.id_to_piece(i) for i in ids],
        "tokenizer.ggml.scores": [theirs.get_score(i) for i in ids], "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": theirs.bos_id(), "tokenizer.ggml.eos_token_id": theirs.eos_id(),
        "tokenizer.ggml.unknown_token_id": theirs.unk_id(), "tokenizer.ggml.add_space_prefix": request.param,
        "tokenizer.chat_template": TEMPLATE,
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("sentencepiece")
    gguf_tokenizer.write_tokenizer(metadata, folder, "m")
    return theirs, PreTrainedTokenizerFast.from_pretrained(folder, trust_remote_code=False)


@given(
    text=st.lists(st.sampled_from([*PROSE, " ", "  ", "a", "é", "東", "🙃", "7"]), min_size=1, max_size=4).map("".join)
)
def test_sentencepiece_is_rebuilt_token_by_token(sentencepiece_pair, text):
    theirs, ours = sentencepiece_pair
    ids = ours.encode(text, add_special_tokens=False)
    assert ids == theirs.encode(text)
    assert ours.decode(ids) == text


def test_sentencepieces_special_tokens_are_kept_whole(sentencepiece_pair):
    theirs, ours = sentencepiece_pair
    ids = ours.encode(f"Rome{SPECIAL}\n\nRome", add_special_tokens=False)
    assert theirs.piece_to_id(SPECIAL) in ids
    assert theirs.piece_to_id("\n\n") in ids
    assert ours.bos_token == "<s>"
