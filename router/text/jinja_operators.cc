#include "router/text/jinja_operators.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "router/text/jinja_text.h"

namespace tandem::text {
namespace {

using Value = JinjaValue;

Status TypeError(const JinjaEnv& env, JinjaOp op, const Value& left, const Value& right) {
  return env.Error("the operator '{}' does not take values of kind {} and {}", OpName(op),
                   left.kind_name(), right.kind_name());
}

bool IsInteger(const Value& value) { return value.is_number() && value.as_float() == nullptr; }

Status OutOfRange(const JinjaEnv& env) { return env.Error("a number leaves the range of 64 bits"); }
Status ByZero(const JinjaEnv& env) { return env.Error("division by zero"); }

StatusOr<Value> IntegerPower(JinjaEnv& env, int64_t base, int64_t exponent) {
  int64_t result = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result))
      return OutOfRange(env);
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) return OutOfRange(env);
  }
  return Value(result);
}

// As Python rounds: towards minus infinity. REQUIRES: b is not 0; a / b does not overflow.
int64_t FloorDivide(int64_t a, int64_t b) {
  const int64_t quotient = a / b;
  return quotient - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
}

int64_t FloorRest(int64_t a, int64_t b) {
  const int64_t rest = a % b;
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

StatusOr<Value> IntegerArithmetic(JinjaEnv& env, JinjaOp op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  switch (op) {
    case JinjaOp::kAdd:
      overflow = __builtin_add_overflow(a, b, &result);
      break;
    case JinjaOp::kSubtract:
      overflow = __builtin_sub_overflow(a, b, &result);
      break;
    case JinjaOp::kMultiply:
      overflow = __builtin_mul_overflow(a, b, &result);
      break;
    case JinjaOp::kFloorDivide:
    case JinjaOp::kModulo:
      if (b == 0) return ByZero(env);
      if (b == -1) {
        overflow = op == JinjaOp::kFloorDivide && __builtin_sub_overflow(0, a, &result);
        break;
      }
      result = op == JinjaOp::kFloorDivide ? FloorDivide(a, b) : FloorRest(a, b);
      break;
    default:
      return IntegerPower(env, a, b);
  }
  if (overflow) return OutOfRange(env);
  return Value(result);
}

StatusOr<Value> FloatArithmetic(JinjaEnv& env, JinjaOp op, double a, double b) {
  const bool divides =
      op == JinjaOp::kDivide || op == JinjaOp::kFloorDivide || op == JinjaOp::kModulo;
  if (divides && b == 0) return ByZero(env);
  switch (op) {
    case JinjaOp::kAdd:
      return Value(a + b);
    case JinjaOp::kSubtract:
      return Value(a - b);
    case JinjaOp::kMultiply:
      return Value(a * b);
    case JinjaOp::kDivide:
      return Value(a / b);
    case JinjaOp::kFloorDivide:
      return Value(std::floor(a / b));
    case JinjaOp::kModulo: {
      const double rest = std::fmod(a, b);
      return Value(rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest);
    }
    default:
      break;
  }
  const double power = std::pow(a, b);
  if (!std::isfinite(power) && std::isfinite(a))
    return env.Error("a power leaves the range of numbers");
  return Value(power);
}

StatusOr<Value> AddText(JinjaEnv& env, const Value& left, const Value& right) {
  const std::string& a = *left.as_string();
  const std::string& b = *right.as_string();
  if (!left.is_markup() && !right.is_markup()) {
    TANDEM_RETURN_IF_ERROR(env.Make(a.size() + b.size()));
    std::string text;
    text.reserve(a.size() + b.size());
    text += a;
    text += b;
    return Value(std::move(text));
  }
  return env.Text((left.is_markup() ? a : EscapeHtml(a)) + (right.is_markup() ? b : EscapeHtml(b)),
                  true);
}

StatusOr<Value> Repeat(JinjaEnv& env, const Value& what, int64_t count) {
  count = std::max<int64_t>(count, 0);
  if (const std::string* text = what.as_string()) {
    if (!text->empty() && count > static_cast<int64_t>(JinjaEnv::kMaxBytes / text->size())) {
      return env.Make(JinjaEnv::kMaxBytes + 1);
    }
    std::string out;
    if (text->empty()) count = 0;
    out.reserve(text->size() * static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) out += *text;
    return env.Text(std::move(out));
  }
  const Value::List& list = *what.as_list();
  if (!list.empty() && count > JinjaEnv::kMaxSteps / static_cast<int64_t>(list.size())) {
    return env.Work(JinjaEnv::kMaxSteps + 1);
  }
  if (list.empty()) count = 0;
  TANDEM_RETURN_IF_ERROR(env.MakeItems(list.size() * static_cast<size_t>(count)));
  Value::List out;
  out.reserve(list.size() * static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) out.insert(out.end(), list.begin(), list.end());
  return Value(std::move(out), what.shape());
}

bool IsList(const Value& value) {
  return value.as_list() != nullptr && value.shape() <= Value::Shape::kTuple;
}

// `value` is what `*` repeats.
bool CanRepeat(const Value& value) { return value.as_string() != nullptr || IsList(value); }

StatusOr<Value> AddLists(JinjaEnv& env, const Value& left, const Value& right) {
  TANDEM_RETURN_IF_ERROR(env.MakeItems(left.as_list()->size() + right.as_list()->size()));
  Value::List all = *left.as_list();
  all.insert(all.end(), right.as_list()->begin(), right.as_list()->end());
  return Value(std::move(all), left.shape());
}

// -1, 0, 1, or nothing: the two cannot be ordered.
StatusOr<std::optional<int>> Order(JinjaEnv& env, const Value& left, const Value& right) {
  TANDEM_RETURN_IF_ERROR(env.Work());
  const auto order = [](const auto& a, const auto& b) { return a < b ? -1 : a > b ? 1 : 0; };
  if (IsInteger(left) && IsInteger(right))
    return std::optional(order(left.integer(), right.integer()));
  if (left.is_number() && right.is_number())
    return std::optional(order(left.number(), right.number()));
  if (left.as_string() != nullptr && right.as_string() != nullptr) {
    TANDEM_RETURN_IF_ERROR(env.Scan(std::min(left.as_string()->size(), right.as_string()->size())));
    return std::optional(order(*left.as_string(), *right.as_string()));
  }
  if (!IsList(left) || !IsList(right) || left.shape() != right.shape()) {
    return std::optional<int>();
  }
  const Value::List& a = *left.as_list();
  const Value::List& b = *right.as_list();
  for (size_t i = 0; i < a.size() && i < b.size(); ++i) {
    TANDEM_ASSIGN_OR_RETURN(const bool equal, Equal(env, a[i], b[i]));
    if (!equal) return Order(env, a[i], b[i]);
  }
  return std::optional(order(a.size(), b.size()));
}

StatusOr<bool> EqualItems(JinjaEnv& env, const Value::List& a, const Value::List& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    TANDEM_ASSIGN_OR_RETURN(const bool equal, Equal(env, a[i], b[i]));
    if (!equal) return false;
  }
  return true;
}

