// The part of Jinja that published chat templates are made of, as Hugging Face sets it up: white
// space around tags with trim_blocks and lstrip_blocks, break and continue, the tag `generation`,
// a sandbox that lets nothing be changed but a namespace's attributes, and an undefined value that
// prints as nothing but has no attributes. docs/chat_templates.md lists what is supported; what is
// not is refused when the template is parsed, by name and line.
//
// Bounded, whatever the template and its variables: a template is at most 1 MB and nests 64 deep;
// rendering stops with an error after 2 million evaluations, when it has made 64 MB of text and
// lists, or when macros and what is in them nest 600 deep (jinja_env.h).
// Thread: immutable, any thread; copies share the parsed template.
#pragma once

#include <ctime>
#include <memory>
#include <string>
#include <string_view>

#include "common/status.h"
#include "router/text/jinja_value.h"

namespace tandem::text {

struct JinjaTree;

class JinjaTemplate {
 public:
  // Renders to nothing.
  JinjaTemplate() = default;

  // kInvalidArgument: not Jinja. kUnimplemented: Jinja that is not supported.
  static StatusOr<JinjaTemplate> Parse(std::string_view source);

  // kInvalidArgument: the values do not suit the template (a string is added to a number, ...), or
  // it refuses them (raise_exception), or a bound is reached. `now` is local time, for
  // strftime_now.
  StatusOr<std::string> Render(const JinjaValue::Map& variables, const std::tm& now = {}) const;

 private:
  std::shared_ptr<const JinjaTree> tree_;
};

}  // namespace tandem::text
