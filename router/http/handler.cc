#include "router/http/handler.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <ctime>
#include <string_view>
#include <utility>

#include "common/config/values.h"
#include "router/http/json_text.h"
#include "router/http/openai_response.h"
#include "router/http/openapi.h"

namespace tandem::http {
namespace {

constexpr std::string_view kModelsPrefix = "/v1/models/";

struct PostPath {
  std::string_view path;
  Endpoint endpoint;
};
constexpr std::array kPosts = {PostPath{"/v1/chat/completions", Endpoint::kChat},
                               PostPath{"/v1/completions", Endpoint::kCompletions},
                               PostPath{"/v1/responses", Endpoint::kResponses},
                               PostPath{"/v1/embeddings", Endpoint::kEmbeddings},
                               PostPath{"/tokenize", Endpoint::kTokenize},
                               PostPath{"/detokenize", Endpoint::kDetokenize}};
constexpr std::array<std::string_view, 5> kGets = {"/v1/models", "/health", "/ready", "/metrics",
                                                   "/openapi.json"};

const PostPath* FindPost(std::string_view path) {
  const auto at = std::find_if(kPosts.begin(), kPosts.end(),
                               [&](const PostPath& post) { return post.path == path; });
  return at == kPosts.end() ? nullptr : at;
}

// What a path takes; empty: there is no such path.
std::string_view AllowedMethods(std::string_view path) {
  if (FindPost(path) != nullptr) return "POST, OPTIONS";
  if (std::find(kGets.begin(), kGets.end(), path) != kGets.end() ||
      (path.starts_with(kModelsPrefix) && path.size() > kModelsPrefix.size())) {
    return "GET, HEAD, OPTIONS";
  }
  return {};
}

bool Allows(std::string_view methods, std::string_view method) {
  const size_t at = methods.find(method);
  return at != std::string_view::npos && !method.empty() && (at == 0 || methods[at - 1] == ' ') &&
         (at + method.size() == methods.size() || methods[at + method.size()] == ',');
}

// `wanted`: in lower case.
bool StartsWithNoCase(std::string_view text, std::string_view wanted) {
  return text.size() >= wanted.size() &&
         std::equal(wanted.begin(), wanted.end(), text.begin(), [](char want, char got) {
           return std::tolower(static_cast<unsigned char>(got)) == want;
         });
}

bool IsJson(std::string_view content_type) {
  const std::string_view wanted = "application/json";
  if (!StartsWithNoCase(content_type, wanted)) return false;
  const std::string_view rest = content_type.substr(wanted.size());
  return rest.empty() || rest.front() == ';' || rest.front() == ' ';
}

bool IsIdentity(std::string_view content_encoding) {
  const std::string_view identity = "identity";
  return content_encoding.empty() || (content_encoding.size() == identity.size() &&
                                      StartsWithNoCase(content_encoding, identity));
}

Answer Json(int status, std::string body) {
  Answer answer;
  answer.status = status;
  answer.content_type = "application/json";
  answer.body = std::move(body);
  return answer;
}

}  // namespace

Handler::Handler(Service& service, ApiKeys keys, const observe::Metrics& metrics)
    : service_(service),
      keys_(std::move(keys)),
      metrics_(metrics),
      started_at_(std::time(nullptr)),
      rng_(std::random_device{}()) {}

std::optional<ApiError> Handler::Check(const HttpRequest& request) const {
  if (request.bad_expectation) {
    return RequestError(417, "expectation_failed", "the only Expect known is 100-continue");
  }
  const std::string_view allowed = AllowedMethods(request.path);
  if (allowed.empty()) {
    return RequestError(404, "not_found",
                        fmt::format("there is no '{}' here; the API is at /v1/chat/completions, "
                                    "/v1/completions, /v1/responses, /v1/embeddings, "
                                    "/v1/models, /tokenize and /detokenize; see /openapi.json",
                                    FindInvalidUtf8(request.path) == std::string::npos
                                        ? request.path
                                        : std::string("(not UTF-8)")));
  }
  if (!Allows(allowed, request.method)) {
    ApiError error =
        RequestError(405, "method_not_allowed", fmt::format("{} takes {}", request.path, allowed));
    error.allow = allowed;
    return error;
  }
  const bool options = request.method == "OPTIONS";
  // What costs something, or tells of models.
  const bool guarded = request.path.starts_with("/v1/") || FindPost(request.path) != nullptr;
  if (keys_.required() && !options && guarded) {
    if (request.authorization.empty()) {
      return NotAuthenticated("No API key: send 'Authorization: Bearer KEY'.");
    }
    if (!keys_.Allows(request.authorization)) return NotAuthenticated("Incorrect API key.");
  }
  if (!IsIdentity(request.content_encoding)) {
    return RequestError(415, "unsupported_content_encoding",
                        "the body must not be compressed; send it without 'Content-Encoding'");
  }
  if (request.method == "POST" && !IsJson(request.content_type)) {
    return RequestError(415, "unsupported_media_type",
                        "the body must be JSON; send 'Content-Type: application/json'");
  }
  return std::nullopt;
}

std::variant<Answer, Endpoint> Handler::Handle(const HttpRequest& request) const {
  if (request.method == "OPTIONS") {
    Answer answer;
    answer.status = 204;
    answer.allow = AllowedMethods(request.path);
    return answer;
  }
  if (const PostPath* post = FindPost(request.path)) return post->endpoint;
  Answer answer = Get(request.path);
  answer.head_only = request.method == "HEAD";
  return answer;
}

Answer Handler::Get(const std::string& path) const {
  const std::vector<std::string>& models = service_.model_names();
  if (path == "/v1/models") return Json(200, ModelsBody(models, started_at_));
  if (path.starts_with(kModelsPrefix)) {
    const std::string name = path.substr(kModelsPrefix.size());
    if (std::find(models.begin(), models.end(), name) != models.end()) {
      return Json(200, ModelBody(name, started_at_));
    }
    ApiError error = RequestError(404, "model_not_found",
                                  fmt::format("This model does not exist; this server has '{}'.",
                                              config::Join(models, "', '")));
    error.param = "model";
    return ErrorAnswer(error);
  }
  if (path == "/openapi.json") return JsonAnswer(OpenApi(models));
  if (path == "/metrics") {
    Answer answer;
    answer.content_type = "text/plain; version=0.0.4; charset=utf-8";
    service_.UpdateGauges();
    answer.body = metrics_.Text();
    return answer;
  }
  std::string health;
  const bool well = service_.Health(health, /*asks_ready=*/path == "/ready");
  const bool good = path == "/health" ? well : well && service_.ready() && !service_.draining();
  return Json(good ? 200 : 503, std::move(health));
}

Answer Handler::JsonAnswer(std::string body) { return Json(200, std::move(body)); }

Answer Handler::ErrorAnswer(const ApiError& error) {
  Answer answer = Json(error.status, ErrorJson(error));
  answer.allow = error.allow;
  answer.retry_after = error.retry_after;
  answer.close = error.close;
  answer.error_code = error.code;
  return answer;
}

std::string Handler::RequestIdFor(const HttpRequest& request) {
  const std::string& id = request.request_id;
  const bool good =
      !id.empty() && id.size() <= 128 && std::all_of(id.begin(), id.end(), [](char c) {
        return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_' ||
               c == '.' || c == ':';
      });
  return good ? id : fmt::format("req-{:016x}", rng_());
}

}  // namespace tandem::http
