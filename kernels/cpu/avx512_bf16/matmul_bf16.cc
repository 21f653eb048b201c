// The product of bf16 weights and bf16 activations with vdpbf16ps: two columns a step, one fp32
// chain per output over ascending steps, whatever the tile. (The instruction takes subnormal
// numbers for zero.)
// Few rows: one panel after the other, each read once. Many: tiles of 6 rows x 4 panels, where
// 10 loads serve 24 products.

#include "kernels/cpu/avx512/simd.h"
// Above: the lanes that the code below is made of.
#include "kernels/cpu/matmul_epilogue.inc"
#include "kernels/cpu/prefetch.inc"

namespace tandem::kernels::cpu {
namespace {

inline constexpr int kMostRows = 16;  // of one panel at once
inline constexpr int kTileRows = 6;
inline constexpr int kTilePanels = 4;
inline constexpr int kStepBytes = 64;  // of a panel: 16 rows of two columns

void RoundBf16(const float* x, int64_t cols, uint16_t* out) {
  const int64_t whole = cols / 16 * 16;
  for (int64_t i = 0; i < whole; i += 16) {
    const __m256bh rounded = _mm512_cvtneps_pbh(Load(x + i));
    __builtin_memcpy(out + i, &rounded, sizeof rounded);
  }
  if (whole == cols) return;
  const int rest = static_cast<int>(cols - whole);
  const __m256bh rounded = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(FirstLanes(rest), x + whole));
  __builtin_memcpy(out + whole, &rounded, (rest + rest % 2) * sizeof(uint16_t));
}

TANDEM_SIMD Vec Dot(Vec acc, __m512i weights, __m512i x) {
  return _mm512_dpbf16_ps(acc, (__m512bh)weights, (__m512bh)x);
}

TANDEM_SIMD __m512i BroadcastPair(const uint8_t* x) {
  int32_t pair;
  __builtin_memcpy(&pair, x, sizeof pair);
  return _mm512_set1_epi32(pair);
}

// kRows rows of kPanels panels: tile[panel][row][16].
template <int kRows, int kPanels>
TANDEM_SIMD void Tile(const uint8_t* panels, int64_t panel_bytes, int64_t steps, const uint8_t* x,
                      int64_t x_stride, int64_t ahead, float* tile, int tile_rows) {
  Vec acc[kRows][kPanels];
  for (auto& row : acc) {
    for (Vec& v : row) v = Zero();
  }
  // A pointer for four rows: one for each of 16 would not fit the registers.
  const uint8_t* rows[(kRows + 3) / 4];
  for (int i = 0; i < (kRows + 3) / 4; ++i) rows[i] = x + 4 * i * x_stride;
  for (int64_t step = 0; step < steps; ++step) {
    const uint8_t* at = panels + step * kStepBytes;
    __m512i weights[kPanels];
    for (int p = 0; p < kPanels; ++p) {
      if (ahead > 0) {
        _mm_prefetch(reinterpret_cast<const char*>(at + p * panel_bytes + ahead), _MM_HINT_T0);
      }
      weights[p] = _mm512_load_si512(at + p * panel_bytes);
    }
    for (int r = 0; r < kRows; ++r) {
      const __m512i pair = BroadcastPair(rows[r / 4] + r % 4 * x_stride);
      for (int p = 0; p < kPanels; ++p) acc[r][p] = Dot(acc[r][p], weights[p], pair);
    }
    for (const uint8_t*& row : rows) row += 4;
  }
  for (int p = 0; p < kPanels; ++p) {
    for (int r = 0; r < kRows; ++r) Store(tile + (p * tile_rows + r) * 16, acc[r][p]);
  }
}

// All rows of panels [begin, end), one panel (or gate and up) after the other.
void OneByOne(const MatMulJob& job, int64_t begin, int64_t end) {
  alignas(64) float tile[2][kMostRows * 16];
  const int64_t steps = (job.cols + 1) / 2;
  const int width = job.gate_up ? 2 : 1;
  for (int64_t p = begin; p < end; p += width) {
    for (int64_t row = 0; row < job.rows; row += kMostRows) {
      const int rows = static_cast<int>(job.rows - row < kMostRows ? job.rows - row : kMostRows);
      const auto* x = static_cast<const uint8_t*>(job.x) + row * job.x_stride;
      for (int i = 0; i < width; ++i) {
        WithRows<kMostRows>(rows, [&]<int kRows>() {
          Tile<kRows, 1>(job.panels + (p + i) * job.panel_bytes, job.panel_bytes, steps, x,
                         job.x_stride, row == 0 ? kStreamAhead : 0, tile[i], kMostRows);
        });
      }
      if (job.gate_up) {
        StoreGateTile(job, p / 2, row, rows, tile[0], tile[1]);
      } else {
        StoreTile(job, p, row, rows, tile[0]);
      }
    }
  }
}

// All rows of panels p to p + 3; asks for the next four meanwhile.
void FourPanels(const MatMulJob& job, int64_t p) {
  alignas(64) float tile[kTilePanels][kTileRows * 16];
  const uint8_t* panels = job.panels + p * job.panel_bytes;
  const char* next = reinterpret_cast<const char*>(panels + kTilePanels * job.panel_bytes);
  const int64_t lines = kTilePanels * job.panel_bytes / 64;
  const int64_t tiles = (job.rows + kTileRows - 1) / kTileRows;
  int64_t line = 0, turn = 0;
  for (int64_t row = 0; row < job.rows; row += kTileRows) {
    for (const int64_t end = ++turn * lines / tiles; line < end; ++line) {
      _mm_prefetch(next + 64 * line, _MM_HINT_T1);
    }
    const int rows = static_cast<int>(job.rows - row < kTileRows ? job.rows - row : kTileRows);
    WithRows<kTileRows>(rows, [&]<int kRows>() {
      Tile<kRows, kTilePanels>(panels, job.panel_bytes, (job.cols + 1) / 2,
                               static_cast<const uint8_t*>(job.x) + row * job.x_stride,
                               job.x_stride, 0, tile[0], kTileRows);
    });
    for (int i = 0; i < kTilePanels; i += job.gate_up ? 2 : 1) {
      if (job.gate_up) {
        StoreGateTile(job, (p + i) / 2, row, rows, tile[i], tile[i + 1]);
      } else {
        StoreTile(job, p + i, row, rows, tile[i]);
      }
    }
  }
}

void MatMulBf16(const MatMulJob& job) {
  int64_t p = job.panel_begin;
  if (job.rows > kMostRows) {
    for (; p + kTilePanels <= job.panel_end; p += kTilePanels) FourPanels(job, p);
  }
  OneByOne(job, p, job.panel_end);
}

}  // namespace

namespace avx512_bf16 {
extern const decltype(KernelTable::round_bf16) kRoundBf16 = RoundBf16;
extern const decltype(KernelTable::matmul_bf16) kMatMulBf16 = MatMulBf16;
}  // namespace avx512_bf16

}  // namespace tandem::kernels::cpu
