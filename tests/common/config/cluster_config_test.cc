#include "common/config/cluster_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace tandem::config {
namespace {

using testing::HasSubstr;

constexpr char kEverything[] = R"(
model: {name: m, path: models/m.gguf, max_context: 2048, pooling: mean}
groups:
  - name: big
    tp: 3
    threads: 2
    device: cpu
    kv_memory: 1GiB
    block_size: 32
    max_step_tokens: 512
    max_seqs: 8
    activation_dtype: f32
    kv_cache_dtype: f32
    instruction_set: avx2
    min_watchdog: 250ms
  - {name: small}
router:
  listen: "[::1]:0"
  api_keys_file: keys.txt
  text_threads: 3
  policy: prefix
  session_header: X-Session
  record_trace: traces/t.jsonl
  admission:
    max_group_backlog: 3s
    max_queued: 7
    ttft_deadline: 1500ms
    highest_priority: normal
  limits:
    max_connections: 1
    max_queued_requests: 2
    max_header: 3KiB
    max_body: 4KiB
    max_stream_buffer: 5KiB
    header_timeout: 6s
    body_timeout: 7s
    idle_timeout: 8s
    slow_reader_timeout: 9s
    drain_timeout: 10s
links:
  routers: ["tcp://127.0.0.1:8100", "tcp://127.0.0.1:8101"]
  runtime_dir: run
log: {level: debug, format: json}
)";

class Folder : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/tandem-config-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    path_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(path_); }

  std::string Write(const std::string& name, const std::string& text) const {
    std::ofstream(path_ / name) << text;
    return path_ / name;
  }

  std::filesystem::path path_;
};

TEST(ClusterConfig, EveryKeyReachesItsField) {
  const auto c = Parse(kEverything, "/etc/tandem/c.yaml");
  ASSERT_TRUE(c.ok()) << Message(c.status());
  EXPECT_EQ(c->file, "/etc/tandem/c.yaml");
  EXPECT_EQ(c->models[0].name, "m");
  EXPECT_EQ(c->models[0].path, "/etc/tandem/models/m.gguf");
  EXPECT_EQ(c->models[0].max_context, 2048);
  EXPECT_EQ(c->models[0].pooling, "mean");
  ASSERT_EQ(c->groups.size(), 2u);
  const Group* big = c->FindGroup("big");
  ASSERT_NE(big, nullptr);
  EXPECT_EQ(big->tp, 3);
  EXPECT_EQ(big->threads, 2);
  EXPECT_EQ(big->kv_memory_bytes, 1 << 30);
  EXPECT_EQ(big->block_size, 32);
  EXPECT_EQ(big->max_step_tokens, 512);
  EXPECT_EQ(big->max_seqs, 8);
  EXPECT_EQ(big->activation_dtype, "f32");
  EXPECT_EQ(big->kv_cache_dtype, "f32");
  EXPECT_EQ(big->instruction_set, "avx2");
  EXPECT_EQ(big->min_watchdog, 250 * kMillisecond);
  EXPECT_EQ(c->FindGroup("none"), nullptr);
  EXPECT_EQ(c->router.listen_host, "::1");
  EXPECT_EQ(c->router.listen_port, 0);
  EXPECT_EQ(c->router.api_keys_file, "/etc/tandem/keys.txt");
  EXPECT_EQ(c->router.text_threads, 3);
  EXPECT_EQ(c->router.policy, "prefix");
  EXPECT_EQ(c->router.session_header, "X-Session");
  EXPECT_EQ(c->router.record_trace, "/etc/tandem/traces/t.jsonl");
  const Admission& admission = c->router.admission;
  EXPECT_EQ(admission.max_group_backlog, 3 * kSecond);
  EXPECT_EQ(admission.max_queued, 7);
  EXPECT_EQ(admission.ttft_deadline, 1500 * kMillisecond);
  EXPECT_EQ(admission.highest_priority, "normal");
  const RouterLimits& limits = c->router.limits;
  EXPECT_EQ(limits.max_connections, 1);
  EXPECT_EQ(limits.max_queued_requests, 2);
  EXPECT_EQ(limits.max_header_bytes, 3 << 10);
  EXPECT_EQ(limits.max_body_bytes, 4 << 10);
  EXPECT_EQ(limits.max_stream_buffer_bytes, 5 << 10);
  EXPECT_EQ(limits.header_timeout, 6 * kSecond);
  EXPECT_EQ(limits.body_timeout, 7 * kSecond);
  EXPECT_EQ(limits.idle_timeout, 8 * kSecond);
  EXPECT_EQ(limits.slow_reader_timeout, 9 * kSecond);
  EXPECT_EQ(limits.drain_timeout, 10 * kSecond);
  EXPECT_EQ(c->links.routers.size(), 2u);
  EXPECT_EQ(c->links.runtime_dir, "/etc/tandem/run");
  EXPECT_EQ(c->log.level, "debug");
  EXPECT_EQ(c->log.format, "json");
}

