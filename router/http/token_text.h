// Tokens and their logprobs as JSON: `logprobs` of chats and of completions, lists of ids.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "common/ids.h"
#include "common/tokenizer/tokenizer.h"
#include "router/routing/messages.h"

namespace tandem::http {

struct TokenTextOptions {
  const text::Tokenizer* tokenizer = nullptr;
  bool ids_for_text = false;  // "token_id:N" instead of text
  bool with_special = false;  // control tokens are part of the reply's text
};

// What a token is called: its bytes as UTF-8, with U+FFFD for what is not.
std::string TokenName(const TokenTextOptions& options, TokenId id);

// {"content":[{"token":...,"logprob":...,"bytes":[...],"top_logprobs":[...]}],"refusal":null}
void AppendChatLogprobs(std::string& out, const TokenTextOptions& options,
                        std::span<const TokenId> tokens,
                        std::span<const routing::TokenLogprob> logprobs);

// {"text_offset":[...],"token_logprobs":[...],"tokens":[...],"top_logprobs":[{...}]}. `offset`:
// code points of the text before the first token; becomes that after the last.
void AppendCompletionLogprobs(std::string& out, const TokenTextOptions& options,
                              std::span<const TokenId> tokens,
                              std::span<const routing::TokenLogprob> logprobs, size_t& offset);

void AppendIds(std::string& out, std::span<const TokenId> ids);  // [1,2]

}  // namespace tandem::http
