#!/usr/bin/env python3
"""What the compilers of real GPUs make of every kernel that is ever chosen: registers, spills, occupancy, hot loop.

    HEARTH_OFFLINE_GPU=FOLDER tools/gpu_stats.py            # compares with docs/gpu-stats.md
    HEARTH_OFFLINE_GPU=FOLDER tools/gpu_stats.py --write    # writes it anew

FOLDER holds a `run.sh` that compiles WGSL without a GPU and prints a JSON object a kernel and GPU (--json), and reads
its kernels from the file that GPU_KERNELS names: tools/gpu_kernels.py. The kernels and their constants are those that
`hearth bench --list-shaders` records, so the list cannot drift from the program.

Fails where a kernel does not compile or spills, where navi31 holds fewer than 4 waves a SIMD, and where the hot loop
takes more than docs/gpu-stats.md says. Says so, and ends with status 2, where there is no such folder.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TABLE = os.path.join(ROOT, "docs", "gpu-stats.md")
GPUS = ["amd:navi31", "amd:navi21", "nvidia:ga102", "apple:m1", "adreno:730"]
# Least waves a SIMD on amd:navi31.
LEAST_WAVES = 4
# What rounding to two digits may add to a ratio.
SLACK = 0.011
COLUMNS = "registers, occupancy of most, alu/fma, step"


def shaders(folder, program):
    """Writes the program's list of kernels into a folder."""
    path = os.path.join(folder, "list.json")
    command = program.split() if program else ["cargo", "run", "--quiet", "--package", "hearth-cli", "--"]
    subprocess.run([*command, "bench", "--list-shaders", path], check=True, cwd=ROOT)


def compiled(toolchain, folder, gpus):
    """Yields what is known of each kernel on each GPU."""
    env = dict(os.environ, GPU_KERNELS=os.path.join(ROOT, "tools", "gpu_kernels.py"), HEARTH_SHADERS=folder, HEARTH=ROOT)
    # Release builds have no bounds checks in the shader; buffers are checked by the driver.
    run = [os.path.join(toolchain, "run.sh"), "--json", "--bounds", "none", "--gpu", ",".join(gpus)]
    done = subprocess.run(run, env=env, stdout=subprocess.PIPE, text=True)
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def cell(known):
    """Registers, occupancy, lane instructions a multiply-add in the multiply loop, and in the step around it."""
    held, hot = known["occupancy"], known.get("hot", {})
    ratio = lambda name: f"{hot[name]:.2f}" if name in hot else "-"
    spills = "" if known["spills"] == "0" else f" spills {known['spills']}"
    return f"{known['registers']} {held['held']}/{held['most']}{held['limit']} {ratio('cost')} {ratio('step')}{spills}"


def committed():
    """Cells of the committed table, by kernel and GPU."""
    cells, gpus = {}, []
    if os.path.exists(TABLE):
        with open(TABLE) as file:
            for line in file:
                parts = [part.strip() for part in line.strip().strip("|").split("|")]
                if parts[0] == "kernel":
                    gpus = parts[1:]
                elif len(parts) == len(gpus) + 1 and parts[0].startswith("`"):
                    cells.update({(parts[0].strip("`"), gpu): text for gpu, text in zip(gpus, parts[1:])})
    return cells


def faults(known, before):
    """What is wrong with a kernel on a GPU."""
    at = f"{known['kernel']} on {known['gpu']}"
    if "error" in known:
        return [f"{at}: {known['error']}"]
    found = []
    if known["spills"] != "0":
        found.append(f"{at}: spills {known['spills']}")
    if known["gpu"] == "amd:navi31" and known["occupancy"]["held"] < LEAST_WAVES:
        found.append(f"{at}: {known['occupancy']['held']} waves a SIMD, fewer than {LEAST_WAVES}")
    old = before.get((known["kernel"], known["gpu"]), "").split()
    for name, place in (("cost", 2), ("step", 3)):
        value = known.get("hot", {}).get(name)
        if value is not None and len(old) > place and old[place] != "-" and value > float(old[place]) + SLACK:
            found.append(f"{at}: {name} {value:.2f}, docs/gpu-stats.md has {old[place]}")
    return found


def table(all_known, gpus):
    cells = {(k["kernel"], k["gpu"]): cell(k) for k in all_known if "error" not in k}
    lines = ["| kernel | " + " | ".join(gpus) + " |", "| --- |" + " ---: |" * len(gpus)]
    for name in sorted({k["kernel"] for k in all_known}):
        lines.append(f"| `{name}` | " + " | ".join(cells.get((name, gpu), "fails") for gpu in gpus) + " |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toolchain", default=os.environ.get("HEARTH_OFFLINE_GPU"), metavar="FOLDER")
    parser.add_argument("--program", metavar="COMMAND", help="a built hearth; without it cargo builds one")
    parser.add_argument("--gpu", default=",".join(GPUS), metavar="GPU,...")
    parser.add_argument("--write", action="store_true", help="write docs/gpu-stats.md instead of comparing with it")
    args = parser.parse_args()
    if not args.toolchain or not os.path.exists(os.path.join(args.toolchain, "run.sh")):
        print("gpu_stats: no compilers of GPUs here (HEARTH_OFFLINE_GPU or --toolchain): nothing was checked", file=sys.stderr)
        return 2
    gpus = args.gpu.split(",")
    with tempfile.TemporaryDirectory() as folder:
        shaders(folder, args.program)
        all_known = list(compiled(args.toolchain, folder, gpus))
    if not all_known:
        print("gpu_stats: the compilers gave nothing", file=sys.stderr)
        return 1
    text = table(all_known, gpus)
    before = {} if args.write else committed()
    found = [fault for known in all_known for fault in faults(known, before)]
    if args.write:
        version = next(k["version"] for k in all_known if "version" in k)
        with open(TABLE) as file:
            words = file.read().split("\n| kernel |")[0]
        with open(TABLE, "w") as file:
            file.write(f"{words}\n{text}")
        print(f"gpu_stats: wrote {len(all_known)} cells, {version}")
    else:
        print(text)
    for fault in found:
        print(f"gpu_stats: {fault}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
