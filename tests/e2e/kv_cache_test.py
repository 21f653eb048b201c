"""`kv_cache_dtype: int8` through a router and two ranks: nearly twice the blocks of bf16 for the same memory;
a prefix out of the cache and a sequence that was preempted give the text that they give alone."""
import concurrent.futures
import re
import unittest

from cluster import NAME, Cluster

PROMPT = "The lighthouse keeper wrote in his diary that evening: "
# SmolLM2-135M, 30 layers of 3 KV heads of 64: a block of 16 tokens takes 2 (64 + 4) bytes of a token and
# head, 195,840 together; with bf16 it would be 368,640, and 4 MiB would be 11 blocks.
BLOCKS = 21
SEQUENCES = 4  # of 9 blocks


class Int8(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(group="kv_memory: 4MiB, kv_cache_dtype: int8, max_step_tokens: 64, "
                                    f"max_seqs: {SEQUENCES}").__enter__()
        cls.addClassCleanup(cls.cluster.__exit__, None, None, None)

    def complete(self, prompt, **settings):
        body = {"model": NAME, "prompt": prompt, "max_tokens": 120, "ignore_eos": True, **settings}
        status, reply, _ = self.cluster.post("/v1/completions", body, {"x-tandem-timing": "1"})
        self.assertEqual(status, 200, reply)
        return reply["choices"][0]["text"], reply

    def test_blocks_are_sized_with_their_scales(self):
        found = re.search(r"(\d+) KV blocks(?! fit)", self.cluster.log_path.read_text())
        self.assertEqual(int(found[1]), BLOCKS)

    def test_cached_prefixes(self):
        (first, _), (second, reply) = (self.complete(PROMPT * 12, temperature=0) for _ in range(2))
        self.assertEqual(first, second)
        self.assertGreater(reply["usage"]["prompt_tokens_details"]["cached_tokens"], 100)

    def test_preempted_sequences_are_computed_again(self):
        def run(i):
            return self.complete(f"{i} {PROMPT}", temperature=1, seed=i)

        with concurrent.futures.ThreadPoolExecutor(SEQUENCES) as pool:
            together = list(pool.map(run, range(SEQUENCES)))
        preempted = [i for i, (_, reply) in enumerate(together)
                     if reply["timing"]["total"]["num_preemptions"] > 0]
        self.assertTrue(preempted)
        for i in preempted:
            self.assertEqual(run(i)[0], together[i][0])


class NotOneBlock(unittest.TestCase):
    def test_up_names_why_the_group_fails_again_and_again(self):
        why = ("error up: group g0 has failed 3 times in a row, now because worker g0/0 exited "
               "with 1: 1048576 bytes of KV memory are less than one block of 256 tokens, which "
               "takes 5898240; raise groups[].kv_memory or lower groups[].block_size; starting "
               "group g0 again in 200 ms")
        with Cluster(tp=1, group="kv_memory: 1MiB, block_size: 256", started_when=why) as cluster:
            self.assertEqual(cluster.get("/ready")[0], 503)


if __name__ == "__main__":
    unittest.main()
