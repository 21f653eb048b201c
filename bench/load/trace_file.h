// Recorded traffic as rows: the Mooncake trace (JSONL) and the Azure LLM inference trace (CSV).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/ids.h"
#include "common/status.h"

namespace tandem::load {

inline constexpr int64_t kHashBlockTokens = 512;  // of a Mooncake hash id

struct TraceRow {
  Nanos at = 0;  // from the first row's
  int64_t input_tokens = 0;
  int64_t output_tokens = 0;
  // Mooncake: one for each 512 tokens begun; equal ids are equal text with equal text before it.
  std::vector<uint64_t> hash_ids;
};

// Rows in order of time. Plain or gzip. Errors: `file:line: what`.
StatusOr<std::vector<TraceRow>> ReadMooncake(const std::string& file);
StatusOr<std::vector<TraceRow>> ReadAzure(const std::string& file);

// The whole file, unpacked where it is gzip.
StatusOr<std::string> ReadText(const std::string& file);

}  // namespace tandem::load
