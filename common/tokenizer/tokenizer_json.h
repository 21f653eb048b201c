// Reads Hugging Face's tokenizer.json, of model type BPE, with the two files beside it that say
// which tokens begin and end texts. What a file asks for and we do not do is refused by name.
#pragma once

#include <string>
#include <string_view>

#include "common/status.h"
#include "common/tokenizer/tokenizer_spec.h"

namespace tandem::text {

// The files' contents; empty: there is none.
struct TokenizerFiles {
  std::string tokenizer;   // tokenizer.json
  std::string config;      // tokenizer_config.json
  std::string generation;  // generation_config.json
};

// Errors begin with the file's name and say where in it.
StatusOr<TokenizerSpec> ReadTokenizerJson(const TokenizerFiles& files);

}  // namespace tandem::text
