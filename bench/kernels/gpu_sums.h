// Sums of activations over the GPUs of this machine, by size: over peer memory in one shot and in
// two, over NCCL, and with the norm that follows; and the gather of the rows' logits that are
// sampled. A part of tandem-bench-gpu.
#pragma once

#include <cstdint>
#include <vector>

namespace tandem::bench {

struct SumShapes {
  int64_t hidden = 4096;
  std::vector<int> rows = {1, 8, 64, 256, 1024};
  int64_t vocab = 128256;
  std::vector<int> sampled = {1, 8, 64, 256};
  int max_ranks = 8;
  int runs = 50;
};
SumShapes SmallSums();  // for the emulation

// Prints a row for each number of rows and way. Ranks are threads, one for each of the first GPUs
// that reach each other's memory, at most max_ranks; where there are fewer than two, a line says
// so.
void BenchSums(const SumShapes& shapes);

}  // namespace tandem::bench
