#include "bench/load/sse_parser.h"

#include <algorithm>

namespace tandem::load {

void SseParser::EndLine() {
  std::string_view line = line_;
  if (line.starts_with("\xEF\xBB\xBF")) line.remove_prefix(3);  // a byte order mark
  const std::string_view field = line.substr(0, line.find(':'));
  if (field == "data") {
    line.remove_prefix(std::min(line.size(), field.size() + 1));
    if (line.starts_with(' ')) line.remove_prefix(1);
    if (has_data_) data_ += '\n';
    data_ += line;
    has_data_ = true;
  }
  line_.clear();
}

}  // namespace tandem::load
