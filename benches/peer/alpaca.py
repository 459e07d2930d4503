"""Alpaca's prompt as its authors published it."""


def text(row):
    head = "Below is an instruction that describes a task"
    if row.get("input"):
        return f"{head}, paired with an input that provides further context. Write a response that appropriately completes the request.\n\n### Instruction:\n{row['instruction']}\n\n### Input:\n{row['input']}\n\n### Response:\n{row['output']}"
    return f"{head}. Write a response that appropriately completes the request.\n\n### Instruction:\n{row['instruction']}\n\n### Response:\n{row['output']}"
