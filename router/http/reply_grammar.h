// The grammar of a reply: what the request says of its form; calls of tools where these must be, or
// may be and have to follow schemas, in the format that the model was trained on; either, where
// there are both. Behind what the model may think first.
//
// Control tokens are no text, so a grammar cannot have them: where the marks of reasoning are such,
// the model does not reason, and where a mark of calls is one, they are written without.
// Thread: any.
#pragma once

#include <optional>

#include "common/grammar_spec.h"
#include "common/tokenizer/tokenizer.h"
#include "router/http/error.h"
#include "router/http/openai_request.h"
#include "router/text/reply_parser.h"

namespace tandem::http {

// `syntax` says how the reply will be read, and becomes what the grammar leaves of it. `check`:
// whether the grammar of the request, and the schemas of its tools, are to be looked at; once is
// enough.
std::optional<ApiError> MakeReplyGrammar(const ApiRequest& api, const text::Tokenizer& tokenizer,
                                         bool check,
                                         std::optional<text::ReplyParser::Options>& syntax,
                                         grammar::GrammarSpec& grammar);

}  // namespace tandem::http
