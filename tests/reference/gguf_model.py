#!/usr/bin/env python3
"""Writes the logits of transformers for a real GGUF file of Llama or Gemma 3, on the weights that the package `gguf` reads,
in single precision as they are: the reference of `make test-gguf`.

usage: gguf_model.py FILE.gguf FOLDER
"""
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers as tf
from make import gguf_name
from safetensors.torch import save_file

source, out = Path(sys.argv[1]), Path(sys.argv[2])
reader = gguf.GGUFReader(source)
field = {key: value.contents() for key, value in reader.fields.items() if not key.startswith("tokenizer.ggml.")}
architecture = field["general.architecture"]
get = lambda key, default=None: field.get(f"{architecture}.{key}", default)
tensors = {tensor.name: tensor for tensor in reader.tensors}
sizes = dict(
    vocab_size=int(tensors["token_embd.weight"].shape[1]), hidden_size=get("embedding_length"), num_hidden_layers=get("block_count"),
    num_attention_heads=get("attention.head_count"), num_key_value_heads=get("attention.head_count_kv"),
    intermediate_size=get("feed_forward_length"), max_position_embeddings=get("context_length"),
    rms_norm_eps=get("attention.layer_norm_rms_epsilon"), tie_word_embeddings="output.weight" not in tensors)
if architecture == "gemma3":
    head_dim = get("attention.key_length")
    config = tf.Gemma3TextConfig(**sizes, head_dim=head_dim, query_pre_attn_scalar=head_dim, sliding_window=get("attention.sliding_window"))
else:
    config = tf.LlamaConfig(**sizes, rope_parameters={"rope_type": "default", "rope_theta": get("rope.freq_base")})
    head_dim = config.hidden_size // config.num_attention_heads
model = tf.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
for key, parameter in model.named_parameters():
    tensor = tensors[gguf_name(key, architecture == "gemma3")]
    values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(tuple(parameter.shape))
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(key.split(".")[-2])
    if architecture == "llama" and heads:
        values = values.reshape(heads, head_dim // 2, 2, -1).swapaxes(1, 2).reshape(values.shape)
    if architecture == "gemma3" and key.endswith("norm.weight"):
        values = values - 1
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.ascontiguousarray(values)))
out.mkdir(parents=True, exist_ok=True)
(out / "model.gguf").unlink(missing_ok=True)
(out / "model.gguf").symlink_to(source.resolve())
ids = torch.randint(0, min(50_000, config.vocab_size), (1, 24), generator=torch.Generator().manual_seed(1))
with torch.no_grad():
    save_file({"input_ids": ids, "logits": model(ids).logits.float()}, out / "gguf_expected.safetensors")
