// Reads a request body as JSON, strictly and within bounds: valid UTF-8, no key twice in an object,
// at most kMaxJsonDepth levels and kMaxJsonValues values, numbers that fit. Boost.JSON behind it.
#pragma once

#include <boost/json/fwd.hpp>
#include <optional>
#include <string_view>

#include "router/http/error.h"

namespace tandem::http {

inline constexpr int kMaxJsonDepth = 32;
inline constexpr int kMaxJsonValues = 100'000;

// Fills `out`, or says what is wrong at which byte.
std::optional<ApiError> ReadJson(std::string_view body, boost::json::value& out);

}  // namespace tandem::http
