"""Two routers and 16 simulated groups under faults: 40 seconds of what faults_replay.py does with an
hour of recorded traffic."""
import os
import random
import time
import unittest

from cluster import MODEL
from faults_replay import run
from sim_replies import Replies

KV_TOKENS = 60_000  # of a group: all of them together hold less than a third of what is asked


def conversations(rng, seconds, rate):
    """Mooncake's format: conversations that grow by a turn each time, told in turn."""
    requests, open_ones, fresh, at = [], [], 0, 0.0
    while (at := at + rng.expovariate(rate)) < seconds:
        if not open_ones or rng.random() < 0.3:
            open_ones.append([])
        ids = rng.choice(open_ones)
        for _ in range(rng.randrange(1, 8)):
            ids.append(fresh)
            fresh += 1
        requests.append({"timestamp": int(at * 1000),
                         "input_length": len(ids) * 512 - rng.randrange(512),
                         "output_length": rng.randrange(1, 300), "hash_ids": list(ids)})
        if len(ids) > 50:
            open_ones.remove(ids)
    return requests


class FaultsReplay(unittest.TestCase):
    def test_no_request_is_lost_without_an_error_and_no_token_at_all(self):
        seed = int(os.environ.get("TANDEM_SEED", time.time_ns() % 2**31))
        print(f"seed {seed} (TANDEM_SEED repeats it)", flush=True)
        seen = run(conversations(random.Random(seed), 40, 25), 1, seed, 1.5, KV_TOKENS)
        for name, value in seen.items():
            print(f"{name}: {value}")
        self.assertEqual(len(seen["faults"]), 5, "a kind of fault did not happen")
        self.assertGreater(seen["cached_tokens"], 0)

    def test_a_wrong_token_would_be_seen(self):
        replies = Replies(MODEL, 200)
        whole = replies.expected(100, 20)
        self.assertEqual(replies.num_tokens(100, whole), 20)
        self.assertEqual(replies.num_tokens(100, replies.expected(100, 7)), 7)
        self.assertEqual(replies.num_tokens(100, ""), 0)
        missing = replies.expected(100, 7) + replies.expected(108, 12)
        doubled = replies.expected(100, 7) + replies.expected(106, 14)
        for wrong in (missing, doubled, whole[1:], whole[:-1], replies.expected(101, 19)):
            self.assertIsNone(replies.num_tokens(100, wrong), wrong)


if __name__ == "__main__":
    unittest.main(verbosity=2)
