// From a request to the token ids of one of its prompts: chat template, tokenizer, and what only a
// model's vocabulary can tell to be wrong.
// Thread: any; the model is immutable.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "common/grammar_spec.h"
#include "common/ids.h"
#include "router/http/error.h"
#include "router/http/openai_request.h"
#include "router/http/pool.h"
#include "router/text/reply_parser.h"

namespace tandem::http {

struct PreparedPrompt {
  std::vector<TokenId> tokens;
  std::optional<ApiError> error;  // then there are no tokens
  // Of the reply: how its text is to be read, and what form it has.
  std::optional<text::ReplyParser::Options> reply_syntax;
  grammar::GrammarSpec grammar;
  Nanos wait = 0;  // for a text thread; not set here
  Nanos render = 0, tokenize = 0;
  Nanos cpu = 0;             // of both
  int64_t known_tokens = 0;  // whose text had been tokenized before
};

// The field that prompts come from.
const char* PromptParam(const ApiRequest& api);

// `max_context`: what an input for an embedding is cut to if the request says no more than "what
// fits". REQUIRES: index < api.num_prompts().
PreparedPrompt PreparePrompt(const ApiRequest& api, size_t index, const ServedModel& model,
                             int max_context);

// The text of a prompt that is to be echoed.
std::string EchoOf(const ApiRequest& api, size_t index, const text::Tokenizer& tokenizer);

}  // namespace tandem::http
