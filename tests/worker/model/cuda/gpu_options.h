// A small shard on the emulation's GPUs, and what it is compared with.
#pragma once

#include "tests/worker/model/tiny_sequences.h"
#include "worker/model/cuda/backend.h"
#include "worker/model/model_runner.h"

namespace tandem::model::cuda {

inline ShardOptions GpuOptions(const ModelFile& file, bool graphs = true) {
  ShardOptions options;
  options.model_path = file.path();
  options.activation_dtype = options.kv_cache_dtype = "bf16";
  options.kv_memory_bytes = 16 << 20;
  options.max_seqs = 4;  // as many sizes of graphs as are needed: each runs at start-up
  options.max_step_tokens = 128;
  options.gpu = &Backend();
  options.cuda_graphs = graphs;
  return options;
}

// In float32, on the CPU.
inline ShardOptions CpuOptions(const ModelFile& file) {
  ShardOptions options = GpuOptions(file);
  options.activation_dtype = options.kv_cache_dtype = "f32";
  options.gpu = nullptr;
  return options;
}

}  // namespace tandem::model::cuda
