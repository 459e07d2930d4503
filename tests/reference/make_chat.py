#!/usr/bin/env python3
"""Writes chat/expected.json: what transformers renders for each template chat/*.jinja and each conversation of
chat/conversations.json, with and without the generation prompt.

A rendering has "text", or "error" with the reason that a template gave to raise_exception, or "fails" where it failed
otherwise. Templates with the tag generation have "spans" too: where the generated parts start and end, in code points.
Messages lose their null values first, as apply_chat_template does it; "nulls" holds the renderings that differ where
they are kept. The day is always July 26, 2024.

usage: make_chat.py
"""
import datetime
import json
import re
from pathlib import Path

import jinja2
import transformers
from transformers.utils import chat_template_utils as chat_templates


class FrozenDatetime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26, tzinfo=tz)


SPECIAL = dict(bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>")


def render(template, messages, conversation, prompt, spans=False):
    try:
        texts, found = chat_templates.render_jinja_template(
            conversations=[messages], tools=conversation.get("tools"), documents=conversation.get("documents"),
            chat_template=template, add_generation_prompt=prompt, return_assistant_tokens_mask=spans, **SPECIAL)
    except Exception as error:
        # raise_exception raises TemplateError itself, everything else one of its subclasses or an error of Python.
        return {"error": error.message} if type(error) is jinja2.TemplateError else {"fails": True}
    return {"text": texts[0], "spans": found[0]} if spans else {"text": texts[0]}


def main():
    chat_templates.datetime = FrozenDatetime
    folder = Path(__file__).parent / "chat"
    conversations = json.loads((folder / "conversations.json").read_text(encoding="utf-8"))
    renderings, nulls = [], []
    for path in sorted(folder.glob("*.jinja")):
        template = path.read_bytes().decode()
        chat_templates._compile_jinja_template(template)  # So that a syntax error is not taken for one of rendering.
        for conversation in conversations:
            messages = chat_templates._normalize_chat_messages(conversation["messages"])
            for prompt in (False, True):
                case = dict(template=path.stem, conversation=conversation["name"], add_generation_prompt=prompt)
                rendering = render(template, messages, conversation, prompt)
                if not prompt and re.search(r"{%-?\s*generation\b", template) and "text" in rendering:
                    with_spans = render(template, messages, conversation, prompt, spans=True)
                    assert with_spans["text"] == rendering["text"], case
                    rendering = with_spans
                renderings.append(case | rendering)
                kept = render(template, conversation["messages"], conversation, prompt)
                if any(kept.get(key) != rendering.get(key) for key in ("text", "error", "fails")):
                    nulls.append(case | kept)
    line = lambda value: json.dumps(value, ensure_ascii=False)
    lines = lambda values: "[\n" + ",\n".join(map(line, values)) + "\n]"
    version = dict(transformers=transformers.__version__, jinja2=jinja2.__version__)
    text = f'{{"version": {line(version)},\n"renderings": {lines(renderings)},\n"nulls": {lines(nulls)}}}\n'
    json.loads(text)
    (folder / "expected.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
