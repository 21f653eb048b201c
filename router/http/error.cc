#include "router/http/error.h"

#include <utility>

#include "router/http/json_text.h"

namespace tandem::http {
namespace {

void AppendNullable(std::string& out, std::string_view text) {
  if (text.empty()) {
    out += "null";
  } else {
    AppendJsonString(out, text);
  }
}

}  // namespace

ApiError InvalidRequest(std::string param, std::string message, std::string code) {
  ApiError error = RequestError(400, std::move(code), std::move(message));
  error.param = std::move(param);
  return error;
}

ApiError RequestError(int status, std::string code, std::string message) {
  ApiError error;
  error.status = status;
  error.type = "invalid_request_error";
  error.code = std::move(code);
  error.message = std::move(message);
  return error;
}

ApiError NotAuthenticated(std::string message) {
  ApiError error = RequestError(401, "invalid_api_key", std::move(message));
  error.type = "authentication_error";
  return error;
}

ApiError TooManyRequests(std::string message) {
  ApiError error = RequestError(429, "too_many_requests", std::move(message));
  error.type = "rate_limit_error";
  error.retry_after = 1;
  return error;
}

ApiError ServerError(int status, std::string code, std::string message) {
  ApiError error = RequestError(status, std::move(code), std::move(message));
  error.type = "server_error";
  if (status == 503) error.retry_after = 1;
  return error;
}

ApiError FromStatus(const Status& status) {
  std::string message(Message(status));
  switch (status.code()) {
    case StatusCode::kInvalidArgument:
    case StatusCode::kUnimplemented:
      return InvalidRequest({}, std::move(message));
    case StatusCode::kNotFound:
      return RequestError(404, "not_found", std::move(message));
    case StatusCode::kResourceExhausted:
      return TooManyRequests(std::move(message));
    case StatusCode::kUnavailable:
      return ServerError(503, "unavailable", std::move(message));
    default:
      return ServerError(500, "internal_error", std::move(message));
  }
}

ApiError FromGroup(routing::ErrorKind kind, const std::string& why, const std::string& form) {
  switch (kind) {
    case routing::ErrorKind::kInvalid:
      return InvalidRequest({}, "The request cannot be served: " + why, "invalid_value");
    case routing::ErrorKind::kGrammar:
      return InvalidRequest(form, why, "invalid_value");
    case routing::ErrorKind::kBusy:
      return TooManyRequests("the group's queue is full: " + why + "; try again");
    case routing::ErrorKind::kInternal:
      break;
  }
  return ServerError(500, "generation_failed", "the request could not be finished: " + why);
}

std::string ErrorJson(const ApiError& error) {
  std::string out = "{\"error\":{\"message\":";
  AppendJsonString(out, error.message);
  out += ",\"type\":";
  AppendJsonString(out, error.type);
  out += ",\"param\":";
  AppendNullable(out, error.param);
  out += ",\"code\":";
  AppendNullable(out, error.code);
  out += "}}";
  return out;
}

std::string_view ReasonPhrase(int status) {
  switch (status) {
    case 100:
      return "Continue";
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    default:
      return status < 500 ? "Error" : "Server Error";
  }
}

}  // namespace tandem::http
