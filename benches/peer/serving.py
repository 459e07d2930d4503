"""`loragrid serve-model` beside transformers' generate, as lm_eval's hf model calls it: the same prompts, greedy, in one run, alternately.

usage: serving.py loragrid model.gguf [--requests 64] [--tokens 64] [--dtype float32]"""

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
    f"Question: A farmer has {n + 3} baskets with {2 * n + 5} apples each, and sells {n} of them at the market. How many apples are left? "
    "Explain each step of the calculation before you give the answer.\nAnswer:"
    for n in range(options.requests)
]
names = ["base", *(adapter.split("=")[0] for adapter in options.adapter)]


def server():
    dtype = {"float32": "fp32", "bfloat16": "bf16"}[options.dtype]
    command = [options.loragrid, "serve-model", str(model_path), "--name", "base", "--dtype", dtype, "--port", "0", "--json"]
    for adapter in options.adapter:
        command += ["--adapter", adapter]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    text = ""
    while not text.endswith("}\n"):
        text += process.stdout.readline()
    return process, json.loads(text)["url"]


def ask(url, model, prompt):
    body = {"model": model, "prompt": prompt, "max_tokens": options.tokens, "temperature": 0}
    request = urllib.request.Request(f"{url}/completions", json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request) as response:
        answer = json.load(response)
    return answer["choices"][0]["text"], answer["usage"]["completion_tokens"]


def ours(url, models):
    began = time.perf_counter()
    with ThreadPoolExecutor(len(prompts)) as pool:
        answers = list(pool.map(lambda pair: ask(url, *pair), [(models[n % len(models)], p) for n, p in enumerate(prompts)]))
    return sum(tokens for _, tokens in answers) / (time.perf_counter() - began), [text for text, _ in answers]


def theirs(model, tokenizer, batch):
    began, tokens, texts = time.perf_counter(), 0, []
    for start in range(0, len(prompts), batch):
        inputs = tokenizer(prompts[start : start + batch], return_tensors="pt", padding=True)
        with torch.inference_mode():
            output = model.generate(**inputs, max_new_tokens=options.tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id)
        for row in output[:, inputs["input_ids"].shape[1] :]:
            kept = [token for token in row.tolist() if token not in (tokenizer.pad_token_id, tokenizer.eos_token_id)]
            tokens += len(kept)
            texts.append(tokenizer.decode(kept))
    return tokens / (time.perf_counter() - began), texts


def main():
    kind = {"gguf_file": model_path.name}
    tokenizer = AutoTokenizer.from_pretrained(model_path.parent, **kind)
    tokenizer.padding_side, tokenizer.pad_token_id = "left", tokenizer.pad_token_id or 0
    model = AutoModelForCausalLM.from_pretrained(model_path.parent, dtype=getattr(torch, options.dtype), **kind).eval()
    process, url = server()
    ours(url, ["base"])
    rates = {}
    for _ in range(options.rounds):
        rate, texts = ours(url, ["base"])
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
    print(f"{same} of {len(prompts)} answers are the same to the letter as transformers' at batch {options.requests}")


if __name__ == "__main__":
    main()
