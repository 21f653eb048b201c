// Values that live in one rendering and are not plain data: namespaces, loops, macros, iterators
// that can be walked once, functions, and methods that were named but not called.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "router/text/jinja_ast.h"
#include "router/text/jinja_methods.h"
#include "router/text/jinja_value.h"

namespace tandem::text {

class JinjaObject {
 public:
  virtual ~JinjaObject() = default;
  virtual const char* kind_name() const = 0;
  virtual int depth() const { return 0; }
};

template <class T>
T* As(const JinjaValue& value) {
  return dynamic_cast<T*>(value.as_object());
}

// The one thing that templates change. It holds no other namespace, nor anything that does: there
// are no cycles, and no chain is deeper than values may be.
struct JinjaNamespace : JinjaObject {
  JinjaValue::Map attributes;
  const char* kind_name() const override { return "namespace"; }
  int depth() const override { return 1; }
};

// Python's generator: what `map`, `select` and their like give. Always true, has no length.
struct JinjaIterator : JinjaObject {
  JinjaValue::List items;
  size_t next = 0;
  explicit JinjaIterator(JinjaValue::List list) : items(std::move(list)) {
    for (const JinjaValue& item : items) depth_ = std::max(depth_, item.depth() + 1);
  }
  const char* kind_name() const override { return "iterator"; }
  int depth() const override { return depth_; }

 private:
  int depth_ = 1;
};

struct JinjaLoop : JinjaObject {
  JinjaValue list;
  int64_t index0 = 0;
  JinjaValue changed;  // what loop.changed() heard last: a tuple
  explicit JinjaLoop(JinjaValue over) : list(std::move(over)) {}
  const JinjaValue::List& items() const { return *list.as_list(); }
  const char* kind_name() const override { return "loop"; }
  int depth() const override { return list.depth() + 1; }  // an item may be another loop
};

struct JinjaMacro : JinjaObject {
  // Parts of the variable stack that are seen from where the macro was defined.
  struct Range {
    size_t begin;
    size_t end;
  };
  std::shared_ptr<const JinjaMacroBody> body;
  std::vector<Range> visible;
  const char* kind_name() const override { return "macro"; }
};

enum class JinjaFunctionId : uint8_t { kRange, kNamespace, kDict, kRaiseException, kStrftimeNow };

struct JinjaFunction : JinjaObject {
  JinjaFunctionId id;
  explicit JinjaFunction(JinjaFunctionId which) : id(which) {}
  const char* kind_name() const override { return "function"; }
};

struct JinjaBoundMethod : JinjaObject {
  JinjaValue object;
  JinjaMethod method;
  JinjaBoundMethod(JinjaValue of, JinjaMethod which) : object(std::move(of)), method(which) {}
  const char* kind_name() const override { return "method"; }
  int depth() const override { return object.depth() + 1; }
};

}  // namespace tandem::text
