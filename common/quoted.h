// A name that came from a file, as an error may quote it: short and printable.
#pragma once

#include <string>
#include <string_view>

namespace tandem {

inline std::string Quoted(std::string_view text) {
  std::string quoted = "'";
  for (const char c : text.substr(0, 80)) quoted += c >= ' ' && c <= '~' ? c : '?';
  return quoted + (text.size() > 80 ? "...'" : "'");
}

}  // namespace tandem
