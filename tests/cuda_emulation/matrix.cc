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

// Of the two 16-bit elements of a register, the lower and the upper.
struct Bf16 {
  static float Low(uint32_t r) { return Float(r << 16); }
  static float High(uint32_t r) { return Float(r & 0xFFFF0000); }
  static float Float(uint32_t bits) {
    float f;
    __builtin_memcpy(&f, &bits, 4);
    return f;
  }
};
struct F16 {
  static float Low(uint32_t r) { return Float(r & 0xFFFF); }
  static float High(uint32_t r) { return Float(r >> 16); }
  // Exact for normal and denormal numbers by a multiplication with 2^112, which moves the exponent.
  static float Float(uint32_t half) {
    const float scaled = Bf16::Float((half & 0x7FFF) << 13) * 0x1p112f;
    uint32_t bits;
    __builtin_memcpy(&bits, &scaled, 4);
    if ((half & 0x7C00) == 0x7C00) bits |= 0x7F800000;  // infinity, NaN
    return Bf16::Float(bits | (half & 0x8000) << 16);
  }
};

struct MmaOperand {
  float* d;
  const uint32_t* a;
  const uint32_t* b;
};

using Row = float __attribute__((vector_size(4 * kN)));  // one row of B or D

template <class Element>
void ComputeMma(void* const* operands, uint32_t) {
  float a[kM][kK];
  Row b[kK];
  Row d[kM];
  for (int lane = 0; lane < kWarpSize; ++lane) {
    const auto& operand = *static_cast<const MmaOperand*>(operands[lane]);
    const int g = lane / 4;
    const int t = lane % 4 * 2;
    for (int i = 0; i < 4; ++i) {
      float* row = &a[g + i % 2 * 8][t + i / 2 * 8];
      row[0] = Element::Low(operand.a[i]);
      row[1] = Element::High(operand.a[i]);
      d[g + i / 2 * 8][t + i % 2] = operand.d[i];
    }
    for (int i = 0; i < 2; ++i) {
      b[t + i * 8][g] = Element::Low(operand.b[i]);
      b[t + i * 8 + 1][g] = Element::High(operand.b[i]);
    }
  }
  for (int m = 0; m < kM; ++m) {
    for (int k = 0; k < kK; ++k) d[m] += a[m][k] * b[k];
  }
  for (int lane = 0; lane < kWarpSize; ++lane) {
    float* out = static_cast<const MmaOperand*>(operands[lane])->d;
    for (int i = 0; i < 4; ++i) out[i] = d[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
  }
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
