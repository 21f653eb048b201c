// What this server takes and answers, as an OpenAPI 3.1 document: made of the parser's own table of
// fields, so that the two agree.
#pragma once

#include <span>
#include <string>

namespace tandem::http {

// `models`: what a request may say in `model`.
std::string OpenApi(std::span<const std::string> models);

}  // namespace tandem::http
