#include "common/status.h"

namespace tandem {

Status MakeStatus(StatusCode code, const std::string& message) {
  return {code, absl::string_view(message.data(), message.size())};
}

std::string_view Message(const Status& status) {
  return {status.message().data(), status.message().size()};
}

}  // namespace tandem
