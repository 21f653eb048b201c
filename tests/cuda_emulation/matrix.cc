// Tensor cores: mma.m16n8k16 and ldmatrix.
#include "tests/cuda_emulation/collectives.h"
#include "tests/cuda_emulation/grid_run.h"
#include "tests/cuda_emulation/sanitizer.h"

namespace tandem::emulation {
namespace {

constexpr uint32_t kAllLanes = 0xFFFFFFFF;
constexpr int kM = 16;
constexpr int kN = 8;
constexpr int kK = 16;

// A register holds two 16-bit elements; rows of registers become rows of the lower ones and of the
// upper ones, in float32.
using Registers = uint32_t __attribute__((vector_size(4 * kN), may_alias));
using Row = float __attribute__((vector_size(4 * kN), may_alias));

#define TANDEM_INLINE [[gnu::always_inline]] inline

struct Bf16 {
  TANDEM_INLINE static void Split(const Registers& r, Row& low, Row& high) {
    low = reinterpret_cast<Row>(r << 16);
    high = reinterpret_cast<Row>(r & 0xFFFF0000);
  }
};
struct F16 {
  TANDEM_INLINE static void Split(const Registers& r, Row& low, Row& high) {
    Widen(r & 0xFFFF, low);
    Widen(r >> 16, high);
  }
  // Exact for normal and denormal numbers by a multiplication with 2^112, which moves the exponent.
  TANDEM_INLINE static void Widen(const Registers& half, Row& to) {
    const Row scaled = reinterpret_cast<Row>((half & 0x7FFF) << 13) * 0x1p112f;
    const Registers special = reinterpret_cast<Registers>((half & 0x7C00) == 0x7C00) & 0x7F800000;
    to = reinterpret_cast<Row>(reinterpret_cast<Registers>(scaled) | special |
                               (half & 0x8000) << 16);
  }
};

struct MmaOperand {
  float* d;
  const uint32_t* a;
  const uint32_t* b;
};

// Lane 4g + t has, of A and D, columns 2t and 2t + 1 of rows g and g + 8 (of A also 8 columns
// further), and of B rows 2t and 2t + 1 of column g (also 8 rows further).
template <class Element>
TANDEM_INLINE void ComputeMmaOn(void* const* operands) {
  alignas(Row) uint32_t a[kM][kK / 2];
  alignas(Row) uint32_t b[kK / 2][kN];
  alignas(Row) float d[kM][kN];
  for (int g = 0; g < 8; ++g) {
    for (int t = 0; t < 4; ++t) {
      const auto& operand = *static_cast<const MmaOperand*>(operands[4 * g + t]);
      a[g][t] = operand.a[0];
      a[g + 8][t] = operand.a[1];
      a[g][t + 4] = operand.a[2];
      a[g + 8][t + 4] = operand.a[3];
      b[t][g] = operand.b[0];
      b[t + 4][g] = operand.b[1];
      __builtin_memcpy(&d[g][2 * t], operand.d, 8);
      __builtin_memcpy(&d[g + 8][2 * t], operand.d + 2, 8);
    }
  }
  Row rows[kK];
  for (int k = 0; k < kK / 2; ++k) {
    Element::Split(reinterpret_cast<const Registers&>(b[k]), rows[2 * k], rows[2 * k + 1]);
  }
  for (int m = 0; m < kM; ++m) {
    Row low, high;
    Element::Split(reinterpret_cast<const Registers&>(a[m]), low, high);
    Row& sum = reinterpret_cast<Row&>(d[m]);
    for (int k = 0; k < kK / 2; ++k) {
      sum += low[k] * rows[2 * k];
      sum += high[k] * rows[2 * k + 1];
    }
  }
  for (int lane = 0; lane < kWarpSize; ++lane) {
    float* out = static_cast<const MmaOperand*>(operands[lane])->d;
    __builtin_memcpy(out, &d[lane / 4][lane % 4 * 2], 8);
    __builtin_memcpy(out + 2, &d[lane / 4 + 8][lane % 4 * 2], 8);
  }
}

template <class Element>
[[gnu::target("avx2,fma")]] void ComputeMmaByAvx2(void* const* operands) {
  ComputeMmaOn<Element>(operands);
}

template <class Element>
void ComputeMma(void* const* operands, uint32_t) {
  static const bool kAvx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (kAvx2) return ComputeMmaByAvx2<Element>(operands);
  ComputeMmaOn<Element>(operands);
}
constexpr WarpOp kMmaBf16 = {"MmaM16N8K16 (bf16)", &ComputeMma<Bf16>};
constexpr WarpOp kMmaF16 = {"MmaM16N8K16 (f16)", &ComputeMma<F16>};

void Mma(const WarpOp& op, MmaOperand operand, Site site) {
  processor->current->block->WarpCollective(op, kAllLanes, &operand, site);
}

struct MatrixOperand {
  uint32_t* r;
  const uint16_t* row;
};

template <bool kTransposed>
void ComputeLoadMatrix(void* const* operands, uint32_t) {
  for (int lane = 0; lane < kWarpSize; ++lane) {
    uint32_t* r = static_cast<const MatrixOperand*>(operands[lane])->r;
    const int g = lane / 4;
    const int t = lane % 4 * 2;
    for (int i = 0; i < 4; ++i) {
      const auto element = [&](int row, int col) -> uint32_t {
        return static_cast<const MatrixOperand*>(operands[8 * i + row])->row[col];
      };
      r[i] = kTransposed ? element(t, g) | element(t + 1, g) << 16
                         : element(g, t) | element(g, t + 1) << 16;
    }
  }
}
constexpr WarpOp kLoad = {"LdMatrixX4", &ComputeLoadMatrix<false>};
constexpr WarpOp kLoadTransposed = {"LdMatrixX4Trans", &ComputeLoadMatrix<true>};

}  // namespace

void MmaBf16(float* d, const uint32_t* a, const uint32_t* b, Site site) {
  Mma(kMmaBf16, {d, a, b}, site);
}
void MmaF16(float* d, const uint32_t* a, const uint32_t* b, Site site) {
  Mma(kMmaF16, {d, a, b}, site);
}

void LoadMatrix(uint32_t* r, const void* shared_row, bool transposed, Site site) {
  Block& block = *processor->current->block;
  if (reinterpret_cast<uintptr_t>(shared_row) % 16 != 0) {
    Fail("ldmatrix of {}, misaligned, at {}", shared_row, Describe(site));
  }
  if (!block.shared().Holds(shared_row, 16)) {
    Fail("ldmatrix of {}, which is not within this block's shared memory, at {}", shared_row,
         Describe(site));
  }
  NoteRead(shared_row, 16);
  MatrixOperand operand = {r, static_cast<const uint16_t*>(shared_row)};
  block.WarpCollective(transposed ? kLoadTransposed : kLoad, kAllLanes, &operand, site);
}

}  // namespace tandem::emulation
