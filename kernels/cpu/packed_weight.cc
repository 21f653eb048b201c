#include "kernels/cpu/packed_weight.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/dequantize.h"
#include "kernels/quant_blocks.h"

namespace tandem::kernels::cpu {
namespace {

constexpr int kPanelRows = 16;

PanelFormat FormatOf(WeightType type, const PanelOptions& options) {
  const ActivationType activations = options.activations;
  const bool bf16 = activations == ActivationType::kBf16 && BlockElements(type) > 1;
  if (bf16 || type == WeightType::kBf16) {
    return options.bf16_pairs && activations != ActivationType::kF32 ? PanelFormat::kBf16Pairs
                                                                     : PanelFormat::kBf16;
  }
  switch (type) {
    case WeightType::kQ4_0:
      return PanelFormat::kQ4_0;
    case WeightType::kQ4_1:
      return PanelFormat::kQ4_1;
    case WeightType::kQ8_0:
    case WeightType::kQ5_0:
    case WeightType::kIq4Nl:
      return PanelFormat::kQ8_0;
    case WeightType::kQ4K:
      return activations == ActivationType::kInt8 ? PanelFormat::kQ4_1 : PanelFormat::kF32;
    case WeightType::kQ5_1:
    case WeightType::kQ2K:
    case WeightType::kQ3K:
    case WeightType::kQ5K:
    case WeightType::kQ6K:
      return activations == ActivationType::kInt8 ? PanelFormat::kQ8_0 : PanelFormat::kF32;
    case WeightType::kF16:
      return PanelFormat::kF16;
    case WeightType::kBf16:
      return PanelFormat::kBf16;
    case WeightType::kF32:
      return PanelFormat::kF32;
  }
  return PanelFormat::kF32;
}

struct BlockLayout {
  int scale_bytes;  // of a pair of blocks
  int block_bytes;  // of one block's quants
  bool has_min;
  int pair_bytes() const { return scale_bytes + 2 * block_bytes; }
};

template <PanelFormat kFormat>
constexpr BlockLayout LayoutOf() {
  using Pair = PairLayout<kFormat>;
  return {Pair::kScaleBytes, Pair::kBlockBytes, Pair::kHasMin};
}

BlockLayout LayoutOf(PanelFormat format) {
  if (format == PanelFormat::kQ4_1) return LayoutOf<PanelFormat::kQ4_1>();
  return format == PanelFormat::kQ8_0 ? LayoutOf<PanelFormat::kQ8_0>()
                                      : LayoutOf<PanelFormat::kQ4_0>();
}

int64_t PanelBytes(PanelFormat format, int64_t cols) {
  if (format == PanelFormat::kF32) return cols * kPanelRows * 4;
  if (format == PanelFormat::kF16 || format == PanelFormat::kBf16 ||
      format == PanelFormat::kBf16Pairs) {
    return (cols * kPanelRows * 2 + 63) / 64 * 64;
  }
  return (cols + 63) / 64 * LayoutOf(format).pair_bytes();
}

const uint8_t* SourceRow(const MatrixSlice& slice, int64_t row) {
  return static_cast<const uint8_t*>(slice.data) + row * RowBytes(slice);
}

// 32 columns of a row as the panels hold them: halfs and quants, nibbles or signed bytes.
struct PanelBlock {
  uint16_t d = 0, m = 0;
  uint8_t quants[32];
};

// To the nearest of 255 multiples of a half; to NaN if one of them is none or infinite.
void RoundToInt8(const float* values, PanelBlock& block) {
  constexpr uint16_t kNanHalf = 0x7e00;
  float most = 0;
  bool finite = true;
  for (int i = 0; i < 32; ++i) {
    most = std::max(most, std::fabs(values[i]));
    finite = finite && std::isfinite(values[i]);
  }
  if (!finite) {
    block.d = kNanHalf;
    std::fill_n(block.quants, 32, uint8_t{0});
    return;
  }
  block.d = FloatToHalf(most / 127);
  const float d = HalfToFloat(block.d);
  for (int i = 0; i < 32; ++i) {
    const float q = d == 0 ? 0 : std::clamp(std::nearbyint(values[i] / d), -127.0f, 127.0f);
    block.quants[i] = static_cast<uint8_t>(static_cast<int8_t>(q));
  }
}

PanelBlock ReadBlock(WeightType type, const uint8_t* row, int64_t index) {
  PanelBlock block;
  if (IsScaledInt8(type)) {
    block.d = UnpackInt8(type, row, index, reinterpret_cast<int8_t*>(block.quants));
  } else if (type == WeightType::kQ4K) {
    const ScaledNibbles from = UnpackQ4K(row, index);
    block.d = FloatToHalf(from.d);
    block.m = FloatToHalf(-from.m);
    std::memcpy(block.quants, from.nibbles, sizeof from.nibbles);
  } else if (type == WeightType::kQ4_0 || type == WeightType::kQ4_1) {
    const uint8_t* from = row + index * BlockBytes(type);
    std::memcpy(&block.d, from, 2);
    if (type == WeightType::kQ4_1) std::memcpy(&block.m, from + 2, 2);
    std::memcpy(block.quants, from + BlockBytes(type) - 16, 16);
  } else {
    float values[32];
    DequantizeBlock(type, row, index, values);
    RoundToInt8(values, block);
  }
  return block;
}

// One 32-column block of one row (0-15) to its place in the panel.
void PackBlock(const PanelBlock& source, PanelFormat format, int64_t block, int row,
               uint8_t* panel) {
  const BlockLayout layout = LayoutOf(format);
  uint8_t* pair = panel + block / 2 * layout.pair_bytes();
  const int64_t half = block % 2;
  std::memcpy(pair + 32 * half + 2 * row, &source.d, 2);
  if (layout.has_min) std::memcpy(pair + 64 + 32 * half + 2 * row, &source.m, 2);
  uint8_t* quants = pair + layout.scale_bytes + half * layout.block_bytes;
  for (int j = 0; j < layout.block_bytes / 64; ++j) {
    for (int i = 0; i < 4; ++i) {
      const uint8_t byte = source.quants[4 * j + i];
      quants[64 * j + 4 * row + i] = format == PanelFormat::kQ8_0 ? byte ^ 0x80 : byte;
    }
  }
}

// Where column `k` of row `row` (0-15) is, in elements.
int64_t FloatIndex(PanelFormat format, int64_t k, int row) {
  return format == PanelFormat::kBf16Pairs ? k / 2 * 2 * kPanelRows + row * 2 + k % 2
                                           : k * kPanelRows + row;
}

template <class T>
void PackElements(const uint8_t* source, int64_t cols, PanelFormat format, int row,
                  uint8_t* panel) {
  for (int64_t k = 0; k < cols; ++k) {
    std::memcpy(panel + FloatIndex(format, k, row) * sizeof(T), source + k * sizeof(T), sizeof(T));
  }
}

// A block of a quantized type to floats or bf16, from column `first` on.
void PackFloats(const float* values, int64_t first, PanelFormat format, int row, uint8_t* panel) {
  for (int i = 0; i < 32; ++i) {
    const int64_t at = FloatIndex(format, first + i, row);
    if (format == PanelFormat::kF32) {
      std::memcpy(panel + at * sizeof(float), &values[i], sizeof(float));
    } else {
      const uint16_t bf16 = FloatToBf16(values[i]);
      std::memcpy(panel + at * sizeof bf16, &bf16, sizeof bf16);
    }
  }
}

bool IsFloat(PanelFormat format) {
  return format != PanelFormat::kQ4_0 && format != PanelFormat::kQ4_1 &&
         format != PanelFormat::kQ8_0;
}

void PackRow(const MatrixSlice& slice, PanelFormat format, int64_t source_row, int row,
             uint8_t* panel) {
  const uint8_t* source = SourceRow(slice, source_row);
  const int block_bytes = BlockBytes(slice.type);
  if (BlockElements(slice.type) == 1) {
    source += slice.col_begin * block_bytes;
    return block_bytes == 4 ? PackElements<float>(source, slice.cols(), format, row, panel)
                            : PackElements<uint16_t>(source, slice.cols(), format, row, panel);
  }
  const int64_t first = slice.col_begin / 32;
  for (int64_t b = 0; b < slice.cols() / 32; ++b) {
    if (!IsFloat(format)) {
      PackBlock(ReadBlock(slice.type, source, first + b), format, b, row, panel);
      continue;
    }
    float values[32];
    DequantizeBlock(slice.type, source, first + b, values);
    PackFloats(values, 32 * b, format, row, panel);
  }
}

PackedWeight::Segment MakeSegment(PanelFormat format, int64_t first_row, int64_t rows, int64_t cols,
                                  PanelArena& arena) {
  const int64_t panel_bytes = PanelBytes(format, cols);
  const int64_t num_panels = (rows + kPanelRows - 1) / kPanelRows;
  return {format, first_row, rows, panel_bytes, num_panels, arena.Take(num_panels * panel_bytes)};
}

}  // namespace

PackedWeight::PackedWeight(std::span<const MatrixSlice> slices, const PanelOptions& options,
                           PanelArena& arena)
    : cols_(slices[0].cols()) {
  for (size_t first = 0, next; first < slices.size(); first = next) {
    int64_t rows = 0;
    for (next = first; next < slices.size() && slices[next].type == slices[first].type; ++next) {
      rows += slices[next].rows();
    }
    if (rows == 0) continue;
    Segment segment = MakeSegment(FormatOf(slices[first].type, options), rows_, rows, cols_, arena);
    int64_t row = 0;
    for (size_t i = first; i < next; ++i) {
      for (int64_t r = slices[i].row_begin; r < slices[i].row_end; ++r, ++row) {
        PackRow(slices[i], segment.format, r, static_cast<int>(row % kPanelRows),
                segment.panels.data + row / kPanelRows * segment.panel_bytes);
      }
    }
    rows_ += rows;
    segments_.push_back(std::move(segment));
  }
}

PackedWeight::PackedWeight(const MatrixSlice& gate, const MatrixSlice& up,
                           const PanelOptions& options, PanelArena& arena)
    : rows_(2 * gate.rows()), cols_(gate.cols()), gate_up_(true) {
  Segment segment = MakeSegment(FormatOf(gate.type, options), 0, rows_, cols_, arena);
  for (int64_t r = 0; r < gate.rows(); ++r) {
    uint8_t* pair = segment.panels.data + r / kPanelRows * 2 * segment.panel_bytes;
    PackRow(gate, segment.format, gate.row_begin + r, static_cast<int>(r % kPanelRows), pair);
    PackRow(up, segment.format, up.row_begin + r, static_cast<int>(r % kPanelRows),
            pair + segment.panel_bytes);
  }
  segments_.push_back(std::move(segment));
}

int64_t PackedWeight::bytes() const {
  int64_t bytes = 0;
  for (const Segment& s : segments_) bytes += static_cast<int64_t>(s.panels.size);
  return bytes;
}

}  // namespace tandem::kernels::cpu
