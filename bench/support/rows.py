"""BFCL's training rows as a model reads them, for programs that have no session."""


def training_rows(model):
    """All rows of `all_patterns` in the model's own format."""
    from fixtures import prompts  # late: whoever calls this loads its BLAS before MLX
    from fixtures.data import regimes, splits
    from fixtures.data.bfcl import load_examples
    from fixtures.storage import assets, pinned

    examples, partition = load_examples(assets.fetch(pinned.BFCL)), splits.load_partition()
    ids = regimes.subset(regimes.REGIMES["all_patterns"](partition, examples), None, 0, examples)
    chosen = [examples[i] for i in ids]
    return prompts.render_prompts(chosen, model.tokenizer, model.end_of_turn, form=model.format(""))
