#include "router/http/probe.h"

#include <utility>

namespace tandem::http {

Probe::Probe(observe::Metrics& m)
    : metrics_(m),
      connections_(m.AddGauge("tandem_router_connections", "Client connections that are open.")),
      in_flight_(m.AddGauge("tandem_router_requests_in_flight", "Generations not yet ended.")),
      connections_refused_(
          m.AddCounter("tandem_router_connections_refused_total", "Connections over the limit.")),
      prompt_tokens_(m.AddCounter("tandem_router_prompt_tokens_total",
                                  "Prompt tokens of requests that got a first token.")),
      cached_tokens_(m.AddCounter("tandem_router_cached_prompt_tokens_total",
                                  "Those of them that a prefix cache held.")),
      output_tokens_(m.AddCounter("tandem_router_output_tokens_total", "Tokens generated.")),
      retries_(m.AddCounter("tandem_router_retries_total",
                            "Attempts sent again after their group was lost.")),
      kv_event_gaps_(
          m.AddCounter("tandem_router_kv_event_gaps_total",
                       "Missed KV events, after which a group's prefixes are forgotten.")),
      text_cpu_(m.AddCounter("tandem_router_text_cpu_seconds_total",
                             "CPU time of rendering templates and tokenizing prompts.")),
      known_tokens_(m.AddCounter("tandem_router_known_text_tokens_total",
                                 "Prompt tokens whose text had been tokenized before.")),
      ttft_(m.AddHistogram("tandem_router_ttft_seconds", "Request received to first token decoded.",
                           observe::LatencyBuckets())),
      embedding_(m.AddHistogram("tandem_router_embedding_seconds",
                                "Request received to the embedding of one input.",
                                observe::LatencyBuckets())),
      itl_(m.AddHistogram("tandem_router_itl_seconds",
                          "Gap between two successive deliveries of one stream.",
                          observe::LatencyBuckets())),
      queue_(m.AddHistogram("tandem_router_queue_seconds",
                            "Time in the group's queue before the first step.",
                            observe::LatencyBuckets())),
      predicted_ratio_(m.AddHistogram("tandem_router_ttft_predicted_ratio",
                                      "Predicted TTFT over the observed one, from sending.",
                                      observe::RatioBuckets())) {}

Probe::Pool::Pool(observe::Metrics& metrics, std::string model)
    : metrics_(metrics),
      model_(std::move(model)),
      queued_(metrics.AddGauge("tandem_router_queued_requests",
                               "Requests that wait in the router for a group with room.",
                               {{"model", model_}})),
      in_flight_(metrics.AddGauge("tandem_router_attempts_in_flight",
                                  "Attempts in the ledger: sent to a group and not ended there.",
                                  {{"model", model_}})),
      index_blocks_(metrics.AddGauge("tandem_router_index_blocks",
                                     "Blocks that the prefix index has in memory.",
                                     {{"model", model_}})),
      p50_(metrics.AddGauge("tandem_router_ttft_observed_over_predicted",
                            "Quantiles over the newest 1,024 requests; 1: as predicted.",
                            {{"model", model_}, {"quantile", "0.5"}})),
      p95_(metrics.AddGauge("tandem_router_ttft_observed_over_predicted",
                            "Quantiles over the newest 1,024 requests; 1: as predicted.",
                            {{"model", model_}, {"quantile", "0.95"}})) {}

void Probe::Pool::Routed(const char* reason) {
  const auto it = routed_.find(reason);
  if (it != routed_.end()) return it->second.Add();
  routed_
      .emplace(reason, metrics_.AddCounter("tandem_router_routed_total",
                                           "Attempts sent to a group, by why it was chosen.",
                                           {{"model", model_}, {"reason", reason}}))
      .first->second.Add();
}

void Probe::Pool::Rejected(const std::string& why) {
  metrics_
      .AddCounter("tandem_router_rejected_total",
                  "Requests that the groups of a model did not take; an alias may have gone on.",
                  {{"model", model_}, {"why", why}})
      .Add();
}

void Probe::Pool::Look(const State& state) {
  queued_.Set(state.queued);
  in_flight_.Set(state.in_flight);
  index_blocks_.Set(static_cast<double>(state.index_blocks));
  p50_.Set(state.p50);
  p95_.Set(state.p95);
}

void Probe::Answered(int status) {
  metrics_
      .AddCounter("tandem_router_responses_total", "HTTP responses by status.",
                  {{"status", std::to_string(status)}})
      .Add();
}

void Probe::Failed(std::string_view kind) {
  metrics_
      .AddCounter("tandem_router_errors_total", "Requests that did not end well, by kind.",
                  {{"kind", std::string(kind)}})
      .Add();
}

void Probe::Prompt(int32_t prompt_tokens, int32_t cached_tokens) {
  prompt_tokens_.Add(prompt_tokens);
  cached_tokens_.Add(cached_tokens);
}

void Probe::FirstToken(Nanos ttft, bool is_embedding, Nanos queue, Nanos predicted,
                       Nanos observed) {
  (is_embedding ? embedding_ : ttft_).Observe(Seconds(ttft));
  queue_.Observe(Seconds(queue));
  if (observed > 0 && predicted > 0) {  // 0: nothing was known yet
    predicted_ratio_.Observe(static_cast<double>(predicted) / static_cast<double>(observed));
  }
}

void Probe::GroupUp(const std::string& group, bool up) {
  metrics_.AddGauge("tandem_router_group_up", "1: the group takes requests.", {{"group", group}})
      .Set(up ? 1 : 0);
}

Probe::Group Probe::AddGroup(const std::string& name) {
  const observe::Labels labels = {{"group", name}};
  return {.step = metrics_.AddHistogram("tandem_router_step_seconds", "What a group's step took.",
                                        observe::LatencyBuckets(), labels),
          .running = metrics_.AddGauge("tandem_router_group_running_sequences",
                                       "Sequences that decode.", labels),
          .waiting = metrics_.AddGauge("tandem_router_group_waiting_sequences",
                                       "Sequences with prompt tokens to compute.", labels),
          .kv_use = metrics_.AddGauge("tandem_router_kv_use_ratio",
                                      "Part of a group's KV blocks that sequences hold.", labels)};
}

void Probe::Step(Group& group, const routing::GroupLoad& load) {
  const bool worked = load.step_prefill_tokens > 0 || load.step_decodes > 0;
  if (worked && load.step_duration > 0) group.step.Observe(Seconds(load.step_duration));
  group.running.Set(load.num_running);
  group.waiting.Set(load.num_waiting);
  const double total = load.total_blocks;
  group.kv_use.Set(total > 0 ? (total - load.free_blocks) / total : 0);
}

}  // namespace tandem::http
