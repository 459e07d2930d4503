#!/usr/bin/env python3
"""Writes the reference values in this folder: small random checkpoints of every family with transformers' logits, PEFT's
trajectories on them, bitsandbytes' codes. Needs the packages of requirements.txt; `make reference` runs it.

usage: make.py [FOLDER]
"""
import json
import sys
from pathlib import Path

import bitsandbytes.functional as bnb
import gguf
import numpy as np
import peft
import torch
import transformers as tf
from safetensors.torch import save_file

OUT = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent
VOCAB = 64
COMMON = dict(vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=128)


def families():
    gated = dict(COMMON, intermediate_size=40)
    yield "llama", tf.LlamaConfig(**gated, num_key_value_heads=2, rope_parameters={
        "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32})
    yield "llama_bias", tf.LlamaConfig(**gated, attention_bias=True, mlp_bias=True, tie_word_embeddings=True, head_dim=12,
                                       rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0})
    yield "mistral", tf.MistralConfig(**gated, num_key_value_heads=2, sliding_window=7)
    yield "phi", tf.PhiConfig(**dict(COMMON, intermediate_size=48), partial_rotary_factor=0.5)
    yield "phi3", tf.Phi3Config(**gated, num_key_value_heads=2, sliding_window=9, pad_token_id=0)
    falcon = dict(COMMON, bias=False, alibi=False)
    yield "falcon_7b", tf.FalconConfig(**falcon, multi_query=True, parallel_attn=True, new_decoder_architecture=False)
    yield "falcon_40b", tf.FalconConfig(**falcon, num_kv_heads=2, new_decoder_architecture=True)
    yield "falcon_11b", tf.FalconConfig(**falcon, num_kv_heads=1, new_decoder_architecture=True, num_ln_in_parallel_attn=1)
    yield "gpt_neox", tf.GPTNeoXConfig(**dict(COMMON, intermediate_size=48), rotary_pct=0.5)
    yield "gpt_neox_sequential", tf.GPTNeoXConfig(**dict(COMMON, intermediate_size=48), use_parallel_residual=False)
    yield "qwen2", tf.Qwen2Config(**gated, num_key_value_heads=2, use_sliding_window=True, sliding_window=6, max_window_layers=1)
    # Rows of a multiple of 64: on the CPU bitsandbytes 0.50 reads wrong scales for shorter ones.
    yield "qwen2_wide", tf.Qwen2Config(**dict(COMMON, hidden_size=64, num_hidden_layers=1), intermediate_size=64, num_key_value_heads=2)
    yield "qwen3", tf.Qwen3Config(**gated, num_key_value_heads=2, head_dim=16, tie_word_embeddings=True)
    yield "gemma", tf.GemmaConfig(**gated, num_key_value_heads=1, head_dim=16)
    yield "gemma2", tf.Gemma2Config(**gated, num_key_value_heads=2, head_dim=16, sliding_window=5, query_pre_attn_scalar=24)
    yield "gemma3", tf.Gemma3TextConfig(**dict(gated, num_hidden_layers=3), num_key_value_heads=1, head_dim=16,
                                        sliding_window=5, query_pre_attn_scalar=16,
                                        layer_types=["sliding_attention", "full_attention", "sliding_attention"])
    yield "olmo2", tf.Olmo2Config(**gated, num_key_value_heads=2)
    yield "smollm3", tf.SmolLM3Config(**gated, num_key_value_heads=2, no_rope_layers=[1, 0], pad_token_id=0)


def noise(model, seed, scale=0.3):
    """Random weights that are far from their initial values: norms that are not 1, biases that are not 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            draw = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(parameter * (0.5 if parameter.ndim == 1 else 0) + draw * (scale if parameter.ndim > 1 else 0.2))


def write_model(name, config, seed):
    torch.manual_seed(seed)
    model = tf.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    noise(model, seed)
    model.save_pretrained(OUT / name)
    (OUT / name / "generation_config.json").unlink(missing_ok=True)
    ids = torch.randint(0, VOCAB, (2, 16), generator=torch.Generator().manual_seed(seed + 1))
    with torch.no_grad():
        expected = {"input_ids": ids, "logits": model(ids).logits.float()}
        half = tf.AutoModelForCausalLM.from_pretrained(OUT / name, dtype=torch.bfloat16, attn_implementation="eager").eval()
        expected["logits_bf16"] = half(ids).logits.float()
    save_file(expected, OUT / name / "expected.safetensors")


MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix(z):
    """SplitMix64's output function, on numpy's unsigned numbers."""
    with np.errstate(over="ignore"):
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def one(number):
    return np.array([number & MASK], dtype=np.uint64)


class ReplayedDropout(torch.nn.Module):
    """loragrid's dropout: a function of seed, place of the row in the run, layer, position and feature."""

    place = 0

    def __init__(self, p, layer):
        super().__init__()
        self.p, self.layer = p, layer

    def forward(self, x):
        key = one(0)
        for word in (1, 3, ReplayedDropout.place):
            key = mix(one(int(key[0]) + GOLDEN) ^ mix(one(word + GOLDEN)))
        key = mix(key ^ mix(one(self.layer + GOLDEN)))
        with np.errstate(over="ignore"):
            bits = mix(key + np.arange(x[0].numel(), dtype=np.uint64) * np.uint64(GOLDEN))
        kept = (bits >> np.uint64(32)) >= np.uint64(int(self.p * 2**32))
        return x * torch.from_numpy(kept.reshape(x.shape[1:])).float() / (1 - self.p)


def replay_dropout(model, p):
    """Puts loragrid's masks where PEFT draws its own; layers count in the order of the forward pass."""
    order = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    adapted = [(int(name.split(".")[-3]), order.index(name.split(".")[-1]), module) for name, module in model.named_modules() if hasattr(module, "lora_A")]
    for number, (_, _, module) in enumerate(sorted(adapted, key=lambda entry: entry[:2])):
        module.lora_dropout["default"] = ReplayedDropout(p, number)


def write_trajectory(name, base, lora, train, quantize=None, steps=3, length=12):
    """PEFT's losses and weights over steps of 4 micro-batches of 1, and its logits."""
    torch.manual_seed(5)
    options = dict(dtype=torch.float32, attn_implementation="eager")
    if quantize:
        kind, double = quantize
        options["quantization_config"] = tf.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type=kind, bnb_4bit_use_double_quant=double, bnb_4bit_compute_dtype=torch.float32)
        options["device_map"] = "cpu"
    model = tf.AutoModelForCausalLM.from_pretrained(OUT / base, **options)
    model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, **lora))
    generator = torch.Generator().manual_seed(6)
    ids = torch.randint(0, VOCAB, (steps, 4, length), generator=generator)
    labels = ids.clone()
    for step in range(steps):
        for row in range(4):
            labels[step, row, : 2 + 2 * row] = -100
    weights = {n: p for n, p in model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for n, p in weights.items():
            if "lora_B" in n:
                p.copy_(torch.randn(p.shape, generator=generator) * 0.05)
    file = {f"init.{n}": p.detach().clone() for n, p in weights.items()}
    groups = [{"params": [p for n, p in weights.items() if "lora_A" in n], "lr": train["lr"]},
              {"params": [p for n, p in weights.items() if "lora_A" not in n], "lr": train["lr"] * train.get("loraplus_ratio", 1)}]
    optimizer = torch.optim.AdamW(groups, weight_decay=train["weight_decay"])
    losses = []
    if "dropout" in train:
        replay_dropout(model, train["dropout"])
    model.train()
    for step in range(steps):
        counts = [(labels[step, row, 1:] != -100).sum() for row in range(4)]
        total = 0.0
        for row in range(4):
            ReplayedDropout.place = 4 * step + row
            logits = model(ids[step, row : row + 1]).logits[0, :-1].float()
            loss = torch.nn.functional.cross_entropy(logits, labels[step, row, 1:], ignore_index=-100, reduction="sum")
            loss = loss / (sum(counts) if train["loss"] == "token" else 4 * counts[row])
            loss.backward()
            total += loss.item()
        losses.append(total)
        optimizer.step()
        optimizer.zero_grad()
    file |= {f"final.{n}": p.detach().clone() for n, p in weights.items()}
    file |= {"input_ids": ids, "labels": labels, "losses": torch.tensor(losses)}
    # In 4 bits the evaluation mode has other kernels; without dropout both modes are the same function.
    model.train(bool(quantize))
    for module in model.modules():
        if hasattr(module, "lora_A"):
            module.lora_dropout["default"] = torch.nn.Identity()
    model.save_pretrained(OUT / name)
    (OUT / name / "README.md").unlink(missing_ok=True)
    # The base by its name, not by where this ran.
    config = OUT / name / "adapter_config.json"
    config.write_text(config.read_text().replace(f"{OUT}/", ""))
    # Layers that share a matrix share A in PEFT and have their own here: such adapters are read and written, their
    # training is not compared.
    if "fused" not in name and "modules_to_save" not in lora:
        save_file({k: v.contiguous() for k, v in file.items()}, OUT / name / "trajectory.safetensors")
    probe = ids[0, :2].contiguous()
    expected = {"input_ids": probe, "logits": model(probe).logits.detach().float()}
    save_file(expected, OUT / name / "adapter_expected.safetensors")
    facts = dict(train, optimizer="adamw", schedule="constant", base=base)
    if quantize:
        facts["quantize"] = f"bnb.{quantize[0]}" + ("-dq" if quantize[1] else "")
    (OUT / name / "train.json").write_text(json.dumps(facts, indent=1))


def write_quant4():
    """Codes on shapes that are no multiple of a block, from every source dtype."""
    file = {}
    generator = torch.Generator().manual_seed(9)
    shapes = {"whole": (6, 64), "odd": (5, 13), "short": (1, 7), "long": (33, 129)}
    for shape_name, shape in shapes.items():
        for dtype_name, dtype in {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}.items():
            weight = (torch.randn(shape, generator=generator) * 0.05).to(dtype)
            weight.view(-1)[: min(64, weight.numel() // 2)] *= 40
            if shape_name == "whole":
                weight[0] = 0
            source = f"{shape_name}.{dtype_name}"
            file[f"{source}.weight"] = weight
            for kind in ["nf4", "fp4"]:
                for double in [False, True]:
                    name = f"{source}.{kind}" + (".dq" if double else "")
                    packed, state = bnb.quantize_4bit(weight, blocksize=64, quant_type=kind, compress_statistics=double)
                    file[f"{name}.packed"] = packed
                    file[f"{name}.dequantized"] = bnb.dequantize_4bit(packed, state).contiguous()
    save_file({k: v.contiguous() for k, v in file.items()}, OUT / "quant4.safetensors")


def write_four_bit(name, base, kind, double):
    """A checkpoint that transformers and bitsandbytes saved in 4 bits."""
    quantization = tf.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type=kind, bnb_4bit_use_double_quant=double,
                                         bnb_4bit_compute_dtype=torch.float32)
    model = tf.AutoModelForCausalLM.from_pretrained(OUT / base, dtype=torch.float32, quantization_config=quantization, device_map="cpu")
    model.save_pretrained(OUT / name)
    (OUT / name / "generation_config.json").unlink(missing_ok=True)
    facts = {"base": base, "quantize": f"bnb.{kind}" + ("-dq" if double else "")}
    (OUT / name / "four_bit.json").write_text(json.dumps(facts))


def write_blocks():
    """Random blocks of every GGUF type that is read, with the values that the package `gguf` gives them."""
    file = {}
    generator = np.random.default_rng(3)
    for kind in ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]:
        number = gguf.GGMLQuantizationType[kind]
        elements, size = gguf.GGML_QUANT_SIZES[number]
        blocks = generator.integers(0, 256, (3, size), dtype=np.uint8)
        # Scales are halves: keep their exponents small so that no value is infinite.
        halves = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}
        for start in halves[kind]:
            blocks[:, start + 1] = (blocks[:, start + 1] & 0x83) | 0x28
        values = gguf.quants.dequantize(blocks, number).reshape(3, elements)
        file[f"{kind}.blocks"] = torch.from_numpy(blocks)
        file[f"{kind}.values"] = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
    save_file(file, OUT / "gguf_blocks.safetensors")


