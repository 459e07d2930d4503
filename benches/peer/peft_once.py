#!/usr/bin/env python3
"""One training by PEFT as its users write it: Alpaca rows cut at 256 tokens, the whole text as labels, padded micro-batches. Prints
JSON: tokens, seconds of training, the losses of its steps, and the process's largest resident memory in bytes.

usage: peft_once.py MODEL ROWS.jsonl STEPS MICRO_BATCH RANK LAYERS [--adapter FOLDER] [--dtype bfloat16]
"""
import json
import resource
import sys
import time

import peft
import torch
import transformers as tf
from alpaca import text

model_path, rows_path, steps, micro_batch, rank, layers = sys.argv[1:7]
options = dict(zip(sys.argv[7::2], sys.argv[8::2]))
adapter, dtype = options.get("--adapter"), options.get("--dtype", "bfloat16")
steps, micro_batch, rank, batch = int(steps), int(micro_batch), int(rank), 16
TARGETS = {"qv": ["q_proj", "v_proj"], "all": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]}
torch.set_num_threads(len(__import__("os").sched_getaffinity(0)))
tokenizer = tf.AutoTokenizer.from_pretrained(model_path)

with open(rows_path) as file:
    lines = [json.loads(next(file)) for _ in range(steps * batch)]
rows = [(tokenizer(text(row))["input_ids"] + [tokenizer.eos_token_id])[:256] for row in lines]
model = tf.AutoModelForCausalLM.from_pretrained(model_path, dtype=getattr(torch, dtype))
model = peft.get_peft_model(model, peft.LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.05, target_modules=TARGETS[layers]))
model.train()
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-4, weight_decay=0.01)
tokens, losses, began = 0, [], time.time()
for step in range(steps):
    window = rows[step * batch : (step + 1) * batch]
    scored, loss = sum(len(row) - 1 for row in window), 0.0
    for start in range(0, batch, micro_batch):
        part = window[start : start + micro_batch]
        longest = max(map(len, part))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in part])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in part])
        own = model(input_ids=ids, attention_mask=mask, labels=torch.where(mask == 1, ids, -100), num_items_in_batch=scored).loss
        own.backward()
        loss += own.item()
        tokens += sum(map(len, part))
    optimizer.step()
    optimizer.zero_grad()
    losses.append(loss)
seconds = time.time() - began
if adapter:
    model.save_pretrained(adapter)
print(json.dumps({"tokens": tokens, "seconds": seconds, "losses": losses, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
