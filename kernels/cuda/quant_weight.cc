#include "kernels/cuda/quant_weight.h"

#include <cstring>

#include "common/check.h"
#include "common/round.h"
#include "kernels/dequantize.h"

namespace tandem::kernels::cuda {
namespace {

constexpr int kBlock = 32;
constexpr int kBlocksPerTile = kQuantTileCols / kBlock;

// One row of the stacked matrix: its blocks in the file.
const uint8_t* FileRow(std::span<const MatrixSlice> slices, int64_t row) {
  for (const MatrixSlice& slice : slices) {
    if (row < slice.rows()) {
      return static_cast<const uint8_t*>(slice.data) + (slice.row_begin + row) * RowBytes(slice) +
             slice.col_begin / kBlock * BlockBytes(slice.type);
    }
    row -= slice.rows();
  }
  return nullptr;
}

// The quant of one column of a block, as bits.
uint32_t QuantOf(WeightType type, const uint8_t* block, int column) {
  if (type == WeightType::kQ8_0) return block[2 + column];
  const uint8_t pair = block[(type == WeightType::kQ4_1 ? 4 : 2) + column % 16];
  return column < 16 ? pair & 15 : pair >> 4;
}

// Where the quant of (row, column) stands among a tile's quants, in elements. A lane's words are
// one for each step of 16 columns (kQ8_0: two); a word's fields are the pairs (rows g, g + 8;
// columns 0 and 1, 2 and 3 of its four), whose members stand 16 bits apart.
struct Place {
  int word;  // of 32 bits, within the tile
  int shift;
};
Place PlaceOf(WeightType type, int row, int column) {
  const int block = column / kBlock, lane = row % 8 * 4 + column % kBlock / 8;
  const int step = 2 * block + column % 8 / 4;
  const int pair = row / 8 + column % 4 / 2 * 2, member = column % 2;
  if (type == WeightType::kQ8_0) {
    // Words of blocks: 16 bytes a lane for each; bytes of a word: pairs p and p + 1 interleaved.
    return {block * 128 + lane * 4 + step % 2 * 2 + pair / 2, pair % 2 * 8 + member * 16};
  }
  return {lane * 4 + step, pair * 4 + member * 16};
}

// The scales of (row, block) are halfs; kQ4_1 has d and m side by side.
int64_t ScaleOffset(WeightType type, int row, int block) {
  const int halfs = type == WeightType::kQ4_1 ? 2 : 1;
  return QuantTileQuantBytes(type) + 2 * halfs * (row % 8 * 4 + row / 8 * 2 + block);
}

void PackBlock(WeightType type, const uint8_t* from, int row, int block, uint8_t* tile) {
  auto* words = reinterpret_cast<uint32_t*>(tile);
  for (int column = 0; column < kBlock; ++column) {
    const Place place = PlaceOf(type, row, block * kBlock + column);
    words[place.word] |= QuantOf(type, from, column) << place.shift;
  }
  std::memcpy(tile + ScaleOffset(type, row, block), from, type == WeightType::kQ4_1 ? 4 : 2);
}

}  // namespace

int64_t QuantPackedBytes(WeightType type, int64_t rows, int64_t cols) {
  return CeilDiv(rows, kQuantTileRows) * CeilDiv(cols, kQuantTileCols) * QuantTileBytes(type);
}

void PackQuantRows(std::span<const MatrixSlice> slices, int64_t row_begin, int64_t row_end,
                   void* out) {
  TANDEM_CHECK(!slices.empty());
  const WeightType type = slices[0].type;
  const int64_t cols = slices[0].cols();
  int64_t rows = 0;
  for (const MatrixSlice& slice : slices) {
    TANDEM_CHECK(slice.type == type && IsQuantized(type) && slice.cols() == cols &&
                 slice.col_begin % kBlock == 0 && cols % kBlock == 0)
        << slice.col_begin << " " << slice.cols();
    rows += slice.rows();
  }
  TANDEM_CHECK(row_begin % kQuantTileRows == 0 && row_begin <= row_end && row_end <= rows &&
               (row_end % kQuantTileRows == 0 || row_end == rows))
      << row_begin << " " << row_end << " of " << rows;
  std::memset(out, 0, QuantPackedBytes(type, row_end - row_begin, cols));
  const int64_t row_tiles = CeilDiv(cols, kQuantTileCols);
  for (int64_t row = row_begin; row < row_end; ++row) {
    const uint8_t* from = FileRow(slices, row);
    uint8_t* tiles = static_cast<uint8_t*>(out) +
                     (row - row_begin) / kQuantTileRows * row_tiles * QuantTileBytes(type);
    for (int64_t block = 0; block < cols / kBlock; ++block) {
      PackBlock(type, from + block * BlockBytes(type), static_cast<int>(row % kQuantTileRows),
                static_cast<int>(block % kBlocksPerTile),
                tiles + block / kBlocksPerTile * QuantTileBytes(type));
    }
  }
}

}  // namespace tandem::kernels::cuda
