"""torch + transformers + peft on the CPU, in float32 or bf16, where peft's adapter stays float32.

Like ours, it projects to the vocabulary only where there is a loss.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from protocol import serve, timed
from transformers import AutoModelForCausalLM

FOLDER = Path(sys.argv[1])
WORK = json.loads((FOLDER / "work.json").read_text())
torch.set_num_threads(int(sys.argv[2]))
TYPE = torch.bfloat16 if sys.argv[3] == "bf16" else torch.float32


def load():
    return AutoModelForCausalLM.from_pretrained(FOLDER / "model", dtype=TYPE, attn_implementation="sdpa").eval()


def load_with_lora():
    base = load()
    names = [
        name for name, layer in base.named_modules() if isinstance(layer, torch.nn.Linear) and "lm_head" not in name
    ]
    model = get_peft_model(
        base, LoraConfig(r=WORK["rank"], lora_alpha=WORK["alpha"], target_modules=names, lora_dropout=0.0)
    )
    lora_a = np.load(FOLDER / "lora_a.npz")
    for name, layer in model.base_model.model.named_modules():
        if name in lora_a.files:
            layer.lora_A["default"].weight.data = torch.tensor(lora_a[name])
    return model


def train(length):
    model = load_with_lora()
    body, head = model.base_model.model.model, model.base_model.model.lm_head
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trainable, lr=WORK["lr"])
    rows = torch.tensor(WORK["training"][str(length)])
    losses = []

    def step(batch):
        hidden = body(batch[:, :-1], use_cache=False).last_hidden_state[:, -WORK["completion"] :]  # (B, N, D)
        targets = batch[:, -WORK["completion"] :].reshape(-1)
        loss = torch.nn.functional.cross_entropy(head(hidden).reshape(targets.numel(), -1).float(), targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, WORK["max_grad_norm"])
        optimizer.step()
        losses.append(loss.item())

    batches = rows.split(WORK["batch"])
    step(batches[0])  # warm-up
    seconds, _ = timed(lambda: [step(batch) for batch in batches[1:]])
    return {"seconds": seconds, "tokens": rows[WORK["batch"] :].numel(), "losses": losses}


def padded(rows):
    prompts = WORK["prompts"][:rows]
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    return ids, mask


BASE = load()


@torch.inference_mode()
def prefill():
    """Row by row, without padding."""

    def run():
        for tokens in WORK["prefilled"]:
            BASE(torch.tensor([tokens]), use_cache=True, logits_to_keep=1)

    seconds, _ = timed(run)
    return {"seconds": seconds, "tokens": sum(map(len, WORK["prefilled"]))}


@torch.inference_mode()
def decode(rows):
    """Timed from the first token to the last; the prefill is not included."""
    ids, mask = padded(rows)
    n, times = 1 + WORK["new_tokens"], []

    def record_time(*_, **__):
        times.append(time.perf_counter())
        return torch.zeros(rows, dtype=torch.bool)

    out = BASE.generate(
        ids, attention_mask=mask, max_new_tokens=n, min_new_tokens=n, do_sample=False, pad_token_id=0,
        stopping_criteria=[record_time],
    )  # fmt: skip
    answers = out[:, ids.shape[1] :].tolist()
    return {"seconds": times[-1] - times[0], "tokens": rows * WORK["new_tokens"], "answers": answers}


serve({"train": train, "prefill": prefill, "decode": decode})
