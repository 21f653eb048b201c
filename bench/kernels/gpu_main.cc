// tandem-bench-gpu: the kernels of a Llama-3.1-8B layer on this machine's GPU, one rank of one.
// Prints for each how long it takes, the bytes and operations it cannot do without, and what share
// of the device's own copy and matrix-product rates that is; quantized products stand beside
// cuBLASLt's of the same shape, and sums over all GPUs beside NCCL's. Exit codes: 0 done, 3 no GPU.
// --small: shapes for the emulation, whose times mean nothing.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "bench/kernels/gpu_sums.h"
#include "common/check.h"
#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/dense_matmul.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/quant_weight.h"
#include "worker/model/cuda/device.h"

namespace {

using namespace tandem;                 // NOLINT: a program of its own
using namespace tandem::kernels::cuda;  // NOLINT
using tandem::kernels::WeightType;
using tandem::model::cuda::DeviceMemory;

struct Shapes {
  int64_t hidden = 4096, ffn = 14336, heads = 32, kv_heads = 8, dim = 128, vocab = 128256;
  int64_t context = 4096, chunk = 2048, copy_bytes = int64_t{1} << 30, square = 8192;
  std::vector<int> batches = {1, 8, 64, 256};
  int runs = 20;
};

Shapes Small() {
  Shapes s;
  s.hidden = 256, s.ffn = 512, s.heads = 4, s.kv_heads = 2, s.dim = 64, s.vocab = 512;
  s.context = 200, s.chunk = 48, s.copy_bytes = 1 << 20, s.square = 128;
  s.batches = {1, 5};
  s.runs = 1;
  return s;
}

void Check(cudaError_t error) { TANDEM_CHECK(error == cudaSuccess) << cudaGetErrorString(error); }

class Bench {
 public:
  Bench(const Shapes& shapes, cudaStream_t stream) : s_(shapes), stream_(stream) {
    Check(cudaEventCreate(&begin_));
    Check(cudaEventCreate(&end_));
    auto dense = DenseMatMul::Make();
    TANDEM_CHECK(dense.ok()) << Message(dense.status());
    dense_ = std::move(dense).value();
  }
  ~Bench() {
    static_cast<void>(cudaEventDestroy(begin_));
    static_cast<void>(cudaEventDestroy(end_));
  }

  void Run() {
    Limits();
    std::printf("\n%-34s %10s %9s %7s %9s %7s\n", "kernel", "us", "GB/s", "of", "TFLOP/s", "of");
    for (const int batch : s_.batches) Enter(batch);
    for (const int batch : s_.batches) Rows(batch);
    for (const int batch : s_.batches) Gather(batch);
    for (const int batch : s_.batches) Decode(batch);
    Prefill();
    for (const int batch : s_.batches) Products(batch);
  }

 private:
  void* Memory(int64_t bytes) {
    auto memory = model::cuda::AllocateDevice(bytes);
    TANDEM_CHECK(memory.ok()) << Message(memory.status());
    Check(cudaMemsetAsync(memory->get(), 0, static_cast<size_t>(bytes), stream_));
    memory_.push_back(std::move(memory).value());
    return memory_.back().get();
  }
  // Not zeros, at which a GPU draws less and so runs faster: a mebibyte of bf16 (two of them are a
  // float as well), over and over.
  void* Random(int64_t bytes) {
    constexpr int64_t kBytes = int64_t{1} << 20;
    if (random_.empty()) {
      std::mt19937 rng(1);
      for (int64_t i = 0; i < kBytes / 2; ++i) {
        const auto bits = static_cast<uint32_t>(rng());  // of either sign, 1/16 to 1
        random_.push_back(static_cast<uint16_t>((bits & 0x81ff) + 0x3d80));
      }
    }
    auto* const memory = static_cast<std::byte*>(Memory(bytes));
    for (int64_t at = 0; at < bytes; at += kBytes) {
      Check(cudaMemcpyAsync(memory + at, random_.data(),
                            static_cast<size_t>(std::min(kBytes, bytes - at)),
                            cudaMemcpyHostToDevice, stream_));
    }
    return memory;
  }
  Matrix Values(int64_t rows, int64_t cols) {
    return {Random(2 * rows * cols), rows, cols, cols, ActivationType::kBf16};
  }
  template <class T>
  T* Upload(const std::vector<T>& values) {
    void* const memory = Memory(static_cast<int64_t>(values.size() * sizeof(T)));
    Check(cudaMemcpyAsync(memory, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice,
                          stream_));
    Check(cudaStreamSynchronize(stream_));
    return static_cast<T*>(memory);
  }

