#include "kernels/cpu/cpu_ops.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <utility>
#include <vector>

#include "common/check.h"
#include "kernels/cpu/aligned_buffer.h"
#include "kernels/cpu/attention_plan.h"
#include "kernels/cpu/instruction_sets.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/cpu/paged_kv_cache.h"
#include "kernels/cpu/panel_arena.h"
#include "kernels/cpu/sampler.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/dequantize.h"
#include "kernels/ops_check.h"

namespace tandem::kernels {
namespace cpu {
namespace {

// Below this many rows, work of a tenth of a microsecond a row stays on the caller's thread:
// telling the others costs as much.
constexpr int64_t kRowsWorthThreads = 4;
// Parts for each thread of work whose parts are equal.
constexpr int kPartsPerThread = 4;
// Fewest panels of a product that are worth a part. Up to kFewRows rows memory limits, and streams
// that begin anew cost more than parts save.
constexpr int64_t kPartPanels = 4;
constexpr int64_t kFewRows = 8;

struct Range {
  int64_t begin, end;
};
Range Part(int64_t count, int64_t index, int64_t parts) {
  return {count * index / parts, count * (index + 1) / parts};
}

// A thread's range in ever smaller parts, each half of what is left but no less than `least` and a
// multiple of it: the first are long, so that memory is read in one stream, and who is done early
// finds short ones to take from another.
int64_t HalfOf(int64_t count, int64_t least) {
  return std::min((count / 2 + least - 1) / least * least, count);
}
int NumHalvings(int64_t count, int64_t least) {
  int parts = 1;
  for (; count > least; count -= HalfOf(count, least)) ++parts;
  return parts;
}
// The last of `parts` is all that is left, whatever number of parts the range would have alone.
Range HalvingPart(Range range, int index, int parts, int64_t least) {
  for (int i = 0; i < index; ++i) range.begin += HalfOf(range.end - range.begin, least);
  if (index < parts - 1) range.end = range.begin + HalfOf(range.end - range.begin, least);
  return range;
}

// What rows of activations become before they are multiplied.
enum class Rounding : uint8_t { kNone, kInt8, kBf16, kBf16Floats };

KvFormat FormatOf(KvType type) {
  return type == KvType::kF32    ? KvFormat::kF32
         : type == KvType::kBf16 ? KvFormat::kBf16
                                 : KvFormat::kInt8;
}

// What happens to a product.
enum class Epilogue : uint8_t { kStore, kSilu, kGelu };

struct CpuRopeTable : RopeTable {
  explicit CpuRopeTable(const RopeSpec& spec)
      : dims(spec.dims),
        max_positions(spec.max_positions),
        pairs(spec.pairs),
        cos_sin(RopeCosSin(spec)) {
    if (pairs == RopePairs::kAdjacent || dims == 0) return;
    // As rotate_halves wants a row: cosines, then sines.
    std::vector<float> row(dims);
    for (size_t begin = 0; begin < cos_sin.size(); begin += dims) {
      for (int i = 0; i < dims / 2; ++i) {
        row[i] = cos_sin[begin + 2 * i];
        row[dims / 2 + i] = cos_sin[begin + 2 * i + 1];
      }
      std::copy(row.begin(), row.end(), cos_sin.begin() + static_cast<int64_t>(begin));
    }
  }
  int dims, max_positions;
  RopePairs pairs;
  std::vector<float> cos_sin;  // [max_positions, dims]
};

class CpuOps : public Ops {
 public:
  CpuOps(const OpsOptions& options, const Variant& variant)
      : options_(options),
        name_(variant.name),
        kernels_(variant.kernels()),
        panels_{options.activations, kernels_.matmul_bf16 != nullptr},
        pool_(std::max(1, options.threads), options.cpus),
        rounded_stride_(RoundedStride(options.max_cols, panels_.bf16_pairs)),
        rounded_(static_cast<size_t>(rounded_stride_) * options.max_tokens),
        matmul_scratch_(pool_.size() * MatMulScratchBytes()),
        attention_scratch_(pool_.size() * AttentionScratchBytes()),
        attention_plan_(options.max_tokens),
        samplers_(pool_.size(), Sampler(options.max_vocab, kernels_.sampling)) {
    TANDEM_CHECK(rounded_.data() && matmul_scratch_.data() && attention_scratch_.data())
        << "no memory for the scratch of " << options.max_tokens << " tokens";
  }

