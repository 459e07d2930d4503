#!/usr/bin/env python3
"""Local tasks of each output type through lm_eval and through `loragrid eval`: metrics, standard errors, groups, tables, every
request and log-likelihood; plain and through a chat template. `make test-lm-eval` runs it.

usage: test_lm_eval.py LORAGRID MODEL
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

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
    "classes": ("yes_no.jsonl", """
output_type: multiple_choice
task_alias: even numbers
doc_to_text: "{{question}}"
doc_to_target: label
doc_to_choice: ["no", "yes"]
metric_list: [{metric: acc}, {metric: mcc}, {metric: brier_score}, {metric: exact_match}, {metric: acc_mutual_info}]
"""),
    "whole_texts": ("pages.jsonl", """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity}, {metric: byte_perplexity}, {metric: bits_per_byte}]
"""),
    "beginning": ("choices.jsonl", """
output_type: multiple_choice
num_fewshot: 2
description: "Answer."
gen_prefix: "The answer is"
fewshot_config: {sampler: first_n, target_delimiter: " = ", fewshot_delimiter: "\\n---\\n"}
doc_to_text: "Q: {{question.strip()}}\\nA:"
doc_to_target: label
doc_to_choice: choices
metric_list: [{metric: acc}, {metric: acc_norm}]
"""),
    "given_shots": ("choices.jsonl", """
output_type: multiple_choice
num_fewshot: 1
fewshot_config: {samples: [{question: "Which?", choices: ["a", "b"], label: 1}], doc_to_text: "Example: {{question}}"}
doc_to_text: "Q: {{question.strip()}}\\nA:"
doc_to_target: label
doc_to_choice: choices
filter_list: [{name: first, filter: [{function: take_first}]}, {name: again, filter: [{function: take_first}]}]
metric_list: [{metric: acc}, {metric: acc_norm}]
"""),
}
GROUPS = {
    "inner": """
group: inner
group_alias: the inner
task: [beginning, {task: given_shots, task_alias: renamed, num_fewshot: 0}]
aggregate_metric_list:
  - metric: acc
    weight_by_size: true
metadata: {version: 3}
""",
    "outer": """
group: outer
task:
  - classes
  - inner
  - group: third
    task: [whole_texts]
aggregate_metric_list:
  - {metric: acc, weight_by_size: false, filter_list: [none, first]}
  - {metric: acc_norm}
