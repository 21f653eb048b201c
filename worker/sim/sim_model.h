// What a simulated group needs of a model file: enough to be welcome at a router and to answer in
// tokens that it can turn into text. Any architecture; no weights are read.
#pragma once

#include <string>
#include <vector>

#include "common/ids.h"
#include "common/status.h"

namespace tandem::sim {

struct SimModel {
  int vocab_size = 0;
  int max_context = 0;  // what the model was trained for
  std::string fingerprint;
  // What replies are made of, ascending: plain text if the vocabulary has any, so that each token
  // is a piece of text of its own; never control tokens, so that no reply ends before max_tokens.
  std::vector<TokenId> reply_tokens;
};

StatusOr<SimModel> LoadSimModel(const std::string& path);

}  // namespace tandem::sim
