// Copying text with every occurrence of a string replaced.
#pragma once

#include <string>
#include <string_view>

namespace tandem::text {

// REQUIRES: `what` is not empty.
inline void AppendReplaced(std::string_view text, std::string_view what, std::string_view with,
                           std::string& out) {
  for (size_t at = 0; at < text.size();) {
    const size_t found = text.find(what, at);
    out.append(text.substr(at, found == std::string_view::npos ? found : found - at));
    if (found == std::string_view::npos) return;
    out.append(with);
    at = found + what.size();
  }
}

}  // namespace tandem::text
