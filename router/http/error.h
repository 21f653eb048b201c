// Errors as clients see them: an HTTP status and the OpenAI error object. The one place that maps
// causes to statuses; docs/errors.md lists them.
#pragma once

#include <string>
#include <string_view>

#include "common/status.h"
#include "router/routing/messages.h"

namespace tandem::http {

struct ApiError {
  int status = 500;
  std::string
      type;  // invalid_request_error | authentication_error | rate_limit_error | server_error
  std::string code;   // for programs; empty: null
  std::string param;  // the field at fault; empty: null
  std::string message;
  int retry_after = 0;  // seconds; 0: no Retry-After header
  std::string allow;    // of a 405
  bool close = false;   // the connection cannot be used again
};

ApiError InvalidRequest(std::string param, std::string message, std::string code = {});
ApiError RequestError(int status, std::string code, std::string message);  // 4xx but 400, 401, 429
ApiError NotAuthenticated(std::string message);                            // 401
ApiError TooManyRequests(std::string message);                             // 429
ApiError ServerError(int status, std::string code, std::string message);   // 5xx

// A Status of another room. kInvalidArgument is the client's mistake; the rest are ours.
ApiError FromStatus(const Status& status);

// A sequence that its group ended with FinishReason::kError. `form`: the field that said what form
// its text has; empty: none did.
ApiError FromGroup(routing::ErrorKind kind, const std::string& why, const std::string& form);

// {"error":{"message":...,"type":...,"param":...,"code":...}}
std::string ErrorJson(const ApiError& error);

std::string_view ReasonPhrase(int status);  // "Not Found"

}  // namespace tandem::http
