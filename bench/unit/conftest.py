"""Fixtures shared by the unit tests: tiny models, a tokenizer with one token per character, and the real BFCL items."""

import json
import shutil

import pytest
from hypothesis import settings

from fixtures.data.bfcl import CATEGORIES, SINGLE_TURN, Answer, Example, load_examples
from fixtures.scoring.scorer import prepare_scorer
from fixtures.storage import assets, pinned


class CharacterTokenizer:
    """One token per character: its code modulo 60, plus 2, which fits the tiny model's vocabulary of 64."""

    def encode(self, text, *, add_special_tokens=True):
        return [2 + ord(c) % 60 for c in text]

    def decode(self, ids, *, skip_special_tokens=False):
        return "".join(chr(32 + i) for i in ids)

    def apply_chat_template(self, conversation, *, tools=None, tokenize, add_generation_prompt):
        return "".join(f"<{m['role']}>{m['content']}" for m in conversation) + "<assistant>"


@pytest.fixture
def tokenizer():
    return CharacterTokenizer()


@pytest.fixture
def module():
    """A randomly initialised llama with two layers and a vocabulary of 64, frozen like a loaded model."""
    import mlx.core as mx
    from mlx_lm.models import llama

    from fixtures.modeling.cpu import kernels

    mx.random.seed(0)
    model = llama.Model(llama.ModelArgs("llama", 32, 2, 48, 4, 1e-5, 64, num_key_value_heads=2))
    kernels.use_fast_kernels(model)
    model.freeze()
    mx.eval(model.parameters())
    return model


@pytest.fixture
def example():
    tool = {
        "name": "area.of",
        "description": "Area of a rectangle.",
        "parameters": {
            "type": "dict",
            "properties": {"width": {"type": "float"}, "unit": {"type": "string"}},
            "required": ["width"],
        },
    }
    question = ({"role": "user", "content": "How large is it?"},)
    return Example(
        "simple_python_0", "simple", question, (tool,), (Answer("area.of", {"width": [2.5], "unit": ["cm", ""]}),)
    )


CONFIG = {
    "model_type": "qwen2", "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128,
    "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "vocab_size": 260,
    "tie_word_embeddings": True, "rope_theta": 1e6, "max_position_embeddings": 4096, "eos_token_id": 257,
}  # fmt: skip
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_qwen(tmp_path_factory):
    """A 4-bit Qwen2 with two layers and a byte-level tokenizer, in the layout that mlx_lm.convert writes."""
    import mlx.core as mx
    import mlx.nn as nn
    from mlx_lm.models import qwen2
    from mlx_lm.utils import save_model
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    path = tmp_path_factory.mktemp("models") / "tiny-qwen2-4bit"
    path.mkdir()
    mx.random.seed(0)
    module = qwen2.Model(qwen2.ModelArgs.from_dict(CONFIG))
    nn.quantize(module, group_size=64, bits=4)
    save_model(path, module)
    quantization = {"group_size": 64, "bits": 4}
    (path / "config.json").write_text(json.dumps(CONFIG | {"quantization": quantization}))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*alphabet, "<|im_start|>", "<|im_end|>"])}
    fast = Tokenizer(BPE(vocabulary, []))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    fast.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=fast, eos_token="<|im_end|>")
    wrapped.chat_template = TEMPLATE
    wrapped.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def lively_qwen(tiny_qwen, tmp_path_factory):
    """tiny_qwen with its projection weights scaled by four; unscaled, it generates the same token forever."""
    import mlx.core as mx

    path = tmp_path_factory.mktemp("models") / "lively-qwen2-4bit"
    shutil.copytree(tiny_qwen, path)
    (file,) = path.glob("*.safetensors")
    weights = mx.load(str(file))
    scaled = {n: 4 * w for n, w in weights.items() if "_proj." in n and n.endswith((".scales", ".biases"))}
    mx.save_safetensors(str(file), weights | scaled, metadata={"format": "mlx"})
    return path


@pytest.fixture(scope="session")
def examples(bench):
    """The thousand items of the four categories that the study uses, by id."""
    return {i: example for i, example in bench.items.examples.items() if example.category in CATEGORIES}


@pytest.fixture(scope="session")
def deep():
    """Whether Hypothesis runs with its `deep` profile, or with another one of at least as many examples."""
    return settings.default.max_examples >= settings.get_profile("deep").max_examples


@pytest.fixture(scope="session")
def single_turn(bench):
    """Every single-turn BFCL item, by id."""
    return load_examples(assets.fetch(pinned.BFCL, offline=bench.options.offline), SINGLE_TURN)


@pytest.fixture(scope="session")
def with_gold(single_turn):
    """The single-turn items that have gold calls, by id."""
    return {i: example for i, example in single_turn.items() if example.answers}


@pytest.fixture(scope="session")
def scorers(single_turn):
    return {i: prepare_scorer(example) for i, example in single_turn.items()}