StatusOr<bool> EqualMaps(JinjaEnv& env, const Value::Map& a, const Value::Map& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [key, value] : a) {
    TANDEM_RETURN_IF_ERROR(env.Work(1 + static_cast<int64_t>(b.size() / 16)));
    const Value* other = Find(b, key);
    if (other == nullptr) return false;
    TANDEM_ASSIGN_OR_RETURN(const bool equal, Equal(env, value, *other));
    if (!equal) return false;
  }
  return true;
}

}  // namespace

StatusOr<Value> Arithmetic(JinjaEnv& env, JinjaOp op, const Value& left, const Value& right) {
  if (left.is_number() && right.is_number()) {
    const bool to_float = op == JinjaOp::kDivide || (op == JinjaOp::kPower && right.number() < 0);
    if (IsInteger(left) && IsInteger(right) && !to_float) {
      return IntegerArithmetic(env, op, left.integer(), right.integer());
    }
    return FloatArithmetic(env, op, left.number(), right.number());
  }
  if (op == JinjaOp::kAdd && left.as_string() != nullptr && right.as_string() != nullptr) {
    return AddText(env, left, right);
  }
  if (op == JinjaOp::kAdd && IsList(left) && IsList(right) && left.shape() == right.shape()) {
    return AddLists(env, left, right);
  }
  if (op == JinjaOp::kMultiply && CanRepeat(left) && IsInteger(right)) {
    return Repeat(env, left, right.integer());
  }
  if (op == JinjaOp::kMultiply && CanRepeat(right) && IsInteger(left)) {
    return Repeat(env, right, left.integer());
  }
  return TypeError(env, op, left, right);
}

StatusOr<Value> Negative(JinjaEnv& env, const Value& value) {
  if (const double* number = value.as_float()) return Value(-*number);
  if (!value.is_number()) return env.Error("cannot negate a value of kind {}", value.kind_name());
  return IntegerArithmetic(env, JinjaOp::kSubtract, 0, value.integer());
}

