// Reading one field of a request body into one of ours, with errors that name it. Boost.JSON behind
// it.
#pragma once

#include <boost/json/fwd.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/ids.h"
#include "router/http/error.h"

namespace tandem::http {

using FieldError = std::optional<ApiError>;  // nothing: it was read

inline constexpr size_t kMaxNameBytes = 256;  // of strings that end up in messages and the log

ApiError WrongType(std::string param, std::string_view wanted, const boost::json::value& got);
ApiError WrongValue(std::string param, std::string_view wanted);
ApiError NotSupported(std::string param, std::string_view why);
ApiError UnknownField(std::string param);
ApiError MissingField(std::string param);

std::string_view KindName(const boost::json::value& v);  // "an array"

FieldError ReadString(const std::string& param, const boost::json::value& v, std::string& out);
// Of at most kMaxNameBytes.
FieldError ReadName(const std::string& param, const boost::json::value& v, std::string& out);
FieldError ReadBool(const std::string& param, const boost::json::value& v, bool& out);
FieldError ReadInt(const std::string& param, const boost::json::value& v, int32_t low, int32_t high,
                   int32_t& out);
FieldError ReadTokenIds(const std::string& param, const boost::json::value& v, size_t most,
                        std::vector<TokenId>& out);

}  // namespace tandem::http
