"""Cuts the power at every change of a file that a run makes: what was not synced is lost, or only partly there. Then the same command runs
again, and must end with the scores, the adapters and an intact database of an undisturbed run.

usage: tests/syscalls/power.py PROGRAMS [--step N] [--engine loragrid-engine|fake-engine]
"""

import argparse
import concurrent.futures
import hashlib
import os
import random
import shutil
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
train.iterations = 6
train.batch_size = 2
train.micro_batch_size = 2
train.checkpoint_every = 0
train.strict = true
[axes]
seed = [1]
"""
# What a cut leaves of changes that were not synced: of names (files that were made, renamed, removed) and of contents.
WAYS = {
    "all lost": (False, False),
    "names kept, contents lost": (True, False),
    "contents kept, names lost": (False, True),
    "all kept": (True, True),
    "some kept": (None, None),
}


def records(trace):
    """The changes of a run, in their order."""
    data = trace.read_bytes()
    at = 0
    while at < len(data):
        end = data.index(b"\n", at)
        kind, path, other, offset, length = data[at:end].decode().split(" ")
        length = int(length)
        yield kind, path, other, int(offset), data[end + 1 : end + 1 + length]
        at = end + 1 + length


class Disk:
    """Files with what is durable of them. Syncing a file makes its contents and its own name durable, as on ext4, XFS and Btrfs; other
    names become durable with their folder."""

    def __init__(self):
        self.names = []  # Each a list: operation, source, target, whether it is durable.
        self.inodes = {}  # Number: a list of contents' changes, each with whether it is durable.
        self.now = {}  # Path: number, of files.

    def apply(self, kind, path, other, offset, data):
        if kind == "create" and path not in self.now:
            self.now[path] = len(self.inodes)
            self.inodes[self.now[path]] = []
            self.names.append(["create", path, self.now[path], False])
        elif kind in ("write", "truncate") and path in self.now:
            self.inodes[self.now[path]].append([kind, offset, data, False])
        elif kind == "mkdir":
            self.names.append(["mkdir", path, None, False])
        elif kind == "unlink":
            self.now.pop(path, None)
            self.names.append(["unlink", path, None, False])
        elif kind == "link":
            self.now[other] = self.now[path]
            self.names.append(["create", other, self.now[path], False])
        elif kind == "rename":
            for name in [name for name in self.now if name == path or name.startswith(path + "/")]:
                self.now[other + name[len(path) :]] = self.now.pop(name)
            self.names.append(["rename", path, other, False])
        elif kind == "sync":
            self.sync(path)

    def sync(self, path):
        if path in self.now:
            number = self.now[path]
            for change in self.inodes[number]:
                change[3] = True
            last = max((at for at, name in enumerate(self.names) if name[0] == "create" and name[2] == number), default=-1)
            meant = {str(folder) for folder in Path(path).parents}
            for at, name in enumerate(self.names):
                name[3] |= at == last or (name[0] == "mkdir" and name[1] in meant)
        else:
            for name in self.names:
                inside = [name[1]] + ([name[2]] if name[0] == "rename" else [])
                name[3] |= any(str(Path(entry).parent) == path for entry in inside)
            # What a durable rename moved was there before.
            moved = {name[1] for name in self.names if name[0] == "rename" and name[3]}
            for name in self.names:
                name[3] |= name[0] in ("create", "mkdir") and name[1] in moved

    def write(self, way, seed):
        """What is on the disk after a cut."""
        names, contents = WAYS[way]
        draw = random.Random(seed)
        keep = lambda rule: draw.random() < 0.5 if rule is None else rule  # noqa: E731
        there = {}
        folders = set()
        for kind, path, target, durable in self.names:
            if not (durable or keep(names)):
                continue
            if kind == "create":
                there[path] = target
            elif kind == "mkdir":
                folders.add(path)
            elif kind == "unlink":
                there.pop(path, None)
                folders.discard(path)
            else:
                for name in [name for name in there if name == path or name.startswith(path + "/")]:
                    there[target + name[len(path) :]] = there.pop(name)
                if path in folders:
                    folders = {target + name[len(path) :] if (name + "/").startswith(path + "/") else name for name in folders}
        for folder in folders:
            Path(folder).mkdir(parents=True, exist_ok=True)
        for path, number in there.items():
            # SQLite makes this one anew from the log.
            if path.endswith("-shm"):
                continue
            data = bytearray()
            for kind, offset, written, durable in self.inodes[number]:
                if not (durable or keep(contents)):
                    continue
                if kind == "truncate":
                    data = data[:offset] + bytes(max(0, offset - len(data)))
                else:
                    data += bytes(max(0, offset - len(data)))
                    data[offset : offset + len(written)] = written
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_bytes(data)


class Cuts:
    """A run that is recorded once and cut everywhere."""

    def __init__(self, programs, engine, preload):
        self.programs, self.engine, self.preload = programs, engine, preload

    def run(self, folder, trace=None):
        more = {"OMP_NUM_THREADS": "1"}
        if trace:
            more |= {
                "LD_PRELOAD": str(self.preload),
                "RECORD_FOLDER": str(folder / "results"),
                "RECORD_TRACE": str(trace),
            }
        environment = trial.environment(folder, self.programs / self.engine, more)
        command = [self.programs / "loragrid", "run", "sweep.toml"]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)

    def state(self, folder):
        weights = sorted((folder / "results/adapters").glob("*/adapter_model.safetensors"))
        # What was being written when the power was cut is left to `gc`.
        whole_ones = [file for file in weights if not file.parent.name.endswith(".partial")]
        adapters = [(file.parent.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in whole_ones]
        return *trial.results(folder), adapters

    def cut(self, folder, changes, at, way, wanted):
        """What went wrong after a cut; none if nothing did. Every cut needs the same paths, and so the same folder."""
        shutil.rmtree(folder / "results", ignore_errors=True)
        disk = Disk()
        for change in changes[:at]:
            disk.apply(*change)
        (folder / "results").mkdir()
        disk.write(way, at)
        again = self.run(folder)
        if again.returncode != 0:
            return f"{again.returncode}: {again.stderr[-600:]}"
        found = self.state(folder)
        return None if found == wanted else f"{found}\nnot {wanted}\n{again.stderr[-400:]}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("programs", type=Path)
    parser.add_argument("--step", type=int, default=1, help="every N-th change only")
    parser.add_argument("--engine", default="loragrid-engine")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        cuts = Cuts(arguments.programs.resolve(), arguments.engine, trial.compiled("record", scratch))
        # A folder for each worker, whose runs are recorded there, since the trace holds whole paths.
        workers = min(2, os.cpu_count() or 1)
        folders, traces = [], []
        for number in range(workers):
            folder = scratch / f"run-{number}"
            folder.mkdir()
            trial.prepare(folder, SWEEP)
            recorded = cuts.run(folder, scratch / f"trace-{number}")
            assert recorded.returncode == 0, recorded.stderr
            folders.append(folder)
            traces.append(list(records(scratch / f"trace-{number}")))
        wanted = cuts.state(folders[0])
        assert wanted[0] == "ok" and wanted[1], wanted
        print(f"a run makes {len(traces[0])} changes, {sum(change[0] == 'sync' for change in traces[0])} of them syncs")
        failed = runs = 0

        def work(number):
            wrong = []
            changes = traces[number]
            places = list(range(1 + number * arguments.step, len(changes) + 1, arguments.step * workers))
            for at in places:
                for way in WAYS:
                    problem = cuts.cut(folders[number], changes, at, way, wanted)
                    if problem:
                        kind, path = changes[at - 1][:2]
                        wrong.append(f"cut after change {at} ({kind} {Path(path).name}), {way}: {problem}")
            return len(places) * len(WAYS), wrong

        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            for count, wrong in pool.map(work, range(workers)):
                runs += count
                failed += len(wrong)
                for problem in wrong:
                    print(problem + "\n")
    print(f"test-power: {failed} of {runs} cuts went wrong" if failed else f"test-power: passed {runs} cuts")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