TEST(ClusterConfig, WhatIsLeftOutHasItsDefault) {
  const auto c = Parse("model: {path: /m/some.model.gguf}\ngroups: [{name: g}]\n", "c.yaml");
  ASSERT_TRUE(c.ok()) << Message(c.status());
  EXPECT_EQ(c->models[0].name, "some.model");
  EXPECT_EQ(c->groups[0].tp, 1);
  EXPECT_EQ(c->groups[0].kv_memory_bytes, 256 << 20);
  EXPECT_EQ(c->groups[0].max_step_tokens, 256);
  EXPECT_EQ(c->router.listen_port, 8000);
  EXPECT_TRUE(c->router.api_keys_file.empty());
  EXPECT_EQ(c->links.routers, std::vector<std::string>{"tcp://127.0.0.1:8100"});
}

constexpr char kTwoModels[] = R"(
models:
  - {name: large, path: l.gguf, max_context: 100}
  - {path: models/small.gguf}
groups:
  - {name: g0, model: large}
  - {name: g1, model: small}
aliases:
  - {name: plain, model: small}
  - name: auto
    choices:
      - {model: large, max_prompt_tokens: 50, max_ttft: 2s, share: 30}
      - {model: small}
)";

TEST(ClusterConfig, SeveralModelsAndAliases) {
  const auto c = Parse(kTwoModels, "/c.yaml");
  ASSERT_TRUE(c.ok()) << Message(c.status());
  ASSERT_EQ(c->models.size(), 2u);
  EXPECT_EQ(c->models[1].name, "small");
  EXPECT_EQ(c->models[1].path, "/models/small.gguf");
  EXPECT_EQ(c->ModelOf(c->groups[0]).name, "large");
  EXPECT_EQ(c->ModelOf(c->groups[1]).name, "small");
  EXPECT_EQ(c->FindModel("none"), nullptr);
  ASSERT_EQ(c->aliases.size(), 2u);
  ASSERT_EQ(c->aliases[0].choices.size(), 1u);
  EXPECT_EQ(c->aliases[0].choices[0].model, "small");
  EXPECT_EQ(c->aliases[0].choices[0].share, 100);
  ASSERT_EQ(c->aliases[1].choices.size(), 2u);
  const AliasChoice& first = c->aliases[1].choices[0];
  EXPECT_EQ(first.model, "large");
  EXPECT_EQ(first.max_prompt_tokens, 50);
  EXPECT_EQ(first.max_ttft, 2 * kSecond);
  EXPECT_EQ(first.share, 30);
  EXPECT_EQ(c->aliases[1].choices[1].model, "small");
}

TEST(ClusterConfig, AListOfOneModelIsTheShortForm) {
  const auto list = Parse("models: [{path: a.gguf}]\ngroups: [{name: g}]\n", "/c.yaml");
  const auto single = Parse("model: {path: a.gguf}\ngroups: [{name: g}]\n", "/c.yaml");
  ASSERT_TRUE(list.ok() && single.ok());
  for (const auto* c : {&*list, &*single}) {
    ASSERT_EQ(c->models.size(), 1u);
    EXPECT_EQ(c->models[0].name, "a");
    EXPECT_EQ(c->groups[0].model, "a");
  }
  const auto given = Parse("models: [{path: a.gguf}]\ngroups: [{name: g}]\n", "/c.yaml",
                           {.model_path = "/b.gguf"});
  ASSERT_TRUE(given.ok()) << Message(given.status());
  EXPECT_EQ(given->ModelOf(given->groups[0]).path, "/b.gguf");
}

