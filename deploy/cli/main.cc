// The command `tandem`: check, up, drain and keys are its own, every other word is a program beside
// it (`tandem router` executes tandem-router, `tandem bench kernels` tandem-bench-kernels).
#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/config/api_keys.h"
#include "common/config/cluster_config.h"
#include "common/config/values.h"
#include "common/gguf/gguf_file.h"
#include "common/huggingface/model_folder.h"
#include "common/mapped_file.h"
#include "deploy/cli/drain.h"
#include "deploy/cli/process.h"
#include "deploy/cli/up.h"

namespace tandem::cli {
namespace {

constexpr int kOperatorMistake = 2;

void PrintError(std::string_view text) {
  std::fprintf(stderr, "%.*s\n", static_cast<int>(text.size()), text.data());
}

// Which GPUs, so that two groups that have the same ones are seen.
std::string DescribeGpus(const config::Group& first) {
  if (first.count > 1 || first.hosts.size() > 1) return "a GPU a rank";
  std::string gpus;
  for (int rank = 0; rank < first.tp; ++rank) {
    gpus += fmt::format("{}{}", rank == 0 ? "" : ", ",
                        first.devices.empty() ? rank : first.devices[static_cast<size_t>(rank)]);
  }
  return fmt::format("GPU{} {}", first.tp == 1 ? "" : "s", gpus);
}

// Of all groups of an entry.
std::string Describe(const config::Group& first) {
  const std::string name =
      first.count == 1 ? fmt::format("  group   {}", first.name)
                       : fmt::format("  groups  {0}-0 to {0}-{1}", first.entry, first.count - 1);
  if (first.device == "sim")
    return fmt::format("{}: {}, simulated, {}", name, first.model, first.profile);
  if (first.device == "cuda") {
    return fmt::format("{}: {}, tp {}, {}", name, first.model, first.tp, DescribeGpus(first));
  }
  const std::string threads = first.threads == 0 ? "threads auto"
                                                 : fmt::format("{} thread{} a rank", first.threads,
                                                               first.threads == 1 ? "" : "s");
  return fmt::format("{}: {}, tp {}, {}, {}", name, first.model, first.tp, threads, first.device);
}

// "large (prompts up to 2000 tokens, 30 % of them), then small"
std::string DescribeChoices(const config::Alias& alias) {
  std::string all;
  for (const config::AliasChoice& choice : alias.choices) {
    std::string rule;
    const auto add = [&rule](const std::string& part) {
      rule += (rule.empty() ? " (" : ", ") + part;
    };
    if (choice.max_prompt_tokens > 0) {
      add(fmt::format("prompts up to {} tokens", choice.max_prompt_tokens));
    }
    if (choice.max_ttft > 0) {
      add(fmt::format("first token within {} ms", choice.max_ttft / kMillisecond));
    }
    if (choice.share < 100) add(fmt::format("{} % of these", choice.share));
    if (!rule.empty()) rule += ")";
    all += (all.empty() ? "" : ", then ") + choice.model + rule;
  }
  return all;
}

// What a router and workers would miss at once. That it is a model that can be served is found by
// them.
Status CheckModels(const config::Cluster& cluster) {
  for (const config::Model& model : cluster.models) {
    if (!huggingface::IsFolder(model.path)) {
      TANDEM_RETURN_IF_ERROR(gguf::File::Open(model.path).status());
      continue;
    }
    TANDEM_RETURN_IF_ERROR(huggingface::ModelFolder::Open(model.path).status());
    TANDEM_RETURN_IF_ERROR(MappedFile::Open(model.path + "/tokenizer.json").status());
  }
  return OkStatus();
}

int Check(const std::string& file, const config::Overrides& overrides) {
  const StatusOr<config::Cluster> cluster = config::Load(file, overrides);
  if (!cluster.ok()) {
    PrintError(Message(cluster.status()));
    return kOperatorMistake;
  }
  if (const Status status = CheckModels(*cluster); !status.ok()) {
    PrintError(Message(status));
    return kOperatorMistake;
  }
  if (const Status status = config::CheckApiKeys(*cluster); !status.ok()) {
    PrintError(Message(status));
    return kOperatorMistake;
  }
  fmt::print("{}: valid\n", file);
  for (const config::Model& model : cluster->models) {
    fmt::print("  model   {} ({})\n", model.name, model.path);
  }
  for (const config::Alias& alias : cluster->aliases) {
    fmt::print("  alias   {}: {}\n", alias.name, DescribeChoices(alias));
  }
  fmt::print("  router  http://{}:{}, {}\n", cluster->router.listen_host,
             cluster->router.listen_port, cluster->router.policy);
  for (size_t i = 0; i < cluster->groups.size();
       i += static_cast<size_t>(cluster->groups[i].count)) {
    fmt::print("{}\n", Describe(cluster->groups[i]));
  }
  return 0;
}

int DrainGroup(const UpOptions& options, const std::string& group) {
  const StatusOr<config::Cluster> cluster = config::Load(options.file, options.overrides);
  const Status status = cluster.ok() ? Drain(*cluster, group) : cluster.status();
  if (status.ok()) {
    const bool one = cluster->FindGroup(group) != nullptr;
    fmt::print("{} '{}' ha{} left\n", one ? "group" : "all groups of", group, one ? "s" : "ve");
    return 0;
  }
  PrintError(Message(status));
  return status.code() == StatusCode::kInvalidArgument ? kOperatorMistake : 1;
}

// Without those for one part of it, `tandem bench NAME`.
constexpr std::string_view kPrograms[] = {"router", "worker", "bench", "simulate"};
constexpr std::string_view kCommands[] = {"check", "up", "drain", "keys"};

bool IsOneOf(std::span<const std::string_view> words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

int RefuseWord(const std::string& word) {
  std::vector<std::string> all(std::begin(kCommands), std::end(kCommands));
  all.insert(all.end(), std::begin(kPrograms), std::end(kPrograms));
  const std::string nearest = config::Nearest(word, all);
  PrintError(fmt::format("tandem: there is no command '{}'; {}the commands are {} (tandem --help)",
                         word, nearest.empty() ? "" : fmt::format("did you mean '{}'? ", nearest),
                         config::Join(all, ", ")));
  return kOperatorMistake;
}

// `tandem WORD ARGUMENTS...`; `bench` takes one word more.
int RunBeside(std::vector<std::string> words) {
  const StatusOr<std::string> folder = OwnFolder();
  if (!folder.ok()) {
    PrintError(Message(folder.status()));
    return 1;
  }
  const std::string word = words[0];
  std::string program = "tandem-" + word;
  size_t used = 1;
  if (words[0] == "bench" && words.size() > 1 && !words[1].starts_with('-')) {
    program += "-" + words[1];
    used = 2;
  }
  words.erase(words.begin(), words.begin() + static_cast<ptrdiff_t>(used));
  words.insert(words.begin(), *folder + "/" + program);
  const Status status = Execute(words);
  if (!IsOneOf(kPrograms, word)) return RefuseWord(word);
  PrintError(fmt::format("tandem: {}", Message(status)));
  return kOperatorMistake;
}

// A word that is not an option and not one of ours.
bool NamesAProgram(std::string_view word) {
  return !word.starts_with('-') && !IsOneOf(kCommands, word);
}

void AddFileOptions(CLI::App* command, UpOptions* options) {
  command->add_option("file", options->file, "Cluster file (YAML)")->required();
  command->add_option("--model", options->overrides.model_path,
                      "GGUF file or Hugging Face folder, before model.path of the cluster file");
}

void AddPortOption(CLI::App* command, UpOptions* options) {
  command
      ->add_option("--port", options->overrides.listen_port, "Port, before that of router.listen")
      ->check(CLI::Range(0, 65535));
}

int Main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (!words.empty() && NamesAProgram(words[0])) return RunBeside(words);

  CLI::App app("Tandem serves a language model with routers and groups of workers.", "tandem");
  app.set_version_flag("--version", TANDEM_VERSION);
  app.require_subcommand(1);
  app.footer(
      "Programs beside this one (each has --help):\n"
      "  router    The router alone; up starts it\n"
      "  worker    One rank of a group; up starts all\n"
      "  bench     Load test of any OpenAI endpoint; bench NAME: tandem-bench-NAME\n"
      "  simulate  Recorded traffic through routing and engine in virtual time\n"
      "Exit codes: 0 done, or stopped on request; 2 a mistake of the operator's; 3 no GPU "
      "for 'device: cuda'; 1 other.");
  UpOptions options;
  CLI::App* check = app.add_subcommand("check", "Name every mistake in a cluster file");
  AddFileOptions(check, &options);
  AddPortOption(check, &options);
  CLI::App* up = app.add_subcommand(
      "up", "Start the router and all ranks on this machine and keep them running");
  AddFileOptions(up, &options);
  AddPortOption(up, &options);
  up->add_option("--bin-dir", options.bin_dir,
                 "Folder of tandem-router and tandem-worker; default: that of this command");
  std::string group;
  CLI::App* drain = app.add_subcommand(
      "drain", "Have a group of this machine finish what it has and leave; waits until it has");
  AddFileOptions(drain, &options);
  drain->add_option("group", group, "Name of the group; of simulated groups that of their entry")
      ->required();
  CLI::App* keys = app.add_subcommand("keys", "Every key of the cluster file");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : kOperatorMistake;
  }
  if (keys->parsed()) {
    fmt::print("{}", config::Reference());
    return 0;
  }
  if (drain->parsed()) return DrainGroup(options, group);
  if (check->parsed()) return Check(options.file, options.overrides);
  if (options.bin_dir.empty()) {
    const StatusOr<std::string> folder = OwnFolder();
    if (!folder.ok()) {
      PrintError(Message(folder.status()));
      return 1;
    }
    options.bin_dir = *folder;
  }
  return Up(options);
}

}  // namespace
}  // namespace tandem::cli

int main(int argc, char** argv) { return tandem::cli::Main(argc, argv); }
