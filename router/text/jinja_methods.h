// The methods that Python's strings, lists and maps have. A sandboxed template may not call those
// that change what they belong to; as attributes they are undefined.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/status.h"
#include "router/text/jinja_env.h"
#include "router/text/jinja_value.h"

namespace tandem::text {

enum class JinjaMethod : uint8_t {
  kNone,         // Python has no method of this name
  kChanges,      // append, pop, update, ...: refused
  kUnsupported,  // Python has it, this interpreter does not
  kCapitalize,
  kCopy,
  kCount,
  kEndsWith,
  kFind,
  kFormat,
  kGet,
  kIndex,
  kIsAlnum,
  kIsAlpha,
  kIsDigit,
  kIsLower,
  kIsSpace,
  kIsUpper,
  kItems,
  kJoin,
  kKeys,
  kLStrip,
  kLower,
  kPartition,
  kRFind,
  kRPartition,
  kRSplit,
  kRStrip,
  kRemovePrefix,
  kRemoveSuffix,
  kReplace,
  kSplit,
  kSplitLines,
  kStartsWith,
  kStrip,
  kTitle,
  kUpper,
  kValues,
};

// The arguments of a call.
struct JinjaArguments {
  JinjaValue::List positional;
  std::vector<std::pair<std::string, JinjaValue>> keywords;
};

// The method of that name of values of this one's kind.
JinjaMethod MethodOf(const JinjaValue& object, std::string_view name);
// Some kind of value has a method of that name, and it is not supported for any.
bool IsUnsupportedMethod(std::string_view name);

// REQUIRES: `method` came from MethodOf(object, ...) and is neither kNone nor kChanges.
StatusOr<JinjaValue> CallMethod(JinjaEnv& env, const JinjaValue& object, JinjaMethod method,
                                const JinjaArguments& arguments);

}  // namespace tandem::text
