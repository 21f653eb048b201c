#include "router/http/model_routes.h"

#include <algorithm>
#include <utility>

#include "common/check.h"

namespace tandem::http {

bool ModelRoute::TakeShare(size_t i) {
  Choice& choice = choices_[i];
  choice.credit += choice.share;
  if (choice.credit < 100) return false;
  choice.credit -= 100;
  return true;
}

ModelRoutes::ModelRoutes(const std::vector<std::string>& models,
                         const std::vector<config::Alias>& aliases)
    : names_(models) {
  for (size_t i = 0; i < models.size(); ++i) {
    routes_[models[i]] = std::make_shared<ModelRoute>(
        models[i], std::vector<ModelRoute::Choice>{ModelRoute::Choice{.model = i}});
  }
  for (const config::Alias& alias : aliases) {
    std::vector<ModelRoute::Choice> choices;
    for (const config::AliasChoice& choice : alias.choices) {
      const auto found = std::find(models.begin(), models.end(), choice.model);
      TANDEM_CHECK(found != models.end())
          << "alias '" << alias.name << "' names the unknown model '" << choice.model << "'";
      choices.push_back({.model = static_cast<size_t>(found - models.begin()),
                         .max_prompt_tokens = choice.max_prompt_tokens,
                         .max_ttft = choice.max_ttft,
                         .share = choice.share});
    }
    routes_[alias.name] = std::make_shared<ModelRoute>(alias.name, std::move(choices));
    names_.push_back(alias.name);
  }
}

std::shared_ptr<ModelRoute> ModelRoutes::Find(const std::string& name) const {
  const auto it = routes_.find(name);
  return it == routes_.end() ? nullptr : it->second;
}

}  // namespace tandem::http
