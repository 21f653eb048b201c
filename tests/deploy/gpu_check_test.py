"""deploy/gpu_check.sh as far as it goes without a GPU: all of it on the emulation, with programs that
are built already; and how it ends when something is wrong."""
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "gpu_check.sh"
SECTION = re.compile(r"^## (.+): (passed|FAILED \(\d+\)), \d+ s$")


def has_driver():
    return bool(shutil.which("nvidia-smi")) and subprocess.run(
        ["nvidia-smi"], stdout=subprocess.DEVNULL).returncode == 0


def run(*arguments, script=SCRIPT, **environment):
    environment = {**os.environ, "TANDEM_EMULATION": "", "CUDA_VISIBLE_DEVICES": "", **environment}
    return subprocess.run([script, *arguments], capture_output=True, text=True, timeout=500,
                          env=environment)


def sections(report):
    """{title: (verdict, text)}"""
    found = {}
    for line in report.read_text().splitlines():
        match = SECTION.match(line)
        if match:
            title = match[1]
            found[title] = (match[2], "")
        elif found:
            found[title] = (found[title][0], found[title][1] + line + "\n")
    return found


class GpuCheck(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="tandem-gpu-check-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.report = self.folder / "reports" / "report.md"

    def check(self, *arguments, **environment):
        ended = run("--built", "--seconds", "1", "--report", self.report, *arguments, **environment)
        print(ended.stdout, ended.stderr)
        return ended, sections(self.report)

    def test_on_the_emulation_every_part_passes(self):
        ended, found = self.check("--emulated")
        self.assertEqual(ended.returncode, 0, self.report.read_text())
        self.assertIn("all passed", ended.stdout)
        self.assertIn("on the emulation: times mean nothing", self.report.read_text())
        self.assertEqual({verdict for verdict, _ in found.values()}, {"passed"})
        group = "group g0 is complete"
        says = {
            "machine": ["Linux"],
            "build": ["as they are: tandem "],
            "golden comparison": ["bf16: mean KL to the reference", "f16: mean KL to the reference",
                                  "[  PASSED  ] 1 test"],
            "kernels": ["compute capability", "device copy", "attention, ", "embed, ",
                        "RoPE and K, V written, ", "SiLU-mul, ", "Q4_0, ", "Q4_1, ", "Q8_0, ",
                        "add + RMSNorm, ", "sample, ", "beside cuBLASLt"],
            "load, one GPU": ["tokens/s", group],
            "load, all 2 GPUs, random weights": ["tokens/s", group, "go over peer memory"],
        }
        self.assertEqual(list(found), list(says))
        for title, texts in says.items():
            for text in texts:
                self.assertIn(text, found[title][1], title)

    def test_a_part_that_fails_keeps_the_report(self):
        ended, found = self.check("--emulated", TANDEM_EMULATION="driver=0")
        self.assertEqual(ended.returncode, 1)
        self.assertEqual([found.pop(title)[0] for title in ("machine", "build")], ["passed"] * 2)
        self.assertEqual(list(found), ["golden comparison", "kernels", "load, one GPU",
                                       "load, all 2 GPUs, random weights"])
        for title, (verdict, text) in found.items():
            self.assertTrue(verdict.startswith("FAILED"), title)
            self.assertIn("no NVIDIA driver on this machine", text, title)
            self.assertIn(title, ended.stderr)
        self.assertIn(str(self.report), ended.stderr)

    @unittest.skipIf(has_driver(), "this machine has a GPU")
    def test_what_ships_on_two_gpus_that_do_not_work(self):
        smi = self.folder / "nvidia-smi"
        smi.write_text('#!/bin/sh\n[ "$1" != --list-gpus ] || printf "GPU 0: A\\n  MIG 1g: B\\nGPU 1: C\\n"\n')
        smi.chmod(0o755)
        ended, found = self.check(PATH=f"{self.folder}:{os.environ['PATH']}")
        self.assertEqual(ended.returncode, 1)
        self.assertEqual(
            [(title, verdict.split()[0]) for title, (verdict, _) in found.items()],
            [("machine", "passed"), ("build", "passed"), ("kernel tests", "FAILED"),
             ("sanitizer", "passed" if not shutil.which("compute-sanitizer") else "FAILED"),
             ("golden comparison", "FAILED"), ("kernels", "FAILED"), ("load, one GPU", "FAILED"),
             ("load, all 2 GPUs, random weights", "FAILED")])

    def test_without_programs_nothing_is_checked(self):
        script = self.folder / "deploy" / "gpu_check.sh"
        script.parent.mkdir()
        shutil.copy(SCRIPT, script)
        for option in ("--built", "--emulated"):  # the other one: cmake finds no project
            ended = run("--emulated", option, "--report", self.report, script=script)
            self.assertEqual(ended.returncode, 1, option)
            self.assertIn("the build failed", ended.stderr)
            found = sections(self.report)
            self.assertEqual(list(found), ["machine", "build"])
            self.assertEqual(found["build"][0], "FAILED (1)")
        self.assertEqual(list(self.report.parent.iterdir()), [self.report])

    @unittest.skipIf(has_driver(), "this machine has a GPU")
    def test_without_a_gpu_an_older_report_stays(self):
        self.report.parent.mkdir()
        self.report.write_text("older")
        ended = run("--built", "--report", self.report)
        self.assertEqual(ended.returncode, 3, ended.stderr)
        self.assertIn("--emulated", ended.stderr)
        self.assertEqual(self.report.read_text(), "older")

    def test_mistakes_are_named(self):
        for arguments, said in ((["--emulate"], "unknown option '--emulate'"),
                                (["--report"], "--report needs a file"),
                                (["--seconds", "0"], "--seconds '0'"),
                                (["--seconds", "2m"], "--seconds '2m'"),
                                (["--seconds"], "--seconds needs a number")):
            with self.subTest(arguments=arguments):
                ended = run(*arguments)
                self.assertEqual(ended.returncode, 2, ended.stderr)
                self.assertEqual(len(ended.stderr.splitlines()), 1)
                self.assertIn(said, ended.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
