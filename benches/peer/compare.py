#!/usr/bin/env python3
"""See compare.sh. Each figure is the median of the repetitions after the first, with the smallest and the largest."""
import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "tests/reference"))
sys.path.insert(0, str(HERE))
from harness import write_tasks
from test_lm_eval import as_folder

RANKS, LAYERS = (4, 8, 16, 32), {"qv": ["query", "value"], "all": ["query", "key", "value", "projection", "mlp"]}
TASKS = ["truthfulqa_mc2", "mmlu_global_facts", "arithmetic_2ds", "blimp_causative"]
MICRO_BATCHES = (1, 4, 8, 16)
DTYPES = {"bfloat16": "bf16", "float32": "fp32"}
BATCH = 16


def spread(values):
    return {"median": median(values), "least": min(values), "most": max(values)}


def shown(name, own):
    print(f"{name}: {own['median']:.4g} ({own['least']:.4g} to {own['most']:.4g})", flush=True)


class Bench:
    def __init__(self, arguments, scratch):
        self.loragrid, self.data, self.scratch, self.quick = arguments.loragrid.resolve(), arguments.data.resolve(), scratch, arguments.quick
        self.gguf = arguments.model.resolve()
        self.model = as_folder(self.loragrid, self.gguf, scratch)
        self.rows = self.data / "alpaca_17k.jsonl"
        self.dtype = arguments.dtype
        self.repetitions = 2 if self.quick else 3
        self.runs = 0
        self.figures = {}

    def note(self, name, values):
        self.figures[name] = spread(values)
        shown(name, self.figures[name])

    def sweep(self, steps, axes, extra="", tasks=(), limit=None, pack=None, folder=None):
        """Runs a sweep from an empty database; seconds of the whole process, and each trained job."""
        self.runs += 1
        place = self.scratch / f"run{self.runs}"
        place.mkdir()
        lines = [f'name = "bench"\nmodel = "{self.model}"\ndata = "{self.rows}"\ntemplate = "alpaca"', f"eval = {json.dumps(list(tasks))}"]
        lines += [f"limit = {limit}"] if limit else []
        lines += [f'[train]\niterations = {steps * BATCH}\nbatch_size = {BATCH}\norder = "sequential"\nwarmup_steps = 0\nmax_seq_length = 256\nschedule = "constant"\ndtype = "{DTYPES[self.dtype]}"', extra, "[lora]\ndropout = 0.05", axes, '[derive]\n"lora.alpha" = "2 * lora.rank"']
        (place / "bench.toml").write_text("\n".join(lines))
        command = [self.loragrid, "--db", place / "bench.db", "run", place / "bench.toml", "--json"]
        command += ["--pack", str(pack)] if pack else []
        command += ["--include-path", folder] if folder else []
        began = time.time()
        done = subprocess.run(command, capture_output=True, text=True)
        seconds = time.time() - began
        if done.returncode:
            sys.exit(f"compare: loragrid failed: {done.stderr[-2000:]}")
        jobs = []
        for row in json.loads(done.stdout.splitlines()[-1])["rows"]:
            if not row["base"]:
                shown = subprocess.run([self.loragrid, "--db", place / "bench.db", "show", row["jobs"][0], "--json"], check=True, capture_output=True, text=True)
                jobs.append(json.loads(shown.stdout))
        return seconds, jobs

    def peft(self, steps, micro_batch, rank=8, layers="qv", adapter=None):
        command = [sys.executable, HERE / "peft_once.py", self.model, self.rows, str(steps), str(micro_batch), str(rank), layers]
        command += ["--adapter", adapter] if adapter else []
        command += ["--dtype", self.dtype]
        began = time.time()
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        if done.returncode:
            sys.exit("compare: PEFT failed")
        own = json.loads(done.stdout.splitlines()[-1])
        return {**own, "whole": time.time() - began, "rate": own["tokens"] / own["seconds"]}

    def best_micro_batch(self, steps):
        probes = {size: self.peft(steps, size)["rate"] for size in MICRO_BATCHES}
        best = max(probes, key=probes.get)
        self.figures["peer_tokens_per_second_by_micro_batch"] = probes
        print(f"PEFT by micro-batch: {', '.join(f'{size}: {rate:.0f}' for size, rate in probes.items())} tokens/s", flush=True)
        return best

    def train(self):
        steps = 2 if self.quick else 8
        best = self.best = self.best_micro_batch(max(2, steps // 2))
        rates, ratios, at_best, memories, own_memory = [], [], [], [], []
        for repetition in range(self.repetitions):
            _, [job] = self.sweep(steps, '[axes]\n"lora.rank" = [8]')
            own = job["tokens"] / job["seconds"]
            peer = self.peft(steps, 1)
            other = peer if best == 1 else self.peft(steps, best)
            if repetition:
                rates.append(own)
                ratios.append(own / peer["rate"])
                at_best.append(own / other["rate"])
                memories.append(job["peak_memory"] / peer["memory"])
                own_memory.append(job["peak_memory"] / 1e9)
        self.note("tokens_per_second", rates)
        self.note("train_ratio", ratios)
        self.note("train_ratio_best_micro_batch", at_best)
        self.note("peak_memory_gb", own_memory)
        self.note("memory_ratio", memories)

    def pack(self):
        steps = 1 if self.quick else 2
        best = getattr(self, "best", None) or self.best_micro_batch(2)
        axes = '[axes]\n"lora.rank" = [4, 8, 16, 32]\n"lora.layers" = [["query", "value"], ["query", "key", "value", "projection", "mlp"]]'
        rates, ratios = [], []
        for repetition in range(self.repetitions):
            _, jobs = self.sweep(steps, axes, pack=8)
            own = sum(job["tokens"] for job in jobs) / sum(job["seconds"] for job in jobs)
            peers = [self.peft(steps, best, rank, layers) for rank in RANKS for layers in LAYERS]
            peer = sum(one["tokens"] for one in peers) / sum(one["seconds"] for one in peers)
            if repetition:
                rates.append(own)
                ratios.append(own / peer)
        self.note("pack_tokens_per_second", rates)
        self.note("pack_ratio", ratios)

    def tasks(self):
        folders = []
        for kind in ("own", "peer"):
            folder = self.scratch / f"tasks-{kind}"
            if not folder.exists():
                folder.mkdir()
                write_tasks(self.loragrid, folder, self.data, kind == "own")
            folders.append(folder)
        return folders

    def lm_eval(self, names, folder, limit, adapter=None):
        began = time.time()
        command = [sys.executable, HERE / "lm_eval_once.py", self.model, ",".join(names), folder, str(limit), "8", "none", self.dtype, adapter or "none"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        if done.returncode:
            sys.exit("compare: lm_eval failed")
        return time.time() - began

    def sweep_of_eight(self):
        """The peer's jobs are alike, each in processes of its own: one is timed and counted eight times."""
        own_folder, peer_folder = self.tasks()
        steps, limit = (1, 10) if self.quick else (4, 40)
        own, peer, ratios = [], [], []
        for repetition in range(self.repetitions):
            seconds, _ = self.sweep(steps, '[axes]\n"lora.rank" = [4, 6, 8, 12, 16, 20, 24, 32]', tasks=TASKS, limit=limit, folder=own_folder)
            adapter = self.scratch / f"adapter{repetition}"
            one = self.peft(steps, 1, adapter=adapter)["whole"] + self.lm_eval(TASKS, peer_folder, limit, str(adapter))
            if repetition:
                own.append(seconds)
                peer.append(one)
                ratios.append(8 * one / seconds)
        self.note("sweep_seconds", own)
        self.note("peer_job_seconds", peer)
        self.note("sweep_ratio", ratios)

    def truthfulqa(self):
        own_folder, peer_folder = self.tasks()
        limit, names = 10 if self.quick else 40, ["truthfulqa_mc1", "truthfulqa_mc2"]
        own, ratios = [], []
        for repetition in range(self.repetitions):
            began = time.time()
            command = [self.loragrid, "--db", self.scratch / "eval.db", "eval", self.model, "--tasks", ",".join(names), "--include-path", own_folder, "--limit", str(limit), "--again", "--json"]
            subprocess.run(command, check=True, capture_output=True)
            seconds = time.time() - began
            other = self.lm_eval(names, peer_folder, limit)
            if repetition:
                own.append(seconds)
                ratios.append(other / seconds)
        self.note("truthfulqa_seconds", own)
        self.note("truthfulqa_ratio", ratios)

    def qlora(self):
        steps = 2 if self.quick else 8
        slower, memory = [], {"bf16": [], "nf4": []}
        for repetition in range(self.repetitions):
            _, [dense] = self.sweep(steps, '[axes]\n"lora.rank" = [8]')
            _, [four] = self.sweep(steps, '[axes]\n"lora.rank" = [8]', extra='quantize = "bnb.nf4"\ndequantize = "each_pass"')
            if repetition:
                slower.append(four["seconds"] / four["tokens"] * dense["tokens"] / dense["seconds"])
                memory["bf16"].append(dense["peak_memory"] / 1e9)
                memory["nf4"].append(four["peak_memory"] / 1e9)
        self.note("qlora_slowdown", slower)
        for form, own in memory.items():
            self.note(f"qlora_memory_gb_{form}", own)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("loragrid", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--quick", action="store_true", help="fewer steps, documents and repetitions")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16", help="compute dtype of both sides")
    parser.add_argument("--only", default="train,pack,sweep,truthfulqa,qlora")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(arguments, Path(scratch))
        parts = {"train": bench.train, "pack": bench.pack, "sweep": bench.sweep_of_eight, "truthfulqa": bench.truthfulqa, "qlora": bench.qlora}
        for name in arguments.only.split(","):
            parts[name]()
            if arguments.json:
                ratios = {name: own["median"] for name, own in bench.figures.items() if isinstance(own, dict) and "median" in own}
                arguments.json.write_text(json.dumps({**ratios, "spread": bench.figures}, indent=1))


if __name__ == "__main__":
    main()
