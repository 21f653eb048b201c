// How long a step takes on a device that is not there: what simulated groups (worker/sim) and the
// simulator compute with. Pure. The files are configs/devices/, read by
// common/config/device_profile.h.
//
//   step = launch + max(weights read, GEMM of all tokens) + attention of the prefill
//        + KV reads of the decodes + all-reduces
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>

#include "common/ids.h"

namespace tandem {

// Of a whole group: what its ranks do side by side is divided already. Times are nanoseconds, with
// fractions, because some are of one token.
struct DeviceProfile {
  std::string name;       // of the file, less its ending: "h100-llama3-8b"
  int ranks = 1;          // devices of the group
  int64_t kv_tokens = 0;  // tokens that fit the KV memory
  double launch_ns = 0;   // of a step: what the device waits for the host and between kernels
  // Of a step: a matrix is read once for all tokens, so a small batch takes this long.
  double weights_read_ns = 0;
  double gemm_ns_per_token = 0;        // of a large batch, which computes for longer than it reads
  double attention_ns_per_pair = 0;    // of a prefill's token and one that it looks at
  double kv_read_ns_per_token = 0;     // of a decode's context
  double all_reduce_ns = 0;            // of a step; 0 for one rank, as the next
  double all_reduce_ns_per_token = 0;  // of all tokens
};

// What a step has to compute.
struct StepWork {
  int64_t prefill_tokens = 0;
  // Pairs of a prefill's token and one that it looks at: of a chunk of c tokens after s others
  // s * c + c * c / 2, summed over the chunks.
  double prefill_attention = 0;
  int64_t num_decodes = 0;
  int64_t context_tokens = 0;  // of the decodes, their new tokens included
};

// Adds a chunk of `tokens` that follow `before`.
inline void AddChunk(StepWork& work, int64_t before, int64_t tokens) {
  const auto c = static_cast<double>(tokens);
  work.prefill_tokens += tokens;
  work.prefill_attention += static_cast<double>(before) * c + c * c / 2;
}

// 0 for a step without tokens: ranks meet, nothing more.
inline Nanos StepTime(const DeviceProfile& profile, const StepWork& work) {
  const auto tokens = static_cast<double>(work.prefill_tokens + work.num_decodes);
  if (tokens == 0) return 0;
  const double ns = profile.launch_ns +
                    std::max(profile.weights_read_ns, profile.gemm_ns_per_token * tokens) +
                    profile.attention_ns_per_pair * work.prefill_attention +
                    profile.kv_read_ns_per_token * static_cast<double>(work.context_tokens) +
                    profile.all_reduce_ns + profile.all_reduce_ns_per_token * tokens;
  return std::llround(ns);
}

}  // namespace tandem
