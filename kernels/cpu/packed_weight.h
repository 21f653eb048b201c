// Weights in panels of 16 rows: see kernel_table.h for the layout. A weight of several file types
// is several segments, one below the other.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "kernels/cpu/aligned_buffer.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/ops.h"

namespace tandem::kernels::cpu {

class PackedWeight : public Weight {
 public:
  struct Segment {
    PanelFormat format;
    int64_t first_row;  // of the weight
    int64_t rows;
    int64_t panel_bytes;
    int64_t num_panels;
    AlignedBuffer panels;
  };

  // Neighbouring slices of equal type share panels.
  explicit PackedWeight(std::span<const MatrixSlice> slices);
  // Panels of gate and up alternate.
  PackedWeight(const MatrixSlice& gate, const MatrixSlice& up);

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
