#include "router/text/jinja.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "router/text/jinja_ast.h"
#include "router/text/jinja_parser.h"
#include "router/text/utf8.h"

namespace tandem::text {
namespace {

using Expr = JinjaExpr;
using Node = JinjaNode;
using Value = JinjaValue;

constexpr int64_t kMaxSteps = 2'000'000;
constexpr size_t kMaxBytes = 64 << 20;

// What Python's str.strip() takes away.
bool IsPythonSpace(uint32_t c) {
  return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
         c == 0x205f || c == 0x3000;
}

std::string_view Trim(std::string_view text) {
  size_t begin = text.size();  // of the first character that stays
  size_t end = 0;              // past the last one
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = ReadCodePoint(text, at);
    const size_t next = at + point.size;
    if (!IsPythonSpace(point.value)) {
      begin = std::min(begin, at);
      end = next;
    }
    at = next;
  }
  return begin < end ? text.substr(begin, end - begin) : std::string_view();
}

// Characters, as Python counts them.
int64_t NumCharacters(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; });
}

class Renderer {
 public:
  explicit Renderer(const Value::Map& variables) : variables_(variables) {}

  Status RenderBody(const std::vector<Node>& body);
  std::string TakeOutput() { return std::move(output_); }

 private:
  Status RenderNode(const Node& node);
  Status RenderFor(const Node& node);
  Status RenderIf(const Node& node);
  void Set(const std::string& name, Value value);
  Status Append(std::string_view text, int line);

  StatusOr<Value> Evaluate(const Expr& expr);
  StatusOr<Value> EvaluateBinary(const Expr& expr);
  StatusOr<Value> EvaluateLogical(const Expr& expr);
  StatusOr<Value> Compare(const Expr& expr, const Value& left, const Value& right);
  StatusOr<Value> Contains(const Expr& expr, const Value& needle, const Value& haystack);
  StatusOr<Value> Add(const Expr& expr, const Value& left, const Value& right);
  StatusOr<Value> Join(const Expr& expr, std::string_view left, std::string_view right);
  StatusOr<Value> Subscript(const Expr& expr);
  StatusOr<Value> Negate(const Expr& expr);
  StatusOr<Value> Filter(const Expr& expr);
  StatusOr<Value> Test(const Expr& expr);
  Value LookUp(const std::string& name) const;

  StatusOr<std::string> Print(const Value& value, int line) const;
  Status CountStep(int line);
  Status CountBytes(size_t bytes, int line);
  Status TypeError(const Expr& expr, const Value& left, const Value& right) const;

  template <class... Args>
  Status Error(int line, fmt::format_string<Args...> format, Args&&... args) const {
    return InvalidArgument("chat template, line {}: {}", line,
                           fmt::format(format, std::forward<Args>(args)...));
  }

  Value::Map variables_;    // the innermost scope is at the end
  size_t scope_begin_ = 0;  // first variable of the innermost scope
  std::string output_;
  int64_t steps_ = 0;
  size_t bytes_ = 0;  // made so far, thrown away or not
};

Status Renderer::CountStep(int line) {
  if (++steps_ <= kMaxSteps) return OkStatus();
  return Error(line, "rendering takes more than {} evaluations", kMaxSteps);
}

Status Renderer::CountBytes(size_t bytes, int line) {
  bytes_ += bytes;
  if (bytes_ <= kMaxBytes) return OkStatus();
  return Error(line, "rendering makes more than {} bytes of text", kMaxBytes);
}

// --- statements

Status Renderer::RenderBody(const std::vector<Node>& body) {
  for (const Node& node : body) TANDEM_RETURN_IF_ERROR(RenderNode(node));
  return OkStatus();
}

