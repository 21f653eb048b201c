// What a request asks for beside the API of OpenAI: deadline, priority, session; in its header, or
// in vLLM's `priority`.
#pragma once

#include <optional>
#include <string_view>

#include "common/config/cluster_config.h"
#include "router/http/error.h"
#include "router/http/generation.h"
#include "router/http/request_reader.h"

namespace tandem::http {

// Fills ttft_deadline, priority and session of `call`, which is parsed, or says what is wrong.
std::optional<ApiError> ReadOptions(const HttpRequest& request, const config::Admission& admission,
                                    ApiCall& call);

// low -1, normal 0, high 1; nothing: another word.
std::optional<int> PriorityOf(std::string_view name);

}  // namespace tandem::http
