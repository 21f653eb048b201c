#include "router/http/openai_response.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <iterator>

#include "router/http/error.h"
#include "router/http/json_text.h"

namespace tandem::http {
namespace {

void AppendModel(std::string& out, const std::string& model, int64_t created) {
  out += "{\"id\":";
  AppendJsonString(out, model);
  fmt::format_to(std::back_inserter(out),
                 ",\"object\":\"model\",\"created\":{},\"owned_by\":\"tandem\"}}", created);
}

}  // namespace

std::string ModelsBody(const std::vector<std::string>& models, int64_t created) {
  std::string out = "{\"object\":\"list\",\"data\":[";
  for (size_t i = 0; i < models.size(); ++i) {
    if (i > 0) out += ',';
    AppendModel(out, models[i], created);
  }
  return out + "]}";
}

std::string ModelBody(const std::string& model, int64_t created) {
  std::string out;
  AppendModel(out, model, created);
  return out;
}

std::string HeadText(const Head& head) {
  std::string out;
  auto to = std::back_inserter(out);
  fmt::format_to(to, "HTTP/1.1 {} {}\r\n", head.status, ReasonPhrase(head.status));
  fmt::format_to(to, "date: {:%a, %d %b %Y %H:%M:%S} GMT\r\n", fmt::gmtime(std::time(nullptr)));
  if (!head.content_type.empty()) fmt::format_to(to, "content-type: {}\r\n", head.content_type);
  if (head.content_length >= 0) fmt::format_to(to, "content-length: {}\r\n", head.content_length);
  if (head.chunked) out += "transfer-encoding: chunked\r\n";
  if (head.stream) out += "cache-control: no-cache\r\nx-accel-buffering: no\r\n";
  if (!head.request_id.empty()) fmt::format_to(to, "x-request-id: {}\r\n", head.request_id);
  // A name may hold anything; a header may not.
  if (!head.model.empty() && std::all_of(head.model.begin(), head.model.end(),
                                         [](char c) { return c > ' ' && c < 0x7f; })) {
    fmt::format_to(to, "x-tandem-model: {}\r\n", head.model);
  }
  if (!head.allow.empty()) fmt::format_to(to, "allow: {}\r\n", head.allow);
  if (head.status == 401) out += "www-authenticate: Bearer\r\n";
  if (head.retry_after > 0) fmt::format_to(to, "retry-after: {}\r\n", head.retry_after);
  if (head.close) out += "connection: close\r\n";
  out += "\r\n";
  return out;
}

void AppendHttpChunk(std::string& out, std::string_view data) {
  fmt::format_to(std::back_inserter(out), "{:x}\r\n", data.size());
  out += data;
  out += "\r\n";
}

}  // namespace tandem::http
