"""llama.cpp on the same GGUF, with all rows in one batch. Its own 4-bit kernels use other arithmetic: only its speed
is compared.
"""

import json
import sys
from pathlib import Path

import llama_cpp as llama
import numpy as np
from protocol import serve, timed

WORK = json.loads((Path(sys.argv[1]) / "work.json").read_text())
THREADS = int(sys.argv[2])
BATCH = 512  # tokens in a forward pass


class Context:
    """As many rows at once as there are prompts, each a sequence of its own."""

    def __init__(self, model, prompts, new_tokens):
        parameters = llama.llama_context_default_params()
        parameters.n_ctx = len(prompts) * (max(map(len, prompts)) + 1 + new_tokens)
        parameters.n_seq_max, parameters.kv_unified = len(prompts), False  # a row reads its own keys and values only
        parameters.n_batch = parameters.n_ubatch = BATCH
        parameters.n_threads = parameters.n_threads_batch = THREADS
        self.prompts = prompts
        self.vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
        self.raw = llama.llama_init_from_model(model, parameters)
        self.batch = llama.llama_batch_init(BATCH, 0, 1)

    def forward(self, tokens):
        """(token, position, row, whether its logits are needed) of each; greedy next tokens of those that are."""
        batch = self.batch
        batch.n_tokens = len(tokens)
        for i, (token, position, row, wanted) in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, wanted
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, row
        if llama.llama_decode(self.raw, batch):
            raise RuntimeError("llama_decode failed")
        wanted = [i for i, token in enumerate(tokens) if token[3]]
        return [int(np.argmax(self._logits(i))) for i in wanted]

    def _logits(self, i):
        return np.ctypeslib.as_array(llama.llama_get_logits_ith(self.raw, i), (self.vocabulary,))

    def prefill(self):
        """The first new token of each row."""
        return [self._prefill(row, prompt) for row, prompt in enumerate(self.prompts)]

    def _prefill(self, row, prompt):
        tokens = [(token, at, row, at == len(prompt) - 1) for at, token in enumerate(prompt)]
        return [self.forward(tokens[i : i + BATCH]) for i in range(0, len(tokens), BATCH)][-1][0]

    def generate(self, first, new_tokens):
        """The first tokens and as many new ones, all rows in step."""
        answers = [first]
        for step in range(new_tokens):
            last = enumerate(zip(answers[-1], self.prompts, strict=True))
            answers.append(self.forward([(token, len(prompt) + step, row, True) for row, (token, prompt) in last]))
        return [list(answer) for answer in zip(*answers, strict=True)]

    def close(self):
        llama.llama_batch_free(self.batch)
        llama.llama_free(self.raw)


def load():
    silent = llama.llama_log_callback(lambda *_: None)
    llama.llama_log_set(silent, None)
    return silent, llama.llama_model_load_from_file(WORK["gguf"].encode(), llama.llama_model_default_params())


SILENT, MODEL = load()  # the callback has to stay alive


def prefill():
    context = Context(MODEL, WORK["prefilled"], 0)
    seconds, _ = timed(context.prefill)
    context.close()
    return {"seconds": seconds, "tokens": sum(map(len, WORK["prefilled"]))}


def decode(rows):
    """The prefill is not timed."""
    context = Context(MODEL, WORK["prompts"][:rows], WORK["new_tokens"])
    first = context.prefill()
    seconds, answers = timed(lambda: context.generate(first, WORK["new_tokens"]))
    context.close()
    return {"seconds": seconds, "tokens": rows * WORK["new_tokens"], "answers": answers}


serve({"prefill": prefill, "decode": decode})
