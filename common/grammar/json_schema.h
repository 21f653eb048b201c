// JSON Schema (draft 2020-12, and what older drafts have in common with it) as a grammar: every
// text that is matched is an instance of the schema. Not every instance is matched:
//   properties come in the schema's order; those that it does not name only where
//   additionalProperties says true or a schema (a schema of an object without properties allows
//   any); without `type` the type follows from the other keywords; strings of enum, const, pattern
//   and format are written in one form; hosts have up to 8 labels of up to 30 characters.
//
// Supported: type, enum, const, anyOf, oneOf (of alternatives that exclude each other by type or by
// a constant property), allOf (of one, or of objects with different properties), each with `type`
// beside it; $ref within the document, $defs, definitions, properties, required,
// additionalProperties, propertyNames (instead of properties), items, prefixItems, minItems,
// maxItems, minLength, maxLength, pattern, format (date, time, date-time, duration, uuid, ipv4,
// ipv6, hostname, email, uri; binary and password are any string), minimum, maximum,
// exclusiveMinimum, exclusiveMaximum (whole numbers); of older drafts a list as items and
// additionalItems; OpenAPI's nullable. A length beside a pattern or format: regex.h says when.
// A format beside a pattern and annotations (OpenAPI's and x-... too) have no effect. All else is
// refused by name, and so are constants beyond 2^63.
#pragma once

#include <string_view>

#include "common/grammar/rules.h"
#include "common/status.h"

namespace tandem::grammar {

// The rule of the whole instance. kInvalidArgument: not JSON or not a schema; kUnimplemented: a
// keyword that is not supported. Messages name the place: "#/properties/age: ...".
StatusOr<RuleId> ParseJsonSchema(std::string_view schema, Rules& rules);

// Any JSON object.
RuleId AnyJsonObject(Rules& rules);

}  // namespace tandem::grammar
