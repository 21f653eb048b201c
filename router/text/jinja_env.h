// What the parts of the interpreter share while one template is rendered: the budget that bounds a
// hostile template or input, and errors with the line of the template.
//
// Thread: one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "common/status.h"
#include "router/text/jinja_value.h"

namespace tandem::text {

class JinjaEnv {
 public:
  static constexpr int64_t kMaxSteps = 2'000'000;
  static constexpr size_t kMaxBytes = 64 << 20;  // made so far, thrown away or not
  static constexpr int kMaxValueDepth = 100;     // printing, comparing, ... recurse so far
  static constexpr int kMaxRecursion = 600;      // of tags, macros and expressions in each other

  void At(int line) { line_ = line; }
  int line() const { return line_; }

  Status Work(int64_t steps = 1) {
    steps_ += steps;
    return steps_ <= kMaxSteps ? OkStatus() : TooManySteps();
  }
  // A pass over this many bytes of text.
  Status Scan(size_t bytes) { return Work(1 + static_cast<int64_t>(bytes / 128)); }
  Status Make(size_t bytes) {
    bytes_ += bytes;
    return bytes_ <= kMaxBytes ? OkStatus() : TooManyBytes();
  }
  Status MakeItems(size_t count) {
    TANDEM_RETURN_IF_ERROR(Work(static_cast<int64_t>(count)));
    return Make(count * sizeof(JinjaValue));
  }
  StatusOr<JinjaValue> Text(std::string text, bool markup = false);
  StatusOr<JinjaValue> List(JinjaValue::List items,
                            JinjaValue::Shape shape = JinjaValue::Shape::kList);
  StatusOr<JinjaValue> Map(JinjaValue::Map entries);
  Status CheckDepth(const JinjaValue& value) const;

  template <class... Args>
  Status Error(fmt::format_string<Args...> format, Args&&... args) const {
    return ErrorWith(fmt::format(format, std::forward<Args>(args)...));
  }
  Status ErrorWith(const std::string& what) const;

 private:
  Status TooManySteps() const;
  Status TooManyBytes() const;

  int line_ = 1;
  int64_t steps_ = 0;
  size_t bytes_ = 0;
};

}  // namespace tandem::text
