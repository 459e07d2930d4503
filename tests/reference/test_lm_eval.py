#!/usr/bin/env python3
"""Local tasks of each output type through lm_eval and through `loragrid eval`: metrics, standard errors, every request and
log-likelihood. `make test-lm-eval` runs it.

usage: test_lm_eval.py LORAGRID MODEL
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

LORAGRID, MODEL = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
TASKS = {
    "choice_random_shots": ("choices.jsonl", """
output_type: multiple_choice
num_fewshot: 3
description: "Answer the question.\\n\\n"
doc_to_text: "Q: {{question.strip()}}\\nA:"
doc_to_target: label
doc_to_choice: choices
metric_list: [{metric: acc}, {metric: acc_norm}, {metric: acc_bytes}]
"""),
    "choice_letters_first_shots": ("choices.jsonl", """
output_type: multiple_choice
num_fewshot: 2
fewshot_config: {sampler: first_n}
doc_to_text: "{{question}}\\n{% for c in choices %}{{ 'ABC'[loop.index0] }}. {{ c }}\\n{% endfor %}Answer:"
doc_to_target: label
doc_to_choice: ["A", "B", "C"]
metric_list: [{metric: acc}, {metric: acc_norm}]
"""),
    "choice_by_text_and_template": ("choices.jsonl", """
output_type: multiple_choice
doc_to_text: question
doc_to_target: "{{ choices[label] }}"
doc_to_choice: "{{ [choices[0], choices[1], choices[2]] }}"
target_delimiter: ": "
metric_list: [{metric: acc}, {metric: acc_norm}]
"""),
    "several_contexts": ("gaps.jsonl", """
output_type: multiple_choice
doc_to_text: label
doc_to_target: "{{ rest }}"
doc_to_choice: "{{ [before + first, before + second] }}"
metric_list: [{metric: acc}]
"""),
    "several_golds": ("golds.jsonl", """
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_target: golds
doc_to_choice: choices
metric_list: [{metric: acc}]
"""),
    "target_greedy": ("sums.jsonl", """
output_type: loglikelihood
num_fewshot: 2
doc_to_text: "{{ text }}"
doc_to_target: "{{ answer }}"
target_delimiter: ""
metric_list: [{metric: acc}, {metric: perplexity, aggregation: perplexity, higher_is_better: false}]
"""),
}


def as_folder(loragrid, model, scratch):
    """A GGUF file as the folder that transformers reads: merged with an adapter of zeros."""
    if model.suffix != ".gguf":
        return model
    import torch
    from safetensors.torch import save_file
    shown = subprocess.run([loragrid, "model", "show", model, "--json"], check=True, capture_output=True, text=True)
    config = json.loads(shown.stdout)["config"]
    hidden, query = config["hidden_size"], config["heads"] * config["head_dim"]
    zero = scratch / "zero"
    zero.mkdir()
    name = "base_model.model.model.layers.{}.self_attn.q_proj.lora_{}.weight"
    save_file({name.format(n, part): torch.zeros(shape) for n in range(config["layers"]) for part, shape in (("A", (1, hidden)), ("B", (query, 1)))},
              zero / "adapter_model.safetensors")
    (zero / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["q_proj"]}))
    subprocess.run([loragrid, "merge", model, "--adapter", zero, "--out", scratch / "model"], check=True, stdout=subprocess.DEVNULL)
    return scratch / "model"


def write_rows(folder):
    animals = ["dog", "cat", "horse", "café owner", "bird", "naïve fish"]
    choices = [{"question": f" What does the {animals[n % 6]} number {n} say? ", "choices": [f"word {n}", f"a longer phrase é {n}", "no"], "label": n % 3} for n in range(14)]
    gaps = [{"before": f"In {n} the ", "first": "tall man", "second": "trophy", "rest": f"was too big for box {n}.", "label": n % 2} for n in range(8)]
    golds = [{"question": f"Name a colour, {n}:", "choices": ["red", "dog", "blue"], "golds": [0, 2]} for n in range(6)]
    sums = [{"text": f"Question: What is {n} plus {n + 1}?\nAnswer:", "answer": f" {2 * n + 1}"} for n in range(12)]
    for name, rows in {"choices": choices, "gaps": gaps, "golds": golds, "sums": sums}.items():
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))


def main():
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        folder = scratch / "tasks"
        folder.mkdir()
        write_rows(folder)
        model = as_folder(LORAGRID, MODEL, scratch)
        for name, (data, body) in TASKS.items():
            head = f"task: {name}\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {folder / data}\ntest_split: test\n"
            (folder / f"{name}.yaml").write_text(head + body + "metadata: {version: 1.0}\n")
        names = ",".join(TASKS)
        subprocess.run([LORAGRID, "eval", model, "--tasks", names, "--include-path", folder, "--dtype", "fp32", "--output", scratch / "ours"],
                       check=True, stderr=subprocess.DEVNULL)
        subprocess.run([sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", f"pretrained={model},dtype=float32",
                        "--tasks", names, "--include_path", folder, "--output_path", scratch / "theirs", "--log_samples", "--device", "cpu"],
                       check=True, stderr=subprocess.DEVNULL)
        load = lambda where, pattern: next((scratch / where).rglob(pattern))
        ours, theirs = (json.loads(load(where, "results_*.json").read_text()) for where in ("ours", "theirs"))
        failed = 0
        for name in TASKS:
            problems = []
            for key, value in theirs["results"][name].items():
                if not key.endswith(",none"):
                    continue
                own = ours["results"][name].get(key)
                if own != value and not (isinstance(value, float) and abs(own - value) < 1e-4 * max(1, abs(value))):
                    problems.append(f"{key}: {own} against {value}")
            lines = [[json.loads(line) for line in load(where, f"samples_{name}_*.jsonl").read_text().splitlines()] for where in ("ours", "theirs")]
            for own, other in zip(*lines, strict=True):
                for key in ("arguments", "target", "doc", "doc_hash", "prompt_hash", "target_hash"):
                    if own[key] != other[key]:
                        problems.append(f"document {own['doc_id']}, {key}: {own[key]!r} against {other[key]!r}")
                for a, b in zip(own["filtered_resps"], other["filtered_resps"], strict=True):
                    if a[1] != b[1] or abs(float(a[0]) - float(b[0])) > 1e-3:
                        problems.append(f"document {own['doc_id']}: {a} against {b}")
            failed += bool(problems)
            print(f"{'FAILED' if problems else 'ok    '} {name}", *problems[:4], sep="\n    " if problems else " ", flush=True)
        print(f"{len(TASKS) - failed} passed, {failed} failed")
        sys.exit(failed > 0)


if __name__ == "__main__":
    main()
