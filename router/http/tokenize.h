// /tokenize and /detokenize: what a model's tokenizer makes of a text or a chat, and back. No group
// is asked.
// Thread: any.
#pragma once

#include <string>
#include <variant>

#include "router/http/error.h"
#include "router/http/openai_request.h"
#include "router/http/pool.h"

namespace tandem::http {

// The body of the reply. `max_model_len`: tokens of prompt and reply; 0: not known now.
// REQUIRES: api is of kTokenize or kDetokenize.
std::variant<std::string, ApiError> TokenizeReply(const ApiRequest& api, const ServedModel& model,
                                                  int max_model_len);

}  // namespace tandem::http
