"""Makes the golden folders of the three tiny twins: tiny_gemma1, tiny_gemma2, tiny_gemma3.

    python make_tiny.py OUT [--compare crates/gemma/tests/golden]

Needs torch, transformers, peft and safetensors (versions in crates/gemma/tests/golden/README.md).
Everything is random but seeded: a twin has the structure of its generation and none of its
knowledge. Weights are larger than at a usual start (0.02), so that norms, soft caps, windows and
rotations all change the logits.
"""

import argparse
import json
import platform

import peft
import safetensors
import torch
import transformers
from safetensors.torch import save_file
from transformers import Gemma2Config, Gemma3TextConfig, GemmaConfig
from transformers import Gemma2ForCausalLM, Gemma3ForCausalLM, GemmaForCausalLM

import golden

# Note that heads · head_dim = 128 is not the hidden size.
SHARED = dict(
    vocab_size=512, hidden_size=64, num_attention_heads=4, head_dim=32, intermediate_size=128,
    max_position_embeddings=512, rms_norm_eps=1e-6, tie_word_embeddings=True, bos_token_id=2,
    eos_token_id=1, pad_token_id=0, dtype="float32",
)
LOCAL = {"rope_type": "default", "rope_theta": 1e4}
GLOBAL = {"rope_type": "default", "rope_theta": 1e6}

TWINS = {
    "tiny_gemma1": dict(
        description="Gemma 1, multi-query (1 kv head)",
        seed=101,
        model=GemmaForCausalLM,
        config=lambda: GemmaConfig(
            **SHARED, num_hidden_layers=2, num_key_value_heads=1, hidden_act="gelu_pytorch_tanh",
            rope_parameters=LOCAL),
        loras=["qv_r4_last2", "all7_r8_a16_fullseq"],
    ),
    "tiny_gemma2": dict(
        description="Gemma 2: layer 0 sliding (window 8), layer 1 full; attn soft cap 5.0, final "
        "soft cap 3.0 (small, so that they matter), query_pre_attn_scalar 24 (not head_dim, so "
        "that it matters)",
        seed=103,
        model=Gemma2ForCausalLM,
        config=lambda: Gemma2Config(
            **SHARED, num_hidden_layers=2, num_key_value_heads=2,
            hidden_activation="gelu_pytorch_tanh", query_pre_attn_scalar=24, sliding_window=8,
            layer_types=["sliding_attention", "full_attention"], rope_parameters=LOCAL,
            attn_logit_softcapping=5.0, final_logit_softcapping=3.0),
        loras=["all7_r8_a16_last2"],
    ),
    "tiny_gemma3": dict(
        description="Gemma 3 text: layers sliding/full/sliding (window 8), rope theta 1e4 local, "
        "1e6 global, q_norm/k_norm, query_pre_attn_scalar 24",
        seed=104,
        model=Gemma3ForCausalLM,
        config=lambda: Gemma3TextConfig(
            **SHARED, num_hidden_layers=3, num_key_value_heads=1,
            hidden_activation="gelu_pytorch_tanh", query_pre_attn_scalar=24, sliding_window=8,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            rope_parameters={"full_attention": GLOBAL, "sliding_attention": LOCAL}),
        loras=["qv_r4_last2", "all7_r8_a16_fullseq"],
    ),
}
ADAPTERS = {
    "qv_r4": dict(targets=["q_proj", "v_proj"], rank=4, alpha=4, seed=7),
    "all7_r8_a16": dict(targets=golden.ALL_SEVEN, rank=8, alpha=16, seed=8),
}
LENGTHS = [11, 23]  # the longer one exceeds the window of 8
BOS, FIRST_PLAIN = 2, 3


def build(twin):
    """The model, every parameter drawn from one generator in the order of sorted names."""
    torch.manual_seed(twin["seed"])
    model = twin["model"]._from_config(twin["config"](), attn_implementation="eager").float().eval()
    generator = torch.Generator().manual_seed(1000 + twin["seed"])
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            if "norm" in name:
                std = 0.2  # w, where the effective gain is 1 + w
            elif "embed" in name:
                std = 0.125
            else:
                std = 1.5 / weight.shape[1] ** 0.5
            weight.copy_(torch.randn(weight.shape, generator=generator) * std)
    return model


def sequences(twin):
    generator = torch.Generator().manual_seed(2000 + twin["seed"])
    plain = [torch.randint(FIRST_PLAIN, 512, (n - 1,), generator=generator) for n in LENGTHS]
    return [torch.cat([torch.tensor([BOS]), ids]) for ids in plain]


def forward(model, ids_of, path):
    out = {}
    for k, ids in enumerate(ids_of):
        embed, layers, normed, logits = golden.residuals(model, ids)
        out |= {
            f"seq{k}.input_ids": ids.to(torch.int32),
            f"seq{k}.embed_scaled": embed,
            f"seq{k}.hidden_final_norm": normed,
            f"seq{k}.logits": logits,
            f"seq{k}.next_token_logprobs": golden.next_token_logprobs(logits, ids),
        }
        out |= {f"seq{k}.hidden_after_layer{i}": x for i, x in enumerate(layers)}
    save_file(out, path)


def batch(ids_of, which):
    """Right-padded rows. `fullseq`: every real token is a label (the first one is the target of no
    logits and does not count); `last2`: the last two real ones."""
    width = max(LENGTHS)
    ids = torch.zeros(len(ids_of), width, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, tokens in enumerate(ids_of):
        n = len(tokens)
        first = 0 if which == "fullseq" else n - 2
        ids[row, :n], mask[row, :n] = tokens, 1
        labels[row, first:n] = tokens[first:]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def make(args):
    versions = {
        module.__name__: module.__version__ for module in (torch, transformers, peft, safetensors)
    } | {"python": platform.python_version()}
    for name, twin in TWINS.items():
        folder = args.out / name
        folder.mkdir(parents=True, exist_ok=True)
        model, ids_of = build(twin), sequences(twin)
        model.save_pretrained(folder / "model")
        (folder / "model" / "generation_config.json").unlink(missing_ok=True)
        forward(model, ids_of, folder / "forward.safetensors")
        for lora in twin["loras"]:
            adapter, which = lora.rsplit("_", 1)
            path = folder / f"lora_{lora}.safetensors"
            golden.lora(model, path, **ADAPTERS[adapter], batch=batch(ids_of, which))
        about = {
            "description": twin["description"],
            "versions": versions,
            "model": "model",
            "dtype": "float32",
        }
        (folder / "golden.json").write_text(json.dumps(about, indent=1))


if __name__ == "__main__":
    golden.main(make, TWINS, argparse.ArgumentParser())