GGUF_NAMES = {"input_layernorm": "attn_norm", "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output",
              "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down", "q_norm": "attn_q_norm", "k_norm": "attn_k_norm",
              "post_feedforward_layernorm": "post_ffw_norm", "pre_feedforward_layernorm": "ffn_norm"}


def gguf_name(name, gemma):
    parts = name.split(".")
    if parts[1] == "layers":
        layer = GGUF_NAMES.get(parts[-2]) or ("post_attention_norm" if gemma else "ffn_norm")
        return f"blk.{parts[2]}.{layer}.{parts[-1]}"
    return {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}[name]


def write_gguf(name, architecture, config, seed, rope_divisors=None):
    """A GGUF file of mixed types, and the logits of transformers on the weights that it stands for."""
    torch.manual_seed(seed)
    model = tf.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    noise(model, seed)
    (OUT / name).mkdir(exist_ok=True)
    writer = gguf.GGUFWriter(OUT / name / "model.gguf", architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_key_length(head_dim)
    parameters = config.rope_parameters
    writer.add_rope_freq_base(parameters.get("full_attention", parameters)["rope_theta"])
    if architecture == "gemma3":
        writer.add_sliding_window(config.sliding_window)
    if rope_divisors is not None:
        writer.add_tensor("rope_freqs.weight", rope_divisors)
    kinds = iter(["Q8_0", "F16", "Q4_0", "Q5_1", "BF16", "F32"] * 100)
    for key, parameter in model.named_parameters():
        data = parameter.detach().numpy().astype(np.float32)
        kind = gguf.GGMLQuantizationType.F32 if data.ndim == 1 else gguf.GGMLQuantizationType[next(kinds)]
        plus_one = architecture == "gemma3" and key.endswith("norm.weight")
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(key.split(".")[-2])
        if architecture == "llama" and heads and data.ndim == 2:
            data = data.reshape(heads, 2, head_dim // 2, -1).swapaxes(1, 2).reshape(data.shape)
        if plus_one:
            data = data + 1
        raw = gguf.quants.quantize(data, kind)
        writer.add_tensor(gguf_name(key, architecture == "gemma3"), raw, raw_dtype=kind)
        values = gguf.quants.dequantize(raw, kind).reshape(data.shape)
        if architecture == "llama" and heads and data.ndim == 2:
            values = values.reshape(heads, head_dim // 2, 2, -1).swapaxes(1, 2).reshape(data.shape)
        values = torch.from_numpy(np.ascontiguousarray(values - 1 if plus_one else values))
        with torch.no_grad():
            parameter.copy_(values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    ids = torch.randint(0, VOCAB, (2, 16), generator=torch.Generator().manual_seed(seed + 1))
    with torch.no_grad():
        save_file({"input_ids": ids, "logits": model(ids).logits.float()}, OUT / name / "gguf_expected.safetensors")


def write_ggufs():
    sizes = dict(COMMON, intermediate_size=64, num_key_value_heads=2)
    llama3 = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
              "original_max_position_embeddings": 32}
    # What llama.cpp's converter writes for Llama 3: the divisor of each frequency.
    inverse = 1 / 5e5 ** (np.arange(0, 8, 2) / 8)
    scaled, _ = tf.modeling_rope_utils.ROPE_INIT_FUNCTIONS["llama3"](tf.LlamaConfig(**sizes, rope_parameters=llama3), "cpu")
    write_gguf("gguf_llama", "llama", tf.LlamaConfig(**sizes, rope_parameters=llama3), 200, (inverse / scaled.numpy()).astype(np.float32))
    write_gguf("gguf_qwen2", "qwen2", tf.Qwen2Config(**sizes, tie_word_embeddings=True), 201)
    write_gguf("gguf_qwen3", "qwen3", tf.Qwen3Config(**sizes, head_dim=16), 202)
    write_gguf("gguf_gemma3", "gemma3", tf.Gemma3TextConfig(
        **dict(sizes, num_hidden_layers=6), head_dim=16, sliding_window=5, query_pre_attn_scalar=16), 203)


def write_sentence_piece(name, space_prefix):
    """A small SentencePiece BPE, and how it encodes some texts."""
    import io

    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as proto
    corpus = Path(__file__).read_text().splitlines() + Path(tf.__file__).read_text().splitlines()[:1500]
    buffer = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus), model_writer=buffer, model_type="bpe", vocab_size=460, byte_fallback=True,
        add_dummy_prefix=space_prefix, remove_extra_whitespaces=False, normalization_rule_name="identity",
        user_defined_symbols=[] if space_prefix else ["\n\n", "▁▁▁▁", "▁▁", "<div>"], minloglevel=2)
    model = proto.ModelProto()
    model.ParseFromString(buffer.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=buffer.getvalue())
    types = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6}
    texts = ["Hello world", " two  spaces   and    more     ", "def main():\n\n    return 42\n", "naïve café — 日本語 🙂", "a\tb\r\nc",
             "The quick brown fox <div>jumps</div>", "1234567890 + 0.5", "x", "", "▁ already", "self.model.from_pretrained(name)"]
    texts = [text for text in texts if not (space_prefix and "▁" in text)]
    facts = {
        "tokens": [piece.piece for piece in model.pieces], "scores": [piece.score for piece in model.pieces],
        "types": [types[piece.type] for piece in model.pieces], "space_prefix": space_prefix,
        "texts": [[text, processor.encode(text)] for text in texts if processor.decode(processor.encode(text)) == text],
    }
    (OUT / f"{name}.json").write_text(json.dumps(facts, ensure_ascii=False))


