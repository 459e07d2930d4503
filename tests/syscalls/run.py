"""Fails every system call of a run, one after another, and checks what is left: the run tells a reason and does not crash, the database
is whole, and the same command again ends with the scores of an undisturbed run.

usage: tests/syscalls/run.py PROGRAMS [--step N] [--kinds ENOSPC,EIO,...]
"""

import argparse
import concurrent.futures
import errno
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import trial  # noqa: E402

SWEEP = """name = "tiny"
model = "model"
data = "two_digit_subtraction"
eval = ["two_digit_subtraction"]
limit = 2
[axes]
seed = [1, 2]
"""
# A run that waits (for memory, a locked file) is stopped after so long, in seconds; that is no fault where it says why.
PATIENCE = 20
KINDS = {
    "ENOSPC": errno.ENOSPC,
    "EIO": errno.EIO,
    "EDQUOT": errno.EDQUOT,
    "EROFS": errno.EROFS,
    "EINTR": errno.EINTR,
    "SHORT": 0,
}


class Faults:
    """A folder with the sweep, run under one fault and again without."""

    def __init__(self, programs, preload):
        self.programs, self.preload = programs, preload

    def environment(self, folder, fault):
        more = {"LORAGRID_HANG": "4"}
        if fault is not None:
            at, number = fault
            counter = folder / "counter"
            counter.write_bytes(bytes(8))
            more |= {
                "LD_PRELOAD": str(self.preload),
                "FAIL_FOLDER": str(folder / "results"),
                "FAIL_COUNTER": str(counter),
                "FAIL_AT": str(at),
                "FAIL_ERRNO": str(number),
            }
        return trial.environment(folder, self.programs / "fake-engine", more)

    def run(self, folder, fault):
        """The exit code, what was told, and whether it had to be stopped."""
        process = subprocess.Popen(
            [self.programs / "loragrid", "run", "sweep.toml"],
            cwd=folder,
            env=self.environment(folder, fault),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            told, _ = process.communicate(timeout=PATIENCE)
            return process.returncode, told, False
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            try:
                told, _ = process.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                told, _ = process.communicate()
                return process.returncode, told + "\nhad to be killed", True
            return process.returncode, told, True

    def count(self):
        """The calls of an undisturbed run, and its scores."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            trial.prepare(folder, SWEEP)
            code, told, _ = self.run(folder, (0, 0))
            assert code == 0, told
            calls = struct.unpack("<q", (folder / "counter").read_bytes())[0]
            return calls, trial.results(folder)

    def fault(self, kind, at, wanted):
        """What went wrong under one fault; none if nothing did."""
        name = tempfile.mkdtemp()
        folder = Path(name)
        try:
            trial.prepare(folder, SWEEP)
            code, told, stopped = self.run(folder, (at, KINDS[kind]))
            # An engine that panics is told of within a line; the program's own panic begins one.
            if code < 0 or code == 101 or re.search(r"^thread '.*panicked", told, re.MULTILINE):
                return f"the run crashed ({code}): {told[-600:]}"
            if code != 0 and not told.strip():
                return f"the run says nothing ({code})"
            again, told_again, stopped_again = self.run(folder, None)
            if again != 0 or stopped_again:
                return f"again: {again}: {told_again[-600:]}\nbefore it ({code}, {stopped}): {told[-400:]}"
            found = trial.results(folder)
            if found != wanted:
                return f"other results: {found}\nnot {wanted}\n{told[-400:]}"
            return None
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("programs", type=Path)
    parser.add_argument("--step", type=int, default=1, help="every N-th call only")
    parser.add_argument("--kinds", default=",".join(KINDS))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        faults = Faults(arguments.programs.resolve(), trial.compiled("fail", Path(name)))
        calls, wanted = faults.count()
        assert wanted[0] == "ok" and wanted[1], wanted
        print(f"a run makes {calls} calls; {len(wanted[1])} scores")
        failed = 0
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for kind in arguments.kinds.split(","):
                # A few more calls than an undisturbed run has: repeating adds some.
                numbers = list(range(1, calls + 10, arguments.step))
                for at, wrong in zip(numbers, pool.map(lambda at: faults.fault(kind, at, wanted), numbers)):  # noqa: B023
                    if wrong:
                        failed += 1
                        print(f"{kind} at call {at}: {wrong}\n")
                print(f"{kind}: {len(numbers)} runs")
    print(f"test-syscalls: {failed} of them went wrong" if failed else "test-syscalls: passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
