// The tests: value is test.
#include <array>
#include <string>

#include "router/text/jinja_filters.h"
#include "router/text/jinja_objects.h"
#include "router/text/jinja_operators.h"
#include "router/text/jinja_print.h"
#include "router/text/jinja_text.h"

namespace tandem::text {
namespace {

using Value = JinjaValue;

template <auto kPredicate>
StatusOr<bool> Plain(JinjaEnv&, const Value& value, const Value&) {
  return kPredicate(value);
}

bool IsDefined(const Value& value) { return !value.is_undefined(); }
bool IsUndefined(const Value& value) { return value.is_undefined(); }
bool IsNone(const Value& value) { return value.is_none(); }
bool IsString(const Value& value) { return value.as_string() != nullptr; }
bool IsMapping(const Value& value) { return value.as_map() != nullptr; }
bool IsBoolean(const Value& value) { return value.as_bool() != nullptr; }
bool IsTrue(const Value& value) { return value.as_bool() != nullptr && *value.as_bool(); }
bool IsFalse(const Value& value) { return value.as_bool() != nullptr && !*value.as_bool(); }
bool IsInteger(const Value& value) { return value.as_int() != nullptr; }
bool IsFloat(const Value& value) { return value.as_float() != nullptr; }
bool IsNumber(const Value& value) { return value.is_number(); }
bool IsEscaped(const Value& value) { return value.is_markup(); }

// As Jinja asks: it has a length and items. So has an undefined value.
bool IsSequence(const Value& value) {
  if (value.as_list() != nullptr) return value.shape() != Value::Shape::kView;
  return IsString(value) || IsMapping(value) || value.is_undefined();
}
bool IsIterable(const Value& value) {
  return value.as_list() != nullptr || IsString(value) || IsMapping(value) ||
         value.is_undefined() || As<JinjaIterator>(value) != nullptr ||
         As<JinjaLoop>(value) != nullptr;
}
bool IsCallable(const Value& value) {
  return As<JinjaMacro>(value) != nullptr || As<JinjaFunction>(value) != nullptr ||
         As<JinjaBoundMethod>(value) != nullptr;
}

template <JinjaOp kOp>
StatusOr<bool> Compared(JinjaEnv& env, const Value& value, const Value& other) {
  return Compare(env, kOp, value, other);
}

StatusOr<bool> IsSameAs(JinjaEnv& env, const Value& value, const Value& other) {
  if (std::string_view(value.kind_name()) != other.kind_name()) return false;
  return Equal(env, value, other);
}

StatusOr<bool> IsDivisibleBy(JinjaEnv& env, const Value& value, const Value& divisor) {
  TANDEM_ASSIGN_OR_RETURN(const Value rest, Arithmetic(env, JinjaOp::kModulo, value, divisor));
  return !rest.Truthy();
}

template <int kRest>
StatusOr<bool> HasRest(JinjaEnv& env, const Value& value, const Value&) {
  TANDEM_ASSIGN_OR_RETURN(const Value rest,
                          Arithmetic(env, JinjaOp::kModulo, value, Value(int64_t{2})));
  return Equal(env, rest, Value(int64_t{kRest}));
}

template <CharClass kClass>
StatusOr<bool> HasCase(JinjaEnv& env, const Value& value, const Value&) {
  TANDEM_ASSIGN_OR_RETURN(const std::string text, Str(env, value));
  return IsAll(text, kClass);
}

StatusOr<bool> IsFilter(JinjaEnv&, const Value& value, const Value&) {
  return value.as_string() != nullptr && FindFilter(*value.as_string()) != nullptr;
}

StatusOr<bool> IsTest(JinjaEnv&, const Value& value, const Value&) {
  return value.as_string() != nullptr && FindTest(*value.as_string()) != nullptr;
}

constexpr std::array kTests = {
    JinjaTest{"defined", false, Plain<IsDefined>},
    JinjaTest{"undefined", false, Plain<IsUndefined>},
    JinjaTest{"none", false, Plain<IsNone>},
    JinjaTest{"string", false, Plain<IsString>},
    JinjaTest{"mapping", false, Plain<IsMapping>},
    JinjaTest{"sequence", false, Plain<IsSequence>},
    JinjaTest{"iterable", false, Plain<IsIterable>},
    JinjaTest{"callable", false, Plain<IsCallable>},
    JinjaTest{"boolean", false, Plain<IsBoolean>},
    JinjaTest{"true", false, Plain<IsTrue>},
    JinjaTest{"false", false, Plain<IsFalse>},
    JinjaTest{"number", false, Plain<IsNumber>},
    JinjaTest{"integer", false, Plain<IsInteger>},
    JinjaTest{"float", false, Plain<IsFloat>},
    JinjaTest{"escaped", false, Plain<IsEscaped>},
    JinjaTest{"odd", false, HasRest<1>},
    JinjaTest{"even", false, HasRest<0>},
    JinjaTest{"divisibleby", true, IsDivisibleBy},
    JinjaTest{"lower", false, HasCase<CharClass::kLower>},
    JinjaTest{"upper", false, HasCase<CharClass::kUpper>},
    JinjaTest{"filter", false, IsFilter},
    JinjaTest{"test", false, IsTest},
    JinjaTest{"sameas", true, IsSameAs},
    JinjaTest{"in", true, Compared<JinjaOp::kIn>},
    JinjaTest{"==", true, Compared<JinjaOp::kEqual>},
    JinjaTest{"eq", true, Compared<JinjaOp::kEqual>},
    JinjaTest{"equalto", true, Compared<JinjaOp::kEqual>},
    JinjaTest{"!=", true, Compared<JinjaOp::kNotEqual>},
    JinjaTest{"ne", true, Compared<JinjaOp::kNotEqual>},
    JinjaTest{"<", true, Compared<JinjaOp::kLess>},
    JinjaTest{"lt", true, Compared<JinjaOp::kLess>},
    JinjaTest{"lessthan", true, Compared<JinjaOp::kLess>},
    JinjaTest{"<=", true, Compared<JinjaOp::kLessEqual>},
    JinjaTest{"le", true, Compared<JinjaOp::kLessEqual>},
    JinjaTest{">", true, Compared<JinjaOp::kGreater>},
    JinjaTest{"gt", true, Compared<JinjaOp::kGreater>},
    JinjaTest{"greaterthan", true, Compared<JinjaOp::kGreater>},
    JinjaTest{">=", true, Compared<JinjaOp::kGreaterEqual>},
    JinjaTest{"ge", true, Compared<JinjaOp::kGreaterEqual>},
};

}  // namespace

const JinjaTest* FindTest(std::string_view name) {
  for (const JinjaTest& test : kTests) {
    if (test.name == name) return &test;
  }
  return nullptr;
}

}  // namespace tandem::text
