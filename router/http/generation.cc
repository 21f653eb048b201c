#include "router/http/generation.h"

#include <algorithm>

namespace tandem::http {

bool ApiCall::ended() const {
  return std::all_of(generations.begin(), generations.end(),
                     [](const Generation& g) { return g.ended; });
}

std::string_view ApiCall::served_model() const {
  const auto served = std::find_if(generations.begin(), generations.end(),
                                   [](const Generation& g) { return !g.served_model.empty(); });
  return served == generations.end() ? std::string_view() : served->served_model;
}

void MakeGenerations(ApiCall& call) {
  const size_t prompts = call.api.num_prompts();
  const auto of_each = static_cast<size_t>(call.api.best_of);
  call.generations.resize(prompts * of_each);
  for (size_t i = 0; i < call.generations.size(); ++i) {
    Generation& g = call.generations[i];
    g.call = &call;
    g.prompt_index = static_cast<int>(i / of_each);
    g.index = static_cast<uint32_t>(i % of_each);
    g.account = call.before;
  }
}

}  // namespace tandem::http
