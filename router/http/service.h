// Takes requests for text through the cluster: prompt to tokens, tokens to a group, the group's
// tokens back to text. Knows no socket: connections hand it Generations and hear through their
// sinks; groups are behind GroupPort and GroupListener.
//
// Each model has a pool: its groups, and the Dispatcher that chooses between them. What a request
// says in `model` is a route through pools (model_routes.h); it goes on to the next choice when one
// refuses it.
//
// Thread: the I/O thread, but for the GroupListener functions (any thread), which only queue.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include "common/mutex.h"
#include "router/http/error.h"
#include "router/http/generation.h"
#include "router/http/model_routes.h"
#include "router/http/pool.h"
#include "router/http/probe.h"
#include "router/http/prompt.h"
#include "router/http/text_pool.h"
#include "router/http/trace_recorder.h"
#include "router/routing/dispatcher.h"
#include "router/routing/messages.h"

namespace tandem::http {

// What a running router takes over from a cluster file that is read again.
struct ServiceSettings {
  struct Group {
    std::string name, model;
  };
  std::vector<Group> groups;  // of the cluster file, for /health
  std::vector<config::Alias> aliases;
  std::string policy = "ttft";
  config::Admission admission;
  int max_queued_requests = 1024;  // in flight; beyond: 429
  bool several_keys = false;       // then one key has at most half of them

  static ServiceSettings Of(const config::Cluster& cluster);
};

struct ServiceOptions {
  std::vector<ServedModel> models;  // at least one; names differ
  ServiceSettings settings;
  int text_threads = 1;
  size_t inline_text_bytes = 4096;    // a call with more goes to a text thread
  TraceRecorder* recorder = nullptr;  // not owned; null: nothing is recorded
};

class Service : public routing::GroupListener {
 public:
  using Post = std::function<void(std::function<void()>)>;  // to the I/O thread, from any

  // Borrows `metrics` and what models and recorder point to.
  Service(ServiceOptions options, observe::Metrics& metrics, Post post);
  ~Service() override;

  // Before the first Submit. Not owned.
  void Connect(routing::GroupPort* port) { port_ = port; }

  // Ends with an OnFinished for each sequence, or one OnFailed, possibly before this returns.
  // REQUIRES: the call is parsed, its sink set and its sequences made.
  void Submit(const std::shared_ptr<ApiCall>& call);

  // Nobody wants the reply any more: no more calls of the sink, the groups are told. `why` counts
  // in the metrics ("client_gone", "slow_reader", ...). Ended already: no effect.
  void Abandon(ApiCall& call, std::string_view why);

  // /tokenize, /detokenize: `done` is called once with the body of the reply or what is wrong, now
  // or later on this thread.
  using TokenizeDone = std::function<void(std::variant<std::string, ApiError>)>;
  void Tokenize(const std::shared_ptr<const ApiRequest>& api, TokenizeDone done);

  // Calls `make` on a text thread, then `done` with what it made on this one; neither once the text
  // threads are stopped.
  void MakeAside(std::function<std::string()> make, std::function<void(std::string)> done);

  // What waits in queues and has waited too long ends. Several times a second.
  void Tick(Nanos now);

  // Requests in flight keep the route they have. REQUIRES: the aliases name models of this router.
  void Reload(const ServiceSettings& settings);

  // From now on Submit answers 503. Those in flight go on.
  void Drain() { draining_ = true; }
  // Ends the text threads; what they had is not answered. Before the I/O thread's queue goes.
  void StopText() { text_pool_.Stop(); }
  // Fails all in flight; the groups are told.
  void FailAll(const ApiError& error);

  bool draining() const { return draining_; }
  int num_active() const { return static_cast<int>(active_.size()); }
  bool ready() const;  // a group of some model can serve
  // {"status":...,"models":[...],"groups":[...]}; false: the router itself is not well. Its status
  // says that no group can serve only to those who ask for that.
  bool Health(std::string& json, bool asks_ready) const;
  void UpdateGauges();  // those that are only looked at: before the metrics are read
  const std::vector<std::string>& model_names() const { return routes_.names(); }
  const config::Admission& admission() const { return settings_.admission; }
  Probe& probe() { return probe_; }
  void CheckInvariants() const;  // tests

