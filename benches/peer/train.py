#!/usr/bin/env python3
"""The same training in PEFT, for a comparison on one machine in one run: SmolLM2-135M merged out of its GGUF file into a
folder, Alpaca rows, LoRA on query and value, micro-batches of 1 as the study has them, and of 8 padded. Prints tokens/s.

usage: peer.py MODEL-FOLDER ROWS.jsonl STEPS [QUANTIZE]
"""
import json
import sys
import time

import peft
import torch
import transformers as tf
from alpaca import text

model_path, rows_path, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
quantize = sys.argv[4] if len(sys.argv) > 4 else "none"
torch.set_num_threads(2)
tokenizer = tf.AutoTokenizer.from_pretrained(model_path)

rows = [tokenizer(text(json.loads(line)))["input_ids"] + [tokenizer.eos_token_id] for line in open(rows_path).readlines()[:4000]]


def train(micro_batch):
    began = time.time()
    options = dict(dtype=torch.bfloat16)
    if quantize != "none":
        options["quantization_config"] = tf.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type=quantize, bnb_4bit_compute_dtype=torch.bfloat16)
        options["device_map"] = "cpu"
    model = tf.AutoModelForCausalLM.from_pretrained(model_path, **options)
    model = peft.get_peft_model(model, peft.LoraConfig(r=8, lora_alpha=16, lora_dropout=0.05, target_modules=["q_proj", "v_proj"]))
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-4)
    loaded = time.time() - began
    batch, tokens, began = 32, 0, time.time()
    for step in range(steps):
        window = rows[step * batch : (step + 1) * batch]
        for start in range(0, batch, micro_batch):
            part = window[start : start + micro_batch]
            longest = max(map(len, part))
            ids = torch.tensor([row + [0] * (longest - len(row)) for row in part])
            mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in part])
            labels = torch.where(mask == 1, ids, -100)
            model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
            tokens += sum(map(len, part))
        optimizer.step()
        optimizer.zero_grad()
    seconds = time.time() - began
    print(f"PEFT, {quantize}, micro-batch {micro_batch}: {tokens / seconds:.0f} tokens/s ({tokens} tokens, loading {loaded:.1f} s)", flush=True)


for micro_batch in (1, 8):
    train(micro_batch)
