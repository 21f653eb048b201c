// What a load test needs to know of one chunk of a stream, read in one pass without building a
// tree: a chunk arrives for every token of every stream.
#pragma once

#include <cstdint>
#include <string_view>

namespace tandem::load {

struct Chunk {
  bool has_choices = false;  // "choices" is there and not empty
  std::string_view text;     // of the first choice (delta.content, delta.reasoning_content, message
                             // or text), as it stands between its quotes: still escaped
  std::string_view error;    // "error", if it is there and not null: the raw JSON
  int64_t prompt_tokens = -1;  // of "usage"; -1: not told
  int64_t completion_tokens = -1;
  int64_t cached_tokens = -1;
};

// False: not a JSON object. Views point into `data`. What it passes over is not validated in full.
bool ScanChunk(std::string_view data, Chunk& chunk);

}  // namespace tandem::load
