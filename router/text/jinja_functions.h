// The functions that Hugging Face gives a template.
#pragma once

#include <ctime>
#include <string_view>
#include <utility>

#include "common/status.h"
#include "router/text/jinja_env.h"
#include "router/text/jinja_methods.h"
#include "router/text/jinja_objects.h"

namespace tandem::text {

inline constexpr std::pair<std::string_view, JinjaFunctionId> kJinjaFunctions[] = {
    {"range", JinjaFunctionId::kRange},
    {"namespace", JinjaFunctionId::kNamespace},
    {"dict", JinjaFunctionId::kDict},
    {"raise_exception", JinjaFunctionId::kRaiseException},
    {"strftime_now", JinjaFunctionId::kStrftimeNow},
};

// `now` is local time, for strftime_now.
StatusOr<JinjaValue> CallFunction(JinjaEnv& env, JinjaFunctionId function,
                                  const JinjaArguments& arguments, const std::tm& now);
// {% set namespace.name = value %}
Status AssignAttribute(JinjaEnv& env, const JinjaValue& object, std::string_view name,
                       JinjaValue value);

}  // namespace tandem::text
