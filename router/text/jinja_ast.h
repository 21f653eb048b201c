// A parsed template: a tree of nodes, each with the line it came from.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "router/text/jinja_value.h"

namespace tandem::text {

struct JinjaExpr {
  enum class Kind : uint8_t {
    kLiteral,    // value
    kName,       // text
    kSubscript,  // children[0][children[1]]; a.b is a['b']
    kUnary,      // text: "not", "-"
    kBinary,     // text: the operator, "and", "or", "in"
    kFilter,     // children[0] | text
    kTest,       // children[0] is text
  };
  Kind kind = Kind::kLiteral;
  std::string text = {};
  JinjaValue value = {};
  std::vector<JinjaExpr> children = {};
  int line = 1;
  int depth = 1;  // of this tree; the parser bounds it
};

struct JinjaNode {
  enum class Kind : uint8_t { kData, kOutput, kFor, kIf, kSet };
  struct Branch {
    JinjaExpr condition;  // of else: true
    std::vector<JinjaNode> body;
  };
  Kind kind = Kind::kData;
  std::string text = {};              // data; the variable of for and set
  JinjaExpr expr = {};                // what is written, walked over or assigned
  std::vector<JinjaNode> body = {};   // of for
  std::vector<Branch> branches = {};  // of if
  int line = 1;
};

}  // namespace tandem::text
