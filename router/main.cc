// tandem-router: text in, text out. Wires the rooms together; decides nothing itself.
#include <fmt/format.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "common/config/cluster_config.h"
#include "common/gguf/gguf_file.h"
#include "common/observe/log.h"
#include "common/observe/metrics.h"
#include "router/http/api_keys.h"
#include "router/http/server.h"
#include "router/link/group_link.h"
#include "router/text/chat_template.h"
#include "router/text/tokenizer.h"

namespace tandem {
namespace {

constexpr int kOperatorsMistake = 2;

struct Options {
  std::string config;
  std::string model;  // instead of the cluster file's
  int router_index = 0;
  int port = -1;  // -1: the cluster file's
};

int Refuse(const Status& status) {
  fmt::print(stderr, "{}\n", Message(status));
  return kOperatorsMistake;
}

// What the router needs of the model file.
struct Text {
  std::unique_ptr<const text::Tokenizer> tokenizer;
  std::unique_ptr<const text::ChatTemplate> chat_template;  // null: a base model
  std::string fingerprint;
};

StatusOr<Text> LoadText(const std::string& path) {
  Text out;
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<gguf::File> file, gguf::File::Open(path));
  TANDEM_ASSIGN_OR_RETURN(out.tokenizer, text::Tokenizer::FromGguf(*file));
  out.fingerprint = file->Fingerprint();
  StatusOr<text::ChatTemplate> chat = text::ChatTemplate::FromGguf(*file);
  if (chat.ok()) {
    out.chat_template = std::make_unique<const text::ChatTemplate>(*std::move(chat));
  } else if (chat.status().code() != StatusCode::kNotFound) {
    return chat.status();
  }
  return out;
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
  StatusOr<config::Cluster> loaded =
      config::Load(options.config, {.model_path = options.model, .listen_port = options.port});
  if (!loaded.ok()) return Refuse(loaded.status());
  const config::Cluster& cluster = *loaded;
  const std::string process =
      cluster.links.routers.size() == 1 ? "router" : fmt::format("router {}", options.router_index);
  if (Status s = CheckIndex(cluster, options.router_index); !s.ok()) return Refuse(s);
  if (Status s = observe::InitLog(cluster.log.level, cluster.log.format, process); !s.ok()) {
    return Refuse(s);
  }
  if (cluster.models.size() > 1) {
    return Refuse(InvalidArgument("{}:1:1: 'models' has {} entries; this router serves one",
                                  cluster.file, cluster.models.size()));
  }
  http::ApiKeys keys;
  if (!cluster.router.api_keys_file.empty()) {
    StatusOr<http::ApiKeys> from_file = http::ApiKeys::Load(cluster.router.api_keys_file);
    if (!from_file.ok()) return Refuse(from_file.status());
    keys = *std::move(from_file);
  }
  StatusOr<Text> text = LoadText(cluster.models.front().path);
  if (!text.ok()) return Refuse(text.status());
  if (text->chat_template == nullptr) {
    observe::LogWarn("the model has no chat template: /v1/chat/completions takes no messages");
  }

  observe::Metrics metrics;
  http::ServerOptions server_options{.host = cluster.router.listen_host,
                                     .port = cluster.router.listen_port,
                                     .limits = cluster.router.limits,
                                     .handle_signals = true};
  http::ServiceOptions service_options;
  service_options.model = cluster.models.front().name;
  for (const config::Group& group : cluster.groups) service_options.groups.push_back(group.name);
  service_options.max_queued_requests = cluster.router.limits.max_queued_requests;
  service_options.text_threads = cluster.router.text_threads;
  StatusOr<std::unique_ptr<http::Server>> server =
      http::Server::Open(server_options, service_options, std::move(keys), *text->tokenizer,
                         text->chat_template.get(), metrics);
  if (!server.ok()) return Refuse(server.status());

  const auto index = static_cast<size_t>(options.router_index);
  StatusOr<std::unique_ptr<link::GroupLink>> groups = link::GroupLink::Open(
      {.endpoint = cluster.links.routers[index], .fingerprint = text->fingerprint},
      (*server)->service());
  if (!groups.ok()) return Refuse(groups.status());
  (*server)->service().Connect(groups->get());

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
  tandem::Options options;
  CLI::App app("Serves a cluster's model through the OpenAI API.", "tandem-router");
  app.add_option("--config", options.config, "the cluster file")->required();
  app.add_option("--model", options.model, "GGUF file, instead of the cluster file's");
  app.add_option("--router-index", options.router_index, "which of links.routers this one is");
  app.add_option("--port", options.port, "HTTP port, instead of the cluster file's; 0: a free one");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : tandem::kOperatorsMistake;
  }
  return tandem::Run(options);
}
