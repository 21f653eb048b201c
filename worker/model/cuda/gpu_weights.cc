#include "worker/model/cuda/gpu_weights.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "common/check.h"
#include "common/round.h"
#include "kernels/cuda/quant_weight.h"
#include "kernels/dequantize.h"
#include "worker/model/cuda/uploader.h"
#include "worker/model/tensor_reader.h"

namespace tandem::model::cuda {
namespace {

using kernels::MatrixSlice;
using kernels::WeightType;
using kernels::cuda::ActivationType;
using kernels::cuda::DenseWeight;
using kernels::cuda::QuantWeight;

bool IsDense(const MatrixSlice& slice) { return kernels::BlockElements(slice.type) == 1; }

void Convert(std::span<const float> from, ActivationType type, std::byte* to) {
  auto* const out = reinterpret_cast<uint16_t*>(to);
  for (size_t i = 0; i < from.size(); ++i) {
    out[i] = type == ActivationType::kBf16 ? kernels::FloatToBf16(from[i])
                                           : kernels::FloatToHalf(from[i]);
  }
}

// Walks over all that a rank holds. Without an uploader it only counts.
class Loader {
 public:
  Loader(const GpuWeightSpec& spec, Uploader* uploader,
         const std::function<void(int64_t)>* on_progress)
      : spec_(spec),
        reader_(spec.source.tensors()),
        uploader_(uploader),
        on_progress_(on_progress) {}

  StatusOr<GpuWeights> Load() {
    const ModelConfig& config = spec_.source.config();
    TANDEM_RETURN_IF_ERROR(LoadEmbedding());
    for (int i = 0; i < config.num_layers; ++i) {
      TANDEM_RETURN_IF_ERROR(LoadLayer(i, weights_.layers.emplace_back()));
      if (on_progress_ != nullptr) (*on_progress_)(weights_.bytes);
    }
    TANDEM_RETURN_IF_ERROR(Put("output_norm.weight", weights_.output_norm));
    if (spec_.shard.vocab.size() > 0) {
      const MatrixSlice output =
          reader_.Rows(config.tied_embeddings ? "token_embd.weight" : "output.weight",
                       spec_.shard.vocab.begin, spec_.shard.vocab.end);
      TANDEM_ASSIGN_OR_RETURN(weights_.output, Matrix({&output, 1}));
    }
    TANDEM_RETURN_IF_ERROR(LoadRope());
    if (uploader_ != nullptr) TANDEM_RETURN_IF_ERROR(uploader_->Finish());
    return std::move(weights_);
  }

 private:
  StatusOr<void*> Allocate(int64_t bytes) {
    weights_.bytes += bytes;
    if (uploader_ == nullptr) return nullptr;
    TANDEM_ASSIGN_OR_RETURN(DeviceMemory memory, AllocateDevice(bytes));
    weights_.memory.push_back(std::move(memory));
    return weights_.memory.back().get();
  }

  Status Put(std::span<const float> values, const float*& to) {
    TANDEM_ASSIGN_OR_RETURN(void* const memory,
                            Allocate(static_cast<int64_t>(values.size_bytes())));
    to = static_cast<const float*>(memory);
    return uploader_ == nullptr ? OkStatus() : uploader_->Bytes(memory, std::as_bytes(values));
  }
  Status Put(const std::string& name, const float*& to) { return Put(reader_.Vector(name), to); }

  Status PutBias(std::span<const float> bias, Linear& linear) {
    auto* const dense = std::get_if<DenseWeight>(&linear.weight);
    if (dense == nullptr) return Put(bias, linear.bias);
    std::vector<std::byte> values(2 * bias.size());
    Convert(bias, spec_.type, values.data());
    TANDEM_ASSIGN_OR_RETURN(void* const memory, Allocate(static_cast<int64_t>(values.size())));
    dense->bias = memory;
    return uploader_ == nullptr ? OkStatus() : uploader_->Bytes(memory, values);
  }

  // Of slices one below the other.
  StatusOr<Linear> Matrix(std::span<const MatrixSlice> slices) {
    return IsDense(slices[0]) ? Dense(slices) : Quantized(slices);
  }

  StatusOr<Linear> Dense(std::span<const MatrixSlice> slices) {
    const int64_t cols = slices[0].cols();
    const int64_t row_bytes = 2 * cols;
    int64_t rows = 0;
    for (const MatrixSlice& slice : slices) rows += slice.rows();
    TANDEM_ASSIGN_OR_RETURN(void* const memory, Allocate(rows * row_bytes));
    Linear linear;
    linear.weight = DenseWeight{memory, rows, cols, spec_.type, nullptr};
    if (uploader_ == nullptr) return linear;
    auto* to = static_cast<std::byte*>(memory);
    std::vector<float> row(static_cast<size_t>(cols));
    for (const MatrixSlice& slice : slices) {
      TANDEM_RETURN_IF_ERROR(uploader_->Units(
          to, slice.rows(), row_bytes, [&](int64_t begin, int64_t end, std::byte* chunk) {
            for (int64_t r = begin; r < end; ++r, chunk += row_bytes) {
              kernels::DequantizeRow(slice, slice.row_begin + r, row);
              Convert(row, spec_.type, chunk);
            }
          }));
      to += slice.rows() * row_bytes;
    }
    return linear;
  }

