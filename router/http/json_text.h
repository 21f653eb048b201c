// Writing JSON text, and checking UTF-8. Reading JSON is json_reader.h.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tandem::http {

// Appends `text` in quotes, escaped. REQUIRES: valid UTF-8.
void AppendJsonString(std::string& out, std::string_view text);

// Offset of the first byte that is not part of valid UTF-8 (overlong forms, surrogates and code
// points beyond U+10FFFF are not), or npos.
size_t FindInvalidUtf8(std::string_view bytes);

}  // namespace tandem::http
