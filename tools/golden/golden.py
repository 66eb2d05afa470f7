"""What the scripts that make golden folders share: adapters with known numbers, and comparison.

The form of a golden folder is described in docs/golden.md.
"""

import json
from pathlib import Path

import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from safetensors.torch import save_file

LEARNING_RATE = 5e-4
ADAM_STEPS = 3
STD = 0.02

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
ALL_SEVEN = [*ATTENTION, "gate_proj", "up_proj", "down_proj"]


def deterministic():
    """One thread, so that sums are added in one order."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.utils.logging.disable_progress_bar()


def residuals(model, ids):
    """Runs one unpadded sequence.

    Returns scaled embeddings [T, C], residual streams after each layer [L][T, C], final norm
    [T, C] and logits [T, V]. `output_hidden_states` is of no use here: its last entry is normed.
    """
    seen = {}

    def keep(name):
        def hook(_module, _inputs, output):
            seen[name] = (output[0] if isinstance(output, tuple) else output)[0].clone()

        return hook

    inner = model.model
    first = inner.layers[0]
    hooks = [first.register_forward_pre_hook(
        lambda _module, args, kwargs: seen.__setitem__(
            "embed", (args[0] if args else kwargs["hidden_states"])[0].clone()),
        with_kwargs=True)]
    hooks += [layer.register_forward_hook(keep(i)) for i, layer in enumerate(inner.layers)]
    hooks.append(inner.norm.register_forward_hook(keep("norm")))
    with torch.no_grad():
        logits = model(input_ids=ids[None].long(), use_cache=False).logits[0]
    for hook in hooks:
        hook.remove()
    layers = [seen[i] for i in range(len(inner.layers))]
    return seen["embed"], layers, seen["norm"], logits


def next_token_logprobs(logits, ids):
    """Log probability of every token after the first, [T-1]."""
    logprobs = torch.log_softmax(logits[:-1], -1)
    return logprobs.gather(-1, ids[1:, None].long())[:, 0]


def factors(peft_model):
    """The trainable factors by their golden names, sorted: PEFT's names without what it puts
    around them."""
    named = {}
    for name, parameter in peft_model.named_parameters():
        if parameter.requires_grad:
            name = name.removeprefix("base_model.model.").removesuffix(".default.weight")
            named[name] = parameter
    return dict(sorted(named.items()))


def fill(named, seed):
    """Both factors N(0, STD²), from one generator in sorted order: with B at zero, as in a fresh
    adapter, the gradient of A would be zero and tell nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in named.values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * STD)


def lora(model, path, *, targets, rank, alpha, seed, batch):
    """Writes one `lora_*.safetensors`: loss, gradients and three steps of Adam on `batch`, a dict
    of input_ids, attention_mask and labels, all [B, T]."""
    config = LoraConfig(
        r=rank, lora_alpha=alpha, target_modules=targets, lora_dropout=0.0, task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config)
    named = factors(adapted)
    fill(named, seed)
    out = {key: value.to(torch.int32) for key, value in batch.items()}
    out |= {name: parameter.detach().clone() for name, parameter in named.items()}
    inputs = {key: value.long() for key, value in batch.items()}

    adam = torch.optim.Adam(named.values(), lr=LEARNING_RATE)
    losses = []
    for step in range(ADAM_STEPS):
        adam.zero_grad()
        loss = adapted(**inputs, use_cache=False).loss
        loss.backward()
        if step == 0:
            out |= {f"{name}.grad": parameter.grad.clone() for name, parameter in named.items()}
        losses.append(loss.item())
        adam.step()
    with torch.no_grad():
        losses.append(adapted(**inputs, use_cache=False).loss.item())
    out |= {f"{name}.after_adam3": p.detach().clone() for name, p in named.items()}
    out["loss"] = torch.tensor(losses[:1])
    out["adam_losses"] = torch.tensor(losses)
    metadata = {
        "r": rank, "alpha": alpha, "scaling": alpha / rank, "targets": ",".join(targets),
        "seed": seed, "std": STD, "adam_lr": LEARNING_RATE, "adam_steps": ADAM_STEPS,
    }
    save_file(out, path, {key: str(value) for key, value in metadata.items()})
    adapted.unload()


# Relative L2 differences that another CPU may make. Adam divides by the size of a gradient, also of
# one that is almost zero.
LIMIT, LIMIT_AFTER_ADAM = 1e-4, 1e-2


def compare(made, committed):
    """Compares every file that both folders have, and says how far they differ. Returns whether
    that is within the limits."""
    fine = True
    for path in sorted(committed.rglob("*")):
        ours, name = made / path.relative_to(committed), path.relative_to(committed.parent)
        if not ours.is_file():
            continue
        if path.suffix == ".json":
            same = json.loads(path.read_text()) == json.loads(ours.read_text())
            print(f"{name}: {'equal' if same else 'DIFFERENT'}")
            fine &= same
        elif path.suffix == ".safetensors":
            fine &= _compare_tensors(ours, path, name)
    return fine


def _compare_tensors(made, committed, name):
    with safe_open(made, "pt") as ours, safe_open(committed, "pt") as theirs:
        names = sorted(theirs.keys())
        if sorted(ours.keys()) != names or ours.metadata() != theirs.metadata():
            print(f"{name}: other names or metadata: TOO FAR")
            return False
        fine, differences = True, []
        for key in names:
            a, b = ours.get_tensor(key), theirs.get_tensor(key)
            if a.shape != b.shape or a.dtype != b.dtype:
                print(f"{name}: {key} is {a.dtype} {list(a.shape)}, committed "
                      f"{b.dtype} {list(b.shape)}: TOO FAR")
                return False
            if not torch.equal(a, b):
                a, b = a.double(), b.double()
                relative = ((a - b).norm() / b.norm()).item()
                limit = LIMIT_AFTER_ADAM if key.endswith(".after_adam3") else LIMIT
                fine &= relative <= limit
                differences.append((relative, (a - b).abs().max().item(), key))
    if differences:
        relative, _, worst = max(differences)
        print(
            f"{name}: {len(differences)} of {len(names)} tensors differ, by "
            f"{max(d[1] for d in differences):.1e} at most, relative {relative:.1e} at most "
            f"({worst}){'' if fine else ': TOO FAR'}")
    else:
        print(f"{name}: {len(names)} tensors equal to the bit")
    return fine


def main(make, folders, parser):
    """The command line: OUT [--compare COMMITTED], and what `parser` knows."""
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--compare", type=Path, help="folder with files that they should equal")
    args = parser.parse_args()
    deterministic()
    make(args)
    if args.compare:
        fine = [compare(args.out / folder, args.compare / folder) for folder in folders]
        raise SystemExit(0 if all(fine) else 1)
