"""Makes the golden numbers of the real Gemma 3 270M: gemma3_270m/forward.safetensors and
lora_qv_r4_labelonly.safetensors.

    python make_270m.py OUT --model gemma-3-270m-q4_k_m.gguf [--compare crates/gemma/tests/golden]

Needs what make_tiny.py needs, and gguf. Every block of the GGUF is dequantized to f32 and everything
is computed in f32 on the CPU: 1.2 GB of memory and a few minutes.
"""

import argparse
import hashlib
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import golden

FOLDER = "gemma3_270m"
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
# Residual streams that are kept: the first, the middle, the last, and the first global layer.
LAYERS = [0, 5, 11, 17]

PROMPT = (
    "Classify the following text into one of the following classes:[Positive,Negative]\n"
    "Text:{text}\nPrediction:"
)
SEQUENCES = [
    "The quick brown fox jumps over the lazy dog and",
    PROMPT.format(
        text="I watched the new documentary about deep sea fish last night, and although the "
        "narration was a little slow, the pictures of the lantern fish were wonderful."),
]
ROWS = [
    ("I love how kind everyone was at the picnic.", "Positive"),
    ("People like you should be thrown out of this town, every last one of you.", "Negative"),
    ("The bus was late again.", "Positive"),
]


def forward(model, tokenizer, path):
    """The last position only: all logits of the two sequences would be 67 MB."""
    out = {}
    for k, text in enumerate(SEQUENCES):
        ids = torch.tensor(tokenizer(text).input_ids)
        _, layers, _, logits = golden.residuals(model, ids)
        out |= {
            f"seq{k}.input_ids": ids.to(torch.int32),
            f"seq{k}.logits_last": logits[-1].clone(),
            f"seq{k}.next_token_logprobs": golden.next_token_logprobs(logits, ids),
        }
        out |= {f"seq{k}.hidden_after_layer{i}_last": layers[i][-1].clone() for i in LAYERS}
    save_file(out, path)


def batch(tokenizer):
    """Prompt, label, end token, right-padded; the label is the only target."""
    rows = [
        tokenizer(PROMPT.format(text=text) + label).input_ids + [tokenizer.eos_token_id]
        for text, label in ROWS
    ]
    width = max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, tokens in enumerate(rows):
        n = len(tokens)
        ids[row, :n], mask[row, :n] = torch.tensor(tokens), 1
        labels[row, n - 2] = tokens[n - 2]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def make(args):
    found = hashlib.sha256(args.model.read_bytes()).hexdigest()
    if found != SHA256:
        raise SystemExit(f"{args.model}: sha256 is {found}, expected {SHA256}")
    where = dict(pretrained_model_name_or_path=args.model.parent, gguf_file=args.model.name)
    tokenizer = AutoTokenizer.from_pretrained(**where)
    model = AutoModelForCausalLM.from_pretrained(
        **where, dtype=torch.float32, attn_implementation="eager").eval()
    folder = args.out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    forward(model, tokenizer, folder / "forward.safetensors")
    golden.lora(
        model, folder / "lora_qv_r4_labelonly.safetensors", targets=["q_proj", "v_proj"], rank=4,
        alpha=4, seed=1234, batch=batch(tokenizer))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True, help="the GGUF file")
    golden.main(make, [FOLDER], parser)