  const char* name() const override { return name_; }

  std::unique_ptr<Weight> Pack(std::span<const MatrixSlice> slices) override {
    CheckSlices(slices);
    TANDEM_CHECK(slices[0].cols() <= options_.max_cols)
        << slices[0].cols() << " " << options_.max_cols;
    return std::make_unique<PackedWeight>(slices, panels_, arena_);
  }

  std::unique_ptr<Weight> PackGateUp(const MatrixSlice& gate, const MatrixSlice& up) override {
    CheckGateUp(gate, up);
    TANDEM_CHECK(gate.cols() <= options_.max_cols) << gate.cols() << " " << options_.max_cols;
    return std::make_unique<PackedWeight>(gate, up, panels_, arena_);
  }

  std::unique_ptr<RopeTable> MakeRopeTable(const RopeSpec& spec) override {
    CheckRopeSpec(spec);
    return std::make_unique<CpuRopeTable>(spec);
  }

  int64_t KvBlockBytes(const KvCacheSpec& spec) const override {
    return spec.num_layers * PagedKvCache::BlockBytes(spec);
  }

  StatusOr<std::unique_ptr<KvCache>> MakeKvCache(const KvCacheSpec& spec) override {
    CheckKvSpec(spec);
    auto cache = std::make_unique<PagedKvCache>(spec);
    std::atomic<bool> there = cache->allocated();
    if (there) {
      // Or each layer's next huge page is zeroed in one and the same step, again and again.
      pool_.Run(pool_.size(), [&](int part, int) {
        if (!cache->Populate(part, pool_.size())) there = false;
      });
    }
    if (!there) {
      return ResourceExhausted("no memory for {} KV blocks of {} bytes", spec.num_blocks,
                               KvBlockBytes(spec));
    }
    return cache;
  }

  void Embed(TensorView out, const MatrixSlice& table, std::span<const int32_t> tokens,
             float scale) override {
    CheckEmbed(out, table, tokens);
    for (int64_t t = 0; t < out.rows; ++t) {
      DequantizeRow(table, table.row_begin + tokens[t],
                    {out.row(t), static_cast<size_t>(out.cols)});
      if (scale == 1) continue;
      for (int64_t i = 0; i < out.cols; ++i) out.row(t)[i] *= scale;
    }
  }

  void RmsNorm(TensorView out, TensorView x, std::span<const float> weight, float eps,
               const Weight* next) override {
    CheckNorm(out, x, weight);
    Norm(out, x, nullptr, weight, eps, next);
  }

  void AddRmsNorm(TensorView out, TensorView x, TensorView residual, std::span<const float> weight,
                  float eps, const Weight* next) override {
    CheckNorm(out, x, weight);
    CheckNorm(residual, x, weight);
    Norm(out, x, &residual, weight, eps, next);
  }

  void MatMul(TensorView out, TensorView x, const Weight& weight,
              std::span<const float> bias) override {
    CheckMatMul(options_, out, x, weight, bias);
    Multiply(out, x, static_cast<const PackedWeight&>(weight), bias, Epilogue::kStore);
  }

  void GateUp(TensorView out, TensorView x, const Weight& gate_up, Activation activation) override {
    CheckGateUpProduct(options_, out, x, gate_up);
    Multiply(out, x, static_cast<const PackedWeight&>(gate_up), {},
             activation == Activation::kSilu ? Epilogue::kSilu : Epilogue::kGelu);
  }