""",
}
# Names to ask for, flags of both programs.
CHAT = ["choice_random_shots", "several_contexts", "beginning", "target_greedy"]
RUNS = {
    "plain": (["choice_random_shots", "choice_letters_first_shots", "choice_by_text_and_template", "several_contexts", "several_golds", "target_greedy", "outer"], [], []),
    "chat": (CHAT, ["--apply-chat-template", "--system-instruction", "Be brief."], ["--apply_chat_template", "--system_instruction", "Be brief."]),
    "chat in one message": (CHAT, ["--apply-chat-template", "--fewshot-as-multiturn", "false"], ["--apply_chat_template", "--fewshot_as_multiturn", "false"]),
    "documents and seed": (["choice_random_shots"], ["--samples", '{"choice_random_shots": [1, 5, 6]}', "--seed", "7"],
                           ["--samples", '{"choice_random_shots": [1, 5, 6]}', "--seed", "0,1234,1234,7"]),
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
    yes_no = [{"question": f"Is {n} an even number?", "label": (n + 1) % 2} for n in range(12)]
    pages = [{"text": f"Once upon a time there were {n} birds.\nThey  sang é and left.\n" * (1 + n)} for n in range(4)]
    for name, rows in {"choices": choices, "gaps": gaps, "golds": golds, "sums": sums, "yes_no": yes_no, "pages": pages}.items():
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))


def close(a, b):
    return a == b or (isinstance(a, float) and isinstance(b, float) and abs(a - b) < 1e-4 * max(1, abs(b)))


def apart(kind, own, other):
    """What two results of a task or a group do not share."""
    wrong = [f"{kind} {key}: {own.get(key)} against {value}" for key, value in other.items() if key != "sample_count" and not close(own.get(key), value)]
    return wrong + ([f"{kind} has {sorted(set(own) ^ set(other))} alone"] if set(own) != set(other) else [])


def documents_apart(own, other):
    wrong = []
    for key in other:
        if key not in ("resps", "filtered_resps", "brier_score") and not close(own.get(key), other[key]) and not isinstance(other[key], list):
            wrong.append(f"document {other['doc_id']}, {key}: {own.get(key)!r} against {other[key]!r}")
    for a, b in zip(own["filtered_resps"], other["filtered_resps"], strict=True):
        a, b = (a, b) if isinstance(a, list) else ([a, ""], [b, ""])
        if a[1] != b[1] or abs(float(a[0]) - float(b[0])) > 1e-3:
            wrong.append(f"document {other['doc_id']}: {a} against {b}")
    return wrong


def alike(own, other):
    """Whether two lines of tables are equal but for the last digits of a number."""
    def cells(a, b):
        try:
            return len(a) == len(b) and abs(float(a) - float(b)) <= 1e-3 * abs(float(b))
        except ValueError:
            return a == b
    own, other = own.split("|"), other.split("|")
    return len(own) == len(other) and all(map(cells, own, other))


def run(title, loragrid, model, scratch, folder):
    names, own_flags, other_flags = RUNS[title]
    where = scratch / title.replace(" ", "_")
    ours = subprocess.run([loragrid, "--db", scratch / "own.db", "eval", model, "--tasks", ",".join(names), "--include-path", folder, "--dtype", "fp32",
                           "--output", where / "ours", *own_flags], check=True, stdout=subprocess.PIPE, text=True).stdout
    theirs = subprocess.run([sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", f"pretrained={model},dtype=float32", "--tasks", ",".join(names),
                             "--include_path", folder, "--output_path", where / "theirs", "--log_samples", "--device", "cpu", *other_flags],
                            check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    load = lambda side, pattern: next((where / side).rglob(pattern))
    own, other = (json.loads(load(side, "results_*.json").read_text()) for side in ("ours", "theirs"))
    problems = {name: apart("result", own["results"].get(name, {}), result) for name, result in other["results"].items()}
    for key in ("groups", "group_subtasks", "versions", "n-shot", "higher_is_better", "n-samples", "task_hashes"):
        if key in other and key != "groups" and own.get(key) != other[key]:
            problems.setdefault(key, []).append(f"{own.get(key)} against {other[key]}")
        if key == "groups" and set(own.get(key, {})) != set(other.get(key, {})):
            problems.setdefault(key, []).append("other groups")
    for name in other["task_hashes"]:
        lines = [[json.loads(line) for line in load(side, f"samples_{name}_*.jsonl").read_text().splitlines()] for side in ("ours", "theirs")]
        for a, b in zip(*lines, strict=True):
            problems[name] += documents_apart(a, b)
    tables = [[line for line in text.splitlines() if line.startswith("|")] for text in (ours, theirs)]
    problems["tables"] = [f"{a}\n    {b}" for a, b in zip(*tables) if not alike(a, b)] + ([] if len(tables[0]) == len(tables[1]) else ["other lines"])
    return problems


def main():
    loragrid = Path(sys.argv[1]).resolve()
    passed = failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        folder = scratch / "tasks"
        folder.mkdir()
        write_rows(folder)
        model = as_folder(loragrid, Path(sys.argv[2]).resolve(), scratch)
        for name, (data, body) in TASKS.items():
            head = f"task: {name}\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {folder / data}\ntest_split: test\n"
            (folder / f"{name}.yaml").write_text(head + body + "metadata: {version: 1.0}\n")
        for name, body in GROUPS.items():
            (folder / f"{name}.yaml").write_text(body)
        for title in RUNS:
            for name, wrong in run(title, loragrid, model, scratch, folder).items():
                passed, failed = (passed, failed + 1) if wrong else (passed + 1, failed)
                print(f"{'FAILED' if wrong else 'ok    '} {title}: {name}", *wrong[:4], sep="\n    " if wrong else " ", flush=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
