// Replies of /v1/embeddings.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "router/http/generation.h"
#include "router/http/reply_format.h"

namespace tandem::http {

// The body, once every sequence of the call has its embedding. `timing`: JSON, or empty.
std::string EmbeddingsBody(const ApiCall& call, int64_t created, const Usage& usage,
                           std::string_view timing);

}  // namespace tandem::http