  void RopeAndStoreKv(TensorView q, TensorView k, TensorView v, const HeadNorms& norms,
                      const RopeTable& rope, KvCache& kv, int layer,
                      const StepBatch& batch) override {
    CheckRopeAndStoreKv(q, k, v, norms, kv.spec(), layer, batch);
    auto& cache = static_cast<PagedKvCache&>(kv);
    const auto& table = static_cast<const CpuRopeTable&>(rope);
    const int block_size = cache.spec().block_size, head_dim = cache.spec().head_dim;
    TANDEM_CHECK(table.dims <= head_dim) << table.dims << " " << head_dim;
    const int parts = std::min(batch.num_tokens, kPartsPerThread * pool_.size());
    pool_.Run(parts, [&](int part, int) {
      const Range rows = Part(batch.num_tokens, part, parts);
      for (int s = 0; s < batch.num_seqs; ++s) {
        const int begin = std::max(batch.query_start[s], static_cast<int>(rows.begin));
        const int end = std::min(batch.query_start[s + 1], static_cast<int>(rows.end));
        for (int t = begin; t < end; ++t) {
          const int position = PositionOfRow(batch, s, t);
          TANDEM_CHECK(position < table.max_positions) << position << " " << table.max_positions;
          const float* cos_sin = table.cos_sin.data() + int64_t{position} * table.dims;
          for (int64_t c = 0; c < q.cols; c += head_dim) {
            TurnHead(q.row(t) + c, norms.q, norms.eps, table.pairs, cos_sin, table.dims);
          }
          const int32_t block = batch.block_table[s * batch.max_blocks + position / block_size];
          for (int h = 0; h < cache.spec().num_kv_heads; ++h) {
            float rotated[256];
            std::copy_n(k.row(t) + h * head_dim, head_dim, rotated);
            TurnHead(rotated, norms.k, norms.eps, table.pairs, cos_sin, table.dims);
            cache.StoreToken(layer, block, position % block_size, h, rotated,
                             v.row(t) + h * head_dim);
          }
        }
      }
    });
  }

  void PagedAttention(TensorView out, TensorView q, const KvCache& kv, int layer,
                      const StepBatch& batch, const AttentionSpec& spec) override {
    CheckAttention(out, q, kv.spec(), layer, batch, spec);
    const auto& cache = static_cast<const PagedKvCache&>(kv);
    attention_plan_.Build(out, q, batch, cache.spec(), pool_.size());
    const auto parts = static_cast<int>(attention_plan_.parts().size());
    // Head by head: neighbours read the same blocks.
    pool_.Run(parts * cache.spec().num_kv_heads, [&](int part, int thread) {
      AttendPart(q.cols, cache, layer, spec, part / parts, attention_plan_.parts()[part % parts],
                 thread);
    });
  }

  void Scale(TensorView x, float factor) override {
    ForRows(x.rows, [&](int64_t t) {
      float* const row = x.row(t);
      for (int64_t i = 0; i < x.cols; ++i) row[i] *= factor;
    });
  }

  void SoftCap(TensorView x, float cap) override {
    ForRows(x.rows, [&](int64_t t) { kernels_.soft_cap(x.row(t), x.cols, cap); });
  }

  void Sample(TensorView logits, std::span<const SamplingParams> params,
              std::span<const TokenHistory> histories, std::span<SampledToken> out) override {
    CheckSample(options_, logits, params, histories, out);
    pool_.Run(static_cast<int>(params.size()), [&](int part, int thread) {
      const auto i = static_cast<size_t>(part);
      const float* row = logits.row(part);
      out[i] = samplers_[static_cast<size_t>(thread)].Sample(
          {row, static_cast<size_t>(logits.cols)}, params[i], histories[i]);
    });
  }

 private:
  // Of the widest kind of row that this CPU rounds to.
  static int64_t RoundedStride(int64_t cols, bool bf16_pairs) {
    const int64_t int8 = (cols + 63) / 64 * 2 * static_cast<int64_t>(sizeof(QuantizedBlock));
    const int64_t bf16 = (cols + 31) / 32 * 32 * (bf16_pairs ? 2 : 4);
    const int64_t bytes = std::max(int8, bf16);
    // Rows a multiple of 4,096 bytes apart would share L1 sets.
    return bytes + (bytes % 1024 == 0 ? 64 : 0);
  }
  int64_t MatMulScratchBytes() const {
    return options_.max_tokens * kMatMulScratchPerRow * static_cast<int64_t>(sizeof(float));
  }
  // The query heads of one KV head have at most max_cols columns together (a weight takes them), so
  // at most max_cols / 16 heads.
  int64_t AttentionScratchBytes() const {
    return TANDEM_ATTENTION_SCRATCH_FLOATS(options_.max_cols, options_.max_cols / 16) *
           static_cast<int64_t>(sizeof(float));
  }

