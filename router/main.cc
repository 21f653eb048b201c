// tandem-router: text in, text out. Wires the rooms together; decides nothing itself.
#include <fmt/format.h>
#include <malloc.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/config/cluster_config.h"
#include "common/config/values.h"
#include "common/observe/log.h"
#include "common/observe/metrics.h"
#include "router/http/server.h"
#include "router/http/trace_recorder.h"
#include "router/link/group_link.h"
#include "router/model_text.h"

namespace tandem {
namespace {

constexpr int kOperatorsMistake = 2;

struct Options {
  std::string config;
  std::string model;  // instead of the cluster file's
  int router_index = 0;
  int port = -1;  // -1: the cluster file's
};

// A long prompt's body, text and tokens are hundreds of kB each. By default such blocks are mapped
// for each request, zeroed by the kernel page by page, and given back.
void KeepFreedMemory() {
  mallopt(M_MMAP_THRESHOLD, 8 << 20);
  mallopt(M_TRIM_THRESHOLD, 32 << 20);
}

int Refuse(const Status& status) {
  fmt::print(stderr, "{}\n", Message(status));
  return kOperatorsMistake;
}

StatusOr<config::Cluster> LoadCluster(const Options& options) {
  return config::Load(options.config, {.model_path = options.model, .listen_port = options.port});
}

// What a running router takes over of the file as it is now.
StatusOr<http::ServerSettings> Reload(const config::Cluster& running, const Options& options) {
  TANDEM_ASSIGN_OR_RETURN(config::Cluster now, LoadCluster(options));
  const std::vector<std::string> later = config::NeedRestart(running, now);
  if (!later.empty()) {
    observe::LogWarn("{} differ in the cluster file; they take effect when the router starts again",
                     config::Join(later, ", "));
  }
  // Aliases may name a model that this process has not loaded.
  for (const config::Alias& alias : now.aliases) {
    for (const config::AliasChoice& choice : alias.choices) {
      if (running.FindModel(choice.model) != nullptr) continue;
      return InvalidArgument(
          "{}:1:1: the alias '{}' names the model '{}', which this router has "
          "not loaded; start it again",
          now.file, alias.name, choice.model);
    }
  }
  return http::ServerSettings::Of(now);
}

Status CheckIndex(const config::Cluster& cluster, int index) {
  const int count = static_cast<int>(cluster.links.routers.size());
  if (index >= 0 && index < count) return OkStatus();
  return InvalidArgument(
      "{}:1:1: links.routers has {} entries, so --router-index is 0 to {}, not {}", cluster.file,
      count, count - 1, index);
}

int Run(const Options& options) {
  ::signal(SIGPIPE, SIG_IGN);  // whoever reads the log may go away
  StatusOr<config::Cluster> loaded = LoadCluster(options);
  if (!loaded.ok()) return Refuse(loaded.status());
  const config::Cluster& cluster = *loaded;
  const std::string process =
      cluster.links.routers.size() == 1 ? "router" : fmt::format("router {}", options.router_index);
  if (Status s = CheckIndex(cluster, options.router_index); !s.ok()) return Refuse(s);
  if (Status s = observe::InitLog(cluster.log.level, cluster.log.format, process); !s.ok()) {
    return Refuse(s);
  }
  StatusOr<http::ServerSettings> settings = http::ServerSettings::Of(cluster);
  if (!settings.ok()) return Refuse(settings.status());
  StatusOr<std::vector<ModelText>> texts = LoadModelTexts(cluster);
  if (!texts.ok()) return Refuse(texts.status());
  std::unique_ptr<http::TraceRecorder> recorder;
  if (!cluster.router.record_trace.empty()) {
    auto opened = http::TraceRecorder::Open(cluster.router.record_trace, MonotonicNow());
    if (!opened.ok()) return Refuse(opened.status());
    recorder = *std::move(opened);
    observe::LogInfo("recording a trace in {}", recorder->path());
  }

  observe::Metrics metrics;
  http::ServiceOptions service_options;
  service_options.text_threads = cluster.router.text_threads;
  service_options.recorder = recorder.get();
  link::GroupLinkOptions link_options;
  link_options.endpoint = cluster.links.routers[static_cast<size_t>(options.router_index)];
  for (const ModelText& text : *texts) {
    service_options.models.push_back(text.served());
    link_options.models[text.model] = text.fingerprint;
  }
  StatusOr<std::unique_ptr<http::Server>> server =
      http::Server::Open({.host = cluster.router.listen_host,
                          .port = cluster.router.listen_port,
                          .handle_signals = true,
                          .reload = [&] { return Reload(cluster, options); }},
                         *settings, service_options, metrics);
  if (!server.ok()) return Refuse(server.status());

  link_options.again = [&] { (*server)->TurnLink(); };
  StatusOr<std::unique_ptr<link::GroupLink>> groups =
      link::GroupLink::Open(link_options, (*server)->service());
  if (!groups.ok()) return Refuse(groups.status());
  (*server)->service().Connect(groups->get());
  (*server)->SetLink((*groups)->fd(), [&] { (*groups)->Turn(); });

  observe::LogInfo("groups dial {}", (*groups)->endpoint());
  fmt::print("listening on {}\n", (*server)->url());  // for whoever started this with port 0
  std::fflush(stdout);
  (*server)->Run();
  observe::LogInfo("stopped");
  return 0;  // the link goes before the server, which hears from it
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) {
  tandem::KeepFreedMemory();
  tandem::Options options;
  CLI::App app("Serves a cluster's model through the OpenAI API.", "tandem-router");
  app.add_option("--config", options.config, "the cluster file")->required();
  app.add_option("--model", options.model,
                 "GGUF file or Hugging Face folder, instead of the cluster file's");
  app.add_option("--router-index", options.router_index, "which of links.routers this one is");
  app.add_option("--port", options.port, "HTTP port, instead of the cluster file's; 0: a free one")
      ->check(CLI::Range(0, 65535));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : tandem::kOperatorsMistake;
  }
  return tandem::Run(options);
}
