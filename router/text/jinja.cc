#include "router/text/jinja.h"

#include <utility>

#include "router/text/jinja_ast.h"
#include "router/text/jinja_parser.h"
#include "router/text/jinja_renderer.h"

namespace tandem::text {

StatusOr<JinjaTemplate> JinjaTemplate::Parse(std::string_view source) {
  TANDEM_ASSIGN_OR_RETURN(JinjaTree tree, ParseJinja(source));
  JinjaTemplate result;
  result.tree_ = std::make_shared<const JinjaTree>(std::move(tree));
  return result;
}

StatusOr<std::string> JinjaTemplate::Render(const JinjaValue::Map& variables,
                                            const std::tm& now) const {
  if (tree_ == nullptr) return std::string();
  for (const auto& [name, value] : variables) {
    if (value.depth() <= JinjaEnv::kMaxValueDepth) continue;
    return InvalidArgument("chat template: '{}' nests deeper than {}", name,
                           JinjaEnv::kMaxValueDepth);
  }
  return JinjaRenderer(*tree_, variables, now).Run();
}

}  // namespace tandem::text
