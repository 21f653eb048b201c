// Filters that make text.
#include <array>
#include <optional>
#include <string>
#include <utility>

#include "router/text/jinja_filters.h"
#include "router/text/jinja_operators.h"
#include "router/text/jinja_print.h"
#include "router/text/jinja_text.h"

namespace tandem::text {
namespace {

using Value = JinjaValue;
using Arguments = JinjaFilterArguments;

constexpr int64_t kMaxIndent = 256;

// A filter that is a function of the text alone.
template <auto kFunction>
StatusOr<Value> Mapped(JinjaEnv& env, const Value& input, const Arguments&) {
  TANDEM_ASSIGN_OR_RETURN(const std::string text, Str(env, input));
  return env.Text(std::string(kFunction(text)), input.is_markup());
}

StatusOr<Value> Trim(JinjaEnv& env, const Value& input, const Arguments& arguments) {
  TANDEM_ASSIGN_OR_RETURN(const std::string text, Str(env, input));
  if (arguments[0].is_undefined() || arguments[0].is_none()) {
    return env.Text(std::string(Strip(text, Side::kBoth)), input.is_markup());
  }
  const std::string* characters = arguments[0].as_string();
  if (characters == nullptr) return env.Error("trim takes a string of characters");
  TANDEM_RETURN_IF_ERROR(env.Work(static_cast<int64_t>(characters->size())));
  TANDEM_RETURN_IF_ERROR(env.Scan(text.size() * (characters->size() + 1)));
  return env.Text(std::string(Strip(text, Side::kBoth, *characters)), input.is_markup());
}

StatusOr<Value> ToText(JinjaEnv& env, const Value& input, const Arguments&) {
  if (input.as_string() != nullptr) return input;
  TANDEM_ASSIGN_OR_RETURN(std::string text, Str(env, input));
  return Value(std::move(text));
}

StatusOr<Value> Safe(JinjaEnv& env, const Value& input, const Arguments&) {
  TANDEM_ASSIGN_OR_RETURN(std::string text, Str(env, input));
  return Value(std::move(text), /*markup=*/true);
}

StatusOr<Value> Escape(JinjaEnv& env, const Value& input, const Arguments&) {
  if (input.is_markup()) return input;
  TANDEM_ASSIGN_OR_RETURN(const std::string text, Str(env, input));
  TANDEM_RETURN_IF_ERROR(env.Make(5 * text.size()));
  return Value(EscapeHtml(text), /*markup=*/true);
}

StatusOr<Value> Replace(JinjaEnv& env, const Value& input, const Arguments& arguments) {
  TANDEM_ASSIGN_OR_RETURN(const std::string text, Str(env, input));
  TANDEM_ASSIGN_OR_RETURN(const std::string old, Str(env, arguments[0]));
  TANDEM_ASSIGN_OR_RETURN(const std::string replacement, Str(env, arguments[1]));
  const bool counted = !arguments[2].is_undefined() && !arguments[2].is_none();
  const int64_t max = counted ? arguments[2].integer() : -1;
  const auto found = static_cast<size_t>(CountText(text, old));
  TANDEM_RETURN_IF_ERROR(env.Work(static_cast<int64_t>(found)));
  TANDEM_RETURN_IF_ERROR(env.Make(text.size() + found * replacement.size()));
  return Value(ReplaceText(text, old, replacement, max));
}

StatusOr<Value> Indent(JinjaEnv& env, const Value& input, const Arguments& arguments) {
  const std::string* text = input.as_string();
  if (text == nullptr)
    return env.Error("indent does not take a value of kind {}", input.kind_name());
  std::string indent(4, ' ');
  if (const std::string* width = arguments[0].as_string()) {
    indent = *width;
  } else if (!arguments[0].is_undefined()) {
    indent.assign(static_cast<size_t>(std::clamp<int64_t>(arguments[0].integer(), 0, kMaxIndent)),
                  ' ');
  }
  const bool blank = arguments[2].Truthy();
  std::string all = *text;
  all.push_back('\n');
  const auto lines = SplitLines(all, false);
  TANDEM_RETURN_IF_ERROR(env.MakeItems(lines.size()));
  TANDEM_RETURN_IF_ERROR(env.Make(all.size() + (lines.size() + 1) * (indent.size() + 1)));
  std::string out;
  if (arguments[1].Truthy()) out = indent;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out += '\n';
    if (i > 0 && (blank || !lines[i].empty())) out += indent;
    out += lines[i];
  }
  return Value(std::move(out), input.is_markup());
}

StatusOr<Value> Join(JinjaEnv& env, const Value& input, const Arguments& arguments) {
  std::string separator;
  if (!arguments[0].is_undefined()) TANDEM_RETURN_IF_ERROR(Print(env, arguments[0], separator));
  TANDEM_ASSIGN_OR_RETURN(const Value::List items, Iterate(env, input));
  const Value& attribute = arguments[1];
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) {
      TANDEM_RETURN_IF_ERROR(env.Make(separator.size()));
      out += separator;
    }
    if (attribute.is_undefined() || attribute.is_none()) {
      TANDEM_RETURN_IF_ERROR(Print(env, items[i], out));
    } else {
      TANDEM_ASSIGN_OR_RETURN(const Value item, Item(env, items[i], attribute));
      TANDEM_RETURN_IF_ERROR(Print(env, item, out));
    }
  }
  return Value(std::move(out));
}

