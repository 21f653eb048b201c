// Expressions.
#include <array>
#include <optional>
#include <utility>

#include "router/text/jinja_filters.h"
#include "router/text/jinja_operators.h"
#include "router/text/jinja_print.h"
#include "router/text/jinja_renderer.h"

namespace tandem::text {
namespace {

// For errors: a.b['c'], as far as it is names.
std::string Spelled(const JinjaExpr& expr) {
  if (expr.kind == JinjaExpr::Kind::kName) return expr.text;
  if (expr.kind == JinjaExpr::Kind::kAttribute) return Spelled(expr.children[0]) + "." + expr.text;
  if (expr.kind != JinjaExpr::Kind::kItem) return "(...)";
  const std::string* key = expr.children[1].value.as_string();
  return Spelled(expr.children[0]) + (key != nullptr ? "['" + *key + "']" : "[...]");
}

}  // namespace

StatusOr<JinjaValue> JinjaRenderer::Evaluate(const Expr& expr) {
  if (expr.kind == Expr::Kind::kLiteral) return expr.value;
  if (expr.kind == Expr::Kind::kName) return LookUp(expr.symbol);
  env_.At(expr.line);
  TANDEM_RETURN_IF_ERROR(env_.Work());
  if (++recursion_ > JinjaEnv::kMaxRecursion) return TooDeep();
  StatusOr<Value> value = EvaluateKind(expr);
  --recursion_;
  return value;
}

StatusOr<JinjaValue> JinjaRenderer::EvaluateKind(const Expr& expr) {
  switch (expr.kind) {
    case Expr::Kind::kAttribute:
    case Expr::Kind::kItem:
      return EvaluateAccess(expr);
    case Expr::Kind::kSlice:
      return EvaluateSlice(expr);
    case Expr::Kind::kNot: {
      TANDEM_ASSIGN_OR_RETURN(const Value value, Evaluate(expr.children[0]));
      return Value(!value.Truthy());
    }
    case Expr::Kind::kNegative:
    case Expr::Kind::kPositive: {
      TANDEM_ASSIGN_OR_RETURN(const Value value, Evaluate(expr.children[0]));
      return expr.kind == Expr::Kind::kNegative ? Negative(env_, value) : Positive(env_, value);
    }
    case Expr::Kind::kAnd:
    case Expr::Kind::kOr:
      return EvaluateLogical(expr);
    case Expr::Kind::kConditional:
      return EvaluateConditional(expr);
    case Expr::Kind::kCompare:
      return EvaluateComparison(expr);
    case Expr::Kind::kArithmetic:
      return EvaluateArithmetic(expr);
    case Expr::Kind::kConcat:
      return EvaluateConcat(expr);
    case Expr::Kind::kList:
    case Expr::Kind::kTuple:
      return EvaluateList(expr);
    case Expr::Kind::kMap:
      return EvaluateMap(expr);
    case Expr::Kind::kCall:
      return EvaluateCall(expr);
    case Expr::Kind::kFilter:
      return EvaluateFilter(expr);
    case Expr::Kind::kTest:
      return EvaluateTest(expr);
    case Expr::Kind::kLiteral:
    case Expr::Kind::kName:
      break;
  }
  return Value();
}

const JinjaValue& JinjaRenderer::LookUp(int symbol) const {
  for (size_t i = stack_.size(); i > frame_begin_; --i) {
    if (stack_[i - 1].symbol == symbol) return stack_[i - 1].value;
  }
  for (const JinjaMacro::Range& range : visible_) {
    for (size_t i = std::min(range.end, frame_begin_); i > range.begin; --i) {
      if (stack_[i - 1].symbol == symbol) return stack_[i - 1].value;
    }
  }
  return globals_[static_cast<size_t>(symbol)];
}

// As in Python the result is one of the operands, and the second may not be looked at.
StatusOr<JinjaValue> JinjaRenderer::EvaluateLogical(const Expr& expr) {
  TANDEM_ASSIGN_OR_RETURN(Value left, Evaluate(expr.children[0]));
  if (left.Truthy() == (expr.kind == Expr::Kind::kOr)) return left;
  return Evaluate(expr.children[1]);
}

StatusOr<JinjaValue> JinjaRenderer::EvaluateConditional(const Expr& expr) {
  TANDEM_ASSIGN_OR_RETURN(const Value condition, Evaluate(expr.children[0]));
  return Evaluate(expr.children[condition.Truthy() ? 1 : 2]);
}

// a < b < c is a < b and b < c.
StatusOr<JinjaValue> JinjaRenderer::EvaluateComparison(const Expr& expr) {
  TANDEM_ASSIGN_OR_RETURN(Value left, Evaluate(expr.children[0]));
  for (size_t i = 0; i < expr.ops.size(); ++i) {
    TANDEM_ASSIGN_OR_RETURN(Value right, Evaluate(expr.children[i + 1]));
    env_.At(expr.line);
    TANDEM_ASSIGN_OR_RETURN(const bool holds, Compare(env_, expr.ops[i], left, right));
    if (!holds) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

StatusOr<JinjaValue> JinjaRenderer::EvaluateArithmetic(const Expr& expr) {
  TANDEM_ASSIGN_OR_RETURN(const Value left, Evaluate(expr.children[0]));
  TANDEM_ASSIGN_OR_RETURN(const Value right, Evaluate(expr.children[1]));
  env_.At(expr.line);
  return Arithmetic(env_, expr.ops[0], left, right);
}

StatusOr<JinjaValue> JinjaRenderer::EvaluateConcat(const Expr& expr) {
  std::string text;
  for (const Expr& child : expr.children) {
    TANDEM_ASSIGN_OR_RETURN(const Value value, Evaluate(child));
    TANDEM_RETURN_IF_ERROR(Print(env_, value, text));
  }
  return Value(std::move(text));
}

Status JinjaRenderer::CheckDefined(const Expr& expr, const Value& value) const {
  if (!value.is_undefined()) return OkStatus();
  const std::string* key =
      expr.kind == Expr::Kind::kItem ? expr.children[1].value.as_string() : &expr.text;
  return env_.Error("'{}' is undefined, so it has no '{}'", Spelled(expr.children[0]),
                    key != nullptr ? *key : "[...]");
}

StatusOr<JinjaValue> JinjaRenderer::EvaluateAccess(const Expr& expr) {
  TANDEM_ASSIGN_OR_RETURN(const Value object, Evaluate(expr.children[0]));
  env_.At(expr.line);
  TANDEM_RETURN_IF_ERROR(CheckDefined(expr, object));
  if (expr.kind == Expr::Kind::kAttribute) return Attribute(env_, object, expr.text);
  TANDEM_ASSIGN_OR_RETURN(const Value key, Evaluate(expr.children[1]));
  return Item(env_, object, key);
}

StatusOr<JinjaValue> JinjaRenderer::EvaluateSlice(const Expr& expr) {
  TANDEM_ASSIGN_OR_RETURN(const Value object, Evaluate(expr.children[0]));
  std::array<Value, 3> bounds;
  for (size_t i = 0; i < bounds.size(); ++i) {
    TANDEM_ASSIGN_OR_RETURN(bounds[i], Evaluate(expr.children[i + 1]));
  }
  env_.At(expr.line);
  return Slice(env_, object, bounds);
}

StatusOr<JinjaValue> JinjaRenderer::EvaluateList(const Expr& expr) {
  Value::List list;
  list.reserve(expr.children.size());
  for (const Expr& child : expr.children) {
    TANDEM_ASSIGN_OR_RETURN(Value item, Evaluate(child));
    list.push_back(std::move(item));
  }
  return env_.List(std::move(list),
                   expr.kind == Expr::Kind::kTuple ? Value::Shape::kTuple : Value::Shape::kList);
}

StatusOr<JinjaValue> JinjaRenderer::EvaluateMap(const Expr& expr) {
  Value::Map map;
  for (size_t i = 0; i < expr.children.size(); i += 2) {
    TANDEM_ASSIGN_OR_RETURN(const Value key, Evaluate(expr.children[i]));
    TANDEM_ASSIGN_OR_RETURN(Value value, Evaluate(expr.children[i + 1]));
    const std::optional<std::string> name = KeyOf(key);
    if (!name) {
      return env_.Error("a value of kind {} cannot be the key of a map", key.kind_name());
    }
    TANDEM_RETURN_IF_ERROR(env_.Work(static_cast<int64_t>(map.size() / 16)));
    text::Assign(map, *name, std::move(value));
  }
  return env_.Map(std::move(map));
}

StatusOr<JinjaValue> JinjaRenderer::EvaluateFilter(const Expr& expr) {
  TANDEM_ASSIGN_OR_RETURN(const Value input, Evaluate(expr.children[0]));
  JinjaFilterArguments arguments;
  for (size_t i = 0; i < expr.slots.size(); ++i) {
    TANDEM_ASSIGN_OR_RETURN(arguments[static_cast<size_t>(expr.slots[i])],
                            Evaluate(expr.children[i + 1]));
  }
  env_.At(expr.line);
  return expr.filter->run(env_, input, arguments);
}

StatusOr<JinjaValue> JinjaRenderer::EvaluateTest(const Expr& expr) {
  TANDEM_ASSIGN_OR_RETURN(const Value input, Evaluate(expr.children[0]));
  Value argument;
  if (expr.children.size() > 1) {
    TANDEM_ASSIGN_OR_RETURN(argument, Evaluate(expr.children[1]));
  }
  env_.At(expr.line);
  TANDEM_ASSIGN_OR_RETURN(const bool passes, expr.test->run(env_, input, argument));
  return Value(passes);
}

}  // namespace tandem::text
