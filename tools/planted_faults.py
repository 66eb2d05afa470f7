"""Plants faults one by one and checks that the tests named for them turn red.

    python3 tools/planted_faults.py                  all faults, then the table on the screen
    python3 tools/planted_faults.py NAME ...         only these
    python3 tools/planted_faults.py --list           their names
    python3 tools/planted_faults.py --check          only whether every fault still fits the files here
    python3 tools/planted_faults.py --write          all, then docs/planted-faults.md

The last commit is checked out into a scratch worktree (git's, removed at the end), so the working
tree is never touched. First the named tests must be green there without a fault. Then each fault is
an exact text replacement that has to match once, has to compile, and has to turn every test named
for it red. Built files stay in target/planted-faults. Each fault rebuilds the crates it touches.
"""

import argparse
import datetime
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from planted_faults_list import FAULTS, Fault

ROOT = Path(__file__).resolve().parent.parent
SCRATCH = ROOT / "target" / "planted-faults"
DOCUMENT = ROOT / "docs" / "planted-faults.md"


def git(*arguments, cwd=ROOT):
    subprocess.run(["git", *arguments], cwd=cwd, check=True, stdout=subprocess.DEVNULL)


PACKAGES = sorted({test.split("/")[0] for fault in FAULTS for test in fault.tests})


def run(tree, tests):
    """Runs the tests, written `crate/binary::name`; gives each one's outcome, 'ok' or 'FAILED'."""
    binaries = {test.split("/")[1].split("::")[0] for test in tests}
    names = sorted({test.split("::", 1)[1] for test in tests})
    # always the same packages: others would have dependencies built with other features
    command = ["cargo", "test", "--no-fail-fast"]
    command += [argument for package in PACKAGES for argument in ("--package", package)]
    command += [argument for binary in sorted(binaries - {"lib"}) for argument in ("--test", binary)]
    command += ["--lib"] * ("lib" in binaries) + ["--", "--exact", *names]
    environment = {"CARGO_TARGET_DIR": str(SCRATCH / "build"), **os.environ}
    done = subprocess.run(
        command, cwd=tree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    outcome, place = {}, ""
    for line in done.stdout.splitlines():
        if program := re.match(r"\s+Running (unittests )?(\S+) \(\S*?/deps/(\w+)-", line):
            place = f"{program[3].replace('_', '-')}/lib" if program[1] else f"/{Path(program[2]).parts[1]}"
            place = place.removesuffix(".rs")
        elif result := re.match(r"test (\S+) \.\.\. (ok|FAILED)$", line):
            outcome[f"{place}::{result[1]}"] = result[2]
    # a program of integration tests does not say whose it is
    outcome |= {test: outcome[end] for test in tests if (end := test[test.index("/") :]) in outcome}
    if missing := [test for test in tests if test not in outcome]:
        sys.exit(f"{missing} did not run (cargo: {done.returncode})\n{done.stdout[-3000:]}")
    return {test: outcome[test] for test in tests}


def misfits(fault):
    """What does not fit the working tree: texts that do not occur once, tests that are not there."""
    for path, old, _ in fault.edits:
        text = (ROOT / path).read_text() if (ROOT / path).is_file() else ""
        if text.count(old) != 1:
            yield f"{fault.name}: {path} has {text.count(old)} times: {old}"
    for test in fault.tests:
        crate, rest = test.split("/")
        binary, name = rest.split("::", 1)
        folder = ROOT / "crates" / crate.removeprefix("hearth-")
        # a test may also be in a file that this one includes
        files = folder.glob("src/**/*.rs") if binary == "lib" else folder.glob("tests/**/*.rs")
        function = re.compile(rf"\bfn {re.escape(name.split('::')[-1])}\(")
        if not any(function.search(file.read_text()) for file in files):
            yield f"{fault.name}: no test {test}"


@dataclass
class Planted:
    """A fault put into a tree, for as long as the `with` lasts."""

    tree: Path
    fault: Fault

    def __enter__(self):
        for path, old, new in self.fault.edits:
            text = (self.tree / path).read_text()
            if text.count(old) != 1:
                sys.exit(f"{self.fault.name}: {path} has {text.count(old)} times: {old}")
            (self.tree / path).write_text(text.replace(old, new))

    def __exit__(self, *_):
        git("checkout", "--quiet", "--", ".", cwd=self.tree)


def table(faults):
    lines = ["| fault | how it is introduced | tests that fail |", "| --- | --- | --- |"]
    for fault in faults:
        tests = "<br>".join(f"`{test}`" for test in fault.tests)
        lines.append(f"| {fault.title} | {fault.how} | {tests} |")
    return "\n".join(lines)


def driver():
    """The Vulkan driver of the tests, as `hearth adapters` names it: cargo starts it with the tests' runner."""
    command = ["cargo", "run", "--quiet", "--package", "hearth-cli", "--", "adapters"]
    printed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout
    name = re.search(r"^0\s+.*, vulkan, (.*)\)$", printed, re.MULTILINE)
    return name[1] if name else "the default adapter"


def document():
    on = driver()
    forward = [f for f in FAULTS if f.part == "forward"]
    training = [f for f in FAULTS if f.part == "training"]
    return f"""# Planted faults

A test that has never failed proves little. Each fault below was introduced alone, by an exact text
replacement, and every test named in its row failed; without the fault all of them pass. Other tests
may fail too: the table names those that locate the fault, and one or two end-to-end tests.
`python3 tools/planted_faults.py` repeats the run; `tools/planted_faults_list.py` has the replacements.

Run on {datetime.date.today()}, {on}.

A test is written `crate/binary::name`; the binary is `lib` or a test program in the crate's `tests/`.

## Engine

{table(forward)}

## Training

{table(training)}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="faults to plant; all when left out")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--check", action="store_true", help="plant nothing; check every replacement and test name")
    parser.add_argument("--write", action="store_true", help=f"write {DOCUMENT.relative_to(ROOT)}")
    options = parser.parse_args()
    if options.list:
        print("\n".join(fault.name for fault in FAULTS))
        return
    if options.check:
        wrong = [line for fault in FAULTS for line in misfits(fault)]
        sys.exit("\n".join(wrong) if wrong else print(f"{len(FAULTS)} faults fit") or 0)
    if unknown := set(options.names) - {fault.name for fault in FAULTS}:
        sys.exit(f"no such fault: {', '.join(sorted(unknown))}; --list prints the names")
    if options.names and options.write:
        sys.exit("--write is about all faults: give no names")
    faults = [f for f in FAULTS if not options.names or f.name in options.names]

    missed = []
    tree = SCRATCH / "tree"
    if tree.exists():  # of a run that was killed
        git("worktree", "remove", "--force", str(tree))
    git("worktree", "add", "--quiet", "--detach", str(tree), "HEAD")
    try:
        before = run(tree, {test for fault in faults for test in fault.tests})
        if red := [test for test, outcome in before.items() if outcome != "ok"]:
            sys.exit(f"red without any fault: {red}")
        for fault in faults:
            with Planted(tree, fault):
                outcome = run(tree, fault.tests)
            green = [test for test in fault.tests if outcome[test] == "ok"]
            missed += green
            print(f"{fault.name}: {f'NOT CAUGHT by {green}' if green else 'caught'}", flush=True)
    finally:
        git("worktree", "remove", "--force", str(tree))
    if missed:
        sys.exit(f"{len(missed)} named tests stayed green")
    if options.write:
        DOCUMENT.parent.mkdir(exist_ok=True)
        DOCUMENT.write_text(document())
    else:
        print(table(faults))


if __name__ == "__main__":
    main()