def main():
    for seed, (name, config) in enumerate(families()):
        write_model(name, config, 100 + seed)
    every = dict(r=4, lora_alpha=8)
    base = dict(lr=3e-3, weight_decay=0.01, loss="token")
    write_trajectory("phi3_fused", "phi3", dict(every, target_modules=["qkv_proj", "o_proj", "gate_up_proj"]), base)
    write_trajectory("gpt_neox_fused_dora", "gpt_neox", dict(every, target_modules=["query_key_value", "dense"], use_dora=True), base)
    write_trajectory("falcon_fused_patterns", "falcon_40b", dict(
        every, target_modules=r".*\.(query_key_value|dense_4h_to_h)", rank_pattern={"dense_4h_to_h": 2},
        alpha_pattern={"query_key_value": 3}, layers_to_transform=None), base)
    write_trajectory("gemma3_layers", "gemma3", dict(
        every, target_modules=["q_proj", "v_proj", "down_proj"], layers_to_transform=[0, 2], use_rslora=True),
        dict(base, lr=1e-4, loraplus_ratio=4))
    write_trajectory("lora_dropout", "qwen2", dict(every, target_modules=["q_proj", "v_proj", "down_proj"]), dict(base, dropout=0.5))
    write_trajectory("dora_dropout", "olmo2", dict(every, target_modules=["k_proj", "up_proj"], use_dora=True), dict(base, dropout=0.25))
    write_trajectory("qwen2_dora_nf4", "qwen2_wide", dict(every, target_modules=["q_proj", "up_proj"], use_dora=True),
                     dict(base, loss="micro_batch"), quantize=("nf4", True))
    write_trajectory("llama_whole_head", "llama", dict(every, target_modules=["q_proj"], modules_to_save=["lm_head"]), base)
    write_quant4()
    write_four_bit("llama_in_nf4", "llama", "nf4", False)
    write_four_bit("mistral_in_fp4_dq", "mistral", "fp4", True)
    write_blocks()
    write_ggufs()
    write_sentence_piece("sentence_piece_prefix", True)
    write_sentence_piece("sentence_piece_plain", False)


if __name__ == "__main__":
    main()
