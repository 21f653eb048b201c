#include "router/text/jinja_env.h"

namespace tandem::text {

Status JinjaEnv::ErrorWith(const std::string& what) const {
  return InvalidArgument("chat template, line {}: {}", line_, what);
}

Status JinjaEnv::TooManySteps() const {
  return Error("rendering takes more than {} evaluations", kMaxSteps);
}

Status JinjaEnv::TooManyBytes() const {
  return Error("rendering makes more than {} bytes of text and lists", kMaxBytes);
}

Status JinjaEnv::CheckDepth(const JinjaValue& value) const {
  if (value.depth() <= kMaxValueDepth) return OkStatus();
  return Error("lists and maps nest deeper than {}", kMaxValueDepth);
}

StatusOr<JinjaValue> JinjaEnv::Text(std::string text, bool markup) {
  TANDEM_RETURN_IF_ERROR(Make(text.size()));
  return JinjaValue(std::move(text), markup);
}

StatusOr<JinjaValue> JinjaEnv::List(JinjaValue::List items, JinjaValue::Shape shape) {
  TANDEM_RETURN_IF_ERROR(MakeItems(items.size()));
  JinjaValue value(std::move(items), shape);
  TANDEM_RETURN_IF_ERROR(CheckDepth(value));
  return value;
}

StatusOr<JinjaValue> JinjaEnv::Map(JinjaValue::Map entries) {
  TANDEM_RETURN_IF_ERROR(MakeItems(2 * entries.size()));
  JinjaValue value(std::move(entries));
  TANDEM_RETURN_IF_ERROR(CheckDepth(value));
  return value;
}

}  // namespace tandem::text
