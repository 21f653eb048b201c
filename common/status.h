// Status and StatusOr: Abseil's, behind functions that take std types, because Debian's Abseil has
// a string_view of its own. No exception crosses a room; what can fail returns one of these.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tandem {

using Status = absl::Status;
template <class T>
using StatusOr = absl::StatusOr<T>;
using StatusCode = absl::StatusCode;

Status MakeStatus(StatusCode code, const std::string& message);

inline Status OkStatus() { return absl::OkStatus(); }

// The message alone, as a std::string_view that lives as long as `status`.
std::string_view Message(const Status& status);

template <class... Args>
Status InvalidArgument(fmt::format_string<Args...> format, Args&&... args) {
  return MakeStatus(StatusCode::kInvalidArgument, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
Status NotFound(fmt::format_string<Args...> format, Args&&... args) {
  return MakeStatus(StatusCode::kNotFound, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
Status Unavailable(fmt::format_string<Args...> format, Args&&... args) {
  return MakeStatus(StatusCode::kUnavailable, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
Status ResourceExhausted(fmt::format_string<Args...> format, Args&&... args) {
  return MakeStatus(StatusCode::kResourceExhausted,
                    fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
Status Unsupported(fmt::format_string<Args...> format, Args&&... args) {
  return MakeStatus(StatusCode::kUnimplemented, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
Status Internal(fmt::format_string<Args...> format, Args&&... args) {
  return MakeStatus(StatusCode::kInternal, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace tandem

#define TANDEM_CONCAT_INNER(a, b) a##b
#define TANDEM_CONCAT(a, b) TANDEM_CONCAT_INNER(a, b)

#define TANDEM_RETURN_IF_ERROR(expr)                                                        \
  do {                                                                                      \
    if (::tandem::Status tandem_status = (expr); !tandem_status.ok()) return tandem_status; \
  } while (false)

#define TANDEM_ASSIGN_OR_RETURN(lhs, expr) \
  TANDEM_ASSIGN_OR_RETURN_IMPL(TANDEM_CONCAT(tandem_or_, __LINE__), lhs, expr)
#define TANDEM_ASSIGN_OR_RETURN_IMPL(var, lhs, expr) \
  auto var = (expr);                                 \
  if (!var.ok()) return std::move(var).status();     \
  lhs = std::move(var).value()
