// A parsed template: a tree of nodes, each with the line it came from. Names are numbered when the
// template is parsed, filters and tests looked up, and arguments bound to their places.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "router/text/jinja_value.h"

namespace tandem::text {

struct JinjaFilter;
struct JinjaTest;

enum class JinjaOp : uint8_t {
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kFloorDivide,
  kModulo,
  kPower,
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kIn,
  kNotIn,
};
const char* OpName(JinjaOp op);

struct JinjaExpr {
  enum class Kind : uint8_t {
    kLiteral,      // value
    kName,         // symbol, text
    kAttribute,    // children[0].text
    kItem,         // children[0][children[1]]
    kSlice,        // children[0][children[1]:children[2]:children[3]]
    kNot,          // of children[0], as the next two
    kNegative,     //
    kPositive,     //
    kAnd,          // children[0] and children[1]
    kOr,           //
    kConditional,  // children[1] if children[0] else children[2]
    kCompare,      // children[0] ops[0] children[1] ops[1] children[2] ...
    kArithmetic,   // children[0] ops[0] children[1]
    kConcat,       // children, joined with ~
    kList,         // children
    kTuple,        // children
    kMap,          // children: key, value, key, value, ...
    kCall,         // children[0](children[1...]), the last ones with `keywords`
    kFilter,       // children[0] | filter(children[1...]), bound to `slots`
    kTest,         // children[0] is test(children[1...])
  };
  Kind kind = Kind::kLiteral;
  int symbol = -1;
  int line = 1;
  int depth = 1;  // of this tree; the parser bounds it
  std::string text = {};
  JinjaValue value = {};
  std::vector<JinjaExpr> children = {};
  std::vector<JinjaOp> ops = {};
  std::vector<std::string> keywords = {};  // of the last children of a call
  std::vector<int> slots = {};             // of a filter's arguments
  const JinjaFilter* filter = nullptr;
  const JinjaTest* test = nullptr;
};

struct JinjaNode;

// What is assigned to: names, or an attribute of a namespace.
struct JinjaTarget {
  std::vector<int> symbols;
  bool unpacks = false;   // a, b = ...
  std::string attribute;  // symbols[0].attribute = ...
};

struct JinjaMacroBody {
  std::string name;
  std::vector<int> parameters;
  std::vector<std::string> parameter_names;
  std::vector<JinjaExpr> defaults;  // of the last parameters
  std::vector<JinjaNode> body;
  bool uses_varargs = false;
  bool uses_kwargs = false;
  int line = 1;
};

struct JinjaNode {
  enum class Kind : uint8_t {
    kData,         // text
    kOutput,       // expr
    kFor,          // target in expr if conditions[0]: body; otherwise
    kIf,           // branches
    kSet,          // target = expr
    kSetBlock,     // target = body | expr (a chain of filters over the literal that is its root)
    kFilterBlock,  // body | expr
    kMacro,        // target = macro
    kCall,         // expr, with macro as its caller()
    kWith,         // targets and values in body, a scope of its own
    kScope,        // body in a scope of its own
    kBreak,
    kContinue,
  };
  struct Branch {
    JinjaExpr condition;  // of else: true
    std::vector<JinjaNode> body;
  };
  Kind kind = Kind::kData;
  int line = 1;
  bool uses_loop = false;  // of kFor: the body says `loop`
  std::string text = {};
  JinjaExpr expr = {};
  JinjaTarget target = {};
  std::vector<JinjaExpr> conditions = {};
  std::vector<JinjaNode> body = {};
  std::vector<JinjaNode> otherwise = {};
  std::vector<Branch> branches = {};
  std::vector<JinjaTarget> targets = {};  // of kWith
  std::vector<JinjaExpr> values = {};     // of kWith
  std::shared_ptr<const JinjaMacroBody> macro = {};
};

struct JinjaTree {
  std::vector<JinjaNode> body;
  std::vector<std::string> symbols;  // names, by number
};

}  // namespace tandem::text