  StatusOr<Linear> Quantized(std::span<const MatrixSlice> slices) {
    const int64_t cols = slices[0].cols();
    int64_t rows = 0;
    for (const MatrixSlice& slice : slices) rows += slice.rows();
    const WeightType type = slices[0].type;
    TANDEM_ASSIGN_OR_RETURN(void* const memory,
                            Allocate(kernels::cuda::QuantPackedBytes(type, rows, cols)));
    Linear linear;
    linear.weight = QuantWeight{memory, type, rows, cols};
    if (uploader_ == nullptr) return linear;
    constexpr int64_t kTile = kernels::cuda::kQuantTileRows;
    TANDEM_RETURN_IF_ERROR(uploader_->Units(
        memory, CeilDiv(rows, kTile), kernels::cuda::QuantPackedBytes(type, kTile, cols),
        [&](int64_t begin, int64_t end, std::byte* chunk) {
          kernels::cuda::PackQuantRows(slices, begin * kTile, std::min(end * kTile, rows), chunk);
        }));
    return linear;
  }

  Status LoadEmbedding() {
    const MatrixSlice table = reader_.Whole("token_embd.weight");
    const int64_t bytes = table.rows() * kernels::RowBytes(table);
    TANDEM_ASSIGN_OR_RETURN(void* const memory, Allocate(bytes));
    weights_.embedding = {memory, table.type, table.rows(), table.cols(),
                          spec_.source.config().embedding_scale};
    if (uploader_ == nullptr) return OkStatus();
    return uploader_->Bytes(
        memory, {static_cast<const std::byte*>(table.data), static_cast<size_t>(bytes)});
  }

  Status LoadLayer(int index, GpuLayer& layer) {
    const ModelConfig& config = spec_.source.config();
    const RankShard& shard = spec_.shard;
    const int dim = config.head_dim;
    const auto name = [&](const char* kind) { return LayerTensorName(index, kind); };
    const auto heads = [&](const char* kind, const Range& range) {
      return reader_.Rows(name(kind), range.begin * dim, range.end * dim);
    };
    TANDEM_RETURN_IF_ERROR(Put(name("attn_norm"), layer.attn_norm));
    TANDEM_RETURN_IF_ERROR(Put(name("ffn_norm"), layer.ffn_norm));
    const std::array<MatrixSlice, 3> qkv = {heads("attn_q", shard.heads),
                                            heads("attn_k", shard.kv_heads),
                                            heads("attn_v", shard.kv_heads)};
    TANDEM_ASSIGN_OR_RETURN(layer.qkv, Matrix(qkv));
    if (config.qkv_bias) {
      TANDEM_RETURN_IF_ERROR(PutBias(reader_.QkvBias(index, dim, shard), layer.qkv));
    }
    if (config.qk_norm) {
      TANDEM_RETURN_IF_ERROR(Put(name("attn_q_norm"), layer.q_norm));
      TANDEM_RETURN_IF_ERROR(Put(name("attn_k_norm"), layer.k_norm));
    }
    const MatrixSlice o =
        reader_.Columns(name("attn_output"), shard.heads.begin * dim, shard.heads.end * dim);
    TANDEM_ASSIGN_OR_RETURN(layer.o, Matrix({&o, 1}));
    const std::array<MatrixSlice, 2> gate_up = {
        reader_.Rows(name("ffn_gate"), shard.ffn.begin, shard.ffn.end),
        reader_.Rows(name("ffn_up"), shard.ffn.begin, shard.ffn.end)};
    TANDEM_ASSIGN_OR_RETURN(layer.gate_up, Matrix(gate_up));
    const MatrixSlice down = reader_.Columns(name("ffn_down"), shard.ffn.begin, shard.ffn.end);
    TANDEM_ASSIGN_OR_RETURN(layer.down, Matrix({&down, 1}));
    return OkStatus();
  }

  Status LoadRope() {
    const kernels::RopeSpec rope =
        RopeSpecOf(spec_.source.config().ropes[0], spec_.max_positions, spec_.max_positions);
    weights_.max_positions = spec_.max_positions;
    return Put(kernels::RopeCosSin(rope), weights_.rope_cos_sin);
  }

  const GpuWeightSpec& spec_;
  TensorReader reader_;
  Uploader* const uploader_;
  const std::function<void(int64_t)>* const on_progress_;
  GpuWeights weights_;
};

}  // namespace

int64_t GpuWeightBytes(const GpuWeightSpec& spec) {
  const StatusOr<GpuWeights> weights = Loader(spec, nullptr, nullptr).Load();
  TANDEM_CHECK(weights.ok()) << Message(weights.status());
  return weights->bytes;
}

StatusOr<GpuWeights> LoadGpuWeights(const GpuWeightSpec& spec,
                                    const std::function<void(int64_t)>& on_progress) {
  TANDEM_ASSIGN_OR_RETURN(Uploader uploader, Uploader::Make());
  return Loader(spec, &uploader, &on_progress).Load();
}

}  // namespace tandem::model::cuda