  // GroupListener; any thread.
  void OnGroupUp(const routing::GroupInfo& info) override;
  void OnStep(routing::StepReport report) override;
  void OnGroupLost(GroupId group, const std::string& reason) override;
  void OnGroupDraining(GroupId group) override;

 private:
  using GenerationPtr = std::shared_ptr<Generation>;  // of the call that it lives in
  struct Lost {
    GroupId group;
    std::string reason;
  };
  struct Draining {
    GroupId group;
  };
  using Event = std::variant<routing::GroupInfo, routing::StepReport, Lost, Draining>;

  // service.cc: from request to group.
  void Enter(const std::shared_ptr<ApiCall>& call, size_t count);
  void Advance(const GenerationPtr& generation);
  void PassOver(const GenerationPtr& generation, const ApiError& why);
  void Prepared(const GenerationPtr& generation, PreparedPrompt prompt);
  void Consider(const GenerationPtr& generation);
  void Dispatch(const GenerationPtr& generation);
  void Send(const GenerationPtr& generation, const routing::Dispatch& dispatch);
  void Refuse(const GenerationPtr& generation, const routing::Rejection& rejection);
  void PollPool(Pool& pool, Nanos now);
  Pool& PoolOf(const Generation& generation) const { return *pools_[generation.pool]; }
  void Withdraw(Generation& generation);
  void Fail(const GenerationPtr& generation, const ApiError& error);
  void EndAll(ApiCall& call);
  void End(Generation& generation);
  ApiError NotFound(const std::string& model) const;
  ApiError NoGroup(const ModelRoute& route) const;

  // sequences.cc: what a sequence is.
  static std::optional<ApiError> CheckLength(Generation& generation, const Pool& pool);
  routing::GenerateRequest RequestOf(const Generation& generation) const;
  static void MakeDecoder(Generation& generation, const Pool& pool);

  // group_events.cc: from group to reply.
  void Queue(Event event);
  void HandleEvents();
  void Handle(routing::GroupInfo& info);
  void Handle(routing::StepReport& report);
  void Handle(Lost& lost);
  void Handle(Draining& draining);
  void Resend(const routing::Attempt& attempt, const std::string& group, const std::string& why);
  void HandleTokens(const routing::StepReport& report, routing::SequenceTokens& sequence);
  void AccountFirstToken(Generation& generation, const routing::StepReport& report,
                         const routing::SequenceTokens& sequence, Nanos now);
  void Deliver(const GenerationPtr& generation, const routing::SequenceTokens& sequence);
  void Finish(const GenerationPtr& generation, const routing::SequenceTokens& sequence);
  void FailedAtGroup(const GenerationPtr& generation, const routing::SequenceTokens& sequence);

  // embeddings.cc: what is other than for text.
  routing::Pooling PoolingOf(const Generation& generation) const;
  static std::optional<ApiError> CheckInput(const Generation& generation, const Pool& pool);
  void DeliverEmbedding(const GenerationPtr& generation, const routing::StepReport& report,
                        routing::SequenceTokens& sequence, Nanos now);
  void StartNextInput(const GenerationPtr& ended);

  const ServiceOptions options_;
  ServiceSettings settings_;
  ModelRoutes routes_;
  Probe probe_;
  const Post post_;
  routing::GroupPort* port_ = nullptr;

  bool draining_ = false;
  RequestId last_id_ = 0;
  routing::Rng rng_;
  std::unordered_map<RequestId, GenerationPtr> active_;
  std::unordered_map<uint64_t, int> active_of_;       // by client; none are 0
  std::vector<std::unique_ptr<Pool>> pools_;          // by index of options_.models
  std::unordered_map<int32_t, Pool*> pool_of_group_;  // by GroupId: those that are up

  Mutex events_mutex_;
  std::vector<Event> events_ TANDEM_GUARDED_BY(events_mutex_);
  std::vector<Event> handled_;  // I/O thread; the other half of a pair whose memory is kept
  TextPool text_pool_;          // last: its threads use what is above
};

}  // namespace tandem::http