TEST(ClusterConfig, SaysWhatNeedsARestart) {
  const auto before = Parse(kTwoModels, "/c.yaml");
  ASSERT_TRUE(before.ok());
  EXPECT_TRUE(NeedRestart(*before, *before).empty());
  config::Cluster after = *before;
  after.aliases.clear();
  after.router.policy = "prefix";
  after.router.limits.max_body_bytes = 1 << 20;
  after.router.admission.max_queued = 1;
  after.router.api_keys_file = "/keys";
  EXPECT_TRUE(NeedRestart(*before, after).empty());
  after.router.listen_port = 1;
  after.router.record_trace = "/t";
  after.links.routers = {"tcp://a:1"};
  after.log.level = "debug";
  after.models.pop_back();
  EXPECT_EQ(NeedRestart(*before, after),
            (std::vector<std::string>{"models", "router.listen", "router.record_trace",
                                      "links.routers", "log.level"}));
}

TEST(ClusterConfig, OverridesGoBeforeTheFile) {
  const char* yaml = "model: {path: a.gguf}\ngroups: [{name: g}]\nrouter: {listen: 0.0.0.0:80}\n";
  const auto c = Parse(yaml, "c.yaml", {.model_path = "/b/other.gguf", .listen_port = 0});
  ASSERT_TRUE(c.ok());
  EXPECT_EQ(c->models[0].path, "/b/other.gguf");
  EXPECT_EQ(c->models[0].name, "other");
  EXPECT_EQ(c->router.listen_host, "0.0.0.0");
  EXPECT_EQ(c->router.listen_port, 0);
  EXPECT_TRUE(Parse("groups: [{name: g}]\n", "c.yaml", {.model_path = "/b/other.gguf"}).ok());
}

TEST_F(Folder, FilesThatAreNamedMustExist) {
  const std::string file =
      Write("c.yaml", "model: {path: no.gguf}\ngroups: [{name: g}]\nrouter: {api_keys_file: .}\n");
  const auto c = Load(file);
  ASSERT_FALSE(c.ok());
  EXPECT_EQ(Message(c.status()),
            fmt::format("{0}:1:15: 'model.path': '{1}/no.gguf': No such file or directory; give "
                        "the path of a file\n"
                        "{0}:3:25: 'router.api_keys_file': '{1}/' is not a file; give the path of "
                        "one",
                        file, path_.string()));
}

TEST_F(Folder, PathsStartAtTheClusterFile) {
  const std::string file = Write("c.yaml", "model: {path: ./m.gguf}\ngroups: [{name: g}]\n");
  const std::string model = Write("m.gguf", "x");
  const auto c = Load(file);
  ASSERT_TRUE(c.ok()) << Message(c.status());
  EXPECT_EQ(c->models[0].path, model);
}

TEST_F(Folder, AModelMayBeAFolder) {
  const std::string file = Write("c.yaml", "model: {path: hf}\ngroups: [{name: g}]\n");
  std::filesystem::create_directory(path_ / "hf");
  EXPECT_THAT(std::string(Message(Load(file).status())),
              HasSubstr("hf/config.json': No such file or directory"));
  Write("hf/config.json", "{}");
  EXPECT_TRUE(Load(file).ok());
}

TEST_F(Folder, TheModelOfTheCommandLineIsCheckedInPlaceOfTheFiles) {
  const std::string file = Write("c.yaml", "model: {path: no.gguf}\ngroups: [{name: g}]\n");
  EXPECT_TRUE(Load(file, {.model_path = Write("m.gguf", "x")}).ok());
  const auto missing = Load(file, {.model_path = "/nowhere/m.gguf"});
  EXPECT_EQ(Message(missing.status()),
            "--model '/nowhere/m.gguf': No such file or directory; give the path of a file");
}

TEST_F(Folder, AFileThatCannotBeReadIsOneLine) {
  EXPECT_EQ(Message(Load("/nowhere/c.yaml").status()),
            "/nowhere/c.yaml:1:1: cannot be read: No such file or directory; give the path of a "
            "cluster file, like configs/quickstart.yaml");
  EXPECT_THAT(std::string(Message(Load(path_).status())),
              HasSubstr(":1:1: cannot be read: Is a directory"));
  EXPECT_THAT(std::string(Message(Load("/dev/zero").status())), HasSubstr("at most 262144"));
}

}  // namespace
}  // namespace tandem::config