Status Renderer::RenderNode(const Node& node) {
  TANDEM_RETURN_IF_ERROR(CountStep(node.line));
  switch (node.kind) {
    case Node::Kind::kData:
      return Append(node.text, node.line);
    case Node::Kind::kFor:
      return RenderFor(node);
    case Node::Kind::kIf:
      return RenderIf(node);
    case Node::Kind::kSet: {
      TANDEM_ASSIGN_OR_RETURN(Value value, Evaluate(node.expr));
      Set(node.text, std::move(value));
      return OkStatus();
    }
    case Node::Kind::kOutput:
      break;
  }
  TANDEM_ASSIGN_OR_RETURN(const Value value, Evaluate(node.expr));
  if (const std::string* text = value.as_string()) return Append(*text, node.line);
  TANDEM_ASSIGN_OR_RETURN(const std::string text, Print(value, node.line));
  return Append(text, node.line);
}

Status Renderer::Append(std::string_view text, int line) {
  TANDEM_RETURN_IF_ERROR(CountBytes(text.size(), line));
  output_ += text;
  return OkStatus();
}

// Every turn has a scope of its own: what it sets is gone at its end.
Status Renderer::RenderFor(const Node& node) {
  TANDEM_ASSIGN_OR_RETURN(const Value sequence, Evaluate(node.expr));
  const Value::List* list = sequence.as_list();
  if (list == nullptr) {
    return Error(node.line, "cannot walk over a value of kind {}", sequence.kind_name());
  }
  const size_t outer_scope = std::exchange(scope_begin_, variables_.size());
  const auto size = static_cast<int64_t>(list->size());
  for (int64_t i = 0; i < size; ++i) {
    Set(node.text, (*list)[i]);
    Set("loop", Value(Value::Map{{"first", Value(i == 0)},
                                 {"last", Value(i == size - 1)},
                                 {"index", Value(i + 1)},
                                 {"index0", Value(i)},
                                 {"length", Value(size)}}));
    TANDEM_RETURN_IF_ERROR(RenderBody(node.body));
    variables_.resize(scope_begin_);
  }
  scope_begin_ = outer_scope;
  return OkStatus();
}

Status Renderer::RenderIf(const Node& node) {
  for (const Node::Branch& branch : node.branches) {
    TANDEM_ASSIGN_OR_RETURN(const Value condition, Evaluate(branch.condition));
    if (condition.Truthy()) return RenderBody(branch.body);
  }
  return OkStatus();
}

void Renderer::Set(const std::string& name, Value value) {
  const auto begin = variables_.begin() + static_cast<std::ptrdiff_t>(scope_begin_);
  const auto it = std::find_if(begin, variables_.end(), [&](auto& v) { return v.first == name; });
  if (it != variables_.end()) {
    it->second = std::move(value);
  } else {
    variables_.emplace_back(name, std::move(value));
  }
}

// --- expressions

StatusOr<Value> Renderer::Evaluate(const Expr& expr) {
  TANDEM_RETURN_IF_ERROR(CountStep(expr.line));
  switch (expr.kind) {
    case Expr::Kind::kLiteral:
      return expr.value;
    case Expr::Kind::kName:
      return LookUp(expr.text);
    case Expr::Kind::kSubscript:
      return Subscript(expr);
    case Expr::Kind::kUnary:
      return Negate(expr);
    case Expr::Kind::kBinary:
      return EvaluateBinary(expr);
    case Expr::Kind::kFilter:
      return Filter(expr);
    case Expr::Kind::kTest:
      return Test(expr);
  }
  return Value();
}

Value Renderer::LookUp(const std::string& name) const {
  const auto it = std::find_if(variables_.rbegin(), variables_.rend(),
                               [&](const auto& variable) { return variable.first == name; });
  return it == variables_.rend() ? Value() : it->second;
}

