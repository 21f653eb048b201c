// One row for each mistake a cluster file can have: the text, and the line that names it.
#include "common/config/reader.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/config/cluster_config.h"

namespace tandem::config {
namespace {

struct Mistake {
  std::string yaml;
  std::string message;
};

std::string MessageOf(const std::string& yaml) {
  const auto cluster = Parse(yaml, "c.yaml");
  EXPECT_FALSE(cluster.ok()) << yaml;
  EXPECT_EQ(cluster.status().code(), StatusCode::kInvalidArgument);
  return std::string(Message(cluster.status()));
}

std::string InGroup(const std::string& entry) {
  return "model: {path: m}\ngroups:\n  - name: g\n    " + entry + "\n";
}
std::string InRouter(const std::string& entry) {
  return "model: {path: m}\ngroups: [{name: g}]\nrouter:\n  " + entry + "\n";
}
std::string InLimits(const std::string& entry) {
  return "model: {path: m}\ngroups: [{name: g}]\nrouter:\n  limits: {" + entry + "}\n";
}
std::string InLinks(const std::string& entry) {
  return "model: {path: m}\ngroups: [{name: g}]\nlinks:\n  " + entry + "\n";
}

void ExpectAll(const std::vector<Mistake>& mistakes) {
  for (const Mistake& mistake : mistakes) EXPECT_EQ(MessageOf(mistake.yaml), mistake.message);
}

TEST(Reader, NamesWhatTheFileLacks) {
  const std::string empty =
      "c.yaml:1:1: the file is empty; a cluster file has at least 'models' and 'groups'";
  ExpectAll({
      {"", empty},
      {"# nothing\n", empty},
      {"groups: [{name: g}]\n",
       "c.yaml:1:1: 'models' is missing; a list of entries that begin with '- path: ...'"},
      {"model: {path: m}\n",
       "c.yaml:1:1: 'groups' is missing; a list of entries that begin with '- name: ...'"},
      {"model: {name: x}\ngroups: [{name: g}]\n",
       "c.yaml:1:8: 'model.path' is missing; path of a file"},
      {"model: {path: m}\ngroups: [{tp: 2}]\n", "c.yaml:2:10: 'groups[0].name' is missing; name"},
  });
}

TEST(Reader, NamesWrongShapes) {
  ExpectAll({
      {"- a\n",
       "c.yaml:1:1: the file is a list; a map with the keys models, model, groups, aliases, "
       "router, links, log"},
      {"just words\n",
       "c.yaml:1:1: the file is a single value; a map with the keys models, model, groups, "
       "aliases, router, links, log"},
      {"model: m\ngroups: [{name: g}]\n",
       "c.yaml:1:8: 'model' is a single value; a map with the keys name, path, max_context, "
       "pooling"},
      {"model: {path: m}\ngroups: {name: g}\n",
       "c.yaml:2:9: 'groups' is a map of keys; a list of entries that begin with "
       "'- name: ...'"},
      {"model: {path: m}\ngroups: []\n",
       "c.yaml:2:9: 'groups' is an empty list; a list of entries that begin with "
       "'- name: ...'"},
      {"model: {path: m}\ngroups: [{name: g}]\n[a]: b\n",
       "c.yaml:3:1: a key that is a list; one of models, model, groups, aliases, "
       "router, links, log"},
      {InGroup("tp: [2]"), "c.yaml:4:9: 'groups[0].tp' is a list; integer, 1 to 64"},
      {InGroup("tp:"), "c.yaml:4:5: 'groups[0].tp' is nothing; integer, 1 to 64"},
      {InGroup("device: ''"), "c.yaml:4:13: 'groups[0].device' is empty; cpu or cuda or sim"},
      {InLinks("routers: tcp://127.0.0.1:8100"),
       "c.yaml:4:12: 'links.routers' is a single value; a list of 1 to 64 endpoints like "
       "tcp://192.168.1.5:8100"},
      {InLinks("routers: []"),
       "c.yaml:4:12: 'links.routers' is a list of 0; a list of 1 to 64 endpoints like "
       "tcp://192.168.1.5:8100"},
  });
}

TEST(Reader, NamesUnknownAndRepeatedKeys) {
  ExpectAll({
      {InGroup("thread: 2"),
       "c.yaml:4:5: unknown key 'thread' in groups[0]; did you mean 'threads'?"},
      {InRouter("limit: {}"), "c.yaml:4:3: unknown key 'limit' in router; did you mean 'limits'?"},
      {"model: {path: m}\ngroup: [{name: g}]\ngroups: [{name: g}]\n",
       "c.yaml:2:1: unknown key 'group' at the top; did you mean 'groups'?"},
      {InLinks("temperature: 1"),
       "c.yaml:4:3: unknown key 'temperature' in links; known are routers, runtime_dir"},
      {InGroup("tp: 2\n    tp: 3"),
       "c.yaml:5:5: 'groups[0].tp' stands here a second time; keep one"},
      {"model: {path: m}\ngroups: [{name: g}]\nmodel: {path: n}\n",
       "c.yaml:3:1: 'model' stands here a second time; keep one"},
  });
}

TEST(Reader, NamesValuesOutOfRange) {
  ExpectAll({
      {InGroup("tp: 0"), "c.yaml:4:9: 'groups[0].tp': 0 is out of range; integer, 1 to 64"},
      {InGroup("tp: two"),
       "c.yaml:4:9: 'groups[0].tp': 'two' is not a whole number; integer, 1 to 64"},
      {InGroup("threads: 0"),
       "c.yaml:4:14: 'groups[0].threads': 0 is out of range; auto or integer, 1 to 256"},
      {InGroup("block_size: 24"),
       "c.yaml:4:17: 'groups[0].block_size': 24 does not fit; multiple of 16, 16 to 256"},
      {InGroup("kv_memory: 256"),
       "c.yaml:4:16: 'groups[0].kv_memory': '256' has no unit; a whole number of B, KiB, MiB, GiB "
       "or TiB"},
      {InGroup("kv_memory: 1KiB"),
       "c.yaml:4:16: 'groups[0].kv_memory': 1KiB is out of range; auto or size, 1MiB to 16TiB"},
      {InGroup("min_watchdog: 5"),
       "c.yaml:4:19: 'groups[0].min_watchdog': '5' has no unit; a whole number of ms, s, m or h"},
      {InGroup("min_watchdog: 1ms"),
       "c.yaml:4:19: 'groups[0].min_watchdog': 1ms is out of range; duration, 100ms to 1h"},
      {InGroup("max_seqs: 300"),
       "c.yaml:4:15: 'groups[0].max_seqs' is 300 but a step has 256 tokens; max_seqs at most 256, "
       "because each running sequence takes one token of every step"},
      {InGroup("max_step_tokens: 32"),
       "c.yaml:4:22: 'groups[0].max_seqs' is 64 but a step has 32 tokens; max_seqs at most 32, "
       "because each running sequence takes one token of every step"},
      {InLimits("max_connections: 0"),
       "c.yaml:4:29: 'router.limits.max_connections': 0 is out of range; integer, 1 to 1000000"},
  });
}

TEST(Reader, NamesWhatIsNotSupported) {
  ExpectAll({
      {InGroup("device: rocm"),
       "c.yaml:4:13: 'groups[0].device': 'rocm' is not supported; cpu or cuda or sim"},
      {InGroup("activation_dtype: int4"),
       "c.yaml:4:23: 'groups[0].activation_dtype': 'int4' is unknown; did you mean 'int8'?"},
      {InGroup("instruction_set: neon"),
       "c.yaml:4:22: 'groups[0].instruction_set': 'neon' is not supported; auto or "
       "avx512_bf16 or avx512 or avx_vnni or avx2 or reference"},
  });
}

TEST(Reader, NamesWrongPlaces) {
  ExpectAll({
      {InRouter("listen: 8000"),
       "c.yaml:4:11: 'router.listen': '8000' has no port; like 127.0.0.1:8000, 0.0.0.0:8000 or "
       "\"[::1]:8000\""},
      {InRouter("listen: 127.0.0.1:70000"),
       "c.yaml:4:11: 'router.listen': '127.0.0.1:70000' has the port '70000'; 1 to 65535, or 0 for "
       "any that is free"},
      {InLinks("routers: [127.0.0.1:8100]"),
       "c.yaml:4:13: 'links.routers[0]': '127.0.0.1:8100' is no endpoint; like "
       "tcp://192.168.1.5:8100"},
      {InLinks("routers: [tcp://a:1, 'tcp://127.0.0.1:*']"),
       "c.yaml:4:24: 'links.routers[1]': 'tcp://127.0.0.1:*' has the port '*'; 1 to 65535, because "
       "workers dial it"},
      {InLinks("routers: [tcp://a:1, tcp://a:1]"),
       "c.yaml:4:24: 'links.routers[1]': 'tcp://a:1' stands in the list twice; an endpoint for "
       "each router"},
      {InLinks("runtime_dir: /" + std::string(60, 'x')),
       "c.yaml:4:16: 'links.runtime_dir': '/" + std::string(60, 'x') +
           "' has 61 characters; at most 60, because it becomes part of the path of a socket"},
  });
}

TEST(Reader, NamesGroupsThatShareAName) {
  ExpectAll({
      {"model: {path: m}\ngroups:\n  - name: g\n  - name: g\n",
       "c.yaml:4:11: 'groups[1].name' is 'g', as another group's; a name of its own"},
      {InGroup("tp: 1\n  - name: a/b"),
       "c.yaml:5:11: 'groups[1].name': 'a/b' cannot be a name; up to 32 letters, digits, '.', '_' "
       "and '-', the first a letter or digit"},
  });
}

TEST(Reader, NamesModelsThatDoNotFit) {
  const std::string two = "models: [{name: big, path: m}, {name: small, path: n}]\n";
  ExpectAll({
      {"model: {path: m}\nmodels: [{path: m}]\ngroups: [{name: g}]\n",
       "c.yaml:1:8: 'model' and 'models' are both here; 'model' is short for a list of one, so "
       "keep "
       "'models'"},
      {"models: [{path: a/m.gguf}, {path: b/m.gguf}]\ngroups: [{name: g, model: m}]\n",
       "c.yaml:1:35: 'models[1].name' is 'm', as another model's; a name of its own"},
      {"models: [{path: m}, {name: x}]\ngroups: [{name: g, model: m}]\n",
       "c.yaml:1:21: 'models[1].path' is missing; path of a file"},
      {two + "groups: [{name: g}]\n",
       "c.yaml:2:10: 'groups[0].model' is missing, and there are several; one of big, small"},
      {two + "groups: [{name: g, model: smal}]\n",
       "c.yaml:2:27: 'groups[0].model': there is no model 'smal'; did you mean 'small'?"},
      {two + "groups: [{name: g, model: llama-70b}]\n",
       "c.yaml:2:27: 'groups[0].model': there is no model 'llama-70b'; known are big, small"},
  });
  EXPECT_EQ(
      Message(Parse(two + "groups: [{name: g, model: big}]\n", "c.yaml", {.model_path = "/o.gguf"})
                  .status()),
      "c.yaml:1:9: 'models' has 2 entries, and --model stands for a single one; leave it "
      "out");
}

TEST(Reader, NamesAliasesThatDoNotFit) {
  const auto with = [](const std::string& alias) {
    return "models: [{name: big, path: m}, {name: small, path: n}]\n"
           "groups: [{name: g, model: big}]\naliases:\n  - " +
           alias + "\n";
  };
  ExpectAll({
      {with("{model: big}"), "c.yaml:4:5: 'aliases[0].name' is missing; text"},
      {with("{name: a}"),
       "c.yaml:4:5: 'aliases[0]' has neither 'model' nor 'choices'; one of them says what it "
       "stands "
       "for"},
      {with("{name: a, model: big, choices: [{model: big}]}"),
       "c.yaml:4:5: 'aliases[0]' has both 'model' and 'choices'; one of them says what it stands "
       "for"},
      {with("{name: big, model: small}"),
       "c.yaml:4:12: 'aliases[0].name' is 'big', as a model's; a name of its own"},
      {with("{name: a, model: big}\n  - {name: a, model: big}"),
       "c.yaml:5:12: 'aliases[1].name' is 'a', as another alias's; a name of its own"},
      {with("{name: a, model: bigg}"),
       "c.yaml:4:22: 'aliases[0].model': there is no model 'bigg'; did you mean 'big'?"},
      {with("{name: a, choices: [{model: big, share: 5}, {model: smal}]}"),
       "c.yaml:4:57: 'aliases[0].choices[1].model': there is no model 'smal'; did you mean "
       "'small'?"},
      {with("{name: a, choices: [{model: big, share: 0}, {model: small}]}"),
       "c.yaml:4:45: 'aliases[0].choices[0].share': 0 is out of range; integer, 1 to 100"},
      {with("{name: a, choices: [{model: big, shared: 5}, {model: small}]}"),
       "c.yaml:4:38: unknown key 'shared' in aliases[0].choices[0]; did you mean 'share'?"},
      {with("{name: a, choices: [{share: 5}, {model: small}]}"),
       "c.yaml:4:25: 'aliases[0].choices[0].model' is missing; text"},
      {with("{name: a, choices: []}"),
       "c.yaml:4:24: 'aliases[0].choices' is an empty list; a list of entries that begin with '- "
       "model: ...'"},
      {with("{name: a, choices: [{model: big}, {model: small, max_ttft: 2s}]}"),
       "c.yaml:4:39: 'aliases[0].choices[1]' is the last, which takes what is left; only its "
       "model"},
      {InRouter("policy: tft"),
       "c.yaml:4:11: 'router.policy': 'tft' is unknown; did you mean "
       "'ttft'?"},
      {InRouter("session_header: 'a b'"),
       "c.yaml:4:19: 'router.session_header': 'a b' cannot be the name of a header; up to 64 "
       "letters, digits, '-' and '_', like x-session-id"},
      {InRouter("admission: {max_queue: 1}"),
       "c.yaml:4:15: unknown key 'max_queue' in router.admission; did you mean 'max_queued'?"},
  });
}

TEST(Reader, ReportsEveryMistakeInTheFilesOrder) {
  EXPECT_EQ(MessageOf("router: {listen: x}\n"
                      "groups:\n"
                      "  - {tp: -1, nmae: g}\n"
                      "model: {path: m, max_context: many}\n"),
            "c.yaml:1:18: 'router.listen': 'x' has no port; like 127.0.0.1:8000, 0.0.0.0:8000 or "
            "\"[::1]:8000\"\n"
            "c.yaml:3:5: 'groups[0].name' is missing; name\n"
            "c.yaml:3:10: 'groups[0].tp': -1 is out of range; integer, 1 to 64\n"
            "c.yaml:3:14: unknown key 'nmae' in groups[0]; did you mean 'name'?\n"
            "c.yaml:4:31: 'model.max_context': 'many' is not a whole number; integer, 0 to "
            "1048576");
}

TEST(Reader, BoundsTheReport) {
  std::string yaml = "model: {path: m}\ngroups: [{name: g}]\n";
  for (int i = 0; i < 500; ++i) yaml += "key_" + std::to_string(i) + ": 1\n";
  const std::string message = MessageOf(yaml);
  EXPECT_EQ(std::count(message.begin(), message.end(), '\n'), 100);
  EXPECT_TRUE(message.ends_with("c.yaml: and 400 more mistakes; mend these first"));
}

TEST(Reader, LinesStayLinesWhateverTheFileHolds) {
  const std::string message = MessageOf(InGroup("\"a\\nb\": 1"));
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
}

}  // namespace
}  // namespace tandem::config
