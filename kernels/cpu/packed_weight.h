// Weights in panels of 16 rows: see kernel_table.h for the layout. A weight of several file types
// is several segments, one below the other.
//
// Types without panels of their own go into others'. Exactly: Q5_0 and IQ4_NL into those of Q8_0.
// The K types and Q5_1, for int8 activations: Q4_K into Q4_1's with scales and minima rounded to
// halfs (2^-11 off, relative), the others rounded again into Q8_0's (at most 1/254 of their block's
// greatest weight off, half of what int8 activations cost). For float32 activations: into float32
// panels, exactly, at four bytes a weight. For bf16 activations: every quantized type into bf16
// panels, to the nearest.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/panel_arena.h"
#include "kernels/ops.h"

namespace tandem::kernels::cpu {

struct PanelOptions {
  ActivationType activations = ActivationType::kInt8;
  bool bf16_pairs = false;  // BF16 in kBf16Pairs: the CPU has the product
};

class PackedWeight : public Weight {
 public:
  struct Segment {
    PanelFormat format;
    int64_t first_row;  // of the weight
    int64_t rows;
    int64_t panel_bytes;
    int64_t num_panels;
    PanelMemory panels;
  };

  // Neighbouring slices of equal type share panels.
  PackedWeight(std::span<const MatrixSlice> slices, const PanelOptions& options, PanelArena& arena);
  // Panels of gate and up alternate.
  PackedWeight(const MatrixSlice& gate, const MatrixSlice& up, const PanelOptions& options,
               PanelArena& arena);

  int64_t rows() const override { return rows_; }
  int64_t cols() const override { return cols_; }
  int64_t bytes() const override;
  bool gate_up() const { return gate_up_; }
  std::span<const Segment> segments() const { return segments_; }

 private:
  int64_t rows_ = 0, cols_ = 0;
  bool gate_up_ = false;
  std::vector<Segment> segments_;
};

}  // namespace tandem::kernels::cpu