StatusOr<Value> Renderer::EvaluateBinary(const Expr& expr) {
  if (expr.text == "and" || expr.text == "or") return EvaluateLogical(expr);
  TANDEM_ASSIGN_OR_RETURN(const Value left, Evaluate(expr.children[0]));
  TANDEM_ASSIGN_OR_RETURN(const Value right, Evaluate(expr.children[1]));
  if (expr.text == "==") return Value(left == right);
  if (expr.text == "!=") return Value(!(left == right));
  if (expr.text == "in") return Contains(expr, left, right);
  if (expr.text == "+" || expr.text == "-") return Add(expr, left, right);
  if (expr.text != "~") return Compare(expr, left, right);
  TANDEM_ASSIGN_OR_RETURN(const std::string left_text, Print(left, expr.line));
  TANDEM_ASSIGN_OR_RETURN(const std::string right_text, Print(right, expr.line));
  return Join(expr, left_text, right_text);
}

// As in Python the result is one of the operands, and the second may not be looked at.
StatusOr<Value> Renderer::EvaluateLogical(const Expr& expr) {
  TANDEM_ASSIGN_OR_RETURN(Value left, Evaluate(expr.children[0]));
  if (left.Truthy() == (expr.text == "or")) return left;
  return Evaluate(expr.children[1]);
}

StatusOr<Value> Renderer::Compare(const Expr& expr, const Value& left, const Value& right) {
  std::optional<int> order;
  if (left.as_int() != nullptr && right.as_int() != nullptr) {
    order = *left.as_int() < *right.as_int() ? -1 : *left.as_int() > *right.as_int();
  } else if (left.as_string() != nullptr && right.as_string() != nullptr) {
    order = left.as_string()->compare(*right.as_string());
  }
  if (!order) return TypeError(expr, left, right);
  if (expr.text == "<") return Value(*order < 0);
  if (expr.text == "<=") return Value(*order <= 0);
  return expr.text == ">" ? Value(*order > 0) : Value(*order >= 0);
}

StatusOr<Value> Renderer::Contains(const Expr& expr, const Value& needle, const Value& haystack) {
  if (const Value::List* list = haystack.as_list()) {
    return Value(std::find(list->begin(), list->end(), needle) != list->end());
  }
  const std::string* text = needle.as_string();
  if (text != nullptr && haystack.as_string() != nullptr) {
    return Value(haystack.as_string()->find(*text) != std::string::npos);
  }
  if (text != nullptr && haystack.as_map() != nullptr) {
    const Value::Map& map = *haystack.as_map();
    return Value(std::any_of(map.begin(), map.end(), [&](auto& e) { return e.first == *text; }));
  }
  return TypeError(expr, needle, haystack);
}

StatusOr<Value> Renderer::Add(const Expr& expr, const Value& left, const Value& right) {
  if (left.as_int() != nullptr && right.as_int() != nullptr) {
    int64_t result = 0;
    const bool overflow = expr.text == "+"
                              ? __builtin_add_overflow(*left.as_int(), *right.as_int(), &result)
                              : __builtin_sub_overflow(*left.as_int(), *right.as_int(), &result);
    if (overflow) return Error(expr.line, "a number leaves the range of 64 bits");
    return Value(result);
  }
  if (expr.text == "+" && left.as_string() != nullptr && right.as_string() != nullptr) {
    return Join(expr, *left.as_string(), *right.as_string());
  }
  return TypeError(expr, left, right);
}

StatusOr<Value> Renderer::Join(const Expr& expr, std::string_view left, std::string_view right) {
  TANDEM_RETURN_IF_ERROR(CountBytes(left.size() + right.size(), expr.line));
  std::string joined;
  joined.reserve(left.size() + right.size());
  return Value(joined.append(left).append(right));
}

