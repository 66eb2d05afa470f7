"""Holds what `hearth export` writes to transformers, PEFT, the gguf package and Accelerate, on a tiny random Gemma 3.

    python tools/export_check.py HEARTH [FOLDER]

HEARTH is the program. The work is done in FOLDER, or in a temporary one. crates/cli/tests/export.rs runs this where
the packages are; crates/cli/src/export/trainer/requirements.txt pins them. It prints one line per comparison and ends
with status 1 if one exceeds its limit.
"""

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
import peft
import torch
import transformers

ROOT = Path(__file__).resolve().parents[1]
# Of class probabilities; f32 leaves rounding alone, and eight and four bits cost what they cost.
F32, F16, ADAPTER = 1e-4, 1e-3, 1e-4
# Of the losses of the first steps.
LOSSES = 1e-3
# Of the reported rounding error against that of the file, relative.
REPORTED = 1e-3


def make_model(folder):
    """Random weights in bf16, as published models have them. GGUF has no key for the scale of attention, and
    transformers takes the one that heads of 256 have."""
    torch.manual_seed(7)
    config = transformers.Gemma3TextConfig(
        vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, head_dim=256, query_pre_attn_scalar=256, max_position_embeddings=512,
        sliding_window=16, initializer_range=0.1, bos_token_id=2, eos_token_id=1, pad_token_id=0)
    model = transformers.Gemma3ForCausalLM(config)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "norm" in name:
                weights.copy_(torch.randn_like(weights) * 0.1)
    model.to(torch.bfloat16).save_pretrained(folder)
    shutil.copy(ROOT / "crates/classifier/tests/fixtures/tokenizer.json", folder)


def make_table(path):
    words = [["bad", "poor", "sad"], ["good", "nice", "fine"]]
    fronts = ["the film was so", "this day is", "it was", "the day is so", "=and it is"]
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["text", "label", "split"])
        for i in range(120):
            test = i // 2 % 4 == 3
            text = f"{fronts[i // 2 % 5]} {words[i % 2][i // 2 % 3]}{' this day' if test else ''}"
            table.writerow([text, ["Negative", "Positive"][i % 2], "test" if test else "train"])


class Check:
    def __init__(self, hearth, folder):
        self.hearth, self.folder, self.bad = hearth, folder, 0

    def run(self, *args, **options):
        command = [str(arg) for arg in args]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, **options)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def export(self, *args):
        return json.loads(self.run(self.hearth, "export", *args, "--json"))

    def expect(self, what, difference, limit):
        fine = difference <= limit
        self.bad += not fine
        print(f"{what:<44} {difference:9.2e}  limit {limit:.0e}{'' if fine else '  EXCEEDED'}", flush=True)


def load(**where):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        **where, dtype=torch.float32, attn_implementation="eager")
    return model.eval()


def probabilities(model, rows, task, temperature):
    found = []
    with torch.no_grad():
        for row in rows:
            logits = model(input_ids=torch.tensor([row["ids"]]), use_cache=False).logits[0, -1, task["class_tokens"]]
            found.append((logits / temperature).softmax(-1).numpy())
    return np.stack(found)


