// What a request may say in `model`, and which models that means in which order: names of models,
// and aliases with their rules. Knows no group; whoever goes through the choices knows what is up
// and what is predicted.
//
// Thread: the I/O thread.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/config/cluster_config.h"
#include "common/ids.h"

namespace tandem::http {

// The models that one name stands for, from the one to be tried first.
class ModelRoute {
 public:
  struct Choice {
    size_t model = 0;           // index into the router's models
    int max_prompt_tokens = 0;  // 0: any
    Nanos max_ttft = 0;         // predicted; 0: any
    int share = 100;            // percent of those that come here
    int credit = 0;             // of TakeShare
  };
  ModelRoute(std::string name, std::vector<Choice> choices)
      : name_(std::move(name)), choices_(std::move(choices)) {}

  const std::string& name() const { return name_; }
  size_t size() const { return choices_.size(); }
  const Choice& at(size_t i) const { return choices_[i]; }
  bool is_last(size_t i) const { return i + 1 == choices_.size(); }

  // Whether the request that came to choice `i` now is one of its share. Not drawn: of any 100 in a
  // row exactly `share` are.
  bool TakeShare(size_t i);

 private:
  const std::string name_;
  std::vector<Choice> choices_;
};

class ModelRoutes {
 public:
  // REQUIRES: every choice of an alias names one of `models`.
  ModelRoutes(const std::vector<std::string>& models, const std::vector<config::Alias>& aliases);

  // Null: nothing is called that. Shared, because a request in flight may outlive a reload.
  std::shared_ptr<ModelRoute> Find(const std::string& name) const;

  // Models, then aliases, as in the cluster file.
  const std::vector<std::string>& names() const { return names_; }

 private:
  std::map<std::string, std::shared_ptr<ModelRoute>> routes_;
  std::vector<std::string> names_;
};

}  // namespace tandem::http
