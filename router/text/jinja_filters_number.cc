// Filters that make numbers.
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <string>

#include "router/text/jinja_filters.h"
#include "router/text/jinja_operators.h"
#include "router/text/jinja_text.h"

namespace tandem::text {
namespace {

using Value = JinjaValue;
using Arguments = JinjaFilterArguments;

// Without the white space around and the underscores between digits that Python allows; nothing if
// an underscore stands elsewhere.
std::optional<std::string> Digits(std::string_view text) {
  text = Strip(text, Side::kBoth);
  std::string digits;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      digits.push_back(text[i]);
      continue;
    }
    const auto is_digit = [&](size_t at) {
      return at < text.size() && std::isalnum(text[at]) != 0;
    };
    if (i == 0 || !is_digit(i - 1) || !is_digit(i + 1)) return std::nullopt;
  }
  return digits;
}

std::optional<double> ReadFloat(std::string_view text) {
  std::optional<std::string> digits = Digits(text);
  if (!digits || digits->empty()) return std::nullopt;
  std::string_view rest = *digits;
  if (rest.starts_with('+')) rest.remove_prefix(1);
  if (rest.starts_with('+') || rest.find_first_of("xX(") != std::string_view::npos) {
    return std::nullopt;
  }
  double number = 0;
  const auto result = std::from_chars(rest.data(), rest.data() + rest.size(), number);
  if (result.ptr != rest.data() + rest.size()) return std::nullopt;
  if (result.ec == std::errc::result_out_of_range) {
    return std::strtod(std::string(rest).c_str(), nullptr);  // 0 or infinite, as Python has it
  }
  if (result.ec != std::errc()) return std::nullopt;
  return number;
}

// With the prefix that the base allows.
std::optional<int64_t> ReadInteger(std::string_view text, int base) {
  const std::optional<std::string> digits = Digits(text);
  if (!digits) return std::nullopt;
  std::string_view rest = *digits;
  const bool negative = rest.starts_with('-');
  if (negative || rest.starts_with('+')) rest.remove_prefix(1);
  const char prefix = rest.size() > 2 && rest[0] == '0' ? static_cast<char>(rest[1] | 32) : ' ';
  const bool has_prefix =
      (base == 16 && prefix == 'x') || (base == 8 && prefix == 'o') || (base == 2 && prefix == 'b');
  if (has_prefix) rest.remove_prefix(2);
  if (rest.empty() || rest[0] == '-') return std::nullopt;
  std::string all(negative ? 1 : 0, '-');
  all += rest;
  int64_t number = 0;
  const auto result = std::from_chars(all.data(), all.data() + all.size(), number, base);
  if (result.ec != std::errc() || result.ptr != all.data() + all.size()) return std::nullopt;
  return number;
}

std::optional<int64_t> Truncated(double number) {
  if (!(std::abs(number) < 9.2e18)) return std::nullopt;
  return static_cast<int64_t>(number);
}

Status CheckDefined(const JinjaEnv& env, const Value& input) {
  if (!input.is_undefined()) return OkStatus();
  return env.Error("an undefined value is no number");
}

StatusOr<Value> Int(JinjaEnv& env, const Value& input, const Arguments& arguments) {
  TANDEM_RETURN_IF_ERROR(CheckDefined(env, input));
  const int64_t base = arguments[1].is_undefined() ? 10 : arguments[1].integer();
  if (base < 2 || base > 36) return env.Error("the base of a number is 2 to 36");
  std::optional<int64_t> number;
  if (const std::string* text = input.as_string()) {
    TANDEM_RETURN_IF_ERROR(env.Make(text->size()));
    number = ReadInteger(*text, static_cast<int>(base));
    if (const auto as_float = number ? std::nullopt : ReadFloat(*text))
      number = Truncated(*as_float);
  } else if (const double* value = input.as_float()) {
    number = Truncated(*value);
  } else if (input.is_number()) {
    number = input.integer();
  }
  if (number) return Value(*number);
  return arguments[0].is_undefined() ? Value(int64_t{0}) : arguments[0];
}

