// Python's operators over JinjaValue. Errors name the line of the template.
#pragma once

#include <span>
#include <string_view>

#include "common/status.h"
#include "router/text/jinja_ast.h"
#include "router/text/jinja_env.h"
#include "router/text/jinja_value.h"

namespace tandem::text {

// + - * / // % **
StatusOr<JinjaValue> Arithmetic(JinjaEnv& env, JinjaOp op, const JinjaValue& left,
                                const JinjaValue& right);
StatusOr<JinjaValue> Negative(JinjaEnv& env, const JinjaValue& value);
StatusOr<JinjaValue> Positive(JinjaEnv& env, const JinjaValue& value);
// Any of == != < <= > >= in, not in.
StatusOr<bool> Compare(JinjaEnv& env, JinjaOp op, const JinjaValue& left, const JinjaValue& right);
StatusOr<bool> Equal(JinjaEnv& env, const JinjaValue& left, const JinjaValue& right);
StatusOr<bool> Contains(JinjaEnv& env, const JinjaValue& needle, const JinjaValue& haystack);

// object[key], object.name: as in Jinja the one falls back to the other, in different order (so
// that `schema.items` is the method, even if the map has such a key). What is not there is
// undefined; that of an undefined value is an error.
StatusOr<JinjaValue> Item(JinjaEnv& env, const JinjaValue& object, const JinjaValue& key);
StatusOr<JinjaValue> Attribute(JinjaEnv& env, const JinjaValue& object, std::string_view name);
// object[begin:end:step]; none: absent.
StatusOr<JinjaValue> Slice(JinjaEnv& env, const JinjaValue& object,
                           std::span<const JinjaValue> bounds);
// What a loop walks over: the items of a list, keys of a map, characters of a string. An iterator
// is used up.
StatusOr<JinjaValue::List> Iterate(JinjaEnv& env, const JinjaValue& value);
// len(value)
StatusOr<int64_t> Length(JinjaEnv& env, const JinjaValue& value);

// Sorts by `keys`, which are parallel to `items`; stable.
StatusOr<JinjaValue::List> SortBy(JinjaEnv& env, const JinjaValue::List& items,
                                  const JinjaValue::List& keys, bool reverse);

}  // namespace tandem::text
