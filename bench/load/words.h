// Text whose length in tokens is known without a tokenizer: common English words, each of which is
// one token in the byte-level vocabularies in use, with the space before it or without.
#pragma once

#include <string>

#include "bench/load/draws.h"

namespace tandem::load {

// Appends `count` words, a space before each but the first of an empty text. Lower-case letters and
// spaces only: fit for a JSON string as it is.
void AppendWords(std::string& text, Draws& draws, int64_t count);

}  // namespace tandem::load