// tojson(ensure_ascii, indent, separators, sort_keys), as transformers defines it.
StatusOr<Value> ToJsonFilter(JinjaEnv& env, const Value& input, const Arguments& arguments) {
  JinjaJsonOptions options;
  options.ensure_ascii = arguments[0].Truthy();
  options.sort_keys = arguments[3].Truthy();
  const Value& indent = arguments[1];
  if (const std::string* text = indent.as_string()) {
    if (text->size() > kMaxIndent) return env.Error("an indent of more than {} bytes", kMaxIndent);
    options.indent = *text;
  } else if (indent.is_number()) {
    const int64_t width = std::clamp<int64_t>(indent.integer(), 0, kMaxIndent);
    options.indent = std::string(static_cast<size_t>(width), ' ');
  }
  if (options.indent) options.item_separator.assign(1, ',');
  if (const Value::List* separators = arguments[2].as_list()) {
    const bool two = separators->size() == 2 && (*separators)[0].as_string() != nullptr &&
                     (*separators)[1].as_string() != nullptr;
    if (!two) return env.Error("separators are two strings");
    options.item_separator = *(*separators)[0].as_string();
    options.key_separator = *(*separators)[1].as_string();
  } else if (!arguments[2].is_undefined() && !arguments[2].is_none()) {
    return env.Error("separators are two strings");
  }
  TANDEM_ASSIGN_OR_RETURN(std::string json, ToJson(env, input, options));
  return Value(std::move(json));
}

constexpr std::array kFilters = {
    JinjaFilter{"trim", 0, {"chars"}, Trim},
    JinjaFilter{"string", 0, {}, ToText},
    JinjaFilter{"safe", 0, {}, Safe},
    JinjaFilter{"e", 0, {}, Escape},
    JinjaFilter{"escape", 0, {}, Escape},
    JinjaFilter{"upper", 0, {}, Mapped<Upper>},
    JinjaFilter{"lower", 0, {}, Mapped<Lower>},
    JinjaFilter{"capitalize", 0, {}, Mapped<Capitalize>},
    JinjaFilter{"title", 0, {}, Mapped<TitleFilter>},
    JinjaFilter{"replace", 2, {"old", "new", "count"}, Replace},
    JinjaFilter{"indent", 0, {"width", "first", "blank"}, Indent},
    JinjaFilter{"join", 0, {"d", "attribute"}, Join},
    JinjaFilter{"tojson", 0, {"ensure_ascii", "indent", "separators", "sort_keys"}, ToJsonFilter},
};

}  // namespace

std::span<const JinjaFilter> TextFilters() { return kFilters; }

}  // namespace tandem::text
