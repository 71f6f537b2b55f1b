"""Can others use a trained adapter? `make export ARM=sft` keeps it in mlx-lm's and in PEFT's layout."""

from pathlib import Path

import pytest

from fixtures.arms import Arm, Draw

TOKENS = 12  # mlx-lm's own 4-bit layers are slow on a CPU


@pytest.mark.live
@pytest.mark.parametrize("method", ["sft", "dpo", "rft", "grpo"])
def test_export(method, bench, pytestconfig, tmp_path):
    """mlx_lm.load reads it, and says the same as we do."""
    wanted = pytestconfig.getoption("--export")
    if method != "sft" and not wanted:
        pytest.skip("needs --export FOLDER: one adapter is enough to see that the layouts are right")
    from mlx_lm import load, stream_generate  # late: see kernels.use_fast_kernels

    from fixtures.modeling import loading

    arm = Arm(method, "all_patterns", bench.seed)
    folder = (Path(wanted) if wanted else tmp_path) / arm.id
    bench.live.export(arm, folder)
    item = min(bench.test_ids("seen_tools"), key=lambda i: len(bench.live.prompts([i])[0].tokens))
    prompt, (answer,) = bench.live.prompts([item])[0], bench.live.complete(arm, [item], Draw())[item]
    model, tokenizer = load(str(loading.locate(bench.scale.model)), adapter_path=str(folder / "mlx_lm"))
    said = "".join(part.text for part in stream_generate(model, tokenizer, list(prompt.tokens), max_tokens=TOKENS))
    assert said
    assert answer.text.startswith(said)
