// Tokens to tree. Syntax outside the supported part (see jinja.h) is refused by name and line.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "router/text/jinja_ast.h"
#include "router/text/jinja_lexer.h"

namespace tandem::text {

// kInvalidArgument: not Jinja. kUnimplemented: Jinja that is not supported.
StatusOr<std::vector<JinjaNode>> ParseJinja(std::string_view source);

}  // namespace tandem::text
