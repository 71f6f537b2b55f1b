"""Can other libraries load a trained adapter? `make export ARM=sft` writes it in mlx-lm's and in PEFT's format."""

from pathlib import Path

import pytest

from fixtures.arms import Arm, Draw

TOKENS = 12  # mlx-lm's own 4-bit layers are slow on a CPU


@pytest.mark.live
@pytest.mark.parametrize("method", ["sft", "dpo", "rft", "grpo"])
def test_export(method, bench, pytestconfig, tmp_path):
    """mlx_lm loads the exported adapter and generates the same text."""
    export_folder = pytestconfig.getoption("--export")
    if method != "sft" and not export_folder:
        pytest.skip("needs --export FOLDER: one adapter is enough to test both formats")
    from mlx_lm import load, stream_generate  # late: see kernels.use_fast_kernels

    from fixtures.modeling import registry
    from fixtures.modeling.loading import NO_CODE

    arm = Arm(method, "all_patterns", bench.seed)
    folder = (Path(export_folder) if export_folder else tmp_path) / str(arm)
    bench.runner.export(arm, folder)
    item = min(bench.items.test_ids("seen_tools"), key=lambda i: len(bench.runner.prompts([i])[0].tokens))
    prompt, (completion,) = bench.runner.prompts([item])[0], bench.runner.complete(arm, [item], Draw())[item]
    model, tokenizer = load(str(registry.locate(bench.scale.model)), NO_CODE, adapter_path=str(folder / "mlx_lm"))
    text = "".join(part.text for part in stream_generate(model, tokenizer, list(prompt.tokens), max_tokens=TOKENS))
    assert text
    assert completion.text.startswith(text)
