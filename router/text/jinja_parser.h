// A template's text to its tree. Syntax and names (filters, tests, methods) outside the supported
// part of Jinja (see jinja.h) are refused by name and line.
#pragma once

#include <string_view>

#include "common/status.h"
#include "router/text/jinja_ast.h"

namespace tandem::text {

// kInvalidArgument: not Jinja. kUnimplemented: Jinja that is not supported.
StatusOr<JinjaTree> ParseJinja(std::string_view source);

}  // namespace tandem::text
