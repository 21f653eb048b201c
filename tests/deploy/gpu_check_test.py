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


def files(folder):
    """What is in it, at any depth."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


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
        self.temporary = self.folder / "tmp"
        self.temporary.mkdir()

    def check(self, *arguments, **environment):
        ended = run("--built", "--seconds", "1", "--report", self.report, *arguments,
                    TMPDIR=str(self.temporary), **environment)
        print(ended.stdout, ended.stderr)
        self.assertEqual(files(self.temporary), [], "was left behind")
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
                        "add + RMSNorm, ", "gather, add + RMSNorm, ", "sample, ",
                        "beside cuBLASLt", "sum over 2 GPUs", "NCCL, 20 rows", "one shot, 20 rows",
                        "two shot, 20 rows", "one kernel with norm, 20 rows",
                        "gather of logits, 3 rows"],
            "load, one GPU": ["tokens/s", group],
            "load, all 2 GPUs, random weights": ["tokens/s", group, "go over peer memory"],
        }
        self.assertEqual(list(found), list(says))
        for title, texts in says.items():
            for text in texts:
                self.assertIn(text, found[title][1], title)

    def expect_failed(self, ended, found, codes):
        """Each of these parts alone, with its exit code and for want of a driver."""
        self.assertEqual(ended.returncode, 1)
        self.assertEqual({title: verdict for title, (verdict, _) in found.items()},
                         {title: f"FAILED ({code})" if code else "passed"
                          for title, code in codes.items()})
        failed = [title for title, code in codes.items() if code]
        self.assertIn(f"failed: {'; '.join(failed)}; see {self.report}\n", ended.stderr)
        for title in failed:
            self.assertRegex(found[title][1],
                             "no NVIDIA driver on this machine|no GPU: CUDA driver", title)

    def test_a_part_that_fails_keeps_the_report(self):
        ended, found = self.check("--emulated", TANDEM_EMULATION="driver=0")
        self.expect_failed(ended, found, {
            "machine": 0, "build": 0, "golden comparison": 134, "kernels": 3, "load, one GPU": 1,
            "load, all 2 GPUs, random weights": 1})

    @unittest.skipIf(has_driver(), "this machine has a GPU")
    def test_what_ships_on_two_gpus_that_do_not_work(self):
        programs = self.folder / "programs"
        programs.mkdir()
        smi = programs / "nvidia-smi"
        smi.write_text('#!/bin/sh\n[ "$1" != --list-gpus ] || printf "GPU 0: A\\n  MIG 1g: B\\nGPU 1: C\\n"\n')
        sanitizer = programs / "compute-sanitizer"
        sanitizer.write_text('#!/bin/sh\necho "no NVIDIA driver on this machine: $2"; exit 9\n')
        for program in (smi, sanitizer):
            program.chmod(0o755)
        ended, found = self.check(PATH=f"{programs}:{os.environ['PATH']}")
        self.expect_failed(ended, found, {
            "machine": 0, "build": 0, "kernel tests": 3, "sanitizer": 9, "golden comparison": 134,
            "kernels": 3, "load, one GPU": 1, "load, all 2 GPUs, random weights": 1})

    def test_without_programs_nothing_is_checked(self):
        script = self.folder / "deploy" / "gpu_check.sh"
        script.parent.mkdir()
        shutil.copy(SCRIPT, script)
        for option in ("--built", "--emulated"):  # the other one: cmake finds no project
            ended = run("--emulated", option, "--report", self.report, script=script,
                        TMPDIR=str(self.temporary))
            self.assertEqual(ended.returncode, 1, option)
            self.assertIn("the build failed", ended.stderr)
            found = sections(self.report)
            self.assertEqual(list(found), ["machine", "build"])
            self.assertEqual(found["build"][0], "FAILED (1)")
        self.assertEqual(files(self.folder), ["deploy/gpu_check.sh", "reports/report.md"])

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
