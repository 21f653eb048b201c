// The filters: value | filter(arguments). jinja_filters.cc lists them.
#pragma once

#include <array>
#include <span>
#include <string_view>

#include "common/status.h"
#include "router/text/jinja_env.h"
#include "router/text/jinja_value.h"

namespace tandem::text {

inline constexpr int kMaxFilterArguments = 6;
// By parameter; undefined: not given.
using JinjaFilterArguments = std::array<JinjaValue, kMaxFilterArguments>;

struct JinjaFilter {
  std::string_view name;
  int num_required;
  std::array<std::string_view, kMaxFilterArguments> parameters;  // in order; "" past the last
  StatusOr<JinjaValue> (*run)(JinjaEnv& env, const JinjaValue& input,
                              const JinjaFilterArguments& arguments);
};
// Null: no such filter.
const JinjaFilter* FindFilter(std::string_view name);

// The tests: value is test(argument).
struct JinjaTest {
  std::string_view name;
  bool takes_argument;
  StatusOr<bool> (*run)(JinjaEnv& env, const JinjaValue& input, const JinjaValue& argument);
};
const JinjaTest* FindTest(std::string_view name);

// Parts of the table, by file.
std::span<const JinjaFilter> TextFilters();
std::span<const JinjaFilter> NumberFilters();
std::span<const JinjaFilter> ListFilters();
std::span<const JinjaFilter> SelectionFilters();

}  // namespace tandem::text
