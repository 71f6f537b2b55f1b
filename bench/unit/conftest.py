"""Small stand-ins shared by the unit tests: a tiny model and a tokenizer of one token per character."""

import pytest

from fixtures.dataset import Answer, Example


class CharacterTokenizer:
    """Token = character code modulo the tiny model's vocabulary."""

    def encode(self, text, *, add_special_tokens=True):
        return [2 + ord(c) % 60 for c in text]

    def decode(self, ids, *, skip_special_tokens=False):
        return "".join(chr(32 + i) for i in ids)

    def apply_chat_template(self, conversation, *, tokenize, add_generation_prompt):
        return "".join(f"<{m['role']}>{m['content']}" for m in conversation) + "<assistant>"


@pytest.fixture
def tokenizer():
    return CharacterTokenizer()


@pytest.fixture
def module():
    """A random llama of two layers and 64 tokens, frozen like a loaded model."""
    import mlx.core as mx
    from mlx_lm.models import llama

    from fixtures import kernels

    mx.random.seed(0)
    made = llama.Model(llama.ModelArgs("llama", 32, 2, 48, 4, 1e-5, 64, num_key_value_heads=2))
    kernels.use_fast_kernels(made)
    made.freeze()
    mx.eval(made.parameters())
    return made


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
