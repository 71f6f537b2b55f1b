"""Tiny random models of every architecture in mlx-lm that a few numbers suffice to build."""

from importlib import import_module
from pkgutil import iter_modules

import mlx.core as mx
import mlx_lm.models

TOKENS = [[1, 2, 3, 9, 8, 7, 6]]

SHARED = {
    "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "rms_norm_eps": 1e-5, "norm_eps": 1e-5, "layer_norm_eps": 1e-5,
    "layer_norm_epsilon": 1e-5, "vocab_size": 64, "max_position_embeddings": 512, "rope_theta": 1e4,
    "attention_bias": False, "mlp_bias": False, "use_bias": False, "tie_word_embeddings": False, "num_experts": 4,
    "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16, "n_shared_experts": 1, "first_k_dense_replace": 1, "decoder_sparse_step": 1,
    "norm_topk_prob": True, "mlp_only_layers": [], "partial_rotary_factor": 0.5, "rotary_pct": 0.5, "rotary_dim": 4,
    "sliding_window": 8, "sliding_window_pattern": 2, "layer_types": ["sliding_attention", "full_attention"],
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8, "n_group": 1,
    "topk_group": 1, "routed_scaling_factor": 1.0, "logits_scaling": 8.0, "attention_multiplier": 1.0,
    "embedding_multiplier": 1.0, "residual_multiplier": 1.0, "n_layer": 2, "n_head": 4, "n_embd": 32,
    "n_positions": 512, "n_ctx": 512, "d_model": 32, "n_heads": 4, "n_layers": 2, "mlp_hidden_size": 48,
    "embedding_size": 64, "mlp_ratio": 2, "num_heads": 4, "num_layers": 2, "ffn_hidden_size": 48,
    "num_shared_experts": 1, "use_qk_norm": True, "scoring_func": "softmax", "topk_method": "greedy",
    "hidden_act": "silu", "hidden_activation": "gelu_pytorch_tanh", "rope_scaling": None, "rope_traditional": False,
    "qkv_bias": False, "use_parallel_residual": True, "num_nextn_predict_layers": 0, "query_pre_attn_scalar": 8,
    "final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0, "block_size": 512, "layer_norm_bias": False,
    "logit_scale": 1.0, "scale_depth": 1.4, "scale_emb": 12, "dim_model_base": 16, "use_qkv_bias": False,
    "rotary_emb_base": 10000, "n_inner": 48, "qk_norm": True, "post_norm": True, "n_kv_heads": 2,
    "moe_num_experts": 4, "moe_k": 2, "moe_topk": 2, "conv_bias": False, "conv_L_cache": 3, "mamba_d_state": 8,
    "state_size": 8, "conv_kernel": 4, "time_step_rank": 4, "use_conv_bias": True, "linear_num_value_heads": 4,
    "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_conv_kernel_dim": 4,
    "full_attention_interval": 2, "attention_chunk_size": 8, "intermediate_size_mlp": 48,
}  # fmt: skip
# What an architecture needs otherwise, by its name in mlx-lm; a second entry is a variant.
VARIANTS = {
    "deepseek_v2": {"rope_scaling": {"type": "yarn", "factor": 2.0, "original_max_position_embeddings": 256}},
    "deepseek_v3": {"topk_method": "noaux_tc", "rope_scaling": None},
    "glm4_moe": {"topk_method": "noaux_tc"},
    "gpt_neox": {"num_key_value_heads": 4},
    "internlm2 with dynamic rope": {"rope_scaling": {"type": "dynamic", "factor": 2.0}, "max_position_embeddings": 8},
    "llama without windows": {"layer_types": None, "sliding_window": None},
    "llama, tied": {"tie_word_embeddings": True},
    "gemma3_text, tied": {"tie_word_embeddings": True},
    "phi3 with long rope": {
        "rope_scaling": {"type": "longrope", "long_factor": [1.0] * 2, "short_factor": [1.0] * 2},
        "original_max_position_embeddings": 256,
    },
    "stablelm": {"qk_layernorm": False},
}  # fmt: skip


def names():
    """All architectures of mlx-lm, and their variants."""
    modules = [info.name for info in iter_modules(mlx_lm.models.__path__)]
    return sorted({*modules, *VARIANTS})


def tiny(name):
    """A random model of this architecture; None if these numbers do not build one that runs."""
    kind = name.split(",")[0].split(" ")[0]
    settings = SHARED | {"model_type": kind} | VARIANTS.get(name, {})
    try:
        architecture = import_module(f"mlx_lm.models.{kind}")
        mx.random.seed(0)
        module = architecture.Model(architecture.ModelArgs.from_dict(settings | {"text_config": settings}))
        module.set_dtype(mx.float32)
        mx.eval(module.parameters(), module(mx.array(TOKENS)))
    except (Exception, SystemExit):  # noqa: BLE001  # missing numbers, missing packages, kernels for Metal only
        return None
    return module
