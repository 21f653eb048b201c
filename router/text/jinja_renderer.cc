#include "router/text/jinja_renderer.h"

#include <algorithm>
#include <iterator>

#include "router/text/jinja_functions.h"
#include "router/text/jinja_operators.h"
#include "router/text/jinja_print.h"

namespace tandem::text {

JinjaRenderer::JinjaRenderer(const JinjaTree& tree, const JinjaValue::Map& variables,
                             const std::tm& now)
    : tree_(tree), now_(now), globals_(tree.symbols.size()) {
  const auto symbol = [&](std::string_view name) {
    const auto it = std::find(tree.symbols.begin(), tree.symbols.end(), name);
    return it == tree.symbols.end() ? -1 : static_cast<int>(it - tree.symbols.begin());
  };
  for (const auto& [name, id] : kJinjaFunctions) {
    if (const int s = symbol(name); s >= 0) {
      globals_[static_cast<size_t>(s)] = Value(std::make_shared<JinjaFunction>(id));
    }
  }
  for (const auto& [name, value] : variables) {
    if (const int s = symbol(name); s >= 0) globals_[static_cast<size_t>(s)] = value;
  }
  caller_symbol_ = symbol("caller");
  varargs_symbol_ = symbol("varargs");
  kwargs_symbol_ = symbol("kwargs");
  loop_symbol_ = symbol("loop");
  captured_symbol_ = symbol("");
}

StatusOr<std::string> JinjaRenderer::Run() {
  TANDEM_RETURN_IF_ERROR(RenderBody(tree_.body));
  return std::move(output_);
}

Status JinjaRenderer::RenderBody(const std::vector<Node>& body) {
  if (++recursion_ > JinjaEnv::kMaxRecursion) return TooDeep();
  for (const Node& node : body) {
    TANDEM_RETURN_IF_ERROR(RenderNode(node));
    if (flow_ != Flow::kNext) break;
  }
  --recursion_;
  return OkStatus();
}

Status JinjaRenderer::TooDeep() const {
  return env_.Error("tags, macros and expressions nest deeper than {}", JinjaEnv::kMaxRecursion);
}

Status JinjaRenderer::RenderNode(const Node& node) {
  env_.At(node.line);
  TANDEM_RETURN_IF_ERROR(env_.Work());
  switch (node.kind) {
    case Node::Kind::kData:
      output_ += node.text;
      return env_.Make(node.text.size());
    case Node::Kind::kFor:
      return RenderFor(node);
    case Node::Kind::kIf:
      return RenderIf(node);
    case Node::Kind::kSet: {
      TANDEM_ASSIGN_OR_RETURN(Value value, Evaluate(node.expr));
      return Assign(node.target, std::move(value));
    }
    case Node::Kind::kSetBlock:
      return RenderSetBlock(node);
    case Node::Kind::kFilterBlock:
      return RenderFilterBlock(node);
    case Node::Kind::kMacro:
      return Assign(node.target, Define(node.macro));
    case Node::Kind::kCall:
      return RenderCall(node);
    case Node::Kind::kWith:
      return RenderWith(node);
    case Node::Kind::kScope: {
      const Scope scope(*this);
      return RenderBody(node.body);
    }
    case Node::Kind::kBreak:
    case Node::Kind::kContinue:
      flow_ = node.kind == Node::Kind::kBreak ? Flow::kBreak : Flow::kContinue;
      return OkStatus();
    case Node::Kind::kOutput:
      break;
  }
  TANDEM_ASSIGN_OR_RETURN(const Value value, Evaluate(node.expr));
  return Print(env_, value, output_);
}

// --- loops and conditions

Status JinjaRenderer::RenderIf(const Node& node) {
  for (const Node::Branch& branch : node.branches) {
    TANDEM_ASSIGN_OR_RETURN(const Value condition, Evaluate(branch.condition));
    if (condition.Truthy()) return RenderBody(branch.body);
  }
  return OkStatus();
}

Status JinjaRenderer::RenderFor(const Node& node) {
  TANDEM_ASSIGN_OR_RETURN(Value list, Evaluate(node.expr));
  if (list.as_list() == nullptr) {
    TANDEM_ASSIGN_OR_RETURN(Value::List items, Iterate(env_, list));
    list = Value(std::move(items));
  }
  // With `loop` the number of items must be known; without, a condition may look at what the
  // body changed.
  if (node.uses_loop && !node.conditions.empty()) {
    TANDEM_ASSIGN_OR_RETURN(list, Filtered(node, list));
  }
  bool any = false;
  TANDEM_RETURN_IF_ERROR(RenderItems(node, list, any));
  if (any) return OkStatus();
  const Scope scope(*this);
  return RenderBody(node.otherwise);
}

StatusOr<JinjaValue> JinjaRenderer::Filtered(const Node& node, const Value& list) {
  Value::List passing;
  for (const Value& item : *list.as_list()) {
    const Scope scope(*this);
    TANDEM_RETURN_IF_ERROR(Assign(node.target, item));
    TANDEM_ASSIGN_OR_RETURN(const Value condition, Evaluate(node.conditions[0]));
    if (condition.Truthy()) passing.push_back(item);
  }
  return env_.List(std::move(passing));
}

// Every turn has a scope of its own: what it sets is gone at its end.
Status JinjaRenderer::RenderItems(const Node& node, const Value& list, bool& any) {
  if (list.as_list()->empty()) return OkStatus();
  std::shared_ptr<JinjaLoop> loop;
  if (node.uses_loop) loop = std::make_shared<JinjaLoop>(list);
  Scope scope(*this);
  for (const Value& item : *list.as_list()) {
    TANDEM_RETURN_IF_ERROR(env_.Work());
    TANDEM_RETURN_IF_ERROR(Assign(node.target, item));
    if (!node.uses_loop && !node.conditions.empty()) {
      TANDEM_ASSIGN_OR_RETURN(const Value condition, Evaluate(node.conditions[0]));
      if (!condition.Truthy()) {
        scope.Clear();
        continue;
      }
    }
    any = true;
    if (loop != nullptr) Set(loop_symbol_, Value(std::shared_ptr<JinjaObject>(loop)));
    TANDEM_RETURN_IF_ERROR(RenderBody(node.body));
    scope.Clear();
    if (loop != nullptr) ++loop->index0;
    if (std::exchange(flow_, Flow::kNext) == Flow::kBreak) break;
  }
  return OkStatus();
}

// --- blocks

StatusOr<std::string> JinjaRenderer::Capture(const std::vector<Node>& body) {
  std::string outer = std::exchange(output_, {});
  const Scope scope(*this);
  const Status status = RenderBody(body);
  std::string text = std::exchange(output_, std::move(outer));
  TANDEM_RETURN_IF_ERROR(status);
  return text;
}

// The filters of a block, whose expression reads what the block made as a variable.
StatusOr<JinjaValue> JinjaRenderer::FilterText(const Node& node, std::string text) {
  const Scope scope(*this);
  Set(captured_symbol_, Value(std::move(text)));
  return Evaluate(node.expr);
}

Status JinjaRenderer::RenderSetBlock(const Node& node) {
  TANDEM_ASSIGN_OR_RETURN(std::string text, Capture(node.body));
  TANDEM_ASSIGN_OR_RETURN(Value value, FilterText(node, std::move(text)));
  return Assign(node.target, std::move(value));
}

Status JinjaRenderer::RenderFilterBlock(const Node& node) {
  TANDEM_ASSIGN_OR_RETURN(std::string text, Capture(node.body));
  TANDEM_ASSIGN_OR_RETURN(const Value value, FilterText(node, std::move(text)));
  return Print(env_, value, output_);
}

// The values are computed outside of the scope that their names are in.
Status JinjaRenderer::RenderWith(const Node& node) {
  Value::List values;
  for (const Expr& expr : node.values) {
    TANDEM_ASSIGN_OR_RETURN(Value value, Evaluate(expr));
    values.push_back(std::move(value));
  }
  const Scope scope(*this);
  for (size_t i = 0; i < values.size(); ++i) {
    TANDEM_RETURN_IF_ERROR(Assign(node.targets[i], std::move(values[i])));
  }
  return RenderBody(node.body);
}

Status JinjaRenderer::RenderCall(const Node& node) {
  const Value caller = Define(node.macro);
  TANDEM_ASSIGN_OR_RETURN(const Value value, EvaluateCall(node.expr, &caller));
  return Print(env_, value, output_);
}

// --- variables

JinjaValue JinjaRenderer::Define(const std::shared_ptr<const JinjaMacroBody>& body) {
  auto macro = std::make_shared<JinjaMacro>();
  macro->body = body;
  if (frame_begin_ < stack_.size()) macro->visible.push_back({frame_begin_, stack_.size()});
  macro->visible.insert(macro->visible.end(), visible_.begin(), visible_.end());
  return Value(std::shared_ptr<JinjaObject>(std::move(macro)));
}

Status JinjaRenderer::Assign(const JinjaTarget& target, Value value) {
  if (!target.attribute.empty()) {
    return AssignAttribute(env_, LookUp(target.symbols[0]), target.attribute, std::move(value));
  }
  if (!target.unpacks) {
    Set(target.symbols[0], std::move(value));
    return OkStatus();
  }
  TANDEM_ASSIGN_OR_RETURN(Value::List parts, Iterate(env_, value));
  if (parts.size() != target.symbols.size()) {
    return env_.Error("{} values for {} names", parts.size(), target.symbols.size());
  }
  for (size_t i = 0; i < parts.size(); ++i) Set(target.symbols[i], std::move(parts[i]));
  return OkStatus();
}

void JinjaRenderer::Set(int symbol, Value value) {
  if (outermost_) {
    globals_[static_cast<size_t>(symbol)] = std::move(value);
    return;
  }
  for (size_t i = scope_begin_; i < stack_.size(); ++i) {
    if (stack_[i].symbol != symbol) continue;
    stack_[i].value = std::move(value);
    return;
  }
  stack_.push_back({symbol, std::move(value)});
}

}  // namespace tandem::text
