"""`loragrid serve-model` beside transformers' generate, as lm_eval's hf model calls it: the same prompts, greedy, in one run, alternately.

usage: serving.py loragrid MODEL_FOLDER [--requests 64] [--tokens 64] [--dtype float32]"""

import argparse
import json
import signal
import subprocess
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

parser = argparse.ArgumentParser()
parser.add_argument("loragrid")
parser.add_argument("model")
parser.add_argument("--requests", type=int, default=64)
parser.add_argument("--tokens", type=int, default=64)
parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--adapter", action="append", default=[], metavar="NAME=FOLDER")
options = parser.parse_args()
model_path = Path(options.model).resolve()
prompts = [
    f"In the year {1500 + 7 * n} an old sailor with {n + 3} ships and {2 * n + 5} maps told this long story about the sea to the children of the "
    "harbor, from the first storm to the last:\n\nOnce upon a time"
    for n in range(options.requests)
]
names = ["base", *(adapter.split("=")[0] for adapter in options.adapter)]


def server():
    dtype = {"float32": "fp32", "bfloat16": "bf16"}[options.dtype]
    command = [
        options.loragrid,
        "serve-model",
        str(model_path),
        "--name",
        "base",
        "--dtype",
        dtype,
        "--port",
        "0",
        "--json",
    ]
    for adapter in options.adapter:
        command += ["--adapter", adapter]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    text = ""
    while not text.endswith("}\n"):
        text += process.stdout.readline()
    return process, json.loads(text)["url"]


def ask(url, model, prompt):
    body = {"model": model, "prompt": prompt, "max_tokens": options.tokens, "temperature": 0}
    request = urllib.request.Request(
        f"{url}/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request) as response:
        answer = json.load(response)
    return answer["choices"][0]["text"], answer["usage"]["completion_tokens"]


def ours(url, models):
    began = time.perf_counter()
    with ThreadPoolExecutor(len(prompts)) as pool:
        answers = list(
            pool.map(lambda pair: ask(url, *pair), [(models[n % len(models)], p) for n, p in enumerate(prompts)])
        )
    tokens = sum(tokens for _, tokens in answers)
    return tokens / (time.perf_counter() - began), tokens, [text for text, _ in answers]


def theirs(model, tokenizer, batch):
    began, tokens, texts = time.perf_counter(), 0, []
    for start in range(0, len(prompts), batch):
        inputs = tokenizer(prompts[start : start + batch], return_tensors="pt", padding=True)
        with torch.inference_mode():
            output = model.generate(
                **inputs, max_new_tokens=options.tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id
            )
        for row in output[:, inputs["input_ids"].shape[1] :]:
            kept = [token for token in row.tolist() if token not in (tokenizer.pad_token_id, tokenizer.eos_token_id)]
            tokens += len(kept)
            texts.append(tokenizer.decode(kept))
    return tokens / (time.perf_counter() - began), texts


def main():
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    tokenizer.padding_side, tokenizer.pad_token_id = "left", tokenizer.pad_token_id or 0
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=getattr(torch, options.dtype)).eval()
    process, url = server()
    ours(url, ["base"])
    rates = {}
    for _ in range(options.rounds):
        rate, counted, texts = ours(url, ["base"])
        rates.setdefault("loragrid serve-model, one model", []).append(rate)
        if len(names) > 1:
            rates.setdefault(f"loragrid serve-model, {len(names)} models", []).append(ours(url, names)[0])
        for batch in (1, 16, options.requests):
            if batch == 1 and len(rates.get("transformers generate, batch 1", [])) > 0:
                continue
            rate, other = theirs(model, tokenizer, batch)
            rates.setdefault(f"transformers generate, batch {batch}", []).append(rate)
            same = sum(a == b for a, b in zip(texts, other))
    process.send_signal(signal.SIGTERM)
    process.wait()
    for name, all_rates in rates.items():
        all_rates.sort()
        print(f"{name}: {all_rates[len(all_rates) // 2]:.0f} tokens/s ({all_rates[0]:.0f} to {all_rates[-1]:.0f})")
    print(
        f"{len(prompts)} prompts, {len(tokenizer(prompts[0])['input_ids'])} tokens each, {counted} tokens of answers from one model"
    )
    print(f"{same} of {len(prompts)} answers are the same to the letter as transformers' at batch {options.requests}")


if __name__ == "__main__":
    main()
