// Values as text: Python's str() and repr(), and its json.dumps() as transformers sets it up for
// the filter `tojson`.
#pragma once

#include <optional>
#include <string>

#include "common/status.h"
#include "router/text/jinja_env.h"
#include "router/text/jinja_value.h"

namespace tandem::text {

// Appends to `out`, and counts what it appends.
Status Print(JinjaEnv& env, const JinjaValue& value, std::string& out);  // str()
Status Repr(JinjaEnv& env, const JinjaValue& value, std::string& out);
StatusOr<std::string> Str(JinjaEnv& env, const JinjaValue& value);

struct JinjaJsonOptions {
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::optional<std::string> indent;  // of one level; absent: all on one line
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};
StatusOr<std::string> ToJson(JinjaEnv& env, const JinjaValue& value,
                             const JinjaJsonOptions& options);

std::string FloatText(double value);  // Python's repr(): the shortest that reads back the same

}  // namespace tandem::text
