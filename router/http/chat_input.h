// What a chat template is given of a request, and what that makes of the reply.
// Thread: any; the template is immutable.
#pragma once

#include <optional>
#include <string_view>

#include "router/http/error.h"
#include "router/http/openai_request.h"
#include "router/text/chat_template.h"
#include "router/text/reply_parser.h"

namespace tandem::http {

// What the request asks of the template and this one cannot do.
std::optional<ApiError> CheckTemplate(const ApiRequest& api, const text::ChatTemplate& chat);

text::ChatInput ChatInputOf(const ApiRequest& api, const text::ChatTemplate& chat);

// Whether `prompt`, made of that, ends within what the model thinks.
bool BeginsInReasoning(const ApiRequest& api, std::string_view prompt,
                       const text::ChatTemplate& chat);

// How the reply is to be read; nothing: all of it is content. Borrows from both.
std::optional<text::ReplyParser::Options> ReplySyntaxFor(const ApiRequest& api,
                                                         const text::ChatTemplate* chat,
                                                         bool begins_in_reasoning);

}  // namespace tandem::http
