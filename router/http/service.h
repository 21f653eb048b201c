// Takes requests for text through the cluster: prompt to tokens, tokens to a group, the group's
// tokens back to text. Knows no socket: connections hand it Generations and hear through their
// sinks; groups are behind GroupPort and GroupListener.
//
// Thread: the I/O thread, but for the GroupListener functions (any thread), which only queue.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include "common/mutex.h"
#include "router/http/error.h"
#include "router/http/generation.h"
#include "router/http/probe.h"
#include "router/http/text_pool.h"
#include "router/routing/group_selector.h"
#include "router/routing/latency_model.h"
#include "router/routing/ledger.h"
#include "router/routing/messages.h"
#include "router/routing/prefix_index.h"
#include "router/text/chat_template.h"
#include "router/text/tokenizer.h"

namespace tandem::http {

struct ServiceOptions {
  std::string model;                // its name in requests
  std::vector<std::string> groups;  // names in the cluster file, for /health
  int max_queued_requests = 1024;   // in flight; beyond: 429
  int text_threads = 1;
  size_t inline_text_bytes = 4096;  // longer prompts go to a text thread
};

class Service : public routing::GroupListener {
 public:
  using Post = std::function<void(std::function<void()>)>;  // to the I/O thread, from any

  // Borrows all but `options`. `chat_template` null: the model has none.
  Service(ServiceOptions options, const text::Tokenizer& tokenizer,
          const text::ChatTemplate* chat_template, observe::Metrics& metrics, Post post);
  ~Service() override;

  // Before the first Submit. Not owned.
  void Connect(routing::GroupPort* port) { port_ = port; }

  // Ends with one OnFinished or OnFailed, possibly before this returns.
  // REQUIRES: generation->api is parsed and its sink set.
  void Submit(std::shared_ptr<Generation> generation);

  // Nobody wants the reply any more: no more calls of the sink, the group is told. `why` counts in
  // the metrics ("client_gone", "slow_reader", ...). Ended already: no effect.
  void Abandon(Generation& generation, std::string_view why);

  // From now on Submit answers 503. Those in flight go on.
  void Drain() { draining_ = true; }
  // Ends the text threads; what they had is not answered. Before the I/O thread's queue goes.
  void StopText() { text_pool_.Stop(); }
  // Fails all in flight; the groups are told.
  void FailAll(const ApiError& error);

  bool draining() const { return draining_; }
  int num_active() const { return static_cast<int>(active_.size()); }
  bool ready() const;  // a group can serve
  // {"status":...,"groups":[...]}; false: the router itself is not well.
  bool Health(std::string& json) const;
  int max_context() const;  // of the groups that are up; 0: none
  const ServiceOptions& options() const { return options_; }
  Probe& probe() { return probe_; }
  const routing::Ledger& ledger() const { return ledger_; }

  // GroupListener; any thread.
  void OnGroupUp(const routing::GroupInfo& info) override;
  void OnStep(routing::StepReport report) override;
  void OnGroupLost(GroupId group, const std::string& reason) override;
  void OnGroupDraining(GroupId group) override;

 private:
  using GenerationPtr = std::shared_ptr<Generation>;
  struct Prompt {  // what a text thread makes
    StatusOr<std::vector<TokenId>> tokens = std::vector<TokenId>();
    Nanos wait = 0, render = 0, tokenize = 0;
  };
  struct Group {
    routing::GroupInfo info;
    Probe::Group series;
    routing::GroupLoad load;
    Nanos reported_at = 0;
    bool draining = false;
  };
  struct Lost {
    GroupId group;
    std::string reason;
  };
  struct Draining {
    GroupId group;
  };
  using Event = std::variant<routing::GroupInfo, routing::StepReport, Lost, Draining>;

  // service.cc: from request to group.
  Prompt Prepare(const ApiRequest& api) const;
  void Prepared(const GenerationPtr& generation, Prompt prompt);
  std::optional<ApiError> CheckLength(Generation& generation) const;
  bool Dispatch(const GenerationPtr& generation);  // false: no group can take it
  std::vector<BlockHash> HashChain(const Generation& generation,
                                   const routing::GroupInfo& info) const;
  void SendCancel(Generation& generation);
  void Fail(const GenerationPtr& generation, const ApiError& error);
  void End(Generation& generation);
  ApiError NoGroup() const;

  // group_events.cc: from group to reply.
  void Queue(Event event);
  void HandleEvents();
  void Handle(routing::GroupInfo& info);
  void Handle(routing::StepReport& report);
  void Handle(Lost& lost);
  void Handle(Draining& draining);
  void HandleKvEvents(const routing::StepReport& report);
  void HandleTokens(const routing::StepReport& report, routing::SequenceTokens& sequence);
  void AccountFirstToken(Generation& generation, const routing::StepReport& report,
                         const routing::SequenceTokens& sequence, Nanos now);
  void Deliver(const GenerationPtr& generation, const routing::SequenceTokens& sequence);

  const ServiceOptions options_;
  const text::Tokenizer& tokenizer_;
  const text::ChatTemplate* const chat_template_;
  Probe probe_;
  const Post post_;
  routing::GroupPort* port_ = nullptr;

  bool draining_ = false;
  RequestId last_id_ = 0;
  routing::Rng rng_;
  std::unordered_map<RequestId, GenerationPtr> active_;
  std::map<int32_t, Group> groups_;              // by GroupId: those that are up
  std::map<std::string, std::string> down_why_;  // by name: why a group of the file is not up
  std::map<std::string, routing::LatencyModel> models_;  // by device class
  routing::PrefixIndex index_;
  routing::Ledger ledger_;

  Mutex events_mutex_;
  std::vector<Event> events_ TANDEM_GUARDED_BY(events_mutex_);
  std::vector<Event> handled_;  // I/O thread; the other half of a pair whose memory is kept
  TextPool text_pool_;          // last: its threads use what is above
};

}  // namespace tandem::http
