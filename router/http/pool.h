// One model of the router: what its text needs, its groups as they are, and the dispatcher that
// chooses between them.
//
// Thread: the I/O thread.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "common/config/cluster_config.h"
#include "common/tokenizer/tokenizer.h"
#include "router/http/probe.h"
#include "router/routing/dispatcher.h"
#include "router/routing/messages.h"
#include "router/text/chat_template.h"

namespace tandem::http {

// What a sequence samples with where its request does not say: as the model's authors would have
// it, else the API's own.
struct SamplingDefaults {
  float temperature = 1, top_p = 1, min_p = 0, repetition_penalty = 1;
  int32_t top_k = 0;       // 0: off
  int32_t max_tokens = 0;  // 0: what the context leaves
};

struct ServedModel {
  std::string name;                                    // in the cluster file
  std::string fingerprint;                             // of model + tokenizer
  const text::Tokenizer* tokenizer = nullptr;          // not owned
  const text::ChatTemplate* chat_template = nullptr;   // not owned; null: the model has none
  routing::Pooling pooling = routing::Pooling::kLast;  // of embeddings
  SamplingDefaults sampling = {};
  text::EncodeCache* encode_cache = nullptr;  // not owned; null: none
};

class Pool {
 public:
  struct Group {
    routing::GroupInfo info;
    Probe::Group series;
    routing::GroupLoad load;  // newest report
    bool draining = false;
  };

  Pool(const ServedModel& model, const std::string& policy, const config::Admission& admission,
       Probe& probe);

  const ServedModel& model() const { return model_; }
  // Control tokens that mark what the model thinks, or that and calls of tools.
  std::span<const TokenId> mark_ids(bool of_tools) const {
    return of_tools ? mark_ids_ : std::span(mark_ids_).first(num_reasoning_marks_);
  }
  routing::Dispatcher& dispatcher() { return dispatcher_; }
  const routing::Dispatcher& dispatcher() const { return dispatcher_; }
  const std::map<int32_t, Group>& groups() const { return groups_; }  // by GroupId: those up
  Probe::Pool& series() { return series_; }

  bool ready() const;  // a group takes new requests
  // Of the longest context that a group takes: its KV memory is the limit, not the model.
  bool memory_bounds_context() const;

  void GroupUp(routing::GroupInfo info, Nanos now);
  void GroupDraining(GroupId group);
  // Its attempts in flight, in order of sending.
  std::vector<routing::Attempt> GroupLost(GroupId group, const std::string& reason);
  // False: the group is not up.
  bool Report(routing::StepReport& report);
  const Group* Find(GroupId group) const;  // null: not up

  // A group of the cluster file, which may not have been heard of.
  void Expect(const std::string& name);
  // Nothing more is said of the others once they are not up.
  void ForgetAllBut(const std::vector<std::string>& names);
  // What is said of groups that are not up, by name.
  const std::map<std::string, std::string>& down_why() const { return down_why_; }

  void SetPolicy(const std::string& name);
  void SetAdmission(const config::Admission& admission);

 private:
  bool IsUp(const std::string& name) const;

  void FindMarks();

  const ServedModel model_;
  std::vector<TokenId> mark_ids_;  // those of reasoning first
  size_t num_reasoning_marks_ = 0;
  Probe& probe_;
  Probe::Pool series_;
  std::string policy_;
  routing::Dispatcher dispatcher_;
  std::map<int32_t, Group> groups_;
  std::map<std::string, std::string> down_why_;
  std::set<std::string> forgotten_;  // up, and in the cluster file no more
};

}  // namespace tandem::http
