// Memory for weights: one behind the other in the order of packing, which is that of use. A matrix
// that has a mapping of its own is mostly smaller than a huge page and gets none, and a decode step
// then pays a TLB miss for every 4 KiB of the model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/cpu/aligned_buffer.h"

namespace tandem::kernels::cpu {

// On a cache line, zeroed. Lives on after its arena.
struct PanelMemory {
  std::shared_ptr<const AlignedBuffer> slab;
  uint8_t* data = nullptr;
  size_t size = 0;
};

// Thread: one at a time.
class PanelArena {
 public:
  // CHECKs that there is so much memory.
  PanelMemory Take(size_t bytes);

 private:
  std::shared_ptr<const AlignedBuffer> slab_;
  size_t used_ = 0;
};

}  // namespace tandem::kernels::cpu
