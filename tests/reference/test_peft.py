#!/usr/bin/env python3
"""loragrid's adapters and merged folders in PEFT and transformers: trains adapters of every form with loragrid, loads them
there, and compares logits. `make test-peft` runs it.

usage: test_peft.py FOLDER-OF-PROGRAMS
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import peft
import torch
import transformers as tf

HERE = Path(__file__).resolve().parent
PROGRAMS = Path(sys.argv[1]).resolve()
BASES = ["llama", "llama_bias", "phi", "phi3", "falcon_7b", "falcon_40b", "gpt_neox", "qwen2", "qwen3", "gemma2", "gemma3", "olmo2"]
FORMS = {
    "lora": "",
    "rslora": 'scaling = "alpha/sqrt(r)"\n',
    "dora": 'variant = "dora"\n',
}
LAYERS = {"query and value": '["query", "value"]', "all": '["query", "key", "value", "projection", "mlp", "head"]'}


def loragrid(*arguments, cwd):
    environment = dict(os.environ, LORAGRID_ENGINE=str(PROGRAMS / "loragrid-engine"))
    done = subprocess.run([PROGRAMS / "loragrid", *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"loragrid {arguments}: {done.stderr}")
    return done.stdout


def byte_tokenizer(folder):
    """A tokenizer of 60 bytes, enough for a vocabulary of 64."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    letters = {chr(32 + n): n for n in range(60)}
    tokenizer = Tokenizer(models.WordLevel(letters | {"<unk>": 60}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))


def logits(model, ids):
    with torch.no_grad():
        return model.eval()(ids).logits.float()


def compare(base, name, form, layers, work):
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    shutil.copytree(HERE / base, work / "model")
    byte_tokenizer(work / "model")
    rows = [{"instruction": f"SAY {n}", "output": str(n * 7)} for n in range(40)]
    (work / "rows.json").write_text(json.dumps(rows))
    (work / "sweep.toml").write_text(
        f'name = "peft"\nmodel = "model"\ndata = "rows.json"\ntemplate = "alpaca"\n[train]\ndtype = "fp32"\niterations = 64\n'
        f'batch_size = 16\nwarmup_steps = 0\nlearning_rate = 0.02\n[lora]\nrank = 3\nalpha = 5\nlayers = {layers}\n{form}')
    loragrid("run", "sweep.toml", cwd=work)
    adapter = next((work / "results/adapters").iterdir())
    ids = torch.randint(0, 60, (2, 20), generator=torch.Generator().manual_seed(7))
    options = dict(dtype=torch.float32, attn_implementation="eager")
    plain = tf.AutoModelForCausalLM.from_pretrained(HERE / base, **options)
    before = logits(plain, ids)
    adapted = logits(peft.PeftModel.from_pretrained(plain, adapter), ids)
    moved = (adapted - before).abs().max().item()
    loragrid("merge", "model", "--adapter", adapter, "--out", "merged", "--dtype", "fp32", cwd=work)
    merged = logits(tf.AutoModelForCausalLM.from_pretrained(work / "merged", **options), ids)
    apart = (merged - adapted).abs().max().item()
    verified = json.loads(loragrid("verify", "merged", "model", "--adapter-b", adapter, "--dtype", "fp32", "--json", cwd=work))
    kl = verified["difference"]["kl"]
    ok = apart <= 1e-3 and moved > 1e-3 and kl < 1e-6
    print(f"{'ok    ' if ok else 'FAILED'} {base}, {name}: PEFT against our merged folder {apart:.1e} (the adapter moves logits by {moved:.2f}), KL {kl:.1e}", flush=True)
    return ok


def main():
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        for base in BASES:
            for form, lines in FORMS.items():
                for layers, names in LAYERS.items():
                    results.append(compare(base, f"{form} on {layers}", lines, names, Path(scratch) / "work"))
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
