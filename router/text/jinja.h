// The part of Jinja that simple chat templates are made of. Supported:
//   {% for x in list %} (with loop.first, last, index, index0, length), {% if %} {% elif %}
//   {% else %}, {% set x = ... %}, {{ ... }}, {# ... #}, white space control with - and +;
//   strings, integers, true, false, none; a.b and a[b]; == != < <= > >= in, not in; and, or, not;
//   + - ~; the filters trim and length; the tests defined, none and string.
// All else (calls, macros, slices, other filters, ...) is refused when the template is parsed, by
// name and line. White space around tags is handled as Hugging Face sets Jinja up (trim_blocks and
// lstrip_blocks), and an undefined value prints as nothing but cannot be computed with.
//
// Bounded: a template is at most 1 MB and nests 64 deep; rendering stops with an error after
// 2 million evaluations or when it has made 64 MB of text.
// Thread: immutable, any thread; copies share the parsed template.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "router/text/jinja_value.h"

namespace tandem::text {

struct JinjaNode;

class JinjaTemplate {
 public:
  // Renders to nothing.
  JinjaTemplate() = default;

  // kInvalidArgument: not Jinja. kUnimplemented: Jinja that is not supported.
  static StatusOr<JinjaTemplate> Parse(std::string_view source);

  // kInvalidArgument: the values do not suit the template (a string is added to a number, ...).
  StatusOr<std::string> Render(const JinjaValue::Map& variables) const;

 private:
  std::shared_ptr<const std::vector<JinjaNode>> body_;
};

}  // namespace tandem::text
