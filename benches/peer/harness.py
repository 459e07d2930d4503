#!/usr/bin/env python3
"""The study's tasks in loragrid and in lm_eval, alternately: the same checkpoint, documents and threads. lm_eval runs at the
best of its batch sizes, which a short run finds. Prints the median of the repetitions with and without start-up and loading, and
checks that the accuracies are equal.

usage: harness.py LORAGRID MODEL DATA [--limit 25] [--repetitions 3] [--batches 1,8,16] [--json FILE]
"""
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
from test_lm_eval import as_folder

FILES = {"truthfulqa_mc1": "truthfulqa_mc.jsonl", "truthfulqa_mc2": "truthfulqa_mc.jsonl", "blimp_causative": "blimp_causative.jsonl",
         "mmlu_global_facts": "mmlu_global_facts_test.jsonl", "arithmetic_2ds": "arithmetic_two_digit_subtraction.jsonl",
         "arithmetic_4ds": "arithmetic_four_digit_subtraction.jsonl"}
SETS = [("TruthfulQA MC1 and MC2", "truthfulqa_mc1,truthfulqa_mc2", None), ("MMLU global facts, 5-shot", "mmlu_global_facts", 5),
        ("arithmetic 2ds, 4ds, BLiMP causative", "arithmetic_2ds,arithmetic_4ds,blimp_causative", None), ("all six", ",".join(FILES), None)]
MC2 = """import numpy as np


def process_results_mc2(doc, results):
    probs = np.exp(np.array([ll for ll, _ in results]))
    labels = np.array(doc["mc2_targets"]["labels"])
    return {"acc": np.sum((probs / np.sum(probs))[labels == 1])}
"""


def write_tasks(loragrid, folder, data, native):
    """The shipped tasks on local files."""
    (folder / "utils.py").write_text(MC2)
    for name, file in FILES.items():
        shown = subprocess.run([loragrid, "task", "show", name, "--file"], check=True, capture_output=True, text=True)
        task = json.loads(shown.stdout)
        # The version of loragrid's JSON is no key of a task.
        for key in ("schema", "dataset_name", "dataset_kwargs", "test_split", "validation_split", "training_split", "fewshot_config", "fewshot_split", "metadata", "tag"):
            task.pop(key, None)
        files = {"test": str(data / file)}
        task.update(dataset_path="json", dataset_kwargs={"data_files": files}, test_split="test", metadata={"version": 1.0})
        if name == "mmlu_global_facts":
            files["dev"] = str(data / "mmlu_global_facts_dev.jsonl")
            # Unsaid in the file; a 0 there would refuse the examples.
            del task["num_fewshot"]
            task.update(fewshot_split="dev", fewshot_config={"sampler": "first_n"})
        function = "native.truthful_qa_mc2" if native else "utils.process_results_mc2"
        text = json.dumps({key: value for key, value in task.items() if value is not None and key != "process_results"}, indent=1)
        if "process_results" in task:
            text = text[:-2] + f',\n "process_results": !function {function}\n}}'
        (folder / f"{name}.yaml").write_text(text)


def loragrid_once(loragrid, model, names, folder, limit, shots, scratch):
    began = time.time()
    command = [loragrid, "--db", scratch / "own.db", "eval", model, "--tasks", names, "--include-path", folder, "--dtype", "fp32", "--limit", str(limit), "--again", "--json"]
    done = subprocess.run(command + (["--num-fewshot", str(shots)] if shots else []), check=True, capture_output=True, text=True)
    own = json.loads(done.stdout)["evaluations"][0]
    return time.time() - began, float(own["scoring_time_seconds"]), {name: own["results"][name]["acc,none"] for name in names.split(",")}


def lm_eval_once(model, names, folder, limit, batch, shots):
    began = time.time()
    command = [sys.executable, HERE / "lm_eval_once.py", model, names, folder, str(limit), str(batch), str(shots or "none")]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    own = json.loads(done.stdout.splitlines()[-1])
    return time.time() - began, own["evaluation"], own["results"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("loragrid", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--limit", type=int, default=25)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--batches", default="1,8,16")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    loragrid, data, batches = arguments.loragrid.resolve(), arguments.data.resolve(), [int(size) for size in arguments.batches.split(",")]
    report = []
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        model = as_folder(loragrid, arguments.model.resolve(), scratch)
        folders = {}
        for kind in ("own", "peer"):
            folders[kind] = scratch / kind
            folders[kind].mkdir()
            write_tasks(loragrid, folders[kind], data, kind == "own")
        for title, names, shots in SETS:
            probes = {batch: lm_eval_once(model, names, folders["peer"], max(4, arguments.limit // 5), batch, shots)[1] for batch in batches}
            best = min(probes, key=probes.get)
            own, peer, apart = [], [], 0.0
            for _ in range(arguments.repetitions):
                own.append(loragrid_once(loragrid, model, names, folders["own"], arguments.limit, shots, scratch))
                peer.append(lm_eval_once(model, names, folders["peer"], arguments.limit, best, shots))
                apart = max(apart, *(abs(own[-1][2][name] - peer[-1][2][name]) for name in names.split(",")))
            figures = {"set": title, "documents": arguments.limit, "best_batch": best, "accuracy_apart": apart}
            for at, kind in enumerate(("whole", "evaluation")):
                a, b = [run[at] for run in own], [run[at] for run in peer]
                figures[kind] = {"loragrid": a, "lm_eval": b, "ratio": median(b) / median(a)}
                print(f"{title}, {kind}: loragrid {median(a):.1f} s ({min(a):.1f} to {max(a):.1f}), lm_eval at batch {best} {median(b):.1f} s ({min(b):.1f} to {max(b):.1f}): {median(b) / median(a):.1f} x", flush=True)
            print(f"  accuracies differ by at most {apart:.1e}", flush=True)
            report.append(figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
