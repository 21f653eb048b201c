// The command line of `tandem` itself.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <thread>

#include "tests/deploy/up_fixture.h"

namespace tandem::cli {
namespace {

using testing::HasSubstr;

class Command : public UpFixture {
 protected:
  int Run(std::vector<std::string> words) {
    words.insert(words.begin(), TANDEM_COMMAND);
    return RunCommand(words, &text_);
  }
  std::string text_;
};

TEST_F(Command, CheckSaysWhatAValidFileDescribes) {
  std::string model = "GGUF\3";
  model.resize(24);  // no tensors, no keys
  Write("model.gguf", model);
  EXPECT_EQ(Run({"check", Path("cluster.yaml")}), 0);
  EXPECT_THAT(text_, HasSubstr("cluster.yaml: valid"));
  EXPECT_THAT(text_, HasSubstr("g0: model, tp 2, threads auto, cpu"));
  Write("gpus.yaml",
        "model: {path: model.gguf}\ngroups:\n- {name: a, device: cuda, tp: 2}\n"
        "- {name: b, device: cuda, devices: [3]}\n- {name: c, device: cuda, count: 2}\n");
  EXPECT_EQ(Run({"check", Path("gpus.yaml")}), 0);
  EXPECT_THAT(text_, HasSubstr("a: model, tp 2, GPUs 0, 1\n"));
  EXPECT_THAT(text_, HasSubstr("b: model, tp 1, GPU 3\n"));
  EXPECT_THAT(text_, HasSubstr("c-0 to c-1: model, tp 1, a GPU a rank\n"));
}

TEST_F(Command, CheckOpensTheModel) {
  EXPECT_EQ(Run({"check", Path("cluster.yaml"), "--model", Path("cluster.yaml")}), 2);
  EXPECT_THAT(text_, HasSubstr("cluster.yaml: at byte 4: not a GGUF file"));
}

TEST_F(Command, AKeysFileThatTheRouterWouldRefuseIsFound) {
  std::string model = "GGUF\3";
  model.resize(24);
  Write("model.gguf", model);
  Write("keyed.yaml",
        "model: {path: model.gguf}\ngroups: [{name: g0}]\nrouter: {api_keys_file: keys.txt}\n");
  Write("keys.txt", "secret\n");
  EXPECT_EQ(Run({"check", Path("keyed.yaml")}), 0) << text_;
  Write("keys.txt", "# none yet\n");
  const std::string line =
      Path("keys.txt") + ":1: no API key here; add one a line, or leave api_keys_file out\n";
  EXPECT_EQ(Run({"check", Path("keyed.yaml")}), 2);
  EXPECT_EQ(text_, line);
  EXPECT_EQ(Run({"up", Path("keyed.yaml"), "--bin-dir", Path("bin")}), 2);
  EXPECT_EQ(text_, line);
  EXPECT_TRUE(Starts().empty());
}

TEST_F(Command, CheckNamesEveryMistake) {
  Write("bad.yaml", "model: {path: model.gguf}\ngroups: [{name: g, tp: 0, thread: 1}]\n");
  EXPECT_EQ(Run({"check", Path("bad.yaml")}), 2);
  EXPECT_EQ(text_, Path("bad.yaml") +
                       ":2:24: 'groups[0].tp': 0 is out of range; integer, 1 to 64\n" +
                       Path("bad.yaml") +
                       ":2:27: unknown key 'thread' in groups[0]; did you mean 'threads'?\n");
  EXPECT_EQ(Run({"up", Path("bad.yaml")}), 2);
  EXPECT_THAT(text_, HasSubstr("bad.yaml:2:24: "));
}

TEST_F(Command, ModelOfTheCommandLineGoesFirst) {
  EXPECT_EQ(Run({"check", Path("cluster.yaml"), "--model", Path("absent")}), 2);
  EXPECT_THAT(text_, HasSubstr("--model '" + Path("absent") + "': No such file"));
}

TEST_F(Command, WrongUsageIsTheOperatorsMistake) {
  EXPECT_EQ(Run({}), 2);
  EXPECT_EQ(Run({"check"}), 2);
  EXPECT_EQ(Run({"up", Path("cluster.yaml"), "--port", "70000"}), 2);
  EXPECT_EQ(Run({"--nonsense"}), 2);
  EXPECT_EQ(Run({"--help"}), 0);
  EXPECT_THAT(text_, HasSubstr("Exit codes"));
}

TEST_F(Command, DrainNamesWhatIsNotThere) {
  EXPECT_EQ(Run({"drain", Path("cluster.yaml"), "g"}), 2);
  EXPECT_THAT(text_, HasSubstr("cluster.yaml: there is no group 'g'; did you mean 'g0'?"));
  Write("here.yaml",
        "model: {path: model.gguf}\ngroups: [{name: g0}]\nlinks: {runtime_dir: run}\n");
  EXPECT_EQ(Run({"drain", Path("here.yaml"), "g0", "--model", Path("model.gguf")}), 1);
  EXPECT_EQ(text_, "no leader of the group 'g0' runs on this machine (" + Path("run/g0.sock") +
                       ": No such file or directory)\n");
}

TEST_F(Command, DrainTellsTheProcessThatListensAndWaitsForItsEnd) {
  Write("here.yaml",
        "model: {path: model.gguf}\ngroups: [{name: g0}]\nlinks: {runtime_dir: run}\n");
  std::filesystem::create_directory(Path("run"));
  Write("do.g0.0", "listen " + Path("run/g0.sock"));
  std::jthread leader([&] {
    std::string output;
    RunCommand({FAKE_PROCESS, "--group", "g0", "--rank", "0"}, &output);
  });
  ASSERT_TRUE(WaitForEvent("listens g0.0"));
  EXPECT_EQ(Run({"drain", Path("here.yaml"), "g0"}), 0);
  EXPECT_EQ(text_, "group 'g0' has left\n");
  EXPECT_THAT(Events(), testing::Contains("term g0.0"));
}

TEST_F(Command, DrainOfAnEntryWithACountSaysWhatToDrain) {
  Write("profile.yaml",
        "kv_tokens: 4096\nlaunch: 1ms\nweights_read: 1ms\ngemm_per_token: 1us\n"
        "attention_per_pair: 0ns\nkv_read_per_token: 1ns\n");
  Write("many.yaml",
        "model: {path: model.gguf}\nlinks: {runtime_dir: run}\ngroups:\n- {name: g, count: 3}\n"
        "- {name: sim, count: 4, device: sim, profile: profile.yaml}\n");
  EXPECT_EQ(Run({"drain", Path("many.yaml"), "sim-3"}), 2);
  EXPECT_EQ(text_, Path("many.yaml") +
                       ": 'sim-3' is one of 4 groups that one process simulates and does not leave "
                       "alone; drain all of them by the name of their entry, 'sim'\n");
  EXPECT_EQ(Run({"drain", Path("many.yaml"), "g"}), 2);
  EXPECT_EQ(text_,
            Path("many.yaml") + ": 'g' is 3 groups; drain them one by one, 'g-0' to 'g-2'\n");
  EXPECT_EQ(Run({"drain", Path("many.yaml"), "nothing-like-it"}), 2);
  EXPECT_THAT(text_, HasSubstr("there is no group 'nothing-like-it'; it has g-0 to g-2, sim-0 to "
                               "sim-3\n"));
  std::filesystem::create_directory(Path("run"));
  Write("do.g-1.0", "listen " + Path("run/g-1.sock"));
  Write("do.sim.", "listen " + Path("run/sim.sock"));
  std::jthread group([&] {
    std::string ignored;
    RunCommand({FAKE_PROCESS, "--group", "g-1", "--rank", "0"}, &ignored);
  });
  std::jthread entry([&] {
    std::string ignored;
    RunCommand({FAKE_PROCESS, "--group", "sim"}, &ignored);
  });
  ASSERT_TRUE(WaitForEvent("listens g-1.0"));
  ASSERT_TRUE(WaitForEvent("listens sim."));
  EXPECT_EQ(Run({"drain", Path("many.yaml"), "g-1"}), 0);
  EXPECT_EQ(text_, "group 'g-1' has left\n");
  EXPECT_EQ(Run({"drain", Path("many.yaml"), "sim"}), 0);
  EXPECT_EQ(text_, "all groups of 'sim' have left\n");
  EXPECT_THAT(Events(), testing::IsSupersetOf({"term g-1.0", "term sim."}));
}

TEST_F(Command, OtherWordsAreProgramsBesideIt) {
  const std::string tandem = Path("bin/tandem");
  std::filesystem::copy_file(TANDEM_COMMAND, tandem);
  std::filesystem::create_symlink("/bin/echo", Path("bin/tandem-bench-echo"));
  Write("do.router", "exit 7");
  EXPECT_EQ(RunCommand({tandem, "router", "--help", "x"}, &text_), 7);
  EXPECT_EQ(Starts("router")[0].arguments, " --help x");
  EXPECT_EQ(RunCommand({tandem, "bench", "echo", "a", "--b"}, &text_), 0);
  EXPECT_EQ(text_, "a --b\n");
  EXPECT_EQ(RunCommand({tandem, "simulate"}, &text_), 2);
  EXPECT_THAT(text_, HasSubstr("there is no program " + Path("bin/tandem-simulate")));
  EXPECT_THAT(text_, HasSubstr("cmake --build --preset release --target tandem-simulate"));
}

TEST_F(Command, AWordThatIsNoCommandIsToldTheNearest) {
  EXPECT_EQ(Run({"chck", "cluster.yaml"}), 2);
  EXPECT_EQ(text_,
            "tandem: there is no command 'chck'; did you mean 'check'? the commands are check, up, "
            "drain, keys, router, worker, bench, simulate (tandem --help)\n");
  EXPECT_EQ(Run({"--help"}), 0);
  EXPECT_THAT(text_, HasSubstr("simulate  Recorded traffic"));
}

}  // namespace
}  // namespace tandem::cli
