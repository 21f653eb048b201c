// What a chat template is given of a request, and what that makes of the reply.
// Thread: any; the template is immutable.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "common/status.h"
#include "router/http/error.h"
#include "router/http/openai_request.h"
#include "router/text/chat_template.h"
#include "router/text/reply_parser.h"

namespace tandem::http {

// What the request asks of the template and this one cannot do.
std::optional<ApiError> CheckTemplate(const ApiRequest& api, const text::ChatTemplate& chat);

// The prompt. kInvalidArgument: the template refuses the conversation.
StatusOr<std::string> RenderChat(const ApiRequest& api, const text::ChatTemplate& chat);

// How the reply to `prompt`, which was made of that, is to be read; nothing: all of it is content.
// Borrows from the request.
std::optional<text::ReplyParser::Options> ReplySyntaxFor(const ApiRequest& api,
                                                         const text::ChatTemplate& chat,
                                                         std::string_view prompt);

}  // namespace tandem::http
