#include "kernels/cpu/packed_weight.h"

#include <cstring>

#include "common/check.h"
#include "kernels/dequantize.h"

namespace tandem::kernels::cpu {
namespace {

constexpr int kPanelRows = 16;

PanelFormat FormatOf(WeightType type) {
  switch (type) {
    case WeightType::kQ4_0:
      return PanelFormat::kQ4_0;
    case WeightType::kQ4_1:
      return PanelFormat::kQ4_1;
    case WeightType::kQ8_0:
      return PanelFormat::kQ8_0;
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

BlockLayout LayoutOf(PanelFormat format) {
  const bool has_min = format == PanelFormat::kQ4_1;
  return {has_min ? 128 : 64, format == PanelFormat::kQ8_0 ? 512 : 256, has_min};
}

int64_t PanelBytes(PanelFormat format, int64_t cols) {
  if (format == PanelFormat::kF32) return cols * kPanelRows * 4;
  if (format == PanelFormat::kF16 || format == PanelFormat::kBf16)
    return (cols * kPanelRows * 2 + 63) / 64 * 64;
  return (cols + 63) / 64 * LayoutOf(format).pair_bytes();
}

const uint8_t* SourceRow(const MatrixSlice& slice, int64_t row) {
  return static_cast<const uint8_t*>(slice.data) + row * RowBytes(slice) +
         slice.col_begin / BlockElements(slice.type) * BlockBytes(slice.type);
}

// One 32-column block of one row (0-15) to its place in the panel.
void PackBlock(const uint8_t* source, WeightType type, int64_t block, int row, uint8_t* panel) {
  const BlockLayout layout = LayoutOf(FormatOf(type));
  uint8_t* pair = panel + block / 2 * layout.pair_bytes();
  const int64_t half = block % 2;
  std::memcpy(pair + 32 * half + 2 * row, source, 2);
  source += 2;
  if (layout.has_min) {
    std::memcpy(pair + 64 + 32 * half + 2 * row, source, 2);
    source += 2;
  }
  uint8_t* quants = pair + layout.scale_bytes + half * layout.block_bytes;
  for (int j = 0; j < layout.block_bytes / 64; ++j) {
    for (int i = 0; i < 4; ++i) {
      const uint8_t byte = source[4 * j + i];
      quants[64 * j + 4 * row + i] = type == WeightType::kQ8_0 ? byte ^ 0x80 : byte;
    }
  }
}

void PackRow(const MatrixSlice& slice, int64_t source_row, int row, uint8_t* panel) {
  const uint8_t* source = SourceRow(slice, source_row);
  const int block_elements = BlockElements(slice.type), block_bytes = BlockBytes(slice.type);
  if (block_elements == 1) {
    for (int64_t k = 0; k < slice.cols(); ++k) {
      std::memcpy(panel + (k * kPanelRows + row) * block_bytes, source + k * block_bytes,
                  block_bytes);
    }
    return;
  }
  for (int64_t b = 0; b < slice.cols() / block_elements; ++b) {
    PackBlock(source + b * block_bytes, slice.type, b, row, panel);
  }
}

PackedWeight::Segment MakeSegment(WeightType type, int64_t first_row, int64_t rows, int64_t cols) {
  const PanelFormat format = FormatOf(type);
  const int64_t panel_bytes = PanelBytes(format, cols);
  const int64_t num_panels = (rows + kPanelRows - 1) / kPanelRows;
  AlignedBuffer panels(num_panels * panel_bytes);
  TANDEM_CHECK(panels.data() != nullptr)
      << "no memory for " << num_panels * panel_bytes << " bytes of weights";
  return {format, first_row, rows, panel_bytes, num_panels, std::move(panels)};
}

}  // namespace

PackedWeight::PackedWeight(std::span<const MatrixSlice> slices) : cols_(slices[0].cols()) {
  for (size_t first = 0, next; first < slices.size(); first = next) {
    int64_t rows = 0;
    for (next = first; next < slices.size() && slices[next].type == slices[first].type; ++next) {
      rows += slices[next].rows();
    }
    if (rows == 0) continue;
    Segment segment = MakeSegment(slices[first].type, rows_, rows, cols_);
    int64_t row = 0;
    for (size_t i = first; i < next; ++i) {
      for (int64_t r = slices[i].row_begin; r < slices[i].row_end; ++r, ++row) {
        PackRow(slices[i], r, static_cast<int>(row % kPanelRows),
                segment.panels.data() + row / kPanelRows * segment.panel_bytes);
      }
    }
    rows_ += rows;
    segments_.push_back(std::move(segment));
  }
}

PackedWeight::PackedWeight(const MatrixSlice& gate, const MatrixSlice& up)
    : rows_(2 * gate.rows()), cols_(gate.cols()), gate_up_(true) {
  Segment segment = MakeSegment(gate.type, 0, rows_, cols_);
  for (int64_t r = 0; r < gate.rows(); ++r) {
    uint8_t* pair = segment.panels.data() + r / kPanelRows * 2 * segment.panel_bytes;
    PackRow(gate, gate.row_begin + r, static_cast<int>(r % kPanelRows), pair);
    PackRow(up, up.row_begin + r, static_cast<int>(r % kPanelRows), pair + segment.panel_bytes);
  }
  segments_.push_back(std::move(segment));
}

int64_t PackedWeight::bytes() const {
  int64_t bytes = 0;
  for (const Segment& s : segments_) bytes += static_cast<int64_t>(s.panels.size());
  return bytes;
}

}  // namespace tandem::kernels::cpu
