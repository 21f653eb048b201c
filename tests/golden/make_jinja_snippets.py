#!/usr/bin/env python3
"""Writes data/jinja_snippets.jsonl: the small templates of jinja_snippets.py and what transformers'
environment renders of each. Packages: see make_chat_templates.py.

    build/venv-golden/bin/python tests/golden/make_jinja_snippets.py
"""

import json
import pathlib

from transformers.utils import chat_template_utils

from jinja_snippets import EXPRESSIONS, TEMPLATES, VARIABLES
from make_chat_templates import FixedDatetime


def render(source):
    try:
        return "ok", chat_template_utils._compile_jinja_template(source).render(VARIABLES)
    except Exception as error:  # whatever the template does
        raised = type(error).__name__ == "TemplateError"
        return ("raised", str(error)) if raised else ("failed", "")


def main():
    chat_template_utils.datetime = FixedDatetime
    path = pathlib.Path(__file__).parent / "data" / "jinja_snippets.jsonl"
    sources = [f"{{{{ {text} }}}}" for text in joined(EXPRESSIONS)] + TEMPLATES
    with open(path, "w") as out:
        out.write(json.dumps(VARIABLES) + "\n")
        for source in sources:
            out.write(json.dumps([source, *render(source)]) + "\n")
    print(len(sources), "templates")


def joined(lines):
    """A line that ends with a backslash goes on in the next one, as in the template it makes."""
    whole = []
    for line in lines:
        if whole and whole[-1].endswith("\\"):
            whole[-1] += "\n" + line
        else:
            whole.append(line)
    return whole


if __name__ == "__main__":
    main()
