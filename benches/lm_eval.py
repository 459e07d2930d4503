#!/usr/bin/env python3
"""The study's six tasks in loragrid and in lm_eval, one after the other: the same checkpoint, documents and threads. Prints
seconds with and without start-up, and checks that the scores are equal.

usage: lm_eval.py LORAGRID MODEL DATA LIMIT [BATCH...]
"""
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests/reference"))
sys.argv, arguments = [sys.argv[0], sys.argv[1], sys.argv[2]], sys.argv
from test_lm_eval import as_folder

LORAGRID, MODEL, DATA, LIMIT = Path(arguments[1]).resolve(), Path(arguments[2]).resolve(), Path(arguments[3]).resolve(), arguments[4]
BATCHES = arguments[5:] or ["1", "8"]
FILES = {"truthfulqa_mc1": "truthfulqa_mc.jsonl", "truthfulqa_mc2": "truthfulqa_mc.jsonl", "blimp_causative": "blimp_causative.jsonl",
         "mmlu_global_facts": "mmlu_global_facts_test.jsonl", "arithmetic_2ds": "arithmetic_two_digit_subtraction.jsonl",
         "arithmetic_4ds": "arithmetic_four_digit_subtraction.jsonl"}
MC2 = """import numpy as np


def process_results_mc2(doc, results):
    probs = np.exp(np.array([ll for ll, _ in results]))
    labels = np.array(doc["mc2_targets"]["labels"])
    return {"acc": np.sum((probs / np.sum(probs))[labels == 1])}
"""


def write_tasks(folder, native):
    shipped = Path(__file__).resolve().parent.parent / "src/task/builtin"
    (folder / "utils.py").write_text(MC2)
    for name, data in FILES.items():
        text = (shipped / f"{name}.yaml").read_text()
        text = re.sub(r"^(dataset_path|dataset_name|test_split|validation_split|fewshot_split):.*\n", "", text, flags=re.M)
        text = re.sub(r"^fewshot_config:\n  sampler: first_n\n", "", text, flags=re.M)
        if not native:
            text = text.replace("native.truthful_qa_mc2", "utils.process_results_mc2")
        text += f"test_split: test\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {DATA / data}\n"
        (folder / f"{name}.yaml").write_text(text)


def timed(command):
    began = time.time()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return time.time() - began, done.stdout


def main():
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        model = as_folder(LORAGRID, MODEL, scratch)
        for kind in ("ours", "theirs"):
            (scratch / kind).mkdir()
            write_tasks(scratch / kind, kind == "ours")
        for names in ("truthfulqa_mc1,truthfulqa_mc2", "mmlu_global_facts", "arithmetic_2ds,arithmetic_4ds,blimp_causative", ",".join(FILES)):
            whole, out = timed([LORAGRID, "eval", model, "--tasks", names, "--include-path", scratch / "ours", "--dtype", "fp32", "--limit", LIMIT, "--json"])
            own = json.loads(out)["evaluations"][0]
            print(f"{names}\n  loragrid: {whole:.1f} s, of it scoring {float(own['total_evaluation_time_seconds']):.1f} s", flush=True)
            for batch in BATCHES:
                result = scratch / f"out-{batch}"
                whole, _ = timed([sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", f"pretrained={model},dtype=float32", "--tasks", names,
                                  "--include_path", scratch / "theirs", "--limit", LIMIT, "--device", "cpu", "--batch_size", batch, "--output_path", result])
                other = json.loads(max(result.rglob("results_*.json")).read_text())
                scoring = float(other["total_evaluation_time_seconds"])
                apart = max(abs(own["results"][task]["acc,none"] - other["results"][task]["acc,none"]) for task in names.split(","))
                print(f"  lm_eval, batch {batch}: {whole:.1f} s, by its own clock {scoring:.1f} s; acc differs by {apart:.1e}", flush=True)


main()
