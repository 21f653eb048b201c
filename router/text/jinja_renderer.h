// One rendering: walks the tree of a template with the variables it was given. Internal to
// jinja.cc.
//
// Variables are on one stack, the innermost scope at its end; those of the template's outermost
// scope are in a table by symbol. A macro sees its own, those of the scopes it was defined in, and
// the table.
//
// Thread: one.
#pragma once

#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/status.h"
#include "router/text/jinja_ast.h"
#include "router/text/jinja_env.h"
#include "router/text/jinja_methods.h"
#include "router/text/jinja_objects.h"
#include "router/text/jinja_value.h"

namespace tandem::text {

class JinjaRenderer {
 public:
  // Borrows the tree.
  JinjaRenderer(const JinjaTree& tree, const JinjaValue::Map& variables, const std::tm& now);

  StatusOr<std::string> Run();

 private:
  using Expr = JinjaExpr;
  using Node = JinjaNode;
  using Value = JinjaValue;
  enum class Flow : uint8_t { kNext, kBreak, kContinue };

  struct Variable {
    int symbol;
    Value value;
  };
  // A scope ends with this object; so does a level of recursion.
  class Scope {
   public:
    explicit Scope(JinjaRenderer& renderer)
        : renderer_(renderer),
          begin_(std::exchange(renderer.scope_begin_, renderer.stack_.size())),
          outermost_(std::exchange(renderer.outermost_, false)) {}
    ~Scope() {
      renderer_.stack_.resize(renderer_.scope_begin_);
      renderer_.scope_begin_ = begin_;
      renderer_.outermost_ = outermost_;
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    void Clear() { renderer_.stack_.resize(renderer_.scope_begin_); }

   private:
    JinjaRenderer& renderer_;
    size_t begin_;
    bool outermost_;
  };

  // --- statements (jinja_renderer.cc)
  Status RenderBody(const std::vector<Node>& body);
  Status RenderNode(const Node& node);
  Status TooDeep() const;  // an error, after which the rendering ends
  Status RenderFor(const Node& node);
  Status RenderItems(const Node& node, const Value& list, bool& any);
  StatusOr<Value> Filtered(const Node& node, const Value& list);
  Status RenderIf(const Node& node);
  Status RenderSetBlock(const Node& node);
  Status RenderFilterBlock(const Node& node);
  Status RenderWith(const Node& node);
  Status RenderCall(const Node& node);
  Status Assign(const JinjaTarget& target, Value value);
  StatusOr<std::string> Capture(const std::vector<Node>& body);
  StatusOr<Value> FilterText(const Node& node, std::string text);
  void Set(int symbol, Value value);
  Value Define(const std::shared_ptr<const JinjaMacroBody>& body);

  // --- expressions (jinja_evaluator.cc)
  StatusOr<Value> Evaluate(const Expr& expr);
  StatusOr<Value> EvaluateKind(const Expr& expr);
  StatusOr<Value> EvaluateLogical(const Expr& expr);
  StatusOr<Value> EvaluateConditional(const Expr& expr);
  StatusOr<Value> EvaluateComparison(const Expr& expr);
  StatusOr<Value> EvaluateArithmetic(const Expr& expr);
  StatusOr<Value> EvaluateConcat(const Expr& expr);
  StatusOr<Value> EvaluateSlice(const Expr& expr);
  StatusOr<Value> EvaluateList(const Expr& expr);
  StatusOr<Value> EvaluateMap(const Expr& expr);
  StatusOr<Value> EvaluateFilter(const Expr& expr);
  StatusOr<Value> EvaluateTest(const Expr& expr);
  StatusOr<Value> EvaluateAccess(const Expr& expr);
  const Value& LookUp(int symbol) const;
  Status CheckDefined(const Expr& expr, const Value& value) const;

  // --- calls (jinja_calls.cc)
  StatusOr<Value> EvaluateCall(const Expr& expr, const Value* caller = nullptr);
  StatusOr<JinjaArguments> EvaluateArguments(const Expr& expr);
  StatusOr<Value> CallOfMethod(const Expr& expr, bool& is_method);
  StatusOr<Value> Call(const Value& callee, JinjaArguments arguments);
  StatusOr<Value> CallMacro(const JinjaMacro& macro, JinjaArguments& arguments);
  Status BindParameters(const JinjaMacroBody& body, JinjaArguments& arguments);
  Status BindRest(const JinjaMacroBody& body, JinjaArguments& arguments);
  StatusOr<Value> CallLoop(JinjaLoop& loop, std::string_view method,
                           const JinjaArguments& arguments);

  const JinjaTree& tree_;
  const std::tm& now_;
  JinjaEnv env_;
  std::string output_;
  std::vector<Value> globals_;  // by symbol
  std::vector<Variable> stack_;
  size_t scope_begin_ = 0;                  // first variable of the innermost scope
  size_t frame_begin_ = 0;                  // first variable of the macro that runs
  std::vector<JinjaMacro::Range> visible_;  // of what is below, in the order to look
  bool outermost_ = true;                   // no scope: variables are globals_
  Flow flow_ = Flow::kNext;
  int recursion_ = 0;
  int caller_symbol_ = -1, varargs_symbol_ = -1, kwargs_symbol_ = -1, loop_symbol_ = -1,
      captured_symbol_ = -1;
};

}  // namespace tandem::text