StatusOr<Value> Positive(JinjaEnv& env, const Value& value) {
  if (value.as_float() != nullptr) return value;
  if (!value.is_number())
    return env.Error("'+' does not take a value of kind {}", value.kind_name());
  return Value(value.integer());
}

StatusOr<bool> Equal(JinjaEnv& env, const Value& left, const Value& right) {
  TANDEM_RETURN_IF_ERROR(env.Work());
  if (const std::string* text = left.as_string()) {
    if (right.as_string() == nullptr || right.as_string()->size() != text->size()) return false;
    TANDEM_RETURN_IF_ERROR(env.Scan(text->size()));
    return *text == *right.as_string();
  }
  if (IsInteger(left) && IsInteger(right)) return left.integer() == right.integer();
  if (left.is_number() && right.is_number()) return left.number() == right.number();
  if (left.as_list() != nullptr && right.as_list() != nullptr) {
    if (left.shape() != right.shape()) return false;
    return EqualItems(env, *left.as_list(), *right.as_list());
  }
  if (left.as_map() != nullptr && right.as_map() != nullptr) {
    return EqualMaps(env, *left.as_map(), *right.as_map());
  }
  if (left.as_object() != nullptr) return left.as_object() == right.as_object();
  return (left.is_none() && right.is_none()) || (left.is_undefined() && right.is_undefined());
}

StatusOr<bool> Compare(JinjaEnv& env, JinjaOp op, const Value& left, const Value& right) {
  if (op == JinjaOp::kEqual) return Equal(env, left, right);
  if (op == JinjaOp::kIn) return Contains(env, left, right);
  if (op == JinjaOp::kNotEqual || op == JinjaOp::kNotIn) {
    TANDEM_ASSIGN_OR_RETURN(const bool is, op == JinjaOp::kNotIn ? Contains(env, left, right)
                                                                 : Equal(env, left, right));
    return !is;
  }
  TANDEM_ASSIGN_OR_RETURN(const std::optional<int> order, Order(env, left, right));
  if (!order) return TypeError(env, op, left, right);
  const bool nan = left.is_number() && (std::isnan(left.number()) || std::isnan(right.number()));
  if (nan) return false;
  if (op == JinjaOp::kLess) return *order < 0;
  if (op == JinjaOp::kLessEqual) return *order <= 0;
  return op == JinjaOp::kGreater ? *order > 0 : *order >= 0;
}

StatusOr<bool> Contains(JinjaEnv& env, const Value& needle, const Value& haystack) {
  if (const std::string* text = haystack.as_string()) {
    if (needle.as_string() == nullptr) return TypeError(env, JinjaOp::kIn, needle, haystack);
    TANDEM_RETURN_IF_ERROR(env.Scan(text->size()));
    return FindText(*text, *needle.as_string()) != std::string_view::npos;
  }
  if (const Value::Map* map = haystack.as_map()) {
    TANDEM_RETURN_IF_ERROR(env.Work(1 + static_cast<int64_t>(map->size() / 16)));
    const std::optional<std::string> key = KeyOf(needle);
    return key && Find(*map, *key) != nullptr;
  }
  if (const Value::List* list = haystack.as_list()) {
    for (const Value& item : *list) {
      TANDEM_ASSIGN_OR_RETURN(const bool equal, Equal(env, item, needle));
      if (equal) return true;
    }
    return false;
  }
  if (haystack.is_undefined()) return false;
  StatusOr<Value::List> items = Iterate(env, haystack);
  if (!items.ok()) return TypeError(env, JinjaOp::kIn, needle, haystack);
  return Contains(env, needle, Value(*std::move(items)));
}

StatusOr<Value::List> SortBy(JinjaEnv& env, const Value::List& items, const Value::List& keys,
                             bool reverse) {
  std::vector<size_t> order(items.size());
  std::iota(order.begin(), order.end(), size_t{0});
  Status failed;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    // Stays the same for the same two, also once it has failed, as the sort requires.
    const StatusOr<bool> less =
        Compare(env, JinjaOp::kLess, keys[reverse ? b : a], keys[reverse ? a : b]);
    if (!less.ok() && failed.ok()) failed = less.status();
    return less.ok() && *less;
  });
  TANDEM_RETURN_IF_ERROR(failed);
  Value::List sorted;
  sorted.reserve(items.size());
  for (const size_t i : order) sorted.push_back(items[i]);
  return sorted;
}

}  // namespace tandem::text