  // And rounds `out` for the product with `next`, row by row while it is in the cache.
  void Norm(TensorView out, TensorView x, const TensorView* residual, std::span<const float> weight,
            float eps, const Weight* next) {
    const Rounding rounding =
        next == nullptr ? Rounding::kNone
                        : RoundingFor(static_cast<const PackedWeight*>(next)->segments()[0]);
    ForRows(x.rows, [&](int64_t t) {
      const float* const added = residual == nullptr ? nullptr : residual->row(t);
      kernels_.rms_norm(out.row(t), x.row(t), added, weight.data(), x.cols, eps);
      RoundRow(out, t, rounding);
    });
    rounded_for_next_ = {out.data, out.rows, rounding};
  }

  // What Norm has rounded, if it is all of `x`: once.
  Rounding TakeRounded(TensorView x) {
    const Rounded r = std::exchange(rounded_for_next_, {});
    return r.data == x.data && r.rows == x.rows ? r.rounding : Rounding::kNone;
  }

  void Multiply(TensorView out, TensorView x, const PackedWeight& weight,
                std::span<const float> bias, Epilogue epilogue) {
    const bool gate_up = epilogue != Epilogue::kStore;
    TANDEM_CHECK(weight.gate_up() == gate_up) << "a weight of the other kind";
    Rounding done = TakeRounded(x);
    for (const PackedWeight::Segment& s : weight.segments()) {
      const Rounding rounding = RoundingFor(s);
      if (rounding != Rounding::kNone && rounding != done) RoundRows(x, done = rounding);
      const bool rounded = rounding != Rounding::kNone;
      const int64_t step = gate_up ? 2 : 1;
      const auto multiply = KernelFor(rounding);
      const int64_t columns = s.num_panels / step;
      const int64_t least = x.rows <= kFewRows || pool_.size() == 1 ? columns : kPartPanels / step;
      const int parts = NumHalvings((columns + pool_.size() - 1) / pool_.size(), least);
      pool_.Run(parts * pool_.size(), [&](int part, int thread) {
        const Range panels =
            HalvingPart(Part(columns, part / parts, pool_.size()), part % parts, parts, least);
        MatMulJob job;
        job.format = s.format;
        job.gate_up = gate_up;
        job.gelu = epilogue == Epilogue::kGelu;
        job.panels = s.panels.data;
        job.panel_bytes = s.panel_bytes;
        job.panel_begin = panels.begin * step;
        job.panel_end = panels.end * step;
        job.cols = x.cols;
        job.rows = x.rows;
        job.x = rounded ? static_cast<const void*>(rounded_.data()) : x.data;
        job.x_stride = rounded ? rounded_stride_ : x.stride * static_cast<int64_t>(sizeof(float));
        job.out = out.data + s.first_row;
        job.out_stride = out.stride;
        job.out_cols = s.rows / step;
        job.bias = bias.empty() ? nullptr : bias.data() + s.first_row;
        job.scratch = ScratchOf(matmul_scratch_, MatMulScratchBytes(), thread);
        multiply(job);
      });
    }
  }

  Rounding RoundingFor(const PackedWeight::Segment& segment) const {
    if (options_.activations == ActivationType::kF32) return Rounding::kNone;
    switch (segment.format) {
      case PanelFormat::kQ4_0:
      case PanelFormat::kQ4_1:
      case PanelFormat::kQ8_0:
        return Rounding::kInt8;
      case PanelFormat::kBf16:
        return Rounding::kBf16Floats;
      case PanelFormat::kBf16Pairs:
        return Rounding::kBf16;
      case PanelFormat::kF16:
      case PanelFormat::kF32:
        break;
    }
    return Rounding::kNone;
  }

  decltype(KernelTable::matmul_f32) KernelFor(Rounding rounding) const {
    if (rounding == Rounding::kInt8) return kernels_.matmul_int8;
    return rounding == Rounding::kBf16 ? kernels_.matmul_bf16 : kernels_.matmul_f32;
  }

  void RoundRows(TensorView x, Rounding rounding) {
    ForRows(x.rows, [&](int64_t t) { RoundRow(x, t, rounding); });
  }

