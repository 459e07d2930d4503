#!/usr/bin/env python3
"""One evaluation by lm_eval. Prints JSON: seconds of imports and loading, seconds of the evaluation, and its results.

usage: lm_eval_once.py MODEL TASKS TASK_FOLDER LIMIT BATCH NUM_FEWSHOT [DTYPE ADAPTER]
"""
import json
import sys
import time

BEGAN = time.time()
import lm_eval
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

model, tasks, folder, limit, batch, shots = sys.argv[1:7]
dtype, adapter = (sys.argv[7:9] + ["float32", "none"])[:2] if len(sys.argv) > 7 else ("float32", "none")
loaded = HFLM(pretrained=model, dtype=dtype, device="cpu", batch_size=int(batch), **({} if adapter == "none" else {"peft": adapter}))
manager = TaskManager(include_path=folder, include_defaults=False)
READY = time.time()
found = lm_eval.simple_evaluate(model=loaded, tasks=tasks.split(","), limit=int(limit), task_manager=manager, log_samples=False,
                                num_fewshot=None if shots == "none" else int(shots), bootstrap_iters=0)
DONE = time.time()
print(json.dumps({"start": READY - BEGAN, "evaluation": DONE - READY, "results": {name: own["acc,none"] for name, own in found["results"].items()}}))