// A key or index that is not there gives an undefined value, as in Jinja.
StatusOr<Value> Renderer::Subscript(const Expr& expr) {
  TANDEM_ASSIGN_OR_RETURN(const Value object, Evaluate(expr.children[0]));
  TANDEM_ASSIGN_OR_RETURN(const Value key, Evaluate(expr.children[1]));
  if (object.is_undefined()) {
    const std::string* name = key.as_string();
    return Error(expr.line, "cannot take '{}' of an undefined value", name ? *name : "an index");
  }
  if (const Value::Map* map = object.as_map(); map != nullptr && key.as_string() != nullptr) {
    const auto it = std::find_if(map->begin(), map->end(),
                                 [&](const auto& e) { return e.first == *key.as_string(); });
    return it == map->end() ? Value() : it->second;
  }
  if (const Value::List* list = object.as_list(); list != nullptr && key.as_int() != nullptr) {
    const auto size = static_cast<int64_t>(list->size());
    const int64_t index = *key.as_int() < 0 ? *key.as_int() + size : *key.as_int();
    return index < 0 || index >= size ? Value() : (*list)[index];
  }
  return Value();
}

StatusOr<Value> Renderer::Negate(const Expr& expr) {
  TANDEM_ASSIGN_OR_RETURN(const Value value, Evaluate(expr.children[0]));
  if (expr.text == "not") return Value(!value.Truthy());
  if (value.as_int() == nullptr) {
    return Error(expr.line, "cannot negate a value of kind {}", value.kind_name());
  }
  int64_t result = 0;
  if (__builtin_sub_overflow(0, *value.as_int(), &result)) {
    return Error(expr.line, "a number leaves the range of 64 bits");
  }
  return Value(result);
}

StatusOr<Value> Renderer::Filter(const Expr& expr) {
  TANDEM_ASSIGN_OR_RETURN(const Value value, Evaluate(expr.children[0]));
  if (expr.text == "trim") {
    TANDEM_ASSIGN_OR_RETURN(const std::string text, Print(value, expr.line));
    TANDEM_RETURN_IF_ERROR(CountBytes(text.size(), expr.line));
    return Value(std::string(Trim(text)));
  }
  if (value.as_list() != nullptr) return Value(static_cast<int64_t>(value.as_list()->size()));
  if (value.as_map() != nullptr) return Value(static_cast<int64_t>(value.as_map()->size()));
  if (value.as_string() != nullptr) return Value(NumCharacters(*value.as_string()));
  if (value.is_undefined()) return Value(int64_t{0});
  return Error(expr.line, "a value of kind {} has no length", value.kind_name());
}

StatusOr<Value> Renderer::Test(const Expr& expr) {
  TANDEM_ASSIGN_OR_RETURN(const Value value, Evaluate(expr.children[0]));
  if (expr.text == "defined") return Value(!value.is_undefined());
  if (expr.text == "none") return Value(value.is_none());
  return Value(value.as_string() != nullptr);
}

StatusOr<std::string> Renderer::Print(const Value& value, int line) const {
  if (value.is_undefined()) return std::string();
  if (value.is_none()) return std::string("None");
  if (const std::string* text = value.as_string()) return *text;
  if (const bool* b = value.as_bool()) return std::string(*b ? "True" : "False");
  if (const int64_t* number = value.as_int()) return fmt::format("{}", *number);
  return Error(line, "cannot print a {}", value.kind_name());
}

Status Renderer::TypeError(const Expr& expr, const Value& left, const Value& right) const {
  return Error(expr.line, "the operator '{}' does not take values of kind {} and {}", expr.text,
               left.kind_name(), right.kind_name());
}

}  // namespace

StatusOr<JinjaTemplate> JinjaTemplate::Parse(std::string_view source) {
  TANDEM_ASSIGN_OR_RETURN(std::vector<JinjaNode> body, ParseJinja(source));
  JinjaTemplate result;
  result.body_ = std::make_shared<const std::vector<JinjaNode>>(std::move(body));
  return result;
}

StatusOr<std::string> JinjaTemplate::Render(const JinjaValue::Map& variables) const {
  if (body_ == nullptr) return std::string();
  Renderer renderer(variables);
  TANDEM_RETURN_IF_ERROR(renderer.RenderBody(*body_));
  return renderer.TakeOutput();
}

}  // namespace tandem::text
