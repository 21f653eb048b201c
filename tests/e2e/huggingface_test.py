"""Models out of Hugging Face folders, through a router and two ranks: the tokens are transformers', chats
go by the folder's template, sampling by its generation_config.json; folders that cannot be served say why."""
import json
import pathlib
import shutil
import subprocess
import tempfile
import unittest

import folders
import openai
from cluster import BIN, SLOW, Cluster, free_port, wait_until

# One in shards with tied embeddings, float32, and families whose files differ most from Llama's.
FAMILIES = ["llama3", "llama2", "qwen3", "gemma2", "mixtral", "phi3-long"]
SETTINGS = ("tp: 2, threads: 1, kv_memory: 16MiB, activation_dtype: f32, kv_cache_dtype: f32, "
            "max_step_tokens: 48, max_seqs: 8")


class Folders(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = pathlib.Path(tempfile.mkdtemp(prefix="tandem-folders-"))
        models, groups = "", ""
        for name in FAMILIES:
            folders.make(cls.dir / name, name)
            models += f"  - {{{{name: {name}, path: {cls.dir / name}}}}}\n"
            groups += f"  - {{{{name: g-{name}, model: {name}, {SETTINGS}}}}}\n"
        # A dot in its name, which is the model's; it would have replies be short and greedy.
        tuned = folders.make(cls.dir / "Tiny-1.5B-Tuned", "llama2", add_end=True, generation={
            "temperature": 0.0, "max_new_tokens": 7, "repetition_penalty": 1.3})
        models += f"  - {{{{path: {tuned}}}}}\n"
        groups += f"  - {{{{name: g-tuned, model: Tiny-1.5B-Tuned, {SETTINGS}}}}}\n"
        folders.without_head(folders.make(cls.dir / "headless", "llama2"))
        models += f"  - {{{{path: {cls.dir / 'headless'}}}}}\n"
        groups += f"  - {{{{name: g-headless, model: headless, {SETTINGS}}}}}\n"
        cls.cluster = Cluster(text=f"""
models:
{models}groups:
{groups}router: {{{{listen: "127.0.0.1:{{port}}"}}}}
links:
  routers: [tcp://127.0.0.1:{{link}}]
  runtime_dir: {{dir}}/run
""")
        cls.cluster.__enter__()
        cls.addClassCleanup(shutil.rmtree, cls.dir)
        cls.addClassCleanup(cls.cluster.__exit__, None, None, None)
        wait_until(
            lambda: cls.cluster.metric("tandem_router_group_up") == len(FAMILIES) + 2, 60,
            "all groups are up",
        )
        cls.client = cls.cluster.client()
        cls.addClassCleanup(cls.client.close)

    def post(self, path, **body):
        status, reply, _ = self.cluster.post(path, body)
        self.assertEqual(status, 200, reply)
        return reply

    def test_the_tokens_are_those_of_transformers(self):
        for name in FAMILIES:
            golden = folders.golden(name)
            for position, logits in zip(golden["positions"], golden["logits"]):
                (choice,) = self.post(
                    "/v1/completions", model=name, max_tokens=1, temperature=0, logprobs=20,
                    prompt=golden["token_ids"][:position + 1], return_token_ids=True,
                    return_tokens_as_token_ids=True)["choices"]
                expected = folders.logprobs(logits)
                best = max(range(len(logits)), key=lambda i: logits[i])
                self.assertEqual(choice["token_ids"], [best], (name, position))
                (top,) = choice["logprobs"]["top_logprobs"]
                self.assertEqual(len(top), 20)
                for token, logprob in top.items():
                    wanted = expected[int(token.removeprefix("token_id:"))]
                    self.assertAlmostEqual(logprob, wanted, delta=2e-4, msg=(name, position))

    def test_chats_go_by_the_template(self):
        messages = [{"role": "user", "content": "Hi there"}]
        text = "user: Hi there\nassistant:"
        for name in FAMILIES:
            self.assertEqual(
                self.post("/tokenize", model=name, messages=messages)["tokens"],
                folders.encode(text))
            chat = self.client.chat.completions.create(
                model=name, messages=messages, max_tokens=12, temperature=0)
            plain = self.client.completions.create(
                model=name, prompt=text, max_tokens=12, temperature=0)
            self.assertEqual(chat.choices[0].message.content, plain.choices[0].text)
            self.assertEqual(chat.usage.prompt_tokens, len(text))
            parts = self.client.chat.completions.create(
                model=name, messages=messages, max_tokens=12, temperature=0, stream=True)
            self.assertEqual(
                "".join(p.choices[0].delta.content or "" for p in parts),
                chat.choices[0].message.content)

    def test_embeddings_are_what_the_head_makes_transformers_logits_of(self):
        golden = folders.golden("llama2")
        head = folders.read_matrix(folders.GOLDEN / "llama2" / "model.safetensors",
                                   "lm_head.weight")
        for position, logits in zip(golden["positions"], golden["logits"]):
            (data,) = self.client.embeddings.create(
                model="llama2", input=golden["token_ids"][:position + 1],
                extra_body={"normalize": False}).data
            ours = [sum(w * x for w, x in zip(row, data.embedding)) for row in head]
            for a, b in zip(ours, logits):
                self.assertAlmostEqual(a, b, delta=2e-4)

    def test_a_model_without_a_head_has_embeddings(self):
        ours, whole = (self.client.embeddings.create(model=m, input="Hi there").data[0].embedding
                       for m in ("headless", "llama2"))
        self.assertEqual(ours, whole)
        with self.assertRaises(openai.BadRequestError) as caught:
            self.client.completions.create(model="headless", prompt="Hi there")
        self.assertIn("no output matrix", str(caught.exception))

    def test_texts_end_as_the_tokenizer_has_it(self):
        model = "Tiny-1.5B-Tuned"

        def embed(inputs, **more):
            (data,) = self.client.embeddings.create(
                model=model, input=inputs, extra_body=more).data
            return data.embedding

        ids = folders.encode("Hi there")
        self.assertEqual(embed("Hi there"), embed([*ids, 2]))
        self.assertEqual(embed("Hi there", add_special_tokens=False), embed(ids))
        # However short, it ends.
        self.assertEqual(embed("Hi there", truncate_prompt_tokens=3), embed([*ids[:2], 2]))
        self.assertEqual(embed("Hi there", truncate_prompt_tokens=3, truncation_side="left"),
                         embed([*ids[-2:], 2]))

    def test_sampling_is_the_models_where_the_request_does_not_say(self):
        model = "Tiny-1.5B-Tuned"

        def complete(**options):
            return self.client.completions.create(model=model, prompt="Hello", **options)

        usual = complete(seed=1)
        self.assertEqual(usual.usage.completion_tokens, 7)
        self.assertEqual(usual.choices[0].text, complete(seed=2).choices[0].text)
        said = complete(temperature=0, max_tokens=7, extra_body={"repetition_penalty": 1.3})
        self.assertEqual(usual.choices[0].text, said.choices[0].text)
        # What the request says goes first.
        texts = {complete(temperature=2, max_tokens=30, seed=s).choices[0].text for s in range(4)}
        self.assertEqual(len(texts), 4)
        self.assertEqual(complete(max_tokens=30).usage.completion_tokens, 30)
        reply = self.client.responses.create(model=model, input="Hello")
        self.assertEqual((reply.temperature, reply.top_p), (0, 1))
        other = self.client.responses.create(model="llama2", input="Hello", max_output_tokens=2)
        self.assertEqual((other.temperature, other.top_p), (1, 1))


def without(name):
    return lambda folder: (folder / name).unlink()


def with_config(**changes):
    def change(folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return change


def cut(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-100])


def broken(name):
    return lambda folder: (folder / name).write_text("{nope")


# What is done to a good folder, and what one line must say. `checked`: so does `tandem check`.
MISTAKES = [
    ("no config", without("config.json"), "config.json': No such file", True),
    ("no weights", without("model.safetensors"), "neither model.safetensors nor", True),
    ("no tokenizer", without("tokenizer.json"), "no-tokenizer/tokenizer.json: ", True),
    ("weights cut off", cut, "model.safetensors: tensor 'model.norm.weight' lies at", True),
    ("config is no JSON", broken("config.json"), "config.json: not JSON", True),
    ("tokenizer is no JSON", broken("tokenizer.json"), "tokenizer.json", False),
    ("generation_config is no JSON", broken("generation_config.json"), "generation_config.json",
     False),
    ("another family", with_config(model_type="mamba"), 'model_type "mamba" is not supported',
     False),
    ("another shape", with_config(hidden_size=64), "has shape [96, 32], expected [96, 64]", False),
]


class Mistakes(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="tandem-folders-"))
        self.addCleanup(shutil.rmtree, self.dir)

    def write(self, model):
        file = self.dir / "cluster.yaml"
        file.write_text(f"""model: {{name: m, path: {model}}}
groups: [{{name: g0, {SETTINGS}}}]
router: {{listen: "127.0.0.1:{free_port()}"}}
links: {{routers: ["tcp://127.0.0.1:{free_port()}"], runtime_dir: {self.dir}/run}}
""")
        return file

    def tandem(self, command, file):
        run = subprocess.run([BIN / "tandem", command, file], capture_output=True, text=True,
                             timeout=60 * SLOW)
        return run.returncode, run.stdout + run.stderr

    def test_a_good_folder_is_valid(self):
        code, said = self.tandem("check", self.write(folders.make(self.dir / "good", "llama2")))
        self.assertEqual(code, 0, said)

    def test_what_cannot_be_served_says_why(self):
        for name, change, expected, checked in MISTAKES:
            with self.subTest(name):
                folder = folders.make(self.dir / name.replace(" ", "-"), "llama2")
                change(folder)
                file = self.write(folder)
                for command in ["check"] * checked + ["up"]:
                    code, said = self.tandem(command, file)
                    self.assertEqual(code, 2, (command, said))
                    lines = [line for line in said.splitlines() if expected in line]
                    self.assertTrue(lines, (command, said))
                    if command == "check":
                        self.assertEqual(said.count("\n"), 1, said)


if __name__ == "__main__":
    unittest.main(verbosity=2)
