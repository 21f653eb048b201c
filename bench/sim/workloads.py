#!/usr/bin/env python3
"""Writes a synthetic trace (docs/simulate.md, recorded format) to standard output.

  workloads.py zipf        a few long prefixes, chosen by Zipf's law, and a question of one's own
  workloads.py multiturn   conversations: each turn's prompt is all that was said before and more
  workloads.py one_prefix  the same long prefix for everybody
  workloads.py unshared    nothing in common

Arrivals are Poisson at --rate; equal seeds give equal bytes.
"""
import argparse
import heapq
import itertools
import json
import random
import sys

BLOCK = 64  # tokens of a hash id


def lengths(rng, mean, sigma, low, high):
    """Log-normal token counts around `mean`."""
    return max(low, min(high, round(mean * rng.lognormvariate(-sigma * sigma / 2, sigma))))


def ids_of(fresh, shared, prompt):
    """`shared` ids first, new ones for the full blocks after them."""
    count = prompt // BLOCK
    shared = shared[:count]
    return shared + [next(fresh) for _ in range(count - len(shared))]


def poisson(rng, rate, count):
    at = 0.0
    for _ in range(count):
        at += rng.expovariate(rate)
        yield at


def zipf(rng, args, fresh):
    prefixes = [[next(fresh) for _ in range(lengths(rng, 4000, 0.8, BLOCK, 30000) // BLOCK)]
                for _ in range(200)]
    weights = [1 / (i + 1) for i in range(len(prefixes))]
    for at in poisson(rng, args.rate, args.requests):
        prefix = rng.choices(prefixes, weights)[0]
        prompt = len(prefix) * BLOCK + lengths(rng, 500, 1, 1, 8000)
        yield at, prompt, lengths(rng, 250, 0.8, 1, 2000), ids_of(fresh, prefix, prompt)


def one_prefix(rng, args, fresh):
    prefix = [next(fresh) for _ in range(4000 // BLOCK)]
    for at in poisson(rng, args.rate, args.requests):
        prompt = len(prefix) * BLOCK + lengths(rng, 1000, 1, 1, 16000)
        yield at, prompt, lengths(rng, 250, 0.8, 1, 2000), ids_of(fresh, prefix, prompt)


def unshared(rng, args, fresh):
    for at in poisson(rng, args.rate, args.requests):
        prompt = lengths(rng, 3000, 1, 16, 60000)
        yield at, prompt, lengths(rng, 250, 0.8, 1, 2000), ids_of(fresh, [], prompt)


def multiturn(rng, args, fresh):
    """Conversations start so that turns come at --rate; the replies are part of the next prompt."""
    turns_mean = 5
    waiting = []  # (time, number, turns left, prompt so far, ids so far)
    starts = poisson(rng, args.rate / turns_mean, args.requests)
    number = itertools.count()
    made = 0
    upcoming = next(starts)
    while made < args.requests:
        if not waiting or upcoming < waiting[0][0]:
            turns = 1 + min(30, int(rng.expovariate(1 / (turns_mean - 0.5))))
            heapq.heappush(waiting, (upcoming, next(number), turns,
                                     lengths(rng, 1200, 1, 16, 20000), []))
            upcoming = next(starts)
            continue
        at, _, turns, prompt, ids = heapq.heappop(waiting)
        reply = lengths(rng, 300, 0.8, 1, 2000)
        ids = ids_of(fresh, ids, prompt)
        yield at, prompt, reply, ids
        made += 1
        following = prompt + reply + lengths(rng, 200, 1, 1, 4000)
        if turns > 1 and following < 100_000:
            think = reply * 0.02 + rng.expovariate(1 / 15)  # the reply has to be there and be read
            heapq.heappush(waiting, (at + think, next(number), turns - 1, following, ids))


KINDS = {f.__name__: f for f in (zipf, multiturn, one_prefix, unshared)}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--requests", type=int, default=6000)
    parser.add_argument("--rate", type=float, default=10, help="requests a second")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    fresh = itertools.count(1)
    print(json.dumps({"tandem_trace": 1, "block_size": BLOCK}))
    for at, prompt, output, ids in KINDS[args.kind](random.Random(args.seed), args, fresh):
        print(json.dumps({"timestamp": round(at * 1000, 3), "input_length": prompt,
                          "output_length": output, "hash_ids": ids}))


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        sys.exit(1)
