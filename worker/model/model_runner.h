// One rank's shard of the weights and KV memory, and the forward pass over them. Knows tensors and
// plans; knows no request, no policy, no socket.
//
// A step is begun and finished, so that a device with a queue is given the next one while it still
// computes the one before. A CPU computes in Begin.
// Thread: one at a time, the rank's model thread (it owns device state).
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "common/status.h"
#include "kernels/comm/communicator.h"
#include "worker/step_plan.h"

namespace tandem::model {

struct ShardOptions;
class ModelRunner;

// Makes runners for a kind of device that not every build has.
struct DeviceBackend {
  StatusOr<int> (*check)(const ShardOptions& options, int rank, int tp);  // ModelRunner::Check
  StatusOr<std::unique_ptr<ModelRunner>> (*load)(const ShardOptions& options,
                                                 kernels::Communicator& comm);
};

struct ShardOptions {
  std::string model_path;
  int threads = 1;
  std::vector<int> cpus = {};  // of the threads, the first of which is the caller; empty: any
  int block_size = 16;
  int64_t kv_memory_bytes = 0;  // of the whole group; a rank has its KV heads' share
  int max_seqs = 64;
  int max_step_tokens = 256;
  int max_context = 0;                               // 0: the model's own
  std::string activation_dtype = "int8";             // int8 | bf16 | f32
  std::string kv_cache_dtype = "bf16";               // bf16 | int8 | f32
  std::string instruction_set = "auto";              // as in the cluster file
  std::function<void(const std::string&)> say = {};  // for the log: progress, choices; may be empty

  // Where the rank computes, if not on this machine's cores. Activations are bf16 | f16 there, KV
  // is as they are, kv_memory_bytes 0 is what is free; threads, kv_cache_dtype and instruction_set
  // mean nothing. What follows means nothing on cores.
  const DeviceBackend* gpu = nullptr;
  int device_index = -1;  // -1: the rank
  bool cuda_graphs = true;
  bool peer_memory = true;
  std::chrono::milliseconds sum_limit = std::chrono::seconds(60);  // for sums at start-up
  // Several ranks: called once by each when its weights are there, which may be minutes after
  // another's, and returns when all have called it; then they connect, which has a limit. Its error
  // is Load's. Empty: weights take no time.
  std::function<Status()> meet = {};
  std::string algorithms_file;  // how matrix products are computed, for the next start; empty: none
};

// What the rest of the worker must know of a model; equal on all ranks but num_blocks.
struct ModelInfo {
  std::string architecture;
  int vocab_size = 0;
  int max_context = 0;          // tokens of prompt and reply together
  int num_blocks = 0;           // KV blocks that fit this rank; the group uses the minimum
  std::string instruction_set;  // what was chosen: "avx512_bf16", "avx2", "reference"
  bool penalties = true;        // sampling computes them
  bool tokens = true;           // it gives tokens; false: the model has no output matrix
  int embedding_size = 0;       // floats of an embedding; 0: this device computes none
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

  // Steps that may be begun and not finished: 1, or 2 where Begin does not wait for the device.
  virtual int max_in_flight() const { return 1; }

  // Begins one step; plans come in order. `plan`'s spans live until its Finish. An error is final
  // for this group. No allocation.
  virtual Status Begin(const StepPlan& plan) = 0;

  // Whether Finish would not wait for the device. REQUIRES: a step is in flight.
  virtual bool Finished() { return true; }

  // Waits for the oldest step that was begun. results.size() >= its rows; filled on every rank,
  // bitwise alike. An error is final (it comes from the communicator or the device).
  virtual Status Finish(std::span<RowResult> results) = 0;

  // Of the rows with kRowEmbed of the step that Finish gave last, [rows, embedding_size] in the
  // order of the plan. Every rank has them. Valid until the next Begin.
  virtual std::span<const float> embeddings() const { return {}; }

  // Any thread: frees this rank, and those that wait for it, from what a device does together with
  // others. Idempotent; the communicator has an Abort of its own.
  virtual void Abort() {}

  // Both, for one step at a time.
  Status Run(const StepPlan& plan, std::span<RowResult> results) {
    TANDEM_RETURN_IF_ERROR(Begin(plan));
    return Finish(results);
  }
};

}  // namespace tandem::model
