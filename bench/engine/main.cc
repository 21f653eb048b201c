// tandem-bench-engine: prefill and decode speed of one group on this machine, without HTTP or text.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "bench/engine/bench_group.h"
#include "bench/engine/cases.h"

namespace {

using namespace tandem;

struct Arguments {
  model::ShardOptions shard;
  int tp = 1;
  std::vector<std::string> cases = {"prefill:128", "prefill:512", "prefill:2048",
                                    "decode:1",    "decode:4",    "decode:16"};
  int repeats = 3;
  std::string json;
};

struct Row {
  std::string name;
  std::vector<double> tokens_per_s;
};

std::string Machine() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

void DeclareOptions(CLI::App& app, Arguments& args) {
  args.shard.kv_memory_bytes = int64_t{512} << 20;
  args.shard.max_context = 4096;
  app.add_option("--model", args.shard.model_path, "GGUF file")->required();
  app.add_option("--tp", args.tp, "ranks (processes)")->check(CLI::Range(1, 64));
  app.add_option("--threads", args.shard.threads, "of each rank")->check(CLI::Range(1, 1024));
  app.add_option("--case", args.cases, "prefill:TOKENS or decode:SEQUENCES; may be repeated");
  app.add_option("--repeats", args.repeats, "runs of each case")->check(CLI::Range(1, 1000));
  app.add_option("--json", args.json, "write JSON there instead of a table; -: standard output");
  app.add_option("--step-tokens", args.shard.max_step_tokens, "token budget of a step")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--activations", args.shard.activation_dtype, "int8, bf16 or f32");
  app.add_option("--kv", args.shard.kv_cache_dtype, "bf16, int8 or f32");
  app.add_option("--instruction-set", args.shard.instruction_set, "as in a cluster file");
}

StatusOr<std::vector<Row>> Measure(const Arguments& args, std::string& instruction_set) {
  std::vector<bench::Case> cases;
  for (const std::string& text : args.cases) {
    TANDEM_ASSIGN_OR_RETURN(bench::Case which, bench::ParseCase(text));
    cases.push_back(which);
  }
  TANDEM_ASSIGN_OR_RETURN(const auto group, bench::BenchGroup::Start(args.shard, args.tp));
  instruction_set = group->info().instruction_set;
  std::vector<Row> rows;
  for (const bench::Case& which : cases) rows.push_back({which.name(), {}});
  // Repeats go round all cases, so that a disturbance does not hit one case alone.
  for (int repeat = 0; repeat < args.repeats; ++repeat) {
    for (size_t i = 0; i < cases.size(); ++i) {
      TANDEM_ASSIGN_OR_RETURN(const double speed, bench::RunCase(*group, cases[i], 1 + repeat));
      rows[i].tokens_per_s.push_back(speed);
    }
  }
  return rows;
}

std::string Json(const std::vector<Row>& rows) {
  std::string text = fmt::format("{{\"machine\": \"{}\", \"rows\": [", Machine());
  for (size_t i = 0; i < rows.size(); ++i) {
    text += fmt::format("{}\n  {{\"name\": \"{}\", \"tokens_per_s\": [{:.2f}", i == 0 ? "" : ",",
                        rows[i].name, rows[i].tokens_per_s[0]);
    for (size_t k = 1; k < rows[i].tokens_per_s.size(); ++k) {
      text += fmt::format(", {:.2f}", rows[i].tokens_per_s[k]);
    }
    text += "]}";
  }
  return text + "\n]}\n";
}

std::string Table(const std::vector<Row>& rows) {
  std::string text =
      fmt::format("{:14}{:>10}{:>10}{:>10}  tokens/s\n", "", "median", "least", "most");
  for (const Row& row : rows) {
    std::vector<double> sorted = row.tokens_per_s;
    std::sort(sorted.begin(), sorted.end());
    text += fmt::format("{:14}{:10.1f}{:10.1f}{:10.1f}\n", row.name, sorted[sorted.size() / 2],
                        sorted.front(), sorted.back());
  }
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Speed of one group on this machine", "tandem-bench-engine");
  Arguments args;
  DeclareOptions(app, args);
  CLI11_PARSE(app, argc, argv);
  std::string instruction_set;
  const auto rows = Measure(args, instruction_set);
  if (!rows.ok()) {
    std::fprintf(stderr, "tandem-bench-engine: %s\n", std::string(Message(rows.status())).c_str());
    return 1;
  }
  if (args.json == "-") {
    std::cout << Json(*rows);
  } else if (!args.json.empty()) {
    std::ofstream(args.json) << Json(*rows);
  } else {
    std::cout << fmt::format("{}, {}, tp {}, {} threads a rank, {} / {}\n", Machine(),
                             instruction_set, args.tp, args.shard.threads,
                             args.shard.activation_dtype, args.shard.kv_cache_dtype)
              << Table(*rows);
  }
}