  void RoundRow(TensorView x, int64_t t, Rounding rounding) {
    uint8_t* const to = rounded_.data() + t * rounded_stride_;
    switch (rounding) {
      case Rounding::kInt8:
        return kernels_.quantize(x.row(t), x.cols, reinterpret_cast<QuantizedBlock*>(to));
      case Rounding::kBf16:
        return kernels_.round_bf16(x.row(t), x.cols, reinterpret_cast<uint16_t*>(to));
      case Rounding::kBf16Floats:
        return kernels_.round_bf16_floats(x.row(t), x.cols, reinterpret_cast<float*>(to));
      case Rounding::kNone:
        return;
    }
  }

  void TurnHead(float* head, std::span<const float> norm, float eps, RopePairs pairs,
                const float* cos_sin, int dims) const {
    if (!norm.empty()) {
      kernels_.rms_norm(head, head, nullptr, norm.data(), static_cast<int64_t>(norm.size()), eps);
    }
    (pairs == RopePairs::kAdjacent ? kernels_.rotate_adjacent : kernels_.rotate_halves)(
        head, cos_sin, dims);
  }

  void AttendPart(int64_t query_cols, const PagedKvCache& cache, int layer,
                  const AttentionSpec& attention, int head, const AttentionPart& part, int thread) {
    const KvCacheSpec& spec = cache.spec();
    AttentionJob job;
    job.head_dim = spec.head_dim;
    job.group = static_cast<int>(query_cols / (int64_t{spec.num_kv_heads} * spec.head_dim));
    const int64_t group_cols = int64_t{job.group} * spec.head_dim;
    TANDEM_CHECK(group_cols <= options_.max_cols) << group_cols << " " << options_.max_cols;
    job.format = FormatOf(spec.type);
    job.block_stride = cache.block_bytes();
    job.block_size = spec.block_size;
    job.scale = attention.scale;
    job.window = attention.window;
    job.softcap = attention.softcap;
    job.scratch = ScratchOf(attention_scratch_, AttentionScratchBytes(), thread);
    job.kv = cache.Head(layer, head);
    job.head_column = head * group_cols;
    job.tokens = &attention_plan_.tokens()[part.first_token];
    job.num_tokens = part.num_tokens;
    job.shared = part.shared;
    kernels_.attention(job);
  }

  static float* ScratchOf(const AlignedBuffer& buffer, int64_t bytes_per_thread, int thread) {
    return reinterpret_cast<float*>(buffer.data() + thread * bytes_per_thread);
  }

  template <class F>
  void ForRows(int64_t rows, F&& body) {
    const int parts = RowParts(rows);
    pool_.Run(parts, [&](int part, int) {
      const Range range = Part(rows, part, parts);
      for (int64_t t = range.begin; t < range.end; ++t) body(t);
    });
  }

  int RowParts(int64_t rows) const {
    if (rows < kRowsWorthThreads) return 1;
    return static_cast<int>(std::min<int64_t>(rows, kPartsPerThread * pool_.size()));
  }

  OpsOptions options_;
  const char* name_;
  KernelTable kernels_;
  PanelOptions panels_;
  PanelArena arena_;
  ThreadPool pool_;
  int64_t rounded_stride_;  // bytes
  AlignedBuffer rounded_;
  struct Rounded {
    const float* data = nullptr;
    int64_t rows = 0;
    Rounding rounding = Rounding::kNone;
  };
  Rounded rounded_for_next_;
  AlignedBuffer matmul_scratch_;
  AlignedBuffer attention_scratch_;
  AttentionPlan attention_plan_;
  std::vector<Sampler> samplers_;  // one a thread
};

}  // namespace
}  // namespace cpu

StatusOr<std::unique_ptr<Ops>> MakeCpuOps(const OpsOptions& options) {
  TANDEM_ASSIGN_OR_RETURN(const cpu::Variant* variant, cpu::FindVariant(options.instruction_set));
  return std::make_unique<cpu::CpuOps>(options, *variant);
}

std::vector<InstructionSet> CpuInstructionSets() {
  std::vector<InstructionSet> sets;
  for (const cpu::Variant& variant : cpu::Variants()) {
    if (variant.supported()) sets.push_back(variant.set);
  }
  return sets;
}

}  // namespace tandem::kernels