StatusOr<Value> Float(JinjaEnv& env, const Value& input, const Arguments& arguments) {
  TANDEM_RETURN_IF_ERROR(CheckDefined(env, input));
  if (input.is_number()) return Value(input.number());
  const std::string* text = input.as_string();
  if (text != nullptr) TANDEM_RETURN_IF_ERROR(env.Make(text->size()));
  const std::optional<double> number = text == nullptr ? std::nullopt : ReadFloat(*text);
  if (number) return Value(*number);
  return arguments[0].is_undefined() ? Value(0.0) : arguments[0];
}

StatusOr<Value> Abs(JinjaEnv& env, const Value& input, const Arguments&) {
  if (!input.is_number())
    return env.Error("abs does not take a value of kind {}", input.kind_name());
  if (input.as_float() != nullptr) return Value(std::abs(input.number()));
  return input.integer() < 0 ? Negative(env, input) : StatusOr<Value>(Value(input.integer()));
}

// Python's round(): of two equally near, the even one; the decimal expansion decides.
double RoundTo(double number, int64_t digits) {
  if (digits >= 0) return std::strtod(fmt::format("{:.{}f}", number, digits).c_str(), nullptr);
  const double unit = std::pow(10.0, static_cast<double>(-digits));
  return std::nearbyint(number / unit) * unit;
}

StatusOr<Value> Round(JinjaEnv& env, const Value& input, const Arguments& arguments) {
  if (!input.is_number())
    return env.Error("round does not take a value of kind {}", input.kind_name());
  const int64_t digits = arguments[0].integer();
  if (digits < -300 || digits > 300) return env.Error("round takes -300 to 300 digits");
  const std::string method =
      arguments[1].as_string() == nullptr ? "common" : *arguments[1].as_string();
  if (method == "common") {
    const bool is_integer = input.as_float() == nullptr;
    if (is_integer && digits >= 0) return Value(input.integer());
    const double rounded = RoundTo(input.number(), digits);
    if (!std::isfinite(input.number()) || !is_integer) return Value(rounded);
    const std::optional<int64_t> whole = Truncated(rounded);
    if (!whole) return env.Error("a number leaves the range of 64 bits");
    return Value(*whole);
  }
  if (method != "ceil" && method != "floor") {
    return env.Error("round takes 'common', 'ceil' or 'floor'");
  }
  const double unit = std::pow(10.0, static_cast<double>(digits));
  const double scaled = input.number() * unit;
  return Value((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / unit);
}

StatusOr<Value> Count(JinjaEnv& env, const Value& input, const Arguments&) {
  TANDEM_ASSIGN_OR_RETURN(const int64_t length, Length(env, input));
  return Value(length);
}

StatusOr<Value> Sum(JinjaEnv& env, const Value& input, const Arguments& arguments) {
  TANDEM_ASSIGN_OR_RETURN(const Value::List items, Iterate(env, input));
  Value total = arguments[1].is_undefined() ? Value(int64_t{0}) : arguments[1];
  for (const Value& item : items) {
    Value part = item;
    if (!arguments[0].is_undefined() && !arguments[0].is_none()) {
      TANDEM_ASSIGN_OR_RETURN(part, Item(env, item, arguments[0]));
    }
    TANDEM_ASSIGN_OR_RETURN(total, Arithmetic(env, JinjaOp::kAdd, total, part));
  }
  return total;
}

constexpr std::array kFilters = {
    JinjaFilter{"int", 0, {"default", "base"}, Int},
    JinjaFilter{"float", 0, {"default"}, Float},
    JinjaFilter{"abs", 0, {}, Abs},
    JinjaFilter{"round", 0, {"precision", "method"}, Round},
    JinjaFilter{"length", 0, {}, Count},
    JinjaFilter{"count", 0, {}, Count},
    JinjaFilter{"sum", 0, {"attribute", "start"}, Sum},
};

}  // namespace

std::span<const JinjaFilter> NumberFilters() { return kFilters; }

}  // namespace tandem::text