  // Seconds of one call: the best of a few, each the mean of some launches behind each other.
  double Time(const std::function<void()>& call) {
    call();
    float best = 0;
    for (int repeat = 0; repeat < 3; ++repeat) {
      Check(cudaEventRecord(begin_, stream_));
      for (int i = 0; i < s_.runs; ++i) call();
      Check(cudaEventRecord(end_, stream_));
      Check(cudaEventSynchronize(end_));
      float ms = 0;
      Check(cudaEventElapsedTime(&ms, begin_, end_));
      if (repeat == 0 || ms < best) best = ms;
    }
    Check(cudaGetLastError());
    return best / 1e3 / s_.runs;
  }

  double Report(const std::string& name, double bytes, double flops,
                const std::function<void()>& call) {
    const double seconds = Time(call);
    Print(name, seconds, bytes, flops);
    memory_.clear();
    return seconds;
  }
  void Print(const std::string& name, double seconds, double bytes, double flops) const {
    std::printf("%-34s %10.1f %9.0f %6.0f%% %9.1f %6.0f%%\n", name.c_str(), seconds * 1e6,
                bytes / seconds / 1e9, 100 * bytes / seconds / copy_rate_, flops / seconds / 1e12,
                100 * flops / seconds / product_rate_);
    std::fflush(stdout);
  }

  // What the device does at its best: the yardstick of all that follows.
  void Limits() {
    void *a = Memory(s_.copy_bytes), *b = Memory(s_.copy_bytes);
    const double copy = Time([&] {
      Check(cudaMemcpyAsync(b, a, static_cast<size_t>(s_.copy_bytes), cudaMemcpyDeviceToDevice,
                            stream_));
    });
    copy_rate_ = 2.0 * static_cast<double>(s_.copy_bytes) / copy;
    const int64_t n = s_.square;
    const Matrix x = Values(n, n), out = Values(n, n);
    const DenseWeight weight = {Random(2 * n * n), n, n, ActivationType::kBf16, nullptr};
    const double product = Time([&] { dense_->MatMul(out, x, weight, stream_); });
    product_rate_ = 2.0 * static_cast<double>(n * n * n) / product;
    memory_.clear();
    std::printf("device copy %.0f GB/s, bf16 product of %ld x %ld by cuBLASLt %.1f TFLOP/s\n",
                copy_rate_ / 1e9, static_cast<long>(n), static_cast<long>(n), product_rate_ / 1e12);
  }

  void Rows(int t) {
    const auto of = [t](const char* name) { return fmt::format("{}, {} rows", name, t); };
    const int64_t h = s_.hidden, f = s_.ffn;
    auto* const x = static_cast<float*>(Random(4 * t * h));
    const Matrix out = Values(t, h), residual = Values(t, h);
    auto* const weight = static_cast<float*>(Random(4 * h));
    Report(of("add + RMSNorm"), static_cast<double>(t * h * (4 + 4 + 2 + 2) + 4 * h), 0,
           [&] { AddRmsNorm(out, x, residual, weight, 1e-5f, stream_); });
    const Matrix gate_up = Values(t, 2 * f), act = Values(t, f);
    Report(of("SiLU-mul"), static_cast<double>(t * f * 6), 0,
           [&] { SiluMul(act, gate_up.Cols(0, f), gate_up.Cols(f, 2 * f), stream_); });
    auto* const logits = static_cast<float*>(Random(4 * t * s_.vocab));
    std::vector<SampleRow> rows(static_cast<size_t>(t));
    for (int i = 0; i < t; ++i) {
      rows[i].slot = i;
      rows[i].params.temperature = 1;
      rows[i].params.top_p = 0.95f;
    }
    const SampleRow* const params = Upload(rows);
    auto* const sampled = static_cast<kernels::SampledToken*>(
        Memory(t * static_cast<int64_t>(sizeof(kernels::SampledToken))));
    auto* const last = static_cast<int32_t*>(Memory(4 * t));
    void* const scratch = Memory(SampleScratchBytes(t, static_cast<int32_t>(s_.vocab)));
    const Logits all = {logits, 1, t, static_cast<int32_t>(s_.vocab),
                        static_cast<int32_t>(s_.vocab)};
    Report(of("sample, top-p 0.95"), static_cast<double>(4 * t * s_.vocab), 0,
           [&] { Sample(all, params, sampled, last, scratch, stream_); });
  }

