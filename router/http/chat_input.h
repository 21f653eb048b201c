// What a chat template is given of a request.
// Thread: any; the template is immutable.
#pragma once

#include <optional>

#include "router/http/error.h"
#include "router/http/openai_request.h"
#include "router/text/chat_template.h"

namespace tandem::http {

// What the request asks of the template and this one cannot do.
std::optional<ApiError> CheckTemplate(const ApiRequest& api, const text::ChatTemplate& chat);

text::ChatInput ChatInputOf(const ApiRequest& api, const text::ChatTemplate& chat);

}  // namespace tandem::http
