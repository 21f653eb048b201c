// One rank's shard of the weights and KV memory, and the forward pass over them. Knows tensors and
// plans; knows no request, no policy, no socket.
// Thread: one at a time, the rank's model thread (it owns device state).
#pragma once

#include <memory>
#include <span>
#include <string>

#include "common/status.h"
#include "kernels/comm/communicator.h"
#include "worker/step_plan.h"

namespace tandem::model {

struct ShardOptions {
  std::string model_path;
  int threads = 1;
  int block_size = 16;
  int64_t kv_memory_bytes = 0;  // of the whole group; a rank has its KV heads' share
  int max_seqs = 64;
  int max_step_tokens = 256;
  int max_context = 0;                    // 0: the model's own
  std::string activation_dtype = "int8";  // int8 | f32
  std::string kv_cache_dtype = "bf16";    // bf16 | f32
  std::string instruction_set = "auto";   // auto | avx2 | avx512 | reference
};

// What the rest of the worker must know of a model; equal on all ranks but num_blocks.
struct ModelInfo {
  std::string architecture;
  int vocab_size = 0;
  int max_context = 0;          // tokens of prompt and reply together
  int num_blocks = 0;           // KV blocks that fit this rank; the group uses the minimum
  std::string instruction_set;  // what was chosen: "avx512_vnni", "avx2", "reference"
  bool penalties = true;        // sampling computes them
  std::string fingerprint;      // of model file and tokenizer: seeds the block hashes
};

class ModelRunner {
 public:
  // Loads and shards; seconds. Errors name file, tensor and shape. `comm` is borrowed.
  static StatusOr<std::unique_ptr<ModelRunner>> Load(const ShardOptions& options,
                                                     kernels::Communicator& comm);
  // What Load would refuse by the file's header and this machine's memory alone, in milliseconds.
  // The context that the model was trained for.
  static StatusOr<int> Check(const ShardOptions& options, int rank, int tp);
  virtual ~ModelRunner() = default;

  virtual const ModelInfo& info() const = 0;

  // Fixes the number of KV blocks (the group's minimum) and allocates all step memory.
  virtual Status Prepare(int num_blocks) = 0;

  // Computes one step. results.size() >= plan.rows.size(); filled on every rank, bitwise alike.
  // An error is final for this group (it comes from the communicator). No allocation.
  virtual Status Run(const StepPlan& plan, std::span<RowResult> results) = 0;
};

}  // namespace tandem::model