  // The rows that sample, every other one of a step's.
  void Gather(int t) {
    const int64_t h = s_.hidden;
    auto* const x = static_cast<float*>(Random(8 * t * h));
    const Matrix out = Values(t, h), residual = Values(2 * t, h);
    auto* const weight = static_cast<float*>(Random(4 * h));
    std::vector<int32_t> sampled(static_cast<size_t>(t));
    for (int i = 0; i < t; ++i) sampled[i] = 2 * i + 1;
    const int32_t* const rows = Upload(sampled);
    Report(fmt::format("gather, add + RMSNorm, {} rows", t),
           static_cast<double>(t * h * (4 + 2 + 2) + 4 * h), 0,
           [&] { AddRmsNormRows(out, x, residual, rows, weight, 1e-5f, stream_); });
  }

  // A batch of sequences of `context` tokens in blocks of 16, each with `tokens` query tokens.
  struct AttentionStep {
    Batch batch;
    KvLayer kv;
    float* partials;
  };
  AttentionStep Step(int seqs, int64_t tokens) {
    AttentionPlanSpec spec;
    spec.max_tokens = static_cast<int32_t>(seqs * tokens);
    spec.max_seqs = seqs;
    spec.max_context = static_cast<int32_t>(s_.context);
    spec.num_heads = static_cast<int32_t>(s_.heads);
    spec.num_kv_heads = static_cast<int32_t>(s_.kv_heads);
    spec.blocks_at_once =
        AttentionBlocksAtOnce(ActivationType::kBf16, static_cast<int32_t>(s_.dim));
    AttentionPlan plan(spec);
    std::vector<int32_t> start(static_cast<size_t>(seqs) + 1), row_sequence, positions;
    const std::vector<int32_t> length(static_cast<size_t>(seqs), spec.max_context);
    for (int i = 0; i < seqs; ++i) {
      start[i + 1] = start[i] + static_cast<int32_t>(tokens);
      for (int64_t t = 0; t < tokens; ++t) {
        row_sequence.push_back(i);
        positions.push_back(static_cast<int32_t>(s_.context - tokens + t));
      }
    }
    plan.Make(start, length);
    AttentionStep step;
    step.kv.num_kv_heads = spec.num_kv_heads;
    step.kv.head_dim = static_cast<int32_t>(s_.dim);
    const int64_t blocks = (s_.context + 15) / 16;
    step.kv.num_blocks = static_cast<int32_t>(seqs * blocks);
    step.kv.k = Random(KvBytes(step.kv));
    step.kv.v = Random(KvBytes(step.kv));
    std::vector<int32_t> table(static_cast<size_t>(seqs * blocks)), first_block;
    std::iota(table.begin(), table.end(), 0);
    for (int i = 0; i < seqs; ++i) first_block.push_back(static_cast<int32_t>(i * blocks));
    Batch& batch = step.batch;
    batch.num_tokens = spec.max_tokens;
    batch.num_seqs = seqs;
    batch.row_sequence = Upload(row_sequence);
    batch.positions = Upload(positions);
    batch.query_start = Upload(start);
    batch.context_len = Upload(length);
    batch.block_table = Upload(table);
    batch.first_block = Upload(first_block);
    batch.items = Upload(std::vector<AttentionItem>(plan.items().begin(), plan.items().end()));
    const auto items = static_cast<int32_t>(plan.items().size());
    const auto merges = static_cast<int32_t>(plan.merges().size());
    const int32_t* const counts = Upload(std::vector<int32_t>{items, merges});
    batch.num_items = counts;
    batch.max_items = items;
    if (merges > 0) {
      batch.merges =
          Upload(std::vector<AttentionMerge>(plan.merges().begin(), plan.merges().end()));
    }
    batch.num_merges = counts + 1;
    batch.max_merges = merges;
    step.partials = static_cast<float*>(Memory(plan.PartialBytes(step.kv.head_dim)));
    return step;
  }

  void Attend(const std::string& name, int seqs, int64_t tokens, double pairs) {
    const AttentionStep step = Step(seqs, tokens);
    const Matrix q = Values(seqs * tokens, s_.heads * s_.dim);
    const Matrix out = Values(seqs * tokens, s_.heads * s_.dim);
    const double kv_bytes = 4.0 * static_cast<double>(seqs * s_.context * s_.kv_heads * s_.dim);
    Report(name, kv_bytes + 4.0 * static_cast<double>(seqs * tokens * s_.heads * s_.dim),
           4.0 * pairs * static_cast<double>(s_.heads * s_.dim),
           [&] { PagedAttention(out, q, step.kv, step.batch, 0.1f, 0, step.partials, stream_); });
  }

