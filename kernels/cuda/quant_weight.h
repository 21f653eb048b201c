// From the model file to the layout of quant_layout.h, on the host.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/cuda/quant_layout.h"
#include "kernels/ops.h"

namespace tandem::kernels::cuda {

// Bytes of a packed weight [rows, cols], known before it is packed.
int64_t QuantPackedBytes(WeightType type, int64_t rows, int64_t cols);

// Packs rows [row_begin, row_end) of the matrix that the slices make, one below the other, into
// `out`: QuantPackedBytes of so many rows, what lies at QuantPackedBytes(row_begin) of the whole.
// So a weight can be packed and uploaded piece by piece. REQUIRES: one quantized type, equal
// numbers of columns; row_begin is a multiple of 16, row_end too or the last row.
void PackQuantRows(std::span<const MatrixSlice> slices, int64_t row_begin, int64_t row_end,
                   void* out);

}  // namespace tandem::kernels::cuda
