#!/usr/bin/env python3
"""Asks a running router one question and prints the reply as it streams, then how fast it was.

usage: first_reply.py http://127.0.0.1:8000 [QUESTION]
"""
import http.client
import json
import sys
import time
import urllib.parse

QUESTION = "What is the capital of France? Answer in one sentence."


def connect(url):
    address = urllib.parse.urlsplit(url)
    return http.client.HTTPConnection(address.hostname, address.port, timeout=120)


def fetch(url, path):
    connection = connect(url)
    connection.request("GET", path)
    return json.loads(connection.getresponse().read())


def events(response):
    """The JSON objects of a stream of server-sent events."""
    for line in response:
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            return
        yield json.loads(data)
    raise ConnectionError("the stream ended without [DONE]")


def ask(url, question):
    """Prints the reply; (seconds to the first token, tokens, seconds in all)."""
    body = {
        "model": fetch(url, "/v1/models")["data"][0]["id"],
        "messages": [{"role": "user", "content": question}],
        "max_tokens": 100,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    connection = connect(url)
    start = time.monotonic()
    connection.request("POST", "/v1/chat/completions", json.dumps(body),
                       {"Content-Type": "application/json"})
    response = connection.getresponse()
    if response.status != 200:
        raise ConnectionError(f"{response.status}: {response.read().decode(errors='replace')}")
    first, tokens = None, 0
    for event in events(response):
        if "error" in event:
            raise ConnectionError(json.dumps(event["error"]))
        if event.get("usage"):
            tokens = event["usage"]["completion_tokens"]
        for choice in event["choices"]:
            text = choice["delta"].get("content")
            if text:
                first = first or time.monotonic() - start
                print(text, end="", flush=True)
    print()
    return first, tokens, time.monotonic() - start


def main():
    question = sys.argv[2] if len(sys.argv) > 2 else QUESTION
    print(f"> {question}")
    first, tokens, total = ask(sys.argv[1], question)
    if first is None:
        raise ConnectionError("the reply is empty")
    rate = f", then {(tokens - 1) / (total - first):.0f} tokens/s" if tokens > 1 else ""
    print(f"\nfirst token after {first * 1000:.0f} ms{rate} ({tokens} tokens)")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        sys.exit(f"first_reply.py: {error}")
