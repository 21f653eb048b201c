// tandem-simulate: what a cluster would do with recorded traffic, one policy beside the other.
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

#include "bench/sim/cluster.h"
#include "bench/sim/options.h"
#include "bench/sim/prompt.h"
#include "bench/sim/report.h"
#include "bench/sim/simulation.h"
#include "bench/trace/trace.h"
#include "common/config/values.h"

namespace tandem::simulator {
namespace {

constexpr int kOperatorMistake = 2;

constexpr uintptr_t kHugePage = uintptr_t{2} << 20;
constexpr int kHeapBytes = 1 << 30;

// What groups hold are hundreds of MiB that are looked up at random: with huge pages a run takes an
// eighth less. So the heap grows once, by much, and that is advised. Only what is used is touched;
// a refusal costs time.
void UseHugePages() {
  mallopt(M_MMAP_THRESHOLD, 4 << 20);  // larger ones are buffers that stay mostly empty
  mallopt(M_TRIM_THRESHOLD, kHeapBytes);
  mallopt(M_TOP_PAD, kHeapBytes);
  const auto begin = reinterpret_cast<uintptr_t>(sbrk(0));
  void* volatile grown = std::malloc(kHugePage);  // more than is there; volatile: not optimized out
  std::free(grown);
  const auto end = reinterpret_cast<uintptr_t>(sbrk(0));
  mallopt(M_TOP_PAD, 1 << 20);
  const uintptr_t first = (begin + kHugePage - 1) / kHugePage * kHugePage;
  if (end > first) (void)madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE);
}

struct Arguments {
  std::string trace, cluster, policies, slo = "ttft=3s", slow, jitter, report_delay, backlog, json,
                                        html;
  double rate_scale = 1;
  int routers = 1;
  uint64_t seed = 1;
};

void AddOptions(CLI::App& app, Arguments* args) {
  app.add_option("--trace", args->trace,
                 "Mooncake JSON lines, Azure CSV or a recorded trace; .gz too")
      ->required();
  app.add_option("--cluster", args->cluster, "Cluster file whose groups have 'device: sim'")
      ->required();
  app.add_option("--policy", args->policies,
                 "Policies, a,b,c; NAME@fcfs: prompts in order of arrival in the groups; default: "
                 "that of the cluster file");
  app.add_option("--rate-scale", args->rate_scale, "Arrivals this many times as fast")
      ->check(CLI::Range(1e-3, 1e6));
  app.add_option("--seed", args->seed, "Of all that is random");
  app.add_option("--jitter", args->jitter,
                 "Moves each arrival by up to this, at the trace's own rate; Mooncake's are "
                 "rounded to 3s");
  app.add_option("--slo", args->slo, "What goodput counts: ttft=3s,itl=50ms");
  app.add_option("--routers", args->routers, "Routers that share the traffic")
      ->check(CLI::Range(1, 64));
  app.add_option("--report-delay", args->report_delay,
                 "Load reports and KV events reach the routers this much later");
  app.add_option("--max-group-backlog", args->backlog,
                 "A group with more prompt work gets no more, before what the cluster file says");
  app.add_option("--slow", args->slow, "GROUPS:FACTOR: the last groups take FACTOR times as long");
  app.add_option("--json", args->json, "Write the results there");
  app.add_option("--html", args->html, "Write a page with charts there");
}

StatusOr<Nanos> DurationOf(const char* option, const std::string& text) {
  if (text.empty()) return Nanos{0};
  const StatusOr<Nanos> duration = config::ParseDuration(text);
  if (!duration.ok()) return InvalidArgument("{}: {}", option, Message(duration.status()));
  return duration;
}

struct Plan {
  Trace trace;
  SimCluster cluster;
  std::vector<PolicySpec> policies;
  SimulationOptions options;
  Slo slo;
};

Status SlowDown(const std::string& text, std::vector<GroupSpec>& groups) {
  TANDEM_ASSIGN_OR_RETURN(const SlowGroups slow, ParseSlowGroups(text));
  if (slow.count > static_cast<int>(groups.size())) {
    return InvalidArgument("--slow: {} groups; the cluster has {}", slow.count, groups.size());
  }
  for (size_t i = groups.size() - static_cast<size_t>(slow.count); i < groups.size(); ++i) {
    groups[i].slowdown = slow.factor;
  }
  return OkStatus();
}

StatusOr<Plan> Prepare(const Arguments& args) {
  Plan plan;
  TANDEM_ASSIGN_OR_RETURN(plan.slo, ParseSlo(args.slo));
  TANDEM_ASSIGN_OR_RETURN(const Nanos jitter, DurationOf("--jitter", args.jitter));
  TANDEM_ASSIGN_OR_RETURN(plan.options.report_delay,
                          DurationOf("--report-delay", args.report_delay));
  TANDEM_ASSIGN_OR_RETURN(plan.cluster, LoadCluster(args.cluster));
  TANDEM_ASSIGN_OR_RETURN(
      plan.policies, ParsePolicies(args.policies.empty() ? plan.cluster.policy : args.policies));
  TANDEM_RETURN_IF_ERROR(SlowDown(args.slow, plan.cluster.groups));
  TANDEM_ASSIGN_OR_RETURN(plan.trace, trace::ReadTrace(args.trace));
  Retime(plan.trace, jitter, args.rate_scale, args.seed);
  plan.options.dispatcher = plan.cluster.dispatcher;
  TANDEM_ASSIGN_OR_RETURN(const Nanos backlog, DurationOf("--max-group-backlog", args.backlog));
  if (backlog > 0) plan.options.dispatcher.max_group_backlog = backlog;
  plan.options.num_routers = args.routers;
  plan.options.seed = args.seed;
  // About a hundred points of load over the trace.
  plan.options.load_window =
      std::max<Nanos>(plan.trace.requests.back().arrival / 100, 100 * kMillisecond);
  return plan;
}

PolicyResult RunPolicy(const Plan& plan, const PolicySpec& policy) {
  std::vector<GroupSpec> groups = plan.cluster.groups;
  if (policy.fcfs) {
    // Every prompt counts as too old to wait: order of arrival.
    for (GroupSpec& group : groups) group.engine.max_prompt_age = 0;
  }
  const std::clock_t start = std::clock();
  RawResult raw = Simulate(plan.trace, groups, plan.options, policy.make);
  const double took = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  const int64_t steps = raw.num_steps;
  PolicyResult result = Evaluate(policy.name, raw, plan.slo);
  fmt::print(stderr, "{}: {:.0f} s in {:.2f} s of CPU, {:.0f} times real time; {} steps\n",
             policy.name, result.duration_s, took, result.duration_s / took, steps);
  return result;
}

Setting Describe(const Arguments& args, const Plan& plan) {
  const double span = static_cast<double>(plan.trace.requests.back().arrival) / 1e9;
  const double rate = span > 0 ? static_cast<double>(plan.trace.requests.size()) / span : 0;
  return {args.trace, args.cluster,
          fmt::format("{} groups, {} router{}, {} requests at {:.2f}/s, seed {}{}{}{}",
                      plan.cluster.groups.size(), args.routers, args.routers == 1 ? "" : "s",
                      plan.trace.requests.size(), rate, args.seed,
                      args.jitter.empty() ? "" : ", arrivals moved by up to " + args.jitter,
                      args.report_delay.empty() ? "" : ", reports late by " + args.report_delay,
                      args.slow.empty() ? "" : ", slow groups " + args.slow)};
}

Status Run(const Arguments& args) {
  TANDEM_ASSIGN_OR_RETURN(const Plan plan, Prepare(args));
  std::vector<PolicyResult> results;
  for (const PolicySpec& policy : plan.policies) results.push_back(RunPolicy(plan, policy));
  const Setting setting = Describe(args, plan);
  fmt::print("{}\n{}", setting.details, TextTable(results));
  if (!args.json.empty()) TANDEM_RETURN_IF_ERROR(WriteFile(args.json, Json(results)));
  if (!args.html.empty()) TANDEM_RETURN_IF_ERROR(WriteFile(args.html, Html(setting, results)));
  return OkStatus();
}

int Main(int argc, char** argv) {
  Arguments args;
  CLI::App app("Runs recorded traffic through routing and scheduling in virtual time.",
               "tandem simulate");
  AddOptions(app, &args);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : kOperatorMistake;
  }
  const Status status = Run(args);
  if (status.ok()) return 0;
  fmt::print(stderr, "{}\n", Message(status));
  return kOperatorMistake;
}

}  // namespace
}  // namespace tandem::simulator

int main(int argc, char** argv) {
  tandem::simulator::UseHugePages();
  return tandem::simulator::Main(argc, argv);
}