  // Before attention: the lookup of tokens, and rotation with the write of K and V.
  void Enter(int seqs) {
    AttentionStep step = Step(seqs, 1);
    const double t = seqs, h = static_cast<double>(s_.hidden);
    std::vector<int32_t> tokens;
    for (int i = 0; i < seqs; ++i) tokens.push_back(static_cast<int32_t>(i * 977 % s_.vocab));
    step.batch.tokens = Upload(tokens);
    auto* const x = static_cast<float*>(Random(4 * seqs * s_.hidden));
    const EmbeddingTable table = {Random(2 * s_.vocab * s_.hidden), WeightType::kF16, s_.vocab,
                                  s_.hidden};
    const Matrix q = Values(seqs, s_.heads * s_.dim), k = Values(seqs, s_.kv_heads * s_.dim);
    const Matrix v = Values(seqs, s_.kv_heads * s_.dim);
    Rope rope;
    rope.max_positions = static_cast<int32_t>(s_.context);
    rope.dims = static_cast<int32_t>(s_.dim);
    rope.cos_sin = static_cast<const float*>(Random(4 * s_.context * s_.dim));
    const double lookup = Time([&] { Embed(x, table, step.batch, stream_); });
    Print(fmt::format("embed, {} rows", seqs), lookup, 6 * t * h, 0);
    Report(fmt::format("RoPE and K, V written, {} rows", seqs),
           4 * t * static_cast<double>((s_.heads + 2 * s_.kv_heads) * s_.dim), 0, [&] {
             RopeAndStoreKv(q, k, v, nullptr, nullptr, 1e-5f, rope, step.kv, step.batch, stream_);
           });
  }

  void Decode(int seqs) {
    Attend(fmt::format("attention, {} decodes of {}", seqs, s_.context), seqs, 1,
           static_cast<double>(seqs * s_.context));
  }
  void Prefill() {
    const double t = static_cast<double>(s_.chunk), c = static_cast<double>(s_.context);
    Attend(fmt::format("attention, chunk of {} of {}", s_.chunk, s_.context), 1, s_.chunk,
           t * (c - t / 2));
  }

  // The gate/up product in bf16 by cuBLASLt, and quantized.
  void Products(int t) {
    const int64_t n = 2 * s_.ffn, k = s_.hidden;
    const double flops = 2.0 * static_cast<double>(t * n * k);
    const double moved = 2.0 * static_cast<double>(t * (n + k));
    const auto run = [&](const char* name, double weight_bytes, auto multiply) {
      const Matrix x = Values(t, k), out = Values(t, n);
      void* const weight = Random(static_cast<int64_t>(weight_bytes));
      return Report(fmt::format("gate/up {}, {} rows", name, t), moved + weight_bytes, flops,
                    [&] { multiply(out, x, weight); });
    };
    const double dense =
        run("bf16 cuBLASLt", 2.0 * static_cast<double>(n * k),
            [&](const Matrix& out, const Matrix& x, void* weight) {
              dense_->MatMul(out, x, {weight, n, k, ActivationType::kBf16, nullptr}, stream_);
            });
    for (const auto& [name, type] :
         {std::pair("Q4_0", WeightType::kQ4_0), std::pair("Q4_1", WeightType::kQ4_1),
          std::pair("Q8_0", WeightType::kQ8_0)}) {
      const double quant = run(name, static_cast<double>(QuantPackedBytes(type, n, k)),
                               [&, type = type](const Matrix& out, const Matrix& x, void* weight) {
                                 QuantMatMul(out, x, {weight, type, n, k}, nullptr, stream_);
                               });
      std::printf("%-34s %9.2fx\n", "  beside cuBLASLt in bf16", dense / quant);
    }
  }

  const Shapes s_;
  const cudaStream_t stream_;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
  std::unique_ptr<DenseMatMul> dense_;
  std::vector<DeviceMemory> memory_;
  std::vector<uint16_t> random_;
  double copy_rate_ = 1, product_rate_ = 1;
};

}  // namespace

int main(int argc, char** argv) {
  const bool small = argc == 2 && std::strcmp(argv[1], "--small") == 0;
  if (argc > 1 && !small) {
    std::fprintf(stderr, "usage: tandem-bench-gpu [--small]\n");
    return 2;
  }
  const auto device = tandem::model::cuda::UseDevice(0);
  if (!device.ok()) {
    std::fprintf(stderr, "tandem-bench-gpu: %s\n", std::string(Message(device.status())).c_str());
    return 3;
  }
  const auto stream = tandem::model::cuda::MakeStream();
  TANDEM_CHECK(stream.ok()) << Message(stream.status());
  std::printf("%s, compute capability %d.%d\n", device->name.c_str(),
              device->compute_capability / 10, device->compute_capability % 10);
  Bench(small ? Small() : Shapes(), stream->get()).Run();
  tandem::bench::BenchSums(small ? tandem::bench::SmallSums() : tandem::bench::SumShapes());
  return 0;
}