def merged(check, folder, rows, task):
    """Probabilities of the exported models, and the weights of the rounded ones."""
    metrics = json.loads((folder / "run/metrics.json").read_text())
    with open(folder / "run/predictions.csv", newline="", encoding="utf-8") as file:
        hearth = np.array([[float(row[f"p({name})"]) for name in task["classes"]] for row in csv.DictReader(file)])
    spread = hearth[:, 1].max() - hearth[:, 1].min()
    if spread < 0.5:
        raise SystemExit(f"the classifier learned nothing (probabilities within {spread}): the check says nothing")
    score = lambda model: probabilities(model, rows, task, metrics["temperature"])
    off = lambda model: float(np.abs(score(model) - hearth).max())

    check.export("--classifier", "run", "--as", "peft", "--out", "peft", "--base-model", "google/gemma-3-270m")
    adapted = peft.PeftModel.from_pretrained(load(pretrained_model_name_or_path=folder / "model"), folder / "peft")
    check.expect("PEFT: the adapter", off(adapted), ADAPTER)
    card = (folder / "peft/README.md").read_text(encoding="utf-8")
    check.expect("PEFT: model card without front matter", float(not card.startswith("---\nbase_model: ")), 0)
    exact = {name: weights.double().numpy() for name, weights in adapted.merge_and_unload().state_dict().items()}

    base = ["--classifier", "run", "--merged", "--model", "model"]
    for number, limit in [("f32", F32), ("f16", F16)]:
        out = f"merged-{number}"
        check.export(*base, "--as", "safetensors", "--to", number, "--out", out)
        check.expect(f"transformers: safetensors {number}", off(load(pretrained_model_name_or_path=folder / out)), limit)
        # this tokenizer.json adds no <bos>
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder / out)
        ids = tokenizer(rows[0]["prompt"], add_special_tokens=False)["input_ids"]
        check.expect("transformers: the tokenizer beside it", float(ids != rows[0]["ids"][1:]), 0)
    for number, limit in [("f32", F32), ("f16", F16), ("q8_0", None), ("q4_0", None)]:
        out = f"merged-{number}.gguf"
        report = check.export(*base, "--as", "gguf", "--to", number, "--out", out)
        if limit:
            model = load(pretrained_model_name_or_path=folder, gguf_file=out)
            check.expect(f"transformers: GGUF {number}", off(model), limit)
        reader = gguf.GGUFReader(folder / out)
        stored = {t.name: gguf.dequantize(t.data, t.tensor_type).astype(np.float64) for t in reader.tensors}
        worst = 0.0
        for tensor in report["tensors"]:
            theirs = stored[gguf_name(tensor["name"])]
            want = exact[tensor["name"]]
            rms = float(np.sqrt(np.mean((theirs.reshape(want.shape) - want) ** 2)))
            # PEFT adds in another order: its rounding counts where ours is as small
            worst = max(worst, abs(rms - tensor["rms"]) / max(tensor["rms"], 1e-5))
        check.expect(f"gguf package: RMS error of {number}", worst, 2e-2 if number == "f32" else REPORTED)
    # llama.cpp's adapter is a file of its own
    check.export("--classifier", "run", "--as", "gguf", "--out", "adapter.gguf")
    names = {t.name for t in gguf.GGUFReader(folder / "adapter.gguf").tensors}
    check.expect("gguf package: matrices of the adapter", float(len(names) != 2 * 7 * 3), 0)


def gguf_name(name):
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA3, 3)
    return names.get_name(name, try_suffixes=(".weight",))


def trainer(check, folder):
    """Three steps with two processes, and the losses of `hearth train`."""
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
              "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for loss in ["choice", "label", "sequence"]:
        out, task = f"run-{loss}", f"task-{loss}"
        flags = [*FLAGS, "--loss", loss, "--epochs", "1", "--class-weights", "--lora-plus", "4"]
        check.run(check.hearth, "train", "data.csv", *flags, "--no-zero-shot", "--out", out)
        check.export("data.csv", *flags, "--trainer", task)
        script = [f"{task}/train.py", "--model", "model", "--cpu", "--micro", "3"]
        check.run(*launch, *script, "--steps", "3", "--no-scores", env=environment)
        ours = [step["loss"] for step in json.loads((folder / out / "metrics.json").read_text())["history"]["steps"]]
        theirs = json.loads((folder / task / "adapter/losses.json").read_text())
        if len(theirs) != 3 or max(theirs) - min(theirs) < 1e-6:
            raise SystemExit(f"{loss}: the losses {theirs} are not those of three steps")
        worst = max(abs(a - b) for a, b in zip(ours, theirs))
        check.expect(f"Accelerate, two processes: loss {loss}", worst, LOSSES)
    # a new adapter, after the check that the tokens are the model's
    check.run(sys.executable, "task-choice/train.py", "--model", "model", "--cpu", "--fresh", "--steps", "1",
              "--out", "fresh", env=environment)
    found = json.loads((folder / "fresh/figures.json").read_text())
    check.expect("a fresh adapter: test rows not scored", float(found["test"]["rows"] != 30), 0)


FLAGS = ["--model", "model", "--text", "text", "--label", "label", "--split", "split", "--positive", "Positive",
         "--question", "Good", "--word", "Positive=Yes", "--word", "Negative=No", "--lr", "0.01", "--seed", "3"]


def main():
    hearth = Path(sys.argv[1]).resolve()
    folder = Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp(prefix="hearth-export-")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}")
    make_model(folder / "model")
    make_table(folder / "data.csv")
    check = Check(hearth, folder)
    check.run(hearth, "train", "data.csv", *FLAGS, "--epochs", "4", "--no-zero-shot", "--out", "run")
    check.export("data.csv", *FLAGS, "--epochs", "4", "--trainer", "task")
    task = json.loads((folder / "task/task.json").read_text())
    with open(folder / "task/rows.jsonl", encoding="utf-8") as lines:
        rows = [row for row in map(json.loads, lines) if row["part"] == "test"]
    merged(check, folder, rows, task)
    trainer(check, folder)
    if len(sys.argv) <= 2:
        shutil.rmtree(folder)
    raise SystemExit(1 if check.bad else 0)


if __name__ == "__main__":
    main()
