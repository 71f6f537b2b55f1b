"""Which prompt format suits a model: tools in its own chat template, or plain signatures? What does each cost?"""

import pytest

METHODS = ["base", "sft"]


@pytest.mark.parametrize("split", ["seen_tools", "unseen_tools"])
@pytest.mark.parametrize("prompt_format", ["native", "signatures"])
@pytest.mark.parametrize("method", METHODS)
def test_formats(method, prompt_format, split, accuracy, expected):
    """Accuracy by prompt format; the summary has the prompt tokens per question."""
    assert accuracy in expected
