// Calls of macros, functions and methods.
#include <algorithm>
#include <utility>

#include "router/text/jinja_functions.h"
#include "router/text/jinja_operators.h"
#include "router/text/jinja_renderer.h"

namespace tandem::text {

StatusOr<JinjaArguments> JinjaRenderer::EvaluateArguments(const Expr& expr) {
  JinjaArguments arguments;
  const size_t num_positional = expr.children.size() - 1 - expr.keywords.size();
  for (size_t i = 1; i < expr.children.size(); ++i) {
    TANDEM_ASSIGN_OR_RETURN(Value value, Evaluate(expr.children[i]));
    if (i <= num_positional) {
      arguments.positional.push_back(std::move(value));
    } else {
      arguments.keywords.emplace_back(expr.keywords[i - 1 - num_positional], std::move(value));
    }
  }
  env_.At(expr.line);
  return arguments;
}

// object.method(...) without making a value of the method. Not `is_method`: it is something else.
StatusOr<JinjaValue> JinjaRenderer::CallOfMethod(const Expr& expr, bool& is_method) {
  const Expr& callee = expr.children[0];
  TANDEM_ASSIGN_OR_RETURN(const Value object, Evaluate(callee.children[0]));
  env_.At(callee.line);
  TANDEM_RETURN_IF_ERROR(CheckDefined(callee, object));
  if (auto* loop = As<JinjaLoop>(object); loop != nullptr) {
    is_method = true;
    TANDEM_ASSIGN_OR_RETURN(const JinjaArguments arguments, EvaluateArguments(expr));
    return CallLoop(*loop, callee.text, arguments);
  }
  const JinjaMethod method = MethodOf(object, callee.text);
  is_method = method != JinjaMethod::kNone;
  if (!is_method) return Attribute(env_, object, callee.text);
  if (method == JinjaMethod::kChanges) {
    return env_.Error("a template may not call '{}' of a {}", callee.text, object.kind_name());
  }
  TANDEM_ASSIGN_OR_RETURN(const JinjaArguments arguments, EvaluateArguments(expr));
  return CallMethod(env_, object, method, arguments);
}

StatusOr<JinjaValue> JinjaRenderer::EvaluateCall(const Expr& expr, const Value* caller) {
  const Expr& callee_expr = expr.children[0];
  Value callee;
  if (callee_expr.kind == Expr::Kind::kAttribute) {
    bool is_method = false;
    TANDEM_ASSIGN_OR_RETURN(callee, CallOfMethod(expr, is_method));
    if (is_method) return callee;
  } else {
    TANDEM_ASSIGN_OR_RETURN(callee, Evaluate(callee_expr));
  }
  if (callee.is_undefined()) {
    env_.At(expr.line);
    return env_.Error("'{}' is undefined, so it cannot be called", callee_expr.text);
  }
  TANDEM_ASSIGN_OR_RETURN(JinjaArguments arguments, EvaluateArguments(expr));
  if (caller != nullptr) arguments.keywords.emplace_back("caller", *caller);
  return Call(callee, std::move(arguments));
}

StatusOr<JinjaValue> JinjaRenderer::Call(const Value& callee, JinjaArguments arguments) {
  if (const auto* macro = As<JinjaMacro>(callee)) return CallMacro(*macro, arguments);
  if (const auto* function = As<JinjaFunction>(callee)) {
    return CallFunction(env_, function->id, arguments, now_);
  }
  if (const auto* bound = As<JinjaBoundMethod>(callee)) {
    return CallMethod(env_, bound->object, bound->method, arguments);
  }
  return env_.Error("a value of kind {} cannot be called", callee.kind_name());
}

// loop.cycle(a, b, ...) and loop.changed(a, ...)
StatusOr<JinjaValue> JinjaRenderer::CallLoop(JinjaLoop& loop, std::string_view method,
                                             const JinjaArguments& arguments) {
  if (method == "cycle" && !arguments.positional.empty()) {
    const auto count = static_cast<int64_t>(arguments.positional.size());
    return arguments.positional[static_cast<size_t>(loop.index0 % count)];
  }
  if (method != "changed") return env_.Error("a loop has no method '{}'", method);
  for (const Value& value : arguments.positional) {
    if (value.as_object() != nullptr) return env_.Error("'changed' takes plain values");
  }
  TANDEM_ASSIGN_OR_RETURN(Value now, env_.List(arguments.positional, Value::Shape::kTuple));
  TANDEM_ASSIGN_OR_RETURN(const bool same, Equal(env_, loop.changed, now));
  loop.changed = std::move(now);
  return Value(!same);
}

// --- macros

StatusOr<JinjaValue> JinjaRenderer::CallMacro(const JinjaMacro& macro, JinjaArguments& arguments) {
  // The macro may be replaced while it runs.
  const std::shared_ptr<const JinjaMacroBody> body = macro.body;
  std::vector<JinjaMacro::Range> visible = std::exchange(visible_, macro.visible);
  const size_t frame_begin = std::exchange(frame_begin_, stack_.size());
  std::string outer = std::exchange(output_, {});
  Status status;
  {
    const Scope scope(*this);
    status = BindParameters(*body, arguments);
    if (status.ok()) status = RenderBody(body->body);
  }
  std::string text = std::exchange(output_, std::move(outer));
  frame_begin_ = frame_begin;
  visible_ = std::move(visible);
  TANDEM_RETURN_IF_ERROR(status);
  return Value(std::move(text));
}

Status JinjaRenderer::BindParameters(const JinjaMacroBody& body, JinjaArguments& arguments) {
  const size_t count = body.parameters.size();
  const size_t first_default = count - body.defaults.size();
  for (size_t i = 0; i < count; ++i) {
    Value value;
    const auto named =
        std::find_if(arguments.keywords.begin(), arguments.keywords.end(),
                     [&](const auto& entry) { return entry.first == body.parameter_names[i]; });
    bool given = true;
    if (i < arguments.positional.size()) {
      value = arguments.positional[i];
    } else if (named != arguments.keywords.end()) {
      value = std::move(named->second);
      arguments.keywords.erase(named);
    } else {
      given = false;
    }
    if (!given && i >= first_default) {
      TANDEM_ASSIGN_OR_RETURN(value, Evaluate(body.defaults[i - first_default]));
    }
    Set(body.parameters[i], std::move(value));
  }
  return BindRest(body, arguments);
}

// Arguments that no parameter takes: `caller`, `varargs`, `kwargs`.
Status JinjaRenderer::BindRest(const JinjaMacroBody& body, JinjaArguments& arguments) {
  const auto caller = std::find_if(arguments.keywords.begin(), arguments.keywords.end(),
                                   [](const auto& entry) { return entry.first == "caller"; });
  if (caller != arguments.keywords.end()) {
    if (caller_symbol_ >= 0) Set(caller_symbol_, std::move(caller->second));
    arguments.keywords.erase(caller);
  }
  const size_t count = body.parameters.size();
  if (body.uses_kwargs) {
    TANDEM_ASSIGN_OR_RETURN(Value rest, env_.Map(std::move(arguments.keywords)));
    Set(kwargs_symbol_, std::move(rest));
  } else if (!arguments.keywords.empty()) {
    return env_.Error("the macro '{}' takes no argument '{}'", body.name,
                      arguments.keywords[0].first);
  }
  Value::List more;
  for (size_t i = count; i < arguments.positional.size(); ++i) {
    more.push_back(arguments.positional[i]);
  }
  if (body.uses_varargs) {
    TANDEM_ASSIGN_OR_RETURN(Value rest, env_.List(std::move(more), Value::Shape::kTuple));
    Set(varargs_symbol_, std::move(rest));
  } else if (!more.empty()) {
    return env_.Error("the macro '{}' takes at most {} arguments", body.name, count);
  }
  return OkStatus();
}

}  // namespace tandem::text
