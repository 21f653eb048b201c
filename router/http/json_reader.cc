#include "router/http/json_reader.h"

#include <fmt/format.h>

#include <boost/json/basic_parser_impl.hpp>
#include <boost/json/value.hpp>
#include <boost/json/value_stack.hpp>
#include <cmath>
#include <string>
#include <unordered_set>
#include <vector>

#include "router/http/json_text.h"

namespace tandem::http {
namespace {

namespace json = boost::json;
using Error = boost::system::error_code;

// Builds the value, and refuses what a plain DOM parse would let pass.
struct StrictHandler {
  // Of any body; `max_values` is what counts.
  static constexpr size_t max_object_size = kMaxEmbeddingsJsonValues;
  static constexpr size_t max_array_size = kMaxEmbeddingsJsonValues;
  static constexpr size_t max_key_size = 1024;
  static constexpr size_t max_string_size = size_t{1} << 30;

  json::value_stack stack;
  std::vector<std::unordered_set<std::string>> keys;  // of the open objects
  std::string key;                                    // being read
  int max_values = 0;
  int num_values = 0;
  std::string problem;  // why the handler stopped the parser

  bool Refuse(Error& ec, std::string why) {
    problem = std::move(why);
    ec = json::error::syntax;
    return false;
  }
  bool Count(Error& ec) {
    if (++num_values <= max_values) return true;
    return Refuse(ec, fmt::format("more than {} values", max_values));
  }

  bool on_document_begin(Error&) { return true; }
  bool on_document_end(Error&) { return true; }
  bool on_object_begin(Error&) {
    keys.emplace_back();
    return true;
  }
  bool on_object_end(size_t n, Error& ec) {
    keys.pop_back();
    stack.push_object(n);
    return Count(ec);
  }
  bool on_array_begin(Error&) { return true; }
  bool on_array_end(size_t n, Error& ec) {
    stack.push_array(n);
    return Count(ec);
  }
  bool on_key_part(json::string_view s, size_t, Error&) {
    stack.push_chars(s);
    key.append(s.data(), s.size());
    return true;
  }
  bool on_key(json::string_view s, size_t, Error& ec) {
    stack.push_key(s);
    key.append(s.data(), s.size());
    const bool fresh = keys.back().insert(key).second;
    if (!fresh) return Refuse(ec, fmt::format("the key '{}' appears twice", key));
    key.clear();
    return true;
  }
  bool on_string_part(json::string_view s, size_t, Error&) {
    stack.push_chars(s);
    return true;
  }
  bool on_string(json::string_view s, size_t, Error& ec) {
    stack.push_string(s);
    return Count(ec);
  }
  bool on_number_part(json::string_view, Error&) { return true; }
  bool on_int64(int64_t i, json::string_view, Error& ec) {
    stack.push_int64(i);
    return Count(ec);
  }
  bool on_uint64(uint64_t u, json::string_view, Error& ec) {
    stack.push_uint64(u);
    return Count(ec);
  }
  bool on_double(double d, json::string_view, Error& ec) {
    if (!std::isfinite(d)) return Refuse(ec, "a number is out of range");
    stack.push_double(d);
    return Count(ec);
  }
  bool on_bool(bool b, Error& ec) {
    stack.push_bool(b);
    return Count(ec);
  }
  bool on_null(Error& ec) {
    stack.push_null();
    return Count(ec);
  }
  bool on_comment_part(json::string_view, Error&) { return true; }
  bool on_comment(json::string_view, Error&) { return true; }
};

json::parse_options Options() {
  json::parse_options options;
  options.max_depth = kMaxJsonDepth;
  return options;
}

}  // namespace

std::optional<ApiError> ReadJson(std::string_view body, json::value& out, int max_values) {
  if (const size_t at = FindInvalidUtf8(body); at != std::string_view::npos) {
    return InvalidRequest({}, fmt::format("the body is not valid UTF-8 at byte {}", at),
                          "invalid_utf8");
  }
  json::basic_parser<StrictHandler> parser(Options());
  StrictHandler& handler = parser.handler();
  handler.max_values = max_values;
  handler.stack.reset();
  Error ec;
  const size_t consumed = parser.write_some(false, body.data(), body.size(), ec);
  if (!ec && consumed < body.size()) ec = json::error::extra_data;
  if (ec) {
    return InvalidRequest({},
                          fmt::format("the body is not valid JSON at byte {}: {}", consumed,
                                      handler.problem.empty() ? ec.message() : handler.problem),
                          "invalid_json");
  }
  out = handler.stack.release();
  return std::nullopt;
}

}  // namespace tandem::http
