"""Holds Hearth and PEFT to the same adapters, in both directions. Run by hand: docs/peft.md says how,
and what came out.

    python peft_check.py MODEL ADAPTER_DIR LOGITS.safetensors
        loads an adapter that Hearth wrote into PEFT and compares the logits with Hearth's
    python peft_check.py --make MODEL ADAPTER_DIR LOGITS.safetensors
        writes an adapter made by PEFT, and PEFT's logits with it: crates/gemma/tests/suite/peft.rs
        reads those

MODEL is a folder with config.json and model.safetensors, or a GGUF file. LOGITS holds input_ids
int32 [T] and logits f32 [T, V].
"""

import argparse
from pathlib import Path

import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

# Budgets of logits in f32; both must hold.
RELATIVE, ABSOLUTE = 1e-4, 1e-3


def load(path):
    where = dict(pretrained_model_name_or_path=path)
    if path.is_file():
        where = dict(pretrained_model_name_or_path=path.parent, gguf_file=path.name)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        **where, dtype=torch.float32, attn_implementation="eager")
    return model.eval()


def logits_of(model, ids):
    with torch.no_grad():
        return model(input_ids=ids[None].long(), use_cache=False).logits[0]


def check(args):
    theirs = load_file(args.logits)
    ids, theirs = theirs["input_ids"], theirs["logits"]
    base = load(args.model)
    plain = logits_of(base, ids)
    adapted = peft.PeftModel.from_pretrained(base, args.adapter).eval()
    ours = logits_of(adapted, ids)
    largest = (ours - theirs).abs().max().item()
    relative = ((ours - theirs).double().norm() / ours.double().norm()).item()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, "
          f"peft {peft.__version__}")
    print(f"{args.adapter.name}: logits {list(ours.shape)} up to {ours.abs().max().item():.2f}; "
          f"the adapter changes them by up to {(ours - plain).abs().max().item():.2f}")
    print(f"largest difference {largest:.1e}, relative {relative:.1e}")
    fine = relative <= RELATIVE and largest <= ABSOLUTE
    raise SystemExit(0 if fine else 1)


def make(args):
    """A rank that is no multiple of 4, rsLoRA, all seven projections, and a B that is not zero."""
    base = load(args.model)
    config = peft.LoraConfig(
        r=3, lora_alpha=5, use_rslora=True, task_type="CAUSAL_LM",
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"])
    adapted = peft.get_peft_model(base, config).eval()
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for _, factor in sorted((n, p) for n, p in adapted.named_parameters() if p.requires_grad):
            factor.copy_(torch.randn(factor.shape, generator=generator) * 0.1)
    plain = torch.randint(3, base.config.vocab_size, (10,), generator=generator)
    ids = torch.cat([torch.tensor([2]), plain])
    adapted.save_pretrained(args.adapter)
    (args.adapter / "README.md").unlink(missing_ok=True)
    save_file({"input_ids": ids.to(torch.int32), "logits": logits_of(adapted, ids)}, args.logits)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--make", action="store_true", help="write an adapter instead of reading one")
    parser.add_argument("model", type=Path)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("logits", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    make(args) if args.make else check(args)
