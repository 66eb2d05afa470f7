"""Trains the task that `hearth export --trainer` wrote beside this script: a LoRA adapter that makes Gemma choose
among classes.

    accelerate launch train.py --model MODEL [--out DIR] [--steps N] [--micro N] [--dtype bfloat16] [--fresh]

Every step has its rows and its learning rate in task.json. The processes divide the rows of a step; the loss is the
weighted mean over all of them, whatever their number.
"""

import argparse
import contextlib
import json
import math
from pathlib import Path

import peft
import torch
import transformers
from accelerate import Accelerator
from accelerate.utils import gather_object, set_seed

HERE = Path(__file__).resolve().parent
FORMAT = 1


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", required=True, help="a folder, a .gguf file, or a name on a hub")
    parser.add_argument("--out", type=Path, default=HERE / "adapter")
    parser.add_argument("--steps", type=int, help="stop after this many steps")
    parser.add_argument("--micro", type=int, default=8, help="rows that a process computes at once")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--attention", default="eager", help="transformers' attn_implementation")
    parser.add_argument("--cpu", action="store_true", help="train on CPUs")
    parser.add_argument("--fresh", action="store_true", help="a new adapter instead of start/")
    parser.add_argument("--no-scores", action="store_true", help="score no validation and test rows")
    return parser.parse_args()


def where(model):
    """How transformers finds the model."""
    path = Path(model)
    if path.suffix == ".gguf":
        return {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    return {"pretrained_model_name_or_path": model}


def load_task():
    task = json.loads((HERE / "task.json").read_text(encoding="utf-8"))
    if task["format"] != FORMAT:
        raise SystemExit(f"task.json has format {task['format']}, this script reads {FORMAT}: export the task again")
    parts = {"train": [], "validation": [], "test": []}
    with open(HERE / "rows.jsonl", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            parts[row["part"]].append(row)
    return task, parts


def check_tokenizer(args, rows):
    """Another model's tokens would be read as other words, without any error."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(**where(args.model))
    whole = [row for row in rows if not row["truncated"] and "<" not in row["text"]]
    for row in whole[:20]:
        # a row begins with <bos>, which not every tokenizer.json adds
        ids = tokenizer(row["prompt"], add_special_tokens=False)["input_ids"]
        if ids != row["ids"][1:]:
            raise SystemExit(
                f"{args.model}: its tokenizer gives other tokens for row {row['row']} than rows.jsonl has: "
                "take a model of the same family, or export the task for this model"
            )


def check_scale(args, model, task):
    """transformers does not read the scale of attention from GGUF: it takes that of the published models."""
    scalar = getattr(model.config.get_text_config(), "query_pre_attn_scalar", None)
    expected = task["model"]["query_pre_attn_scalar"]
    if scalar is not None and not args.fresh and abs(scalar - expected) > 1e-3 * expected:
        raise SystemExit(
            f"{args.model}: transformers takes query_pre_attn_scalar for {scalar}, but it is {expected:g}: "
            "give the model in safetensors, with its config.json"
        )


def load_model(args, task):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        **where(args.model), dtype=getattr(torch, args.dtype), attn_implementation=args.attention)
    check_scale(args, model, task)
    if args.fresh:
        recipe = task["recipe"]
        names = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "o_proj",
                 "gate": "gate_proj", "up": "up_proj", "down": "down_proj"}
        config = peft.LoraConfig(
            r=recipe["rank"], lora_alpha=recipe["alpha"], lora_dropout=recipe["dropout"],
            use_rslora=recipe["rank_stabilized"], task_type="CAUSAL_LM",
            # a vision part has projections of the same names
            target_modules=r"^(?!.*vision).*\.(" + "|".join(names[t] for t in recipe["targets"]) + ")$")
        return peft.get_peft_model(model, config)
    return peft.PeftModel.from_pretrained(model, HERE / "start", is_trainable=True)


def make_optimizer(model, recipe):
    """AdamW; with LoRA+, the matrices B have a higher rate."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for name, p in trained if "lora_A" in name], "ratio": 1.0},
        {"params": [p for name, p in trained if "lora_B" in name], "ratio": recipe["lora_plus_ratio"]},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.999), eps=1e-8, weight_decay=recipe["weight_decay"])


def tail_logits(model, rows, keep, device):
    """Logits of the last `keep` tokens of every row, [rows, keep, V]. Rows are padded on the left, so that their last
    tokens are in one column."""
    longest = max(len(row["ids"]) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, longest - len(row["ids"]):] = torch.tensor(row["ids"])
        mask[i, longest - len(row["ids"]):] = 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    out = model(input_ids=ids.to(device), attention_mask=mask.to(device), position_ids=positions.to(device),
                use_cache=False, logits_to_keep=min(keep, longest))
    return out.logits.float()


def loss_sum(model, rows, task, device):
    """The sum of weight times cross-entropy over the targets of some rows."""
    keep = max(len(row["ids"]) - row["targets"][0][0] for row in rows)
    logits = tail_logits(model, rows, keep, device)
    if task["recipe"]["loss"] == "choice":
        # a target is the index of a class
        logits = logits[..., torch.tensor(task["class_tokens"], device=device)]
    elif task["recipe"]["loss"] not in ("label", "sequence"):
        raise SystemExit(f"unknown loss {task['recipe']['loss']}: export the task again")
    at = [(i, logits.shape[1] - len(row["ids"]) + position, token, row["weight"])
          for i, row in enumerate(rows) for position, token in row["targets"]]
    row, column, token, weight = (torch.tensor(list(values), device=device) for values in zip(*at))
    losses = torch.nn.functional.cross_entropy(logits[row, column], token, reduction="none")
    return (losses * weight).sum()


