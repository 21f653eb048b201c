// What Service says of itself: /health and the gauges.
#include <fmt/format.h>

#include "common/clock.h"
#include "router/http/json_text.h"
#include "router/http/service.h"

namespace tandem::http {
namespace {

// A text job that runs this long will not end: the router is not well.
constexpr Nanos kStuckTextJob = 30 * kSecond;

// Writes the entries of a JSON array of objects: {"name":...,<more>}.
class Entries {
 public:
  explicit Entries(std::string& out) : out_(out) {}
  void Begin(const std::string& name) {
    out_ += first_ ? "{\"name\":" : ",{\"name\":";
    first_ = false;
    AppendJsonString(out_, name);
  }
  void Text(std::string_view key, std::string_view value) {
    fmt::format_to(std::back_inserter(out_), ",\"{}\":", key);
    AppendJsonString(out_, value);
  }

 private:
  std::string& out_;
  bool first_ = true;
};

void AppendGroups(const Pool& pool, Entries& entries, std::string& json) {
  for (const auto& [id, group] : pool.groups()) {
    entries.Begin(group.info.name);
    entries.Text("state", group.draining ? "draining" : "up");
    entries.Text("model", pool.model().name);
    fmt::format_to(std::back_inserter(json),
                   ",\"tp\":{},\"in_flight\":{},\"running\":{},\"waiting\":{},\"free_blocks\":{},"
                   "\"total_blocks\":{}}}",
                   group.info.tp, pool.dispatcher().ledger().Outstanding(GroupId{id}).num_attempts,
                   group.load.num_running, group.load.num_waiting, group.load.free_blocks,
                   group.load.total_blocks);
  }
  for (const auto& [name, why] : pool.down_why()) {
    entries.Begin(name);
    entries.Text("state", "down");
    entries.Text("model", pool.model().name);
    entries.Text("reason", why);
    json += '}';
  }
}

}  // namespace

bool Service::Health(std::string& json, bool asks_ready) const {
  const Nanos oldest = text_pool_.oldest_start();
  const bool well = oldest == 0 || MonotonicNow() - oldest < kStuckTextJob;
  json = fmt::format("{{\"status\":\"{}\",\"requests_in_flight\":{},\"models\":[",
                     !well                    ? "text_threads_stuck"
                     : draining_              ? "draining"
                     : asks_ready && !ready() ? "no_group_ready"
                                              : "ok",
                     num_active());
  Entries models(json);
  for (const auto& pool : pools_) {
    models.Begin(pool->model().name);
    fmt::format_to(std::back_inserter(json), ",\"ready\":{},\"groups_up\":{},\"queued\":{}}}",
                   pool->ready(), pool->groups().size(), pool->dispatcher().num_queued());
  }
  json += "],\"groups\":[";
  Entries groups(json);
  for (const auto& pool : pools_) AppendGroups(*pool, groups, json);
  json += "]}";
  return well;
}

void Service::UpdateGauges() {
  for (const auto& pool : pools_) {
    const routing::Dispatcher& dispatcher = pool->dispatcher();
    pool->series().Look({.queued = dispatcher.num_queued(),
                         .in_flight = dispatcher.ledger().num_in_flight(),
                         .index_blocks = dispatcher.index().num_blocks(),
                         .p50 = dispatcher.prediction_error().Quantile(0.5),
                         .p95 = dispatcher.prediction_error().Quantile(0.95)});
  }
}

}  // namespace tandem::http
