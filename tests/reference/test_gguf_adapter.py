"""What `loragrid best --export gguf` writes, in llama.cpp: python test_gguf_adapter.py target/release model.gguf

The same next-token log-probabilities as loragrid's, over the same base model in single precision."""

import json
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import gguf
import llama_cpp
import numpy as np

PROGRAMS, MODEL = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
LORAGRID = str(PROGRAMS / "loragrid")
SWEEP = f"""
name = "exported"
model = "{MODEL}"
data = "two_digit_subtraction"
eval = ["two_digit_subtraction"]
limit = 10
[train]
iterations = 96
micro_batch_size = 4
batch_size = 8
learning_rate = 5e-3
warmup_steps = 0
[lora]
rank = 6
alpha = 24
layers = ["query", "key", "value", "projection", "mlp"]
[axes]
"lora.scaling" = SCALINGS
"""
PROMPTS = ["31 - 5 =", "The capital of France is", "Question: What is 72 - 29?\nAnswer:", "Once upon a time there was"]


def in_single_precision(model, out):
    """The same model with every tensor in single precision."""
    reader = gguf.GGUFReader(model)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(out, architecture)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        kind = field.types[0]
        part = field.types[1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, sub_type=part)
    writer.add_file_type(0)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        writer.add_tensor(tensor.name, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def log_probabilities(model, adapter, prompt):
    llama = llama_cpp.Llama(
        str(model), lora_path=adapter and str(adapter), n_ctx=128, n_threads=2, verbose=False, logits_all=True, type_k=0, type_v=0
    )
    tokens = llama.tokenize(prompt.encode(), add_bos=False, special=False)
    llama.eval(tokens)
    logits = np.array(llama.scores[len(tokens) - 1], dtype=np.float64)
    return logits - logits.max() - np.log(np.exp(logits - logits.max()).sum()), llama


def served(folder, adapter):
    """Of each prompt the twenty likeliest next tokens with their log-probabilities, by loragrid."""
    command = [LORAGRID, "serve-model", str(MODEL), "--adapter", f"a={adapter}", "--dtype", "fp32", "--port", "0", "--json"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    text = ""
    while not text.endswith("}\n"):
        text += process.stdout.readline()
    url = json.loads(text)["url"]
    answers = []
    for prompt in PROMPTS:
        body = {"model": "a", "prompt": prompt, "max_tokens": 1, "temperature": 0, "logprobs": 20}
        request = urllib.request.Request(f"{url}/completions", json.dumps(body).encode(), {"content-type": "application/json"})
        with urllib.request.urlopen(request) as response:
            answers.append(json.load(response)["choices"][0]["logprobs"]["top_logprobs"][0])
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=20)
    return answers


def check(folder, base, scaling):
    name = scaling.replace("/", "-")
    (folder / "sweep.toml").write_text(SWEEP.replace("SCALINGS", json.dumps([scaling])))
    run = lambda *words: subprocess.run([LORAGRID, *words], cwd=folder, check=True, capture_output=True, text=True)
    run("run", "sweep.toml")
    run("best", "exported", "--export", "gguf", "--out", f"gguf-{name}")
    run("best", "exported", "--export", "peft", "--out", f"peft-{name}")
    exported = folder / f"gguf-{name}"
    assert sorted(path.name for path in exported.iterdir()) == ["Modelfile", "README.md", "adapter.gguf"]
    fields = gguf.GGUFReader(exported / "adapter.gguf").fields
    assert fields["general.type"].contents() == "adapter" and fields["adapter.type"].contents() == "lora"
    largest, moved = 0.0, 0.0
    for prompt, expected in zip(PROMPTS, served(folder, folder / f"peft-{name}")):
        found, llama = log_probabilities(base, exported / "adapter.gguf", prompt)
        plain, _ = log_probabilities(base, None, prompt)
        pieces = {}
        for token in np.argsort(-found)[:200]:
            pieces.setdefault(llama.detokenize([int(token)], special=True).decode(errors="replace"), int(token))
        known = [(value, pieces[text]) for text, value in expected.items() if text in pieces]
        assert len(known) >= 15, (prompt, expected)
        largest = max(largest, max(abs(value - found[token]) for value, token in known))
        moved = max(moved, max(abs(value - plain[token]) for value, token in known))
    print(f"{scaling}: largest difference to llama.cpp {largest:.2e}, to the model without the adapter {moved:.2f}")
    assert largest < 1e-3 and moved > 0.5


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = folder / "base-f32.gguf"
        in_single_precision(MODEL, base)
        for scaling in ("alpha/r", "alpha/sqrt(r)"):
            check(folder, base, scaling)
    print("2 passed, 0 failed")


if __name__ == "__main__":
    main()
