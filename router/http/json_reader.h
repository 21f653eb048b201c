// Reads a request body as JSON, strictly and within bounds: valid UTF-8, no key twice in an object,
// bounded levels and values, numbers that fit. Boost.JSON behind it.
#pragma once

#include <boost/json/fwd.hpp>
#include <optional>
#include <string_view>

#include "router/http/error.h"

namespace tandem::http {

inline constexpr int kMaxJsonDepth = 32;
inline constexpr int kMaxJsonValues = 100'000;
// Clients send token ids: of as many tokens as OpenAI takes in one request, 300,000.
inline constexpr int kMaxEmbeddingsJsonValues = 310'000;

// Fills `out`, or says what is wrong at which byte. At most kMaxJsonDepth levels.
std::optional<ApiError> ReadJson(std::string_view body, boost::json::value& out,
                                 int max_values = kMaxJsonValues);

}  // namespace tandem::http