def train_step(accelerator, model, optimizer, batch, task, args):
    """One step over the rows of a batch; returns their weighted mean loss."""
    total = sum(row["weight"] * len(row["targets"]) for row in batch)
    mine = batch[accelerator.process_index::accelerator.num_processes]
    # every process takes part in every step, if only with a row that counts nothing
    mine = mine or [{**batch[0], "weight": 0.0}]
    pieces = [mine[i:i + args.micro] for i in range(0, len(mine), args.micro)]
    seen = torch.zeros((), device=accelerator.device)
    for number, rows in enumerate(pieces):
        last = number + 1 == len(pieces)
        with contextlib.nullcontext() if last else accelerator.no_sync(model):
            loss = loss_sum(model, rows, task, accelerator.device) / total
            # gradients are averaged over the processes, and their sum is wanted
            accelerator.backward(loss * accelerator.num_processes)
        seen += loss.detach()
    if task["recipe"]["clip_norm"] > 0:
        accelerator.clip_grad_norm_(model.parameters(), task["recipe"]["clip_norm"])
    optimizer.step()
    optimizer.zero_grad()
    return accelerator.reduce(seen, "sum").item()


@torch.no_grad()
def score(accelerator, model, rows, task, args):
    """ln p of the classes for every row."""
    model.eval()
    tokens = torch.tensor(task["class_tokens"], device=accelerator.device)
    numbered = list(enumerate(rows))[accelerator.process_index::accelerator.num_processes]
    found = []
    for start in range(0, len(numbered), args.micro):
        piece = numbered[start:start + args.micro]
        logits = tail_logits(model, [row for _, row in piece], 1, accelerator.device)
        logs = logits[:, -1, tokens].log_softmax(-1).tolist()
        found += [(number, log) for (number, _), log in zip(piece, logs)]
    model.train()
    return [log for _, log in sorted(gather_object(found))]


def figures(logs, rows, task):
    """Log loss, accuracy, and with two classes the ROC-AUC of the positive one."""
    if not rows:
        return {}
    truth = [row["class"] for row in rows]
    loss = -sum(log[c] for log, c in zip(logs, truth)) / len(rows)
    right = sum(max(range(len(log)), key=log.__getitem__) == c for log, c in zip(logs, truth))
    found = {"rows": len(rows), "log_loss": loss, "accuracy": right / len(rows)}
    positive = task["positive"]
    if len(task["classes"]) == 2 and positive is not None and len(set(truth)) == 2:
        margin = [log[positive] - log[1 - positive] for log in logs]
        yes = [m for m, c in zip(margin, truth) if c == positive]
        no = [m for m, c in zip(margin, truth) if c != positive]
        wins = sum((y > n) + 0.5 * (y == n) for y in yes for n in no)
        found["roc_auc"] = wins / (len(yes) * len(no))
    return found


def better(new, old):
    """By ROC-AUC where there is one, then by log loss."""
    key = lambda f: (f.get("roc_auc", 0.0), -f["log_loss"])
    return old is None or key(new) > key(old)


def main():
    args = arguments()
    accelerator = Accelerator(cpu=args.cpu)
    task, parts = load_task()
    recipe = task["recipe"]
    set_seed(recipe["seed"])
    if args.fresh:
        check_tokenizer(args, parts["validation"] + parts["test"])
    model = load_model(args, task)
    accelerator.print(f"{accelerator.num_processes} processes, {len(task['batches'])} steps, "
                      f"{sum(p.numel() for p in model.parameters() if p.requires_grad)} trained weights")
    optimizer = make_optimizer(model, recipe)
    model, optimizer = accelerator.prepare(model, optimizer)
    model.train()
    losses, best, best_figures = [], None, None
    for step, batch in enumerate(task["batches"][:args.steps]):
        for group in optimizer.param_groups:
            group["lr"] = task["rates"][step] * group["ratio"]
        loss = train_step(accelerator, model, optimizer, [parts["train"][i] for i in batch], task, args)
        if not math.isfinite(loss):
            raise SystemExit(f"step {step + 1}: the loss is {loss}: lower the learning rate and export the task again")
        losses.append(loss)
        accelerator.print(f"step {step + 1}/{len(task['batches'])}  loss {loss:.6f}  rate {task['rates'][step]:.2e}")
        if (step + 1) % task["steps_per_epoch"] == 0 and parts["validation"] and not args.no_scores:
            now = figures(score(accelerator, model, parts["validation"], task, args), parts["validation"], task)
            accelerator.print(f"epoch {(step + 1) // task['steps_per_epoch']}  validation {now}")
            if task["keep"] == "best" and better(now, best_figures):
                state = peft.get_peft_model_state_dict(accelerator.unwrap_model(model))
                best, best_figures = {name: value.detach().clone() for name, value in state.items()}, now
    if best is not None:
        peft.set_peft_model_state_dict(accelerator.unwrap_model(model), best)
    results = {}
    scored = [] if args.no_scores else ["validation", "test"]
    lines = []
    for part in scored:
        logs = score(accelerator, model, parts[part], task, args)
        results[part] = figures(logs, parts[part], task)
        lines += [{"part": part, "row": row["row"], "class": row["class"], "log_probabilities": log}
                  for row, log in zip(parts[part], logs)]
    if accelerator.is_main_process:
        accelerator.unwrap_model(model).save_pretrained(args.out)
        (args.out / "losses.json").write_text(json.dumps(losses))
        (args.out / "figures.json").write_text(json.dumps(results, indent=2))
        (args.out / "scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    accelerator.print(f"written to {args.out}" + "".join(f"; {part} {results[part]}" for part in scored))
    accelerator.end_training()


if __name__ == "__main__":
    main()
