// JSON as what chat templates compute with.
#pragma once

#include <boost/json/fwd.hpp>

#include "router/text/jinja_value.h"

namespace tandem::text {

// Keys keep their order. A whole number beyond 64 signed bits becomes a float.
JinjaValue ToTemplateValue(const boost::json::value& value);

}  // namespace tandem::text
