"""`loragrid serve-model` asked by the openai package: python test_openai.py target/release model.gguf"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai

PROGRAMS, MODEL = Path(sys.argv[1]).resolve(), str(Path(sys.argv[2]).resolve())
LORAGRID = str(PROGRAMS / "loragrid")
SWEEP = f"""
name = "served"
model = "{MODEL}"
data = "two_digit_subtraction"
eval = ["two_digit_subtraction"]
limit = 10
[train]
iterations = 48
micro_batch_size = 4
batch_size = 8
learning_rate = 5e-3
warmup_steps = 0
[axes]
"lora.rank" = [2, 4, 8, 16]
"""
PROMPTS = [f"{a} - {b} =" for a in (31, 47, 58, 72) for b in (5, 12, 23, 29)]


class Server:
    """A running server; `options` follow the model on the command line."""

    def __init__(self, folder, *options, env=None):
        command = [LORAGRID, "serve-model", MODEL, "--name", "smol", "--dtype", "fp32", "--port", "0", "--json", *options]
        self.process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})}
        )
        text = ""
        while not text.endswith("}\n"):
            line = self.process.stdout.readline()
            assert line, self.process.stderr.read()
            text += line
        start = json.loads(text)
        self.url, self.models = start["url"], start["models"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=20)

    def client(self, key="none"):
        return openai.OpenAI(base_url=self.url, api_key=key, max_retries=0, timeout=120)

    def ask(self, path, value=None, headers=()):
        root = self.url.removesuffix("/v1")
        data = None if value is None else json.dumps(value).encode()
        request = urllib.request.Request(root + path, data, {"content-type": "application/json", **dict(headers)})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def wait_until_idle(self):
        deadline = time.monotonic() + 20
        while self.ask("/health")["requests"] > 0:
            assert time.monotonic() < deadline, "requests that nobody waits for go on"
            time.sleep(0.05)


def generated(folder, prompt, adapter):
    command = [LORAGRID, "generate", MODEL, "--prompt", prompt, "--temperature", "0", "--max-new-tokens", "24", "--dtype", "fp32"]
    command += ["--adapter", str(adapter)] if adapter else []
    return json.loads(subprocess.run([*command, "--json"], cwd=folder, capture_output=True, check=True).stdout)["text"]


def refused(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"{kind} is expected")


def many_at_once(folder, server, adapters):
    """64 requests at once over four adapters, half of them streamed, give what `generate` gives."""
    client = server.client()

    def answer(task):
        number, (model, prompt) = task
        settings = {"model": model, "prompt": prompt, "max_tokens": 24, "temperature": 0}
        if number % 2:
            return "".join(chunk.choices[0].text for chunk in client.completions.create(**settings, stream=True))
        return client.completions.create(**settings).choices[0].text

    tasks = [(model, prompt) for prompt in PROMPTS for model in adapters]
    assert len(tasks) == 64
    with ThreadPoolExecutor(64) as pool:
        answers = dict(zip(tasks, pool.map(answer, enumerate(tasks))))
    for prompt in PROMPTS[::5]:
        for model, adapter in adapters.items():
            expected = generated(folder, prompt, adapter)
            assert answers[model, prompt] == expected, (model, prompt, answers[model, prompt], expected)
    assert len({answers[model, PROMPTS[0]] for model in adapters}) > 1, "adapters answer alike"
    base = client.completions.create(model="smol", prompt=PROMPTS[0], max_tokens=24, temperature=0)
    assert base.choices[0].text == generated(folder, PROMPTS[0], None)
    assert (base.usage.completion_tokens, base.choices[0].finish_reason) == (24, "length")


def settings(server):
    client = server.client()
    drawn = {"model": "smol", "prompt": "Once upon a time", "max_tokens": 12, "seed": 7, "n": 3, "temperature": 1.2}
    first = [choice.text for choice in client.completions.create(**drawn).choices]
    assert first == [choice.text for choice in client.completions.create(**drawn).choices] and len(set(first)) == 3
    greedy = {"model": "smol", "prompt": "1, 2, 3, 4,", "max_tokens": 20, "temperature": 0}
    whole = client.completions.create(**greedy, logprobs=2).choices[0]
    assert len(whole.logprobs.tokens) == 20 and "".join(whole.logprobs.tokens) == whole.text
    assert all(max(top.values()) == value <= 0 for top, value in zip(whole.logprobs.top_logprobs, whole.logprobs.token_logprobs))
    stopped = client.completions.create(**greedy, stop=[", 7"]).choices[0]
    assert stopped.finish_reason == "stop" and whole.text.split(", 7")[0] == stopped.text, (whole.text, stopped.text)
    parts = list(client.completions.create(**greedy, stop=", 7", stream=True, stream_options={"include_usage": True}))
    assert "".join(part.choices[0].text for part in parts if part.choices) == stopped.text
    assert parts[-1].usage.prompt_tokens > 0 and not parts[-1].choices
    several = client.completions.create(**{**greedy, "prompt": ["1, 2, 3, 4,", "a b c"]}, echo=True)
    assert [choice.text[:5] for choice in several.choices] == ["1, 2,", "a b c"] and several.choices[0].text[11:] == whole.text
    messages = [{"role": "user", "content": "Say hello in one word."}]
    chat = {"model": "smol", "messages": messages, "max_completion_tokens": 16, "temperature": 0}
    reply = client.chat.completions.create(**chat, logprobs=True, top_logprobs=2)
    content = reply.choices[0].message.content
    chunks = list(client.chat.completions.create(**chat, stream=True))
    assert content == "".join(chunk.choices[0].delta.content or "" for chunk in chunks) and content
    assert chunks[0].choices[0].delta.role == "assistant" and chunks[-1].choices[0].finish_reason in ("stop", "length")
    assert len(reply.choices[0].logprobs.content) == reply.usage.completion_tokens
    parts = [{"type": "text", "text": "Say hello in "}, {"type": "text", "text": "one word."}]
    assert client.chat.completions.create(**{**chat, "messages": [{"role": "user", "content": parts}]}).choices[0].message.content == content


def refusals(server):
    client = server.client()
    ask = {"model": "smol", "prompt": "a", "max_tokens": 4}
    assert refused(openai.NotFoundError, lambda: client.completions.create(**{**ask, "model": "gpt"})).code == "model_not_found"
    error = refused(openai.BadRequestError, lambda: client.completions.create(**{**ask, "prompt": "a " * 9000}))
    assert error.code == "context_length_exceeded"
    for extra in ({"logit_bias": {"5": 10}}, {"frequency_penalty": 1.0}, {"suffix": "x"}, {"n": 0}, {"temperature": -1}, {"best_of": 3}):
        error = refused(openai.BadRequestError, lambda extra=extra: client.completions.create(**ask, **extra))
        assert error.param == next(iter(extra)), (extra, error.param)
    error = refused(openai.BadRequestError, lambda: client.completions.create(**ask, extra_body={"temperatur": 0}))
    assert error.param == "temperatur"
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    chat = {"model": "smol", "messages": [{"role": "user", "content": "a"}]}
    assert refused(openai.BadRequestError, lambda: client.chat.completions.create(**chat, tools=tools)).param == "tools"
    refused(openai.BadRequestError, lambda: client.completions.create(**{**ask, "prompt": [10**9]}))
    for headers, code in (({"content-type": "text/plain"}, 415), ({"origin": "http://evil.example"}, 403), ({"host": "evil.example"}, 421)):
        try:
            server.ask("/v1/completions", ask, headers.items())
        except urllib.error.HTTPError as error:
            assert error.code == code, (headers, error.code)
        else:
            raise AssertionError(headers)
    refused(openai.APIStatusError, lambda: client.completions.create(**{**ask, "prompt": "a" * (5 << 20)}))


def cancelled(server):
    client = server.client()
    streams = [
        client.completions.create(model="smol", prompt=f"{n} times", max_tokens=2000, temperature=0, stream=True) for n in range(8)
    ]
    for stream in streams:
        next(iter(stream))
    assert server.ask("/health")["requests"] == 8
    for stream in streams:
        stream.close()
    server.wait_until_idle()
    # A client that does not stream and goes.
    short = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0, timeout=0.5)
    refused(openai.APITimeoutError, lambda: short.completions.create(model="smol", prompt="a b", max_tokens=2000))
    server.wait_until_idle()


def challenge(server):
    tokens = server.ask("/tokenize", {"text": "The capital of France is"})["tokens"]
    assert server.ask("/decode", {"tokens": tokens})["text"] == "The capital of France is"
    assert server.ask("/tokenize", {"text": "The capital of France is", "max_length": 2})["tokens"] == tokens[:2]
    asked = {"prompt": "12 - 5 =", "max_new_tokens": 6, "temperature": 0.0, "seed": 3}
    answer = server.ask("/process", asked)
    assert 0 < len(answer["tokens"]) <= 6 and abs(sum(t["logprob"] for t in answer["tokens"]) - answer["logprob"]) < 1e-9
    assert "".join(token["text"] for token in answer["tokens"]) == answer["text"]
    assert all(list(token["top_logprob"].values()) == [token["logprob"]] for token in answer["tokens"])
    assert server.ask("/process", {**asked, "echo_prompt": True})["text"] == "12 - 5 =" + answer["text"]


def ends(folder):
    """A full queue, a token, a port in use, a clean end while a stream is open, an engine that is killed."""
    with Server(folder, "--queue", "2", env={"LORAGRID_TOKEN": "secret-of-a-test"}) as server:
        refused(openai.AuthenticationError, lambda: server.client("wrong").models.list())
        client = server.client("secret-of-a-test")
        assert [model.id for model in client.models.list()] == ["smol"]
        long = {"model": "smol", "prompt": "a", "max_tokens": 2000, "temperature": 0}
        streams = [client.completions.create(**long, stream=True) for _ in range(2)]
        refused(openai.RateLimitError, lambda: client.completions.create(**long))
        port = server.url.rsplit(":", 1)[1].removesuffix("/v1")
        second = subprocess.run([LORAGRID, "serve-model", MODEL, "--port", port], capture_output=True, text=True)
        assert second.returncode == 2 and "cannot listen" in second.stderr, second
        open_host = subprocess.run(
            [LORAGRID, "serve-model", MODEL, "--host", "0.0.0.0", "--port", "0"], capture_output=True, text=True, env={**os.environ, "LORAGRID_TOKEN": ""}
        )
        assert open_host.returncode == 2 and "token" in open_host.stderr, open_host
        next(iter(streams[0]))
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        _, errors = server.process.communicate(timeout=20)
        assert server.process.returncode == 0 and time.monotonic() - started < 9
        assert "secret-of-a-test" not in errors
    with Server(folder) as server:
        client = server.client()
        stream = client.completions.create(model="smol", prompt="a", max_tokens=2000, stream=True)
        next(iter(stream))
        engines = subprocess.run(["pgrep", "-P", str(server.process.pid)], capture_output=True, text=True).stdout.split()
        os.kill(int(engines[0]), signal.SIGKILL)
        refused(openai.APIError, lambda: list(stream))
        assert server.process.wait(timeout=20) == 11


def main():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "sweep.toml").write_text(SWEEP)
        subprocess.run([LORAGRID, "run", "sweep.toml"], cwd=folder, check=True, capture_output=True)
        ranked = json.loads(subprocess.run([LORAGRID, "top", "served", "--json"], cwd=folder, capture_output=True, check=True).stdout)
        rows = [row for row in ranked["rows"] if not row["base"]]
        shown = {
            f"served/{row['label']}": Path(folder, json.loads(
                subprocess.run([LORAGRID, "show", row["jobs"][0], "--json"], cwd=folder, capture_output=True, check=True).stdout
            )["adapter"])
            for row in rows
        }
        with Server(folder, "--sweep", "served", "--top", "4") as server:
            assert server.models == ["smol", *shown], server.models
            watchdog = threading.Timer(540, server.process.kill)
            watchdog.daemon = True
            watchdog.start()
            for check in (settings, refusals, challenge, cancelled):
                check(server)
                print(f"{check.__name__}: passed")
            many_at_once(folder, server, shown)
            print("many_at_once: passed")
            watchdog.cancel()
        ends(folder)
        print("ends: passed")
    print("6 passed, 0 failed")


if __name__ == "__main__":
    main()
