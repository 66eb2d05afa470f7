"""The table of kernels that an offline toolchain reads (GPU_KERNELS), from what `hearth bench --list-shaders` wrote.

Which kernels there are, and with which constants, is the program's word. Only what the toolchain wants to know of
their loops is written here.
"""
import collections
import json
import os

# useful:   multiply-adds that the result needs in one turn of the hottest loop, for one invocation.
# trip:     turns of that loop for one turn of the loop around it.
# constant: whether the compiler knows that number, and so may unroll the loop.
# loads:    items that a workgroup loads in a turn of the loop around it, one an invocation.
Kernel = collections.namedtuple("Kernel", "name files entry overrides useful trip constant loads")

# For kernels with a fixed number of multiply-adds a turn.
USEFUL = {
    "attention": 16,
    "attention_backward_dq": 32,
    "attention_backward_dkv": 32,
    "lora_dz": 64,
    "lora_grad": 16,
}


def loops(entry, c):
    """useful, trip, constant and loads of a kernel with its constants."""
    if entry == "matmul_direct":
        return 16 * c["TM"], c.get("GROUP", 32) // 4, False, ()
    if entry == "matmul_backward":
        return 16 * c["TM"], None, False, ()
    if entry == "matmul_split":
        return 16 * c["TM"], None, False, ()
    if entry == "matmul_tiled":
        return 64, 4 * c["BK"], True, (2 * c["GM"] * c["BK"], 2 * c["GN"] * c["BK"])
    return USEFUL.get(entry), None, False, ()


def all_kernels():
    folder = os.environ.get("HEARTH_SHADERS")
    if not folder:
        return []  # drafts need no list
    with open(os.path.join(folder, "list.json")) as file:
        shaders = json.load(file)
    kernels = []
    for number, shader in enumerate(shaders):
        path = os.path.join(folder, f"{number}.wgsl")
        with open(path, "w") as file:
            file.write(shader["wgsl"])
        values = shader["constants"]
        kernels.append(Kernel(shader["name"], [path], shader["entry"], values, *loops(shader["entry"], values)))
    return kernels
